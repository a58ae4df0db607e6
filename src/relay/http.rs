//! Probes and metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::health::Health;
use super::journal::{Journal, RouteName};
use super::metrics::{RouteMetrics, Text, TopicMetrics};

/// How the relay is.
pub(crate) struct Status {
    pub(crate) health: Health,
    pub(crate) journal: Journal,
    /// Whether we are the relay that delivers.
    pub(crate) active: watch::Receiver<bool>,
    pub(crate) topics: Vec<Arc<TopicMetrics>>,
    pub(crate) routes: Vec<(RouteName, Arc<RouteMetrics>)>,
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, status: Arc<Status>) {
    let app = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(status);
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "probes and metrics are not served");
    }
}

/// 200 when nothing is wrong; else 503, and what is. A healthy relay that stands by is ready.
async fn ready(State(status): State<Arc<Status>>) -> Response {
    let problems = status.health.problems();
    let code = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let active = *status.active.borrow();
    (code, Json(json!({ "ready": problems.is_empty(), "active": active, "problems": problems }))).into_response()
}

async fn metrics(State(status): State<Arc<Status>>) -> Response {
    let Ok(ledgers) = status.journal.ledgers().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the journal cannot be read\n").into_response();
    };
    let mut text = Text::new();
    let active = *status.active.borrow();
    text.state(status.health.problems().is_empty(), active);
    text.topics(status.topics.iter().map(|topic| &**topic));
    text.ledgers(&ledgers);
    text.routes(status.routes.iter().map(|(name, metrics)| (name, &**metrics)));
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text.finish()).into_response()
}
