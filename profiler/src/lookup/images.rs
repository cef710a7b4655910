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
//! The files are the engine's, or of whoever calls itself one: they are read by [`Tree`] alone, up to a bound, what is told
//! of them must look like ids and names, and one that is missing, cut or no JSON costs its own information.

mod containerd;
mod containers;
mod docker;
mod stacks;
mod turns;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::lookup::overlay::Place;
use crate::lookup::tree::{Folder, Tree};
use crate::recording::record::{Layer, Record, Stored, Text};
use turns::Turns;

/// The most that is read of a list of a storage: one with 10,000 layers has 5 MB of `layers.json`.
const MAX_BYTES: u64 = 16 << 20;
/// The most elements that such a list has.
const MAX_LISTED: usize = MAX_TOLD;
/// The most that is read of what says something of one layer or image.
const MAX_ONE: u64 = 1 << 20;
/// The most that is read of docker's names: 10,000 have 2 MB.
const MAX_NAMES: u64 = 4 << 20;
/// The most files of a mount namespace, and of all, that wait to be read: an engine that renames more between two drains goes
/// short.
const MAX_PENDING_OF_ONE: usize = 4096;
const MAX_PENDING: usize = 4 * MAX_PENDING_OF_ONE;
/// For how long files that were renamed are read at a time, and for how long those of the layers of mounts; the rest waits for
/// the next drain. Whoever renames or mounts much must not keep the rings from being drained.
const MAX_READING: Duration = Duration::from_millis(50);
/// The most layers, and the most images, that are told.
const MAX_TOLD: usize = 65_536;
/// Longest id or digest that is taken, bytes: `sha512:` and 128 digits, and room.
const MAX_ID: usize = 256;
/// Longest name of an image that is taken, bytes: a repository's 255, a tag's 128, and room.
const MAX_NAME: usize = 512;
/// The most layers of an image that is taken (overlays take 500), and the most of its names.
const MAX_OF_IMAGE: usize = 1024;
/// Processes of a mount namespace that may stand in for one that is gone.
const MAX_PEERS: usize = 8;

/// What a state file tells.
#[derive(Debug, Default, PartialEq)]
struct Facts {
    layers: Vec<Layer>,
    images: Vec<Stored>,
}

/// Who saw a path: a process, and its mount namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewer {
    pub mnt_ns: u32,
    pub pid: u32,
}

impl Viewer {
    /// What it sees. For a process that is gone another one of its namespace stands in (`peers`: namespaces of those that
    /// are there), and never our own process for one of elsewhere: what it named would be other files.
    fn tree(self, peers: &HashMap<u32, u32>) -> Option<Tree> {
        self.stands_for(peers).find_map(|pid| Tree::of(pid, self.mnt_ns))
    }

    /// It and others of its namespace that are there.
    pub fn stands_for(self, peers: &HashMap<u32, u32>) -> impl Iterator<Item = u32> {
        let others = peers.iter().filter(move |(_, mnt_ns)| **mnt_ns == self.mnt_ns);
        let others = others
            .map(|(pid, _)| *pid)
            .filter(move |pid| *pid != self.pid)
            .take(MAX_PEERS);
        std::iter::once(self.pid).chain(others)
    }
}

/// Files that engines have put in place and that have not been read yet, and what was told already.
#[derive(Debug, Default)]
pub struct Watch {
    /// By path: who has seen it.
    pending: Turns<Text, u32>,
    stacks: stacks::Stacks,
    layers: HashSet<Layer>,
    images: HashSet<Stored>,
    /// Files that were not read, and layers, images and their names that were not told: there are too many.
    skipped: u64,
}

impl Watch {
    /// Notes that a process of an engine renamed something to `path`.
    pub fn renamed(&mut self, viewer: Viewer, path: &[u8]) {
        if !path.starts_with(b"/") || reader(path).is_none() {
            return;
        }
        let of_one = self.pending.of(viewer.mnt_ns);
        if of_one >= MAX_PENDING_OF_ONE || self.pending.len() >= MAX_PENDING {
            self.skipped += 1;
            return;
        }
        *self.pending.entry(viewer.mnt_ns, path.to_vec(), || 0) = viewer.pid;
    }

