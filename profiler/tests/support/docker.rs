//! A docker daemon of our own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::host::{self, Corner, Skip, succeed};
use super::profile::{Profile, profile};
use super::workload;

pub(crate) const TINY: &str = "tiny";

/// dockerd with containerd and runc, stopped when it is dropped.
pub(crate) struct Docker {
    pub corner: Corner,
    daemon: Child,
}

impl Docker {
    /// With the tiny image.
    pub(crate) fn new() -> Result<Docker, Skip> {
        host::require(&["docker", "dockerd", "containerd", "runc"])?;
        let corner = Corner::new()?;
        let folder = corner.folder().to_owned();
        let daemon = daemon(&corner);
        let docker = Docker { corner, daemon };
        docker.answers()?;
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
        succeed(docker.command("docker").arg("import").arg(&archive).arg(TINY));
        Ok(docker)
    }

    /// Waits until the daemon answers.
    fn answers(&self) -> Result<(), Skip> {
        let start = Instant::now();
        while !self.command("docker").arg("version").output().unwrap().status.success() {
            if start.elapsed() > Duration::from_secs(60) {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                return Err(Skip(format!(
                    "dockerd does not start here: {}",
                    log.lines().last().unwrap_or_default()
                )));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Ends the daemon by a signal and starts another.
    pub(crate) fn restart(&mut self, signal: i32) {
        // SAFETY: a pid of a child that has not been waited for.
        unsafe { libc::kill(self.daemon.id() as i32, signal) };
        self.daemon.wait().unwrap();
        // What it and its containerd (killed with it, and perhaps not waited for by the host's init) leave behind if they
        // are killed: the next one would take these numbers for processes that run.
        let folder = self.corner.folder();
        for file in ["dockerd.pid", "exec/containerd/containerd.pid"] {
            let _ = fs::remove_file(folder.join(file));
        }
        self.daemon = daemon(&self.corner);
        self.answers().unwrap();
    }

    /// Profiles a command that talks to this daemon.
    pub(crate) fn profile(&self, words: &[&str]) -> Profile {
        profile(|program| self.command(program), self.corner.folder(), words)
    }

    /// As [`Docker::profile`], unless the command fails.
    pub(crate) fn try_profile(&self, words: &[&str]) -> Option<Profile> {
        let works = self.command(words[0]).args(&words[1..]).output().unwrap();
        if !works.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&works.stderr));
            return None;
        }
        // What that pulled or built is taken away again.
        let clean = "docker image rm --force app; docker images --quiet --filter reference=127.0.0.1:*/* | \
                     xargs -r docker image rm --force; DOCKER_BUILDKIT=1 /usr/bin/docker builder prune --all --force";
        self.command("sh").args(["-c", clean]).output().unwrap();
        Some(self.profile(words))
    }

    /// The socket of its containerd.
    pub(crate) fn containerd(&self) -> PathBuf {
        self.corner.folder().join("exec/containerd/containerd.sock")
    }

    fn log(&self) -> PathBuf {
        self.corner.folder().join("dockerd.log")
    }

    /// A program that talks to this daemon, with the classic builder.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let folder = self.corner.folder();
        let mut command = self.corner.command(program);
        command
            .env(
                "DOCKER_HOST",
                format!("unix://{}", folder.join("docker.sock").display()),
            )
            .env("DOCKER_CONFIG", folder.join("config"))
            .env("DOCKER_BUILDKIT", "0");
        command
    }
}

/// A daemon with all of its own in the corner's folder.
fn daemon(corner: &Corner) -> Child {
    let folder = corner.folder();
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("dockerd.log"));
    corner
        .command("dockerd")
        .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--data-root"])
        .arg(folder.join("data"))
        .arg("--exec-root")
        .arg(folder.join("exec"))
        .arg("--pidfile")
        .arg(folder.join("dockerd.pid"))
        .arg("--host")
        .arg(format!("unix://{}", folder.join("docker.sock").display()))
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap()
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Ok(output) = self.command("docker").args(["ps", "--all", "--quiet"]).output() {
            let ids = String::from_utf8_lossy(&output.stdout).into_owned();
            let _ = self
                .command("docker")
                .args(["rm", "--force"])
                .args(ids.split_whitespace())
                .output();
        }
        // nsenter execs the daemon, so its pid is the daemon's; it ends its containerd by itself.
        // SAFETY: a pid of a child that has not been waited for.
        unsafe { libc::kill(self.daemon.id() as i32, libc::SIGTERM) };
        let _ = self.daemon.wait();
    }
}
