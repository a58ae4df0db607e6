//! The Momento account: its key, fetched and fetched again, and the connections that use it.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, watch};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::backoff::Backoff;
use super::config::Account as Config;
use super::health::Health;
use crate::momento::{Credentials, Momento};
use crate::secrets::SecretsManager;

/// What a call to Momento may take.
pub(crate) const CALL: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(5);
/// How often a connection is checked, and how long it may take to answer: what a NAT forgot is noticed within these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many subscriptions share a connection. Servers allow about 100 streams; some are left for streams that have ended
/// on one side only.
const STREAMS: usize = 80;
/// Between two attempts at a key that cannot be had.
const RETRY: Backoff =
    Backoff { least: Duration::from_secs(1), base: Duration::from_secs(2), most: Duration::from_secs(30) };
/// How soon a key that Momento has refused is fetched again.
const DOUBT: Duration = Duration::from_secs(10);

/// A key, with what uses it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) momento: Momento,
    token: SecretString,
    channels: Arc<[Channel]>,
}

impl Account {
    pub(crate) fn new(credentials: Credentials, topics: usize) -> anyhow::Result<Self> {
        let channel = || -> anyhow::Result<Channel> {
            let url = credentials.cache_url();
            let mut endpoint = Endpoint::from_shared(url.to_owned())?
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            if url.starts_with("https://") {
                let tls = ClientTlsConfig::new();
                endpoint = endpoint.tls_config(match credentials.certificates() {
                    Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                    None => tls.with_webpki_roots(),
                })?;
            }
            Ok(endpoint.connect_lazy())
        };
        let channels = (0..topics.div_ceil(STREAMS).max(1)).map(|_| channel()).collect::<anyhow::Result<_>>()?;
        let (token, momento) = (credentials.auth_token().into(), Momento::new(credentials, CALL)?);
        Ok(Self { momento, token, channels })
    }

    /// The connection for the subscription with this number.
    pub(crate) fn channel(&self, subscription: usize) -> Channel {
        self.channels[subscription / STREAMS % self.channels.len()].clone()
    }

    /// A request as Momento wants it.
    pub(crate) fn request<T>(&self, cache: &str, message: T) -> Result<Request<T>, Status> {
        let ascii = |value: &str| {
            MetadataValue::try_from(value).map_err(|_| Status::invalid_argument("a header that cannot be sent"))
        };
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        let mut token = ascii(self.token.expose_secret())?;
        token.set_sensitive(true);
        headers.insert("authorization", token);
        headers.insert("cache", ascii(cache)?);
        headers.insert("agent", MetadataValue::from_static(concat!("rust:topic:", env!("CARGO_PKG_VERSION"))));
        headers.insert("runtime-version", MetadataValue::from_static("rust"));
        Ok(request)
    }
}

/// Where the account is, once there is one.
#[derive(Clone)]
pub(crate) struct Accounts {
    current: watch::Receiver<Option<Account>>,
    doubts: Arc<Notify>,
}

impl Accounts {
    /// Starts to fetch the key, and goes on with it. A key that cannot be had keeps nobody from starting: it is tried again.
    pub(crate) fn start(config: Config, manager: SecretsManager, topics: usize, health: Health) -> Self {
        let (sender, current) = watch::channel(None);
        let doubts = Arc::new(Notify::new());
        tokio::spawn(follow(config, manager, topics, health, sender, Arc::clone(&doubts)));
        Self { current, doubts }
    }

    /// The account, as soon as there is one.
    pub(crate) async fn get(&mut self) -> Account {
        loop {
            if let Some(account) = self.current.borrow_and_update().clone() {
                return account;
            }
            if self.current.changed().await.is_err() {
                std::future::pending::<()>().await; // the runtime is ending
            }
        }
    }

    /// Resolves when there is another one.
    pub(crate) async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Momento refused the key: it is fetched again soon.
    pub(crate) fn doubt(&self) {
        self.doubts.notify_one();
    }
}

/// The key, as it is now.
pub(crate) async fn key(config: &Config, manager: &SecretsManager) -> anyhow::Result<SecretString> {
    match (&config.api_key, &config.api_key_secret) {
        (Some(key), _) => Ok(key.clone()),
        (None, Some(name)) => Ok(manager.current(name).await?),
        (None, None) => anyhow::bail!("MOMENTO_API_KEY_SECRET_NAME is not set"),
    }
}

async fn follow(
    config: Config,
    manager: SecretsManager,
    topics: usize,
    health: Health,
    accounts: watch::Sender<Option<Account>>,
    doubts: Arc<Notify>,
) {
    let (mut held, mut failures) = (None::<SecretString>, 0);
    while !accounts.is_closed() {
        let wait = match renew(&config, &manager, topics, &mut held, &accounts).await {
            Ok(()) => {
                failures = 0;
                health.clear("account");
                config.secrets.ttl
            }
            Err(error) => {
                failures += 1;
                health.set("account", format!("the Momento API key cannot be used: {error:#}"));
                RETRY.wait(failures)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = doubted(&doubts) => {}
        }
    }
}

async fn doubted(doubts: &Notify) {
    doubts.notified().await;
    tokio::time::sleep(DOUBT).await; // and whatever else doubts it meanwhile
}

async fn renew(
    config: &Config,
    manager: &SecretsManager,
    topics: usize,
    held: &mut Option<SecretString>,
    accounts: &watch::Sender<Option<Account>>,
) -> anyhow::Result<()> {
    let key = key(config, manager).await?;
    if held.as_ref().is_none_or(|held| held.expose_secret() != key.expose_secret()) {
        let account = Account::new(Credentials::parse(&key, &config.momento)?, topics)?;
        accounts.send_replace(Some(account));
        *held = Some(key);
    }
    Ok(())
}
