//! Which layers each overlay mount is made of: told as a mount's system call is seen, and of the mounts that were there
//! before, while the layers' directories can be looked at.
//!
//! A layer is known for good by the device and inode of its directory: the kernel's events name a file by its own inode
//! and those of the directories above it, and one of these is the layer's. Looking must not touch the overlay itself: an
//! open file pins its mount (see [`crate::lookup::locate`]), so `merged` is never opened, and the directories of layers
//! are opened with `O_PATH` alone.
//!
//! In another mount namespace than ours whoever mounted may be no root of the host and may have chosen the directories,
//! among them some below a FUSE daemon that does not answer: there they are walked from the kernel's caches only, where
//! they are, since the mount has just walked them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use profiler_common::container::call;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, open, statx};

use super::{Options, Role, absolute, place, plain_driver};
use crate::kernel::host::monotonic_ns;
use crate::lookup::images::{self, Viewer};
use crate::lookup::locate::{cached, walk_freely};
use crate::lookup::mounts::{Mount, mounts_of};
use crate::lookup::tree::namespace;
use crate::recording::record::{At, Overlay, OverlayLayer, Record, Role as Recorded, Syscall, Text};

/// Mounts under construction by `fsopen` that are remembered, and of one process.
const MAX_BUILDING: usize = 256;
const MAX_BUILDING_OF_ONE: usize = 16;
/// Mounts looked at between two drains.
const MAX_PENDING: usize = 512;
/// Mounts told of those that were there before.
const MAX_BEFORE: usize = 4096;
/// Longest path kept, bytes.
const MAX_PATH: usize = 4096;

/// `MS_BIND`
const BIND: u64 = 1 << 12;
/// Flags of `mount(2)` that make no new overlay: `MS_REMOUNT`, `MS_BIND`, `MS_MOVE`, `MS_SHARED` and its like.
const CHANGES: u64 = 1 << 5 | 1 << 12 | 1 << 13 | 0xf << 17;

/// The driver whose mounts have layers.
const OVERLAY: &str = "overlay";

/// A mount whose system call was seen.
#[derive(Debug)]
struct Pending {
    at: At,
    driver: &'static str,
    merged: Text,
    options: Options,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Watch {
    /// By process and descriptor, with the order in which they were begun.
    building: HashMap<(u32, u64), (u64, Options)>,
    begun: u64,
    pending: Vec<Pending>,
    /// A process of each namespace whose mounts are still to be looked at.
    namespaces: BTreeMap<u32, u32>,
    /// Namespaces that were looked at.
    known: HashSet<u32>,
    /// Layers of the mounts that were there before, by device, while they are looked at.
    before: HashMap<u32, Vec<OverlayLayer>>,
    told_before: usize,
    own_mnt_ns: Option<u32>,
    /// Mounts that were not looked at, for want of room.
    skipped: u64,
    /// Layers whose directory was gone, or not in the kernel's caches.
    unseen: u64,
}

impl Watch {
    /// A system call that may make an overlay mount.
    pub fn syscall(&mut self, call: &Syscall) {
        let tgid = call.at.task.tgid;
        match call.call {
            call::MOUNT if call.result == 0 && call.c == b"overlay" && call.args[0] & CHANGES == 0 => {
                self.mounted(call.at, OVERLAY, &call.b, Options::parse(&call.d));
            }
            // A runtime binds the root file system that it is about to enter.
            call::MOUNT if call.result == 0 && call.args[0] & BIND != 0 => {
                if let Some(driver) = plain_driver(&call.a) {
                    self.mounted(call.at, driver, &call.a, Options::one(&call.a));
                }
            }
            call::FSOPEN if call.result >= 0 && call.c == b"overlay" => {
                self.begin(tgid, call.result.cast_unsigned());
            }
            call::FSCONFIG if call.result == 0 => {
                if let Some((_, options)) = self.building.get_mut(&(tgid, call.args[0])) {
                    // FSCONFIG_SET_FLAG has a key alone.
                    options.add(&call.c, (call.args[1] != 0).then_some(&call.a));
                }
            }
            call::FSMOUNT if call.result >= 0 => {
                if let Some(begun) = self.building.remove(&(tgid, call.args[0])) {
                    self.building.insert((tgid, call.result.cast_unsigned()), begun);
                }
            }
            call::MOVE_MOUNT if call.result == 0 => {
                if let Some((_, options)) = self.building.remove(&(tgid, call.args[0])) {
                    self.mounted(call.at, OVERLAY, &call.b, options);
                }
            }
            _ => {}
        }
    }

