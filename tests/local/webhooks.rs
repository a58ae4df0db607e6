use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Redirect,
    routing::post,
};
use futures::StreamExt;
use momento::auth::{ExpiresIn, PermissionScopes};
use momento_webhook::{
    event,
    local::{self, Config, Error, Seed, WebhookError},
    signature::{self, Secret, Signature, verify},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    time::timeout,
};

use super::{CACHE, KEY, config, mint, secrets::rotate, topics};
use crate::stack::{self, Local};

struct Receiver {
    url: String,
    posts: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
}

/// Answers with this status, or never.
async fn receiver(answer: Option<StatusCode>) -> Receiver {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, posts) = mpsc::unbounded_channel();
    let receive = async move |State(sender): State<mpsc::UnboundedSender<_>>, headers: HeaderMap, body: Bytes| {
        sender.send((headers, body)).unwrap();
        match answer {
            Some(status) => status,
            None => std::future::pending().await,
        }
    };
    let app = Router::new().route("/hook", post(receive)).with_state(sender);
    tokio::spawn(axum::serve(listener, app).into_future());
    Receiver { url, posts }
}

impl Receiver {
    async fn next(&mut self) -> (HeaderMap, Bytes) {
        timeout(Duration::from_secs(10), self.posts.recv()).await.expect("nothing comes").unwrap()
    }
}

async fn start(receiver: &Receiver) -> Local {
    let seed = Seed { secrets: [("momento-signing-secret".into(), "first".into())].into(), ..Seed::default() };
    let webhooks = vec![format!("{CACHE}/comment={}", receiver.url).parse().unwrap()];
    let webhook_timeout = Duration::from_millis(300);
    stack::local(Config { seed, webhooks, webhook_timeout, ..config() }).await
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn is_signed(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let signature = Signature::from_hex(headers[signature::HEADER].as_bytes()).unwrap();
    verify(&Secret::new(secret).unwrap(), &signature, body).is_some()
}

#[tokio::test]
async fn a_message_is_posted_as_momento_posted_it() {
    let mut receiver = receiver(Some(StatusCode::OK)).await;
    let local = start(&receiver).await;
    let scope = PermissionScopes::topic_publish_only(CACHE, "comment");
    let token = mint(&local, scope, "taylor", ExpiresIn::minutes(30)).await.unwrap();
    let before = now();
    topics(&local, &token).publish(CACHE, "comment", r#"{"comment":"é"}"#).await.unwrap();
    let (headers, body) = receiver.next().await;

    assert_eq!(headers["user-agent"], "Momento/1.0 (Webhooks; +https://docs.momentohq.com/topics/webhooks)");
    assert_eq!(headers["content-type"], "application/json");
    let digits = headers[signature::HEADER].to_str().unwrap();
    assert!(digits.len() == 64 && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{digits}");
    let secret = Secret::new("first").unwrap();
    let verified = verify(&secret, &Signature::from_hex(digits).unwrap(), &body).expect("not signed");
    let event = event::parse(&verified).unwrap();
    assert_eq!(event.token_id, "taylor");
    assert!((before..=now()).contains(&event.event_timestamp));
    assert!((event.event_timestamp..=now()).contains(&event.publish_timestamp));
    let exact = format!(
        r#"{{"cache":"course-comments","topic":"comment","event_timestamp":{},"publish_timestamp":{},"topic_sequence_number":1,"token_id":"taylor","text":"{{\"comment\":\"é\"}}"}}"#,
        event.event_timestamp, event.publish_timestamp
    );
    assert_eq!(String::from_utf8(body.to_vec()).unwrap(), exact);
}

#[tokio::test]
async fn a_rotated_secret_signs_the_next_message() {
    let mut receiver = receiver(Some(StatusCode::OK)).await;
    let local = start(&receiver).await;
    let client = topics(&local, KEY);
    client.publish(CACHE, "comment", "one").await.unwrap();
    let (headers, body) = receiver.next().await;
    assert!(is_signed("first", &headers, &body));
    rotate(&local, "momento-signing-secret", "second").await;
    client.publish(CACHE, "comment", "two").await.unwrap();
    let (headers, body) = receiver.next().await;
    assert!(is_signed("second", &headers, &body));
}

#[tokio::test]
async fn only_text_on_the_named_topic_is_posted_and_only_once() {
    let mut receiver = receiver(Some(StatusCode::INTERNAL_SERVER_ERROR)).await;
    let local = start(&receiver).await;
    let client = topics(&local, KEY);
    client.publish(CACHE, "other", "elsewhere").await.unwrap();
    client.publish(CACHE, "comment", vec![0, 255]).await.unwrap();
    client.publish(CACHE, "comment", "refused").await.unwrap();
    assert!(receiver.next().await.1.ends_with(br#""topic_sequence_number":2,"token_id":"","text":"refused"}"#));
    client.publish(CACHE, "comment", "last").await.unwrap();
    assert!(receiver.next().await.1.ends_with(br#""text":"last"}"#));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut receiver = receiver(Some(StatusCode::OK)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (to, asked) = (receiver.url.clone(), Arc::new(Notify::new()));
    let redirect = {
        let asked = asked.clone();
        async move || {
            asked.notify_one();
            Redirect::temporary(&to)
        }
    };
    tokio::spawn(axum::serve(listener, Router::new().route("/", post(redirect))).into_future());
    let webhooks = vec![
        format!("{CACHE}/redirected={url}").parse().unwrap(),
        format!("{CACHE}/direct={}", receiver.url).parse().unwrap(),
    ];
    let local = stack::local(Config { webhooks, ..config() }).await;
    let client = topics(&local, KEY);
    client.publish(CACHE, "redirected", "one").await.unwrap();
    timeout(Duration::from_secs(10), asked.notified()).await.expect("not asked");
    client.publish(CACHE, "direct", "two").await.unwrap();
    assert!(receiver.next().await.1.ends_with(br#""text":"two"}"#));
    assert!(receiver.posts.try_recv().is_err());
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_nobody_and_is_given_up() {
    let mut receiver = receiver(None).await;
    let local = start(&receiver).await;
    let client = topics(&local, KEY);
    let mut subscription = client.subscribe(CACHE, "comment").await.unwrap();
    let started = Instant::now();
    client.publish(CACHE, "comment", "one").await.unwrap();
    subscription.next().await.unwrap();
    receiver.next().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    // More than can be under way at a time: they come through because the first ones are given up.
    for number in 0..100 {
        client.publish(CACHE, "comment", number.to_string()).await.unwrap();
    }
    stack::eventually(async || {
        client.publish(CACHE, "comment", "after").await.unwrap();
        let mut bodies = std::iter::from_fn(|| receiver.posts.try_recv().ok());
        bodies.any(|(_, body)| body.ends_with(br#""text":"after"}"#)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_machines_url_is_refused_at_the_start() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhooks = vec!["c/t=https://example.com/hook".parse().unwrap()];
    let error = local::run(listener, Config { webhooks, ..config() }, std::future::pending()).await.unwrap_err();
    assert!(matches!(error, Error::Webhook(WebhookError::Remote(_))), "{error}");
    assert!(error.to_string().contains("--allow-remote-webhooks"));
}
