//! What an event costs without I/O: the signature, parsing, the id, and all of the handler's way up to the claim.
#![allow(clippy::expect_used, missing_docs, reason = "a benchmark, whose macros write functions")]

use std::hint::black_box;
use std::time::Duration;

use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use momento_webhook::event::{self, Event, EventId};
use momento_webhook::signature::{HEADER, Secret, Signature, sign, verify};
use serde_json::json;

const NOW: u64 = 1_795_478_400_000;

fn secret() -> Secret {
    Secret::new("a signing secret for benchmarks").expect("not empty")
}

fn comment() -> Event {
    Event {
        cache: "course-comments".into(),
        topic: "comment".into(),
        event_timestamp: NOW,
        publish_timestamp: NOW,
        topic_sequence_number: 1,
        token_id: "taylor".into(),
        text: json!({ "courseId": 123, "comment": "a comment of a benchmark" }).to_string(),
    }
}

/// What the runtime hands over for a webhook with this body.
fn payload(body: &[u8]) -> String {
    let payload = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {
            "content-type": "application/json",
            "host": "url-id.lambda-url.us-east-1.on.aws",
            "user-agent": "Momento/1.0 (Webhooks; +https://docs.momentohq.com/topics/webhooks)",
            "x-forwarded-for": "203.0.113.1",
            "x-forwarded-proto": "https",
            HEADER: sign(&secret(), body),
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "url-id",
            "domainName": "url-id.lambda-url.us-east-1.on.aws",
            "http": { "method": "POST", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.1" },
            "requestId": "id",
            "stage": "$default",
            "timeEpoch": NOW,
        },
        "body": String::from_utf8_lossy(body),
        "isBase64Encoded": false,
    });
    payload.to_string()
}

/// The handler's steps before it first waits for anything.
fn pipeline(secret: &Secret, payload: &str) -> Option<(Event, EventId)> {
    let request: LambdaFunctionUrlRequest = serde_json::from_str(payload).ok()?;
    let signature = Signature::from_hex(request.headers.get(HEADER)?)?;
    let verified = verify(secret, &signature, request.body.as_deref()?.as_bytes())?;
    let event = event::parse(&verified).ok()?;
    event.check_freshness(NOW).ok()?;
    let id = event.id();
    Some((event, id))
}

fn signatures(criterion: &mut Criterion) {
    let (secret, mut group) = (secret(), criterion.benchmark_group("verify"));
    for (name, size) in [("1 KiB", 1024), ("64 KiB", 64 * 1024)] {
        let body = vec![b'x'; size];
        let signature = Signature::from_hex(sign(&secret, &body)).expect("a signature");
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(name, |bench| bench.iter(|| verify(&secret, &signature, black_box(&body)).is_some()));
    }
}

fn events(criterion: &mut Criterion) {
    let (secret, event) = (secret(), comment());
    let body = event.to_body();
    let signature = Signature::from_hex(sign(&secret, &body)).expect("a signature");
    let verified = verify(&secret, &signature, &body).expect("genuine");
    criterion.bench_function("parse an event", |bench| bench.iter(|| event::parse(black_box(&verified))));
    criterion.bench_function("the id of an event", |bench| bench.iter(|| black_box(&event).id()));
    let payload = payload(&body);
    assert!(pipeline(&secret, &payload).is_some());
    criterion.bench_function("parse a request", |bench| {
        bench.iter(|| serde_json::from_str::<LambdaFunctionUrlRequest>(black_box(&payload)))
    });
    criterion
        .bench_function("from the request to the claim", |bench| bench.iter(|| pipeline(&secret, black_box(&payload))));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = signatures, events
}
criterion_main!(benches);
