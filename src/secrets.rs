//! Secrets Manager: the signing secret, current and previous, and the Momento API key. Both are kept for a while and
//! fetched again when they have aged, so that a rotation needs no restart.

mod kept;
#[cfg(feature = "relay")]
mod signing;

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use secrecy::{ExposeSecret, SecretString};

use crate::aws::reason;
use crate::clock;
use crate::config::{MomentoConfig, SecretsConfig};
use crate::momento::{Credentials, CredentialsError, Momento};
use crate::signature::{EmptySecret, Secret, Signature, Verified, verify};
use kept::Kept;
#[cfg(feature = "relay")]
pub(crate) use signing::SigningKey;

/// A secret cannot be had. Names the secret, never its value.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Secrets Manager refused, or did not answer.
    #[error("cannot read the secret {name}: {reason}")]
    Unreadable {
        /// The secret's name or ARN.
        name: String,
        /// Secrets Manager's error code, or what kept it from answering.
        reason: String,
    },
    /// The secret holds bytes, not text.
    #[error("the secret {name} is binary: store it as text")]
    Binary {
        /// The secret's name or ARN.
        name: String,
    },
    /// The signing secret cannot be used.
    #[error(transparent)]
    Empty(#[from] EmptySecret),
    /// The API key cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A fetch failed just now; the next is tried in a moment.
    #[error("the last attempt to read the secret failed a moment ago")]
    Paused,
    /// There was no answer in the time that an event can wait.
    #[error("no answer in time")]
    Late,
}

impl SecretsError {
    /// Is there no such secret, or no such version?
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Unreadable { reason, .. } if reason == "ResourceNotFoundException")
    }
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct SecretsManager(Client);

/// One version of a secret.
struct Version {
    value: SecretString,
    /// When it was made, in epoch milliseconds.
    created: u64,
}

#[derive(Clone, Copy)]
enum Stage {
    Current,
    Previous,
}

impl SecretsManager {
    /// The service as configured. Calls nothing.
    pub fn new(config: &SdkConfig) -> Self {
        Self(Client::new(config))
    }

    async fn fetch(&self, name: &str, stage: Stage) -> Result<Version, SecretsError> {
        let stage = match stage {
            Stage::Current => "AWSCURRENT",
            Stage::Previous => "AWSPREVIOUS",
        };
        let answer = self.0.get_secret_value().secret_id(name).version_stage(stage).send().await;
        let answer = answer.map_err(|error| SecretsError::Unreadable { name: name.into(), reason: reason(&error) })?;
        let created = answer.created_date().and_then(|date| date.to_millis().ok()).unwrap_or_default();
        let value = answer.secret_string.ok_or_else(|| SecretsError::Binary { name: name.into() })?;
        Ok(Version { value: value.into(), created: created.max(0) as u64 })
    }

    /// The current value of a secret, fetched now.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn current(&self, name: &str) -> Result<SecretString, SecretsError> {
        Ok(self.fetch(name, Stage::Current).await?.value)
    }
}

/// The webhook's signing secret.
pub struct SigningSecret {
    manager: SecretsManager,
    name: String,
    overlap_ms: u64,
    kept: Kept<Versions<Secret>>,
}

/// What is known of a secret, each version as what is made of it.
struct Versions<T> {
    current: T,
    /// When the current version was made, in epoch milliseconds.
    rotated: u64,
    previous: Option<T>,
}

impl<T: Clone> Versions<T> {
    /// Both versions. While the previous one serves, which is for `serves_ms` after the current one was made, it must not be
    /// mistaken for none, nor for the one before it: where it cannot be fetched, `held` may know it.
    async fn fetch(
        manager: &SecretsManager,
        name: &str,
        serves_ms: u64,
        held: Option<Arc<Self>>,
        make: impl Fn(SecretString) -> Result<T, SecretsError>,
    ) -> Result<Self, SecretsError> {
        let (current, previous) =
            tokio::join!(manager.fetch(name, Stage::Current), manager.fetch(name, Stage::Previous));
        let Version { value, created } = current?;
        let previous = match previous {
            Ok(version) => make(version.value).ok(),
            Err(error) if error.is_not_found() => None, // before the first rotation
            Err(error) => match held.and_then(|held| held.replaced_by(created)) {
                None if clock::now() < created.saturating_add(serves_ms) => return Err(error),
                known => known,
            },
        };
        Ok(Self { current: make(value)?, rotated: created, previous })
    }

    /// The version before the one that was made then.
    fn replaced_by(&self, created: u64) -> Option<T> {
        if created == self.rotated { self.previous.clone() } else { Some(self.current.clone()) }
    }
}

