//! One subscription: from the topic into the journal.
//!
//! Built on `momento-protos` itself, since the SDK's subscription neither waits between attempts nor shows errors,
//! heartbeats and discontinuities.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use momento_protos::cache_client::pubsub::{
    SubscriptionItem, SubscriptionRequest, TopicItem, pubsub_client::PubsubClient, subscription_item::Kind as Item,
    topic_value::Kind as Value,
};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::account::{Account, Accounts};
use super::backoff::Backoff;
use super::cursor::{Cursor, Incident, Place, Verdict};
use super::health::Health;
use super::journal::{Journal, Payload, Write};
use super::metrics::TopicMetrics;
use super::receipts::Receipts;
use crate::clock;

/// After the first failure there is no wait: the service keeps messages for about 5 s.
const PASSING: Backoff =
    Backoff { least: Duration::from_millis(100), base: Duration::from_millis(500), most: Duration::from_secs(15) };
/// What only a person can mend is asked for rarely.
const PERMANENT: Backoff =
    Backoff { least: Duration::from_secs(30), base: Duration::from_secs(60), most: Duration::from_secs(300) };
/// For how long a subscription must have brought something for the next failure to count as a first one.
const STEADY: Duration = Duration::from_secs(10);
/// How long the first item may take to come: a heartbeat is sent at once.
const FIRST_ITEM: Duration = Duration::from_secs(10);
/// The largest item that is taken, in bytes; Momento's largest message is 5 MB.
const MAX_ITEM_BYTES: usize = 8 * 1024 * 1024;
/// How many times of receipt are asked of Momento side by side.
const RECEIPTS: usize = 32;

/// A topic that is subscribed to.
pub(crate) struct Subscriber {
    pub(crate) number: usize,
    pub(crate) cache: Arc<str>,
    pub(crate) topic: Arc<str>,
    /// The journal's numbers of its routes.
    pub(crate) routes: Arc<[i64]>,
    pub(crate) cursor: Cursor,
    pub(crate) accounts: Accounts,
    pub(crate) journal: Journal,
    /// Where times of receipt are agreed upon, if the journal is not enough.
    pub(crate) receipts: Option<Receipts>,
    pub(crate) metrics: Arc<TopicMetrics>,
    pub(crate) health: Health,
    pub(crate) stall: Duration,
}

/// Why a subscription ended.
enum End {
    /// The call was refused, or the stream broke.
    Failed(Status),
    /// There is a new key.
    NewKey,
}

/// The part of the relay that a topic's subscription is.
pub(crate) fn part(cache: &str, topic: &str) -> String {
    format!("topic {cache}/{topic}")
}

impl Subscriber {
    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let part = part(&self.cache, &self.topic);
        let mut failures = 0;
        loop {
            let account = self.accounts.get().await;
            let mut held = Duration::ZERO;
            let end = self.follow(&account, &part, &mut held).await;
            if held >= STEADY {
                failures = 0;
            }
            self.metrics.reconnects.add(1);
            let wait = match end {
                End::NewKey => Duration::ZERO,
                End::Failed(status) => {
                    failures += 1;
                    self.after(&status, failures, &part)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.accounts.changed() => {}
            }
        }
    }

    /// How long to wait after this failure, which is said.
    fn after(&self, status: &Status, failures: u32, part: &str) -> Duration {
        let code = status.code();
        if code == Code::Unauthenticated {
            self.accounts.doubt();
        }
        if is_permanent(code) {
            self.health.set(part, format!("the subscription is refused for good: {code:?}"));
            return PERMANENT.wait(failures);
        }
        tracing::warn!(cache = &*self.cache, topic = &*self.topic, ?code, failures, "subscription lost");
        if failures == 1 {
            return Duration::ZERO;
        }
        self.health.set(part, format!("the subscription fails: {code:?}"));
        PASSING.wait(failures - 1)
    }

    /// One subscription, as long as it holds. `held` is the time from its first item to its last one.
    async fn follow(&mut self, account: &Account, part: &str, held: &mut Duration) -> End {
        let mut items = match tokio::time::timeout(FIRST_ITEM, self.subscribe(account)).await {
            Ok(Ok(items)) => items,
            Ok(Err(status)) => return End::Failed(status),
            Err(_) => return End::Failed(Status::deadline_exceeded("no answer to the subscription")),
        };
        let mut accounts = self.accounts.clone();
        let mut patience = FIRST_ITEM.min(self.stall);
        let mut first = None::<Instant>;
        loop {
            let item = tokio::select! {
                item = tokio::time::timeout(patience, items.message()) => item,
                () = accounts.changed() => return End::NewKey,
            };
            patience = self.stall;
            match item {
                Err(_) => {
                    self.incident(self.cursor.stall()).await;
                    return End::Failed(Status::deadline_exceeded("nothing came for too long"));
                }
                Ok(Err(status)) => return End::Failed(status),
                Ok(Ok(None)) => return End::Failed(Status::unavailable("the stream has ended")),
                Ok(Ok(Some(item))) => {
                    *held = first.get_or_insert_with(Instant::now).elapsed();
                    self.health.clear(part);
                    self.take(item, &mut items).await;
                }
            }
        }
    }

