//! A Perfetto trace (<https://ui.perfetto.dev>): operations, containers and phases as slices, what every thread did as
//! slices of its own track, and counters.
//!
//! Threads' states are slices and no `sched_switch` events: those would have to name a CPU for each interval, which a
//! recording does not. Times are of `CLOCK_MONOTONIC`, with a snapshot that pairs it with real time. Each packet goes out
//! by itself, so that an hour's recording needs no memory of its own. The messages are in [`wire`].

mod counters;
mod wire;

use std::collections::HashMap;
use std::io::{self, Write};

use super::{Error, Request, Sink, program};
use crate::attribute::waits::Classifier;
use crate::model::{ContainerIx, OperationIx, PhaseIx, ProcessIx, Session, State, ThreadIx};
use crate::report::select::all_phases;
use crate::report::{figures, names, text};
use wire::{
    Clock, ClockSnapshot, DebugAnnotation, EventType, MONOTONIC, ProcessDescriptor, REALTIME, ThreadDescriptor,
    TracePacket, TrackDescriptor, TrackEvent,
};

/// Longest arguments of a process, and how many.
const MAX_ARGUMENTS: usize = 100;

/// Kinds of tracks: the upper half of a track's id, the lower is an index.
#[derive(Clone, Copy)]
enum Kind {
    Recording = 1,
    Operation,
    Container,
    Lane,
    Process,
    Thread,
    Counter,
    Memory,
}

fn track(kind: Kind, index: usize) -> u64 {
    (kind as u64) << 32 | index as u64
}

pub(super) struct Perfetto;

impl Sink for Perfetto {
    fn name(&self) -> &'static str {
        "perfetto"
    }

    fn about(&self) -> &'static str {
        "phases, threads' states and counters as a trace for ui.perfetto.dev"
    }

    fn ending(&self) -> Option<&'static str> {
        Some("perfetto-trace")
    }

    fn write(&self, session: &Session, _: &Request, out: &mut dyn Write) -> Result<(), Error> {
        let mut trace = Trace { out };
        trace.clocks(session)?;
        trace.recording(session)?;
        trace.lifecycle(session)?;
        trace.processes(session)?;
        counters::write(&mut trace, session)?;
        Ok(())
    }
}

/// The trace as it goes out.
struct Trace<'a> {
    out: &'a mut dyn Write,
}

