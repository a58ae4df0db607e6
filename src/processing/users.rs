//! The data of the user whose token published an event.

use crate::config::UserConfig;
use crate::event::Event;
use crate::momento::Momento;
use crate::reaction::User;

use super::Fault;

pub(super) struct Users {
    config: UserConfig,
}

impl Users {
    pub(super) fn new(config: UserConfig) -> Self {
        Self { config }
    }

    /// Reads `user/<token_id>`. An empty `token_id` or a miss is no user, and no error; a document that cannot be read
    /// is one, since acting as though there were none would be wrong, and mending it lets the event through.
    pub(super) async fn read(&self, momento: &Momento, event: &Event) -> Result<Option<User>, Fault> {
        if event.token_id.is_empty() {
            return Ok(None);
        }
        let cache = self.config.cache.as_deref().unwrap_or(&event.cache);
        let key = format!("{}{}", self.config.key_prefix, event.token_id);
        // A read that came too late had no effect that could be unknown.
        let read = momento.get(cache, &key).await.map_err(|error| Fault::Failed(error.into()))?;
        let Some(document) = read else { return Ok(None) };
        let user = User::from_json(&document)
            .ok_or_else(|| Fault::Failed("the user's data is not a JSON object: mend or delete it".into()))?;
        Ok(Some(user))
    }
}
