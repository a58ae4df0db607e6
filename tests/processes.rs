//! Real programs, each a process of its own that ends with its test: moto for AWS, `cargo lambda watch` for Lambda, and our
//! own binaries under it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use momento_webhook::local::Seed;
use serde_json::{Value, json};

use crate::fixture::{API_KEY_SECRET, SIGNING_SECRET_NAME};
use crate::stack::eventually;

/// Killed when it goes out of scope.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// How much memory it holds.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Keeps all that programs write.
pub(crate) struct Output(tempfile::NamedTempFile);

/// A `local` in a process of its own.
pub(crate) struct LocalProcess {
    pub(crate) url: String,
    _process: Process,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self(tempfile::NamedTempFile::new().unwrap())
    }

    pub(crate) fn capture(&self, mut command: Command) -> Process {
        let file = || std::fs::OpenOptions::new().append(true).open(self.0.path()).unwrap();
        Process(command.stdin(Stdio::null()).stdout(file()).stderr(file()).spawn().unwrap())
    }

    /// Runs a command to its end. Returns its standard output, and keeps the rest.
    pub(crate) fn run(&self, command: &mut Command) -> String {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(self.0.path()).unwrap();
        std::io::Write::write_all(&mut file, &output.stderr).unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) async fn local(&self, seed: Seed) -> LocalProcess {
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        let seed =
            json!({ "caches": seed.caches, "api_key": seed.api_key, "users": seed.users, "secrets": seed.secrets });
        std::fs::write(file.path(), seed.to_string()).unwrap();
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
        command.args(["--port", &port.to_string(), "--seed"]).arg(file.path()).env("RUST_LOG", "trace");
        let process = self.capture(command);
        listening(port).await;
        LocalProcess { url: format!("http://127.0.0.1:{port}"), _process: process }
    }

    pub(crate) fn read(&self) -> String {
        std::fs::read_to_string(self.0.path()).unwrap()
    }
}

/// The publisher's command line.
pub(crate) fn publisher(momento: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_publisher"));
    command.args(arguments).env("MOMENTO_ENDPOINT_URL", momento).env("RUST_LOG", "trace");
    command
}

/// The relay, from `local`'s topic to this URL, with the signing secret from there too.
pub(crate) fn relay(momento: &str, url: &str, journal: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command
        .args(["run", "--allow-loopback", "--listen", "127.0.0.1:0", "--data"])
        .arg(journal)
        .args(["--route", &format!("course-comments/comment={url}")])
        .env("MOMENTO_ENDPOINT_URL", momento)
        .env("MOMENTO_API_KEY_SECRET_NAME", API_KEY_SECRET)
        .env("MOMENTO_SIGNING_SECRET_NAME", SIGNING_SECRET_NAME)
        .env("AWS_ENDPOINT_URL", momento)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("RUST_LOG", "trace");
    command
}

/// A program that `make tools` installs.
pub(crate) fn tool(name: &str) -> Command {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/python/bin").join(name);
    assert!(path.exists(), "{} is not there: run `make tools`", path.display());
    Command::new(path)
}

pub(crate) fn spawn(command: &mut Command) -> Process {
    // RUST_LOG=… cargo test … shows what they say.
    let output = || if std::env::var_os("RUST_LOG").is_some() { Stdio::inherit() } else { Stdio::null() };
    Process(command.stdin(Stdio::null()).stdout(output()).stderr(output()).spawn().unwrap())
}

/// A port that was free just now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) async fn listening(port: u16) {
    let connect = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok();
    tokio::time::timeout(Duration::from_secs(60), eventually(connect)).await.expect("it does not listen");
}

/// Secrets Manager and SQS.
pub(crate) struct Moto {
    pub(crate) url: String,
    _process: Process,
}

pub(crate) async fn moto() -> Moto {
    let port = free_port();
    let process = spawn(tool("moto_server").args(["-H", "127.0.0.1", "-p", &port.to_string()]));
    listening(port).await;
    Moto { url: format!("http://127.0.0.1:{port}"), _process: process }
}

/// The Lambda runtime API, with a function URL for each function.
pub(crate) struct Lambda {
    port: u16,
    pub(crate) http: reqwest::Client,
    _process: Process,
}

pub(crate) async fn lambda() -> Lambda {
    let port = free_port();
    let mut command = tool("cargo-lambda");
    command.args(["lambda", "watch", "--only-lambda-apis", "-A", "127.0.0.1", "-P", &port.to_string()]);
    let process = spawn(&mut command);
    listening(port).await;
    Lambda {
        port,
        http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap(),
        _process: process,
    }
}

/// A batch while everything fails takes its time.
const LONGEST_RUN: Duration = Duration::from_secs(120);

impl Lambda {
    /// Starts one of our binaries as the function of that name, on these services.
    pub(crate) fn start(&self, function: &str, momento: &str, aws: &str, more: &[(&str, &str)]) -> Process {
        spawn(&mut self.function(function, momento, aws, more))
    }

    pub(crate) fn function(&self, function: &str, momento: &str, aws: &str, more: &[(&str, &str)]) -> Command {
        let binary = match function {
            "handler" => env!("CARGO_BIN_EXE_handler"),
            "redrive" => env!("CARGO_BIN_EXE_redrive"),
            "publisher" => env!("CARGO_BIN_EXE_publisher"),
            _ => panic!("no binary {function}"),
        };
        let mut command = Command::new(binary);
        command
            .env("AWS_LAMBDA_RUNTIME_API", format!("http://127.0.0.1:{}/.rt/{function}", self.port))
            .env("AWS_LAMBDA_FUNCTION_NAME", function)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_ENDPOINT_URL", aws)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("MOMENTO_ENDPOINT_URL", momento)
            .env("MOMENTO_API_KEY_SECRET_NAME", API_KEY_SECRET)
            .env("MOMENTO_SIGNING_SECRET_NAME", SIGNING_SECRET_NAME)
            .envs(more.iter().copied());
        command
    }

    pub(crate) fn function_url(&self, function: &str) -> String {
        format!("http://127.0.0.1:{}/lambda-url/{function}/", self.port)
    }

    /// Invokes a function directly, as an event source does.
    pub(crate) async fn invoke(&self, function: &str, payload: &Value) -> Value {
        let url = format!("http://127.0.0.1:{}/2015-03-31/functions/{function}/invocations", self.port);
        let answer = self.http.post(url).timeout(LONGEST_RUN).body(payload.to_string()).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }
}