impl Trace<'_> {
    fn packet(&mut self, packet: TracePacket) -> io::Result<()> {
        self.out.write_all(&packet.framed())
    }

    fn clocks(&mut self, session: &Session) -> io::Result<()> {
        // Without a pair of clocks times are those since the recorded host's boot, which is what they are.
        for (nth, pair) in session.clocks.iter().enumerate() {
            let clock = |clock_id, timestamp| Clock { clock_id, timestamp };
            self.packet(TracePacket {
                clock_snapshot: Some(ClockSnapshot {
                    clocks: vec![clock(MONOTONIC, pair.mono), clock(REALTIME, pair.real)],
                    primary_trace_clock: if nth == 0 { MONOTONIC as i32 } else { 0 },
                }),
                ..TracePacket::at(pair.mono)
            })?;
        }
        Ok(())
    }

    fn describe(&mut self, track: TrackDescriptor) -> io::Result<()> {
        self.packet(TracePacket {
            track_descriptor: Some(track),
            ..TracePacket::default()
        })
    }

    fn begin(&mut self, track: u64, at: u64, name: String, facts: Vec<DebugAnnotation>) -> io::Result<()> {
        self.event(track, at, EventType::SliceBegin, Some(name), facts)
    }

    fn end(&mut self, track: u64, at: u64) -> io::Result<()> {
        self.event(track, at, EventType::SliceEnd, None, Vec::new())
    }

    fn event(
        &mut self,
        track_uuid: u64,
        at: u64,
        kind: EventType,
        name: Option<String>,
        debug_annotations: Vec<DebugAnnotation>,
    ) -> io::Result<()> {
        self.packet(TracePacket {
            track_event: Some(TrackEvent {
                kind: kind as i32,
                track_uuid,
                name,
                debug_annotations,
                ..TrackEvent::default()
            }),
            ..TracePacket::at(at)
        })
    }

    /// The recording as a slice, and what it lacks.
    fn recording(&mut self, session: &Session) -> io::Result<()> {
        let uuid = track(Kind::Recording, 0);
        self.describe(TrackDescriptor::named(uuid, None, "phasegraph recording"))?;
        let command = match &session.meta.command[..] {
            [] => "whole host".to_owned(),
            command => text::argv(command),
        };
        let closed = if session.closed.is_some() {
            "in order"
        } else {
            "no: cut off"
        };
        let facts = vec![
            DebugAnnotation::text("host", text::visible(session.meta.hostname.as_bytes())),
            DebugAnnotation::text("kernel", text::visible(session.meta.kernel.as_bytes())),
            DebugAnnotation::text("phasegraph", text::visible(session.meta.version.as_bytes())),
            DebugAnnotation::text("closed", closed.to_owned()),
        ];
        self.begin(uuid, session.span.from, command, facts)?;
        let losses = figures::losses(session);
        let lost: Vec<DebugAnnotation> = losses
            .iter()
            .filter(|loss| loss.is_loss)
            .map(|loss| DebugAnnotation::number(&text::visible(loss.text.as_bytes()), loss.count))
            .collect();
        let name = if lost.is_empty() { "no losses" } else { "losses" };
        self.event(uuid, session.span.to, EventType::Instant, Some(name.to_owned()), lost)?;
        self.end(uuid, session.span.to)
    }

    /// Operations, containers and phases.
    fn lifecycle(&mut self, session: &Session) -> io::Result<()> {
        for (index, operation) in session.operations.iter().enumerate() {
            let (uuid, name) = (track(Kind::Operation, index), text::visible(operation.name.as_bytes()));
            self.describe(TrackDescriptor::named(uuid, None, &name))?;
            self.begin(uuid, operation.span.from, name, vec![open(operation.open)])?;
            self.end(uuid, operation.span.to)?;
        }
        for (index, container) in session.containers.iter().enumerate() {
            let parent = container.operation.map(|ix| track(Kind::Operation, ix.ix()));
            let name = format!("container {}", names::container(session, ContainerIx(index as u32)));
            let uuid = track(Kind::Container, index);
            self.describe(TrackDescriptor::named(uuid, parent, &name))?;
            let facts = vec![
                DebugAnnotation::text("id", text::visible(&container.id)),
                DebugAnnotation::text("image", text::visible(&container.image)),
                DebugAnnotation::text("engine", text::visible(container.engine.as_bytes())),
                DebugAnnotation::text("runtime", text::visible(container.runtime.as_bytes())),
            ];
            self.begin(uuid, container.span.from, name, facts)?;
            self.end(uuid, container.span.to)?;
        }
        let mut lanes = Lanes::default();
        for ix in ordered(session) {
            let (lane, new) = lanes.place(session, ix);
            let phase = &session.phases[ix.ix()];
            if new {
                let parent = match (phase.container, phase.operation) {
                    (Some(container), _) => Some(track(Kind::Container, container.ix())),
                    (None, Some(operation)) => Some(track(Kind::Operation, operation.ix())),
                    (None, None) => None,
                };
                // Tracks of one parent and name are shown as one.
                self.describe(TrackDescriptor::named(track(Kind::Lane, lane), parent, "phases"))?;
            }
        }
        for (lane, phases) in lanes.phases.iter().enumerate() {
            self.lane(session, track(Kind::Lane, lane), phases)?;
        }
        Ok(())
    }

    /// Phases of one track, which lie in each other or apart.
    fn lane(&mut self, session: &Session, uuid: u64, phases: &[PhaseIx]) -> io::Result<()> {
        let mut within: Vec<u64> = Vec::new();
        for ix in phases {
            let phase = &session.phases[ix.ix()];
            while let Some(end) = within.pop_if(|end| *end <= phase.span.from) {
                self.end(uuid, end)?;
            }
            let mut facts = vec![
                open(phase.open),
                DebugAnnotation::number("number", ix.0.into()),
                DebugAnnotation::text("began with", text::visible(phase.evidence.0.as_bytes())),
                DebugAnnotation::text("ended with", text::visible(phase.evidence.1.as_bytes())),
            ];
            facts.extend(phase.bytes.map(|bytes| DebugAnnotation::number("bytes", bytes)));
            if let Some(status) = figures::exit_status(session, phase) {
                facts.push(DebugAnnotation::number(
                    "exit status",
                    u64::try_from(status).unwrap_or(0),
                ));
            }
            self.begin(uuid, phase.span.from, names::phase(session, *ix), facts)?;
            within.push(phase.span.to.max(phase.span.from));
        }
        while let Some(end) = within.pop() {
            self.end(uuid, end)?;
        }
        Ok(())
    }

    fn processes(&mut self, session: &Session) -> io::Result<()> {
        let mut classifier = Classifier::default();
        for (index, process) in session.processes.iter().enumerate() {
            let ix = ProcessIx(index as u32);
            let image = process.image();
            let argv = image.map(|image| &image.argv[..]).unwrap_or_default();
            let pid = i32::try_from(process.tgid).unwrap_or(i32::MAX);
            let name = program(session, ix);
            self.describe(TrackDescriptor {
                process: Some(ProcessDescriptor {
                    pid,
                    cmdline: argv
                        .iter()
                        .take(MAX_ARGUMENTS)
                        .map(|word| text::visible(word))
                        .collect(),
                    process_name: name.clone(),
                    start_timestamp_ns: i64::try_from(process.start).unwrap_or(i64::MAX),
                }),
                ..TrackDescriptor::named(track(Kind::Process, index), None, &name)
            })?;
            for thread in &process.threads {
                self.thread(session, *thread, pid, &mut classifier)?;
            }
        }
        Ok(())
    }

    fn thread(&mut self, session: &Session, ix: ThreadIx, pid: i32, classifier: &mut Classifier) -> io::Result<()> {
        let Some(thread) = session.threads.get(ix.ix()) else {
            return Ok(());
        };
        let uuid = track(Kind::Thread, ix.ix());
        let name = text::visible(&thread.comm);
        self.describe(TrackDescriptor {
            thread: Some(ThreadDescriptor {
                pid,
                tid: i64::from(thread.id.tid),
                thread_name: name.clone(),
            }),
            ..TrackDescriptor::named(uuid, None, &name)
        })?;
        for interval in &thread.intervals {
            let (name, facts) = state(session, interval.state, classifier);
            self.begin(uuid, interval.span.from, name.to_owned(), facts)?;
            self.end(uuid, interval.span.to)?;
        }
        Ok(())
    }
}

