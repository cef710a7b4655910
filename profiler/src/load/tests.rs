//! The whole on the running kernel.

use std::collections::BTreeMap;

use super::*;
use crate::kernel::{host::version, offsets};

/// Task storage for tracing programs came with it (a10787e6d58c).
const TASK_STORAGE: (u32, u32) = (5, 13);

/// The first kernel that has a signal.
fn since(signal: &str) -> (u32, u32) {
    let probe = registry::PROBES.iter().find(|probe| probe.program == signal);
    version(probe.unwrap().since).unwrap()
}

/// Make sure that both variants load and attach on the running kernel, and see a fork, an exec and an exit of a
/// thread group that was adopted.
#[test]
fn both_variants() {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: loading eBPF programs needs root");
        return;
    }
    let _ = tracing_subscriber::fmt().with_test_writer().try_init();
    let btf = Btf::from_sys_fs().unwrap();
    let resolved = offsets::resolve(std::path::Path::new(offsets::VMLINUX_BTF)).unwrap();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let running = version(&release).unwrap();
    for force_hash in [false, true] {
        let options = LoadOptions {
            sample_hz: 99,
            cpus: vec![0],
            ring_bytes: 4 << 20,
            forced: if force_hash { "task_state=hash" } else { "" }.parse().unwrap(),
            ..LoadOptions::default()
        };
        let mut loaded = Loaded::load(&btf, &resolved, &options).unwrap();
        loaded.attach(&btf).unwrap();
        loaded.adopt(&[std::process::id()]).unwrap();
        loaded.start_clock(&options).unwrap();
        let missing: Vec<_> = loaded
            .ladder
            .iter()
            .filter(|outcome| outcome.rung.is_none() && since(outcome.signal) <= running)
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        let state = if force_hash || running < TASK_STORAGE {
            Rung::Hash
        } else {
            Rung::Storage
        };
        assert_eq!(loaded.ladder[0].rung, Some(state));
        assert!(std::process::Command::new("/bin/true").status().unwrap().success());
        loaded.detach();
        let end = u64::MAX;
        loaded.flush(end).unwrap();
        let mut ring = loaded.take_ring().unwrap();
        let mut kinds = BTreeMap::new();
        while let Some(item) = ring.next() {
            let (header, _) = profiler_common::split::<profiler_common::Header>(&item).unwrap();
            *kinds.entry(header.kind).or_insert(0) += 1;
        }
        use profiler_common::kind;
        for kind in [kind::ADOPT, kind::FORK, kind::EXEC, kind::EXIT, kind::CYCLE] {
            assert!(
                kinds.get(&kind).is_some_and(|count| *count > 0),
                "no kind {kind} in {kinds:?}"
            );
        }
        eprintln!("{kinds:?} {:?} {:#?}", loaded.counters().unwrap(), loaded.costs());
    }
}
