//! Signing a request for AWS (SigV4), so that the function URL need not be public.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::header::HeaderName;
use tokio::sync::Mutex;

use crate::delivery::Post;

/// What a function URL's requests are signed for.
const SERVICE: &str = "lambda";

/// How long before they end credentials are fetched again.
const EARLY: Duration = Duration::from_secs(60);
/// How long those are kept that have no end: a file may have changed.
const KEPT: Duration = Duration::from_secs(15 * 60);

/// Signs for one region.
pub(crate) struct AwsAuth {
    credentials: SharedCredentialsProvider,
    region: String,
    /// The last credentials, and until when they are used. The SDK's own cache serves its own clients only.
    held: Mutex<Option<(Credentials, SystemTime)>>,
}

/// A request cannot be signed. Never quotes a credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AwsAuthError {
    #[error("there are no AWS credentials: give the task a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID")]
    NoCredentials,
    #[error("there is no AWS region: set `aws_region` on the route")]
    NoRegion,
    #[error("the AWS credentials cannot be had")]
    Credentials(#[source] CredentialsError),
    #[error("the request cannot be signed for AWS")]
    Sign,
}

impl AwsAuthError {
    /// May it be over by itself?
    pub(crate) fn is_passing(&self) -> bool {
        use CredentialsError::{CredentialsNotLoaded, InvalidConfiguration};
        matches!(self, Self::Credentials(error) if !matches!(error, CredentialsNotLoaded(_) | InvalidConfiguration(_)))
    }
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
            held: Mutex::default(),
        })
    }

    /// Adds the headers. Those that are there already stay unsigned but for the host: something on the way may add others.
    pub(crate) async fn sign(&self, post: &mut Post, now: SystemTime) -> Result<(), AwsAuthError> {
        let identity = self.credentials(now).await?.into();
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

    /// Fetched once, by whoever comes first.
    async fn credentials(&self, now: SystemTime) -> Result<Credentials, AwsAuthError> {
        let mut held = self.held.lock().await;
        if let Some((credentials, until)) = &*held
            && now < *until
        {
            return Ok(credentials.clone());
        }
        let fresh = self.credentials.provide_credentials().await.map_err(AwsAuthError::Credentials)?;
        let until = fresh.expiry().map_or(now + KEPT, |expiry| expiry - EARLY);
        Ok(held.insert((fresh, until)).0.clone())
    }
}

/// `….lambda-url.REGION.on.aws`.
fn region_of(host: &str) -> Option<String> {
    let region = host.strip_suffix(".on.aws")?.rsplit_once(".lambda-url.")?.1;
    Some(region.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use aws_credential_types::provider::future;
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

    #[derive(Debug, Clone, Default)]
    struct Counting(Arc<AtomicU32>);

    impl ProvideCredentials for Counting {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            self.0.fetch_add(1, Ordering::Relaxed);
            let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(3_600);
            future::ProvideCredentials::ready(Ok(Credentials::new("id", "secret", None, Some(expiry), "test")))
        }
    }

    #[tokio::test]
    async fn credentials_are_fetched_again_shortly_before_they_end() {
        let counting = Counting::default();
        let config = aws_config::SdkConfig::builder()
            .credentials_provider(SharedCredentialsProvider::new(counting.clone()))
            .build();
        let auth = AwsAuth::new(&config, Some("eu-west-1"), None).unwrap();
        let mut fetched = Vec::new();
        for second in [0, 10, 3_500, 3_541] {
            auth.credentials(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).await.unwrap();
            fetched.push(counting.0.load(Ordering::Relaxed));
        }
        assert_eq!(fetched, [1, 1, 1, 2]);
    }

    #[test]
    fn what_only_a_person_can_mend_is_told_apart() {
        assert!(AwsAuthError::Credentials(CredentialsError::provider_error("503 from STS")).is_passing());
        assert!(!AwsAuthError::Credentials(CredentialsError::not_loaded("nothing is configured")).is_passing());
        assert!(!AwsAuthError::NoRegion.is_passing());
    }
}
