//! Container engines and runtimes of this host: where they are, what version they say they are, what they store in.

use std::{fs, path::Path};

use super::Runtime;
use crate::lookup::engines;

/// Those that are there, in the order of [`engines::PROGRAMS`].
pub(super) fn find() -> Vec<Runtime> {
    engines::PROGRAMS
        .into_iter()
        .filter_map(|program| {
            let (path, version) = engines::version(program)?;
            Some(Runtime {
                program,
                version,
                storage: storage(program),
                path: path.to_string_lossy().into_owned(),
            })
        })
        .collect()
}

/// Storage drivers that a program's state shows. Looked at where it usually is: asking a daemon would start it.
fn storage(program: &str) -> Vec<String> {
    match program {
        "podman" | "buildah" => containers_storage(
            &fs::read_to_string("/etc/containers/storage.conf").unwrap_or_default(),
            Path::new("/var/lib/containers/storage"),
        ),
        "dockerd" => folders(
            Path::new("/var/lib/docker"),
            &[
                "overlay2",
                "fuse-overlayfs",
                "btrfs",
                "zfs",
                "vfs",
                "aufs",
                "devicemapper",
            ],
        ),
        "containerd" => snapshotters(Path::new("/var/lib/containerd")),
        _ => Vec::new(),
    }
}

/// `driver = "overlay"` of a storage.conf, or else the folders that drivers have made.
fn containers_storage(configuration: &str, root: &Path) -> Vec<String> {
    let driver = configuration.lines().find_map(|line| {
        let value = line.trim().strip_prefix("driver")?.trim_start().strip_prefix('=')?;
        Some(value.trim().trim_matches('"').to_owned())
    });
    match driver {
        Some(driver) if !driver.is_empty() => vec![driver],
        _ => folders(root, &["overlay", "vfs", "btrfs", "zfs"]),
    }
}

fn folders(root: &Path, names: &[&str]) -> Vec<String> {
    names
        .iter()
        .filter(|name| root.join(name).is_dir())
        .map(|name| (*name).to_owned())
        .collect()
}

/// `io.containerd.snapshotter.v1.overlayfs`
fn snapshotters(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_prefix("io.containerd.snapshotter.v1.")?.to_owned())
        })
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a storage driver is read from the configuration, or else from what is on the disk.
    #[test]
    fn drivers() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("vfs")).unwrap();
        assert_eq!(
            containers_storage("[storage]\n# driver = \"x\"\ndriver = \"overlay\"\n", folder.path()),
            ["overlay"]
        );
        assert_eq!(containers_storage("driver = \"\"\n", folder.path()), ["vfs"]);
        fs::create_dir(folder.path().join("io.containerd.snapshotter.v1.overlayfs")).unwrap();
        assert_eq!(snapshotters(folder.path()), ["overlayfs"]);
        assert!(snapshotters(Path::new("/no/such/folder")).is_empty());
    }
}
