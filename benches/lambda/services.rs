//! `local`, in a process of its own, for Momento and for Secrets Manager; and what a call to it costs by itself.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use momento_protos::cache_client::pubsub::pubsub_client::PubsubClient;
use momento_protos::cache_client::pubsub::{PublishRequest, TopicValue, topic_value};
use momento_protos::cache_client::scs_client::ScsClient;
use momento_protos::cache_client::set_if_request::Condition;
use momento_protos::cache_client::{ECacheResult, GetRequest, ListPushFrontRequest, SetIfRequest};
use momento_protos::common::Absent;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use crate::event::{CACHE, SIGNING_SECRET, now};
use crate::function::there;
use crate::output;

const CLIENTS: usize = 16;

/// Killed when it goes out of scope.
pub(crate) struct Local {
    url: String,
    cache: ScsClient<Channel>,
    claimed: u64,
    process: Child,
}

/// What `local` starts with.
pub(crate) fn seed() -> Value {
    json!({
        "caches": [CACHE],
        "users": { "taylor": { "name": "Taylor", "email": "taylor@example.com" } },
        "secrets": { "momento-signing-secret": SIGNING_SECRET },
    })
}

impl Local {
    pub(crate) async fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port(); // free just now
        let seed_file = output("seed.json")?;
        std::fs::write(&seed_file, seed().to_string())?;
        let log = File::create(output("local.log")?)?;
        let mut command = Command::new(there("target/release/local")?);
        command.arg("--port").arg(port.to_string()).arg("--seed").arg(seed_file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().context("cannot start `local`")?;
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                let url = format!("http://127.0.0.1:{port}");
                let cache = ScsClient::new(connect(&url).await?);
                return Ok(Self { url, cache, claimed: 0, process });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("`local` does not listen; its output is in target/bench/local.log")
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The time of each of some reads of the user, over one connection.
    pub(crate) async fn reads(&self, count: usize) -> Result<Vec<Duration>> {
        let mut cache = self.cache.clone();
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let begin = Instant::now();
            get(&mut cache).await?;
            times.push(begin.elapsed());
        }
        Ok(times)
    }

    /// The time of each of some times what an event asks for: a claim and the user side by side, then an entry pushed. By
    /// the client that everyone uses, which does nothing else.
    pub(crate) async fn exchanges(&mut self, count: usize) -> Result<Vec<Duration>> {
        let (mut claims, mut users, mut lists) = (self.cache.clone(), self.cache.clone(), self.cache.clone());
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            self.claimed += 1;
            let claim = in_cache(SetIfRequest {
                cache_key: format!("claim/{:064}", self.claimed).into(),
                cache_body: format!(r#"{{"state":"held","owner":"{:036}","until":{}}}"#, self.claimed, now()).into(),
                ttl_milliseconds: 86_400_000,
                condition: Some(Condition::Absent(Absent {})),
            });
            let entry = in_cache(ListPushFrontRequest {
                list_name: "123".into(),
                value: format!(r#"{{"id":"{:064}","comment":"comment of a benchmark","user":{{}}}}"#, self.claimed)
                    .into(),
                ttl_milliseconds: 86_400_000,
                refresh_ttl: true,
                truncate_back_to_size: 100,
            });
            let begin = Instant::now();
            let (claimed, user) = tokio::join!(claims.set_if(claim), get(&mut users));
            claimed?;
            user?;
            lists.list_push_front(entry).await?;
            times.push(begin.elapsed());
        }
        Ok(times)
    }
}

fn in_cache<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("cache", MetadataValue::from_static(CACHE));
    request
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn connect(url: &str) -> Result<Channel> {
    Endpoint::from_shared(url.to_owned())?.connect().await.context("cannot connect to `local`")
}

async fn get(cache: &mut ScsClient<Channel>) -> Result<()> {
    match cache.get(in_cache(GetRequest { cache_key: "user/taylor".into() })).await?.into_inner().result() {
        ECacheResult::Hit => Ok(()),
        _ => bail!("the user is not there"),
    }
}

async fn publish(topics: &mut PubsubClient<Channel>) -> Result<()> {
    let text = r#"{"courseId":123,"comment":"a comment of a benchmark"}"#.to_owned();
    let value = Some(TopicValue { kind: Some(topic_value::Kind::Text(text)) });
    topics.publish(PublishRequest { cache_name: CACHE.into(), topic: "bench".into(), value }).await?;
    Ok(())
}

/// How much `local` takes from a number of clients at once, each over a connection of its own.
#[derive(Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) clients: usize,
    pub(crate) gets_per_second: f64,
    pub(crate) publishes_per_second: f64,
}

pub(crate) async fn throughput(local: &Local, time: Duration) -> Result<Option<Throughput>> {
    let gets = at_once(&local.url, time, async |channel, end| {
        let (mut cache, mut count) = (ScsClient::new(channel), 0);
        while Instant::now() < end {
            get(&mut cache).await?;
            count += 1;
        }
        Ok(count)
    });
    let gets_per_second = gets.await?;
    let publishes = at_once(&local.url, time, async |channel, end| {
        let (mut topics, mut count) = (PubsubClient::new(channel), 0);
        while Instant::now() < end {
            publish(&mut topics).await?;
            count += 1;
        }
        Ok(count)
    });
    Ok(Some(Throughput { clients: CLIENTS, gets_per_second, publishes_per_second: publishes.await? }))
}

async fn at_once<C, F>(url: &str, time: Duration, client: C) -> Result<f64>
where
    C: Fn(Channel, Instant) -> F,
    F: Future<Output = Result<u64>> + Send + 'static,
{
    let mut channels = Vec::new();
    for _ in 0..CLIENTS {
        channels.push(connect(url).await?);
    }
    let begin = Instant::now();
    let mut clients: JoinSet<_> = channels.into_iter().map(|channel| client(channel, begin + time)).collect();
    let mut count = 0;
    while let Some(done) = clients.join_next().await {
        count += done??;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}
