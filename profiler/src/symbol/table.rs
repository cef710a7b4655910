//! A compact table of functions.

use serde::{Deserialize, Serialize};

/// Functions of one file, sorted by address: 12 bytes each, and their names, each without what it shares with the one
/// before it (neighbours are often of one class or package: Go's names take a third).
///
/// It may come from a parser that a hostile file has taken over: no content of it makes [`Table::find`] do more than
/// answer nonsense.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Table {
    addresses: Vec<u64>,
    /// Bytes; a function of size 0 in the file reaches to the next one, at most [`MAX_GUESSED_SIZE`].
    sizes: Vec<u32>,
    /// Where in `names` each [`BLOCK`]th name begins, which shares nothing.
    blocks: Vec<u32>,
    /// For each function: bytes shared with the name before, further bytes (both LEB128), and these.
    names: Vec<u8>,
}

/// Names decoded one after the other to come to one of them.
const BLOCK: usize = 16;

/// Longest that a function without a size (hand-written assembly) may be taken to be, bytes.
const MAX_GUESSED_SIZE: u64 = 4096;

/// Longest name kept, bytes: mangled names of C++ templates have thousands, and hostile ones any number.
pub const MAX_RAW_NAME: usize = 4096;

/// Which of several names for one address stays: the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Global,
    Weak,
    Local,
    /// Known by its runtime only (Go).
    Runtime,
    /// The start of a function, and no name.
    Nameless,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    size: u32,
    rank: Rank,
    name: u32,
}

/// Collects functions in any order.
#[derive(Debug, Default)]
pub struct Builder {
    entries: Vec<Entry>,
    /// Names, each ended by a NUL.
    names: Vec<u8>,
}

impl Builder {
    /// Adds a function; `size` 0 when it is not known. An empty name makes it nameless.
    pub fn add(&mut self, address: u64, size: u64, rank: Rank, name: &[u8]) {
        let Ok(at) = u32::try_from(self.names.len()) else {
            return;
        };
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = name.get(..MAX_RAW_NAME).unwrap_or(name);
        self.entries.push(Entry {
            address,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            rank: if name.is_empty() { Rank::Nameless } else { rank },
            name: at,
        });
        if !name.is_empty() {
            self.names.extend_from_slice(name);
            self.names.push(0);
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that it takes now.
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>() + self.names.len()
    }

    /// Sorts, keeps one name for each address, and gives functions without a size one.
    pub fn finish(mut self) -> Table {
        self.entries.sort_unstable_by_key(|entry| {
            let nameless = entry.rank == Rank::Nameless;
            (entry.address, nameless, entry.size == 0, entry.rank, entry.name)
        });
        self.entries.dedup_by(|later, kept| {
            let same = later.address == kept.address;
            if same && kept.size == 0 {
                kept.size = later.size;
            }
            same
        });
        // Unwind information may begin anew within a function; its name holds for all of it.
        let mut named_end = 0;
        self.entries.retain(|entry| {
            if entry.rank == Rank::Nameless {
                return entry.address >= named_end;
            }
            named_end = named_end.max(entry.address.saturating_add(u64::from(entry.size)));
            true
        });
        let mut table = Table::default();
        table.addresses.reserve_exact(self.entries.len());
        table.sizes.reserve_exact(self.entries.len());
        let mut last: &[u8] = &[];
        for (index, entry) in self.entries.iter().enumerate() {
            let next = self.entries.get(index + 1).map_or(u64::MAX, |next| next.address);
            let size = match entry.size {
                0 => u32::try_from((next - entry.address).min(MAX_GUESSED_SIZE)).unwrap_or(0),
                size => size,
            };
            table.addresses.push(entry.address);
            table.sizes.push(size);
            let name = match entry.rank {
                Rank::Nameless => &[][..],
                _ => name_at(&self.names, entry.name),
            };
            if index % BLOCK == 0 {
                // Never longer than the builder's names, whose offsets fit, and 4 bytes for each of its entries.
                table.blocks.push(u32::try_from(table.names.len()).unwrap_or(u32::MAX));
                last = &[];
            }
            let shared = last.iter().zip(name).take_while(|(a, b)| a == b).count();
            push_leb(&mut table.names, shared);
            push_leb(&mut table.names, name.len() - shared);
            table.names.extend_from_slice(&name[shared..]);
            last = name;
        }
        table.names.shrink_to_fit();
        table
    }
}

/// A function found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// As the file has it; empty when only its start is known.
    pub name: Vec<u8>,
    /// Offset of the address that was looked for from the function's start.
    pub offset: u64,
}

impl Table {
    /// The function that holds `address`.
    pub fn find(&self, address: u64) -> Option<Function> {
        /// Functions nest rarely, and not deeper than this (cold parts, aliases with other sizes).
        const NESTED: usize = 4;
        let after = self.addresses.partition_point(|start| *start <= address);
        let index = (after.saturating_sub(NESTED)..after).rev().find(|index| {
            let start = self.addresses.get(*index).copied().unwrap_or(u64::MAX);
            let size = self.sizes.get(*index).copied().unwrap_or(0);
            address
                .checked_sub(start)
                .is_some_and(|within| within < u64::from(size))
        })?;
        Some(Function {
            name: self.name(index)?,
            offset: address - self.addresses.get(index)?,
        })
    }

