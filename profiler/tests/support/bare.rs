//! An OCI runtime by itself, with bundles made on the spot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::host::{self, Corner, Skip};
use super::profile::{Profile, profile};
use super::workload;

/// `runc` or `crun` in a private corner, with a tiny root file system.
pub(crate) struct Bare {
    pub corner: Corner,
    pub runtime: &'static str,
    rootfs: PathBuf,
}

impl Bare {
    /// Checks that the runtime can run a container here at all.
    pub(crate) fn new(runtime: &'static str) -> Result<Bare, Skip> {
        host::require(&[runtime])?;
        let corner = Corner::new()?;
        let rootfs = corner.folder().join("rootfs");
        workload::busybox_root(&rootfs)?;
        for folder in ["proc", "dev", "tmp"] {
            fs::create_dir_all(rootfs.join(folder)).unwrap();
        }
        let bare = Bare {
            corner,
            runtime,
            rootfs,
        };
        let bundle = bare.bundle("trial", &["/bin/true"]);
        let trial = bare
            .command(runtime)
            .args(["run", "--bundle"])
            .arg(bundle)
            .arg("phasegraph-trial")
            .output()
            .unwrap();
        if trial.status.success() {
            return Ok(bare);
        }
        let why = String::from_utf8_lossy(&trial.stderr).into_owned();
        Err(Skip(format!(
            "{runtime} runs no container here: {}",
            why.lines().last().unwrap_or_default()
        )))
    }

    /// A bundle of the tiny root file system that runs these words.
    pub(crate) fn bundle(&self, name: &str, words: &[&str]) -> PathBuf {
        self.bundle_on(name, &self.rootfs, words)
    }

    /// A bundle of that root file system.
    pub(crate) fn bundle_on(&self, name: &str, rootfs: &Path, words: &[&str]) -> PathBuf {
        let bundle = self.corner.folder().join(name);
        fs::create_dir_all(&bundle).unwrap();
        let kinds = ["pid", "mount", "ipc", "uts"];
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": words,
                "env": ["PATH=/bin"],
                "cwd": "/",
            },
            "root": { "path": rootfs },
            "hostname": name,
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            ],
            "linux": { "namespaces": kinds.map(|kind| json!({ "type": kind })) },
        });
        fs::write(bundle.join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
        bundle
    }

    /// A program in the corner.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.corner.command(program)
    }

    /// Profiles a command in the corner.
    pub(crate) fn profile(&self, words: &[&str]) -> Profile {
        profile(|program| self.command(program), self.corner.folder(), words)
    }

    /// Profiles a script, in which `$RT` is the runtime.
    pub(crate) fn script(&self, script: &str) -> Profile {
        self.profile(&["sh", "-ec", &script.replace("$RT", self.runtime)])
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // What a test that failed left behind: the corner's /run goes with it, its processes do not.
        let script = "for id in $($1 list -q); do $1 delete --force \"$id\"; done";
        let _ = self.command("sh").args(["-c", script, "sh", self.runtime]).output();
    }
}
