//! A Momento-compatible server for development and tests: caches, topics and tokens over gRPC and gRPC-web, and Secrets
//! Manager, on one port.
//!
//! A request passes `access`, which finds out who sent it, and `faults`, if some were asked for, and then reaches `cache` (items in the `store`), `control`
//! (caches), `topics`, `tokens` or `secrets`. A published message goes to the topic's subscribers and to `webhook`, which
//! delivers as Momento's retired service did. What is there at the start comes from the `seed`.

mod access;
mod args;
mod cache;
mod control;
mod faults;
mod peer;
mod secrets;
mod seed;
mod store;
mod tokens;
mod topics;
mod webhook;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, body::Body, extract::Request, middleware, response::Response, routing};
use momento_protos::{
    cache_client::{pubsub::pubsub_server::PubsubServer, scs_server::ScsServer},
    control_client::scs_control_server::ScsControlServer,
    token::token_server::TokenServer,
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{Status, service::Routes};
use tonic_web::GrpcWebLayer;

use access::{Entrance, Gate};
use cache::{Cache, Caches};
use control::Control;
use faults::Injector;
use peer::{Door, Peer};
use secrets::Secrets;
use seed::{DEVELOPMENT_API_KEY, check_api_key};
use store::{MAX_ITEM_BYTES, Store};
use tokens::Minting;
use topics::{Timing, Topics};
use webhook::Deliveries;

pub use args::Args;
pub use faults::{Active, Code, Fault, FaultError, Faults, Rpc, Rule, TopicFault};
pub use seed::{Seed, SeedError};
pub use webhook::{Webhook, WebhookError};

/// The largest request, in bytes. tonic's own 4 MiB is less than one item may have; a batch may have several.
const MAX_REQUEST_BYTES: usize = 4 * MAX_ITEM_BYTES;
/// How long a stopping server waits for the calls that are under way.
const DRAIN: Duration = Duration::from_secs(2);

/// How to run. Holds a key, and so is never printed.
#[derive(Clone)]
pub struct Config {
    /// What is there at the start.
    pub seed: Seed,
    /// The key of the super user; goes before the seed's. Demanded when the listener is not on loopback.
    pub api_key: Option<String>,
    /// Where messages are posted to.
    pub webhooks: Vec<Webhook>,
    /// Whether webhooks may leave this machine.
    pub allow_remote_webhooks: bool,
    /// How long a receiver has to answer: Momento's 5 seconds.
    pub webhook_timeout: Duration,
    /// Between two heartbeats on a quiet subscription. The first comes at once.
    pub heartbeat: Duration,
    /// After this long without a subscriber or a message, a topic's numbers start again on a new page.
    pub topic_idle: Duration,
    /// What all items together may take, in bytes. More is refused with RESOURCE_EXHAUSTED.
    pub max_bytes: usize,
    /// What goes wrong on purpose. A clone of it switches that while the server runs.
    pub faults: Faults,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: Seed::default(),
            api_key: None,
            webhooks: Vec::new(),
            allow_remote_webhooks: false,
            webhook_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(5),
            topic_idle: Duration::from_secs(600),
            max_bytes: 256 * 1024 * 1024,
            faults: Faults::default(),
        }
    }
}

impl Config {
    /// What a developer wants to know at the start, one fact a line, for a server that listens here.
    pub fn describe(&self, address: SocketAddr) -> Vec<String> {
        let list = |names: &mut dyn Iterator<Item = &String>| names.cloned().collect::<Vec<_>>().join(", ");
        let mut facts = vec![
            format!("listening on http://{address}: Momento (gRPC, gRPC-web) and Secrets Manager"),
            format!("caches: {}", list(&mut self.seed.caches.iter())),
            format!("users: {}", list(&mut self.seed.users.keys())),
        ];
        facts.extend(self.webhooks.iter().map(|Webhook { cache, topic, url }| {
            let origin = url.origin().ascii_serialization(); // the rest may hold a key
            format!("webhook: {cache}/{topic} to {origin}")
        }));
        facts.extend(self.faults.active().iter().map(|active| format!("fault: {}", active.rule)));
        facts
    }

