//! Whoever does not know the secret gains nothing: no effect, no error, no log line worth having, no call that costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::StreamExt;
use momento_webhook::event::Event;
use momento_webhook::local::{Config, Seed};
use momento_webhook::signature::{HEADER, Secret, sign};

use crate::fixture::{SIGNING_SECRET_NAME, account, comment, comments, now, scale, seed, signature_of};
use crate::processes::{Lambda, Output, lambda, moto, publisher, relay};
use crate::proxy::proxy;
use crate::stack::{eventually, local};

/// One of many that must not be accepted, and what it may be answered.
fn strange(number: u64) -> (Vec<u8>, String, &'static [u16]) {
    let event = comment("strangers", &format!("number {number}"));
    let body = event.to_body();
    let good = signature_of(std::str::from_utf8(&body).unwrap());
    match number % 6 {
        0 => (body, sign(&Secret::new("guessed").unwrap(), &number.to_be_bytes()), &[403]),
        1 => {
            let (mut body, at) = (body.clone(), number as usize % body.len());
            body[at] ^= 1 << (number % 7);
            (body, good, &[403])
        }
        2 => {
            let stale = Event { publish_timestamp: now() - 60_000 - 5_000 - number, ..event }.to_body();
            let signature = signature_of(std::str::from_utf8(&stale).unwrap());
            (stale, signature, &[403])
        }
        3 => {
            let cut = body[..number as usize % body.len()].to_vec();
            let signature = signature_of(std::str::from_utf8(&cut).unwrap());
            (cut, signature, &[400])
        }
        4 => (vec![b'['; number as usize % 65_000], "0".repeat(64), &[403]),
        _ => (body, good[..number as usize % 64].to_owned(), &[403]),
    }
}

#[tokio::test]
async fn a_flood_of_forgeries_is_refused_at_no_cost() {
    let (local, lambda) = tokio::join!(local(Config { seed: seed(), ..Config::default() }), lambda());
    let calls = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&calls);
    let count = move |_: &[u8]| {
        counting.fetch_add(1, Ordering::Relaxed);
        None
    };
    let secrets = proxy(&local.url, count).await;
    // Several at a time, since one at a time the runtime client sets the variable `_X_AMZN_TRACE_ID` for each request, and
    // glibc keeps every value that a variable ever had, 140 B of it: this memory would grow, and hide what we might leak.
    let handler = lambda.start("handler", &local.url, &secrets, &[("AWS_LAMBDA_MAX_CONCURRENCY", "8")]);
    let (begun, total) = (Instant::now(), scale(3_000, 100_000));
    let mut memory = Vec::new();
    for part in 0..10 {
        let requests = futures::stream::iter(part * total / 10..(part + 1) * total / 10).map(|number| {
            let ((body, signature, expected), url) = (strange(number), lambda.function_url("handler"));
            let request = lambda.http.post(url).header(HEADER, signature).body(body);
            async move {
                let status = request.send().await.unwrap().status().as_u16();
                assert!(expected.contains(&status), "number {number}: {status}");
            }
        });
        requests.buffer_unordered(16).collect::<Vec<_>>().await;
        memory.push(handler.resident_kib());
    }
    assert_eq!(comments(&account(&local.url), "strangers").await.len(), 0);
    // Two calls at the start, and one renewal of two calls for every ten seconds of wrong signatures; once more for the
    // time to live of five minutes.
    let elapsed = begun.elapsed().as_secs();
    let bound = 2 + 2 * (elapsed / 10 + 1) + 3 * (elapsed / 300 + 1);
    assert!(calls.load(Ordering::Relaxed) <= bound, "{calls:?} calls in {elapsed} s");
    assert!(memory[9] < memory[1] + 2_048, "{memory:?} KiB");
}

const CANARIES: [&str; 5] = ["canary-secret", "canary-key", "canary-body", "canary-email", "canary-text"];

