//! From tasks to the session's processes and threads.

use std::collections::HashMap;

use profiler_common::Counter;
use profiler_common::sched::flag;

use super::ancestry::{Ancestry, images};
use super::lineage::{self, Group, Reuse};
use super::task::{Birth, Place, RawCycle, Task};
use super::timeline::{Corrections, tile};
use crate::model::{Interval, Process, ProcessIx, Session, Span, State, Thread, ThreadIx};
use crate::recording::record::{CgroupOp, Exec, TaskId};

/// What had to be made up or left out, for the session's losses.
#[derive(Debug, Default)]
struct Tally {
    corrections: Corrections,
    after_end: u64,
    births_lost: u64,
    ends_lost: u64,
    samples_outside: u64,
}

/// Fills the session's processes and threads.
pub(super) fn assemble(session: &mut Session, tasks: Vec<Task>) {
    let mut groups = lineage::group(lineage::join_takeovers(tasks));
    groups.sort_by_cached_key(|group| (group.first_evidence(), group.key));
    let ancestry = Ancestry::new(&groups);
    let reuse = Reuse::new(&groups);
    let cycles_whole = cycles_whole(session);
    let mut tally = Tally::default();
    let mut births: Vec<(ProcessIx, Birth)> = Vec::new();
    let mut execs: Vec<(ProcessIx, Exec)> = Vec::new();
    let mut places: Vec<Vec<Place>> = Vec::with_capacity(groups.len());
    let mut makers: HashMap<TaskId, TaskId> = HashMap::new();

    for group in groups {
        let ix = ProcessIx(session.processes.len() as u32);
        let mut process = process(&group, ancestry.parent(&group));
        let (key, death) = (group.key, group.death);
        let fatal_execs = group.fatal_execs();
        let mut threads: Vec<Thread> = Vec::with_capacity(group.tasks.len());
        let mut all_places = Vec::new();
        // One whose end was told and that has not left its CPU for the last time does not live on.
        let mut lives = false;
        for (index, mut task) in group.tasks.into_iter().enumerate() {
            let life = life(&task, session.span, &mut tally, |last| {
                // It can't have outlived its process, another thread's exec, or the reuse of its number.
                let execs = fatal_execs.iter().filter(|(ts, by)| *by != index && *ts >= last);
                let exec = execs.map(|(ts, _)| *ts).min();
                [death, exec, reuse.next(task.id, last)].into_iter().flatten().min()
            });
            lives |= life.open && task.exits.is_empty();
            all_places.append(&mut task.places);
            let task_execs = std::mem::take(&mut task.execs);
            let birth = task.birth.take();
            let mut thread = thread(&task, ix, &life, session.span, &mut tally);
            match &birth {
                Some(Birth::Fork(fork)) => {
                    thread.comm.clone_from(&fork.comm);
                    makers.insert(task.id, fork.parent);
                }
                Some(Birth::Adopt(adopt)) => {
                    thread.comm.clone_from(&adopt.comm);
                    let silent = task.cycles.is_empty() && task.samples.is_empty() && life.open;
                    if silent && cycles_whole && adopt.state != 0 && !adopt.on_cpu {
                        thread.intervals = blocked_throughout(thread.span, adopt.state);
                    }
                }
                None => {}
            }
            if let Some(exec) = task_execs.last() {
                thread.comm.clone_from(&exec.comm);
            }
            threads.push(thread);
            execs.extend(task_execs.into_iter().map(|exec| (ix, exec)));
            births.extend(birth.filter(|birth| birth.of_process(key)).map(|birth| (ix, birth)));
        }
        threads.sort_by_key(|thread| (thread.span, thread.id));
        process.span = Span {
            from: threads.iter().map(|thread| thread.span.from).min().unwrap_or(0),
            to: threads.iter().map(|thread| thread.span.to).max().unwrap_or(0),
        };
        process.open = lives;
        if process.open {
            (process.exit_code, process.exited) = (None, None);
        }
        for thread in threads {
            process.threads.push(ThreadIx(session.threads.len() as u32));
            session.threads.push(thread);
        }
        session.processes.push(process);
        places.push(all_places);
    }

    for index in 0..session.processes.len() {
        if let Some(parent) = session.processes[index].parent {
            session.processes[parent.ix()].children.push(ProcessIx(index as u32));
        }
    }
    settle_makers(&mut session.threads, &makers);
    settle_peers(session);
    images(&mut session.processes, births, execs);
    witness(session, &ancestry, &mut places);
    settle(&mut session.processes, places);
    tell(session, &tally);
}

