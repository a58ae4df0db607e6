//! The publisher against `local`: what its tokens permit, how long, and in whose name.

use std::time::Duration;

use clap::Parser;
use futures::StreamExt;
use momento::topics::Subscription;
use momento::{CacheClient, CredentialProvider, MomentoErrorCode, MomentoResult, TopicClient};
use momento_webhook::config::MomentoConfig;
use momento_webhook::local::Config;
use momento_webhook::momento::{Credentials, Momento, Role, TokenScope};
use momento_webhook::publisher::{CALL, Publisher, cli};
use serde_json::Value;

use crate::fixture::{CACHE, api_key, now, seed, subscribe};
use crate::stack::{Local, eventually, local};

async fn start() -> Local {
    local(Config { seed: seed(), ..Config::default() }).await
}

/// Runs the command line, and returns what it prints.
async fn publisher(local: &Local, arguments: &[&str]) -> anyhow::Result<String> {
    let variables = [("MOMENTO_API_KEY", api_key()), ("MOMENTO_ENDPOINT_URL", local.url.clone())];
    let lookup = |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.clone());
    let cli = cli::Cli::try_parse_from(["publisher"].iter().chain(arguments))?;
    let mut out = Vec::new();
    Box::pin(cli::run(cli, &lookup, &mut out)).await?;
    Ok(String::from_utf8(out).unwrap())
}

async fn token(local: &Local, arguments: &[&str]) -> (CredentialProvider, Value) {
    let arguments = [&["token"], arguments].concat();
    let printed: Value = serde_json::from_str(&publisher(local, &arguments).await.unwrap()).unwrap();
    let credentials = CredentialProvider::from_disposable_token(printed["token"].as_str().unwrap()).unwrap();
    (credentials.insecure_endpoint_override(&local.url), printed)
}

fn topics(credentials: CredentialProvider) -> TopicClient {
    let builder = TopicClient::builder().configuration(momento::topics::configurations::Laptop::latest());
    builder.credential_provider(credentials).build().unwrap()
}

#[track_caller]
fn assert_code<T>(result: MomentoResult<T>, code: MomentoErrorCode) {
    assert_eq!(result.err().map(|error| error.error_code), Some(code));
}

async fn next(heard: &mut Subscription) -> (String, String) {
    let message = tokio::time::timeout(Duration::from_secs(5), heard.next()).await.unwrap().unwrap();
    let publisher = message.publisher_id.clone();
    (publisher, message.try_into().unwrap())
}

#[tokio::test]
async fn a_published_message_carries_the_token_id() {
    let local = start().await;
    let mut heard = subscribe(&local.url, "comment").await;
    publisher(&local, &["publish"]).await.unwrap();
    let (id, text) = next(&mut heard).await;
    assert_eq!(id, "taylor");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["courseId"], 123);
    publisher(&local, &["publish", "--token-id", "kim", "hello"]).await.unwrap();
    assert_eq!(next(&mut heard).await, ("kim".into(), "hello".into()));
}

#[tokio::test]
async fn a_token_is_of_no_use_outside_its_scope() {
    let local = start().await;
    let (credentials, printed) = token(&local, &["--ttl", "60"]).await;
    assert!(
        printed["expiresAt"].as_u64().unwrap() <= now() / 1_000 + 60
            && !printed["endpoint"].as_str().unwrap().is_empty()
    );
    let user = topics(credentials.clone());
    user.publish(CACHE, "comment", "allowed").await.unwrap();
    assert_code(user.publish(CACHE, "other", "x").await, MomentoErrorCode::PermissionError);
    assert_code(user.subscribe(CACHE, "comment").await, MomentoErrorCode::PermissionError);
    let cache = CacheClient::builder()
        .default_ttl(Duration::from_secs(60))
        .configuration(momento::cache::configurations::Laptop::latest())
        .credential_provider(credentials)
        .build()
        .unwrap();
    assert_code(cache.get(CACHE, "user/taylor").await, MomentoErrorCode::PermissionError);
    assert_code(cache.set(CACHE, "user/taylor", "{}").await, MomentoErrorCode::PermissionError);

    let (listener, _) = token(&local, &["--role", "subscribe"]).await;
    let listener = topics(listener);
    listener.subscribe(CACHE, "comment").await.unwrap();
    assert_code(listener.publish(CACHE, "comment", "x").await, MomentoErrorCode::PermissionError);
    let (both, _) = token(&local, &["--role", "publish-subscribe"]).await;
    let both = topics(both);
    both.subscribe(CACHE, "comment").await.unwrap();
    both.publish(CACHE, "comment", "x").await.unwrap();
}

#[tokio::test]
async fn a_token_ends() {
    let local = start().await;
    let (credentials, _) = token(&local, &["--ttl", "1"]).await;
    let user = topics(credentials);
    user.publish(CACHE, "comment", "in time").await.unwrap();
    let refused = eventually(async || user.publish(CACHE, "comment", "too late").await.err()).await;
    assert_eq!(refused.error_code, MomentoErrorCode::AuthenticationError);
}

