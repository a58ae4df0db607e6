//! As much of AWS Secrets Manager as the other programs use: secrets, their versions, and the stages that name these.
//!
//! Pure but for the lock: `now` is an argument, in epoch milliseconds.

mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};

pub(super) use service::{failure, serve};

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
/// AWS's limit on a secret's value, in bytes.
const MAX_VALUE_BYTES: usize = 65_536;
/// How many secrets there may be, and how many versions of one that no stage names.
const MAX_SECRETS: usize = 1_000;
const MAX_UNNAMED: usize = 20;

/// Why a call was refused, as Secrets Manager would say it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("there is no {0}")]
    NotFound(String),
    #[error("{0} exists already")]
    Exists(String),
    #[error("{0}")]
    InvalidParameter(String),
    #[error("there are {MAX_SECRETS} secrets, and that is the limit")]
    LimitExceeded,
}

/// A value: text, or bytes in base64 as they came.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Binary(String),
}

#[derive(Clone)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) content: Content,
    pub(super) stages: BTreeSet<String>,
    /// In epoch milliseconds.
    pub(super) created_at: u64,
}

pub(super) struct Secret {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) description: Option<String>,
    pub(super) created_at: u64,
    /// From oldest to newest.
    pub(super) versions: Vec<Version>,
    /// How many versions there have ever been: their ids come from it, the same on every start.
    made: u64,
}

/// The secrets, shared between the endpoint and the webhooks.
#[derive(Clone, Default)]
pub(super) struct Secrets(Arc<Mutex<Vault>>);

impl Secrets {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current value of a secret, if it is text.
    pub(super) fn current(&self, name: &str) -> Option<String> {
        match &self.lock().version(name, None, None).ok()?.1.content {
            Content::Text(text) => Some(text.clone()),
            Content::Binary(_) => None,
        }
    }
}

/// Every secret, by its name.
#[derive(Default)]
pub(super) struct Vault(BTreeMap<String, Secret>);

impl Vault {
    /// Finds a secret by its name, or by its ARN with or without the six characters at its end.
    pub(super) fn secret(&self, id: &str) -> Result<&Secret, Error> {
        let by_arn = |secret: &&Secret| {
            id.starts_with("arn:")
                && id
                    .split_once(":secret:")
                    .is_some_and(|(_, id)| id == secret.name || secret.arn.ends_with(&format!(":secret:{id}")))
        };
        let found = self.0.get(id).or_else(|| self.0.values().find(by_arn));
        found.ok_or_else(|| Error::NotFound(format!("secret `{id}`")))
    }

    /// Finds a version by its id, by a stage, or by both; by [`CURRENT`] if neither is given.
    pub(super) fn version(
        &self,
        id: &str,
        version: Option<&str>,
        stage: Option<&str>,
    ) -> Result<(&Secret, &Version), Error> {
        let secret = self.secret(id)?;
        let stage = if version.is_none() { stage.or(Some(CURRENT)) } else { stage };
        let fits = |candidate: &&Version| {
            version.is_none_or(|id| candidate.id == id) && stage.is_none_or(|stage| candidate.stages.contains(stage))
        };
        match secret.versions.iter().find(fits) {
            Some(version) => Ok((secret, version)),
            None => Err(Error::NotFound(match (version, stage) {
                (Some(version), Some(stage)) => format!("version `{version}` of this secret with the stage `{stage}`"),
                (Some(version), None) => format!("version `{version}` of this secret"),
                (None, stage) => format!("version of this secret with the stage `{}`", stage.unwrap_or(CURRENT)),
            })),
        }
    }

    /// Creates a secret, and its first version if there is a value. A repetition with the same token does nothing.
    pub(super) fn create(
        &mut self,
        name: &str,
        description: Option<String>,
        token: Option<String>,
        content: Option<Content>,
        now: u64,
    ) -> Result<(&Secret, Option<String>), Error> {
        check_name(name)?;
        if let Some(secret) = self.0.get(name) {
            let is_repeated = secret
                .versions
                .iter()
                .any(|version| Some(&version.id) == token.as_ref() && Some(&version.content) == content.as_ref());
            if !is_repeated {
                return Err(Error::Exists(format!("a secret named `{name}`")));
            }
        } else {
            if self.0.len() >= MAX_SECRETS {
                return Err(Error::LimitExceeded);
            }
            check_version(token.as_deref(), content.as_ref())?;
            let arn = format!("arn:aws:secretsmanager:us-east-1:000000000000:secret:{name}-{}", &digest(name, 0)[..6]);
            let secret =
                Secret { name: name.to_owned(), arn, description, created_at: now, versions: Vec::new(), made: 0 };
            self.0.insert(name.to_owned(), secret);
        }
        let version = match content {
            Some(content) => Some(self.put(name, token, content, None, now)?.1.id.clone()),
            None => None,
        };
        Ok((self.secret(name)?, version))
    }

    /// Adds a version under these stages, or as the current one. A repetition with the same token does nothing.
    pub(super) fn put(
        &mut self,
        id: &str,
        token: Option<String>,
        content: Content,
        stages: Option<Vec<String>>,
        now: u64,
    ) -> Result<(&Secret, &Version), Error> {
        check_version(token.as_deref(), Some(&content))?;
        let stages = stages.unwrap_or_else(|| vec![CURRENT.to_owned()]);
        if !(1..=20).contains(&stages.len()) || stages.iter().any(|stage| !(1..=256).contains(&stage.len())) {
            return Err(Error::InvalidParameter("VersionStages: expected 1 to 20 names of 1 to 256 characters".into()));
        }
        let name = self.secret(id)?.name.clone();
        let Some(secret) = self.0.get_mut(&name) else { return Err(Error::NotFound(format!("secret `{name}`"))) };
        let version_id = token.unwrap_or_else(|| uuid(&digest(&name, secret.made + 1)));
        match secret.versions.iter().find(|version| version.id == version_id) {
            Some(version) if version.content != content => {
                return Err(Error::Exists(format!("a version `{version_id}` with another value")));
            }
            Some(_) => {}
            None => secret
                .add(Version { id: version_id.clone(), content, stages: BTreeSet::new(), created_at: now }, stages),
        }
        self.version(&name, Some(&version_id), None)
    }
}

