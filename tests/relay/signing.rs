//! What the relay sends, verified by implementations that are not ours: the Standard Webhooks library, and botocore.

use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider};
use serde_json::json;
use standardwebhooks::Webhook;

use super::receiver::{Post, receiver};
use super::{Setup, TOPIC, route, topic_client};
use crate::fixture::{CACHE, SIGNING_SECRET, seed};
use crate::processes::tool;
use crate::stack::{eventually, local};

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test]
async fn a_standard_webhooks_library_verifies_it() {
    let mut seed = seed();
    seed.secrets.insert("whsec".into(), WHSEC.into());
    let local = local(momento_webhook::local::Config { seed, ..Default::default() }).await;
    let (mut text, mut whsec) = (receiver(200).await, receiver(200).await);
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(&local, &text.url, folder.path()).await;
    setup.toml.push_str("standard_webhooks = true\n");
    setup.toml.push_str(&route(&whsec.url, "name = \"whsec\"\nsigning_secret = \"whsec\"\nstandard_webhooks = true"));
    let relay = setup.start().await;
    relay.until_ready().await;
    topic_client(&local.url).publish(CACHE, TOPIC, "{\"comment\":\"é \u{1} \\\"\"}").await.unwrap();

    let (text, whsec) = (text.next().await, whsec.next().await);
    let text_key = Webhook::from_bytes(SIGNING_SECRET.into()).unwrap();
    text_key.verify(&text.body, &text.headers).unwrap();
    Webhook::new(WHSEC).unwrap().verify(&whsec.body, &whsec.headers).unwrap();
    text_key.verify(&whsec.body, &whsec.headers).expect_err("it is signed with another key");
    relay.stop().await;
}

/// Answers once, for the client that reads the secrets, and then no more.
#[derive(Debug, Default)]
struct Hanging(AtomicU32);

impl ProvideCredentials for Hanging {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => future::ProvideCredentials::ready(Ok(Credentials::new("id", "secret", None, None, "test"))),
            _ => future::ProvideCredentials::new(std::future::pending()),
        }
    }
}

#[tokio::test]
async fn credentials_that_do_not_come_end_with_the_attempt() {
    let local = local(momento_webhook::local::Config { seed: seed(), ..Default::default() }).await;
    let (receiver, folder) = (receiver(200).await, tempfile::tempdir().unwrap());
    let mut setup = Setup::new(&local, &receiver.url, folder.path()).await;
    setup.toml.push_str("aws_auth = true\naws_region = \"eu-west-1\"\ndeadline_seconds = 0.2\n");
    let hanging = SharedCredentialsProvider::new(Hanging::default());
    setup.aws = setup.aws.into_builder().credentials_provider(hanging).build();
    let relay = setup.start().await;
    relay.until_ready().await;
    topic_client(&local.url).publish(CACHE, TOPIC, "signed").await.unwrap();
    eventually(async || (relay.metric("relay_retries_total").await > 0).then_some(())).await;
    relay.stop().await;
}

#[tokio::test]
async fn botocore_signs_the_same_request_the_same_way() {
    let local = local(momento_webhook::local::Config { seed: seed(), ..Default::default() }).await;
    let mut receiver = receiver(200).await;
    // What has to be escaped and what has to be sorted.
    let url = receiver.url.replace("/hook", "/a%20path/~taylor/%C3%A9?b=%2F%2Bx&a=2&a=1&empty=");
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(&local, &url, folder.path()).await;
    setup.toml.push_str("aws_auth = true\naws_region = \"eu-west-1\"\n");
    let credentials = ["an-id", "a-secret", "a-session"];
    setup.aws = with_credentials(&setup.aws, credentials);
    let relay = setup.start().await;
    relay.until_ready().await;
    topic_client(&local.url).publish(CACHE, TOPIC, "{\"comment\":\"é \u{1} \\\"\"}").await.unwrap();

    let post = receiver.next().await;
    let sent = post.header("authorization");
    let signed = sent.split_once("SignedHeaders=").unwrap().1.split_once(',').unwrap().0;
    for needed in ["host", "x-amz-date", "x-amz-security-token"] {
        assert!(signed.split(';').any(|name| name == needed), "{needed} is not signed: {signed}");
    }
    assert_eq!(sent, botocore(&post, &url, signed, credentials));
    relay.stop().await;
}

fn with_credentials(aws: &SdkConfig, [id, secret, session]: [&str; 3]) -> SdkConfig {
    let credentials = Credentials::new(id, secret, Some(session.into()), None, "tests");
    aws.clone().into_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build()
}

/// The `authorization` that botocore would have sent, over these of the headers that came.
fn botocore(post: &Post, url: &str, signed: &str, credentials: [&str; 3]) -> String {
    let headers: serde_json::Map<_, _> =
        signed.split(';').map(|name| (name.to_owned(), post.header(name).into())).collect();
    let body = std::str::from_utf8(&post.body).unwrap();
    let asked =
        json!({ "url": url, "headers": headers, "body": body, "credentials": credentials, "region": "eu-west-1" });
    let mut python = tool("python3");
    python.args(["-c", include_str!("sigv4.py")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    python.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
