//! Paths through hand-made sessions.

use super::*;
use crate::attribute::resources::Wait;
use crate::model::fixture::*;
use crate::model::{Phase, PhaseKind};
use crate::recording::record::{Awaited, AwaitedFile, Cycle, Meta, Record, TaskId};
use profiler_common::awaited::mode;
use profiler_common::net::AF_INET;
use profiler_common::sched::flag;

const CLIENT: TaskId = TaskId {
    tgid: 10,
    tid: 10,
    start: 1_000,
};
const DAEMON: TaskId = TaskId {
    tgid: 20,
    tid: 21,
    start: 900,
};
const CHILD: TaskId = TaskId {
    tgid: 30,
    tid: 30,
    start: 3_000,
};

/// System calls that tell what they wait for: `futex`, `wait4`, `clock_nanosleep`, `fsync`, `epoll_wait`; and `read`.
const FUTEX: i32 = 202;
const WAIT4: i32 = 61;
const NANOSLEEP: i32 = 230;
const FSYNC: i32 = 74;
const READ: i32 = 0;
const EPOLL_WAIT: i32 = 232;

fn woken(by: TaskId, syscall: i32, cycle: Cycle) -> Cycle {
    Cycle {
        waker_tgid: by.tgid,
        waker_tid: by.tid,
        syscall,
        ..cycle
    }
}

/// ```text
///         1000    2000    3000    4000    5000    6000    7000    8000
/// client   cpu    futex ────────────────────────── queue  cpu ──── end
/// daemon          wait..  cpu     wait4 ─────────  cpu             (waits on)
/// child                   ....cpu disk     cpu  exit
/// ```
fn records() -> Vec<Record> {
    let daemon_got = woken(CLIENT, FUTEX, cycle(DAEMON, [1_000, 1_000, 1_000, 2_000, 2_000]));
    let daemon_waited = woken(CHILD, WAIT4, cycle(DAEMON, [2_000, 2_000, 3_500, 5_500, 5_500]));
    let daemon_on = Cycle {
        flags: flag::OPEN | flag::NO_WAKE,
        ..cycle(DAEMON, [5_500, 5_500, 6_500, 8_000, 8_000])
    };
    let client = woken(DAEMON, FUTEX, cycle(CLIENT, [1_000, 1_000, 2_000, 6_000, 7_000]));
    let disk = Cycle {
        flags: flag::WAKER_IRQ,
        ..woken(CLIENT, FSYNC, cycle(CHILD, [3_000, 3_000, 4_000, 5_000, 5_000]))
    };
    let meta = Meta {
        machine: "x86_64".to_owned(),
        ..Meta::default()
    };
    vec![
        meta.into(),
        adopt(DAEMON, 1_000).into(),
        adopt(CLIENT, 1_000).into(),
        daemon_got.into(),
        fork(DAEMON, CHILD, 3_000).into(),
        daemon_waited.into(),
        daemon_on.into(),
        disk.into(),
        exit(CHILD, 5_500, 0).into(),
        last(CHILD, 5_000, 5_500).into(),
        client.into(),
        exit(CLIENT, 8_000, 0).into(),
        last(CLIENT, 7_000, 8_000).into(),
    ]
}

fn told(session: &Session, path: &Path) -> Vec<(u64, u64, u32, &'static str)> {
    let mut classifier = Classifier::default();
    let mut at = path.span.from;
    let mut told = Vec::new();
    for segment in &path.segments {
        assert_eq!(segment.span.from, at, "a gap or an overlap: {path:?}");
        assert!(!segment.span.is_empty());
        at = segment.span.to;
        let tgid = segment
            .doing
            .map_or(0, |(thread, _)| session.threads[thread.ix()].id.tgid);
        let parts = segment.parts(session, &mut classifier);
        assert_eq!(
            parts.iter().map(|(_, ns)| ns).sum::<u64>(),
            segment.span.len(),
            "{parts:?}"
        );
        told.push((segment.span.from, segment.span.to, tgid, parts[0].0.words()));
    }
    assert_eq!(at, path.span.to);
    let (resources, unattributed) = path.resources(session, &mut classifier);
    assert_eq!(resources.total() + unattributed, path.span.len());
    told
}

/// A phase of no operation.
fn phase(span: Span, main: Option<ThreadIx>, processes: Vec<ProcessIx>) -> Phase {
    Phase {
        kind: PhaseKind::Create,
        label: Vec::new(),
        span,
        open: false,
        parent: None,
        operation: None,
        container: None,
        main,
        processes,
        bytes: None,
        evidence: (String::new(), String::new()),
    }
}

fn operation(session: &mut Session, span: Span) {
    let process = process_ix(session, CLIENT.tgid, CLIENT.start);
    session.operations.push(Operation {
        name: "docker run".into(),
        process,
        span,
        open: false,
        processes: vec![process],
    });
}

