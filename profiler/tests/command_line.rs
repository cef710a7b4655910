//! The program as a user calls it, on recordings made here record by record. Needs no root.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use phasegraph::recording::Writer;
use phasegraph::recording::record::{
    At, Begin, Clock, Cycle, End, Exec, Exit, Fork, Frame, Losses, Meta, Place, Record, Sample, SelfCost, Stack,
    Symbol, TaskId,
};

const MS: u64 = 1_000_000;
const BEGIN: u64 = 5_000 * MS;
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>;\x1b]0;owned\x07\u{202e}";

/// A folder with `build.phg` in it: `sh` waits 300 ms for a child of a hostile name that burns 200 ms.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.record(true);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn phasegraph(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phasegraph"));
        command.args(args).current_dir(self.0.path()).env("LC_ALL", "C.UTF-8");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.phasegraph(args).output().unwrap()
    }

    fn record(&self, close: bool) {
        let mut writer = Writer::create(&self.path("build.phg"), true).unwrap();
        for record in records(close) {
            writer.write(&record).unwrap();
        }
        writer.finish().unwrap();
    }
}

fn at(ms: u64, pid: u32, start: u64) -> At {
    At {
        ts: BEGIN + ms * MS,
        task: TaskId {
            tgid: pid,
            tid: pid,
            start: BEGIN + start * MS,
        },
        cgroup: 1,
        mnt_ns: 1,
        cpu: 0,
    }
}

fn fork(ms: u64, pid: u32, parent: (u32, u64), comm: &str) -> Record {
    Record::Fork(Fork {
        at: at(ms, pid, ms),
        parent: at(0, parent.0, parent.1).task,
        clone_flags: 0,
        pid_ns: 1,
        ns_tid: pid,
        comm: comm.into(),
    })
}

fn exec(at: At, argv: &[&str]) -> Record {
    Record::Exec(Exec {
        at,
        old_tid: at.task.tid,
        pid_ns: 1,
        ns_tid: at.task.tid,
        exe_dev: 1,
        exe_ino: 1,
        comm: argv[0].as_bytes()[..argv[0].len().min(15)].to_vec(),
        filename: argv[0].into(),
        argv: argv.iter().map(|text| (*text).into()).collect(),
        argv_cut: 0,
    })
}

/// On a CPU from `from`, blocked from `off` to `at`.
fn cycle(at: At, from: u64, off: u64, stack: u32) -> Record {
    let ms = |ms: u64| BEGIN + ms * MS;
    Record::Cycle(Cycle {
        at,
        from: ms(from),
        on_start: ms(from),
        off: ms(off),
        wake: at.ts,
        sum_cpu: 0,
        sum_runqueue: 0,
        sum_blocked: 0,
        sum_count: 0,
        waker_tgid: 0,
        waker_tid: 0,
        state: 1,
        syscall: 61,
        flags: 0,
        stack,
    })
}

fn exit(at: At) -> Record {
    Record::Exit(Exit {
        at,
        code: 0,
        group_dead: Some(true),
        utime: 0,
        stime: 0,
    })
}

