//! What stays of phasegraph, however it ends: nothing in the kernel, and the recording up to its last second. Needs
//! root.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use run::machine::slowness;
use run::{Folder, Started, kill, monotonic_ns, needs_root, shell_status, until};

/// Tells that it is there, with its pid, and works in small steps until it may end or its folder is gone.
const BUSY: &str = "echo $$ > pid.new; mv pid.new pid; while [ -e pid ] && [ ! -e gate ]; do sleep 0.01; done; exit 4";

/// An object that lives in the kernel: `bpf(2)`'s command that makes a descriptor of its id, what `fdinfo` calls
/// that id, and the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    command: i64,
    name: &'static str,
    id: u32,
}

/// `BPF_PROG_GET_FD_BY_ID`, `BPF_MAP_GET_FD_BY_ID` and `BPF_LINK_GET_FD_BY_ID` of `include/uapi/linux/bpf.h`.
const KINDS: [(i64, &str); 3] = [(13, "prog_id"), (14, "map_id"), (30, "link_id")];

impl Object {
    /// Whether it is still in the kernel. Ids are given out in a circle, so it can't be another's that soon.
    fn lives(self) -> bool {
        let attributes = [self.id, 0, 0];
        // SAFETY: reads the three words; the result is a new descriptor or an error.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                self.command,
                attributes.as_ptr(),
                size_of_val(&attributes),
            )
        };
        if descriptor >= 0 {
            // SAFETY: the descriptor just made.
            unsafe { libc::close(descriptor as i32) };
            return true;
        }
        let error = io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{self:?}: {error}");
        false
    }
}

/// What a process holds in the kernel: BPF objects, and how many perf events.
fn held_by(pid: u32) -> (BTreeSet<Object>, usize) {
    let mut objects = BTreeSet::new();
    let mut events = 0;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    for descriptor in descriptors {
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        events += usize::from(target.as_os_str() == "anon_inode:[perf_event]");
        let number = descriptor.file_name().into_string().unwrap();
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        for (command, name) in KINDS {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            // A link's entry names its program, too: that is one of ours as well.
            if let Some(id) = line {
                let id = id.trim().parse().unwrap();
                objects.insert(Object { command, name, id });
            }
        }
    }
    (objects, events)
}

/// Make sure that programs, maps and links go, soon after their process: the kernel frees them in the background.
fn assert_gone(objects: &BTreeSet<Object>) {
    for (_, name) in KINDS {
        assert!(
            objects.iter().any(|object| object.name == name),
            "no {name} was seen: {objects:?}"
        );
    }
    until("the kernel is rid of all that was attached", || {
        !objects.iter().any(|object| object.lives())
    });
}

/// A recording of [`BUSY`], under way.
struct Recording {
    folder: Folder,
    program: Started,
    objects: BTreeSet<Object>,
    command: u32,
}

impl Recording {
    fn new() -> Recording {
        Recording::with(|_, _| {})
    }

    /// `prepare` is given the program and its folder.
    fn with(prepare: impl FnOnce(&mut Command, &Folder)) -> Recording {
        let folder = Folder::new();
        let mut command = folder.profile("x.phg", ["sh", "-c", BUSY]);
        prepare(&mut command, &folder);
        let program = Started::new(command.stderr(Stdio::piped()));
        until("the command runs", || folder.path("pid").exists());
        let pid = fs::read_to_string(folder.path("pid")).unwrap().trim().parse().unwrap();
        let (objects, events) = held_by(program.pid());
        assert!(events > 0, "no perf event is open: {objects:?}");
        let recording = Recording {
            folder,
            program,
            objects,
            command: pid,
        };
        // A descriptor that the command inherited would keep things attached as long as it lives.
        assert_eq!(held_by(recording.command), (BTreeSet::new(), 0));
        recording
    }

    /// Lets the command end.
    fn open_gate(&self) {
        fs::write(self.folder.path("gate"), "").unwrap();
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.open_gate();
    }
}

/// Make sure that nothing stays attached after a good end.
#[test]
fn good_end() {
    needs_root!();
    let mut recording = Recording::new();
    recording.open_gate();
    assert_eq!(shell_status(recording.program.status()), 4);
    assert_gone(&recording.objects);
    assert!(recording.folder.report("x.phg").closed());
    assert!(!recording.folder.path("x.phg.partial").exists());
}

