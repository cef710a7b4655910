//! Address spaces: which file lies at an address of a process, at the time of its event.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use crate::ingest::mappings::Map;
use crate::lookup::binaries::FileIx;

/// Most executable file mappings kept of one process. A process of 1,000 shared libraries has 1,000; the kernel's own
/// bound is 65,530 (`vm.max_map_count`).
const MAX_MAPS: usize = 8192;
/// Most address spaces. An end that was lost leaves one behind; the default `pid_max` of small machines is 32,768.
const MAX_SPACES: usize = 65_536;
/// Longest `/proc/PID/maps` read, bytes: [`MAX_MAPS`] lines and as many others, 256 bytes each.
const MAX_PROC_MAPS: u64 = 4 << 20;

/// An executable part of a file in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    pgoff: u64,
    file: FileIx,
}

/// The mappings of one process, by start address; shared between a process and its children until one changes.
#[derive(Clone, Debug, Default)]
struct Space {
    /// Of this content: two spaces of one number are the same, and a change takes a new number.
    version: u64,
    maps: Arc<Vec<Mapping>>,
}

/// All address spaces, by process id.
#[derive(Debug, Default)]
pub struct Spaces {
    spaces: HashMap<u32, Space>,
    versions: u64,
    refused: u64,
}

impl Spaces {
    /// A mapping appeared; it replaces what it overlaps, as unmapping is not recorded. `file` is `None` for code in
    /// no file (JIT, `//anon`).
    pub fn map(&mut self, tgid: u32, map: &Map<'_>, file: Option<FileIx>) {
        if map.start >= map.end {
            return;
        }
        let Some(space) = self.space(tgid) else { return };
        let maps = Arc::make_mut(&mut space.maps);
        carve(maps, map.start, map.end);
        if let Some(file) = file {
            if maps.len() >= MAX_MAPS {
                self.refused += 1;
                return;
            }
            let at = maps.partition_point(|other| other.start < map.start);
            maps.insert(
                at,
                Mapping {
                    start: map.start,
                    end: map.end,
                    pgoff: map.pgoff,
                    file,
                },
            );
        }
    }

    /// The process runs a new image: its old mappings are gone.
    pub fn exec(&mut self, tgid: u32) {
        if let Some(space) = self.space(tgid) {
            space.maps = Arc::default();
        }
    }

    /// `child` begins with the parent's mappings. Not for threads: those share their process' space.
    pub fn fork(&mut self, parent: u32, child: u32) {
        if parent == child {
            return;
        }
        match self.spaces.get(&parent).cloned() {
            Some(space) if self.spaces.len() < MAX_SPACES || self.spaces.contains_key(&child) => {
                self.spaces.insert(child, space);
            }
            Some(_) => self.refused += 1,
            // The id may be an old one's whose end was lost.
            None => self.exit(child),
        }
    }

    /// The files that lie in the process' space.
    pub fn files(&self, tgid: u32) -> impl Iterator<Item = FileIx> {
        let space = self.spaces.get(&tgid);
        space
            .into_iter()
            .flat_map(|space| space.maps.iter().map(|map| map.file))
    }

    /// The process is gone.
    pub fn exit(&mut self, tgid: u32) {
        self.spaces.remove(&tgid);
    }

    /// Takes the executable mappings of a running process from `/proc/PID/maps`; `file` gives each mapped file its
    /// number. For processes that were there before recording began.
    ///
    /// # Errors
    ///
    /// When the process is gone, or may not be read.
    pub fn seed(&mut self, tgid: u32, mut file: impl FnMut(&Map<'_>) -> Option<FileIx>) -> std::io::Result<()> {
        let maps = std::fs::File::open(format!("/proc/{tgid}/maps"))?.take(MAX_PROC_MAPS);
        let mut reader = BufReader::new(maps);
        let mut line = Vec::new();
        self.exec(tgid);
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if let Some(map) = parse_line(line.strip_suffix(b"\n").unwrap_or(&line)) {
                let file = file(&map);
                // Offsets in code that lies in no file are addresses.
                let pgoff = if map.ino == 0 && !map.path.starts_with(b"[v") {
                    map.start
                } else {
                    map.pgoff
                };
                self.map(tgid, &Map { pgoff, ..map }, file);
            }
        }
    }

    /// The file and the offset in it that lie at `address` of process `tgid`.
    pub fn resolve(&self, tgid: u32, address: u64) -> Option<(FileIx, u64)> {
        let maps = &self.spaces.get(&tgid)?.maps;
        let before = maps.partition_point(|map| map.start <= address);
        let map = maps.get(before.checked_sub(1)?)?;
        (address < map.end).then(|| (map.file, map.pgoff.wrapping_add(address - map.start)))
    }

