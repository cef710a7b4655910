//! A small session made by hand, for the sinks' tests: `podman build` with two steps, the second of which runs `make`
//! with one compiler and one process whose name attacks every sink.

pub(crate) mod disk;

use crate::model::{
    Container, ContainerIx, Image, Interval, Operation, OperationIx, Phase, PhaseIx, PhaseKind, Process, ProcessIx,
    Session, Span, State, Thread, ThreadIx,
};
use crate::recording::record::{Begin, Clock, File, Meta, Place, SelfCost, Stack, Symbol, TaskId};

/// Breaks out of a folded line, a terminal and a page.
pub(crate) const HOSTILE: &str = "</script><img src=x onerror=alert(1)>;\x1b[31m\u{202e}x 12";

pub(crate) const MS: u64 = 1_000_000;
/// Start of the recording.
pub(crate) const BEGIN: u64 = 1_000 * MS;

/// Stack ids: user code below the kernel's page fault; user code; a wait on a disk; a wait for a child.
pub(crate) const FAULT: u32 = 1;
pub(crate) const PARSE: u32 = 2;
pub(crate) const DISK: u32 = 3;
pub(crate) const CHILD: u32 = 4;

pub(crate) fn session() -> Session {
    let mut session = Session {
        meta: Meta {
            version: "0.1.0".into(),
            hostname: "build1".into(),
            kernel: "6.18.5".into(),
            machine: "x86_64".into(),
            cpu_model: "Example CPU @ 2.4 GHz".into(),
            cpus: 2,
            memory_bytes: 8 << 30,
            page_size: 4096,
            sample_hz: 99,
            command: ["podman", "build", "-t", "app", "."].map(|text| text.into()).to_vec(),
            cwd: b"/src/app".to_vec(),
            user: "root".into(),
            ..Meta::default()
        },
        clocks: vec![Clock {
            mono: BEGIN,
            real: 1_770_000_000_000_000_000,
        }],
        span: Span {
            from: BEGIN,
            to: BEGIN + 10_000 * MS,
        },
        closed: Some(Some(0)),
        ..Session::default()
    };
    session.begin = Some(Begin {
        mono: BEGIN,
        command: None,
    });
    session.self_cost = SelfCost {
        ts: session.span.to,
        programs: vec![
            ("sched_switch".into(), 40 * MS, 99_000, 0),
            ("sample".into(), MS, 1_000, 0),
        ],
        user_ns: 30 * MS,
        system_ns: 12 * MS,
        peak_rss_bytes: 18_000_000,
        recording_bytes: 640_000,
        startup_ns: 310 * MS,
        startup_cpu_ns: 240 * MS,
        symbolize_ns: 95 * MS,
    };
    stacks(&mut session);

    let cpu = State::Cpu;
    let podman = process(
        &mut session,
        None,
        "podman",
        &["podman", "build", "-t", "app", "."],
        0,
        10_000,
    );
    thread(
        &mut session,
        podman,
        &[(300, cpu), (100, blocked(DISK, true)), (9_600, blocked(CHILD, false))],
    );
    let runc = process(
        &mut session,
        Some(podman),
        "runc",
        &["runc", "create", "--bundle", "/x"],
        1_200,
        1_600,
    );
    thread(
        &mut session,
        runc,
        &[(150, cpu), (50, State::Runqueue), (200, blocked(0, false))],
    );
    let sh = process(
        &mut session,
        Some(runc),
        "sh",
        &["/bin/sh", "-c", "make -j2"],
        1_500,
        9_000,
    );
    thread(&mut session, sh, &[(20, cpu), (7_480, blocked(CHILD, false))]);
    let make = process(&mut session, Some(sh), "make", &["make", "-j2"], 1_520, 8_990);
    thread(&mut session, make, &[(70, cpu), (7_400, blocked(CHILD, false))]);
    let cc1 = process(
        &mut session,
        Some(make),
        "cc1",
        &["/usr/lib/gcc/cc1", "-quiet", "lapi.c"],
        2_000,
        8_000,
    );
    let mixed = State::Mixed {
        cpu: 600 * MS,
        runqueue: 100 * MS,
        blocked: 300 * MS,
        count: 900,
    };
    thread(
        &mut session,
        cc1,
        &[
            (4_000, cpu),
            (1_000, mixed),
            (900, blocked(DISK, true)),
            (100, State::Lost),
        ],
    );
    let hostile = process(&mut session, Some(make), HOSTILE, &[HOSTILE, HOSTILE], 8_000, 8_900);
    thread(&mut session, hostile, &[(900, cpu)]);

    // Samples: every 100 ms while on a CPU, one in ten within the kernel.
    for thread in &mut session.threads {
        let mut number = 0;
        for interval in &thread.intervals {
            let mut ts = interval.span.from + 50 * MS;
            while interval.state == State::Cpu && ts < interval.span.to {
                number += 1;
                thread.samples.push((ts, if number % 10 == 0 { FAULT } else { PARSE }));
                ts += 100 * MS;
            }
        }
    }

    session.operations.push(Operation {
        name: "podman build".into(),
        process: podman,
        span: session.processes[0].span,
        open: false,
        processes: (0..session.processes.len() as u32).map(ProcessIx).collect(),
    });
    session.containers.push(Container {
        id: b"buildah-buildah1234567890".to_vec(),
        name: Vec::new(),
        image: b"docker.io/library/debian:13".to_vec(),
        digest: Vec::new(),
        engine: "buildah".into(),
        runtime: "runc".into(),
        operation: Some(OperationIx(0)),
        cgroup: 4711,
        entrypoint: Some(sh),
        rootfs: None,
        span: span(1_200, 9_400),
    });
    let container = [runc, sh, make, cc1, hostile];
    phase(
        &mut session,
        PhaseKind::Step,
        "1/2 FROM debian:13",
        (0, 1_000),
        None,
        &[podman],
    );
    let all = [podman, runc, sh, make, cc1, hostile];
    let step = phase(
        &mut session,
        PhaseKind::Step,
        "2/2 RUN make -j2",
        (1_000, 9_500),
        None,
        &all,
    );
    phase(
        &mut session,
        PhaseKind::Mount,
        "",
        (1_000, 1_100),
        Some(step),
        &[podman],
    );
    phase(&mut session, PhaseKind::Create, "", (1_200, 1_600), Some(step), &[runc]);
    phase(
        &mut session,
        PhaseKind::Run,
        "",
        (1_700, 9_000),
        Some(step),
        &container[1..],
    );
    phase(
        &mut session,
        PhaseKind::Cleanup,
        "",
        (9_000, 9_400),
        Some(step),
        &[podman],
    );
    for ix in [3, 4, 5] {
        session.phases[ix].container = Some(ContainerIx(0));
    }
    session.phases[3].main = Some(ThreadIx(1));
    session.phases[4].main = Some(ThreadIx(2));
    session.phases[4].evidence = ("exec of /bin/sh".into(), "exit of pid 102".into());
    session
}

