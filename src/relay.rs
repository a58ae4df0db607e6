//! The relay: from topics to signed webhooks, losing nothing that it has received.
//!
//! `config` says what to do. `account` keeps the connections to Momento. A message is taken from its topic by `subscribe`,
//! which follows the topic with a `cursor`; gets its time of receipt, from `receipts` where the journal is not enough; and
//! is accepted into the `journal`. From there each route's `destination` reads it into its `window`, has its
//! `sender` attempt it, learns its `fate`, leaves the destination alone when its `breaker` says so, and settles it in the
//! journal: delivered, to be tried again, or a dead letter (`letters`, `letterbox`). `lease` and `marks` are for two relays, and for one
//! without a disk. `health`, `metrics` and `http` tell how it goes.

mod account;
mod args;
mod aws_auth;
mod backoff;
mod breaker;
mod check;
mod config;
mod cursor;
mod destination;
mod fate;
mod health;
mod http;
mod journal;
mod lease;
mod letterbox;
mod letters;
mod marks;
mod metrics;
mod position;
mod receipts;
mod sender;
mod standard;
mod subscribe;
mod terminal;
mod window;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};

use account::Accounts;
use cursor::Cursor;
use destination::Destination;
use health::Health;
use journal::Journal;
use lease::Lease;
use letterbox::Letterbox;
use marks::{Mark, Marks};
use metrics::{RouteMetrics, TopicMetrics};
use receipts::Receipts;
use sender::Sender;
use subscribe::Subscriber;

use crate::secrets::SecretsManager;

pub use args::Cli;
pub use config::{Config, RelayConfigError};
pub use journal::JournalError;

/// How long the last writes and the hand-over may take at the end.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Why the relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not acceptable.
    #[error(transparent)]
    Config(#[from] RelayConfigError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
    /// Requests to a route cannot be signed for AWS.
    #[error("requests cannot be signed for AWS: {0}")]
    AwsAuth(String),
    /// The port for probes and metrics cannot be had.
    #[error("cannot listen on {0}: choose another address with --listen")]
    Listen(String, #[source] std::io::Error),
}

/// Runs until `shutdown` completes, then finishes what is under way, but not for longer than the drain deadline.
///
/// ```no_run
/// use momento_webhook::relay::{Config, listen, run};
/// use momento_webhook::{aws, config};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut settings = Config::read(Some("relay.toml".as_ref()), &config::env)?;
/// settings.check()?;
/// let listener = listen(&settings).await?;
/// run(listener, settings, &aws::anywhere(None).await, std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error`] for what no waiting would mend. That Momento, a secret or a destination is not there keeps nothing from
/// starting: the relay is not ready then, says so, and tries again.
pub async fn run(
    listener: Option<TcpListener>,
    config: Config,
    aws: &SdkConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let health = Health::default();
    let (journal, writing) = Journal::open(config.position.folder(), config.position.max_bytes(), &health)?;
    let relay = Relay::new(config, aws, journal, health).await?;
    relay.run(listener, writing, shutdown).await;
    Ok(())
}

/// Opens the port for probes and metrics, if there is to be one.
///
/// # Errors
/// [`Error::Listen`], if it cannot be had.
pub async fn listen(config: &Config) -> Result<Option<TcpListener>, Error> {
    let address = &config.http.listen;
    if address.is_empty() {
        return Ok(None);
    }
    let listener = TcpListener::bind(address).await.map_err(|error| Error::Listen(address.clone(), error))?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "probes and metrics: /livez, /readyz, /metrics");
    }
    Ok(Some(listener))
}

/// Everything that runs.
struct Relay {
    config: Config,
    journal: Journal,
    health: Health,
    accounts: Accounts,
    senders: Vec<(i64, Arc<Sender>)>,
    status: Arc<http::Status>,
    active: watch::Sender<bool>,
    /// Names this process, and no other.
    owner: String,
}

impl Relay {
    async fn new(config: Config, aws: &SdkConfig, journal: Journal, health: Health) -> Result<Self, Error> {
        let manager = SecretsManager::new(aws);
        let topics = config.topics();
        let mut senders = Vec::new();
        for route in &config.routes {
            let sender = Sender::new(&config, route, aws, &manager)?;
            senders.push((journal.route(sender.name.clone()).await?, Arc::new(sender)));
        }
        for (number, name, ledger) in journal.ledgers().await? {
            if ledger.pending > 0 && senders.iter().all(|(known, _)| *known != number) {
                tracing::error!(
                    cache = name.cache,
                    topic = name.topic,
                    route = name.name,
                    pending = ledger.pending,
                    "messages wait for a route that is not configured"
                );
            }
        }
        for (cache, topic, _) in &topics {
            health.set(&subscribe::part(cache, topic), "not subscribed yet"); // before anybody can ask
        }
        let (active, is_active) = watch::channel(!config.is_paired());
        let status = Arc::new(http::Status {
            health: health.clone(),
            journal: journal.clone(),
            active: is_active,
            topics: topics.iter().map(|(cache, topic, _)| Arc::new(TopicMetrics::new(cache, topic))).collect(),
            routes: senders.iter().map(|(_, sender)| (sender.name.clone(), Arc::<RouteMetrics>::default())).collect(),
        });
        let accounts = Accounts::start(config.account.clone(), manager, topics.len(), health.clone());
        let owner = format!("{:032x}", fastrand::u128(..));
        Ok(Self { config, journal, health, accounts, senders, status, active, owner })
    }

