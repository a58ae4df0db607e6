//! Dead letters: what no attempt could deliver, kept until somebody decides.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::super::cursor::Place;
use super::RouteName;

/// A dead letter.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Letter {
    pub(crate) id: i64,
    #[serde(flatten)]
    pub(crate) route: RouteName,
    #[serde(flatten)]
    pub(crate) place: Place,
    pub(crate) received: u64,
    pub(crate) died: u64,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
    /// Since when, in epoch milliseconds, an attempt may have had its effect without our knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uncertain: Option<u64>,
    pub(crate) token_id: String,
    /// `None`: it is binary.
    pub(crate) text: Option<String>,
    /// What is binary, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<String>,
}

/// Which letters.
pub(crate) enum Filter {
    All,
    Ids(Vec<i64>),
}

impl Filter {
    pub(crate) fn takes(&self, letter: &Letter) -> bool {
        match self {
            Self::All => true,
            Self::Ids(ids) => ids.contains(&letter.id),
        }
    }

    fn condition(&self) -> String {
        match self {
            Self::All => "1".into(),
            Self::Ids(ids) => format!("dead.id IN ({})", vec!["?"; ids.len()].join(",")),
        }
    }

    fn values(&self) -> &[i64] {
        match self {
            Self::All => &[],
            Self::Ids(ids) => ids,
        }
    }
}

impl Letter {
    pub(crate) fn bytes(binary: impl AsRef<[u8]>) -> String {
        STANDARD.encode(binary)
    }

    /// The letters, the oldest first, at most `limit`.
    pub(crate) fn list(store: &Connection, which: &Filter, limit: usize) -> rusqlite::Result<Vec<Self>> {
        Self::list_after(store, which, 0, limit)
    }

    /// The letters with larger numbers than `after`.
    pub(crate) fn list_after(
        store: &Connection,
        which: &Filter,
        after: i64,
        limit: usize,
    ) -> rusqlite::Result<Vec<Self>> {
        let sql = format!(
            "SELECT dead.id, cache, topic, name, page, number, dead.received, died, attempts, reason, uncertain, token_id, text, binary
             FROM dead JOIN route ON route.id = dead.route WHERE {} AND dead.id > {after} ORDER BY dead.id LIMIT {limit}",
            which.condition()
        );
        store.prepare(&sql)?.query_map(params_from_iter(which.values()), Self::read)?.collect()
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |column: usize| row.get::<_, i64>(column).map(|number| number as u64);
        Ok(Self {
            id: row.get(0)?,
            route: RouteName { cache: row.get(1)?, topic: row.get(2)?, name: row.get(3)? },
            place: Place { page: number(4)?, number: number(5)? },
            received: number(6)?,
            died: number(7)?,
            attempts: row.get(8)?,
            reason: row.get(9)?,
            uncertain: row.get::<_, Option<i64>>(10)?.map(|at| at as u64),
            token_id: row.get(11)?,
            text: row.get(12)?,
            bytes: row.get::<_, Option<Vec<u8>>>(13)?.map(Self::bytes),
        })
    }

    /// Puts it back among what is to be delivered. `false` where it is gone, or binary. `afresh` forgets that an earlier
    /// attempt may have had its effect.
    pub(crate) fn redrive(store: &mut Connection, id: i64, afresh: bool) -> rusqlite::Result<bool> {
        let transaction = store.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let moved = transaction.execute(
            "INSERT INTO pending (route, page, number, received, token_id, text, uncertain, redriven)
             SELECT route, page, number, received, token_id, text, CASE WHEN ?2 THEN NULL ELSE uncertain END, 1
             FROM dead WHERE id = ?1 AND text IS NOT NULL",
            params![id, afresh],
        )?;
        if moved == 1 {
            transaction.execute("DELETE FROM dead WHERE id = ?1", [id])?;
        }
        transaction.commit()?;
        Ok(moved == 1)
    }

    /// Deletes it, and counts it. `false` where it is gone.
    pub(crate) fn purge(store: &mut Connection, id: i64) -> rusqlite::Result<bool> {
        let transaction = store.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let sql = "DELETE FROM dead WHERE id = ?1 RETURNING route";
        let route = transaction.query_row(sql, [id], |row| row.get::<_, i64>(0)).optional()?;
        if let Some(route) = route {
            transaction.execute("UPDATE route SET purged = purged + 1 WHERE id = ?1", params![route])?;
        }
        transaction.commit()?;
        Ok(route.is_some())
    }
}
