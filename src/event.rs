//! What was published, by whom, where: one message on a topic, as a webhook carries it.
//!
//! [`Event`] is the wire format, byte for byte: compact JSON, these fields in this order and no others. Some receivers
//! parse the body and write it again before they check its signature, so a sender must produce exactly that form.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::signature::Verified;

/// How old an event may be, by `publish_timestamp`, in milliseconds: Momento's advice to receivers.
pub const MAX_AGE_MS: u64 = 60_000;
/// How far ahead of this clock a sender's may be, in milliseconds.
pub const MAX_SKEW_MS: u64 = 5_000;
/// The longest `token_id` that Momento takes, in bytes.
pub const MAX_TOKEN_ID: usize = 64;

/// A message published on a topic.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The cache that the topic belongs to.
    pub cache: String,
    /// The topic that the message was published on.
    pub topic: String,
    /// When the message was received from the publisher, in epoch milliseconds. The same on every attempt.
    pub event_timestamp: u64,
    /// When this delivery was attempted, in epoch milliseconds.
    pub publish_timestamp: u64,
    /// The message's number on its topic. Not unique: it restarts when a topic has been idle.
    pub topic_sequence_number: u64,
    /// The identifier that the publisher's token carries; empty when it carries none.
    pub token_id: String,
    /// The published message.
    pub text: String,
}

/// `text` is what a user wrote, and stays out of logs.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("id", &self.id()).field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// A verified body is not an event. Names the field, never its value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The body is not JSON, or not a JSON object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// A field is missing or `null`.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// A field is of the wrong type, stands there twice, or holds what it may not hold.
    #[error("the field `{0}` is not valid: expected {1}")]
    Invalid(&'static str, &'static str),
}

/// An event is refused for its age, or for coming from the future.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFresh {
    /// `publish_timestamp` lies more than [`MAX_AGE_MS`] back: perhaps a replay.
    #[error("the event is too old")]
    TooOld,
    /// `publish_timestamp` lies more than [`MAX_SKEW_MS`] ahead.
    #[error("the event comes from the future")]
    FromTheFuture,
}

/// Reads an event from a body whose signature holds.
///
/// Fields that are not known are passed over, so that a sender may add some.
///
/// # Errors
/// [`Malformed`], which names the field.
///
/// ```
/// use momento_webhook::{event, signature::{Secret, Signature, sign, verify}};
///
/// let body = br#"{"cache":"course-comments","topic":"comment","event_timestamp":1,"publish_timestamp":2,"topic_sequence_number":3,"token_id":"taylor","text":"hello"}"#;
/// let secret = Secret::new("1234567890")?;
/// let signature = Signature::from_hex(sign(&secret, body)).ok_or("not a signature")?;
///
/// let verified = verify(&secret, &signature, body).ok_or("not signed with this secret")?;
/// let event = event::parse(&verified)?;
/// assert_eq!(event.token_id, "taylor");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn parse(verified: &Verified<'_>) -> Result<Event, Malformed> {
    let body = verified.body().trim_ascii_start();
    if !body.starts_with(b"{") {
        return Err(Malformed::NotAnObject); // serde would take an array of the right values for the struct
    }
    let wire: Wire = serde_json::from_slice(body).map_err(|_| fault(body))?;
    let event = Event {
        cache: wire.cache,
        topic: wire.topic,
        event_timestamp: wire.event_timestamp,
        publish_timestamp: wire.publish_timestamp,
        topic_sequence_number: wire.topic_sequence_number,
        token_id: wire.token_id,
        text: wire.text,
    };
    if !is_cache_name(&event.cache) {
        return Err(Malformed::Invalid("cache", "the name of a cache: printable ASCII")); // no other can be asked for
    }
    if !is_token_id(&event.token_id) {
        return Err(Malformed::Invalid("token_id", "at most 64 bytes without `/` or control characters"));
    }
    Ok(event)
}

/// Can this be the name of a cache? Calls carry it in a header.
pub(crate) fn is_cache_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_graphic() || c == b' ')
}

/// May this be the identifier in a token? It becomes the last part of a key (`user/<token_id>`), so it may not hold the
/// separator. Empty is allowed: the token carries none.
pub fn is_token_id(token_id: &str) -> bool {
    token_id.len() <= MAX_TOKEN_ID && !token_id.contains(|c: char| c == '/' || c.is_control())
}

