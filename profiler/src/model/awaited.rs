//! The files, pipes and sockets that threads waited at.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::ProcessIx;
use crate::recording::record::AwaitedFile;

/// Into [`AwaitedFiles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AwaitedIx(NonZeroU32);

/// One of them.
#[derive(Clone, Debug)]
pub struct AwaitedAt {
    pub file: AwaitedFile,
    /// When it was first waited at, ns.
    pub ts: u64,
    /// Processes that waited there, by tgid.
    pub by: Vec<u32>,
    /// The process at the other end of a unix socket, if it was recorded.
    pub peer: Option<ProcessIx>,
}

/// Each once.
#[derive(Clone, Debug, Default)]
pub struct AwaitedFiles {
    all: Vec<AwaitedAt>,
    places: HashMap<AwaitedFile, AwaitedIx>,
}

impl AwaitedFiles {
    /// The one of this index.
    pub fn get(&self, ix: AwaitedIx) -> Option<&AwaitedAt> {
        self.all.get(ix.0.get() as usize - 1)
    }

    /// All of them, in the order in which they were first waited at.
    pub fn all(&self) -> &[AwaitedAt] {
        &self.all
    }

    /// The index of a file that process `tgid` waited at at `ts`, which is kept if it is not yet. `None` when there are too
    /// many.
    pub fn place(&mut self, file: AwaitedFile, tgid: u32, ts: u64) -> Option<AwaitedIx> {
        if let Some(known) = self.places.get(&file) {
            let by = &mut self.all[known.0.get() as usize - 1].by;
            if !by.contains(&tgid) {
                by.push(tgid);
            }
            return Some(*known);
        }
        let ix = AwaitedIx(NonZeroU32::new(u32::try_from(self.all.len() + 1).ok()?)?);
        self.all.push(AwaitedAt {
            file: file.clone(),
            ts,
            by: vec![tgid],
            peer: None,
        });
        self.places.insert(file, ix);
        Some(ix)
    }

    /// Names the processes at the other ends: `find` gives the one of a number at a time.
    pub fn settle(&mut self, find: impl Fn(u32, u64) -> Option<ProcessIx>) {
        for one in self.all.iter_mut().filter(|one| one.file.peer != 0) {
            one.peer = find(one.file.peer, one.ts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a file has one index, that it leads back to it, and that its peer is the process of its time.
    #[test]
    fn places() {
        let mut files = AwaitedFiles::default();
        let file = |peer| AwaitedFile {
            peer,
            ..AwaitedFile::default()
        };
        let first = files.place(file(0), 1, 5).unwrap();
        let second = files.place(file(7), 1, 6).unwrap();
        assert_ne!(first, second);
        for tgid in [2, 1, 2] {
            assert_eq!(files.place(file(0), tgid, 9), Some(first));
        }
        assert_eq!(files.get(first).unwrap().by, [1, 2]);
        files.settle(|pid, ts| Some(ProcessIx(pid * 10 + ts as u32)));
        assert_eq!(files.get(first).unwrap().peer, None);
        assert_eq!(files.get(second).unwrap().peer, Some(ProcessIx(76)));
    }
}
