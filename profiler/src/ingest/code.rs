//! Code that processes make in memory (just-in-time compilers): which process has some, and where its names are.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;

use crate::ingest::mappings::Map;
use crate::ingest::naming::Naming;
use crate::ingest::spaces::Spaces;
use crate::lookup::beside::Root;
use crate::lookup::binaries::{Binaries, FileIx};

/// A process with code of its own making.
#[derive(Clone, Copy, Debug)]
struct Maker {
    /// Stands for its code: offsets in it are addresses.
    file: FileIx,
    /// As the process knows itself, in its pid namespace.
    pid: u32,
    mnt_ns: u32,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Makers {
    makers: HashMap<u32, Maker>,
    /// Processes of other pid namespaces: what they know themselves as.
    pids: HashMap<u32, u32>,
    /// The mount namespace of this program; 0 when it can't be told.
    own_mnt_ns: u32,
    /// Processes that made code and wrote no map that could be found.
    without_map: u64,
}

impl Default for Makers {
    fn default() -> Self {
        let own = std::fs::metadata("/proc/self/ns/mnt").map_or(0, |file| file.ino());
        Makers {
            makers: HashMap::new(),
            pids: HashMap::new(),
            own_mnt_ns: u32::try_from(own).unwrap_or(0),
            without_map: 0,
        }
    }
}

/// Whether a mapping without a file is code that its process has made, by the name that perf or `/proc/PID/maps` has for
/// it.
pub(super) fn is_made(map: &Map<'_>) -> bool {
    map.ino == 0 && (map.path.is_empty() || map.path == b"//anon" || map.path.starts_with(b"[anon"))
}

impl Makers {
    /// A process knows itself as `pid`.
    pub(super) fn process(&mut self, tgid: u32, pid: u32) {
        if pid != tgid && pid != 0 {
            self.pids.insert(tgid, pid);
        } else {
            self.pids.remove(&tgid);
        }
    }

    /// The number that stands for a process' code. `mnt_ns` 0: not known, and asked for.
    pub(super) fn of(&mut self, tgid: u32, mnt_ns: u32, binaries: &mut Binaries) -> Option<FileIx> {
        if let Some(maker) = self.makers.get(&tgid) {
            return Some(maker.file);
        }
        let pid = self.pids.get(&tgid).copied().unwrap_or(tgid);
        let mnt_ns = match mnt_ns {
            0 => std::fs::metadata(format!("/proc/{tgid}/ns/mnt")).map_or(0, |file| file.ino() as u32),
            known => known,
        };
        let file = binaries.add_code(pid)?;
        self.makers.insert(tgid, Maker { file, pid, mnt_ns });
        Some(file)
    }

    /// The process makes an end of its code, by exec or exit: its names are read now or never. Only if a frame wants
    /// one.
    pub(super) fn end(&mut self, tgid: u32, spaces: &Spaces, binaries: &mut Binaries, naming: &Naming) {
        let Some(maker) = self.makers.remove(&tgid) else { return };
        if !naming.waits_for(maker.file) {
            return;
        }
        let root = if maker.mnt_ns == self.own_mnt_ns {
            Some(Root::Host)
        } else {
            // A container's layers: its own mounts are never touched.
            spaces.files(tgid).find_map(|file| match binaries.root(file) {
                Some(root @ Root::Layers(_)) => Some(root.clone()),
                _ => None,
            })
        };
        if !root.is_some_and(|root| binaries.read_perf_map(maker.file, &root, maker.pid)) {
            self.without_map += 1;
        }
    }

    /// As [`Makers::end`], and the process id may return.
    pub(super) fn exit(&mut self, tgid: u32, spaces: &Spaces, binaries: &mut Binaries, naming: &Naming) {
        self.end(tgid, spaces, binaries, naming);
        self.pids.remove(&tgid);
    }

    /// The recording ends: the processes that are there have written all that they will have.
    pub(super) fn end_all(&mut self, spaces: &Spaces, binaries: &mut Binaries, naming: &Naming) {
        let all: Vec<u32> = self.makers.keys().copied().collect();
        for tgid in all {
            self.end(tgid, spaces, binaries, naming);
        }
    }

    /// Processes whose code has no names.
    pub(super) fn without_map(&self) -> u64 {
        self.without_map
    }
}
