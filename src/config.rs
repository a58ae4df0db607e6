//! Configuration: one small struct for each concern, read through a [`Lookup`] and never from the environment directly,
//! so that tests need not touch it.

use std::fmt;
use std::time::Duration;

use http::Uri;

use crate::event::is_cache_name;

/// Finds the value of a variable; the binaries pass [`env()`].
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process as a [`Lookup`].
#[allow(clippy::disallowed_methods, reason = "this is where the lookup meets the environment")]
pub fn env(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// A variable is missing or does not hold what it should. Names the variable and what to put there.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The variable is not set, or set to nothing.
    #[error("{variable} is not set: set it to {expected}")]
    Missing {
        /// The variable.
        variable: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// The variable holds something else.
    #[error("{variable} is not valid: set it to {expected}")]
    Invalid {
        /// The variable.
        variable: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
}

/// The value of a variable; set to nothing counts as not set.
pub fn optional(lookup: Lookup<'_>, variable: &str) -> Option<String> {
    lookup(variable).filter(|value| !value.is_empty())
}

/// The value of a variable that must be set.
///
/// # Errors
/// [`ConfigError::Missing`], which says that it should be `expected`.
pub fn required(lookup: Lookup<'_>, variable: &'static str, expected: &'static str) -> Result<String, ConfigError> {
    optional(lookup, variable).ok_or(ConfigError::Missing { variable, expected })
}

/// The value of a variable as a whole number within `range`, or `default` where it is not set.
///
/// # Errors
/// [`ConfigError::Invalid`], which says that it should be `expected`.
pub fn number(
    lookup: Lookup<'_>,
    variable: &'static str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    expected: &'static str,
) -> Result<u64, ConfigError> {
    let Some(value) = optional(lookup, variable) else { return Ok(default) };
    value.parse().ok().filter(|n| range.contains(n)).ok_or(ConfigError::Invalid { variable, expected })
}

/// The name of a cache, where it is set.
///
/// # Errors
/// [`ConfigError::Invalid`] for a name that no call could carry.
fn cache(lookup: Lookup<'_>, variable: &'static str) -> Result<Option<String>, ConfigError> {
    let name = optional(lookup, variable);
    match &name {
        Some(name) if !is_cache_name(name) => {
            Err(ConfigError::Invalid { variable, expected: "the name of a cache: printable ASCII" })
        }
        _ => Ok(name),
    }
}

/// How to reach Momento, beside the key.
#[derive(Clone, Debug, Default)]
pub struct MomentoConfig {
    /// `MOMENTO_ENDPOINT`: the service endpoint that a v2 key needs beside it.
    pub endpoint: Option<String>,
    /// `MOMENTO_ENDPOINT_URL`: one URL to use for every Momento service instead of those that the key names.
    pub endpoint_url: Option<EndpointUrl>,
    /// What the file holds that `SSL_CERT_FILE` names: PEM certificates to trust instead of those compiled in.
    pub certificates: Option<String>,
}

impl MomentoConfig {
    /// Reads `MOMENTO_ENDPOINT`, `MOMENTO_ENDPOINT_URL` and the file that `SSL_CERT_FILE` names.
    ///
    /// # Errors
    /// [`ConfigError`] for a URL that cannot be used, and for a file without certificates.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        const URL: &str = "MOMENTO_ENDPOINT_URL";
        const FILE: &str = "SSL_CERT_FILE";
        let read = |file| std::fs::read_to_string(file).ok().filter(|pem| pem.contains("BEGIN CERTIFICATE"));
        let certificates = optional(lookup, FILE)
            .map(|file| {
                let expected = "a readable file of PEM certificates";
                read(file).ok_or(ConfigError::Invalid { variable: FILE, expected })
            })
            .transpose()?;
        let endpoint_url = optional(lookup, URL).map(|url| EndpointUrl::parse(&url)).transpose();
        Ok(Self {
            endpoint: optional(lookup, "MOMENTO_ENDPOINT"),
            endpoint_url: endpoint_url.map_err(|expected| ConfigError::Invalid { variable: URL, expected })?,
            certificates,
        })
    }
}

/// The base URL of a Momento-compatible server: `https://`, or `http://` on the loopback interface, since a key in
/// plain text must not leave the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrl(String);

impl EndpointUrl {
    /// Checks the URL.
    ///
    /// # Errors
    /// What it should be.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "an https:// URL, or an http:// URL on the loopback interface (http://127.0.0.1:8080)";
        let uri: Uri = url.parse().map_err(|_| EXPECTED)?;
        let host = uri.host().ok_or(EXPECTED)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        match uri.scheme_str() {
            Some("https") if bare => {}
            Some("http") if bare && is_loopback(host) => {}
            _ => return Err(EXPECTED),
        }
        Ok(Self(url.trim_end_matches('/').to_owned()))
    }

    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is the connection to be made without TLS?
    pub fn is_plaintext(&self) -> bool {
        self.0.starts_with("http://")
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Does this host name this machine, and nothing but this machine?
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where a user's data lies: the JSON document `<key_prefix><token_id>`.
#[derive(Clone, Debug)]
pub struct UserConfig {
    /// `USER_CACHE`: the cache; the event's own where it is not set.
    pub cache: Option<String>,
    /// `USER_KEY_PREFIX`: what stands before the `token_id`; `user/` where it is not set.
    pub key_prefix: String,
}

impl UserConfig {
    /// Reads `USER_CACHE` and `USER_KEY_PREFIX`.
    ///
    /// # Errors
    /// [`ConfigError`] for what cannot name a cache, or a prefix that does not set users apart from what applications name
    /// by letters and digits.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let key_prefix = optional(lookup, "USER_KEY_PREFIX").unwrap_or_else(|| "user/".into());
        if key_prefix.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            let expected = "a prefix that ends in a separator, such as user/ or user:";
            return Err(ConfigError::Invalid { variable: "USER_KEY_PREFIX", expected });
        }
        Ok(Self { cache: cache(lookup, "USER_CACHE")?, key_prefix })
    }
}

