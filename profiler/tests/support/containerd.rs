//! A containerd of our own, for ctr.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::host::{self, Corner, Skip};
use super::profile::{self, Profile};

/// containerd with its log at debug level, ended when it is dropped.
pub(crate) struct Containerd {
    pub corner: Corner,
    daemon: Child,
}

/// Without what only a host's root may do, and with the pods' own image from our registry.
const CONFIGURATION: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
disable_apparmor = true
disable_cgroup = true
restrict_oom_score_adj = true
sandbox_image = "127.0.0.1:5000/tiny:1"
"#;

impl Containerd {
    pub(crate) fn new() -> Result<Containerd, Skip> {
        host::require(&["containerd", "ctr", "runc", "containerd-shim-runc-v2"])?;
        let corner = Corner::new()?;
        let folder = corner.folder().to_owned();
        let log = fs::File::create(folder.join("containerd.log")).unwrap();
        fs::write(folder.join("containerd.toml"), CONFIGURATION).unwrap();
        let daemon = corner
            .command("containerd")
            .arg("--config")
            .arg(folder.join("containerd.toml"))
            .args(["--log-level", "debug", "--root"])
            .arg(folder.join("root"))
            .arg("--state")
            .arg(folder.join("state"))
            .arg("--address")
            .arg(folder.join("containerd.sock"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Containerd { corner, daemon };
        let start = Instant::now();
        while !containerd
            .command("ctr")
            .arg("version")
            .output()
            .unwrap()
            .status
            .success()
        {
            if start.elapsed() > Duration::from_secs(60) {
                return Err(Skip("containerd does not start here".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(containerd)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.corner.folder().join("containerd.log")).unwrap()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.corner.folder().join("containerd.sock")
    }

    /// A program that talks to this daemon.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.corner.command(program);
        command.env("CONTAINERD_ADDRESS", self.socket());
        command
    }

    pub(crate) fn profile(&self, words: &[&str]) -> Profile {
        profile::profile(|program| self.command(program), self.corner.folder(), words)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // nsenter execs the daemon, so its pid is the daemon's.
        // SAFETY: a pid of a child that has not been waited for.
        unsafe { libc::kill(self.daemon.id() as i32, libc::SIGTERM) };
        let _ = self.daemon.wait();
    }
}
