//! The handler in this process, on real services: every answer of its table, and what each leaves behind.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use momento_webhook::event::Event;
use momento_webhook::local::Config;
use momento_webhook::signature::HEADER;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{
    Answer, CACHE, Fixture, aws, comment, delivery, now, seed, signature_of, signed, subscribe, unsigned,
};
use crate::stack::local;

const DENIED: &str = r#"{"message":"Access Denied!"}"#;

#[track_caller]
fn assert_denied(answer: &Answer) {
    assert_eq!((answer.status(), answer.body()), (403, DENIED));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_signed_comment_is_kept_with_its_users_public_data() {
    let fixture = Fixture::new(&[]).await;
    let event = comment("123", "great \u{1F600}");
    let answer = fixture.answer(&delivery(&event)).await;
    assert_eq!((answer.status(), answer.body()), (200, "{}"));
    let expected = json!([{
        "id": event.id().to_string(),
        "userID": "taylor",
        "comment": "great \u{1F600}",
        "user": { "name": "Taylor" }, // and not the address, which is private
        "publishedAt": event.event_timestamp,
        "sequence": event.topic_sequence_number,
    }]);
    assert_eq!(Value::from(fixture.comments("123").await), expected);
}

#[tokio::test]
async fn the_newest_comments_stand_in_front_and_the_oldest_go() {
    let fixture = Fixture::new(&[("COMMENTS_KEPT", "2")]).await;
    for text in ["first", "second", "third"] {
        assert_eq!(fixture.answer(&delivery(&comment("1", text))).await.status(), 200);
    }
    let comments: Vec<_> = fixture.comments("1").await.iter().map(|entry| entry["comment"].clone()).collect();
    assert_eq!(comments, ["third", "second"]);
}

#[tokio::test]
async fn a_user_who_is_not_known_or_not_named_is_no_error() {
    let fixture = Fixture::new(&[]).await;
    for token_id in ["nobody", ""] {
        let event = Event { token_id: token_id.into(), ..comment(&format!("course-{token_id}"), "x") };
        assert_eq!(fixture.answer(&delivery(&event)).await.status(), 200);
        let entry = &fixture.comments(&format!("course-{token_id}")).await[0];
        assert_eq!((&entry["userID"], &entry["user"]), (&json!(token_id), &Value::Null));
    }
}

#[tokio::test]
async fn users_may_lie_elsewhere_and_show_other_fields() {
    let variables = [("USER_CACHE", "people"), ("USER_KEY_PREFIX", "p:"), ("USER_PUBLIC_FIELDS", "nick, team,none")];
    let fixture = Fixture::new(&variables).await;
    fixture.account.create_cache("people").await.unwrap();
    fixture.account.set("people", "p:taylor", r#"{"nick":"T","team":{"id":7},"name":"hidden"}"#).await.unwrap();
    assert_eq!(fixture.answer(&delivery(&comment("1", "x"))).await.status(), 200);
    assert_eq!(fixture.comments("1").await[0]["user"], json!({ "nick": "T", "team": { "id": 7 } }));
}

#[tokio::test]
async fn the_feed_hears_what_is_kept() {
    use futures::StreamExt;
    let fixture = Fixture::new(&[("FEED_TOPIC", "feed")]).await;
    let mut feed = subscribe(&fixture.local.url, "feed").await;
    assert_eq!(fixture.answer(&delivery(&comment("1", "x"))).await.status(), 200);
    let heard: String = feed.next().await.unwrap().try_into().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&heard).unwrap(), fixture.comments("1").await[0]);
}

#[tokio::test]
async fn a_duplicate_answers_200_and_has_no_effect() {
    let fixture = Fixture::new(&[]).await;
    let mut event = comment("1", "once");
    for attempt in 0..3 {
        event.publish_timestamp = now() - attempt; // another attempt at the same event
        assert_eq!(fixture.answer(&delivery(&event)).await.status(), 200);
    }
    assert_eq!(fixture.comments("1").await.len(), 1);
}

