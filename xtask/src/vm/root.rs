//! The machines' root disk: Debian with the container runtimes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::cache::Cache;
use super::{apt, disk};
use crate::exec;

/// Packages of the root disk, and what for.
const PACKAGES: [(&str, &[&str]); 6] = [
    (
        "the system",
        &[
            "iproute2",
            "kmod",
            "mount",
            "procps",
            "util-linux",
            "ca-certificates",
            "strace",
        ],
    ),
    ("workloads", &["busybox-static", "gcc", "libc6-dev", "make"]),
    (
        "podman and buildah",
        &[
            "podman", "buildah", "conmon", "crun", "runc", "netavark", "iptables", "nftables",
        ],
    ),
    ("rootless podman", &["fuse-overlayfs", "slirp4netns", "uidmap"]),
    ("docker", &["docker.io", "containerd", "apparmor"]),
    ("registries", &["docker-registry", "skopeo"]),
];

/// Free space for a run, MiB; what a run writes is thrown away with it.
const ROOM_MIB: u64 = 4096;

/// The root disk, from the cache or made.
///
/// # Errors
///
/// When it can't be made.
pub(crate) fn ready(cache: &Cache) -> anyhow::Result<PathBuf> {
    let suite = suite();
    let packages = PACKAGES
        .iter()
        .flat_map(|(_, names)| *names)
        .copied()
        .collect::<Vec<_>>()
        .join(",");
    let digest = Sha256::digest(format!("{suite} {packages} {ROOM_MIB}"));
    let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let image = cache.folder("root")?.join(format!("{suite}-{digest}.ext4"));
    if image.is_file() {
        return Ok(image);
    }
    exec::announce(format!("making the root disk from Debian {suite}"));
    let scratch = cache.scratch()?;
    let tree = scratch.path().join("tree");
    exec::run(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--include"])
            .arg(&packages)
            // Nobody reads them there.
            .args([
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-exclude=/usr/share/man/*",
            ])
            .args(["--dpkgopt=path-exclude=/usr/share/locale/*"])
            .arg(&suite)
            .arg(&tree)
            .arg(apt::MIRROR),
    )?;
    finish(&tree).context("can't finish the root file system")?;
    let made = scratch.path().join("root.ext4");
    disk::make(&made, &tree, disk::Size::Room(ROOM_MIB))?;
    fs::rename(&made, &image).with_context(|| image.display().to_string())?;
    Ok(image)
}

/// The suite of the host, so that programs built there find the C library they were linked with.
fn suite() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    match (value("ID"), value("VERSION_CODENAME")) {
        (Some(id), Some(codename)) if id == "debian" => codename,
        _ => "bookworm".to_owned(),
    }
}

/// Mount points, and a user for rootless containers.
fn finish(tree: &Path) -> anyhow::Result<()> {
    for folder in ["exchange", "lib/modules", "home/user"] {
        fs::create_dir_all(tree.join(folder)).with_context(|| folder.to_owned())?;
    }
    let append = |file: &str, line: &str| -> anyhow::Result<()> {
        let path = tree.join(file);
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        text += line;
        fs::write(&path, text).with_context(|| path.display().to_string())
    };
    append("etc/passwd", "user:x:1000:1000::/home/user:/bin/sh\n")?;
    append("etc/group", "user:x:1000:\n")?;
    append("etc/subuid", "user:100000:65536\n")?;
    append("etc/subgid", "user:100000:65536\n")?;
    std::os::unix::fs::chown(tree.join("home/user"), Some(1000), Some(1000)).context("chown of home/user")
}