/// Which topics may send events.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `EVENT_SOURCES` as (cache, topic); `None`: every topic whose events are signed.
    allowed: Option<Vec<(String, String)>>,
    /// `FEED_TOPIC`: what we publish there must never come back as an event, or one message would go round for ever.
    feed_topic: Option<String>,
}

impl Sources {
    /// Reads `EVENT_SOURCES` and `FEED_TOPIC`.
    ///
    /// # Errors
    /// [`ConfigError`] for a list that cannot be read, or for one that holds the feed topic.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let invalid = |variable, expected| ConfigError::Invalid { variable, expected };
        let feed_topic = optional(lookup, "FEED_TOPIC");
        let Some(list) = optional(lookup, "EVENT_SOURCES") else { return Ok(Self { allowed: None, feed_topic }) };
        let pair = |source: &str| {
            let (cache, topic) = source.trim().split_once('/')?;
            (!cache.is_empty() && !topic.is_empty()).then(|| (cache.to_owned(), topic.to_owned()))
        };
        let allowed: Vec<_> = list
            .split(',')
            .map(pair)
            .collect::<Option<_>>()
            .ok_or_else(|| invalid("EVENT_SOURCES", "CACHE/TOPIC pairs with commas between them"))?;
        if allowed.iter().any(|(_, topic)| Some(topic) == feed_topic.as_ref()) {
            return Err(invalid(
                "FEED_TOPIC",
                "a topic that is not among EVENT_SOURCES, or every message would return",
            ));
        }
        Ok(Self { allowed: Some(allowed), feed_topic })
    }

    /// May this topic send events?
    pub fn allow(&self, cache: &str, topic: &str) -> bool {
        self.feed_topic.as_deref() != Some(topic)
            && self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|(c, t)| c == cache && t == topic))
    }
}

/// What it takes to process an event, whichever way it came.
#[derive(Clone, Debug)]
pub struct ProcessingConfig {
    /// `MOMENTO_API_KEY_SECRET_NAME`: name or ARN of the secret that holds the Momento API key.
    pub api_key_secret: String,
    /// How to reach Momento.
    pub momento: MomentoConfig,
    /// Where users' data lies.
    pub users: UserConfig,
    /// `CLAIM_CACHE`: where claims lie, under `claim/`; the event's own cache where it is not set.
    pub claim_cache: Option<String>,
    /// `CLAIM_LEASE_SECONDS`: how long an attempt holds an event at most, 90 where it is not set. It is given up by then;
    /// but a call that was under way may still be applied, so let it be longer than the functions' timeouts.
    pub claim_lease: Duration,
    /// How long a fetched secret serves.
    pub secrets: SecretsConfig,
}

impl ProcessingConfig {
    /// Reads the variables.
    ///
    /// # Errors
    /// [`ConfigError`] for the first one that is missing or not valid.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            api_key_secret: required(
                lookup,
                "MOMENTO_API_KEY_SECRET_NAME",
                "the name or ARN of the secret that holds the Momento API key",
            )?,
            momento: MomentoConfig::from_lookup(lookup)?,
            users: UserConfig::from_lookup(lookup)?,
            claim_cache: cache(lookup, "CLAIM_CACHE")?,
            claim_lease: Duration::from_secs(number(
                lookup,
                "CLAIM_LEASE_SECONDS",
                90,
                1..=900,
                "a number of seconds from 1 to 900",
            )?),
            secrets: SecretsConfig::from_lookup(lookup)?,
        })
    }
}

