//! The workloads.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::project::{self, Project};
use crate::exec;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// `podman build` of a C project with gcc
    Build,
    /// Two processes on one CPU that pass a byte to and fro
    Switch,
    /// fork, exec and wait, one after the other
    Fork,
    /// 4 kB reads of a file that is in the page cache
    Read,
    /// tar unpacks small files
    Untar,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Build => "build",
            Kind::Switch => "switch",
            Kind::Fork => "fork",
            Kind::Read => "read",
            Kind::Untar => "untar",
        }
    }
}

/// How much of each.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Size {
    /// C files of the build.
    pub(crate) files: u32,
    /// Round trips of the context-switch storm.
    pub(crate) round_trips: u64,
    /// Processes of the fork storm.
    pub(crate) processes: u64,
    /// Reads of the cached file.
    #[serde(default)]
    pub(crate) reads: u64,
    /// Files that are unpacked.
    #[serde(default)]
    pub(crate) small_files: u64,
}

/// A workload that is ready to run, again and again.
pub(crate) struct Workload {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    prepared: Prepared,
}

enum Prepared {
    Build(Project),
    Storm { xtask: PathBuf, words: Vec<String> },
    Untar { archive: PathBuf, target: PathBuf },
}

impl Workload {
    /// Makes what it needs in `folder`.
    pub(crate) fn prepare(kind: Kind, size: &Size, folder: &Path, xtask: &Path) -> anyhow::Result<Workload> {
        let storm = |words: Vec<String>| Prepared::Storm {
            xtask: xtask.to_owned(),
            words,
        };
        let (what, prepared) = match kind {
            Kind::Build => (
                format!("podman build: {} C files, gcc -O2, make -j2, runc", size.files),
                Prepared::Build(Project::prepare(folder, size.files)?),
            ),
            Kind::Switch => (
                format!(
                    "{} round trips of a byte between two processes on one CPU",
                    size.round_trips
                ),
                storm(vec!["pipe".to_owned(), size.round_trips.to_string()]),
            ),
            Kind::Fork => {
                let program = folder.join("nothing");
                project::write_nothing(&program)?;
                (
                    format!(
                        "{} times fork, exec of a static program that does nothing, wait",
                        size.processes
                    ),
                    storm(vec![
                        "fork".to_owned(),
                        size.processes.to_string(),
                        program.display().to_string(),
                    ]),
                )
            }
            Kind::Read => {
                let file = folder.join("cached");
                std::fs::write(&file, [7; 4096])?;
                (
                    format!("{} preads of 4 kB that are in the page cache, on one CPU", size.reads),
                    storm(vec![
                        "read".to_owned(),
                        size.reads.to_string(),
                        file.display().to_string(),
                    ]),
                )
            }
            Kind::Untar => (
                format!(
                    "tar -x of {} files of 1 to 8 kB, {FOLDER} in a folder",
                    size.small_files
                ),
                Prepared::Untar {
                    archive: archive(folder, size.small_files)?,
                    target: in_memory(folder)?.join("unpacked"),
                },
            ),
        };
        Ok(Workload { kind, what, prepared })
    }

    /// Its command.
    pub(crate) fn command(&self) -> Command {
        match &self.prepared {
            Prepared::Build(project) => project.build(),
            Prepared::Storm { xtask, words } => {
                let mut command = Command::new(xtask);
                command.arg("bench-child").args(words);
                command
            }
            Prepared::Untar { archive, target } => {
                let mut command = Command::new("sh");
                command
                    .args(["-ec", "mkdir -p \"$2\" && tar -xf \"$1\" -C \"$2\"", "sh"])
                    .args([archive, target]);
                command
            }
        }
    }

    /// Removes what a run has left.
    pub(crate) fn clean(&self) -> anyhow::Result<()> {
        match &self.prepared {
            Prepared::Build(project) => project.clean(),
            Prepared::Storm { .. } => Ok(()),
            Prepared::Untar { target, .. } => match std::fs::remove_dir_all(target) {
                Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(why.into()),
                _ => Ok(()),
            },
        }
    }
}

/// An ext4 whose device is a file in memory, mounted for as long as this mount namespace lives.
fn in_memory(folder: &Path) -> anyhow::Result<PathBuf> {
    let (memory, mounted) = (folder.join("memory"), folder.join("in-memory"));
    for place in [&memory, &mounted] {
        std::fs::create_dir_all(place)?;
    }
    let image = memory.join("image");
    exec::run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&memory))?;
    File::create(&image)?.set_len(IMAGE_BYTES)?;
    exec::run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
    exec::run(Command::new("mount").args(["-o", "loop"]).args([&image, &mounted]))?;
    Ok(mounted)
}

/// Room for the archive's files, of which it takes what is written.
const IMAGE_BYTES: u64 = 2 << 30;

/// Files in one folder of the archive.
const FOLDER: u64 = 500;

/// Makes an archive of small files, once.
fn archive(folder: &Path, files: u64) -> anyhow::Result<PathBuf> {
    let archive = folder.join(format!("small-{files}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    let from = folder.join("small");
    let contents = [b'x'; 8192];
    for number in 0..files {
        let place = from.join((number / FOLDER).to_string());
        if number % FOLDER == 0 {
            std::fs::create_dir_all(&place)?;
        }
        let size = 1024 * (1 + number as usize % 8);
        std::fs::write(
            place.join(number.to_string()),
            contents.get(..size).unwrap_or(&contents),
        )?;
    }
    let unfinished = archive.with_extension("unfinished");
    let mut tar = Command::new("tar");
    exec::run(tar.arg("-cf").arg(&unfinished).arg("-C").arg(&from).arg("."))?;
    std::fs::remove_dir_all(&from)?;
    std::fs::rename(&unfinished, &archive)?;
    Ok(archive)
}
