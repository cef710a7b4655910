//! podman, buildah, skopeo and CRI-O: `containers/storage`.

use serde::Deserialize;

use super::Facts;
use crate::lookup::tree::Tree;
use crate::recording::record::{Layer, Stored};

/// As reports name whose storage it is.
const ENGINE: &str = "containers/storage";

/// `Layer` of containers/storage, `layers.go`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LayerEntry {
    id: String,
    #[serde(default)]
    parent: String,
    #[serde(default)]
    compressed_diff_digest: String,
    #[serde(default)]
    compressed_size: Option<u64>,
    #[serde(default)]
    diff_digest: String,
    #[serde(default)]
    diff_size: Option<u64>,
}

pub(super) fn layers(tree: &Tree, path: &[u8]) -> Option<Facts> {
    let entries: Vec<LayerEntry> = super::list(tree, path)?;
    // One that is being filled has no digest yet, and a container's own layer never gets one.
    let filled = entries.into_iter().filter(|entry| !entry.diff_digest.is_empty());
    let layers = filled.map(|entry| Layer {
        engine: ENGINE.to_owned(),
        id: entry.id.into_bytes(),
        parent: entry.parent.into_bytes(),
        chain: Vec::new(),
        diff: entry.diff_digest.into_bytes(),
        blob: entry.compressed_diff_digest.into_bytes(),
        blob_bytes: entry.compressed_size,
        diff_bytes: entry.diff_size,
    });
    Some(Facts {
        layers: layers.collect(),
        ..Facts::default()
    })
}

/// `Image` of containers/storage, `images.go`.
#[derive(Deserialize)]
struct ImageEntry {
    id: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    layer: String,
}

pub(super) fn images(tree: &Tree, path: &[u8]) -> Option<Facts> {
    let entries: Vec<ImageEntry> = super::list(tree, path)?;
    let images = entries.into_iter().map(|entry| Stored {
        engine: ENGINE.to_owned(),
        id: [b"sha256:", entry.id.as_bytes()].concat(),
        digest: entry.digest.into_bytes(),
        names: entry
            .names
            .unwrap_or_default()
            .into_iter()
            .map(String::into_bytes)
            .collect(),
        layers: vec![entry.layer.into_bytes()],
    });
    Some(Facts {
        images: images.collect(),
        ..Facts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::tree;
    use super::*;

    /// Make sure that a layer's digests and sizes are read, and one that is not filled yet is left out.
    #[test]
    fn reads_layers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layers.json");
        std::fs::write(
            &path,
            r#"[{"id":"aa","created":"x","compressed-diff-digest":"sha256:01","compressed-size":10,
                 "diff-digest":"sha256:02","diff-size":20,"uidset":[0]},
                {"id":"bb","parent":"aa","flags":{"incomplete":true}}]"#,
        )
        .unwrap();
        let facts = layers(&tree(folder.path()), b"/layers.json").unwrap();
        let [layer] = facts.layers.as_slice() else {
            panic!("{facts:?}")
        };
        assert_eq!((&layer.id[..], &layer.blob[..]), (&b"aa"[..], &b"sha256:01"[..]));
        assert_eq!((layer.blob_bytes, layer.diff_bytes), (Some(10), Some(20)));
    }

    /// Make sure that an image's names, digest and topmost layer are read, also of one without names.
    #[test]
    fn reads_images() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.json");
        std::fs::write(
            &path,
            r#"[{"id":"0a","digest":"sha256:05","names":["localhost:5000/app:1"],"layer":"bb","metadata":"{}"},
                {"id":"0b","layer":"aa"}]"#,
        )
        .unwrap();
        let facts = images(&tree(folder.path()), b"/images.json").unwrap();
        assert_eq!(facts.images.len(), 2);
        assert_eq!(facts.images[0].id, b"sha256:0a");
        assert_eq!(facts.images[0].names, [b"localhost:5000/app:1".to_vec()]);
        assert_eq!(facts.images[1].names, Vec::<Vec<u8>>::new());
    }
}
