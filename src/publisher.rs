//! The publisher: mints a token for one user and one topic, and publishes as that user.
//!
//! A token and the client made from it live and die together under exactly what the token is for, so one user's client
//! never publishes for another, and a long-lived process never goes on with a token that has ended.

pub mod cli;
mod lambda;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use lambda::serve;

use crate::config::MomentoConfig;
use crate::event::{MAX_TOKEN_ID, is_token_id};
use crate::momento::{self, Credentials, CredentialsError, MAX_TTL, Momento, Token, TokenScope};

/// How many users' clients stay open at once.
const MAX_SESSIONS: usize = 64;
/// A token with less than this left to live is not used again, in seconds.
const MARGIN: u64 = 30;
/// The longest message, in bytes: the handler reads no body over 64 KiB.
const MAX_MESSAGE: usize = 60 * 1024;
/// How long one call to Momento may take.
pub const CALL: Duration = Duration::from_secs(5);

/// The user, in Momento's original example.
pub const DEFAULT_TOKEN_ID: &str = "taylor";
/// The cache, in Momento's original example.
pub const DEFAULT_CACHE: &str = "course-comments";
/// The topic, in Momento's original example.
pub const DEFAULT_TOPIC: &str = "comment";
/// How long a token lives, in Momento's original example.
pub const DEFAULT_TTL: Duration = Duration::from_secs(30 * 60);

/// A message was not published, or a token not minted.
#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    /// The request asks for what Momento does not give.
    #[error("{field} is not valid: use {expected}")]
    Invalid {
        /// The field of the request.
        field: &'static str,
        /// What belongs there.
        expected: String,
    },
    /// Momento did not do it.
    #[error(transparent)]
    Momento(#[from] momento::Error),
    /// The minted token cannot be used.
    #[error("Momento's token cannot be used")]
    Token(#[source] CredentialsError),
}

/// Mints tokens and publishes with them.
pub struct Publisher {
    config: MomentoConfig,
    sessions: Mutex<HashMap<TokenScope, Session>>,
}

/// A token's client, and when it ends, in epoch seconds.
#[derive(Clone)]
struct Session {
    momento: Momento,
    expires_at: u64,
}

impl Publisher {
    /// A publisher that reaches Momento as configured.
    pub fn new(config: MomentoConfig) -> Self {
        Self { config, sessions: Mutex::default() }
    }

    /// Publishes a message as the user whom `scope` names, and says when that user's token ends, in epoch seconds.
    /// `account` holds the key that may mint; `now` in epoch seconds.
    ///
    /// # Errors
    /// [`PublisherError`].
    pub async fn publish(
        &self,
        account: &Momento,
        scope: TokenScope,
        ttl: Duration,
        message: String,
        now: u64,
    ) -> Result<u64, PublisherError> {
        if message.len() > MAX_MESSAGE {
            return Err(invalid("message", format!("at most {MAX_MESSAGE} bytes")));
        }
        check(&scope, ttl)?;
        let session = match self.session(&scope, now) {
            Some(session) => session,
            None => self.open(account, &scope, ttl).await?,
        };
        let published = session.momento.publish(&scope.cache, &scope.topic, message.clone()).await;
        match published {
            // Refused before it had an effect: the token was revoked, or the service has forgotten it.
            Err(error) if error.is_unauthenticated() => {
                let session = self.open(account, &scope, ttl).await?;
                session.momento.publish(&scope.cache, &scope.topic, message).await?;
                Ok(session.expires_at)
            }
            published => Ok(published.map(|()| session.expires_at)?),
        }
    }

    fn session(&self, scope: &TokenScope, now: u64) -> Option<Session> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(scope).filter(|session| session.expires_at > now + MARGIN).cloned()
    }

    async fn open(&self, account: &Momento, scope: &TokenScope, ttl: Duration) -> Result<Session, PublisherError> {
        let token = account.mint(scope, ttl).await?;
        let credentials = Credentials::parse(&token.token, &self.config).map_err(PublisherError::Token)?;
        let momento = Momento::new(credentials, CALL).map_err(PublisherError::Token)?;
        let session = Session { momento, expires_at: token.expires_at };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(scope) {
            let next_to_end =
                sessions.iter().min_by_key(|(_, session)| session.expires_at).map(|(scope, _)| scope.clone());
            next_to_end.and_then(|scope| sessions.remove(&scope));
        }
        sessions.insert(scope.clone(), session.clone());
        Ok(session)
    }
}

/// Mints a token to hand to a user.
///
/// # Errors
/// [`PublisherError`].
pub async fn mint(account: &Momento, scope: &TokenScope, ttl: Duration) -> Result<Token, PublisherError> {
    check(scope, ttl)?;
    Ok(account.mint(scope, ttl).await?)
}

fn check(scope: &TokenScope, ttl: Duration) -> Result<(), PublisherError> {
    if !is_token_id(&scope.token_id) {
        return Err(invalid("token id", format!("at most {MAX_TOKEN_ID} bytes without `/` or control characters")));
    }
    for (field, name) in [("cache", &scope.cache), ("topic", &scope.topic)] {
        if name.is_empty() || name.len() > 255 {
            return Err(invalid(field, "1 to 255 bytes".into()));
        }
    }
    // The SDK does not check this on the way that we mint.
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err(invalid("ttl", format!("1 to {} seconds (25 h)", MAX_TTL.as_secs())));
    }
    Ok(())
}

fn invalid(field: &'static str, expected: String) -> PublisherError {
    PublisherError::Invalid { field, expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::momento::Role;

    fn field_refused(change: impl FnOnce(&mut TokenScope), ttl: u64) -> Option<&'static str> {
        let mut scope = TokenScope {
            token_id: "taylor".into(),
            cache: "course-comments".into(),
            topic: "comment".into(),
            role: Role::Publish,
        };
        change(&mut scope);
        match check(&scope, Duration::from_secs(ttl)) {
            Err(PublisherError::Invalid { field, .. }) => Some(field),
            _ => None,
        }
    }

    #[test]
    fn what_momento_would_not_give_is_refused_by_field() {
        assert_eq!(field_refused(|_| (), 90_000), None);
        assert_eq!(field_refused(|scope| scope.token_id = String::new(), 1), None);
        assert_eq!(field_refused(|_| (), 90_001), Some("ttl"));
        assert_eq!(field_refused(|_| (), 0), Some("ttl"));
        assert_eq!(field_refused(|scope| scope.token_id = "x".repeat(65), 1), Some("token id"));
        assert_eq!(field_refused(|scope| scope.token_id = "a/b".into(), 1), Some("token id"));
        assert_eq!(field_refused(|scope| scope.cache = String::new(), 1), Some("cache"));
        assert_eq!(field_refused(|scope| scope.topic = "x".repeat(256), 1), Some("topic"));
    }
}