/// What a thread did, and what is known of it.
fn state(session: &Session, state: State, classifier: &mut Classifier) -> (&'static str, Vec<DebugAnnotation>) {
    match state {
        State::Cpu => ("cpu", Vec::new()),
        State::Runqueue => ("runqueue", Vec::new()),
        State::Lost => ("lost", Vec::new()),
        State::Mixed {
            cpu,
            runqueue,
            blocked,
            count,
        } => (
            "short intervals",
            vec![
                DebugAnnotation::number("cpu_ns", cpu),
                DebugAnnotation::number("runqueue_ns", runqueue),
                DebugAnnotation::number("blocked_ns", blocked),
                DebugAnnotation::number("count", count.into()),
            ],
        ),
        State::Blocked { waker, .. } => {
            let class = classifier.classify(session, state);
            let mut facts = vec![DebugAnnotation::text("waited for", class.detail.to_owned())];
            if let Some(waker) = waker.filter(|waker| !waker.interrupt) {
                facts.push(DebugAnnotation::number("woken by tid", waker.tid.into()));
            }
            (class.wait.name(), facts)
        }
    }
}

fn open(open: bool) -> DebugAnnotation {
    let text = if open { "open at the recording's end" } else { "seen" };
    DebugAnnotation::text("end", text.to_owned())
}

/// Phases on as few tracks as there must be, so that those of one track lie in each other or apart.
#[derive(Default)]
struct Lanes {
    /// In the order in which they are drawn.
    phases: Vec<Vec<PhaseIx>>,
    /// Ends of those that the next one can lie in.
    within: Vec<Vec<u64>>,
    of: HashMap<(Option<OperationIx>, Option<ContainerIx>), Vec<usize>>,
}

impl Lanes {
    /// The lane of a phase that begins no earlier than those before, and whether it is a new one.
    fn place(&mut self, session: &Session, ix: PhaseIx) -> (usize, bool) {
        let phase = &session.phases[ix.ix()];
        let lanes = self.of.entry((phase.operation, phase.container)).or_default();
        let found = lanes.iter().copied().find(|lane| {
            let within = &mut self.within[*lane];
            while within.pop_if(|end| *end <= phase.span.from).is_some() {}
            within.last().is_none_or(|end| phase.span.to <= *end)
        });
        let lane = found.unwrap_or_else(|| {
            lanes.push(self.phases.len());
            self.phases.push(Vec::new());
            self.within.push(Vec::new());
            self.phases.len() - 1
        });
        self.phases[lane].push(ix);
        self.within[lane].push(phase.span.to);
        (lane, found.is_none())
    }
}

/// In order of time, outer ones first.
fn ordered(session: &Session) -> Vec<PhaseIx> {
    let mut phases: Vec<PhaseIx> = all_phases(session).collect();
    phases.sort_by_key(|ix| {
        let span = session.phases[ix.ix()].span;
        (span.from, std::cmp::Reverse(span.to), ix.0)
    });
    phases
}

#[cfg(test)]
mod tests;
