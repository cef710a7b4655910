//! `/tmp/perf-PID.map`: names that a just-in-time compiler leaves for profilers. Lines of `START SIZE NAME`, both
//! numbers hexadecimal (`tools/perf/Documentation/jit-interface.txt` of the kernel).

use crate::lookup::elf::{ElfError, MAX_TABLE, Source};
use crate::symbol::table::{Builder, Rank, Table};

/// Longest map read, bytes; what lies behind is left out. A large Java server writes 10 MB.
const MAX_MAP: u64 = 64 << 20;
/// Bytes read at a time.
const CHUNK: u64 = 256 * 1024;
/// Longest line, bytes; a longer one is cut there, and what follows is passed over up to the line's end.
const MAX_LINE: usize = 4096;

/// Reads a map. Lines that are none are passed over: it may be written to at this moment.
///
/// # Errors
///
/// [`ElfError::Read`], [`ElfError::TooMany`].
pub fn read<S: Source + ?Sized>(source: &S) -> Result<Table, ElfError> {
    let size = source.size()?.min(MAX_MAP);
    let mut builder = Latest::default();
    let mut line = Vec::new();
    let mut at = 0;
    while at < size {
        let mut chunk = vec![0; CHUNK.min(size - at) as usize];
        source.fill(&mut chunk, at)?;
        at += chunk.len() as u64;
        let mut parts = chunk.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = MAX_LINE - line.len();
            line.extend_from_slice(part.get(..room).unwrap_or(part));
            if parts.peek().is_some() {
                builder.line(&line);
                line.clear();
            }
        }
    }
    builder.line(&line);
    builder.finish()
}

/// Code is written over: of entries that overlap the last counts.
#[derive(Default)]
struct Latest {
    /// Start, size and where the name lies.
    entries: Vec<(u64, u64, usize, usize)>,
    names: Vec<u8>,
}

impl Latest {
    fn line(&mut self, line: &[u8]) {
        let mut fields = line.splitn(3, |byte| *byte == b' ');
        let mut number = || {
            let text = std::str::from_utf8(fields.next()?).ok()?;
            u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
        };
        let (Some(start), Some(size)) = (number(), number()) else {
            return;
        };
        let name = fields.next().unwrap_or_default();
        if size == 0 || name.is_empty() {
            return;
        }
        let from = self.names.len();
        self.names.extend_from_slice(name);
        self.entries.push((start, size, from, name.len()));
    }

    fn finish(mut self) -> Result<Table, ElfError> {
        // Stable: of one start the last line comes last.
        self.entries.sort_by_key(|(start, ..)| *start);
        let mut builder = Builder::default();
        let mut entries = self.entries.iter().peekable();
        while let Some(&(start, size, from, len)) = entries.next() {
            let next = entries.peek().map_or(u64::MAX, |(next, ..)| *next);
            if next == start {
                continue;
            }
            let name = self.names.get(from..from + len).unwrap_or_default();
            builder.add(start, size.min(next - start), Rank::Runtime, name);
        }
        let table = builder.finish();
        if table.bytes() > MAX_TABLE {
            return Err(ElfError::TooMany);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(map: &[u8], addresses: &[u64]) -> Vec<String> {
        let table = read(map).unwrap();
        let name = |address: &u64| match table.find(*address) {
            Some(found) => format!("{}+{}", String::from_utf8_lossy(&found.name), found.offset),
            None => "-".to_owned(),
        };
        addresses.iter().map(name).collect()
    }

    /// Make sure that names with blanks, both forms of numbers and a last line without its end are read.
    #[test]
    fn lines() {
        let map = b"7f00 10 LazyCompile:~f /a b.js:1\n0x7f10 0x10 Lorg/x;::run\n8000 8 last";
        assert_eq!(
            names(map, &[0x7f01, 0x7f1f, 0x8007, 0x8008]),
            ["LazyCompile:~f /a b.js:1+1", "Lorg/x;::run+15", "last+7", "-"]
        );
    }

    /// Make sure that code compiled to a place again has the later name.
    #[test]
    fn written_over() {
        assert_eq!(
            names(b"1000 40 old\n2000 10 x\n1000 20 new\n", &[0x1000, 0x1020]),
            ["new+0", "-"]
        );
    }

    /// Make sure that what is no map, endless lines and control characters bring neither a panic nor more than the
    /// bounds.
    #[test]
    fn hostile_maps() {
        for map in [
            &b""[..],
            b"\n\n",
            b"x y z\n",
            b"1000\n",
            b"1000 10\n",
            b"-1 10 x\n",
            b"1 0 zero\n",
            &[0xff; 5000],
        ] {
            assert!(read(map).unwrap().is_empty(), "{map:?}");
        }
        let mut long = b"1000 10 ".to_vec();
        long.resize(3 << 20, b'a');
        long.extend_from_slice(b"\n2000 10 \x1b[31m\x01next\n");
        let table = read(&long[..]).unwrap();
        assert!(table.find(0x1000).unwrap().name.len() <= MAX_LINE);
        assert_eq!(table.find(0x2000).unwrap().name, b"\x1b[31m\x01next");
    }
}
