//! A unary call as gRPC puts it into HTTP/2: one message there, one back, and a status. See
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
//!
//! tonic's client does the same for every kind of call and any transport, at twice the instructions.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Response, StatusCode};
use prost::Message;
use tonic::Code;

use super::channel::Broken;

/// The largest answer, in bytes: sixteen entries of a list at 512 KiB each, and as much again.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// What comes before a message: whether it is compressed, one byte, and its length, four.
const PREFIX: usize = 5;

/// A method of the service: what goes there and comes back.
pub(super) struct Method<Request, Answer> {
    /// What errors call it.
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    messages: PhantomData<fn(Request) -> Answer>,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("{0:?}")]
    Status(Code),
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        Broken::from(error).into()
    }
}

impl<Request: Message, Answer: Message + Default> Method<Request, Answer> {
    pub(super) const fn new(name: &'static str, path: &'static str) -> Self {
        Self { name, path, messages: PhantomData }
    }

    /// A message as it is sent.
    pub(super) fn encode(&self, request: &Request) -> Result<Bytes, Code> {
        let length = request.encoded_len();
        let mut message = BytesMut::with_capacity(PREFIX + length);
        message.put_u8(0); // not compressed
        message.put_u32(u32::try_from(length).map_err(|_| Code::InvalidArgument)?);
        request.encode(&mut message).map_err(|_| Code::InvalidArgument)?;
        Ok(message.freeze())
    }

    /// A message as it comes.
    pub(super) fn decode(&self, mut message: &[u8]) -> Result<Answer, Code> {
        let (compressed, length) =
            (message.try_get_u8().map_err(|_| Code::Internal)?, message.try_get_u32().map_err(|_| Code::Internal)?);
        if compressed != 0 || length as usize != message.len() {
            return Err(Code::Internal); // compressed, which we have not offered, or not just one
        }
        Answer::decode(message).map_err(|_| Code::Internal)
    }
}

/// Reads an answer to its end.
pub(super) async fn read(answer: Response<RecvStream>) -> Result<Vec<u8>, Failure> {
    let (head, mut body) = answer.into_parts();
    if let Some(status) = status(&head.headers) {
        return Err(Failure::Status(if status == Code::Ok { Code::Internal } else { status })); // and no message
    }
    if head.status != StatusCode::OK {
        return Err(Failure::Status(code_of(head.status)));
    }
    let mut message = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?; // it has been taken: there may come more
        if message.len() + part.len() > PREFIX + MAX_ANSWER {
            return Err(Failure::Status(Code::OutOfRange));
        }
        message.extend_from_slice(&part);
    }
    match body.trailers().await?.as_ref().and_then(status) {
        Some(Code::Ok) => Ok(message),
        status => Err(Failure::Status(status.unwrap_or(Code::Unknown))),
    }
}

fn status(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}

/// What the status of a proxy on the way means, see
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use momento_protos::cache_client::{GetRequest, GetResponse};

    use super::*;

    const GET: Method<GetRequest, GetResponse> = Method::new("get", "/cache_client.Scs/Get");

    fn message(value: &[u8]) -> Vec<u8> {
        let answer: Method<GetResponse, GetRequest> = Method::new("", "");
        answer.encode(&GetResponse { cache_body: value.into(), ..GetResponse::default() }).unwrap().into()
    }

    /// What a client makes of an answer: an HTTP status, `grpc-status` in its head, its parts, and `grpc-status` behind them.
    async fn read_back(
        http: u16,
        head: Option<&str>,
        parts: &[Vec<u8>],
        trailer: Option<&str>,
    ) -> Result<Vec<u8>, Code> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let answering = async {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut answer = Response::builder().status(http);
            if let Some(status) = head {
                answer = answer.header("grpc-status", status);
            }
            let mut body = respond.send_response(answer.body(()).unwrap(), false).unwrap();
            for part in parts {
                body.send_data(part.clone().into(), false).unwrap();
            }
            let status = trailer.map(|status| (http::HeaderName::from_static("grpc-status"), status.parse().unwrap()));
            body.send_trailers(HeaderMap::from_iter(status)).unwrap();
            std::future::poll_fn(|context| connection.poll_closed(context)).await.unwrap();
        };
        let asking = async {
            let (sender, connection) = h2::client::handshake(ours).await.unwrap();
            let (answer, _) = sender.ready().await.unwrap().send_request(http::Request::default(), true).unwrap();
            tokio::select! {
                answer = async { read(answer.await.unwrap()).await } => answer,
                _ = connection => unreachable!("an answer comes before the end"),
            }
        };
        let (_, answer) = tokio::join!(answering, asking);
        match answer.and_then(|answer| GET.decode(&answer).map_err(Failure::Status)) {
            Ok(answer) => Ok(answer.cache_body),
            Err(Failure::Status(code)) => Err(code),
            Err(broken) => panic!("{broken}"),
        }
    }

    #[tokio::test]
    async fn an_answer_is_one_whole_message_and_the_status_ok() {
        let whole = message(b"value");
        let (first, second) = whole.split_at(3);
        assert_eq!(read_back(200, None, std::slice::from_ref(&whole), Some("0")).await.unwrap(), b"value");
        assert_eq!(read_back(200, None, &[first.into(), second.into()], Some("0")).await.unwrap(), b"value");
        let compressed = [&[1], &whole[1..]].concat();
        for (http, head, parts, trailer, code) in [
            (200, Some("16"), vec![], None, Code::Unauthenticated),
            (200, Some("0"), vec![], None, Code::Internal),
            (200, None, vec![whole.clone()], Some("5"), Code::NotFound),
            (200, None, vec![whole.clone()], Some("nonsense"), Code::Unknown),
            (200, None, vec![whole.clone()], None, Code::Unknown),
            (503, None, vec![b"a proxy's page".to_vec()], None, Code::Unavailable),
            (401, None, vec![], None, Code::Unauthenticated),
            (200, None, vec![], Some("0"), Code::Internal),
            (200, None, vec![first.to_vec()], Some("0"), Code::Internal),
            (200, None, vec![whole[..7].to_vec()], Some("0"), Code::Internal),
            (200, None, vec![whole.clone(), whole.clone()], Some("0"), Code::Internal),
            (200, None, vec![compressed], Some("0"), Code::Internal),
        ] {
            assert_eq!(read_back(http, head, &parts, trailer).await.unwrap_err(), code, "{http} {head:?} {trailer:?}");
        }
    }
}