#[derive(Deserialize)]
struct Wire {
    cache: String,
    topic: String,
    event_timestamp: u64,
    publish_timestamp: u64,
    topic_sequence_number: u64,
    token_id: String,
    text: String,
}

/// Says what is wrong with a body that is no event. serde's own message would quote the offending value.
fn fault(body: &[u8]) -> Malformed {
    use serde_json::Value;

    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return Malformed::NotAnObject };
    const TEXTS: [&str; 4] = ["cache", "topic", "token_id", "text"];
    const NUMBERS: [&str; 3] = ["event_timestamp", "publish_timestamp", "topic_sequence_number"];
    for name in TEXTS.into_iter().chain(NUMBERS) {
        match fields.get(name) {
            None | Some(Value::Null) => return Malformed::Missing(name),
            Some(value) if TEXTS.contains(&name) && !value.is_string() => return Malformed::Invalid(name, "a string"),
            Some(value) if NUMBERS.contains(&name) && !value.is_u64() => {
                return Malformed::Invalid(name, "a whole number, not negative");
            }
            Some(_) => {}
        }
    }
    Malformed::Invalid("(one of them)", "each field once") // every value is right by itself: one stands there twice
}

impl Event {
    /// The body to sign and to send.
    pub fn to_body(&self) -> Vec<u8> {
        #[allow(clippy::expect_used, reason = "strings and numbers always serialise")]
        serde_json::to_vec(self).expect("strings and numbers always serialise")
    }

    /// Was this attempt made just now? `now` in epoch milliseconds.
    ///
    /// # Errors
    /// [`NotFresh`], when it lies outside [`MAX_AGE_MS`] back and [`MAX_SKEW_MS`] ahead.
    pub fn check_freshness(&self, now: u64) -> Result<(), NotFresh> {
        if now.saturating_sub(self.publish_timestamp) > MAX_AGE_MS {
            Err(NotFresh::TooOld)
        } else if self.publish_timestamp.saturating_sub(now) > MAX_SKEW_MS {
            Err(NotFresh::FromTheFuture)
        } else {
            Ok(())
        }
    }

    /// What makes this event itself, whatever the attempt.
    pub fn id(&self) -> EventId {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes()); // without the length, ("ab","c") would equal ("a","bc")
            hash.update(bytes);
        };
        part(self.cache.as_bytes());
        part(self.topic.as_bytes());
        part(&self.topic_sequence_number.to_be_bytes());
        part(&self.event_timestamp.to_be_bytes());
        part(self.token_id.as_bytes());
        part(self.text.as_bytes());
        EventId(hash.finalize().into())
    }
}

