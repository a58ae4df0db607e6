//! A topic that does as told: what `local` does only when something goes wrong.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use futures::Stream;
use momento_protos::cache_client::pubsub::pubsub_server::{Pubsub, PubsubServer};
use momento_protos::cache_client::pubsub::{
    Discontinuity, Heartbeat, PublishRequest, SubscriptionItem, SubscriptionRequest, TopicItem, TopicValue,
    subscription_item::Kind, topic_value,
};
use momento_protos::common::Empty;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Request, Response, Status, service::Routes};

type Items = mpsc::UnboundedReceiver<Result<SubscriptionItem, Status>>;

/// What the next subscriber is given: items, or a refusal.
type Script = Arc<Mutex<Box<dyn FnMut() -> Result<Items, Status> + Send>>>;

#[derive(Clone)]
struct Service {
    script: Script,
    calls: Arc<AtomicU32>,
    asked: mpsc::UnboundedSender<(u64, u64)>,
}

pub(crate) struct Topic {
    pub(crate) url: String,
    calls: Arc<AtomicU32>,
    /// The pages and numbers that subscribers asked for.
    asked: mpsc::UnboundedReceiver<(u64, u64)>,
}

/// One end of a subscription, to be put into a script.
pub(crate) fn stream() -> (mpsc::UnboundedSender<Result<SubscriptionItem, Status>>, Items) {
    mpsc::unbounded_channel()
}

pub(crate) fn heartbeat() -> SubscriptionItem {
    SubscriptionItem { kind: Some(Kind::Heartbeat(Heartbeat {})) }
}

pub(crate) fn item(page: u64, number: u64) -> SubscriptionItem {
    let value = TopicValue { kind: Some(topic_value::Kind::Text(format!("{page}/{number}"))) };
    SubscriptionItem {
        kind: Some(Kind::Item(TopicItem {
            topic_sequence_number: number,
            value: Some(value),
            publisher_id: String::new(),
            sequence_page: page,
        })),
    }
}

pub(crate) fn discontinuity(page: u64, last: u64, new: u64) -> SubscriptionItem {
    SubscriptionItem {
        kind: Some(Kind::Discontinuity(Discontinuity {
            last_topic_sequence: last,
            new_topic_sequence: new,
            new_sequence_page: page,
        })),
    }
}

pub(crate) async fn topic(script: impl FnMut() -> Result<Items, Status> + Send + 'static) -> Topic {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked_sender, asked) = mpsc::unbounded_channel();
    let calls = Arc::<AtomicU32>::default();
    let service = Service { script: Arc::new(Mutex::new(Box::new(script))), calls: calls.clone(), asked: asked_sender };
    let app: Router = Routes::new(PubsubServer::new(service)).into_axum_router();
    tokio::spawn(axum::serve(listener, app).into_future());
    Topic { url, calls, asked }
}

impl Topic {
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) async fn asked(&mut self) -> (u64, u64) {
        timeout(Duration::from_secs(20), self.asked.recv()).await.expect("nobody subscribes").unwrap()
    }
}

#[tonic::async_trait]
impl Pubsub for Service {
    async fn publish(&self, _: Request<PublishRequest>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented("this topic is scripted"))
    }

    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscriptionItem, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<SubscriptionRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let request = request.into_inner();
        let _ = self.asked.send((request.sequence_page, request.resume_at_topic_sequence_number));
        let items = (self.script.lock().unwrap())()?;
        let stream = futures::stream::unfold(items, async |mut items| Some((items.recv().await?, items)));
        Ok(Response::new(Box::pin(stream)))
    }
}
