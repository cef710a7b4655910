//! podman and buildah with a storage of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::host::{self, Corner, Skip, succeed};
use super::profile::{Profile, profile};
use super::workload;

/// Image with a compiler, and a tiny one.
pub(crate) const BUILD_ROOT: &str = "localhost/build-root";
pub(crate) const TINY: &str = "localhost/tiny";

/// podman's settings and images in a private corner.
pub(crate) struct Podman {
    pub corner: Corner,
}

impl Podman {
    /// With the tiny image, and that runtime.
    pub(crate) fn new(runtime: &str) -> Result<Podman, Skip> {
        Podman::with_driver(runtime, "overlay")
    }

    /// The same with a storage driver.
    pub(crate) fn with_driver(runtime: &str, driver: &str) -> Result<Podman, Skip> {
        host::require(&["podman", "conmon", runtime])?;
        let corner = Corner::new()?;
        let folder = corner.folder().to_owned();
        // No systemd, no more than this process may give away, no state outside of the folder.
        let engine = format!(
            "[containers]\npids_limit = 0\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"{runtime}\"\n\
             tmp_dir = \"{0}/libpod\"\nlock_type = \"file\"\n",
            folder.display()
        );
        let storage = format!(
            "[storage]\ndriver = \"{driver}\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n",
            folder.display()
        );
        fs::write(folder.join("containers.conf"), engine).unwrap();
        fs::write(folder.join("storage.conf"), storage).unwrap();
        fs::write(
            folder.join("policy.json"),
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        let podman = Podman { corner };
        let root = folder.join("tiny");
        workload::busybox_root(&root)?;
        let archive = folder.join("tiny.tar");
        succeed(
            Command::new("tar")
                .arg("-C")
                .arg(&root)
                .arg("-cf")
                .arg(&archive)
                .arg("."),
        );
        podman.import(&archive, TINY);
        let trial = ["run", "--rm", "--network=none", TINY, "/bin/true"];
        let trial = podman.command("podman").args(trial).output().unwrap();
        if trial.status.success() {
            return Ok(podman);
        }
        let why = String::from_utf8_lossy(&trial.stderr).into_owned();
        Err(Skip(format!(
            "podman runs nothing with {runtime} here: {}",
            why.lines().last().unwrap_or_default()
        )))
    }

    /// Profiles a command that uses this storage.
    pub(crate) fn profile(&self, words: &[&str]) -> Profile {
        profile(|program| self.command(program), self.corner.folder(), words)
    }

    /// Adds the image with a compiler.
    pub(crate) fn with_build_root(self) -> Result<Podman, Skip> {
        self.import(&workload::build_root()?, BUILD_ROOT);
        Ok(self)
    }

    fn import(&self, archive: &Path, name: &str) {
        succeed(self.command("podman").arg("import").arg(archive).arg(name));
    }

    /// A program that uses this storage.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let folder = self.corner.folder();
        let mut command = self.corner.command(program);
        command
            .env("CONTAINERS_CONF", folder.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"))
            .env_remove("BUILDAH_LAYERS");
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self
            .command("podman")
            .args(["rm", "--all", "--force", "--time=0"])
            .output();
    }
}
