//! The bundle's `config.json`, with what CRI engines and nerdctl note in it.
//!
//! Keys of the annotations: containerd `internal/cri/annotations/annotations.go`, CRI-O `pkg/annotations/annotations.go`,
//! nerdctl `pkg/labels/labels.go`.

use std::collections::HashMap;

use serde::Deserialize;

use super::{MAX_ONE, kept};
use crate::lookup::tree::Tree;
use crate::recording::record::ContainerState;

/// What is read of a runtime specification.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    annotations: HashMap<String, String>,
    mounts: Vec<Mount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mount {
    source: String,
}

/// Engine, and its keys for name and image, the better ones first. CRI-O copies the pod's container name under a key
/// without its own prefix, so it is told apart by the image's.
const KEYS: &[(&str, &[&str], &[&str])] = &[
    (
        "containerd",
        &[
            "io.kubernetes.cri.container-name",
            "io.kubernetes.cri.sandbox-name",
            "nerdctl/name",
        ],
        &["io.kubernetes.cri.image-name", "nerdctl/image-ref"],
    ),
    (
        "cri-o",
        &["io.kubernetes.cri-o.Name", "io.kubernetes.container.name"],
        &["io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"],
    ),
];

impl Spec {
    pub(super) fn read(bundle: &[u8], tree: &Tree) -> Option<Spec> {
        tree.json(&[bundle, b"/config.json"].concat(), MAX_ONE)
    }

    /// What comes before `tail` in the source of one of its mounts: `/var/lib/docker` of
    /// `/var/lib/docker/containers/ID/hostname`, with `/containers/ID/`.
    pub(super) fn folder_before(&self, tail: &str) -> Option<&str> {
        let found = self.mounts.iter().find_map(|mount| mount.source.split_once(tail))?;
        Some(found.0).filter(|folder| folder.starts_with('/') || folder.is_empty())
    }

    /// What annotations tell.
    pub(super) fn fill(&self, state: &mut ContainerState) -> bool {
        for (engine, names, images) in KEYS {
            let first = |keys: &[&str]| {
                let mut found = keys.iter().filter_map(|key| self.annotations.get(*key));
                found.find(|text| !text.is_empty()).cloned()
            };
            let (name, image) = (first(names), first(images));
            if name.is_none() && image.is_none() {
                continue;
            }
            state.name = kept(name.unwrap_or_default());
            state.image = kept(image.unwrap_or_default());
            state.engine = (*engine).to_owned();
            // A reference that names its digest.
            if let Some(at) = state.image.windows(8).position(|window| window == b"@sha256:") {
                state.digest = state.image[at + 1..].to_vec();
            }
            return true;
        }
        false
    }
}
