//! What was seen of each task identity, as it comes, in no certain order.

use std::collections::HashMap;

use crate::model::AwaitedIx;
use crate::recording::record::{Adopt, At, Cycle, Exec, Exit, Fork, Io, TaskId};

/// How a task's record begins.
#[derive(Debug)]
pub(super) enum Birth {
    Fork(Box<Fork>),
    Adopt(Box<Adopt>),
}

impl Birth {
    pub(super) fn at(&self) -> &At {
        match self {
            Birth::Fork(fork) => &fork.at,
            Birth::Adopt(adopt) => &adopt.at,
        }
    }

    pub(super) fn ts(&self) -> u64 {
        self.at().ts
    }

    /// Whether it is the birth of the process of that tgid and leader's start time.
    pub(super) fn of_process(&self, (tgid, start): (u32, u64)) -> bool {
        let task = self.at().task;
        (task.tid, task.start) == (tgid, start)
    }
}

/// A [`Cycle`] without what its task already tells: there are millions.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawCycle {
    pub(super) from: u64,
    pub(super) on_start: u64,
    pub(super) off: u64,
    pub(super) wake: u64,
    pub(super) ts: u64,
    pub(super) sum_cpu: u32,
    pub(super) sum_runqueue: u32,
    pub(super) sum_blocked: u32,
    pub(super) sum_count: u32,
    pub(super) waker_tgid: u32,
    pub(super) waker_tid: u32,
    pub(super) state: u32,
    pub(super) syscall: i32,
    pub(super) stack: u32,
    pub(super) flags: u16,
}

impl RawCycle {
    pub(super) fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

impl From<&Cycle> for RawCycle {
    fn from(cycle: &Cycle) -> RawCycle {
        let Cycle {
            at,
            from,
            on_start,
            off,
            wake,
            sum_cpu,
            sum_runqueue,
            sum_blocked,
            sum_count,
            waker_tgid,
            waker_tid,
            state,
            syscall,
            flags,
            stack,
        } = *cycle;
        RawCycle {
            from,
            on_start,
            off,
            wake,
            ts: at.ts,
            sum_cpu,
            sum_runqueue,
            sum_blocked,
            sum_count,
            waker_tgid,
            waker_tid,
            state,
            syscall,
            stack,
            flags,
        }
    }
}

/// Where a task was, from `ts` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) ts: u64,
    pub(super) cgroup: u64,
    pub(super) mnt_ns: u32,
}

/// Everything seen of one [`TaskId`].
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) birth: Option<Birth>,
    pub(super) execs: Vec<Exec>,
    pub(super) exits: Vec<Exit>,
    /// The kernel's own account of its time on CPUs, ns, with its moment: the end of the thread that had the id then.
    pub(super) accounts: Vec<(u64, u64)>,
    pub(super) io: Vec<Io>,
    pub(super) cycles: Vec<RawCycle>,
    /// When waits began, and at what they were.
    pub(super) awaited: Vec<(u64, Option<AwaitedIx>)>,
    pub(super) samples: Vec<(u64, u32)>,
    /// Changes only.
    pub(super) places: Vec<Place>,
}

