//! Our binaries as Lambda functions: the real runtime client, under the runtime API of `cargo lambda watch`, with secrets and
//! queues from moto.

use std::time::Duration;

use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use momento_webhook::event::Event;
use momento_webhook::local::{Config, Faults};
use momento_webhook::signature::HEADER;
use serde_json::{Value, json};

use crate::fixture::{
    API_KEY_SECRET, CACHE, SIGNING_SECRET, SIGNING_SECRET_NAME, account, api_key, aws, comment, comments, seed,
    signature_of,
};
use crate::processes::{Lambda, Moto, lambda, moto};
use crate::stack::{Local, eventually, local};

/// `local`, moto and the runtime API, for functions to run on.
pub(crate) struct Deployment {
    pub(crate) local: Local,
    pub(crate) moto: Moto,
    pub(crate) lambda: Lambda,
}

impl Deployment {
    async fn new() -> Self {
        Self::with(Faults::default()).await
    }

    pub(crate) async fn with(faults: Faults) -> Self {
        let config = Config { seed: seed(), faults, ..Config::default() };
        let (local, moto, lambda) = tokio::join!(local(config), moto(), lambda());
        let secrets = aws_sdk_secretsmanager::Client::new(&aws(&moto.url).await);
        for (name, value) in [(API_KEY_SECRET, api_key()), (SIGNING_SECRET_NAME, SIGNING_SECRET.to_owned())] {
            secrets.create_secret().name(name).secret_string(value).send().await.unwrap();
        }
        Self { local, moto, lambda }
    }

    pub(crate) fn start(&self, function: &str, more: &[(&str, &str)]) -> crate::processes::Process {
        self.lambda.start(function, &self.local.url, &self.moto.url, more)
    }

    pub(crate) fn post(&self, body: &[u8]) -> reqwest::RequestBuilder {
        self.lambda.http.post(self.lambda.function_url("handler")).body(body.to_vec())
    }

    async fn deliver(&self, event: &Event) -> reqwest::Response {
        let body = event.to_body();
        let signature = signature_of(std::str::from_utf8(&body).unwrap());
        self.post(&body).header("content-type", "application/json").header(HEADER, signature).send().await.unwrap()
    }
}

#[tokio::test]
async fn a_webhook_comes_in_through_the_function_url() {
    let deployment = Deployment::new().await;
    let _handler = deployment.start("handler", &[]);
    let event = comment("1", "through the function URL");
    let body = event.to_body();
    let signature = signature_of(std::str::from_utf8(&body).unwrap());

    let answer = deployment.deliver(&event).await;
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "{}"));
    let account = account(&deployment.local.url);
    assert_eq!(comments(&account, "1").await[0]["id"], event.id().to_string());

    // As AWS hands over a repeated header; the emulator would keep one of the two.
    let twice = deployment.post(&body).header(HEADER, format!("{signature},{signature}")).send().await.unwrap();
    assert_eq!(twice.status(), 403);
    let unsigned = deployment.post(&body).send().await.unwrap();
    assert_eq!(
        (unsigned.status().as_u16(), unsigned.text().await.unwrap().as_str()),
        (403, r#"{"message":"Access Denied!"}"#)
    );
    let binary = comment("1", "as binary");
    let binary = binary.to_body();
    let signature = signature_of(std::str::from_utf8(&binary).unwrap());
    let binary = deployment.post(&binary).header("content-type", "application/octet-stream").header(HEADER, signature);
    assert_eq!(binary.send().await.unwrap().status(), 200); // in base64
    let get = deployment.lambda.http.get(deployment.lambda.function_url("handler")).send().await.unwrap();
    assert_eq!((get.status().as_u16(), get.headers()["allow"].to_str().unwrap()), (405, "POST"));
    let large = deployment.post(&vec![b'x'; 100_000]).send().await.unwrap();
    assert_eq!(large.status(), 413);
}

