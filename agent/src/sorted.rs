//! Sorted collections of few items. `collect` does the same, and brings a sorting algorithm for each type with it: 3 KB of the
//! program each time.

use std::collections::{BTreeMap, BTreeSet};

/// A map of these entries; of those with the same key, the last one counts.
pub fn map<K: Ord, V>(entries: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(entries);
    map
}

/// A set of these items.
pub fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}
