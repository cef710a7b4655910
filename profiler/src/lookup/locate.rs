//! Finds the file behind a mapping, while that is possible, and makes sure that it is the one.
//!
//! Two things must never happen. A container's mount must not be kept busy: an open file pins the mount it was
//! opened through, and an `umount` of the workload would fail with EBUSY. Even a moment is too long: while three
//! recorders opened files through `/proc/PID/map_files` and `/proc/PID/root`, 22 of 200 umounts right after the
//! process' exit failed, and none since these ways are not taken. `/proc/PID/mountinfo` takes a reference on its
//! process' root too (`mounts_open_common` in `fs/proc_namespace.c`). So files are opened past the container's mounts,
//! by handle or by layer, and what lies on a file system that only the container has mounted (a private tmpfs) has no
//! names.
//!
//! And a hostile path must not lead anywhere: it is walked with `RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS` (what
//! `d_path` gives holds no links), either within one local file system or from the kernel's caches only
//! (`RESOLVE_CACHED`: the dentries of a file that was just mapped are there, and a dead FUSE daemon can't stall us),
//! to a descriptor without effect (`O_PATH`), whose device and inode must be the mapping's before it is opened. Whether it
//! lies on a local file system is told by our mount table: `fstat` and `fstatfs` may ask a daemon themselves.
//!
//! What perf calls the file of an overlay differs between kernels: on 6.18.44 the overlay's own device, its inode
//! number (the backing one's, where all layers are on one file system) and generation 0, as measured; on kernels whose
//! `perf_event_mmap_event` takes `file_inode` and not `file_user_inode` of the mapping, device, inode and generation
//! of the backing file. Both forms are found, and no version is asked.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{
    CWD, FileType, MemfdFlags, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, memfd_create, open, openat2,
};
use rustix::io::Errno;

use crate::ingest::mappings::Map;
use crate::lookup::beside::Root;
use crate::lookup::mounts::{Mount, Own, has_changed, mounts_of, seen};
use crate::lookup::overlay::{Layers, Overlays};
use crate::lookup::tree::readable;

const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
const BTRFS_SUPER_MAGIC: i64 = 0x9123_683e;

/// By what way a file was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By inode and generation, through the host's mount of its device.
    Handle,
    /// By its path in our own mount namespace.
    Host,
    /// By the layer of its overlay.
    Layer,
    /// By its process, whose program it is: memory files.
    Process,
}

/// Why a file could not be reached. Of several attempts the one that came furthest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// Not there (any more), or not in the kernel's caches.
    Gone,
    /// Another file has its path.
    Other,
    /// It was written to after it was mapped.
    Changed,
    /// It is there but is no regular file.
    NotRegular,
    /// On a file system where reading could stall.
    Slow,
    /// It is the file but could not be opened.
    Refused,
}

/// A file found, open for reading. Close it soon.
#[derive(Debug)]
pub struct Found {
    pub file: File,
    pub way: Way,
    /// Change time (ns since 1970) and length: another content has another pair.
    pub identity: (i128, u64),
    /// Time of its last change of content, ns since 1970.
    pub written: i128,
    /// What its path counts from.
    pub root: Root,
    /// Opened through an overlay's mount, which its engine may want to unmount: to be closed at once.
    pub urgent: bool,
}

/// What is mapped, and where.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// When, `CLOCK_MONOTONIC` ns; 0 when not known: for mappings that are still there.
    pub ts: u64,
    /// The process, 0 when not known.
    pub pid: u32,
    /// Inode of the process' mount namespace, 0 when not known.
    pub mnt_ns: u32,
    pub map: Map<'a>,
}

/// Finds files, and remembers what helps to.
#[derive(Debug, Default)]
pub struct Locator {
    pub overlays: Overlays,
    /// Tells where a read can stall.
    pub own: Own,
    /// Mounts of our own namespace by device, as they were at first: later ones may be a container's, which its
    /// engine wants to unmount.
    mounts: HashMap<u32, Vec<Mount>>,
    /// `/proc/self/mountinfo`, which can be polled for changes.
    table: Option<File>,
    /// Device of the kernel's own mount that memory files (`memfd_create`) lie on; 0 when it can't be told.
    memory: Option<u32>,
}

impl Locator {
    /// Opens the file of a mapping for reading.
    ///
    /// # Errors
    ///
    /// [`Miss`].
    pub fn locate(&mut self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        if wanted.map.path.starts_with(b"/memfd:") && wanted.map.dev == self.memory_dev() {
            return self.by_process(wanted);
        }
        let by_handle = self.by_handle(wanted);
        let by_path = by_handle.or_else(|first| self.by_host_path(wanted).map_err(|miss| miss.max(first)));
        by_path.or_else(|first| self.by_layer(wanted).map_err(|miss| miss.max(first)))
    }

