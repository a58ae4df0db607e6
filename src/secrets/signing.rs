//! The signing secret from the sender's side.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::kept::Kept;
use super::{SecretsError, SecretsManager, Stage, Version};
use crate::clock;
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
    kept: Kept<Pair>,
}

struct Pair {
    current: Version,
    previous: Option<Version>,
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
        let pair = self.kept.get(now, |held| Box::pin(self.fetch(held))).await?;
        let text = pair.serving(self.receivers_ttl_ms, now).value.clone();
        let secret = Secret::new(text.expose_secret()).map_err(|error| Arc::new(error.into()))?;
        Ok((secret, text))
    }

    async fn fetch(&self, held: Option<Arc<Pair>>) -> Result<Pair, SecretsError> {
        let current = self.manager.fetch(&self.name, Stage::Current);
        let (current, previous) = tokio::join!(current, self.manager.fetch(&self.name, Stage::Previous));
        let current = current?;
        let previous = match previous {
            Ok(version) => Some(version),
            Err(error) if error.is_not_found() => None, // before the first rotation
            Err(error) => match held.and_then(|held| held.replaced_by(&current)) {
                None if clock::now() < current.created.saturating_add(self.receivers_ttl_ms) => return Err(error), // it serves
                known => known,
            },
        };
        Ok(Pair { current, previous })
    }
}

impl Pair {
    /// The version before `current`, as far as it is known from here.
    fn replaced_by(&self, current: &Version) -> Option<Version> {
        if current.created == self.current.created { self.previous.clone() } else { Some(self.current.clone()) }
    }

    fn serving(&self, receivers_ttl_ms: u64, now: u64) -> &Version {
        let known_everywhere = self.current.created.saturating_add(receivers_ttl_ms) <= now;
        self.previous.as_ref().filter(|_| !known_everywhere).unwrap_or(&self.current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_previous_version_signs_until_receivers_know_the_current_one() {
        let version = |value: &str, created| Version { value: value.into(), created };
        let mut pair = Pair { current: version("new", 10_000), previous: Some(version("old", 0)) };
        let serving = |pair: &Pair, now| pair.serving(3_000, now).value.expose_secret().to_owned();
        assert_eq!(serving(&pair, 10_001), "old");
        assert_eq!(serving(&pair, 12_999), "old");
        assert_eq!(serving(&pair, 13_000), "new");
        pair.previous = None;
        assert_eq!(serving(&pair, 10_001), "new", "there is no other");
    }
}
