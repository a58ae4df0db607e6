//! What the tests start: real servers, in this process, each on a port of its own.

use std::time::Duration;

use momento_webhook::local::{self, Config, Error};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};

/// A running development server. It stops with the test's runtime, or when told to.
pub(crate) struct Local {
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Error>>,
}

/// Starts one on loopback. The port is open when this returns.
pub(crate) async fn local(config: Config) -> Local {
    local_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), config).await
}

/// Starts one on this listener.
pub(crate) async fn local_on(listener: TcpListener, config: Config) -> Local {
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(local::run(listener, config, async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await; // nobody will say when
        }
    }));
    Local { url: format!("http://127.0.0.1:{port}"), stop, serving }
}

impl Local {
    /// Stops it, and waits until it has stopped.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(10), self.serving).await.expect("it does not stop").unwrap()
    }
}

/// Asks again and again until there is an answer, for longer than a breaker ever waits.
pub(crate) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(90), asking).await.expect("it never happened")
}