#[tokio::test]
async fn whoever_does_not_know_the_secret_is_denied_with_the_same_bytes() {
    let fixture = Fixture::new(&[]).await;
    let body = String::from_utf8(comment("1", "x").to_body()).unwrap();
    let signature = signature_of(&body);
    let with = |value: &str| {
        let mut request = unsigned(&body);
        request["headers"][HEADER] = value.into();
        request
    };
    let altered = signature.replacen(|c| c != '0', "0", 1);
    for request in
        [unsigned(&body), with(""), with(&signature[1..]), with(&altered), with(&format!("{signature},{signature}"))]
    {
        assert_denied(&fixture.answer(&request).await);
    }
    let mut other_body = signed(&body);
    other_body["body"] = body.replace("\"x", "\"y").into();
    assert_denied(&fixture.answer(&other_body).await);
    assert_eq!(fixture.comments("1").await, Vec::<Value>::new());
    assert_eq!(fixture.answer(&with(&signature.to_uppercase())).await.status(), 200);
}

#[tokio::test]
async fn headers_come_in_any_case_and_bodies_in_base64() {
    let fixture = Fixture::new(&[]).await;
    for name in ["Momento-Signature", "MOMENTO-SIGNATURE"] {
        let body = String::from_utf8(comment("1", name).to_body()).unwrap();
        let mut request = unsigned(&body);
        request["headers"][name] = signature_of(&body).into();
        assert_eq!(fixture.answer(&request).await.status(), 200);
    }
    let mut encoded = delivery(&comment("1", "encoded"));
    encoded["body"] = STANDARD.encode(encoded["body"].as_str().unwrap()).into();
    encoded["isBase64Encoded"] = true.into();
    assert_eq!(fixture.answer(&encoded).await.status(), 200);
    assert_eq!(fixture.comments("1").await.len(), 3);
    encoded["body"] = "not base64!".into();
    assert_denied(&fixture.answer(&encoded).await);
}

#[tokio::test]
async fn behind_an_http_api_it_is_the_same() {
    let fixture = Fixture::new(&[]).await;
    let mut request = delivery(&comment("1", "x"));
    request["routeKey"] = "POST /webhook".into();
    request["stageVariables"] = json!({ "stage": "prod" });
    request["pathParameters"] = json!({ "proxy": "webhook" });
    request["cookies"] = json!(["a=b"]);
    request["requestContext"]["authorizer"] = json!({ "jwt": { "claims": { "sub": "x" }, "scopes": null } });
    request["requestContext"]["authentication"] = Value::Null;
    assert_eq!(fixture.answer(&request).await.status(), 200);
    request["requestContext"]["authorizer"] = json!({ "lambda": { "key": "value" } });
    assert_eq!(fixture.answer(&request).await.status(), 200);
}

#[tokio::test]
async fn what_is_stale_or_from_the_future_is_denied() {
    let fixture = Fixture::new(&[]).await;
    for publish_timestamp in [0, now() - 61_000, now() + 8_000, u64::MAX] {
        let event = Event { publish_timestamp, ..comment("1", "x") };
        assert_denied(&fixture.answer(&delivery(&event)).await);
    }
    for publish_timestamp in [now() - 55_000, now() + 3_000] {
        let event = Event { publish_timestamp, ..comment("1", "x") };
        assert_eq!(fixture.answer(&delivery(&event)).await.status(), 200);
    }
}

#[tokio::test]
async fn only_the_event_sources_may_send_and_never_the_feed() {
    let fixture = Fixture::new(&[("EVENT_SOURCES", "course-comments/comment"), ("FEED_TOPIC", "feed")]).await;
    assert_eq!(fixture.answer(&delivery(&comment("1", "x"))).await.status(), 200);
    for (cache, topic) in [("course-comments", "other"), ("other", "comment"), ("course-comments", "feed")] {
        let event = Event { cache: cache.into(), topic: topic.into(), ..comment("1", "x") };
        assert_denied(&fixture.answer(&delivery(&event)).await);
    }
    let open = Fixture::new(&[("FEED_TOPIC", "feed")]).await;
    let event = Event { topic: "feed".into(), ..comment("1", "x") };
    assert_denied(&open.answer(&delivery(&event)).await);
}

