//! The initramfs: busybox, the modules that reach the root disk, and a small init.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// First process of a machine.
const INIT: &str = include_str!("init.sh");
/// What reaches the root disk. Kernels have some of them built in.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];
const BUSYBOX: &str = "/bin/busybox";

/// Copies the modules that the first steps need, and those they need, from `modules` (a `lib/modules/RELEASE` with a
/// `modules.dep`) to `folder`.
///
/// # Errors
///
/// When a file can't be read, unpacked or written.
pub(crate) fn take_modules(modules: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let table = modules.join("modules.dep");
    let table = fs::read_to_string(&table).with_context(|| table.display().to_string())?;
    let mut order: Vec<&str> = Vec::new();
    for wanted in MODULES {
        let Some((module, needs)) = table
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(module, _)| stem(module) == wanted)
        else {
            continue;
        };
        // depmod lists what a module needs, the first to be loaded last.
        for path in needs.split_whitespace().rev().chain([module]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    for (index, path) in order.into_iter().enumerate() {
        let file = folder.join(format!("{index:02}-{}.ko", stem(path)));
        let content = unpacked(&modules.join(path))?;
        fs::write(&file, content).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// `kernel/drivers/block/virtio_blk.ko.xz` is `virtio_blk`.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name)
}

/// A module's bytes: busybox loads no compressed ones.
fn unpacked(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension == "ko") {
        return fs::read(path).with_context(|| path.display().to_string());
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout", "--"])
        .arg(path)
        .output()
        .context("can't run xz")?;
    if !output.status.success() {
        bail!("xz of {}: {}", path.display(), output.status);
    }
    Ok(output.stdout)
}

/// Writes the initramfs with the modules in `first_modules`.
///
/// # Errors
///
/// When busybox is missing or a file can't be read or written.
pub(crate) fn make(file: &Path, first_modules: &Path) -> anyhow::Result<()> {
    let mut archive = Archive(Vec::new());
    for folder in ["bin", "dev", "lib", "new", "proc", "sys"] {
        archive.entry(folder, 0o040_755, &[])?;
    }
    let busybox = fs::read(BUSYBOX).with_context(|| format!("{BUSYBOX}: Debian's package busybox-static has it"))?;
    archive.entry("bin/busybox", 0o100_755, &busybox)?;
    archive.entry("init", 0o100_755, INIT.as_bytes())?;
    let listed = fs::read_dir(first_modules).with_context(|| first_modules.display().to_string())?;
    let paths = listed.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().context("can't list the modules")?;
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .context("a module's name")?;
        let content = fs::read(&path).with_context(|| path.display().to_string())?;
        archive.entry(&format!("lib/{name}"), 0o100_644, &content)?;
    }
    archive.entry("TRAILER!!!", 0, &[])?;
    let mut output = fs::File::create(file).with_context(|| file.display().to_string())?;
    output.write_all(&archive.0).with_context(|| file.display().to_string())
}

/// A cpio archive of the "newc" kind, the one the kernel reads: Documentation/driver-api/early-userspace/buffer-format.rst.
struct Archive(Vec<u8>);

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large"))?;
        let name_size = u32::try_from(name.len() + 1).context("the name is too long")?;
        let inode = u32::try_from(self.0.len()).context("the archive is too large")?;
        // inode, mode, uid, gid, links, time, size, device (2), the device it stands for (2), name's size, checksum
        let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.0.extend(b"070701");
        for field in fields {
            self.0.extend(format!("{field:08x}").bytes());
        }
        self.0.extend(name.bytes());
        self.0.push(0);
        self.pad();
        self.0.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}
