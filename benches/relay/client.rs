//! A bare HTTP client: posts what the relay has posted, and does nothing else.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::receiver::{Post, Receiver};

/// As many at once as the relay has by default.
const AT_ONCE: usize = 16;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Arc<str>,
    post: Arc<Post>,
}

impl Client {
    /// One that posts the bytes that came last.
    pub(crate) fn like(receiver: &Receiver) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(AT_ONCE).build()?;
        let post = receiver.last().context("the relay has posted nothing yet")?;
        Ok(Self { http, url: receiver.url.as_str().into(), post: Arc::new(post) })
    }

    pub(crate) async fn post(&self) -> Result<()> {
        let Post { headers, body, .. } = &*self.post;
        let answer = self.http.post(&*self.url).headers(headers.clone()).body(body.clone()).send().await?;
        ensure!(answer.status().is_success(), "the receiver answered {}", answer.status());
        answer.bytes().await?;
        Ok(())
    }
}

/// Posts so many times.
pub(crate) async fn flood(receiver: &mut Receiver, count: usize) -> Result<()> {
    let client = Client::like(receiver)?;
    let mut posting = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (client, share) = (client.clone(), (worker..count).step_by(AT_ONCE).len());
        posting.spawn(async move {
            for _ in 0..share {
                client.post().await?;
            }
            anyhow::Ok(())
        });
    }
    for _ in 0..count {
        receiver.next().await?;
    }
    while let Some(done) = posting.join_next().await {
        done??;
    }
    Ok(())
}
