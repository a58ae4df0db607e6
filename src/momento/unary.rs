//! A unary call as gRPC puts it into HTTP/2: one message there, one back, and a status. See
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
//!
//! tonic's client does the same for every kind of call and any transport, at one and a half times the instructions.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Response, StatusCode};
use prost::Message;
use tonic::Code;

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
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection broke, or there was none to be had.
    Broken,
    Status(Code),
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        match error.reason().filter(|_| error.is_reset() && error.is_remote()) {
            // So ends a call that is late, and whether it had its effect is not known.
            Some(Reason::CANCEL) => Self::Status(Code::DeadlineExceeded),
            Some(Reason::ENHANCE_YOUR_CALM) => Self::Status(Code::ResourceExhausted),
            _ => Self::Broken,
        }
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
    let at_once = status(&head.headers); // and there is no message, unless it is the status of one that follows
    if let Some(failed) = at_once.filter(|status| *status != Code::Ok) {
        return Err(Failure::Status(failed));
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
    match body.trailers().await?.as_ref().and_then(status).or(at_once) {
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
    use std::time::Duration;

    use h2::server::SendResponse;
    use momento_protos::cache_client::{GetRequest, GetResponse};

    use super::*;

    const GET: Method<GetRequest, GetResponse> = Method::new("get", "/cache_client.Scs/Get");

    fn message(value: &[u8]) -> Vec<u8> {
        let answer: Method<GetResponse, GetRequest> = Method::new("", "");
        answer.encode(&GetResponse { cache_body: value.into(), ..GetResponse::default() }).unwrap().into()
    }

    /// What a client makes of an answer.
    async fn read_back(answer: impl FnOnce(&mut SendResponse<Bytes>)) -> Result<Vec<u8>, Failure> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let answering = async {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            answer(&mut respond);
            drop(respond);
            let _ = std::future::poll_fn(|context| connection.poll_closed(context)).await; // the client may leave early
        };
        let asking = async {
            let (sender, connection) = h2::client::handshake(ours).await.unwrap();
            let (answer, _) = sender.ready().await.unwrap().send_request(http::Request::default(), true).unwrap();
            tokio::select! {
                answer = async { read(answer.await?).await } => answer,
                _ = connection => unreachable!("an answer comes before the end"),
            }
        };
        let both = async { tokio::join!(answering, asking) };
        let (_, answer) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        GET.decode(&answer?).map(|answer| answer.cache_body).map_err(Failure::Status)
    }

    /// An HTTP status, `grpc-status` in the head, parts of a body, and `grpc-status` behind them.
    fn answer(
        http: u16,
        head: Option<&str>,
        parts: &[&[u8]],
        trailer: Option<&str>,
    ) -> impl FnOnce(&mut SendResponse<Bytes>) {
        move |respond| {
            let mut answer = Response::builder().status(http);
            if let Some(status) = head {
                answer = answer.header("grpc-status", status);
            }
            let mut body = respond.send_response(answer.body(()).unwrap(), false).unwrap();
            for part in parts {
                body.send_data(Bytes::copy_from_slice(part), false).unwrap();
            }
            let status = trailer.map(|status| (http::HeaderName::from_static("grpc-status"), status.parse().unwrap()));
            body.send_trailers(HeaderMap::from_iter(status)).unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_is_one_whole_message_and_the_status_ok() {
        let whole = message(b"value");
        let (first, second) = whole.split_at(3);
        for (head, parts, trailer) in [
            (None, &[&whole[..]][..], Some("0")),
            (None, &[first, second], Some("0")),
            (Some("0"), &[&whole], None),
            (Some("0"), &[&whole], Some("0")),
        ] {
            assert_eq!(read_back(answer(200, head, parts, trailer)).await.unwrap(), b"value");
        }
        let compressed = [&[1], &whole[1..]].concat();
        for (http, head, parts, trailer, code) in [
            (200, Some("16"), &[][..], None, Code::Unauthenticated),
            (200, Some("0"), &[], None, Code::Internal),
            (200, None, &[&whole[..]], Some("5"), Code::NotFound),
            (200, None, &[&whole], Some("nonsense"), Code::Unknown),
            (200, None, &[&whole], None, Code::Unknown),
            (503, None, &[b"a proxy's page"], None, Code::Unavailable),
            (401, None, &[], None, Code::Unauthenticated),
            (200, None, &[], Some("0"), Code::Internal),
            (200, None, &[first], Some("0"), Code::Internal),
            (200, None, &[&whole[..7]], Some("0"), Code::Internal),
            (200, None, &[&whole, &whole], Some("0"), Code::Internal),
            (200, None, &[&compressed], Some("0"), Code::Internal),
        ] {
            let failure = read_back(answer(http, head, parts, trailer)).await.unwrap_err();
            assert_eq!(failure, Failure::Status(code), "{http} {head:?} {trailer:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_may_be_larger_than_the_window_but_not_than_the_limit() {
        let mebibytes = |count: usize| vec![b'v'; count * 1024 * 1024];
        let large = read_back(answer(200, None, &[&message(&mebibytes(15))], Some("0"))).await.unwrap();
        assert!(large == mebibytes(15));
        let too_large = read_back(answer(200, None, &[&message(&mebibytes(17))], Some("0"))).await;
        assert_eq!(too_large.unwrap_err(), Failure::Status(Code::OutOfRange));
    }

    #[tokio::test]
    async fn what_the_other_end_resets_is_told_by_its_reason() {
        for (reason, failure) in [
            (Reason::CANCEL, Failure::Status(Code::DeadlineExceeded)),
            (Reason::ENHANCE_YOUR_CALM, Failure::Status(Code::ResourceExhausted)),
            (Reason::REFUSED_STREAM, Failure::Broken),
            (Reason::INTERNAL_ERROR, Failure::Broken),
        ] {
            assert_eq!(read_back(|respond| respond.send_reset(reason)).await.unwrap_err(), failure);
        }
        let whole = message(b"value");
        let without_an_end = read_back(|respond| {
            let mut body = respond.send_response(Response::default(), false).unwrap();
            body.send_data(Bytes::from(whole), false).unwrap();
            body.send_reset(Reason::CANCEL);
        });
        assert_eq!(without_an_end.await.unwrap_err(), Failure::Status(Code::DeadlineExceeded));
    }
}