/// Make sure that a path goes from a client to the daemon that woke it, to the child that the daemon waited for, through
/// the child's own wait for the disk, and from its birth back to the daemon and to the client that had asked.
#[test]
fn across_processes() {
    let mut session = session(span(1_000, 8_000), records());
    operation(&mut session, span(1_000, 8_000));
    let path = Paths::new(&session).of_operation(OperationIx(0));
    assert_eq!(
        told(&session, &path),
        [
            (1_000, 2_000, 10, "on-CPU"),
            (2_000, 3_000, 20, "on-CPU"),
            (3_000, 4_000, 30, "on-CPU"),
            (4_000, 5_000, 30, "fsync"),
            (5_000, 5_500, 30, "on-CPU"),
            (5_500, 6_000, 20, "on-CPU"),
            (6_000, 7_000, 10, "run queue"),
            (7_000, 8_000, 10, "on-CPU"),
        ]
    );
    let (resources, _) = path.resources(&session, &mut Classifier::default());
    assert_eq!((resources.disk, resources.runqueue, resources.lock), (1_000, 1_000, 0));
}

/// Make sure that a wait which ends after the span, one whose waker is not recorded, and one that an interrupt ended are
/// the waiting thread's own.
#[test]
fn own_waits() {
    let stranger = TaskId {
        tgid: 77,
        tid: 77,
        start: 1,
    };
    let records = vec![
        Record::from(Meta {
            machine: "x86_64".to_owned(),
            ..Meta::default()
        }),
        adopt(CLIENT, 1_000).into(),
        woken(stranger, FUTEX, cycle(CLIENT, [1_000, 1_000, 2_000, 3_000, 3_000])).into(),
        Cycle {
            flags: flag::WAKER_IRQ,
            ..woken(CLIENT, NANOSLEEP, cycle(CLIENT, [3_000, 3_000, 4_000, 6_000, 6_000]))
        }
        .into(),
        exit(CLIENT, 8_000, 0).into(),
        last(CLIENT, 6_000, 8_000).into(),
    ];
    let mut session = session(span(1_000, 8_000), records);
    operation(&mut session, span(1_500, 5_000));
    let path = Paths::new(&session).of_operation(OperationIx(0));
    assert_eq!(
        told(&session, &path),
        [
            (1_500, 2_000, 10, "on-CPU"),
            (2_000, 3_000, 10, "futex"),
            (3_000, 4_000, 10, "on-CPU"),
            (4_000, 5_000, 10, "timer"),
        ]
    );
    let (resources, _) = path.resources(&session, &mut Classifier::default());
    assert_eq!((resources.lock, resources.sleep), (1_000, 1_000));
    assert_eq!(Wait::Sleep.name(), "sleep");
}

/// Make sure that from a server that waits at many files the path goes back to the client that asked it over loopback, in
/// whose soft interrupt it was woken, and that its wait stays its own where somebody else was hit by that interrupt.
#[test]
fn server_that_polls() {
    let irq = |cycle| Cycle {
        flags: flag::WAKER_IRQ,
        ..cycle
    };
    let asked_by = |by: TaskId| {
        let answered = irq(woken(DAEMON, READ, cycle(CLIENT, [1_000, 1_000, 3_000, 6_000, 6_000])));
        let polled = irq(woken(
            by,
            EPOLL_WAIT,
            cycle(DAEMON, [1_000, 1_000, 1_500, 2_500, 2_500]),
        ));
        let at_work = Cycle {
            flags: flag::OPEN | flag::NO_WAKE,
            ..cycle(DAEMON, [2_500, 2_500, 6_500, 8_000, 8_000])
        };
        let connection = Awaited {
            at: answered.at,
            off: 3_000,
            file: AwaitedFile {
                mode: mode::SOCKET | 0o777,
                family: AF_INET,
                local: vec![127, 0, 0, 1],
                local_port: 40_000,
                remote: vec![127, 0, 0, 1],
                remote_port: 8_080,
                ..AwaitedFile::default()
            },
        };
        let meta = Meta {
            machine: "x86_64".to_owned(),
            ..Meta::default()
        };
        let records = vec![
            meta.into(),
            adopt(DAEMON, 1_000).into(),
            adopt(CLIENT, 1_000).into(),
            adopt(CHILD, 1_000).into(),
            polled.into(),
            at_work.into(),
            connection.into(),
            answered.into(),
            exit(CLIENT, 8_000, 0).into(),
            last(CLIENT, 6_000, 8_000).into(),
            exit(CHILD, 8_000, 0).into(),
            last(CHILD, 1_000, 8_000).into(),
        ];
        let mut session = session(span(1_000, 8_000), records);
        operation(&mut session, span(1_000, 8_000));
        told(&session, &Paths::new(&session).of_operation(OperationIx(0)))
    };
    let answer = [(2_500, 6_000, 20, "on-CPU"), (6_000, 8_000, 10, "on-CPU")];
    assert_eq!(
        asked_by(CLIENT),
        [&[(1_000, 2_500, 10, "on-CPU")], &answer[..]].concat()
    );
    let idle = [(1_000, 1_500, 20, "on-CPU"), (1_500, 2_500, 20, "poll without input")];
    assert_eq!(asked_by(CHILD), [&idle[..], &answer].concat());
}

