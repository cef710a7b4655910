//! Who is who: task identities become threads, threads belong to processes.

use std::collections::{BTreeMap, HashMap};

use profiler_common::sched::flag;

use super::task::{Birth, Task};
use crate::recording::record::{Exec, TaskId};

/// A process' name for good: tgid and start time of its leader.
pub(super) type ProcessKey = (u32, u64);

/// Gives a thread that took its leader's identity in exec one timeline.
///
/// When a thread that is no leader executes a program, `de_thread()` (`fs/exec.c`) ends all others, gives it the
/// leader's tid and start time, and the dead leader the thread's tid in exchange. So one identity names two threads,
/// one after the other. Here the survivor keeps the leader's identity with its own earlier time joined on, and the
/// former leader becomes `(tgid, the survivor's old tid, leader's start)`, as in the kernel.
///
/// Needs sorted tasks; the result is sorted, too, each within itself.
pub(super) fn join_takeovers(tasks: Vec<Task>) -> Vec<Task> {
    let changes_tid = |exec: &Exec| exec.old_tid != exec.at.task.tid && exec.old_tid != 0;
    let taken_over = |task: &Task| task.id.tid == task.id.tgid && task.execs.iter().any(changes_tid);
    let (leaders, others): (Vec<Task>, Vec<Task>) = tasks.into_iter().partition(taken_over);
    if leaders.is_empty() {
        return others;
    }
    let mut slots: Vec<Option<Task>> = others.into_iter().map(Some).collect();
    let index: BTreeMap<TaskId, usize> = slots
        .iter()
        .enumerate()
        .filter_map(|(slot, task)| Some((task.as_ref()?.id, slot)))
        .collect();
    let mut joined = Vec::new();
    for leader in leaders {
        let id = leader.id;
        let takeovers: Vec<(u64, u32)> = leader
            .execs
            .iter()
            .filter(|exec| changes_tid(exec))
            .map(|exec| (exec.at.ts, exec.old_tid))
            .collect();
        let mut rest = leader;
        for (exec_ts, old_tid) in takeovers {
            let old = |start| TaskId {
                tgid: id.tgid,
                tid: old_tid,
                start,
            };
            // The latest of that tid that was born before the exec; younger than the leader, whose start time under
            // this tid is the exchanged identity.
            let mut survivor = index
                .range(old(id.start.saturating_add(1))..=old(exec_ts.max(id.start.saturating_add(1))))
                .next_back()
                .and_then(|(_, slot)| slots[*slot].take())
                .unwrap_or_else(|| Task::new(old(exec_ts)));
            let moment = exchange(&rest, &survivor, exec_ts);
            let later = rest.split_off(moment, exec_ts);
            survivor.absorb(later);
            survivor.id = id;
            survivor.sort();
            rest.id = old(id.start);
            if let Some(dead) = index.get(&rest.id).and_then(|slot| slots[*slot].take()) {
                rest.absorb(dead);
                rest.sort();
            }
            joined.push(std::mem::replace(&mut rest, survivor));
        }
        joined.push(rest);
    }
    slots.into_iter().flatten().chain(joined).collect()
}

/// Last moment at which the leader's identity was still the leader's.
fn exchange(leader: &Task, survivor: &Task, exec_ts: u64) -> u64 {
    let before = leader.cycles.iter().filter(|cycle| cycle.ts <= exec_ts);
    if let Some(end) = before
        .clone()
        .filter(|cycle| cycle.is(flag::END))
        .map(|cycle| cycle.ts)
        .max()
    {
        return end;
    }
    // Its last steps to the scheduler may come after the exchange, under the thread's tid. The leader had reached
    // its exit, and the survivor's last event under its own tid lies before the exchange, too.
    let exit = leader.exits.iter().map(|exit| exit.at.ts).rfind(|ts| *ts <= exec_ts);
    let survivor_last = survivor.last_evidence();
    let mut moment = match exit.unwrap_or(0).max(survivor_last) {
        0 => exec_ts.saturating_sub(1),
        known => known.min(exec_ts),
    };
    // What goes on without a gap from the leader's last event is the leader's.
    let mut last = before.clone().map(|cycle| cycle.ts).filter(|ts| *ts <= moment).max();
    for cycle in before {
        if cycle.ts > moment && Some(cycle.from) == last && cycle.from != survivor_last {
            moment = cycle.ts;
            last = Some(cycle.ts);
        }
    }
    moment
}

