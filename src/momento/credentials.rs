//! Reading a key or a token, whatever its form.

use std::fmt;

use momento::CredentialProvider;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::config::MomentoConfig;

/// A Momento API key, or a token, with what is needed to use it.
#[derive(Clone)]
pub struct Credentials {
    provider: CredentialProvider,
    /// Where caches and topics are.
    cache_url: String,
    /// PEM certificates to trust there instead of those compiled in.
    certificates: Option<String>,
}

/// A key cannot be used. Never quotes the key.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Neither a v1 key, nor a v2 key, nor a token.
    #[error(
        "the Momento API key cannot be read: store a v1 key as it is, a v2 key as it is, or {{\"apiKey\",\"endpoint\"}}"
    )]
    Unreadable,
    /// A v2 key does not say where its service is.
    #[error("a v2 Momento API key needs its endpoint: set MOMENTO_ENDPOINT, or store {{\"apiKey\",\"endpoint\"}}")]
    NoEndpoint,
}

impl Credentials {
    /// Reads a key: v1 or token as it is, v2 as it is beside `MOMENTO_ENDPOINT`, or JSON `{"apiKey","endpoint"}`.
    ///
    /// # Errors
    /// [`CredentialsError`], which says what to store instead.
    pub fn parse(key: &SecretString, config: &MomentoConfig) -> Result<Self, CredentialsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct WithEndpoint {
            api_key: String,
            endpoint: String,
        }
        let key = key.expose_secret().trim(); // a line break at its end is easily stored and never meant
        let (key, endpoint) = if key.starts_with('{') {
            let json: WithEndpoint = serde_json::from_str(key).map_err(|_| CredentialsError::Unreadable)?;
            (json.api_key, Some(json.endpoint))
        } else {
            (key.to_owned(), None)
        };
        let provider = if key.contains('.') {
            // A v2 key is a JWT. With a URL for everything, the endpoint is of no consequence.
            let endpoint = endpoint.clone().or_else(|| config.endpoint.clone());
            let endpoint = endpoint.or_else(|| config.endpoint_url.as_ref().map(|_| "localhost".into()));
            CredentialProvider::from_api_key_v2(key, endpoint.ok_or(CredentialsError::NoEndpoint)?)
        } else {
            CredentialProvider::from_disposable_token(key) // reads v1 keys too: they are built alike
        };
        let provider = provider.map_err(|_| CredentialsError::Unreadable)?;
        let (provider, cache_url) = match (&config.endpoint_url, &endpoint) {
            (Some(url), _) if url.is_plaintext() => {
                (provider.insecure_endpoint_override(url.as_str()), url.to_string())
            }
            (Some(url), _) => (provider.full_endpoint_override(url.as_str()), url.to_string()),
            (None, Some(endpoint)) => (provider.base_endpoint(endpoint), format!("https://cache.{endpoint}")),
            // The one way in which the SDK tells the host of the caches that it read from the key.
            (None, None) => {
                let url = format!("https://{}", provider.valkey_hostname());
                (provider, url)
            }
        };
        Ok(Self { provider, cache_url, certificates: config.certificates.clone() })
    }

    /// For the SDK's own builders.
    pub(crate) fn provider(&self) -> CredentialProvider {
        self.provider.clone()
    }

    /// Where caches and topics are.
    pub(crate) fn cache_url(&self) -> &str {
        &self.cache_url
    }

    pub(crate) fn certificates(&self) -> Option<&str> {
        self.certificates.as_deref()
    }

    /// What goes into the `authorization` header.
    pub(crate) fn auth_token(&self) -> &str {
        self.provider.auth_token()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Built in the documented shapes; they open nothing.
    const V1: &str = "eyJlbmRwb2ludCI6ImV4YW1wbGUuY29tIiwiYXBpX2tleSI6InNlY3JldC1rZXkifQ==";
    const V2: &str = "eyJhbGciOiJub25lIn0.eyJ0IjoiZyJ9.c2ln";

    fn parse(key: &str, variables: &[(&str, &str)]) -> Result<String, CredentialsError> {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let config = MomentoConfig::from_lookup(&lookup).unwrap();
        Credentials::parse(&key.to_owned().into(), &config)
            .map(|credentials| format!("{}; {}", credentials.provider(), credentials.cache_url()))
    }

    #[test]
    fn every_form_of_key_leads_to_its_endpoint() {
        let with_endpoint = |key: &str| format!(r#"{{"apiKey":"{key}","endpoint":"other.com"}}"#);
        let v2 = [("MOMENTO_ENDPOINT", "example.com")];
        for (key, variables, endpoint) in [
            (V1.to_owned(), &[][..], "https://cache.example.com"),
            (format!("{V1}\n"), &[], "https://cache.example.com"),
            (with_endpoint(V1), &[], "https://cache.other.com"),
            (V2.to_owned(), &v2, "https://cache.example.com"),
            (with_endpoint(V2), &[], "https://cache.other.com"),
            (V1.to_owned(), &[("MOMENTO_ENDPOINT_URL", "http://127.0.0.1:1/")], "http://127.0.0.1:1"),
            (V2.to_owned(), &[("MOMENTO_ENDPOINT_URL", "https://127.0.0.1:1")], "https://127.0.0.1:1"),
        ] {
            let provider = parse(&key, variables);
            let both = |p: &String| p.matches(endpoint).count() >= 2; // the SDK's and our own
            assert!(provider.as_ref().is_ok_and(both), "{provider:?} {endpoint}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_is_refused_without_being_quoted() {
        assert!(matches!(parse(V2, &[]), Err(CredentialsError::NoEndpoint)));
        for key in ["", "not-a-key", "{}", r#"{"apiKey":"hidden"}"#, "hid.den.key"] {
            let error = parse(key, &[("MOMENTO_ENDPOINT", "example.com")]).err().map(|e| e.to_string());
            assert!(error.as_ref().is_some_and(|e| e.contains("cannot be read") && !e.contains("hidden")), "{error:?}");
        }
    }
}
