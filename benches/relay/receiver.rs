//! Where everything is posted: takes it, answers 200, and notes when.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::routing::post;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was posted.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// When it had arrived, body and all.
    pub(crate) at: Instant,
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    posts: mpsc::UnboundedReceiver<Post>,
    last: Option<Post>,
}

impl Receiver {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen for webhooks")?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
        let (sender, posts) = mpsc::unbounded_channel();
        let app = Router::new().route("/hook", post(receive)).with_state(sender);
        tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self { url, posts, last: None })
    }

    /// The next one that nobody has taken.
    pub(crate) async fn next(&mut self) -> Result<Post> {
        let post = tokio::time::timeout(PATIENCE, self.posts.recv()).await;
        let post = post.context("nothing arrives; what the relay says is in target/bench/relay.log")?;
        let post = post.context("the receiver has ended")?;
        self.last = Some(post.clone());
        Ok(post)
    }

    /// The last one that was taken, without what a client adds by itself.
    pub(crate) fn last(&self) -> Option<Post> {
        let mut post = self.last.clone()?;
        post.headers.remove(header::HOST);
        post.headers.remove(header::CONTENT_LENGTH);
        Some(post)
    }
}

async fn receive(State(posts): State<mpsc::UnboundedSender<Post>>, headers: HeaderMap, body: Bytes) {
    let _ = posts.send(Post { headers, body, at: Instant::now() }); // at the end nobody listens
}
