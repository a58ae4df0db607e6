//! One attempt at delivering an event: what is posted, where it may go, and what the answer means.
//!
//! The relay and the `local` server both deliver with this. What differs is what they do with an [`Outcome`]: `local` lets
//! the message go, as Momento's retired service did, and the relay tries again.

mod address;

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Response, Url, redirect};

pub(crate) use address::{Forbidden, Reach};

use crate::event::Event;
use crate::signature::{self, Secret, sign};

/// What Momento's service called itself.
const AGENT: &str = "Momento/1.0 (Webhooks; +https://docs.momentohq.com/topics/webhooks)";
/// How much of an answer's body is read, in bytes: enough to use the connection again after any sensible answer. What is
/// longer costs its connection.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// The longest `retry-after` that is believed. A receiver that asks for more is asked again after this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// Splits `CACHE/TOPIC=URL`. A topic's name may hold an `=` and a `/` of its own.
pub(crate) fn split_target(text: &str) -> Option<(&str, &str, &str)> {
    let at = text.find("=http://").or_else(|| text.find("=https://"))?;
    let (cache, topic) = text[..at].split_once('/')?;
    (!cache.is_empty() && !topic.is_empty()).then_some((cache, topic, &text[at + 1..]))
}

/// A client that follows neither redirects nor proxy variables and connects only where `reach` allows. `idle` bounds the
/// connections that are kept open for a destination.
pub(crate) fn client(reach: Reach, idle: usize) -> Result<Client, reqwest::Error> {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .https_only(!reach.loopback)
        .pool_max_idle_per_host(idle)
        .dns_resolver(std::sync::Arc::new(address::Filter(reach)))
        .build()
}

/// A signed request, ready to be sent.
pub(crate) struct Post {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Post {
    /// The event as Momento's webhooks carried it.
    pub(crate) fn new(url: Url, event: &Event, secret: &Secret) -> Self {
        let body = event.to_body();
        let mut post = Self { url, headers: HeaderMap::new(), body };
        post.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        post.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        post.header(HeaderName::from_static(signature::HEADER), &sign(secret, &post.body));
        post
    }

    /// Adds a header. A value that no header can carry is left out.
    pub(crate) fn header(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }
}

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A 2xx.
    Delivered,
    /// Any other answer.
    Refused {
        status: u16,
        /// How long the receiver asks us to wait.
        #[cfg_attr(not(feature = "relay"), allow(dead_code, reason = "`local` does not try again"))]
        retry_after: Option<Duration>,
    },
    /// No answer within the deadline.
    TimedOut,
    /// The destination's name leads only to addresses that may not be used.
    Forbidden,
    /// The connection could not be made, or broke. Says why, without the URL, which may hold a key.
    Broken(String),
}

/// Posts it. `deadline` bounds all of it: name, connection, request and answer, body included.
pub(crate) async fn send(client: &Client, post: Post, deadline: Duration) -> Outcome {
    let exchange = async {
        let response = client.post(post.url).headers(post.headers).body(post.body).send().await;
        match response {
            Ok(response) => answer(response).await,
            Err(error) => broken(error),
        }
    };
    tokio::time::timeout(deadline, exchange).await.unwrap_or(Outcome::TimedOut)
}

async fn answer(mut response: Response) -> Outcome {
    let (status, retry_after) = (response.status(), retry_after(response.headers(), SystemTime::now()));
    let mut read = 0;
    // A body that breaks off changes nothing about the status.
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > MAX_ANSWER_BYTES {
            break;
        }
    }
    match status.is_success() {
        true => Outcome::Delivered,
        false => Outcome::Refused { status: status.as_u16(), retry_after },
    }
}

fn broken(error: reqwest::Error) -> Outcome {
    let error = error.without_url();
    let mut cause = error.source();
    let mut text = error.to_string();
    while let Some(source) = cause {
        if source.is::<Forbidden>() {
            return Outcome::Forbidden;
        }
        text = source.to_string(); // the innermost one says most
        cause = source.source();
    }
    Outcome::Broken(text)
}

/// Seconds, or a date; `None` where it is neither or there is none.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let wait = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&headers, now)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO), "the past is now");
        assert_eq!(wait("99999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_target_is_split_at_its_url() {
        assert_eq!(
            split_target("c/a=b/c=http://127.0.0.1/hook?x=http://y"),
            Some(("c", "a=b/c", "http://127.0.0.1/hook?x=http://y"))
        );
        for text in ["", "cache=http://localhost", "/topic=http://localhost", "cache/=http://x", "c/t=ftp://x"] {
            assert_eq!(split_target(text), None, "{text}");
        }
    }
}
