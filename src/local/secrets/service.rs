//! The endpoint: AWS JSON 1.1, without a look at the signature.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Content, Error, Secret, Secrets, Version};
use crate::local::{Code, now};

const JSON: &str = "application/x-amz-json-1.1";
const SERVICE: &str = "secretsmanager.";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetSecretValue {
    secret_id: String,
    version_id: Option<String>,
    version_stage: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeSecret {
    secret_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateSecret {
    name: String,
    description: Option<String>,
    client_request_token: Option<String>,
    secret_string: Option<String>,
    secret_binary: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutSecretValue {
    secret_id: String,
    client_request_token: Option<String>,
    secret_string: Option<String>,
    secret_binary: Option<String>,
    version_stages: Option<Vec<String>>,
}

/// Answers one request.
pub(crate) async fn serve(State(secrets): State<Secrets>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let answer = match target.strip_prefix(SERVICE) {
        Some("GetSecretValue") => read(&body).and_then(|request| get(&secrets, request)),
        Some("DescribeSecret") => read(&body).and_then(|request| describe(&secrets, request)),
        Some("CreateSecret") => read(&body).and_then(|request| create(&secrets, request)),
        Some("PutSecretValue") => read(&body).and_then(|request| put(&secrets, request)),
        _ => Err(Fault::new(
            "UnknownOperationException",
            "the local server offers GetSecretValue, DescribeSecret, CreateSecret and PutSecretValue of Secrets Manager",
        )),
    };
    match answer {
        Ok(answer) => ([(CONTENT_TYPE, JSON)], answer.to_string()).into_response(),
        Err(fault) => fault.into_response(),
    }
}

fn get(secrets: &Secrets, request: GetSecretValue) -> Result<Value, Fault> {
    let vault = secrets.lock();
    let (version, stage) = (request.version_id.as_deref(), request.version_stage.as_deref());
    let (secret, version) = vault.version(&request.secret_id, version, stage)?;
    let mut answer = named(secret, Some(version));
    answer["CreatedDate"] = seconds(version.created_at);
    match &version.content {
        Content::Text(text) => answer["SecretString"] = json!(text),
        Content::Binary(base64) => answer["SecretBinary"] = json!(base64),
    }
    Ok(answer)
}

fn describe(secrets: &Secrets, request: DescribeSecret) -> Result<Value, Fault> {
    let vault = secrets.lock();
    let secret = vault.secret(&request.secret_id)?;
    let named_versions = secret.versions.iter().filter(|version| !version.stages.is_empty());
    let stages: BTreeMap<_, _> = named_versions.map(|version| (&version.id, &version.stages)).collect();
    let mut answer = named(secret, None);
    answer["CreatedDate"] = seconds(secret.created_at);
    answer["LastChangedDate"] = seconds(secret.versions.last().map_or(secret.created_at, |newest| newest.created_at));
    answer["VersionIdsToStages"] = json!(stages);
    if let Some(description) = &secret.description {
        answer["Description"] = json!(description);
    }
    Ok(answer)
}

fn create(secrets: &Secrets, request: CreateSecret) -> Result<Value, Fault> {
    let content = content(request.secret_string, request.secret_binary)?;
    let mut vault = secrets.lock();
    let (secret, version) =
        vault.create(&request.name, request.description, request.client_request_token, content, now())?;
    let mut answer = named(secret, None);
    if let Some(version) = version {
        answer["VersionId"] = json!(version);
    }
    Ok(answer)
}

fn put(secrets: &Secrets, request: PutSecretValue) -> Result<Value, Fault> {
    let content = content(request.secret_string, request.secret_binary)?
        .ok_or_else(|| Error::InvalidParameter("expected SecretString or SecretBinary".into()))?;
    let mut vault = secrets.lock();
    let (id, token, stages) = (&request.secret_id, request.client_request_token, request.version_stages);
    let (secret, version) = vault.put(id, token, content, stages, now())?;
    Ok(named(secret, Some(version)))
}

fn content(text: Option<String>, binary: Option<String>) -> Result<Option<Content>, Error> {
    match (text, binary) {
        (Some(_), Some(_)) => Err(Error::InvalidParameter("expected SecretString or SecretBinary, not both".into())),
        (Some(text), None) => Ok(Some(Content::Text(text))),
        (None, binary) => Ok(binary.map(Content::Binary)),
    }
}

fn named(secret: &Secret, version: Option<&Version>) -> Value {
    let mut answer = json!({ "ARN": secret.arn, "Name": secret.name });
    if let Some(version) = version {
        answer["VersionId"] = json!(version.id);
        answer["VersionStages"] = json!(version.stages);
    }
    answer
}

/// Times go over the wire in epoch seconds.
fn seconds(millis: u64) -> Value {
    json!(millis as f64 / 1000.0)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let body = &mut serde_json::Deserializer::from_slice(body);
    // serde's own message could quote a secret.
    serde_path_to_error::deserialize(body)
        .map_err(|error| Fault::new("SerializationException", format!("cannot read the field `{}`", error.path())))
}

struct Fault {
    kind: &'static str,
    message: String,
}

impl Fault {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::NotFound(_) => "ResourceNotFoundException",
            Error::Exists(_) => "ResourceExistsException",
            Error::InvalidParameter(_) => "InvalidParameterException",
            Error::LimitExceeded => "LimitExceededException",
        };
        Self::new(kind, error.to_string())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        refusal(StatusCode::BAD_REQUEST, self.kind, &self.message)
    }
}

/// What the service says when it fails like this.
pub(crate) fn failure(code: Code) -> Response {
    let (status, kind) = match code {
        Code::PermissionDenied | Code::Unauthenticated => (StatusCode::BAD_REQUEST, "AccessDeniedException"),
        Code::NotFound => (StatusCode::BAD_REQUEST, "ResourceNotFoundException"),
        Code::ResourceExhausted => (StatusCode::BAD_REQUEST, "ThrottlingException"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServiceError"),
    };
    refusal(status, kind, &format!("{code}: a fault that was asked for"))
}

fn refusal(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({ "__type": kind, "Message": message }).to_string();
    (status, [(CONTENT_TYPE.as_str(), JSON), ("x-amzn-errortype", kind)], body).into_response()
}
