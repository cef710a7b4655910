//! What the host needs to make and run machines.

use anyhow::bail;

use crate::{debian, exec};

/// Debian packages, and what for.
pub(crate) const PACKAGES: [(&str, &[&str]); 3] = [
    ("emulated machines", &["qemu-system-x86"]),
    (
        "their disks",
        &["e2fsprogs", "mmdebstrap", "busybox-static", "debian-archive-keyring"],
    ),
    ("their kernels and programs", &["kmod", "xz-utils", "binutils"]),
];

/// Why no machine can be made here whatever is installed, if so.
pub(crate) fn unfit() -> Option<&'static str> {
    if std::env::consts::ARCH != "x86_64" {
        return Some("the machines are x86-64, and so must be the programs that go into them");
    }
    if !exec::is_root() {
        return Some("file systems with their owners are made by root: run it as root");
    }
    None
}

/// Checks that the host can do it, installing what it lacks where that is allowed.
///
/// # Errors
///
/// When it can't.
pub(crate) fn ready() -> anyhow::Result<()> {
    if let Some(why) = unfit() {
        bail!(why);
    }
    if !debian::is_debian() {
        exec::announce("no Debian: apt, mmdebstrap, qemu-system-x86_64, mke2fs, depmod, xz and strip must be there");
        return Ok(());
    }
    let lacking: Vec<_> = PACKAGES.iter().flat_map(|(_, names)| debian::missing(names)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    if !exec::may_install(false, &lacking.join(" "))? {
        bail!("needs Debian's packages {}", lacking.join(" "));
    }
    debian::update()?;
    debian::install(&lacking)
}
