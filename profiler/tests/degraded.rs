//! A host that lacks something: what is missing is told, with what to do, and what can be recorded is. Each is made to lack
//! it in a private mount namespace. Needs root.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::fs;
use std::process::Output;

use run::{Folder, PHASEGRAPH, Report, in_own_mounts, needs_root, stderr};

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// `phasegraph run -o x.phg -- sh -c 'touch ran'` after `script` changed the mounts.
fn run_after(folder: &Folder, script: &str) -> Option<Output> {
    let script = format!("{script}\nexec \"$1\" run -o x.phg -- touch ran");
    in_own_mounts(folder, &script, &[PHASEGRAPH])
}

/// As [`run_after`], with the kernel's types showing the name `from` as `to`.
fn run_with_renamed(folder: &Folder, from: &str, to: &str) -> Option<Output> {
    assert_eq!(from.len(), to.len());
    let mut types = fs::read(BTF).unwrap();
    let (from, to) = (format!("\0{from}\0"), format!("\0{to}\0"));
    let at = types.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("the kernel's types have no {from:?}"));
    types[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::write(folder.path("types"), types).unwrap();
    let output = run_after(folder, &format!("mount --bind types {BTF}"));
    fs::remove_file(folder.path("types")).unwrap();
    output
}

/// Checks that nothing ran and nothing was written, and that the message has all of `parts`.
fn refused(folder: &Folder, output: &Output, parts: &[&str]) {
    let errors = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for part in parts {
        assert!(errors.contains(part), "no `{part}` in: {errors}");
    }
    assert!(errors.lines().count() <= 4, "not a message but a log: {errors}");
    assert_eq!(folder.names(), Vec::<String>::new(), "{errors}");
}

/// Checks that the command was recorded, and gives the report and what stood on standard error.
fn recorded(folder: &Folder, output: &Output) -> (Report, String) {
    let errors = stderr(output);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert_eq!(folder.names(), ["ran", "x.phg"]);
    let report = folder.report("x.phg");
    assert_eq!(report.named("touch").count(), 1);
    (report, errors)
}

/// The limits that the report tells.
fn limits(report: &Report) -> Vec<&str> {
    let facts = report.0["host"]["facts"].as_array().unwrap().iter();
    facts
        .filter(|fact| fact["name"] == "limit")
        .map(|fact| fact["value"].as_str().unwrap())
        .collect()
}

fn probe_of<'a>(report: &'a Report, signal: &str) -> &'a str {
    let probes = report.0["host"]["probes"].as_array().unwrap();
    let probe = probes.iter().find(|probe| probe["name"] == signal);
    probe.unwrap_or_else(|| panic!("no probe {signal}"))["rung"]
        .as_str()
        .unwrap()
}

/// Make sure that a kernel without its types is refused, naming the file and the option.
#[test]
fn no_btf() {
    needs_root!();
    let folder = Folder::new();
    let Some(output) = run_after(&folder, "mount -t tmpfs none /sys/kernel/btf") else {
        return;
    };
    refused(&folder, &output, &[BTF, "CONFIG_DEBUG_INFO_BTF", "try: mount sysfs"]);
}

/// Make sure that a kernel that is locked down to confidentiality is refused before anything is tried, whether the kernel
/// is so or only says it.
#[test]
fn lockdown() {
    needs_root!();
    let folder = Folder::new();
    let script = "mount -t tmpfs none /sys/kernel/security
                  echo 'none integrity [confidentiality]' > /sys/kernel/security/lockdown";
    let Some(output) = run_after(&folder, script) else {
        return;
    };
    refused(
        &folder,
        &output,
        &["locked down to confidentiality", "try: boot with lockdown=integrity"],
    );
}

/// Make sure that a kernel whose tasks can't be told apart is refused by the name of the member that it lacks.
#[test]
fn required_member_renamed() {
    needs_root!();
    let folder = Folder::new();
    let Some(output) = run_with_renamed(&folder, "start_time", "start_tame") else {
        return;
    };
    refused(
        &folder,
        &output,
        &["task_struct.start_time", "report the kernel's version"],
    );
}

/// Make sure that a member that is not required is named with what is lost, and the rest is recorded.
#[test]
fn optional_member_renamed() {
    needs_root!();
    let folder = Folder::new();
    let Some(output) = run_with_renamed(&folder, "in_iowait", "in_iowoit") else {
        return;
    };
    let (report, errors) = recorded(&folder, &output);
    let limits = limits(&report);
    let told = limits.iter().find(|limit| limit.contains("task_struct.in_iowait"));
    let told = told.unwrap_or_else(|| panic!("{limits:?}"));
    assert!(told.contains("whether a wait is for disk"), "{told}");
    // The summary tells it too.
    assert!(
        errors.contains("limits") && errors.contains("task_struct.in_iowait"),
        "{errors}"
    );
}

