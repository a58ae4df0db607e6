//! Momento: the concrete client. The base URL is the only seam; tests point it at a real server.
//!
//! The SDK reads keys, mints tokens and subscribes. The calls of the warm path go over one channel of our own, straight to
//! the service's published protocol: the SDK would open a second connection for control calls that nobody makes here and
//! up to eight for topics, and its deadline does not cover connecting.

mod call;
mod channel;
mod credentials;
mod token;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use momento::config::grpc_configuration::GrpcConfiguration;
use momento::config::transport_strategy::TransportStrategy;
use momento::topics::Subscription;
use momento::{MomentoError, TopicClient};
use momento_protos::cache_client::pubsub::{PublishRequest, TopicValue, topic_value};
use momento_protos::cache_client::{
    ECacheResult, GetRequest, ListFetchRequest, ListPushFrontRequest, SetIfRequest, list_fetch_request,
    list_fetch_response, set_if_request, set_if_response,
};
use momento_protos::common::{Absent, Equal};

pub use call::Error;
use call::{Calls, sdk};
pub use credentials::{Credentials, CredentialsError};
pub use token::{MAX_TTL, Role, Token, TokenScope};

/// How long a list lives and how long it may grow.
#[derive(Clone, Copy, Debug)]
pub struct ListBounds {
    /// Time to live of the list, renewed by every push.
    pub ttl: Duration,
    /// How many of the newest entries stay.
    pub newest: u32,
}

/// The caches and topics of one account. Cheap to clone.
#[derive(Clone)]
pub struct Momento(Arc<Clients>);

struct Clients {
    credentials: Credentials,
    deadline: Duration,
    calls: Calls,
    topics: OnceLock<TopicClient>, // only for whoever subscribes
}

impl Momento {
    /// A client each of whose calls gets `deadline`. Does not connect, so that Momento being down cannot fail a start.
    ///
    /// # Errors
    /// [`CredentialsError`] where the key's endpoint cannot be used as a URL.
    pub fn new(credentials: Credentials, deadline: Duration) -> Result<Self, CredentialsError> {
        let calls = Calls::new(&credentials, deadline)?;
        Ok(Self(Arc::new(Clients { credentials, deadline, calls, topics: OnceLock::new() })))
    }

    /// A client that has connected, where that succeeded within `deadline`, so that the first call need not.
    ///
    /// # Errors
    /// [`CredentialsError`] where the key's endpoint cannot be used as a URL.
    pub async fn connected(credentials: Credentials, deadline: Duration) -> Result<Self, CredentialsError> {
        let calls = Calls::connected(&credentials, deadline).await?;
        Ok(Self(Arc::new(Clients { credentials, deadline, calls, topics: OnceLock::new() })))
    }

    /// Reads an item; `None` is a miss.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(&self, cache: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let request = GetRequest { cache_key: key.into() };
        let calls = &self.0.calls;
        let answer =
            calls.repeatable("get", || async { calls.cache().get(calls.request(cache, request.clone())?).await });
        let answer = answer.await?;
        match answer.result() {
            ECacheResult::Hit => Ok(Some(answer.cache_body)),
            ECacheResult::Miss => Ok(None),
            _ => Err(Error::unexpected("get")),
        }
    }

    /// Stores an item where there is none; `false` where there is one. Sent again where the connection broke, so that it may
    /// find its own item: let the value tell whose it is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_if_absent(&self, cache: &str, key: &str, value: &str, ttl: Duration) -> Result<bool, Error> {
        let condition = set_if_request::Condition::Absent(Absent {});
        let (request, calls) = (set_if(key, value, ttl, condition), &self.0.calls);
        let send = || async { calls.cache().set_if(calls.request(cache, request.clone())?).await };
        stored("set_if_absent", calls.repeatable("set_if_absent", send).await?.result)
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
        let condition = set_if_request::Condition::Equal(Equal { value_to_check: equal.into() });
        let (request, calls) = (set_if(key, value, ttl, condition), &self.0.calls);
        let send = async { calls.cache().set_if(calls.request(cache, request)?).await };
        stored("set_if_equal", calls.once("set_if_equal", send).await?.result)
    }

    /// At most `count` entries of a list, from the one at `start` on; none where there are no such.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_range(&self, cache: &str, list: &str, start: u32, count: u32) -> Result<Vec<Vec<u8>>, Error> {
        let index = |at: u32| i32::try_from(at).unwrap_or(i32::MAX);
        let request = ListFetchRequest {
            list_name: list.into(),
            start_index: Some(list_fetch_request::StartIndex::InclusiveStart(index(start))),
            end_index: Some(list_fetch_request::EndIndex::ExclusiveEnd(index(start.saturating_add(count)))),
        };
        let calls = &self.0.calls;
        let send = || async { calls.cache().list_fetch(calls.request(cache, request.clone())?).await };
        match calls.repeatable("list_fetch", send).await?.list {
            Some(list_fetch_response::List::Found(found)) => Ok(found.values),
            _ => Ok(Vec::new()),
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
        let request = ListPushFrontRequest {
            list_name: list.into(),
            value: value.into(),
            ttl_milliseconds: milliseconds(bounds.ttl),
            refresh_ttl: true,
            truncate_back_to_size: bounds.newest,
        };
        let calls = &self.0.calls;
        let send = async { calls.cache().list_push_front(calls.request(cache, request)?).await };
        calls.once("list_push_front", send).await.map(drop)
    }

    /// Publishes a message on a topic.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn publish(&self, cache: &str, topic: &str, text: String) -> Result<(), Error> {
        let value = Some(TopicValue { kind: Some(topic_value::Kind::Text(text)) });
        let request = PublishRequest { cache_name: cache.into(), topic: topic.into(), value };
        let calls = &self.0.calls;
        calls.once("publish", async { calls.topics().publish(calls.request(cache, request)?).await }).await.map(drop)
    }

    /// Subscribes to a topic, from its latest message on. The SDK's subscription reconnects by itself, without a pause and
    /// without telling: for people at a terminal, not for a service.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn subscribe(&self, cache: &str, topic: &str) -> Result<Subscription, Error> {
        sdk("subscribe", self.0.deadline, async { self.subscriptions()?.subscribe(cache, topic).await }).await
    }

    fn subscriptions(&self) -> Result<&TopicClient, MomentoError> {
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

fn set_if(key: &str, value: &str, ttl: Duration, condition: set_if_request::Condition) -> SetIfRequest {
    SetIfRequest {
        cache_key: key.into(),
        cache_body: value.into(),
        ttl_milliseconds: milliseconds(ttl),
        condition: Some(condition),
    }
}

fn stored(call: &'static str, result: Option<set_if_response::Result>) -> Result<bool, Error> {
    match result {
        Some(set_if_response::Result::Stored(_)) => Ok(true),
        Some(set_if_response::Result::NotStored(_)) => Ok(false),
        None => Err(Error::unexpected(call)),
    }
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
