//! Where we are in a topic, and what an item's place says about the ones before it. Pure.

/// A place on a topic: the number of a message, and the page that it counts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Place {
    pub(crate) page: u64,
    pub(crate) number: u64,
}

impl Place {
    /// Is it the very next one?
    pub(crate) fn follows(self, last: Self) -> bool {
        self.page == last.page && last.number.checked_add(1) == Some(self.number)
    }
}

/// Follows a topic. Later pages are larger, and within a page each message's number is one more than the last one's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    /// The last accepted message.
    last: Option<Place>,
    /// A discontinuity has been recorded, and the jump that it announced has not come yet.
    announced: bool,
}

/// What an item's place says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was accepted before.
    Seen,
    /// It comes next, or after something that has been recorded already.
    Next,
    /// Messages are missing before it that nobody announced.
    Jump(Incident),
}

/// What may have cost messages. All of it is recorded, and counted by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incident {
    pub(crate) kind: Kind,
    pub(crate) before: Place,
    pub(crate) after: Place,
    /// How many messages are missing, as far as the numbers tell; across pages they do not.
    pub(crate) missed: Option<u64>,
}

/// The kinds of incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The service said that it skipped something.
    Discontinuity,
    /// The topic began again on a new page.
    PageReset,
    /// A number was left out without a word.
    Gap,
    /// Nothing came for too long, not even a heartbeat.
    Stall,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Discontinuity, Self::PageReset, Self::Gap, Self::Stall];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Discontinuity => "discontinuity",
            Self::PageReset => "page_reset",
            Self::Gap => "gap",
            Self::Stall => "stall",
        }
    }
}

impl Cursor {
    pub(crate) fn at(last: Option<Place>) -> Self {
        Self { last, announced: false }
    }

    /// What to ask the service for: the page, and the first number that is wanted; zeros for the latest.
    pub(crate) fn resume(&self) -> (u64, u64) {
        self.last.map_or((0, 0), |last| (last.page, last.number.saturating_add(1)))
    }

    /// Takes an item's place, and moves on unless it has been seen.
    pub(crate) fn take(&mut self, place: Place) -> Verdict {
        let Some(last) = self.last else {
            self.last = Some(place);
            return Verdict::Next;
        };
        if (place.page, place.number) <= (last.page, last.number) {
            return Verdict::Seen;
        }
        let announced = std::mem::take(&mut self.announced);
        self.last = Some(place);
        if place.page != last.page {
            let reset = Incident { kind: Kind::PageReset, before: last, after: place, missed: None };
            return if announced { Verdict::Next } else { Verdict::Jump(reset) };
        }
        match place.number - last.number - 1 {
            0 => Verdict::Next,
            _ if announced => Verdict::Next,
            missed => Verdict::Jump(Incident { kind: Kind::Gap, before: last, after: place, missed: Some(missed) }),
        }
    }

    /// The service announces a jump; `next` is where it goes on. `None` where it only tells a new subscriber where it is.
    pub(crate) fn announce(&mut self, next: Place) -> Option<Incident> {
        let before = self.last?;
        let same_page = next.page == before.page;
        if same_page && next.number <= before.number.saturating_add(1) {
            return None; // nothing that we had not accepted lies between
        }
        self.announced = true;
        let missed = same_page.then(|| next.number - before.number - 1);
        let kind = if same_page { Kind::Discontinuity } else { Kind::PageReset };
        Some(Incident { kind, before, after: next, missed })
    }

    /// Nothing came for too long.
    pub(crate) fn stall(&self) -> Incident {
        let place = self.last.unwrap_or_default();
        Incident { kind: Kind::Stall, before: place, after: place, missed: Some(0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn place(page: u64, number: u64) -> Place {
        Place { page, number }
    }

    #[test]
    fn a_new_subscriber_starts_anywhere_and_then_counts() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.resume(), (0, 0));
        assert_eq!(cursor.announce(place(7, 40)), None, "it is only told where it is");
        assert_eq!(cursor.take(place(7, 41)), Verdict::Next);
        assert_eq!(cursor.take(place(7, 42)), Verdict::Next);
        assert_eq!(cursor.resume(), (7, 43));
    }

    #[test]
    fn what_comes_again_has_been_seen() {
        let mut cursor = Cursor::at(Some(place(7, 42)));
        for seen in [place(7, 42), place(7, 1), place(6, 99)] {
            assert_eq!(cursor.take(seen), Verdict::Seen);
        }
        assert_eq!(cursor.resume(), (7, 43));
    }

    #[test]
    fn a_number_left_out_is_a_gap() {
        let mut cursor = Cursor::at(Some(place(7, 42)));
        let Verdict::Jump(incident) = cursor.take(place(7, 45)) else { panic!("not noticed") };
        assert_eq!((incident.kind, incident.missed), (Kind::Gap, Some(2)));
    }

    #[test]
    fn an_announced_jump_is_recorded_once() {
        let mut cursor = Cursor::at(Some(place(7, 42)));
        let incident = cursor.announce(place(7, 50)).unwrap();
        assert_eq!((incident.kind, incident.missed), (Kind::Discontinuity, Some(7)));
        assert_eq!(cursor.take(place(7, 50)), Verdict::Next);
        assert!(matches!(cursor.take(place(7, 52)), Verdict::Jump(_)), "and the next one is noticed again");
        assert_eq!(cursor.announce(place(7, 53)), None, "nothing is missing");
    }

    #[test]
    fn a_new_page_is_a_reset() {
        let mut cursor = Cursor::at(Some(place(7, 42)));
        assert!(matches!(
            cursor.take(place(9, 1)),
            Verdict::Jump(Incident { kind: Kind::PageReset, missed: None, .. })
        ));
        assert_eq!(cursor.announce(place(11, 1)).map(|incident| incident.kind), Some(Kind::PageReset));
        assert_eq!(cursor.take(place(11, 1)), Verdict::Next);
    }

    proptest! {
        #[test]
        fn no_place_is_accepted_twice(items in proptest::collection::vec((0u64..3, 0u64..20), 0..100)) {
            let (mut cursor, mut accepted) = (Cursor::default(), std::collections::HashSet::new());
            for (page, number) in items {
                if cursor.take(place(page, number)) != Verdict::Seen {
                    prop_assert!(accepted.insert((page, number)));
                }
            }
        }
    }
}
