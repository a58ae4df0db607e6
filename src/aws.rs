//! What the AWS clients share: region, credentials and endpoint from the environment, as in every AWS SDK; one crypto
//! provider; and bounds that fit a sender who waits 5 s.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

/// Reads the environment. Calls nothing.
pub async fn config() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(700))
        .operation_attempt_timeout(Duration::from_millis(1_000))
        .operation_timeout(Duration::from_millis(2_000))
        .build();
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring)) // the provider that the Momento SDK uses: one is enough
        .build_https();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(2))
        .load()
        .await
}

/// The code of an error, or the kind of failure; never the request or the response.
pub(crate) fn reason<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match (error.code(), error) {
        (Some(code), _) => code.to_owned(),
        (None, SdkError::TimeoutError(_)) => "no answer in time".to_owned(),
        (None, SdkError::DispatchFailure(failure)) => match failure.as_connector_error() {
            Some(error) if error.is_io() => "cannot connect".to_owned(),
            Some(error) if error.is_timeout() => "no answer in time".to_owned(),
            _ => "cannot send the request (are there AWS credentials and a region?)".to_owned(),
        },
        (None, SdkError::ConstructionFailure(_)) => "cannot build the request (is there an AWS region?)".to_owned(),
        (None, _) => "an answer that cannot be read".to_owned(),
    }
}
