//! `relay dlq`: what is to become of dead letters. Works on the journal, whether the relay is running or not.

use std::io::Write;

use anyhow::bail;
use serde_json::json;

use super::Config;
use super::journal::{Filter, Journal, Letter};
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
    pub(crate) fn execute(self, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
        let Some(folder) = config.position.folder() else {
            bail!("without a journal on disk dead letters are kept by the running relay alone, and in its log");
        };
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
            Self::Redrive { which, allow_repeat } => {
                let horizon = |letter: &Letter| {
                    let route = |route: &&super::config::Route| {
                        (&route.cache, &route.topic, &route.name)
                            == (&letter.route.cache, &letter.route.topic, &letter.route.name)
                    };
                    let route = config.routes.iter().find(route);
                    route.map_or(super::config::MAX_HORIZON, |route| route.horizon).as_millis() as u64
                };
                let now = clock::now();
                let may = |letter: &Letter| {
                    let forgotten = |since: u64| now.saturating_sub(since) > horizon(letter);
                    allow_repeat || !letter.uncertain.is_some_and(forgotten)
                };
                let (mut done, mut old, mut binary) = (0, 0, 0);
                for_each(&mut store, &which.filter(), |store, letter| {
                    match (&letter.text, may(&letter)) {
                        (None, _) => binary += 1,
                        (_, false) => old += 1,
                        _ => done += u32::from(Letter::redrive(store, letter.id, allow_repeat)?),
                    }
                    Ok(())
                })?;
                writeln!(out, "{}", json!({ "redriven": done, "tooOld": old, "binary": binary }))?;
                if old > 0 {
                    bail!("{old} may have had their effect, longer ago than the receiver remembers: --allow-repeat");
                }
            }
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
