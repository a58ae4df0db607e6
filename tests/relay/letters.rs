//! Dead letters: what makes one, and what can be done with it, with the relay's own command line.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::receiver::{receiver, status_only};
use super::{Setup, TOPIC, topics};
use crate::fixture::CACHE;

fn dlq(folder: &Path, arguments: &[&str]) -> (bool, Vec<Value>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    let done = command.arg("dlq").args(arguments).arg("--data").arg(folder).output().unwrap();
    let lines = String::from_utf8(done.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (done.status.success(), lines, String::from_utf8(done.stderr).unwrap())
}

#[tokio::test]
async fn what_the_receiver_can_never_take_is_kept_shown_redriven_and_purged() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let mut receiver = receiver(200).await;
    receiver.answer(|event| {
        status_only(match event.text.as_str() {
            "malformed" => 400,
            "large" => 413,
            "rejected" => 422,
            _ => 200,
        })
    });
    let relay = Setup::new(&local, &receiver.url, folder.path()).await.start().await;
    relay.until_ready().await;
    for text in ["malformed", "fine", "large", "rejected"] {
        client.publish(CACHE, TOPIC, text).await.unwrap();
    }
    client.publish(CACHE, TOPIC, vec![0, 255]).await.unwrap();
    relay.until("relay_dead", 4).await;
    relay.until("relay_delivered_total", 1).await;
    relay.until_ready().await; // no fault of the destination

    let (_, letters, _) = dlq(folder.path(), &["list"]);
    let mut reasons: Vec<&str> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["answered 400", "answered 413", "answered 422", "binary: a webhook carries text only"]);
    assert!(letters.iter().all(|letter| letter.get("text").is_none()), "a list does not show what they say");
    let rejected = letters.iter().find(|letter| letter["reason"] == "answered 422").unwrap();
    let id = rejected["id"].to_string();
    let (_, shown, _) = dlq(folder.path(), &["show", &id]);
    assert_eq!(shown[0]["text"], "rejected");

    receiver.answer(|_| status_only(200));
    receiver.rest();
    let (done, told, _) = dlq(folder.path(), &["redrive", &id]);
    assert!(done && told[0]["redriven"] == 1, "{told:?}");
    relay.until("relay_delivered_total", 2).await;
    assert_eq!(receiver.next().await.event().topic_sequence_number, rejected["number"].as_u64().unwrap());
    let (_, told, _) = dlq(folder.path(), &["redrive", "--all"]);
    assert_eq!((&told[0]["redriven"], &told[0]["binary"]), (&2.into(), &1.into()));
    relay.until("relay_delivered_total", 4).await;
    let (_, told, _) = dlq(folder.path(), &["purge", "--all"]);
    assert_eq!(told[0]["purged"], 1);
    relay.until("relay_purged_total", 1).await;
    relay.until("relay_dead", 0).await;
    let (done, _, says) = dlq(folder.path(), &["show", &id]);
    assert!(!done && says.contains("no dead letter"), "{says}");
    relay.stop().await;
}

#[tokio::test]
async fn what_may_have_been_done_too_long_ago_is_not_repeated_without_a_word() {
    let ((local, client), folder) = (topics().await, tempfile::tempdir().unwrap());
    let receiver = receiver(500).await;
    let mut setup = Setup::new(&local, &receiver.url, folder.path()).await;
    setup.toml.push_str("horizon_seconds = 0.3\nretry_seconds = 0.2\n");
    let relay = setup.start().await;
    relay.until_ready().await;
    client.publish(CACHE, TOPIC, "stale").await.unwrap();
    relay.until("relay_dead", 1).await;
    relay.stop().await;
    let config = folder.path().join("relay.toml");
    std::fs::write(&config, &setup.toml).unwrap();
    let config = ["--config", config.to_str().unwrap()];
    let (done, told, says) = dlq(folder.path(), &[&["redrive", "--all"][..], &config].concat());
    assert!(!done && told[0]["tooOld"] == 1 && says.contains("--allow-repeat"), "{told:?} {says}");
    let (done, told, _) = dlq(folder.path(), &[&["redrive", "--all", "--allow-repeat"][..], &config].concat());
    assert!(done && told[0]["redriven"] == 1, "{told:?}");
    receiver.answer(|_| status_only(200));
    // What was pending when a relay ended may have been under way: it counts as doubtful from then.
    setup.toml = setup.toml.replace("horizon_seconds = 0.3", "horizon_seconds = 600");
    let relay = setup.start_again(folder.path()).await;
    relay.until("relay_delivered_total", 1).await;
    relay.stop().await;
}
