//! The publisher at a terminal.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use futures::StreamExt;
use momento::topics::ValueKind;
use secrecy::ExposeSecret;
use serde_json::json;

use super::{CALL, DEFAULT_CACHE, DEFAULT_TOKEN_ID, DEFAULT_TOPIC, DEFAULT_TTL, Publisher, mint};
use crate::clock;
use crate::config::{Lookup, MomentoConfig, optional};
use crate::momento::{Credentials, Momento, Role, TokenScope};
use crate::secrets::SecretsManager;

/// Mints short-lived Momento tokens that carry an identifier, and publishes with them.
///
/// The account's key comes from MOMENTO_API_KEY, or from the secret that MOMENTO_API_KEY_SECRET_NAME names.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Mint a token and print it as JSON: {"token","endpoint","expiresAt"}
    Token {
        #[command(flatten)]
        scope: ScopeArgs,
        /// What its holder may do on the topic
        #[arg(long, value_enum, default_value_t = RoleArg::Publish)]
        role: RoleArg,
    },
    /// Mint a token that may only publish on the topic, and publish a message with it
    Publish {
        #[command(flatten)]
        scope: ScopeArgs,
        /// The message
        #[arg(default_value = r#"{"comment":"This course is great!","courseId":123}"#)]
        message: String,
    },
    /// Mint a token that may only subscribe to the topic, and print each message as a JSON line until it ends
    Listen {
        #[command(flatten)]
        scope: ScopeArgs,
        /// Print the text of each message alone
        #[arg(long)]
        text: bool,
        /// End after this many messages
        #[arg(long)]
        count: Option<usize>,
        /// Fail when there have not been enough messages after this many seconds
        #[arg(long, default_value_t = 24 * 60 * 60)]
        timeout: u64,
    },
}

#[derive(Args)]
struct ScopeArgs {
    /// The cache that the topic belongs to
    #[arg(long, default_value = DEFAULT_CACHE)]
    cache: String,
    /// The topic
    #[arg(long, default_value = DEFAULT_TOPIC)]
    topic: String,
    /// The identifier that the token carries: at most 64 bytes without `/`
    #[arg(long, default_value = DEFAULT_TOKEN_ID)]
    token_id: String,
    /// How long the token lives, in seconds: at most 90000 (25 h)
    #[arg(long, default_value_t = DEFAULT_TTL.as_secs())]
    ttl: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    Publish,
    Subscribe,
    PublishSubscribe,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Publish => Self::Publish,
            RoleArg::Subscribe => Self::Subscribe,
            RoleArg::PublishSubscribe => Self::PublishSubscribe,
        }
    }
}

impl ScopeArgs {
    fn with(self, role: Role) -> (TokenScope, Duration) {
        let Self { cache, topic, token_id, ttl } = self;
        (TokenScope { token_id, cache, topic, role }, Duration::from_secs(ttl))
    }
}

/// Does what the command line asks, writing results to `out`.
///
/// # Errors
/// Whatever went wrong, in words for the person at the terminal.
pub async fn run(cli: Cli, lookup: Lookup<'_>, out: &mut impl Write) -> anyhow::Result<()> {
    let config = MomentoConfig::from_lookup(lookup)?;
    let account = account(lookup, &config).await?;
    match cli.command {
        Command::Token { scope, role } => {
            let (scope, ttl) = scope.with(role.into());
            let token = mint(&account, &scope, ttl).await?;
            let printed = json!({
                "token": token.token.expose_secret(),
                "endpoint": token.endpoint,
                "expiresAt": token.expires_at,
            });
            writeln!(out, "{printed}")?;
        }
        Command::Publish { scope, message } => {
            let (scope, ttl) = scope.with(Role::Publish);
            Publisher::new(config).publish(&account, scope, ttl, message, clock::now() / 1_000).await?;
        }
        Command::Listen { scope, text, count, timeout } => {
            let (scope, ttl) = scope.with(Role::Subscribe);
            let listening = listen(&account, &config, &scope, ttl, text, count, out);
            let timeout = Duration::from_secs(timeout);
            tokio::time::timeout(timeout, listening).await.context("there have not been enough messages in time")??;
        }
    }
    Ok(())
}

async fn account(lookup: Lookup<'_>, config: &MomentoConfig) -> anyhow::Result<Momento> {
    let key = if let Some(key) = optional(lookup, "MOMENTO_API_KEY") {
        key.into()
    } else if let Some(name) = optional(lookup, "MOMENTO_API_KEY_SECRET_NAME") {
        SecretsManager::new(&crate::aws::anywhere(config.certificates.as_deref()).await).current(&name).await?
    } else {
        anyhow::bail!("no Momento API key: set MOMENTO_API_KEY, or MOMENTO_API_KEY_SECRET_NAME to a secret's name")
    };
    Ok(Momento::new(Credentials::parse(&key, config)?, CALL)?)
}

async fn listen(
    account: &Momento,
    config: &MomentoConfig,
    scope: &TokenScope,
    ttl: Duration,
    text_alone: bool,
    count: Option<usize>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let token = mint(account, scope, ttl).await?;
    let left = Duration::from_secs(token.expires_at.saturating_sub(clock::now() / 1_000));
    let user = Momento::new(Credentials::parse(&token.token, config)?, CALL)?;
    let subscription = user.subscribe(&scope.cache, &scope.topic).await?;
    tracing::info!(cache = scope.cache, topic = scope.topic, "listening");
    let mut messages = subscription.take(count.unwrap_or(usize::MAX));
    let printing = async {
        while let Some(message) = messages.next().await {
            let line = match message.kind {
                ValueKind::Text(text) if text_alone => text,
                kind => line(message.topic_sequence_number, &message.publisher_id, kind),
            };
            writeln!(out, "{line}")?;
            out.flush()?; // whoever reads a pipe wants each message when it comes
        }
        anyhow::Ok(())
    };
    // The SDK would go on asking for ever with a token that has ended.
    tokio::time::timeout(left, printing).await.context("the token has ended: use a longer --ttl, or listen again")?
}

fn line(sequence: u64, publisher_id: &str, kind: ValueKind) -> String {
    let mut line = json!({ "sequence": sequence, "publisherId": publisher_id });
    match kind {
        ValueKind::Text(text) => line["text"] = text.into(),
        ValueKind::Binary(bytes) => line["hex"] = hex::encode(bytes).into(),
    }
    line.to_string()
}
