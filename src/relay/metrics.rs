//! What is counted, in Prometheus's text format. Counts of messages come from the journal, whose transactions keep them;
//! what is counted here is what the journal does not know, since the start of this process.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::cursor::{Incident, Kind};
use super::journal::{Ledger, RouteName};

/// The upper bounds, in seconds, of the histogram of what a delivery took from receipt on.
const BOUNDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 86_400.0];

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One topic's.
#[derive(Default)]
pub(crate) struct TopicMetrics {
    pub(crate) cache: String,
    pub(crate) topic: String,
    pub(crate) received: Counter,
    /// Came again, and were dropped.
    pub(crate) seen: Counter,
    pub(crate) subscribes: Counter,
    pub(crate) reconnects: Counter,
    incidents: [Counter; Kind::ALL.len()],
    missed: Counter,
}

impl TopicMetrics {
    pub(crate) fn new(cache: &str, topic: &str) -> Self {
        Self { cache: cache.to_owned(), topic: topic.to_owned(), ..Self::default() }
    }

    pub(crate) fn incident(&self, incident: &Incident) {
        self.incidents[incident.kind as usize].add(1);
        self.missed.add(incident.missed.unwrap_or(0));
    }
}

/// One route's.
#[derive(Default)]
pub(crate) struct RouteMetrics {
    pub(crate) attempts: Counter,
    pub(crate) delivered: Counter,
    pub(crate) retried: Counter,
    pub(crate) dead: Counter,
    pub(crate) under_way: AtomicU64,
    /// The breaker is open, or the destination is paused.
    pub(crate) shut: AtomicBool,
    buckets: [Counter; BOUNDS.len()],
    milliseconds: Counter,
}

impl RouteMetrics {
    /// A delivery that took this long, from receipt on.
    pub(crate) fn took(&self, milliseconds: u64) {
        self.delivered.add(1);
        self.milliseconds.add(milliseconds);
        let seconds = milliseconds as f64 / 1_000.0;
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket].add(1);
        }
    }
}

/// Prometheus's text.
pub(crate) struct Text(String);

impl Text {
    pub(crate) fn new() -> Self {
        Self(String::new())
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn about(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }

    /// Is the relay ready, and does it deliver?
    pub(crate) fn state(&mut self, ready: bool, active: bool) {
        self.about("relay_ready", "gauge", "1 when nothing keeps the relay from its work");
        let _ = writeln!(self.0, "relay_ready {}", u8::from(ready));
        self.about("relay_active", "gauge", "1 when this relay delivers, 0 when it stands by");
        let _ = writeln!(self.0, "relay_active {}", u8::from(active));
    }

    pub(crate) fn topics<'a>(&mut self, topics: impl Iterator<Item = &'a TopicMetrics> + Clone) {
        type Count = fn(&TopicMetrics) -> u64;
        let counters: [(&str, &str, Count); 5] = [
            ("relay_topic_received_total", "messages that came for the first time", |t| t.received.get()),
            ("relay_topic_seen_total", "messages that came again and were dropped", |t| t.seen.get()),
            ("relay_subscribe_calls_total", "calls to subscribe", |t| t.subscribes.get()),
            ("relay_reconnects_total", "subscriptions that ended", |t| t.reconnects.get()),
            ("relay_missed_total", "messages that are known to be missing", |t| t.missed.get()),
        ];
        for (name, help, count) in counters {
            self.about(name, "counter", help);
            for topic in topics.clone() {
                self.line(name, &[("cache", &topic.cache), ("topic", &topic.topic)], count(topic));
            }
        }
        let name = "relay_incidents_total";
        self.about(name, "counter", "what may have cost messages, by kind");
        for topic in topics {
            for kind in Kind::ALL {
                let labels = [("cache", topic.cache.as_str()), ("topic", &topic.topic), ("kind", kind.name())];
                self.line(name, &labels, topic.incidents[kind as usize].get());
            }
        }
    }

