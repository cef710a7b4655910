//! The most that processes, phases and containers held in memory, and who was killed for want of it.
//!
//! A process's readings come at CPU samples where its resident set has changed, at its end and at the recording's. Its
//! peak is the kernel's own, exact. A phase that covers only a part of a process's life has of it what the readings in
//! that part say, which is a lower bound. Sets of several processes share pages and are never added up: a phase's figure
//! is that of its largest process, and a container's whole is what its cgroup says.

use std::collections::HashMap;

use super::owners::Owners;
use crate::model::{Container, ContainerIx, PhaseIx, PhaseKind, ProcessIx, Session, Span, ThreadIx};
use crate::recording::record::{Memory, Moment, Oom, TaskId};

/// The readings of a session, by process and cgroup.
pub struct Peaks<'a> {
    session: &'a Session,
    /// In order of time.
    readings: Vec<Vec<&'a Memory>>,
    /// Peaks of memory cgroups by hierarchy and id.
    cgroups: HashMap<(u32, u64), u64>,
    /// Their paths, as far as they were told.
    paths: HashMap<(u32, u64), &'a [u8]>,
}

impl<'a> Peaks<'a> {
    pub fn new(session: &'a Session) -> Peaks<'a> {
        let tasks = Tasks::new(session);
        let mut readings = vec![Vec::new(); session.processes.len()];
        let mut cgroups: HashMap<(u32, u64), u64> = HashMap::new();
        for reading in &session.memory {
            if let Some(process) = tasks.process(reading.at.task)
                && !inherited(session, process, reading.at.ts)
            {
                readings[process.ix()].push(reading);
            }
            if reading.memcg != 0 {
                let peak = cgroups.entry((reading.memcg_hierarchy, reading.memcg)).or_default();
                *peak = reading.memcg_peak.max(*peak);
            }
        }
        for oom in session.ooms.iter().filter(|oom| oom.memcg != 0) {
            let peak = cgroups.entry((oom.memcg_hierarchy, oom.memcg)).or_default();
            *peak = oom.memcg_peak.max(*peak);
        }
        let told = session.cgroups.iter().filter(|event| !event.path.is_empty());
        Peaks {
            session,
            readings,
            cgroups,
            paths: told
                .map(|event| ((event.hierarchy, event.id), &event.path[..]))
                .collect(),
        }
    }

    /// The largest resident set of a process's programs, bytes; `None` when nothing tells.
    pub fn process(&self, ix: ProcessIx) -> Option<u64> {
        let readings = self.readings.get(ix.ix())?;
        let told = readings.iter().map(|reading| reading.rss.max(reading.peak)).max();
        told.max(self.at_exit(ix)).filter(|bytes| *bytes > 0)
    }

    /// Before Linux 6.16 the memory is gone when an exit is told. What is left, the maximum over all programs, counts
    /// what the process was forked from: it is the last program's only if it has grown since that one's exec.
    fn at_exit(&self, ix: ProcessIx) -> Option<u64> {
        let readings = &self.readings[ix.ix()];
        let exit = readings.iter().rev().find(|reading| reading.moment == Moment::Exit)?;
        let before = readings.iter().rev().find(|reading| reading.moment == Moment::Exec);
        let execs = self.session.processes[ix.ix()].images.iter().any(|image| image.exec);
        match before {
            Some(exec) => (exit.max > exec.max).then_some(exit.max),
            None => (exit.peak == 0 && !execs).then_some(exit.max),
        }
    }

    /// The largest resident set of a process that is known to lie in the span, bytes.
    pub fn within(&self, ix: ProcessIx, span: Span) -> Option<u64> {
        let process = self.session.processes.get(ix.ix())?;
        if process.span.clip(span) == process.span {
            return self.process(ix);
        }
        let readings = self.readings.get(ix.ix())?;
        // The reading of an exit is taken by a program of its own, right after the one that tells the exit.
        let time = |reading: &Memory| match reading.moment {
            Moment::Exit => reading.at.ts.min(process.end()),
            _ => reading.at.ts,
        };
        let start = readings.partition_point(|reading| time(reading) < span.from);
        let end = readings.partition_point(|reading| time(reading) <= span.to);
        // The program that runs at the end began in the span, so all of its peak lies in it.
        let begun = |ts: u64| {
            process
                .image_at(ts)
                .is_some_and(|image| image.exec && image.ts >= span.from)
        };
        let inside = readings.get(start..end).unwrap_or_default().iter().map(|reading| {
            let peak = match reading.moment {
                _ if !begun(reading.at.ts) => 0,
                Moment::Exit => reading.peak.max(self.at_exit(ix).unwrap_or(0)),
                _ => reading.peak,
            };
            reading.rss.max(peak)
        });
        // Told on change only: what was last told before goes on, unless another program has begun since.
        let before = start.checked_sub(1).and_then(|last| readings.get(last));
        let before = before.filter(|reading| {
            let image = |ts| process.image_at(ts).map(|image| image.ts);
            span.from < process.span.to && image(reading.at.ts) == image(span.from)
        });
        inside
            .chain(before.map(|reading| reading.rss))
            .max()
            .filter(|bytes| *bytes > 0)
    }

    /// The largest of some processes within a span, and its peak there, bytes.
    pub fn largest(&self, processes: &[ProcessIx], span: Span) -> Option<(ProcessIx, u64)> {
        let known = processes
            .iter()
            .filter_map(|process| Some((*process, self.within(*process, span)?)));
        known.max_by_key(|(process, bytes)| (*bytes, std::cmp::Reverse(*process)))
    }

    /// The largest process of a container, from its entrypoint to its end.
    pub fn largest_of(&self, ix: ContainerIx) -> Option<(ProcessIx, u64)> {
        let own = self.session.phases.iter().filter(|phase| phase.container == Some(ix));
        let run = own.clone().find(|phase| phase.kind == PhaseKind::Run)?;
        self.largest(&run.processes, run.span)
    }

    /// The most that a container's memory cgroup held, bytes; `None` where it has none of its own.
    pub fn container(&self, container: &Container) -> Option<u64> {
        let own = self.cgroups.iter().filter(|(key, _)| {
            **key == (0, container.cgroup) || self.paths.get(*key).is_some_and(|path| is_of(path, &container.id))
        });
        own.map(|(_, peak)| *peak).max().filter(|peak| *peak > 0)
    }
}

/// Whether the process still held its parent's memory then: it was not yet the program that it was made to be. The
/// recorded command was this profiler before.
fn inherited(session: &Session, ix: ProcessIx, ts: u64) -> bool {
    let process = &session.processes[ix.ix()];
    let begin = session.begin.filter(|begin| {
        let command = begin.command.map(|task| (task.tgid, task.start));
        command == Some((process.tgid, process.start))
    });
    let from = begin.map_or(0, |begin| begin.mono);
    let mut execs = process.images.iter().filter(|image| image.exec && image.ts >= from);
    let first = execs.next().map(|image| image.ts);
    ts < session.span.from || (first.is_some_and(|first| ts < first) && !(process.adopted && begin.is_none()))
}

/// Whether a cgroup's path is that of the container or below it: one of its parts is the id, or the id behind an engine's
/// prefix (`libpod-ID.scope`).
fn is_of(path: &[u8], id: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|part| {
        let part = part.strip_suffix(b".scope").unwrap_or(part);
        let prefix = part.strip_suffix(id).filter(|_| !id.is_empty());
        // conmon has a cgroup of its own, beside the container's.
        prefix.is_some_and(|prefix| {
            prefix.is_empty() || (prefix.ends_with(b"-") && !prefix.ends_with(b"conmon-")) || prefix.ends_with(b":")
        })
    })
}

