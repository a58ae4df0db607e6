//! A handler or a publisher in this process, on top of a `local` of its own, and what to put before it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlResponse;
use aws_sdk_secretsmanager::config::{Credentials, SharedHttpClient};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lambda_runtime::Context;
use momento::cache::ListFetchResponse;
use momento::{CacheClient, CredentialProvider};
use momento_webhook::config::HandlerConfig;
use momento_webhook::event::Event;
use momento_webhook::handler::Handler;
use momento_webhook::local::{Config, Seed};
use momento_webhook::reaction::{CourseComments, CourseCommentsConfig, Reaction};
use momento_webhook::signature::{HEADER, Secret, sign};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::stack::{Local, local};

pub(crate) const CACHE: &str = "course-comments";
pub(crate) const SIGNING_SECRET: &str = "a signing secret for tests";
/// The secret that `local` keeps its key in.
pub(crate) const API_KEY_SECRET: &str = "momento-api-key";
pub(crate) const SIGNING_SECRET_NAME: &str = "momento-signing-secret";

/// A size that fits in `make test`, or the full one where `FULL=1` is set.
pub(crate) fn scale<T>(small: T, full: T) -> T {
    if std::env::var_os("FULL").is_some_and(|full| full == "1") { full } else { small }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// How the functions reach AWS.
pub(crate) fn http_client() -> SharedHttpClient {
    momento_webhook::aws::lambda(&|_| None, None).http_client().unwrap()
}

/// The AWS configuration that finds every service at `url`.
pub(crate) async fn aws(url: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .http_client(http_client())
        .endpoint_url(url)
        .load()
        .await
}

pub(crate) fn seed() -> Seed {
    let mut seed = Seed::default();
    seed.secrets.insert(SIGNING_SECRET_NAME.into(), SIGNING_SECRET.into());
    seed
}

/// The account's own view of the caches.
pub(crate) fn account(url: &str) -> CacheClient {
    CacheClient::builder()
        .default_ttl(std::time::Duration::from_secs(600))
        .configuration(momento::cache::configurations::Laptop::latest())
        .credential_provider(account_credentials(url))
        .build()
        .unwrap()
}

/// The key of `local`'s super user, as a v1 key.
pub(crate) fn api_key() -> String {
    v1_key("local-development-api-key")
}

/// A v1 key that says this.
pub(crate) fn v1_key(key: &str) -> String {
    STANDARD.encode(json!({ "endpoint": "localhost", "api_key": key }).to_string())
}

pub(crate) async fn subscribe(url: &str, topic: &str) -> momento::topics::Subscription {
    let topics = momento::TopicClient::builder()
        .configuration(momento::topics::configurations::Laptop::latest())
        .credential_provider(account_credentials(url))
        .build()
        .unwrap();
    topics.subscribe(CACHE, topic).await.unwrap()
}

pub(crate) fn account_credentials(url: &str) -> CredentialProvider {
    CredentialProvider::from_disposable_token(api_key()).unwrap().insecure_endpoint_override(url)
}

/// The variables of a handler on `local`, with `more` in front.
pub(crate) fn variables<'a>(url: &'a str, more: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    let variables = [
        ("MOMENTO_API_KEY_SECRET_NAME", API_KEY_SECRET),
        ("MOMENTO_SIGNING_SECRET_NAME", SIGNING_SECRET_NAME),
        ("MOMENTO_ENDPOINT_URL", url),
    ];
    move |name| more.iter().chain(&variables).find(|(variable, _)| *variable == name).map(|(_, value)| (*value).into())
}

/// A handler of course comments on a `local` of its own.
pub(crate) struct Fixture {
    pub(crate) local: Local,
    pub(crate) handler: Handler<CourseComments>,
    pub(crate) account: CacheClient,
}

