use std::time::Duration;

use futures::StreamExt;
use momento::{MomentoErrorCode, topics::ValueKind};
use momento_protos::cache_client::pubsub::{
    SubscriptionItem, SubscriptionRequest, pubsub_client::PubsubClient, subscription_item::Kind,
};
use momento_webhook::local::Config;
use tokio::time::timeout;
use tonic::{Code, Request, Streaming, transport::Channel};

use super::{CACHE, KEY, caches, config, refusal, start, topics};
use crate::stack::{self, Local};

async fn raw(local: &Local) -> PubsubClient<Channel> {
    PubsubClient::connect(local.url.clone()).await.unwrap()
}

async fn subscribe(
    local: &Local,
    resume_at_topic_sequence_number: u64,
    sequence_page: u64,
) -> Streaming<SubscriptionItem> {
    let request = SubscriptionRequest {
        cache_name: CACHE.into(),
        topic: "t".into(),
        resume_at_topic_sequence_number,
        sequence_page,
    };
    raw(local).await.subscribe(Request::new(request)).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<SubscriptionItem>) -> Kind {
    let item = timeout(Duration::from_secs(10), stream.message()).await.expect("nothing comes");
    item.unwrap().unwrap().kind.unwrap()
}

/// Passes over heartbeats.
async fn next_number(stream: &mut Streaming<SubscriptionItem>) -> (u64, u64) {
    loop {
        match next(stream).await {
            Kind::Item(item) => return (item.sequence_page, item.topic_sequence_number),
            Kind::Heartbeat(_) => {}
            Kind::Discontinuity(_) => panic!("a discontinuity"),
        }
    }
}

#[tokio::test]
async fn what_is_published_arrives_in_order_as_it_was() {
    let local = start().await;
    let client = topics(&local, KEY);
    let mut one = client.subscribe(CACHE, "t").await.unwrap();
    let mut other = client.subscribe(CACHE, "t").await.unwrap();
    client.publish(CACHE, "t", "first").await.unwrap();
    client.publish(CACHE, "t", vec![0, 255]).await.unwrap();
    client.publish(CACHE, "another", "elsewhere").await.unwrap();
    client.publish(CACHE, "t", "last").await.unwrap();
    for subscription in [&mut one, &mut other] {
        for expected in
            [ValueKind::Text("first".into()), ValueKind::Binary(vec![0, 255]), ValueKind::Text("last".into())]
        {
            let got = timeout(Duration::from_secs(10), subscription.next()).await.unwrap().unwrap();
            assert_eq!(got.kind, expected);
        }
    }
}

#[tokio::test]
async fn a_heartbeat_comes_at_once_and_then_in_its_rhythm() {
    let local = stack::local(Config { heartbeat: Duration::from_millis(20), ..config() }).await;
    let mut stream = subscribe(&local, 0, 0).await;
    for _ in 0..4 {
        assert!(matches!(next(&mut stream).await, Kind::Heartbeat(_)));
    }
    let local = start().await;
    let mut stream = subscribe(&local, 0, 0).await;
    let first = timeout(Duration::from_secs(2), stream.message()).await.expect("not at once").unwrap().unwrap();
    assert!(matches!(first.kind, Some(Kind::Heartbeat(_))));
}

#[tokio::test]
async fn a_subscriber_resumes_with_the_message_that_it_names() {
    let local = start().await;
    let client = topics(&local, KEY);
    let mut stream = subscribe(&local, 0, 0).await;
    for text in ["one", "two", "three"] {
        client.publish(CACHE, "t", text).await.unwrap();
    }
    let (page, first) = next_number(&mut stream).await;
    assert_eq!(next_number(&mut stream).await, (page, first + 1));
    drop(stream);

    let mut stream = subscribe(&local, first + 1, page).await;
    assert_eq!(next_number(&mut stream).await, (page, first + 1));
    assert_eq!(next_number(&mut stream).await, (page, first + 2));
    client.publish(CACHE, "t", "four").await.unwrap();
    assert_eq!(next_number(&mut stream).await, (page, first + 3));
}

#[tokio::test]
async fn a_subscriber_with_another_page_is_told_and_goes_on_from_what_is_there() {
    let local = start().await;
    let client = topics(&local, KEY);
    let mut stream = subscribe(&local, 0, 0).await;
    client.publish(CACHE, "t", "one").await.unwrap();
    let (page, number) = next_number(&mut stream).await;

    let mut stream = subscribe(&local, 41, page - 1).await;
    assert!(matches!(next(&mut stream).await, Kind::Heartbeat(_)));
    let Kind::Discontinuity(discontinuity) = next(&mut stream).await else { panic!("no discontinuity") };
    assert_eq!((discontinuity.last_topic_sequence, discontinuity.new_topic_sequence), (40, number));
    assert_eq!(discontinuity.new_sequence_page, page);
    assert_eq!(next_number(&mut stream).await, (page, number));
}

#[tokio::test]
async fn an_idle_topic_starts_again_on_a_larger_page() {
    let local = stack::local(Config { topic_idle: Duration::ZERO, ..config() }).await;
    let client = topics(&local, KEY);
    let mut stream = subscribe(&local, 0, 0).await;
    client.publish(CACHE, "t", "one").await.unwrap();
    let (page, number) = next_number(&mut stream).await;
    drop(stream);
    // The server notices that the subscriber is gone; every message published meanwhile goes on with the numbers.
    let new_page = stack::eventually(async || {
        let mut stream = subscribe(&local, number, page).await;
        assert!(matches!(next(&mut stream).await, Kind::Heartbeat(_)));
        client.publish(CACHE, "t", "again").await.unwrap();
        match next(&mut stream).await {
            Kind::Discontinuity(discontinuity) => Some(discontinuity.new_sequence_page),
            _ => None,
        }
    })
    .await;
    assert!(new_page > page);
}

#[tokio::test]
async fn a_topic_needs_its_cache() {
    let local = start().await;
    let client = topics(&local, KEY);
    assert_eq!(refusal(client.publish("unknown", "t", "text").await), MomentoErrorCode::CacheNotFoundError);
    let request = SubscriptionRequest { cache_name: "unknown".into(), topic: "t".into(), ..Default::default() };
    let status = raw(&local).await.subscribe(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);

    let mut stream = subscribe(&local, 0, 0).await;
    assert!(matches!(next(&mut stream).await, Kind::Heartbeat(_)));
    caches(&local, KEY).delete_cache(CACHE).await.unwrap();
    let end = timeout(Duration::from_secs(10), stream.message()).await.expect("the stream goes on");
    assert_eq!(end.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn stopping_ends_open_subscriptions_and_returns() {
    let local = start().await;
    let mut stream = subscribe(&local, 0, 0).await;
    assert!(matches!(next(&mut stream).await, Kind::Heartbeat(_)));
    let stopping = timeout(Duration::from_millis(1_500), local.stop()); // less than the server's own deadline
    let (stopped, end) = tokio::join!(stopping, stream.message());
    stopped.expect("the subscription holds it up").unwrap();
    assert_eq!(end.unwrap_err().code(), Code::Unavailable);
}