    /// received = delivered + ceded + purged + dead + pending.
    pub(crate) fn ledgers(&mut self, ledgers: &[(i64, RouteName, Ledger)]) {
        type Count = fn(&Ledger) -> u64;
        let numbers: [(&str, &str, &str, Count); 7] = [
            ("relay_received_total", "counter", "messages accepted for a route", |l| l.received),
            ("relay_delivered_total", "counter", "messages delivered", |l| l.delivered),
            ("relay_ceded_total", "counter", "messages that the other relay of a pair settled", |l| l.ceded),
            ("relay_purged_total", "counter", "dead letters deleted by a person", |l| l.purged),
            ("relay_dead", "gauge", "dead letters", |l| l.dead),
            ("relay_pending", "gauge", "messages to be delivered", |l| l.pending),
            ("relay_balanced", "gauge", "1 when received = delivered + ceded + purged + dead + pending", |l| {
                u64::from(l.balances())
            }),
        ];
        for (name, kind, help, count) in numbers {
            self.about(name, kind, help);
            for (_, route, ledger) in ledgers {
                self.line(name, &labels(route), count(ledger));
            }
        }
    }

    pub(crate) fn routes<'a>(&mut self, routes: impl Iterator<Item = (&'a RouteName, &'a RouteMetrics)> + Clone) {
        type Count = fn(&RouteMetrics) -> u64;
        let numbers: [(&str, &str, &str, Count); 5] = [
            ("relay_attempts_total", "counter", "requests sent", |r| r.attempts.get()),
            ("relay_retries_total", "counter", "attempts after which a message waits for another", |r| r.retried.get()),
            ("relay_died_total", "counter", "messages that became dead letters", |r| r.dead.get()),
            ("relay_attempts_under_way", "gauge", "requests under way", |r| r.under_way.load(Ordering::Relaxed)),
            ("relay_destination_shut", "gauge", "1 while a destination is left alone", |r| {
                u64::from(r.shut.load(Ordering::Relaxed))
            }),
        ];
        for (name, kind, help, count) in numbers {
            self.about(name, kind, help);
            for (route, metrics) in routes.clone() {
                self.line(name, &labels(route), count(metrics));
            }
        }
        let name = "relay_delivery_seconds";
        self.about(name, "histogram", "from receipt to the answer that settled a message");
        for (route, metrics) in routes {
            self.histogram(name, route, metrics);
        }
    }

    fn histogram(&mut self, name: &str, route: &RouteName, metrics: &RouteMetrics) {
        let mut below = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&metrics.buckets) {
            below += bucket.get();
            let bound = bound.to_string();
            let mut labels = labels(route).to_vec();
            labels.push(("le", &bound));
            self.line(&format!("{name}_bucket"), &labels, below);
        }
        let mut infinite = labels(route).to_vec();
        infinite.push(("le", "+Inf"));
        let count = metrics.delivered.get();
        self.line(&format!("{name}_bucket"), &infinite, count);
        self.line(&format!("{name}_sum"), &labels(route), metrics.milliseconds.get() as f64 / 1_000.0);
        self.line(&format!("{name}_count"), &labels(route), count);
    }
}

fn labels(route: &RouteName) -> [(&str, &str); 3] {
    [("cache", &route.cache), ("topic", &route.topic), ("route", &route.name)]
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_is_cumulative_and_labels_are_escaped() {
        let metrics = RouteMetrics::default();
        [5, 20, 20, 100_000_000].into_iter().for_each(|ms| metrics.took(ms));
        let route = RouteName { cache: "a\"b".into(), topic: "t".into(), name: "main".into() };
        let mut text = Text::new();
        text.routes([(&route, &metrics)].into_iter());
        let text = text.finish();
        for line in [
            r#"relay_delivery_seconds_bucket{cache="a\"b",topic="t",route="main",le="0.01"} 1"#,
            r#"relay_delivery_seconds_bucket{cache="a\"b",topic="t",route="main",le="0.025"} 3"#,
            r#"relay_delivery_seconds_bucket{cache="a\"b",topic="t",route="main",le="86400"} 3"#,
            r#"relay_delivery_seconds_bucket{cache="a\"b",topic="t",route="main",le="+Inf"} 4"#,
            r#"relay_delivery_seconds_count{cache="a\"b",topic="t",route="main"} 4"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
