//! The letters of a relay without a disk. It may be gone, so they are delivered from here.

use std::io::Write;

use anyhow::{Context, bail};
use aws_config::SdkConfig;
use serde_json::json;

use super::super::account::Account;
use super::super::check::account;
use super::super::config::{Config, Route};
use super::super::fate::Fate;
use super::super::journal::{Letter, Pending, RouteName};
use super::super::letterbox::{self, Kept};
use super::super::sender::Sender;
use super::{Letters, is_forgotten, summary, warn_of_old, whole};
use crate::aws;
use crate::secrets::SecretsManager;

struct InMomento<'a> {
    config: &'a Config,
    aws: SdkConfig,
    manager: SecretsManager,
    account: Account,
}

pub(super) async fn execute(letters: Letters, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let aws = aws::anywhere(config.account.momento.certificates.as_deref()).await;
    let manager = SecretsManager::new(&aws);
    let account = account(config, &manager).await?;
    let momento = InMomento { config, aws, manager, account };
    let kept = momento.read().await?;
    match letters {
        Letters::List { limit } => {
            for kept in kept.iter().take(limit) {
                writeln!(out, "{}", summary(&kept.letter))?;
            }
        }
        Letters::Show { id } => match kept.iter().find(|kept| kept.letter.id == id) {
            Some(kept) => writeln!(out, "{}", whole(&kept.letter))?,
            None => bail!("there is no dead letter {id}"),
        },
        Letters::Redrive { which, allow_repeat } => {
            let which = which.filter();
            momento.redrive(kept.iter().filter(|kept| which.takes(&kept.letter)), allow_repeat, out).await?;
        }
        Letters::Purge { which } => {
            let (which, mut done) = (which.filter(), 0);
            for kept in kept.iter().filter(|kept| which.takes(&kept.letter)) {
                momento.remove(kept).await?;
                done += 1;
            }
            writeln!(out, "{}", json!({ "purged": done }))?;
        }
    }
    Ok(())
}

impl InMomento<'_> {
    /// The letters of all routes that are configured.
    async fn read(&self) -> anyhow::Result<Vec<Kept>> {
        let mut letters = Vec::new();
        for Route { cache, topic, name, .. } in &self.config.routes {
            let route = RouteName { cache: cache.clone(), topic: topic.clone(), name: name.clone() };
            letters.extend(letterbox::read(&self.account, self.cache(), &route).await?);
        }
        Ok(letters)
    }

    async fn remove(&self, kept: &Kept) -> anyhow::Result<()> {
        letterbox::remove(&self.account, self.cache(), kept).await.context("a letter could not be removed")
    }

    fn cache(&self) -> Option<&str> {
        self.config.position.cache.as_deref()
    }

    /// One attempt at each. The destination's own fault ends it: what is left would fare no better.
    async fn redrive(
        &self,
        letters: impl Iterator<Item = &Kept>,
        allow_repeat: bool,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let senders = self.config.routes.iter().map(|route| Sender::new(self.config, route, &self.aws, &self.manager));
        let senders = senders.collect::<Result<Vec<Sender>, _>>()?;
        let (mut done, mut old, mut refused, mut binary, mut fault) = (0, 0, 0, 0, None);
        for kept in letters {
            let letter = &kept.letter;
            if letter.text.is_none() {
                binary += 1;
                continue;
            }
            // What was attempted from here is not in the letter; it was after its death.
            let since = letter.uncertain.unwrap_or(letter.died);
            if !allow_repeat && is_forgotten(since, &letter.route, self.config) {
                old += 1;
                continue;
            }
            let Some(sender) = senders.iter().find(|sender| sender.name == letter.route) else { continue };
            match sender.attempt(&pending(letter), letter.attempts + 1).await {
                Fate::Delivered => {
                    self.remove(kept).await?;
                    done += 1;
                }
                Fate::Dead(_) => refused += 1,
                Fate::Fault(reason) | Fate::Retry { reason, .. } => {
                    fault = Some(reason);
                    break;
                }
            }
        }
        writeln!(out, "{}", json!({ "redriven": done, "tooOld": old, "refused": refused, "binary": binary }))?;
        if let Some(reason) = fault {
            bail!("the destination does not take them: {reason}");
        }
        warn_of_old(old)
    }
}

fn pending(letter: &Letter) -> Pending {
    Pending {
        id: letter.id,
        place: letter.place,
        received: letter.received,
        token_id: letter.token_id.clone(),
        text: letter.text.clone().unwrap_or_default(), // a binary one does not come here
        binary: None,
        attempts: letter.attempts,
        uncertain: letter.uncertain,
    }
}
