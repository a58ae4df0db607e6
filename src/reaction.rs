//! What an application does with an event: the one trait that it implements.

mod course_comments;

use std::collections::BTreeMap;
use std::error::Error;

use serde_json::{Map, Value};

pub use course_comments::{CourseComments, CourseCommentsConfig};

use crate::event::{Event, EventId};
use crate::momento::{self, Momento};

/// Reacts to events, each for the user who caused it.
///
/// The event is genuine and fresh, and the user's data has been read by then. There are three ways out: `Ok(())` is
/// *done*, and the sender hears 200; [`Unprocessed::Rejected`] means that no attempt can succeed, and the sender hears
/// 422; [`Unprocessed::Failed`] means that another attempt may, and the sender hears 503. Answer `Ok` only when the
/// effect is there: nobody sends the event again after that.
///
/// ```
/// use momento_webhook::reaction::{Incoming, Reaction, Unprocessed};
///
/// /// Keeps the last message of each user.
/// struct LastMessage;
///
/// impl Reaction for LastMessage {
///     async fn react(&self, incoming: Incoming<'_>) -> Result<(), Unprocessed> {
///         let event = incoming.event;
///         let list = format!("last/{}", event.token_id);
///         let bounds = momento_webhook::momento::ListBounds { ttl: std::time::Duration::from_secs(3600), newest: 1 };
///         incoming.momento.list_push_front(&event.cache, &list, event.text.as_bytes(), bounds).await?;
///         Ok(())
///     }
/// }
/// ```
pub trait Reaction: Send + Sync + 'static {
    /// Reacts to one event.
    fn react(&self, incoming: Incoming<'_>) -> impl Future<Output = Result<(), Unprocessed>> + Send;
}

/// An event on its way into a [`Reaction`], with what has been found out about it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Incoming<'a> {
    /// What was published.
    pub event: &'a Event,
    /// The same for every attempt at this event, and for no other event.
    pub id: EventId,
    /// The data of the user whose token published the event; `None` where there is none, or the token named no one.
    pub user: Option<&'a User>,
    /// The caches and topics to react with.
    pub momento: &'a Momento,
    /// Has there been an attempt at this event that did not end well? It may have had its effect, or a part of it: look
    /// before you repeat what must not happen twice.
    pub takes_over: bool,
}

/// What is known of a user: the JSON document under `user/<token_id>`.
#[derive(Clone, PartialEq, Eq)]
pub struct User(Map<String, Value>);

impl User {
    /// Reads a user's document; `None` where it is not a JSON object.
    pub fn from_json(document: &[u8]) -> Option<Self> {
        serde_json::from_slice(document).ok().map(Self)
    }

    /// A field of the document.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field)
    }

    /// Those of the named fields that there are: what others may see is chosen, never the rest.
    pub fn only<'a>(&'a self, fields: &'a [String]) -> BTreeMap<&'a str, &'a Value> {
        fields.iter().filter_map(|field| Some((field.as_str(), self.get(field)?))).collect()
    }
}

/// A user's data stays out of logs.
impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User(redacted)")
    }
}

/// An event was not processed.
#[derive(Debug, thiserror::Error)]
pub enum Unprocessed {
    /// No attempt can succeed: the event's `text` is not what the application reads.
    #[error("the field `{field}` is not valid: expected {expected}")]
    Rejected {
        /// The field.
        field: &'static str,
        /// What belongs there. The sender reads it.
        expected: &'static str,
    },
    /// Another attempt may succeed. The sender learns no more than that; the log has the error's message.
    #[error("{0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

impl From<momento::Error> for Unprocessed {
    fn from(error: momento::Error) -> Self {
        Self::Failed(Box::new(error))
    }
}
