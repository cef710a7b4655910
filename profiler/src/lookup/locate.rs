//! Finds the file behind a mapping, while that is possible, and makes sure that it is the one.
//!
//! Two things must never happen. A container's mount must not be kept busy: an open file pins the mount it was
//! opened through, and an `umount` of the workload would fail with EBUSY. So files are opened past the container's
//! mounts first (by file handle, by layer), through them only as the last resort, and closed at once. And a hostile
//! path must not lead anywhere: it is walked with `RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS` (what `d_path` gives
//! holds no links), from the kernel's caches only (`RESOLVE_CACHED`: the dentries of a file that was just mapped are
//! there, and a dead FUSE daemon can't stall us), to a handle without effect (`O_PATH`), whose device and inode
//! must be the mapping's before it is opened for reading.
//!
//! What perf calls the file of an overlay differs: the backing file's device, inode and generation up to 6.17, the
//! overlay's own device, its inode number (the backing one's, where all layers are on one file system) and no
//! generation from 6.18 on. Measured on 6.18.44; the change is "perf: Fix MMAP2 event device with backing files".

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, open, openat2};
use rustix::io::Errno;

use crate::ingest::mappings::Map;
use crate::lookup::mounts::{Mount, mounts_of};
use crate::lookup::overlay::{Layers, Overlays};

/// Shortest time between two readings of the own mount table, for a device that is not in it.
const REFRESH: Duration = Duration::from_secs(1);
/// Processes remembered of one mount namespace, to reach it by when others are gone.
const PEERS: usize = 4;
/// Most mount namespaces whose processes are remembered.
const MAX_NAMESPACES: usize = 1024;

const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
const BTRFS_SUPER_MAGIC: i64 = 0x9123_683e;
/// File systems where a read can wait for a daemon or a network: FUSE, NFS, CIFS, SMB2, Ceph, 9p, AFS, Coda.
const SLOW: [i64; 8] = [
    0x6573_5546,
    0x6969,
    0xff53_4d42,
    0xfe53_4d42,
    0x00c3_6400,
    0x0102_1997,
    0x5346_414f,
    0x7375_7245,
];

/// By what way a file was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By inode and generation, through the host's mount of its device.
    Handle,
    /// By its path in our own mount namespace.
    Host,
    /// By the layer of its overlay.
    Layer,
    /// Through the mapping, `/proc/PID/map_files`: through the container's mount.
    Mapping,
    /// Through `/proc/PID/root`: through the container's mount.
    Root,
}

/// Why a file could not be reached. Of several attempts the one that came furthest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// Not there (any more), or not in the kernel's caches.
    Gone,
    /// Another file has its path.
    Other,
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
}

/// Who maps what.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// 0 when it is known to be gone.
    pub tgid: u32,
    /// Inode of its mount namespace, 0 when not known.
    pub mnt_ns: u32,
    pub map: Map<'a>,
}

/// Finds files, and remembers what helps to.
#[derive(Debug, Default)]
pub struct Locator {
    pub overlays: Overlays,
    /// Mounts of our own namespace by device.
    mounts: HashMap<u32, Vec<Mount>>,
    refreshed: Option<Instant>,
    peers: HashMap<u32, [u32; PEERS]>,
}

impl Locator {
    /// Opens the file of a mapping for reading.
    ///
    /// # Errors
    ///
    /// [`Miss`].
    pub fn locate(&mut self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        self.remember(wanted);
        let mut best = Miss::Gone;
        let attempts: [fn(&mut Self, &Sighting<'_>) -> Result<Found, Miss>; 5] = [
            Self::by_handle,
            Self::by_host_path,
            Self::by_layer,
            Self::by_mapping,
            Self::by_root,
        ];
        for attempt in attempts {
            match attempt(self, wanted) {
                Ok(found) => return Ok(found),
                Err(miss) => best = best.max(miss),
            }
        }
        Err(best)
    }

    fn remember(&mut self, wanted: &Sighting<'_>) {
        if wanted.tgid == 0 || wanted.mnt_ns == 0 {
            return;
        }
        if self.peers.len() >= MAX_NAMESPACES && !self.peers.contains_key(&wanted.mnt_ns) {
            self.peers.clear();
        }
        let peers = self.peers.entry(wanted.mnt_ns).or_default();
        if !peers.contains(&wanted.tgid) {
            peers.rotate_right(1);
            peers[0] = wanted.tgid;
        }
    }

    /// Inode and generation name a file for good, on the file systems whose handles hold just these. That takes no
    /// path, finds deleted files too, and opens through the host's mount.
    fn by_handle(&mut self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        let map = &wanted.map;
        if map.generation == 0 {
            return Err(Miss::Gone);
        }
        if !self.mounts.contains_key(&map.dev) {
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
                return admit(path.as_fd(), Way::Handle, map);
            }
        }
        Err(Miss::Gone)
    }

    fn by_host_path(&mut self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let path = walk(
            root.map_err(|_| Miss::Gone)?.as_fd(),
            wanted.map.path,
            ResolveFlags::empty(),
        );
        admit(path.map_err(|_| Miss::Gone)?.as_fd(), Way::Host, &wanted.map)
    }

