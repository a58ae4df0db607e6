//! Momento: the concrete client. The base URL is the only seam; tests point it at a real server.
//!
//! The SDK reads keys, mints tokens and subscribes. The calls of the warm path go over one channel of our own, straight to
//! the service's published protocol: the SDK would open a second connection for control calls that nobody makes here and
//! up to eight for topics, and its deadline does not cover connecting.

mod call;
mod channel;
mod credentials;
mod token;
mod unary;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use momento::config::grpc_configuration::GrpcConfiguration;
use momento::config::transport_strategy::TransportStrategy;
use momento::topics::Subscription;
use momento::{MomentoError, TopicClient};
use momento_protos::cache_client::pubsub::{PublishRequest, TopicValue, topic_value};
use momento_protos::cache_client::{
    ECacheResult, GetRequest, GetResponse, ListFetchRequest, ListFetchResponse, ListPushFrontRequest,
    ListPushFrontResponse, SetIfRequest, SetIfResponse, list_fetch_request, list_fetch_response, set_if_request,
    set_if_response,
};
use momento_protos::common::{Absent, Empty, Equal};

pub use call::Error;
use call::{Calls, sdk};
pub use credentials::{Credentials, CredentialsError};
pub use token::{MAX_TTL, Role, Token, TokenScope};
use unary::Method;

const GET: Method<GetRequest, GetResponse> = Method::new("get", "/cache_client.Scs/Get");
const SET_IF: Method<SetIfRequest, SetIfResponse> = Method::new("set_if", "/cache_client.Scs/SetIf");
const LIST_FETCH: Method<ListFetchRequest, ListFetchResponse> =
    Method::new("list_fetch", "/cache_client.Scs/ListFetch");
const LIST_PUSH_FRONT: Method<ListPushFrontRequest, ListPushFrontResponse> =
    Method::new("list_push_front", "/cache_client.Scs/ListPushFront");
const PUBLISH: Method<PublishRequest, Empty> = Method::new("publish", "/cache_client.pubsub.Pubsub/Publish");

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
        let answer = self.0.calls.repeatable(&GET, cache, &GetRequest { cache_key: key.into() }).await?;
        match answer.result() {
            ECacheResult::Hit => Ok(Some(answer.cache_body)),
            ECacheResult::Miss => Ok(None),
            _ => Err(Error::unexpected(GET.name)),
        }
    }

    /// Stores an item where there is none; `false` where there is one. Sent again where the connection broke, so that it may
    /// find its own item: let the value tell whose it is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_if_absent(&self, cache: &str, key: &str, value: &str, ttl: Duration) -> Result<bool, Error> {
        let condition = set_if_request::Condition::Absent(Absent {});
        stored(self.0.calls.repeatable(&SET_IF, cache, &set_if(key, value, ttl, condition)).await?)
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
        stored(self.0.calls.once(&SET_IF, cache, &set_if(key, value, ttl, condition)).await?)
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
        match self.0.calls.repeatable(&LIST_FETCH, cache, &request).await?.list {
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
        self.0.calls.once(&LIST_PUSH_FRONT, cache, &request).await.map(drop)
    }

    /// Publishes a message on a topic.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn publish(&self, cache: &str, topic: &str, text: String) -> Result<(), Error> {
        let value = Some(TopicValue { kind: Some(topic_value::Kind::Text(text)) });
        let request = PublishRequest { cache_name: cache.into(), topic: topic.into(), value };
        self.0.calls.once(&PUBLISH, cache, &request).await.map(drop)
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

fn stored(answer: SetIfResponse) -> Result<bool, Error> {
    match answer.result {
        Some(set_if_response::Result::Stored(_)) => Ok(true),
        Some(set_if_response::Result::NotStored(_)) => Ok(false),
        None => Err(Error::unexpected(SET_IF.name)),
    }
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
