//! Disks for the machines: ext4, the one file system that every kernel has without a module, made and read without
//! mounting anything.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::exec;

/// How large a disk is; the file is sparse.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    /// What its content takes, and a little.
    Fitting,
    /// Its content and this many MiB.
    Room(u64),
}

/// Makes a disk that holds the content of `tree`.
///
/// # Errors
///
/// When mke2fs fails.
pub(crate) fn make(disk: &Path, tree: &Path, size: Size) -> anyhow::Result<()> {
    let content = content_mib(tree)?;
    // A tenth for the file system's own tables and the tails of blocks.
    let mib = match size {
        Size::Fitting => content + content / 10 + 16,
        Size::Room(room) => content + content / 10 + 16 + room,
    };
    exec::run(
        Command::new("/sbin/mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-m", "0", "-d"])
            .arg(tree)
            .arg(disk)
            .arg(format!("{mib}M")),
    )
}

/// Copies the folder `name` of a disk into `into`. A machine that was ended by force leaves a journal to replay.
///
/// # Errors
///
/// When the disk can't be mended or read.
pub(crate) fn extract(disk: &Path, name: &str, into: &Path) -> anyhow::Result<()> {
    let status = Command::new("/sbin/e2fsck")
        .args(["-f", "-p"])
        .arg(disk)
        .output()
        .context("can't run e2fsck")?;
    // 1 and 2: mended.
    if status.status.code().is_none_or(|code| code > 2) {
        let text = String::from_utf8_lossy(&status.stdout);
        anyhow::bail!("e2fsck of {}: {}: {}", disk.display(), status.status, text.trim());
    }
    fs::create_dir_all(into).with_context(|| into.display().to_string())?;
    let output = Command::new("/sbin/debugfs")
        .arg("-R")
        .arg(format!("rdump {name} {}", quoted(into)?))
        .arg(disk)
        .output()
        .context("can't run debugfs")?;
    anyhow::ensure!(
        output.status.success(),
        "debugfs of {}: {}",
        disk.display(),
        output.status
    );
    Ok(())
}

/// debugfs takes its words apart at blanks, and has quotes but no escapes.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\n']));
    Ok(format!(
        "\"{}\"",
        text.with_context(|| format!("{}: debugfs can't write there", path.display()))?
    ))
}

/// MiB that the files below `tree` take.
fn content_mib(tree: &Path) -> anyhow::Result<u64> {
    let text = exec::output(
        Command::new("du")
            .args(["--summarize", "--block-size=1M", "--"])
            .arg(tree),
    )?;
    let number = text.split_whitespace().next().context("du says nothing")?;
    number.parse().with_context(|| format!("du says {number}"))
}
