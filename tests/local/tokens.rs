use std::time::Duration;

use futures::StreamExt;
use momento::{
    MomentoErrorCode,
    auth::{CacheSelector, DisposableTokenScopes, ExpiresIn, GenerateDisposableTokenRequest, PermissionScopes},
};
use momento_protos::{
    cache_client::pubsub::{SubscriptionRequest, pubsub_client::PubsubClient},
    permission_messages::{Permissions, permissions},
    token::{
        GenerateDisposableTokenRequest as RawRequest, generate_disposable_token_request::Expires,
        token_client::TokenClient,
    },
};
use momento_webhook::local::Config;
use tokio::time::timeout;
use tonic::{Code, Request};

use super::{CACHE, KEY, Scope, auth, caches, config, mint, refusal, start, topics};
use crate::stack::{self, eventually};

fn publish_only() -> momento::auth::PermissionScope {
    PermissionScopes::topic_publish_only(CACHE, "comment")
}

#[tokio::test]
async fn a_publish_only_token_publishes_on_its_topic_and_does_nothing_else() {
    let local = start().await;
    let token = mint(&local, publish_only(), "taylor", ExpiresIn::minutes(30)).await.unwrap();
    let (cache, topic) = (caches(&local, &token), topics(&local, &token));
    topic.publish(CACHE, "comment", "text").await.unwrap();

    let denied = MomentoErrorCode::PermissionError;
    assert_eq!(refusal(topic.publish(CACHE, "other", "text").await), denied);
    assert_eq!(refusal(topic.publish("other", "comment", "text").await), denied);
    assert_eq!(refusal(cache.get(CACHE, "user/taylor").await), denied);
    assert_eq!(refusal(cache.get_batch(CACHE, vec!["user/taylor"]).await), denied);
    assert_eq!(refusal(cache.keys_exist(CACHE, vec!["user/taylor"]).await), denied);
    assert_eq!(refusal(cache.set(CACHE, "k", "v").await), denied);
    assert_eq!(refusal(cache.set_if_absent(CACHE, "k", "v").await), denied);
    assert_eq!(refusal(cache.list_fetch(CACHE, "k").await), denied);
    assert_eq!(refusal(cache.dictionary_fetch(CACHE, "k").await), denied);
    assert_eq!(refusal(cache.item_get_ttl(CACHE, "k").await), denied);
    assert_eq!(refusal(cache.get("unknown", "k").await), denied, "it does not learn which caches there are");
    assert_eq!(refusal(cache.create_cache("mine").await), denied);
    assert_eq!(refusal(cache.delete_cache(CACHE).await), denied);
    assert_eq!(refusal(cache.flush_cache(CACHE).await), denied);
    assert_eq!(refusal(cache.list_caches().await), denied);

    let request = SubscriptionRequest { cache_name: CACHE.into(), topic: "comment".into(), ..Default::default() };
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", token.parse().unwrap());
    let mut raw = PubsubClient::connect(local.url.clone()).await.unwrap();
    assert_eq!(raw.subscribe(request).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn the_publishers_id_is_the_tokens() {
    let local = start().await;
    let mut subscription = topics(&local, KEY).subscribe(CACHE, "comment").await.unwrap();
    for (key, expected) in [
        (mint(&local, publish_only(), "taylor", ExpiresIn::minutes(30)).await.unwrap(), "taylor"),
        (mint(&local, publish_only(), "", ExpiresIn::minutes(30)).await.unwrap(), ""),
        (KEY.to_owned(), ""),
    ] {
        topics(&local, &key).publish(CACHE, "comment", "I am kim").await.unwrap();
        let got = timeout(Duration::from_secs(10), subscription.next()).await.unwrap().unwrap();
        assert_eq!(got.publisher_id, expected);
    }
}

#[tokio::test]
async fn a_forged_token_is_not_authenticated() {
    let local = start().await;
    let token = mint(&local, publish_only(), "taylor", ExpiresIn::minutes(30)).await.unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let other = stack::local(Config { api_key: Some("another".into()), ..config() }).await;
    // The same claims with another name, under the old signature.
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, parts[1]).unwrap();
    let claims = String::from_utf8(claims).unwrap().replace("taylor", "kimkim");
    let claims = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims);
    let flip = |part: &str| format!("{}{}", if part.starts_with('A') { 'B' } else { 'A' }, &part[1..]);

    for (what, forged) in [
        ("another user", format!("{}.{claims}.{}", parts[0], parts[2])),
        ("a bit of the signature", format!("{}.{}.{}", parts[0], parts[1], flip(parts[2]))),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("nonsense", "nonsense".to_owned()),
    ] {
        let published = topics(&local, &forged).publish(CACHE, "comment", "text").await;
        assert_eq!(refusal(published), MomentoErrorCode::AuthenticationError, "{what}");
    }
    let published = topics(&other, &token).publish(CACHE, "comment", "text").await;
    assert_eq!(refusal(published), MomentoErrorCode::AuthenticationError, "another server's");
}

