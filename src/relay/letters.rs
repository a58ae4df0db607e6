//! `relay dlq`: what is to become of dead letters. Works on the journal, whether the relay is running or not.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use serde_json::json;

use super::check::account;
use super::config::{Config, MAX_HORIZON, Route};
use super::journal::{Filter, Journal, Letter, RouteName};
use super::letterbox;
use crate::secrets::SecretsManager;
use crate::{aws, clock};

/// How many letters are taken from the journal at a time.
const AT_ONCE: usize = 1_000;

#[derive(clap::Subcommand)]
pub(crate) enum Letters {
    /// One JSON line for each, without what it says.
    List {
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// All of one, what it says included.
    Show {
        /// Its number, as `list` shows it.
        id: i64,
    },
    /// Deliver again.
    Redrive {
        #[command(flatten)]
        which: Which,
        /// Even where the receiver no longer remembers whether an earlier attempt had its effect.
        #[arg(long)]
        allow_repeat: bool,
    },
    /// Delete.
    Purge {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Their numbers.
    ids: Vec<i64>,
    /// All of them.
    #[arg(long)]
    all: bool,
}

impl Which {
    fn filter(self) -> Filter {
        if self.all { Filter::All } else { Filter::Ids(self.ids) }
    }
}

impl Letters {
    pub(crate) async fn execute(self, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
        let Some(folder) = config.position.folder() else { return self.without_disk(config, out).await };
        let mut store = Journal::connect(folder)?;
        match self {
            Self::List { limit } => {
                for letter in Letter::list(&store, &Filter::All, limit)? {
                    writeln!(out, "{}", summary(&letter))?;
                }
            }
            Self::Show { id } => match Letter::list(&store, &Filter::Ids(vec![id]), 1)?.first() {
                Some(letter) => writeln!(out, "{}", whole(letter))?,
                None => bail!("there is no dead letter {id}"),
            },
            Self::Redrive { which, allow_repeat } => redrive(&mut store, which, allow_repeat, config, out)?,
            Self::Purge { which } => {
                let mut done = 0;
                for_each(&mut store, &which.filter(), |store, letter| {
                    done += u32::from(Letter::purge(store, letter.id)?);
                    Ok(())
                })?;
                writeln!(out, "{}", json!({ "purged": done }))?;
            }
        }
        Ok(())
    }

    /// What Momento keeps of a relay that has no disk can be read, and no more.
    async fn without_disk(self, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
        let account = account(config, &SecretsManager::new(&aws::anywhere().await)).await?;
        let mut letters = Vec::new();
        for Route { cache, topic, name, .. } in &config.routes {
            let route = RouteName { cache: cache.clone(), topic: topic.clone(), name: name.clone() };
            letters.extend(letterbox::read(&account.momento, &route, config.position.cache.as_deref()).await?);
        }
        match self {
            Self::List { limit } => {
                for mut letter in letters.into_iter().take(limit) {
                    if let Some(letter) = letter.as_object_mut() {
                        letter.retain(|name, _| !matches!(name.as_str(), "text" | "tokenId"));
                    }
                    writeln!(out, "{letter}")?;
                }
                Ok(())
            }
            Self::Show { id } => match letters.iter().find(|letter| letter["id"] == id) {
                Some(letter) => Ok(writeln!(out, "{letter}")?),
                None => bail!("there is no dead letter {id}"),
            },
            Self::Redrive { .. } | Self::Purge { .. } => {
                bail!("without a journal on disk dead letters can be listed and shown only; they go after a day")
            }
        }
    }
}

fn redrive(
    store: &mut Store,
    which: Which,
    allow_repeat: bool,
    config: &Config,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let now = clock::now();
    let forgotten = |letter: &Letter| {
        let horizon = horizon(&letter.route, config).as_millis() as u64;
        letter.uncertain.is_some_and(|since| now.saturating_sub(since) > horizon)
    };
    let (mut done, mut old, mut binary) = (0, 0, 0);
    for_each(store, &which.filter(), |store, letter| {
        match letter.text {
            None => binary += 1,
            Some(_) if !allow_repeat && forgotten(&letter) => old += 1,
            Some(_) => done += u32::from(Letter::redrive(store, letter.id, allow_repeat)?),
        }
        Ok(())
    })?;
    writeln!(out, "{}", json!({ "redriven": done, "tooOld": old, "binary": binary }))?;
    if old > 0 {
        bail!("{old} may have had their effect, longer ago than the receiver remembers: --allow-repeat");
    }
    Ok(())
}

/// How long a route's receiver can be relied on to remember.
fn horizon(name: &RouteName, config: &Config) -> Duration {
    let is_it = |route: &&Route| (&route.cache, &route.topic, &route.name) == (&name.cache, &name.topic, &name.name);
    config.routes.iter().find(is_it).map_or(MAX_HORIZON, |route| route.horizon)
}

type Store = rusqlite::Connection;

fn for_each(
    store: &mut Store,
    which: &Filter,
    mut act: impl FnMut(&mut Store, Letter) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    // Those that stay are passed over by their number.
    let mut after = 0;
    loop {
        let letters = Letter::list_after(store, which, after, AT_ONCE)?;
        let Some(last) = letters.last() else { return Ok(()) };
        after = last.id;
        for letter in letters {
            act(store, letter)?;
        }
    }
}

fn summary(letter: &Letter) -> serde_json::Value {
    json!({
        "id": letter.id,
        "cache": letter.route.cache,
        "topic": letter.route.topic,
        "route": letter.route.name,
        "page": letter.place.page,
        "number": letter.place.number,
        "received": letter.received,
        "died": letter.died,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "binary": letter.text.is_none(),
    })
}

fn whole(letter: &Letter) -> serde_json::Value {
    let mut whole = summary(letter);
    whole["tokenId"] = letter.token_id.clone().into();
    whole["text"] = letter.text.clone().into();
    whole
}
