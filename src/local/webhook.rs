//! Delivers as Momento's webhooks did: one attempt, five seconds, and a message that did not arrive is gone.

use std::{str::FromStr, sync::Arc, time::Duration};

use reqwest::{Client, Url};
use tokio::sync::Semaphore;

use super::{
    access::is_loopback_host,
    now,
    secrets::Secrets,
    seed::SIGNING_SECRET,
    topics::{Message, Published},
};
use crate::{
    delivery::{self, Outcome, Post, Reach, split_target},
    event::Event,
    signature::Secret,
};

/// How many deliveries may be under way. More than that means a receiver that hangs, and messages that would wait for it.
const MAX_UNDER_WAY: usize = 64;

/// Every message of a topic is posted to this URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The cache that the topic belongs to.
    pub cache: String,
    /// The topic.
    pub topic: String,
    /// Where to: loopback, unless the server's configuration says otherwise, and then https.
    pub url: Url,
}

/// Why a webhook is not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The text is not of the form `CACHE/TOPIC=URL`.
    #[error("expected CACHE/TOPIC=URL, with a URL that starts with http:// or https://")]
    Form,
    /// The URL cannot be read.
    #[error("the URL cannot be read")]
    Url(#[source] <Url as FromStr>::Err),
    /// The URL names another machine.
    #[error("the webhook's URL `{0}` is not on this machine; pass --allow-remote-webhooks if that is meant")]
    Remote(Url),
    /// The URL names another machine and does not protect what is sent there.
    #[error("the webhook's URL `{0}` is not on this machine, and so must start with https://")]
    Insecure(Url),
}

impl FromStr for Webhook {
    type Err = WebhookError;

    fn from_str(text: &str) -> Result<Self, WebhookError> {
        let (cache, topic, url) = split_target(text).ok_or(WebhookError::Form)?;
        let url = Url::parse(url).map_err(WebhookError::Url)?;
        Ok(Self { cache: cache.to_owned(), topic: topic.to_owned(), url })
    }
}

impl Webhook {
    pub(super) fn check(&self, allow_remote: bool) -> Result<(), WebhookError> {
        let is_loopback = self.url.host_str().is_some_and(is_loopback_host);
        if !is_loopback && !allow_remote {
            return Err(WebhookError::Remote(self.url.clone()));
        }
        if !is_loopback && self.url.scheme() != "https" {
            return Err(WebhookError::Insecure(self.url.clone()));
        }
        Ok(())
    }
}

/// Sends messages on their way.
pub(super) struct Deliveries {
    webhooks: Vec<Arc<Webhook>>,
    secrets: Secrets,
    client: Client,
    /// Bounds a whole attempt, connection and answer included.
    timeout: Duration,
    under_way: Arc<Semaphore>,
}

impl Deliveries {
    pub(super) fn new(webhooks: Vec<Webhook>, secrets: Secrets, timeout: Duration) -> Result<Self, reqwest::Error> {
        // Whoever starts a development server has said where it may send: see `Webhook::check`.
        let client = delivery::client(Reach { loopback: true, private: true }, 1)?;
        let webhooks = webhooks.into_iter().map(Arc::new).collect();
        Ok(Self { webhooks, secrets, client, timeout, under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)) })
    }

    /// Starts the deliveries of a message. Whoever published it does not wait for them.
    pub(super) fn deliver(&self, cache: &str, topic: &str, published: &Published) {
        for webhook in self.webhooks.iter().filter(|webhook| webhook.cache == cache && webhook.topic == topic) {
            let Message::Text(text) = &published.message else {
                tracing::warn!(cache, topic, number = published.number, "a binary message cannot be a webhook's");
                continue;
            };
            let Ok(permit) = self.under_way.clone().try_acquire_owned() else {
                tracing::warn!(cache, topic, number = published.number, "too many deliveries under way; message gone");
                continue;
            };
            let event = Event {
                cache: cache.to_owned(),
                topic: topic.to_owned(),
                event_timestamp: published.at,
                publish_timestamp: 0, // set when the attempt is made
                topic_sequence_number: published.number,
                token_id: published.publisher.clone(),
                text: text.clone(),
            };
            let attempt = attempt(self.client.clone(), self.timeout, self.secrets.clone(), webhook.clone(), event);
            tokio::spawn(async move {
                attempt.await;
                drop(permit);
            });
        }
    }
}

async fn attempt(client: Client, timeout: Duration, secrets: Secrets, webhook: Arc<Webhook>, mut event: Event) {
    let number = event.topic_sequence_number;
    // Read anew each time, so that a rotation takes hold with the next message.
    let Some(secret) = secrets.current(SIGNING_SECRET).and_then(|secret| Secret::new(secret).ok()) else {
        tracing::warn!(number, "no signing secret under `{SIGNING_SECRET}`; message gone");
        return;
    };
    event.publish_timestamp = now();
    let post = Post::new(webhook.url.clone(), &event, &secret);
    match delivery::send(&client, post, timeout).await {
        Outcome::Delivered => tracing::info!(number, "webhook delivered"),
        Outcome::Refused { status, .. } => tracing::warn!(number, status, "webhook refused; message gone"),
        Outcome::TimedOut => tracing::warn!(number, "webhook not answered in time; message gone"),
        Outcome::Forbidden => tracing::warn!(number, "webhook's address may not be used; message gone"),
        Outcome::Broken(error) => tracing::warn!(number, error, "webhook not delivered; message gone"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_read_from_its_flag() {
        let webhook: Webhook = "course-comments/a=b/c=http://127.0.0.1:9000/hook?x=http://y".parse().unwrap();
        assert_eq!(webhook.cache, "course-comments");
        assert_eq!(webhook.topic, "a=b/c");
        assert_eq!(webhook.url.as_str(), "http://127.0.0.1:9000/hook?x=http://y");
        for text in ["", "cache=http://localhost", "/topic=http://localhost", "cache/=http://localhost", "c/t=ftp://x"]
        {
            assert!(matches!(text.parse::<Webhook>(), Err(WebhookError::Form)), "{text}");
        }
    }

    #[test]
    fn another_machine_takes_a_flag_and_https() {
        let check = |url: &str, allow| format!("c/t={url}").parse::<Webhook>().unwrap().check(allow);
        assert!(check("http://localhost:9000", false).is_ok());
        assert!(check("http://[::1]:9000", false).is_ok());
        assert!(matches!(check("https://example.com", false), Err(WebhookError::Remote(_))));
        assert!(matches!(check("http://127.0.0.1.example.com", false), Err(WebhookError::Remote(_))));
        assert!(matches!(check("http://example.com", true), Err(WebhookError::Insecure(_))));
        assert!(check("https://example.com", true).is_ok());
    }
}