impl Secret {
    /// A stage names one version, so it moves; what was current becomes the previous one.
    fn add(&mut self, mut new: Version, stages: Vec<String>) {
        let becomes_current = stages.iter().any(|stage| stage == CURRENT);
        let current = self.versions.iter().position(|version| version.stages.contains(CURRENT));
        if let Some(current) = current.filter(|_| becomes_current) {
            self.unname(PREVIOUS);
            self.versions[current].stages.insert(PREVIOUS.to_owned());
        }
        for stage in stages {
            self.unname(&stage);
            new.stages.insert(stage);
        }
        self.versions.push(new);
        self.made += 1;
        let unnamed = self.versions.iter().filter(|version| version.stages.is_empty()).count();
        if unnamed > MAX_UNNAMED {
            let oldest = self.versions.iter().position(|version| version.stages.is_empty());
            oldest.map(|oldest| self.versions.remove(oldest));
        }
    }

    fn unname(&mut self, stage: &str) {
        for version in &mut self.versions {
            version.stages.remove(stage);
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
    if (1..=512).contains(&name.len()) && name.chars().all(is_fit) {
        Ok(())
    } else {
        Err(Error::InvalidParameter("Name: expected 1 to 512 ASCII letters, digits, and characters of /_+=.@-".into()))
    }
}

fn check_version(token: Option<&str>, content: Option<&Content>) -> Result<(), Error> {
    if token.is_some_and(|token| !(32..=64).contains(&token.len())) {
        return Err(Error::InvalidParameter("ClientRequestToken: expected 32 to 64 characters".into()));
    }
    match content {
        Some(Content::Text(text) | Content::Binary(text)) if !(1..=MAX_VALUE_BYTES).contains(&text.len()) => {
            Err(Error::InvalidParameter(format!("the value: expected 1 to {MAX_VALUE_BYTES} bytes")))
        }
        _ => Ok(()),
    }
}

/// The same on every start, so that what was written down stays right.
fn digest(name: &str, number: u64) -> String {
    hex::encode(Sha256::new().chain_update(number.to_be_bytes()).chain_update(name).finalize())
}

fn uuid(hex: &str) -> String {
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn text(value: &str) -> Content {
        Content::Text(value.into())
    }

    fn value(vault: &Vault, version: Option<&str>, stage: Option<&str>) -> Result<String, Error> {
        match &vault.version("s", version, stage)?.1.content {
            Content::Text(text) | Content::Binary(text) => Ok(text.clone()),
        }
    }

    fn vault() -> Vault {
        let mut vault = Vault::default();
        vault.create("s", None, None, Some(text("one")), 1).unwrap();
        vault
    }

    #[test]
    fn a_new_version_makes_the_current_one_the_previous() {
        let mut vault = vault();
        assert!(value(&vault, None, Some(PREVIOUS)).is_err());
        vault.put("s", None, text("two"), None, 2).unwrap();
        vault.put("s", None, text("three"), None, 3).unwrap();
        assert_eq!(value(&vault, None, None).unwrap(), "three");
        assert_eq!(value(&vault, None, Some(PREVIOUS)).unwrap(), "two");
    }

    #[test]
    fn a_pending_version_leaves_the_others_alone() {
        let mut vault = vault();
        vault.put("s", None, text("two"), Some(vec!["AWSPENDING".into()]), 2).unwrap();
        assert_eq!(value(&vault, None, None).unwrap(), "one");
        assert_eq!(value(&vault, None, Some("AWSPENDING")).unwrap(), "two");
        assert!(value(&vault, None, Some(PREVIOUS)).is_err());
    }

    #[test]
    fn the_same_token_is_the_same_version() {
        let mut vault = vault();
        let token = "0123456789abcdef0123456789abcdef";
        let put = |vault: &mut Vault, value| vault.put("s", Some(token.into()), text(value), None, 2).map(drop);
        put(&mut vault, "two").unwrap();
        vault.put("s", None, text("three"), None, 3).unwrap();
        put(&mut vault, "two").unwrap();
        assert_eq!(value(&vault, None, None).unwrap(), "three", "nothing moved");
        assert_eq!(value(&vault, Some(token), None).unwrap(), "two");
        assert!(matches!(put(&mut vault, "other"), Err(Error::Exists(_))));
    }

    #[test]
    fn a_secret_is_found_by_its_arn() {
        let vault = vault();
        let arn = vault.secret("s").unwrap().arn.clone();
        assert_eq!(vault.secret(&arn).unwrap().name, "s");
        assert_eq!(vault.secret("arn:aws:secretsmanager:eu-west-1:1:secret:s").unwrap().name, "s");
        assert!(vault.secret("arn:aws:secretsmanager:eu-west-1:1:secret:other").is_err());
        assert!(vault.secret(&arn[..arn.len() - 1]).is_err());
    }

    #[test]
    fn versions_that_nothing_names_do_not_pile_up() {
        let mut vault = vault();
        for number in 0..100 {
            vault.put("s", None, text(&number.to_string()), None, number).unwrap();
        }
        assert_eq!(vault.secret("s").unwrap().versions.len(), MAX_UNNAMED + 2);
        assert_eq!(value(&vault, None, Some(PREVIOUS)).unwrap(), "98");
    }
}
