//! The demo's container, run by itself: what it stamps, and what it leaves behind. Needs root.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use phasegraph::demo::stamps::Stamps;
use phasegraph::demo::{self, Demo, Sizes};
use profiler_common::Counter;

const SIZES: Sizes = Sizes {
    cold: 8 << 20,
    config: 2 << 20,
};

/// A prepared demo in a new folder; `None`, with the reason printed, where it can't run.
fn prepared(folder: &Path) -> Option<Demo> {
    match demo::prepare(folder, Path::new(env!("CARGO_BIN_EXE_phasegraph")), SIZES) {
        Ok(demo) => Some(demo),
        Err(error @ demo::Error::NotRoot) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn spawn(demo: &Demo) -> Child {
    let command = demo.command();
    Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Command lines of living processes that name the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let needle = folder.to_str().unwrap();
    procfs::process::all_processes()
        .unwrap()
        .flatten()
        .filter_map(|process| Some(process.cmdline().ok()?.join(" ")))
        .filter(|line| line.contains(needle))
        .collect()
}

/// Processes whose host name would be the container's can't be told by their command line: by their cgroup.
fn cgroup_members(demo: &Demo) -> Vec<i32> {
    procfs::process::all_processes()
        .unwrap()
        .flatten()
        .filter(|process| {
            process.cgroups().is_ok_and(|groups| {
                groups
                    .into_iter()
                    .any(|group| group.pathname.contains(demo.container()))
            })
        })
        .map(|process| process.pid())
        .collect()
}

/// Waits until `done` holds. The limit is for a broken program only.
fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn mounts_below(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap();
    std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter(|line| line.contains(folder))
        .count()
}

fn has_cgroup(demo: &Demo) -> bool {
    procfs::process::Process::myself()
        .unwrap()
        .mountinfo()
        .unwrap()
        .into_iter()
        .filter(|mount| mount.fs_type == "cgroup2")
        .any(|mount| mount.mount_point.join(demo.container()).exists())
}

fn kill(child: &Child, signal: i32) {
    // SAFETY: a signal to a process that this test started and has not waited for.
    let done = unsafe { libc::kill(child.id().cast_signed(), signal) };
    assert_eq!(done, 0);
}

/// Make sure that the stamps are whole and true to what each part is, and that nothing is left behind.
#[test]
fn stamps_tell_what_the_container_did() {
    let folder = tempfile::tempdir().unwrap();
    let Some(demo) = prepared(folder.path()) else { return };
    let status: ExitStatus = spawn(&demo).wait().unwrap();
    assert!(status.success(), "{status}");

    let stamps: Stamps = demo.stamps().unwrap();
    let names: Vec<_> = stamps.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["burn", "sleep", "disk", "copy-up", "child"]);
    let run = stamps.stage("run").unwrap();
    let mut last = stamps.stage("start").unwrap().start_ns;
    for part in &stamps.parts {
        assert!(
            part.start_ns >= last && part.end_ns <= run.end_ns,
            "{part:?} of {run:?}"
        );
        assert!(part.cpu_ns <= part.wall_ns(), "{part:?}");
        last = part.end_ns;
    }
    let burn = stamps.part("burn").unwrap();
    assert!(burn.cpu_ns >= 300_000_000, "{burn:?}");
    let sleep = stamps.part("sleep").unwrap();
    assert!(
        sleep.wall_ns() >= 200_000_000 && sleep.cpu_ns < 100_000_000,
        "{sleep:?}"
    );
    let disk = stamps.part("disk").unwrap();
    assert_eq!(
        (disk.bytes, disk.cached_bytes),
        (SIZES.cold, 0),
        "the read was not cold"
    );
    assert_eq!(stamps.part("copy-up").unwrap().bytes, SIZES.config);
    let child = stamps.part("child").unwrap();
    assert!(child.wall_ns() >= 50_000_000, "{child:?}");
    let stages: Vec<_> = stamps.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(stages, ["mount", "create", "start", "run", "cleanup"]);
    assert!(
        stamps.stages.windows(2).all(|pair| pair[0].end_ns <= pair[1].start_ns),
        "{stamps:?}"
    );

    assert_eq!(processes_of(folder.path()), [""; 0]);
    assert_eq!(mounts_below(folder.path()), 0);
    assert!(!has_cgroup(&demo));
    assert!(!folder.path().join("container/upper").exists());
    drop(demo);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [demo::STAMPS]);
}

