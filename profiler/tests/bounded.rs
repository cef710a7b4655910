//! Memory stays bounded however many processes and containers one recording sees. Needs root; the long sizes with
//! `PHASEGRAPH_FULL`.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::ffi::CString;
use std::io;
use std::path::Path;

use run::{Folder, Report, needs_root, stderr};

/// Tells this test program what to be, and how often.
const LOAD: &str = "PHASEGRAPH_TEST_MANY";
const COUNT: &str = "PHASEGRAPH_TEST_COUNT";

/// What the profiler's memory may grow by from a small to a large number of processes or containers, bytes.
const GROWTH: u64 = 16 << 20;

fn full() -> bool {
    std::env::var_os("PHASEGRAPH_FULL").is_some()
}

/// The loads of the tests below.
#[test]
#[ignore = "a load, run by the other tests"]
fn load() {
    let Some(load) = std::env::var_os(LOAD) else {
        eprintln!("skipped: this is a load, run by the other tests");
        return;
    };
    let count: usize = std::env::var(COUNT).unwrap().parse().unwrap();
    for index in 0..count {
        match load.to_str().unwrap() {
            "processes" => process(index),
            "containers" => container(index),
            other => panic!("{other}"),
        }
    }
}

/// A process, every eighth with another program.
fn process(index: usize) {
    let program = CString::new("/bin/true").unwrap();
    // SAFETY: the child makes async-signal-safe calls only.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0, "{}", io::Error::last_os_error());
        if pid == 0 {
            if index.is_multiple_of(8) {
                libc::execv(program.as_ptr(), [program.as_ptr(), std::ptr::null()].as_ptr());
            }
            libc::_exit(0);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
    }
}

/// What a container's start does to the kernel: a cgroup, an init process with namespaces of its own in it, a mount and
/// a program; and all of it gone again.
fn container(index: usize) {
    let group = CString::new(format!("cgroup/many-{}-{index}", std::process::id())).unwrap();
    let program = CString::new("/bin/true").unwrap();
    let none = CString::new("none").unwrap();
    let (root, tmpfs, target) = (c"/", c"tmpfs", c"cgroup");
    // SAFETY: plain system calls on strings that outlive them; the child makes async-signal-safe calls only.
    unsafe {
        assert_eq!(libc::mkdir(group.as_ptr(), 0o755), 0, "{}", io::Error::last_os_error());
        let procs = CString::new(format!("{}/cgroup.procs", group.to_str().unwrap())).unwrap();
        let pid = libc::fork();
        assert!(pid >= 0, "{}", io::Error::last_os_error());
        if pid == 0 {
            let procs = libc::open(procs.as_ptr(), libc::O_WRONLY);
            libc::write(procs, c"0".as_ptr().cast(), 1);
            libc::close(procs);
            if libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS) != 0
                || libc::mount(
                    none.as_ptr(),
                    root.as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) != 0
                || libc::mount(none.as_ptr(), target.as_ptr(), tmpfs.as_ptr(), 0, std::ptr::null()) != 0
            {
                libc::_exit(1);
            }
            libc::execv(program.as_ptr(), [program.as_ptr(), std::ptr::null()].as_ptr());
            libc::_exit(2);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        assert_eq!(status, 0);
        assert_eq!(libc::rmdir(group.as_ptr()), 0, "{}", io::Error::last_os_error());
    }
}

/// Profiles `count` of a load.
fn profiled(folder: &Folder, load: &str, count: usize) -> Option<Report> {
    let program = std::env::current_exe().unwrap();
    let file = format!("{load}-{count}.phg");
    // Containers want the version 2 hierarchy at a place of their own.
    let script = "mkdir -p cgroup; mount -t cgroup2 none cgroup || { echo no cgroup2; exit 0; }; exec \"$@\"";
    let phasegraph = folder.phasegraph(Vec::<&str>::new()).get_program().to_owned();
    let mut command = std::process::Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-e",
            "-u",
            "-c",
            script,
            "sh",
        ])
        .arg(phasegraph)
        // The cap is another test's; here everything is to be taken.
        .args(["run", "--no-summary", "--max-overhead", "off", "-o", &file, "--"])
        .arg(program)
        .args(["--exact", "load", "--ignored", "--nocapture"])
        .current_dir(folder.path(""))
        .env(LOAD, load)
        .env(COUNT, count.to_string());
    let output = command.output().unwrap();
    if run::stdout(&output).contains("no cgroup2") {
        eprintln!("skipped: no cgroup2 to be mounted: {}", stderr(&output));
        return None;
    }
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(Path::new(&folder.path(&file)).exists());
    Some(folder.report(&file))
}

fn peak(report: &Report) -> u64 {
    report.0["self"]["peak_memory_bytes"].as_u64().unwrap()
}

/// Profiles a few and many of a load: the many take no more memory, and whatever is missing of them is counted.
fn bounded(load: &str, few: usize, many: usize) {
    let folder = Folder::new();
    let Some(small) = profiled(&folder, load, few) else {
        return;
    };
    let Some(large) = profiled(&folder, load, many) else {
        return;
    };
    eprintln!(
        "{load}: {few}: {} kB, {many}: {} kB; {:?}",
        peak(&small) / 1024,
        peak(&large) / 1024,
        large.losses()
    );
    assert!(
        peak(&large) <= peak(&small) + GROWTH,
        "{few} take {} bytes, {many} take {}",
        peak(&small),
        peak(&large)
    );
    let lost: u64 = large
        .losses()
        .into_iter()
        .filter(|(name, _)| name.starts_with("ring_full") || name.ends_with("map_full") || name.contains("not seen"))
        .map(|(_, count)| count)
        .sum();
    let found = large.processes().count() as u64;
    assert!(found + lost >= many as u64, "{found} processes, {lost} events lost");
}

/// Make sure that memory does not grow with the number of processes.
#[test]
fn processes() {
    needs_root!();
    bounded("processes", 500, if full() { 200_000 } else { 5_000 });
}

/// Make sure that memory does not grow with the number of containers.
#[test]
fn containers() {
    needs_root!();
    bounded("containers", 50, if full() { 10_000 } else { 500 });
}
