//! The Pubsub service.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::Stream;
use momento_protos::{
    cache_client::pubsub::{
        Discontinuity, Heartbeat, PublishRequest, SubscriptionItem, SubscriptionRequest, TopicItem, TopicValue,
        pubsub_server::Pubsub, subscription_item, topic_value,
    },
    common::Empty,
};
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior},
};
use tonic::{Request, Response, Status};

use super::{Board, Error, Message, Next, Place, Published};
use crate::local::{
    access::Gate,
    cache::Caches,
    faults::{StreamEnd, TopicFault},
    now,
    store::{self, MAX_ITEM_BYTES},
    webhook::Deliveries,
};

/// The longest name of a topic, in bytes.
const MAX_TOPIC_NAME: usize = 512;

/// How the service paces itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Between two heartbeats on a quiet subscription.
    pub(crate) heartbeat: Duration,
    /// After this long without a subscriber or a message, a topic starts again on a new page.
    pub(crate) idle: Duration,
}

/// Publishes and subscribes.
#[derive(Clone)]
pub(crate) struct Topics {
    gate: Arc<Gate>,
    caches: Caches,
    board: Arc<Mutex<Board>>,
    heartbeat: Duration,
    deliveries: Arc<Deliveries>,
    /// Closed when the server stops.
    running: watch::Receiver<()>,
}

impl Topics {
    pub(crate) fn new(
        gate: Arc<Gate>,
        caches: Caches,
        deliveries: Deliveries,
        timing: Timing,
        running: watch::Receiver<()>,
    ) -> Self {
        let idle_ms = u64::try_from(timing.idle.as_millis()).unwrap_or(u64::MAX);
        let board = Arc::new(Mutex::new(Board::new(idle_ms)));
        Self { gate, caches, board, heartbeat: timing.heartbeat, deliveries: Arc::new(deliveries), running }
    }

    /// Ends the topics of a cache that is no more.
    pub(crate) fn delete_cache(&self, cache: &str) {
        self.board().delete_cache(cache);
    }

    /// Has this happen to a topic, and says how many subscriptions are open on it. `None`, if nobody has used it.
    pub(crate) fn fault(&self, cache: &str, topic: &str, fault: TopicFault) -> Option<usize> {
        self.board().fault(cache, topic, fault, now())
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, cache: &str, topic: &str) -> Result<(), Status> {
        if topic.is_empty() || topic.len() > MAX_TOPIC_NAME {
            return Err(Status::invalid_argument(format!("a topic's name has 1 to {MAX_TOPIC_NAME} bytes")));
        }
        store::check_cache_name(cache)?;
        Ok(self.caches.lock().has_cache(cache)?)
    }
}

#[tonic::async_trait]
impl Pubsub for Topics {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<Empty>, Status> {
        let caller = self.gate.caller(&request);
        let PublishRequest { cache_name: cache, topic, value } = request.into_inner();
        caller.may_publish(&cache, &topic)?;
        self.check(&cache, &topic)?;
        let message = match value.and_then(|value| value.kind) {
            Some(topic_value::Kind::Text(text)) => Message::Text(text),
            Some(topic_value::Kind::Binary(bytes)) => Message::Binary(bytes),
            None => return Err(Status::invalid_argument("`value` is missing")),
        };
        if message.len() > MAX_ITEM_BYTES {
            return Err(store::Error::ItemTooLarge.into());
        }
        let published = self.board().publish(&cache, &topic, message, caller.id(), now())?;
        self.deliveries.deliver(&cache, &topic, &published);
        Ok(Response::new(Empty {}))
    }

    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscriptionItem, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<SubscriptionRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = self.gate.caller(&request);
        let fails = request.extensions().get().copied();
        let request = request.into_inner();
        caller.may_subscribe(&request.cache_name, &request.topic)?;
        self.check(&request.cache_name, &request.topic)?;
        let from = (request.sequence_page, request.resume_at_topic_sequence_number);
        let (place, signal) = self.board().subscribe(&request.cache_name, &request.topic, from, now())?;
        // An interval's first tick comes at once: the JavaScript SDK waits for a first item before it calls itself subscribed.
        let mut heartbeat = tokio::time::interval(self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let remaining = caller.ends_at().map(|at| Duration::from_millis(at.saturating_sub(now())));
        let subscription = Subscription {
            topics: self.clone(),
            place,
            signal,
            heartbeat,
            ends_at: remaining.map(|remaining| Instant::now() + remaining),
            is_new: true,
            fails,
        };
        Ok(Response::new(Box::pin(futures::stream::unfold(Some(subscription), Subscription::step))))
    }
}