    /// Remembers a mount under construction. Whoever begins many forgets its own, the oldest first.
    fn begin(&mut self, tgid: u32, descriptor: u64) {
        let of_one = self.building.keys().filter(|(of, _)| *of == tgid).count();
        if self.building.len() >= MAX_BUILDING || of_one >= MAX_BUILDING_OF_ONE {
            let own = self.building.iter().filter(|((of, _), _)| of_one == 0 || *of == tgid);
            if let Some(oldest) = own.min_by_key(|(_, (begun, _))| *begun).map(|(key, _)| *key) {
                self.building.remove(&oldest);
                self.skipped += 1;
            }
        }
        self.begun += 1;
        self.building
            .insert((tgid, descriptor), (self.begun, Options::default()));
    }

    fn mounted(&mut self, at: At, driver: &'static str, merged: &[u8], options: Options) {
        if self.pending.len() >= MAX_PENDING {
            self.skipped += 1;
            return;
        }
        self.pending.push(Pending {
            at,
            driver,
            merged: merged.to_vec(),
            options,
        });
    }

    /// A process has ended: nobody makes its mounts any more.
    pub fn exited(&mut self, tgid: u32) {
        self.building.retain(|(of, _), _| *of != tgid);
    }

    /// A process that was there before, of a mount namespace.
    pub fn adopted(&mut self, tgid: u32, mnt_ns: u32) {
        if mnt_ns != 0 && !self.known.contains(&mnt_ns) {
            self.namespaces.entry(mnt_ns).or_insert(tgid);
        }
    }

    /// Looks at what was noted, tells it, and asks for what the engines' files say of the layers.
    /// `peers`: mount namespaces of the processes that are there.
    pub fn look_up(&mut self, peers: &HashMap<u32, u32>, images: &mut images::Watch, out: &mut Vec<Record>) {
        if self.pending.is_empty() && self.namespaces.is_empty() {
            return;
        }
        let host = Host {
            mounts: &mounts_of("self"),
            mnt_ns: self.own_mnt_ns(),
            peers,
        };
        for (mnt_ns, tgid) in std::mem::take(&mut self.namespaces) {
            self.known.insert(mnt_ns);
            self.there_before(mnt_ns, tgid, &host, images, out);
        }
        // By the next time a device can be another mount's.
        self.before.clear();
        for pending in std::mem::take(&mut self.pending) {
            let overlay = self.look(pending, &host, images);
            out.push(overlay.into());
        }
    }

    /// Inode of our own mount namespace; 0 when it can't be had.
    fn own_mnt_ns(&mut self) -> u32 {
        *self.own_mnt_ns.get_or_insert_with(|| namespace("self"))
    }

    fn there_before(
        &mut self,
        mnt_ns: u32,
        tgid: u32,
        host: &Host<'_>,
        images: &mut images::Watch,
        out: &mut Vec<Record>,
    ) {
        let is_own = mnt_ns == host.mnt_ns;
        let theirs = if is_own {
            Vec::new()
        } else {
            mounts_of(&tgid.to_string())
        };
        let mounts = if is_own { host.mounts } else { &theirs };
        for mount in mounts.iter().filter(|mount| mount.fstype == b"overlay") {
            if self.told_before >= MAX_BEFORE {
                self.skipped += 1;
                continue;
            }
            self.told_before += 1;
            let mut options = Options::parse(&mount.options);
            let layers = match self.before.get(&mount.dev) {
                Some(layers) => layers.clone(),
                None => {
                    // Our own namespace has the place that the engine mounted it at, if it is one of the host's: what
                    // relative layers count from.
                    let ours = host.mounts.iter().find(|other| other.dev == mount.dev);
                    let base = options.base(&ours.unwrap_or(mount).point);
                    // One that is nobody's of the host names directories as its own namespace has them.
                    let (mnt_ns, pid) = if ours.is_some() {
                        (host.mnt_ns, 0)
                    } else {
                        (mnt_ns, tgid)
                    };
                    let eyes = Eyes::new(Viewer { mnt_ns, pid }, ours.is_some(), host);
                    let layers = self.layers(&options, base, &eyes, images);
                    self.before.insert(mount.dev, layers.clone());
                    layers
                }
            };
            out.push(
                Overlay {
                    ts: monotonic_ns(),
                    driver: OVERLAY.to_owned(),
                    mounted: None,
                    mnt_ns,
                    dev: mount.dev,
                    merged: kept(&mount.point),
                    layers,
                    left_out: options.left_out,
                    work: kept(&std::mem::take(&mut options.work)),
                    options: options.others,
                }
                .into(),
            );
        }
    }

