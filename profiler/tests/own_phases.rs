//! What people add of their own (marks and rules), memory and kills for want of it, and what must not be recorded: on
//! plain processes, without a container runtime. Most need root, and say so when they are skipped.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::fs;
use std::process::Command;

use phasegraph::recording::Reader;
use run::{Folder, PHASEGRAPH, Report, Started, in_own_mounts, needs_root, stderr, stdout, until};
use serde_json::Value;

/// The user's own phases, in order of time, with those below them.
fn own_phases(report: &Report) -> Vec<&Value> {
    fn collect<'a>(phases: &'a Value, found: &mut Vec<&'a Value>) {
        for phase in phases.as_array().unwrap() {
            if phase["name"] == "user" {
                found.push(phase);
            }
            collect(&phase["phases"], found);
        }
    }
    let mut found = Vec::new();
    collect(&report.0["phases"], &mut found);
    found
}

fn ns(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap()
}

fn named<'a>(phases: &[&'a Value], label: &str) -> &'a Value {
    let found: Vec<&&Value> = phases.iter().filter(|phase| phase["label"]["text"] == label).collect();
    assert_eq!(found.len(), 1, "{label} in {phases:#?}");
    found[0]
}

/// Make sure that marks become phases that nest as they lie in time, by this program and by `true`, that a command's life
/// is its mark's phase, and that one without an end goes on to its operation's.
#[test]
fn marks_nest() {
    needs_root!();
    let folder = Folder::new();
    let script = r#"
        "$1" mark --begin outer
        sleep 0.1
        "$1" mark moment
        /bin/true phasegraph mark --begin inner
        sleep 0.1
        "$1" mark --end
        "$1" mark command -- sleep 0.1
        "$1" mark --end outer
        "$1" mark --begin never
        "$1" mark --end unbegun
        sleep 0.1
    "#;
    let report = folder.report_of("x.phg", ["sh", "-c", script, "sh", PHASEGRAPH]);
    let phases = own_phases(&report);
    assert_eq!(phases.len(), 6, "{phases:#?}");
    let outer = named(&phases, "outer");
    for (label, least) in [("moment", 0), ("inner", 100_000_000), ("command", 100_000_000)] {
        let phase = named(&phases, label);
        assert_eq!(phase["parent"], outer["index"], "{label}");
        assert!(ns(phase, "wall_ns") >= least, "{phase:#}");
        assert!(ns(outer, "from_ns") < ns(phase, "from_ns") && ns(phase, "to_ns") <= ns(outer, "to_ns"));
    }
    assert_eq!(ns(named(&phases, "moment"), "wall_ns"), 0);
    assert!(ns(outer, "wall_ns") >= 300_000_000);
    let never = named(&phases, "never");
    assert_eq!((&never["parent"], &never["open"]), (&Value::Null, &Value::Bool(false)));
    let operation = &report.0["operations"][0];
    assert_eq!(never["to_ns"], operation["to_ns"]);
    assert!(never["evidence"]["to"].as_str().unwrap().contains("no end was marked"));
    assert_eq!(named(&phases, "unbegun")["wall_ns"], 0);
    // A phase has the processes that worked in it, and its flamegraph.
    let sleeps = named(&phases, "inner")["processes"].as_array().unwrap().len();
    assert!(sleeps >= 2, "sh and sleep: {sleeps}");
    let flame = folder
        .phasegraph(["flame", "x.phg", "--phase", "inner", "--kind", "wall", "--folded"])
        .output()
        .unwrap();
    assert!(stdout(&flame).contains("sleep"), "{}", stderr(&flame));
}

/// Make sure that a mark by somebody else on the host, who is not profiled and need not be root, is in the recording, and
/// other uses of the program are not.
#[test]
fn mark_from_outside() {
    needs_root!();
    let folder = Folder::new();
    let script = "touch started; while [ ! -e stop ]; do sleep 0.02; done";
    let mut recording = Started::new(&mut folder.profile("x.phg", ["sh", "-c", script]));
    until("the command's start", || folder.path("started").exists());
    for words in [
        &["mark", "--begin", "outside"][..],
        &["--version"],
        &["mark", "--end", "outside"],
    ] {
        let mut mark = Command::new("setpriv");
        mark.args(["--reuid=65534", "--regid=65534", "--clear-groups", PHASEGRAPH]);
        let output = mark.args(words).output();
        // Where nobody can't reach the program, root marks.
        if !output.is_ok_and(|output| output.status.success()) {
            assert!(Command::new(PHASEGRAPH).args(words).output().unwrap().status.success());
        }
    }
    fs::write(folder.path("stop"), "").unwrap();
    assert!(recording.status().success());
    let report = folder.report("x.phg");
    let phases = own_phases(&report);
    let outside = named(&phases, "outside");
    assert_eq!((phases.len(), &outside["operation"]), (1, &Value::Null));
    assert!(ns(outside, "wall_ns") > 0);
    assert_eq!(
        report.named("phasegraph").count(),
        0,
        "the marks themselves are not profiled"
    );
    assert_eq!(
        report
            .losses()
            .iter()
            .filter(|(name, _)| name.contains("birth"))
            .count(),
        0
    );
}

