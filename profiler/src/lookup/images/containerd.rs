//! containerd: blobs of its content store, by their digest.

use std::io::{Read, Seek, SeekFrom};

use serde::Deserialize;

use super::{Facts, digest_of};
use crate::lookup::tree::{LastLink, Tree, whole};
use crate::recording::record::{Layer, Stored};

const ENGINE: &str = "containerd";
/// What is larger is no manifest: registries refuse those beyond 4 MiB, and real ones have a few KiB.
const MAX_MANIFEST: u64 = 1 << 20;

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
}

/// A blob that has come: an image's manifest, or a layer.
pub(super) fn blob(tree: &Tree, path: &[u8]) -> Option<Facts> {
    let digest = digest_of(path)?;
    let mut file = tree.file(path, LastLink::Refuse).ok()?;
    let size = file.metadata().ok()?.len();
    let mut first = [0u8; 4];
    let got = file.read(&mut first).ok()?;
    if got > 0 && first[0] == b'{' && size <= MAX_MANIFEST {
        file.rewind().ok()?;
        let manifest: Manifest = serde_json::from_slice(&whole(file, MAX_MANIFEST).ok()?).ok()?;
        let layers = manifest.layers.iter().map(|layer| Layer {
            engine: ENGINE.to_owned(),
            blob: layer.digest.clone().into_bytes(),
            blob_bytes: Some(layer.size),
            ..Layer::default()
        });
        let layers = layers.collect();
        let image = Stored {
            engine: ENGINE.to_owned(),
            id: manifest.config.digest.into_bytes(),
            digest,
            names: Vec::new(),
            layers: manifest
                .layers
                .into_iter()
                .map(|layer| layer.digest.into_bytes())
                .collect(),
        };
        return Some(Facts {
            layers,
            images: vec![image],
        });
    }
    let diff_bytes = match first {
        // RFC 1952: the last four bytes of a member are the length of what it holds, modulo 2^32. A layer is one
        // member, unless pigz's or eStargz's; theirs is smaller than the whole, and left out where that shows.
        [0x1f, 0x8b, ..] => {
            let mut last = [0u8; 4];
            file.seek(SeekFrom::End(-4)).ok()?;
            file.read_exact(&mut last).ok()?;
            Some(u64::from(u32::from_le_bytes(last))).filter(|length| *length >= size / 2)
        }
        // zstd: what it holds is known once it has been read.
        [0x28, 0xb5, 0x2f, 0xfd] => None,
        _ => Some(size),
    };
    let layer = Layer {
        engine: ENGINE.to_owned(),
        blob: digest,
        blob_bytes: Some(size),
        diff_bytes,
        ..Layer::default()
    };
    Some(Facts {
        layers: vec![layer],
        ..Facts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::tree;
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Make sure that a manifest gives its layers with their sizes, and a packed layer the length of its contents.
    #[test]
    fn reads_blobs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(HEX);
        let (tree, hex) = (tree(folder.path()), format!("/{HEX}"));
        std::fs::write(
            &path,
            r#"{"schemaVersion":2,"config":{"digest":"sha256:04","size":9},
                "layers":[{"digest":"sha256:01","size":7}]}"#,
        )
        .unwrap();
        let facts = blob(&tree, hex.as_bytes()).unwrap();
        assert_eq!(facts.images[0].layers, [b"sha256:01".to_vec()]);
        assert_eq!(facts.layers[0].blob_bytes, Some(7));
        let packed = [&[0x1f, 0x8b, 8, 0][..], &[7; 20], &1_000u32.to_le_bytes()].concat();
        std::fs::write(&path, packed).unwrap();
        let facts = blob(&tree, hex.as_bytes()).unwrap();
        assert_eq!(
            (facts.layers[0].blob_bytes, facts.layers[0].diff_bytes),
            (Some(28), Some(1_000))
        );
        for bytes in [&[0x1f, 0x8b][..], b"{", b""] {
            std::fs::write(&path, bytes).unwrap();
            blob(&tree, hex.as_bytes());
        }
    }
}
