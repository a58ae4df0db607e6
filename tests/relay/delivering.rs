//! What is sent, when it is sent again, and when a destination is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::response::IntoResponse;
use momento::auth::{AuthClient, DisposableTokenScope, ExpiresIn, GenerateDisposableTokenRequest, PermissionScopes};
use momento_webhook::event::Event;

use super::receiver::{receiver, status_only};
use super::{Setup, TOPIC, route, topic_client, topics};
use crate::fixture::{CACHE, SIGNING_SECRET, SIGNING_SECRET_NAME, account_credentials, api_key, now};

async fn publish_as(url: &str, token_id: &str, text: &str) {
    let scope = PermissionScopes::topic_publish_only(CACHE, TOPIC);
    let request = GenerateDisposableTokenRequest::new(DisposableTokenScope::from(scope), ExpiresIn::minutes(5));
    let auth = AuthClient::builder().credential_provider(account_credentials(url)).build().unwrap();
    let token = auth.send_request(request.token_id(token_id.to_owned())).await.unwrap().auth_token();
    let credentials = momento::CredentialProvider::from_disposable_token(token).unwrap();
    let topics = momento::TopicClient::builder()
        .configuration(momento::topics::configurations::Laptop::latest())
        .credential_provider(credentials.insecure_endpoint_override(url))
        .build()
        .unwrap();
    topics.publish(CACHE, TOPIC, text).await.unwrap();
}

#[tokio::test]
async fn a_message_is_sent_to_the_byte_and_again_with_the_same_identity() {
    let ((local, _), folder) = (topics().await, tempfile::tempdir().unwrap());
    let mut receiver = receiver(200).await;
    let failures = AtomicU32::new(2);
    receiver.answer(move |_| {
        let fails = failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        status_only(if fails { 503 } else { 200 })
    });
    let relay = Setup::new(&local, &receiver.url, folder.path()).await.start().await;
    relay.until_ready().await;
    let before = now();
    publish_as(&local.url, "taylor", "{\"comment\":\"é \u{1} \\\"\"}").await;

    let mut last = None::<Event>;
    for attempt in 1..=3 {
        let post = receiver.next().await;
        let event = post.event();
        assert_eq!(post.header("user-agent"), "Momento/1.0 (Webhooks; +https://docs.momentohq.com/topics/webhooks)");
        assert_eq!(post.header("content-type"), "application/json");
        assert_eq!(post.header("momento-webhook-event-id"), event.id().to_string());
        assert_eq!(post.header("momento-webhook-attempt"), attempt.to_string());
        let exact = format!(
            r#"{{"cache":"course-comments","topic":"comment","event_timestamp":{},"publish_timestamp":{},"topic_sequence_number":1,"token_id":"taylor","text":"{{\"comment\":\"é \u0001 \\\"\"}}"}}"#,
            event.event_timestamp, event.publish_timestamp
        );
        assert_eq!(std::str::from_utf8(&post.body).unwrap(), exact);
        let value: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!(serde_json::to_vec(&value).unwrap().len(), post.body.len(), "it is compact");
        assert!((before..=now()).contains(&event.event_timestamp));
        assert!(event.publish_timestamp >= event.event_timestamp);
        if let Some(last) = last {
            assert_eq!((event.id(), event.event_timestamp), (last.id(), last.event_timestamp));
            assert!(event.publish_timestamp > last.publish_timestamp, "each attempt is fresh");
        }
        last = Some(event);
    }
    relay.until("relay_delivered_total", 1).await;
    assert_eq!(relay.metric("relay_retries_total").await, 2);
    relay.stop().await;
}

#[tokio::test]
async fn what_is_accepted_and_where_we_were_outlive_the_relay() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let mut receiver = receiver(500).await;
    let setup = Setup::new(&local, &receiver.url, folder.path()).await;
    let relay = setup.start().await;
    relay.until_ready().await;
    for number in 0..20 {
        client.publish(CACHE, TOPIC, format!("before {number}")).await.unwrap();
    }
    relay.until("relay_received_total", 20).await;
    let first = receiver.next().await.event();
    relay.abort().await;
    client.publish(CACHE, TOPIC, "meanwhile").await.unwrap();
    receiver.answer(|_| status_only(200));
    receiver.rest();

    let relay = setup.start_again(folder.path()).await;
    relay.until("relay_delivered_total", 21).await;
    let events: Vec<Event> = receiver.rest().iter().map(|post| post.event()).collect();
    assert!(events.iter().any(|event| event.text == "meanwhile"), "within 5 s it can be resumed");
    let again = events.iter().find(|event| event.text == first.text).unwrap();
    assert_eq!(again.id(), first.id());
    assert_eq!(events.len(), 21, "each once");
    relay.stop().await;
}