#[tokio::test]
async fn what_is_no_event_is_told_the_field_and_not_its_value() {
    let fixture = Fixture::new(&[]).await;
    let wire: Value = serde_json::from_slice(&comment("1", "x").to_body()).unwrap();
    for (field, value) in [
        ("cache", json!(1)),
        ("event_timestamp", json!("hidden")),
        ("token_id", Value::Null),
        ("text", json!({"hidden": 1})),
    ] {
        let mut body = wire.clone();
        body[field] = value;
        let answer = fixture.answer(&signed(&body.to_string())).await;
        assert_eq!(answer.status(), 400);
        assert!(answer.body().contains(field) && !answer.body().contains("hidden"), "{}", answer.body());
    }
    for body in ["", "null", "[]", "{", "not json"] {
        assert_eq!(fixture.answer(&signed(body)).await.status(), 400, "{body}");
    }
}

#[tokio::test]
async fn what_the_application_can_never_accept_is_told_the_field() {
    let fixture = Fixture::new(&[]).await;
    for (text, field) in
        [("hello", "text"), (r#"{"courseId":"a/b","comment":""}"#, "courseId"), (r#"{"courseId":1}"#, "comment")]
    {
        let event = Event { text: text.into(), ..comment("1", "x") };
        for _ in 0..2 {
            let answer = fixture.answer(&delivery(&event)).await; // and the same on every attempt
            assert_eq!(answer.status(), 422);
            assert!(answer.body().contains(&format!("`{field}`")), "{}", answer.body());
        }
    }
}

#[tokio::test]
async fn a_webhook_is_a_post() {
    let fixture = Fixture::new(&[]).await;
    for method in ["GET", "PUT", "DELETE", "HEAD", "post"] {
        let mut request = delivery(&comment("1", "x"));
        request["requestContext"]["http"]["method"] = method.into();
        let answer = fixture.answer(&request).await;
        assert_eq!((answer.status(), answer.header("allow")), (405, Some("POST")));
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_looked_at() {
    let fixture = Fixture::new(&[("MAX_BODY_BYTES", "1000")]).await;
    assert_eq!(fixture.answer(&unsigned(&"x".repeat(1_001))).await.status(), 413);
    assert_denied(&fixture.answer(&unsigned(&"x".repeat(1_000))).await);
    let mut encoded = unsigned(&STANDARD.encode("x".repeat(1_001)));
    encoded["isBase64Encoded"] = true.into();
    assert_eq!(fixture.answer(&encoded).await.status(), 413);
}

#[tokio::test]
async fn without_a_signing_secret_the_sender_is_asked_to_try_again() {
    let local = local(Config { seed: seed(), ..Config::default() }).await;
    let nowhere = aws("http://127.0.0.1:9").await; // nothing listens there
    let fixture = Fixture::on(local, &nowhere, &[]).await;
    let answer = fixture.answer(&delivery(&comment("1", "x"))).await;
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("5")));

    let unknown = Fixture::new(&[("MOMENTO_SIGNING_SECRET_NAME", "no-such-secret")]).await;
    let answer = unknown.answer(&delivery(&comment("1", "x"))).await;
    assert_eq!(answer.status(), 503);
    assert!(!answer.body().contains("no-such-secret"), "{}", answer.body());
}

#[tokio::test]
async fn a_write_that_failed_is_never_answered_200() {
    let fixture = Fixture::new(&[]).await;
    fixture.account.set(CACHE, "scalar", "not a list").await.unwrap();
    let answer = fixture.answer(&delivery(&comment("scalar", "x"))).await;
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("5")));

    let event = Event { cache: "no-such-cache".into(), ..comment("1", "x") };
    assert_eq!(fixture.answer(&delivery(&event)).await.status(), 503);

    fixture.account.set(CACHE, "user/taylor", "not json").await.unwrap();
    assert_eq!(fixture.answer(&delivery(&comment("1", "x"))).await.status(), 503);

    let Fixture { local, handler, .. } = fixture;
    local.stop().await.unwrap();
    let answer = crate::fixture::answer(&handler, &delivery(&comment("1", "x"))).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.body(), r#"{"message":"Not processed, try again later"}"#);
}

