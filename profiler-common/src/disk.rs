//! Disk: pages that files' contents pass through, what block devices do for them, and overlays.

use crate::{Header, layout};

/// Longest name of a directory entry (`NAME_MAX`).
pub const NAME_LEN: usize = 256;

/// Names an inode for good, on its own file system: where that counts generations (ext4, xfs, btrfs do), an inode number
/// that is used again has another one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct InodeId {
    pub ino: u64,
    /// `s_dev` of its superblock (`major << 20 | minor`).
    pub dev: u32,
    pub generation: u32,
}
layout!(InodeId, size = 16, ino = 0, dev = 8, generation = 12);

impl InodeId {
    /// Of no inode.
    pub const NONE: InodeId = InodeId {
        ino: 0,
        dev: 0,
        generation: 0,
    };
}

/// An inode, told when it is first come across: a file, or a directory above one. Followed by `name_len` bytes: its name
/// in `parent`, empty for a file system's root and for what has no name (a block device's own pages).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Inode {
    pub header: Header,
    pub id: InodeId,
    /// The directory that it lies in, told too; [`InodeId::NONE`] for a root.
    pub parent: InodeId,
    /// Then, bytes; like the next two and `rdev` of a file only, not of a directory that was told for what lies in it.
    pub size: u64,
    pub nlink: u32,
    pub mode: u32,
    /// Which file system: `s_magic`, as in `include/uapi/linux/magic.h`.
    pub magic: u32,
    /// The device that it stands for (`major << 20 | minor`).
    pub rdev: u32,
    pub name_len: u32,
    pub pad: u32,
}
layout!(
    Inode,
    size = 104,
    header = 0,
    id = 40,
    parent = 56,
    size = 72,
    nlink = 80,
    mode = 84,
    magic = 88,
    rdev = 92,
    name_len = 96
);

/// Longest time that a [`PageRun`] covers, ns.
pub const RUN_NS: u64 = 100_000_000;

/// Pages of one file that one thread brought into the page cache, or made dirty, in one kind of system call. Followed by
/// `kernel_frames` addresses (`u64`), leaf first: the stack at the first of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PageRun {
    /// When the run was closed.
    pub header: Header,
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
    /// System call that the thread was in, or -1 (page fault).
    pub syscall: i32,
    /// [`run_flag`].
    pub flags: u16,
    pub kernel_frames: u16,
}
layout!(
    PageRun,
    size = 96,
    header = 0,
    from = 40,
    to = 48,
    inode = 56,
    size = 72,
    added = 80,
    dirtied = 84,
    syscall = 88,
    flags = 92,
    kernel_frames = 94
);

/// Bits of [`PageRun::flags`].
pub mod run_flag {
    /// Within a copy-up, by its kernel stack or by the functions that bracket it.
    pub const COPY_UP: u16 = 1 << 0;
    /// A stack was wanted (which may have failed: then 0 frames).
    pub const WANT_STACK: u16 = 1 << 1;
}

/// What a thread has read and written since its birth, as the kernel accounts it (`task_struct.ioac`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoTotals {
    pub header: Header,
    /// Bytes that system calls moved, whatever they moved them through: files, pipes, terminals.
    pub rchar: u64,
    pub wchar: u64,
    /// Those calls.
    pub syscr: u64,
    pub syscw: u64,
    /// Bytes that block devices were asked for.
    pub read_bytes: u64,
    /// Bytes of pages that were made dirty, and of direct writes.
    pub write_bytes: u64,
    /// Bytes of dirty pages that were thrown away before they were written.
    pub cancelled_write_bytes: u64,
}
layout!(
    IoTotals,
    size = 96,
    header = 0,
    rchar = 40,
    syscr = 56,
    read_bytes = 72,
    cancelled_write_bytes = 88
);

/// A request to a block device, at its completion. The header is of whoever issued it (often a thread of the kernel),
/// with the time of the completion.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockIo {
    pub header: Header,
    /// When the request was made; 0 when the kernel did not note it.
    pub queued: u64,
    /// When the device's driver was given it.
    pub issued: u64,
    /// First sector, of 512 bytes.
    pub sector: u64,
    /// Id of the cgroup that the request is charged to, in `hierarchy`; 0 when it is charged to none.
    pub cgroup: u64,
    /// The file whose page is its first, if it is of the page cache.
    pub inode: InodeId,
    pub bytes: u32,
    /// Of the device: `major << 20 | minor`.
    pub dev: u32,
    /// `enum req_op`: 0 read, 1 write, 2 flush, 3 discard, …
    pub op: u32,
    /// [`block_flag`].
    pub flags: u32,
    pub hierarchy: u32,
    /// The driver's error, or 0.
    pub error: i32,
}
layout!(
    BlockIo,
    size = 112,
    header = 0,
    queued = 40,
    issued = 48,
    sector = 56,
    cgroup = 64,
    inode = 72,
    bytes = 88,
    dev = 92,
    op = 96,
    error = 108
);

