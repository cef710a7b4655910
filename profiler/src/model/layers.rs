//! The layers that root file systems are made of, each once, and which of them a file lies in.

use std::collections::HashMap;

use profiler_common::awaited::mode;

use super::disk::File;
use super::{FileIx, OverlayIx, Session};
use crate::recording::record::{self, OverlayLayer, Text};

/// Into [`Layers::all`]; only meaningful with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerIx(pub u32);

impl LayerIx {
    /// As an index.
    pub fn ix(self) -> usize {
        self.0 as usize
    }
}

/// A directory that is a layer of an overlay, or the whole root file system of another storage driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Of its directory: `major << 20 | minor` of its file system; 0 with `ino` 0: it was not to be seen.
    pub dev: u32,
    pub ino: u64,
    pub path: Text,
    /// Whose storage it lies in; empty when it is no engine's.
    pub engine: String,
    /// As that engine calls it.
    pub id: Text,
    /// `sha256:…` of its contents, of it with all below it, and of what a registry sends for it; empty when the engine
    /// does not tell.
    pub diff: Text,
    pub chain: Text,
    pub blob: Text,
    /// Its size as the engine counts it, bytes.
    pub size: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Layers {
    pub all: Vec<Layer>,
    /// Of each overlay its layers, topmost first.
    stacks: Vec<Vec<LayerIx>>,
    /// By device and inode: from when on it was that layer, in order of time. A number that was used again is another.
    by_directory: HashMap<(u32, u64), Vec<(u64, LayerIx)>>,
}

impl Layers {
    /// Those of all mounts.
    pub fn new(session: &Session) -> Layers {
        let mut layers = Layers::default();
        let facts = facts(session);
        let mut known: HashMap<(u32, u64, &[u8]), LayerIx> = HashMap::new();
        for overlay in &session.overlays {
            let mut stack = Vec::with_capacity(overlay.layers.len());
            for one in &overlay.layers {
                let ix = *known.entry((one.dev, one.ino, &one.path)).or_insert_with(|| {
                    let ix = LayerIx(layers.all.len() as u32);
                    layers.all.push(layer(one, &facts));
                    if one.ino != 0 {
                        let there = layers.by_directory.entry((one.dev, one.ino)).or_default();
                        there.push((overlay.ts, ix));
                    }
                    ix
                });
                stack.push(ix);
            }
            layers.stacks.push(stack);
        }
        layers
    }

    /// The layer.
    pub fn get(&self, ix: LayerIx) -> &Layer {
        &self.all[ix.ix()]
    }

    /// Those of a mount, topmost first.
    pub fn stack(&self, overlay: OverlayIx) -> &[LayerIx] {
        self.stacks.get(overlay.ix()).map_or(&[], Vec::as_slice)
    }

    /// The layer that a file lies in at `ts`: that of the first directory above it that is one.
    pub fn of_file(&self, session: &Session, file: FileIx, ts: u64) -> Option<LayerIx> {
        session.ancestors(file).find_map(|ix| {
            let file = session.files.get(ix.ix())?;
            // A file's number can be that of a layer's directory later.
            if !may_be_directory(file) {
                return None;
            }
            let there = self.by_directory.get(&(file.id.dev, file.id.ino))?;
            // The mount was looked at a moment after it was made: the first holds for before, too.
            let later = there.partition_point(|(from, _)| *from <= ts);
            there.get(later.saturating_sub(1)).map(|(_, ix)| *ix)
        })
    }

    /// A file's path within its layer, from `/`; its name alone where that is not known.
    pub fn path_in(&self, session: &Session, file: FileIx, layer: LayerIx) -> Text {
        let root = self.get(layer);
        let mut names: Vec<&[u8]> = Vec::new();
        for ix in session.ancestors(file) {
            let Some(file) = session.files.get(ix.ix()) else { break };
            if may_be_directory(file) && (file.id.dev, file.id.ino) == (root.dev, root.ino) {
                names.reverse();
                return [b"/", &names.join(&b'/')[..]].concat();
            }
            names.push(&file.name);
        }
        names.first().map(|name| name.to_vec()).unwrap_or_default()
    }
}

/// Whether it is one, as far as that is known.
fn may_be_directory(file: &File) -> bool {
    let kind = file.mode & u32::from(mode::MASK);
    kind == 0 || kind == u32::from(mode::FOLDER)
}

/// What engines' files say of their layers, by engine and id. Several records tell of one.
fn facts(session: &Session) -> HashMap<(&str, &[u8]), Layer> {
    let mut facts: HashMap<(&str, &[u8]), Layer> = HashMap::new();
    let mut blobs: HashMap<&[u8], &[u8]> = HashMap::new();
    for told in &session.layers {
        let record::Layer {
            engine,
            id,
            parent: _,
            chain,
            diff,
            blob,
            blob_bytes: _,
            diff_bytes,
        } = told;
        if id.is_empty() {
            // docker tells apart which blob a layer came as.
            if !diff.is_empty() && !blob.is_empty() {
                blobs.insert(diff, blob);
            }
            continue;
        }
        let layer = facts.entry((engine, id)).or_default();
        for (known, told) in [
            (&mut layer.chain, chain),
            (&mut layer.diff, diff),
            (&mut layer.blob, blob),
        ] {
            if !told.is_empty() {
                known.clone_from(told);
            }
        }
        layer.size = diff_bytes.or(layer.size);
    }
    for layer in facts.values_mut().filter(|layer| layer.blob.is_empty()) {
        if let Some(blob) = blobs.get(&layer.diff[..]) {
            layer.blob = blob.to_vec();
        }
    }
    facts
}

