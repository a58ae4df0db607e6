//! The events that the functions are fed: each is new, signed, and comes as a function URL hands it over.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use momento_webhook::event::Event;
use momento_webhook::signature::{HEADER, Secret, sign};
use serde_json::json;

pub(crate) const CACHE: &str = "course-comments";
pub(crate) const SIGNING_SECRET: &str = "a signing secret for benchmarks";

pub(crate) struct Events {
    secret: Secret,
    sequence: u64,
}

impl Events {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { secret: Secret::new(SIGNING_SECRET)?, sequence: 0 })
    }

    /// The next comment by Taylor, as the payload of an invocation.
    pub(crate) fn delivery(&mut self) -> String {
        let (now, sequence) = (now(), self.sequence);
        self.sequence += 1;
        let event = Event {
            cache: CACHE.into(),
            topic: "comment".into(),
            event_timestamp: now,
            publish_timestamp: now,
            topic_sequence_number: sequence,
            token_id: "taylor".into(),
            text: json!({ "courseId": 123, "comment": format!("comment {sequence} of a benchmark") }).to_string(),
        };
        let body = String::from_utf8(event.to_body()).unwrap_or_default();
        let user_agent = "Momento/1.0 (Webhooks; +https://docs.momentohq.com/topics/webhooks)";
        let payload = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/",
            "rawQueryString": "",
            "headers": {
                "content-type": "application/json",
                "content-length": body.len().to_string(),
                "host": "url-id.lambda-url.us-east-1.on.aws",
                "user-agent": user_agent,
                "x-amzn-trace-id": "Root=1-5759e988-bd862e3fe1be46a994272793",
                "x-forwarded-for": "203.0.113.1",
                "x-forwarded-port": "443",
                "x-forwarded-proto": "https",
                HEADER: sign(&self.secret, body.as_bytes()),
            },
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "url-id",
                "domainName": "url-id.lambda-url.us-east-1.on.aws",
                "domainPrefix": "url-id",
                "http": { "method": "POST", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.1", "userAgent": user_agent },
                "requestId": "2b1ff9b3-6d5c-4f4b-9d4b-1f1c2f8c9a5e",
                "routeKey": "$default",
                "stage": "$default",
                "time": "24/Nov/2026:00:00:00 +0000",
                "timeEpoch": now,
            },
            "body": body,
            "isBase64Encoded": false,
        });
        payload.to_string()
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