    /// Reads what was noted, and adds what is new to `out`. `peers`: mount namespaces of the processes that are there.
    pub fn look_up(&mut self, peers: &HashMap<u32, u32>, out: &mut Vec<Record>) {
        let mut last: Option<(Viewer, Option<Tree>)> = None;
        let begin = Instant::now();
        while begin.elapsed() < MAX_READING {
            let Some((mnt_ns, path, pid)) = self.pending.next() else {
                break;
            };
            let Some(read) = reader(&path) else { continue };
            let viewer = Viewer { mnt_ns, pid };
            let (_, tree) = match last.take() {
                Some(known) if known.0 == viewer => last.insert(known),
                _ => last.insert((viewer, viewer.tree(peers))),
            };
            let Some(facts) = tree.as_ref().and_then(|tree| read(tree, &path)) else {
                tracing::debug!("{} tells nothing", path.escape_ascii());
                continue;
            };
            self.tell(facts, out);
        }
        for facts in self.stacks.look_up(peers, MAX_READING) {
            self.tell(facts, out);
        }
    }

    /// Notes a layer that a mount is made of: what its engine's files say of it is to be told.
    pub fn needed(&mut self, viewer: Viewer, place: &Place<'_>) {
        self.stacks.needed(viewer, place);
    }

    fn tell(&mut self, facts: Facts, out: &mut Vec<Record>) {
        for layer in facts.layers.into_iter().filter(is_layer) {
            self.stacks.told(&layer);
            if is_new(&mut self.layers, &layer, &mut self.skipped) {
                out.push(layer.into());
            }
        }
        for mut image in facts.images.into_iter().filter(is_image) {
            image.names.retain(|name| is_text(name, MAX_NAME, b"/@"));
            let names_left_out = image.names.len().saturating_sub(MAX_OF_IMAGE) as u64;
            image.names.truncate(MAX_OF_IMAGE);
            if image.layers.len() > MAX_OF_IMAGE {
                self.skipped += 1;
                continue;
            }
            if is_new(&mut self.images, &image, &mut self.skipped) {
                self.skipped += names_left_out;
                out.push(image.into());
            }
        }
    }

    /// What engines put in place and nobody read or told, with its count.
    pub fn losses(&self) -> impl Iterator<Item = (String, u64)> {
        let name =
            "engines' state files that were not read, and their layers, images and names that were not told: too many";
        let count = self.skipped + self.pending.len() as u64 + self.stacks.waiting();
        (count > 0).then(|| (name.to_owned(), count)).into_iter()
    }
}

/// Whether it is to be told: it has not been, and there is room to remember it; else it counts as skipped.
fn is_new<T: Clone + Eq + Hash>(told: &mut HashSet<T>, one: &T, skipped: &mut u64) -> bool {
    let is_new = !told.contains(one);
    if is_new && told.len() >= MAX_TOLD {
        *skipped += 1;
        return false;
    }
    is_new && told.insert(one.clone())
}

fn is_layer(layer: &Layer) -> bool {
    let texts = [&layer.id, &layer.parent, &layer.chain, &layer.diff, &layer.blob];
    texts.into_iter().all(|text| is_id(text))
}

fn is_image(image: &Stored) -> bool {
    let mut texts = [&image.id, &image.digest].into_iter().chain(&image.layers);
    texts.all(|text| is_id(text))
}

/// Whether a text can be the id or digest that an engine keeps; it keeps none of some.
fn is_id(text: &[u8]) -> bool {
    is_text(text, MAX_ID, b"")
}

fn is_text(text: &[u8], max: usize, others: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b":-_.+".contains(byte) || others.contains(byte);
    text.len() <= max && text.iter().all(plain)
}

