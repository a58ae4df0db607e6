//! What stands between a process and a service that it calls over HTTP.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// Passes requests on, unless `answer` answers one by itself: it is shown each request's body.
pub(crate) async fn proxy(
    target: &str,
    answer: impl Fn(&[u8]) -> Option<StatusCode> + Clone + Send + Sync + 'static,
) -> String {
    let (target, http) = (target.to_owned(), reqwest::Client::builder().no_proxy().build().unwrap());
    let pass = async move |request: Request| {
        let (mut parts, body) = request.into_parts();
        let body: Bytes = axum::body::to_bytes(body, 1_000_000).await.unwrap();
        if let Some(status) = answer(&body) {
            return status.into_response();
        }
        parts.headers.remove("host");
        let answer = http.request(parts.method, target).headers(parts.headers).body(body).send().await.unwrap();
        Response::builder().status(answer.status()).body(Body::from(answer.bytes().await.unwrap())).unwrap()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, axum::Router::new().fallback(pass)).await });
    url
}
