//! Metrics through the `metrics` facade, told to CloudWatch in its embedded format: a JSON line on standard output, which
//! costs no call and no wait. An application counts its own with `metrics::counter!`.
//!
//! `metrics_cloudwatch_embedded` adds three small crates to the function; AWS's own `metrique` adds some thirty-five, and a
//! queue in the background that a frozen function would not run.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use metrics_cloudwatch_embedded::{Builder, Collector};

use crate::clock;
use crate::config::MetricsConfig;

/// How long refusals are gathered before they are told: a stranger who sends a million requests buys a few lines a minute.
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

impl Metric {
    const ALL: [Self; 10] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Malformed,
        Self::Rejected,
        Self::Parked,
        Self::Failed,
        Self::Test,
        Self::BadSignature,
        Self::Stale,
        Self::BadRequest,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Duplicate => "Duplicate",
            Self::Malformed => "Malformed",
            Self::Rejected => "Rejected",
            Self::Parked => "Parked",
            Self::Failed => "Failed",
            Self::Test => "Test",
            Self::BadSignature => "BadSignature",
            Self::Stale => "Stale",
            Self::BadRequest => "BadRequest",
        }
    }
}

/// Counts; and tells CloudWatch, in a function that has [installed](Metrics::install) it.
#[derive(Default)]
pub(crate) struct Metrics {
    collector: Option<&'static Collector>,
    refused: Mutex<BTreeMap<Metric, Refused>>,
}

/// Refusals of one kind.
#[derive(Default)]
struct Refused {
    /// Since the minute began, and of them those that have not been told yet.
    count: u64,
    untold: u64,
    /// When the minute began, in epoch milliseconds.
    since: u64,
}

impl Refused {
    /// One more; returns how many are to be told now, if any are.
    fn add(&mut self, now: u64) -> Option<u64> {
        self.untold += 1;
        self.count += 1;
        if now.saturating_sub(self.since) >= GATHER_MS {
            (self.since, self.count) = (now, 1);
        } else if self.count != 10_u64.pow(self.count.ilog10()) {
            return None;
        }
        Some(std::mem::take(&mut self.untold))
    }
}

impl Metrics {
    /// Makes CloudWatch the one to whom this process's metrics are told.
    pub(crate) fn install(service: &'static str, config: MetricsConfig) -> Self {
        let mut builder = Builder::new().cloudwatch_namespace("MomentoWebhook").with_dimension("service", service);
        if let Some(stack) = config.stack {
            builder = builder.with_dimension("stack", stack);
        }
        let collector = builder.init().inspect_err(|error| tracing::warn!(%error, "there will be no metrics")).ok();
        for metric in Metric::ALL {
            describe_counter!(metric.name(), Unit::Count, "");
        }
        describe_counter!("SecretRefresh", Unit::Count, ""); // counted where secrets are kept
        describe_counter!("ColdStart", Unit::Count, "");
        describe_histogram!("DeliveryLatency", Unit::Milliseconds, "from the publication of an event to its effect");
        counter!("ColdStart").increment(1);
        Self { collector, refused: Mutex::default() }
    }

    /// One event, and how long after its publication its effect was there, in milliseconds.
    pub(crate) fn event(&self, metric: Metric, latency_ms: Option<u64>) {
        counter!(metric.name()).increment(1);
        if let Some(latency) = latency_ms {
            histogram!("DeliveryLatency").record(latency as f64);
        }
        self.tell();
    }

    /// One request that was refused before anything about it could be believed. The first of its kind is told at once,
    /// and what follows once a minute, or as soon as there are ten, a hundred, a thousand ...: a function that is sent
    /// nothing more is frozen, and could not tell by itself.
    pub(crate) fn refused(&self, metric: Metric, cause: &str) {
        counter!(metric.name()).increment(1);
        let now = clock::now();
        let count = {
            let mut kinds = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let refused = kinds.entry(metric).or_default();
            match refused.add(now) {
                Some(count) => count,
                None => return,
            }
        };
        tracing::warn!(outcome = metric.name(), count, cause, "webhook refused");
        self.tell();
    }

    fn tell(&self) {
        if let Some(collector) = self.collector {
            let mut told = Vec::with_capacity(512); // standard output would be locked and searched for each word
            let _ = collector.flush(&mut told).and_then(|()| io::stdout().write_all(&told)); // nobody could be told
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_at_once_then_at_each_power_of_ten_and_once_a_minute() {
        let (mut refused, start) = (Refused::default(), clock::now());
        let mut told = |now| (0..1_500).filter_map(|_| refused.add(now)).collect::<Vec<_>>();
        assert_eq!(told(start), [1, 9, 90, 900]);
        assert_eq!(told(start + GATHER_MS), [501, 9, 90, 900]); // nothing is forgotten
    }
}