#[tokio::test]
async fn several_events_are_processed_at_a_time_where_lambda_allows_it() {
    let deployment = Deployment::new().await;
    let _handler = deployment.start("handler", &[("AWS_LAMBDA_MAX_CONCURRENCY", "4")]);
    let events: Vec<_> = (0..40).map(|number| comment("1", &number.to_string())).collect();
    let deliveries = events.iter().chain(&events[..10]).map(|event| deployment.deliver(event));
    for answer in futures::future::join_all(deliveries).await {
        assert!([200, 503].contains(&answer.status().as_u16()), "{}", answer.status()); // 503: its duplicate is under way
    }
    assert_eq!(comments(&account(&deployment.local.url), "1").await.len(), 40);
}

/// The parking queue and its dead letters.
pub(crate) struct Queues {
    sqs: aws_sdk_sqs::Client,
    pub(crate) parked: String,
    pub(crate) dead: String,
}

impl Queues {
    pub(crate) async fn new(moto: &Moto) -> Self {
        let sqs = aws_sdk_sqs::Client::new(&aws(&moto.url).await);
        let create = async |name: &str| sqs.create_queue().queue_name(name).send().await.unwrap().queue_url.unwrap();
        let (parked, dead) = (create("parked").await, create("dead").await);
        Self { sqs, parked, dead }
    }

    /// Receives as an event source does, waiting for at least one record.
    async fn receive(&self) -> Vec<aws_sdk_sqs::types::Message> {
        eventually(async || Some(self.receive_now().await).filter(|messages| !messages.is_empty())).await
    }

    async fn receive_now(&self) -> Vec<aws_sdk_sqs::types::Message> {
        let receive = self.sqs.receive_message().queue_url(&self.parked).max_number_of_messages(10);
        let received = receive.message_system_attribute_names(MessageSystemAttributeName::All).send().await.unwrap();
        received.messages.unwrap_or_default()
    }

    /// Takes records out for good.
    pub(crate) async fn take(&self) -> Vec<aws_sdk_sqs::types::Message> {
        let received = self.receive_now().await;
        for record in &received {
            let delete = self.sqs.delete_message().queue_url(&self.parked);
            delete.receipt_handle(record.receipt_handle().unwrap()).send().await.unwrap();
        }
        received
    }

    async fn send(&self, body: &str) {
        self.sqs.send_message().queue_url(&self.parked).message_body(body).send().await.unwrap();
    }

    pub(crate) async fn dead_letters(&self) -> Vec<String> {
        let received =
            self.sqs.receive_message().queue_url(&self.dead).max_number_of_messages(10).send().await.unwrap();
        received.messages().iter().map(|message| message.body().unwrap().to_owned()).collect()
    }

    /// How many records wait, are being worked on, or are delayed.
    pub(crate) async fn counts(&self) -> [u32; 3] {
        let attributes =
            self.sqs.get_queue_attributes().queue_url(&self.parked).attribute_names(QueueAttributeName::All);
        let attributes = attributes.send().await.unwrap().attributes.unwrap();
        [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ]
        .map(|name| attributes[&name].parse().unwrap())
    }
}

/// What Lambda invokes a function on a queue with.
pub(crate) fn batch(messages: &[aws_sdk_sqs::types::Message]) -> Value {
    let records: Vec<_> = messages
        .iter()
        .map(|message| {
            json!({
                "messageId": message.message_id(),
                "receiptHandle": message.receipt_handle(),
                "body": message.body(),
                "attributes": { "ApproximateReceiveCount": "1" },
                "messageAttributes": {},
                "md5OfBody": message.md5_of_body(),
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:parked",
                "awsRegion": "us-east-1",
            })
        })
        .collect();
    json!({ "Records": records })
}