/// Make sure that a phase's path begins with the thread whose event ended it and not with its main thread, and that
/// time before anyone is known, and after the last has ended, is unattributed.
#[test]
fn phases() {
    let mut session = session(span(500, 9_000), records());
    let client = process_ix(&session, CLIENT.tgid, CLIENT.start);
    let child = process_ix(&session, CHILD.tgid, CHILD.start);
    let mut add = |span, main, processes| {
        session.phases.push(phase(span, main, processes));
    };
    let main = Some(ThreadIx(0));
    add(span(2_500, 5_500), main, vec![client, child]);
    add(span(500, 1_500), None, vec![client]);
    add(span(7_500, 9_000), None, vec![client]);
    add(span(8_500, 9_000), None, Vec::new());
    let main = thread_ix(&session, CLIENT);
    session.phases[0].main = Some(main);
    let paths = Paths::new(&session);
    assert_eq!(
        told(&session, &paths.of_phase(PhaseIx(0))),
        [
            (2_500, 3_000, 20, "on-CPU"),
            (3_000, 4_000, 30, "on-CPU"),
            (4_000, 5_000, 30, "fsync"),
            (5_000, 5_500, 30, "on-CPU"),
        ]
    );
    assert_eq!(
        told(&session, &paths.of_phase(PhaseIx(1))),
        [(500, 1_000, 0, "unattributed"), (1_000, 1_500, 10, "on-CPU")]
    );
    assert_eq!(
        told(&session, &paths.of_phase(PhaseIx(2))),
        [(7_500, 8_000, 10, "on-CPU"), (8_000, 9_000, 0, "unattributed")]
    );
    assert_eq!(
        told(&session, &paths.of_phase(PhaseIx(3))),
        [(8_500, 9_000, 0, "unattributed")]
    );
    assert_eq!(paths.of_phase(PhaseIx(99)), Path::default());
}

/// Make sure that a phase that ends while its main thread waits on, by an event that cut nobody's time, has the path of its
/// operation, as far as that is the phase's own.
#[test]
fn phases_within_a_wait() {
    let mut session = session(span(1_000, 8_000), records());
    operation(&mut session, span(1_000, 8_000));
    let client = process_ix(&session, CLIENT.tgid, CLIENT.start);
    let child = process_ix(&session, CHILD.tgid, CHILD.start);
    let main = thread_ix(&session, CLIENT);
    for processes in [vec![client, child], vec![client]] {
        session.phases.push(Phase {
            operation: Some(OperationIx(0)),
            ..phase(span(2_500, 5_300), Some(main), processes)
        });
    }
    let paths = Paths::new(&session);
    assert_eq!(
        told(&session, &paths.of_phase(PhaseIx(0))),
        [
            (2_500, 3_000, 20, "on-CPU"),
            (3_000, 4_000, 30, "on-CPU"),
            (4_000, 5_000, 30, "fsync"),
            (5_000, 5_300, 30, "on-CPU"),
        ]
    );
    assert_eq!(
        told(&session, &paths.of_phase(PhaseIx(1))),
        [(2_500, 5_300, 10, "futex")]
    );
}

/// Make sure that threads that woke each other at one moment, and one that made itself, don't hold the path up.
#[test]
fn circles() {
    let mut records = vec![
        Record::from(Meta::default()),
        adopt(CLIENT, 1_000).into(),
        adopt(DAEMON, 1_000).into(),
        woken(DAEMON, FUTEX, cycle(CLIENT, [1_000, 1_000, 2_000, 3_000, 3_000])).into(),
        woken(CLIENT, FUTEX, cycle(DAEMON, [1_000, 1_000, 2_000, 3_000, 3_000])).into(),
        exit(CLIENT, 4_000, 0).into(),
        last(CLIENT, 3_000, 4_000).into(),
    ];
    records.push(fork(CHILD, CHILD, 3_000).into());
    let mut session = session(span(1_000, 4_000), records);
    operation(&mut session, span(1_000, 4_000));
    let path = Paths::new(&session).of_operation(OperationIx(0));
    assert_eq!(told(&session, &path).len(), 3);
    let child = thread_ix(&session, CHILD);
    session.threads[child.ix()].maker = Some(child);
    session.phases.push(phase(span(1_000, 4_000), Some(child), Vec::new()));
    let path = Paths::new(&session).of_phase(PhaseIx(0));
    assert_eq!(told(&session, &path)[0], (1_000, 3_000, 0, "unattributed"));
}
