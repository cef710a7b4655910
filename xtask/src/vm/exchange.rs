//! What goes into a machine and what comes back: one disk.
//!
//! `in/` has the set-up, the work and the files of the build; `out/` gets each item's log and exit status, and whatever
//! an item puts there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::disk;

/// System of a test machine.
const GUEST: &str = include_str!("guest.sh");
/// Free space for what is written while the machine runs, MiB.
const ROOM_MIB: u64 = 2048;

/// How the machine's cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cgroups {
    /// Version 2 alone, with all its controllers
    V2,
    /// Version 1 alone
    V1,
    /// Version 1 with the controllers, version 2 without
    Hybrid,
}

impl Cgroups {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cgroups::V2 => "v2",
            Cgroups::V1 => "v1",
            Cgroups::Hybrid => "hybrid",
        }
    }
}

/// An item of work.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Names its log; letters, digits and dashes.
    pub(crate) name: String,
    /// Shell script, run in root's home.
    pub(crate) script: String,
}

/// The disk while it is filled: a folder.
pub(crate) struct Exchange {
    tree: tempfile::TempDir,
    items: usize,
}

impl Exchange {
    pub(crate) fn new(scratch: tempfile::TempDir, cgroups: Cgroups, interactive: bool) -> anyhow::Result<Exchange> {
        let tree = scratch;
        for folder in ["in/work", "in/host", "in/bin", "out"] {
            fs::create_dir_all(tree.path().join(folder)).context("can't make the exchange's folders")?;
        }
        let exchange = Exchange { tree, items: 0 };
        exchange.write("in/guest.sh", GUEST)?;
        let interactive = if interactive { "interactive=1\n" } else { "" };
        exchange.write("in/setup", &format!("cgroup={}\n{interactive}", cgroups.name()))?;
        exchange.write("in/folders", "")?;
        Ok(exchange)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        fs::write(self.tree.path().join(name), text).with_context(|| name.to_owned())
    }

    /// One more item, after those before.
    pub(crate) fn work(&mut self, item: &Item) -> anyhow::Result<()> {
        self.items += 1;
        self.write(&format!("in/work/{:02}-{}", self.items, item.name), &item.script)
    }

    /// Where the content of the host's folder `path` goes; the machine has it at the same path.
    pub(crate) fn folder(&self, path: &Path) -> anyhow::Result<PathBuf> {
        let text = path
            .to_str()
            .filter(|text| text.starts_with('/') && !text.contains(['\n', '\\']))
            .with_context(|| format!("{}: no path for a machine", path.display()))?;
        let inside = self.tree.path().join("in/host").join(text.trim_start_matches('/'));
        fs::create_dir_all(&inside).with_context(|| inside.display().to_string())?;
        let mut list = fs::OpenOptions::new()
            .append(true)
            .open(self.tree.path().join("in/folders"))
            .context("in/folders")?;
        writeln!(list, "{text}").context("in/folders")?;
        Ok(inside)
    }

    /// A program on the machine's PATH.
    pub(crate) fn program(&self, name: &str, path: &Path) -> anyhow::Result<()> {
        let link = self.tree.path().join("in/bin").join(name);
        std::os::unix::fs::symlink(path, &link).with_context(|| link.display().to_string())
    }

    /// Makes the disk.
    pub(crate) fn disk(&self, disk: &Path) -> anyhow::Result<()> {
        disk::make(disk, self.tree.path(), disk::Size::Room(ROOM_MIB))
    }
}

/// What an item left.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// `None` when the machine did not come to its end.
    pub(crate) status: Option<i32>,
    pub(crate) log: PathBuf,
    /// What it put into `$OUT`.
    pub(crate) files: PathBuf,
}

/// Copies what the machine left to `into`, and tells what became of `items`.
///
/// # Errors
///
/// When the disk can't be read.
pub(crate) fn results(disk: &Path, items: &[Item], into: &Path) -> anyhow::Result<Vec<Outcome>> {
    disk::extract(disk, "/out", into)?;
    let folder = into.join("out");
    let outcomes = items.iter().enumerate().map(|(index, item)| {
        let stem = format!("{:02}-{}", index + 1, item.name);
        let status = fs::read_to_string(folder.join(format!("{stem}.status"))).ok();
        Outcome {
            status: status.and_then(|text| text.trim().parse().ok()),
            log: folder.join(format!("{stem}.log")),
            files: folder.join(format!("{stem}.files")),
        }
    });
    Ok(outcomes.collect())
}

/// A copy of a program without its debug information, which no test reads: it is most of the file.
///
/// # Errors
///
/// When strip can't be run or fails.
pub(crate) fn strip(program: &Path, into: &Path) -> anyhow::Result<()> {
    crate::exec::output(
        Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(into)
            .arg(program),
    )?;
    Ok(())
}

/// A word for the shell, whatever is in it.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
