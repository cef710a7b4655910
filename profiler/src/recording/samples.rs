//! One record of every kind and variant, for tests.

use super::record::*;

/// Covers every kind. Ends with [`End`], as a recording does.
pub(crate) fn samples() -> Vec<Record> {
    let task = TaskId {
        tgid: 4711,
        tid: 4712,
        start: 9_000_000_001,
    };
    let at = At {
        ts: 12_345_678_901,
        task,
        cgroup: 77,
        mnt_ns: 4_026_531_840,
        cpu: 3,
    };
    let later = |ns: u64| At { ts: at.ts + ns, ..at };
    let inode = InodeId {
        ino: 1 << 40,
        dev: 0x0080_0001,
        generation: u32::MAX,
    };
    vec![
        Meta {
            version: "0.1.0".into(),
            contract: 1,
            hostname: "builder".into(),
            kernel: "6.12.0".into(),
            machine: "x86_64".into(),
            cpu_model: "Some CPU".into(),
            cpus: 8,
            memory_bytes: 16 << 30,
            page_size: 4096,
            sample_hz: 99,
            command: vec![b"podman".to_vec(), b"build".to_vec(), vec![0xff, 0x1b, b'[']],
            cwd: b"/srv/app".to_vec(),
            name: "nightly".into(),
            user: "root".into(),
            probes: vec![("sched_switch".into(), "tp_btf".into())],
            facts: vec![("cgroup".into(), "v2".into())],
        }
        .into(),
        Clock {
            mono: 12_345_000_000,
            real: 1_700_000_000_000_000_000,
        }
        .into(),
        Begin {
            mono: 12_345_678_900,
            command: Some(task),
        }
        .into(),
        Begin {
            mono: 12_345_678_900,
            command: None,
        }
        .into(),
        Fork {
            at,
            parent: TaskId {
                tgid: 1,
                tid: 1,
                start: 5,
            },
            clone_flags: 0x0120_0011,
            pid_ns: 4_026_531_836,
            ns_tid: 1,
            comm: b"sh".to_vec(),
        }
        .into(),
        Adopt {
            at: later(1),
            parent_tgid: 1,
            pid_ns: 4_026_531_836,
            ns_tid: 4711,
            state: 1,
            on_cpu: false,
            comm: b"dockerd".to_vec(),
            argv: vec![b"/usr/bin/dockerd".to_vec(), Vec::new()],
            exe: b"/usr/bin/dockerd".to_vec(),
        }
        .into(),
        Exec {
            at: later(2),
            old_tid: 4712,
            pid_ns: 4_026_532_000,
            ns_tid: 7,
            exe_dev: 0x0010_0003,
            exe_ino: 1 << 40,
            comm: b"cc1".to_vec(),
            filename: b"/usr/lib/gcc/cc1".to_vec(),
            argv: vec![b"cc1".to_vec(), b"-O2".to_vec()],
            argv_cut: 17,
        }
        .into(),
        Exit {
            at: later(3),
            code: 9,
            group_dead: Some(true),
            utime: 600_000,
            stime: 400_000,
        }
        .into(),
        Exit {
            at: later(3),
            code: -1,
            group_dead: None,
            utime: 0,
            stime: 0,
        }
        .into(),
        Account {
            at: later(3),
            sum_exec: u64::MAX,
        }
        .into(),
        Cycle {
            at: later(4),
            from: 12_345_000_000,
            on_start: 12_345_100_000,
            off: 12_345_200_000,
            wake: 12_345_678_000,
            sum_cpu: 60_000,
            sum_runqueue: 10_000,
            sum_blocked: 30_000,
            sum_count: 5,
            waker_tgid: 10,
            waker_tid: 11,
            state: 2,
            syscall: -1,
            flags: 1 << 3,
            stack: 1,
        }
        .into(),
        Sample { at: later(5), stack: 1 }.into(),
        File {
            id: 1,
            path: b"/usr/lib/gcc/cc1".to_vec(),
            dev: 0x0010_0003,
            ino: 1 << 40,
            generation: 2,
            build_id: (0..20).collect(),
        }
        .into(),
        Frame {
            id: 1,
            place: Place::Kernel(0xffff_ffff_8100_0000),
        }
        .into(),
        Frame {
            id: 2,
            place: Place::File {
                file: 1,
                offset: 0x12ab,
            },
        }
        .into(),
        Frame {
            id: 3,
            place: Place::Unmapped(0x7f00_0000_0000),
        }
        .into(),
        Stack {
            id: 1,
            kernel: 1,
            frames: vec![1, 2, 3],
            user_error: 0,
        }
        .into(),
        Stack {
            id: 2,
            kernel: 0,
            frames: Vec::new(),
            user_error: -14,
        }
        .into(),
        StackEnd { stack: 1, end: 1 }.into(),
        Symbol {
            frame: 1,
            name: b"schedule".to_vec(),
            offset: 0x21,
        }
        .into(),
        Image {
            file: 1,
            build_id: vec![0xab; 20],
            segments: vec![Segment {
                offset: 0x1000,
                size: 0x2000,
                address: 0x40_1000,
            }],
            link: Some((b"cc1.debug".to_vec(), 0x1234_5678)),
            complete: false,
        }
        .into(),
        Parsing {
            user_ns: 30_000_000,
            system_ns: 12_000_000,
            peak_rss_bytes: 41 << 20,
            jobs: 210,
            deaths: 1,
            debug_files: 2,
        }
        .into(),
        Cgroup {
            at: later(6),
            op: CgroupOp::Mkdir,
            id: 78,
            hierarchy: 0,
            level: 2,
            path: b"/machine/a".to_vec(),
        }
        .into(),
        Cgroup {
            at: later(7),
            op: CgroupOp::Attach(task),
            id: 78,
            hierarchy: 0,
            level: 2,
            path: Vec::new(),
        }
        .into(),
        Cgroup {
            at: later(8),
            op: CgroupOp::Populated(true),
            id: 78,
            hierarchy: 0,
            level: 2,
            path: Vec::new(),
        }
        .into(),
        Cgroup {
            at: later(9),
            op: CgroupOp::Rmdir,
            id: 78,
            hierarchy: 0,
            level: 2,
            path: Vec::new(),
        }
        .into(),
        Cgroup {
            at: later(10),
            op: CgroupOp::Release,
            id: 78,
            hierarchy: 4,
            level: 2,
            path: Vec::new(),
        }
        .into(),
        Syscall {
            at: later(11),
            enter: 12_345_678_905,
            result: -22,
            args: [0x40, 0],
            call: 1,
            a: b"overlay".to_vec(),
            b: b"/merged".to_vec(),
            c: b"overlay".to_vec(),
            d: b"lowerdir=/l".to_vec(),
        }
        .into(),
        Lookup::Container {
            id: b"0123abcd".to_vec(),
            name: b"web".to_vec(),
            image: b"docker.io/library/debian:13".to_vec(),
            engine: "podman".into(),
        }
        .into(),
        Lookup::Dockerfile {
            build: task,
            path: b"/srv/app/Containerfile".to_vec(),
            instructions: vec![b"FROM debian".to_vec(), b"RUN make".to_vec()],
        }
        .into(),
        Awaited {
            at,
            off: at.ts - 70_000_000,
            file: AwaitedFile {
                dev: 8,
                ino: 77,
                mode: 0o140_777,
                family: 2,
                socket_type: 1,
                protocol: 6,
                peer: 0,
                local: vec![10, 0, 0, 1],
                local_port: 40_000,
                remote: vec![10, 0, 0, 2],
                remote_port: 5000,
                path: Vec::new(),
                cut: false,
            },
        }
        .into(),
        Awaited {
            at: later(1),
            off: at.ts,
            file: AwaitedFile {
                dev: 0x80_0001,
                ino: 78,
                mode: 0o100_644,
                path: vec![b"storage.lock".to_vec(), b"storage".to_vec(), vec![0xff, 0x1b]],
                cut: true,
                ..AwaitedFile::default()
            },
        }
        .into(),
        Listen {
            at: later(12),
            enter: 12_345_678_906,
            family: 2,
            socket_type: 1,
            protocol: 6,
            port: 8080,
            address: vec![127, 0, 0, 1],
            path: Vec::new(),
        }
        .into(),
        Listen {
            at: later(12),
            enter: 0,
            family: 1,
            socket_type: 1,
            protocol: 0,
            port: 0,
            address: Vec::new(),
            path: b"\0bus\x1b".to_vec(),
        }
        .into(),
        Memory {
            at: later(13),
            moment: Moment::Sample,
            rss: 4096,
            peak: 8192,
            max: 0,
            memcg: 78,
            memcg_peak: 1 << 30,
            memcg_hierarchy: 4,
        }
        .into(),
        Memory {
            at: later(13),
            moment: Moment::Exec,
            rss: 4096,
            peak: 4096,
            max: 65_536,
            memcg: 0,
            memcg_peak: 0,
            memcg_hierarchy: 4,
        }
        .into(),
        Memory {
            at: later(13),
            moment: Moment::Exit,
            rss: 0,
            peak: 0,
            max: 65_536,
            memcg: 78,
            memcg_peak: u64::MAX,
            memcg_hierarchy: 4,
        }
        .into(),
        Memory {
            at: later(14),
            moment: Moment::End,
            rss: 4096,
            peak: 8192,
            max: 0,
            memcg: 78,
            memcg_peak: 1 << 30,
            memcg_hierarchy: 4,
        }
        .into(),
        Oom {
            at: later(14),
            victim: TaskId {
                tgid: 4713,
                tid: 4713,
                start: 9_000_000_002,
            },
            victim_cgroup: 78,
            victim_rss: 1 << 29,
            memcg: 78,
            memcg_peak: 1 << 29,
            memcg_hierarchy: 4,
            comm: b"hog".to_vec(),
        }
        .into(),
        Mark {
            at: later(15),
            op: MarkOp::Begin,
            name: b"compile".to_vec(),
        }
        .into(),
        Mark {
            at: later(16),
            op: MarkOp::End,
            name: Vec::new(),
        }
        .into(),
        Mark {
            at: later(16),
            op: MarkOp::Instant,
            name: b"ready \xff".to_vec(),
        }
        .into(),
        Mark {
            at: later(16),
            op: MarkOp::Command,
            name: b"tests".to_vec(),
        }
        .into(),
        ContainerState {
            id: b"0123abcd".to_vec(),
            name: b"web".to_vec(),
            image: b"docker.io/library/debian:13".to_vec(),
            digest: b"sha256:00".to_vec(),
            engine: "podman".into(),
            healthcheck: vec![b"/bin/sh".to_vec(), b"-c".to_vec(), b"true".to_vec()],
            pid: 4711,
        }
        .into(),
        Rules {
            file: b"/srv/app/phasegraph.toml".to_vec(),
            phases: vec![("deps".into(), vec!["dnf builddep*".into()])],
        }
        .into(),
        Exchange {
            at,
            connect: at.ts - 4,
            begin: at.ts - 3,
            last: at.ts - 1,
            sent: 300,
            received: 5_000_000_000,
            address: vec![127, 0, 0, 1],
            port: 5000,
        }
        .into(),
        Request {
            at,
            peer: 812,
            method: b"POST".to_vec(),
            path: b"/v1.41/images/create".to_vec(),
            query: vec![
                (b"fromImage".to_vec(), b"debian".to_vec()),
                (b"tag".to_vec(), b"13".to_vec()),
            ],
        }
        .into(),
        Io {
            at,
            read_calls: 1 << 33,
            write_calls: 2,
            read_disk: 3,
            write_disk: 4,
        }
        .into(),
        Inode {
            at,
            id: inode,
            parent: Some(InodeId { ino: 2, ..inode }),
            name: b"libc.so\n\x1b[31m".to_vec(),
            size: 1 << 40,
            nlink: 1,
            mode: 0o100_755,
            magic: 0xef53,
            rdev: 0,
        }
        .into(),
        PageRun {
            at,
            from: at.ts - 9,
            to: at.ts - 1,
            inode,
            size: 1 << 40,
            added: 256,
            dirtied: 3,
            syscall: -1,
            flags: 1,
            stack: 1,
        }
        .into(),
        IoTotals {
            at,
            rchar: 1 << 33,
            wchar: 2,
            syscr: 3,
            syscw: 4,
            read_bytes: 5,
            write_bytes: 6,
            cancelled_write_bytes: 7,
        }
        .into(),
        BlockIo {
            at,
            queued: at.ts - 30,
            issued: at.ts - 20,
            sector: 1 << 40,
            cgroup: 77,
            hierarchy: 0,
            inode: Some(inode),
            bytes: 1 << 20,
            dev: 0x0080_0001,
            op: 1,
            flags: 2,
            error: -5,
        }
        .into(),
        WriteBack {
            at,
            from: at.ts - 8,
            inode,
            pages: 1 << 33,
            cgroup: 77,
            sync: true,
            kernel: false,
        }
        .into(),
        CopyUp {
            at,
            from: at.ts - 7,
            lower: Some(inode),
            upper: None,
            overlay: Some(inode),
            size: 1 << 26,
            read: 16_384,
            copied: 16_384,
            mode: 0o100_644,
            syscall: 257,
            flags: 1,
        }
        .into(),
        Overlaid {
            at,
            overlay: inode,
            lower: Some(inode),
            upper: None,
        }
        .into(),
        Whiteout { at, syscall: 263 }.into(),
        FileCalls {
            at,
            from: at.ts - 6,
            to: at.ts - 5,
            inode,
            read: CallSum {
                calls: 3,
                bytes: 1 << 33,
                ns: 1 << 34,
            },
            written: CallSum::default(),
            synced: CallSum {
                calls: 1,
                bytes: 0,
                ns: 7,
            },
        }
        .into(),
        Layer {
            engine: "podman".into(),
            id: b"0123abcd".to_vec(),
            parent: b"4567cdef".to_vec(),
            chain: b"sha256:01".to_vec(),
            diff: b"sha256:02".to_vec(),
            blob: b"sha256:03".to_vec(),
            blob_bytes: Some(1_000_000),
            diff_bytes: None,
        }
        .into(),
        Stored {
            engine: "docker".into(),
            id: b"sha256:04".to_vec(),
            digest: b"sha256:05".to_vec(),
            names: vec![b"localhost:5000/app:1".to_vec()],
            layers: vec![b"sha256:02".to_vec()],
        }
        .into(),
        Overlay {
            ts: at.ts + 20,
            driver: "overlay".into(),
            mounted: Some(at),
            mnt_ns: at.mnt_ns,
            dev: 51,
            merged: b"/s/overlay/cc/merged".to_vec(),
            layers: vec![
                OverlayLayer {
                    role: Role::Upper,
                    path: b"/s/overlay/cc/diff".to_vec(),
                    dev: 8 << 20 | 1,
                    ino: 1_234,
                    engine: "containers/storage".into(),
                    id: b"cc".to_vec(),
                },
                OverlayLayer {
                    role: Role::Lower,
                    path: b"/x\n".to_vec(),
                    ..OverlayLayer::default()
                },
                OverlayLayer {
                    role: Role::Data,
                    ..OverlayLayer::default()
                },
            ],
            left_out: 1,
            work: b"/s/overlay/cc/work".to_vec(),
            options: vec![b"volatile".to_vec()],
        }
        .into(),
        Losses {
            counters: vec![(4, 12), (11, 3)],
            mappings_lost: 1,
            undecodable: 2,
            named: vec![("argv".into(), 5)],
        }
        .into(),
        SelfCost {
            ts: at.ts + 12,
            programs: vec![("sched_switch".into(), 1_000, 10, 0)],
            user_ns: 1,
            system_ns: 2,
            peak_rss_bytes: 3,
            recording_bytes: 4,
            startup_ns: 5,
            startup_cpu_ns: 4,
            symbolize_ns: 6,
        }
        .into(),
        Throttle {
            ts: at.ts + 13,
            lever: "sampling".into(),
            value: 49,
            reduced: true,
            bpf_ns: 1,
            process_ns: 2,
            window_ns: 3,
            cpus: 4,
            cap_ppm: 20_000,
            dearest: "sched_switch".into(),
        }
        .into(),
        HostCpu {
            from: at.ts,
            to: at.ts + 14,
            user_ns: 1,
            system_ns: 2,
            idle_ns: 3,
            iowait_ns: 4,
            interrupt_ns: 5,
            steal_ns: 6,
        }
        .into(),
        CpuChange {
            ts: at.ts + 15,
            cpu: 1,
            online: false,
            problem: String::new(),
        }
        .into(),
        Versions {
            programs: vec![("podman".into(), "4.3.1".into(), b"/usr/bin/podman".to_vec())],
        }
        .into(),
        End {
            mono: at.ts + 1_000,
            exit_code: Some(137),
        }
        .into(),
    ]
}

