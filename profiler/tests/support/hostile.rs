//! A recording in which everything that a container can choose attacks what shows it: names of programs, arguments,
//! files, functions, containers, images, phases.

use std::path::Path;

use phasegraph::recording::Writer;
use phasegraph::recording::record::{
    At, Begin, Cgroup, CgroupOp, Clock, ContainerState, Cycle, End, Exec, Exit, File, Fork, Frame, Losses, Mark,
    MarkOp, Memory, Meta, Moment, Place, Record, Sample, SelfCost, Stack, Symbol, TaskId,
};

const MS: u64 = 1_000_000;
const BEGIN: u64 = 5_000 * MS;
const CGROUP: u64 = 77;

/// What things are called.
fn names() -> Vec<Vec<u8>> {
    vec![
        b"</script><img src=x onerror=\"document.title='owned'\">".to_vec(),
        b"\"quoted\" 'twice' \\ back\\slash".to_vec(),
        b"two\nlines\r\nand\ttabs\0nul".to_vec(),
        b"\x1b]0;owned\x07\x1b[2J\x1b[31m\xc2\x9b31m".to_vec(),
        b"../../../../../../tmp/owned".to_vec(),
        b"\xff\xfe\xc3(\xf0\x9f\x92".to_vec(),
        "\u{202e}gnp.exe\u{200b}\u{feff}".into(),
        b"=cmd|' /C calc'!A0".to_vec(),
        b"x\"} 1\nphasegraph_evil 2".to_vec(),
        b"a;b;c 10".to_vec(),
        vec![b'L'; 100_000],
    ]
}

fn at(ms: u64, pid: u32, start: u64, cgroup: u64) -> At {
    At {
        ts: BEGIN + ms * MS,
        task: TaskId {
            tgid: pid,
            tid: pid,
            start: BEGIN + start * MS,
        },
        cgroup,
        mnt_ns: 1,
        cpu: 0,
    }
}

fn fork(at: At, parent: At, comm: &[u8]) -> Record {
    Record::Fork(Fork {
        at,
        parent: parent.task,
        clone_flags: 0,
        pid_ns: 1,
        ns_tid: at.task.tid,
        comm: comm.to_vec(),
    })
}

