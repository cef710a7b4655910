//! Counters: how many threads did what, on average over short times, and the resident sets that were seen.

use std::collections::HashMap;
use std::io;

use super::wire::{CounterDescriptor, EventType, TracePacket, TrackDescriptor, TrackEvent};
use super::{Kind, Trace, track};
use crate::attribute::resources::Wait;
use crate::attribute::waits::Classifier;
use crate::model::{Session, Span, State};

/// Steps that a recording is cut into, at most.
const STEPS: u64 = 2_000;
/// Shortest step, ns.
const SHORTEST: u64 = 1_000_000;

/// `CounterDescriptor.Unit.UNIT_SIZE_BYTES`.
const BYTES: i32 = 3;

/// What is counted: each thread is in one of these states or in none.
const COUNTERS: [&str; 4] = [
    "threads on CPUs",
    "threads in run queues",
    "threads waiting for disk",
    "threads waiting for network",
];

pub(super) fn write(trace: &mut Trace<'_>, session: &Session) -> io::Result<()> {
    let steps = Steps::of(session);
    for (index, name) in COUNTERS.iter().enumerate() {
        let uuid = track(Kind::Counter, index);
        trace.describe(TrackDescriptor {
            counter: Some(CounterDescriptor {
                unit: 0,
                unit_name: "threads".to_owned(),
            }),
            ..TrackDescriptor::named(uuid, None, name)
        })?;
        for (nth, sums) in steps.sums.iter().enumerate() {
            let span = steps.span(nth);
            let average = sums[index] as f64 / span.len().max(1) as f64;
            trace.packet(TracePacket {
                track_event: Some(TrackEvent {
                    kind: EventType::Counter as i32,
                    track_uuid: uuid,
                    double_counter_value: Some(average),
                    ..TrackEvent::default()
                }),
                ..TracePacket::at(span.from)
            })?;
        }
    }
    memory(trace, session)
}

/// Resident sets, where the recording has them.
fn memory(trace: &mut Trace<'_>, session: &Session) -> io::Result<()> {
    // A pid can be used again: with its start time it is one process.
    let processes: HashMap<(u32, u64), usize> = session
        .processes
        .iter()
        .enumerate()
        .map(|(index, process)| ((process.tgid, process.start), index))
        .collect();
    let leaders: HashMap<(u32, u64), usize> = session
        .threads
        .iter()
        .map(|thread| ((thread.id.tid, thread.id.start), thread.process.ix()))
        .collect();
    let mut described = vec![false; session.processes.len()];
    for memory in session.memory.iter().filter(|memory| memory.rss > 0) {
        let task = memory.at.task;
        let found = leaders
            .get(&(task.tid, task.start))
            .or_else(|| processes.get(&(task.tgid, task.start)));
        let Some(index) = found.copied().filter(|index| *index < described.len()) else {
            continue;
        };
        let uuid = track(Kind::Memory, index);
        if !std::mem::replace(&mut described[index], true) {
            trace.describe(TrackDescriptor {
                counter: Some(CounterDescriptor {
                    unit: BYTES,
                    unit_name: String::new(),
                }),
                ..TrackDescriptor::named(uuid, Some(track(Kind::Process, index)), "resident set")
            })?;
        }
        trace.packet(TracePacket {
            track_event: Some(TrackEvent {
                kind: EventType::Counter as i32,
                track_uuid: uuid,
                counter_value: Some(i64::try_from(memory.rss).unwrap_or(i64::MAX)),
                ..TrackEvent::default()
            }),
            ..TracePacket::at(memory.at.ts)
        })?;
    }
    Ok(())
}

/// Thread time in each step, ns, by counter.
pub(super) struct Steps {
    whole: Span,
    length: u64,
    pub(super) sums: Vec<[u64; COUNTERS.len()]>,
}

impl Steps {
    pub(super) fn of(session: &Session) -> Steps {
        let whole = session.span;
        let length = (whole.len() / STEPS).max(SHORTEST);
        let count = usize::try_from(whole.len().div_ceil(length)).unwrap_or(0);
        let mut steps = Steps {
            whole,
            length,
            sums: vec![[0; COUNTERS.len()]; count],
        };
        let mut classifier = Classifier::default();
        for interval in session.threads.iter().flat_map(|thread| &thread.intervals) {
            let counter = match interval.state {
                State::Cpu => 0,
                State::Runqueue => 1,
                State::Blocked { .. } => match classifier.classify(session, interval.state).wait {
                    Wait::Disk => 2,
                    Wait::Network => 3,
                    Wait::Lock | Wait::Ipc | Wait::Child | Wait::Sleep | Wait::Other => continue,
                },
                State::Mixed { .. } => 0,
                State::Lost => continue,
            };
            let inside = interval.span.clip(whole);
            if inside.is_empty() {
                continue;
            }
            let nth = |ts: u64| usize::try_from((ts - whole.from) / length).unwrap_or(usize::MAX);
            for step in nth(inside.from)..=nth(inside.to - 1) {
                let part = interval.clip(steps.span(step));
                let Some(sums) = steps.sums.get_mut(step) else { break };
                match part.state {
                    // Sums of short intervals are shared out in proportion, as in every other report.
                    State::Mixed { cpu, runqueue, .. } => {
                        sums[0] += cpu;
                        sums[1] += runqueue;
                    }
                    _ => sums[counter] += part.span.len(),
                }
            }
        }
        steps
    }

    pub(super) fn span(&self, step: usize) -> Span {
        let from = self.whole.from.saturating_add(self.length.saturating_mul(step as u64));
        let to = from.saturating_add(self.length);
        Span { from, to }.clip(self.whole)
    }
}