    fn by_layer(&mut self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        let dev = wanted.map.dev;
        let known = self.overlays.on(dev);
        if let Some(Some(layers)) = &known
            && let Ok(found) = in_layers(layers, &wanted.map)
        {
            return Ok(found);
        }
        if matches!(known, Some(None)) {
            return Err(Miss::Gone);
        }
        // Not known, or known of a mount that had the number before.
        self.overlays.forget(dev);
        self.refresh();
        if self.overlays.on(dev).is_none() && wanted.tgid != 0 {
            self.overlays.learn(&mounts_of(&wanted.tgid.to_string()));
        }
        let mut best = Miss::Gone;
        let candidates = match self.overlays.on(dev) {
            Some(None) => Vec::new(),
            Some(Some(layers)) => vec![layers],
            None => self.overlays.noted(wanted.mnt_ns),
        };
        for layers in candidates {
            match in_layers(&layers, &wanted.map) {
                Ok(found) => return Ok(found),
                Err(miss) => best = best.max(miss),
            }
        }
        Err(best)
    }

    fn by_mapping(&mut self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        if wanted.tgid == 0 {
            return Err(Miss::Gone);
        }
        let Map { start, end, .. } = wanted.map;
        let path = format!("/proc/{}/map_files/{start:x}-{end:x}", wanted.tgid);
        let path = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|_| Miss::Gone)?;
        admit(path.as_fd(), Way::Mapping, &wanted.map)
    }

    fn by_root(&mut self, wanted: &Sighting<'_>) -> Result<Found, Miss> {
        let peers = self.peers.get(&wanted.mnt_ns).copied().unwrap_or_default();
        let mut best = Miss::Gone;
        for tgid in [wanted.tgid].into_iter().chain(peers).filter(|tgid| *tgid != 0) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(root) = open(format!("/proc/{tgid}/root"), flags, Mode::empty()) else {
                continue;
            };
            let Ok(path) = walk(root.as_fd(), wanted.map.path, ResolveFlags::empty()) else {
                continue;
            };
            match admit(path.as_fd(), Way::Root, &wanted.map) {
                Ok(found) => return Ok(found),
                Err(miss) => best = best.max(miss),
            }
        }
        Err(best)
    }

    fn refresh(&mut self) {
        if self.refreshed.is_some_and(|at| at.elapsed() < REFRESH) {
            return;
        }
        let mounts = mounts_of("self");
        self.overlays.learn(&mounts);
        self.mounts.clear();
        for mount in mounts {
            self.mounts.entry(mount.dev).or_default().push(mount);
        }
        self.refreshed = Some(Instant::now());
    }
}

/// The topmost layer that has the path has the file.
fn in_layers(layers: &Layers, map: &Map<'_>) -> Result<Found, Miss> {
    for layer in &layers.0 {
        // Links are followed here: engines name layers by short ones. It is a directory, and nothing is read of it.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let Ok(dir) = cached(CWD, layer, flags, resolve) else {
            continue;
        };
        match walk(dir.as_fd(), map.path, ResolveFlags::NO_XDEV) {
            Ok(path) => return admit(path.as_fd(), Way::Layer, map),
            Err(Errno::NOENT) => {}
            Err(_) => return Err(Miss::Gone),
        }
    }
    Err(Miss::Gone)
}

/// Walks a hostile path below `root` without leaving it, to a handle that can't be read from yet.
fn walk(root: BorrowedFd<'_>, path: &[u8], more: ResolveFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | more;
    if !path.starts_with(b"/") {
        return Err(Errno::NOENT);
    }
    cached(root, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, resolve)
}

fn cached(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    /// A walk from the caches fails too when a rename happens meanwhile.
    const TRIES: usize = 3;
    let path = std::ffi::OsStr::from_bytes(path);
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = openat2(root, path, flags, Mode::empty(), resolve | ResolveFlags::CACHED);
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    match result {
        // RESOLVE_CACHED came with 5.12.
        Err(Errno::INVAL) => openat2(root, path, flags, Mode::empty(), resolve),
        result => result,
    }
}

/// Opens for reading what `path` stands for, if that is the mapped file.
fn admit(path: BorrowedFd<'_>, way: Way, map: &Map<'_>) -> Result<Found, Miss> {
    let stat = fstat(path).map_err(|_| Miss::Gone)?;
    // The type differs between architectures.
    #[expect(clippy::unnecessary_cast, reason = "f_type is i64 on x86-64 only")]
    let magic = fstatfs(path).map_err(|_| Miss::Gone)?.f_type as i64;
    if !same(&stat, magic, way, map) {
        return Err(Miss::Other);
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Miss::NotRegular);
    }
    if SLOW.contains(&magic) {
        return Err(Miss::Slow);
    }
    let own = format!("/proc/self/fd/{}", path.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(own, flags, Mode::empty()).map_err(|_| Miss::Refused)?);
    let seconds = i128::from(stat.st_ctime) * 1_000_000_000;
    let identity = (
        seconds + i128::from(stat.st_ctime_nsec),
        u64::try_from(stat.st_size).unwrap_or(0),
    );
    Ok(Found { file, way, identity })
}

/// Whether that is the file perf spoke of.
fn same(stat: &Stat, magic: i64, way: Way, map: &Map<'_>) -> bool {
    // A layer's file has its own device where perf gives the overlay's, and the other way round up to 6.17. On
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
