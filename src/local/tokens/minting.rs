//! The Token service: makes disposable tokens for whoever holds the API key.

use std::sync::Arc;

use momento_protos::{
    permission_messages::{
        CacheRole, Permissions, PermissionsType, TopicRole, permissions,
        permissions_type::{
            CachePermissions, CacheSelector, Kind, TopicPermissions, cache_item_selector, cache_permissions,
            cache_selector, topic_permissions, topic_selector,
        },
    },
    token::{GenerateDisposableTokenRequest, GenerateDisposableTokenResponse, token_server::Token},
};
use tonic::{Request, Response, Status};

use super::{Claims, Names, Permission, Resource};
use crate::{
    event::{MAX_TOKEN_ID, is_token_id},
    local::{access::Gate, now},
};

/// The longest life of a token, in seconds: Momento's 25 hours.
const MAX_SECONDS: u32 = 25 * 60 * 60;
/// Momento's limit on statements in a token.
const MAX_STATEMENTS: usize = 20;

/// Who asks decides, and what is asked for is checked; nothing else is kept.
pub(crate) struct Minting(pub(crate) Arc<Gate>);

#[tonic::async_trait]
impl Token for Minting {
    async fn generate_disposable_token(
        &self,
        request: Request<GenerateDisposableTokenRequest>,
    ) -> Result<Response<GenerateDisposableTokenResponse>, Status> {
        let caller = self.0.caller(&request);
        let request = request.into_inner();
        // The JavaScript SDK sends its key in the body alone, the Rust SDK in both places.
        if request.auth_token.is_empty() {
            caller.may_administer()?;
        } else {
            caller.may_try_the_body()?;
            self.0.authenticate(&request.auth_token, now())?.may_administer()?;
        }
        let claims = claims(request, now() / 1000)?;
        Ok(Response::new(GenerateDisposableTokenResponse {
            api_key: self.0.tokens().sign(&claims),
            endpoint: "localhost".to_owned(), // clients put their own in its place
            valid_until: claims.exp,
        }))
    }
}

/// Checks what is asked for. `now` in epoch seconds.
fn claims(request: GenerateDisposableTokenRequest, now: u64) -> Result<Claims, Status> {
    let seconds = request.expires.map_or(0, |expires| expires.valid_for_seconds);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(invalid(format!("`valid_for_seconds` must be between 1 and {MAX_SECONDS} (25 hours)")));
    }
    if !is_token_id(&request.token_id) {
        return Err(invalid(format!("`token_id` has at most {MAX_TOKEN_ID} bytes, no `/` and no control character")));
    }
    let Some(Permissions { kind: Some(permissions::Kind::Explicit(explicit)) }) = request.permissions else {
        return Err(invalid("`permissions` must be explicit".to_owned()));
    };
    let count = explicit.permissions.len();
    if !(1..=MAX_STATEMENTS).contains(&count) {
        return Err(invalid(format!("`permissions` holds {count} statements; expected 1 to {MAX_STATEMENTS}")));
    }
    let permissions = explicit.permissions.into_iter().map(statement).collect::<Result<_, _>>()?;
    Ok(Claims { id: request.token_id, exp: now + u64::from(seconds), permissions })
}

fn statement(statement: PermissionsType) -> Result<Permission, Status> {
    match statement.kind {
        Some(Kind::CachePermissions(statement)) => on_items(statement),
        Some(Kind::TopicPermissions(statement)) => on_topics(statement),
        Some(Kind::FunctionPermissions(_)) => {
            Err(Status::unimplemented("the local server does not offer functions, nor permissions on them"))
        }
        None => Err(invalid("`permissions` holds a statement about nothing".to_owned())),
    }
}

fn on_items(statement: CachePermissions) -> Result<Permission, Status> {
    let (read, write) = match statement.role() {
        CacheRole::CachePermitNone => (false, false),
        CacheRole::CacheReadWrite => (true, true),
        CacheRole::CacheReadOnly => (true, false),
        CacheRole::CacheWriteOnly => (false, true),
    };
    let cache = match statement.cache {
        Some(cache_permissions::Cache::AllCaches(_)) => None,
        Some(cache_permissions::Cache::CacheSelector(selector)) => Some(cache_name(selector)?),
        None => return Err(invalid("a cache permission must say which caches".to_owned())),
    };
    // Older clients leave the items out, and mean all.
    let names = match statement.cache_item {
        None | Some(cache_permissions::CacheItem::AllItems(_)) => Names::All,
        Some(cache_permissions::CacheItem::ItemSelector(selector)) => match selector.kind {
            Some(cache_item_selector::Kind::Key(key)) => Names::Exactly(key),
            Some(cache_item_selector::Kind::KeyPrefix(prefix)) => Names::StartingWith(prefix),
            None => return Err(invalid("an item selector must hold a key or a prefix".to_owned())),
        },
    };
    Ok(Permission { on: Resource::Items, read, write, cache, names })
}

fn on_topics(statement: TopicPermissions) -> Result<Permission, Status> {
    let (read, write) = match statement.role() {
        TopicRole::TopicPermitNone => (false, false),
        TopicRole::TopicReadWrite => (true, true),
        TopicRole::TopicReadOnly => (true, false),
        TopicRole::TopicWriteOnly => (false, true),
    };
    let cache = match statement.cache {
        Some(topic_permissions::Cache::AllCaches(_)) => None,
        Some(topic_permissions::Cache::CacheSelector(selector)) => Some(cache_name(selector)?),
        None => return Err(invalid("a topic permission must say which caches".to_owned())),
    };
    let names = match statement.topic {
        Some(topic_permissions::Topic::AllTopics(_)) => Names::All,
        Some(topic_permissions::Topic::TopicSelector(selector)) => match selector.kind {
            Some(topic_selector::Kind::TopicName(name)) => Names::Exactly(name.into_bytes()),
            Some(topic_selector::Kind::TopicNamePrefix(prefix)) => Names::StartingWith(prefix.into_bytes()),
            None => return Err(invalid("a topic selector must hold a name or a prefix".to_owned())),
        },
        None => return Err(invalid("a topic permission must say which topics".to_owned())),
    };
    Ok(Permission { on: Resource::Topics, read, write, cache, names })
}

fn cache_name(selector: CacheSelector) -> Result<String, Status> {
    match selector.kind {
        Some(cache_selector::Kind::CacheName(name)) => Ok(name),
        None => Err(invalid("a cache selector must hold a name".to_owned())),
    }
}

fn invalid(message: String) -> Status {
    Status::invalid_argument(message)
}
