//! Layers and images in engines' storages: read from their state files when the engine has put a new one in place,
//! which it does by renaming it; and of the layers that a mount is made of.
//!
//! | engine | file | tells |
//! |---|---|---|
//! | podman, buildah, CRI-O | `*-layers/layers.json` | layers with their digests and sizes |
//! | | `*-images/images.json` | images: names, manifest's digest, topmost layer |
//! | docker | `layerdb/sha256/CHAIN/` | a layer: folder, digest and size of its contents |
//! | | `distribution/v2metadata-by-diffid/sha256/DIFF` | the blob that it came as |
//! | | `imagedb/content/sha256/ID` | an image: its layers |
//! | | `repositories.json` | names of images |
//! | containerd | `…content/blobs/sha256/DIGEST` | a blob's size; of a manifest its layers |
//!
//! The files are the engine's, but a recording must not hang on them: only regular files are read, up to a bound, and
//! one that is missing, cut or no JSON costs its own information.

mod containerd;
mod containers;
mod docker;
mod stacks;

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::lookup::overlay::Place;
use crate::recording::record::{Layer, Record, Stored, Text};

/// The most that is read of a file: a storage with 10,000 layers has 5 MB of `layers.json`.
const MAX_BYTES: u64 = 16 << 20;
/// The most files that wait to be read: an engine that renames more between two drains goes short.
const MAX_PENDING: usize = 4096;

/// What a state file tells.
#[derive(Debug, Default, PartialEq)]
struct Facts {
    layers: Vec<Layer>,
    images: Vec<Stored>,
}

/// Files that engines have put in place and that have not been read yet, and what was told already.
#[derive(Debug, Default)]
pub struct Watch {
    pending: BTreeMap<Text, u32>,
    stacks: stacks::Stacks,
    layers: HashSet<Layer>,
    images: HashSet<Stored>,
}

impl Watch {
    /// Notes that a process of an engine renamed something to `path`.
    pub fn renamed(&mut self, pid: u32, path: &[u8]) {
        if path.starts_with(b"/") && reader(path).is_some() && self.pending.len() < MAX_PENDING {
            self.pending.insert(path.to_vec(), pid);
        }
    }

    /// Reads what was noted, and adds what is new to `out`.
    pub fn look_up(&mut self, out: &mut Vec<Record>) {
        for (path, pid) in std::mem::take(&mut self.pending) {
            let Some(read) = reader(&path) else { continue };
            let Some(facts) = as_seen_by(pid, &path, read) else {
                tracing::debug!(
                    "{} tells nothing",
                    Path::new(std::ffi::OsStr::from_bytes(&path)).display()
                );
                continue;
            };
            self.tell(facts, out);
        }
        for facts in self.stacks.look_up() {
            self.tell(facts, out);
        }
    }

    /// Notes a layer that a mount is made of: what its engine's files say of it is to be told.
    pub fn needed(&mut self, pid: u32, place: &Place<'_>) {
        self.stacks.needed(pid, place);
    }

    fn tell(&mut self, facts: Facts, out: &mut Vec<Record>) {
        for layer in facts.layers {
            self.stacks.told(&layer);
            if self.layers.insert(layer.clone()) {
                out.push(layer.into());
            }
        }
        for image in facts.images {
            if self.images.insert(image.clone()) {
                out.push(image.into());
            }
        }
    }
}

/// Reads a path as the process sees it; it may be gone, and then mostly was in the same mount namespace as this one.
fn as_seen_by<T>(pid: u32, path: &[u8], read: impl Fn(&Path) -> Option<T>) -> Option<T> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let inside = Path::new("/proc").join(pid.to_string()).join("root");
    let inside = inside.join(path.strip_prefix("/").unwrap_or(path));
    read(&inside).or_else(|| read(path))
}

/// What reads a file of that path.
fn reader(path: &[u8]) -> Option<fn(&Path) -> Option<Facts>> {
    let mut parts = path.rsplit(|byte| *byte == b'/');
    let (name, folder) = (parts.next()?, parts.next()?);
    let (above, further) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match (further, above, folder, name) {
        (_, _, folder, b"layers.json") if folder.ends_with(b"-layers") => Some(containers::layers),
        (_, _, folder, b"images.json") if folder.ends_with(b"-images") => Some(containers::images),
        (_, b"layerdb", b"sha256", _) => Some(docker::layer),
        (_, b"v2metadata-by-diffid", b"sha256", _) => Some(docker::blobs),
        (b"imagedb", b"content", b"sha256", _) => Some(docker::image),
        (_, _, _, b"repositories.json") => Some(docker::names),
        (_, b"blobs", b"sha256", _) => Some(containerd::blob),
        _ => None,
    }
}

/// A regular file, opened without waiting for anything.
fn open(path: &Path) -> Option<(File, u64)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)
        .ok()?;
    let found = file.metadata().ok()?;
    found.is_file().then_some((file, found.len()))
}

/// The whole of a file that is not too large.
fn bytes(path: &Path) -> Option<Vec<u8>> {
    let (file, length) = open(path)?;
    if length > MAX_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&bytes(path)?).ok()
}

/// `sha256:` and the last part of a path.
fn digest_of(path: &Path) -> Option<Text> {
    let name = path.file_name()?.as_bytes();
    let hex = name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit);
    hex.then(|| [b"sha256:", name].concat())
}

/// A line of text beside other files.
fn line(folder: &Path, name: &str) -> Option<Text> {
    let path: PathBuf = folder.join(name);
    Some(bytes(&path)?.trim_ascii().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that state files are known by where they lie, and nothing else is read.
    #[test]
    fn places() {
        for path in [
            "/g/overlay-layers/layers.json",
            "/g/vfs-images/images.json",
            "/d/image/overlay2/layerdb/sha256/ab",
            "/d/image/overlay2/imagedb/content/sha256/ab",
            "/d/image/overlay2/distribution/v2metadata-by-diffid/sha256/ab",
            "/d/image/overlay2/repositories.json",
            "/c/io.containerd.content.v1.content/blobs/sha256/ab",
        ] {
            assert!(reader(path.as_bytes()).is_some(), "{path}");
        }
        for path in [
            "/g/layers.json",
            "/g/overlay-layers/layers.lock",
            "/",
            "",
            "/etc/shadow",
        ] {
            assert!(reader(path.as_bytes()).is_none(), "{path}");
        }
    }

    /// Make sure that a missing file, a folder, a pipe, a loop of links, a cut file and one that is too large cost
    /// nothing but themselves.
    #[test]
    fn broken_files() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("overlay-layers");
        std::fs::create_dir(&state).unwrap();
        let path = state.join("layers.json");
        let mut watch = Watch::default();
        let mut look = |what: &str| {
            let mut out = Vec::new();
            watch.renamed(std::process::id(), path.as_os_str().as_bytes());
            watch.look_up(&mut out);
            assert_eq!(out, [], "{what}");
        };
        look("missing");
        std::fs::create_dir(&path).unwrap();
        look("folder");
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        look("loop");
        std::fs::remove_file(&path).unwrap();
        let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: a path that ends with NUL.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        look("pipe");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, r#"[{"id":"ab","diff-digest":"sha256:0"#).unwrap();
        look("cut");
        File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        look("large");
    }
}