#[tokio::test]
async fn a_token_id_cannot_be_forged() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE;
    let local = start().await;
    let (_, printed) = token(&local, &["--token-id", "mallory"]).await;
    let mut token: Value =
        serde_json::from_slice(&URL_SAFE.decode(printed["token"].as_str().unwrap()).unwrap()).unwrap();
    let key = token["api_key"].as_str().unwrap().to_owned();
    let forged = key
        .split('.')
        .map(|part| {
            // Whatever part is readable and names the user, name another one.
            let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
            let text = String::from_utf8(decoded).unwrap_or_default();
            if !text.contains("mallory") {
                return part.to_owned();
            }
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text.replace("mallory", "taylorr"))
        })
        .collect::<Vec<_>>()
        .join(".");
    assert_ne!(forged, key);
    token["api_key"] = forged.into();
    let credentials = CredentialProvider::from_disposable_token(URL_SAFE.encode(token.to_string())).unwrap();
    let user = topics(credentials.insecure_endpoint_override(&local.url));
    assert_code(user.publish(CACHE, "comment", "x").await, MomentoErrorCode::AuthenticationError);
}

#[tokio::test]
async fn what_momento_would_not_give_is_refused_in_words() {
    let local = start().await;
    let long = "x".repeat(65);
    for (arguments, word) in [
        (vec!["token", "--ttl", "90001"], "ttl"),
        (vec!["token", "--ttl", "0"], "ttl"),
        (vec!["token", "--token-id", &long], "token id"),
        (vec!["publish", "--token-id", "a/b"], "token id"),
        (vec!["publish", "--topic", ""], "topic"),
    ] {
        let error = publisher(&local, &arguments).await.unwrap_err().to_string();
        assert!(error.contains(word), "{arguments:?}: {error}");
    }
    let cli = cli::Cli::parse_from(["publisher", "token"]);
    let error = Box::pin(cli::run(cli, &|_| None, &mut Vec::new())).await.unwrap_err().to_string();
    assert!(error.contains("set MOMENTO_API_KEY"), "{error}");
}

#[tokio::test]
async fn a_listener_prints_each_message_as_a_line() {
    let local = start().await;
    let talking = async {
        loop {
            publisher(&local, &["publish", "--token-id", "kim", "a\nb"]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await; // until somebody listens
        }
    };
    let listen = ["listen", "--count", "2", "--timeout", "10"];
    let printed = tokio::select! {
        printed = publisher(&local, &listen) => printed.unwrap(),
        () = talking => unreachable!(),
    };
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["publisherId"], &lines[0]["text"]), (&"kim".into(), &"a\nb".into()));
    assert_eq!(lines[0]["sequence"].as_u64().unwrap() + 1, lines[1]["sequence"].as_u64().unwrap());
    let error = publisher(&local, &["listen", "--topic", "quiet", "--timeout", "1"]).await.unwrap_err();
    assert!(error.to_string().contains("in time"), "{error}");
    let error = publisher(&local, &["listen", "--topic", "quiet", "--ttl", "1"]).await.unwrap_err();
    assert!(error.to_string().contains("the token has ended"), "{error}");
}

fn scope(token_id: &str) -> TokenScope {
    TokenScope { token_id: token_id.into(), cache: CACHE.into(), topic: "comment".into(), role: Role::Publish }
}

#[tokio::test]
async fn a_warm_publisher_outlives_its_tokens_and_keeps_users_apart() {
    let local = start().await;
    let url = local.url.clone();
    let config = MomentoConfig::from_lookup(&|name| (name == "MOMENTO_ENDPOINT_URL").then(|| url.clone())).unwrap();
    let account = Momento::new(Credentials::parse(&api_key().into(), &config).unwrap(), CALL).unwrap();
    let warm = Publisher::new(config);
    let mut heard = subscribe(&local.url, "comment").await;
    let (ttl, start) = (Duration::from_secs(1), now() / 1_000);
    let publish = async |user: &str, ttl, at| warm.publish(&account, scope(user), ttl, user.into(), at).await.unwrap();

    let first = publish("taylor", Duration::from_secs(600), start).await;
    assert_eq!(publish("taylor", Duration::from_secs(900), start).await, first); // the same token serves
    assert!(publish("taylor", ttl, first).await < first); // it has ended by then, and a new one was minted
    for user in ["kim", "taylor", "alex", "kim"] {
        publish(user, Duration::from_secs(600), start).await;
    }
    for user in ["taylor", "taylor", "taylor", "kim", "taylor", "alex", "kim"] {
        assert_eq!(next(&mut heard).await, (user.into(), user.into()));
    }
    for number in 0..200 {
        publish(&format!("user-{number}"), Duration::from_secs(600), start).await; // and no more than a few stay open
    }
}