impl Task {
    pub(super) fn new(id: TaskId) -> Task {
        Task {
            id,
            birth: None,
            execs: Vec::new(),
            exits: Vec::new(),
            accounts: Vec::new(),
            io: Vec::new(),
            cycles: Vec::new(),
            awaited: Vec::new(),
            samples: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Earliest time it is known to have lived.
    pub(super) fn first_evidence(&self) -> u64 {
        let events = self.execs.first().map(|exec| exec.at.ts);
        let exits = self.exits.first().map(|exit| exit.at.ts);
        let cycles = self.cycles.first().map(|cycle| cycle.from);
        let samples = self.samples.first().map(|(ts, _)| *ts);
        let birth = self.birth.as_ref().map(Birth::ts);
        let all = [events, exits, cycles, samples, birth];
        all.into_iter().flatten().min().unwrap_or(self.id.start)
    }

    /// End of the time it is known to have lived, 0 when nothing but its birth is known.
    pub(super) fn last_evidence(&self) -> u64 {
        let execs = self.execs.last().map(|exec| exec.at.ts);
        let exits = self.exits.last().map(|exit| exit.at.ts);
        let cycles = self.cycles.iter().map(|cycle| cycle.ts).max();
        let samples = self.samples.last().map(|(ts, _)| ts.saturating_add(1));
        [execs, exits, cycles, samples].into_iter().flatten().max().unwrap_or(0)
    }

    /// Puts everything in order of time. Stable; costs little when it is already.
    pub(super) fn sort(&mut self) {
        self.execs.sort_by_key(|exec| exec.at.ts);
        self.exits.sort_by_key(|exit| exit.at.ts);
        self.cycles.sort_by_key(|cycle| (cycle.from, cycle.ts));
        self.samples.sort_by_key(|(ts, _)| *ts);
        self.accounts.sort_by_key(|(ts, _)| *ts);
        self.places.sort_by_key(|place| place.ts);
        self.awaited.sort_by_key(|(off, _)| *off);
    }

    /// Adds what `later` knows; its birth and id are dropped. In order again after [`Task::sort`].
    pub(super) fn absorb(&mut self, later: Task) {
        let Task {
            id: _,
            birth: _,
            execs,
            exits,
            accounts,
            io,
            cycles,
            awaited,
            samples,
            places,
        } = later;
        self.execs.extend(execs);
        self.exits.extend(exits);
        self.accounts.extend(accounts);
        self.io.extend(io);
        self.cycles.extend(cycles);
        self.awaited.extend(awaited);
        self.samples.extend(samples);
        self.places.extend(places);
    }

    /// Takes what came after `ts` out of it; execs and exits are told apart at `exec_ts`, which is not before `ts`.
    pub(super) fn split_off(&mut self, ts: u64, exec_ts: u64) -> Task {
        fn later<T>(all: &mut Vec<T>, keep: impl Fn(&T) -> bool) -> Vec<T> {
            let (kept, rest) = std::mem::take(all).into_iter().partition(keep);
            *all = kept;
            rest
        }
        Task {
            id: self.id,
            birth: None,
            execs: later(&mut self.execs, |exec| exec.at.ts < exec_ts),
            exits: later(&mut self.exits, |exit| exit.at.ts < exec_ts),
            accounts: later(&mut self.accounts, |(at, _)| *at < exec_ts),
            io: later(&mut self.io, |io| io.at.ts < exec_ts),
            cycles: later(&mut self.cycles, |cycle| cycle.ts <= ts),
            awaited: later(&mut self.awaited, |(off, _)| *off < ts),
            samples: later(&mut self.samples, |(at, _)| *at <= ts),
            places: later(&mut self.places, |place| place.ts <= ts),
        }
    }
}

/// All task identities, by id.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    index: HashMap<TaskId, usize>,
    all: Vec<Task>,
}

impl Tasks {
    /// The task that an event is about, which is evidence that it lived.
    pub(super) fn of(&mut self, at: &At) -> &mut Task {
        let all = &mut self.all;
        let index = *self.index.entry(at.task).or_insert_with(|| {
            all.push(Task::new(at.task));
            all.len() - 1
        });
        let task = &mut self.all[index];
        match task.places.last_mut() {
            Some(last) if (last.cgroup, last.mnt_ns) == (at.cgroup, at.mnt_ns) => last.ts = last.ts.min(at.ts),
            _ => task.places.push(Place {
                ts: at.ts,
                cgroup: at.cgroup,
                mnt_ns: at.mnt_ns,
            }),
        }
        task
    }

    /// The earliest birth record wins: a fork that an adoption follows is a fork.
    pub(super) fn born(&mut self, at: &At, birth: Birth) {
        let task = self.of(at);
        let replaces = match (&task.birth, &birth) {
            (None, _) | (Some(Birth::Adopt(_)), Birth::Fork(_)) => true,
            (Some(Birth::Fork(_)), Birth::Adopt(_)) => false,
            (Some(known), new) => new.ts() < known.ts(),
        };
        if replaces {
            task.birth = Some(birth);
        }
    }

    pub(super) fn into_sorted(self) -> Vec<Task> {
        let mut all = self.all;
        all.iter_mut().for_each(Task::sort);
        all
    }
}
