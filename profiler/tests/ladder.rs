//! The ladder of rungs on the running kernel, whichever that is: each rung is forced, gives what it says or says why not,
//! and every way of giving a signal gives the same. Needs root.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::ffi::CString;
use std::path::Path;
use std::process::Command;

use aya::Btf;
use phasegraph::kernel::offsets::{self, VMLINUX_BTF};
use phasegraph::load::forced::Forced;
use phasegraph::load::registry::{Attach, PROBES, Probe, Rung};
use phasegraph::load::{LoadError, LoadOptions, Loaded};
use profiler_common::container::{Syscall, call};
use profiler_common::{Header, kind, split};
use run::{Folder, PHASEGRAPH, Report, needs_root, stderr};

/// Tells this program, run again, to make the calls; the folder to mount on.
const CALLS: &str = "PHASEGRAPH_TEST_CALLS";

/// Make sure that each rung, forced, either records a command's life by it or says which and why it can't be had; and that
/// every signal has one that can. Tracepoints are forced all at once: each run of phasegraph takes its time.
#[test]
fn every_rung() {
    needs_root!();
    let listed = Command::new(PHASEGRAPH).arg("rungs").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let several = PROBES.iter().filter(|probe| probe.attach.rungs().len() > 1);
    let (tracepoints, others): (Vec<&Probe>, Vec<&Probe>) =
        several.partition(|probe| matches!(probe.attach, Attach::Tracepoint(_)));
    let groups = others.iter().map(|probe| (probe.program, vec![*probe]));
    for (name, probes) in groups.chain([("*", tracepoints)]) {
        let mut had = 0;
        for rung in probes[0].attach.rungs() {
            for probe in &probes {
                let line = format!("{}={rung}", probe.program);
                assert!(
                    listed.lines().any(|listed| listed == line),
                    "{line} is not in:\n{listed}"
                );
            }
            let Some(report) = by_rung(&format!("{name}={rung}")) else {
                continue;
            };
            had += 1;
            for probe in &probes {
                let told = probe_of(&report, probe.program);
                let wanted = told.split([',', ' ']).next() == Some(rung.name()) && told.ends_with("(forced)");
                assert!(wanted, "{name}={rung}: {}: {told}", probe.program);
            }
        }
        assert!(had > 0, "{name}: no rung can be had");
    }
}

/// The report of a command that was recorded with this rung forced; `None`, with the reason printed, where it can't be
/// had.
fn by_rung(choice: &str) -> Option<Report> {
    let folder = Folder::new();
    let output = folder
        .phasegraph(["run", "--no-summary", "-o", "x.phg", "--rung", choice, "--"])
        .args(["sh", "-c", "/bin/true & wait; exit 3"])
        .output()
        .unwrap();
    let errors = stderr(&output);
    if output.status.code() == Some(1) {
        let (signal, rung) = choice.split_once('=').unwrap();
        let signal = if signal == "*" { "" } else { signal };
        let said = errors.split_once(&format!("{signal}={rung} is forced and can't be had: "));
        let (_, why) = said.unwrap_or_else(|| panic!("{choice}: {errors}"));
        assert!(why.trim().len() > 10, "{choice}: {errors}");
        assert_eq!(folder.names(), Vec::<String>::new(), "{choice}");
        eprintln!("skipped: {choice}: {}", why.trim());
        return None;
    }
    assert_eq!(output.status.code(), Some(3), "{choice}: {errors}");
    let report = folder.report("x.phg");
    for (name, status) in [("sh", 3), ("true", 0)] {
        let found: Vec<_> = report.named(name).collect();
        assert_eq!(found.len(), 1, "{choice}: {name}");
        assert_eq!(found[0].0["exit_status"], status, "{choice}: {name}");
        for thread in found[0].threads() {
            assert_eq!(thread.states(), thread.lived(), "{choice}: {name}");
        }
    }
    Some(report)
}