/// Everything that our binaries do, each at its most talkative, with its output kept.
async fn sing(output: &Output) -> Vec<String> {
    let mut canaries: Vec<String> = CANARIES.map(str::to_owned).into();
    let mut seed = Seed { api_key: Some("canary-key".into()), ..Seed::default() };
    seed.secrets.insert(SIGNING_SECRET_NAME.into(), "canary-secret".into());
    seed.users.get_mut("taylor").unwrap().insert("email".into(), "canary-email".into());
    let (local, lambda, moto) = tokio::join!(output.local(seed), lambda(), moto());
    let sqs = aws_sdk_sqs::Client::new(&crate::fixture::aws(&moto.url).await);
    let queue = sqs.create_queue().queue_name("parked").send().await.unwrap().queue_url.unwrap();
    let talkative =
        [("AWS_LAMBDA_LOG_LEVEL", "TRACE"), ("RUST_LOG", "trace"), ("AWS_ENDPOINT_URL_SQS", moto.url.as_str())];
    let queues = [("PARK_QUEUE_URL", queue.as_str()), ("DEAD_LETTER_QUEUE_URL", queue.as_str())];
    let variables = [&talkative[..], &queues[..]].concat();
    let _functions = ["handler", "redrive", "publisher"]
        .map(|function| output.capture(lambda.function(function, &local.url, &local.url, &variables)));

    let journal = tempfile::tempdir().unwrap();
    let _relay = output.capture(relay(&local.url, &lambda.function_url("handler"), journal.path()));

    canaries.extend(deliver_everything(&lambda).await);
    let mut parked = Vec::new();
    for record in sqs.receive_message().queue_url(&queue).wait_time_seconds(6).send().await.unwrap().messages() {
        parked.push(serde_json::json!({ "messageId": "1", "receiptHandle": "1", "body": record.body() }));
    }
    assert!(!parked.is_empty());
    parked.push(serde_json::json!({ "messageId": "2", "receiptHandle": "2", "body": "canary-body" }));
    lambda.invoke("redrive", &serde_json::json!({ "Records": parked })).await;
    for request in [serde_json::json!({ "message": "canary-text" }), serde_json::json!({ "canary-body": 1 })] {
        lambda.invoke("publisher", &request).await;
    }
    let token =
        output.run(publisher(&local.url, &["token"]).env("MOMENTO_API_KEY", crate::fixture::v1_key("canary-key")));
    let token: serde_json::Value = serde_json::from_str(&token).unwrap();
    canaries.push(token["token"].as_str().unwrap().to_owned());
    for key in ["canary-key", &crate::fixture::v1_key("canary-key")] {
        output.run(publisher(&local.url, &["publish", "canary-text"]).env("MOMENTO_API_KEY", key)); // one is no key
    }
    let delivered = "\"outcome\":\"Accepted\"";
    eventually(async || {
        let text = r#"{"courseId":7,"comment":"canary-text"}"#;
        let publish = &mut publisher(&local.url, &["publish", text]);
        output.run(publish.env("MOMENTO_API_KEY", crate::fixture::v1_key("canary-key")));
        (output.read().matches(delivered).count() > 1).then_some(()) // one of them came through the relay
    })
    .await;
    canaries
}

/// Delivers what is accepted, refused and parked, and returns the signatures.
async fn deliver_everything(lambda: &Lambda) -> Vec<String> {
    let mut signatures = Vec::new();
    let good = comment("1", "canary-text");
    let unreadable = Event { text: "canary-text".into(), ..comment("1", "x") };
    let failing = Event { cache: "no-such-cache".into(), ..comment("1", "canary-text") };
    let stale = Event { publish_timestamp: 0, ..comment("1", "canary-text") };
    for body in [good.to_body(), unreadable.to_body(), failing.to_body(), stale.to_body(), b"canary-body".to_vec()] {
        for secret in ["canary-secret", "wrong"] {
            let signature = sign(&Secret::new(secret).unwrap(), &body);
            let request = lambda.http.post(lambda.function_url("handler")).header(HEADER, &signature);
            request.body(body.clone()).send().await.unwrap();
            signatures.push(signature);
        }
    }
    signatures
}

#[tokio::test]
async fn no_output_holds_a_secret_a_token_a_signature_or_a_body() {
    let output = Output::new();
    let canaries = sing(&output).await;
    let said = output.read();
    assert!(said.contains("\"outcome\":\"Accepted\"") && said.contains("Parked") && said.contains("wrong signature"));
    for canary in canaries {
        let line = said.lines().find(|line| line.contains(&canary));
        assert_eq!(line, None, "{canary}");
    }
}

#[tokio::test]
async fn the_canaries_would_be_seen() {
    let output = Output::new();
    output.run(std::process::Command::new("sh").args(["-c", "echo canary-secret >&2"]));
    assert!(output.read().contains("canary-secret"));
}