/// Names the processes at the other ends of unix sockets that were waited at.
fn settle_peers(session: &mut Session) {
    let mut numbered: HashMap<u32, Vec<ProcessIx>> = HashMap::new();
    for (index, process) in session.processes.iter().enumerate() {
        numbered.entry(process.tgid).or_default().push(ProcessIx(index as u32));
    }
    let processes = &session.processes;
    session.awaited.settle(|tgid, ts| {
        let alive = |ix: &&ProcessIx| {
            let span = processes[ix.ix()].span;
            span.from <= ts && ts <= span.to
        };
        numbered.get(&tgid)?.iter().find(alive).copied()
    });
}

/// Names the thread that made each thread.
fn settle_makers(threads: &mut [Thread], makers: &HashMap<TaskId, TaskId>) {
    let indexes = threads.iter().enumerate();
    let by_id: HashMap<TaskId, ThreadIx> = indexes
        .map(|(index, thread)| (thread.id, ThreadIx(index as u32)))
        .collect();
    for thread in threads {
        let maker = makers.get(&thread.id).and_then(|maker| by_id.get(maker));
        thread.maker = maker.copied();
    }
}

/// A process of which its threads, its span and its images are still missing.
fn process(group: &Group, parent: Option<ProcessIx>) -> Process {
    let (tgid, start) = group.key;
    let mut process = Process {
        tgid,
        start,
        parent,
        children: Vec::new(),
        span: Span::default(),
        open: false,
        adopted: false,
        exit_code: None,
        exited: None,
        images: Vec::new(),
        threads: Vec::new(),
        cgroups: Vec::new(),
        mnt_ns: Vec::new(),
        pid_ns: 0,
        ns_pid: 0,
        io: None,
    };
    for io in group.tasks.iter().flat_map(|task| &task.io) {
        let sum = process.io.get_or_insert_default();
        sum.read = sum.read.saturating_add(io.read_calls);
        sum.written = sum.written.saturating_add(io.write_calls);
        sum.disk_read = sum.disk_read.saturating_add(io.read_disk);
        sum.disk_written = sum.disk_written.saturating_add(io.write_disk);
    }
    match group.birth() {
        Some(Birth::Fork(fork)) => (process.pid_ns, process.ns_pid) = (fork.pid_ns, fork.ns_tid),
        Some(Birth::Adopt(adopt)) => {
            (process.pid_ns, process.ns_pid) = (adopt.pid_ns, adopt.ns_tid);
            process.adopted = true;
        }
        None => {}
    }
    let execs = group.tasks.iter().flat_map(|task| &task.execs);
    if let Some(exec) = execs.max_by_key(|exec| exec.at.ts) {
        (process.pid_ns, process.ns_pid) = (exec.pid_ns, exec.ns_tid);
    }
    // exit_group() gives all threads one code. Without it, wait() gives the leader's; the last thread to end is the
    // one that the kernel marks.
    let exits = || group.tasks.iter().flat_map(|task| &task.exits);
    let marked = exits().find(|exit| exit.group_dead == Some(true));
    let leader = exits()
        .filter(|exit| exit.at.task.tid == tgid)
        .max_by_key(|exit| exit.at.ts);
    let last = exits().max_by_key(|exit| exit.at.ts);
    process.exit_code = marked.or(leader).or(last).map(|exit| exit.code);
    process.exited = marked.or(last).map(|exit| exit.at.ts);
    process
}

/// A thread's life, not clipped to the session.
struct Life {
    span: Span,
    /// It had not ended when the recording did.
    open: bool,
}

/// From birth to the last moment on a CPU, by the best evidence there is. `bound` gives the latest time to which it
/// can have lived when its own end was not seen, given its last sign of life.
fn life(task: &Task, session: Span, tally: &mut Tally, bound: impl FnOnce(u64) -> Option<u64>) -> Life {
    let from = match &task.birth {
        Some(Birth::Fork(fork)) => fork.at.ts,
        birth => {
            tally.births_lost += u64::from(birth.is_none());
            task.first_evidence()
        }
    };
    let last = task.last_evidence();
    let end = task
        .cycles
        .iter()
        .find(|cycle| cycle.is(flag::END))
        .map(|cycle| cycle.ts);
    let to = if let Some(end) = end {
        let late = |cycle: &&RawCycle| cycle.from >= end && cycle.ts > end;
        tally.after_end += task.cycles.iter().filter(late).count() as u64;
        Some(end)
    } else {
        let bound = if task.exits.is_empty() { bound(last) } else { Some(last) };
        let in_flight = task.cycles.last().is_some_and(|cycle| cycle.is(flag::OPEN));
        tally.ends_lost += u64::from(bound.is_some() && !in_flight);
        bound.map(|bound| bound.max(last))
    };
    let open = to.is_none_or(|to| to > session.to);
    let to = to.unwrap_or(session.to.max(last));
    Life {
        span: Span { from: from.min(to), to },
        open,
    }
}

