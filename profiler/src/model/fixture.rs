//! Records for tests, in few words.

use super::build::Builder;
use super::{Interval, ProcessIx, Session, Span, State, Thread, ThreadIx};
use crate::recording::record::{Adopt, At, Begin, Cycle, End, Exec, Exit, Fork, Record, Sample, TaskId};

/// Cgroup and mount namespace that events carry unless a test says otherwise.
pub(crate) const CGROUP: u64 = 77;
pub(crate) const MNT_NS: u32 = 4026531840;

/// A leader: its tid is its tgid.
pub(crate) fn leader(tgid: u32, start: u64) -> TaskId {
    thread(tgid, tgid, start)
}

pub(crate) fn thread(tgid: u32, tid: u32, start: u64) -> TaskId {
    TaskId { tgid, tid, start }
}

pub(crate) fn at(task: TaskId, ts: u64) -> At {
    At {
        ts,
        task,
        cgroup: CGROUP,
        mnt_ns: MNT_NS,
        cpu: 0,
    }
}

pub(crate) fn fork(parent: TaskId, child: TaskId, ts: u64) -> Fork {
    Fork {
        at: at(child, ts),
        parent,
        clone_flags: if child.tid == child.tgid { 0 } else { 0x10000 },
        pid_ns: 1,
        ns_tid: child.tid,
        comm: b"forked".to_vec(),
    }
}

/// Found asleep.
pub(crate) fn adopt(task: TaskId, ts: u64) -> Adopt {
    Adopt {
        at: at(task, ts),
        parent_tgid: 0,
        pid_ns: 1,
        ns_tid: task.tid,
        state: 1,
        on_cpu: false,
        comm: b"adopted".to_vec(),
        argv: vec![b"daemon".to_vec()],
        exe: b"/usr/bin/daemon".to_vec(),
    }
}

pub(crate) fn exec(task: TaskId, ts: u64, argv: &[&str]) -> Exec {
    Exec {
        at: at(task, ts),
        old_tid: task.tid,
        pid_ns: 1,
        ns_tid: task.tid,
        exe_dev: 8,
        exe_ino: 42,
        comm: b"execed".to_vec(),
        filename: argv.first().unwrap_or(&"").as_bytes().to_vec(),
        argv: argv.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        argv_cut: 0,
    }
}

pub(crate) fn exit(task: TaskId, ts: u64, code: i32) -> Exit {
    Exit {
        at: at(task, ts),
        code,
        group_dead: None,
        utime: 0,
        stime: 0,
    }
}

/// `[from, on_start, off, wake, ts]`, no sums, no flags.
pub(crate) fn cycle(task: TaskId, [from, on_start, off, wake, ts]: [u64; 5]) -> Cycle {
    Cycle {
        at: at(task, ts),
        from,
        on_start,
        off,
        wake,
        sum_cpu: 0,
        sum_runqueue: 0,
        sum_blocked: 0,
        sum_count: 0,
        waker_tgid: 0,
        waker_tid: 0,
        state: 1,
        syscall: -2,
        flags: 0,
        stack: 0,
    }
}

/// On its CPU from `from` to its end.
pub(crate) fn last(task: TaskId, from: u64, ts: u64) -> Cycle {
    Cycle {
        flags: profiler_common::sched::flag::END,
        ..cycle(task, [from, from, ts, ts, ts])
    }
}

pub(crate) fn sample(task: TaskId, ts: u64, stack: u32) -> Sample {
    Sample {
        at: at(task, ts),
        stack,
    }
}

/// The session of these records between `Begin` and `End`; it keeps its promises, or the test fails.
pub(crate) fn session(span: Span, records: Vec<Record>) -> Session {
    let mut builder = Builder::new();
    let begin = Begin {
        mono: span.from,
        command: None,
    };
    builder.push(begin.into());
    builder.extend(records);
    let end = End {
        mono: span.to,
        exit_code: None,
    };
    builder.push(end.into());
    let session = builder.finish(Vec::new());
    assert_eq!(super::verify::verify(&session), Vec::<String>::new());
    session
}

pub(crate) fn span(from: u64, to: u64) -> Span {
    Span { from, to }
}

pub(crate) fn process_ix(session: &Session, tgid: u32, start: u64) -> ProcessIx {
    let wanted = |process: &super::Process| (process.tgid, process.start) == (tgid, start);
    ProcessIx(session.processes.iter().position(wanted).unwrap() as u32)
}

pub(crate) fn thread_ix(session: &Session, id: TaskId) -> ThreadIx {
    let found: Vec<usize> = (0..session.threads.len())
        .filter(|ix| session.threads[*ix].id == id)
        .collect();
    assert_eq!(found.len(), 1, "threads of id {id:?}");
    ThreadIx(found[0] as u32)
}

/// `from`, `to` and the first letter of each state: c, r, b, m, l.
pub(crate) fn letters(thread: &Thread) -> Vec<(u64, u64, char)> {
    let letter = |interval: &Interval| match interval.state {
        State::Cpu => 'c',
        State::Runqueue => 'r',
        State::Blocked { .. } => 'b',
        State::Mixed { .. } => 'm',
        State::Lost => 'l',
    };
    let intervals = thread.intervals.iter();
    intervals
        .map(|interval| (interval.span.from, interval.span.to, letter(interval)))
        .collect()
}

/// Count of a named loss, 0 when it is not there.
pub(crate) fn loss(session: &Session, name: &str) -> u64 {
    let named = session.losses.named.iter();
    named
        .filter(|(loss, _)| loss.starts_with(name))
        .map(|(_, count)| *count)
        .sum()
}
