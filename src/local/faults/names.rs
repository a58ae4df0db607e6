//! What calls and statuses are called here: as in the metadata of the official SDKs' test suites.

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, IntoDeserializer},
};

use super::FaultError;

/// Every call that this server answers, and where: a gRPC path, or Secrets Manager's name for it.
const RPCS: &[(&str, &str)] = &[
    ("get", "/cache_client.Scs/Get"),
    ("get-batch", "/cache_client.Scs/GetBatch"),
    ("get-with-hash", "/cache_client.Scs/GetWithHash"),
    ("set", "/cache_client.Scs/Set"),
    ("set-batch", "/cache_client.Scs/SetBatch"),
    ("set-if", "/cache_client.Scs/SetIf"),
    ("set-if-hash", "/cache_client.Scs/SetIfHash"),
    ("set-if-not-exists", "/cache_client.Scs/SetIfNotExists"),
    ("delete", "/cache_client.Scs/Delete"),
    ("keys-exist", "/cache_client.Scs/KeysExist"),
    ("increment", "/cache_client.Scs/Increment"),
    ("update-ttl", "/cache_client.Scs/UpdateTtl"),
    ("item-get-ttl", "/cache_client.Scs/ItemGetTtl"),
    ("item-get-type", "/cache_client.Scs/ItemGetType"),
    ("dictionary-get", "/cache_client.Scs/DictionaryGet"),
    ("dictionary-fetch", "/cache_client.Scs/DictionaryFetch"),
    ("dictionary-set", "/cache_client.Scs/DictionarySet"),
    ("dictionary-increment", "/cache_client.Scs/DictionaryIncrement"),
    ("dictionary-delete", "/cache_client.Scs/DictionaryDelete"),
    ("dictionary-length", "/cache_client.Scs/DictionaryLength"),
    ("list-push-front", "/cache_client.Scs/ListPushFront"),
    ("list-push-back", "/cache_client.Scs/ListPushBack"),
    ("list-pop-front", "/cache_client.Scs/ListPopFront"),
    ("list-pop-back", "/cache_client.Scs/ListPopBack"),
    ("list-erase", "/cache_client.Scs/ListErase"),
    ("list-remove", "/cache_client.Scs/ListRemove"),
    ("list-fetch", "/cache_client.Scs/ListFetch"),
    ("list-length", "/cache_client.Scs/ListLength"),
    ("list-concatenate-front", "/cache_client.Scs/ListConcatenateFront"),
    ("list-concatenate-back", "/cache_client.Scs/ListConcatenateBack"),
    ("list-retain", "/cache_client.Scs/ListRetain"),
    ("topic-publish", "/cache_client.pubsub.Pubsub/Publish"),
    ("topic-subscribe", "/cache_client.pubsub.Pubsub/Subscribe"),
    ("create-cache", "/control_client.ScsControl/CreateCache"),
    ("delete-cache", "/control_client.ScsControl/DeleteCache"),
    ("flush-cache", "/control_client.ScsControl/FlushCache"),
    ("list-caches", "/control_client.ScsControl/ListCaches"),
    ("generate-disposable-token", "/token.Token/GenerateDisposableToken"),
    ("get-secret-value", "secretsmanager.GetSecretValue"),
    ("describe-secret", "secretsmanager.DescribeSecret"),
    ("create-secret", "secretsmanager.CreateSecret"),
    ("put-secret-value", "secretsmanager.PutSecretValue"),
];
const ALL: &str = "all";
const MOMENTO: &str = "momento";
const SECRETS_MANAGER: &str = "secrets-manager";

/// A call, or a group of them, by its name, such as `list-push-front`.
///
/// The groups are `all`, `momento` and `secrets-manager`. As in the SDKs' suites, `set-if` stands for `set-if-not-exists`
/// too, and `list-remove` for `list-erase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rpc(&'static str);

impl Rpc {
    /// The call that is made at this path, with this `x-amz-target`.
    pub(super) fn called(path: &str, target: Option<&str>) -> Option<Self> {
        let asked = if path == "/" { target? } else { path };
        RPCS.iter().find(|(_, at)| *at == asked).map(|(name, _)| Self(name))
    }

    /// Does this name stand for that call?
    pub(super) fn covers(self, called: Self) -> bool {
        match self.0 {
            ALL => true,
            MOMENTO => !called.is_of_secrets_manager(),
            SECRETS_MANAGER => called.is_of_secrets_manager(),
            "set-if" => ["set-if", "set-if-not-exists"].contains(&called.0),
            "list-remove" => ["list-remove", "list-erase"].contains(&called.0),
            name => name == called.0,
        }
    }

    pub(super) fn is_of_secrets_manager(self) -> bool {
        RPCS.iter().any(|(name, at)| *name == self.0 && !at.starts_with('/'))
    }
}

impl FromStr for Rpc {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut names = RPCS.iter().map(|(name, _)| *name).chain([ALL, MOMENTO, SECRETS_MANAGER]);
        names.find(|name| *name == text).map(Self).ok_or_else(|| FaultError::Rpc(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Rpc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Every name, for a message.
pub(super) fn known() -> String {
    RPCS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// A gRPC status that is an error, by its name, such as `deadline-exceeded`. Its number is gRPC's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "gRPC's names")]
pub enum Code {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl FromStr for Code {
    type Err = serde::de::value::Error;

    /// The error names what is known.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::deserialize(text.into_deserializer())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_after_its_method() {
        for (name, at) in RPCS {
            let method = at.rsplit(['/', '.']).next().unwrap();
            let mut kebab = String::new();
            for c in method.chars() {
                if c.is_uppercase() && !kebab.is_empty() {
                    kebab.push('-');
                }
                kebab.push(c.to_ascii_lowercase());
            }
            assert_eq!(name.strip_prefix("topic-").unwrap_or(name), kebab);
        }
    }

    #[test]
    fn a_name_stands_for_its_call_and_for_what_the_suites_mean_by_it() {
        let covers = |name: &str, call: &str| name.parse::<Rpc>().unwrap().covers(call.parse().unwrap());
        assert!(covers("get", "get") && !covers("get", "get-batch"));
        assert!(covers("set-if", "set-if-not-exists") && !covers("set-if-not-exists", "set-if"));
        assert!(covers("list-remove", "list-erase"));
        assert!(covers("all", "get") && covers("all", "get-secret-value"));
        assert!(covers("momento", "list-caches") && !covers("momento", "get-secret-value"));
        assert!(covers("secrets-manager", "get-secret-value") && !covers("secrets-manager", "get"));
    }

    #[test]
    fn a_status_is_known_by_its_name() {
        assert_eq!("deadline-exceeded".parse(), Ok(Code::DeadlineExceeded));
        assert_eq!(Code::DeadlineExceeded.to_string(), "deadline-exceeded");
        assert!("gone".parse::<Code>().unwrap_err().to_string().contains("`resource-exhausted`"));
    }
}
