//! Files, what threads read and wrote of them, and what block devices did for it.
//!
//! A file is always the one of the file system that keeps it: of an overlay, the one in the layer. Bytes of pages are
//! multiples of [`Session::page`](super::Session::page).

use super::{FileIx, Session, Span, ThreadIx};
use crate::recording::record::{InodeId, TaskId, Text};

/// What file systems are called by their `s_magic`: `include/uapi/linux/magic.h`, and those of XFS, FUSE and bcachefs.
pub mod magic {
    pub const OVERLAY: u32 = 0x794c_7630;
    pub const TMPFS: u32 = 0x0102_1994;
    pub const RAMFS: u32 = 0x8584_58f6;
    /// Of ext2, ext3 and ext4.
    pub const EXT4: u32 = 0xef53;
    /// The pages of block devices themselves: a file system's own data.
    pub const BLOCK_DEVICE: u32 = 0x6264_6576;
    pub const FUSE: u32 = 0x6573_5546;
}

/// A file, or a directory above one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub id: InodeId,
    pub parent: Option<FileIx>,
    /// In the parent; empty for a root, for what has no name, and where [`File::told`] is false.
    pub name: Text,
    /// The largest that was told of it, bytes.
    pub size: u64,
    pub nlink: u32,
    pub mode: u32,
    /// [`magic`]
    pub magic: u32,
    pub rdev: u32,
    /// False: no more is known than the number.
    pub told: bool,
}

/// Pages of one file that one thread brought into the page cache, or made dirty; see
/// `profiler_common::disk::PageRun`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// `None`: of a thread that the recording does not have.
    pub thread: Option<ThreadIx>,
    /// From its first to its last page.
    pub span: Span,
    pub file: FileIx,
    /// Pages that were not in the page cache before.
    pub added: u32,
    /// Pages that were not dirty before.
    pub dirtied: u32,
    /// -1: a page fault.
    pub syscall: i32,
    /// Within a copy-up.
    pub copy_up: bool,
    /// At its first page: id of a stack, 0 for none.
    pub stack: u32,
    /// The cgroup that the thread was in.
    pub cgroup: u64,
}

impl PageRun {
    /// Pages that had to be read from the file's device: cold ones. Those that a call adds to the page cache of what it
    /// writes come from its caller; a page fault reads what it makes dirty.
    pub fn read(&self) -> u32 {
        if self.dirtied > 0 && self.syscall != PAGE_FAULT {
            0
        } else {
            self.added
        }
    }

    /// Pages that will have to be written.
    pub fn written(&self) -> u32 {
        self.dirtied
    }
}

/// `syscall` of what happens in a page fault.
pub const PAGE_FAULT: i32 = -1;

/// What a thread has read and written between two readings of the kernel's account of it. In order of time; the first of
/// a thread begins with its birth, of one that was there before with its first reading, which tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoInterval {
    pub thread: ThreadIx,
    pub span: Span,
    pub bytes: IoBytes,
}

/// Bytes and calls as the kernel accounts them (`task_struct.ioac`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoBytes {
    /// By system calls, from and to anything: files, pipes, terminals.
    pub read: u64,
    pub written: u64,
    pub read_calls: u64,
    pub write_calls: u64,
    /// That block devices were asked for.
    pub disk_read: u64,
    /// Of pages made dirty, and of direct writes.
    pub disk_written: u64,
    /// Of dirty pages that were thrown away before they were written.
    pub cancelled: u64,
}

/// A request to a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockIo {
    /// From being made (or, where the kernel did not note that, being issued) to its completion.
    pub span: Span,
    /// When the device's driver was given it.
    pub issued: u64,
    /// Who issued it, as far as the recording has that thread.
    pub thread: Option<ThreadIx>,
    /// The same, whoever it was.
    pub task: TaskId,
    /// The file of its first page, if that is of the page cache.
    pub file: Option<FileIx>,
    /// That it is charged to, in `hierarchy`; 0: none.
    pub cgroup: u64,
    pub hierarchy: u32,
    /// `major << 20 | minor`
    pub dev: u32,
    /// The kernel's `enum req_op`: 0 read, 1 write.
    pub op: u32,
    /// `profiler_common::disk::block_flag`
    pub flags: u32,
    pub bytes: u32,
    pub error: i32,
}

