//! Mapped files: each gets a number at first sight, and its symbols are read there and then.
//!
//! No file stays open (see [`locate`](crate::lookup::locate)), and a process that lived 1 ms is gone when a stack of
//! it is looked at: what is not read at first sight may never be.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::control::unwind::Tables;
use crate::ingest::mappings::Map;
use crate::lookup::elf::{self, ElfError};
use crate::lookup::locate::{Found, Locator, Miss, Sighting, Way};
use crate::lookup::mounts::mounts_of;
use crate::symbol::user::User;

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
}

macro_rules! causes {
    ($( $name:ident = $text:literal, )+) => {
        #[derive(Clone, Copy, Debug)]
        enum Cause { $( $name, )+ }
        const CAUSES: &[&str] = &[ $( $text, )+ ];
    };
}
causes! {
    Gone = "mapped file not found: gone before it could be read",
    Other = "mapped file not found: another file has its path",
    Changed = "mapped file was written to before it could be read",
    NotRegular = "mapped file is no regular file",
    Slow = "mapped file not read: on FUSE or a network file system",
    Refused = "mapped file could not be opened",
    NotElf = "mapped file is not ELF",
    Malformed = "mapped ELF file is malformed",
    TooLarge = "mapped ELF file is too large",
    TooMany = "mapped ELF file has too many symbols or sections",
    Read = "mapped ELF file could not be read",
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
    unwind: Tables,
    /// Files not kept for want of room.
    refused: u64,
    ways: [u64; 3],
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
            unwind: Tables::default(),
            refused: 0,
            ways: [0; 3],
            since: i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        }
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
            let outcome = self.locate(&Sighting { ts, mnt_ns: 0, map });
            if self.since_first(file, &outcome) {
                self.keep(file, outcome);
            }
        }
    }

    /// What is known of a file.
    pub fn file(&self, file: FileIx) -> Option<&Binary> {
        self.files.get(file.0 as usize)
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

    /// Build id of a file; empty when it has none or could not be read.
    pub fn build_id(&self, file: FileIx) -> &[u8] {
        self.user.image(file).map_or(&[], |image| &image.build_id)
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

    fn keep(&mut self, file: FileIx, outcome: Result<Found, Miss>) {
        let Some(binary) = self.files.get_mut(file.0 as usize) else {
            return;
        };
        binary.tries = binary.tries.saturating_add(1);
        let image = match outcome {
            Ok(found) => {
                binary.identity = Some(found.identity);
                if let Some(count) = self.ways.get_mut(found.way as usize) {
                    *count += 1;
                }
                self.unwind.submit(file, &found.file, found.written);
                elf::read(&found.file).map_err(Cause::from)
            }
            Err(miss) => Err(Cause::from(miss)),
        };
        binary.cause = image.as_ref().err().copied();
        if let Ok(image) = image {
            self.user.insert(file, image);
        }
    }
}

impl From<ElfError> for Cause {
    fn from(error: ElfError) -> Self {
        match error {
            ElfError::NotElf => Cause::NotElf,
            ElfError::Malformed => Cause::Malformed,
            ElfError::TooLarge => Cause::TooLarge,
            ElfError::TooMany => Cause::TooMany,
            ElfError::Read(_) => Cause::Read,
        }
    }
}

impl From<Miss> for Cause {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Gone => Cause::Gone,
            Miss::Other => Cause::Other,
            Miss::Changed => Cause::Changed,
            Miss::NotRegular => Cause::NotRegular,
            Miss::Slow => Cause::Slow,
            Miss::Refused => Cause::Refused,
        }
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
mod tests {
    use super::*;
    use rustix::fs::stat;

    fn sighting(path: &str, ts: u64) -> Sighting<'_> {
        let stat = stat(path).unwrap();
        let dev = rustix::fs::major(stat.st_dev) << 20 | rustix::fs::minor(stat.st_dev);
        let map = Map {
            start: 0x1000,
            end: 0x2000,
            pgoff: 0,
            dev,
            ino: stat.st_ino,
            generation: 0,
            path: path.as_bytes(),
        };
        Sighting { ts, mnt_ns: 0, map }
    }

    fn now() -> u64 {
        let time = clock_gettime(ClockId::Monotonic);
        (time.tv_sec * 1_000_000_000 + time.tv_nsec) as u64
    }

    /// Make sure that a file of the host is read at first sight, once.
    #[test]
    fn host_file() {
        let path = std::fs::canonicalize("/bin/true").unwrap();
        let path = path.to_str().unwrap();
        let mut binaries = Binaries::new();
        let file = binaries.see(&sighting(path, now())).unwrap();
        assert_eq!(binaries.build_id(file).len(), 20, "{:?}", binaries.losses());
        assert_eq!(binaries.see(&sighting(path, now())), Some(file));
        assert_eq!((binaries.len(), binaries.reached(Way::Host)), (1, 1));
    }

    /// Make sure that a file written after it was mapped gives no names to that mapping, and that the next mapping is
    /// of another file.
    #[test]
    fn written_after_mapping() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        let path = path.to_str().unwrap();
        let mut binaries = Binaries::new();
        let before = now() - 10_000_000_000;
        let first = binaries.see(&sighting(path, before)).unwrap();
        assert!(binaries.user().image(first).is_none());
        assert_eq!(binaries.losses(), [(CAUSES[Cause::Changed as usize].to_string(), 1)]);
        let second = binaries.see(&sighting(path, now() + 1_000_000_000)).unwrap();
        assert_ne!(first, second);
        assert!(binaries.user().image(second).is_some());
        binaries.retry_missing();
        assert!(binaries.user().image(first).is_none());
    }

    /// Make sure that a changed file with the same inode is another file, and the old one keeps its names.
    #[test]
    fn changed_between_mappings() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        let text = path.to_str().unwrap();
        let mut binaries = Binaries::new();
        let later = now() + 60_000_000_000;
        let first = binaries.see(&sighting(text, later)).unwrap();
        assert_eq!(binaries.see(&sighting(text, later)), Some(first));
        std::fs::write(&path, "#!/bin/sh\n".repeat(50)).unwrap();
        let second = binaries.see(&sighting(text, later)).unwrap();
        assert_ne!(first, second);
        assert!(binaries.user().image(first).is_some());
        assert!(binaries.user().image(second).is_none());
        assert_eq!(binaries.losses(), [(CAUSES[Cause::NotElf as usize].to_string(), 1)]);
    }

    /// Make sure that the vdso is one file with names, and that memory without a file is none.
    #[test]
    fn memory_without_files() {
        let map = |path| Map {
            start: 0x1000,
            end: 0x3000,
            pgoff: 0,
            dev: 0,
            ino: 0,
            generation: 0,
            path,
        };
        let mut binaries = Binaries::new();
        let vdso = binaries
            .see(&Sighting {
                ts: 0,
                mnt_ns: 0,
                map: map(b"[vdso]"),
            })
            .unwrap();
        assert_eq!(
            binaries.see(&Sighting {
                ts: 0,
                mnt_ns: 0,
                map: map(b"[vdso]")
            }),
            Some(vdso)
        );
        assert!(binaries.user().image(vdso).is_some_and(|image| !image.table.is_empty()));
        for path in [&b"//anon"[..], b"[heap]", b""] {
            assert_eq!(
                binaries.see(&Sighting {
                    ts: 0,
                    mnt_ns: 0,
                    map: map(path)
                }),
                None
            );
        }
    }
}