/// Everything that the handler needs to know.
#[derive(Clone, Debug)]
pub struct HandlerConfig {
    /// `MOMENTO_SIGNING_SECRET_NAME` (or `THE_SIGNING_SECRET`, its name in Momento's original JavaScript example): name or
    /// ARN of the webhook's signing secret.
    pub signing_secret: String,
    /// Which topics may send.
    pub sources: Sources,
    /// `MAX_BODY_BYTES`: the largest body that is looked at, after base64; 64 KiB where it is not set.
    pub max_body: usize,
    /// `PARK_QUEUE_URL`: the queue for genuine events that could not be processed; none where it is not set, and then the
    /// sender is asked to try again.
    pub park_queue_url: Option<String>,
    /// `TEST_USER_AGENT`: genuine requests whose user agent contains this are answered 200 and nothing more; none where it
    /// is not set.
    pub test_user_agent: Option<String>,
    /// How metrics are told apart.
    pub metrics: MetricsConfig,
    /// What becomes of an event that has been verified.
    pub processing: ProcessingConfig,
}

impl HandlerConfig {
    /// Reads the handler's variables.
    ///
    /// # Errors
    /// [`ConfigError`] for the first one that is missing or not valid.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let max_body =
            number(lookup, "MAX_BODY_BYTES", 64 * 1024, 1..=512 * 1024, "a number of bytes from 1 to 524288")?;
        let processing = ProcessingConfig::from_lookup(lookup)?;
        let signing_secret =
            optional(lookup, "MOMENTO_SIGNING_SECRET_NAME").or_else(|| optional(lookup, "THE_SIGNING_SECRET"));
        Ok(Self {
            signing_secret: signing_secret.ok_or(ConfigError::Missing {
                variable: "MOMENTO_SIGNING_SECRET_NAME",
                expected: "the name or ARN of the secret that holds the webhook's signing secret",
            })?,
            sources: Sources::from_lookup(lookup)?,
            max_body: max_body as usize,
            park_queue_url: optional(lookup, "PARK_QUEUE_URL"),
            test_user_agent: optional(lookup, "TEST_USER_AGENT"),
            metrics: MetricsConfig::from_lookup(lookup),
            processing,
        })
    }
}

/// Everything that redrive needs to know.
#[derive(Clone, Debug)]
pub struct RedriveConfig {
    /// `PARK_QUEUE_URL`: the queue that it takes from.
    pub queue_url: String,
    /// `DEAD_LETTER_QUEUE_URL`: where records go that can never be processed.
    pub dead_letter_url: String,
    /// How metrics are told apart.
    pub metrics: MetricsConfig,
    /// What becomes of a record.
    pub processing: ProcessingConfig,
}

impl RedriveConfig {
    /// Reads the variables of redrive.
    ///
    /// # Errors
    /// [`ConfigError`] for the first one that is missing or not valid.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            queue_url: required(lookup, "PARK_QUEUE_URL", "the URL of the SQS queue that holds parked events")?,
            dead_letter_url: required(lookup, "DEAD_LETTER_QUEUE_URL", "the URL of that queue's dead-letter queue")?,
            metrics: MetricsConfig::from_lookup(lookup),
            processing: ProcessingConfig::from_lookup(lookup)?,
        })
    }
}

/// How this deployment's metrics are told from those of another one.
#[derive(Clone, Debug, Default)]
pub struct MetricsConfig {
    /// `METRICS_STACK`: the value of the dimension `stack`; no such dimension where it is not set.
    pub stack: Option<String>,
}

impl MetricsConfig {
    /// Reads `METRICS_STACK`.
    pub fn from_lookup(lookup: Lookup<'_>) -> Self {
        Self { stack: optional(lookup, "METRICS_STACK") }
    }
}

/// How long what Secrets Manager said serves.
#[derive(Clone, Debug)]
pub struct SecretsConfig {
    /// `SECRET_TTL_SECONDS`: how long a secret serves before it is fetched again; 300 where it is not set.
    pub ttl: Duration,
    /// `SECRET_OVERLAP_SECONDS`: how long after a rotation the previous signing secret still verifies; 900 where it is
    /// not set. It must be twice as long as `ttl` at least: a sender that has just seen a rotation signs with the previous
    /// secret for one `ttl`, and what it signed last is still under way then.
    pub overlap: Duration,
}

