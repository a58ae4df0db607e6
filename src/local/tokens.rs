//! Tokens: minted for real, so that a program which works here holds the permissions that it needs there.
//!
//! A token is a JWT (HS256) of its claims. The key comes from the API key, so tokens survive a restart. Pure: `now` is
//! an argument, in epoch milliseconds.

mod minting;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

pub(super) use minting::Minting;

/// `{"alg":"HS256","typ":"JWT"}`. The only header there is: a token cannot choose how it is checked.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// What a token says about whoever holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// The `token_id`: who publishes, for those who receive. May be empty.
    pub(super) id: String,
    /// When it ends, in epoch seconds.
    pub(super) exp: u64,
    pub(super) permissions: Vec<Permission>,
}

/// One statement of what a token may do. What no statement allows is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Permission {
    pub(super) on: Resource,
    pub(super) read: bool,
    pub(super) write: bool,
    /// `None`: every cache.
    pub(super) cache: Option<String>,
    /// Which keys, or which topics.
    pub(super) names: Names,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Resource {
    Items,
    Topics,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Names {
    All,
    Exactly(#[serde(with = "hex")] Vec<u8>),
    StartingWith(#[serde(with = "hex")] Vec<u8>),
}

/// What a call does with a resource. Conditional writes, and those that answer with what was there, do both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    ReadWrite,
}

impl Claims {
    /// Does some statement allow it? Reading and writing may be allowed by two.
    pub(super) fn allow(&self, access: Access, on: Resource, cache: &str, name: &[u8]) -> bool {
        let any = |wanted: fn(&Permission) -> bool| {
            self.permissions.iter().any(|statement| wanted(statement) && statement.covers(on, cache, name))
        };
        (access == Access::Write || any(|statement| statement.read))
            && (access == Access::Read || any(|statement| statement.write))
    }
}

impl Permission {
    fn covers(&self, on: Resource, cache: &str, name: &[u8]) -> bool {
        self.on == on
            && self.cache.as_deref().is_none_or(|only| only == cache)
            && match &self.names {
                Names::All => true,
                Names::Exactly(only) => only == name,
                Names::StartingWith(prefix) => name.starts_with(prefix),
            }
    }
}

/// Why a credential is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the credential is neither this server's API key nor a token that it signed")]
    NotOurs,
    #[error("the token has expired; ask for a new one")]
    Expired,
}

/// Signs and checks tokens.
pub(super) struct Tokens {
    mac: Hmac<Sha256>,
}

impl Tokens {
    /// Derives the signing key, so that a token never reveals whether two servers share an API key for another use.
    pub(super) fn new(api_key: &str) -> Self {
        #[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(api_key.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(b"token signing key of the local server");
        let key = mac.finalize().into_bytes();
        #[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mac = Hmac::new_from_slice(&key).expect("HMAC takes a key of any length");
        Self { mac }
    }

    pub(super) fn sign(&self, claims: &Claims) -> String {
        #[allow(clippy::expect_used, reason = "strings and numbers always serialise")]
        let claims = serde_json::to_vec(claims).expect("strings and numbers always serialise");
        let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(claims));
        let mac = self.mac(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    /// Reads the claims of a token, if it is one of ours and has not ended.
    pub(super) fn verify(&self, token: &str, now: u64) -> Result<Claims, Refused> {
        let (signed, mac) = token.rsplit_once('.').ok_or(Refused::NotOurs)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| Refused::NotOurs)?;
        self.mac(signed).verify_slice(&mac).map_err(|_| Refused::NotOurs)?;
        let claims = signed.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('.')).ok_or(Refused::NotOurs)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| Refused::NotOurs)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Refused::NotOurs)?;
        if now / 1000 < claims.exp { Ok(claims) } else { Err(Refused::Expired) }
    }

    /// Are these the same, in time that does not depend on where they differ?
    pub(super) fn same(&self, one: &str, other: &str) -> bool {
        let other = self.mac(other).finalize().into_bytes();
        self.mac(one).verify_slice(&other).is_ok()
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        self.mac.clone().chain_update(text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn claims(permissions: Vec<Permission>) -> Claims {
        Claims { id: "taylor".into(), exp: NOW / 1000 + 60, permissions }
    }

    fn statement(read: bool, write: bool, names: Names) -> Permission {
        Permission { on: Resource::Items, read, write, cache: Some("c".into()), names }
    }

    #[test]
    fn a_token_carries_its_claims_until_its_last_second() {
        let tokens = Tokens::new("key");
        let claims = claims(vec![statement(true, false, Names::StartingWith(b"user/".to_vec()))]);
        let token = tokens.sign(&claims);
        assert_eq!(tokens.verify(&token, NOW + 59_999), Ok(claims));
        assert_eq!(tokens.verify(&token, NOW + 60_000), Err(Refused::Expired));
        assert_eq!(Tokens::new("another").verify(&token, NOW), Err(Refused::NotOurs));
    }

    /// The last character of base64 may hold bits that do not count, so every bit is flipped beneath the encoding.
    #[test]
    fn a_token_with_one_bit_altered_is_not_ours() {
        let tokens = Tokens::new("key");
        let token = tokens.sign(&claims(vec![]));
        let parts: Vec<_> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        for part in 0..3 {
            for bit in 0..parts[part].len() * 8 {
                let mut parts = parts.clone();
                parts[part][bit / 8] ^= 1 << (bit % 8);
                let forged = parts.iter().map(|part| URL_SAFE_NO_PAD.encode(part)).collect::<Vec<_>>().join(".");
                assert_eq!(tokens.verify(&forged, NOW), Err(Refused::NotOurs), "part {part}, bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for token in ["", ".", "..", "a.b.c", HEADER, "é.é.é"] {
            assert_eq!(Tokens::new("key").verify(token, NOW), Err(Refused::NotOurs), "{token}");
        }
    }

    #[test]
    fn only_what_a_statement_covers_is_allowed() {
        let claims = claims(vec![
            statement(true, false, Names::StartingWith(b"user/".to_vec())),
            statement(false, true, Names::Exactly(b"user/taylor".to_vec())),
        ]);
        let allow = |access, cache, key: &str| claims.allow(access, Resource::Items, cache, key.as_bytes());
        assert!(allow(Access::Read, "c", "user/kim"));
        assert!(!allow(Access::Read, "c", "use"));
        assert!(!allow(Access::Read, "other", "user/kim"));
        assert!(!allow(Access::Write, "c", "user/kim"));
        assert!(!allow(Access::Write, "c", "user/taylor2"));
        assert!(allow(Access::ReadWrite, "c", "user/taylor"));
        assert!(!allow(Access::ReadWrite, "c", "user/kim"));
        assert!(!claims.allow(Access::Read, Resource::Topics, "c", b"user/kim"));
    }
}
