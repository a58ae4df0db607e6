//! The command line of the `local` binary.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use tokio::net::TcpListener;

use super::{Config, Error, Faults, Rule, Seed, Webhook};

/// A Momento-compatible server, with Secrets Manager, for development and tests.
#[derive(clap::Parser)]
#[command(name = "local", version)]
pub struct Args {
    /// The port to listen on.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The address to listen on. Any that is not loopback demands a key.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    bind: IpAddr,
    /// Caches, users and secrets to start with, as a .toml or .json file; without one, the course comments example.
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// The key of the super user; goes before the seed's.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Post every message of a topic to this URL, signed. May be repeated.
    #[arg(long = "webhook", value_name = "CACHE/TOPIC=URL")]
    webhooks: Vec<Webhook>,
    /// Allow webhooks to other machines.
    #[arg(long)]
    allow_remote_webhooks: bool,
    /// Have calls go wrong: an error by its status, delay:TIME, drop, hang, and others; with -answer, after the call has
    /// taken effect. Such as get,set-if=unavailable*3, or set-if=drop-answer. May be repeated.
    #[arg(long = "fault", value_name = "RPCS=WHAT[*COUNT]")]
    faults: Vec<Rule>,
}

impl Args {
    /// Opens the port.
    ///
    /// # Errors
    /// [`Error::Listen`], if it cannot be had; says which flags move it.
    pub async fn listen(&self) -> Result<TcpListener, Error> {
        let (bind, port) = (self.bind, self.port);
        TcpListener::bind((bind, port)).await.map_err(|source| Error::Listen { bind, port, source })
    }

    /// What to run.
    ///
    /// # Errors
    /// [`Error::Seed`] or [`Error::Fault`], if the seed or the faults are not acceptable.
    pub fn config(self) -> Result<Config, Error> {
        let faults = Faults::default();
        faults.set(self.faults)?;
        Ok(Config {
            seed: self.seed.map_or_else(|| Ok(Seed::default()), |path| Seed::read(&path))?,
            api_key: self.api_key,
            webhooks: self.webhooks,
            allow_remote_webhooks: self.allow_remote_webhooks,
            faults,
            ..Config::default()
        })
    }
}
