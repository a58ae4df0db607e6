//! What the function URL hands over: guards in order, before anything is trusted.

use std::borrow::Cow;

use aws_lambda_events::http::header;
use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::answer::Refusal;
use crate::signature::{self, Signature};

/// Reads the invocation. What is no HTTP request has proved nothing, and is refused like a wrong signature, instead of
/// failing the invocation, which a caller would see as a 502.
pub(super) fn parse(payload: &RawValue) -> Result<LambdaFunctionUrlRequest, Refusal> {
    serde_json::from_str(payload.get()).map_err(|_| Refusal::NO_REQUEST)
}

/// A webhook is a POST; function URLs pass on any method.
pub(super) fn check_method(request: &LambdaFunctionUrlRequest) -> Result<(), Refusal> {
    match request.request_context.http.method.as_deref() {
        Some("POST") => Ok(()),
        _ => Err(Refusal::MethodNotAllowed),
    }
}

/// The bytes that the sender signed, `limit` of them at most.
pub(super) fn body(request: &LambdaFunctionUrlRequest, limit: usize) -> Result<Cow<'_, [u8]>, Refusal> {
    let body = request.body.as_deref().unwrap_or_default();
    if !request.is_base64_encoded {
        return if body.len() > limit { Err(Refusal::TooLarge) } else { Ok(Cow::Borrowed(body.as_bytes())) };
    }
    if body.len() > limit.div_ceil(3) * 4 {
        return Err(Refusal::TooLarge); // before it is decoded
    }
    let body = STANDARD.decode(body).map_err(|_| Refusal::NO_REQUEST)?;
    if body.len() > limit { Err(Refusal::TooLarge) } else { Ok(Cow::Owned(body)) }
}

/// The signature, where exactly one header carries one. AWS joins a repeated header with commas, and then it is none.
pub(super) fn signature(request: &LambdaFunctionUrlRequest) -> Result<Signature, Refusal> {
    let mut values = request.headers.get_all(signature::HEADER).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Signature::from_hex(value).ok_or(Refusal::NO_SIGNATURE),
        _ => Err(Refusal::NO_SIGNATURE),
    }
}

/// Did a client of this name send the request? Worth asking only once it has been verified.
pub(super) fn is_from(request: &LambdaFunctionUrlRequest, name: Option<&str>) -> bool {
    let agent = request.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    name.is_some_and(|name| agent.is_some_and(|agent| agent.contains(name)))
}

/// When the request reached AWS, in epoch milliseconds, from which on the sender has been waiting: a cold start may have
/// come in between. Where that time cannot be right, it is `now`.
pub(super) fn arrived(request: &LambdaFunctionUrlRequest, now: u64) -> u64 {
    const PLAUSIBLE_MS: u64 = 15_000; // longer than a start takes, and than any sender waits
    let arrived = u64::try_from(request.request_context.time_epoch).unwrap_or_default();
    if now.saturating_sub(arrived) < PLAUSIBLE_MS { arrived.min(now) } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut LambdaFunctionUrlRequest)) -> LambdaFunctionUrlRequest {
        let mut request = LambdaFunctionUrlRequest::default();
        change(&mut request);
        request
    }

    #[test]
    fn the_limit_is_on_the_decoded_body() {
        for (length, fits) in [(0, true), (10, true), (11, false), (1_000, false)] {
            let plain = request(|r| r.body = Some("x".repeat(length)));
            let encoded = request(|r| {
                r.body = Some(STANDARD.encode("x".repeat(length)));
                r.is_base64_encoded = true;
            });
            for request in [plain, encoded] {
                assert_eq!(body(&request, 10).ok().map(Cow::into_owned), fits.then(|| vec![b'x'; length]));
            }
        }
    }

    #[test]
    fn what_is_not_base64_is_refused_like_a_wrong_signature() {
        let request = request(|r| {
            r.body = Some("%".into());
            r.is_base64_encoded = true;
        });
        assert_eq!(body(&request, 10).unwrap_err().status(), 403);
    }

    #[test]
    fn a_repeated_signature_is_none() {
        let one = "0".repeat(64);
        let with = |values: &[&str]| {
            request(|r| {
                for value in values {
                    r.headers.append(signature::HEADER, value.parse().unwrap());
                }
            })
        };
        assert!(signature(&with(&[&one])).is_ok());
        let joined = format!("{one},{one}");
        for values in [vec![], vec![&*one, &one], vec![&joined], vec![""]] {
            assert!(signature(&with(&values)).is_err());
        }
    }

    #[test]
    fn the_arrival_is_believed_where_it_can_be_right() {
        let now = 1_700_000_000_000;
        let arrived = |at| arrived(&request(|r| r.request_context.time_epoch = at), now);
        assert_eq!(arrived(now as i64 - 400), now - 400);
        for odd in [0, -5, i64::MIN, i64::MAX, now as i64 + 1_000, now as i64 - 20_000] {
            assert_eq!(arrived(odd), now, "{odd}");
        }
    }
}
