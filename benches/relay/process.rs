//! `local` and the relay, each a process of its own, as they are released.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{output, root};

pub(crate) const CACHE: &str = "course-comments";
pub(crate) const TOPIC: &str = "comment";
/// How many ticks of the processor's clock Linux counts in a second.
const TICKS: u64 = 100;

/// What the relay runs on, and the relay.
pub(crate) struct Stack {
    pub(crate) momento: String,
    pub(crate) local: Process,
    pub(crate) relay: Process,
    probes: String,
}

impl Stack {
    /// Started, and subscribed to the topic.
    pub(crate) async fn start(receiver: &str) -> Result<Self> {
        let (momento, probes) = (free_address().await?, free_address().await?);
        let local = Process::start(local(&momento)?, "relay-local.log")?;
        let momento = format!("http://{momento}");
        let relay = Process::start(relay(&momento, receiver, &probes)?, "relay.log")?;
        let stack = Self { momento, local, relay, probes: format!("http://{probes}") };
        for _ in 0..600 {
            match reqwest::get(format!("{}/readyz", stack.probes)).await {
                Ok(answer) if answer.status().is_success() => return Ok(stack),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        bail!("the relay is not ready; what it says is in target/bench/relay.log")
    }

    /// How many messages the relay has received, and how many attempts it has made.
    pub(crate) async fn counted(&self) -> Result<(u64, u64)> {
        let metrics = reqwest::get(format!("{}/metrics", self.probes)).await?.text().await?;
        let metric = |name: &str| {
            let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).with_context(|| format!("no metric {name}"))
        };
        Ok((metric("relay_received_total")?, metric("relay_attempts_total")?))
    }
}

async fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string()) // free just now
}

fn local(address: &str) -> Result<Command> {
    let seed = output("relay-seed.json")?;
    let secrets = json!({ "momento-signing-secret": "a signing secret for benchmarks" });
    fs::write(&seed, json!({ "caches": [CACHE], "secrets": secrets }).to_string())?;
    let mut command = Command::new(there("target/release/local")?);
    let port = address.rsplit(':').next().unwrap_or_default();
    command.args(["--port", port, "--seed"]).arg(seed);
    Ok(command)
}

/// With a new journal on disk, and everything else as it is by default.
fn relay(momento: &str, receiver: &str, probes: &str) -> Result<Command> {
    let journal = output("relay-data")?;
    if journal.exists() {
        fs::remove_dir_all(&journal).with_context(|| format!("cannot remove {}", journal.display()))?;
    }
    let key = json!({ "endpoint": "localhost", "api_key": "local-development-api-key" }).to_string();
    let mut command = Command::new(there("target/release/relay")?);
    command.args(["run", "--allow-loopback", "--listen", probes, "--data"]).arg(journal);
    command.args(["--route", &format!("{CACHE}/{TOPIC}={receiver}")]);
    command.env_clear().envs([
        ("MOMENTO_API_KEY", STANDARD.encode(key).as_str()),
        ("MOMENTO_ENDPOINT_URL", momento),
        ("MOMENTO_SIGNING_SECRET_NAME", "momento-signing-secret"),
        ("AWS_ENDPOINT_URL", momento),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
    ]);
    Ok(command)
}

fn there(path: &str) -> Result<PathBuf> {
    let path = root().join(path);
    if !path.exists() {
        bail!("{} is not there: run `make bench`", path.display());
    }
    Ok(path)
}

/// Killed when it goes out of scope.
pub(crate) struct Process(Child);

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Usage {
    /// User and system time together, in seconds.
    pub(crate) cpu: f64,
    pub(crate) resident_kib: u64,
    pub(crate) peak_kib: u64,
}

impl Process {
    fn start(mut command: Command, log: &str) -> Result<Self> {
        let log = File::create(output(log)?)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().context("cannot start a subject")?))
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        let process = PathBuf::from(format!("/proc/{}", self.0.id()));
        let statistics = fs::read_to_string(process.join("stat"))?;
        let after_name = statistics.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = after_name.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let status = fs::read_to_string(process.join("status"))?;
        let kib =
            |name| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        Ok(Usage {
            cpu: ticks as f64 / TICKS as f64,
            resident_kib: kib("VmRSS:").unwrap_or_default(),
            peak_kib: kib("VmHWM:").unwrap_or_default(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