#[tokio::test]
async fn what_failed_is_processed_by_the_next_attempt() {
    let fixture = Fixture::new(&[]).await;
    let event = comment("course", "x");
    fixture.account.set(CACHE, "course", "not a list").await.unwrap();
    assert_eq!(fixture.answer(&delivery(&event)).await.status(), 503);
    fixture.account.delete(CACHE, "course").await.unwrap();
    assert_eq!(fixture.answer(&delivery(&event)).await.status(), 200); // at once: the claim says tried
    assert_eq!(fixture.comments("course").await.len(), 1);
}

#[tokio::test]
async fn a_genuine_test_request_is_diverted_where_that_is_asked_for() {
    let fixture = Fixture::new(&[("TEST_USER_AGENT", "momento-webhook-test")]).await;
    let mut request = delivery(&comment("1", "x"));
    request["headers"]["user-agent"] = "momento-webhook-test/1".into();
    assert_eq!(fixture.answer(&request).await.status(), 200);
    assert_eq!(fixture.comments("1").await.len(), 0);
    request["headers"][HEADER] = "0".repeat(64).into();
    assert_denied(&fixture.answer(&request).await);
}

#[tokio::test]
async fn what_is_no_request_is_denied() {
    let fixture = Fixture::new(&[]).await;
    for payload in [json!(null), json!({}), json!([]), json!("x"), json!({ "headers": 1 })] {
        assert_denied(&fixture.answer(&payload).await);
    }
    let mut odd_header = unsigned("{}");
    odd_header["headers"]["not a name"] = "x".into();
    assert_denied(&fixture.answer(&odd_header).await);
}

#[test]
fn nothing_unverified_is_a_server_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fixture = runtime.block_on(Fixture::new(&[]));
    let json_value = any::<u8>().prop_flat_map(|kind| match kind % 6 {
        0 => Just(Value::Null).boxed(),
        1 => any::<bool>().prop_map(Value::from).boxed(),
        2 => any::<i64>().prop_map(Value::from).boxed(),
        3 => ".{0,300}".prop_map(Value::from).boxed(),
        4 => proptest::collection::vec(".*", 0..3).prop_map(Value::from).boxed(),
        _ => proptest::collection::hash_map(".*", ".*", 0..3).prop_map(|map| json!(map)).boxed(),
    });
    let field = prop::sample::select(vec![
        "/body",
        "/headers",
        "/headers/momento-signature",
        "/headers/content-length",
        "/isBase64Encoded",
        "/version",
        "/requestContext",
        "/requestContext/http",
        "/requestContext/http/method",
        "/requestContext/timeEpoch",
        "/cookies",
        "/queryStringParameters",
    ]);
    let strategy = proptest::collection::vec((field, json_value), 1..4);
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 2_000, ..ProptestConfig::default() });
    let checked = runner.run(&strategy, |changes| {
        let mut request = unsigned("{}");
        for (field, value) in changes {
            let (parent, name) = field.rsplit_once('/').unwrap();
            if let Some(Value::Object(parent)) = request.pointer_mut(parent) {
                parent.insert(name.into(), value);
            }
        }
        let status = runtime.block_on(fixture.answer(&request)).status();
        prop_assert!([403, 405, 413].contains(&status), "{status}");
        Ok(())
    });
    checked.unwrap();
}