/// How a signal was had, as the report tells.
fn probe_of<'a>(report: &'a Report, signal: &str) -> &'a str {
    let probes = report.0["host"]["probes"].as_array().unwrap();
    let probe = probes.iter().find(|probe| probe["name"] == signal);
    probe.unwrap_or_else(|| panic!("no probe {signal}"))["rung"]
        .as_str()
        .unwrap()
}

/// What a mount or namespace call was told as: everything but the times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    call: u32,
    result: i64,
    args: [u64; 2],
    texts: [String; 4],
}

/// Make sure that the watched system calls are told with the same arguments and results by each rung that there is, and as
/// they were made.
#[test]
fn calls_agree() {
    needs_root!();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut reference: Option<(Rung, Vec<Told>)> = None;
    for rung in Attach::Calls.rungs() {
        let forced: Forced = format!("mount_calls={rung}").parse().unwrap();
        let told = match calls(forced, folder.path()) {
            Ok(told) => told,
            Err(error) => {
                assert!(matches!(error, LoadError::Forced { .. }), "{error}");
                eprintln!("skipped: {error}");
                continue;
            }
        };
        as_made(&told, folder.path(), *rung);
        match &reference {
            None => reference = Some((*rung, told)),
            Some((first, reference)) => {
                for (told, reference) in told.iter().zip(reference) {
                    assert_eq!(told, reference, "{rung} and {first}");
                }
            }
        }
    }
    assert!(reference.is_some(), "no rung can be had");
}

/// The calls of a child, as the probes tell them.
fn calls(forced: Forced, folder: &Path) -> Result<Vec<Told>, LoadError> {
    let btf = Btf::from_sys_fs().unwrap();
    let resolved = offsets::resolve(Path::new(VMLINUX_BTF)).unwrap();
    let options = LoadOptions {
        sample_hz: 99,
        ring_bytes: 4 << 20,
        forced,
        file_calls: true,
        ..LoadOptions::default()
    };
    let mut loaded = Loaded::load(&btf, &resolved, &options)?;
    loaded.attach(&btf)?;
    loaded.adopt(&[std::process::id()])?;
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CALLS, folder)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", stderr(&child));
    let mut ring = loaded.take_ring()?;
    loaded.detach();
    let mut told = Vec::new();
    while let Some(item) = ring.next() {
        let (header, _) = split::<Header>(&item).unwrap();
        if header.kind != kind::SYSCALL {
            continue;
        }
        let (event, mut tail) = split::<Syscall>(&item).unwrap();
        assert!(0 < event.enter && event.enter < event.header.ts, "{event:?}");
        let texts = [event.a_len, event.b_len, event.c_len, event.d_len].map(|len| {
            let (text, rest) = tail.split_at(len.into());
            tail = rest;
            String::from_utf8(text.to_vec()).unwrap()
        });
        told.push(Told {
            call: event.call,
            result: event.result,
            args: event.args,
            texts,
        });
    }
    let losses = loaded.counters()?;
    assert_eq!(losses.get(&(profiler_common::Counter::SyscallEnd as u32)), None);
    // An empty text is one.
    assert_eq!(losses.get(&(profiler_common::Counter::Path as u32)), None);
    Ok(told)
}

