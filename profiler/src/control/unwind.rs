//! Unwind tables: made in the background when a file is first mapped, given to the kernel when a walk misses one.
//!
//! The kernel names files by what it sees of them, perf by what it shows ([`FileKey`] and
//! [`FileKey`](crate::lookup::binaries::FileKey) differ behind overlays). They are joined by the miss itself: a walk
//! that misses a table tells the file's key and an address in it, and the process's mappings tell which file lies there.
//! Whether it is the same content, its time of change tells.

mod kernel;

use std::collections::HashMap;
use std::sync::Arc;

use profiler_common::unwind::{FRAME_POINTERS, FileKey, FileTable, TABLE};

use crate::load::unwind::UnwindMaps;
use crate::lookup::binaries::FileIx;
use crate::symbol::unwind::rows::{self, UnwindError};
use crate::symbol::unwind::table::Table;
use kernel::{Kernel, Run};

/// Memory for tables on this side, bytes. They are needed until the kernel has them, and for walks over copies; beyond it
/// those unused for longest are dropped.
const MAX_BYTES: usize = 48 << 20;
/// Files that wait for their table at a time; more are left without.
const MAX_WAITING: usize = 4096;

/// A table as this side has it.
#[derive(Debug)]
enum State {
    Waiting,
    Ready(Arc<Table>),
    /// No unwind information, or none that could be read.
    None,
    /// Dropped for want of memory.
    Dropped,
}

#[derive(Debug)]
struct Slot {
    state: State,
    /// Last change of the content that was read, ns since 1970.
    written: Option<i128>,
    /// Where the kernel has it.
    placed: Option<(Run, FileTable)>,
    used: u64,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tables {
            slots, bytes, causes, ..
        } = self;
        f.debug_struct("Tables")
            .field("slots", &slots.len())
            .field("bytes", bytes)
            .field("causes", causes)
            .finish_non_exhaustive()
    }
}

/// What there is for code of a file.
pub enum Found<'t> {
    Table(&'t Table),
    Later,
    /// Nothing: frame pointers.
    Nothing,
}

/// All tables.
pub struct Tables {
    kernel: Option<Kernel>,
    slots: HashMap<FileIx, Slot>,
    /// Whose table the kernel has under a key. Behind overlays one key has many files: perf tells each container's by itself.
    keys: HashMap<FileKey, FileIx>,
    /// Links that wait for a table.
    wanted: Vec<(FileKey, FileIx)>,
    /// Files whose table a walk has missed since [`Tables::take_missed`].
    missed: Vec<FileIx>,
    waiting: usize,
    bytes: usize,
    clock: u64,
    causes: Causes,
}

#[derive(Debug, Default)]
struct Causes {
    none: u64,
    foreign: u64,
    malformed: u64,
    large: u64,
    read: u64,
    parser: u64,
    crowded: u64,
    refused: u64,
    dropped: u64,
    evicted: u64,
    gone: u64,
    other_content: u64,
}

impl Default for Tables {
    fn default() -> Self {
        Tables::new(None)
    }
}

impl Tables {
    /// For the kernel's programs; without their maps only what is asked here is answered.
    pub fn new(maps: Option<UnwindMaps>) -> Tables {
        Tables {
            kernel: maps.map(Kernel::new),
            slots: HashMap::new(),
            keys: HashMap::new(),
            wanted: Vec::new(),
            missed: Vec::new(),
            waiting: 0,
            bytes: 0,
            clock: 0,
            causes: Causes::default(),
        }
    }

    /// Whether the table of a file that was found is to be made; then its [`Tables::answer`] is waited for. `written`:
    /// the file's last change, ns since 1970.
    pub fn wants(&mut self, file: FileIx, written: i128) -> bool {
        if self.kernel.is_none() || self.waiting >= MAX_WAITING {
            return false;
        }
        self.waiting += 1;
        self.put(file, State::Waiting, Some(written));
        true
    }

    /// Files whose table is waited for and has been missed by a walk: theirs are made first.
    pub fn take_missed(&mut self) -> Vec<FileIx> {
        std::mem::take(&mut self.missed)
    }

    /// Takes in the table of code that is in every process.
    pub fn vdso(&mut self, file: FileIx, image: &[u8]) {
        let Ok(table) = rows::read(image) else { return };
        self.put(file, State::Waiting, None);
        self.waiting += 1;
        self.answer(file, Ok(table));
        self.link(FileKey::VDSO, file);
    }

    /// Tables that have come since, to where they are wanted. To be called at each drain.
    pub fn poll(&mut self) {
        if let Some(kernel) = &mut self.kernel {
            kernel.settle();
        }
        for (key, file) in std::mem::take(&mut self.wanted) {
            self.link(key, file);
        }
    }

