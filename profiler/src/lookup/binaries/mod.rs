//! Mapped files: each gets a number at first sight, and is opened there and then for its symbols.
//!
//! No file stays open for long (see [`locate`](crate::lookup::locate)), and a process that lived 1 ms is gone when a
//! stack of it is looked at: what is not opened at first sight may never be. It is read by the
//! [parser](crate::symbol::sandbox), whose answers come later.

mod causes;
mod reading;

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::control::unwind::Tables;
use crate::ingest::mappings::Map;
use crate::lookup::beside::{self, Root};
use crate::lookup::elf::{self, Image};
use crate::lookup::locate::{Found, Locator, Miss, Sighting, Way};
use crate::lookup::mounts::mounts_of;
use crate::symbol::sandbox::{Answer, Job, Sandbox};
use crate::symbol::user::User;
use causes::{CAUSES, Cause};
use reading::Ticket;

/// Most files of one recording.
const MAX_FILES: usize = 65_536;
/// Longest path kept, bytes: `PATH_MAX`.
const MAX_PATH: usize = 4096;
/// How often a file is looked for that could not be found.
const MAX_TRIES: u8 = 3;
/// A file changed less than this before the recording's start counts as changed during it: file systems keep times
/// to a timer tick, and clocks are set.
const SLACK: Duration = Duration::from_secs(2);

/// What perf tells of a file. Not unique in time: overlays have no generations, and inode numbers return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// `major << 20 | minor`
    pub dev: u32,
    pub ino: u64,
    /// 0 where it is not known.
    pub generation: u64,
}

/// A mapped file of this recording: index in [`Binaries::file`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileIx(pub u32);

/// A file as it was first seen.
#[derive(Debug)]
pub struct Binary {
    pub key: FileKey,
    /// As the mapping process saw it. Hostile text.
    pub path: Vec<u8>,
    /// Of the file that was found.
    identity: Option<(i128, u64)>,
    /// [`Sighting::ts`] of its first mapping.
    seen: u64,
    tries: u8,
    /// Why there are no symbols.
    cause: Option<Cause>,
    /// What its path counts from, once it was found.
    root: Option<Root>,
}

/// All mapped files.
#[derive(Debug)]
pub struct Binaries {
    files: Vec<Binary>,
    by_key: HashMap<FileKey, FileIx>,
    /// By device and inode alone, for `/proc/PID/maps`, which does not tell the generation.
    by_inode: HashMap<(u32, u64), FileIx>,
    special: HashMap<Vec<u8>, FileIx>,
    locator: Locator,
    user: User,
    sandbox: Sandbox,
    tickets: HashMap<u64, Ticket>,
    next_ticket: u64,
    /// Files whose image came since [`Binaries::poll`] last told.
    arrived: Vec<FileIx>,
    /// Answers to [`Binaries::submit_names`].
    names: Vec<Answer>,
    /// Folders of debug information that the user gave.
    debug_folders: Vec<PathBuf>,
    /// Files that got names from elsewhere.
    debug_files: u64,
    unwind: Tables,
    /// Files not kept for want of room.
    refused: u64,
    ways: [u64; 4],
    /// Files changed since (ns since 1970) are looked at again each time they are mapped.
    since: i128,
}

impl Default for Binaries {
    fn default() -> Self {
        Self::new()
    }
}

impl Binaries {
    /// None yet. Make it before the first mapping is recorded.
    pub fn new() -> Self {
        let since = (SystemTime::now() - SLACK)
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Binaries {
            files: Vec::new(),
            by_key: HashMap::new(),
            by_inode: HashMap::new(),
            special: HashMap::new(),
            locator: Locator::default(),
            user: User::default(),
            sandbox: Sandbox::default(),
            tickets: HashMap::new(),
            next_ticket: 0,
            arrived: Vec::new(),
            names: Vec::new(),
            debug_folders: Vec::new(),
            debug_files: 0,
            unwind: Tables::default(),
            refused: 0,
            ways: [0; 4],
            since: i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        }
    }

    /// With another parser than this program's own.
    pub fn with_sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// Also looks for debug information in these folders.
    pub fn set_debug_folders(&mut self, folders: Vec<PathBuf>) {
        self.debug_folders = folders;
    }