/// Ms since the recording's start.
pub(crate) fn span(from: u64, to: u64) -> Span {
    Span {
        from: BEGIN + from * MS,
        to: BEGIN + to * MS,
    }
}

fn blocked(stack: u32, iowait: bool) -> State {
    State::Blocked {
        stack,
        syscall: -2,
        iowait,
        task_state: if iowait { 2 } else { 1 },
        waker: None,
        open: false,
        awaited: None,
    }
}

fn process(
    session: &mut Session,
    parent: Option<ProcessIx>,
    comm: &str,
    argv: &[&str],
    from: u64,
    to: u64,
) -> ProcessIx {
    let ix = ProcessIx(session.processes.len() as u32);
    let span = span(from, to);
    if let Some(parent) = parent {
        session.processes[parent.ix()].children.push(ix);
    }
    session.processes.push(Process {
        tgid: 100 + ix.0,
        start: span.from,
        parent,
        children: Vec::new(),
        span,
        open: false,
        adopted: false,
        exit_code: Some(0),
        exited: None,
        images: vec![Image {
            ts: span.from,
            comm: comm.into(),
            filename: argv[0].into(),
            argv: argv.iter().map(|text| (*text).into()).collect(),
            exec: true,
            exe: (0, 0),
        }],
        threads: Vec::new(),
        cgroups: vec![(span.from, 4711)],
        mnt_ns: vec![(span.from, 1)],
        pid_ns: 1,
        ns_pid: 100 + ix.0,
        io: None,
    });
    ix
}