/// Make sure that Ctrl-C in the middle ends the container, leaves no process, mount or cgroup, and is no success.
#[test]
fn interrupt_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let Some(demo) = prepared(folder.path()) else { return };
    let mut engine = spawn(&demo);
    until("the entrypoint runs", || running(folder.path()));
    kill(&engine, libc::SIGINT);
    let status = engine.wait().unwrap();
    assert!(!status.success(), "{status}");
    assert_eq!(processes_of(folder.path()), [""; 0]);
    assert_eq!(mounts_below(folder.path()), 0);
    assert!(!has_cgroup(&demo));
    assert!(demo.stamps().is_err(), "a container that was interrupted has no stamps");
}

/// Make sure that an engine killed with SIGKILL takes its container along, and that the rest goes with the demo.
#[test]
fn kill_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let Some(demo) = prepared(folder.path()) else { return };
    let mut engine = spawn(&demo);
    until("the entrypoint runs", || running(folder.path()));
    kill(&engine, libc::SIGKILL);
    engine.wait().unwrap();
    until("all processes are gone", || {
        processes_of(folder.path()).is_empty() && cgroup_members(&demo).is_empty()
    });
    assert_eq!(mounts_below(folder.path()), 0);
    drop(demo);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [""; 0]);
}

/// Whether the container has passed `start`: the file with its first process's id is there, and that process is the
/// entrypoint.
fn running(folder: &Path) -> bool {
    let pid = std::fs::read_to_string(folder.join("container/pid"))
        .ok()
        .and_then(|pid| pid.parse::<i32>().ok());
    pid.and_then(|pid| procfs::process::Process::new(pid).ok())
        .and_then(|process| process.cmdline().ok())
        .is_some_and(|line| line.iter().any(|word| word == "entrypoint"))
}

