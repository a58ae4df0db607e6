//! `make deploy-function`'s command, on a function that the CDK deployed before it: as far as that goes without an account.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::processes::{moto, tool};

const FUNCTION: &str = "MyStack-Handler123";

#[tokio::test]
async fn the_handlers_code_is_replaced_and_its_variables_stay() {
    let (moto, http) = (moto().await, reqwest::Client::builder().no_proxy().build().unwrap());
    // moto checks no signature, but reads in it which service and region are meant.
    let scope = |service| {
        format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        )
    };
    let role = "Action=CreateRole&Version=2010-05-08&RoleName=handler&AssumeRolePolicyDocument=%7B%7D";
    let role = http.post(&moto.url).header("authorization", scope("iam")).header("content-type", FORM).body(role);
    role.send().await.unwrap().error_for_status().unwrap();
    let function = json!({
        "FunctionName": FUNCTION,
        "Runtime": "provided.al2023",
        "Handler": "bootstrap",
        "Role": "arn:aws:iam::123456789012:role/handler",
        "Code": { "ZipFile": STANDARD.encode(EMPTY_ZIP) },
        "Environment": { "Variables": { "PARK_QUEUE_URL": "a queue" } },
    });
    let functions = format!("{}/2015-03-31/functions", moto.url);
    let create = http.post(&functions).header("authorization", scope("lambda")).body(function.to_string());
    create.send().await.unwrap().error_for_status().unwrap();

    let artifacts = tempfile::tempdir().unwrap();
    std::fs::create_dir(artifacts.path().join("handler")).unwrap();
    let handler = std::fs::read(env!("CARGO_BIN_EXE_handler")).unwrap();
    std::fs::write(artifacts.path().join("handler/bootstrap"), handler).unwrap();
    let mut command = tool("cargo-lambda");
    command
        .args(["lambda", "deploy", "--binary-name", "handler", "--endpoint-url", &moto.url, "--lambda-dir"])
        .arg(artifacts.path())
        .arg(FUNCTION)
        .envs(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"].map(|variable| (variable, "us-east-1")))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let deployed = http.get(format!("{functions}/{FUNCTION}")).header("authorization", scope("lambda"));
    let deployed: Value = serde_json::from_str(&deployed.send().await.unwrap().text().await.unwrap()).unwrap();
    let configuration = &deployed["Configuration"];
    assert!(configuration["CodeSize"].as_u64().unwrap() > 1_000_000, "{configuration}");
    assert_eq!((&configuration["Timeout"], &configuration["MemorySize"]), (&json!(4), &json!(256)));
    assert_eq!(configuration["Environment"]["Variables"]["PARK_QUEUE_URL"], "a queue");
}

const EMPTY_ZIP: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const FORM: &str = "application/x-www-form-urlencoded";
