//! What is read from disks and written to them, of which files.

use serde::{Deserialize, Serialize};

use super::{At, Text};

/// Names an inode for good, on its own file system; see `profiler_common::disk::InodeId`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InodeId {
    pub ino: u64,
    /// `major << 20 | minor`
    pub dev: u32,
    /// Of an inode number that is used again, another one.
    pub generation: u32,
}

/// A file or a directory above one, told when it was first come across; see `profiler_common::disk::Inode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    /// Who came across it.
    pub at: At,
    pub id: InodeId,
    /// `None` for a root, and for what has no name.
    pub parent: Option<InodeId>,
    /// In the parent; empty for a root, and for what has no name.
    pub name: Text,
    /// Then, bytes.
    pub size: u64,
    pub nlink: u32,
    pub mode: u32,
    /// `s_magic` of its file system.
    pub magic: u32,
    pub rdev: u32,
}

/// Pages of one file that one thread brought into the page cache, or made dirty, in one kind of system call; see
/// `profiler_common::disk::PageRun`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRun {
    /// When the run was closed.
    pub at: At,
    /// Times of the first and the last page.
    pub from: u64,
    pub to: u64,
    pub inode: InodeId,
    /// Of the file at the last page, bytes.
    pub size: u64,
    /// Pages that were not in the page cache before.
    pub added: u32,
    /// Pages that were not dirty before.
    pub dirtied: u32,
    /// -1: a page fault.
    pub syscall: i32,
    /// `profiler_common::disk::run_flag`.
    pub flags: u16,
    /// At the first page: id of a [`Stack`], 0 for none.
    pub stack: u32,
}

/// What a thread has read and written since its birth; see `profiler_common::disk::IoTotals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoTotals {
    pub at: At,
    pub rchar: u64,
    pub wchar: u64,
    pub syscr: u64,
    pub syscw: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub cancelled_write_bytes: u64,
}

/// A request to a block device, at its completion; see `profiler_common::disk::BlockIo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIo {
    /// Of whoever issued it, and when it was completed.
    pub at: At,
    /// 0 when the kernel did not note it.
    pub queued: u64,
    pub issued: u64,
    pub sector: u64,
    /// 0: charged to none.
    pub cgroup: u64,
    pub hierarchy: u32,
    /// Of its first page, if it is of the page cache.
    pub inode: Option<InodeId>,
    pub bytes: u32,
    pub dev: u32,
    /// The kernel's `enum req_op`.
    pub op: u32,
    /// `profiler_common::disk::block_flag`.
    pub flags: u32,
    pub error: i32,
}

/// Dirty pages of one inode were written by write-back; see `profiler_common::disk::WriteBack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteBack {
    /// Who did it.
    pub at: At,
    pub from: u64,
    pub inode: InodeId,
    pub pages: u64,
    pub cgroup: u64,
    /// Somebody waits for the pages to be on the disk.
    pub sync: bool,
    /// Done by a thread of the kernel.
    pub kernel: bool,
}

/// Something of a lower layer of an overlay was copied to its upper one; see `profiler_common::disk::CopyUp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyUp {
    /// Its end.
    pub at: At,
    pub from: u64,
    pub lower: Option<InodeId>,
    pub upper: Option<InodeId>,
    pub overlay: Option<InodeId>,
    /// Of the copy, bytes.
    pub size: u64,
    /// Pages of the lower file that were not in the page cache.
    pub read: u32,
    /// Pages of the copy that came into the page cache.
    pub copied: u32,
    pub mode: u32,
    pub syscall: i32,
    /// `profiler_common::disk::copy_flag`.
    pub flags: u32,
}

/// A file of an overlay was opened: what it stands for; see `profiler_common::disk::Overlaid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlaid {
    pub at: At,
    pub overlay: InodeId,
    pub lower: Option<InodeId>,
    pub upper: Option<InodeId>,
}

/// Something that a lower layer of an overlay has was deleted; see `profiler_common::disk::Whiteout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whiteout {
    pub at: At,
    pub syscall: i32,
}

/// Calls of one kind; see `profiler_common::disk::CallSum`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSum {
    pub calls: u32,
    pub bytes: u64,
    pub ns: u64,
}

/// Calls by which one thread read, wrote and synced one file, added up; see `profiler_common::disk::FileCalls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCalls {
    pub at: At,
    pub from: u64,
    pub to: u64,
    pub inode: InodeId,
    pub read: CallSum,
    pub written: CallSum,
    pub synced: CallSum,
}