    fn look(&mut self, pending: Pending, host: &Host<'_>, images: &mut images::Watch) -> Overlay {
        let Pending {
            at,
            driver,
            mut merged,
            mut options,
        } = pending;
        let is_own = at.mnt_ns == host.mnt_ns;
        // The newest at that place, or what a relative place can only be.
        let mut own_overlays = host
            .mounts
            .iter()
            .rev()
            .filter(|mount| is_own && mount.fstype == b"overlay");
        let found = own_overlays.find(|mount| driver == OVERLAY && is_place(&mount.point, &merged));
        if let Some(mount) = found {
            merged.clone_from(&mount.point);
            // Layers that were given as descriptors are named here alone.
            if options.layers().next().is_none() {
                options = Options::parse(&mount.options);
            }
        }
        let base = options.base(&merged);
        // A runtime that bound a root file system may have entered it: what it sees is another tree.
        let pid = if driver == OVERLAY && !is_own { at.task.tgid } else { 0 };
        let mnt_ns = at.mnt_ns;
        let eyes = Eyes::new(Viewer { mnt_ns, pid }, is_own, host);
        let layers = self.layers(&options, base, &eyes, images);
        Overlay {
            ts: monotonic_ns(),
            driver: driver.to_owned(),
            mounted: Some(at),
            mnt_ns: at.mnt_ns,
            dev: found.map_or(0, |mount| mount.dev),
            merged: kept(&merged),
            layers,
            left_out: options.left_out,
            work: kept(&std::mem::take(&mut options.work)),
            options: options.others,
        }
    }

    fn layers(
        &mut self,
        options: &Options,
        base: Option<Vec<u8>>,
        eyes: &Eyes<'_>,
        images: &mut images::Watch,
    ) -> Vec<OverlayLayer> {
        let mut layers = Vec::new();
        for layer in options.layers() {
            let path = absolute(&layer.path, base.as_deref());
            let seen = path.as_deref().and_then(|path| eyes.look(path));
            self.unseen += u64::from(seen.is_none());
            let (path, dev, ino) = seen.unwrap_or_else(|| (path.unwrap_or(layer.path), 0, 0));
            let place = place(&path);
            if let Some(place) = place.filter(|_| layer.role != Role::Upper) {
                images.needed(eyes.viewer, &place);
            }
            layers.push(OverlayLayer {
                role: match layer.role {
                    Role::Upper => Recorded::Upper,
                    Role::Lower => Recorded::Lower,
                    Role::Data => Recorded::Data,
                },
                dev,
                ino,
                engine: place.map_or("", |place| place.storage.name()).to_owned(),
                id: place.map(|place| kept(place.id)).unwrap_or_default(),
                path: kept(&path),
            });
        }
        layers
    }

    /// Every cause of a mount or layer that is not known, with its count.
    pub fn losses(&self) -> impl Iterator<Item = (String, u64)> {
        [
            ("overlay mounts whose layers were not looked at: too many at once", self.skipped),
            (
                "layers of overlay mounts that could not be seen (gone, or not in the kernel's caches): what was read of \
                 them is told without a layer",
                self.unseen,
            ),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
    }
}

/// Whether a mount's place is the one that a system call named, which may be relative.
fn is_place(point: &[u8], named: &[u8]) -> bool {
    let named = named.strip_suffix(b"/").unwrap_or(named);
    match named {
        [b'/', ..] => point == named,
        [] => false,
        _ => point.strip_suffix(named).is_some_and(|above| above.ends_with(b"/")),
    }
}

/// Bounded.
fn kept(path: &[u8]) -> Text {
    path[..path.len().min(MAX_PATH)].to_vec()
}

/// What there is while mounts are looked at.
struct Host<'a> {
    /// Of our own namespace, which is `mnt_ns`; 0 when that can't be had.
    mounts: &'a [Mount],
    mnt_ns: u32,
    /// Mount namespaces of the processes that are there.
    peers: &'a HashMap<u32, u32>,
}

/// How directories are looked at.
struct Eyes<'a> {
    viewer: Viewer,
    root: Option<OwnedFd>,
    /// Whoever mounted is root of the host: disks may be waited for.
    trusted: bool,
    mounts: &'a [Mount],
}

