//! A route: one destination of one topic.

use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Deserializer};

use super::{MAX_HORIZON, seconds};
use crate::delivery::{Reach, split_target};

/// One destination of one topic.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    pub(crate) cache: String,
    pub(crate) topic: String,
    /// Tells the routes of one topic apart. Messages wait for a route by its name, so its URL may be corrected meanwhile.
    #[serde(default = "main_name")]
    pub(crate) name: String,
    #[serde(deserialize_with = "url")]
    pub(crate) url: Url,
    /// The name or ARN of the secret that signs; `MOMENTO_SIGNING_SECRET_NAME` where it is not set.
    #[serde(default)]
    pub(crate) signing_secret: Option<String>,
    /// Sign requests for AWS too, so that a function URL need not be public.
    #[serde(default)]
    pub(crate) aws_auth: bool,
    /// The region to sign for, where the URL does not name it.
    #[serde(default)]
    pub(crate) aws_region: Option<String>,
    /// Add a Standard Webhooks signature.
    #[serde(default)]
    pub(crate) standard_webhooks: bool,
    #[serde(default)]
    pub(crate) mode: Mode,
    #[serde(default)]
    pub(crate) order: Order,
    /// What messages with an order have in common: `token_id`, or a JSON pointer into the message's text, such as
    /// `/courseId`. A message without it has no order.
    #[serde(default = "token_id")]
    pub(crate) key: String,
    /// How many attempts may be under way.
    #[serde(default = "concurrency")]
    pub(crate) concurrency: usize,
    /// How many attempts a second are begun at most.
    #[serde(default)]
    pub(crate) per_second: Option<f64>,
    /// Bounds an attempt, the answer's body included. Default 10 s: a cold start and the handler's own 4 s.
    #[serde(rename = "deadline_seconds", default = "deadline", deserialize_with = "seconds")]
    pub(crate) deadline: Duration,
    /// How long after its first doubtful attempt a message is tried. Default 20 h.
    #[serde(rename = "horizon_seconds", default = "horizon", deserialize_with = "seconds")]
    pub(crate) horizon: Duration,
    /// The longest wait between two attempts. Default 5 min.
    #[serde(rename = "retry_seconds", default = "retry", deserialize_with = "seconds")]
    pub(crate) retry: Duration,
}

/// How hard a route tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Until it is delivered.
    #[default]
    Durable,
    /// As Momento's retired service did: one attempt, 5 s, five a second. What fails is a dead letter.
    Retired,
}

/// Which messages wait for which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// A topic's messages one after another.
    Topic,
    /// Those with the same key one after another.
    #[default]
    Key,
    /// None.
    None,
}

fn main_name() -> String {
    "main".into()
}
fn token_id() -> String {
    "token_id".into()
}
fn concurrency() -> usize {
    16
}
fn deadline() -> Duration {
    Duration::from_secs(10)
}
fn horizon() -> Duration {
    Duration::from_secs(20 * 60 * 60)
}
fn retry() -> Duration {
    Duration::from_secs(5 * 60)
}

fn url<'de, D: Deserializer<'de>>(from: D) -> Result<Url, D::Error> {
    String::deserialize(from)?.parse().map_err(|_| serde::de::Error::custom("expected a URL"))
}

impl Route {
    /// A route from its flag, with everything else as it is by default.
    pub(crate) fn from_flag(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "expected CACHE/TOPIC=URL, with a URL that starts with https:// (or http:// on this machine)";
        let (cache, topic, url) = split_target(text).ok_or(FORM)?;
        let url = Url::parse(url).map_err(|_| FORM)?;
        let fields = [("cache", cache), ("topic", topic), ("url", url.as_str())];
        let table: toml::Table = fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        table.try_into().map_err(|error: toml::de::Error| error.to_string())
    }

    pub(super) fn same_place(&self, other: &Self) -> bool {
        (&self.cache, &self.topic, &self.name) == (&other.cache, &other.topic, &other.name)
    }

    /// What a mode stands for.
    pub(super) fn settle(&mut self) {
        if self.mode == Mode::Retired {
            self.deadline = Duration::from_secs(5).min(self.deadline);
            self.per_second = Some(self.per_second.unwrap_or(5.0));
            self.order = Order::None;
        }
    }

    pub(super) fn check(&self, reach: Reach, default_secret: bool) -> Result<(), String> {
        if self.cache.is_empty() || self.topic.is_empty() || self.name.is_empty() {
            return Err("`cache`, `topic` and `name` may not be empty".into());
        }
        reach.check(&self.url).map_err(|what| format!("the URL cannot be used: {what}"))?;
        if self.signing_secret.is_none() && !default_secret {
            return Err("it has no secret to sign with: set `signing_secret` or MOMENTO_SIGNING_SECRET_NAME".into());
        }
        if !(1..=1_000).contains(&self.concurrency) {
            return Err("`concurrency` is a number from 1 to 1000".into());
        }
        if self.per_second.is_some_and(|rate| !(0.01..=100_000.0).contains(&rate)) {
            return Err("`per_second` is a number from 0.01 to 100000".into());
        }
        if self.deadline > Duration::from_secs(60) {
            return Err("`deadline_seconds` is at most 60, since a receiver refuses what is older".into());
        }
        if self.horizon > MAX_HORIZON {
            return Err(format!("`horizon_seconds` is at most {}: handlers remember for 24 h", MAX_HORIZON.as_secs()));
        }
        if self.key != "token_id" && !self.key.starts_with('/') {
            return Err("`key` is `token_id` or a JSON pointer, such as `/courseId`".into());
        }
        Ok(())
    }
}
