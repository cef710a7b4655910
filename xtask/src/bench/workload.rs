//! The workloads.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::project::{self, Project};

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
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Build => "build",
            Kind::Switch => "switch",
            Kind::Fork => "fork",
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
        }
    }

    /// Removes what a run has left.
    pub(crate) fn clean(&self) -> anyhow::Result<()> {
        match &self.prepared {
            Prepared::Build(project) => project.clean(),
            Prepared::Storm { .. } => Ok(()),
        }
    }
}
