//! The layers that mounts are made of, which mostly were there before the recording: looked for in their engines' files
//! when a mount names them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::turns::Turns;
use super::{Facts, Viewer, containers, digest_of, docker};
use crate::lookup::overlay::{Place, Storage};
use crate::lookup::tree::Tree;
use crate::recording::record::{Layer, Text};

/// Layers of docker's whose folder's name is read, to find some: each takes 20 µs.
const MAX_READ: usize = 4096;
/// Layers remembered as looked for.
const MAX_ASKED: usize = 65_536;

/// What is still to be looked for.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    /// By storage and its root: a process that sees it, and the ids.
    wanted: Turns<(Storage, Text), (u32, BTreeSet<Text>)>,
    /// Ids that were looked for or told, whether they were found or not.
    asked: HashSet<Text>,
}

impl Stacks {
    pub(super) fn needed(&mut self, viewer: Viewer, place: &Place<'_>) {
        // docker's own layer between image and container, which it keeps no digest of.
        let of_container = place.storage == Storage::Docker && place.id.ends_with(b"-init");
        if of_container || self.asked.contains(place.id) || self.asked.len() >= MAX_ASKED {
            return;
        }
        self.asked.insert(place.id.to_vec());
        let key = (place.storage, place.root.to_vec());
        let (_, ids) = self.wanted.entry(viewer.mnt_ns, key, || (viewer.pid, BTreeSet::new()));
        ids.insert(place.id.to_vec());
    }

    /// A layer is known: it is not looked for.
    pub(super) fn told(&mut self, layer: &Layer) {
        if !layer.id.is_empty() && self.asked.len() < MAX_ASKED {
            self.asked.insert(layer.id.clone());
        }
    }

    /// Layers that have not been looked for yet.
    pub(super) fn waiting(&self) -> u64 {
        self.wanted.values().map(|(_, ids)| ids.len() as u64).sum()
    }

    /// What the engines' files say of what was noted, as far as there is time for it.
    pub(super) fn look_up(&mut self, peers: &HashMap<u32, u32>, time: Duration) -> Vec<Facts> {
        let mut found = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < time {
            let Some((mnt_ns, (storage, root), (pid, ids))) = self.wanted.next() else {
                break;
            };
            let tree = || Viewer { mnt_ns, pid }.tree(peers);
            let facts = match storage {
                Storage::Containers => {
                    let path = [&root, &b"/overlay-layers/layers.json"[..]].concat();
                    tree().and_then(|tree| containers::layers(&tree, &path))
                }
                Storage::Docker => {
                    let path = [&root, &b"/image/overlay2/layerdb/sha256"[..]].concat();
                    tree().and_then(|tree| docker_layers(&tree, &path, &ids))
                }
                // Numbered in a database that its daemon has open.
                Storage::Snapshots => None,
            };
            let Some(mut facts) = facts else { continue };
            facts.layers.retain(|layer| ids.contains(&layer.id));
            found.push(facts);
        }
        found
    }
}

/// Layers by the name of their folder, which docker keeps by their chain's digest.
fn docker_layers(tree: &Tree, path: &[u8], ids: &BTreeSet<Text>) -> Option<Facts> {
    let mut facts = Facts::default();
    let folder = tree.folder(path).ok()?;
    for name in folder.names().ok()?.take(MAX_READ) {
        if facts.layers.len() == ids.len() {
            break;
        }
        let Some(chain) = digest_of(&name) else { continue };
        let id = super::line(&folder, &[&name, &b"/cache-id"[..]].concat());
        if id.is_some_and(|id| ids.contains(&id)) {
            facts.layers.extend(docker::layer_in(&folder, &name, chain));
        }
    }
    Some(facts)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::super::testing::viewer;
    use super::*;
    use crate::lookup::overlay::place;

    fn looked_up(layers: &[std::path::PathBuf]) -> Vec<Layer> {
        let mut stacks = Stacks::default();
        for layer in layers {
            stacks.needed(viewer(), &place(layer.as_os_str().as_bytes()).unwrap());
        }
        let found = stacks
            .look_up(&HashMap::new(), Duration::MAX)
            .into_iter()
            .flat_map(|facts| facts.layers)
            .collect();
        // Each is looked for once.
        for layer in layers {
            stacks.needed(viewer(), &place(layer.as_os_str().as_bytes()).unwrap());
        }
        assert_eq!(stacks.waiting(), 0);
        found
    }

    /// Make sure that of podman's layers those of the mount are told, with their digest and size, and no other.
    #[test]
    fn podman() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("overlay-layers");
        std::fs::create_dir(&state).unwrap();
        std::fs::write(
            state.join("layers.json"),
            r#"[{"id":"aa","diff-digest":"sha256:02","diff-size":20},{"id":"bb","diff-digest":"sha256:03"}]"#,
        )
        .unwrap();
        let layer = |id: &str| folder.path().join("overlay").join(id).join("diff");
        let found = looked_up(&[layer("aa"), layer("cc")]);
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].id[..], found[0].diff_bytes), (&b"aa"[..], Some(20)));
    }

    /// Make sure that docker's layers are found by their folder, and that a container's own is not looked for.
    #[test]
    fn docker() {
        let folder = tempfile::tempdir().unwrap();
        let layers = folder.path().join("image/overlay2/layerdb/sha256");
        for (digit, id) in [("1", "aa"), ("2", "bb")] {
            let layer = layers.join(digit.repeat(64));
            std::fs::create_dir_all(&layer).unwrap();
            for (name, text) in [("cache-id", id), ("diff", "sha256:01"), ("size", "4096")] {
                std::fs::write(layer.join(name), text).unwrap();
            }
        }
        let layer = |id: &str| folder.path().join("overlay2").join(id).join("diff");
        let found = looked_up(&[layer("bb"), layer("cc-init")]);
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].id[..], found[0].diff_bytes), (&b"bb"[..], Some(4096)));
        assert_eq!(found[0].chain, format!("sha256:{}", "2".repeat(64)).into_bytes());
        assert_eq!(looked_up(&[layer("cc-init")]), []);
    }
}