fn exec(at: At, ns_tid: u32, argv: &[&[u8]]) -> Record {
    Record::Exec(Exec {
        at,
        old_tid: at.task.tid,
        pid_ns: if ns_tid == 1 { 2 } else { 1 },
        ns_tid,
        exe_dev: 1,
        exe_ino: 1,
        comm: argv[0][..argv[0].len().min(15)].to_vec(),
        filename: argv[0].to_vec(),
        argv: argv.iter().map(|word| word.to_vec()).collect(),
        argv_cut: 0,
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

/// On a CPU from `from`, blocked from `off` to the time of `at`.
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

fn cgroup(at: At, op: CgroupOp, path: &[u8]) -> Record {
    Record::Cgroup(Cgroup {
        at,
        op,
        id: CGROUP,
        hierarchy: 0,
        level: 2,
        path: path.to_vec(),
    })
}

fn mark(at: At, op: MarkOp, name: &[u8]) -> Record {
    Record::Mark(Mark {
        at,
        op,
        name: name.to_vec(),
    })
}

/// Writes it, no name longer than `longest` bytes.
pub(crate) fn write(path: &Path, longest: usize) {
    let mut writer = Writer::create(path, true).unwrap();
    for record in records(longest) {
        writer.write(&record).unwrap();
    }
    writer.finish().unwrap();
}

fn records(longest: usize) -> Vec<Record> {
    let mut names = names();
    names.iter_mut().for_each(|name| name.truncate(longest));
    let lossy = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let client = |ms| at(ms, 100, 0, 1);
    let mut records: Vec<Record> = vec![
        Meta {
            version: "0.1.0".into(),
            hostname: lossy(&names[0]),
            kernel: "6.18.5".into(),
            machine: "x86_64".into(),
            cpu_model: lossy(&names[3]),
            cpus: 2,
            memory_bytes: 1 << 30,
            sample_hz: 99,
            command: names.clone(),
            cwd: names[4].clone(),
            name: lossy(&names[8]),
            user: lossy(&names[1]),
            facts: vec![("container".into(), lossy(&names[3]))],
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
            command: Some(client(0).task),
        }
        .into(),
    ];
    for (nth, name) in names.iter().enumerate() {
        let id = nth as u32 + 1;
        let file = File {
            id,
            path: name.clone(),
            dev: 1,
            ino: id.into(),
            generation: 0,
            build_id: name[..name.len().min(20)].to_vec(),
        };
        let place = Place::File { file: id, offset: 16 };
        let symbol = Symbol {
            frame: id,
            name: name.clone(),
            offset: 0,
        };
        let stack = Stack {
            id,
            kernel: 0,
            frames: vec![id],
            user_error: 0,
        };
        let frame = Frame { id, place };
        records.extend([file.into(), frame.into(), symbol.into(), stack.into()]);
    }
    let id = &names[0];
    records.push(
        ContainerState {
            id: id.clone(),
            name: names[3].clone(),
            image: names[7].clone(),
            digest: names[8].clone(),
            engine: lossy(&names[1]),
            ..ContainerState::default()
        }
        .into(),
    );
    // The client, the runtime's three calls, and the container's processes.
    records.push(fork(client(0), at(0, 1, 0, 1), b"podman"));
    records.push(exec(
        client(1),
        100,
        &[b"podman", b"run", b"--name", &names[3], &names[7]],
    ));
    let create = |ms| at(ms, 110, 10, 1);
    let init = |ms, cgroup| at(ms, 111, 14, cgroup);
    records.extend([
        fork(create(10), client(10), b"podman"),
        exec(create(11), 110, &[b"crun", b"create", b"--bundle", &names[4], id]),
        cgroup(create(12), CgroupOp::Mkdir, b"/libpod_parent/libpod-x"),
        fork(init(14, CGROUP), create(14), b"crun"),
        cgroup(
            create(15),
            CgroupOp::Attach(init(14, CGROUP).task),
            b"/libpod_parent/libpod-x",
        ),
        cgroup(create(15), CgroupOp::Populated(true), b"/libpod_parent/libpod-x"),
        cycle(create(18), 10, 17, 0),
        exit(create(20)),
    ]);
    let start = |ms| at(ms, 112, 22, 1);
    records.extend([
        fork(start(22), client(22), b"podman"),
        exec(start(23), 112, &[b"crun", b"start", id]),
        exec(init(25, CGROUP), 1, &[&names[0], &names[1]]),
        exit(start(26)),
    ]);
    for (nth, name) in names.iter().enumerate() {
        let (pid, born) = (200 + nth as u32, 30 + 10 * nth as u64);
        let own = |ms| at(ms, pid, born, CGROUP);
        records.extend([
            fork(own(born), init(born, CGROUP), &name[..name.len().min(15)]),
            exec(own(born + 1), 2 + nth as u32, &[name, name, name]),
            mark(own(born + 1), MarkOp::Begin, name),
            Sample {
                at: own(born + 3),
                stack: nth as u32 + 1,
            }
            .into(),
            Memory {
                at: own(born + 3),
                moment: Moment::Sample,
                rss: 1 << 20,
                peak: 1 << 20,
                max: 1 << 20,
                memcg: CGROUP,
                memcg_peak: 2 << 20,
                memcg_hierarchy: 0,
            }
            .into(),
            cycle(own(born + 8), born, born + 6, nth as u32 + 1),
            mark(own(born + 9), MarkOp::End, name),
            exit(own(born + 9)),
        ]);
    }
    let delete = |ms| at(ms, 113, 162, 1);
    records.extend([
        exit(init(160, CGROUP)),
        fork(delete(162), client(162), b"podman"),
        exec(delete(163), 113, &[b"crun", b"delete", id]),
        exit(delete(165)),
        exit(client(170)),
        Losses {
            counters: vec![(4, 12)],
            named: vec![(lossy(&names[3]), 5), (lossy(&names[8]), 1)],
            ..Losses::default()
        }
        .into(),
        SelfCost {
            ts: BEGIN + 180 * MS,
            programs: vec![("sched_switch".into(), MS, 1_000, 0)],
            user_ns: 30 * MS,
            system_ns: 12 * MS,
            peak_rss_bytes: 18_000_000,
            ..SelfCost::default()
        }
        .into(),
        End {
            mono: BEGIN + 180 * MS,
            exit_code: Some(0),
        }
        .into(),
    ]);
    records
}
