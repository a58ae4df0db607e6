//! The relay, in this process: on a `local` of its own, or on a scripted topic; with a receiver that answers as told.

mod receiver; // a destination that answers as told
mod topic; // a topic that does as told

mod command; // `relay check`, and what a person at a terminal is told
mod delivering; // what is sent, and when it is sent again
mod letters; // dead letters, with the command line
mod pair; // two relays, and one without a disk
mod processes; // all of it as processes, killed one after another
mod signing; // what other implementations say of its signatures
mod subscribing; // what a topic may do to a subscriber

use std::path::Path;
use std::time::Duration;

use aws_config::SdkConfig;
use momento::TopicClient;
use momento_webhook::local;
use momento_webhook::relay::{Config, Error, listen, run};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fixture::{self, CACHE, account_credentials, api_key, aws, seed};
use crate::stack::{Local, eventually, local};

pub(super) const TOPIC: &str = "comment";

/// A running relay. It ends with the test's runtime, or when told to.
pub(super) struct Relay {
    url: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), Error>>,
}

/// What a relay is started with.
pub(super) struct Setup {
    pub(super) momento: String,
    pub(super) aws: SdkConfig,
    pub(super) toml: String,
    pub(super) variables: Vec<(&'static str, String)>,
}

impl Setup {
    /// One route on `local` to this URL, with a journal in `folder`.
    pub(super) async fn new(local: &Local, url: &str, folder: &Path) -> Self {
        let toml = format!(
            "[position]\npath = {folder:?}\n[network]\nallow_loopback = true\n[http]\nlisten = \"127.0.0.1:0\"\n{}",
            route(url, "")
        );
        Self::with(&local.url, &local.url, toml).await
    }

    pub(super) async fn with(momento: &str, secrets: &str, toml: String) -> Self {
        Self { momento: momento.into(), aws: aws(secrets).await, toml, variables: Vec::new() }
    }

    pub(super) fn config(&self) -> Config {
        let lookup = |name: &str| {
            let own = self.variables.iter().find(|(variable, _)| *variable == name);
            match name {
                _ if own.is_some() => own.map(|(_, value)| value.clone()),
                "RELAY_CONFIG" => Some(self.toml.clone()),
                "MOMENTO_API_KEY" => Some(api_key()),
                name => fixture::variables(&self.momento, &[])(name),
            }
        };
        let mut config = Config::read(None, &lookup).unwrap();
        config.check().unwrap();
        config
    }

    /// Starts again on a journal, as soon as whoever used it has let go.
    pub(super) async fn start_again(&self, folder: &Path) -> Relay {
        eventually(async || std::fs::File::open(folder.join("lock")).unwrap().try_lock().ok()).await;
        self.start().await
    }

    pub(super) async fn start(&self) -> Relay {
        if std::env::var_os("RELAY_TEST_LOG").is_some() {
            momento_webhook::logs::init(&momento_webhook::config::env, module_path!()); // RELAY_TEST_LOG=1 shows what it says
        }
        let (config, aws) = (self.config(), self.aws.clone());
        let listener = listen(&config).await.unwrap().unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let running =
            tokio::spawn(async move { run(Some(listener), config, &aws, async { drop(stopped.await) }).await });
        Relay { url, stop, running }
    }
}

/// A `[[route]]` with `more` in it.
pub(super) fn route(url: &str, more: &str) -> String {
    format!("[[route]]\ncache = {CACHE:?}\ntopic = {TOPIC:?}\nurl = {url:?}\n{more}\n")
}

impl Relay {
    pub(super) async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(30), self.running).await.expect("it does not stop").unwrap().unwrap();
    }

    /// As if it had been killed, as far as that goes within one process.
    pub(super) async fn abort(self) {
        self.running.abort();
        let _ = self.running.await;
    }

    pub(super) async fn ready(&self) -> (u16, Value) {
        let answer = reqwest::get(format!("{}/readyz", self.url)).await.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    async fn text(&self) -> String {
        reqwest::get(format!("{}/metrics", self.url)).await.unwrap().text().await.unwrap()
    }

    pub(super) async fn until_ready(&self) {
        eventually(async || (self.ready().await.0 == 200).then_some(())).await;
    }

    /// A metric, summed over its labels.
    pub(super) async fn metric(&self, name: &str) -> u64 {
        self.labelled(&format!("{name}{{")).await
    }

    /// The sum of the lines that begin like this.
    pub(super) async fn labelled(&self, start: &str) -> u64 {
        let text = self.text().await;
        let lines = text.lines().filter(|line| line.starts_with(start));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    /// Waits for a metric to have this value, and for the ledger to balance with it.
    pub(super) async fn until(&self, name: &str, value: u64) {
        eventually(async || (self.metric(name).await == value).then_some(())).await;
        let routes = self.text().await.matches("relay_balanced{").count() as u64;
        assert_eq!(self.labelled("relay_balanced{").await, routes, "the ledger does not balance");
    }
}

/// A `local` whose secrets are those of the tests.
pub(super) async fn topics() -> (Local, TopicClient) {
    let local = local(local::Config { seed: seed(), ..local::Config::default() }).await;
    let client = topic_client(&local.url);
    (local, client)
}

pub(super) fn topic_client(url: &str) -> TopicClient {
    TopicClient::builder()
        .configuration(momento::topics::configurations::Laptop::latest())
        .credential_provider(account_credentials(url))
        .build()
        .unwrap()
}