    fn name(&self, index: usize) -> Option<Vec<u8>> {
        let mut at = *self.blocks.get(index / BLOCK)? as usize;
        let mut name = Vec::new();
        for _ in 0..=index % BLOCK {
            let shared = take_leb(&self.names, &mut at)?;
            let more = take_leb(&self.names, &mut at)?;
            let end = at.checked_add(more).filter(|_| shared + more <= MAX_RAW_NAME)?;
            name.truncate(shared);
            name.extend_from_slice(self.names.get(at..end)?);
            at = end;
        }
        Some(name)
    }

    /// Number of functions.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        self.addresses.capacity() * 8 + (self.sizes.capacity() + self.blocks.capacity()) * 4 + self.names.capacity()
    }
}

fn name_at(names: &[u8], at: u32) -> &[u8] {
    let rest = names.get(at as usize..).unwrap_or_default();
    rest.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn push_leb(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A number below 2^14.
fn take_leb(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let low = *bytes.get(*at)?;
    *at += 1;
    if low < 0x80 {
        return Some(usize::from(low));
    }
    let high = *bytes.get(*at)?;
    *at += 1;
    Some(usize::from(low & 0x7f) | usize::from(high & 0x7f) << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(table: &Table, address: u64) -> Option<(String, u64)> {
        let found = table.find(address)?;
        Some((String::from_utf8(found.name).unwrap(), found.offset))
    }

    fn is(name: &str, offset: u64) -> Option<(String, u64)> {
        Some((name.to_owned(), offset))
    }

    fn table() -> Table {
        let mut builder = Builder::default();
        builder.add(0x2000, 0x10, Rank::Global, b"sized");
        builder.add(0x1000, 0, Rank::Local, b"start");
        builder.add(0x2000, 0x10, Rank::Local, b"alias");
        builder.add(0x3000, 0x100, Rank::Global, b"outer");
        builder.add(0x3010, 0x10, Rank::Global, b"inner");
        builder.finish()
    }

    /// Make sure that the holding function is found with the offset, and gaps have no name.
    #[test]
    fn find_within_bounds() {
        let table = table();
        assert_eq!(find(&table, 0x2000), is("sized", 0));
        assert_eq!(find(&table, 0x200f), is("sized", 15));
        assert_eq!(find(&table, 0x2010), None);
        assert_eq!(find(&table, 0xfff), None);
        assert_eq!(find(&table, u64::MAX), None);
        assert_eq!(table.len(), 4);
    }

    /// Make sure that a function inside another hides only its own bytes.
    #[test]
    fn nested_functions() {
        let table = table();
        assert_eq!(find(&table, 0x3018), is("inner", 8));
        assert_eq!(find(&table, 0x3080), is("outer", 0x80));
    }

    /// Make sure that a function without a size ends where the next begins or at the bound.
    #[test]
    fn guessed_sizes() {
        let table = table();
        assert_eq!(find(&table, 0x1fff), is("start", 0xfff));
        let mut builder = Builder::default();
        builder.add(0, 0, Rank::Global, b"last");
        let table = builder.finish();
        assert_eq!(find(&table, 4095), is("last", 4095));
        assert_eq!(find(&table, 4096), None);
    }

    /// Make sure that a bare start gives way to a name of the same or the surrounding function, lends it its size, and
    /// else stands for itself.
    #[test]
    fn nameless() {
        let mut builder = Builder::default();
        builder.add(0x1000, 0x40, Rank::Nameless, b"");
        builder.add(0x1000, 0, Rank::Global, b"assembly");
        builder.add(0x2000, 0x100, Rank::Global, b"whole");
        builder.add(0x2080, 0x10, Rank::Nameless, b"");
        builder.add(0x3000, 0x20, Rank::Nameless, b"");
        let table = builder.finish();
        assert_eq!(find(&table, 0x103f), is("assembly", 0x3f));
        assert_eq!(find(&table, 0x1040), None);
        assert_eq!(find(&table, 0x2085), is("whole", 0x85));
        assert_eq!(find(&table, 0x301f), is("", 0x1f));
    }

    /// Make sure that every name comes back whole, whatever it shares with its neighbours, and that sharing saves room.
    #[test]
    fn names_come_back() {
        let mut builder = Builder::default();
        let name = |index: u64| format!("github.com/containers/package{}.(*Type).Method{index}", index / 10);
        for index in 0..1000 {
            builder.add(index * 16, 16, Rank::Runtime, name(index).as_bytes());
        }
        builder.add(16_000, 16, Rank::Global, &[b'a'; 100_000]);
        let raw = builder.bytes();
        let table = builder.finish();
        for index in 0..1000 {
            assert_eq!(find(&table, index * 16 + 3), is(&name(index), 3));
        }
        assert_eq!(find(&table, 16_001).unwrap().0.len(), MAX_RAW_NAME);
        assert!(table.bytes() * 2 < raw, "{} of {raw}", table.bytes());
    }

    /// Make sure that tables that no builder made are answered from without a panic.
    #[test]
    fn hostile_tables() {
        let good = postcard::to_stdvec(&table()).unwrap();
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let Ok(table) = postcard::from_bytes::<Table>(&bad) else {
                    continue;
                };
                for address in [0, 0x1000, 0x2001, 0x3018, 0x3080, u64::MAX] {
                    _ = table.find(address);
                }
            }
        }
    }
}
