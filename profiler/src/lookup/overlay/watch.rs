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
use std::os::unix::fs::MetadataExt as _;

use profiler_common::container::call;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, open, statx};

use super::{Options, Role, absolute, place, plain_driver};
use crate::kernel::host;
use crate::lookup::images::{self, Viewer};
use crate::lookup::locate::{cached, walk_freely};
use crate::lookup::mounts::{Mount, mounts_of};
use crate::recording::record::{At, Overlay, OverlayLayer, Record, Role as Recorded, Syscall, Text};

/// Most layers told of one mount: the kernel takes 500 lower ones (`OVL_MAX_STACK`) and one that is written to.
const MAX_LAYERS: usize = 501;
/// Mounts under construction by `fsopen` that are remembered.
const MAX_BUILDING: usize = 256;
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
    /// By process and descriptor.
    building: HashMap<(u32, u64), Options>,
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
                if self.building.len() >= MAX_BUILDING {
                    self.building.clear();
                }
                self.building
                    .insert((tgid, call.result.cast_unsigned()), Options::default());
            }
            call::FSCONFIG if call.result == 0 => {
                if let Some(options) = self.building.get_mut(&(tgid, call.args[0])) {
                    // FSCONFIG_SET_FLAG has a key alone.
                    options.add(&call.c, (call.args[1] != 0).then_some(&call.a));
                }
            }
            call::FSMOUNT if call.result >= 0 => {
                if let Some(options) = self.building.remove(&(tgid, call.args[0])) {
                    self.building.insert((tgid, call.result.cast_unsigned()), options);
                }
            }
            call::MOVE_MOUNT if call.result == 0 => {
                if let Some(options) = self.building.remove(&(tgid, call.args[0])) {
                    self.mounted(call.at, OVERLAY, &call.b, options);
                }
            }
            _ => {}
        }
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

    /// A process that was there before, of a mount namespace.
    pub fn adopted(&mut self, tgid: u32, mnt_ns: u32) {
        if mnt_ns != 0 && !self.known.contains(&mnt_ns) {
            self.namespaces.entry(mnt_ns).or_insert(tgid);
        }
    }

    /// Looks at what was noted, tells it, and asks for what the engines' files say of the layers.
    pub fn look_up(&mut self, images: &mut images::Watch, out: &mut Vec<Record>) {
        if self.pending.is_empty() && self.namespaces.is_empty() {
            return;
        }
        let own = mounts_of("self");
        let own_ns = self.own_mnt_ns();
        for (mnt_ns, tgid) in std::mem::take(&mut self.namespaces) {
            self.known.insert(mnt_ns);
            self.there_before(mnt_ns, tgid, &own, own_ns, images, out);
        }
        // By the next time a device can be another mount's.
        self.before.clear();
        for pending in std::mem::take(&mut self.pending) {
            let overlay = self.look(pending, &own, own_ns, images);
            out.push(overlay.into());
        }
    }

    /// Inode of our own mount namespace; 0 when it can't be had.
    fn own_mnt_ns(&mut self) -> u32 {
        *self
            .own_mnt_ns
            .get_or_insert_with(|| fs::metadata("/proc/self/ns/mnt").map_or(0, |namespace| namespace.ino() as u32))
    }

    fn there_before(
        &mut self,
        mnt_ns: u32,
        tgid: u32,
        own: &[Mount],
        own_ns: u32,
        images: &mut images::Watch,
        out: &mut Vec<Record>,
    ) {
        let is_own = mnt_ns == own_ns;
        let theirs = if is_own {
            Vec::new()
        } else {
            mounts_of(&tgid.to_string())
        };
        let mounts = if is_own { own } else { &theirs };
        for mount in mounts.iter().filter(|mount| mount.fstype == b"overlay") {
            if self.told_before >= MAX_BEFORE {
                self.skipped += 1;
                continue;
            }
            self.told_before += 1;
            let mut options = Options::parse(&mount.options);
            let (layers, left_out) = match self.before.get(&mount.dev) {
                Some(layers) => (layers.clone(), 0),
                None => {
                    // Our own namespace has the place that the engine mounted it at, if it is one of the host's: what
                    // relative layers count from.
                    let ours = own.iter().find(|other| other.dev == mount.dev).unwrap_or(mount);
                    let base = options.base(&ours.point);
                    let viewer = Viewer { mnt_ns: own_ns, pid: 0 };
                    let eyes = Eyes::new(viewer, true, own);
                    let (layers, left_out) = self.layers(&options, base, &eyes, images);
                    self.before.insert(mount.dev, layers.clone());
                    (layers, left_out)
                }
            };
            out.push(
                Overlay {
                    ts: host::monotonic_ns(),
                    driver: OVERLAY.to_owned(),
                    mounted: None,
                    mnt_ns,
                    dev: mount.dev,
                    merged: kept(&mount.point),
                    layers,
                    left_out,
                    work: kept(&std::mem::take(&mut options.work)),
                    options: options.others,
                }
                .into(),
            );
        }
    }

    fn look(&mut self, pending: Pending, own: &[Mount], own_ns: u32, images: &mut images::Watch) -> Overlay {
        let Pending {
            at,
            driver,
            mut merged,
            mut options,
        } = pending;
        let is_own = at.mnt_ns == own_ns;
        // The newest at that place, or what a relative place can only be.
        let mut own_overlays = own.iter().rev().filter(|mount| is_own && mount.fstype == b"overlay");
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
        let eyes = Eyes::new(Viewer { mnt_ns, pid }, is_own, own);
        let (layers, left_out) = self.layers(&options, base, &eyes, images);
        Overlay {
            ts: host::monotonic_ns(),
            driver: driver.to_owned(),
            mounted: Some(at),
            mnt_ns: at.mnt_ns,
            dev: found.map_or(0, |mount| mount.dev),
            merged: kept(&merged),
            layers,
            left_out,
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
    ) -> (Vec<OverlayLayer>, u32) {
        let mut layers = Vec::new();
        let mut left_out = 0;
        for layer in options.layers() {
            if layers.len() >= MAX_LAYERS {
                left_out += 1;
                continue;
            }
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
        (layers, left_out)
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

/// How directories are looked at.
struct Eyes<'a> {
    viewer: Viewer,
    root: Option<OwnedFd>,
    /// Whoever mounted is root of the host: disks may be waited for.
    trusted: bool,
    mounts: &'a [Mount],
}

impl Eyes<'_> {
    /// As the process sees them: ours are the same (`own`), and so mostly are those of one that is gone.
    fn new(viewer: Viewer, own: bool, mounts: &[Mount]) -> Eyes<'_> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match own {
            true => None,
            false => open(format!("/proc/{}/root", viewer.pid), flags, Mode::empty()).ok(),
        };
        Eyes {
            viewer,
            root: root.or_else(|| open("/", flags, Mode::empty()).ok()),
            trusted: own,
            mounts,
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