/// The thread of a task, still without a name.
fn thread(task: &Task, process: ProcessIx, life: &Life, session: Span, tally: &mut Tally) -> Thread {
    let span = Span {
        from: life.span.from.clamp(session.from, session.to),
        to: life.span.to.clamp(session.from, session.to),
    };
    let recorded = task.samples.iter().filter(|(ts, _)| session.contains(*ts));
    let samples: Vec<(u64, u32)> = recorded.clone().filter(|(ts, _)| span.contains(*ts)).copied().collect();
    tally.samples_outside += (recorded.count() - samples.len()) as u64;
    let exit = task.exits.last();
    Thread {
        id: task.id,
        process,
        maker: None,
        comm: Vec::new(),
        span,
        open: life.open,
        intervals: tile(&task.cycles, &task.awaited, span, &mut tally.corrections),
        samples,
        sum_exec: task.accounts.last().map(|(_, sum_exec)| *sum_exec),
        user_system: exit.map(|exit| (exit.utime, exit.stime)),
    }
}

/// Whether a thread of which nothing is heard did nothing: no scheduling interval was lost, as far as is known.
fn cycles_whole(session: &Session) -> bool {
    let lost = [Counter::RingCycle, Counter::TaskMapFull, Counter::Scratch].map(|counter| counter as u32);
    let counters = &session.losses.counters;
    !counters.iter().any(|(id, count)| lost.contains(id) && *count > 0)
}

/// An adopted thread that slept when it was found and was not heard of again.
fn blocked_throughout(span: Span, task_state: u32) -> Vec<Interval> {
    if span.is_empty() {
        return Vec::new();
    }
    let state = State::Blocked {
        stack: 0,
        syscall: profiler_common::sched::SYSCALL_NOT_ASKED,
        iowait: false,
        task_state,
        waker: None,
        open: true,
        awaited: None,
    };
    vec![Interval { span, state }]
}

/// Adds what other events tell of where a process was: those it caused, and those that moved it.
fn witness(session: &Session, ancestry: &Ancestry, places: &mut [Vec<Place>]) {
    let mut add = |tgid, start, place: Place| {
        let Some(ix) = ancestry.of(tgid, start) else {
            return;
        };
        let process = &session.processes[ix.ix()];
        if process.span.from <= place.ts && (process.open || place.ts <= process.span.to) {
            places[ix.ix()].push(place);
        }
    };
    let cgroups = session.cgroups.iter().map(|cgroup| &cgroup.at);
    for at in cgroups.chain(session.syscalls.iter().map(|syscall| &syscall.at)) {
        let place = Place {
            ts: at.ts,
            cgroup: at.cgroup,
            mnt_ns: at.mnt_ns,
        };
        add(at.task.tgid, at.task.start, place);
    }
    for cgroup in &session.cgroups {
        // Others are version 1 hierarchies, whose ids mean something else.
        if let (CgroupOp::Attach(task), 0) = (cgroup.op, cgroup.hierarchy) {
            let place = Place {
                ts: cgroup.at.ts,
                cgroup: cgroup.id,
                mnt_ns: 0,
            };
            add(task.tgid, task.start, place);
        }
    }
}

/// Reduces what was seen of processes' places to changes, in order of time. 0 stands for unknown.
fn settle(processes: &mut [Process], places: Vec<Vec<Place>>) {
    fn change<T: Copy + Default + PartialEq>(known: &mut Vec<(u64, T)>, ts: u64, now: T) {
        if now != T::default() && known.last().is_none_or(|(_, last)| *last != now) {
            known.push((ts, now));
        }
    }
    for (process, mut places) in processes.iter_mut().zip(places) {
        places.sort_by_key(|place| place.ts);
        for place in places {
            change(&mut process.cgroups, place.ts, place.cgroup);
            change(&mut process.mnt_ns, place.ts, place.mnt_ns);
        }
    }
}

/// Adds what was put right here to the session's losses, by name.
fn tell(session: &mut Session, tally: &Tally) {
    let Corrections {
        sums,
        inconsistent_sums,
        disordered,
        overlaps,
    } = tally.corrections;
    let named = [
        ("threads whose birth was not seen", tally.births_lost),
        ("threads whose end was not seen", tally.ends_lost),
        (
            "scheduling intervals after their thread's end, left out",
            tally.after_end,
        ),
        ("scheduling intervals that overlapped, clipped", overlaps),
        ("scheduling intervals with times out of order", disordered),
        ("inconsistent sums", inconsistent_sums),
        ("sums off by at most 1 us, corrected", sums),
        (
            "CPU samples outside their thread's life, left out",
            tally.samples_outside,
        ),
    ];
    let named = named.into_iter().filter(|(_, count)| *count > 0);
    session
        .losses
        .named
        .extend(named.map(|(name, count)| (name.to_owned(), count)));
}