    async fn run(self, listener: Option<TcpListener>, writing: JoinHandle<()>, shutdown: impl Future<Output = ()>) {
        let Self { config, health, status, .. } = &self;
        let (stop, stopping) = watch::channel(false);
        let mut background = JoinSet::new();
        background.spawn(health.clone().repeat());
        background.spawn(terminal::show(status.clone()));
        if let Some(listener) = listener {
            background.spawn(http::serve(listener, status.clone()));
        }
        let marks = Arc::new(Mutex::new(self.marks()));
        let mut subscribing = JoinSet::new();
        for (at, (cache, topic, routes)) in config.topics().into_iter().enumerate() {
            let subscriber = self.subscriber(at, &cache, &topic, &routes).await;
            subscribing.spawn(position::begin(subscriber, marks.clone(), config.position.folder().is_none()));
        }
        let mut delivering = JoinSet::new();
        for at in 0..self.senders.len() {
            delivering.spawn(self.destination(at, &stopping).run());
        }
        let standing_by = self.stand_by(&marks);
        tokio::select! {
            () = shutdown => {}
            () = standing_by => {}
        }
        tracing::info!("stopping: what is under way is finished");
        subscribing.shutdown().await; // nothing more is received
        stop.send_replace(true);
        let drained = async { while delivering.join_next().await.is_some() {} };
        if tokio::time::timeout(config.shutdown.drain, drained).await.is_err() {
            tracing::warn!("attempts were still under way at the drain deadline; they are made again");
        }
        drop(delivering);
        let _ = tokio::time::timeout(LAST_WRITES, self.hand_over(&marks)).await;
        background.shutdown().await;
        drop(marks);
        drop(self); // the last journals, and so the queues end
        if tokio::time::timeout(LAST_WRITES, writing).await.is_err() {
            tracing::error!("the journal could not be finished in time");
        }
        tracing::info!("stopped");
    }

    /// Tells the relay that comes next how far we are, and lets it begin.
    async fn hand_over(&self, marks: &Mutex<Marks>) {
        let is_active = *self.active.borrow();
        if self.config.is_paired() && is_active {
            self.journal.flush().await;
            if let Err(error) = marks.lock().await.tell().await {
                tracing::warn!(error = &*error as &dyn std::error::Error, "marks in Momento not moved at the end");
            }
            self.lease().release().await;
        }
    }

    fn marks(&self) -> Marks {
        let cache = self.config.position.cache.as_deref();
        let marks = self.senders.iter().map(|(number, sender)| Mark::new(*number, &sender.name, cache)).collect();
        Marks { marks, journal: self.journal.clone(), accounts: self.accounts.clone() }
    }

    async fn subscriber(&self, number: usize, cache: &str, topic: &str, routes: &[usize]) -> Subscriber {
        let position = self.journal.position(cache, topic).await.unwrap_or_default();
        let receipts = self.config.is_paired().then(|| Receipts {
            accounts: self.accounts.clone(),
            cache: self.config.position.cache.clone(),
            health: self.health.clone(),
        });
        Subscriber {
            number,
            cache: cache.into(),
            topic: topic.into(),
            routes: routes.iter().map(|at| self.senders[*at].0).collect(),
            cursor: Cursor::at(position),
            accounts: self.accounts.clone(),
            journal: self.journal.clone(),
            receipts,
            metrics: self.status.topics[number].clone(),
            health: self.health.clone(),
            stall: self.config.subscribe.stall,
        }
    }

    fn destination(&self, at: usize, stopping: &watch::Receiver<bool>) -> Destination {
        let (number, sender) = &self.senders[at];
        Destination {
            number: *number,
            sender: sender.clone(),
            journal: self.journal.clone(),
            metrics: self.status.routes[at].1.clone(),
            health: self.health.clone(),
            letterbox: self.config.position.folder().is_none().then(|| Letterbox {
                accounts: self.accounts.clone(),
                cache: self.config.position.cache.clone(),
                health: self.health.clone(),
            }),
            active: self.active.subscribe(),
            stopping: stopping.clone(),
            state: destination::State::default(),
        }
    }

    /// Holds or awaits the lease, and exchanges marks. For ever, and for nothing where there is no other relay.
    async fn stand_by(&self, marks: &Mutex<Marks>) {
        if !self.config.is_paired() {
            return std::future::pending().await;
        }
        let mut lease = self.lease();
        let mut exchange = Marks { marks: self.marks().marks, ..self.marks() };
        tokio::join!(lease.run(&self.active, marks), exchange.run(self.active.subscribe()));
    }

    fn lease(&self) -> Lease {
        let names = self.senders.iter().map(|(_, sender)| &sender.name);
        Lease::new(self.accounts.clone(), &self.config, names, self.owner.clone(), self.health.clone())
    }
}
