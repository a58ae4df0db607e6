//! Topics: numbered messages, kept for a few seconds so that a subscriber can go on where it stopped.
//!
//! Every subscriber reads from the topic's one short buffer, at its own place. One that resumes too late and one that
//! reads too slowly so meet the same thing: a discontinuity, and then whatever is still there. Pure but for the signal
//! that wakes subscribers; `now` is an argument, in epoch milliseconds.

mod service;

use std::collections::{HashMap, VecDeque};

use tokio::sync::watch;

use super::faults::{Code, TopicFault};

pub(super) use service::{Timing, Topics};

/// How long a message can be resumed from, in milliseconds: about as long as with Momento.
const REPLAY_MS: u64 = 5_000;
/// How many messages of one topic are kept at most. A subscriber further behind than this skips some.
const MAX_MESSAGES: usize = 1_000;
/// What the kept messages of all topics may take, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How many topics there may be, and how many subscribers on one.
const MAX_TOPICS: usize = 1_000;
const MAX_SUBSCRIBERS: usize = 1_000;

/// A published value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Text(String),
    Binary(Vec<u8>),
}

impl Message {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// A message in its place on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) number: u64,
    pub(super) page: u64,
    /// The `token_id` of whoever published it.
    pub(super) publisher: String,
    pub(super) message: Message,
    /// When it was received, in epoch milliseconds.
    pub(super) at: u64,
}

/// What a subscriber meets next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Message(Published),
    /// Something between `last` and `new` cannot be had. `new` is the number of the next message that can.
    Gap {
        last: u64,
        new: u64,
        page: u64,
    },
    Nothing,
    /// The cache was deleted.
    Gone,
    /// A fault has it wait for ever.
    Stalled,
    /// A fault has it fail.
    Failed(Code),
}

/// Why an operation on the topics was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("there are {MAX_TOPICS} topics in use, and that is the limit")]
    TooManyTopics,
    #[error("the topic has {MAX_SUBSCRIBERS} subscribers, and that is the limit")]
    TooManySubscribers,
    #[error("the topics hold {MAX_BYTES} bytes of the last few seconds, and that is the limit; publish more slowly")]
    Full,
}

struct Topic {
    page: u64,
    /// The number of the next message. The first is 1, since 0 asks for "the latest".
    next: u64,
    used_at: u64,
    kept: VecDeque<Published>,
    bytes: usize,
    /// Wakes the subscribers. Dropped with the topic.
    signal: watch::Sender<()>,
    /// The last subscription that a fault silenced, and that a fault ended: all before it are meant too.
    stalled: u64,
    failed: Option<(u64, Code)>,
}

impl Topic {
    fn is_idle(&self, now: u64, idle_ms: u64) -> bool {
        self.signal.receiver_count() == 0 && now.saturating_sub(self.used_at) > idle_ms
    }

    fn oldest(&self) -> u64 {
        self.next - self.kept.len() as u64
    }

    /// Goes on from here, without what was kept.
    fn skip_to(&mut self, page: u64, next: u64) {
        self.forget_while(|_, _| true);
        (self.page, self.next) = (page, next);
    }

    fn forget_while(&mut self, forget: impl Fn(&Self, &Published) -> bool) {
        while let Some(first) = self.kept.front()
            && forget(self, first)
        {
            self.bytes -= first.message.len();
            self.kept.pop_front();
        }
    }
}

/// Where a subscriber stands.
#[derive(Debug)]
pub(super) struct Place {
    /// Later subscriptions have larger ones.
    id: u64,
    /// The cache and the topic.
    key: (String, String),
    page: u64,
    /// The number of the message that it wants next.
    wants: u64,
}

/// Every topic of every cache.
pub(super) struct Board {
    topics: HashMap<(String, String), Topic>,
    /// How long a topic without subscribers keeps its numbers, in milliseconds.
    idle_ms: u64,
    last_page: u64,
    last_place: u64,
}

impl Board {
    pub(super) fn new(idle_ms: u64) -> Self {
        Self { topics: HashMap::new(), idle_ms, last_page: 0, last_place: 0 }
    }

    /// Gives the message its number, keeps it for a while, and wakes the subscribers.
    pub(super) fn publish(
        &mut self,
        cache: &str,
        topic: &str,
        message: Message,
        publisher: &str,
        now: u64,
    ) -> Result<Published, Error> {
        self.forget_old(now);
        if self.topics.values().map(|topic| topic.bytes).sum::<usize>() + message.len() > MAX_BYTES {
            return Err(Error::Full);
        }
        let topic = self.topic(cache, topic, now)?;
        let (number, page) = (topic.next, topic.page);
        let published = Published { number, page, publisher: publisher.to_owned(), message, at: now };
        topic.next += 1;
        topic.used_at = now;
        topic.bytes += published.message.len();
        topic.kept.push_back(published.clone());
        topic.forget_while(|topic, _| topic.kept.len() > MAX_MESSAGES);
        topic.signal.send_replace(());
        Ok(published)
    }