    /// Whether tables are on their way.
    pub fn busy(&self) -> bool {
        self.waiting > 0
    }

    /// A walk has missed the table of a file that the kernel calls `key`.
    pub fn link(&mut self, key: FileKey, file: FileIx) {
        self.clock += 1;
        let Some(kernel) = &mut self.kernel else { return };
        if let Some(slot) = self.keys.get(&key).and_then(|has| self.slots.get_mut(has)) {
            // Missed before it was entered.
            slot.used = self.clock;
            return;
        }
        let Some(slot) = self.slots.get_mut(&file) else {
            // The file was not found: there is nothing to wait for.
            return enter(&mut self.keys, kernel, key, frame_pointers());
        };
        slot.used = self.clock;
        let written = i128::from(key.mtime as i64) * 1_000_000_000 + i128::from(key.mtime_nsec);
        if slot.written.is_some_and(|known| known != written) {
            self.causes.other_content += 1;
            return enter(&mut self.keys, kernel, key, frame_pointers());
        }
        if let Some((_, table)) = slot.placed {
            self.keys.insert(key, file);
            return enter(&mut self.keys, kernel, key, table);
        }
        let table = match &slot.state {
            State::Waiting => {
                if !self.missed.contains(&file) {
                    self.missed.push(file);
                }
                return self.want(key, file);
            }
            State::Ready(table) => Arc::clone(table),
            State::None | State::Dropped => return enter(&mut self.keys, kernel, key, frame_pointers()),
        };
        let count = u32::try_from(table.blocks.len()).unwrap_or(u32::MAX);
        if count > kernel.room.all {
            self.causes.refused += 1;
            return enter(&mut self.keys, kernel, key, frame_pointers());
        }
        let Some(run) = kernel.room.take(count) else {
            // Walks may still read what leaves: the table has its place when they are done with that.
            if !kernel.awaits_room() {
                for evicted in least_used(&self.slots, count) {
                    self.evict(evicted);
                }
            }
            return self.want(key, file);
        };
        if !kernel.place(run, &table) {
            kernel.room.give(run);
            self.causes.refused += 1;
            return;
        }
        let entry = FileTable {
            kind: TABLE,
            base: run.first,
            first_page: table.first_page,
            pages: table.pages,
        };
        slot.placed = Some((run, entry));
        self.keys.insert(key, file);
        enter(&mut self.keys, kernel, key, entry);
    }

    /// Takes a table out of the kernel. If it is still needed, the next walk misses it.
    fn evict(&mut self, file: FileIx) {
        let Some(slot) = self.slots.get_mut(&file) else { return };
        match slot.state {
            State::Dropped => self.causes.gone += 1,
            _ => self.causes.evicted += 1,
        }
        if let (Some(kernel), Some((run, _))) = (&mut self.kernel, slot.placed.take()) {
            kernel.forget(&taken(&mut self.keys, file), run);
        }
    }

    /// Has a link made as soon as the table is there, or has its place.
    fn want(&mut self, key: FileKey, file: FileIx) {
        if self.wanted.len() < MAX_WAITING && !self.wanted.contains(&(key, file)) {
            self.wanted.push((key, file));
        }
    }

