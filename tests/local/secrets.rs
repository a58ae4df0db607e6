use aws_sdk_secretsmanager::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region, retry::RetryConfig},
    error::ProvideErrorMetadata,
    primitives::Blob,
};
use momento::CredentialProvider;

use super::{CACHE, KEY, caches, credentials, start};
use crate::fixture;
use crate::stack::{self, Local};

pub(super) fn client(local: &Local) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(&local.url)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "tests"))
        .http_client(fixture::http_client())
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

async fn value(client: &Client, stage: Option<&str>) -> String {
    let request = client.get_secret_value().secret_id("s").set_version_stage(stage.map(str::to_owned));
    request.send().await.unwrap().secret_string.unwrap()
}

#[tokio::test]
async fn the_seeded_key_opens_the_caches() {
    let local = start().await;
    let secret = client(&local).get_secret_value().secret_id("momento-api-key").send().await.unwrap();
    let key = secret.secret_string().unwrap();
    let provider = CredentialProvider::from_disposable_token(key).unwrap().insecure_endpoint_override(&local.url);
    assert_eq!(provider.auth_token(), credentials(&local, KEY).auth_token());
    caches(&local, provider.auth_token()).get(CACHE, "user/taylor").await.unwrap();
    caches(&local, key).get(CACHE, "user/taylor").await.unwrap();
}

#[tokio::test]
async fn a_secret_is_created_and_read_by_name_and_by_arn() {
    let local = start().await;
    let client = client(&local);
    let created = client.create_secret().name("s").description("d").secret_string("one").send().await.unwrap();
    let (arn, version) = (created.arn().unwrap(), created.version_id().unwrap());
    for id in ["s", arn, &arn[..arn.len() - 7]] {
        let got = client.get_secret_value().secret_id(id).send().await.unwrap();
        assert_eq!(got.secret_string(), Some("one"), "{id}");
        assert_eq!((got.arn(), got.name(), got.version_id()), (Some(arn), Some("s"), Some(version)));
        assert_eq!(got.version_stages(), ["AWSCURRENT"]);
        assert!(got.created_date().is_some_and(|date| date.secs() > 1_700_000_000));
    }
    let described = client.describe_secret().secret_id("s").send().await.unwrap();
    assert_eq!((described.arn(), described.name(), described.description()), (Some(arn), Some("s"), Some("d")));
    assert!(described.created_date().is_some());
    assert_eq!(described.version_ids_to_stages().unwrap()[version], ["AWSCURRENT"]);

    client.create_secret().name("b").secret_binary(Blob::new([0, 255])).send().await.unwrap();
    let got = client.get_secret_value().secret_id("b").send().await.unwrap();
    assert_eq!(got.secret_binary().unwrap().as_ref(), [0, 255]);
}

#[tokio::test]
async fn a_rotation_moves_the_stages() {
    let local = start().await;
    let client = client(&local);
    client.create_secret().name("s").secret_string("one").send().await.unwrap();
    let put = async |value: &str, token: &str, stage: Option<&str>| {
        let request = client.put_secret_value().secret_id("s").secret_string(value).client_request_token(token);
        let stages = stage.map(|stage| vec![stage.to_owned()]);
        request.set_version_stages(stages).send().await.map(|put| put.version_id.unwrap())
    };
    let (second, third) = ("2".repeat(32), "3".repeat(32));
    assert_eq!(put("two", &second, None).await.unwrap(), second);
    assert_eq!(value(&client, None).await, "two");
    assert_eq!(value(&client, Some("AWSPREVIOUS")).await, "one");

    put("three", &third, Some("AWSPENDING")).await.unwrap();
    assert_eq!(value(&client, Some("AWSCURRENT")).await, "two");
    assert_eq!(value(&client, Some("AWSPENDING")).await, "three");
    let got = client.get_secret_value().secret_id("s").version_id(&third).send().await.unwrap();
    assert_eq!(got.secret_string(), Some("three"));

    assert_eq!(put("two", &second, None).await.unwrap(), second, "a repetition changes nothing");
    let error = put("another", &second, None).await.unwrap_err().into_service_error();
    assert!(error.is_resource_exists_exception(), "{error:?}");
}

#[tokio::test]
async fn errors_have_the_services_shape() {
    let local = start().await;
    let client = client(&local);
    client.create_secret().name("s").secret_string("one").send().await.unwrap();

    let error = client.get_secret_value().secret_id("missing").send().await.unwrap_err().into_service_error();
    assert!(error.is_resource_not_found_exception());
    assert!(error.message().unwrap().contains("missing"));
    let get = client.get_secret_value().secret_id("s").version_stage("AWSPREVIOUS");
    assert!(get.send().await.unwrap_err().into_service_error().is_resource_not_found_exception());
    let put = client.put_secret_value().secret_id("missing").secret_string("x");
    assert!(put.send().await.unwrap_err().into_service_error().is_resource_not_found_exception());
    let create = client.create_secret().name("s").secret_string("two");
    assert!(create.send().await.unwrap_err().into_service_error().is_resource_exists_exception());
    let create = client.create_secret().name("not a name").secret_string("two");
    assert!(create.send().await.unwrap_err().into_service_error().is_invalid_parameter_exception());
    let put = client.put_secret_value().secret_id("s").secret_string("x".repeat(65_537));
    assert!(put.send().await.unwrap_err().into_service_error().is_invalid_parameter_exception());
    let delete = client.delete_secret().secret_id("s").send().await.unwrap_err().into_service_error();
    assert_eq!(delete.code(), Some("UnknownOperationException"));
    assert!(delete.message().unwrap().contains("GetSecretValue"));
}

#[tokio::test]
async fn without_a_configured_key_there_is_one_for_development() {
    let local = stack::local(momento_webhook::local::Config::default()).await;
    let secret = client(&local).get_secret_value().secret_id("momento-api-key").send().await.unwrap();
    let provider = CredentialProvider::from_disposable_token(secret.secret_string().unwrap()).unwrap();
    caches(&local, provider.auth_token()).get(CACHE, "user/taylor").await.unwrap();
}

pub(super) async fn rotate(local: &Local, name: &str, value: &str) {
    client(local).put_secret_value().secret_id(name).secret_string(value).send().await.unwrap();
}
