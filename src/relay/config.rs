//! The relay's configuration: a TOML file (or its text in `RELAY_CONFIG`), with flags before it and a default for everything
//! but the routes.

mod route;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::config::{ConfigError, Lookup, MomentoConfig, SecretsConfig, optional};
use crate::delivery::Reach;

pub(crate) use route::{Mode, Order, Route};

/// How many topics one relay subscribes to at most, and how many routes it may have.
const MAX_ROUTES: usize = 500;
/// The longest that a message may be tried for: under the handlers' memory of 24 h, by what an attempt and two clocks take.
pub(crate) const MAX_HORIZON: Duration = Duration::from_secs(23 * 60 * 60);

/// The configuration is not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum RelayConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read")]
    File {
        /// Which one.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not the TOML that we expect. toml's message shows the line.
    #[error("the configuration is not valid: {0}")]
    Toml(String),
    /// A value is not acceptable.
    #[error("the configuration is not valid: {0}")]
    Value(String),
    /// A variable is not valid.
    #[error(transparent)]
    Variable(#[from] ConfigError),
}

/// Everything that the relay needs to know.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which topics are delivered, and where to.
    #[serde(rename = "route")]
    pub(crate) routes: Vec<Route>,
    pub(crate) position: Position,
    pub(crate) standby: Standby,
    pub(crate) http: Http,
    pub(crate) network: Network,
    pub(crate) subscribe: Subscribe,
    pub(crate) shutdown: Shutdown,
    /// From variables, not from the file.
    #[serde(skip)]
    pub(crate) account: Account,
}

/// Where positions and pending messages are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Position {
    pub(crate) kind: PositionKind,
    /// The journal's folder.
    pub(crate) path: PathBuf,
    /// The Momento cache for positions and times of receipt; the topic's own where it is not set.
    pub(crate) cache: Option<String>,
    /// The largest journal. Default 1 GiB on disk, 128 MiB without. Once it is full nothing more is accepted.
    pub(crate) max_bytes: Option<u64>,
}

/// What survives the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PositionKind {
    /// A journal on disk: everything.
    #[default]
    Disk,
    /// A Momento cache: how far each route has come, and when each message was received.
    Momento,
}

impl Default for Position {
    fn default() -> Self {
        Self { kind: PositionKind::Disk, path: "relay-data".into(), cache: None, max_bytes: None }
    }
}

impl Position {
    pub(crate) fn folder(&self) -> Option<&std::path::Path> {
        (self.kind == PositionKind::Disk).then_some(self.path.as_path())
    }

    pub(crate) fn max_bytes(&self) -> u64 {
        let default = if self.kind == PositionKind::Disk { 1 << 30 } else { 128 << 20 };
        self.max_bytes.unwrap_or(default)
    }
}

/// Two relays for the same routes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Standby {
    /// Whether another relay may take over. Where positions are kept in Momento it is always so.
    pub(crate) enabled: bool,
    /// The Momento cache that holds the lease; the first route's where it is not set.
    pub(crate) cache: Option<String>,
    /// How long a relay that has died keeps the other one waiting.
    #[serde(rename = "lease_seconds", deserialize_with = "seconds")]
    pub(crate) lease: Duration,
}

impl Default for Standby {
    fn default() -> Self {
        Self { enabled: false, cache: None, lease: Duration::from_secs(10) }
    }
}

/// Probes and metrics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// `/livez`, `/readyz` and `/metrics` are served here; an empty text serves them nowhere.
    pub(crate) listen: String,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9464".into() }
    }
}

/// Where deliveries may go.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    pub(crate) allow_loopback: bool,
    pub(crate) allow_private: bool,
}

impl Network {
    pub(crate) fn reach(self) -> Reach {
        Reach { loopback: self.allow_loopback, private: self.allow_private }
    }
}

/// How subscriptions are watched.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Subscribe {
    /// After this long without a message or a heartbeat a subscription is made anew.
    #[serde(rename = "stall_seconds", deserialize_with = "seconds")]
    pub(crate) stall: Duration,
}

impl Default for Subscribe {
    fn default() -> Self {
        Self { stall: Duration::from_secs(30) }
    }
}

/// How the relay ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Shutdown {
    /// How long attempts that are under way may take.
    #[serde(rename = "drain_seconds", deserialize_with = "seconds")]
    pub(crate) drain: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain: Duration::from_secs(20) }
    }
}

/// Whose topics they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) api_key: Option<secrecy::SecretString>,
    pub(crate) api_key_secret: Option<String>,
    pub(crate) signing_secret: Option<String>,
    pub(crate) momento: MomentoConfig,
    pub(crate) secrets: SecretsConfig,
}

/// A number of seconds, and never none.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(from)?;
    let valid = Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero());
    valid.ok_or_else(|| serde::de::Error::custom("expected a number of seconds, more than 0"))
}

