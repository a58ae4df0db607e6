//! What the server holds when it starts.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    secrets::{self, Content, Secrets},
    store::{self, Store, check_cache_name},
};
use crate::event::is_token_id;

/// The secret that holds the API key, as a v1 key. There always is one.
pub(super) const API_KEY_SECRET: &str = "momento-api-key";
/// The secret that webhooks are signed with. There always is one.
pub(super) const SIGNING_SECRET: &str = "momento-signing-secret";
/// The API key where none is configured. Everyone knows it, so it opens nothing beyond loopback.
pub(super) const DEVELOPMENT_API_KEY: &str = "local-development-api-key";
const DEVELOPMENT_SIGNING_SECRET: &str = "local-development-signing-secret";
/// Users live under this prefix, each at `user/<token_id>`.
const USER_PREFIX: &str = "user/";

/// What the server holds when it starts: by default, the example of course comments.
///
/// In a file, whatever is left out is empty, except for the two secrets that the other programs need: `momento-api-key`
/// and `momento-signing-secret` have values for development unless the seed gives others.
///
/// ```
/// let seed = momento_webhook::local::Seed::default();
/// assert_eq!(seed.caches, ["course-comments"]);
/// assert_eq!(seed.users["taylor"]["name"], "Taylor");
/// ```
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The caches that exist from the start.
    #[serde(default)]
    pub caches: Vec<String>,
    /// The key of the super user, as a client sends it.
    #[serde(default)]
    pub api_key: Option<String>,
    /// Users by their `token_id`. Each is stored, as a JSON document that does not expire, in every cache above.
    #[serde(default)]
    pub users: BTreeMap<String, Map<String, Value>>,
    /// Secrets by their names.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
}

impl Default for Seed {
    fn default() -> Self {
        let taylor = [("name".to_owned(), json!("Taylor")), ("email".to_owned(), json!("taylor@example.com"))];
        Self {
            caches: vec!["course-comments".to_owned()],
            api_key: None,
            users: BTreeMap::from([("taylor".to_owned(), Map::from_iter(taylor))]),
            secrets: BTreeMap::new(),
        }
    }
}

/// Names what is there, and none of the keys, secrets or users' data.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed")
            .field("caches", &self.caches)
            .field("users", &self.users.keys())
            .field("secrets", &self.secrets.keys())
            .finish_non_exhaustive()
    }
}

/// Why a seed is not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file cannot be read.
    #[error("cannot read the seed {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file's extension says neither of the two formats.
    #[error("the seed {0} must be a .toml or a .json file")]
    Format(String),
    /// The file cannot be parsed, or a field is not known or of the wrong type.
    #[error("in the seed {path}, at `{field}`: {expected}")]
    Parse {
        /// The file.
        path: String,
        /// The field.
        field: String,
        /// What was expected.
        expected: String,
    },
    /// A field holds what it may not hold.
    #[error("in the seed, at `{field}`: expected {expected}")]
    Invalid {
        /// The field.
        field: String,
        /// What was expected.
        expected: String,
    },
}

