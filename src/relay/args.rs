//! The relay's command line.

use std::path::PathBuf;

use anyhow::Context;

use super::config::{PositionKind, Route};
use super::letters::Letters;
use super::{Config, check, listen, run};
use crate::aws;
use crate::config::Lookup;

/// Delivers the messages of Momento topics as signed webhooks.
///
/// Without a command it runs. The key is in the secret that MOMENTO_API_KEY_SECRET_NAME names, or in MOMENTO_API_KEY; what
/// signs is in the one that MOMENTO_SIGNING_SECRET_NAME or a route's `signing_secret` names.
#[derive(clap::Parser)]
#[command(name = "relay", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Subscribe and deliver, until SIGTERM or Ctrl-C.
    Run,
    /// Check configuration, credentials, secrets and destinations, delivering nothing; says what is wrong.
    Check,
    /// What could not be delivered.
    #[command(subcommand)]
    Dlq(Letters),
}

#[derive(clap::Args)]
struct Options {
    /// The configuration, as TOML. Without it the text in RELAY_CONFIG serves, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Deliver a topic to a URL. May be repeated; comes on top of the configuration's routes.
    #[arg(long = "route", global = true, value_name = "CACHE/TOPIC=URL", value_parser = Route::from_flag)]
    routes: Vec<Route>,
    /// The journal's folder [default: relay-data].
    #[arg(long, global = true, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Keep positions in Momento instead of a journal on disk.
    #[arg(long, global = true, conflicts_with = "data")]
    without_disk: bool,
    /// Share the work with another relay for the same routes: one delivers, the other stands by.
    #[arg(long, global = true)]
    standby: bool,
    /// Where to serve /livez, /readyz and /metrics; empty for nowhere [default: 127.0.0.1:9464].
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Allow destinations on this machine, over http:// too.
    #[arg(long, global = true)]
    allow_loopback: bool,
    /// Allow destinations in private networks.
    #[arg(long, global = true)]
    allow_private: bool,
}

impl Options {
    fn config(self, lookup: Lookup<'_>) -> anyhow::Result<Config> {
        let mut config = Config::read(self.config.as_deref(), lookup)?;
        config.routes.extend(self.routes);
        config.network.allow_loopback |= self.allow_loopback;
        config.network.allow_private |= self.allow_private;
        config.standby.enabled |= self.standby;
        if let Some(listen) = self.listen {
            config.http.listen = listen;
        }
        if let Some(data) = self.data {
            (config.position.kind, config.position.path) = (PositionKind::Disk, data);
        }
        if self.without_disk {
            config.position.kind = PositionKind::Momento;
        }
        Ok(config)
    }
}

impl Cli {
    /// Does what was asked for. `stop` ends `run`.
    ///
    /// # Errors
    /// What a person at a terminal should read.
    pub async fn execute(self, lookup: Lookup<'_>, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut config = self.options.config(lookup)?;
        let certificates = config.account.momento.certificates.clone();
        let aws = aws::anywhere(certificates.as_deref());
        match self.command.unwrap_or(Command::Run) {
            Command::Run => {
                config.check()?;
                let running = async { run(listen(&config).await?, config, &aws.await, stop).await };
                running.await.context("the relay did not start")
            }
            Command::Check => check::check(config, &aws.await, &mut std::io::stdout()).await,
            Command::Dlq(letters) => letters.execute(config, &mut std::io::stdout()).await,
        }
    }
}
