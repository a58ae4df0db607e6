//! What is done once the sender has its answer: the claim is settled, the log line written, the metrics told.
//!
//! The runtime posts a response before control returns to a layer around the service, and asks for the next event only
//! after that layer has finished. [`AfterResponse`] is that layer.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task;
use std::time::Duration;

use lambda_runtime::tower::Layer;
use lambda_runtime::{Context, Error, LambdaInvocation, Service};

use super::answer::{Answer, Refusal, Summary};
use crate::clock;
use crate::event::{Event, EventId};
use crate::metrics::{Metric, Metrics};
use crate::processing::Settlement;

/// How long before its deadline a function leaves off, so that it is not killed over the last of its work.
const MARGIN: Duration = Duration::from_millis(100);

/// What an invocation leaves to be done. Dropping it instead leaves the claim held until its lease ends.
#[must_use = "an event that is not settled is processed again when its lease ends"]
pub struct Aftermath {
    trace: Trace,
    answer: Result<Answer, Refusal>,
    answered: u64,
    metrics: Arc<Metrics>,
}

/// What becomes known of an event on its way.
pub(super) struct Trace {
    /// When the invocation began, in epoch milliseconds.
    pub(super) started: u64,
    pub(super) request_id: String,
    pub(super) settlement: Option<Settlement>,
    /// When Lambda ends the function, in epoch milliseconds.
    deadline: u64,
    trace_id: Option<String>,
    event: Option<Traced>,
}

struct Traced {
    id: EventId,
    cache: String,
    topic: String,
    sequence: u64,
    received: u64,
}

impl Trace {
    pub(super) fn begin(started: u64, context: &Context) -> Self {
        let (request_id, trace_id) = (context.request_id.clone(), context.xray_trace_id.clone());
        let deadline = clock::plausible_deadline(context.deadline, started);
        Self { started, request_id, settlement: None, deadline, trace_id, event: None }
    }

    pub(super) fn follow(&mut self, event: &Event) -> EventId {
        let id = event.id();
        self.event = Some(Traced {
            id,
            cache: event.cache.clone(),
            topic: event.topic.clone(),
            sequence: event.topic_sequence_number,
            received: event.event_timestamp,
        });
        id
    }

    /// How long this invocation may still take.
    pub(super) fn time_left(&self, now: u64) -> Duration {
        Duration::from_millis(self.deadline.saturating_sub(now)).saturating_sub(MARGIN)
    }

    pub(super) fn end(self, answer: Result<Answer, Refusal>, metrics: Arc<Metrics>) -> Aftermath {
        Aftermath { trace: self, answer, answered: clock::now(), metrics }
    }
}

impl Aftermath {
    /// Does it.
    pub async fn finish(mut self) {
        let summary = Summary::from(&self.answer);
        if summary.of_a_stranger {
            self.metrics.refused(summary.metric, summary.cause.as_deref().unwrap_or_default());
        } else {
            let latency = self.log(&summary);
            self.metrics.event(summary.metric, latency.filter(|_| summary.metric == Metric::Accepted));
        }
        if let Some(settlement) = self.trace.settlement.take() {
            let settled = tokio::time::timeout(self.trace.time_left(clock::now()), settlement.settle()).await;
            if settled.is_err() {
                tracing::warn!("claim not settled in time: its lease ends by itself");
            }
        }
    }

    /// One line an event. Returns how long after its receipt it was answered, in milliseconds.
    fn log(&self, summary: &Summary) -> Option<u64> {
        let event = self.trace.event.as_ref();
        let latency = event.map(|event| self.answered.saturating_sub(event.received));
        tracing::info!(
            outcome = ?summary.metric,
            status = summary.status,
            cause = summary.cause.as_deref(),
            duration_ms = self.answered.saturating_sub(self.trace.started),
            latency_ms = latency,
            event_id = event.map(|event| tracing::field::display(event.id)),
            cache = event.map(|event| event.cache.as_str()),
            topic = event.map(|event| event.topic.as_str()),
            sequence = event.map(|event| event.sequence),
            request_id = self.trace.request_id,
            trace_id = self.trace.trace_id,
            "webhook"
        );
        latency
    }
}

/// The aftermaths of the invocations whose answers are on their way, by request id. There is one for each worker.
#[derive(Clone, Default)]
pub(super) struct Pending(Arc<Mutex<HashMap<String, Aftermath>>>);

impl Pending {
    pub(super) fn keep(&self, request_id: String, aftermath: Aftermath) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(request_id, aftermath);
    }

    fn take(&self, request_id: &str) -> Option<Aftermath> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(request_id)
    }
}

/// Finishes an invocation's aftermath after its response has been posted.
#[derive(Clone)]
pub(super) struct AfterResponse {
    pending: Pending,
}

impl AfterResponse {
    pub(super) fn new(pending: Pending) -> Self {
        Self { pending }
    }
}

impl<S> Layer<S> for AfterResponse {
    type Service = AfterResponseService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AfterResponseService { inner, pending: self.pending.clone() }
    }
}

#[derive(Clone)]
pub(super) struct AfterResponseService<S> {
    inner: S,
    pending: Pending,
}

impl<S> Service<LambdaInvocation> for AfterResponseService<S>
where
    S: Service<LambdaInvocation, Response = (), Error = Error>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> task::Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let request_id = invocation.context.request_id.clone();
        let (responding, pending) = (self.inner.call(invocation), self.pending.clone());
        Box::pin(async move {
            let responded = responding.await;
            if let Some(aftermath) = pending.take(&request_id) {
                aftermath.finish().await; // even where the response was not taken: the effect is there
            }
            responded
        })
    }
}
