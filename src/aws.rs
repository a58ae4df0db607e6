//! What the AWS clients share: region, credentials and endpoints from the environment; one HTTP client; and bounds that
//! fit a sender who waits 5 s.

mod client;

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::config::SharedCredentialsProvider;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::retry::ReconnectMode;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use crate::config::{Lookup, optional};
use crate::connection;

/// The configuration of a Lambda function, read as every AWS SDK reads it, from what Lambda gives: credentials, region and
/// `AWS_ENDPOINT_URL*` in the environment. The chain of other places where a workstation may keep them is left out: linking
/// and starting it would cost every cold start. `certificates`, as PEM, are trusted instead of those compiled in.
pub fn lambda(lookup: Lookup<'_>, certificates: Option<&str>) -> SdkConfig {
    let region = optional(lookup, "AWS_REGION").or_else(|| optional(lookup, "AWS_DEFAULT_REGION"));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(client::client(connection::roots(certificates)))
        .region(region.map(Region::new))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .service_config(Endpoints::from_lookup(lookup))
        .timeout_config(timeouts())
        .retry_config(retries())
        .build()
}

/// The configuration of a program at a terminal or in a container: from wherever an AWS SDK looks, except that a profile with
/// single sign-on or a process for its credentials needs `aws configure export-credentials` first. `certificates`, as PEM,
/// are trusted instead of those compiled in.
#[cfg(any(feature = "publisher", feature = "relay"))]
pub async fn anywhere(certificates: Option<&str>) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(client::client(connection::roots(certificates)))
        .timeout_config(timeouts())
        .retry_config(retries())
        .load()
        .await
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(700))
        .operation_attempt_timeout(Duration::from_millis(1_000))
        .operation_timeout(Duration::from_millis(2_000))
        .build()
}

fn retries() -> RetryConfig {
    let retries = RetryConfig::standard().with_max_attempts(2);
    retries.with_reconnect_mode(ReconnectMode::ReuseAllConnections) // each request has its own: there is none to mark as bad
}

/// `AWS_ENDPOINT_URL` and its forms for one service.
#[derive(Debug)]
struct Endpoints {
    every: Option<String>,
    secrets_manager: Option<String>,
    sqs: Option<String>,
}

impl Endpoints {
    fn from_lookup(lookup: Lookup<'_>) -> Self {
        Self {
            every: optional(lookup, "AWS_ENDPOINT_URL"),
            secrets_manager: optional(lookup, "AWS_ENDPOINT_URL_SECRETS_MANAGER"),
            sqs: optional(lookup, "AWS_ENDPOINT_URL_SQS"),
        }
    }
}

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        if key.env() != "AWS_ENDPOINT_URL" {
            return None;
        }
        let own = match key.service_id() {
            "Secrets Manager" => &self.secrets_manager,
            "SQS" => &self.sqs,
            _ => &None,
        };
        own.clone().or_else(|| self.every.clone())
    }
}

/// The code of an error, or the kind of failure; never the request or the response.
pub(crate) fn reason<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match (error.code(), error) {
        (Some(code), _) => code.to_owned(),
        (None, SdkError::TimeoutError(_)) => "no answer in time".to_owned(),
        (None, SdkError::DispatchFailure(failure)) => match failure.as_connector_error() {
            Some(error) if error.is_io() => "no connection, or it broke".to_owned(),
            Some(error) if error.is_timeout() => "no answer in time".to_owned(),
            _ => "cannot send the request (are there AWS credentials and a region?)".to_owned(),
        },
        (None, SdkError::ConstructionFailure(_)) => "cannot build the request (is there an AWS region?)".to_owned(),
        (None, _) => "an answer that cannot be read".to_owned(),
    }
}