    /// Inode and generation name a file for good, on the file systems whose handles hold just these. That takes no
    /// path, finds deleted files too, and opens through the host's mount.
    fn by_handle(&mut self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        let map = &wanted.map;
        if map.generation == 0 {
            return Err(Miss::Gone);
        }
        if self.table.is_none() {
            self.refresh();
        }
        for mount in self.mounts.get(&map.dev).ok_or(Miss::Gone)? {
            let Some(handle) = Handle::new(&mount.fstype, map.ino, map.generation) else {
                continue;
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let Ok(dir) = open(std::ffi::OsStr::from_bytes(&mount.point), flags, Mode::empty()) else {
                continue;
            };
            // Another mount may lie over it.
            if !fstat(&dir).is_ok_and(|stat| kernel_dev(stat.st_dev) == map.dev) {
                continue;
            }
            if let Ok(path) = handle.open(dir.as_fd()) {
                return self.admit(path.as_fd(), Way::Handle, map);
            }
        }
        Err(Miss::Gone)
    }

    /// What the path of a mapping that was found by its handle counts from; `None` when nothing says so.
    pub fn root_of(&mut self, wanted: &Sighting<'_>) -> Option<Root> {
        if self.by_host_path(wanted).is_ok() {
            return Some(Root::Host);
        }
        self.by_layer(wanted).ok().map(|found| found.root)
    }

    /// A program that was put into memory and executed there, as runc and buildah do with their own. It lies on no mount
    /// that anybody could unmount.
    fn by_process(&self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        let program = format!("/proc/{}/exe", wanted.pid);
        let path = open(program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|_| Miss::Gone)?;
        self.admit(path.as_fd(), Way::Process, &wanted.map)
    }

    fn memory_dev(&mut self) -> u32 {
        *self.memory.get_or_insert_with(|| {
            let file = memfd_create("phasegraph", MemfdFlags::CLOEXEC).and_then(fstat);
            file.map_or(0, |stat| kernel_dev(stat.st_dev))
        })
    }

    fn by_host_path(&self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let path = walk(root.map_err(|_| Miss::Gone)?.as_fd(), wanted.map.path, false);
        self.admit(path.map_err(|_| Miss::Gone)?.as_fd(), Way::Host, &wanted.map)
    }

    fn by_layer(&mut self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        let dev = wanted.map.dev;
        let known = self.overlays.on(dev);
        if let Some(Some(layers)) = &known
            && let Ok(found) = self.in_layers(layers, &wanted.map)
        {
            return Ok(found);
        }
        if matches!(known, Some(None)) {
            return Err(Miss::Gone);
        }
        // Not known, or known of a mount that had the number before.
        self.overlays.forget(dev);
        self.refresh();
        let mut best = Miss::Gone;
        let candidates = match self.overlays.on(dev) {
            Some(None) => Vec::new(),
            Some(Some(layers)) => vec![layers],
            None => self.overlays.noted(wanted.mnt_ns),
        };
        for layers in candidates {
            match self.in_layers(&layers, &wanted.map) {
                Ok(found) => return Ok(found),
                Err(miss) => best = best.max(miss),
            }
        }
        Err(best)
    }

    /// Reads our mount table when it is new or has changed.
    fn refresh(&mut self) {
        match &self.table {
            Some(table) => {
                if !has_changed(table) {
                    return;
                }
            }
            None => {
                self.table = File::open("/proc/self/mountinfo").ok();
                for mount in mounts_of("self") {
                    self.mounts.entry(mount.dev).or_default().push(mount);
                }
            }
        }
        self.overlays.learn(&mounts_of("self"));
    }

    /// The topmost layer that has the path has the file.
    fn in_layers(&self, layers: &Arc<Layers>, map: &Map<'_>) -> Result<Found, Miss> {
        for layer in &layers.0 {
            // Links are followed here: engines name layers by short ones. It is a directory, and nothing is read of it.
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::NO_MAGICLINKS;
            let Ok(dir) = cached(CWD, layer, flags, resolve) else {
                continue;
            };
            if !self.own.is_local(&dir) {
                continue;
            }
            match walk(dir.as_fd(), map.path, true) {
                Ok(path) => {
                    let mut found = self.admit(path.as_fd(), Way::Layer, map)?;
                    found.root = Root::Layers(Arc::clone(layers));
                    return Ok(found);
                }
                Err(Errno::NOENT) => {}
                Err(_) => return Err(Miss::Gone),
            }
        }
        Err(Miss::Gone)
    }

    /// Opens for reading what `path` stands for, if that is the mapped file.
    fn admit(&self, path: BorrowedFd<'_>, way: Way, map: &Map<'_>) -> Result<Found, Miss> {
        // Before the file system is asked for anything.
        let cached = seen(&path).ok_or(Miss::Gone)?;
        if cached.stx_ino != map.ino {
            return Err(Miss::Other);
        }
        // The kernel's own mount of memory files is in no table.
        let dev = cached.stx_dev_major << 20 | cached.stx_dev_minor & 0xf_ffff;
        let in_memory = way == Way::Process && dev == map.dev;
        if !in_memory && !self.own.is_local(&path) {
            return Err(Miss::Slow);
        }
        let stat = fstat(path).map_err(|_| Miss::Gone)?;
        let magic = fs_magic(path).ok_or(Miss::Gone)?;
        if !same(&stat, magic, way, map) {
            return Err(Miss::Other);
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Miss::NotRegular);
        }
        let file = readable(path).map_err(|_| Miss::Refused)?;
        let nanoseconds = |seconds: i64, rest: u64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let changed = nanoseconds(stat.st_ctime, stat.st_ctime_nsec);
        let written = nanoseconds(stat.st_mtime, stat.st_mtime_nsec);
        Ok(Found {
            file,
            way,
            identity: (changed, u64::try_from(stat.st_size).unwrap_or(0)),
            written,
            root: Root::Host,
            urgent: magic == OVERLAYFS_SUPER_MAGIC,
        })
    }
}