    /// The process' space as it is now, by itself.
    pub fn snapshot(&self, tgid: u32) -> Spaces {
        Spaces {
            spaces: self
                .spaces
                .get(&tgid)
                .map(|space| (tgid, space.clone()))
                .into_iter()
                .collect(),
            ..Spaces::default()
        }
    }

    /// A number for the content of the process' space: while it stays, [`Spaces::resolve`] gives the same answers.
    /// 0: nothing is known of the process.
    pub fn version(&self, tgid: u32) -> u64 {
        self.spaces.get(&tgid).map_or(0, |space| space.version)
    }

    /// Mappings and processes that were not kept, for want of room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Number of address spaces known.
    pub fn len(&self) -> usize {
        self.spaces.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }

    /// The process' space, about to be changed.
    fn space(&mut self, tgid: u32) -> Option<&mut Space> {
        if self.spaces.len() >= MAX_SPACES && !self.spaces.contains_key(&tgid) {
            self.refused += 1;
            return None;
        }
        self.versions += 1;
        let space = self.spaces.entry(tgid).or_default();
        space.version = self.versions;
        Some(space)
    }
}

/// Removes `[start, end)` from `maps`; a mapping that reaches over both ends is left in two parts.
fn carve(maps: &mut Vec<Mapping>, start: u64, end: u64) {
    let first = maps.partition_point(|map| map.end <= start);
    let last = maps.partition_point(|map| map.start < end);
    if first >= last {
        return;
    }
    let cut: Vec<Mapping> = maps.drain(first..last).collect();
    let left = cut
        .first()
        .filter(|map| map.start < start)
        .map(|map| Mapping { end: start, ..*map });
    let right = cut.last().filter(|map| map.end > end).map(|map| Mapping {
        start: end,
        pgoff: map.pgoff.wrapping_add(end - map.start),
        ..*map
    });
    maps.splice(first..first, left.into_iter().chain(right));
}

/// Reads a line of `/proc/PID/maps`; `None` when it is not executable. The path keeps the kernel's `\012` for a line
/// break.
fn parse_line(line: &[u8]) -> Option<Map<'_>> {
    // start-end perms offset major:minor inode [spaces] path
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let (start, end) = split_hex(fields.next()?, b'-')?;
    if fields.next()?.get(2) != Some(&b'x') {
        return None;
    }
    let pgoff = hex(fields.next()?)?;
    let (major, minor) = split_hex(fields.next()?, b':')?;
    let ino = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let path = fields.next().unwrap_or_default().trim_ascii_start();
    let dev = u32::try_from(major << 20 | minor & 0xf_ffff).ok()?;
    Some(Map {
        start,
        end,
        pgoff,
        dev,
        ino,
        generation: 0,
        path,
    })
}

fn split_hex(text: &[u8], at: u8) -> Option<(u64, u64)> {
    let middle = text.iter().position(|byte| *byte == at)?;
    Some((hex(text.get(..middle)?)?, hex(text.get(middle + 1..)?)?))
}