/// A body could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum Unverified {
    /// The signature is not that of this body and a secret that serves.
    #[error("the signature is wrong")]
    WrongSignature,
    /// There is no secret to check it with.
    #[error(transparent)]
    NoSecret(Arc<SecretsError>),
}

impl SigningSecret {
    /// The secret called `name` (or with that ARN). Fetches nothing yet.
    pub fn new(manager: SecretsManager, name: impl Into<String>, config: &SecretsConfig) -> Self {
        let overlap_ms = config.overlap.as_millis() as u64;
        Self { manager, name: name.into(), overlap_ms, kept: Kept::new(config.ttl) }
    }

    /// Fetches the secret, so that the first event need not wait for it. A failure is logged, and tried again by then.
    pub async fn warm(&self, now: u64) {
        let _ = self.versions(now).await;
    }

    /// Checks a body. During a rotation the current and the previous version both serve, the previous one until the
    /// overlap after the current one's creation has passed.
    ///
    /// # Errors
    /// [`Unverified`].
    pub async fn verify<'a>(
        &self,
        signature: &Signature,
        body: &'a [u8],
        now: u64,
    ) -> Result<Verified<'a>, Unverified> {
        let versions = self.versions(now).await.map_err(Unverified::NoSecret)?;
        if let Some(verified) = versions.verify(signature, body, self.overlap_ms, now) {
            return Ok(verified);
        }
        // Perhaps signed with a version that we have not seen. Forgeries come here too: `renew` bounds how often.
        let renewed = self.kept.renew(&versions, now, || self.fetch(Some(versions.clone()))).await;
        let renewed = renewed.map_err(Unverified::NoSecret)?;
        renewed.verify(signature, body, self.overlap_ms, now).ok_or(Unverified::WrongSignature)
    }

    async fn versions(&self, now: u64) -> Result<Arc<Versions<Secret>>, Arc<SecretsError>> {
        self.kept.get(now, |held| self.fetch(held)).await
    }

    /// The start fetches the current version alone; the previous one comes with the first refresh.
    async fn fetch(&self, held: Option<Arc<Versions<Secret>>>) -> Result<Versions<Secret>, SecretsError> {
        let make = |value: SecretString| Ok(Secret::new(value.expose_secret())?);
        if held.is_some() {
            return Versions::fetch(&self.manager, &self.name, self.overlap_ms, held, make).await;
        }
        let Version { value, created } = self.manager.fetch(&self.name, Stage::Current).await?;
        Ok(Versions { current: make(value)?, rotated: created, previous: None })
    }
}

impl Versions<Secret> {
    fn verify<'a>(&self, signature: &Signature, body: &'a [u8], overlap: u64, now: u64) -> Option<Verified<'a>> {
        let previous = self.previous.as_ref().filter(|_| now < self.rotated.saturating_add(overlap));
        verify(&self.current, signature, body).or_else(|| verify(previous?, signature, body))
    }
}

/// The Momento API key, and the clients that use it.
pub struct ApiKey {
    manager: SecretsManager,
    name: String,
    config: MomentoConfig,
    deadline: Duration,
    kept: Kept<Keyed>,
}

struct Keyed {
    key: SecretString,
    momento: Momento,
}

impl ApiKey {
    /// The key in the secret called `name` (or with that ARN), whose clients give each call `deadline`. Fetches nothing
    /// yet.
    pub fn new(
        manager: SecretsManager,
        name: impl Into<String>,
        config: MomentoConfig,
        deadline: Duration,
        secrets: &SecretsConfig,
    ) -> Self {
        Self { manager, name: name.into(), config, deadline, kept: Kept::new(secrets.ttl) }
    }

    /// Momento, with the key as it is now: a new key brings new clients.
    ///
    /// # Errors
    /// [`SecretsError`] where there is no key that could serve.
    pub async fn momento(&self, now: u64) -> Result<Momento, Arc<SecretsError>> {
        let keyed = self.kept.get(now, |held| self.fetch(held)).await?;
        Ok(keyed.momento.clone())
    }

    /// Momento refused the key: the next call fetches it again, within bounds.
    pub fn doubt(&self) {
        self.kept.doubt();
    }

    async fn fetch(&self, held: Option<Arc<Keyed>>) -> Result<Keyed, SecretsError> {
        let key = self.manager.current(&self.name).await?;
        if let Some(held) = held.filter(|held| held.key.expose_secret() == key.expose_secret()) {
            return Ok(Keyed { key, momento: held.momento.clone() }); // and the connections stay open
        }
        let momento = Momento::connected(Credentials::parse(&key, &self.config)?, self.deadline).await?;
        Ok(Keyed { key, momento })
    }
}
