//! The relay's command line, as a process.

use std::process::{Command, Output};

use super::receiver::receiver;
use super::{Setup, TOPIC, topics};
use crate::fixture::{API_KEY_SECRET, CACHE, SIGNING_SECRET_NAME};

fn relay(momento: &str, arguments: &[&str], variables: &[(&str, String)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command
        .args(arguments)
        .env_remove("RELAY_CONFIG")
        .env("AWS_ENDPOINT_URL", momento)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("MOMENTO_ENDPOINT_URL", momento)
        .env("MOMENTO_API_KEY_SECRET_NAME", API_KEY_SECRET)
        .env("MOMENTO_SIGNING_SECRET_NAME", SIGNING_SECRET_NAME)
        .envs(variables.iter().map(|(name, value)| (name, value)));
    command.output().unwrap()
}

async fn run(momento: &str, arguments: &[&str]) -> (bool, String) {
    run_with(momento, arguments, &[]).await
}

/// Whether it succeeded, and all that it said. The process is waited for on a thread of its own, since the servers that it
/// asks are in this one.
pub(super) async fn run_with(
    momento: &str,
    arguments: &[&str],
    variables: &[(&'static str, String)],
) -> (bool, String) {
    let (momento, variables) = (momento.to_owned(), variables.to_vec());
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let done = tokio::task::spawn_blocking(move || {
        relay(&momento, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), &variables)
    });
    let Output { status, stdout, stderr } = done.await.unwrap();
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[tokio::test]
async fn check_says_what_is_right_and_what_is_wrong_and_delivers_nothing() {
    let ((local, _), mut receiver) = (topics().await, receiver(403).await);
    let route = |topic: &str, url: &str| format!("{CACHE}/{topic}={url}");
    let good = route(TOPIC, &receiver.url);
    let (done, says) = run(&local.url, &["check", "--allow-loopback", "--route", &good]).await;
    assert!(done && !says.contains("WRONG") && says.matches("ok ").count() == 4, "{says}");

    let nobody = route(TOPIC, "http://127.0.0.1:1/");
    let (done, says) = run(&local.url, &["check", "--allow-loopback", "--route", &nobody]).await;
    assert!(!done && says.contains("WRONG destination") && says.contains("cannot be reached"), "{says}");

    let no_cache = format!("elsewhere/{TOPIC}={}", receiver.url);
    let (done, says) = run(&local.url, &["check", "--allow-loopback", "--route", &no_cache]).await;
    assert!(!done && says.contains("WRONG topic elsewhere/comment") && says.contains("NotFound"), "{says}");

    let (done, says) = run(&local.url, &["check", "--route", &good]).await;
    assert!(!done && says.contains("WRONG configuration") && says.contains("--allow-loopback"), "{says}");

    receiver.answer(|_| super::receiver::status_only(200));
    let (done, says) = run(&local.url, &["check", "--allow-loopback", "--route", &good]).await;
    assert!(!done && says.contains("anyone could send to it"), "{says}");
    let posts = receiver.rest();
    assert!(posts.iter().all(|post| post.body == "{}"), "nothing was delivered");
    assert!(posts.iter().all(|post| post.headers["content-length"] == "2"), "some servers want it");
}

#[tokio::test]
async fn a_person_is_told_what_to_do() {
    let ((local, _), folder) = (topics().await, tempfile::tempdir().unwrap());
    let receiver = receiver(200).await;
    let (done, says) = run(&local.url, &[]).await;
    assert!(!done && says.contains("--route CACHE/TOPIC=URL"), "{says}");

    let relay = Setup::new(&local, &receiver.url, folder.path()).await.start().await;
    let route = format!("{CACHE}/{TOPIC}={}", receiver.url);
    let data = folder.path().to_str().unwrap();
    let arguments = ["--listen", "", "--allow-loopback", "--route", &route, "--data", data];
    let (done, says) = run(&local.url, &arguments).await;
    assert!(!done && says.contains("another relay is using the journal"), "{says}");
    relay.stop().await;
}
