//! All of it as processes: topics, the relay and the handler, killed one after another, with a receiver in between that
//! answers whatever comes to its mind.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use momento_webhook::local;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::receiver::receiver;
use super::{TOPIC, route, topic_client};
use crate::fixture::{API_KEY_SECRET, CACHE, SIGNING_SECRET_NAME, account, comments, scale, seed};
use crate::processes::{Lambda, Process, free_port, lambda, listening, spawn};
use crate::stack::local;

/// Stands before the handler. Each request comes off well, or in one of the ways in which it may not.
async fn unreliable(handler: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (http, requests) = (reqwest::Client::new(), Arc::<AtomicU64>::default());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(converse(stream, handler.clone(), http.clone(), requests.clone()));
        }
    });
    url
}

async fn converse(mut stream: TcpStream, handler: String, http: reqwest::Client, requests: Arc<AtomicU64>) {
    while let Some((signature, body)) = request(&mut stream).await {
        let answer = match requests.fetch_add(1, Ordering::Relaxed) % 40 {
            0 => "HTTP/1.1 429 Slow\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n".into(),
            8 => status(500),
            16 => {
                tokio::time::sleep(Duration::from_secs(60)).await; // it never answers
                return;
            }
            24 => "garbage\r\n\r\n".into(),
            other => {
                let post = http.post(&handler).header("content-type", "application/json");
                let sent = post.header("momento-signature", signature).body(body).send().await;
                match sent {
                    Ok(_) if other == 32 => status(500), // it was done, and that is not said
                    Ok(answer) => status(answer.status().as_u16()),
                    Err(_) => status(502),
                }
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || answer.starts_with("garbage") {
            return;
        }
    }
}

fn status(code: u16) -> String {
    format!("HTTP/1.1 {code} Status\r\ncontent-length: 0\r\n\r\n")
}

/// The signature and the body of the next request on a connection.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(read[..end].to_vec()).unwrap();
            let header = |name: &str| {
                let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
                Some(line.split_once(':')?.1.trim().to_owned())
            };
            let length: usize = header("content-length")?.parse().unwrap();
            if read.len() >= end + 4 + length {
                return Some((header("momento-signature")?, read[end + 4..][..length].to_vec()));
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
        }
    }
}

struct Stack {
    /// What the handler works on, and where the secrets are. It stays.
    account: String,
    topics: u16,
    probes: u16,
    lambda: Lambda,
    url: String,
    folder: tempfile::TempDir,
}

impl Stack {
    fn topics(&self) -> Process {
        spawn(Command::new(env!("CARGO_BIN_EXE_local")).args(["--port", &self.topics.to_string()]))
    }

    fn handler(&self) -> Process {
        let more = [("CLAIM_LEASE_SECONDS", "4"), ("COMMENTS_KEPT", "1000")]; // longer than an attempt
        self.lambda.start("handler", &self.account, &self.account, &more)
    }