struct Subscription {
    topics: Topics,
    place: Place,
    signal: watch::Receiver<()>,
    heartbeat: Interval,
    /// When the token does.
    ends_at: Option<Instant>,
    is_new: bool,
    /// Where a fault ends it.
    fails: Option<StreamEnd>,
}

impl Subscription {
    /// The stream ends after the first error.
    async fn step(this: Option<Self>) -> Option<(Result<SubscriptionItem, Status>, Option<Self>)> {
        let mut this = this?;
        let item = match this.fails {
            Some(StreamEnd { status, after: 0, .. }) => Err(status.status()),
            _ => this.next().await,
        };
        if let (Some(fails), Ok(SubscriptionItem { kind })) = (&mut this.fails, &item)
            && (fails.counts_everything || matches!(kind, Some(subscription_item::Kind::Item(_))))
        {
            fails.after -= 1;
        }
        let rest = item.is_ok().then_some(this);
        Some((item, rest))
    }

    async fn next(&mut self) -> Result<SubscriptionItem, Status> {
        if std::mem::take(&mut self.is_new) {
            self.heartbeat.reset();
            return Ok(item(subscription_item::Kind::Heartbeat(Heartbeat {})));
        }
        let ends_at = self.ends_at;
        let token_end = async {
            match ends_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(token_end);
        loop {
            if ends_at.is_some_and(|at| at <= Instant::now()) {
                return Err(expired()); // however much there is to read
            }
            self.signal.mark_unchanged();
            let next = self.topics.board().next(&mut self.place, now());
            let is_stalled = next == Next::Stalled;
            match next {
                Next::Message(published) => return Ok(item(message(published))),
                Next::Gap { last, new, page } => return Ok(item(discontinuity(last, new, page))),
                Next::Gone => return Err(gone()),
                Next::Failed(code) => return Err(code.status()),
                Next::Nothing | Next::Stalled => {}
            }
            tokio::select! {
                changed = self.signal.changed() => changed.map_err(|_| gone())?,
                _ = self.topics.running.changed() => return Err(Status::unavailable("the server is stopping")),
                () = &mut token_end => return Err(expired()),
                _ = self.heartbeat.tick(), if !is_stalled => return Ok(item(subscription_item::Kind::Heartbeat(Heartbeat {}))),
            }
        }
    }
}

fn expired() -> Status {
    Status::unauthenticated("the token has expired; ask for a new one")
}

fn gone() -> Status {
    Status::not_found("the cache was deleted")
}

fn item(kind: subscription_item::Kind) -> SubscriptionItem {
    SubscriptionItem { kind: Some(kind) }
}

fn message(published: Published) -> subscription_item::Kind {
    let kind = match published.message {
        Message::Text(text) => topic_value::Kind::Text(text),
        Message::Binary(bytes) => topic_value::Kind::Binary(bytes),
    };
    subscription_item::Kind::Item(TopicItem {
        topic_sequence_number: published.number,
        value: Some(TopicValue { kind: Some(kind) }),
        publisher_id: published.publisher,
        sequence_page: published.page,
    })
}

fn discontinuity(last: u64, new: u64, page: u64) -> subscription_item::Kind {
    subscription_item::Kind::Discontinuity(Discontinuity {
        last_topic_sequence: last,
        new_topic_sequence: new,
        new_sequence_page: page,
    })
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut status = Self::resource_exhausted(error.to_string());
        if error == Error::TooManySubscribers {
            let cause = tonic::metadata::MetadataValue::from_static("topic_subscriptions_limit_exceeded");
            status.metadata_mut().insert("err", cause);
        }
        status
    }
}