    /// The number of the mapped file, whose symbols are read when it is new. `None` for code that lies in no file.
    ///
    /// A file that changed since the recording began is compared with what was read of it, and is another file when
    /// it differs: compilers and `configure` write, run and remove programs whose inode numbers return at once.
    pub fn see(&mut self, sighting: &Sighting<'_>) -> Option<FileIx> {
        let map = &sighting.map;
        if map.ino == 0 {
            return self.see_special(map.path);
        }
        let key = FileKey {
            dev: map.dev,
            ino: map.ino,
            generation: map.generation,
        };
        let known = self.by_key.get(&key).copied().or_else(|| {
            // A generation on one side only says nothing.
            let known = *self.by_inode.get(&(key.dev, key.ino))?;
            (key.generation == 0 || self.file(known)?.key.generation == 0).then_some(known)
        });
        let Some(known) = known else {
            let file = self.add(key, map.path, sighting.ts)?;
            let outcome = self.locate(sighting);
            self.keep(file, outcome);
            return Some(file);
        };
        let binary = self.files.get(known.0 as usize)?;
        match binary.identity {
            Some((changed, _)) if changed < self.since => Some(known),
            None if binary.tries >= MAX_TRIES => Some(known),
            None => {
                let outcome = self.locate(sighting);
                let file = if self.since_first(known, &outcome) {
                    known
                } else {
                    self.add(key, map.path, sighting.ts)?
                };
                self.keep(file, outcome);
                Some(file)
            }
            identity => match self.locate(sighting) {
                Ok(found) if Some(found.identity) == identity => Some(known),
                // Deleted meanwhile. Inode and generation are still one file's.
                Err(_) if key.generation != 0 => Some(known),
                outcome => {
                    let file = self.add(key, map.path, sighting.ts)?;
                    self.keep(file, outcome);
                    Some(file)
                }
            },
        }
    }

    /// Tells of a mount of type overlay, as its system call gave it: `merged` is the target, `options` the data.
    pub fn note_overlay(&mut self, mnt_ns: u32, merged: &[u8], options: &[u8]) {
        self.locator.overlays.note(mnt_ns, merged, options);
    }

    /// Learns the overlays of a running process' mount namespace, for containers that were there before the recording.
    /// Not for processes that may be about to end: reading their mount table keeps their root's mount busy for a
    /// moment.
    pub fn learn_mounts(&mut self, tgid: u32) {
        self.locator.overlays.learn(&mounts_of(&tgid.to_string()));
    }

    /// Looks again for the files that were not found, for overlays that were told of late.
    pub fn retry_missing(&mut self) {
        for index in 0..self.files.len() {
            let Some(binary) = self.files.get(index) else { return };
            if binary.identity.is_some() || binary.key.ino == 0 || binary.tries >= MAX_TRIES {
                continue;
            }
            let path = binary.path.clone();
            let FileKey { dev, ino, generation } = binary.key;
            let map = Map {
                start: 0,
                end: 0,
                pgoff: 0,
                dev,
                ino,
                generation,
                path: &path,
            };
            let ts = binary.seen;
            // Indices are bounded by MAX_FILES.
            let file = FileIx(index as u32);
            let outcome = self.locate(&Sighting {
                ts,
                pid: 0,
                mnt_ns: 0,
                map,
            });
            if self.since_first(file, &outcome) {
                self.keep(file, outcome);
            }
        }
    }

    /// What is known of a file.
    pub fn file(&self, file: FileIx) -> Option<&Binary> {
        self.files.get(file.0 as usize)
    }

    /// What was read of a file.
    pub fn image(&self, file: FileIx) -> Option<&Image> {
        self.user.image(file)
    }

    /// The symbols of all files.
    pub fn user(&mut self) -> &mut User {
        &mut self.user
    }

    /// Makes unwind tables of the files that are found from here on.
    pub fn unwind_by(&mut self, tables: Tables) {
        self.unwind = tables;
    }

    /// The unwind tables of all files.
    pub fn unwind(&self) -> &Tables {
        &self.unwind
    }