/// A process's only thread; its states, with their lengths in ms, tile the process's life.
fn thread(session: &mut Session, process: ProcessIx, states: &[(u64, State)]) {
    let ix = ThreadIx(session.threads.len() as u32);
    let owner = &mut session.processes[process.ix()];
    owner.threads.push(ix);
    let mut from = owner.span.from;
    let mut intervals = Vec::new();
    for (ms, state) in states {
        let span = Span {
            from,
            to: from + ms * MS,
        };
        intervals.push(Interval { span, state: *state });
        from = span.to;
    }
    assert_eq!(from, owner.span.to, "states tile the life of {}", owner.tgid);
    session.threads.push(Thread {
        id: TaskId {
            tgid: owner.tgid,
            tid: owner.tgid,
            start: owner.start,
        },
        process,
        comm: owner.images[0].comm.clone(),
        span: owner.span,
        open: false,
        intervals,
        samples: Vec::new(),
        sum_exec: None,
        maker: None,
        user_system: None,
    });
}

fn phase(
    session: &mut Session,
    kind: PhaseKind,
    label: &str,
    (from, to): (u64, u64),
    parent: Option<PhaseIx>,
    processes: &[ProcessIx],
) -> PhaseIx {
    let ix = PhaseIx(session.phases.len() as u32);
    session.phases.push(Phase {
        kind,
        label: label.into(),
        span: span(from, to),
        open: false,
        parent,
        operation: Some(OperationIx(0)),
        container: None,
        main: Some(ThreadIx(0)),
        processes: processes.to_vec(),
        bytes: None,
        evidence: (String::new(), String::new()),
    });
    ix
}

fn stacks(session: &mut Session) {
    let file = File {
        id: 1,
        path: b"/usr/lib/gcc/cc1".to_vec(),
        dev: 1,
        ino: 2,
        generation: 0,
        build_id: Vec::new(),
    };
    session.stacks.files.insert(1, file);
    let names: [(u32, Place, &str); 8] = [
        (1, Place::File { file: 1, offset: 0x100 }, "main"),
        (2, Place::File { file: 1, offset: 0x200 }, "c_parse_file"),
        (3, Place::File { file: 1, offset: 0x300 }, ""),
        (4, Place::Kernel(0xffff_ffff_8100_0001), "asm_exc_page_fault"),
        (5, Place::Kernel(0xffff_ffff_8100_0002), "do_user_addr_fault"),
        (6, Place::Kernel(0xffff_ffff_8100_0003), "io_schedule"),
        (7, Place::Kernel(0xffff_ffff_8100_0004), "do_wait"),
        (
            8,
            Place::Kernel(0xffff_ffff_8100_0005),
            "entry_SYSCALL_64_after_hwframe",
        ),
    ];
    for (id, place, name) in names {
        session.stacks.frames.insert(id, place);
        if !name.is_empty() {
            let symbol = Symbol {
                frame: id,
                name: name.into(),
                offset: 0,
            };
            session.stacks.symbols.insert(id, symbol);
        }
    }
    let mut stack = |id, kernel, frames: &[u32]| {
        let stack = Stack {
            id,
            kernel,
            frames: frames.to_vec(),
            user_error: 0,
        };
        session.stacks.stacks.insert(id, stack);
    };
    stack(FAULT, 2, &[5, 4, 3, 2, 1]);
    stack(PARSE, 0, &[3, 2, 1]);
    stack(DISK, 2, &[6, 8, 2, 1]);
    stack(CHILD, 2, &[7, 8]);
}