#[tokio::test]
async fn a_destination_that_is_wrong_is_paused_loudly_and_nothing_is_lost() {
    for status in [401, 403, 404, 405, 410, 308] {
        let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
        let mut receiver = receiver(200).await;
        receiver.answer(move |_| {
            let mut response = status_only(status);
            response.headers_mut().insert(LOCATION, "http://127.0.0.1:1/elsewhere".parse().unwrap());
            response
        });
        let relay = Setup::new(&local, &receiver.url, folder.path()).await.start().await;
        relay.until_ready().await;
        for number in 0..10 {
            client.publish(CACHE, TOPIC, number.to_string()).await.unwrap();
        }
        receiver.next().await;
        let problem = crate::stack::eventually(async || {
            let (code, ready) = relay.ready().await;
            let problem = ready["problems"].as_object().unwrap().values().next()?.as_str().unwrap().to_owned();
            (code == 503).then_some(problem)
        })
        .await;
        assert!(problem.contains("paused") && problem.contains(&status.to_string()), "{problem}");
        receiver.answer(|_| status_only(200));
        relay.until("relay_delivered_total", 10).await;
        relay.until_ready().await;
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_message_that_is_always_refused_does_not_keep_the_destination_shut() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let receiver = receiver(200).await;
    receiver.answer(|event| status_only(if event.text == "refused on the way" { 403 } else { 200 }));
    let relay = Setup::new(&local, &receiver.url, folder.path()).await.start().await;
    relay.until_ready().await;
    client.publish(CACHE, TOPIC, "refused on the way").await.unwrap();
    crate::stack::eventually(async || (relay.metric("relay_destination_shut").await == 1).then_some(())).await;
    for number in 0..20 {
        client.publish(CACHE, TOPIC, number.to_string()).await.unwrap();
    }
    relay.until("relay_delivered_total", 20).await;
    receiver.answer(|_| status_only(200));
    relay.until("relay_delivered_total", 21).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_failing_destination_is_probed_and_not_hammered() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let mut receiver = receiver(500).await;
    let relay = Setup::new(&local, &receiver.url, folder.path()).await.start().await;
    relay.until_ready().await;
    for number in 0..700 {
        client.publish(CACHE, TOPIC, number.to_string()).await.unwrap();
    }
    relay.until("relay_received_total", 700).await;
    crate::stack::eventually(async || (relay.metric("relay_destination_shut").await == 1).then_some(())).await;
    assert!(relay.metric("relay_attempts_total").await < 60, "it is left alone");
    receiver.answer(|_| status_only(200));
    relay.until("relay_delivered_total", 700).await;
    assert!(receiver.texts(700).await.len() == 700);
    relay.stop().await;
}

#[tokio::test]
async fn a_full_journal_accepts_nothing_more_until_there_is_room_and_loses_nothing() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let receiver = receiver(500).await;
    let mut setup = Setup::new(&local, &receiver.url, folder.path()).await;
    setup.toml = setup.toml.replace("[position]", "[position]\nmax_bytes = 300000");
    let relay = setup.start().await;
    relay.until_ready().await;
    for number in 0..400 {
        client.publish(CACHE, TOPIC, format!("{number} {}", "x".repeat(1_000))).await.unwrap();
    }
    let full = crate::stack::eventually(async || {
        let (status, ready) = relay.ready().await;
        (status == 503 && ready.to_string().contains("full")).then(|| ready.to_string())
    });
    full.await;
    assert!(relay.metric("relay_received_total").await < 400);
    receiver.answer(|_| status_only(200));
    relay.until("relay_delivered_total", 400).await;
    relay.until_ready().await;
    relay.stop().await;
}

#[tokio::test]
async fn without_a_key_the_relay_stays_up_says_so_and_goes_on_once_there_is_one() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let mut receiver = receiver(200).await;
    let mut setup = Setup::new(&local, &receiver.url, folder.path()).await;
    let secret = "a-key-that-comes-later";
    setup.variables = vec![("MOMENTO_API_KEY", String::new()), ("MOMENTO_API_KEY_SECRET_NAME", secret.into())];
    let relay = setup.start().await;
    crate::stack::eventually(async || {
        let (status, ready) = relay.ready().await;
        (status == 503 && ready["problems"]["account"].is_string()).then_some(())
    })
    .await;
    let secrets = aws_sdk_secretsmanager::Client::new(&setup.aws);
    secrets.create_secret().name(secret).secret_string(api_key()).send().await.unwrap();
    relay.until_ready().await;
    client.publish(CACHE, TOPIC, "at last").await.unwrap();
    assert_eq!(receiver.next().await.event().text, "at last");
    relay.stop().await;
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let mut receiver = receiver(200).await;
    let asked = Arc::new(AtomicU32::new(0));
    receiver.answer(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => (status_only(429).status(), [(RETRY_AFTER, "1")]).into_response(),
        _ => status_only(200),
    });
    let relay = Setup::new(&local, &receiver.url, folder.path()).await.start().await;
    relay.until_ready().await;
    client.publish(CACHE, TOPIC, "one").await.unwrap();
    receiver.next().await;
    let refused = Instant::now();
    client.publish(CACHE, TOPIC, "two").await.unwrap();
    receiver.next().await;
    assert!(refused.elapsed() >= Duration::from_millis(950), "the second message waits too");
    relay.until("relay_delivered_total", 2).await;
    relay.stop().await;
}

