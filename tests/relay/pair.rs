//! Two relays for one topic, and one that has no disk.

use std::collections::HashMap;

use momento_webhook::local::{self, Faults};
use serde_json::Value;

use super::receiver::{Receiver, receiver, status_only};
use super::{Relay, Setup, TOPIC, route, topic_client, topics};
use crate::fixture::{CACHE, seed};
use crate::stack::{Local, eventually, local};

async fn setup(local: &Local, receiver: &Receiver) -> Setup {
    let toml = format!(
        "[position]\nkind = \"momento\"\n[standby]\nlease_seconds = 2\n[network]\nallow_loopback = true\n[http]\nlisten = \"127.0.0.1:0\"\n{}",
        route(&receiver.url, "")
    );
    Setup::with(&local.url, &local.url, toml).await
}

async fn until_active(relay: &Relay) {
    eventually(async || (relay.labelled("relay_active ").await == 1).then_some(())).await;
}

#[tokio::test]
async fn one_delivers_and_the_other_takes_over_without_loss() {
    let (local, client) = topics().await;
    let mut receiver = receiver(200).await;
    let setup = setup(&local, &receiver).await;
    let first = setup.start().await;
    first.until_ready().await;
    until_active(&first).await;
    let second = setup.start().await;
    second.until_ready().await;
    assert_eq!(second.labelled("relay_active ").await, 0, "it stands by, and is ready");
    for number in 0..50 {
        client.publish(CACHE, TOPIC, format!("{number}")).await.unwrap();
    }
    second.until("relay_received_total", 50).await;
    first.until("relay_delivered_total", 50).await;
    second.until("relay_ceded_total", 50).await;
    assert_eq!(second.metric("relay_attempts_total").await, 0);

    // What the first one cannot deliver, the second one has too, with the same times of receipt.
    receiver.answer(|_| status_only(500));
    for number in 50..80 {
        client.publish(CACHE, TOPIC, format!("{number}")).await.unwrap();
    }
    first.until("relay_received_total", 80).await;
    second.until("relay_received_total", 80).await;
    let ids: HashMap<String, String> = eventually(async || {
        let posts = receiver.rest();
        let failed = posts.iter().map(|post| (post.event().text, post.event().id().to_string()));
        let failed: HashMap<_, _> = failed.filter(|(text, _)| text.parse::<u32>().unwrap() >= 50).collect();
        (!failed.is_empty()).then_some(failed)
    })
    .await;
    first.abort().await; // it releases nothing
    receiver.answer(|_| status_only(200));
    receiver.rest();
    until_active(&second).await;
    second.until("relay_delivered_total", 30).await;
    let delivered = receiver.rest();
    assert_eq!(delivered.len(), 30);
    for post in delivered {
        let event = post.event();
        assert!(ids.get(&event.text).is_none_or(|id| *id == event.id().to_string()), "the same event");
    }
    second.stop().await;
}

#[tokio::test]
async fn what_the_other_one_may_have_attempted_too_long_ago_is_not_repeated() {
    let (local, client) = topics().await;
    let mut receiver = receiver(500).await;
    let mut setup = setup(&local, &receiver).await;
    let first = setup.start().await;
    first.until_ready().await;
    until_active(&first).await;
    setup.toml.push_str("horizon_seconds = 1\n");
    let second = setup.start().await;
    second.until_ready().await;
    client.publish(CACHE, TOPIC, "attempted").await.unwrap();
    second.until("relay_received_total", 1).await;
    receiver.next().await;
    first.abort().await;
    receiver.answer(|_| status_only(200));
    receiver.rest();
    until_active(&second).await; // after what is left of the lease, which is more than the horizon
    second.until("relay_dead", 1).await;
    assert!(receiver.rest().is_empty());
    second.stop().await;
}

#[tokio::test]
async fn a_relay_that_stops_hands_over_at_once() {
    let (local, client) = topics().await;
    let mut receiver = receiver(200).await;
    let setup = setup(&local, &receiver).await;
    let first = setup.start().await;
    first.until_ready().await;
    until_active(&first).await;
    let second = setup.start().await;
    second.until_ready().await;
    client.publish(CACHE, TOPIC, "one").await.unwrap();
    assert_eq!(receiver.next().await.event().text, "one");
    second.until("relay_received_total", 1).await;
    first.until("relay_delivered_total", 1).await;
    first.stop().await;
    until_active(&second).await;
    client.publish(CACHE, TOPIC, "two").await.unwrap();
    assert_eq!(receiver.next().await.event().text, "two", "and nothing is repeated");
    second.until("relay_pending", 0).await;
    second.stop().await;
}

