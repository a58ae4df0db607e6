//! Makes faults happen to a request that the gate has let in.

use std::{future::pending, time::Duration};

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::watch;
use tonic::Status;

use super::{Code, Fault, Faults, Rpc, metadata::Asked};
use crate::local::{access::grpc_answer, cache::Caches, now, peer::Connection, secrets};

/// Stands between the gate and the services.
#[derive(Clone)]
pub(crate) struct Injector {
    faults: Faults,
    caches: Caches,
    /// Closed when the server stops, which does not wait for those that hang.
    running: watch::Receiver<()>,
}

/// Where a subscription fails. Travels with the request to the Pubsub service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    pub(crate) status: Code,
    /// How many items it still carries.
    pub(crate) after: u32,
    /// Whether heartbeats and discontinuities count.
    pub(crate) counts_everything: bool,
}

impl Injector {
    pub(crate) fn new(faults: Faults, caches: Caches, running: watch::Receiver<()>) -> Self {
        Self { faults, caches, running }
    }

    /// Serves the request, if that is what is to happen.
    pub(crate) async fn serve(&self, mut request: Request, connection: &Connection, next: Next) -> Response {
        let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
        let Some(rpc) = Rpc::called(request.uri().path(), target) else { return next.run(request).await };
        let asked = match self.asked(rpc, request.headers()) {
            Ok(asked) => asked,
            Err(wrong) => return grpc_answer(Status::invalid_argument(wrong), request.headers()),
        };
        for fault in &asked.faults {
            if let Some(end) = self.before(rpc, fault, request.headers()).await {
                return end.answer(connection);
            }
        }
        if let Some(stream) = asked.stream {
            request.extensions_mut().insert(stream);
        }
        let response = next.run(request).await;
        for fault in &asked.faults {
            if let Some(end) = self.after(fault).await {
                return end.answer(connection);
            }
        }
        response
    }

    /// What the metadata asks for goes before the rules.
    fn asked(&self, rpc: Rpc, headers: &HeaderMap) -> Result<Asked, String> {
        let mut rules = self.faults.rules();
        let mut asked = if rpc.is_of_secrets_manager() { Asked::default() } else { rules.asked(rpc, headers)? };
        if asked == Asked::default() {
            match rules.meet(rpc, now()) {
                Some(Fault::StreamError { status, after }) => {
                    asked.stream = Some(StreamEnd { status, after, counts_everything: false });
                }
                fault => asked.faults.extend(fault),
            }
        }
        Ok(asked)
    }

    async fn before(&self, rpc: Rpc, fault: &Fault, headers: &HeaderMap) -> Option<End> {
        match fault {
            Fault::Status(code) if rpc.is_of_secrets_manager() => Some(End::Answer(secrets::failure(*code))),
            Fault::Status(code) => Some(End::Answer(grpc_answer(code.status(), headers))),
            Fault::DelayMs(ms) => self.wait(Some(*ms)).await,
            Fault::Drop => Some(End::Cut),
            Fault::Hang => self.wait(None).await,
            Fault::Forget => {
                let cache = headers.get("cache").and_then(|cache| cache.to_str().ok()).unwrap_or_default();
                let _ = self.caches.lock().flush_cache(cache); // if there is none, the call says so
                None
            }
            Fault::DelayAnswerMs(_) | Fault::DropAnswer | Fault::HangAnswer | Fault::StreamError { .. } => None,
        }
    }

    async fn after(&self, fault: &Fault) -> Option<End> {
        match fault {
            Fault::DelayAnswerMs(ms) => self.wait(Some(*ms)).await,
            Fault::DropAnswer => Some(End::Cut),
            Fault::HangAnswer => self.wait(None).await,
            _ => None,
        }
    }

    /// For so long, or for ever; a client that goes away ends it, since that drops this.
    async fn wait(&self, ms: Option<u64>) -> Option<End> {
        let mut running = self.running.clone();
        let time = async {
            match ms {
                Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = time => None,
            _ = running.changed() => Some(End::Cut), // the sender is gone: the only change there is
        }
    }
}

/// How a request ends that is not answered as it should be.
enum End {
    Answer(Response),
    Cut,
}

impl End {
    fn answer(self, connection: &Connection) -> Response {
        match self {
            Self::Answer(response) => response,
            Self::Cut => {
                connection.cut();
                // Nobody reads this.
                (StatusCode::SERVICE_UNAVAILABLE, [(CONTENT_TYPE, "text/plain")]).into_response()
            }
        }
    }
}

impl Code {
    /// Says that nothing is really wrong.
    pub(crate) fn status(self) -> Status {
        Status::new(tonic::Code::from(self as i32), format!("{self}: a fault that was asked for"))
    }
}
