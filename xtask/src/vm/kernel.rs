//! Debian's cloud kernels, one for each suite: looked up, fetched, and made ready to boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::apt::Apt;
use super::cache::Cache;
use super::{disk, initramfs};
use crate::exec;

/// What one calls a kernel, and the suite that has it. The exact version is looked up: suites move.
pub(crate) const SUITES: [(&str, &str); 4] = [
    ("5.10", "bullseye"),
    ("6.1", "bookworm"),
    ("6.12", "trixie"),
    ("7.2", "sid"),
];

/// A kernel that is ready to boot.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// As in [`SUITES`].
    pub(crate) name: &'static str,
    pub(crate) suite: &'static str,
    /// As `uname -r` tells it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// Folder of the modules that the first steps need, uncompressed, named in the order in which they are to be loaded.
    pub(crate) first_modules: PathBuf,
    /// File system with all its modules, to be mounted at `/lib/modules`.
    pub(crate) modules: PathBuf,
}

/// The names that `text` means: a kernel's, a suite's, or `all`.
///
/// # Errors
///
/// When it means none.
pub(crate) fn names(text: &str) -> anyhow::Result<Vec<&'static str>> {
    if text == "all" {
        return Ok(SUITES.iter().map(|(name, _)| *name).collect());
    }
    let found = SUITES.iter().find(|(name, suite)| *name == text || *suite == text);
    match found {
        Some((name, _)) => Ok(vec![name]),
        None => {
            let known: Vec<_> = SUITES.iter().map(|(name, _)| *name).collect();
            bail!("no kernel {text}: there are {}, or all", known.join(", "))
        }
    }
}

/// The kernel called `name`, from the cache or fetched.
///
/// # Errors
///
/// When it can't be fetched or made ready.
pub(crate) fn ready(cache: &Cache, name: &str) -> anyhow::Result<Kernel> {
    let (name, suite) = SUITES
        .into_iter()
        .find(|(known, _)| *known == name)
        .with_context(|| format!("no kernel {name}"))?;
    let folder = cache.folder("kernels")?.join(suite);
    let kernel = |folder: &Path, release: String| Kernel {
        name,
        suite,
        release,
        image: folder.join("vmlinuz"),
        first_modules: folder.join("first-modules"),
        modules: folder.join("modules.ext4"),
    };
    if let Ok(release) = fs::read_to_string(folder.join("release")) {
        return Ok(kernel(&folder, release.trim().to_owned()));
    }
    exec::announce(format!("fetching the kernel of {suite}"));
    let scratch = cache.scratch()?;
    let tree = scratch.path().join("tree");
    let apt = Apt::new(suite, &scratch.path().join("apt"))?;
    apt.unpack(&packages(&apt)?, &tree)?;

    let modules = modules_folder(&tree)?;
    let release = text_of_name(&modules)?;
    if !release.starts_with(&format!("{name}.")) {
        exec::announce(format!("{suite} has moved on: its kernel is {release}, not {name}"));
    }
    let made = scratch.path().join("made");
    let ready = kernel(&made, release);
    // Debian has depmod run when a package is configured, so that file is not in it.
    let base = modules.parent().and_then(Path::parent).and_then(Path::parent);
    let base = base.context("modules lie too high")?;
    exec::run(
        Command::new("/sbin/depmod")
            .arg("--basedir")
            .arg(base)
            .arg(&ready.release),
    )?;
    fs::create_dir_all(&made).with_context(|| made.display().to_string())?;
    fs::copy(image(&tree, &ready.release)?, &ready.image).context("can't copy the kernel")?;
    let parent = modules.parent().context("modules lie too high")?;
    disk::make(&ready.modules, parent, disk::Size::Fitting)?;
    initramfs::take_modules(&modules, &ready.first_modules)?;
    // Last: it says that the rest is there.
    fs::write(made.join("release"), &ready.release).context("can't write the release")?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::rename(&made, &folder).with_context(|| folder.display().to_string())?;
    Ok(kernel(&folder, ready.release))
}

/// The packages that make up the suite's kernel: what the one for the cloud's newest depends on, down to the files.
fn packages(apt: &Apt) -> anyhow::Result<Vec<String>> {
    let is_kernel = |name: &str| {
        ["linux-image-", "linux-binary-", "linux-modules-"]
            .iter()
            .any(|prefix| {
                name.strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
            })
    };
    let mut found: Vec<String> = Vec::new();
    let mut open = vec!["linux-image-cloud-amd64".to_owned()];
    while let Some(package) = open.pop() {
        for name in apt.depends(&package)? {
            if is_kernel(&name) && !found.contains(&name) {
                found.push(name.clone());
                open.push(name);
            }
        }
    }
    if found.is_empty() {
        bail!("linux-image-cloud-amd64 depends on no kernel");
    }
    Ok(found)
}

/// `…/lib/modules/RELEASE`, below `usr` since Debian 13.
fn modules_folder(tree: &Path) -> anyhow::Result<PathBuf> {
    for place in ["lib/modules", "usr/lib/modules"] {
        let Ok(mut entries) = fs::read_dir(tree.join(place)) else {
            continue;
        };
        if let Some(entry) = entries.next() {
            return Ok(entry.context("can't list the modules")?.path());
        }
    }
    bail!("the packages hold no modules")
}

/// The kernel itself; since Debian 14 it lies with the modules.
fn image(tree: &Path, release: &str) -> anyhow::Result<PathBuf> {
    let places = [
        tree.join(format!("boot/vmlinuz-{release}")),
        tree.join(format!("usr/lib/modules/{release}/vmlinuz")),
    ];
    let found = places.iter().find(|path| path.is_file());
    found.cloned().context("the packages hold no vmlinuz")
}

fn text_of_name(path: &Path) -> anyhow::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(name.with_context(|| path.display().to_string())?.to_owned())
}
