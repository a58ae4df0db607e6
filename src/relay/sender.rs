//! One attempt at a message: signed, and sent.

use std::time::SystemTime;

use aws_config::SdkConfig;
use http::header::HeaderName;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use super::aws_auth::AwsAuth;
use super::config::{Config, Route};
use super::fate::Fate;
use super::journal::{Pending, RouteName};
use super::{Error, standard};
use crate::clock;
use crate::delivery::{self, Post};
use crate::event::Event;
use crate::secrets::{SecretsManager, SigningKey};

/// The same on every attempt at a message.
const EVENT_ID: HeaderName = HeaderName::from_static("momento-webhook-event-id");
/// 1 on the first attempt.
const ATTEMPT: HeaderName = HeaderName::from_static("momento-webhook-attempt");
/// What attempts need. Shared by those that are under way.
pub(crate) struct Sender {
    pub(crate) name: RouteName,
    pub(crate) route: Route,
    client: reqwest::Client,
    key: SigningKey,
    aws: Option<AwsAuth>,
}

impl Sender {
    pub(crate) fn new(
        config: &Config,
        route: &Route,
        aws: &SdkConfig,
        manager: &SecretsManager,
    ) -> Result<Self, Error> {
        let secret = route.signing_secret.clone().or(config.account.signing_secret.clone()).unwrap_or_default();
        let auth = || AwsAuth::new(aws, route.aws_region.as_deref(), route.url.host_str());
        Ok(Self {
            name: RouteName { cache: route.cache.clone(), topic: route.topic.clone(), name: route.name.clone() },
            client: delivery::client(config.network.reach(), route.concurrency).map_err(Error::Client)?,
            key: SigningKey::new(manager.clone(), secret, &config.account.secrets),
            aws: route.aws_auth.then(auth).transpose().map_err(|error| Error::AwsAuth(error.to_string()))?,
            route: route.clone(),
        })
    }

    /// One attempt, the `number`th at this message. Without a signature nothing is sent.
    pub(crate) async fn attempt(&self, pending: &Pending, number: u32) -> Fate {
        let now = clock::now();
        let (secret, text) = match self.key.get(now).await {
            Ok(key) => key,
            Err(error) => return Fate::Fault(format!("there is no secret to sign with: {error}")),
        };
        let event = Event {
            cache: self.name.cache.clone(),
            topic: self.name.topic.clone(),
            event_timestamp: pending.received,
            publish_timestamp: now,
            topic_sequence_number: pending.place.number,
            token_id: pending.token_id.clone(),
            text: pending.text.clone(),
        };
        let id = event.id();
        let mut post = Post::new(self.route.url.clone(), &event, &secret);
        post.header(EVENT_ID, &id.to_string());
        post.header(ATTEMPT, &number.to_string());
        if self.route.standard_webhooks {
            standard::sign(&mut post, id, text.expose_secret(), now);
        }
        let until = Instant::now() + self.route.deadline;
        if let Some(aws) = &self.aws {
            match timeout_at(until, aws.sign(&mut post, SystemTime::now())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if !error.is_passing() => return Fate::Fault(error.to_string()),
                Ok(Err(error)) => return Fate::not_sent(error.to_string()),
                Err(_) => return Fate::not_sent("no AWS credentials in time".into()),
            }
        }
        Fate::of(delivery::send(&self.client, post, until - Instant::now()).await)
    }
}
