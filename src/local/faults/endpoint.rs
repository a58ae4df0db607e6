//! Switches faults over HTTP, on the server's own port. The gate lets this machine alone come here.
//!
//! `GET /faults` shows the rules and how often each was met, `PUT /faults` replaces them, `DELETE /faults` takes them away.
//! `POST /faults/forget` has a cache forget items; `POST /faults/topics` has something happen to a topic.

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use super::{Active, Code, FaultError, Faults, Rule, TopicFault};

/// Where all of it is.
pub(crate) const PATH: &str = "/faults";

pub(crate) fn routes(faults: Faults) -> Router {
    Router::new()
        .route(PATH, routing::get(show).put(set).delete(clear))
        .route("/faults/forget", routing::post(forget))
        .route("/faults/topics", routing::post(topic))
        .with_state(faults)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forget {
    cache: String,
    #[serde(default)]
    prefix: String,
    #[serde(default = "everything")]
    percent: u8,
}

fn everything() -> u8 {
    100
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    cache: String,
    topic: String,
    #[serde(rename = "do")]
    what: What,
    status: Option<Code>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Discontinuity,
    ResetPage,
    Stall,
    Error,
}

async fn show(State(faults): State<Faults>) -> Json<Vec<Active>> {
    Json(faults.active())
}

async fn set(State(faults): State<Faults>, body: Bytes) -> Result<Json<Vec<Active>>, Wrong> {
    faults.set(read::<Vec<Rule>>(&body)?)?;
    Ok(Json(faults.active()))
}

async fn clear(State(faults): State<Faults>) -> StatusCode {
    faults.clear();
    StatusCode::NO_CONTENT
}

async fn forget(State(faults): State<Faults>, body: Bytes) -> Result<Response, Wrong> {
    let Forget { cache, prefix, percent } = read(&body)?;
    let forgotten = faults.forget(&cache, prefix.as_bytes(), percent)?;
    Ok(Json(json!({ "forgotten": forgotten })).into_response())
}

async fn topic(State(faults): State<Faults>, body: Bytes) -> Result<Response, Wrong> {
    let Topic { cache, topic, what, status } = read(&body)?;
    let fault = match (what, status) {
        (What::Error, status) => TopicFault::Error(status.unwrap_or(Code::Unavailable)),
        (_, Some(_)) => return Err(Wrong::body("`status` goes with `error` alone")),
        (What::Discontinuity, None) => TopicFault::Discontinuity,
        (What::ResetPage, None) => TopicFault::ResetPage,
        (What::Stall, None) => TopicFault::Stall,
    };
    let subscriptions = faults.topic(&cache, &topic, fault)?;
    Ok(Json(json!({ "subscriptions": subscriptions })).into_response())
}

struct Wrong(StatusCode, String);

impl Wrong {
    fn body(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }
}

impl From<FaultError> for Wrong {
    fn from(error: FaultError) -> Self {
        let status = match error {
            FaultError::NoSuchCache(_) | FaultError::NoSuchTopic(_) => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

/// The error says where, and what is known there.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Wrong> {
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(body))
        .map_err(|error| Wrong::body(error.to_string()))
}