    fn api_key(&self) -> Option<&str> {
        self.api_key.as_deref().or(self.seed.api_key.as_deref())
    }
}

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port cannot be had; most often, something else listens there.
    #[error("cannot listen on {bind}, port {port}; choose another port with --port, or another address with --bind")]
    Listen {
        /// The address.
        bind: IpAddr,
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The seed, or the API key, is not acceptable.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// A webhook is not acceptable.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// A fault that was asked for is not acceptable.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// Beyond loopback anyone may come.
    #[error("{0} is not a loopback address, so a key of your own is needed: give one with --api-key or in the seed")]
    NoKey(SocketAddr),
    /// The client that delivers webhooks cannot be set up.
    #[error("cannot set up the client that delivers webhooks")]
    Client(#[source] reqwest::Error),
    /// The network failed.
    #[error("cannot serve")]
    Serve(#[source] std::io::Error),
}

/// Serves until `shutdown` completes, then ends the subscriptions, and waits for the other calls, but not for long.
///
/// ```no_run
/// use momento_webhook::local::{Config, run};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// run(listener, Config::default(), std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error`], if the configuration is not acceptable or the network fails.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let address = listener.local_addr().map_err(Error::Serve)?;
    let (stop, mut running) = watch::channel(());
    let app = app(config, address, running.clone())?.into_make_service_with_connect_info::<Peer>();
    let serving = axum::serve(Door(listener), app).with_graceful_shutdown(async move {
        shutdown.await;
        drop(stop);
    });
    let deadline = async {
        let _ = running.changed().await; // the sender is gone: the only change there is
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving.into_future() => served.map_err(Error::Serve),
        () = deadline => Ok(()),
    }
}

fn app(config: Config, address: SocketAddr, running: watch::Receiver<()>) -> Result<Router, Error> {
    config.seed.check()?;
    config.api_key.as_deref().map_or(Ok(()), check_api_key)?;
    config.webhooks.iter().try_for_each(|webhook| webhook.check(config.allow_remote_webhooks))?;
    let is_local = address.ip().is_loopback();
    if !is_local && config.api_key().is_none_or(|key| key == DEVELOPMENT_API_KEY) {
        return Err(Error::NoKey(address));
    }
    let api_key = config.api_key().unwrap_or(DEVELOPMENT_API_KEY).to_owned();
    let (mut store, secrets) = (Store::new(config.max_bytes), Secrets::default());
    config.seed.apply(&api_key, &mut store, &secrets, now())?;

    let gate = Arc::new(Gate::new(api_key, is_local));
    let caches = Caches::new(store);
    let deliveries =
        Deliveries::new(config.webhooks, secrets.clone(), config.webhook_timeout).map_err(Error::Client)?;
    let timing = Timing { heartbeat: config.heartbeat, idle: config.topic_idle };
    let topics = Topics::new(gate.clone(), caches.clone(), deliveries, timing, running.clone());
    config.faults.attach(caches.clone(), topics.clone());
    let injector = Injector::new(config.faults.clone(), caches.clone(), running);
    Ok(routes(&gate, caches, topics)
        .route("/", routing::get(hello).post(secrets::serve).with_state(secrets))
        .merge(faults::routes(config.faults))
        .layer(middleware::from_fn_with_state(Entrance { gate, injector }, access::admit)))
}

fn routes(gate: &Arc<Gate>, caches: Caches, topics: Topics) -> Router {
    let control = Control { gate: gate.clone(), caches: caches.clone(), topics: topics.clone() };
    let cache = ScsServer::new(Cache::new(gate.clone(), caches)).max_decoding_message_size(MAX_REQUEST_BYTES);
    Routes::new(cache)
        .add_service(PubsubServer::new(topics).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(ScsControlServer::new(control))
        .add_service(TokenServer::new(Minting(gate.clone())))
        .into_axum_router()
        .fallback(absent)
        .layer(GrpcWebLayer::new())
}

async fn hello() -> &'static str {
    "Momento-compatible server for development: gRPC, gRPC-web, and Secrets Manager, on this port.\n"
}

/// Names what is not offered, so that nobody looks for a fault elsewhere.
async fn absent(request: Request) -> Response {
    let path = request.uri().path();
    let offered = "cache_client.Scs, cache_client.pubsub.Pubsub, control_client.ScsControl and token.Token";
    Status::unimplemented(format!("the local server does not offer {path}; it offers {offered}")).into_http::<Body>()
}

/// Epoch milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