#[tokio::test]
async fn a_token_expires_and_with_it_its_subscription() {
    let local = start().await;
    let scope = PermissionScopes::topic_publish_subscribe(CACHE, "comment");
    let token = mint(&local, scope, "taylor", ExpiresIn::seconds(2)).await.unwrap();
    let client = topics(&local, &token);
    let request = SubscriptionRequest { cache_name: CACHE.into(), topic: "comment".into(), ..Default::default() };
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", token.parse().unwrap());
    let mut raw = PubsubClient::connect(local.url.clone()).await.unwrap();
    let mut stream = raw.subscribe(request).await.unwrap().into_inner();

    let code = eventually(async || client.publish(CACHE, "comment", "text").await.err()).await.error_code;
    assert_eq!(code, MomentoErrorCode::AuthenticationError);
    let end = eventually(async || stream.message().await.err()).await;
    assert_eq!(end.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_token_survives_a_restart_with_the_same_key() {
    let local = start().await;
    let token = mint(&local, publish_only(), "taylor", ExpiresIn::minutes(30)).await.unwrap();
    local.stop().await.unwrap();
    let local = start().await;
    topics(&local, &token).publish(CACHE, "comment", "text").await.unwrap();
}

#[tokio::test]
async fn a_token_cannot_make_tokens() {
    let local = start().await;
    let all = PermissionScopes::cache_read_write(CacheSelector::AllCaches);
    let token = mint(&local, all, "taylor", ExpiresIn::minutes(30)).await.unwrap();
    let minted =
        auth(&local, &token).generate_disposable_token(Scope::from(publish_only()).0, ExpiresIn::minutes(30)).await;
    assert_eq!(refusal(minted), MomentoErrorCode::PermissionError);

    // Nor by leaving one of the two places empty in which a key may be.
    let permissions = Permissions { kind: Some(permissions::Kind::Explicit(Default::default())) };
    for (header, body) in [(token.as_str(), ""), ("", token.as_str()), (token.as_str(), KEY)] {
        let mut request = Request::new(RawRequest {
            expires: Some(Expires { valid_for_seconds: 60 }),
            auth_token: body.to_owned(),
            permissions: Some(permissions.clone()),
            token_id: String::new(),
        });
        if !header.is_empty() {
            request.metadata_mut().insert("authorization", header.parse().unwrap());
        }
        let mut client = TokenClient::connect(local.url.clone()).await.unwrap();
        let status = client.generate_disposable_token(request).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "header {}, body {}", header.len(), body.len());
    }
}

#[tokio::test]
async fn what_a_token_may_ask_for_is_bounded() {
    let local = start().await;
    let invalid = MomentoErrorCode::InvalidArgumentError;
    let mint = async |expires, id: &str| {
        let request = GenerateDisposableTokenRequest::new(Scope::from(publish_only()).0, expires);
        auth(&local, KEY).send_request(request.token_id(id.to_owned())).await
    };
    mint(ExpiresIn::hours(25), &"x".repeat(64)).await.unwrap();
    assert_eq!(refusal(mint(ExpiresIn::seconds(25 * 3600 + 1), "").await), invalid);
    assert_eq!(refusal(mint(ExpiresIn::seconds(0), "").await), invalid);
    assert_eq!(refusal(mint(ExpiresIn::minutes(1), "a/b").await), invalid, "it could reach another key");

    let raw = async |statements: usize, token_id: String| {
        let statement = momento_protos::permission_messages::PermissionsType {
            kind: Some(momento_protos::permission_messages::permissions_type::Kind::CachePermissions(
                momento_protos::permission_messages::permissions_type::CachePermissions {
                    role: 1,
                    cache: Some(
                        momento_protos::permission_messages::permissions_type::cache_permissions::Cache::AllCaches(
                            momento_protos::permission_messages::permissions_type::All {},
                        ),
                    ),
                    cache_item: None,
                },
            )),
        };
        let explicit =
            momento_protos::permission_messages::ExplicitPermissions { permissions: vec![statement; statements] };
        let request = RawRequest {
            expires: Some(Expires { valid_for_seconds: 60 }),
            auth_token: KEY.to_owned(),
            permissions: Some(Permissions { kind: Some(permissions::Kind::Explicit(explicit)) }),
            token_id,
        };
        let mut client = TokenClient::connect(local.url.clone()).await.unwrap();
        client.generate_disposable_token(Request::new(request)).await.map_err(|status| status.code())
    };
    raw(20, "x".repeat(64)).await.unwrap();
    assert_eq!(raw(21, String::new()).await.unwrap_err(), Code::InvalidArgument);
    assert_eq!(raw(0, String::new()).await.unwrap_err(), Code::InvalidArgument);
    assert_eq!(raw(1, "x".repeat(65)).await.unwrap_err(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_tokens_keys_and_prefixes_are_enforced() {
    let local = start().await;
    let cache = || CacheSelector::CacheName { name: CACHE.into() };
    let soon = || ExpiresIn::minutes(30);
    let denied = MomentoErrorCode::PermissionError;

    let scope = DisposableTokenScopes::cache_key_prefix_read_only(cache(), "user/");
    let client = caches(&local, &mint(&local, scope, "", soon()).await.unwrap());
    client.get(CACHE, "user/taylor").await.unwrap();
    assert_eq!(refusal(client.get(CACHE, "claim/1").await), denied);
    assert_eq!(refusal(client.get_batch(CACHE, vec!["user/taylor", "claim/1"]).await), denied);
    assert_eq!(refusal(client.set(CACHE, "user/taylor", "v").await), denied);
    assert_eq!(refusal(client.delete(CACHE, "user/taylor").await), denied);

    let scope = DisposableTokenScopes::cache_key_write_only(cache(), "k");
    let client = caches(&local, &mint(&local, scope, "", soon()).await.unwrap());
    client.set(CACHE, "k", "1").await.unwrap();
    assert_eq!(refusal(client.set(CACHE, "k2", "1").await), denied);
    assert_eq!(refusal(client.get(CACHE, "k").await), denied);
    assert_eq!(refusal(client.set_if_absent(CACHE, "k", "1").await), denied, "that would tell what is there");
    assert_eq!(refusal(client.increment(CACHE, "k", 1).await), denied);

    let scope = DisposableTokenScopes::cache_key_read_write(cache(), "k");
    let client = caches(&local, &mint(&local, scope, "", soon()).await.unwrap());
    assert_eq!(client.increment(CACHE, "k", 1).await.unwrap().value(), 2);
    assert_eq!(refusal(client.get("other", "k").await), denied);
}