    /// Finds a subscriber's place. `number` is the first message that it wants, 0 for the latest; `page` the one that it
    /// read last, 0 if it does not know.
    pub(super) fn subscribe(
        &mut self,
        cache: &str,
        topic: &str,
        (page, number): (u64, u64),
        now: u64,
    ) -> Result<(Place, watch::Receiver<()>), Error> {
        let found = self.topic(cache, topic, now)?;
        if found.signal.receiver_count() >= MAX_SUBSCRIBERS {
            return Err(Error::TooManySubscribers);
        }
        found.used_at = now;
        let (page, wants) = match (page, number) {
            (_, 0) => (found.page, found.next),
            (0, number) => (found.page, number),
            asked => asked,
        };
        let signal = found.signal.subscribe();
        self.last_place += 1;
        Ok((Place { id: self.last_place, key: (cache.to_owned(), topic.to_owned()), page, wants }, signal))
    }

    /// What comes next at this place, which moves on past it.
    pub(super) fn next(&mut self, place: &mut Place, now: u64) -> Next {
        self.forget_old(now);
        let Some(topic) = self.topics.get(&place.key) else { return Next::Gone };
        if let Some((_, code)) = topic.failed.filter(|(last, _)| place.id <= *last) {
            return Next::Failed(code);
        }
        if place.id <= topic.stalled {
            return Next::Stalled;
        }
        if place.page != topic.page || !(topic.oldest()..=topic.next).contains(&place.wants) {
            let gap = Next::Gap { last: place.wants.saturating_sub(1), new: topic.oldest(), page: topic.page };
            (place.page, place.wants) = (topic.page, topic.oldest());
            return gap;
        }
        let Some(published) = topic.kept.get((place.wants - topic.oldest()) as usize) else { return Next::Nothing };
        place.wants += 1;
        Next::Message(published.clone())
    }

    /// Has this happen to a topic, and says how many subscribers it has. `None`, if there is no such topic.
    pub(super) fn fault(&mut self, cache: &str, topic: &str, fault: TopicFault, now: u64) -> Option<usize> {
        let topic = self.topics.get_mut(&(cache.to_owned(), topic.to_owned()))?;
        match fault {
            TopicFault::Discontinuity => topic.skip_to(topic.page, topic.next + 1),
            TopicFault::ResetPage => {
                self.last_page = now.max(self.last_page + 1);
                topic.skip_to(self.last_page, 1);
            }
            TopicFault::Stall => topic.stalled = self.last_place,
            TopicFault::Error(code) => topic.failed = Some((self.last_place, code)),
        }
        topic.signal.send_replace(());
        Some(topic.signal.receiver_count())
    }

    /// Ends the topics of a cache, and with them their subscriptions.
    pub(super) fn delete_cache(&mut self, cache: &str) {
        self.topics.retain(|(other, _), _| other != cache);
    }

    fn topic(&mut self, cache: &str, topic: &str, now: u64) -> Result<&mut Topic, Error> {
        let key = (cache.to_owned(), topic.to_owned());
        if self.topics.get(&key).is_some_and(|topic| topic.is_idle(now, self.idle_ms)) {
            self.topics.remove(&key); // comes back on a new page
        }
        if !self.topics.contains_key(&key) && self.topics.len() >= MAX_TOPICS {
            self.topics.retain(|_, topic| !topic.is_idle(now, self.idle_ms));
            if self.topics.len() >= MAX_TOPICS {
                return Err(Error::TooManyTopics);
            }
        }
        let last_page = &mut self.last_page;
        Ok(self.topics.entry(key).or_insert_with(|| {
            *last_page = now.max(*last_page + 1); // later pages are larger, over restarts too
            let (page, signal) = (*last_page, watch::Sender::new(()));
            Topic { page, next: 1, used_at: now, kept: VecDeque::new(), bytes: 0, signal, stalled: 0, failed: None }
        }))
    }

