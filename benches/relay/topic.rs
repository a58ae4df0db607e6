//! Publishing to `local`, and subscribing without a relay.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use momento_protos::cache_client::pubsub::pubsub_client::PubsubClient;
use momento_protos::cache_client::pubsub::{
    PublishRequest, SubscriptionItem, SubscriptionRequest, TopicValue, subscription_item::Kind, topic_value,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::process::{CACHE, TOPIC};

/// How many publish at once.
const PUBLISHERS: usize = 16;
/// How far they may be ahead of what has arrived: a topic keeps 1,000 messages.
const AHEAD: usize = 400;
/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A topic, with a connection to it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Topic {
    client: PubsubClient<Channel>,
    name: &'static str,
}

impl Topic {
    /// The one that the relay delivers.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await;
        Ok(Self { client: PubsubClient::new(channel.context("cannot connect to `local`")?), name: TOPIC })
    }

    /// Another one, over the same connection.
    pub(crate) fn named(&self, name: &'static str) -> Self {
        Self { name, ..self.clone() }
    }

    pub(crate) async fn publish(&self) -> Result<()> {
        let text = r#"{"courseId":123,"comment":"a comment of a benchmark, about as long as comments are"}"#.to_owned();
        let value = Some(TopicValue { kind: Some(topic_value::Kind::Text(text)) });
        let request = PublishRequest { cache_name: CACHE.into(), topic: self.name.into(), value };
        self.client.clone().publish(request).await?;
        Ok(())
    }

    /// Publishes so many messages, as fast as they arrive: `next` waits for one more to have arrived.
    pub(crate) async fn flood(&self, count: usize, mut next: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let window = Arc::new(Semaphore::new(AHEAD));
        let mut publishing = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let (topic, window) = (self.clone(), window.clone());
            let share = (publisher..count).step_by(PUBLISHERS).len();
            publishing.spawn(async move {
                for _ in 0..share {
                    window.acquire().await?.forget();
                    topic.publish().await?;
                }
                anyhow::Ok(())
            });
        }
        for _ in 0..count {
            next().await?;
            window.add_permits(1);
        }
        while let Some(done) = publishing.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Follows it from now on.
    pub(crate) async fn subscribe(&self) -> Result<Items> {
        let request =
            SubscriptionRequest { cache_name: CACHE.into(), topic: self.name.into(), ..SubscriptionRequest::default() };
        let mut items = Items(self.client.clone().subscribe(request).await?.into_inner());
        items.any().await?; // a first heartbeat: now it is certain that nothing is missed
        Ok(items)
    }
}

/// What comes over a subscription.
pub(crate) struct Items(Streaming<SubscriptionItem>);

impl Items {
    /// Waits for the next message.
    pub(crate) async fn next(&mut self) -> Result<()> {
        loop {
            match self.any().await? {
                Kind::Item(_) => return Ok(()),
                Kind::Heartbeat(_) => {}
                Kind::Discontinuity(_) => bail!("the subscriber was too slow"),
            }
        }
    }

    async fn any(&mut self) -> Result<Kind> {
        let item = tokio::time::timeout(PATIENCE, self.0.message()).await.context("nothing comes from the topic")??;
        item.and_then(|item| item.kind).context("the subscription has ended")
    }
}
