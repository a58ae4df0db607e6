//! What keeps the relay from being ready, if anything: one line for each cause, for `/readyz` and for the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often what is still wrong is said again.
const REPEAT: Duration = Duration::from_secs(30);

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Health(Arc<Mutex<BTreeMap<String, String>>>);

impl Health {
    /// `part` does not work, for this reason. Said at once, unless it is known.
    pub(crate) fn set(&self, part: &str, reason: impl Into<String>) {
        let reason = reason.into();
        let known = self.lock().insert(part.to_owned(), reason.clone());
        if known.is_none_or(|known| known != reason) {
            tracing::error!(part, "not ready: {reason}");
        }
    }

    /// `part` works.
    pub(crate) fn clear(&self, part: &str) {
        if self.lock().remove(part).is_some() {
            tracing::info!(part, "works again");
        }
    }

    /// What is wrong, by part.
    pub(crate) fn problems(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    /// Says again and again what is wrong, for an alarm that counts lines.
    pub(crate) async fn repeat(self) {
        loop {
            tokio::time::sleep(REPEAT).await;
            for (part, reason) in self.problems() {
                tracing::error!(part, "not ready: {reason}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