impl Seed {
    /// Reads a seed from a TOML or JSON file, by its extension.
    ///
    /// # Errors
    /// [`SeedError`], which names the file, the field, and what was expected.
    pub fn read(path: &Path) -> Result<Self, SeedError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| SeedError::Read { path: name.clone(), source })?;
        let mut seed: Self = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => {
                let text =
                    toml::Deserializer::parse(&text).map_err(|error| parse_error(&name, "(the file)", &error))?;
                parse(&name, text)?
            }
            Some("json") => parse(&name, &mut serde_json::Deserializer::from_str(&text))?,
            _ => return Err(SeedError::Format(name)),
        };
        seed.users.values_mut().flat_map(Map::values_mut).for_each(dates_to_text);
        seed.check().map_err(|error| match error {
            SeedError::Invalid { field, expected } => {
                SeedError::Parse { path: name, field, expected: format!("expected {expected}") }
            }
            error => error,
        })?;
        Ok(seed)
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`SeedError::Invalid`], which names the field and what was expected.
    pub fn check(&self) -> Result<(), SeedError> {
        let invalid = |field: String, expected: &str| Err(SeedError::Invalid { field, expected: expected.to_owned() });
        for (place, name) in self.caches.iter().enumerate() {
            if check_cache_name(name).is_err() || self.caches[..place].contains(name) {
                return invalid(format!("caches[{place}]"), "names of 1 to 255 characters, each once");
            }
        }
        if let Some(key) = &self.api_key {
            check_api_key(key)?;
        }
        if let Some(id) = self.users.keys().find(|id| id.is_empty() || !is_token_id(id)) {
            return invalid(format!("users.{id:?}"), "an id of 1 to 64 bytes without `/` or control characters");
        }
        if !self.users.is_empty() && self.caches.is_empty() {
            return invalid("caches".to_owned(), "at least one cache to hold the users");
        }
        Ok(())
    }

    /// Puts everything in its place.
    pub(super) fn apply(&self, api_key: &str, store: &mut Store, secrets: &Secrets, now: u64) -> Result<(), SeedError> {
        for cache in &self.caches {
            let invalid = |field: String| {
                move |error: store::Error| SeedError::Invalid { field, expected: format!("what fits: {error}") }
            };
            store.create_cache(cache).map_err(invalid("caches".to_owned()))?;
            for (id, user) in &self.users {
                let document = json!(user).to_string().into_bytes();
                let key = format!("{USER_PREFIX}{id}").into_bytes();
                let seeded = store.items(cache, now).and_then(|mut items| items.seed(key, document));
                seeded.map_err(invalid(format!("users.{id:?}")))?;
            }
        }
        let mut values = self.secrets.clone();
        values.entry(API_KEY_SECRET.to_owned()).or_insert_with(|| v1_key(api_key));
        values.entry(SIGNING_SECRET.to_owned()).or_insert_with(|| DEVELOPMENT_SIGNING_SECRET.to_owned());
        for (name, value) in values {
            let created = secrets.lock().create(&name, None, None, Some(Content::Text(value)), now).map(drop);
            created.map_err(|error: secrets::Error| SeedError::Invalid {
                field: format!("secrets.{name:?}"),
                expected: format!("what fits: {error}"),
            })?;
        }
        Ok(())
    }
}

/// May this be a key? It must travel in a header as it is.
pub(super) fn check_api_key(key: &str) -> Result<(), SeedError> {
    if !key.is_empty() && key.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    Err(SeedError::Invalid { field: "api_key".to_owned(), expected: "ASCII characters without spaces".to_owned() })
}

/// A key in the form in which Momento's console hands it out, and from which SDKs take what they send.
pub(super) fn v1_key(api_key: &str) -> String {
    STANDARD.encode(json!({ "endpoint": "localhost", "api_key": api_key }).to_string())
}

/// TOML has dates. They come in a wrapper of the parser's, which no reader of the user's data would expect.
fn dates_to_text(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(dates_to_text),
        Value::Object(fields) => match fields.remove("$__toml_private_datetime") {
            Some(date) => *value = date,
            None => fields.values_mut().for_each(dates_to_text),
        },
        _ => {}
    }
}

fn parse<'de, T: DeserializeOwned>(name: &str, text: impl serde::Deserializer<'de>) -> Result<T, SeedError> {
    serde_path_to_error::deserialize(text).map_err(|error| {
        let field = error.path().to_string();
        parse_error(name, &field, error.inner())
    })
}

/// The parser's message says what was expected. A seed is the developer's own file, so it may quote what stands there.
fn parse_error(name: &str, field: &str, error: &dyn fmt::Display) -> SeedError {
    let expected = error.to_string().trim_end().to_owned();
    SeedError::Parse { path: name.to_owned(), field: field.to_owned(), expected }
}
