//! Files that belong to a mapped one: its debug information, and the names that a just-in-time compiler leaves.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};

use crate::lookup::elf::{Image, Proof};
use crate::lookup::locate::cached;
use crate::lookup::mounts::Own;
use crate::lookup::overlay::Layers;
use crate::lookup::tree;

/// Where distributions put debug information.
const DEBUG: &[u8] = b"/usr/lib/debug";

/// The file system tree that a path counts from.
#[derive(Clone, Debug)]
pub enum Root {
    Host,
    /// A container's, past its overlay: see [`crate::lookup::locate`].
    Layers(Arc<Layers>),
}

/// How a path is walked. It never leads out of its root, and never through `/proc`'s links.
#[derive(Clone, Copy, Debug)]
enum Walk {
    /// The whole path is ours: disks may be waited for, and links are followed.
    Trusted,
    /// A traced process chose it: from the kernel's caches only, so that nothing can stall us, without links.
    Hostile,
}

/// A regular file of a local file system, open for reading.
fn find(root: &Root, path: &[u8], walk: Walk, own: &Own) -> Option<File> {
    let directories = match root {
        Root::Host => &[b"/".to_vec()][..],
        Root::Layers(layers) => &layers.0,
    };
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let resolve = match (root, walk) {
        // A layer lies on one local file system.
        (Root::Layers(_), _) => within | ResolveFlags::NO_XDEV,
        (Root::Host, Walk::Trusted) => within,
        (Root::Host, Walk::Hostile) => within | ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED,
    };
    directories.iter().find_map(|directory| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Where a layer's directory is not in the kernel's caches any more, a daemon may have to be waited for.
        let directory = cached(CWD, directory, flags, ResolveFlags::NO_MAGICLINKS).ok()?;
        if !own.is_local(&directory) {
            return None;
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let path = std::ffi::OsStr::from_bytes(path);
        let file = openat2(&directory, path, flags, Mode::empty(), resolve).ok()?;
        readable(&file, own)
    })
}

fn readable(path: &OwnedFd, own: &Own) -> Option<File> {
    own.is_local(path).then(|| tree::readable(path.as_fd()).ok()).flatten()
}

/// Files that may hold the debug information of a mapped file, best first, each with what proves that it does. They are
/// opened one by one, as they are asked for.
///
/// `folders`: of the user, laid out as `/usr/lib/debug` is, or holding the files themselves. `path` is the mapped
/// file's in `root`.
pub fn debug_files<'a>(
    image: &'a Image,
    root: &'a Root,
    path: &'a [u8],
    folders: &'a [PathBuf],
    own: &'a Own,
) -> impl Iterator<Item = (File, Proof)> + 'a {
    let by_id = by_build_id(&image.build_id);
    let in_folders = folders.iter().filter_map({
        let by_id = by_id.clone();
        move |folder| {
            let plain = |rest: &[u8]| {
                let path = folder.join(std::ffi::OsStr::from_bytes(rest));
                readable(&open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?, own)
            };
            let of_id = by_id.as_deref().and_then(plain).map(|file| (file, Proof::BuildId));
            of_id.or_else(|| {
                let (name, crc) = image.link.as_ref()?;
                let proof = if image.build_id.is_empty() {
                    Proof::Crc(*crc)
                } else {
                    Proof::BuildId
                };
                plain(name).map(|file| (file, proof))
            })
        }
    });
    let of_id = by_id.into_iter().flat_map(move |rest| {
        let path = [DEBUG, b"/", &rest].concat();
        let roots = match root {
            Root::Host => vec![Root::Host],
            // The build id proves that it is the one, wherever it lies.
            Root::Layers(_) => vec![root.clone(), Root::Host],
        };
        roots
            .into_iter()
            .filter_map(move |root| Some((find(&root, &path, Walk::Trusted, own)?, Proof::BuildId)))
    });
    let by_link = image.link.iter().flat_map(move |(name, crc)| {
        let folder = path.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default();
        [
            ([folder, b"/", name].concat(), Walk::Hostile),
            ([folder, b"/.debug/", name].concat(), Walk::Hostile),
            ([DEBUG, folder, b"/", name].concat(), Walk::Trusted),
        ]
        .into_iter()
        .filter_map(move |(path, walk)| Some((find(root, &path, walk, own)?, Proof::Crc(*crc))))
    });
    in_folders.chain(of_id).chain(by_link)
}

/// `.build-id/ab/cdef….debug`. `None` without a build id.
fn by_build_id(build_id: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = build_id.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!(".build-id/{first:02x}/{rest}.debug").into_bytes())
}

/// The map that a just-in-time compiler of a process writes, which knows itself as process `pid` (in its own pid
/// namespace).
pub fn perf_map(root: &Root, pid: u32, own: &Own) -> Option<File> {
    find(root, &perf_map_path(pid), Walk::Hostile, own)
}

/// Where [`perf_map`] lies.
pub fn perf_map_path(pid: u32) -> Vec<u8> {
    format!("/tmp/perf-{pid}.map").into_bytes()
}