#[tokio::test]
async fn without_a_disk_a_relay_goes_on_where_it_was() {
    let (local, client) = topics().await;
    let mut receiver = receiver(200).await;
    let setup = setup(&local, &receiver).await;
    let relay = setup.start().await;
    relay.until_ready().await;
    client.publish(CACHE, TOPIC, "one").await.unwrap();
    assert_eq!(receiver.next().await.event().text, "one");
    relay.until("relay_delivered_total", 1).await;
    receiver.answer(|_| status_only(500));
    client.publish(CACHE, TOPIC, "two").await.unwrap();
    let failed = receiver.next().await.event();
    relay.stop().await;
    client.publish(CACHE, TOPIC, "three").await.unwrap();
    receiver.answer(|_| status_only(200));
    receiver.rest();
    let relay = setup.start().await;
    let mut events = [receiver.next().await.event(), receiver.next().await.event()];
    events.sort_by_key(|event| event.topic_sequence_number);
    assert_eq!((events[0].id(), events[1].text.as_str()), (failed.id(), "three"), "and it is the same event");
    relay.until("relay_delivered_total", 2).await;
    relay.stop().await;
}

#[tokio::test]
async fn dead_letters_of_a_relay_without_a_disk_outlive_it_and_can_be_redriven_and_purged() {
    let (local, client) = topics().await;
    let mut receiver = receiver(422).await;
    let setup = setup(&local, &receiver).await;
    let relay = setup.start().await;
    relay.until_ready().await;
    client.publish(CACHE, TOPIC, "one").await.unwrap();
    let rejected = receiver.next().await.event();
    client.publish(CACHE, TOPIC, "two").await.unwrap();
    relay.until("relay_dead", 2).await;
    client.publish(CACHE, TOPIC, vec![0, 255]).await.unwrap();
    relay.until("relay_dead", 3).await;
    let dlq = async |arguments: &[&str]| {
        let variables = [("RELAY_CONFIG", setup.toml.clone())];
        super::command::run_with(&local.url, &[&["dlq"], arguments].concat(), &variables).await
    };
    let list = dlq(&["list"]).await.1;
    assert_eq!(list.lines().count(), 3, "what counts as dead is there");
    relay.stop().await;
    assert!(!list.contains("\"text\"") && !list.contains("AP8="), "a list does not show what they say");
    let ids: Vec<String> =
        list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string()).collect();
    let (done, says) = dlq(&["show", &ids[0]]).await;
    assert!(done && says.contains("\"text\":\"one\"") && says.contains("answered 422"), "{says}");

    let (done, says) = dlq(&["show", &ids[2]]).await;
    assert!(done && says.contains("\"attempts\":0,\"binary\":true,\"bytes\":\"AP8=\""), "{says}");

    let (done, says) = dlq(&["redrive", "--all"]).await;
    assert!(done && says.contains("\"binary\":1,\"redriven\":0,\"refused\":2"), "{says}");
    let (done, says) = dlq(&["purge", &ids[2]]).await;
    assert!(done && says.contains("\"purged\":1"), "{says}");
    receiver.answer(|_| status_only(401));
    let (done, says) = dlq(&["redrive", "--all"]).await;
    assert!(!done && says.contains("answered 401"), "{says}");
    receiver.answer(|_| status_only(200));
    receiver.rest();
    let (done, says) = dlq(&["redrive", &ids[0]]).await;
    assert!(done && says.contains("\"redriven\":1"), "{says}");
    let again = receiver.next().await;
    assert_eq!(
        (again.event().id(), again.header("momento-webhook-attempt")),
        (rejected.id(), "2"),
        "it is the same event"
    );
    assert_eq!(dlq(&["list"]).await.1.lines().count(), 1, "what was delivered is gone");
    let (done, says) = dlq(&["purge", &ids[1]]).await;
    assert!(done && says.contains("\"purged\":1"), "{says}");
    assert_eq!(dlq(&["list"]).await.1, "");
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn without_a_disk_a_dead_letter_counts_once_it_is_safe_and_not_before() {
    let faults = Faults::default();
    let local = local(local::Config { seed: seed(), faults: faults.clone(), ..local::Config::default() }).await;
    let client = topic_client(&local.url);
    let mut receiver = receiver(422).await;
    let mut setup = setup(&local, &receiver).await;
    setup.toml.push_str("[shutdown]\ndrain_seconds = 1\n");
    let relay = setup.start().await;
    relay.until_ready().await;
    faults.set(["list-push-front=unavailable".parse().unwrap()]).unwrap();
    client.publish(CACHE, TOPIC, "rejected").await.unwrap();
    let rejected = receiver.next().await.event();
    eventually(async || relay.ready().await.1["problems"]["letterbox"].is_string().then_some(())).await;
    assert_eq!(relay.metric("relay_dead").await, 0);
    relay.stop().await; // and the letter never was written
    faults.set([]).unwrap();
    let relay = setup.start().await;
    assert_eq!(receiver.next().await.event().id(), rejected.id(), "so the next one has it again");
    relay.until("relay_dead", 1).await;
    relay.stop().await;
}