/// Dirty pages of one file were written by write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteBack {
    pub span: Span,
    pub file: FileIx,
    pub pages: u64,
    /// Who did it, as far as the recording has that thread: write-back that a process does itself.
    pub thread: Option<ThreadIx>,
    pub cgroup: u64,
    /// Somebody waits for the pages to be on the disk.
    pub sync: bool,
    /// Done by a thread of the kernel.
    pub kernel: bool,
}

/// Something of a lower layer of an overlay was copied to its upper one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyUp {
    pub thread: Option<ThreadIx>,
    /// Its stall: from its begin to its end.
    pub span: Span,
    pub lower: Option<FileIx>,
    pub upper: Option<FileIx>,
    pub overlay: Option<FileIx>,
    /// Of the copy, bytes.
    pub size: u64,
    /// Pages of the lower file that were not in the page cache.
    pub read: u32,
    /// Pages of the copy that came into the page cache: 0 of what has no contents, and where the file system shares them.
    pub copied: u32,
    pub mode: u32,
    /// The system call that it was done for.
    pub syscall: i32,
    /// Begin and end are those of the overlay's own function.
    pub bracketed: bool,
    pub failed: bool,
    pub cgroup: u64,
}

/// Something that a lower layer of an overlay has was deleted: a whiteout has taken its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whiteout {
    pub ts: u64,
    pub thread: Option<ThreadIx>,
    pub syscall: i32,
    pub cgroup: u64,
}

/// Calls of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallSum {
    pub calls: u64,
    pub bytes: u64,
    /// From their beginnings to their ends.
    pub ns: u64,
}

impl CallSum {
    /// Adds others. Stops at the largest number there is instead of running over.
    pub fn add(&mut self, other: &CallSum) {
        let CallSum { calls, bytes, ns } = *other;
        for (sum, part) in [(&mut self.calls, calls), (&mut self.bytes, bytes), (&mut self.ns, ns)] {
            *sum = sum.saturating_add(part);
        }
    }
}

/// Calls by which one thread read, wrote and synced one file, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCalls {
    pub thread: Option<ThreadIx>,
    /// From the first to the last.
    pub span: Span,
    /// Of an overlay the one in the layer.
    pub file: FileIx,
    pub read: CallSum,
    pub written: CallSum,
    pub synced: CallSum,
    pub cgroup: u64,
}

/// A file of an overlay that was opened: told once, and at times once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlaid {
    pub ts: u64,
    pub thread: Option<ThreadIx>,
    /// The overlay's own, which can be that of several mounts, one after the other.
    pub overlay: FileIx,
    pub lower: Option<FileIx>,
    pub upper: Option<FileIx>,
    pub cgroup: u64,
}

/// Deepest path that is followed: what a recording claims can go in circles.
const DEEPEST: usize = 256;

impl Session {
    /// By which rung the recording has a signal; `None` when it has not.
    pub fn rung_of(&self, signal: &str) -> Option<&str> {
        let mut probes = self.meta.probes.iter();
        let (_, rung) = probes.find(|(name, rung)| name == signal && !rung.starts_with("not "))?;
        Some(rung)
    }

    /// Size of a page, bytes.
    pub fn page(&self) -> u64 {
        match self.meta.page_size {
            0 => 4096,
            size => size.into(),
        }
    }

    /// A file and the directories above it, from itself to its file system's root, as far as they were told.
    pub fn ancestors(&self, file: FileIx) -> impl Iterator<Item = FileIx> + '_ {
        let parent = |ix: &FileIx| self.files.get(ix.ix()).and_then(|file| file.parent);
        std::iter::successors(Some(file), parent).take(DEEPEST)
    }

    /// A file's path below `root`, which is a directory above it; `None` when it does not lie there. Names as they were
    /// when they were told, parted by `/`.
    pub fn path_below(&self, file: FileIx, root: FileIx) -> Option<Text> {
        let mut names: Vec<&[u8]> = Vec::new();
        for ix in self.ancestors(file) {
            if ix == root {
                names.reverse();
                return Some(names.join(&b'/'));
            }
            names.push(&self.files[ix.ix()].name);
        }
        None
    }

    /// A file's path on its file system, as far as it was told.
    pub fn path_on_disk(&self, file: FileIx) -> Text {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut whole = false;
        for ix in self.ancestors(file) {
            let Some(file) = self.files.get(ix.ix()) else { break };
            whole = file.told && file.parent.is_none();
            if !file.name.is_empty() {
                names.push(&file.name);
            }
        }
        names.reverse();
        let path = names.join(&b'/');
        if whole { [b"/", &path[..]].concat() } else { path }
    }
}