/// Checks what is told against what [`child`] does.
fn as_made(told: &[Told], folder: &Path, rung: Rung) {
    let folder = folder.to_str().unwrap();
    let expected: [(u32, bool, [&str; 4]); 13] = [
        (call::UNSHARE, true, [""; 4]),
        (call::MOUNT, true, ["", "/", "", ""]),
        (call::SETHOSTNAME, true, ["ladder", "", "", ""]),
        (call::MOUNT, true, ["source", folder, "tmpfs", "size=1m,mode=0700"]),
        (call::UMOUNT, true, ["", folder, "", ""]),
        (call::MOUNT, false, ["source", "/nonexistent", "tmpfs", ""]),
        (call::PIVOT_ROOT, false, ["/nonexistent", "/nonexistent", "", ""]),
        (call::FSOPEN, true, ["", "", "tmpfs", ""]),
        (call::FSCONFIG, true, ["1m", "", "size", ""]),
        (call::FSCONFIG, true, [""; 4]),
        (call::FSMOUNT, true, [""; 4]),
        (call::MOVE_MOUNT, true, ["", folder, "", ""]),
        (call::SETNS, true, [""; 4]),
    ];
    assert_eq!(told.len(), expected.len(), "{rung}: {told:?}");
    for (told, (call, succeeds, texts)) in told.iter().zip(expected) {
        assert_eq!((told.call, told.result >= 0), (call, succeeds), "{rung}: {told:?}");
        assert_eq!(told.texts, texts, "{rung}: {told:?}");
    }
    assert_eq!(told[0].args[0], (libc::CLONE_NEWNS | libc::CLONE_NEWUTS) as u64);
    assert_eq!(told[3].args[0], libc::MS_NOSUID);
    assert_eq!(told[4].args[0], libc::MNT_DETACH as u64);
    assert_eq!(told[5].result, -i64::from(libc::ENOENT));
    assert_eq!(told[6].result, -i64::from(libc::ENOENT));
    // The descriptors that fsopen and fsmount gave are the ones that were passed on.
    assert_eq!(told[8].args, [told[7].result as u64, 1]);
    assert_eq!(told[9].args, [told[7].result as u64, 6]);
    assert_eq!(told[10].args[0], told[7].result as u64);
    assert_eq!(told[11].args[0], told[10].result as u64);
    assert_eq!(told[12].args[1], libc::CLONE_NEWNS as u64);
}

/// Make sure of nothing: the child of [`calls_agree`] makes its calls here.
#[test]
#[ignore = "a child of another test"]
fn child() {
    let Some(folder) = std::env::var_os(CALLS) else {
        return;
    };
    let folder = CString::new(folder.into_encoded_bytes()).unwrap();
    let none = std::ptr::null::<libc::c_char>();
    let namespace = std::fs::File::open("/proc/thread-self/ns/mnt").unwrap();
    use std::os::fd::AsRawFd as _;
    // SAFETY: system calls on NUL-terminated strings and own descriptors; results are checked.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS), 0);
        let private = libc::MS_REC | libc::MS_PRIVATE;
        assert_eq!(libc::mount(c"".as_ptr(), c"/".as_ptr(), none, private, none.cast()), 0);
        assert_eq!(libc::sethostname(c"ladder".as_ptr(), 6), 0);
        let mount = |target: &CString, options: *const libc::c_char| {
            let (source, kind) = (c"source".as_ptr(), c"tmpfs".as_ptr());
            libc::mount(source, target.as_ptr(), kind, libc::MS_NOSUID, options.cast())
        };
        assert_eq!(mount(&folder, c"size=1m,mode=0700".as_ptr()), 0);
        assert_eq!(libc::umount2(folder.as_ptr(), libc::MNT_DETACH), 0);
        let nowhere = c"/nonexistent".to_owned();
        assert_eq!(mount(&nowhere, none), -1);
        assert_eq!(
            libc::syscall(libc::SYS_pivot_root, nowhere.as_ptr(), nowhere.as_ptr()),
            -1
        );
        let context = libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 1);
        assert!(context >= 0);
        let (key, value) = (c"size".as_ptr(), c"1m".as_ptr());
        assert_eq!(libc::syscall(libc::SYS_fsconfig, context, 1, key, value, 0), 0);
        assert_eq!(libc::syscall(libc::SYS_fsconfig, context, 6, none, none, 0), 0);
        let tree = libc::syscall(libc::SYS_fsmount, context, 1, 0);
        assert!(tree >= 0);
        let at = libc::AT_FDCWD;
        assert_eq!(
            libc::syscall(libc::SYS_move_mount, tree, c"".as_ptr(), at, folder.as_ptr(), 4),
            0
        );
        // A thread of a process with several may not change its mount namespace back unless it shares no file system
        // with them: `unshare` has seen to that.
        assert_eq!(libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS), 0);
    }
}
