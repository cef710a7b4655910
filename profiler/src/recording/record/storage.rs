//! What engines' storages hold: layers, images, and the mounts that are made of them.

use serde::{Deserialize, Serialize};

use super::{At, Text};

/// A layer in an engine's storage, from its state files. What the engine does not keep is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layer {
    pub engine: String,
    /// Its folder's name below the storage's root.
    pub id: Text,
    /// The layer below it: id or chain id.
    pub parent: Text,
    /// `sha256:…` of it with all below it.
    pub chain: Text,
    /// `sha256:…` of its contents, as a tar archive.
    pub diff: Text,
    /// `sha256:…` of what a registry sends for it.
    pub blob: Text,
    pub blob_bytes: Option<u64>,
    pub diff_bytes: Option<u64>,
}

/// An image in an engine's storage, from its state files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stored {
    pub engine: String,
    /// `sha256:…` of its configuration.
    pub id: Text,
    /// `sha256:…` of its manifest.
    pub digest: Text,
    /// `registry/name:tag`
    pub names: Vec<Text>,
    /// As the engine refers to its layers, lowest first: podman by the id of the topmost alone, docker by the digest
    /// of each one's contents, containerd by the digest of each one's blob.
    pub layers: Vec<Text>,
}

/// What a layer is to its overlay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Takes what is written.
    Upper,
    #[default]
    Lower,
    /// Holds the data of files that a layer above only describes.
    Data,
}

/// One layer of an [`Overlay`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OverlayLayer {
    pub role: Role,
    /// Its directory, links resolved where it could be looked at.
    pub path: Text,
    /// Of the file system that it lies on, `major << 20 | minor`, as the kernel's events have it; 0 with `ino` 0: it was
    /// not to be seen.
    pub dev: u32,
    pub ino: u64,
    /// Whose storage it lies in; empty when it is no engine's.
    pub engine: String,
    /// As that engine calls it: [`Layer::id`].
    pub id: Text,
}

/// An overlay mount, or a container's root file system of another storage driver, with the layers that it is made of,
/// looked at while they were there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// When it was looked at.
    pub ts: u64,
    /// `overlay`; `vfs` and `btrfs`, whose one layer is the whole root file system.
    pub driver: String,
    /// Who mounted it, at the end of the system call by which it did; `None` for one that was there before.
    pub mounted: Option<At>,
    /// Mount namespace in which it was mounted or found; 0 is not known.
    pub mnt_ns: u32,
    /// Its own device, `major << 20 | minor`; 0 is not known.
    pub dev: u32,
    /// Where it is mounted, as that namespace has it.
    pub merged: Text,
    /// Topmost first.
    pub layers: Vec<OverlayLayer>,
    /// Layers beyond what is kept.
    pub left_out: u32,
    pub work: Text,
    /// Options that change how it reads, writes or flushes: `volatile`, `metacopy=on`.
    pub options: Vec<Text>,
}