    async fn subscribe(&self, account: &Account) -> Result<tonic::Streaming<SubscriptionItem>, Status> {
        self.metrics.subscribes.add(1);
        subscribe(account, self.number, &self.cache, &self.topic, self.cursor.resume()).await
    }

    /// Takes an item, with whatever has come behind it, and hands all that to the journal in its order.
    async fn take(&mut self, first: SubscriptionItem, items: &mut tonic::Streaming<SubscriptionItem>) {
        let mut steps: Vec<Write> = self.judge(first).into_iter().collect();
        // Whatever is there already; an error or the end shows again at the next call.
        while self.receipts.is_some() && steps.len() < RECEIPTS {
            match futures::FutureExt::now_or_never(items.message()) {
                Some(Ok(Some(item))) => steps.extend(self.judge(item)),
                _ => break,
            }
        }
        let mut steps = self.stamped(steps);
        while let Some(step) = steps.next().await {
            self.journal.accept(step).await;
        }
    }

    /// The messages with the times of receipt that count.
    fn stamped(&self, steps: Vec<Write>) -> BoxStream<'static, Write> {
        let steps = stream::iter(steps);
        match self.receipts.clone() {
            None => steps.boxed(),
            Some(receipts) => steps
                .map(move |step| {
                    let receipts = receipts.clone();
                    async move { receipts.stamp(step).await }
                })
                .buffered(RECEIPTS)
                .boxed(),
        }
    }

    fn judge(&mut self, item: SubscriptionItem) -> Option<Write> {
        match item.kind? {
            Item::Heartbeat(_) => None,
            Item::Discontinuity(jump) => {
                let next = Place { page: jump.new_sequence_page, number: jump.new_topic_sequence };
                let incident = self.cursor.announce(next)?;
                self.note(&incident);
                Some(Write::Incident { cache: self.cache.clone(), topic: self.topic.clone(), incident })
            }
            Item::Item(item) => self.message(item),
        }
    }

    fn message(&mut self, item: TopicItem) -> Option<Write> {
        let place = Place { page: item.sequence_page, number: item.topic_sequence_number };
        let incident = match self.cursor.take(place) {
            Verdict::Seen => {
                self.metrics.seen.add(1);
                return None;
            }
            Verdict::Next => None,
            Verdict::Jump(incident) => {
                self.note(&incident);
                Some(incident)
            }
        };
        self.metrics.received.add(1);
        let payload = match item.value.and_then(|value| value.kind) {
            Some(Value::Text(text)) => Payload::Text(text),
            other => Payload::Binary(if let Some(Value::Binary(bytes)) = other { bytes } else { Vec::new() }),
        };
        Some(Write::Message {
            cache: self.cache.clone(),
            topic: self.topic.clone(),
            routes: self.routes.clone(),
            place,
            received: clock::now(),
            token_id: item.publisher_id,
            payload,
            incident,
        })
    }

    async fn incident(&self, incident: Incident) {
        self.note(&incident);
        self.journal.accept(Write::Incident { cache: self.cache.clone(), topic: self.topic.clone(), incident }).await;
    }

    fn note(&self, incident: &Incident) {
        self.metrics.incident(incident);
        let Incident { kind, before, after, missed } = incident;
        tracing::warn!(
            cache = &*self.cache,
            topic = &*self.topic,
            kind = kind.name(),
            before_page = before.page,
            before_number = before.number,
            after_page = after.page,
            after_number = after.number,
            missed,
            "messages may be missing"
        );
    }
}

/// Subscribes from this page and number on.
async fn subscribe(
    account: &Account,
    number: usize,
    cache: &str,
    topic: &str,
    (sequence_page, resume_at_topic_sequence_number): (u64, u64),
) -> Result<tonic::Streaming<SubscriptionItem>, Status> {
    let request = SubscriptionRequest {
        cache_name: cache.to_owned(),
        topic: topic.to_owned(),
        resume_at_topic_sequence_number,
        sequence_page,
    };
    let client = PubsubClient::new(account.channel(number));
    Ok(client.max_decoding_message_size(MAX_ITEM_BYTES).subscribe(account.request(cache, request)?).await?.into_inner())
}

/// May the topic be subscribed to? For `relay check`.
pub(crate) async fn probe(account: &Account, cache: &str, topic: &str) -> anyhow::Result<String> {
    match tokio::time::timeout(FIRST_ITEM, subscribe(account, 0, cache, topic, (0, 0))).await {
        Ok(Ok(_)) => Ok("can be subscribed to".into()),
        Ok(Err(status)) => anyhow::bail!("the subscription is refused: {:?}: {}", status.code(), status.message()),
        Err(_) => anyhow::bail!("no answer within {} s", FIRST_ITEM.as_secs()),
    }
}

/// Will trying again not help, until somebody changes something?
fn is_permanent(code: Code) -> bool {
    matches!(code, Code::Unauthenticated | Code::PermissionDenied | Code::NotFound | Code::InvalidArgument)
}
