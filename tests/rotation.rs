//! Secrets change while events come in: none that is genuine is refused, and what is retired does not serve.

use std::time::Duration;

use momento_webhook::event::Event;
use momento_webhook::local::Config;
use momento_webhook::signature::{HEADER, Secret, sign};
use serde_json::{Value, json};

use crate::fixture::{API_KEY_SECRET, Fixture, SIGNING_SECRET, SIGNING_SECRET_NAME, aws, comment, now, seed, unsigned};
use crate::processes::moto;
use crate::proxy::proxy;
use crate::stack::{eventually, local};

fn signed_with(secret: &str, event: &Event) -> Value {
    let body = String::from_utf8(event.to_body()).unwrap();
    let mut request = unsigned(&body);
    request["headers"][HEADER] = sign(&Secret::new(secret).unwrap(), body.as_bytes()).into();
    request
}

const TTL_MS: u64 = 1_000;
const OVERLAP_MS: u64 = 3_000;

#[tokio::test]
async fn the_signing_secret_rotates_twice_under_load() {
    let (local, moto) = tokio::join!(local(Config { seed: seed(), ..Config::default() }), moto());
    let aws = aws(&moto.url).await;
    let manager = aws_sdk_secretsmanager::Client::new(&aws);
    for (name, value) in [(API_KEY_SECRET, crate::fixture::api_key().as_str()), (SIGNING_SECRET_NAME, SIGNING_SECRET)] {
        manager.create_secret().name(name).secret_string(value).send().await.unwrap();
    }
    let fixture = Fixture::on(local, &aws, &[("SECRET_TTL_SECONDS", "1"), ("SECRET_OVERLAP_SECONDS", "3")]).await;

    // The sender goes on with the previous secret until the handlers' cache time has passed.
    let (mut signing, mut retired, begun) = (SIGNING_SECRET.to_owned(), Vec::<(String, u64)>::new(), now());
    let mut next: Option<(String, u64)> = None;
    let mut delivered = 0;
    while now() < begun + 10_500 {
        let due = [(1_000, "second"), (6_000, "third")]
            .into_iter()
            .find(|(at, _)| now() > begun + at && retired.len() == (at > &1_000) as usize);
        if let (Some((_, secret)), None) = (due, &next) {
            manager.put_secret_value().secret_id(SIGNING_SECRET_NAME).secret_string(secret).send().await.unwrap();
            next = Some((secret.to_owned(), now()));
        }
        if let Some((secret, rotated)) = next.take_if(|(_, rotated)| now() > *rotated + TTL_MS) {
            retired.push((std::mem::replace(&mut signing, secret), rotated));
        }
        let answer = fixture.answer(&signed_with(&signing, &comment("1", "x"))).await;
        assert_eq!(answer.status(), 200, "after {} ms, signed with {signing}", now() - begun);
        delivered += 1;
        for (secret, rotated) in &retired {
            // Secrets Manager tells whole seconds or so: leave the edge alone.
            if now() > rotated + OVERLAP_MS + 500 {
                assert_eq!(fixture.answer(&signed_with(secret, &comment("1", "x"))).await.status(), 403, "{secret}");
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await; // a load, not a flood
    }
    assert_eq!(retired.len(), 2);
    assert!(delivered > 100, "{delivered}");
    assert_eq!(fixture.answer(&signed_with(SIGNING_SECRET, &comment("1", "x"))).await.status(), 403);
}

#[tokio::test]
async fn a_handler_that_started_after_a_rotation_accepts_the_previous_secret_too() {
    let local = local(Config { seed: seed(), ..Config::default() }).await;
    let aws = aws(&local.url).await;
    let manager = aws_sdk_secretsmanager::Client::new(&aws);
    manager.put_secret_value().secret_id(SIGNING_SECRET_NAME).secret_string("second").send().await.unwrap();
    let fixture = Fixture::on(local, &aws, &[]).await;
    assert_eq!(fixture.answer(&signed_with(SIGNING_SECRET, &comment("1", "x"))).await.status(), 200); // the first event
    assert_eq!(fixture.answer(&signed_with("second", &comment("1", "x"))).await.status(), 200);
    assert_eq!(fixture.answer(&signed_with("third", &comment("1", "x"))).await.status(), 403);
}

#[tokio::test]
async fn a_previous_secret_that_cannot_be_had_is_not_mistaken_for_another() {
    let local = local(Config { seed: seed(), ..Config::default() }).await;
    let manager = aws_sdk_secretsmanager::Client::new(&aws(&local.url).await);
    let without_previous = |body: &[u8]| {
        let is_previous = body.windows(11).any(|part| part == b"AWSPREVIOUS");
        is_previous.then_some(axum::http::StatusCode::FORBIDDEN) // which is not tried again
    };
    let secrets = aws(&proxy(&local.url, without_previous).await).await;
    let put = async |secret: &str| {
        manager.put_secret_value().secret_id(SIGNING_SECRET_NAME).secret_string(secret).send().await.unwrap();
    };
    let handler = async || crate::fixture::handler(&local.url, &secrets, &[]).await;
    let status = async |handler: &_, secret: &str| {
        crate::fixture::answer(handler, &signed_with(secret, &comment("1", "x"))).await.status()
    };
    // One that has seen the rotation knows the previous secret: it was the current one.
    let warm = handler().await;
    put("second").await;
    assert_eq!(status(&warm, "second").await, 200);
    assert_eq!(status(&warm, SIGNING_SECRET).await, 200);
    // One that started after it does not, and cannot judge what may have been signed with it.
    assert_eq!(status(&handler().await, SIGNING_SECRET).await, 503);
}

#[tokio::test]
async fn a_new_api_key_needs_no_restart() {
    let old = local(Config { seed: seed(), ..Config::default() }).await;
    let aws = aws(&old.url).await;
    let manager = aws_sdk_secretsmanager::Client::new(&aws);
    let wrong = json!({ "apiKey": crate::fixture::v1_key("revoked"), "endpoint": "localhost" }).to_string();
    manager.put_secret_value().secret_id(API_KEY_SECRET).secret_string(wrong).send().await.unwrap();
    let fixture = Fixture::on(old, &aws, &[]).await;
    let event = comment("1", "x");
    assert_eq!(fixture.answer(&signed_with(SIGNING_SECRET, &event)).await.status(), 503);
    manager.put_secret_value().secret_id(API_KEY_SECRET).secret_string(crate::fixture::api_key()).send().await.unwrap();
    // Momento refused the key, so it is fetched again, and long before its time to live has passed.
    eventually(async || (fixture.answer(&signed_with(SIGNING_SECRET, &event)).await.status() == 200).then_some(()))
        .await;
    assert_eq!(fixture.comments("1").await.len(), 1);
}
