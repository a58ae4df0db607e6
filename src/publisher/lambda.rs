//! The publisher as a Lambda function, for services that are trusted to name the user.

use std::sync::Arc;
use std::time::Duration;

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};

use super::{CALL, DEFAULT_CACHE, DEFAULT_TOKEN_ID, DEFAULT_TOPIC, DEFAULT_TTL, Publisher, PublisherError};
use crate::clock;
use crate::config::{self, ConfigError, Lookup, MomentoConfig, SecretsConfig};
use crate::momento::{Role, TokenScope};
use crate::secrets::{ApiKey, SecretsManager};

/// What the function is invoked with. What is left out is as in Momento's original example.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Request {
    token_id: String,
    cache: String,
    topic: String,
    message: Option<String>,
    ttl_seconds: u64,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            token_id: DEFAULT_TOKEN_ID.into(),
            cache: DEFAULT_CACHE.into(),
            topic: DEFAULT_TOPIC.into(),
            message: None,
            ttl_seconds: DEFAULT_TTL.as_secs(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    /// When the user's token ends, in epoch seconds.
    expires_at: u64,
}

/// Serves direct invocations `{"tokenId","cache","topic","message","ttlSeconds"}` until the environment is shut down.
///
/// # Errors
/// Configuration that is missing or not valid, or whatever the runtime client cannot recover from.
pub async fn serve(lookup: Lookup<'_>) -> Result<(), lambda_runtime::Error> {
    let function = Arc::new(Function::from_lookup(lookup).await?);
    let service = service_fn(|invocation: LambdaEvent<serde_json::Value>| {
        let function = Arc::clone(&function);
        async move { Box::pin(function.invoke(invocation.payload)).await }
    });
    lambda_runtime::run(service).await
}

struct Function {
    api_key: ApiKey,
    publisher: Publisher,
}

impl Function {
    async fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        const EXPECTED: &str = "the name or ARN of the secret that holds the Momento API key";
        let name = config::required(lookup, "MOMENTO_API_KEY_SECRET_NAME", EXPECTED)?;
        let (momento, secrets) = (MomentoConfig::from_lookup(lookup)?, SecretsConfig::from_lookup(lookup)?);
        let manager = SecretsManager::new(&crate::aws::anywhere(momento.certificates.as_deref()).await);
        let api_key = ApiKey::new(manager, name, momento.clone(), CALL, &secrets);
        Ok(Self { api_key, publisher: Publisher::new(momento) })
    }

    async fn invoke(&self, payload: serde_json::Value) -> Result<Response, Diagnostic> {
        // serde quotes what it cannot read, and the message is nobody's business: say what is expected instead.
        let unreadable = || Diagnostic {
            error_type: "InvalidRequest".into(),
            error_message:
                r#"invoke with {"tokenId","cache","topic","message","ttlSeconds"}; only "message" is required"#.into(),
        };
        let request: Request = serde_json::from_value(payload).map_err(|_| unreadable())?;
        let message = request.message.ok_or_else(unreadable)?;
        let now = clock::now();
        let account = self.api_key.momento(now).await.map_err(|error| failed("NoApiKey", &*error))?;
        let scope =
            TokenScope { token_id: request.token_id, cache: request.cache, topic: request.topic, role: Role::Publish };
        let ttl = Duration::from_secs(request.ttl_seconds);
        let published = self.publisher.publish(&account, scope, ttl, message, now / 1_000).await;
        match published {
            Ok(expires_at) => Ok(Response { expires_at }),
            Err(error) => {
                if matches!(&error, PublisherError::Momento(error) if error.is_unauthenticated()) {
                    self.api_key.doubt();
                }
                Err(failed("NotPublished", &error))
            }
        }
    }
}

fn failed(error_type: &str, error: &dyn std::error::Error) -> Diagnostic {
    tracing::error!(%error, "not published");
    Diagnostic { error_type: error_type.into(), error_message: error.to_string() }
}
