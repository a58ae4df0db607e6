use std::{fs, path::PathBuf};

use momento_webhook::local::{Config, Seed, SeedError};
use serde_json::Value;
use tempfile::TempDir;

use super::caches;
use crate::stack;

const TOML: &str = r#"
caches = ["one", "two"]
api_key = "seeded-key"
[users.kim]
name = "Kim"
born = [1990-01-01]
[secrets]
momento-signing-secret = "mine"
"#;
const JSON: &str = r#"{
    "caches": ["one", "two"],
    "api_key": "seeded-key",
    "users": { "kim": { "name": "Kim", "born": ["1990-01-01"] } },
    "secrets": { "momento-signing-secret": "mine" }
}"#;

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn toml_and_json_seed_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for path in [file(&folder, "seed.toml", TOML), file(&folder, "seed.json", JSON)] {
        let local = stack::local(Config { seed: Seed::read(&path).unwrap(), ..Config::default() }).await;
        let client = caches(&local, "seeded-key");
        for cache in ["one", "two"] {
            let user: Vec<u8> = client.get(cache, "user/kim").await.unwrap().try_into().unwrap();
            let user: Value = serde_json::from_slice(&user).unwrap();
            assert_eq!(user, serde_json::json!({ "name": "Kim", "born": ["1990-01-01"] }));
        }
        assert_eq!(client.list_caches().await.unwrap().caches.len(), 2);
    }
}

#[test]
fn a_bad_seed_names_the_file_the_field_and_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, field, expected) in [
        ("a.toml", "cashes = []", "cashes", "caches"),
        ("a.toml", "caches = [7]", "caches[0]", "a string"),
        ("a.json", r#"{"caches":["c"],"users":{"kim":7}}"#, "users.kim", "a map"),
        ("a.json", r#"{"caches":["c"],"users":{"a/b":{}}}"#, "users.\"a/b\"", "without `/`"),
        ("a.json", r#"{"caches":["c"],"users":{"":{}}}"#, "users.\"\"", "1 to 64 bytes"),
        ("a.json", r#"{"caches":["c","c"]}"#, "caches[1]", "each once"),
        ("a.json", r#"{"caches":[""]}"#, "caches[0]", "1 to 255"),
        ("a.json", r#"{"users":{"kim":{}}}"#, "caches", "at least one"),
        ("a.json", r#"{"api_key":"a b"}"#, "api_key", "without spaces"),
        ("a.json", r#"{"secrets":{"s":null}}"#, "secrets.s", "a string"),
        ("a.toml", "caches = [", "", "array"),
    ] {
        let error = Seed::read(&file(&folder, name, text)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(field) && error.contains(expected), "{text}: {error}");
    }
    let missing = Seed::read(&folder.path().join("none.json")).unwrap_err();
    assert!(matches!(&missing, SeedError::Read { path, .. } if path.ends_with("none.json")), "{missing}");
    let yaml = Seed::read(&file(&folder, "a.yaml", "")).unwrap_err();
    assert!(yaml.to_string().contains(".toml or a .json"), "{yaml}");
}
