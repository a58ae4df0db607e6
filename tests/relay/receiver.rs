//! A destination that answers as told, and remembers what it was sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use momento_webhook::event::{self, Event};
use momento_webhook::signature::{HEADER, Secret, Signature, verify};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::fixture::SIGNING_SECRET;

type Answer = Arc<Mutex<Box<dyn FnMut(&Event) -> Response + Send>>>;

/// What was posted.
pub(crate) struct Post {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Post {
    /// The event, once its signature has been verified.
    pub(crate) fn event(&self) -> Event {
        self.signed_with(SIGNING_SECRET).expect("not signed")
    }

    pub(crate) fn signed_with(&self, secret: &str) -> Option<Event> {
        let signature = Signature::from_hex(self.headers[HEADER].as_bytes()).unwrap();
        let verified = verify(&Secret::new(secret).unwrap(), &signature, &self.body)?;
        Some(event::parse(&verified).unwrap())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    posts: mpsc::UnboundedReceiver<Post>,
    answer: Answer,
}

/// A receiver that answers with this status.
pub(crate) async fn receiver(status: u16) -> Receiver {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, posts) = mpsc::unbounded_channel();
    let answer: Answer = Arc::new(Mutex::new(Box::new(move |_| status_only(status))));
    let app = Router::new().fallback(receive).with_state((sender, answer.clone()));
    tokio::spawn(axum::serve(listener, app).into_future());
    Receiver { url, posts, answer }
}

pub(crate) fn status_only(status: u16) -> Response {
    StatusCode::from_u16(status).unwrap().into_response()
}

async fn receive(
    State((sender, answer)): State<(mpsc::UnboundedSender<Post>, Answer)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| event[name].as_u64().unwrap_or_default();
    let event = Event {
        cache: text("cache"),
        topic: text("topic"),
        event_timestamp: number("event_timestamp"),
        publish_timestamp: number("publish_timestamp"),
        topic_sequence_number: number("topic_sequence_number"),
        token_id: text("token_id"),
        text: text("text"),
    };
    let response = (answer.lock().unwrap())(&event);
    let _ = sender.send(Post { headers, body }); // whoever asked may have gone
    response
}

impl Receiver {
    pub(crate) fn answer(&self, answer: impl FnMut(&Event) -> Response + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    pub(crate) async fn next(&mut self) -> Post {
        timeout(Duration::from_secs(90), self.posts.recv()).await.expect("nothing comes").unwrap()
    }

    /// What has come and not been looked at.
    pub(crate) fn rest(&mut self) -> Vec<Post> {
        std::iter::from_fn(|| self.posts.try_recv().ok()).collect()
    }

    /// The texts of the next `count` messages that it has not seen, in the order in which they came first.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let text = self.next().await.event().text;
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }
}