    /// As [`Binaries::unwind`].
    pub fn unwind_mut(&mut self) -> &mut Tables {
        &mut self.unwind
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether none was seen.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// How many files were reached by `way`.
    pub fn reached(&self, way: Way) -> u64 {
        self.ways.get(way as usize).copied().unwrap_or(0)
    }

    /// What could not be had: causes, each with its number of files. Those that did not occur are left out.
    pub fn losses(&self) -> Vec<(String, u64)> {
        let mut counts = vec![0; CAUSES.len()];
        for cause in self.files.iter().filter_map(|binary| binary.cause) {
            if let Some(count) = counts.get_mut(cause as usize) {
                *count += 1;
            }
        }
        let further = [
            ("mappings of further files not kept: too many files", self.refused),
            ("symbol tables dropped: out of room", self.user.dropped()),
        ];
        let named = CAUSES.iter().copied().zip(counts).chain(further);
        named
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_string(), count))
            .chain(self.unwind.losses())
            .collect()
    }

    fn see_special(&mut self, path: &[u8]) -> Option<FileIx> {
        // JIT code, stacks and other memory without a file have other names, or none.
        if !matches!(path, b"[vdso]" | b"[vsyscall]" | b"[uprobes]") {
            return None;
        }
        if let Some(&file) = self.special.get(path) {
            return Some(file);
        }
        let file = self.add(FileKey::default(), path, 0)?;
        self.special.insert(path.to_vec(), file);
        if path == b"[vdso]"
            && let Some(bytes) = own_vdso()
        {
            self.unwind.vdso(file, &bytes);
            if let Ok(image) = elf::read(&bytes[..]) {
                self.user.insert(file, image);
            }
        }
        Some(file)
    }

    /// A number for the code that a process makes in memory, whose names are in the map that it may write: to
    /// [`Binaries::read_perf_map`]. `pid` is as the process knows itself.
    pub fn add_code(&mut self, pid: u32) -> Option<FileIx> {
        self.add(FileKey::default(), &beside::perf_map_path(pid), 0)
    }

    /// Whether it stands for code that a process made in memory.
    pub fn is_code(&self, file: FileIx) -> bool {
        self.file(file)
            .is_some_and(|binary| binary.key.ino == 0 && !binary.path.starts_with(b"["))
    }

    /// Reads the map of a process' own code, if it has written one; whether there is one.
    pub fn read_perf_map(&mut self, file: FileIx, root: &Root, pid: u32) -> bool {
        let Some(open) = beside::perf_map(root, pid, &self.locator.own) else {
            return false;
        };
        self.submit(Ticket::PerfMap(file), Job::PerfMap, vec![open]);
        true
    }

    /// What the path of a file counts from; `None` when it was not found, or past all paths.
    pub fn root(&self, file: FileIx) -> Option<&Root> {
        self.file(file)?.root.as_ref()
    }

    fn add(&mut self, key: FileKey, path: &[u8], seen: u64) -> Option<FileIx> {
        if self.files.len() >= MAX_FILES {
            self.refused += 1;
            return None;
        }
        let file = FileIx(u32::try_from(self.files.len()).ok()?);
        let path = path.get(..path.len().min(MAX_PATH)).unwrap_or(path).to_vec();
        self.files.push(Binary {
            key,
            path,
            identity: None,
            seen,
            tries: 0,
            cause: None,
            root: None,
        });
        if key.ino != 0 {
            self.by_key.insert(key, file);
            self.by_inode.insert((key.dev, key.ino), file);
        }
        Some(file)
    }

    fn locate(&mut self, sighting: &Sighting<'_>) -> Result<Found, Miss> {
        let found = self.locator.locate(sighting)?;
        // A running program can't be written to (ETXTBSY), but it may have ended meanwhile.
        match real_time(sighting.ts) {
            Some(mapped) if found.written > mapped => Err(Miss::Changed),
            _ => Ok(found),
        }
    }

    /// Whether what was found now is also what was mapped when the file was first seen: not written since, and named
    /// by its generation, or not changed at all since before the recording.
    fn since_first(&self, file: FileIx, outcome: &Result<Found, Miss>) -> bool {
        let (Some(binary), Ok(found)) = (self.file(file), outcome) else {
            return true;
        };
        let unwritten = real_time(binary.seen).is_none_or(|seen| found.written <= seen);
        found.identity.0 < self.since || (binary.key.generation != 0 && unwritten)
    }
}

/// A `CLOCK_MONOTONIC` time as ns since 1970; `None` for 0.
fn real_time(ts: u64) -> Option<i128> {
    let nanoseconds = |clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    (ts != 0).then(|| nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Monotonic) + i128::from(ts))
}

/// The kernel maps one and the same vdso into every process (of our word size): ours.
fn own_vdso() -> Option<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let (range, _) = maps.lines().find(|line| line.ends_with("[vdso]"))?.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
    std::fs::File::open("/proc/self/mem")
        .ok()?
        .read_exact_at(&mut bytes, start)
        .ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests;