impl Config {
    /// Reads the file at `path`, or else the text in `RELAY_CONFIG`, and the variables. [`Config::check`] comes after the
    /// flags.
    ///
    /// # Errors
    /// [`RelayConfigError`], which says what is wrong where.
    pub fn read(path: Option<&std::path::Path>, lookup: Lookup<'_>) -> Result<Self, RelayConfigError> {
        let text = match path {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| RelayConfigError::File { path: path.display().to_string(), source })?,
            None => optional(lookup, "RELAY_CONFIG").unwrap_or_default(),
        };
        let mut config: Self = toml::from_str(&text).map_err(|error| RelayConfigError::Toml(error.to_string()))?;
        config.account = Account {
            api_key: optional(lookup, "MOMENTO_API_KEY").map(Into::into),
            api_key_secret: optional(lookup, "MOMENTO_API_KEY_SECRET_NAME"),
            signing_secret: optional(lookup, "MOMENTO_SIGNING_SECRET_NAME")
                .or_else(|| optional(lookup, "THE_SIGNING_SECRET")),
            momento: MomentoConfig::from_lookup(lookup)?,
            secrets: SecretsConfig::from_lookup(lookup)?,
        };
        Ok(config)
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`RelayConfigError::Value`] for the first thing that is wrong.
    pub fn check(&mut self) -> Result<(), RelayConfigError> {
        let invalid = |what: String| Err(RelayConfigError::Value(what));
        if self.routes.is_empty() {
            return invalid("there is no route: name one with --route CACHE/TOPIC=URL or in a [[route]] table".into());
        }
        if self.routes.len() > MAX_ROUTES {
            return invalid(format!("there are more than {MAX_ROUTES} routes"));
        }
        let account = &self.account;
        if account.api_key.is_none() && account.api_key_secret.is_none() {
            return invalid("set MOMENTO_API_KEY_SECRET_NAME to the name of the secret with the API key".into());
        }
        self.routes.iter_mut().for_each(Route::settle);
        for (at, route) in self.routes.iter().enumerate() {
            let name = format!("the route {}/{} ({})", route.cache, route.topic, route.name);
            if let Err(what) = route.check(self.network.reach(), account.signing_secret.is_some()) {
                return invalid(format!("{name}: {what}"));
            }
            if self.routes[..at].iter().any(|other| other.same_place(route)) {
                return invalid(format!("{name} is there twice: give each route of a topic its own `name`"));
            }
        }
        Ok(())
    }

    /// The topics, each once, with the routes' indices.
    pub(crate) fn topics(&self) -> Vec<(String, String, Vec<usize>)> {
        let mut topics: Vec<(String, String, Vec<usize>)> = Vec::new();
        for (at, route) in self.routes.iter().enumerate() {
            match topics.iter_mut().find(|(cache, topic, _)| *cache == route.cache && *topic == route.topic) {
                Some((.., routes)) => routes.push(at),
                None => topics.push((route.cache.clone(), route.topic.clone(), vec![at])),
            }
        }
        topics
    }

    /// May another relay deliver for the same routes?
    pub(crate) fn is_paired(&self) -> bool {
        self.standby.enabled || self.position.kind == PositionKind::Momento
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, RelayConfigError> {
        let lookup = |name: &str| match name {
            "RELAY_CONFIG" => Some(text.to_owned()),
            "MOMENTO_API_KEY_SECRET_NAME" | "MOMENTO_SIGNING_SECRET_NAME" => Some("a-secret".into()),
            _ => None,
        };
        let mut config = Config::read(None, &lookup)?;
        config.check()?;
        Ok(config)
    }

    const ROUTE: &str = "[[route]]\ncache = \"c\"\ntopic = \"t\"\nurl = \"https://example.com/hook\"\n";

    #[test]
    fn what_the_deployment_writes_is_read() {
        let config = read(&format!("{ROUTE}aws_auth = true\n\n[position]\nkind = \"momento\"\n")).unwrap();
        assert!(config.routes[0].aws_auth && config.is_paired());
        assert_eq!(config.position.folder(), None);
        assert_eq!(config.routes[0].url.as_str(), "https://example.com/hook");
    }

    #[test]
    fn one_route_is_enough() {
        let config = read(ROUTE).unwrap();
        assert_eq!(config.position.folder(), Some(std::path::Path::new("relay-data")));
        assert_eq!((config.routes[0].order, config.routes[0].mode), (Order::Key, Mode::Durable));
        assert!(!config.is_paired());
    }

    #[test]
    fn the_retired_services_mode_has_its_bounds() {
        let config = read(&format!("{ROUTE}mode = \"retired\"\n")).unwrap();
        let route = &config.routes[0];
        assert_eq!((route.deadline, route.per_second, route.order), (Duration::from_secs(5), Some(5.0), Order::None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            (String::new(), "--route"),
            (ROUTE.replace("https://", "http://"), "https://"),
            (ROUTE.replace("example.com", "127.0.0.1"), "--allow-loopback"),
            (format!("{ROUTE}{ROUTE}"), "its own `name`"),
            (format!("{ROUTE}horizon_seconds = 90000"), "24 h"),
            (format!("{ROUTE}concurrency = 0"), "concurrency"),
            (format!("{ROUTE}key = \"courseId\""), "JSON pointer"),
            (format!("{ROUTE}deadline_seconds = -1"), "seconds"),
            (format!("{ROUTE}retries = 3"), "retries"),
            (format!("{ROUTE}[position]\nkind = \"tape\""), "tape"),
        ] {
            let error = read(&text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_flag_is_a_route() {
        let route = Route::from_flag("c/a=b=https://example.com/").unwrap();
        assert_eq!((route.cache.as_str(), route.topic.as_str(), route.name.as_str()), ("c", "a=b", "main"));
        assert!(Route::from_flag("c=https://example.com").is_err());
    }
}
