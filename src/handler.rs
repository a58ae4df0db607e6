//! The handler: a signed webhook comes in through a function URL, and its user's reaction goes out.
//!
//! [`Handler::handle`] is the pipeline, one line a step. Nothing before the signature is checked costs more than a hash of
//! a bounded body, and nothing that has not been verified reaches a log, a cache or a queue.

mod rejection;
mod request;
mod response;

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::lambda_function_urls::{LambdaFunctionUrlRequest, LambdaFunctionUrlResponse};
use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde_json::value::RawValue;

use crate::clock;
use crate::config::HandlerConfig;
use crate::event::{self, Event, EventId};
use crate::processing::Processor;
use crate::reaction::Reaction;
use crate::secrets::{SecretsManager, SigningSecret};
pub use rejection::Rejection;

/// Momento waits 5 s for an answer; what is not done after this much of it is left to the next attempt.
const PROCESSING: Duration = Duration::from_millis(2_500);

/// Everything that outlives one event.
pub struct Handler<R> {
    max_body: usize,
    sources: crate::config::Sources,
    signing_secret: SigningSecret,
    processor: Processor<R>,
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
    let handler = Arc::new(Handler::start(config, SecretsManager::from_env().await, reaction).await);
    let service = service_fn(|invocation: LambdaEvent<Box<RawValue>>| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, std::convert::Infallible>(handler.invoke(&invocation.payload, &invocation.context).await) }
    });
    lambda_runtime::Runtime::new(service).run().await
}

impl<R: Reaction> Handler<R> {
    /// Fetches both secrets, side by side. What cannot be had now is tried again with the first event: neither Secrets
    /// Manager nor Momento being down fails a start.
    pub async fn start(config: HandlerConfig, manager: SecretsManager, reaction: R) -> Self {
        let signing_secret = SigningSecret::new(manager.clone(), config.signing_secret, &config.secrets);
        let processor = Processor::new(config.processing, manager, reaction);
        let now = clock::now();
        tokio::join!(signing_secret.warm(now), processor.warm(now));
        Self { max_body: config.max_body, sources: config.sources, signing_secret, processor }
    }

    /// Answers one invocation: `payload` is what the function URL, or an HTTP API with payload version 2.0, hands over.
    pub async fn invoke(&self, payload: &RawValue, context: &Context) -> LambdaFunctionUrlResponse {
        let started = clock::now();
        let mut trace = Trace::default();
        let outcome = match request::parse(payload) {
            Ok(request) => self.handle(&request, started, &mut trace).await,
            Err(rejection) => Err(rejection),
        };
        trace.log(&outcome, context, started);
        response::from(outcome)
    }

    /// One webhook, from the request to the effect. `now` in epoch milliseconds.
    async fn handle(&self, request: &LambdaFunctionUrlRequest, now: u64, trace: &mut Trace) -> Result<(), Rejection> {
        request::check_method(request)?;
        let body = request::body(request, self.max_body)?;
        let signature = request::signature(request)?;
        let verified = self.signing_secret.verify(&signature, &body, now).await?;
        let event = event::parse(&verified)?;
        event.check_freshness(now)?;
        self.sources.allow(&event.cache, &event.topic).then_some(()).ok_or(Rejection::NOT_A_SOURCE)?;
        let id = trace.follow(&event);
        let budget = request::budget(request, PROCESSING, now);
        Ok(self.processor.process(&event, id, budget, now).await?)
    }
}

/// What the one log line about an event says of it.
#[derive(Default)]
struct Trace {
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
    fn follow(&mut self, event: &Event) -> EventId {
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

    fn log(&self, outcome: &Result<(), Rejection>, context: &Context, started: u64) {
        let now = clock::now();
        let event = self.event.as_ref();
        let error = outcome.as_ref().err();
        tracing::info!(
            outcome = error.map_or("done", Rejection::name),
            status = error.map_or(200, Rejection::status),
            error = error.map(|error| error.cause()).as_deref(),
            duration_ms = now.saturating_sub(started),
            latency_ms = event.map(|event| now.saturating_sub(event.received)),
            event_id = event.map(|event| tracing::field::display(event.id)),
            cache = event.map(|event| event.cache.as_str()),
            topic = event.map(|event| event.topic.as_str()),
            sequence = event.map(|event| event.sequence),
            request_id = context.request_id,
            trace_id = context.xray_trace_id,
            "webhook"
        );
    }
}