/// Make sure that the demo writes into no folder that holds something.
#[test]
fn full_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), "x").unwrap();
    let error = demo::prepare(folder.path(), Path::new(env!("CARGO_BIN_EXE_phasegraph")), SIZES).unwrap_err();
    assert!(
        matches!(error, demo::Error::NotEmpty(_) | demo::Error::NotRoot),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Make sure that `phasegraph demo` finds the container's phases, that every part's CPU and waiting time agree with what
/// the container stamped to 5 % of the part's length (1 ms for short parts; not where the CPU is emulated), and that no
/// time of a part is lost.
#[test]
fn profile_agrees_with_the_stamps() {
    // A hypervisor takes what it wants, which the container's CPU clock leaves out and /proc/stat tells in steps of
    // 10 ms: on a shared host not each run has times that can be held to 5 %.
    const TRIES: usize = 6;
    for _ in 0..TRIES {
        match demo() {
            Ok(()) => return,
            Err(disagrees) => eprintln!("{disagrees}"),
        }
    }
    panic!("in {TRIES} runs the times never agreed");
}

/// One run; `Err` tells a part whose times do not agree.
fn demo() -> Result<(), String> {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("demo");
    let output = Command::new(env!("CARGO_BIN_EXE_phasegraph"))
        .args(["demo", "-o"])
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !is_root() {
        assert!(!output.status.success() && complaint.contains("root"), "{complaint}");
        eprintln!("skipped: {complaint}");
        return Ok(());
    }
    assert!(output.status.success(), "{complaint}");
    for name in ["demo.phg", "oncpu.svg", "offcpu.svg", demo::STAMPS] {
        assert!(folder.join(name).metadata().unwrap().len() > 0, "{name}");
    }

    let session = phasegraph::cli::load(&folder.join("demo.phg")).unwrap();
    let stamps: Stamps = serde_json::from_slice(&std::fs::read(folder.join(demo::STAMPS)).unwrap()).unwrap();
    let phases: Vec<_> = session.phases.iter().map(|phase| phase.kind.name()).collect();
    assert_eq!(phases, ["mount", "create", "init", "start", "run", "cleanup"]);
    assert_eq!(session.containers.len(), 1);
    assert_eq!(session.containers[0].id, stamps.container.as_bytes());

    let missed: u64 = session
        .losses
        .counters
        .iter()
        .filter(|(id, _)| *id == Counter::MissedSwitchIn as u32)
        .map(|(_, count)| count)
        .sum();
    let taken = session.host_cpu.map_or(0, |host| host.interrupt_ns + host.steal_ns);
    let compared = demo::compare::compare(&session, &stamps).unwrap();
    assert_eq!(compared.len(), stamps.parts.len());
    for line in &compared {
        assert_eq!(line.profiled.total(), line.part.wall_ns(), "{line:?}");
        // Nothing is lost without being counted; what is, is no part of either figure.
        assert!(line.profiled.lost == 0 || missed > 0, "{line:?}");
        if emulated() {
            continue;
        }
        agree("on CPU", line.part.cpu_ns, line.profiled.cpu, line, taken)?;
        agree("off CPU", line.stamped_off_cpu(), line.profiled_off_cpu(), line, taken)?;
    }
    let waited = |part: &str| &compared.iter().find(|line| line.part.name == part).unwrap().profiled;
    assert!(waited("sleep").sleep >= 190_000_000, "{:?}", waited("sleep"));
    assert!(waited("child").child > 0, "{:?}", waited("child"));
    pages_agree_with_the_layers(&session);
    Ok(())
}

/// The demo's layers are known: one file is read cold, one is copied up.
fn pages_agree_with_the_layers(session: &phasegraph::model::Session) {
    const EXT4: u32 = 0xef53;
    let named = |ix: phasegraph::model::FileIx, name: &[u8]| {
        let file = &session.files[ix.ix()];
        file.name == name && file.magic == EXT4
    };
    if !session.page_runs.iter().any(|run| named(run.file, b"cold.bin")) {
        return eprintln!("skipped: the demo's folder is not on ext4");
    }
    let cold = session.page_runs.iter().filter(|run| named(run.file, b"cold.bin"));
    let cold: u64 = cold.map(|run| u64::from(run.read()) * session.page()).sum();
    assert_eq!(cold, Sizes::default().cold);
    // Its folder is copied up first, without contents.
    let copies: Vec<_> = session.copy_ups.iter().filter(|copy| copy.copied > 0).collect();
    let [copy] = copies[..] else {
        panic!("{:?}", session.copy_ups)
    };
    assert_eq!(u64::from(copy.copied) * session.page(), Sizes::default().config);
    assert!(copy.upper.is_some_and(|upper| named(upper, b"config.bin")), "{copy:?}");
}

/// Whether the CPU is one that QEMU emulates: two clocks that are read one after the other are milliseconds apart there.
fn emulated() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("QEMU"))
}

/// `taken`: what interrupts and the hypervisor took of the host's CPUs meanwhile, by the kernel's own account, ns.
fn agree(what: &str, stamped: u64, profiled: u64, line: &demo::compare::Compared, taken: u64) -> Result<(), String> {
    // The kernel's clock of a thread leaves out interrupts and what a hypervisor took (`update_rq_clock_task`); a switch
    // to the next one does not.
    let wall = line.part.wall_ns();
    let allowed = (wall / 20).max(1_000_000) + line.profiled.lost + taken.min(wall / 10);
    if stamped.abs_diff(profiled) <= allowed {
        return Ok(());
    }
    Err(format!(
        "{what}: stamped {stamped} ns, profiled {profiled} ns: {line:?}"
    ))
}

fn is_root() -> bool {
    // SAFETY: no arguments, can't fail.
    unsafe { libc::geteuid() == 0 }
}
