//! A function as Lambda runs it: a process with a clean environment that asks for its events.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::event::Events;
use crate::runtime_api::RuntimeApi;
use crate::tls::Tls;
use crate::{output, root};

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    /// What is uploaded, where that is one file.
    artifact: Option<PathBuf>,
    /// How it reaches services, where that is over TLS.
    tls: Option<Tls>,
}

/// How large a binary is, and the archive that is uploaded, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sizes {
    pub(crate) binary: Option<u64>,
    pub(crate) zip: Option<u64>,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Usage {
    /// User and system time together.
    #[serde(serialize_with = "crate::report::microseconds")]
    pub(crate) cpu: Duration,
    pub(crate) resident_kib: u64,
    pub(crate) peak_kib: u64,
}

impl Subject {
    pub(crate) const HANDLER: &str = "handler";
    pub(crate) const OVER_TLS: &str = "handler, TLS";
    pub(crate) const BARE: &str = "bare";
    pub(crate) const JAVASCRIPT: &str = "JavaScript";

    /// The handler first.
    pub(crate) fn all(tls: Tls) -> Result<Vec<Self>> {
        let over_tls = Self { name: Self::OVER_TLS, artifact: None, tls: Some(tls), ..Self::handler()? };
        Ok(vec![Self::handler()?, over_tls, Self::bare()?, Self::javascript()?])
    }

    pub(crate) fn handler() -> Result<Self> {
        Self::binary(Self::HANDLER, "target/release/handler")
    }

    pub(crate) fn bare() -> Result<Self> {
        Self::binary(Self::BARE, "target/release/examples/bare")
    }

    fn binary(name: &'static str, path: &str) -> Result<Self> {
        let program = there(path)?;
        Ok(Self { name, artifact: Some(program.clone()), program, arguments: Vec::new(), tls: None })
    }

    /// Under the runtime client that Lambda's own Node.js runtimes are made of.
    fn javascript() -> Result<Self> {
        there("benches/javascript/node_modules/@gomomento/sdk/package.json")?;
        there("benches/javascript/node_modules/aws-lambda-ric/rapid-client.node")?;
        let node = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|directory| directory.join("node"))
            .find(|node| node.exists())
            .context("node is not on the PATH: install Node.js")?;
        let client = there("benches/javascript/node_modules/aws-lambda-ric/index.mjs")?;
        let arguments = vec![client, "handler.handler".into()];
        Ok(Self { name: Self::JAVASCRIPT, program: node, arguments, artifact: None, tls: None })
    }

    /// The same under another program.
    pub(crate) fn under(self, program: &str, options: Vec<PathBuf>) -> Self {
        let arguments = options.into_iter().chain([self.program]).chain(self.arguments).collect();
        Self { program: program.into(), arguments, ..self }
    }

    pub(crate) fn sizes(&self) -> Result<Sizes> {
        let Some(artifact) = &self.artifact else { return Ok(Sizes::default()) };
        let archive = output(&format!("{}.zip", self.name))?;
        let zip = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED, compresslevel=9).write(sys.argv[2], 'bootstrap')";
        let zipped = Command::new("python3").args(["-c", zip]).arg(&archive).arg(artifact).status();
        ensure!(zipped.context("cannot run python3")?.success(), "cannot zip {}", artifact.display());
        Ok(Sizes { binary: Some(fs::metadata(artifact)?.len()), zip: Some(fs::metadata(archive)?.len()) })
    }

    fn command(&self, api: &RuntimeApi, local: &str) -> Result<Command> {
        let task = root().join("benches/javascript");
        let log = File::create(output(&format!("{}.log", self.name))?)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&task).env_clear();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.env("AWS_LAMBDA_RUNTIME_API", api.address.to_string()).env("LAMBDA_TASK_ROOT", &task).envs([
            ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/bench"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/24/[$LATEST]0"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_SESSION_TOKEN", "local"),
            ("_HANDLER", "handler.handler"),
            ("LANG", "en_US.UTF-8"),
            ("TZ", ":UTC"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", local),
            ("MOMENTO_ENDPOINT_URL", local),
            ("MOMENTO_API_KEY_SECRET_NAME", "momento-api-key"),
            ("THE_SIGNING_SECRET", "momento-signing-secret"),
            ("PARK_QUEUE_URL", "http://127.0.0.1:1/000000000000/parked"), // as it is deployed; nothing is parked here
        ]);
        if let Some(tls) = &self.tls {
            command.env("SSL_CERT_FILE", &tls.certificate);
            command.envs(["AWS_ENDPOINT_URL_SECRETS_MANAGER", "MOMENTO_ENDPOINT_URL"].map(|name| (name, &tls.url)));
        }
        Ok(command)
    }
}

