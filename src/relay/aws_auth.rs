//! Signing a request for AWS (SigV4), so that the function URL need not be public.

use std::time::SystemTime;

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::header::HeaderName;

use crate::delivery::Post;

/// What a function URL's requests are signed for.
const SERVICE: &str = "lambda";

/// Signs for one region.
pub(crate) struct AwsAuth {
    credentials: SharedCredentialsProvider,
    region: String,
}

/// A request cannot be signed. Never quotes a credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AwsAuthError {
    #[error("there are no AWS credentials: give the task a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID")]
    NoCredentials,
    #[error("there is no AWS region: set `aws_region` on the route")]
    NoRegion,
    #[error("the AWS credentials cannot be had")]
    Credentials(#[source] aws_credential_types::provider::error::CredentialsError),
    #[error("the request cannot be signed for AWS")]
    Sign,
}

impl AwsAuth {
    /// `region` goes before the one that a function URL's host names, and that before the configured one.
    pub(crate) fn new(
        config: &aws_config::SdkConfig,
        region: Option<&str>,
        host: Option<&str>,
    ) -> Result<Self, AwsAuthError> {
        let configured = config.region().map(|region| region.as_ref().to_owned());
        let region = region.map(str::to_owned).or_else(|| region_of(host?)).or(configured);
        Ok(Self {
            credentials: config.credentials_provider().ok_or(AwsAuthError::NoCredentials)?,
            region: region.ok_or(AwsAuthError::NoRegion)?,
        })
    }

    /// Adds the headers. Those that are there already stay unsigned but for the host: something on the way may add others.
    pub(crate) async fn sign(&self, post: &mut Post, now: SystemTime) -> Result<(), AwsAuthError> {
        let credentials = self.credentials.provide_credentials().await.map_err(AwsAuthError::Credentials)?;
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| AwsAuthError::Sign)?;
        let body = SignableBody::Bytes(&post.body);
        let request = SignableRequest::new("POST", post.url.as_str(), std::iter::empty(), body);
        let request = request.map_err(|_| AwsAuthError::Sign)?;
        let signed = sign(request, &parameters.into()).map_err(|_| AwsAuthError::Sign)?;
        let (instructions, _signature) = signed.into_parts();
        for (name, value) in instructions.headers() {
            let name = HeaderName::try_from(name).map_err(|_| AwsAuthError::Sign)?;
            post.header(name, value);
        }
        Ok(())
    }
}

/// `….lambda-url.REGION.on.aws`.
fn region_of(host: &str) -> Option<String> {
    let region = host.strip_suffix(".on.aws")?.rsplit_once(".lambda-url.")?.1;
    Some(region.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_credential_types::Credentials;
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_function_urls_region_is_in_its_name() {
        assert_eq!(region_of("abc.lambda-url.eu-west-1.on.aws").as_deref(), Some("eu-west-1"));
        assert_eq!(region_of("example.com"), None);
    }

    #[tokio::test]
    async fn the_body_and_the_url_are_signed() {
        let config = aws_config::SdkConfig::builder()
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "id",
                "secret",
                Some("session".into()),
                None,
                "test",
            )))
            .build();
        let url: reqwest::Url = "https://abc.lambda-url.eu-west-1.on.aws/path?a=b".parse().unwrap();
        let auth = AwsAuth::new(&config, None, url.host_str()).unwrap();
        let signature = async |url: &reqwest::Url, body: &[u8]| {
            let mut post = Post { url: url.clone(), headers: HeaderMap::new(), body: body.to_vec() };
            auth.sign(&mut post, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).await.unwrap();
            assert_eq!(post.headers["x-amz-security-token"], "session");
            assert_eq!(post.headers["x-amz-date"], "20231114T221320Z");
            post.headers["authorization"].to_str().unwrap().to_owned()
        };
        let signed = signature(&url, b"body").await;
        assert!(signed.contains("Credential=id/20231114/eu-west-1/lambda/aws4_request"), "{signed}");
        assert!(signed.contains("host"), "{signed}");
        assert_ne!(signed, signature(&url, b"other").await);
        assert_ne!(signed, signature(&url.join("/other").unwrap(), b"body").await);
    }
}
