//! Scalars: one value under one key, written on conditions, or counted with.

use sha2::{Digest, Sha256};

use super::{Error, Item, Items, Value};

/// When a conditional write takes place: whether it does without an item, and what it wants of one.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) if_absent: bool,
    pub(crate) if_present: Check,
}

/// What a conditional write wants of the value that is there.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    Always,
    Never,
    Equal(Vec<u8>),
    NotEqual(Vec<u8>),
    HashEqual(Vec<u8>),
    HashNotEqual(Vec<u8>),
}

impl Check {
    fn holds(&self, value: &Value) -> Result<bool, Error> {
        let scalar = || match value {
            Value::Scalar(bytes) => Ok(bytes),
            other => Err(other.not_a("scalar")),
        };
        Ok(match self {
            Self::Always => true,
            Self::Never => false,
            Self::Equal(wanted) => scalar()? == wanted,
            Self::NotEqual(unwanted) => scalar()? != unwanted,
            Self::HashEqual(wanted) => &hash(scalar()?) == wanted,
            Self::HashNotEqual(unwanted) => &hash(scalar()?) != unwanted,
        })
    }
}

/// The hash by which a value may be compared without being sent. Momento does not say which; clients hand it back as is.
pub(crate) fn hash(value: &[u8]) -> Vec<u8> {
    Sha256::digest(value).to_vec()
}

impl Items<'_> {
    /// The scalar at `key`.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<&[u8]>, Error> {
        match self.find(key).map(|item| &item.value) {
            None => Ok(None),
            Some(Value::Scalar(value)) => Ok(Some(value)),
            Some(other) => Err(other.not_a("scalar")),
        }
    }

    /// Puts a scalar in the place of whatever is there.
    pub(crate) fn set(&mut self, key: Vec<u8>, value: Vec<u8>, ttl_ms: u64) -> Result<(), Error> {
        let expires_at = Some(self.expiry(ttl_ms)?);
        self.put(key, Value::Scalar(value), expires_at)
    }

    /// Puts a scalar that never expires.
    pub(crate) fn seed(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Error> {
        self.put(key, Value::Scalar(value), None)
    }

    /// Writes if the condition holds, and says whether it did.
    pub(crate) fn set_if(
        &mut self,
        key: Vec<u8>,
        value: Vec<u8>,
        ttl_ms: u64,
        condition: &Condition,
    ) -> Result<bool, Error> {
        let holds = match self.find(&key) {
            None => condition.if_absent,
            Some(item) => condition.if_present.holds(&item.value)?,
        };
        if holds {
            self.set(key, value, ttl_ms)?;
        }
        Ok(holds)
    }

    /// Adds to the number at `key`, starting at 0. A number that is there keeps its time to live.
    pub(crate) fn increment(&mut self, key: &[u8], amount: i64, ttl_ms: u64) -> Result<i64, Error> {
        let expires_at = self.expiry(ttl_ms)?;
        let (before, expires_at) = match self.find(key) {
            None => (0, Some(expires_at)),
            Some(Item { value: Value::Scalar(value), expires_at }) => (number(value)?, *expires_at),
            Some(item) => return Err(item.value.not_a("scalar")),
        };
        let after = before.checked_add(amount).ok_or(Error::Overflow)?;
        self.put(key.to_vec(), Value::Scalar(after.to_string().into_bytes()), expires_at)?;
        Ok(after)
    }
}

/// Reads the number that a value is.
pub(super) fn number(value: &[u8]) -> Result<i64, Error> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Error::NotANumber)
}
