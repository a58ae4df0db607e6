//! Short-lived tokens that carry an identifier.

use std::time::Duration;

use momento::AuthClient;
use momento::auth::{
    DisposableTokenScope, ExpiresIn, GenerateDisposableTokenRequest, Permission, Permissions, TopicPermission,
    TopicRole,
};
use secrecy::SecretString;

use super::{Error, Momento, sdk};

/// The longest that Momento lets a disposable token live: 25 h.
pub const MAX_TTL: Duration = Duration::from_secs(25 * 60 * 60);

/// What a token's holder may do on its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Publish only.
    Publish,
    /// Subscribe only.
    Subscribe,
    /// Both.
    PublishSubscribe,
}

/// Whom a token names, and what it permits: one topic, one role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenScope {
    /// The identifier that the token carries, and that every message published with it will carry. Empty: none.
    pub token_id: String,
    /// The cache that the topic belongs to.
    pub cache: String,
    /// The topic.
    pub topic: String,
    /// What may be done there.
    pub role: Role,
}

/// A minted token.
#[derive(Debug)]
pub struct Token {
    /// What the user's client is given.
    pub token: SecretString,
    /// Momento's endpoint for it.
    pub endpoint: String,
    /// When it ends, in epoch seconds.
    pub expires_at: u64,
}

impl Momento {
    /// Mints a token that lives for `ttl`, at most [`MAX_TTL`].
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mint(&self, scope: &TokenScope, ttl: Duration) -> Result<Token, Error> {
        let TokenScope { token_id, cache, topic, role } = scope;
        let permission = TopicPermission {
            role: match role {
                Role::Publish => TopicRole::PublishOnly,
                Role::Subscribe => TopicRole::SubscribeOnly,
                Role::PublishSubscribe => TopicRole::PublishSubscribe,
            },
            cache: cache.as_str().into(),
            topic: topic.as_str().into(),
        };
        let permissions = Permissions { permissions: vec![Permission::TopicPermission(permission)] };
        let permissions = DisposableTokenScope::Permissions(permissions);
        let request = GenerateDisposableTokenRequest::new(permissions, ExpiresIn::seconds(ttl.as_secs()))
            .token_id(token_id.clone());
        let minted = sdk("mint", self.0.deadline, async {
            // Not kept: whoever mints a token does not mint the same one again.
            let client = AuthClient::builder().credential_provider(self.0.credentials.provider()).build()?;
            client.send_request(request).await
        })
        .await?;
        let (endpoint, expires_at) = (minted.clone().endpoint(), minted.clone().expires_at().epoch());
        Ok(Token { token: minted.auth_token().into(), endpoint, expires_at })
    }
}
