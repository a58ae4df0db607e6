//! What a topic may do to a subscriber, and what is left on record of it.

use std::path::Path;
use std::time::{Duration, Instant};

use momento_webhook::local;
use tonic::{Code, Status};

use super::receiver::receiver;
use super::topic::{Topic, discontinuity, heartbeat, item, stream, topic};
use super::{Setup, route};
use crate::fixture::{scale, seed};
use crate::stack::{Local, local};

/// A relay's setup on a scripted topic, with secrets from `local`.
async fn setup(topic: &Topic, url: &str, folder: &Path, more: &str) -> (Local, Setup) {
    let local = local(local::Config { seed: seed(), ..local::Config::default() }).await;
    let toml = format!(
        "[position]\npath = {folder:?}\n[network]\nallow_loopback = true\n[http]\nlisten = \"127.0.0.1:0\"\n{more}\n{}",
        route(url, "")
    );
    let setup = Setup::with(&topic.url, &local.url, toml).await;
    (local, setup)
}

fn incidents(folder: &Path) -> Vec<(String, i64, i64, Option<i64>)> {
    let journal = rusqlite::Connection::open(folder.join("journal.sqlite")).unwrap();
    let mut query =
        journal.prepare("SELECT kind, before_number, after_number, missed FROM incident ORDER BY id").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_denied_subscription_makes_a_handful_of_calls() {
    for code in [Code::PermissionDenied, Code::Unauthenticated, Code::NotFound, Code::InvalidArgument] {
        let topic = topic(move || Err(Status::new(code, "no"))).await;
        let folder = tempfile::tempdir().unwrap();
        let (_local, setup) = setup(&topic, "http://127.0.0.1:9/", folder.path(), "").await;
        let relay = setup.start().await;
        crate::stack::eventually(async || {
            let (status, ready) = relay.ready().await;
            (status == 503 && ready.to_string().contains("refused for good")).then_some(())
        })
        .await;
        // Not waiting for anything: this is the length of the observation.
        tokio::time::sleep(scale(Duration::from_secs(2), Duration::from_secs(60))).await;
        assert!(topic.calls() <= scale(1, 4), "{code:?}: {} calls", topic.calls());
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_passing_failure_is_answered_at_once_and_then_patiently() {
    let mut failing = topic(|| Err(Status::unavailable("for a while"))).await;
    let folder = tempfile::tempdir().unwrap();
    let (_local, setup) = setup(&failing, "http://127.0.0.1:9/", folder.path(), "").await;
    let relay = setup.start().await;
    failing.asked().await;
    let first = Instant::now();
    failing.asked().await;
    assert!(first.elapsed() < Duration::from_millis(90), "at once");
    failing.asked().await;
    assert!(first.elapsed() >= Duration::from_millis(100), "and then after a while");
    tokio::time::sleep(Duration::from_secs(3)).await; // the length of the observation
    assert!(failing.calls() < 20, "{} calls", failing.calls());
    relay.stop().await;
}

#[tokio::test]
async fn a_subscription_that_brings_nothing_any_more_is_not_ready() {
    let (items, first) = stream();
    items.send(Ok(heartbeat())).unwrap();
    let (mut first, mut silent) = (Some(first), vec![items]);
    let topic = topic(move || {
        Ok(first.take().unwrap_or_else(|| {
            let (items, stream) = stream();
            silent.push(items);
            stream
        }))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let more = "[subscribe]\nstall_seconds = 0.5";
    let (_local, setup) = setup(&topic, "http://127.0.0.1:9/", folder.path(), more).await;
    let relay = setup.start().await;
    relay.until_ready().await;
    crate::stack::eventually(async || {
        let (status, ready) = relay.ready().await;
        (status == 503 && ready.to_string().contains("the subscription fails")).then_some(())
    })
    .await;
    relay.stop().await;
}

#[tokio::test]
async fn every_loss_is_on_record_and_nothing_comes_twice() {
    let (items, first) = stream();
    let (again, second) = stream();
    let (last, third) = stream();
    let mut streams = vec![third, second, first];
    let mut topic = topic(move || streams.pop().ok_or(Status::unavailable("no more"))).await;
    let mut receiver = receiver(200).await;
    let folder = tempfile::tempdir().unwrap();
    let (_local, setup) = setup(&topic, &receiver.url, folder.path(), "[subscribe]\nstall_seconds = 0.5").await;
    for sent in [
        heartbeat(),
        item(7, 41),
        item(7, 42),
        item(7, 42),              // again
        discontinuity(7, 42, 50), // announced: 7 are missing
        item(7, 50),
        item(7, 53), // not announced: 2 are missing
        item(9, 1),  // another page
    ] {
        items.send(Ok(sent)).unwrap();
    }
    let relay = setup.start().await;
    assert_eq!(topic.asked().await, (0, 0));
    // Then nothing, not even a heartbeat.
    assert_eq!(topic.asked().await, (9, 2), "it resumes after the last one");
    again.send(Ok(item(9, 1))).unwrap();
    again.send(Ok(item(9, 2))).unwrap();
    again.send(Err(Status::unavailable("broken"))).unwrap();
    drop(again);
    assert_eq!(topic.asked().await, (9, 3));
    last.send(Ok(discontinuity(11, 0, 1))).unwrap();
    last.send(Ok(item(11, 1))).unwrap();

    let texts = receiver.texts(7).await;
    let mut sorted = texts.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["11/1", "7/41", "7/42", "7/50", "7/53", "9/1", "9/2"]);
    relay.until("relay_delivered_total", 7).await;
    assert!(receiver.rest().is_empty());
    assert_eq!(relay.metric("relay_missed_total").await, 9);
    assert_eq!(relay.metric("relay_topic_seen_total").await, 2);
    relay.stop().await;
    let incidents = incidents(folder.path());
    let expected = [
        ("discontinuity", 42, 50, Some(7)),
        ("gap", 50, 53, Some(2)),
        ("page_reset", 53, 1, None),
        ("stall", 1, 1, Some(0)),
        ("page_reset", 2, 1, None),
    ];
    let incidents: Vec<_> = incidents.iter().map(|(kind, b, a, m)| (kind.as_str(), *b, *a, *m)).collect();
    assert_eq!(incidents[..5], expected);
    drop((items, last));
}
