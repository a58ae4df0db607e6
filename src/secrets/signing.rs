//! The signing secret from the sender's side.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::kept::Kept;
use super::{SecretsError, SecretsManager, Versions};
use crate::config::SecretsConfig;
use crate::signature::Secret;

/// How long a fetched version serves a sender at most, so that a rotation is seen well before a receiver stops accepting
/// the previous version.
const MAX_TTL: Duration = Duration::from_secs(60);

/// The secret that signs for a destination. After a rotation the previous version signs on until every receiver has had the
/// time to fetch the new one.
pub(crate) struct SigningKey {
    manager: SecretsManager,
    name: String,
    /// How long a receiver keeps what it has fetched, in milliseconds.
    receivers_ttl_ms: u64,
    kept: Kept<Versions<SecretString>>,
}

impl SigningKey {
    /// The secret called `name` (or with that ARN), for receivers that are configured as we are. Fetches nothing yet.
    pub(crate) fn new(manager: SecretsManager, name: impl Into<String>, config: &SecretsConfig) -> Self {
        let receivers_ttl_ms = config.ttl.as_millis() as u64;
        Self { manager, name: name.into(), receivers_ttl_ms, kept: Kept::new(config.ttl.min(MAX_TTL)) }
    }

    /// The secret to sign with now, and its text for schemes other than Momento's.
    ///
    /// # Errors
    /// [`SecretsError`] where there is none that could serve.
    pub(crate) async fn get(&self, now: u64) -> Result<(Secret, SecretString), Arc<SecretsError>> {
        // Boxed, since it is large and rarely run: each attempt would carry the room for it.
        let fetch = |held| {
            Box::pin(Versions::fetch(&self.manager, &self.name, self.receivers_ttl_ms, held, Ok::<_, SecretsError>))
        };
        let text = self.kept.get(now, fetch).await?.serving(self.receivers_ttl_ms, now).clone();
        let secret = Secret::new(text.expose_secret()).map_err(|error| Arc::new(error.into()))?;
        Ok((secret, text))
    }
}

impl Versions<SecretString> {
    fn serving(&self, receivers_ttl_ms: u64, now: u64) -> &SecretString {
        let known_everywhere = self.rotated.saturating_add(receivers_ttl_ms) <= now;
        self.previous.as_ref().filter(|_| !known_everywhere).unwrap_or(&self.current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_previous_version_signs_until_receivers_know_the_current_one() {
        let mut pair = Versions { current: "new".into(), rotated: 10_000, previous: Some("old".into()) };
        let serving = |pair: &Versions<SecretString>, now| pair.serving(3_000, now).expose_secret().to_owned();
        assert_eq!(serving(&pair, 10_001), "old");
        assert_eq!(serving(&pair, 12_999), "old");
        assert_eq!(serving(&pair, 13_000), "new");
        pair.previous = None;
        assert_eq!(serving(&pair, 10_001), "new", "there is no other");
    }
}
