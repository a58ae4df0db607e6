//! The handler: a signed webhook comes in through a function URL, and its user's reaction goes out.
//!
//! `Handler::handle` is the pipeline, one line a step. Nothing before the signature is checked costs more than a hash of
//! a bounded body, and nothing that has not been verified reaches a log, a cache or a queue.

mod aftermath;
mod answer;
mod request;

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_lambda_events::lambda_function_urls::{LambdaFunctionUrlRequest, LambdaFunctionUrlResponse};
use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde_json::value::RawValue;

use crate::clock;
use crate::config::{HandlerConfig, Sources};
use crate::event::{self, Event};
use crate::metrics::Metrics;
use crate::park::Queue;
use crate::processing::{Fault, Given, Processor};
use crate::reaction::Reaction;
use crate::secrets::{SecretsManager, SigningSecret};
use crate::signature::Verified;
pub use aftermath::Aftermath;
use aftermath::{AfterResponse, Pending, Trace};
use answer::{Answer, Refusal};

/// The sender waits 5 s. What is not processed after this much of it is parked ...
const PROCESSING: Duration = Duration::from_millis(2_500);
/// ... and what is not parked after this much is left to the sender.
const PARKING: Duration = Duration::from_millis(3_800);
/// Parking is worth this much, even where a slow start has used up the sender's patience.
const LEAST_PARKING: Duration = Duration::from_millis(1_000);
/// A parked event whose fault may pass is taken up again after this long.
const PARKED_FOR: Duration = Duration::from_secs(5);

/// Everything that outlives one event.
pub struct Handler<R> {
    max_body: usize,
    sources: Sources,
    test_user_agent: Option<String>,
    signing_secret: SigningSecret,
    processor: Processor<R>,
    queue: Option<Queue>,
    metrics: Arc<Metrics>,
}

