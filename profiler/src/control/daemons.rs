//! The daemons that serve containers, found where they run already.

use std::collections::{HashMap, HashSet};

/// Engines' daemons and what they leave behind for each container, as their comm reads (15 bytes at most). They are
/// profiled with their children, whether they run already or are started meanwhile.
///
/// Clients and runtimes are not here: those of the profiled command are its descendants, others are none of its
/// business.
pub const DAEMONS: &[&str] = &[
    "dockerd",
    "containerd",
    "containerd-shim",
    "buildkitd",
    "crio",
    "conmon",
    "podman-api",
    "kubelet",
];

/// Programs, by comm, that move images about: daemons, and the clients that pull by themselves. What is dear to watch
/// (renames, syncs, connections) is watched of these only. `exe` is what a client is called that has re-executed
/// itself, as a rootless podman does.
pub const ENGINES: &[&str] = &[
    "dockerd",
    "containerd",
    "buildkitd",
    "crio",
    "podman",
    "podman-api",
    "podman-remote",
    "buildah",
    "skopeo",
    "ctr",
    "nerdctl",
    "exe",
];

/// A process in `/proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub pid: u32,
    pub parent: u32,
    pub comm: String,
}

/// All processes that `/proc` shows now. Those that end meanwhile are left out.
pub fn processes() -> Vec<Found> {
    let Ok(all) = procfs::process::all_processes() else {
        return Vec::new();
    };
    all.filter_map(|process| {
        let stat = process.ok()?.stat().ok()?;
        Some(Found {
            pid: u32::try_from(stat.pid).ok()?,
            parent: u32::try_from(stat.ppid).ok()?,
            comm: stat.comm,
        })
    })
    .collect()
}

/// Pids of the daemons among `processes` and of everything that descends from them, except `not` and what descends
/// from that (the profiler itself, should it run below a daemon).
pub fn serving(processes: &[Found], not: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut queue: Vec<u32> = processes
        .iter()
        .filter(|process| is_daemon(&process.comm))
        .map(|process| process.pid)
        .collect();
    let mut found = HashSet::new();
    while let Some(pid) = queue.pop() {
        if pid != not && found.insert(pid) {
            queue.extend(children.get(&pid).into_iter().flatten());
        }
    }
    let mut found: Vec<u32> = found.into_iter().collect();
    found.sort_unstable();
    found
}

/// `containerd-shim-runc-v2` reads `containerd-shim` as a comm.
fn is_daemon(comm: &str) -> bool {
    DAEMONS.contains(&comm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pid: u32, parent: u32, comm: &str) -> Found {
        Found {
            pid,
            parent,
            comm: comm.to_owned(),
        }
    }

    /// Make sure that a daemon's descendants are found, a stranger's are not, and the profiler is left out with its own.
    #[test]
    fn descendants() {
        let processes = [
            found(1, 0, "systemd"),
            found(10, 1, "dockerd"),
            found(11, 10, "containerd"),
            found(12, 1, "containerd-shim"),
            found(13, 12, "sh"),
            found(14, 13, "phasegraph"),
            found(15, 14, "sleep"),
            found(20, 1, "bash"),
        ];
        assert_eq!(serving(&processes, 14), [10, 11, 12, 13]);
    }

    /// Make sure that no name is longer than a comm can be.
    #[test]
    fn names_fit() {
        assert!(DAEMONS.iter().chain(ENGINES).all(|name| name.len() <= 15));
    }
}