impl Fixture {
    pub(crate) async fn new(more: &[(&str, &str)]) -> Self {
        let local = local(Config { seed: seed(), ..Config::default() }).await;
        let aws = aws(&local.url).await;
        Self::on(local, &aws, more).await
    }

    /// On this `local`, with AWS as configured.
    pub(crate) async fn on(local: Local, aws: &SdkConfig, more: &[(&str, &str)]) -> Self {
        let handler = handler(&local.url, aws, more).await;
        let account = account(&local.url);
        Self { local, handler, account }
    }

    /// What the handler answers, after it has finished.
    pub(crate) async fn answer(&self, request: &Value) -> Answer {
        answer(&self.handler, request).await
    }

    /// The entries of a course, the newest first.
    pub(crate) async fn comments(&self, course: &str) -> Vec<Value> {
        comments(&self.account, course).await
    }
}

pub(crate) async fn handler(url: &str, aws: &SdkConfig, more: &[(&str, &str)]) -> Handler<CourseComments> {
    let lookup = variables(url, more);
    let config = HandlerConfig::from_lookup(&lookup).unwrap();
    let reaction = CourseComments::new(CourseCommentsConfig::from_lookup(&lookup).unwrap());
    Handler::start(config, aws, reaction).await
}

pub(crate) async fn answer<R: Reaction>(handler: &Handler<R>, request: &Value) -> Answer {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let mut context = Context::default();
    context.request_id = format!("request-{}", REQUESTS.fetch_add(1, Ordering::Relaxed));
    let (response, aftermath) = handler.invoke(&to_raw_value(request).unwrap(), &context).await;
    aftermath.finish().await;
    Answer(response)
}

pub(crate) async fn comments(account: &CacheClient, course: &str) -> Vec<Value> {
    match account.list_fetch(CACHE, course).await.unwrap() {
        ListFetchResponse::Hit { values } => {
            let values: Vec<String> = values.try_into().unwrap();
            values.iter().map(|entry| serde_json::from_str(entry).unwrap()).collect()
        }
        ListFetchResponse::Miss => Vec::new(),
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Answer(pub(crate) LambdaFunctionUrlResponse);

impl Answer {
    pub(crate) fn status(&self) -> i64 {
        self.0.status_code
    }
    pub(crate) fn body(&self) -> &str {
        self.0.body.as_deref().unwrap()
    }
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A comment by Taylor, published just now; no two are the same event.
pub(crate) fn comment(course: &str, comment: &str) -> Event {
    static SEQUENCE: AtomicU64 = AtomicU64::new(1);
    Event {
        cache: CACHE.into(),
        topic: "comment".into(),
        event_timestamp: now(),
        publish_timestamp: now(),
        topic_sequence_number: SEQUENCE.fetch_add(1, Ordering::Relaxed),
        token_id: "taylor".into(),
        text: json!({ "courseId": course, "comment": comment }).to_string(),
    }
}

/// The function-URL request that carries a body as it is.
pub(crate) fn unsigned(body: &str) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": { "content-type": "application/json", "user-agent": "Momento/1.0" },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "url-id",
            "domainName": "url-id.lambda-url.us-east-1.on.aws",
            "domainPrefix": "url-id",
            "http": { "method": "POST", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.1", "userAgent": "Momento/1.0" },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "24/Nov/2026:00:00:00 +0000",
            "timeEpoch": now(),
        },
        "body": body,
        "isBase64Encoded": false,
    })
}

/// The function-URL request that carries a body with its signature.
pub(crate) fn signed(body: &str) -> Value {
    let mut request = unsigned(body);
    request["headers"][HEADER] = signature_of(body).into();
    request
}

/// The function-URL request that delivers an event.
pub(crate) fn delivery(event: &Event) -> Value {
    signed(&String::from_utf8(event.to_body()).unwrap())
}

pub(crate) fn signature_of(body: &str) -> String {
    sign(&Secret::new(SIGNING_SECRET).unwrap(), body.as_bytes())
}