/// How many kinds there are. A new kind breaks this match: give it a sample, a row in the format's document and a
/// place in the next golden file.
fn place_of(record: &Record) -> usize {
    match record {
        Record::Meta(_) => 0,
        Record::Clock(_) => 1,
        Record::Begin(_) => 2,
        Record::End(_) => 3,
        Record::Fork(_) => 4,
        Record::Adopt(_) => 5,
        Record::Exec(_) => 6,
        Record::Exit(_) => 7,
        Record::Cycle(_) => 8,
        Record::Sample(_) => 9,
        Record::File(_) => 10,
        Record::Frame(_) => 11,
        Record::Stack(_) => 12,
        Record::Symbol(_) => 13,
        Record::Cgroup(_) => 14,
        Record::Syscall(_) => 15,
        Record::Lookup(_) => 16,
        Record::Losses(_) => 17,
        Record::SelfCost(_) => 18,
        Record::Account(_) => 19,
        Record::Throttle(_) => 20,
        Record::HostCpu(_) => 21,
        Record::CpuChange(_) => 22,
        Record::StackEnd(_) => 23,
        Record::Exchange(_) => 24,
        Record::Request(_) => 25,
        Record::Io(_) => 26,
        Record::Layer(_) => 27,
        Record::Stored(_) => 28,
        Record::Image(_) => 29,
        Record::Parsing(_) => 30,
        Record::Listen(_) => 31,
        Record::Memory(_) => 32,
        Record::Oom(_) => 33,
        Record::Mark(_) => 34,
        Record::ContainerState(_) => 35,
        Record::Rules(_) => 36,
        Record::Versions(_) => 37,
        Record::Overlay(_) => 45,
        Record::Inode(_) => 38,
        Record::PageRun(_) => 39,
        Record::IoTotals(_) => 40,
        Record::BlockIo(_) => 41,
        Record::WriteBack(_) => 42,
        Record::CopyUp(_) => 43,
        Record::Overlaid(_) => 44,
        Record::Awaited(_) => 46,
        Record::Whiteout(_) => 47,
        Record::FileCalls(_) => 48,
    }
}

/// Make sure that no kind is without a sample, as far as the compiler can't.
#[test]
fn every_kind_has_a_sample() {
    let mut seen: Vec<usize> = samples().iter().map(place_of).collect();
    seen.sort_unstable();
    seen.dedup();
    let kinds = (0..=u16::MAX)
        .filter(|kind| !matches!(Record::decode(*kind, &[]), Ok(None)))
        .count();
    assert_eq!(seen, (0..kinds).collect::<Vec<_>>());
}