    /// What there is for the code of a file.
    pub fn find(&self, file: FileIx) -> Found<'_> {
        let Some(slot) = self.slots.get(&file) else {
            return Found::Nothing;
        };
        match &slot.state {
            State::Waiting => Found::Later,
            State::Ready(table) => Found::Table(table),
            State::None | State::Dropped => Found::Nothing,
        }
    }

    /// What could not be had: causes, each with its number of files. Those that did not occur are left out.
    pub fn losses(&self) -> Vec<(String, u64)> {
        let Causes {
            none,
            foreign,
            malformed,
            large,
            read,
            parser,
            crowded,
            refused,
            dropped,
            evicted,
            gone,
            other_content,
        } = self.causes;
        [
            (
                "unwind tables: file without unwind information (frame pointers are followed)",
                none,
            ),
            ("unwind tables: file of another machine or format", foreign),
            ("unwind tables: malformed file", malformed),
            ("unwind tables: file too large", large),
            ("unwind tables: file could not be read", read),
            ("unwind tables: the process that reads files died of it", parser),
            ("unwind tables: pages of code with too many rows", crowded),
            ("unwind tables: no room in the kernel", refused),
            ("unwind tables: dropped, out of memory", dropped),
            (
                "unwind tables: taken out of the kernel for want of room, until they are needed again",
                evicted,
            ),
            (
                "unwind tables: taken out of the kernel for want of room, and out of memory (frame pointers are followed)",
                gone,
            ),
            (
                "unwind tables: mapped content is not the one that was read",
                other_content,
            ),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
    }

    /// Bytes of all tables on this side, and blocks in the kernel.
    pub fn size(&self) -> (usize, u32) {
        (self.bytes, self.kernel.as_ref().map_or(0, |kernel| kernel.room.used()))
    }

    /// The table of a file has been made, or can't be.
    pub fn answer(&mut self, file: FileIx, answer: Result<Table, UnwindError>) {
        self.waiting = self.waiting.saturating_sub(1);
        let state = match answer {
            Ok(table) => {
                self.causes.crowded += u64::from(table.crowded);
                self.bytes += table.bytes();
                State::Ready(Arc::new(table))
            }
            Err(why) => {
                tracing::debug!("no unwind table: {why}");
                let cause = match why {
                    UnwindError::None => &mut self.causes.none,
                    UnwindError::Foreign => &mut self.causes.foreign,
                    UnwindError::Malformed => &mut self.causes.malformed,
                    UnwindError::TooLarge => &mut self.causes.large,
                    UnwindError::Read(_) => &mut self.causes.read,
                    UnwindError::Parser(_) => &mut self.causes.parser,
                };
                *cause += 1;
                State::None
            }
        };
        if let Some(slot) = self.slots.get_mut(&file) {
            slot.state = state;
        }
        self.shrink();
    }

    fn put(&mut self, file: FileIx, state: State, written: Option<i128>) {
        self.clock += 1;
        let slot = Slot {
            state,
            written,
            placed: None,
            used: self.clock,
        };
        let Some(old) = self.slots.insert(file, slot) else {
            return;
        };
        if let State::Ready(table) = &old.state {
            self.bytes -= table.bytes();
        }
        if let (Some(kernel), Some((run, _))) = (&mut self.kernel, old.placed) {
            kernel.forget(&taken(&mut self.keys, file), run);
        }
    }

    /// Drops tables, first those that the kernel has: from it they are still of use.
    fn shrink(&mut self) {
        while self.bytes > MAX_BYTES {
            let oldest = self
                .slots
                .values_mut()
                .filter(|slot| matches!(slot.state, State::Ready(_)))
                .min_by_key(|slot| (slot.placed.is_none(), slot.used));
            let Some(slot) = oldest else { break };
            if let State::Ready(table) = std::mem::replace(&mut slot.state, State::Dropped) {
                self.bytes -= table.bytes();
                self.causes.dropped += 1;
            }
        }
    }
}

fn frame_pointers() -> FileTable {
    FileTable {
        kind: FRAME_POINTERS,
        ..FileTable::default()
    }
}

/// The files whose tables were asked for least lately, as many as have `count` blocks in the kernel. Tables that are nowhere
/// else are the last of them: they can't come back.
fn least_used(slots: &HashMap<FileIx, Slot>, count: u32) -> Vec<FileIx> {
    let last = |slot: &Slot| matches!(slot.state, State::Dropped);
    let placed = slots
        .iter()
        .filter_map(|(file, slot)| Some((last(slot), slot.used, *file, slot.placed?.0.count)));
    let mut placed: Vec<_> = placed.collect();
    placed.sort_unstable();
    let mut freed = 0u32;
    let needed = placed.into_iter().take_while(|(.., blocks)| {
        let more = freed < count;
        freed = freed.saturating_add(*blocks);
        more
    });
    needed.map(|(.., file, _)| file).collect()
}

/// Enters a table under a key. One that leaves for it is to be entered again when a walk misses it.
fn enter(keys: &mut HashMap<FileKey, FileIx>, kernel: &mut Kernel, key: FileKey, table: FileTable) {
    if let Some(left) = kernel.enter(key, table) {
        keys.remove(&left);
    }
}