/// A file of the project that must have been made before.
pub(crate) fn there(path: &str) -> Result<PathBuf> {
    let path = root().join(path);
    if !path.exists() {
        bail!("{} is not there: run `make bench`", path.display());
    }
    Ok(path)
}

/// A running function. Killed when it goes out of scope.
pub(crate) struct Function {
    api: RuntimeApi,
    process: Child,
    started: Instant,
    asked: Option<Instant>,
}

/// One event: handed out, answered, and when the function asked for the next one.
pub(crate) struct Timed {
    pub(crate) handed: Instant,
    pub(crate) answered: Instant,
    pub(crate) asked_again: Instant,
}

impl Function {
    pub(crate) async fn start(subject: &Subject, local: &str) -> Result<Self> {
        let api = RuntimeApi::start().await?;
        let mut command = subject.command(&api, local)?;
        let started = Instant::now();
        let process = command.spawn().with_context(|| format!("cannot start {}", subject.program.display()))?;
        Ok(Self { api, process, started, asked: None })
    }

    /// When the process was started, and its first event.
    pub(crate) async fn first(&mut self, events: &mut Events) -> Result<(Instant, Timed)> {
        self.api.send(events.delivery());
        self.ready().await?;
        Ok((self.started, self.exchange().await?))
    }

    /// Waits until the process asks for its first event.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        self.asked = Some(self.api.asked().await?);
        Ok(())
    }

    /// From the start of the process to its first request for an event.
    pub(crate) fn init(&self) -> Duration {
        self.asked.map_or(Duration::ZERO, |asked| asked - self.started)
    }

    /// One event for a function that waits for it.
    pub(crate) async fn invoke(&mut self, event: String) -> Result<Timed> {
        self.api.send(event);
        self.exchange().await
    }

    /// Many events of which nothing but the answer is of interest, each with a trace id of its own, or all with one.
    pub(crate) async fn soak(&mut self, events: &mut Events, count: usize, traced: bool) -> Result<Usage> {
        self.api.trace(traced);
        for _ in 0..count {
            self.invoke(events.delivery()).await?;
        }
        self.usage()
    }

    async fn exchange(&mut self) -> Result<Timed> {
        let exchange = self.api.exchange().await?;
        ensure!(is_ok(&exchange.answer), "the function answered {}", String::from_utf8_lossy(&exchange.answer));
        let asked_again = self.api.asked().await?;
        Ok(Timed { handed: exchange.handed, answered: exchange.answered, asked_again })
    }

    /// Lets the process end by itself.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.api.close();
        for _ in 0..600 {
            if self.process.try_wait()?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the function does not end")
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        let process = Path::new("/proc").join(self.process.id().to_string());
        let mut cpu = 0;
        for thread in fs::read_dir(process.join("task"))? {
            // A thread may end in between.
            let statistics = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            cpu += statistics.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        }
        let status = fs::read_to_string(process.join("status"))?;
        let kib =
            |name| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        Ok(Usage {
            cpu: Duration::from_nanos(cpu),
            resident_kib: kib("VmRSS:").unwrap_or_default(),
            peak_kib: kib("VmHWM:").unwrap_or_default(),
        })
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_ok(answer: &[u8]) -> bool {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    answer["statusCode"] == 200
}