#[tokio::test]
async fn an_order_that_was_asked_for_is_kept_through_failures() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let mut receiver = receiver(200).await;
    let calls = AtomicU32::new(0);
    receiver.answer(move |_| status_only(if calls.fetch_add(1, Ordering::Relaxed) % 3 == 1 { 500 } else { 200 }));
    let mut setup = Setup::new(&local, &receiver.url, folder.path()).await;
    setup.toml.push_str("order = \"topic\"\nretry_seconds = 0.1\n");
    let relay = setup.start().await;
    relay.until_ready().await;
    for number in 0..30 {
        client.publish(CACHE, TOPIC, format!("{number:02}")).await.unwrap();
    }
    let texts = receiver.texts(30).await;
    assert!(texts.is_sorted(), "{texts:?}");
    relay.stop().await;
}

#[tokio::test]
async fn a_high_rate_is_reached_where_answers_take_their_time() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let app = axum::Router::new().fallback(async || {
        tokio::time::sleep(Duration::from_millis(500)).await; // what an answer takes
        ""
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, app).into_future());
    let relay = Setup::new(&local, &receiver(500).await.url, folder.path()).await.start().await;
    relay.until_ready().await;
    for number in 0..200 {
        client.publish(CACHE, TOPIC, number.to_string()).await.unwrap();
    }
    relay.until("relay_received_total", 200).await;
    relay.stop().await;
    let mut setup = Setup::new(&local, &url, folder.path()).await;
    setup.toml.push_str("per_second = 10000\nconcurrency = 100\n");
    let (relay, started) = (setup.start_again(folder.path()).await, Instant::now());
    relay.until("relay_delivered_total", 200).await;
    assert!(started.elapsed() < Duration::from_secs(20), "two rounds of half a second took {:?}", started.elapsed());
    relay.stop().await;
}

#[tokio::test]
async fn the_retired_services_mode_tries_once() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let mut receiver = receiver(500).await;
    let mut setup = Setup::new(&local, &receiver.url, folder.path()).await;
    setup.toml.push_str("mode = \"retired\"\n");
    let relay = setup.start().await;
    relay.until_ready().await;
    let started = Instant::now();
    for number in 0..6 {
        client.publish(CACHE, TOPIC, number.to_string()).await.unwrap();
    }
    relay.until("relay_dead", 6).await;
    assert!(started.elapsed() > Duration::from_millis(900), "five a second");
    assert_eq!(receiver.rest().len(), 6, "one attempt each");
    relay.stop().await;
    let journal = rusqlite::Connection::open(folder.path().join("journal.sqlite")).unwrap();
    let doubtful = "SELECT count(*) FROM dead WHERE uncertain IS NOT NULL";
    let doubtful = journal.query_row(doubtful, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(doubtful, 6, "each may have had its effect");
}

#[tokio::test]
async fn one_topic_goes_to_each_of_its_routes() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let (mut one, mut other) = (receiver(200).await, receiver(200).await);
    let mut setup = Setup::new(&local, &one.url, folder.path()).await;
    setup.toml.push_str(&route(&other.url, "name = \"other\"\nstandard_webhooks = true"));
    let relay = setup.start().await;
    relay.until_ready().await;
    client.publish(CACHE, TOPIC, "both").await.unwrap();
    let (one, other) = (one.next().await, other.next().await);
    assert_eq!(one.event().id(), other.event().id());
    assert!(one.headers.get("webhook-signature").is_none());
    assert_eq!(other.header("webhook-id"), other.event().id().to_string());
    assert!(other.header("webhook-signature").starts_with("v1,"));
    relay.until("relay_delivered_total", 2).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_rotated_secret_is_used_once_receivers_know_it() {
    let ((local, _), folder) = (topics().await, tempfile::tempdir().unwrap());
    let mut receiver = receiver(200).await;
    let mut setup = Setup::new(&local, &receiver.url, folder.path()).await;
    setup.variables = vec![("SECRET_TTL_SECONDS", "2".into())];
    let relay = setup.start().await;
    relay.until_ready().await;
    let client = topic_client(&local.url);
    client.publish(CACHE, TOPIC, "before").await.unwrap();
    receiver.next().await.event();
    let secrets = aws_sdk_secretsmanager::Client::new(&setup.aws);
    secrets.put_secret_value().secret_id(SIGNING_SECRET_NAME).secret_string("the next").send().await.unwrap();
    let rotated = Instant::now();
    client.publish(CACHE, TOPIC, "during").await.unwrap();
    assert!(receiver.next().await.signed_with(SIGNING_SECRET).is_some(), "receivers know the previous one only");
    crate::stack::eventually(async || {
        client.publish(CACHE, TOPIC, "after").await.unwrap();
        receiver.next().await.signed_with("the next").map(drop)
    })
    .await;
    assert!(rotated.elapsed() > Duration::from_millis(1_900), "not before their cache time has passed");
    relay.stop().await;
}