/// Walks a hostile path below `root` without leaving it, to a descriptor that can't be read from yet; `one_fs`: within
/// the file system of `root`, which is a local one.
fn walk(root: BorrowedFd<'_>, path: &[u8], one_fs: bool) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if !path.starts_with(b"/") {
        return Err(Errno::NOENT);
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if one_fs {
        // Not from the caches: that a layer does not have a file is not remembered there.
        return walk_freely(root, path, flags, resolve | ResolveFlags::NO_XDEV);
    }
    cached(root, path, flags, resolve)
}

/// Walks a path from the kernel's caches only, where the kernel can (5.12 and later).
pub(super) fn cached(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    /// A walk from the caches fails too when a rename happens meanwhile.
    const TRIES: usize = 3;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = walk_freely(root, path, flags, resolve | ResolveFlags::CACHED);
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    match result {
        // RESOLVE_CACHED came with 5.12.
        Err(Errno::INVAL) => walk_freely(root, path, flags, resolve),
        result => result,
    }
}

/// Walks a path; disks, daemons and networks may be waited for.
pub(super) fn walk_freely(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    openat2(root, std::ffi::OsStr::from_bytes(path), flags, Mode::empty(), resolve)
}

/// `f_type` of the file system.
fn fs_magic(fd: BorrowedFd<'_>) -> Option<i64> {
    #[expect(clippy::unnecessary_cast, reason = "f_type is i64 on some architectures only")]
    fstatfs(fd).ok().map(|stat| stat.f_type as i64)
}

/// Whether that is the file perf spoke of.
fn same(stat: &Stat, magic: i64, way: Way, map: &Map<'_>) -> bool {
    // A layer's file has its own device where perf gives the overlay's, or the other way round. On
    // btrfs, stat gives a subvolume's device, and perf the file system's.
    let device_may_differ = way == Way::Layer || matches!(magic, OVERLAYFS_SUPER_MAGIC | BTRFS_SUPER_MAGIC);
    stat.st_ino == map.ino && (device_may_differ || kernel_dev(stat.st_dev) == map.dev)
}

/// `dev_t` of user space as the kernel's `major << 20 | minor`.
fn kernel_dev(dev: u64) -> u32 {
    (rustix::fs::major(dev) << 20) | (rustix::fs::minor(dev) & 0xf_ffff)
}

/// A file handle made from inode and generation: `struct file_handle` with the longest body used here.
#[repr(C)]
struct Handle {
    handle_bytes: u32,
    handle_type: i32,
    body: [u32; 3],
}

impl Handle {
    /// `None` for file systems whose handles hold something else.
    fn new(fstype: &[u8], ino: u64, generation: u64) -> Option<Handle> {
        /// `enum fid_type` of `include/linux/exportfs.h`.
        const FILEID_INO32_GEN: i32 = 1;
        /// `XFS_FILEID_TYPE_64FLAG | FILEID_INO32_GEN` of `fs/xfs/xfs_export.h`.
        const XFS_INO64_GEN: i32 = 0x81;
        let generation = u32::try_from(generation).ok()?;
        let low = (ino & 0xffff_ffff) as u32;
        let high = (ino >> 32) as u32;
        let (handle_type, handle_bytes, body) = match fstype {
            b"ext2" | b"ext3" | b"ext4" | b"f2fs" if high == 0 => (FILEID_INO32_GEN, 8, [low, generation, 0]),
            b"xfs" => {
                // struct xfs_fid64: ino in the machine's order, then the generation.
                let words = ino.to_ne_bytes();
                let [a, b, c, d, e, f, g, h] = words;
                (
                    XFS_INO64_GEN,
                    12,
                    [
                        u32::from_ne_bytes([a, b, c, d]),
                        u32::from_ne_bytes([e, f, g, h]),
                        generation,
                    ],
                )
            }
            // shmem_encode_fh of mm/shmem.c.
            b"tmpfs" => (FILEID_INO32_GEN, 12, [generation, low, high]),
            _ => return None,
        };
        Some(Handle {
            handle_bytes,
            handle_type,
            body,
        })
    }

    /// Needs `CAP_DAC_READ_SEARCH` in the initial user namespace.
    fn open(&self, mount: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        // SAFETY: the kernel reads `handle_bytes` (at most 12) bytes behind the two leading words, which lie within
        // `self`, and keeps no pointer.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                mount.as_raw_fd(),
                std::ptr::from_ref(self),
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        let fd = i32::try_from(fd)
            .ok()
            .filter(|fd| *fd >= 0)
            .ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call made this descriptor just now; nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
