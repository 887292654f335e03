//! A map of a few entries: a sorted list. A `BTreeMap` reserves room for eleven, and there are several maps in each of a hundred
//! thousand subjects.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text → value, in the order of the texts; it takes no more memory than its entries do.
#[derive(Clone, Debug, PartialEq)]
pub struct Few<V>(Vec<(Box<str>, V)>);

impl<V> Default for Few<V> {
    fn default() -> Few<V> {
        Few(Vec::new())
    }
}

impl<V> Few<V> {
    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Whether there is such an entry.
    pub fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Puts a value in the place of what was there.
    pub fn insert(&mut self, key: &str, value: V) {
        match self.find(key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (key.into(), value));
            }
        }
    }

    /// The value of `key`, made when it is not there.
    pub fn or_default(&mut self, key: &str) -> &mut V
    where
        V: Default,
    {
        let at = match self.find(key) {
            Ok(at) => at,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (key.into(), V::default()));
                at
            }
        };
        &mut self.0[at].1
    }

    /// Forgets an entry.
    pub fn remove(&mut self, key: &str) {
        if let Ok(at) = self.find(key) {
            self.0.remove(at);
        }
    }

    /// Forgets the entries that are not to be kept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&str, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| is_kept(key, value));
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<V: Serialize> Serialize for Few<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Few<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Few<V>, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// Reads the entries of a map.
struct Entries<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
    type Value = Few<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Few<V>, A::Error> {
        let mut few = Few::default();
        while let Some((key, value)) = map.next_entry::<String, V>()? {
            few.insert(&key, value);
        }
        Ok(few)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_map_that_it_stands_for(steps in prop::collection::vec((0_u8..5, "[a-d]{1,2}", any::<u8>()), 0..60)) {
            let (mut few, mut map) = (Few::default(), BTreeMap::new());
            for (step, key, value) in steps {
                match step {
                    0 => {
                        few.insert(&key, value);
                        map.insert(key.clone(), value);
                    }
                    1 => {
                        few.remove(&key);
                        map.remove(&key);
                    }
                    2 => {
                        *few.or_default(&key) ^= value;
                        *map.entry(key.clone()).or_default() ^= value;
                    }
                    3 => {
                        few.retain(|_, known| *known > value);
                        map.retain(|_, known| *known > value);
                    }
                    _ => prop_assert_eq!(few.get(&key), map.get(&key)),
                }
                prop_assert_eq!((few.len(), few.is_empty(), few.contains_key(&key)), (map.len(), map.is_empty(), map.contains_key(&key)));
            }
            prop_assert!(few.iter().eq(map.iter().map(|(key, value)| (key.as_str(), value))));
            let text = serde_json::to_string(&few).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&map).unwrap());
            prop_assert_eq!(serde_json::from_str::<Few<u8>>(&text).unwrap(), few);
        }
    }
}