/// Reads what a path names, in what its process sees.
type Reader = fn(&Tree, &[u8]) -> Option<Facts>;

/// What reads a file of that path.
fn reader(path: &[u8]) -> Option<Reader> {
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

/// The elements of a list in a file of up to [`MAX_BYTES`] bytes, one after the other: what is kept of them costs memory
/// only then. `None` if it is none or has too many.
fn list<T: DeserializeOwned>(tree: &Tree, path: &[u8]) -> Option<Vec<T>> {
    tree.json(path, MAX_BYTES).map(|List(elements)| elements)
}

/// A list of no more than [`MAX_LISTED`] elements.
struct List<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_LISTED}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = elements.next_element()? {
                    if list.len() >= MAX_LISTED {
                        return Err(A::Error::invalid_length(list.len() + 1, &self));
                    }
                    list.push(element);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

/// `sha256:` and the last part of a path.
fn digest_of(path: &[u8]) -> Option<Text> {
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    let hex = name.len() == 64 && name.iter().all(u8::is_ascii_hexdigit);
    hex.then(|| [b"sha256:", name].concat())
}

/// An id, digest or number in a file of its own.
fn line(folder: &Folder, path: &[u8]) -> Option<Text> {
    let bytes = folder.read(path, MAX_ID as u64).ok()?;
    let line = bytes.trim_ascii();
    (!line.is_empty() && is_id(line)).then(|| line.to_vec())
}

#[cfg(test)]
mod testing {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Our own.
    pub(super) fn viewer() -> Viewer {
        let mnt_ns = std::fs::metadata("/proc/self/ns/mnt").unwrap().ino() as u32;
        let pid = std::process::id();
        Viewer { mnt_ns, pid }
    }

    /// What is told once a process has renamed something to `path`; `peers` as [`Watch::look_up`] has them.
    pub(super) fn told(watch: &mut Watch, viewer: Viewer, path: &Path, peers: &[(u32, u32)]) -> Vec<Record> {
        let mut out = Vec::new();
        watch.renamed(viewer, path.as_os_str().as_bytes());
        watch.look_up(&peers.iter().copied().collect(), &mut out);
        out
    }