/// Make sure that a mark does nothing and succeeds for anybody when nothing is recorded, and runs its command.
#[test]
fn mark_without_a_recording() {
    let run = |words: &[&str]| Command::new(PHASEGRAPH).arg("mark").args(words).output().unwrap();
    for words in [&["--begin", "a"][..], &["--end"], &["a"]] {
        let output = run(words);
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
    }
    let output = run(&["a", "--", "sh", "-c", "echo done; exit 7"]);
    assert_eq!((output.status.code(), &stdout(&output)[..]), (Some(7), "done\n"));
    assert_eq!(run(&["a", "--", "no-such-program"]).status.code(), Some(127));
    assert_eq!(run(&[]).status.code(), Some(2));
}

/// Make sure that rules on arguments become phases, merged where they overlap; that they are kept in the recording, and
/// can be replaced by a reader.
#[test]
fn rules() {
    needs_root!();
    let folder = Folder::new();
    fs::write(folder.path("phasegraph.toml"), "[phases]\nnap = [\"sleep 0.*\"]\n").unwrap();
    let script = "sleep 0.3 & sleep 0.1; wait; echo; sleep 0.2";
    let report = folder.report_of("x.phg", ["sh", "-c", script]);
    let naps = own_phases(&report);
    assert_eq!(naps.len(), 2, "{naps:#?}");
    assert!(naps.iter().all(|nap| nap["label"]["text"] == "nap"));
    assert_eq!(naps[0]["processes"].as_array().unwrap().len(), 2);
    assert!(ns(naps[0], "wall_ns") >= 300_000_000 && ns(naps[1], "wall_ns") >= 200_000_000);
    assert!(naps[0]["evidence"]["from"].as_str().unwrap().contains("sleep 0.*"));

    fs::remove_file(folder.path("phasegraph.toml")).unwrap();
    assert_eq!(own_phases(&folder.report("x.phg")).len(), 2);
    fs::write(folder.path("other.toml"), "[phases]\nshort = \"sleep 0.1\"\n").unwrap();
    let shown = folder
        .phasegraph(["show", "x.phg", "--config", "other.toml", "--phase", "short"])
        .output()
        .unwrap();
    assert!(stdout(&shown).contains("short"), "{}", stderr(&shown));
    for (text, place) in [
        ("[phases]\nnap = 1\n", "phasegraph.toml:2:7: "),
        ("[faces]\n", "phasegraph.toml:1:2: "),
    ] {
        fs::write(folder.path("phasegraph.toml"), text).unwrap();
        let output = folder.profile("y.phg", ["touch", "ran"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(place), "{}", stderr(&output));
        assert!(!folder.path("ran").exists() && !folder.path("y.phg").exists());
    }
}

/// Make sure that a process's peak is that of its own largest memory, exact to what the C library and the kernel's
/// batches add, and what it was forked from is not.
#[test]
fn peak_memory() {
    needs_root!();
    const BUFFER: u64 = 64 << 20;
    const AROUND: u64 = 6 << 20;
    let folder = Folder::new();
    let script = "dd if=/dev/zero of=/dev/null bs=64M count=1 2> /dev/null; true";
    let report = folder.report_of("x.phg", ["sh", "-c", script]);
    let peak = |name: &str| {
        let process = report.named(name).next().unwrap();
        process.0["peak_rss_bytes"].as_u64().unwrap()
    };
    assert!((BUFFER..BUFFER + AROUND).contains(&peak("dd")), "{}", peak("dd"));
    assert!(peak("sh") < AROUND, "{}", peak("sh"));
}

/// Sets a limit of 32 MiB on a memory cgroup of either version, and runs phasegraph around a program in it that needs
/// more. Prints `none` where there is no memory controller.
const STARVE: &str = r#"
    fs="$PWD/cgroup"; mkdir "$fs"
    if mount -t cgroup -o memory none "$fs" 2> /dev/null; then
        group="$fs$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)/phasegraph-test-$$"
        mkdir "$group"; echo 32M > "$group/memory.limit_in_bytes"
        echo 32M > "$group/memory.memsw.limit_in_bytes" 2> /dev/null || true
    elif mount -t cgroup2 none "$fs" && echo +memory > "$fs/cgroup.subtree_control"; then
        group="$fs/phasegraph-test-$$"
        mkdir "$group"; echo 32M > "$group/memory.max"; echo 0 > "$group/memory.swap.max" 2> /dev/null || true
    else
        echo none; exit 0
    fi
    status=0
    "$1" run --quiet --no-summary -o x.phg -- sh -c '
        echo $$ > "$1/cgroup.procs"; exec dd if=/dev/zero of=/dev/null bs=100M count=1' sh "$group" || status=$?
    rmdir "$group"
    echo "status $status"
"#;

/// Make sure that a kill for want of memory is told, with who, how much it held and what its cgroup held at most, natively
/// in a version 1 hierarchy where the host has that.
#[test]
fn out_of_memory() {
    needs_root!();
    const LIMIT: u64 = 32 << 20;
    let folder = Folder::new();
    let Some(output) = in_own_mounts(&folder, STARVE, &[PHASEGRAPH]) else {
        return;
    };
    let said = stdout(&output);
    if said.contains("none") {
        eprintln!("skipped: no memory controller to be had: {}", stderr(&output));
        return;
    }
    assert!(said.contains("status 137"), "{said}{}", stderr(&output));
    let report = folder.report("x.phg");
    let kills = report.0["oom_kills"].as_array().unwrap();
    let process = report.named("dd").next().unwrap();
    let kill = kills.iter().find(|kill| kill["pid"] == process.pid()).unwrap();
    assert_eq!(process.0["signal"], 9);
    assert_eq!(kill["process"], process.0["index"]);
    // Before 6.9 the kernel tells the victim's number alone.
    if kill["rss_bytes"] != Value::Null {
        assert_eq!(kill["comm"]["text"], "dd");
        assert!(ns(kill, "rss_bytes") > LIMIT / 2);
        let peak = ns(kill, "memory_peak_bytes");
        assert!((LIMIT - (1 << 20)..=LIMIT).contains(&peak), "{peak}");
    }
    let shown = folder.phasegraph(["show", "x.phg"]).output().unwrap();
    assert!(
        stdout(&shown).contains("killed for want of memory: dd"),
        "{}",
        stdout(&shown)
    );
}

/// Whether any record of the recording holds these bytes.
fn holds(folder: &Folder, file: &str, text: &str) -> bool {
    let mut reader = Reader::open(&folder.path(file)).unwrap();
    let found = reader.by_ref().any(|record| {
        let bytes = record.encode(Vec::new()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    });
    assert!(reader.damage().is_empty());
    found
}

/// Make sure that the environment is recorded nowhere, redaction or not.
#[test]
fn environment_is_not_recorded() {
    needs_root!();
    let folder = Folder::new();
    for (file, flag) in [("a.phg", None), ("b.phg", Some("--no-redact"))] {
        let mut command = folder.phasegraph(["run", "--no-summary", "-o", file]);
        command
            .args(flag)
            .args(["--", "sh", "-c", "/bin/true seen-word"])
            .env("PLAIN_VARIABLE", "never-seen-word");
        assert!(command.output().unwrap().status.success());
        assert!(holds(&folder, file, "seen-word"));
        assert!(!holds(&folder, file, "never-seen-word") && !holds(&folder, file, "PLAIN_VARIABLE"));
    }
}

/// Make sure that a secret in arguments, a mark's name included, is masked before it is written, and that `--no-redact`
/// shows it raw.
#[test]
fn redaction() {
    needs_root!();
    let folder = Folder::new();
    let script = "/bin/true --password hunter2-word; /bin/true phasegraph mark token=hunter2-word; true";
    for (file, flag, raw) in [("a.phg", None, false), ("b.phg", Some("--no-redact"), true)] {
        let mut command = folder.phasegraph(["run", "--no-summary", "-o", file]);
        command.args(flag).args(["--", "sh", "-c", script]);
        assert!(command.output().unwrap().status.success());
        assert_eq!(holds(&folder, file, "hunter2-word"), raw, "{file}");
        let report = folder.report(file);
        let marks = own_phases(&report);
        let expected = if raw { "token=hunter2-word" } else { "token=***" };
        assert_eq!(named(&marks, expected)["wall_ns"], 0);
    }
}

/// Make sure that in a pid namespace of its own, where process numbers mean something else, nothing is recorded, and it
/// says what to do.
#[test]
fn own_pid_namespace() {
    needs_root!();
    let folder = Folder::new();
    let mut command = Command::new("unshare");
    let words = [
        "--pid",
        "--fork",
        "--mount-proc",
        PHASEGRAPH,
        "run",
        "-o",
        "x.phg",
        "--",
        "touch",
        "ran",
    ];
    let output = command.args(words).current_dir(folder.path("")).output().unwrap();
    if stderr(&output).contains("unshare") {
        eprintln!("skipped: no pid namespace to be had: {}", stderr(&output));
        return;
    }
    assert_eq!(output.status.code(), Some(1));
    for message in ["pid namespace of its own", "--privileged --pid=host"] {
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
    assert!(!folder.path("ran").exists() && !folder.path("x.phg").exists());
}
