//! A compact table of functions.

/// Functions of one file, sorted by address: 16 bytes each, and their names.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Entry>,
    /// Names, each ended by a NUL.
    names: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    /// Bytes; a function of size 0 in the file reaches to the next one, at most [`MAX_GUESSED_SIZE`].
    size: u32,
    name: u32,
}

/// Longest that a function without a size (hand-written assembly) may be taken to be, bytes.
const MAX_GUESSED_SIZE: u64 = 4096;

/// Collects functions in any order.
#[derive(Debug, Default)]
pub struct Builder {
    /// With a rank: of several names for one address the lowest rank stays.
    entries: Vec<(Entry, u8)>,
    names: Vec<u8>,
}

impl Builder {
    /// Adds a function. `rank`: 0 global, 1 weak, 2 local.
    pub fn add(&mut self, address: u64, size: u64, rank: u8, name: &[u8]) {
        let Ok(at) = u32::try_from(self.names.len()) else {
            return;
        };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.entries.push((
            Entry {
                address,
                size,
                name: at,
            },
            rank,
        ));
        self.names.extend(name.iter().copied().filter(|byte| *byte != 0));
        self.names.push(0);
    }

    /// Bytes that it takes now.
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<(Entry, u8)>() + self.names.len()
    }

    /// Sorts, keeps one name for each address, and gives functions without a size one.
    pub fn finish(mut self) -> Table {
        self.entries
            .sort_unstable_by_key(|(entry, rank)| (entry.address, entry.size == 0, *rank, entry.name));
        self.entries.dedup_by_key(|(entry, _)| entry.address);
        let mut table = Table {
            entries: Vec::with_capacity(self.entries.len()),
            names: Vec::new(),
        };
        for (index, (entry, _)) in self.entries.iter().enumerate() {
            let mut entry = *entry;
            if entry.size == 0 {
                let next = self.entries.get(index + 1).map_or(u64::MAX, |(next, _)| next.address);
                entry.size = u32::try_from((next - entry.address).min(MAX_GUESSED_SIZE)).unwrap_or(0);
            }
            let name = name_at(&self.names, entry.name);
            // Never longer than the builder's names, whose offsets fit.
            entry.name = u32::try_from(table.names.len()).unwrap_or(u32::MAX);
            table.names.extend_from_slice(name);
            table.names.push(0);
            table.entries.push(entry);
        }
        table.names.shrink_to_fit();
        table
    }
}

impl Table {
    /// The function that holds `address`, and the address' offset in it.
    pub fn find(&self, address: u64) -> Option<(&[u8], u64)> {
        /// Functions nest rarely, and not deeper than this (cold parts, aliases with other sizes).
        const NESTED: usize = 4;
        let after = self.entries.partition_point(|entry| entry.address <= address);
        let first = after.saturating_sub(NESTED);
        let candidates = self.entries.get(first..after)?;
        let entry = candidates
            .iter()
            .rev()
            .find(|entry| address - entry.address < u64::from(entry.size))?;
        Some((name_at(&self.names, entry.name), address - entry.address))
    }

    /// Number of functions.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.names.capacity()
    }
}

fn name_at(names: &[u8], at: u32) -> &[u8] {
    let rest = names.get(at as usize..).unwrap_or_default();
    rest.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut builder = Builder::default();
        builder.add(0x2000, 0x10, 0, b"sized");
        builder.add(0x1000, 0, 2, b"start");
        builder.add(0x2000, 0x10, 2, b"alias");
        builder.add(0x3000, 0x100, 0, b"outer");
        builder.add(0x3010, 0x10, 0, b"inner");
        builder.finish()
    }

    /// Make sure that the holding function is found with the offset, and gaps have no name.
    #[test]
    fn find_within_bounds() {
        let table = table();
        assert_eq!(table.find(0x2000), Some((&b"sized"[..], 0)));
        assert_eq!(table.find(0x200f), Some((&b"sized"[..], 15)));
        assert_eq!(table.find(0x2010), None);
        assert_eq!(table.find(0xfff), None);
        assert_eq!(table.find(u64::MAX), None);
        assert_eq!(table.len(), 4);
    }

    /// Make sure that a function inside another hides only its own bytes.
    #[test]
    fn nested_functions() {
        let table = table();
        assert_eq!(table.find(0x3018), Some((&b"inner"[..], 8)));
        assert_eq!(table.find(0x3080), Some((&b"outer"[..], 0x80)));
    }

    /// Make sure that a function without a size ends where the next begins or at the bound.
    #[test]
    fn guessed_sizes() {
        let table = table();
        assert_eq!(table.find(0x1fff), Some((&b"start"[..], 0xfff)));
        let mut builder = Builder::default();
        builder.add(0, 0, 0, b"last");
        let table = builder.finish();
        assert_eq!(table.find(4095), Some((&b"last"[..], 4095)));
        assert_eq!(table.find(4096), None);
    }
}