/// Make sure that SIGTERM ends the command, whose status is told, and the recording in order.
#[test]
fn terminated() {
    needs_root!();
    let mut recording = Recording::new();
    recording.program.signal(libc::SIGTERM);
    assert_eq!(shell_status(recording.program.status()), 128 + libc::SIGTERM);
    assert_gone(&recording.objects);
    let report = recording.folder.report("x.phg");
    assert!(report.closed());
    assert_eq!(report.command().0["signal"], libc::SIGTERM);
}

/// Make sure that nothing stays attached when the command can't be executed after all.
#[test]
fn bad_end() {
    needs_root!();
    let folder = Folder::new();
    // Executable, but no program: only execve() finds that.
    fs::write(folder.path("no-program"), "\x7fELFnothing").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path("no-program"), mode).unwrap();
    let mut program = Started::new(folder.profile("x.phg", ["./no-program"]).stderr(Stdio::piped()));
    let mut objects = BTreeSet::new();
    let mut status = None;
    until("its end", || {
        objects.append(&mut held_by(program.pid()).0);
        status = program.child().try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(shell_status(status.unwrap()), 126);
    assert_gone(&objects);
    assert!(!folder.path("x.phg").exists(), "half a recording has the final name");
}

/// Make sure that SIGKILL in the middle leaves nothing attached, lets the command go on, and costs less than the last
/// second of the recording.
#[test]
fn killed() {
    needs_root!();
    // A host so busy that the writer does not get a CPU for half a second proves nothing against it.
    const ATTEMPTS: usize = 5;
    let mut short = 0;
    for _ in 0..ATTEMPTS {
        let mut recording = Recording::new();
        std::thread::sleep(Duration::from_secs(2) * slowness());
        let killed_at = monotonic_ns();
        recording.program.signal(libc::SIGKILL);
        assert_eq!(shell_status(recording.program.status()), 128 + libc::SIGKILL);
        kill(recording.command, 0);
        assert_gone(&recording.objects);

        let folder = &recording.folder;
        assert!(!folder.path("x.phg").exists(), "half a recording has the final name");
        let report = folder.report("x.phg.partial");
        assert!(!report.closed());
        assert!(
            report.damage().iter().any(|line| line.contains("cut off")),
            "{:?}",
            report.damage()
        );
        assert!(report.named("sleep").count() > 10);
        let shown = folder.phasegraph(["show", "x.phg.partial"]).output().unwrap();
        assert!(
            shown.status.success() && run::stdout(&shown).contains("was not closed"),
            "{}",
            run::stdout(&shown)
        );
        let last = report.0["span"]["end_ns"].as_u64().unwrap();
        short = killed_at.saturating_sub(last);
        if short <= 1_000_000_000 {
            // The next run of that name keeps what is there.
            recording.open_gate();
            let again = folder.profile("x.phg", ["true"]).output().unwrap();
            assert!(again.status.success(), "{}", run::stderr(&again));
            assert!(run::stderr(&again).contains("x.phg.partial"), "{}", run::stderr(&again));
            assert!(
                folder
                    .names()
                    .iter()
                    .filter(|name| name.starts_with("x.phg.partial"))
                    .count()
                    == 1
            );
            return;
        }
    }
    panic!("the last {short} ns before the SIGKILL are missing");
}

/// Make sure that a panic leaves nothing attached, lets the command go on, and costs less than the last second.
#[test]
fn panicked() {
    needs_root!();
    let mut recording = Recording::with(|command, folder| {
        command.env("PHASEGRAPH_FORCE_PANIC", folder.path("panic"));
    });
    std::thread::sleep(Duration::from_secs(1) * slowness());
    fs::write(recording.folder.path("panic"), "").unwrap();
    // Rust's exit status of a panic in the main thread.
    assert_eq!(shell_status(recording.program.status()), 101);
    kill(recording.command, 0);
    assert_gone(&recording.objects);
    assert!(!recording.folder.path("x.phg").exists());
    let report = recording.folder.report("x.phg.partial");
    assert!(!report.closed() && report.named("sleep").count() > 5);
}

/// Puts a process into a memory cgroup of its own as the one to be killed first, and fills that cgroup up.
const OUT_OF_MEMORY: &str = r#"
if grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null; then
    group=/sys/fs/cgroup/phasegraph-oom-$$
    echo +memory > /sys/fs/cgroup/cgroup.subtree_control || { echo no controller; exit 0; }
    limit=memory.max
else
    mkdir memory
    mount -t cgroup -o memory none memory || { echo no controller; exit 0; }
    group=memory/phasegraph-oom-$$
    limit=memory.limit_in_bytes
fi
mkdir "$group"
trap 'for i in 1 2 3 4 5 6 7 8 9; do rmdir "$group" && break; sleep 0.2; done' EXIT
echo 64M > "$group/$limit"
echo "$1" > "$group/cgroup.procs"
echo 1000 > "/proc/$1/oom_score_adj"
mkdir full
mount -t tmpfs none full
# What fills a tmpfs is nobody's own memory, so whoever fills it is not the one to be ended for it.
sh -c 'echo $$ > "$1/cgroup.procs"; exec head -c 200M /dev/zero > full/up' sh "$group" || true
"#;

/// Make sure that an end by the kernel for want of memory leaves nothing attached and lets the command go on.
#[test]
fn out_of_memory() {
    needs_root!();
    let mut recording = Recording::new();
    std::thread::sleep(Duration::from_secs(1));
    let pid = recording.program.pid().to_string();
    let Some(output) = run::in_own_mounts(&recording.folder, OUT_OF_MEMORY, &[&pid]) else {
        return;
    };
    if run::stdout(&output).contains("no controller") {
        eprintln!("skipped: no memory controller to be had: {}", run::stderr(&output));
        return;
    }
    assert_eq!(
        shell_status(recording.program.status()),
        128 + libc::SIGKILL,
        "{}",
        run::stderr(&output)
    );
    kill(recording.command, 0);
    assert_gone(&recording.objects);
    let report = recording.folder.report("x.phg.partial");
    assert!(!report.closed() && report.named("sleep").count() > 5);
}

/// Make sure that two at once each record their own command, whole, and that neither's end disturbs the other.
#[test]
fn two_at_once() {
    needs_root!();
    const CHILDREN: usize = 60;
    let [first, second] = [Recording::new(), Recording::new()];
    assert!(
        first.objects.is_disjoint(&second.objects),
        "they share objects of the kernel"
    );
    let ran = |recording: &Recording| {
        let mut seen = BTreeSet::new();
        until("some more children", || {
            let now = fs::read_to_string(format!("/proc/{0}/task/{0}/children", recording.command)).unwrap_or_default();
            seen.extend(now.split_whitespace().map(str::to_owned));
            seen.len() >= CHILDREN
        });
        seen
    };
    let (seen_by_first, seen_by_second) = (ran(&first), ran(&second));
    let end = |mut recording: Recording| {
        recording.open_gate();
        assert_eq!(shell_status(recording.program.status()), 4);
        assert_gone(&recording.objects);
        recording.folder.report("x.phg")
    };
    let command = first.command;
    let (second_command, second) = (second.command, end(second));
    // The first goes on alone.
    let more = ran(&first);
    let first = end(first);
    for (report, command, other, seen) in [
        (
            &first,
            command,
            second_command,
            seen_by_first.union(&more).cloned().collect::<BTreeSet<_>>(),
        ),
        (&second, second_command, command, seen_by_second),
    ] {
        let pids: BTreeSet<u64> = report.processes().map(|process| process.pid()).collect();
        assert_eq!(report.command().pid(), u64::from(command));
        assert!(!pids.contains(&u64::from(other)), "the other's command is in it");
        let missing: Vec<_> = seen
            .iter()
            .filter(|pid| !pids.contains(&pid.parse().unwrap()))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        let full: Vec<_> = report
            .losses()
            .into_iter()
            .filter(|(name, _)| name.starts_with("ring_full"))
            .collect();
        assert!(full.is_empty() && report.closed(), "{full:?}");
        for process in report.named("sleep") {
            assert_eq!(process.0["exit_status"], 0, "{:#}", process.0);
        }
    }
}

/// Make sure that an output that another phasegraph writes to is refused, and that one goes on undisturbed.
#[test]
fn one_output_for_two() {
    needs_root!();
    let mut recording = Recording::new();
    let second = recording.folder.profile("x.phg", ["touch", "ran"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        run::stderr(&second).contains("another phasegraph"),
        "{}",
        run::stderr(&second)
    );
    assert!(!recording.folder.path("ran").exists());
    recording.open_gate();
    assert_eq!(shell_status(recording.program.status()), 4);
    assert!(recording.folder.report("x.phg").closed());
}
