//! What the demo's container knows about itself: the truth that the profile is compared with.

use serde::{Deserialize, Serialize};

use super::sys;

/// `stamps.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamps {
    pub container: String,
    /// Path of its cgroup within the cgroup2 hierarchy; `None` where none could be made.
    pub cgroup: Option<String>,
    /// The container's first process, in the host's pid namespace.
    pub pid: u32,
    /// Its lifecycle, as its engine saw it.
    pub stages: Vec<Stage>,
    /// What its entrypoint did.
    pub parts: Vec<Part>,
}

impl Stamps {
    /// The part of that name.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// The stage of that name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// A step of the container's lifecycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// `mount`, `create`, `start`, `run`, `cleanup`.
    pub name: String,
    /// `CLOCK_MONOTONIC`, ns.
    pub start_ns: u64,
    pub end_ns: u64,
}

/// A piece of work of the entrypoint's only thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `burn`, `sleep`, `disk`, `copy-up`, `child`.
    pub name: String,
    /// `CLOCK_MONOTONIC`, ns.
    pub start_ns: u64,
    pub end_ns: u64,
    /// `CLOCK_THREAD_CPUTIME_ID` spent in it, ns.
    pub cpu_ns: u64,
    /// Bytes read or copied.
    pub bytes: u64,
    /// Of `bytes`, how many were in the page cache before.
    pub cached_bytes: u64,
}

impl Part {
    /// Its length, ns.
    pub fn wall_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// Runs `work` and stamps it. `bytes` and `cached_bytes` are the caller's to fill.
pub(super) fn part<T, E>(name: &str, work: impl FnOnce() -> Result<T, E>) -> Result<(Part, T), E> {
    let start_ns = sys::monotonic();
    let cpu = sys::thread_cpu();
    let value = work()?;
    let cpu_ns = sys::thread_cpu().saturating_sub(cpu);
    let end_ns = sys::monotonic();
    let part = Part {
        name: name.to_owned(),
        start_ns,
        end_ns,
        cpu_ns,
        bytes: 0,
        cached_bytes: 0,
    };
    Ok((part, value))
}

/// Runs `work` and stamps it as a stage.
pub(super) fn stage<T, E>(stages: &mut Vec<Stage>, name: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start_ns = sys::monotonic();
    let value = work()?;
    stages.push(Stage {
        name: name.to_owned(),
        start_ns,
        end_ns: sys::monotonic(),
    });
    Ok(value)
}
