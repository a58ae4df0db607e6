//! Lists: values in order under one key.

use std::{collections::VecDeque, ops::Range};

use super::{Error, Items, OVERHEAD, Ttl, Value, check_size};

/// Values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct List {
    values: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// Where a list is pushed to, popped from, or cut.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    Front,
    Back,
}

/// A part of a list: from `start` up to but not including `end`. Negative numbers count from the end; `None` is the end
/// of the list on that side.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    pub(crate) start: Option<i32>,
    pub(crate) end: Option<i32>,
}

impl Span {
    fn of(self, length: usize) -> Range<usize> {
        let at = |index: i32| {
            let steps = index.unsigned_abs() as usize;
            if index < 0 { length.saturating_sub(steps) } else { steps.min(length) }
        };
        let start = self.start.map_or(0, at);
        let end = self.end.map_or(length, at);
        start..end.max(start)
    }
}

impl List {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn span(&self, span: Span) -> Vec<Vec<u8>> {
        self.values.range(span.of(self.len())).cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn pop(&mut self, side: Side) -> Option<Vec<u8>> {
        let value = match side {
            Side::Front => self.values.pop_front(),
            Side::Back => self.values.pop_back(),
        }?;
        self.bytes -= cost(&value);
        Some(value)
    }

    /// Appends in the order given, and cuts the other end if that makes it longer than `limit` (0: no limit).
    fn push(&mut self, values: Vec<Vec<u8>>, side: Side, limit: usize) {
        self.bytes += values.iter().map(|value| cost(value)).sum::<usize>();
        let other = match side {
            Side::Front => {
                values.into_iter().rev().for_each(|value| self.values.push_front(value));
                Side::Back
            }
            Side::Back => {
                self.values.extend(values);
                Side::Front
            }
        };
        while limit > 0 && self.len() > limit {
            self.pop(other);
        }
    }

    /// Keeps the values of which `keep` says so, given their place and themselves.
    fn keep(&mut self, keep: impl Fn(usize, &[u8]) -> bool) {
        let mut place = 0;
        self.values.retain(|value| {
            place += 1;
            keep(place - 1, value)
        });
        self.bytes = self.values.iter().map(|value| cost(value)).sum();
    }
}

fn cost(value: &[u8]) -> usize {
    value.len() + OVERHEAD
}

impl Items<'_> {
    pub(crate) fn list(&mut self, key: &[u8]) -> Result<Option<&List>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(other) => Err(other.not_a("list")),
        }
    }

    /// Puts values at one end and cuts the other to `limit` values (0: not at all). Answers with the new length.
    pub(crate) fn list_push(
        &mut self,
        key: &[u8],
        values: Vec<Vec<u8>>,
        side: Side,
        limit: u32,
        ttl: Ttl,
    ) -> Result<usize, Error> {
        self.list(key)?;
        values.iter().try_for_each(|value| check_size(value.len()))?;
        let added = key.len() + OVERHEAD + values.iter().map(|value| cost(value)).sum::<usize>();
        self.write(key, Value::List(List::default()), ttl, added, |value| {
            let list = as_list(value)?;
            list.push(values, side, limit as usize);
            Ok(list.len())
        })
    }

    /// Takes a value from one end: the value and the length left.
    pub(crate) fn list_pop(&mut self, key: &[u8], side: Side) -> Result<Option<(Vec<u8>, usize)>, Error> {
        self.list(key)?;
        let popped = self.change(key, |item| {
            let list = as_list(&mut item.value)?;
            Ok(list.pop(side).map(|value| (value, list.len())))
        });
        popped.unwrap_or(Ok(None))
    }

    /// Drops every value equal to this one. Answers with the length left, or `None` if there is no list.
    pub(crate) fn list_remove(&mut self, key: &[u8], value: &[u8]) -> Result<Option<usize>, Error> {
        self.list_keep(key, |_, other| other != value)
    }

    /// Drops what lies in these ranges, each given by its first place and how many.
    pub(crate) fn list_erase(&mut self, key: &[u8], ranges: &[(u32, u32)]) -> Result<Option<usize>, Error> {
        let inside = |place: usize, &(first, count): &(u32, u32)| {
            (first as usize..first as usize + count as usize).contains(&place)
        };
        self.list_keep(key, |place, _| !ranges.iter().any(|range| inside(place, range)))
    }

    /// Drops what lies outside.
    pub(crate) fn list_retain(&mut self, key: &[u8], span: Span, ttl: Ttl) -> Result<Option<usize>, Error> {
        let expires_at = self.expiry(ttl.millis)?;
        let Some(list) = self.list(key)? else { return Ok(None) };
        let range = span.of(list.len());
        if ttl.refresh {
            self.change(key, |item| item.expires_at = Some(expires_at));
        }
        self.list_keep(key, |place, _| range.contains(&place))
    }

    fn list_keep(&mut self, key: &[u8], keep: impl Fn(usize, &[u8]) -> bool) -> Result<Option<usize>, Error> {
        self.list(key)?;
        let kept = self.change(key, |item| {
            let list = as_list(&mut item.value)?;
            list.keep(keep);
            Ok(list.len())
        });
        kept.transpose()
    }
}

fn as_list(value: &mut Value) -> Result<&mut List, Error> {
    match value {
        Value::List(list) => Ok(list),
        other => Err(other.not_a("list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_never_leaves_the_list() {
        let span = |start, end| Span { start, end }.of(5);
        assert_eq!(span(None, None), 0..5);
        assert_eq!(span(Some(1), Some(3)), 1..3);
        assert_eq!(span(Some(-2), None), 3..5);
        assert_eq!(span(None, Some(-1)), 0..4);
        assert_eq!(span(Some(3), Some(2)), 3..3);
        assert_eq!(span(Some(9), Some(12)), 5..5);
        assert_eq!(span(Some(i32::MIN), Some(i32::MAX)), 0..5);
    }

    #[test]
    fn values_keep_their_order_and_the_far_end_is_cut() {
        let bytes = |values: &[&str]| values.iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>();
        let mut list = List::default();
        list.push(bytes(&["c", "d"]), Side::Front, 0);
        list.push(bytes(&["a", "b"]), Side::Front, 3);
        assert_eq!(list.span(Span::default()), bytes(&["a", "b", "c"]));
        list.push(bytes(&["x"]), Side::Back, 2);
        assert_eq!(list.span(Span::default()), bytes(&["c", "x"]));
    }
}