    fn forget_old(&mut self, now: u64) {
        for topic in self.topics.values_mut() {
            topic.forget_while(|_, first| now.saturating_sub(first.at) > REPLAY_MS);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn publish(board: &mut Board, text: &str, now: u64) -> Published {
        board.publish("c", "t", Message::Text(text.into()), "taylor", now).unwrap()
    }

    fn numbers(board: &mut Board, from: (u64, u64), now: u64) -> Vec<String> {
        let (mut place, _signal) = board.subscribe("c", "t", from, now).unwrap();
        let mut seen = Vec::new();
        loop {
            seen.push(match board.next(&mut place, now) {
                Next::Message(published) => published.number.to_string(),
                Next::Gap { last, new, .. } => format!("gap {last} {new}"),
                Next::Nothing | Next::Gone | Next::Stalled | Next::Failed(_) => return seen,
            });
        }
    }

    #[test]
    fn a_subscriber_resumes_with_the_number_it_names() {
        let mut board = Board::new(60_000);
        let page = publish(&mut board, "one", NOW).page;
        publish(&mut board, "two", NOW + 1);
        assert_eq!(numbers(&mut board, (page, 1), NOW + 2), ["1", "2"]);
        assert_eq!(numbers(&mut board, (page, 2), NOW + 2), ["2"]);
        assert_eq!(numbers(&mut board, (0, 2), NOW + 2), ["2"]);
        assert_eq!(numbers(&mut board, (page, 3), NOW + 2), [""; 0], "it has missed nothing");
        assert_eq!(numbers(&mut board, (0, 0), NOW + 2), [""; 0], "0 is the latest");
    }

    #[test]
    fn what_is_no_longer_there_is_a_gap() {
        let mut board = Board::new(60_000);
        let page = publish(&mut board, "one", NOW).page;
        publish(&mut board, "two", NOW + 1);
        assert_eq!(numbers(&mut board, (page, 1), NOW + REPLAY_MS + 1), ["gap 0 2", "2"]);
        assert_eq!(numbers(&mut board, (page, 1), NOW + REPLAY_MS + 2), ["gap 0 3"]);
        assert_eq!(numbers(&mut board, (page, 9), NOW + 2), ["gap 8 3"]);
        publish(&mut board, "three", NOW + REPLAY_MS + 2);
        assert_eq!(numbers(&mut board, (page - 1, 7), NOW + REPLAY_MS + 2), ["gap 6 3", "3"]);
    }

    #[test]
    fn a_slow_subscriber_skips_and_is_told() {
        let mut board = Board::new(60_000);
        let (mut place, _signal) = board.subscribe("c", "t", (0, 0), NOW).unwrap();
        for _ in 0..MAX_MESSAGES + 5 {
            publish(&mut board, "text", NOW);
        }
        assert!(matches!(board.next(&mut place, NOW), Next::Gap { last: 0, new: 6, .. }));
        assert!(matches!(board.next(&mut place, NOW), Next::Message(Published { number: 6, .. })));
    }

    #[test]
    fn an_idle_topic_starts_again_on_a_larger_page() {
        let mut board = Board::new(60_000);
        let first = publish(&mut board, "one", NOW);
        let second = publish(&mut board, "two", NOW + 60_001);
        assert_eq!(second.number, 1);
        assert!(second.page > first.page);
        let (_place, signal) = board.subscribe("c", "t", (0, 0), NOW + 60_001).unwrap();
        assert_eq!(publish(&mut board, "three", NOW + 200_000).number, 2, "a subscriber keeps it");
        drop(signal);
        assert_eq!(publish(&mut board, "four", NOW).number, 3, "a clock set back does no harm");
    }

    #[test]
    fn a_fault_skips_numbers_or_starts_a_larger_page() {
        let mut board = Board::new(60_000);
        assert_eq!(board.fault("c", "t", TopicFault::Discontinuity, NOW), None);
        let page = publish(&mut board, "one", NOW).page;
        let (mut place, _signal) = board.subscribe("c", "t", (page, 2), NOW).unwrap();
        assert_eq!(board.fault("c", "t", TopicFault::Discontinuity, NOW), Some(1));
        assert_eq!(board.next(&mut place, NOW), Next::Gap { last: 1, new: 3, page });
        assert_eq!(publish(&mut board, "three", NOW).number, 3);
        assert!(matches!(board.next(&mut place, NOW), Next::Message(Published { number: 3, .. })));

        board.fault("c", "t", TopicFault::ResetPage, NOW).unwrap();
        let Next::Gap { last: 3, new: 1, page: larger } = board.next(&mut place, NOW) else { panic!("no gap") };
        assert!(larger > page);
        assert_eq!((publish(&mut board, "one", NOW).number, board.topics.values().next().unwrap().bytes), (1, 3));
    }

    #[test]
    fn a_fault_meets_the_open_subscriptions_alone() {
        let mut board = Board::new(60_000);
        publish(&mut board, "one", NOW);
        for (fault, expected) in
            [(TopicFault::Stall, Next::Stalled), (TopicFault::Error(Code::Internal), Next::Failed(Code::Internal))]
        {
            let (mut place, _signal) = board.subscribe("c", "t", (0, 0), NOW).unwrap();
            board.fault("c", "t", fault, NOW).unwrap();
            assert_eq!(board.next(&mut place, NOW), expected);
            assert_eq!(numbers(&mut board, (0, 1), NOW), ["1"]);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut board = Board::new(60_000);
        let big = || Message::Binary(vec![0; MAX_BYTES / 2]);
        board.publish("c", "t", big(), "", NOW).unwrap();
        board.publish("c", "u", big(), "", NOW).unwrap();
        assert_eq!(board.publish("c", "v", Message::Text("x".into()), "", NOW), Err(Error::Full));
        board.publish("c", "v", Message::Text("x".into()), "", NOW + REPLAY_MS + 1).unwrap();
        for topic in 0..MAX_TOPICS {
            let _ = board.publish("c", &topic.to_string(), Message::Text(String::new()), "", NOW);
        }
        assert_eq!(board.publish("c", "more", Message::Text(String::new()), "", NOW), Err(Error::TooManyTopics));
        board.publish("c", "more", Message::Text(String::new()), "", NOW + 60_001).unwrap();
    }
}