fn hex(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(start: u64, end: u64, pgoff: u64) -> Map<'static> {
        Map {
            start,
            end,
            pgoff,
            dev: 1,
            ino: 1,
            generation: 1,
            path: b"/x",
        }
    }

    /// Make sure that an address is found in its mapping with the file's offset, and nowhere else.
    #[test]
    fn resolve_within() {
        let mut spaces = Spaces::default();
        spaces.map(1, &map(0x2000, 0x3000, 0x500), Some(FileIx(7)));
        spaces.map(1, &map(0x1000, 0x2000, 0), Some(FileIx(8)));
        assert_eq!(spaces.resolve(1, 0x2010), Some((FileIx(7), 0x510)));
        assert_eq!(spaces.resolve(1, 0x1fff), Some((FileIx(8), 0xfff)));
        assert_eq!(spaces.resolve(1, 0x3000), None);
        assert_eq!(spaces.resolve(1, 0xfff), None);
        assert_eq!(spaces.resolve(2, 0x2010), None);
        spaces.map(1, &map(5, 5, 0), Some(FileIx(9)));
        assert_eq!(spaces.resolve(1, 5), None);
    }

    /// Make sure that a new mapping replaces what it overlaps: inside, at both ends, and several at once.
    #[test]
    fn overlaps_replace() {
        let mut spaces = Spaces::default();
        spaces.map(1, &map(0x1000, 0x5000, 0x10000), Some(FileIx(1)));
        spaces.map(1, &map(0x2000, 0x3000, 0), Some(FileIx(2)));
        assert_eq!(spaces.resolve(1, 0x1fff), Some((FileIx(1), 0x10fff)));
        assert_eq!(spaces.resolve(1, 0x2000), Some((FileIx(2), 0)));
        assert_eq!(spaces.resolve(1, 0x3000), Some((FileIx(1), 0x12000)));
        spaces.map(1, &map(0x1800, 0x4800, 0), None);
        assert_eq!(spaces.resolve(1, 0x17ff), Some((FileIx(1), 0x107ff)));
        assert_eq!(spaces.resolve(1, 0x2000), None);
        assert_eq!(spaces.resolve(1, 0x4800), Some((FileIx(1), 0x13800)));
        spaces.map(1, &map(0, u64::MAX, 0), Some(FileIx(3)));
        assert_eq!(spaces.resolve(1, 0x1000), Some((FileIx(3), 0x1000)));
    }

    /// Make sure that random mappings give what a page-by-page model gives.
    #[test]
    fn agrees_with_a_model() {
        let mut spaces = Spaces::default();
        let mut model: Vec<Option<(u32, u64)>> = vec![None; 64];
        let mut seed = 12345u64;
        for step in 0..2000u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (start, len) = ((seed >> 33) % 60, 1 + (seed >> 45) % 12);
            let end = (start + len).min(64);
            let file = (step % 5 != 0).then_some(step);
            spaces.map(1, &map(start << 12, end << 12, 0), file.map(FileIx));
            for page in start..end {
                model[page as usize] = file.map(|file| (file, (page - start) << 12));
            }
            for (page, expected) in model.iter().enumerate() {
                let found = spaces
                    .resolve(1, (page as u64) << 12)
                    .map(|(file, offset)| (file.0, offset));
                assert_eq!(found, *expected, "step {step}, page {page}");
            }
        }
    }

    /// Make sure that a child has its parent's mappings until either changes, and that exec and exit clear only
    /// their own process.
    #[test]
    fn fork_exec_exit() {
        let mut spaces = Spaces::default();
        spaces.map(1, &map(0x1000, 0x2000, 0), Some(FileIx(1)));
        spaces.fork(1, 2);
        assert_eq!(spaces.version(1), spaces.version(2));
        spaces.map(1, &map(0x5000, 0x6000, 0), Some(FileIx(5)));
        assert_ne!(spaces.version(1), spaces.version(2));
        assert_eq!(spaces.resolve(2, 0x5000), None);
        assert_eq!(spaces.resolve(2, 0x1000), Some((FileIx(1), 0)));
        spaces.exec(2);
        assert_eq!(spaces.resolve(2, 0x1000), None);
        assert_eq!(spaces.resolve(1, 0x1000), Some((FileIx(1), 0)));
        spaces.exit(1);
        assert_eq!(spaces.version(1), 0);
        spaces.map(3, &map(0x1000, 0x2000, 0), Some(FileIx(1)));
        spaces.fork(99, 3);
        assert_eq!(spaces.resolve(3, 0x1000), None);
    }

    /// Make sure that the number of mappings of one process is bounded, and the rest counted.
    #[test]
    fn bounded() {
        let mut spaces = Spaces::default();
        for index in 0..(MAX_MAPS as u64 + 3) {
            spaces.map(1, &map(index * 0x2000, index * 0x2000 + 0x1000, 0), Some(FileIx(1)));
        }
        assert_eq!(spaces.refused(), 3);
    }

    /// Make sure that executable lines of /proc/PID/maps are read whole, paths with blanks included.
    #[test]
    fn proc_maps_lines() {
        let line = b"7f12a000-7f12b000 r-xp 00001000 fe:01 4711                       /a b/c (deleted)";
        let parsed = parse_line(line).unwrap();
        assert_eq!(
            (parsed.start, parsed.end, parsed.pgoff),
            (0x7f12_a000, 0x7f12_b000, 0x1000)
        );
        assert_eq!(
            (parsed.dev, parsed.ino, parsed.path),
            (0xfe << 20 | 1, 4711, &b"/a b/c (deleted)"[..])
        );
        assert_eq!(parse_line(b"7f12a000-7f12b000 rw-p 00001000 fe:01 4711 /x"), None);
        let vdso = parse_line(b"7ffc0000-7ffc2000 r-xp 00000000 00:00 0                          [vdso]").unwrap();
        assert_eq!((vdso.path, vdso.ino), (&b"[vdso]"[..], 0));
        assert_eq!(parse_line(b"garbage"), None);
        assert_eq!(parse_line(b""), None);
    }

    /// Make sure that this process' own code is found after seeding, in the file that it was started from.
    #[test]
    fn seed_self() {
        let mut spaces = Spaces::default();
        let mut paths = Vec::new();
        let pid = std::process::id();
        spaces
            .seed(pid, |map| {
                paths.push(map.path.to_vec());
                Some(FileIx(paths.len() as u32 - 1))
            })
            .unwrap();
        let (file, _) = spaces.resolve(pid, seed_self as fn() as usize as u64).unwrap();
        let exe = std::fs::read_link("/proc/self/exe").unwrap();
        assert_eq!(paths[file.0 as usize], exe.as_os_str().as_encoded_bytes());
    }
}