/// Threads by identity.
struct Tasks<'a> {
    session: &'a Session,
    threads: HashMap<TaskId, ThreadIx>,
    processes: HashMap<(u32, u64), ProcessIx>,
}

impl<'a> Tasks<'a> {
    fn new(session: &'a Session) -> Tasks<'a> {
        let threads = session.threads.iter().enumerate();
        let processes = session.processes.iter().enumerate();
        Tasks {
            session,
            threads: threads.map(|(ix, thread)| (thread.id, ThreadIx(ix as u32))).collect(),
            processes: processes
                .map(|(ix, process)| ((process.tgid, process.start), ProcessIx(ix as u32)))
                .collect(),
        }
    }

    fn process(&self, task: TaskId) -> Option<ProcessIx> {
        let thread = self.threads.get(&task);
        thread
            .map(|thread| self.session.threads[thread.ix()].process)
            .or_else(|| self.processes.get(&(task.tgid, task.start)).copied())
    }

    /// The process that had a thread of that number then.
    fn numbered(&self, tid: u32, ts: u64) -> Option<ProcessIx> {
        let mut threads = self.session.threads.iter();
        let found = threads.find(|thread| thread.id.tid == tid && thread.span.from <= ts && ts <= thread.span.to)?;
        Some(found.process)
    }
}

/// A kill for want of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub ts: u64,
    /// Victim's process number.
    pub pid: u32,
    /// `None` for one that is not profiled.
    pub process: Option<ProcessIx>,
    pub container: Option<ContainerIx>,
    /// The innermost phase that it worked for.
    pub phase: Option<PhaseIx>,
    /// Its resident set then, bytes; 0 is not known.
    pub rss: u64,
    /// The most that its memory cgroup held, bytes; 0 is not known.
    pub cgroup_peak: u64,
    /// Whose allocation failed.
    pub allocating: u32,
}

/// Every kill of the recording, in order of time.
pub fn kills(session: &Session) -> Vec<Kill> {
    if session.ooms.is_empty() {
        return Vec::new();
    }
    let tasks = Tasks::new(session);
    let owners = Owners::new(session);
    let ooms = session.ooms.iter();
    ooms.map(|oom| kill(session, &tasks, &owners, oom)).collect()
}

fn kill(session: &Session, tasks: &Tasks<'_>, owners: &Owners<'_>, oom: &Oom) -> Kill {
    let ts = oom.at.ts;
    let process = match oom.victim.tgid {
        0 => tasks.numbered(oom.victim.tid, ts),
        _ => tasks.process(oom.victim),
    };
    let phase = process.and_then(|process| owners.phase(process, ts));
    Kill {
        ts,
        pid: process.map_or(oom.victim.tid, |process| session.processes[process.ix()].tgid),
        process,
        container: owners.container_of(process, oom.victim_cgroup, ts),
        phase,
        rss: oom.victim_rss,
        cgroup_peak: oom.memcg_peak,
        allocating: oom.at.task.tgid,
    }
}

#[cfg(test)]
mod tests;
