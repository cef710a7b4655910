//! The processes of the demo's container: this program again, once for each that a real engine starts.
//!
//! ```text
//! engine ─┬─ (mount) ─┬─ create ── init ══ exec ═▶ entrypoint ── child
//!         │           ├─ start
//!         │           └─ delete
//! ```
//!
//! As with podman and runc: `create` makes cgroup and namespaces and ends when `init` has its root; `init` then waits
//! for `start`; the engine inherits it, and cleans up when it has ended.

use std::io::{self, PipeWriter, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use super::error::{At as _, Error};
use super::layers::{self, Layers, PROGRAM};
use super::stamps::{Stage, Stamps, stage};
use super::{STAGE, STAMPS, cgroup, sys, workload};

/// What `init` tells `create`, and `start` tells `init`.
const GO: u8 = b'!';

/// Runs a stage, if this process is to be one. Called before anything else: stages change their namespaces, which
/// only a process without other threads may do.
pub fn dispatch() -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let (first, rest) = arguments.split_first()?;
    if first != STAGE {
        return None;
    }
    let rest: Vec<_> = rest
        .iter()
        .map(|argument| argument.to_str().unwrap_or_default())
        .collect();
    let result = match rest[..] {
        ["engine", folder, container] => engine(Path::new(folder), container),
        ["create", folder, container] => create(Path::new(folder), container),
        ["init", folder, container] => init(Path::new(folder), container),
        ["start", _, _] => start(),
        ["delete", _, container] => cgroup::remove(container),
        ["libraries"] => layers::print_libraries(),
        ["entrypoint"] => workload::entrypoint(),
        ["child"] => {
            workload::child_main();
            Ok(())
        }
        _ => Err(Error::stage(rest.join(" "), "there is no such stage")),
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("phasegraph {STAGE} {}: {error}", rest.first().unwrap_or(&""));
            ExitCode::FAILURE
        }
    })
}

/// The whole life of a container whose layers are there.
fn engine(folder: &Path, container: &str) -> Result<(), Error> {
    let signals = sys::Signals::block().at(|| "blocking signals".to_owned())?;
    sys::adopt_orphans().at(|| "becoming a subreaper".to_owned())?;
    sys::unshare(libc::CLONE_NEWNS).at(|| "a mount namespace".to_owned())?;
    sys::private_mounts().at(|| "making mounts private".to_owned())?;

    let layers = Layers::of(folder);
    let mut stages = Vec::new();
    let mut engine = Engine {
        folder,
        container,
        signals,
        gate: None,
        pid: None,
        reaped: false,
        cgroup: false,
    };
    let lived = engine.live(&layers, &mut stages);
    let cleaned = stage(&mut stages, "cleanup", || engine.clean_up(&layers));
    let parts = lived?;
    cleaned?;

    let stamps = Stamps {
        container: container.to_owned(),
        cgroup: engine.cgroup.then(|| format!("/{container}")),
        pid: engine.pid.unwrap_or_default(),
        stages,
        parts,
    };
    write_stamps(&folder.join(STAMPS), &stamps)
}

struct Engine<'a> {
    folder: &'a Path,
    container: &'a str,
    signals: sys::Signals,
    /// Closed without a word, it ends an `init` that still waits for `start`.
    gate: Option<PipeWriter>,
    /// The container's first process.
    pid: Option<u32>,
    /// Its id may be another process's now.
    reaped: bool,
    /// Whether it has a cgroup of its own.
    cgroup: bool,
}

impl Engine<'_> {
    /// Mount to the container's end; what the entrypoint stamped.
    fn live(&mut self, layers: &Layers, stages: &mut Vec<Stage>) -> Result<Vec<super::stamps::Part>, Error> {
        stage(stages, "mount", || layers.mount())?;
        stage(stages, "create", || -> Result<(), Error> {
            let (wait, gate) = io::pipe().at(|| "a pipe".to_owned())?;
            self.gate = Some(gate);
            let status = self.run("create", wait.into(), Stdio::null())?;
            succeeded("create", status)
        })?;
        self.pid = Some(read_pid(&pid_file(self.folder))?);
        self.cgroup = cgroup::folder(self.container).is_some_and(|cgroup| cgroup.exists());
        stage(stages, "start", || -> Result<(), Error> {
            let gate = self
                .gate
                .take()
                .ok_or_else(|| Error::stage("start", "nothing was created"))?;
            let status = self.run("start", Stdio::null(), gate.into())?;
            succeeded("start", status)
        })?;
        let status = stage(stages, "run", || self.wait_for_container())?;
        succeeded("entrypoint", status)?;
        let stamps = std::fs::read(layers.stamps()).at(|| layers.stamps().display().to_string())?;
        serde_json::from_slice(&stamps).map_err(|error| Error::stage("entrypoint", error.to_string()))
    }

    /// Runs one of the runtime's processes to its end.
    fn run(&mut self, name: &str, stdin: Stdio, stdout: Stdio) -> Result<ExitStatus, Error> {
        let program = std::env::current_exe().at(|| "this program's own file".to_owned())?;
        let mut command = Command::new(&program);
        command
            .args([STAGE, name])
            .arg(self.folder)
            .arg(self.container)
            .stdin(stdin)
            .stdout(stdout);
        let mut child = command.spawn().at(|| program.display().to_string())?;
        // The parent's copies of the pipe's ends close with the command.
        drop(command);
        child.wait().at(|| name.to_owned())
    }

    /// Waits for the container's first process, which `create` left to this one.
    fn wait_for_container(&mut self) -> Result<ExitStatus, Error> {
        loop {
            while let Some((pid, status)) = sys::reap().at(|| "waiting for the container".to_owned())? {
                if self.pid == u32::try_from(pid).ok() {
                    self.reaped = true;
                    return Ok(ExitStatus::from_raw(status));
                }
            }
            match self.signals.wait(1000).at(|| "waiting for a signal".to_owned())? {
                Some(libc::SIGCHLD) | None => {}
                Some(_) => return Err(Error::Interrupted),
            }
        }
    }

    /// Leaves nothing behind, whatever happened before.
    fn clean_up(&mut self, layers: &Layers) -> Result<(), Error> {
        self.gate = None;
        if let Some(pid) = self.pid.and_then(|pid| i32::try_from(pid).ok())
            && !self.reaped
        {
            // Its pid namespace goes with it.
            _ = sys::kill(pid);
        }
        // No child is left when waiting says so.
        while sys::reap().is_ok() {
            self.signals.wait(50).at(|| "waiting for a signal".to_owned())?;
        }
        let deleted = self
            .run("delete", Stdio::null(), Stdio::null())
            .and_then(|status| succeeded("delete", status));
        let umounted = match sys::umount(&layers.merged(), 0) {
            // Never mounted.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result.at(|| layers.merged().display().to_string()),
        };
        let removed = layers.remove_container();
        _ = std::fs::remove_file(pid_file(self.folder));
        deleted.and(umounted).and(removed)
    }
}