fn records(close: bool) -> Vec<Record> {
    let mut records: Vec<Record> = vec![
        Meta {
            version: "0.1.0".into(),
            hostname: "build1".into(),
            kernel: "6.18.5".into(),
            cpus: 2,
            sample_hz: 99,
            command: vec![b"sh".to_vec(), b"-c".to_vec(), HOSTILE.into()],
            ..Meta::default()
        }
        .into(),
        Clock {
            mono: BEGIN,
            real: 1_770_000_000_000_000_000,
        }
        .into(),
        Begin {
            mono: BEGIN,
            command: Some(at(0, 100, 0).task),
        }
        .into(),
    ];
    for (id, place, name) in [
        (1, Place::Unmapped(0x1000), "main"),
        (2, Place::Unmapped(0x2000), HOSTILE),
        (3, Place::Kernel(0xffff_ffff_8100_0000), "do_wait"),
    ] {
        records.push(Frame { id, place }.into());
        records.push(
            Symbol {
                frame: id,
                name: name.into(),
                offset: 0,
            }
            .into(),
        );
    }
    for (id, kernel, frames) in [(1, 0, vec![2, 1]), (2, 1, vec![3, 1])] {
        records.push(
            Stack {
                id,
                kernel,
                frames,
                user_error: 0,
            }
            .into(),
        );
    }
    records.extend([
        fork(0, 100, (1, 0), "phasegraph"),
        exec(at(0, 100, 0), &["sh", "-c", HOSTILE]),
        fork(50, 101, (100, 0), "sh"),
        exec(at(60, 101, 50), &[HOSTILE, "a;b 12"]),
    ]);
    for ms in [100, 150, 200] {
        records.push(
            Sample {
                at: at(ms, 101, 50),
                stack: 1,
            }
            .into(),
        );
    }
    records.extend([
        cycle(at(250, 101, 50), 50, 250, 0),
        exit(at(250, 101, 50)),
        cycle(at(400, 100, 0), 0, 100, 2),
        exit(at(400, 100, 0)),
        Losses {
            counters: vec![(5, 17)],
            ..Losses::default()
        }
        .into(),
        SelfCost {
            ts: BEGIN + 400 * MS,
            programs: vec![("sched_switch".into(), 90_000, 1_000, 0)],
            peak_rss_bytes: 20_000_000,
            ..SelfCost::default()
        }
        .into(),
    ]);
    if close {
        let mono = BEGIN + 400 * MS;
        records.push(
            End {
                mono,
                exit_code: Some(3),
            }
            .into(),
        );
    }
    records
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn assert_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

/// Make sure that what can't be done ends with `status`, says `message`, and tells nothing on standard output.
fn assert_fails(output: &Output, status: i32, message: &str) {
    assert_eq!(output.status.code(), Some(status), "{}", stderr(output));
    assert!(stderr(output).contains(message), "{message:?} in {}", stderr(output));
    assert!(output.stdout.is_empty());
}

/// Make sure that `show` tells what is recorded, without a control character, and in no more columns than asked.
#[test]
fn show_tells_what_is_recorded() {
    let folder = Folder::new();
    let shown = folder.run(&["show", "build.phg", "--width", "100"]);
    assert_done(&shown);
    let text = stdout(&shown);
    for fact in [
        "build1",
        "exit status 3",
        "200 ms",
        "CPU samples lost",
        "3 CPU samples",
        r"\x1b]0;owned\x07",
    ] {
        assert!(text.contains(fact), "{fact} in\n{text}");
    }
    assert!(text.chars().all(|char| char == '\n' || !char.is_control()));
    assert!(text.lines().all(|line| line.chars().count() <= 100));
}

/// Make sure that `show --json` is JSON with the exact times.
#[test]
fn json_has_exact_times() {
    let folder = Folder::new();
    let shown = folder.run(&["show", "build.phg", "--json"]);
    assert_done(&shown);
    let report: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(report["span"]["begin_ns"], BEGIN);
    assert_eq!(report["command"]["exit_status"], 3);
    let processes = report["processes"].as_array().unwrap();
    let child = processes.iter().find(|process| process["pid"] == 101).unwrap();
    assert_eq!(child["resources"]["cpu_ns"], 200 * MS);
    assert_eq!(child["argv"][0]["text"], HOSTILE);
    let shell = processes.iter().find(|process| process["pid"] == 100).unwrap();
    assert_eq!(shell["resources"]["cpu_ns"], 100 * MS);
    assert_eq!(shell["resources"]["child_ns"], 300 * MS);
}

/// Make sure that the flamegraph is private, is not replaced without being asked, and holds no markup of a name.
#[test]
fn flame_writes_a_private_file_once() {
    let folder = Folder::new();
    assert_done(&folder.run(&["flame", "build.phg", "-o", "x.svg"]));
    let svg = fs::read_to_string(folder.path("x.svg")).unwrap();
    assert!(svg.contains("onerror") && !svg.contains("<img") && !svg.contains('\x1b'));
    assert_eq!(
        fs::metadata(folder.path("x.svg")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = folder.run(&["flame", "build.phg", "-o", "x.svg", "--kind", "wall"]);
    assert_fails(&again, 1, "x.svg exists");
    assert!(stderr(&again).contains("try: "));
    assert_eq!(fs::read_to_string(folder.path("x.svg")).unwrap(), svg);
    assert_done(&folder.run(&["flame", "build.phg", "-o", "x.svg", "--kind", "wall", "--force"]));
    assert_ne!(fs::read_to_string(folder.path("x.svg")).unwrap(), svg);

    // Without a name it makes one, and says which.
    let named = folder.run(&["flame", "build.phg", "--kind", "offcpu"]);
    assert!(stderr(&named).contains("build-offcpu.svg"));
    assert!(folder.path("build-offcpu.svg").exists());
    assert!(stdout(&folder.run(&["flame", "build.phg", "-o", "-"])).starts_with("<?xml"));
}

/// Make sure that folded lines are for another program: a line a stack, counts that add up to the time.
#[test]
fn folded_adds_up() {
    let folder = Folder::new();
    for (kind, us) in [("cpu", 300_000), ("offcpu", 300_000), ("wall", 600_000)] {
        let folded = stdout(&folder.run(&["flame", "build.phg", "--folded", "--kind", kind]));
        let counts = folded
            .lines()
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
        assert_eq!(counts.sum::<u64>(), us, "{folded}");
    }
    let folded = stdout(&folder.run(&["flame", "build.phg", "--folded", "--kind", "offcpu"]));
    assert!(
        folded
            .lines()
            .any(|line| line.contains("sh;main;do_wait_[k];[child] 300000")),
        "{folded}"
    );
    // The child's 10 ms before its exec are another program's, and no sample hit them.
    let child = stdout(&folder.run(&["flame", "build.phg", "--folded", "--process", "101"]));
    let mut counts: Vec<&str> = child.lines().map(|line| line.rsplit_once(' ').unwrap().1).collect();
    counts.sort_unstable();
    assert_eq!(counts, ["10000", "190000"], "{child}");
}

/// Make sure that what isn't there is an error that lists what is.
#[test]
fn unknown_names_list_known_ones() {
    let folder = Folder::new();
    assert_fails(&folder.run(&["flame", "build.phg", "--phase", "pull"]), 1, "there is: ");
    assert_fails(
        &folder.run(&["show", "build.phg", "--container", "web"]),
        1,
        "there is: ",
    );
    assert_fails(
        &folder.run(&["flame", "build.phg", "--process", "rustc", "-o", "y.svg"]),
        1,
        "sh",
    );
    assert!(!folder.path("y.svg").exists());
}

/// Make sure that a reader that goes away (`| head`) is no failure and no message.
#[test]
fn broken_pipe_is_quiet() {
    let folder = Folder::new();
    for args in [
        &["show", "build.phg"][..],
        &["show", "build.phg", "--json"],
        &["--help"],
        &["show", "--help"],
    ] {
        let mut child = folder
            .phasegraph(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Closed before anything is read; whether the program meets it depends on who is faster, and both are fine.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(stderr(&output), "", "{args:?}");
    }
}

/// Make sure that a disk that is full is told, and not taken for success.
#[test]
fn full_disk_is_told() {
    let folder = Folder::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = folder.phasegraph(&["show", "build.phg"]).stdout(full).output().unwrap();
    assert_fails(&output, 1, "can't write to standard output");
}

/// Make sure that files that are no recording, and arguments that make no sense, have their message and status.
#[test]
fn bad_input() {
    let folder = Folder::new();
    fs::write(folder.path("empty.phg"), "").unwrap();
    fs::write(folder.path("garbage.phg"), [7; 5000]).unwrap();
    for name in ["none.phg", "empty.phg", "garbage.phg", "."] {
        for command in ["show", "flame"] {
            assert_fails(&folder.run(&[command, name]), 1, "phasegraph: ");
        }
    }
    for args in [
        &["show"][..],
        &["no-such-command"],
        &["run"],
        &["show", "build.phg", "--json", "--top", "3"],
    ] {
        assert_fails(&folder.run(args), 2, "Usage");
    }
}

/// Make sure that a command that isn't there or can't be executed has the shell's exit status, and leaves no file.
#[test]
fn run_without_a_command() {
    let folder = Folder::new();
    fs::write(folder.path("plain"), "x").unwrap();
    let run = |program: &str| folder.run(&["run", "-o", "new.phg", "--", program]);
    assert_fails(&run("no-such-program-anywhere"), 127, "command not found");
    assert_fails(&run("./plain"), 126, "can't execute");
    assert!(!Path::new(&folder.path("new.phg")).exists());
}

/// Make sure that a recording that was not closed, or is cut short, is shown as far as it goes, and says so.
#[test]
fn cut_off_recordings_are_shown() {
    let folder = Folder::new();
    folder.record(false);
    let shown = folder.run(&["show", "build.phg"]);
    assert_done(&shown);
    assert!(stdout(&shown).contains("was not closed"));

    folder.record(true);
    let bytes = fs::read(folder.path("build.phg")).unwrap();
    fs::write(folder.path("cut.phg"), &bytes[..bytes.len() - 7]).unwrap();
    let shown = folder.run(&["show", "cut.phg"]);
    assert_done(&shown);
    assert!(stdout(&shown).contains("damage"), "{}", stdout(&shown));
}

/// Make sure that colour stays away from a pipe, and blocks from a locale that has none.
#[test]
fn pipes_and_plain_locales() {
    let folder = Folder::new();
    let output = folder
        .phasegraph(&["show", "build.phg"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(output.stdout.is_ascii());
    assert!(!output.stdout.contains(&0x1b));
}
