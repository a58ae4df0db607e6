//! `relay dlq`: what is to become of dead letters. Works on the journal, whether the relay is running or not; where there is
//! no disk, on what Momento keeps.

mod in_momento;

use std::io::Write;

use anyhow::{bail, ensure};
use serde_json::{Value, json};

use super::config::{Config, MAX_HORIZON, Route};
use super::journal::{Filter, Journal, Letter, RouteName};
use crate::clock;

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
    pub(crate) async fn execute(self, mut config: Config, out: &mut impl Write) -> anyhow::Result<()> {
        if let Some(folder) = config.position.folder() {
            return self.on_disk(Journal::connect(folder)?, &config, out);
        }
        config.check()?;
        in_momento::execute(self, &config, out).await
    }

    fn on_disk(self, mut store: Store, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
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
}

fn redrive(
    store: &mut Store,
    which: Which,
    allow_repeat: bool,
    config: &Config,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let forgotten = |letter: &Letter| letter.uncertain.is_some_and(|since| is_forgotten(since, &letter.route, config));
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
    warn_of_old(old)
}

fn warn_of_old(old: u32) -> anyhow::Result<()> {
    ensure!(old == 0, "{old} may have had their effect, longer ago than the receiver remembers: --allow-repeat");
    Ok(())
}

/// Is it longer ago than a route's receiver can be relied on to remember?
fn is_forgotten(since: u64, name: &RouteName, config: &Config) -> bool {
    let is_it = |route: &&Route| (&route.cache, &route.topic, &route.name) == (&name.cache, &name.topic, &name.name);
    let horizon = config.routes.iter().find(is_it).map_or(MAX_HORIZON, |route| route.horizon);
    clock::now().saturating_sub(since) > horizon.as_millis() as u64
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

/// All but what it says.
fn summary(letter: &Letter) -> Value {
    let mut summary = whole(letter);
    if let Some(fields) = summary.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "text" | "bytes" | "tokenId"));
    }
    summary
}

fn whole(letter: &Letter) -> Value {
    let mut whole = json!(letter);
    whole["binary"] = letter.bytes.is_some().into();
    whole
}
