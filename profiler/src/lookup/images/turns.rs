//! What waits, of each mount namespace in its turn: whoever asks for much waits longer, nobody else does.

use std::collections::BTreeMap;

/// By mount namespace and key.
#[derive(Debug)]
pub(super) struct Turns<K, V> {
    waiting: BTreeMap<u32, BTreeMap<K, V>>,
    /// Whose turn was the last.
    last: u32,
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Turns {
            waiting: BTreeMap::new(),
            last: 0,
        }
    }
}

impl<K: Ord, V> Turns<K, V> {
    /// What waits under a key, or begins to.
    pub(super) fn entry(&mut self, mnt_ns: u32, key: K, new: impl FnOnce() -> V) -> &mut V {
        let of_one = self.waiting.entry(mnt_ns).or_default();
        of_one.entry(key).or_insert_with(new)
    }

    /// The first of the next namespace.
    pub(super) fn next(&mut self) -> Option<(u32, K, V)> {
        let after = self
            .last
            .checked_add(1)
            .and_then(|next| self.waiting.range(next..).next());
        let mnt_ns = *after.or_else(|| self.waiting.first_key_value())?.0;
        let of_one = self.waiting.get_mut(&mnt_ns)?;
        let (key, value) = of_one.pop_first()?;
        if of_one.is_empty() {
            self.waiting.remove(&mnt_ns);
        }
        self.last = mnt_ns;
        Some((mnt_ns, key, value))
    }

    /// How many there are of a namespace.
    pub(super) fn of(&self, mnt_ns: u32) -> usize {
        self.waiting.get(&mnt_ns).map_or(0, BTreeMap::len)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(BTreeMap::len).sum()
    }

    /// All there are.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.waiting.values().flat_map(BTreeMap::values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that each namespace has its turn, and that all that waits is had once.
    #[test]
    fn in_turn() {
        let mut turns = Turns::default();
        for (mnt_ns, key) in [(7, 3), (7, 1), (7, 2), (u32::MAX, 1), (9, 1), (9, 2), (7, 1)] {
            turns.entry(mnt_ns, key, || ());
        }
        assert_eq!((turns.of(7), turns.of(8), turns.len()), (3, 0, 6));
        let order: Vec<_> = std::iter::from_fn(|| turns.next())
            .map(|(of, key, ())| (of, key))
            .collect();
        assert_eq!(order, [(7, 1), (9, 1), (u32::MAX, 1), (7, 2), (9, 2), (7, 3)]);
        assert_eq!((turns.len(), turns.values().count()), (0, 0));
    }
}