/// Bits of [`BlockIo::flags`].
pub mod block_flag {
    /// Somebody waits for it.
    pub const SYNC: u32 = 1 << 0;
    /// The file system's own data.
    pub const META: u32 = 1 << 1;
    /// Read ahead of what was asked for.
    pub const READAHEAD: u32 = 1 << 2;
    /// With a flush of the device's cache before or after.
    pub const FLUSH: u32 = 1 << 3;
    /// Issued by a thread of the kernel.
    pub const KERNEL: u32 = 1 << 4;
}

/// Dirty pages of one inode were given to its device by write-back of the whole file system or device (not by an fsync of
/// the file). The header is of whoever did it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteBack {
    pub header: Header,
    pub from: u64,
    pub inode: InodeId,
    /// Pages that were written.
    pub pages: u64,
    /// The cgroup, of the hierarchy with the memory controller, that the inode's write-back is charged to.
    pub cgroup: u64,
    /// 1: somebody waits for the pages to be on the disk (`WB_SYNC_ALL`).
    pub sync: u32,
    /// 1: done by a thread of the kernel.
    pub kernel: u32,
}
layout!(
    WriteBack,
    size = 88,
    header = 0,
    from = 40,
    inode = 48,
    pages = 64,
    cgroup = 72,
    sync = 80
);

/// Something of a lower layer of an overlay was copied to its upper one. The header has the time of its end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyUp {
    pub header: Header,
    pub from: u64,
    /// [`InodeId::NONE`] when it is not known: its contents were in the page cache.
    pub lower: InodeId,
    /// [`InodeId::NONE`] when it is not known.
    pub upper: InodeId,
    /// On the overlay itself; [`InodeId::NONE`] when it is not known.
    pub overlay: InodeId,
    /// Of the copy, bytes.
    pub size: u64,
    /// Pages of the lower file that were not in the page cache.
    pub read: u32,
    /// Pages of the copy that came into the page cache: 0 of what has no contents, and where the file system shares them
    /// (reflink).
    pub copied: u32,
    pub mode: u32,
    /// System call that it was done for.
    pub syscall: i32,
    /// [`copy_flag`].
    pub flags: u32,
    pub pad: u32,
}
layout!(
    CopyUp,
    size = 128,
    header = 0,
    from = 40,
    lower = 48,
    upper = 64,
    overlay = 80,
    size = 96,
    read = 104,
    mode = 112,
    flags = 120
);

/// Bits of [`CopyUp::flags`].
pub mod copy_flag {
    /// Beginning and end are those of the overlay's own function. Without it, those of what was seen of it: the new inode
    /// or the first page, and the last page; waits with its frames in their stacks go on beyond that.
    pub const BRACKETED: u32 = 1 << 0;
    /// The overlay's function returned an error: nothing was copied.
    pub const FAILED: u32 = 1 << 1;
}

/// A file of an overlay was opened: what it stands for. Told once for each, and once more after each mount of an overlay: that
/// can have given the same numbers to other files.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Overlaid {
    pub header: Header,
    pub overlay: InodeId,
    /// In the topmost lower layer that has it; [`InodeId::NONE`] when none has.
    pub lower: InodeId,
    /// [`InodeId::NONE`] when it is not in the upper layer.
    pub upper: InodeId,
}
layout!(Overlaid, size = 88, header = 0, overlay = 40, lower = 56, upper = 72);

/// Something that a lower layer of an overlay has was deleted: a whiteout has taken its name in the upper layer. The header
/// has the time at which it did.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Whiteout {
    pub header: Header,
    /// System call that it was done for.
    pub syscall: i32,
    pub pad: u32,
}
layout!(Whiteout, size = 48, header = 0, syscall = 40);

/// Calls of one kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallSum {
    /// Those that returned, failed ones too.
    pub calls: u32,
    pub pad: u32,
    pub bytes: u64,
    /// From their beginnings to their ends.
    pub ns: u64,
}
layout!(CallSum, size = 24, calls = 0, bytes = 8, ns = 16);

/// Calls by which one thread read, wrote and synced one file, added up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FileCalls {
    pub header: Header,
    /// Beginning of the first and end of the last.
    pub from: u64,
    pub to: u64,
    /// Of an overlay's file the one in the layer, where the kernel tells: else the overlay's own.
    pub inode: InodeId,
    /// Reading, writing, syncing. A call from one file to another counts as one of each of the first two, and its time with the
    /// first.
    pub sums: [CallSum; 3],
}
layout!(
    FileCalls,
    size = 144,
    header = 0,
    from = 40,
    to = 48,
    inode = 56,
    sums = 72
);