    /// A folder as the root of all.
    pub(super) fn tree(folder: &Path) -> Tree {
        Tree::below(folder, PathBuf::new()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::ffi::OsStrExt as _;

    use super::testing::{told, viewer};
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
        let mut look = |what: &str| assert_eq!(told(&mut watch, viewer(), &path, &[]), [], "{what}");
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
        let many = vec![r#"{"id":"ab","diff-digest":"sha256:01"}"#; MAX_LISTED + 1].join(",");
        std::fs::write(&path, format!("[{many}]")).unwrap();
        look("many");
    }

    /// Make sure that a link to a file of the host, and what does not look like an id, is not told of a layer.
    #[test]
    fn hostile_ids() {
        let folder = tempfile::tempdir().unwrap();
        let layer = folder.path().join("layerdb/sha256").join("1".repeat(64));
        std::fs::create_dir_all(&layer).unwrap();
        std::fs::write(layer.join("diff"), "sha256:01\n").unwrap();
        let id = layer.join("cache-id");
        let told = || told(&mut Watch::default(), viewer(), &layer, &[]).len();
        std::os::unix::fs::symlink("/etc/passwd", &id).unwrap();
        assert_eq!(told(), 0);
        std::fs::remove_file(&id).unwrap();
        let long = "a".repeat(MAX_ID + 1);
        for text in ["root:x:0:0:root:/root:/bin/sh", "a b", "a\nb", "\u{1b}[2J", "", &long] {
            std::fs::write(&id, text).unwrap();
            assert_eq!(told(), 0, "{text}");
        }
        std::fs::write(&id, "0123456789abcdef-init\n").unwrap();
        assert_eq!(told(), 1);
        let mut watch = Watch::default();
        let mut out = Vec::new();
        let layer = |diff: &str| Layer {
            diff: diff.into(),
            ..Layer::default()
        };
        let image = Stored {
            id: b"sha256:0a".to_vec(),
            names: vec![
                b"localhost:5000/app:1".to_vec(),
                vec![b'n'; MAX_NAME + 1],
                b"a\nb".to_vec(),
            ],
            ..Stored::default()
        };
        let facts = Facts {
            layers: vec![layer("sha256:01"), layer(&long), layer("sha256:<b>")],
            images: vec![image.clone()],
        };
        watch.tell(facts, &mut out);
        let names = vec![b"localhost:5000/app:1".to_vec()];
        assert_eq!(out, [layer("sha256:01").into(), Stored { names, ..image }.into()]);
    }

    /// Make sure that what is too much is left out and counted: files that wait, and what is told.
    #[test]
    fn too_many() {
        let mut watch = Watch::default();
        for number in 0..MAX_PENDING_OF_ONE + 3 {
            watch.renamed(viewer(), format!("/missing/{number}-layers/layers.json").as_bytes());
        }
        assert_eq!(watch.losses().next().unwrap().1, MAX_PENDING_OF_ONE as u64 + 3);
        let mut out = Vec::new();
        // Each is looked for at one time or another.
        while watch.pending.len() > 0 {
            watch.look_up(&HashMap::new(), &mut out);
        }
        assert_eq!(watch.losses().next().unwrap().1, 3);
        let layers = |range: std::ops::Range<usize>| Facts {
            layers: range
                .map(|number| Layer {
                    id: number.to_string().into_bytes(),
                    ..Layer::default()
                })
                .collect(),
            ..Facts::default()
        };
        watch.tell(layers(0..MAX_TOLD + 5), &mut out);
        watch.tell(layers(0..10), &mut out);
        assert_eq!(out.len(), MAX_TOLD);
        assert_eq!(watch.losses().next().unwrap().1, 3 + 5);
        let image = |names: usize, layers: usize| Facts {
            images: vec![Stored {
                names: vec![b"app".to_vec(); names],
                layers: vec![b"sha256:01".to_vec(); layers],
                ..Stored::default()
            }],
            ..Facts::default()
        };
        out.clear();
        watch.tell(image(MAX_OF_IMAGE + 7, MAX_OF_IMAGE), &mut out);
        // The list of all images is read again after each change.
        watch.tell(image(MAX_OF_IMAGE + 7, MAX_OF_IMAGE), &mut out);
        watch.tell(image(0, MAX_OF_IMAGE + 1), &mut out);
        assert_eq!(watch.losses().next().unwrap().1, 3 + 5 + 7 + 1);
        let [Record::Stored(told)] = out.as_slice() else {
            panic!("{} records", out.len())
        };
        assert_eq!((told.names.len(), told.layers.len()), (MAX_OF_IMAGE, MAX_OF_IMAGE));
    }

    /// Make sure that a path of a process that is gone is not looked for in our own tree if it was elsewhere.
    #[test]
    fn gone_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("overlay-layers");
        std::fs::create_dir(&state).unwrap();
        let path = state.join("layers.json");
        std::fs::write(&path, r#"[{"id":"aa","diff-digest":"sha256:02"}]"#).unwrap();
        let told = |viewer: Viewer, peers: &[(u32, u32)]| told(&mut Watch::default(), viewer, &path, peers).len();
        let Viewer { mnt_ns, pid } = viewer();
        assert_eq!(told(Viewer { mnt_ns, pid: 0 }, &[]), 1);
        let elsewhere = mnt_ns + 1;
        assert_eq!(
            told(
                Viewer {
                    mnt_ns: elsewhere,
                    pid: 0
                },
                &[(pid, mnt_ns), (pid + 1, elsewhere)]
            ),
            0
        );
        assert_eq!(told(Viewer { mnt_ns: elsewhere, pid }, &[]), 0);
    }
}
