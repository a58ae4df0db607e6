//! The application that we ship: users comment on courses, as in Momento's original example.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Incoming, Reaction, Unprocessed};
use crate::config::{ConfigError, Lookup, number, optional};
use crate::momento::{self, ListBounds, Momento};

/// Keeps the newest comments of each course, with who wrote them, and tells the feed about each.
///
/// A message is `{"courseId": number or string, "comment": string}`. The comment goes to the front of the list that is
/// named after the course, in the event's own cache.
#[derive(Clone, Debug)]
pub struct CourseComments {
    config: CourseCommentsConfig,
}

/// What may be set about course comments.
#[derive(Clone, Debug)]
pub struct CourseCommentsConfig {
    /// `USER_PUBLIC_FIELDS`: the fields of the user's data that others may see; `name` where it is not set.
    pub public_fields: Vec<String>,
    /// `FEED_TOPIC`: the topic, in the event's cache, on which each comment is published; none where it is not set.
    pub feed_topic: Option<String>,
    /// `COMMENTS_KEPT`: how many comments of a course stay, 100 where it is not set; and `COMMENTS_TTL_SECONDS`: how
    /// long they do after the last one, 24 h where it is not set.
    pub bounds: ListBounds,
}

impl CourseCommentsConfig {
    /// Reads the application's variables.
    ///
    /// # Errors
    /// [`ConfigError`] for a value out of range.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let public_fields = optional(lookup, "USER_PUBLIC_FIELDS").unwrap_or_else(|| "name".into());
        let newest = number(lookup, "COMMENTS_KEPT", 100, 1..=10_000, "a number from 1 to 10000")?;
        let ttl =
            number(lookup, "COMMENTS_TTL_SECONDS", 86_400, 1..=86_400, "a number of seconds from 1 to 86400 (24 h)")?;
        Ok(Self {
            public_fields: public_fields.split(',').map(|field| field.trim().to_owned()).collect(),
            feed_topic: optional(lookup, "FEED_TOPIC"),
            bounds: ListBounds { ttl: Duration::from_secs(ttl), newest: newest as u32 },
        })
    }
}

/// What is stored, and told to the feed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    id: String,
    #[serde(rename = "userID")] // as the original example spells it
    user_id: &'a str,
    comment: &'a str,
    user: Option<BTreeMap<&'a str, &'a Value>>,
    /// Epoch milliseconds.
    published_at: u64,
    sequence: u64,
}

impl CourseComments {
    /// The application, as configured.
    pub fn new(config: CourseCommentsConfig) -> Self {
        Self { config }
    }
}

impl Reaction for CourseComments {
    async fn react(&self, incoming: Incoming<'_>) -> Result<(), Unprocessed> {
        let Incoming { event, id, user, momento, takes_over } = incoming;
        let message = Message::parse(&event.text)?;
        let entry = Entry {
            id: id.to_string(),
            user_id: &event.token_id,
            comment: &message.comment,
            user: user.map(|user| user.only(&self.config.public_fields)),
            published_at: event.event_timestamp,
            sequence: event.topic_sequence_number,
        };
        let entry = serde_json::to_string(&entry).map_err(|error| Unprocessed::Failed(error.into()))?;
        let list = Entries { momento, cache: &event.cache, list: &message.course_id, bounds: self.config.bounds };
        if !(takes_over && list.contain(&id.to_string()).await?) {
            list.push(&entry).await?;
        }
        if let Some(topic) = &self.config.feed_topic {
            momento.publish(&event.cache, topic, entry).await?; // after the push: what is announced is there
        }
        Ok(())
    }
}

/// How many entries are read at a time: at 512 KiB each, the largest body that may be accepted, they fit into one answer.
const PAGE: u32 = 16;

/// The comments of one course.
struct Entries<'a> {
    momento: &'a Momento,
    cache: &'a str,
    list: &'a str,
    bounds: ListBounds,
}

impl Entries<'_> {
    async fn push(&self, entry: &str) -> Result<(), momento::Error> {
        self.momento.list_push_front(self.cache, self.list, entry.as_bytes(), self.bounds).await
    }

    /// Is the entry there that an attempt before this one may have pushed?
    async fn contain(&self, id: &str) -> Result<bool, momento::Error> {
        #[derive(Deserialize)]
        struct Known {
            id: String,
        }
        // All that are kept, page by page. What is pushed meanwhile moves entries on, to a later page and never to an earlier.
        for start in (0..self.bounds.newest).step_by(PAGE as usize) {
            let page = self.momento.list_range(self.cache, self.list, start, PAGE).await?;
            if page.iter().any(|entry| serde_json::from_slice(entry).is_ok_and(|known: Known| known.id == id)) {
                return Ok(true);
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
        Ok(false)
    }
}

/// What a user publishes.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    course_id: String,
    comment: String,
}

impl Message {
    fn parse(text: &str) -> Result<Self, Unprocessed> {
        let rejected = |field, expected| Unprocessed::Rejected { field, expected };
        let mut fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| rejected("text", r#"JSON {"courseId","comment"}"#))?;
        let course_id = match fields.remove("courseId") {
            Some(Value::Number(id)) => id.to_string(),
            Some(Value::String(id)) => id,
            _ => String::new(),
        };
        // The id becomes the key of a list, where it must not reach what lies under `user/` or `claim/`.
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
        if !(1..=64).contains(&course_id.len()) || !course_id.bytes().all(allowed) {
            return Err(rejected("courseId", "a whole number, or 1 to 64 of the characters A-Z a-z 0-9 _ -"));
        }
        let Some(Value::String(comment)) = fields.remove("comment") else {
            return Err(rejected("comment", "a string"));
        };
        Ok(Self { course_id, comment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_rejected(text: &str) -> Option<&'static str> {
        match Message::parse(text) {
            Err(Unprocessed::Rejected { field, .. }) => Some(field),
            _ => None,
        }
    }

    #[test]
    fn a_course_is_named_by_a_number_or_a_word() {
        for (id, course) in [
            ("123", "123"),
            (r#""rust-101_b""#, "rust-101_b"),
            ("-5", "-5"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            let message = Message::parse(&format!(r#"{{"courseId":{id},"comment":"","more":[]}}"#)).ok();
            assert_eq!(message, Some(Message { course_id: course.into(), comment: String::new() }));
        }
    }

    #[test]
    fn what_cannot_be_read_names_the_field() {
        for text in ["", "hello", "[]", r#"{"courseId":1"#, "null", r#"["1","x"]"#] {
            assert_eq!(field_rejected(text), Some("text"), "{text}");
        }
        let long = format!("{:?}", "x".repeat(65));
        for id in ["null", "1.5", "1e300", "true", "{}", r#""""#, r#""user/taylor""#, r#""a b""#, r#""é""#, &long] {
            assert_eq!(field_rejected(&format!(r#"{{"courseId":{id},"comment":"x"}}"#)), Some("courseId"), "{id}");
        }
        assert_eq!(field_rejected(r#"{"comment":"x"}"#), Some("courseId"));
        for comment in ["null", "1", "[]"] {
            assert_eq!(field_rejected(&format!(r#"{{"courseId":1,"comment":{comment}}}"#)), Some("comment"));
        }
        assert_eq!(field_rejected(r#"{"courseId":1}"#), Some("comment"));
    }
}