impl Default for SecretsConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(300), overlap: Duration::from_secs(900) }
    }
}

impl SecretsConfig {
    /// Reads `SECRET_TTL_SECONDS` and `SECRET_OVERLAP_SECONDS`.
    ///
    /// # Errors
    /// [`ConfigError`] for a value out of range, or for an overlap that is too short for the time to live.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        const OVERLAP: &str = "SECRET_OVERLAP_SECONDS";
        const DAY: &str = "a number of seconds from 1 to 86400";
        let default = Self::default();
        let ttl = number(lookup, "SECRET_TTL_SECONDS", default.ttl.as_secs(), 1..=86_400, DAY)?;
        let overlap = number(lookup, OVERLAP, default.overlap.as_secs(), 1..=86_400, DAY)?;
        if overlap < 2 * ttl {
            return Err(ConfigError::Invalid { variable: OVERLAP, expected: "at least twice SECRET_TTL_SECONDS" });
        }
        Ok(Self { ttl: Duration::from_secs(ttl), overlap: Duration::from_secs(overlap) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(variables: &[(&str, &str)]) -> Result<HandlerConfig, ConfigError> {
        let required = [("MOMENTO_API_KEY_SECRET_NAME", "key"), ("MOMENTO_SIGNING_SECRET_NAME", "signing")];
        HandlerConfig::from_lookup(&|name| {
            let value = variables.iter().chain(&required).find(|(variable, _)| *variable == name);
            value.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn two_secret_names_are_enough() {
        let config = handler(&[]).unwrap();
        assert_eq!((config.processing.api_key_secret.as_str(), config.signing_secret.as_str()), ("key", "signing"));
        assert_eq!(
            (config.processing.users.cache.as_deref(), config.processing.users.key_prefix.as_str()),
            (None, "user/")
        );
        assert_eq!(config.max_body, 65_536);
        assert!(config.sources.allow("any", "topic"));
    }

    #[test]
    fn the_name_of_the_javascript_example_is_accepted() {
        let config = handler(&[("MOMENTO_SIGNING_SECRET_NAME", ""), ("THE_SIGNING_SECRET", "old")]).unwrap();
        assert_eq!(config.signing_secret, "old");
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = HandlerConfig::from_lookup(&|_| None).unwrap_err().to_string();
        assert!(error.starts_with("MOMENTO_API_KEY_SECRET_NAME is not set: set it to "), "{error}");
    }

    #[test]
    fn an_invalid_variable_is_named() {
        for (variable, value) in [
            ("MAX_BODY_BYTES", "0"),
            ("MAX_BODY_BYTES", "64K"),
            ("EVENT_SOURCES", "no-topic"),
            ("EVENT_SOURCES", "cache/topic,"),
            ("MOMENTO_ENDPOINT_URL", "127.0.0.1:8080"),
            ("SECRET_TTL_SECONDS", "-1"),
            ("SECRET_OVERLAP_SECONDS", "599"),
            ("SSL_CERT_FILE", "Cargo.toml"),
            ("SSL_CERT_FILE", "no/such.pem"),
            ("USER_KEY_PREFIX", "user-"),
            ("USER_CACHE", "gebühren"),
            ("CLAIM_CACHE", "a\nb"),
        ] {
            let error = handler(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{variable} is not valid: set it to ")), "{error}");
        }
    }

    #[test]
    fn only_listed_sources_may_send() {
        let config = handler(&[("EVENT_SOURCES", "a/b, c/d/e")]).unwrap();
        assert!(config.sources.allow("a", "b") && config.sources.allow("c", "d/e"));
        assert!(!config.sources.allow("a", "d/e") && !config.sources.allow("a", "B"));
    }

    #[test]
    fn the_feed_topic_is_no_source() {
        assert!(!handler(&[("FEED_TOPIC", "feed")]).unwrap().sources.allow("a", "feed"));
        assert!(handler(&[("FEED_TOPIC", "feed"), ("EVENT_SOURCES", "a/feed")]).is_err());
    }

    #[test]
    fn plain_text_stays_on_this_machine() {
        for url in ["http://127.0.0.1:8080", "http://localhost:1/", "http://[::1]:8080", "https://example.com"] {
            assert!(EndpointUrl::parse(url).is_ok(), "{url}");
        }
        for url in [
            "http://example.com",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1",
            "ftp://localhost",
            "https://a/b",
            "",
        ] {
            assert!(EndpointUrl::parse(url).is_err(), "{url}");
        }
    }
}