fn layer(one: &OverlayLayer, facts: &HashMap<(&str, &[u8]), Layer>) -> Layer {
    let told = facts.get(&(&one.engine[..], &one.id[..])).cloned().unwrap_or_default();
    Layer {
        dev: one.dev,
        ino: one.ino,
        path: one.path.clone(),
        engine: one.engine.clone(),
        id: one.id.clone(),
        ..told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::record::{InodeId, Overlay, Role};

    fn file(dev: u32, ino: u64, parent: Option<u32>, name: &str) -> File {
        File {
            id: InodeId {
                ino,
                dev,
                generation: 0,
            },
            parent: parent.map(FileIx),
            name: name.into(),
            size: 0,
            nlink: 1,
            mode: 0,
            magic: 0,
            rdev: 0,
            told: true,
        }
    }

    fn one(dev: u32, ino: u64, path: &str) -> OverlayLayer {
        OverlayLayer {
            role: Role::Lower,
            path: path.into(),
            dev,
            ino,
            engine: "docker".into(),
            id: path.trim_start_matches('/').into(),
        }
    }

    fn session() -> Session {
        Session {
            overlays: vec![
                Overlay {
                    ts: 100,
                    layers: vec![one(8, 20, "/b"), one(8, 10, "/a"), one(0, 0, "/gone")],
                    ..Overlay::default()
                },
                Overlay {
                    ts: 500,
                    layers: vec![one(8, 20, "/c"), one(8, 10, "/a")],
                    ..Overlay::default()
                },
            ],
            files: vec![
                file(8, 2, None, ""),
                file(8, 10, Some(0), "a"),
                file(8, 11, Some(1), "etc"),
                file(8, 12, Some(2), "passwd"),
                file(8, 20, Some(1), "b"),
                file(8, 21, Some(4), "f"),
                file(9, 10, None, ""),
                file(9, 12, Some(6), "elsewhere"),
            ],
            ..Session::default()
        }
    }

    /// Make sure that a file's layer is that of the nearest directory that is one, on its own file system only, and that
    /// a directory whose number came back is another layer.
    #[test]
    fn files_have_layers() {
        let session = session();
        let layers = Layers::new(&session);
        let path = |file, ts| {
            let layer = layers.of_file(&session, FileIx(file), ts)?;
            Some(String::from_utf8(layers.get(layer).path.clone()).unwrap())
        };
        assert_eq!(path(3, 200).as_deref(), Some("/a"));
        assert_eq!(path(5, 50).as_deref(), Some("/b"));
        assert_eq!(path(5, 499).as_deref(), Some("/b"));
        assert_eq!(path(5, 500).as_deref(), Some("/c"));
        assert_eq!(path(7, 200), None);
        assert_eq!(path(0, 200), None);
        // A regular file that has the number of a layer's directory, in another layer.
        let mut before = session.files[5].clone();
        (before.id.ino, before.id.generation, before.mode) = (10, 1, 0o100_644);
        let file = FileIx(session.files.len() as u32);
        let mut session = session;
        session.files.push(before);
        let layer = layers.of_file(&session, file, 50).unwrap();
        assert_eq!(layers.get(layer).path, b"/b");
        assert_eq!(layers.path_in(&session, file, layer), b"/f");
        let [first, second] = [OverlayIx(0), OverlayIx(1)].map(|ix| layers.stack(ix));
        assert_eq!((first.len(), first[1]), (3, second[1]));
        assert_eq!(layers.stack(OverlayIx(2)), []);
    }

    /// Make sure that a file's path counts from its layer, and that what lies elsewhere has its name.
    #[test]
    fn paths_in_layers() {
        let session = session();
        let layers = Layers::new(&session);
        let layer = layers.of_file(&session, FileIx(3), 200).unwrap();
        assert_eq!(layers.path_in(&session, FileIx(3), layer), b"/etc/passwd");
        assert_eq!(layers.path_in(&session, FileIx(1), layer), b"/");
        assert_eq!(layers.path_in(&session, FileIx(7), layer), b"elsewhere");
    }

    /// Make sure that what several records tell of a layer comes together, and another engine's of the same id does not.
    #[test]
    fn facts_come_together() {
        let mut session = session();
        let told = |engine: &str, id: &str, diff: &str, blob: &str, bytes| record::Layer {
            engine: engine.into(),
            id: id.into(),
            diff: diff.into(),
            blob: blob.into(),
            diff_bytes: bytes,
            ..record::Layer::default()
        };
        session.layers = vec![
            told("docker", "a", "sha256:1", "", Some(4096)),
            told("docker", "a", "", "", None),
            told("docker", "", "sha256:1", "sha256:2", None),
            told("containers/storage", "b", "sha256:3", "", Some(1)),
        ];
        let layers = Layers::new(&session);
        let [b, a, _] = layers.stack(OverlayIx(0)) else {
            panic!()
        };
        let a = layers.get(*a);
        assert_eq!(
            (&a.diff[..], &a.blob[..], a.size),
            (&b"sha256:1"[..], &b"sha256:2"[..], Some(4096))
        );
        assert_eq!(layers.get(*b).size, None);
    }
}