/// Identifies an event across every attempt to deliver it: SHA-256 over all its fields but `publish_timestamp`.
/// Printed as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId([u8; 32]);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::signature::{Secret, Signature, sign, verify};

    fn parse_signed(body: &[u8]) -> Result<Event, Malformed> {
        let secret = Secret::new("secret").unwrap();
        let signature = Signature::from_hex(sign(&secret, body)).unwrap();
        parse(&verify(&secret, &signature, body).unwrap())
    }

    fn event() -> Event {
        Event {
            cache: "course-comments".into(),
            topic: "comment".into(),
            event_timestamp: 1_700_000_000_000,
            publish_timestamp: 1_700_000_000_001,
            topic_sequence_number: 7,
            token_id: "taylor".into(),
            text: r#"{"courseId":123}"#.into(),
        }
    }

    const WIRE: &str = r#"{"cache":"course-comments","topic":"comment","event_timestamp":1700000000000,"publish_timestamp":1700000000001,"topic_sequence_number":7,"token_id":"taylor","text":"{\"courseId\":123}"}"#;

    #[test]
    fn the_wire_format_is_exact() {
        assert_eq!(String::from_utf8(event().to_body()).unwrap(), WIRE);
        assert_eq!(parse_signed(WIRE.as_bytes()), Ok(event()));
    }

    #[test]
    fn an_unknown_field_is_passed_over() {
        assert_eq!(parse_signed(WIRE.replacen('{', r#"{"new":[1],"#, 1).as_bytes()), Ok(event()));
    }

    #[test]
    fn a_fault_names_the_field_and_not_its_value() {
        let field = |name: &str, value: &str| {
            let mut body: serde_json::Value = serde_json::from_str(WIRE).unwrap();
            body[name] = serde_json::from_str(value).unwrap();
            parse_signed(body.to_string().as_bytes()).unwrap_err().to_string()
        };
        assert!(field("topic", "null").contains("`topic` is missing"));
        assert!(field("text", r#"{"hidden":1}"#).contains("`text`"));
        assert!(!field("text", r#"{"hidden":1}"#).contains("hidden"));
        for value in ["-1", "1.5", "1e3", r#""1""#, "18446744073709551616"] {
            assert!(field("event_timestamp", value).contains("`event_timestamp`"), "{value}");
        }
        for value in [r#""a/b""#.to_owned(), r#""a\nb""#.to_owned(), format!("{:?}", "x".repeat(65))] {
            assert!(field("token_id", &value).contains("`token_id`"), "{value}");
        }
        for value in [r#""""#, r#""caché""#, r#""a\nb""#] {
            assert!(field("cache", value).contains("`cache`"), "{value}");
        }
        let twice = WIRE.replacen('{', r#"{"topic":"other","#, 1);
        assert!(matches!(parse_signed(twice.as_bytes()), Err(Malformed::Invalid(..))));
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for body in [
            "",
            "{",
            "null",
            "[]",
            "7",
            "\"text\"",
            "\u{feff}{}",
            &"[".repeat(10_000),
            r#"["c","t",1,2,3,"id","text"]"#,
        ] {
            assert_eq!(parse_signed(body.as_bytes()), Err(Malformed::NotAnObject), "{body:.20}");
        }
        assert_eq!(parse_signed(b"\xff"), Err(Malformed::NotAnObject));
        assert_eq!(parse_signed(b"{}"), Err(Malformed::Missing("cache")));
    }

    #[test]
    fn freshness_ends_at_its_bounds_and_never_overflows() {
        let published = |at| Event { publish_timestamp: at, ..event() };
        let now = 1_700_000_000_000;
        assert_eq!(published(now - MAX_AGE_MS).check_freshness(now), Ok(()));
        assert_eq!(published(now - MAX_AGE_MS - 1).check_freshness(now), Err(NotFresh::TooOld));
        assert_eq!(published(now + MAX_SKEW_MS).check_freshness(now), Ok(()));
        assert_eq!(published(now + MAX_SKEW_MS + 1).check_freshness(now), Err(NotFresh::FromTheFuture));
        assert_eq!(published(0).check_freshness(now), Err(NotFresh::TooOld));
        assert_eq!(published(u64::MAX).check_freshness(now), Err(NotFresh::FromTheFuture));
        assert_eq!(published(u64::MAX).check_freshness(0), Err(NotFresh::FromTheFuture));
        assert_eq!(published(0).check_freshness(u64::MAX), Err(NotFresh::TooOld));
    }

    #[test]
    fn the_id_is_the_same_for_every_attempt_and_differs_by_every_other_field() {
        let id = event().id();
        assert_eq!(Event { publish_timestamp: 0, ..event() }.id(), id);
        for other in [
            Event { cache: "other".into(), ..event() },
            Event { topic: "other".into(), ..event() },
            Event { event_timestamp: 0, ..event() },
            Event { topic_sequence_number: 0, ..event() },
            Event { token_id: "other".into(), ..event() },
            Event { text: "other".into(), ..event() },
            Event { cache: "course-commentsc".into(), topic: "omment".into(), ..event() },
        ] {
            assert_ne!(other.id(), id);
        }
    }

    /// Claims outlive a deployment: a build that computed another id would process yesterday's events again.
    #[test]
    fn the_id_is_stable_across_builds() {
        assert_eq!(event().id().to_string(), "cd163e588f98f937323c2ab7bb44556450e69f8ed271912f4b8b45405104b6d9");
    }

    #[test]
    fn the_text_is_not_printed() {
        assert!(!format!("{:?}", event()).contains("courseId"));
    }

    proptest! {
        #[test]
        fn an_event_round_trips_byte_for_byte(
            cache in "[ -~]{1,20}", topic in ".*", text in ".*", token_id in "[^/\\p{Cc}]{0,16}", numbers in any::<[u64; 3]>(),
        ) {
            let [event_timestamp, publish_timestamp, topic_sequence_number] = numbers;
            let event = Event { cache, topic, event_timestamp, publish_timestamp, topic_sequence_number, token_id, text };
            let body = event.to_body();
            let parsed = parse_signed(&body).unwrap();
            prop_assert_eq!(&parsed, &event);
            prop_assert_eq!(parsed.to_body(), body);
        }

        #[test]
        fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse_signed(&body);
        }
    }
}
