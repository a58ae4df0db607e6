//! The oldest of a route's pending messages, and which of them may be attempted now. The rest stays in the journal, so that
//! a backlog of millions takes no more memory than one of hundreds.

use std::collections::{BTreeMap, HashSet};

use tokio::time::Instant;

use super::config::{Order, Route};
use super::journal::Pending;

/// How many messages are held. With that many waiting for another attempt, the ones behind them wait too.
pub(crate) const SIZE: usize = 512;
/// It is filled again once so many have gone, so that a backlog is not read one by one.
const REFILL: usize = 64;

/// A message in the window.
pub(crate) struct Item {
    pub(crate) pending: Pending,
    /// What it has in common with those that it must not overtake.
    key: Option<String>,
    /// Not before then.
    pub(crate) due: Instant,
    pub(crate) under_way: bool,
    /// How many attempts at it failed that did not count as its own, so that it is not the probe each time.
    pub(crate) probes: u32,
}

/// By id, which is the order in which they came.
#[derive(Default)]
pub(crate) struct Window {
    items: BTreeMap<i64, Item>,
    /// The last id that has been read from the journal.
    read_to: i64,
}

impl Window {
    pub(crate) fn read_to(&self) -> i64 {
        self.read_to
    }

    pub(crate) fn room(&self) -> usize {
        SIZE.saturating_sub(self.items.len())
    }

    pub(crate) fn wants_more(&self) -> bool {
        self.room() >= REFILL
    }

    pub(crate) fn get_mut(&mut self, id: i64) -> Option<&mut Item> {
        self.items.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: i64) -> Option<Item> {
        self.items.remove(&id)
    }

    pub(crate) fn add(&mut self, pending: Pending, route: &Route, now: Instant) {
        self.read_to = pending.id;
        let key = key(&pending, route);
        self.items.insert(pending.id, Item { pending, key, due: now, under_way: false, probes: 0 });
    }

    /// Forgets all; what is under way is returned.
    pub(crate) fn clear(&mut self) -> Vec<Item> {
        self.read_to = 0;
        std::mem::take(&mut self.items).into_values().filter(|item| item.under_way).collect()
    }

    /// Up to `most` messages that may be attempted now, and when the next one may be.
    pub(crate) fn due(&self, now: Instant, most: usize) -> (Vec<i64>, Option<Instant>) {
        let (mut due, mut next) = (Vec::new(), None::<Instant>);
        for item in self.first_in_order() {
            if due.len() == most {
                break;
            }
            if item.due <= now {
                due.push(item.pending.id);
            } else {
                next = Some(next.map_or(item.due, |next| next.min(item.due)));
            }
        }
        (due, next)
    }

    /// The message to probe a destination with: the one that has been tried least, so that one which can never be
    /// delivered does not keep the destination shut.
    pub(crate) fn probe(&self) -> Option<i64> {
        let tried = |item: &Item| (item.pending.attempts.saturating_add(item.probes), item.pending.id);
        self.first_in_order().map(tried).min().map(|(_, id)| id)
    }

    /// Those that neither are under way nor have to wait for another one.
    fn first_in_order(&self) -> impl Iterator<Item = &Item> {
        let mut keys = HashSet::new();
        self.items.values().filter(move |item| {
            let is_first = item.key.as_deref().is_none_or(|key| keys.insert(key));
            is_first && !item.under_way
        })
    }
}

fn key(pending: &Pending, route: &Route) -> Option<String> {
    match route.order {
        Order::None => None,
        Order::Topic => Some(String::new()),
        Order::Key if route.key == "token_id" => Some(pending.token_id.clone()).filter(|id| !id.is_empty()),
        Order::Key => {
            let text: serde_json::Value = serde_json::from_str(&pending.text).ok()?;
            text.pointer(&route.key).map(ToString::to_string)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::cursor::Place;
    use super::*;

    fn window(order: Order, key: &str, messages: &[(&str, &str)]) -> Window {
        let mut route = Route::from_flag("c/t=https://example.com").unwrap();
        (route.order, route.key) = (order, key.into());
        let mut window = Window::default();
        for (at, (token_id, text)) in messages.iter().enumerate() {
            let pending = Pending {
                id: at as i64 + 1,
                place: Place::default(),
                received: 0,
                token_id: (*token_id).into(),
                text: (*text).into(),
                binary: None,
                attempts: 0,
                uncertain: None,
            };
            window.add(pending, &route, Instant::now());
        }
        window
    }

    fn due(window: &Window) -> Vec<i64> {
        window.due(Instant::now(), 99).0
    }

    const MESSAGES: [(&str, &str); 4] =
        [("a", r#"{"k":1}"#), ("a", r#"{"k":2}"#), ("b", r#"{"k":1}"#), ("", "not JSON")];

    #[tokio::test]
    async fn order_is_kept_as_asked() {
        assert_eq!(due(&window(Order::None, "token_id", &MESSAGES)), [1, 2, 3, 4]);
        assert_eq!(due(&window(Order::Topic, "token_id", &MESSAGES)), [1]);
        assert_eq!(due(&window(Order::Key, "token_id", &MESSAGES)), [1, 3, 4]);
        assert_eq!(due(&window(Order::Key, "/k", &MESSAGES)), [1, 2, 4]);
    }

    #[tokio::test]
    async fn one_that_is_under_way_or_waits_holds_up_its_key_only() {
        let mut window = window(Order::Key, "token_id", &MESSAGES);
        window.get_mut(1).unwrap().under_way = true;
        assert_eq!(due(&window), [3, 4]);
        window.remove(1);
        assert_eq!(due(&window), [2, 3, 4]);
        let later = Instant::now() + Duration::from_secs(60);
        window.get_mut(2).unwrap().due = later;
        assert_eq!(window.due(Instant::now(), 1), (vec![3], Some(later)));
    }

    #[tokio::test]
    async fn a_probe_is_what_has_been_tried_least() {
        let mut window = window(Order::None, "token_id", &MESSAGES);
        window.get_mut(1).unwrap().pending.attempts = 3;
        assert_eq!(window.probe(), Some(2));
        window.get_mut(2).unwrap().probes = 1;
        assert_eq!(window.probe(), Some(3), "the next probe is another message");
        assert_eq!(Window::default().probe(), None);
    }
}