/// Takes out the keys of a file.
fn taken(keys: &mut HashMap<FileKey, FileIx>, file: FileIx) -> Vec<FileKey> {
    keys.extract_if(|_, of| *of == file).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use profiler_common::unwind::{BLOCK_ROWS, FILES, Rule};

    use super::*;
    use crate::kernel::offsets;
    use crate::load::unwind::Shared;
    use crate::load::{LoadOptions, Loaded};

    /// Make sure that as many tables leave as give the room that is needed, those unused for longest.
    #[test]
    fn least_used_leave() {
        let slot = |used, count: Option<u32>| Slot {
            state: State::None,
            written: None,
            placed: count.map(|count| (Run { first: 0, count }, FileTable::default())),
            used,
        };
        let mut slots: HashMap<FileIx, Slot> = [
            (FileIx(0), slot(4, Some(9))),
            (FileIx(1), slot(2, Some(3))),
            (FileIx(2), slot(1, None)),
            (FileIx(3), slot(3, Some(3))),
        ]
        .into();
        assert_eq!(least_used(&slots, 1), [FileIx(1)]);
        assert_eq!(least_used(&slots, 3), [FileIx(1)]);
        assert_eq!(least_used(&slots, 4), [FileIx(1), FileIx(3)]);
        assert_eq!(least_used(&slots, 100), [FileIx(1), FileIx(3), FileIx(0)]);
        slots.get_mut(&FileIx(1)).unwrap().state = State::Dropped;
        assert_eq!(least_used(&slots, 4), [FileIx(3), FileIx(0)]);
        assert_eq!(least_used(&slots, 100), [FileIx(3), FileIx(0), FileIx(1)]);
    }

    /// Make sure that a table for which there is no room has one as soon as nobody reads what is taken out for it, that no
    /// more is taken out than that, and that what was comes back.
    #[test]
    fn more_than_there_is_room_for() {
        // SAFETY: no arguments.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("skipped: loading eBPF programs needs root");
            return;
        }
        let btf = aya::Btf::from_sys_fs().unwrap();
        let resolved = offsets::resolve(Path::new(offsets::VMLINUX_BTF)).unwrap();
        let options = LoadOptions {
            sample_hz: 99,
            cpus: vec![0],
            ring_bytes: 4 << 20,
            ..LoadOptions::default()
        };
        let mut loaded = Loaded::load(&btf, &resolved, &options).unwrap();
        let mut tables = Tables::new(loaded.take_unwind());
        let all = tables.kernel.as_ref().unwrap().room.all;
        let key = |file: FileIx| FileKey {
            ino: u64::from(file.0) + 1,
            ..FileKey::VDSO
        };
        let files = [FileIx(0), FileIx(1), FileIx(2)];
        for file in files {
            assert!(tables.wants(file, 0));
            let table = Table {
                first_page: 0,
                pages: 1,
                blocks: vec![[0; BLOCK_ROWS]; (all / 5 * 2) as usize],
                rules: vec![Rule::NONE],
                crowded: 0,
            };
            // On this side there is memory for fewer.
            tables.slots.get_mut(&file).unwrap().state = State::Ready(Arc::new(table));
        }
        let kinds = |tables: &Tables| {
            let kernel = tables.kernel.as_ref().unwrap();
            files.map(|file| {
                kernel
                    .maps
                    .files
                    .get(&Shared(key(file)), 0)
                    .ok()
                    .map(|found| found.0.kind)
            })
        };
        tables.link(key(files[0]), files[0]);
        tables.link(key(files[1]), files[1]);
        tables.link(key(files[2]), files[2]);
        // Taken out, and still being read.
        assert_eq!(kinds(&tables), [None, Some(TABLE), None]);
        tables.poll();
        assert_eq!(kinds(&tables), [None, Some(TABLE), None]);
        tables.poll();
        assert_eq!(kinds(&tables), [None, Some(TABLE), Some(TABLE)]);
        tables.link(key(files[0]), files[0]);
        assert_eq!(kinds(&tables), [None, None, Some(TABLE)]);
        tables.poll();
        tables.poll();
        assert_eq!(kinds(&tables), [Some(TABLE), None, Some(TABLE)]);
        assert_eq!((tables.causes.evicted, tables.causes.refused), (2, 0));
        // Another container's name of the same file needs no place of its own, and takes none away.
        let used = tables.size().1;
        tables.link(key(files[2]), files[1]);
        assert_eq!(tables.size().1, used);
        assert_eq!(kinds(&tables), [Some(TABLE), None, Some(TABLE)]);
        // More files than the kernel's map takes: those that were entered first leave it, and come back.
        for ino in 0..u64::from(FILES) {
            let other = FileKey {
                ino: ino + 1_000_000,
                ..FileKey::VDSO
            };
            // One of them twice costs nobody else its place.
            tables.link(other, FileIx(99));
            tables.link(other, FileIx(99));
        }
        assert_eq!(kinds(&tables), [None, None, None]);
        tables.link(key(files[0]), files[0]);
        assert_eq!(kinds(&tables), [Some(TABLE), None, None]);
        // Also when there is no memory for it on this side any more.
        tables.slots.get_mut(&files[2]).unwrap().state = State::Dropped;
        tables.link(key(files[2]), files[2]);
        assert_eq!(kinds(&tables), [Some(TABLE), None, Some(TABLE)]);
    }

    /// Make sure that without the kernel's maps no table is asked for.
    #[test]
    fn nobody_to_walk() {
        let mut tables = Tables::default();
        assert!(!tables.wants(FileIx(0), 0));
        assert!(matches!(tables.find(FileIx(0)), Found::Nothing));
    }
}