impl Eyes<'_> {
    /// As the process sees them, or another of its namespace: ours are the same (`own`), and so mostly are those of a
    /// namespace that is gone.
    fn new<'a>(viewer: Viewer, own: bool, host: &Host<'a>) -> Eyes<'a> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root_of = |pid: u32| {
            let root = open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok();
            root.filter(|_| namespace(&pid.to_string()) == viewer.mnt_ns)
        };
        let root = match own || viewer.pid == 0 {
            true => None,
            false => viewer.stands_for(host.peers).find_map(root_of),
        };
        Eyes {
            viewer,
            root: root.or_else(|| open("/", flags, Mode::empty()).ok()),
            trusted: own,
            mounts: host.mounts,
        }
    }

    /// Its path without links, device and inode; `None` when it can't be seen.
    fn look(&self, path: &[u8]) -> Option<(Text, u32, u64)> {
        let root = self.root.as_ref()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let directory = match cached(root.as_fd(), path, flags, resolve) {
            Err(_) if self.trusted => walk_freely(root.as_fd(), path, flags, resolve),
            found => found,
        };
        let directory = directory.ok()?;
        // What the caches have: a daemon of a file system is not asked.
        let at = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = statx(&directory, "", at, StatxFlags::INO | StatxFlags::MNT_ID).ok()?;
        let mut dev = found.stx_dev_major << 20 | found.stx_dev_minor & 0xf_ffff;
        if found.stx_dev_major == 0 {
            // A subvolume's own number (btrfs), where the kernel's events have the file system's.
            let mount = self.mounts.iter().find(|mount| mount.id == found.stx_mnt_id);
            dev = mount.map_or(dev, |mount| mount.dev);
        }
        let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
        Some((path.into_os_string().into_vec(), dev, found.stx_ino))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{at, leader};

    fn call(tgid: u32, call: u32, result: i64, descriptor: u64, text: &[u8]) -> Syscall {
        let [a, b, d] = [const { Vec::new() }; 3];
        Syscall {
            at: at(leader(tgid, 1), 1),
            enter: 0,
            result,
            args: [descriptor, 0],
            call,
            a,
            b,
            c: text.to_vec(),
            d,
        }
    }

    /// Make sure that a process that begins many mounts and ends none costs only itself what is known of them.
    #[test]
    fn mounts_under_construction_are_bounded() {
        let mut watch = Watch::default();
        watch.syscall(&call(1, call::FSOPEN, 3, 0, b"overlay"));
        for descriptor in 0..2 * MAX_BUILDING as i64 {
            watch.syscall(&call(2, call::FSOPEN, descriptor, 0, b"overlay"));
        }
        assert_eq!(watch.building.len(), 1 + MAX_BUILDING_OF_ONE);
        assert_eq!(watch.skipped as usize, 2 * MAX_BUILDING - MAX_BUILDING_OF_ONE);
        watch.syscall(&call(2, call::MOVE_MOUNT, 0, 2 * MAX_BUILDING as u64 - 1, b""));
        watch.syscall(&call(1, call::FSMOUNT, 4, 3, b""));
        watch.syscall(&call(1, call::MOVE_MOUNT, 0, 4, b""));
        assert_eq!(watch.pending.len(), 2);
        let skipped = watch.skipped;
        let many = 3..3 + 2 * MAX_BUILDING as u32;
        // runc makes an overlay of its own program that it mounts nowhere, and ends.
        for tgid in many.clone() {
            watch.syscall(&call(tgid, call::FSOPEN, 3, 0, b"overlay"));
            watch.syscall(&call(tgid, call::FSMOUNT, 4, 3, b""));
            watch.exited(tgid);
        }
        assert_eq!(watch.skipped, skipped);
        for tgid in many {
            watch.syscall(&call(tgid, call::FSOPEN, 3, 0, b"overlay"));
        }
        assert_eq!(watch.building.len(), MAX_BUILDING);
    }
}
