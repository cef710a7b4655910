//! A private corner of the host: its own mounts, network, `/run` and pure cgroup2, whatever the host itself has.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why a scenario can't run here; tests print it and pass.
#[derive(Debug)]
pub(crate) struct Skip(pub String);

/// Checks that the scenario can run at all: root, and these programs.
pub(crate) fn require(programs: &[&str]) -> Result<(), Skip> {
    // SAFETY: no arguments, no failure.
    if unsafe { libc::geteuid() } != 0 {
        return Err(Skip("needs root".to_owned()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in programs {
        let found = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
        if !found.into_iter().any(|folder| folder.join(program).is_file()) {
            return Err(Skip(format!("needs `{program}`")));
        }
    }
    Ok(())
}

/// A private mount and network namespace, held by a process of its own until it is dropped.
pub(crate) struct Corner {
    holder: Child,
    /// Scratch folder, removed with the corner.
    folder: tempfile::TempDir,
    /// Released last, when nothing of the corner is left.
    _turn: MutexGuard<'static, ()>,
}

/// One corner at a time: a recording takes in every container daemon of the host, so what another test's dockerd does
/// would stand in it.
static TURN: Mutex<()> = Mutex::new(());

impl Corner {
    pub(crate) fn new() -> Result<Corner, Skip> {
        // A test that failed while it had its turn is no reason for the others to fail.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        require(&["unshare", "nsenter", "mount", "umount", "ip"])?;
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        // A hybrid host's cgroup tree is replaced by cgroup2 alone, in this namespace only.
        let script = "set -e; mount --make-rprivate /; ip link set lo up; \
                      umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; \
                      mount -t tmpfs none /run; mkdir -p \"${XDG_RUNTIME_DIR:-/run}\"; : > \"$1\"; \
                      exec sleep infinity";
        let holder = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-c", script, "sh"])
            .arg(&ready)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut corner = Corner {
            holder,
            folder,
            _turn: turn,
        };
        let start = Instant::now();
        while !ready.exists() {
            if corner.holder.try_wait().unwrap().is_some() {
                return Err(Skip("no private namespace with cgroup2 can be made here".to_owned()));
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "the namespace's holder hangs"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(corner)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its network namespace.
    pub(crate) fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// Takes the calling thread into a network namespace, with the threads that it starts from then on.
    pub(crate) fn enter(network: &Path) {
        use std::os::fd::AsRawFd;
        let namespace = std::fs::File::open(network).unwrap();
        // SAFETY: a descriptor of a namespace.
        let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// Does something in its network.
    pub(crate) fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = self.network();
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                Corner::enter(&network);
                work()
            });
            there.join().unwrap()
        })
    }

    /// A command that will run in here, in the scratch folder.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--net", "--target"])
            .arg(self.holder.id().to_string())
            // The folder must be looked up in there: nsenter's --wd is one of the outer mounts.
            .args(["--", "sh", "-c", "cd \"$1\" && shift && exec \"$@\"", "sh"])
            .arg(self.folder())
            .arg(program)
            .env("TMPDIR", self.folder())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        // Engines leave their parent cgroups, empty.
        let _ = self
            .command("sh")
            .args([
                "-c",
                "cd /sys/fs/cgroup && rmdir libpod_parent/conmon libpod_parent docker 2> /dev/null",
            ])
            .status();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Runs it to its end, which must be a good one.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
