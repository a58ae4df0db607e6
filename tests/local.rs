//! The development server, driven by the official SDKs, and by raw clients where an SDK hides what matters.

mod access; // who may come in: host, origin, gRPC-web, empty keys
mod caches; // control, scalars, time to live, limits
mod collections; // lists and dictionaries
mod command; // the binary itself
mod faults; // errors, delays, lost answers and the like, on purpose
mod secrets; // Secrets Manager, through AWS's SDK
mod seeds; // what is there at the start
mod tokens; // minted and enforced
mod topics; // numbers, pages, heartbeats, resumption
mod webhooks; // delivered as Momento's retired service did

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use momento::{
    AuthClient, CacheClient, CredentialProvider, MomentoErrorCode, MomentoResult, TopicClient,
    auth::{DisposableTokenScope, ExpiresIn, GenerateDisposableTokenRequest, PermissionScope},
};
use momento_webhook::local::Config;

use crate::stack::{self, Local};

/// The super user's key in these tests.
const KEY: &str = "a-key-for-tests";
const CACHE: &str = "course-comments";

fn config() -> Config {
    Config { api_key: Some(KEY.to_owned()), ..Config::default() }
}

async fn start() -> Local {
    stack::local(config()).await
}

/// What a program gets from a v1 key with this inner key.
fn credentials(local: &Local, api_key: &str) -> CredentialProvider {
    let v1 = STANDARD.encode(format!(r#"{{"endpoint":"localhost","api_key":"{api_key}"}}"#));
    CredentialProvider::from_disposable_token(v1).unwrap().insecure_endpoint_override(&local.url)
}

fn caches(local: &Local, api_key: &str) -> CacheClient {
    CacheClient::builder()
        .default_ttl(Duration::from_secs(60))
        .configuration(momento::cache::configurations::Laptop::latest())
        .credential_provider(credentials(local, api_key))
        .build()
        .unwrap()
}

fn topics(local: &Local, api_key: &str) -> TopicClient {
    TopicClient::builder()
        .configuration(momento::topics::configurations::Laptop::latest())
        .credential_provider(credentials(local, api_key))
        .build()
        .unwrap()
}

fn auth(local: &Local, api_key: &str) -> AuthClient {
    AuthClient::builder().credential_provider(credentials(local, api_key)).build().unwrap()
}

/// A token's inner key, as an SDK would send it.
async fn mint(local: &Local, scope: impl Into<Scope>, id: &str, expires: ExpiresIn) -> MomentoResult<String> {
    let request = GenerateDisposableTokenRequest::new(scope.into().0, expires).token_id(id.to_owned());
    let response = auth(local, KEY).send_request(request).await?;
    let provider = CredentialProvider::from_disposable_token(response.auth_token()).unwrap();
    Ok(provider.auth_token().to_owned())
}

struct Scope(DisposableTokenScope);

impl From<DisposableTokenScope> for Scope {
    fn from(scope: DisposableTokenScope) -> Self {
        Self(scope)
    }
}

impl From<PermissionScope> for Scope {
    fn from(scope: PermissionScope) -> Self {
        let PermissionScope::Permissions(permissions) = scope;
        Self(DisposableTokenScope::Permissions(permissions))
    }
}

/// The SDK's name for the status that a call was refused with.
fn refusal<T: std::fmt::Debug>(result: MomentoResult<T>) -> MomentoErrorCode {
    result.unwrap_err().error_code
}