/// Threads of one process.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: ProcessKey,
    pub(super) tasks: Vec<Task>,
    /// When its last thread ended, as far as the kernel told.
    pub(super) death: Option<u64>,
}

/// Puts threads into their processes. A thread's start is never before its leader's, and a tgid is given anew only
/// when all threads of its last process are gone: so of the processes of a tgid the youngest that is not younger than
/// the thread is its own. Where no leader was seen, the oldest thread stands for it.
pub(super) fn group(tasks: Vec<Task>) -> Vec<Group> {
    let mut tasks = tasks;
    // By start, leaders first.
    tasks.sort_by_key(|task| (task.id.tgid, task.id.start, task.id.tid != task.id.tgid));
    let mut groups: Vec<Group> = Vec::new();
    for task in tasks {
        let leads = task.id.tid == task.id.tgid;
        match groups.last_mut() {
            Some(last) if last.key.0 == task.id.tgid && !leads && !last.is_dead(task.id.start) => last.add(task),
            _ => {
                let mut group = Group {
                    key: (task.id.tgid, task.id.start),
                    tasks: Vec::new(),
                    death: None,
                };
                group.add(task);
                groups.push(group);
            }
        }
    }
    groups
}

impl Group {
    fn add(&mut self, task: Task) {
        let dead = task.exits.iter().filter(|exit| exit.group_dead == Some(true));
        self.death = dead.map(|exit| exit.at.ts).chain(self.death).max();
        self.tasks.push(task);
    }

    fn is_dead(&self, ts: u64) -> bool {
        self.death.is_some_and(|death| death < ts)
    }

    /// Earliest time it is known to have lived.
    pub(super) fn first_evidence(&self) -> u64 {
        self.tasks.iter().map(Task::first_evidence).min().unwrap_or(self.key.1)
    }

    /// How the process was born. That record stays with the first thread of an identity that exec passed on.
    pub(super) fn birth(&self) -> Option<&Birth> {
        let mut births = self.tasks.iter().filter_map(|task| task.birth.as_ref());
        births.find(|birth| birth.of_process(self.key))
    }

    /// Execs, with the index of the task that made them: all other threads end then.
    pub(super) fn fatal_execs(&self) -> Vec<(u64, usize)> {
        let indexed = self.tasks.iter().enumerate();
        indexed
            .flat_map(|(index, task)| task.execs.iter().map(move |exec| (exec.at.ts, index)))
            .collect()
    }
}

/// When the number of a thread was given to another: it had ended by then.
#[derive(Debug, Default)]
pub(super) struct Reuse {
    starts: HashMap<u32, Vec<u64>>,
}

impl Reuse {
    pub(super) fn new(groups: &[Group]) -> Reuse {
        let mut starts: HashMap<u32, Vec<u64>> = HashMap::new();
        for task in groups.iter().flat_map(|group| &group.tasks) {
            starts.entry(task.id.tid).or_default().push(task.id.start);
        }
        starts.retain(|_, starts| starts.len() > 1);
        starts.values_mut().for_each(|starts| starts.sort_unstable());
        Reuse { starts }
    }

    /// Start of the next task that had the thread's tid, or its tgid as tid, and was born after `ts`.
    pub(super) fn next(&self, id: TaskId, ts: u64) -> Option<u64> {
        let after = |number: u32, ts: u64| {
            let starts = self.starts.get(&number)?;
            starts.get(starts.partition_point(|start| *start <= ts)).copied()
        };
        let ts = ts.max(id.start);
        [after(id.tid, ts), after(id.tgid, ts)].into_iter().flatten().min()
    }
}