/// Runs the handler on the Lambda runtime until the environment is shut down.
///
/// ```no_run
/// use momento_webhook::{config, handler, logs, reaction};
///
/// # struct MyReaction;
/// # impl reaction::Reaction for MyReaction {
/// #     async fn react(&self, _: reaction::Incoming<'_>) -> Result<(), reaction::Unprocessed> { Ok(()) }
/// # }
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), lambda_runtime::Error> {
///     logs::init(&config::env, module_path!());
///     handler::run(config::HandlerConfig::from_lookup(&config::env)?, MyReaction).await
/// }
/// ```
///
/// # Errors
/// Whatever the runtime client cannot recover from.
pub async fn run(config: HandlerConfig, reaction: impl Reaction) -> Result<(), lambda_runtime::Error> {
    let metrics = Metrics::install("handler", config.metrics.clone());
    let aws = crate::aws::lambda(&crate::config::env, config.processing.momento.certificates.as_deref());
    let handler = Handler::start(config, &aws, reaction).await;
    let handler = Arc::new(Handler { metrics: Arc::new(metrics), ..handler });
    let pending = Pending::default();
    let after_response = AfterResponse::new(pending.clone());
    let service = service_fn(move |invocation: LambdaEvent<Box<RawValue>>| {
        let (handler, pending) = (Arc::clone(&handler), pending.clone());
        // In a box, or each layer of the runtime moves all of an invocation's state, several times over.
        Box::pin(async move {
            let (response, aftermath) = handler.invoke(&invocation.payload, &invocation.context).await;
            pending.keep(invocation.context.request_id, aftermath);
            Ok::<_, std::convert::Infallible>(response)
        })
    });
    // In a task of its own: within `block_on` each wake-up would cost the system call that wakes a parked thread.
    tokio::spawn(lambda_runtime::Runtime::new(service).layer(after_response).run_concurrent()).await?
}

impl<R: Reaction> Handler<R> {
    /// Fetches both secrets, side by side. What cannot be had now is tried again with the first event: neither Secrets
    /// Manager nor Momento being down fails a start.
    pub async fn start(config: HandlerConfig, aws: &SdkConfig, reaction: R) -> Self {
        let manager = SecretsManager::new(aws);
        let signing_secret = SigningSecret::new(manager.clone(), config.signing_secret, &config.processing.secrets);
        let processor = Processor::new(config.processing, manager, reaction);
        let now = clock::now();
        tokio::join!(signing_secret.warm(now), processor.warm(now));
        Self {
            max_body: config.max_body,
            sources: config.sources,
            test_user_agent: config.test_user_agent,
            signing_secret,
            processor,
            queue: config.park_queue_url.map(|url| Queue::new(aws, url)),
            metrics: Arc::default(),
        }
    }

    /// Answers one invocation: `payload` is what the function URL, or an HTTP API with payload version 2.0, hands over.
    /// What need not keep the sender waiting comes back as the [`Aftermath`], to be finished once the answer has gone.
    pub async fn invoke(&self, payload: &RawValue, context: &Context) -> (LambdaFunctionUrlResponse, Aftermath) {
        let mut trace = Trace::begin(clock::now(), context);
        let answer = match request::parse(payload) {
            Ok(request) => self.handle(&request, &mut trace).await,
            Err(refusal) => Err(refusal),
        };
        let response = answer::response(&answer);
        (response, trace.end(answer, Arc::clone(&self.metrics)))
    }

    /// One webhook, from the request to the answer.
    async fn handle(&self, request: &LambdaFunctionUrlRequest, trace: &mut Trace) -> Result<Answer, Refusal> {
        let now = trace.started;
        request::check_method(request)?;
        let body = request::body(request, self.max_body)?;
        let signature = request::signature(request)?;
        let verified = self.signing_secret.verify(&signature, &body, now).await?;
        let event = event::parse(&verified)?;
        event.check_freshness(now)?;
        self.sources.allow(&event.cache, &event.topic).then_some(()).ok_or(Refusal::NOT_A_SOURCE)?;
        if request::is_from(request, self.test_user_agent.as_deref()) {
            return Ok(Answer::Test);
        }
        self.process(&verified, &event, request::arrived(request, now), trace).await
    }

    /// Processes a genuine event, or parks it.
    async fn process(
        &self,
        verified: &Verified<'_>,
        event: &Event,
        arrived: u64,
        trace: &mut Trace,
    ) -> Result<Answer, Refusal> {
        let (id, now) = (trace.follow(event), clock::now()); // the secret may have had to be fetched
        let budget = left(arrived, PROCESSING, now).min(trace.time_left(now));
        let owner = trace.request_id.clone();
        let attempt = self.processor.process(event, Given { id, owner: &owner, now, attempted: false }, budget).await;
        trace.settlement = attempt.settlement;
        match attempt.outcome {
            Ok(processed) => Ok(processed.into()),
            Err(Fault::Rejected(rejected)) => Err(Refusal::Unacceptable(rejected)),
            Err(fault) => self.park(verified, fault, arrived, trace).await,
        }
    }

    /// Parks an event that was not processed.
    async fn park(
        &self,
        verified: &Verified<'_>,
        fault: Fault,
        arrived: u64,
        trace: &Trace,
    ) -> Result<Answer, Refusal> {
        let Some(queue) = &self.queue else { return Err(Refusal::Failed(fault)) };
        let now = clock::now();
        let delay = match &fault {
            Fault::UnderWay(until) => Duration::from_millis(until.saturating_sub(now)).max(self.processor.lease()),
            Fault::Unknown(_) => self.processor.lease(),
            _ => PARKED_FOR,
        };
        // Even when the sender may have gone: it may not come again, and a duplicate does no harm.
        let budget = left(arrived, PARKING, now).max(LEAST_PARKING).min(trace.time_left(now));
        let reason = fault.to_string();
        match tokio::time::timeout(budget, queue.park(verified, &reason, arrived, now, delay)).await {
            Ok(Ok(())) => return Ok(Answer::Parked(fault)),
            Ok(Err(error)) => tracing::error!(%error, "event not parked"),
            Err(_) => tracing::error!("event not parked in time"),
        }
        Err(Refusal::Failed(fault))
    }
}

/// What is left of `total` since the sender began to wait.
fn left(arrived: u64, total: Duration, now: u64) -> Duration {
    total.saturating_sub(Duration::from_millis(now.saturating_sub(arrived)))
}
