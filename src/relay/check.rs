//! `relay check`: is everything there that a delivery needs? Delivers nothing, and leaves nothing behind.

use std::io::Write;
use std::time::Duration;

use aws_config::SdkConfig;

use super::account::{Account, key};
use super::config::{Config, Route};
use super::subscribe;
use crate::delivery::{self, Outcome};
use crate::momento::Credentials;
use crate::secrets::{SecretsManager, SigningKey};
use crate::{clock, delivery::Post};

/// What a destination may take to say that it is there.
const DEADLINE: Duration = Duration::from_secs(10);

/// Says what is right and what is wrong, a line each.
///
/// # Errors
/// How many things are wrong, if any.
pub(crate) async fn check(mut config: Config, aws: &SdkConfig, out: &mut impl Write) -> anyhow::Result<()> {
    let mut faults = 0;
    let mut tell = |what: String, found: anyhow::Result<String>| {
        let line = match found {
            Ok(detail) => format!("ok    {what}: {detail}"),
            Err(error) => {
                faults += 1;
                format!("WRONG {what}: {error:#}")
            }
        };
        writeln!(out, "{line}")
    };
    let valid = config.check().map_err(Into::into).map(|()| format!("{} routes", config.routes.len()));
    tell("configuration".into(), valid)?;
    let manager = SecretsManager::new(aws);
    let account = account(&config, &manager).await;
    if let Err(error) = &account {
        tell("Momento API key".into(), Err(anyhow::anyhow!("{error:#}")))?;
    }
    if let Ok(account) = &account {
        for (cache, topic, _) in config.topics() {
            tell(format!("topic {cache}/{topic}"), subscribe::probe(account, &cache, &topic).await)?;
        }
    }
    for route in &config.routes {
        let name = format!("{}/{} ({})", route.cache, route.topic, route.name);
        tell(format!("signing secret of {name}"), secret(&config, route, &manager).await)?;
        tell(format!("destination of {name}"), destination(&config, route).await)?;
    }
    anyhow::ensure!(faults == 0, "{faults} of these have to be mended");
    Ok(())
}

/// The account as configured, for the command line.
pub(crate) async fn account(config: &Config, manager: &SecretsManager) -> anyhow::Result<Account> {
    let key = key(&config.account, manager).await?;
    Account::new(Credentials::parse(&key, &config.account.momento)?, 1)
}

async fn secret(config: &Config, route: &Route, manager: &SecretsManager) -> anyhow::Result<String> {
    let name = route.signing_secret.clone().or(config.account.signing_secret.clone());
    let name = name.ok_or_else(|| anyhow::anyhow!("none is named"))?;
    let key = SigningKey::new(manager.clone(), &name, &config.account.secrets);
    key.get(clock::now()).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(format!("{name} can be read"))
}

/// Posts `{}` without a signature, which a receiver must refuse: that it answers is what counts. Not an empty body: it would go
/// without a `content-length`, which some servers want.
async fn destination(config: &Config, route: &Route) -> anyhow::Result<String> {
    let reach = config.network.reach();
    reach.check(&route.url).map_err(|what| anyhow::anyhow!("the URL cannot be used: {what}"))?;
    let post = Post { url: route.url.clone(), headers: http::HeaderMap::new(), body: b"{}".to_vec() };
    match delivery::send(&delivery::client(reach, 1)?, post, DEADLINE).await {
        Outcome::Refused { status: 401 | 403, .. } => Ok("answers, and refuses what is not signed".into()),
        Outcome::Delivered => anyhow::bail!("it accepts what is not signed: anyone could send to it"),
        Outcome::Refused { status: status @ (300..=399 | 404 | 405 | 410), .. } => {
            anyhow::bail!("it answers {status}: is the URL right?")
        }
        Outcome::Refused { status, .. } => Ok(format!("answers, with {status} to what is not signed")),
        Outcome::TimedOut => anyhow::bail!("it does not answer within {} s", DEADLINE.as_secs()),
        Outcome::Forbidden => anyhow::bail!("its name leads to no address that may be used"),
        Outcome::Broken(error) => anyhow::bail!("it cannot be reached: {error}"),
    }
}
