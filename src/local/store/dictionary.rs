//! Dictionaries: fields and their values under one key.

use std::collections::BTreeMap;

use super::{Error, Items, OVERHEAD, Ttl, Value, check_size, scalar::number};

/// Fields in the order of their bytes, so that a fetch answers the same way twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dictionary {
    fields: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

impl Dictionary {
    pub(crate) fn get(&self, field: &[u8]) -> Option<&Vec<u8>> {
        self.fields.get(field)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        self.fields.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn insert(&mut self, field: Vec<u8>, value: Vec<u8>) {
        self.remove(&field);
        self.bytes += cost(&field, &value);
        self.fields.insert(field, value);
    }

    fn remove(&mut self, field: &[u8]) {
        if let Some((field, value)) = self.fields.remove_entry(field) {
            self.bytes -= cost(&field, &value);
        }
    }
}

fn cost(field: &[u8], value: &[u8]) -> usize {
    field.len() + value.len() + OVERHEAD
}

impl Items<'_> {
    pub(crate) fn dictionary(&mut self, key: &[u8]) -> Result<Option<&Dictionary>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Dictionary(dictionary)) => Ok(Some(dictionary)),
            Some(other) => Err(other.not_a("dictionary")),
        }
    }

    pub(crate) fn dictionary_set(&mut self, key: &[u8], pairs: Vec<(Vec<u8>, Vec<u8>)>, ttl: Ttl) -> Result<(), Error> {
        self.dictionary(key)?;
        pairs.iter().try_for_each(|(field, value)| check_size(field.len() + value.len()))?;
        let added = key.len() + OVERHEAD + pairs.iter().map(|(field, value)| cost(field, value)).sum::<usize>();
        self.write(key, Value::Dictionary(Dictionary::default()), ttl, added, |value| {
            let dictionary = as_dictionary(value)?;
            for (field, value) in pairs {
                dictionary.insert(field, value);
            }
            Ok(())
        })
    }

    /// Adds to the number in a field, starting at 0.
    pub(crate) fn dictionary_increment(
        &mut self,
        key: &[u8],
        field: Vec<u8>,
        amount: i64,
        ttl: Ttl,
    ) -> Result<i64, Error> {
        let before = match self.dictionary(key)?.and_then(|dictionary| dictionary.get(&field)) {
            None => 0,
            Some(value) => number(value)?,
        };
        let after = before.checked_add(amount).ok_or(Error::Overflow)?;
        self.dictionary_set(key, vec![(field, after.to_string().into_bytes())], ttl)?;
        Ok(after)
    }

    pub(crate) fn dictionary_remove(&mut self, key: &[u8], fields: &[Vec<u8>]) -> Result<(), Error> {
        self.dictionary(key)?;
        self.change(key, |item| {
            let dictionary = as_dictionary(&mut item.value)?;
            fields.iter().for_each(|field| dictionary.remove(field));
            Ok(())
        })
        .unwrap_or(Ok(()))
    }
}

fn as_dictionary(value: &mut Value) -> Result<&mut Dictionary, Error> {
    match value {
        Value::Dictionary(dictionary) => Ok(dictionary),
        other => Err(other.not_a("dictionary")),
    }
}