#[tokio::test]
async fn what_cannot_be_processed_is_parked_and_redriven() {
    let deployment = Deployment::new().await;
    let queues = Queues::new(&deployment.moto).await;
    let variables = [
        ("PARK_QUEUE_URL", queues.parked.as_str()),
        ("DEAD_LETTER_QUEUE_URL", queues.dead.as_str()),
        ("CLAIM_LEASE_SECONDS", "1"),
    ];
    let _handler = deployment.start("handler", &variables);
    let _redrive = deployment.start("redrive", &variables);
    let account = account(&deployment.local.url);

    // The list's name is taken by something that is no list: the push fails until that has gone.
    account.set(CACHE, "course", "not a list").await.unwrap();
    let event = comment("course", "kept \u{1F600}");
    let answer = deployment.deliver(&event).await;
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (202, "{}"));
    assert_eq!(queues.counts().await, [0, 0, 1]);

    // A good record, a duplicate of it, three that nobody can ever process, and one that fails for now.
    let failing = {
        account.set(CACHE, "failing", "not a list").await.unwrap();
        let event = comment("failing", "later");
        assert_eq!(deployment.deliver(&event).await.status(), 202);
        event
    };
    let mut records = Vec::new();
    while records.len() < 2 {
        records.extend(queues.receive().await);
    }
    account.delete(CACHE, "course").await.unwrap();
    let good = records.iter().find(|record| parked_event(record.body().unwrap()) == event.to_body()).unwrap().clone();
    let rejected = parked(&Event { text: "not a comment".into(), ..comment("1", "x") }.to_body());
    for poison in ["not a record", &parked(b"not an event"), &rejected, good.body().unwrap()] {
        queues.send(poison).await;
    }
    while records.len() < 6 {
        records.extend(queues.receive().await);
    }

    let answer = deployment.lambda.invoke("redrive", &batch(&records)).await;
    let failed: Vec<_> =
        answer["batchItemFailures"].as_array().unwrap().iter().map(|item| &item["itemIdentifier"]).collect();
    let still_failing =
        records.iter().find(|record| parked_event(record.body().unwrap()) == failing.to_body()).unwrap();
    assert_eq!(failed, [still_failing.message_id().unwrap()]);
    assert_eq!(comments(&account, "course").await.len(), 1);
    let mut dead = queues.dead_letters().await;
    let mut expected = vec!["not a record".to_owned(), parked(b"not an event"), rejected];
    dead.sort();
    expected.sort();
    assert_eq!(dead, expected);

    account.delete(CACHE, "failing").await.unwrap();
    let answer = deployment.lambda.invoke("redrive", &batch(&records)).await; // all of them once more: SQS may do that
    assert_eq!(answer["batchItemFailures"], json!([]));
    assert_eq!(comments(&account, "course").await.len(), 1);
    assert_eq!(comments(&account, "failing").await.len(), 1);
}

fn parked(body: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(body);
    json!({ "body": body, "reason": "", "receivedAt": 0, "parkedAt": 0 }).to_string()
}

fn parked_event(record: &str) -> Vec<u8> {
    use base64::Engine;
    let Ok(record) = serde_json::from_str::<Value>(record) else { return Vec::new() };
    base64::engine::general_purpose::STANDARD.decode(record["body"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn the_publisher_serves_direct_invocations() {
    let deployment = Deployment::new().await;
    let _publisher = deployment.start("publisher", &[]);
    let mut heard = crate::fixture::subscribe(&deployment.local.url, "comment").await;
    let request = json!({ "tokenId": "kim", "message": "hello", "ttlSeconds": 60 });
    let answer = deployment.lambda.invoke("publisher", &request).await;
    let left = answer["expiresAt"].as_u64().unwrap() * 1_000 - crate::fixture::now();
    assert!(left <= 60_000, "{answer}");
    let message =
        tokio::time::timeout(Duration::from_secs(5), futures::StreamExt::next(&mut heard)).await.unwrap().unwrap();
    assert_eq!(message.publisher_id, "kim");

    for (request, word) in [
        (json!({ "tokenId": "kim" }), "message"),
        (json!({ "message": "hidden", "ttl": 1 }), "ttlSeconds"),
        (json!({ "message": "hidden", "ttlSeconds": 90_001 }), "ttl"),
        (json!({ "message": "hidden", "tokenId": "a/b" }), "token id"),
        (json!("hidden"), "invoke with"),
    ] {
        let answer = deployment.lambda.invoke("publisher", &request).await;
        let error = answer["errorMessage"].as_str().unwrap();
        assert!(error.contains(word) && !error.contains("hidden"), "{error}");
    }
}