/// The runtime's `create`: cgroup and namespaces, and `init` in them.
fn create(folder: &Path, container: &str) -> Result<(), Error> {
    cgroup::make(container)?;
    sys::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET)
        .at(|| "namespaces".to_owned())?;
    let (mut ready, tell) = io::pipe().at(|| "a pipe".to_owned())?;
    let program = Path::new("/proc/self/exe");
    let mut command = Command::new(program);
    // Standard input is the pipe on which `start` speaks.
    command
        .args([STAGE, "init"])
        .arg(folder)
        .arg(container)
        .stdin(Stdio::inherit())
        .stdout(tell);
    let init = command.spawn().at(|| program.display().to_string())?;
    drop(command);
    let pid_file = pid_file(folder);
    std::fs::write(&pid_file, init.id().to_string()).at(|| pid_file.display().to_string())?;
    expect_go(&mut ready, "init")
}

/// The container's first process, before its exec.
fn init(folder: &Path, container: &str) -> Result<(), Error> {
    if let Some(cgroup) = cgroup::folder(container).filter(|cgroup| cgroup.exists()) {
        cgroup::join(&cgroup)?;
    }
    let merged = Layers::of(folder).merged();
    let name = || merged.display().to_string();
    sys::private_mounts().at(|| "making mounts private".to_owned())?;
    sys::mount(&merged, &merged, "", libc::MS_BIND | libc::MS_REC, b"").at(name)?;
    let proc_flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    sys::mount(Path::new("proc"), &merged.join("proc"), "proc", proc_flags, b"").at(name)?;
    std::env::set_current_dir(&merged).at(name)?;
    sys::pivot_root_here().at(|| format!("pivot_root to {}", merged.display()))?;
    std::env::set_current_dir("/").at(|| "the new root".to_owned())?;
    sys::sethostname(container).at(|| "the host name".to_owned())?;

    io::stdout()
        .write_all(&[GO])
        .and_then(|()| io::stdout().flush())
        .at(|| "telling create".to_owned())?;
    expect_go(&mut io::stdin(), "start")?;
    // From here on the engine is the parent, and `create`'s end is past.
    sys::die_with_parent().at(|| "PR_SET_PDEATHSIG".to_owned())?;
    let libraries = std::env::join_paths(layers::library_folders())
        .map_err(|error| Error::stage("init", format!("library folders: {error}")))?;
    // Standard input and output stay what they are, ends of pipes without another end: there is no /dev/null in there.
    let error = Command::new(PROGRAM)
        .args([STAGE, "entrypoint"])
        .env_clear()
        .env("LD_LIBRARY_PATH", libraries)
        .exec();
    Err(error).at(|| format!("{PROGRAM} in the container"))
}

/// The runtime's `start`.
fn start() -> Result<(), Error> {
    io::stdout()
        .write_all(&[GO])
        .and_then(|()| io::stdout().flush())
        .at(|| "telling init".to_owned())
}

fn expect_go(from: &mut impl io::Read, who: &str) -> Result<(), Error> {
    let mut byte = [0];
    from.read_exact(&mut byte)
        .map_err(|_| Error::stage(who, "it ended without a word"))?;
    Ok(())
}

fn succeeded(stage: &str, status: ExitStatus) -> Result<(), Error> {
    if status.success() {
        Ok(())
    } else {
        Err(Error::stage(stage, status.to_string()))
    }
}

fn pid_file(folder: &Path) -> PathBuf {
    Layers::of(folder).folder().join("pid")
}

fn read_pid(path: &Path) -> Result<u32, Error> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|mut file| file.read_to_string(&mut text))
        .at(|| path.display().to_string())?;
    text.parse()
        .map_err(|_| Error::stage("create", format!("{} holds no pid", path.display())))
}

fn write_stamps(path: &Path, stamps: &Stamps) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(stamps).map_err(|error| Error::stage("engine", error.to_string()))?;
    std::fs::write(path, text).at(|| path.display().to_string())
}
