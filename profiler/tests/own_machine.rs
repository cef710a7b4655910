//! What needs a machine of its own: its cgroups mounted in another way, a user with containers. `cargo xtask vm test` has such machines; elsewhere most of this is skipped. Needs root.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::fs;
use std::process::Command;

use run::{Folder, Report, needs_root, stderr, sum_of};

/// Set in a machine that belongs to these tests: they may change the whole of it.
const OWN: &str = "PHASEGRAPH_OWN_MACHINE";

/// Ends the test, saying why, where `$reason` is one.
macro_rules! skip {
    ($reason:expr) => {
        if let Some(why) = $reason {
            eprintln!("skipped: {why}");
            return;
        }
    };
}

fn not_own() -> Option<&'static str> {
    std::env::var_os(OWN)
        .is_none()
        .then_some("changes the whole host: only in a machine of its own")
}

/// What holds of every recording: states add up to lives, threads to processes, and the file is whole.
fn assert_conserved(report: &Report) {
    for process in report.processes() {
        let threads: u64 = process.threads().map(run::Thread::states).sum();
        assert_eq!(sum_of(&process.0["resources"], |_| true), threads, "{:#}", process.0);
        for thread in process.threads() {
            assert_eq!(thread.states(), thread.lived(), "states and life of {:#}", thread.value);
        }
    }
    assert!(report.closed() && report.damage().is_empty(), "{:?}", report.damage());
}

/// Make sure that a recording says how the host's cgroups are mounted, and that the demo's container is found whichever
/// way it is.
#[test]
fn cgroups_are_told() {
    needs_root!();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let has = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    let expected = match (has("cgroup"), has("cgroup2")) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    };
    let folder = Folder::new();
    let output = folder.phasegraph(["demo", "-o", "demo"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let report = folder.report("demo/demo.phg");
    let facts = report.0["host"]["facts"].as_array().unwrap();
    let told = facts.iter().find(|fact| fact["name"] == "cgroup").unwrap();
    assert_eq!(told["value"], expected);
    assert_eq!(report.0["containers"].as_array().unwrap().len(), 1);
    assert_conserved(&report);
}

/// The first user who may have containers of their own: one with a range of user ids.
fn user_with_ranges() -> Option<(u32, String)> {
    let names = fs::read_to_string("/etc/subuid").ok()?;
    let users = fs::read_to_string("/etc/passwd").ok()?;
    names.lines().find_map(|line| {
        let name = line.split(':').next()?;
        let user = users.lines().find(|user| user.split(':').next() == Some(name))?;
        let mut fields = user.split(':').skip(2);
        let (id, home) = (fields.next()?.parse().ok()?, fields.nth(2)?);
        (id != 0).then(|| (id, home.to_owned()))
    })
}

/// Make sure that a rootless `podman run`, user namespace and all, is one container with its phases, under its name.
#[test]
fn rootless_podman() {
    needs_root!();
    skip!(not_own());
    let unified = fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
    skip!((!unified.trim().is_empty()).then_some("crun takes no hybrid cgroups with controllers in cgroup2"));
    let user = user_with_ranges();
    skip!(
        user.is_none()
            .then_some("no user has a range of user ids in /etc/subuid")
    );
    let (id, home) = user.unwrap();
    let folder = Folder::new();
    let runtime = folder.path("runtime");
    let root = folder.path("rootfs/bin");
    fs::create_dir_all(&root).unwrap();
    fs::create_dir(&runtime).unwrap();
    fs::copy("/bin/busybox", root.join("busybox")).unwrap();
    for applet in ["sh", "sleep"] {
        std::os::unix::fs::symlink("busybox", root.join(applet)).unwrap();
    }
    let id_text = id.to_string();
    let as_user = |words: &[&str]| -> Vec<String> {
        let set = [
            "setpriv",
            "--reuid",
            &id_text,
            "--regid",
            &id_text,
            "--clear-groups",
            "env",
            "-C",
            &home,
        ];
        let mut all: Vec<String> = set.iter().map(|word| (*word).to_owned()).collect();
        all.push(format!("HOME={home}"));
        all.push(format!("XDG_RUNTIME_DIR={}", runtime.display()));
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all
    };
    let run = |words: &[&str]| {
        let words = as_user(words);
        let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    };
    std::os::unix::fs::chown(&runtime, Some(id), Some(id)).unwrap();
    // The user must be able to reach it.
    let open = Command::new("chmod").args(["a+rx", "--"]).arg(folder.path("")).status();
    assert!(open.unwrap().success());
    let archive = folder.path("tiny.tar");
    let tar = Command::new("tar")
        .arg("-C")
        .arg(folder.path("rootfs"))
        .arg("-cf")
        .arg(&archive)
        .arg(".")
        .status();
    assert!(tar.unwrap().success());
    run(&["podman", "import", archive.to_str().unwrap(), "localhost/tiny"]);

    let words = as_user(&[
        "podman",
        "run",
        "--rm",
        "--network=none",
        "--name=mine",
        "localhost/tiny",
        "/bin/sleep",
        "0.3",
    ]);
    let report = folder.report_of("x.phg", words);
    assert_conserved(&report);
    let containers = report.0["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{containers:#?}");
    let container = &containers[0];
    assert_eq!(container["engine"], "podman", "{container:#}");
    let name = container["name"]["text"]
        .as_str()
        .or_else(|| container["name"].as_str());
    assert_eq!(name, Some("mine"), "{container:#}");
    let phases: Vec<_> = container["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| phase["name"].as_str().unwrap())
        .collect();
    for wanted in ["create", "start", "run", "cleanup"] {
        assert!(phases.contains(&wanted), "{wanted} in {phases:?}");
    }
    run(&["podman", "rmi", "--force", "localhost/tiny"]);
}