    fn relay(&self) -> Process {
        let toml = format!(
            "[position]\npath = {:?}\n[network]\nallow_loopback = true\n[http]\nlisten = \"127.0.0.1:{}\"\n{}",
            self.folder.path(),
            self.probes,
            route(&self.url, "deadline_seconds = 2\nretry_seconds = 1\n")
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        command
            .arg("run")
            .env("RELAY_CONFIG", toml)
            .env("AWS_ENDPOINT_URL", &self.account)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("MOMENTO_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.topics))
            .env("MOMENTO_API_KEY_SECRET_NAME", API_KEY_SECRET)
            .env("MOMENTO_SIGNING_SECRET_NAME", SIGNING_SECRET_NAME);
        spawn(&mut command)
    }

    async fn subscribed(&self) {
        let url = format!("http://127.0.0.1:{}/readyz", self.probes);
        let ready = async || reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200).then_some(());
        within(Duration::from_secs(60), ready).await;
    }
}

/// As [`crate::stack::eventually`], with more patience.
async fn within<T>(patience: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < patience, "it never happened");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// received, delivered, pending and dead, as the journal on disk has them.
fn ledger(folder: &Path) -> Option<(u64, u64, u64, u64)> {
    let journal = rusqlite::Connection::open(folder.join("journal.sqlite")).ok()?;
    let sql = "SELECT received, delivered, (SELECT count(*) FROM pending), (SELECT count(*) FROM dead) FROM route";
    let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(|number| number as u64);
    let read = |row: &rusqlite::Row<'_>| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?, number(row, 3)?));
    journal.query_row(sql, [], read).ok()
}

#[tokio::test]
async fn whatever_is_killed_what_was_accepted_has_its_effect_once() {
    let messages: u64 = scale(400, 50_000);
    let (account_server, lambda) =
        tokio::join!(local(local::Config { seed: seed(), ..local::Config::default() }), lambda());
    let url = unreliable(lambda.function_url("handler")).await;
    let (topics, probes) = (free_port(), free_port());
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack { account: account_server.url.clone(), topics, probes, lambda, url, folder };
    let (mut topics, mut handler, mut relay) = (stack.topics(), stack.handler(), stack.relay());
    listening(stack.topics).await;
    stack.subscribed().await;

    let client = topic_client(&format!("http://127.0.0.1:{}", stack.topics));
    for number in 0..messages {
        let text = json!({ "courseId": number / 500, "comment": number.to_string() }).to_string();
        let _ = client.publish(CACHE, TOPIC, text).await; // it is down for a while
        match number * 4 / messages {
            1 if number * 4 % messages < 4 => {
                drop(relay); // kill -9
                relay = stack.relay();
            }
            2 if number * 4 % messages < 4 => {
                drop(handler);
                handler = stack.handler();
            }
            3 if number * 4 % messages < 4 => {
                drop(topics);
                topics = stack.topics();
                listening(stack.topics).await;
                stack.subscribed().await;
            }
            _ => {}
        }
    }
    let (received, delivered) = within(scale(Duration::from_secs(120), Duration::from_secs(3_600)), async || {
        let (received, delivered, pending, dead) = ledger(stack.folder.path())?;
        assert_eq!((received, dead), (delivered + pending, 0));
        (pending == 0).then_some((received, delivered))
    })
    .await;
    assert_eq!(received, delivered);
    assert!(received > messages / 2, "only {received} of {messages} were accepted");
    let account = account(&stack.account);
    let (mut effects, mut distinct) = (0, HashSet::new());
    for course in 0..=messages / 500 {
        for comment in comments(&account, &course.to_string()).await {
            effects += 1;
            distinct.insert(comment["comment"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!((effects, distinct.len() as u64), (received, received), "each once, and none lost");
    drop((topics, handler, relay));
}

/// What it costs beside a bare client is what `make bench` measures.
#[tokio::test]
async fn memory_does_not_grow_with_messages() {
    const AHEAD: u64 = 400; // a subscriber that is further behind than 1,000 misses some
    let messages: u64 = scale(3_000, 100_000);
    let account = local(local::Config { seed: seed(), ..local::Config::default() }).await;
    let mut receiver = receiver(200).await;
    let url = receiver.url.clone();
    let folder = tempfile::tempdir().unwrap();
    let (topics, probes) = (free_port(), free_port());
    let stack = Stack { account: account.url.clone(), topics, probes, lambda: lambda().await, url, folder };
    let (_topics, relay) = (stack.topics(), stack.relay());
    listening(stack.topics).await;
    stack.subscribed().await;
    let client = topic_client(&format!("http://127.0.0.1:{}", stack.topics));

    let (mut arrived, mut early) = (0, 0);
    for number in 0..messages {
        client.publish(CACHE, TOPIC, number.to_string()).await.unwrap();
        while number - arrived.min(number) > AHEAD {
            receiver.next().await;
            arrived += 1;
        }
        if number == messages / 5 {
            early = relay.resident_kib();
        }
    }
    while arrived < messages {
        receiver.next().await;
        arrived += 1;
    }
    let late = relay.resident_kib();
    assert!(late < early + 4 * 1024, "memory grows: {early} to {late} KiB");
    assert_eq!(ledger(stack.folder.path()).map(|(received, ..)| received), Some(messages));
}