/// Make sure that a tracepoint whose type the kernel lacks is taken as a raw one, and what that loses is told.
#[test]
fn lower_rung() {
    needs_root!();
    let folder = Folder::new();
    let Some(output) = run_with_renamed(&folder, "btf_trace_sched_switch", "btf_trace_sched_swatch") else {
        return;
    };
    let (report, _) = recorded(&folder, &output);
    let told = probe_of(&report, "sched_switch");
    assert!(
        told.starts_with("raw_tp (tp_btf: ") && told.contains("btf_trace_sched_switch"),
        "{told}"
    );
    assert!(probe_of(&report, "task_state").starts_with("hash-untyped (storage: "));
    let limits = limits(&report);
    assert!(
        limits
            .iter()
            .any(|limit| limit.starts_with("task_state by hash-untyped: ")),
        "{limits:?}"
    );
    for process in report.named("touch") {
        for thread in process.threads() {
            assert_eq!(thread.states(), thread.lived());
        }
    }
}

/// Make sure that no function is hooked in which threads sleep where the kernel would free the hook's code under them, and that
/// the reason is told. Kernels of 5.12 and later never do.
#[test]
fn hooks_are_freed_too_early() {
    needs_root!();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) >= (Some(5), Some(12)) {
        eprintln!("skipped: Linux {release} waits for threads in hooked functions");
        return;
    }
    let folder = Folder::new();
    let Some(output) = run_with_renamed(&folder, "bpf_tramp_image", "bpf_tramp_amige") else {
        return;
    };
    let (report, _) = recorded(&folder, &output);
    let calls = probe_of(&report, "mount_calls");
    assert!(
        calls.starts_with("kprobe, ") && calls.contains("fentry: before e21aa341785c"),
        "{calls}"
    );
    let sends = probe_of(&report, "sock_send_length");
    assert!(
        sends.starts_with("not available") && sends.contains("before e21aa341785c"),
        "{sends}"
    );
}

/// Make sure that a kernel that has no rung of a required signal is refused by the signal's name, what it gives, and why
/// it can't be had.
#[test]
fn no_rung_of_a_required_signal() {
    needs_root!();
    let folder = Folder::new();
    let Some(output) = run_with_renamed(&folder, "bpf_iter_task", "bpf_eter_task") else {
        return;
    };
    let parts = [
        "adopt_tasks",
        "threads that were there before the recording",
        "iter: ",
        "bpf_iter_task",
    ];
    refused(&folder, &output, &parts);
}

/// Make sure that without tracefs, and without what makes it dispensable, a recording is made all the same and tells that
/// it has no mounts, and why, for every rung.
#[test]
fn no_rung_of_an_optional_signal() {
    needs_root!();
    let folder = Folder::new();
    let script = "export PHASEGRAPH_TRACEFS=/nonexistent";
    let Some(output) = run_after(&folder, script) else {
        return;
    };
    let (report, errors) = recorded(&folder, &output);
    let told = probe_of(&report, "mount_calls");
    if told.starts_with("fentry") || told.starts_with("kprobe") {
        eprintln!("this kernel needs no tracefs: {told}");
    } else {
        let first = "not available, so no mounts, unmounts, namespace changes";
        // Which of the two is first depends on whether the kernel may be preempted in a hook.
        let hooks = match told.contains(": fentry: ") {
            true => [": fentry: ", "; kprobe: "],
            false => [": kprobe: ", "; fentry: "],
        };
        for part in [first, hooks[0], hooks[1], "; tracepoint: tracefs can't be had: "] {
            assert!(told.contains(part), "no `{part}` in: {told}");
        }
        // The page breaks its lines where it must.
        let errors = errors.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["not probed", "mount_calls", "mounts, unmounts, namespace changes"] {
            assert!(errors.contains(part), "no `{part}` in: {errors}");
        }
    }
    let folder = Folder::new();
    let script = "export PHASEGRAPH_TRACEFS=/nonexistent PHASEGRAPH_RUNGS=mount_calls=tracepoint";
    let output = run_after(&folder, script).unwrap();
    let parts = [
        "mount_calls=tracepoint is forced",
        "tracefs can't be had",
        "mount -t tracefs",
    ];
    refused(&folder, &output, &parts);
}

/// Make sure that a host without cgroups is recorded, and that what is lost is told.
#[test]
fn no_cgroup2() {
    needs_root!();
    let folder = Folder::new();
    let Some(output) = run_after(&folder, "umount -R /sys/fs/cgroup") else {
        return;
    };
    let (report, errors) = recorded(&folder, &output);
    let limits = limits(&report);
    assert!(
        limits.iter().any(|limit| limit.starts_with("no cgroup2 is mounted")),
        "{limits:?}"
    );
    assert!(errors.contains("no cgroup2 is mounted"), "{errors}");
}
