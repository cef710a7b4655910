//! docker: `layerdb`, `imagedb` and `distribution` below `image/DRIVER`, and `repositories.json`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Facts, MAX_NAMES, MAX_ONE, digest_of, line};
use crate::lookup::tree::{Folder, Tree};
use crate::recording::record::{Layer, Stored, Text};

const ENGINE: &str = "docker";

/// A layer's folder, named by its chain id: `moby/layer/filestore.go`.
pub(super) fn layer(tree: &Tree, path: &[u8]) -> Option<Facts> {
    let chain = digest_of(path)?;
    let layer = layer_in(&tree.folder(path).ok()?, b".", chain)?;
    Some(Facts {
        layers: vec![layer],
        ..Facts::default()
    })
}

/// The layer whose folder is called `name`.
pub(super) fn layer_in(folder: &Folder, name: &[u8], chain: Text) -> Option<Layer> {
    let line = |file: &[u8]| line(folder, &[name, b"/", file].concat());
    let size = line(b"size").and_then(|size| std::str::from_utf8(&size).ok()?.parse().ok());
    Some(Layer {
        engine: ENGINE.to_owned(),
        id: line(b"cache-id")?,
        parent: line(b"parent").unwrap_or_default(),
        chain,
        diff: line(b"diff")?,
        blob: Vec::new(),
        blob_bytes: None,
        diff_bytes: size,
    })
}

/// `moby/distribution/metadata/v2_metadata_service.go`
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Source {
    digest: String,
}

/// The blobs that a layer has come as, the newest last.
pub(super) fn blobs(tree: &Tree, path: &[u8]) -> Option<Facts> {
    let diff = digest_of(path)?;
    let sources: Vec<Source> = tree.json(path, MAX_ONE)?;
    let layers = sources.into_iter().map(|source| Layer {
        engine: ENGINE.to_owned(),
        diff: diff.clone(),
        blob: source.digest.into_bytes(),
        ..Layer::default()
    });
    Some(Facts {
        layers: layers.collect(),
        ..Facts::default()
    })
}

/// An image's configuration, as the OCI image specification has it.
#[derive(Deserialize)]
struct Configuration {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

pub(super) fn image(tree: &Tree, path: &[u8]) -> Option<Facts> {
    let id = digest_of(path)?;
    let configuration: Configuration = tree.json(path, MAX_ONE)?;
    let layers = configuration.rootfs.diff_ids.into_iter().map(String::into_bytes);
    let image = Stored {
        engine: ENGINE.to_owned(),
        id,
        digest: Vec::new(),
        names: Vec::new(),
        layers: layers.collect(),
    };
    Some(Facts {
        images: vec![image],
        ..Facts::default()
    })
}

/// `moby/reference/store.go`: repository → reference (with tag or digest) → image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Repositories {
    #[serde(default)]
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

pub(super) fn names(tree: &Tree, path: &[u8]) -> Option<Facts> {
    let found: Repositories = tree.json(path, MAX_NAMES)?;
    let mut images: BTreeMap<String, Stored> = BTreeMap::new();
    for (reference, id) in found.repositories.into_values().flatten() {
        let image = images.entry(id.clone()).or_insert_with(|| Stored {
            engine: ENGINE.to_owned(),
            id: id.into_bytes(),
            ..Stored::default()
        });
        match reference.split_once('@') {
            Some((_, digest)) => image.digest = digest.as_bytes().to_vec(),
            None => image.names.push(reference.into_bytes()),
        }
    }
    Some(Facts {
        images: images.into_values().collect(),
        ..Facts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::tree;
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Make sure that a layer's folder, digest and size are read, and that one without them tells nothing.
    #[test]
    fn reads_a_layer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(HEX);
        std::fs::create_dir(&path).unwrap();
        for (name, text) in [("cache-id", "cc\n"), ("diff", "sha256:01"), ("size", "4096")] {
            std::fs::write(path.join(name), text).unwrap();
        }
        let read = || layer(&tree(folder.path()), format!("/{HEX}").as_bytes());
        let facts = read().unwrap();
        assert_eq!(
            (&facts.layers[0].id[..], facts.layers[0].diff_bytes),
            (&b"cc"[..], Some(4096))
        );
        assert_eq!(facts.layers[0].chain, format!("sha256:{HEX}").into_bytes());
        std::fs::remove_file(path.join("cache-id")).unwrap();
        assert_eq!(read(), None);
    }

    /// Make sure that blobs, configurations and names are read.
    #[test]
    fn reads_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, hex) = (tree(folder.path()), format!("/{HEX}"));
        let path = folder.path().join(HEX);
        std::fs::write(
            &path,
            r#"[{"Digest":"sha256:03","SourceRepository":"r/app","HMAC":""}]"#,
        )
        .unwrap();
        assert_eq!(blobs(&tree, hex.as_bytes()).unwrap().layers[0].blob, b"sha256:03");
        std::fs::write(
            &path,
            r#"{"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:01"]}}"#,
        )
        .unwrap();
        assert_eq!(
            image(&tree, hex.as_bytes()).unwrap().images[0].layers,
            [b"sha256:01".to_vec()]
        );
        let path = folder.path().join("repositories.json");
        std::fs::write(
            &path,
            r#"{"Repositories":{"r/app":{"r/app:1":"sha256:04","r/app@sha256:05":"sha256:04"}}}"#,
        )
        .unwrap();
        let facts = names(&tree, b"/repositories.json").unwrap();
        assert_eq!(facts.images.len(), 1);
        assert_eq!(
            (&facts.images[0].digest[..], facts.images[0].names.as_slice()),
            (&b"sha256:05"[..], &[b"r/app:1".to_vec()][..])
        );
    }
}
