//! What goes back through the function URL.

use aws_lambda_events::http::{HeaderMap, HeaderValue, header};
use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlResponse;

use super::Rejection;

/// How long a sender is asked to wait before its next attempt, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

pub(super) fn from(outcome: Result<(), Rejection>) -> LambdaFunctionUrlResponse {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (status, body) = match outcome {
        Ok(()) => (200, "{}".to_owned()),
        Err(rejection) => {
            match rejection.status() {
                405 => headers.insert(header::ALLOW, HeaderValue::from_static("POST")),
                503 => headers.insert(header::RETRY_AFTER, RETRY_AFTER),
                _ => None,
            };
            (rejection.status(), serde_json::json!({ "message": rejection.message() }).to_string())
        }
    };
    let mut response = LambdaFunctionUrlResponse::default();
    response.status_code = status.into();
    response.headers = headers;
    response.body = Some(body);
    response
}
