//! The connection under all calls: opened with the first one, and again when it has broken.
//!
//! tonic's own channel hands each call to a task, whose HTTP client hands it to a second one, and that spawns a third for
//! the answer. Here a call goes straight to `h2`, which needs one task for all of them: all that is asked for at once
//! leaves in one packet.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::Uri;
use tokio::sync::Mutex;

use super::unary::Failure;
use crate::connection::{self, Server};

/// How much of an answer may be under way, in bytes: as much as hyper's client allows.
const WINDOW: u32 = 2 * 1024 * 1024;

/// A connection that has been idle for this long is not used again. While a function is frozen, nothing keeps its connection
/// alive, and what lies on the way may forget it without a word: AWS's load balancers after 60 s, its NAT gateways after
/// 350 s. A call would then wait for nothing until its deadline.
const IDLE: Duration = Duration::from_secs(50);

pub(super) struct Channel {
    server: Server,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    sender: SendRequest<Bytes>,
    /// By the wall clock: it goes on while a function is frozen.
    used: SystemTime,
}

impl Kept {
    fn now(sender: SendRequest<Bytes>) -> Self {
        Self { sender, used: SystemTime::now() }
    }

    fn is_idle(&self) -> bool {
        self.used.elapsed().map_or(true, |idle| idle >= IDLE) // or the clock was set back
    }
}

impl Channel {
    /// Does not connect: the first call does. `None` where the URL names no server. `certificates`, as PEM, are trusted instead
    /// of those compiled in.
    pub(super) fn new(url: &Uri, certificates: Option<&str>) -> Option<Self> {
        let server = Server::of(url, || connection::tls(connection::roots(certificates), b"h2"))?;
        Some(Self { server, kept: Mutex::default() })
    }

    /// Connects where there is no connection that works. Whoever comes meanwhile waits for the same one.
    pub(super) async fn connect(&self) -> Result<SendRequest<Bytes>, Failure> {
        let mut kept = self.kept.lock().await;
        let sender = match kept.take().filter(|kept| !kept.is_idle()) {
            Some(Kept { sender, .. }) => sender.ready().await.ok(),
            None => None,
        };
        let sender = match sender {
            Some(sender) => sender,
            None => Box::pin(self.open()).await?.ready().await?, // in a box, for it is rare and large
        };
        *kept = Some(Kept::now(sender.clone()));
        Ok(sender)
    }

    /// Leaves the connection to the calls that are under way on it. The next one opens another.
    pub(super) fn give_up(&self) {
        if let Ok(mut kept) = self.kept.try_lock() {
            *kept = None; // else somebody is about to open one
        }
    }

    async fn open(&self) -> Result<SendRequest<Bytes>, Failure> {
        let stream = self.server.connect().await.map_err(|error| {
            tracing::warn!(%error, "cannot connect to Momento");
            Failure::Broken
        })?;
        let mut builder = Builder::new();
        builder.enable_push(false).initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (sender, connection) = builder.handshake(stream).await?;
        tokio::spawn(connection); // until it breaks, or the last sender has gone; calls are told why
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_has_been_idle_for_long_is_not_used_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let channel =
            Channel::new(&format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(), None).unwrap();
        let mut opened = Vec::new();
        for (idle, connections) in [(Duration::ZERO, 1), (IDLE - Duration::from_secs(5), 1), (IDLE, 2)] {
            if let Some(kept) = channel.kept.lock().await.as_mut() {
                kept.used -= idle;
            }
            channel.connect().await.unwrap();
            while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await {
                opened.push(stream); // or it would be closed
            }
            assert_eq!(opened.len(), connections, "{idle:?}");
        }
    }
}
