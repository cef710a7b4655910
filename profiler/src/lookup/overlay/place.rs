//! Where a layer's directory lies in an engine's storage.

/// A layer in an engine's storage, as its directory's path tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub storage: Storage,
    /// The storage's root: `/var/lib/containers/storage`.
    pub root: &'a [u8],
    /// As the engine calls the layer.
    pub id: &'a [u8],
}

/// Whose storage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Storage {
    /// podman, buildah, CRI-O: `ROOT/overlay/ID/diff`.
    Containers,
    /// `ROOT/overlay2/ID/diff`, also of the BuildKit in docker.
    Docker,
    /// containerd, and BuildKit by itself: `ROOT/snapshots/N/fs`.
    Snapshots,
}

impl Storage {
    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Storage::Containers => "containers/storage",
            Storage::Docker => "docker",
            Storage::Snapshots => "containerd",
        }
    }
}

/// What the path of a layer's directory tells; `None` when it is laid out as no known storage.
pub fn place(path: &[u8]) -> Option<Place<'_>> {
    let mut parts = path.rsplitn(4, |byte| *byte == b'/');
    let (last, id, folder, root) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let storage = match (folder, last) {
        (b"overlay", b"diff") => Storage::Containers,
        (b"overlay2", b"diff") => Storage::Docker,
        (b"snapshots", b"fs") if id.iter().all(u8::is_ascii_digit) => Storage::Snapshots,
        _ => return None,
    };
    (!id.is_empty() && path.starts_with(b"/")).then_some(Place { storage, root, id })
}

/// The storage driver of a container's root file system that is no overlay, as its path tells: a plain copy, or a
/// subvolume.
pub fn plain_driver(path: &[u8]) -> Option<&'static str> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let mut parts = path.rsplitn(4, |byte| *byte == b'/');
    let (id, folder, driver) = (parts.next()?, parts.next()?, parts.next()?);
    match (driver, folder) {
        _ if id.is_empty() || !path.starts_with(b"/") => None,
        (b"vfs", b"dir") => Some("vfs"),
        (b"btrfs", b"subvolumes") => Some("btrfs"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that each engine's layout is known, and that nothing else is.
    #[test]
    fn layouts() {
        for (path, storage, root, id) in [
            (
                "/var/lib/containers/storage/overlay/ab/diff",
                Storage::Containers,
                "/var/lib/containers/storage",
                "ab",
            ),
            (
                "/var/lib/docker/overlay2/cd-init/diff",
                Storage::Docker,
                "/var/lib/docker",
                "cd-init",
            ),
            ("/c/snapshots/12/fs", Storage::Snapshots, "/c", "12"),
            ("/overlay/ab/diff", Storage::Containers, "", "ab"),
        ] {
            let found = place(path.as_bytes()).unwrap();
            assert_eq!(
                (found.storage, found.root, found.id),
                (storage, root.as_bytes(), id.as_bytes())
            );
        }
        for path in [
            "",
            "/",
            "/lower1",
            "/s/overlay/l/AB",
            "/s/overlay//diff",
            "/s/snapshots/x/fs",
            "s/overlay/ab/diff",
            "/s/other/ab/diff",
        ] {
            assert_eq!(place(path.as_bytes()), None, "{path}");
        }
    }

    /// Make sure that root file systems of other drivers are known by their place.
    #[test]
    fn other_drivers() {
        assert_eq!(plain_driver(b"/var/lib/containers/storage/vfs/dir/ab"), Some("vfs"));
        assert_eq!(plain_driver(b"/d/btrfs/subvolumes/ab/"), Some("btrfs"));
        for path in [&b"/d/vfs/dir/"[..], b"vfs/dir/ab", b"/d/overlay/ab/merged", b"/", b""] {
            assert_eq!(plain_driver(path), None);
        }
    }
}
