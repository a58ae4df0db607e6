//! Momento: the concrete clients. The base URL is the only seam; tests point it at a real server.
//!
//! Everything here is bounded by a deadline of its own, since the SDK's deadline does not cover connecting.

mod credentials;
mod token;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use momento::cache::{
    CollectionTtl, Configuration, GetResponse, ListFetchRequest, ListFetchResponse, ListPushFrontRequest,
    SetIfAbsentRequest, SetIfAbsentResponse, SetIfEqualRequest, SetIfEqualResponse,
};
use momento::config::grpc_configuration::GrpcConfiguration;
use momento::config::transport_strategy::TransportStrategy;
use momento::topics::Subscription;
use momento::{CacheClient, MomentoError, MomentoErrorCode, TopicClient};

pub use credentials::{Credentials, CredentialsError};
pub use token::{MAX_TTL, Role, Token, TokenScope};

/// A call to Momento did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service, or the way to it, answered with an error.
    #[error("Momento {call} failed: {:?}", source.error_code)]
    Failed {
        /// Which call.
        call: &'static str,
        /// What the SDK says of it.
        source: Box<MomentoError>,
    },
    /// No answer within the deadline: whether the call had its effect is not known.
    #[error("Momento {call} did not answer within {} ms", deadline.as_millis())]
    TimedOut {
        /// Which call.
        call: &'static str,
        /// How long we waited.
        deadline: Duration,
    },
}

impl Error {
    /// May the call still have its effect, now or later? It may where no answer came in time; where there was an answer,
    /// or the connection broke, what will happen has happened.
    pub fn may_still_happen(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Failed { source, .. } => source.error_code == MomentoErrorCode::TimeoutError,
        }
    }

    /// Is the key refused, rather than the call?
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Failed { source, .. } if source.error_code == MomentoErrorCode::AuthenticationError)
    }
}

/// How long a list lives and how long it may grow.
#[derive(Clone, Copy, Debug)]
pub struct ListBounds {
    /// Time to live of the list, renewed by every push.
    pub ttl: Duration,
    /// How many of the newest entries stay.
    pub newest: u32,
}

/// The caches and topics of one account. Cheap to clone; connects when first used.
#[derive(Clone)]
pub struct Momento(Arc<Clients>);

struct Clients {
    credentials: Credentials,
    deadline: Duration,
    cache: CacheClient,
    topics: OnceLock<TopicClient>, // eight channels: only for whoever uses topics
}

/// What stays where a caller gives no time to live; Momento keeps nothing longer than this.
const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

impl Momento {
    /// Builds the clients, each of whose calls gets `deadline`. Does not connect, so that Momento being down cannot fail
    /// a start.
    ///
    /// # Errors
    /// [`Error`] where the endpoint cannot be used as a URL.
    pub fn new(credentials: Credentials, deadline: Duration) -> Result<Self, Error> {
        let grpc = GrpcConfiguration::builder().deadline(deadline);
        let transport = TransportStrategy::builder().grpc_configuration(grpc);
        let cache = CacheClient::builder()
            .default_ttl(DEFAULT_TTL)
            .configuration(Configuration::builder().transport_strategy(transport))
            .credential_provider(credentials.provider())
            .build()
            .map_err(|source| Error::Failed { call: "connect", source: source.into() })?;
        Ok(Self(Arc::new(Clients { credentials, deadline, cache, topics: OnceLock::new() })))
    }

    /// Reads an item; `None` is a miss.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(&self, cache: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        match bounded("get", self.0.deadline, self.0.cache.get(cache, key)).await? {
            GetResponse::Hit { value } => Ok(Some(value.into())),
            GetResponse::Miss => Ok(None),
        }
    }

    /// Stores an item where there is none; `false` where there is one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_if_absent(&self, cache: &str, key: &str, value: &str, ttl: Duration) -> Result<bool, Error> {
        let request = SetIfAbsentRequest::new(cache, key, value).ttl(ttl);
        let answer = bounded("set_if_absent", self.0.deadline, self.0.cache.send_request(request)).await?;
        Ok(answer == SetIfAbsentResponse::Stored)
    }

    /// Stores an item in place of one that equals `equal`, to the byte; `false` where there is none or another.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_if_equal(
        &self,
        cache: &str,
        key: &str,
        value: &str,
        equal: &[u8],
        ttl: Duration,
    ) -> Result<bool, Error> {
        let request = SetIfEqualRequest::new(cache, key, value, equal).ttl(ttl);
        let answer = bounded("set_if_equal", self.0.deadline, self.0.cache.send_request(request)).await?;
        Ok(answer == SetIfEqualResponse::Stored)
    }

    /// The first `count` entries of a list; none where there is no such list.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_newest(&self, cache: &str, list: &str, count: u32) -> Result<Vec<Vec<u8>>, Error> {
        let request = ListFetchRequest::new(cache, list).end_index(count.min(i32::MAX as u32) as i32);
        match bounded("list_fetch", self.0.deadline, self.0.cache.send_request(request)).await? {
            ListFetchResponse::Hit { values } => Ok(values.into()),
            ListFetchResponse::Miss => Ok(Vec::new()),
        }
    }

    /// Pushes a value to the front of a list.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_push_front(
        &self,
        cache: &str,
        list: &str,
        value: &[u8],
        bounds: ListBounds,
    ) -> Result<(), Error> {
        let request = ListPushFrontRequest::new(cache, list, value)
            .ttl(CollectionTtl::new(Some(bounds.ttl), true))
            .truncate_back_to_size(bounds.newest);
        bounded("list_push_front", self.0.deadline, self.0.cache.send_request(request)).await?;
        Ok(())
    }

    /// Publishes a message on a topic.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn publish(&self, cache: &str, topic: &str, text: String) -> Result<(), Error> {
        bounded("publish", self.0.deadline, async { self.topics()?.publish(cache, topic, text).await }).await?;
        Ok(())
    }

    /// Subscribes to a topic, from its latest message on. The SDK's subscription reconnects by itself, without a pause and
    /// without telling: for people at a terminal, not for a service.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn subscribe(&self, cache: &str, topic: &str) -> Result<Subscription, Error> {
        bounded("subscribe", self.0.deadline, async { self.topics()?.subscribe(cache, topic).await }).await
    }

    fn topics(&self) -> Result<&TopicClient, MomentoError> {
        if let Some(topics) = self.0.topics.get() {
            return Ok(topics);
        }
        let grpc = GrpcConfiguration::builder().deadline(self.0.deadline);
        let transport = TransportStrategy::builder().grpc_configuration(grpc);
        let topics = TopicClient::builder()
            .configuration(momento::topics::Configuration::builder().transport_strategy(transport))
            .credential_provider(self.0.credentials.provider())
            .build()?;
        Ok(self.0.topics.get_or_init(|| topics))
    }
}

impl fmt::Debug for Momento {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Momento")
    }
}

async fn bounded<T>(
    call: &'static str,
    deadline: Duration,
    answer: impl Future<Output = Result<T, MomentoError>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(answer) => answer.map_err(|source| Error::Failed { call, source: source.into() }),
        Err(_) => Err(Error::TimedOut { call, deadline }),
    }
}
