use axum::http::{HeaderMap, StatusCode, Version};
use momento::MomentoErrorCode;
use momento_protos::cache_client::{ECacheResult, GetRequest, scs_client::ScsClient};
use momento_webhook::local::{self, Config, Error};
use reqwest::{Client, RequestBuilder};
use tokio::net::TcpListener;
use tonic::{Code, Request};

use super::{CACHE, KEY, caches, config, refusal, start};
use crate::stack::{self, Local};

/// `GetRequest { cache_key: "user/taylor" }`, with gRPC's five bytes before it.
const GET: &[u8] = b"\x00\x00\x00\x00\x0d\x0a\x0buser/taylor";

fn get_over_the_web(local: &Local) -> RequestBuilder {
    Client::new()
        .post(format!("{}/cache_client.Scs/Get", local.url))
        .header("content-type", "application/grpc-web+proto")
        .header("cache", CACHE)
        .body(GET)
}

/// gRPC's status, wherever it is: with the headers where there is no message, else behind the messages.
async fn status(response: reqwest::Response) -> String {
    if let Some(status) = response.headers().get("grpc-status") {
        return status.to_str().unwrap().to_owned();
    }
    let body = String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned();
    body.split_once("grpc-status:").expect("no status").1.lines().next().unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_browser_speaks_grpc_web_on_the_same_port() {
    let local = start().await;
    let response = get_over_the_web(&local).header("origin", "http://localhost:3000").send().await.unwrap();
    assert_eq!(response.version(), Version::HTTP_11);
    assert_eq!(response.headers()["access-control-allow-origin"], "http://localhost:3000");
    assert_eq!(response.headers()["content-type"], "application/grpc-web+proto");
    let body = String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned();
    assert!(body.contains("Taylor"), "{body:?}");
    assert!(body.contains("grpc-status:0"), "{body:?}");

    let asked = Client::new()
        .request(reqwest::Method::OPTIONS, format!("{}/cache_client.Scs/Get", local.url))
        .header("origin", "http://localhost:3000")
        .header("access-control-request-headers", "authorization,cache")
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), StatusCode::NO_CONTENT);
    assert_eq!(asked.headers()["access-control-allow-headers"], "authorization,cache");
}

#[tokio::test]
async fn another_sites_page_is_turned_away() {
    let local = start().await;
    for (name, value) in [
        ("origin", "https://evil.test"),
        ("origin", "null"),
        ("origin", "http://localhost.evil.test"),
        ("host", "evil.test"),
        ("host", "127.0.0.1.evil.test:8080"),
    ] {
        let response = get_over_the_web(&local).header(name, value).send().await.unwrap();
        assert!(response.headers().get("access-control-allow-origin").is_none());
        assert_eq!(status(response).await, "7", "{name}: {value}");

        let secrets = Client::new().post(&local.url).header("x-amz-target", "secretsmanager.GetSecretValue");
        let response = secrets.header(name, value).body(r#"{"SecretId":"momento-api-key"}"#).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{name}: {value}");
    }
    let fine = get_over_the_web(&local).header("host", "localhost:1").header("origin", "http://127.0.0.1:5").send();
    assert_eq!(status(fine.await.unwrap()).await, "0");
}

#[tokio::test]
async fn http2_with_anothers_name_is_turned_away() {
    let local = start().await;
    let channel = tonic::transport::Endpoint::new(local.url.clone())
        .unwrap()
        .origin("http://evil.test".parse().unwrap())
        .connect()
        .await
        .unwrap();
    let mut request = Request::new(GetRequest { cache_key: b"k".into() });
    request.metadata_mut().insert("cache", CACHE.parse().unwrap());
    let status = ScsClient::new(channel).get(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_empty_authorization_is_the_super_user_on_loopback() {
    let local = start().await;
    for authorization in [None, Some(""), Some(KEY)] {
        let mut request = Request::new(GetRequest { cache_key: b"user/taylor".into() });
        request.metadata_mut().insert("cache", CACHE.parse().unwrap());
        if let Some(authorization) = authorization {
            request.metadata_mut().insert("authorization", authorization.parse().unwrap());
        }
        let mut client = ScsClient::connect(local.url.clone()).await.unwrap();
        let response = client.get(request).await.unwrap().into_inner();
        assert_eq!(response.result(), ECacheResult::Hit, "{authorization:?}");
    }
    let other = caches(&local, "not-the-key");
    assert_eq!(refusal(other.get(CACHE, "k").await), MomentoErrorCode::AuthenticationError);
    assert_eq!(refusal(other.list_caches().await), MomentoErrorCode::AuthenticationError);
}

/// Binds every address, reached here by a loopback one.
async fn start_beyond_loopback() -> Local {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    stack::local_on(listener, config()).await
}

#[tokio::test]
async fn beyond_loopback_everyone_needs_a_key() {
    let local = start_beyond_loopback().await;
    caches(&local, KEY).get(CACHE, "k").await.unwrap();
    let status_of =
        async |headers: HeaderMap| status(get_over_the_web(&local).headers(headers).send().await.unwrap()).await;
    assert_eq!(status_of(HeaderMap::new()).await, "16");
    let headers = HeaderMap::from_iter([("authorization".parse().unwrap(), KEY.parse().unwrap())]);
    assert_eq!(status_of(headers).await, "0");

    let scope = momento::auth::PermissionScopes::topic_publish_only(CACHE, "t");
    let token = super::mint(&local, scope, "", momento::auth::ExpiresIn::minutes(1)).await.unwrap();
    // Whatever the content type says, the secrets stay on this machine.
    let response = Client::new()
        .post(&local.url)
        .header("host", "elsewhere.test")
        .header("authorization", token)
        .header("content-type", "application/grpc")
        .header("x-amz-target", "secretsmanager.GetSecretValue")
        .body(r#"{"SecretId":"momento-api-key"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn beyond_loopback_a_key_in_the_body_still_makes_tokens() {
    use momento_protos::token::{GenerateDisposableTokenRequest, token_client::TokenClient};

    let local = start_beyond_loopback().await;
    let mut client = TokenClient::connect(local.url.clone()).await.unwrap();
    let mut mint = async |auth_token: &str| {
        let request = GenerateDisposableTokenRequest { auth_token: auth_token.to_owned(), ..Default::default() };
        client.generate_disposable_token(Request::new(request)).await.unwrap_err().code()
    };
    assert_eq!(mint("").await, Code::Unauthenticated);
    assert_eq!(mint("wrong").await, Code::Unauthenticated);
    assert_eq!(mint(KEY).await, Code::InvalidArgument, "the key is right, the request is not");
}

#[tokio::test]
async fn beyond_loopback_it_does_not_start_without_a_key_of_its_own() {
    for api_key in [None, Some("local-development-api-key".to_owned())] {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let config = Config { api_key, ..Config::default() };
        let error = local::run(listener, config, std::future::pending()).await.unwrap_err();
        assert!(matches!(error, Error::NoKey(_)));
        assert!(error.to_string().contains("--api-key"), "{error}");
    }
}
