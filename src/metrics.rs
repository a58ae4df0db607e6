//! Metrics in CloudWatch's embedded format: a JSON line on standard output, which costs no call and no wait.
//!
//! The kept crates were weighed and left. `metrics_cloudwatch_embedded` aggregates in the process and flushes from a
//! layer around each invocation, and `metrique` brings a background queue: for a dozen counters that change once an event,
//! the documented JSON written in one go is less to start, to link and to read.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::clock;
use crate::config::MetricsConfig;

/// How long refusals are gathered before they are told: a stranger who sends a million requests buys a line a minute.
const GATHER_MS: u64 = 60_000;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Events whose effect is there.
    Accepted,
    /// Events that had been processed before.
    Duplicate,
    /// Genuine bodies that are no event.
    Malformed,
    /// Events that the application can never accept.
    Rejected,
    /// Events parked for later.
    Parked,
    /// Attempts that came to nothing.
    Failed,
    /// Genuine requests that were only a test.
    Test,
    /// Refused: no signature, a wrong one, no request, or from nowhere that may send.
    BadSignature,
    /// Refused: genuine, but too old or from the future.
    Stale,
    /// Refused: not POST, or too large.
    BadRequest,
}

/// Counts, and tells CloudWatch.
pub(crate) struct Metrics {
    service: &'static str,
    config: MetricsConfig,
    cold: AtomicBool,
    refused: Mutex<BTreeMap<Metric, Refused>>,
}

/// Refusals of one kind that have not been told yet, and when that was last done, in epoch milliseconds.
#[derive(Default)]
struct Refused {
    count: u64,
    told: u64,
}

impl Metrics {
    pub(crate) fn new(service: &'static str, config: MetricsConfig) -> Self {
        Self { service, config, cold: AtomicBool::new(true), refused: Mutex::default() }
    }

    /// One event, how long after its publication it came to this, in milliseconds, and how often a secret was fetched.
    pub(crate) fn event(&self, metric: Metric, latency_ms: Option<u64>, secret_refreshes: u64) {
        let mut values = vec![(format!("{metric:?}"), 1, "Count")];
        if let Some(latency) = latency_ms {
            values.push(("DeliveryLatency".to_owned(), latency, "Milliseconds"));
        }
        if secret_refreshes > 0 {
            values.push(("SecretRefresh".to_owned(), secret_refreshes, "Count"));
        }
        self.write(values);
    }

    /// One request that was refused before anything about it could be believed. The first of its kind is told at once,
    /// and what follows once a minute.
    pub(crate) fn refused(&self, metric: Metric, cause: &str) {
        let now = clock::now();
        let count = {
            let mut kinds = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let refused = kinds.entry(metric).or_default();
            refused.count += 1;
            if now.saturating_sub(refused.told) < GATHER_MS {
                return;
            }
            refused.told = now;
            std::mem::take(&mut refused.count)
        };
        tracing::warn!(outcome = ?metric, count, cause, "webhook refused");
        self.write(vec![(format!("{metric:?}"), count, "Count")]);
    }

    fn write(&self, mut values: Vec<(String, u64, &'static str)>) {
        if self.cold.swap(false, Ordering::Relaxed) {
            values.push(("ColdStart".to_owned(), 1, "Count"));
        }
        let mut dimensions = vec!["service"];
        let mut line = json!({ "service": self.service });
        if let Some(stack) = &self.config.stack {
            dimensions.push("stack");
            line["stack"] = stack.as_str().into();
        }
        let metrics: Vec<Value> = values.iter().map(|(name, _, unit)| json!({ "Name": name, "Unit": unit })).collect();
        line["_aws"] = json!({
            "Timestamp": clock::now(),
            "CloudWatchMetrics": [{ "Namespace": "MomentoWebhook", "Dimensions": [dimensions], "Metrics": metrics }],
        });
        for (name, value, _) in values {
            line[name] = value.into();
        }
        #[allow(clippy::print_stdout, reason = "this is how CloudWatch is told")]
        {
            println!("{line}");
        }
    }
}
