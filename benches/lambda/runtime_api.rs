//! As much of the Lambda runtime API as a function needs, for one function, with a clock on every step.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

use crate::event::now;

/// Longer than any function takes for anything, even under valgrind.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server that one function process talks to.
pub(crate) struct RuntimeApi {
    pub(crate) address: SocketAddr,
    /// Dropped, it tells the function to go: it gets an error for an event.
    events: Option<mpsc::UnboundedSender<String>>,
    steps: mpsc::UnboundedReceiver<Step>,
    serving: tokio::task::JoinHandle<()>,
    shared: Arc<Shared>,
}

/// What the function did.
enum Step {
    Asked(Instant),
    Handed(Instant),
    Answered(Instant, Bytes),
    Failed(String),
}

/// One event, from the request for it to the request for the next one.
pub(crate) struct Exchange {
    pub(crate) handed: Instant,
    pub(crate) answered: Instant,
    pub(crate) answer: Bytes,
}

struct Shared {
    events: Mutex<mpsc::UnboundedReceiver<String>>,
    steps: mpsc::UnboundedSender<Step>,
    handed: AtomicU64,
    /// Does each event get a trace id of its own, as on Lambda?
    traces: AtomicBool,
}

impl RuntimeApi {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen for a function")?;
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
        let (events, to_come) = mpsc::unbounded_channel();
        let (sender, steps) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            events: Mutex::new(to_come),
            steps: sender,
            handed: AtomicU64::new(0),
            traces: AtomicBool::new(true),
        });
        let api = axum::Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(error))
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { drop(axum::serve(listener, api).await) });
        Ok(Self { address, events: Some(events), steps, serving, shared })
    }

    /// Queues an event for when the function asks for one.
    pub(crate) fn send(&self, event: String) {
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }

    /// From now on each event gets a trace id of its own, or all get the same.
    pub(crate) fn trace(&self, each: bool) {
        self.shared.traces.store(each, Ordering::Relaxed);
    }

    /// Lets the function go: whenever it asks for an event, it gets an error.
    pub(crate) fn close(&mut self) {
        self.events = None;
    }

    /// When the function asks for an event.
    pub(crate) async fn asked(&mut self) -> Result<Instant> {
        match self.step().await? {
            Step::Asked(at) => Ok(at),
            _ => bail!("the function did something else than to ask for an event"),
        }
    }

    /// The event that the function has asked for, up to its answer.
    pub(crate) async fn exchange(&mut self) -> Result<Exchange> {
        let (Step::Handed(handed), Step::Answered(answered, answer)) = (self.step().await?, self.step().await?) else {
            bail!("the function did something else than to answer")
        };
        Ok(Exchange { handed, answered, answer })
    }

    async fn step(&mut self) -> Result<Step> {
        let step = tokio::time::timeout(PATIENCE, self.steps.recv()).await;
        match step.context("the function does nothing; its output is in target/bench/")?.context("no server")? {
            Step::Failed(error) => bail!("the function failed: {error}"),
            step => Ok(step),
        }
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    let _ = shared.steps.send(Step::Asked(Instant::now()));
    let Some(event) = shared.events.lock().await.recv().await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let now = now();
    let mut headers = HeaderMap::new();
    let mut header = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    header("content-type", "application/json");
    header("lambda-runtime-aws-request-id", &format!("8476a536-e9f4-11e8-9739-{now:012x}"));
    header("lambda-runtime-deadline-ms", &(now + 10_000).to_string());
    header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:bench");
    let number = shared.handed.fetch_add(u64::from(shared.traces.load(Ordering::Relaxed)), Ordering::Relaxed);
    let trace_id = format!("Root=1-5759e988-bd862e3fe1be{number:012x};Parent=53995c3f42cd8ad8;Sampled=0");
    header("lambda-runtime-trace-id", &trace_id);
    let _ = shared.steps.send(Step::Handed(Instant::now()));
    (headers, event).into_response()
}

async fn response(State(shared): State<Arc<Shared>>, Path(_): Path<String>, body: Bytes) -> impl IntoResponse {
    let _ = shared.steps.send(Step::Answered(Instant::now(), body));
    (StatusCode::ACCEPTED, [("content-type", "application/json")], r#"{"status":"OK"}"#)
}

async fn error(State(shared): State<Arc<Shared>>, body: Bytes) -> impl IntoResponse {
    let _ = shared.steps.send(Step::Failed(String::from_utf8_lossy(&body).into_owned()));
    (StatusCode::ACCEPTED, [("content-type", "application/json")], r#"{"status":"OK"}"#)
}
