//! `show --json`: the stable schema. The types of [`schema`] are its definition; they are not the model's own, so that the model
//! can change without it. Fields are added, never renamed or given another meaning; `schema` counts breaking changes.
//!
//! All times are integers in ns of the recorded host's monotonic clock, all sizes integers in bytes. `host.clocks`
//! pairs monotonic with real time. Text that is not UTF-8 stands as a lossy string, with its exact bytes beside it in
//! a field named `…_hex`.

pub mod critical;
pub mod disk;
pub mod layers;
mod receipt;
pub mod schema;

use disk::DiskOut;
use schema::{
    Clock, Command, Container, CoverageOut, CpuChange, Escaped, Evidence, Fact, Gap, Host, HostCpu, Loss, OomKill,
    Operation, Own, Phase, Probe, Process, Program, ProgramStacks, Report, Span, StackCount, Thread, Times,
    UserStacksOut, Wait, Waker,
};

use super::awaited;
use super::figures::{self, Cost, Coverage};
use super::gaps;
use super::select::all_phases;
use crate::attribute::critical::Paths;
use crate::attribute::disk::Disk;
use crate::attribute::layers::Table;
use crate::attribute::memory::{self, Peaks};
use crate::attribute::user_stacks::{self, Count, UserStacks};
use crate::attribute::waits::Classifier;
use crate::attribute::{self, resources};
use crate::model::{ContainerIx, OperationIx, PhaseIx, ProcessIx, Session, State, ThreadIx};

/// Raised when a field's meaning changes or a field goes.
pub const SCHEMA: u32 = 1;

/// Longest waits told one by one.
const WAITS: usize = 1_000;

/// The report as one line of JSON with a newline.
///
/// # Errors
///
/// None that depends on the session: all keys are strings and all numbers integers.
pub fn render(session: &Session) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(&report(session))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What is found out once for all phases.
struct Known<'a> {
    /// `None` where the recording does not tell.
    disk: Option<Disk>,
    peaks: Peaks<'a>,
    paths: Paths<'a>,
}

/// The session in the schema's terms.
pub fn report(session: &Session) -> Report {
    let meta = &session.meta;
    let clocks = session.clocks.iter();
    let probes = meta.probes.iter();
    let facts = meta.facts.iter();
    let whole: Vec<Vec<crate::model::Span>> = session.processes.iter().map(|process| vec![process.span]).collect();
    let mut classifier = Classifier::default();
    let all = figures::selected(session, &whole, &mut classifier);
    let samples = Coverage::of(session);
    let measured = attribute::layers::measured(session);
    let table = Table::new(session);
    let known = Known {
        disk: measured.then(|| Disk::new(session)),
        peaks: Peaks::new(session),
        paths: Paths::new(session),
    };
    Report {
        schema: SCHEMA,
        version: meta.version.clone(),
        name: meta.name.clone(),
        receipt: receipt::receipt(session),
        host: Host {
            hostname: meta.hostname.clone(),
            kernel: meta.kernel.clone(),
            machine: meta.machine.clone(),
            cpu_model: meta.cpu_model.clone(),
            cpus: meta.cpus,
            memory_bytes: meta.memory_bytes,
            clocks: clocks
                .map(|clock| Clock {
                    monotonic_ns: clock.mono,
                    real_ns: clock.real,
                })
                .collect(),
            probes: probes
                .map(|(name, rung)| Probe {
                    name: name.clone(),
                    rung: rung.clone(),
                })
                .collect(),
            facts: facts
                .map(|(name, value)| Fact {
                    name: name.clone(),
                    value: value.clone(),
                })
                .collect(),
            cpu: session.host_cpu.map(|host| HostCpu {
                user_ns: host.user_ns,
                system_ns: host.system_ns,
                idle_ns: host.idle_ns,
                iowait_ns: host.iowait_ns,
                interrupt_ns: host.interrupt_ns,
                steal_ns: host.steal_ns,
            }),
            cpu_changes: session
                .cpu_changes
                .iter()
                .map(|change| CpuChange {
                    at_ns: change.ts,
                    cpu: change.cpu,
                    online: change.online,
                    problem: change.problem.clone(),
                })
                .collect(),
        },
        command: Command {
            argv: Escaped::list(&meta.command),
            cwd: Escaped::new(&meta.cwd),
            user: meta.user.clone(),
            exit_status: session.closed.flatten(),
        },
        span: Span {
            begin_ns: session.span.from,
            end_ns: session.span.to,
            length_ns: session.span.len(),
            closed: session.closed.is_some(),
        },
        sample_hz: meta.sample_hz,
        operations: indexes(session.operations.len())
            .map(|ix| operation(session, OperationIx(ix)))
            .collect(),
        containers: indexes(session.containers.len())
            .map(|ix| container(&known, session, ContainerIx(ix), &mut classifier))
            .collect(),
        phases: phases(&known, session, None, None, &mut classifier),
        processes: indexes(session.processes.len())
            .map(|ix| process(&known, session, ProcessIx(ix), &mut classifier))
            .collect(),
        waits: waits(session, &mut classifier),
        oom_kills: oom_kills(session),
        coverage: CoverageOut {
            samples: samples.samples,
            samples_with_stack: samples.samples_with_any,
            samples_with_user_stack: samples.samples_with_user,
            samples_with_kernel_stack: samples.samples_with_kernel,
            blocked_ns: all.blocked(),
            blocked_with_kernel_stack_ns: all.with_kernel_stack,
            blocked_with_user_stack_ns: all.with_user_stack,
        },
        user_stacks: user_stacks(session),
        layers: measured.then(|| layers::layers(session, &table)),
        copy_ups: measured.then(|| layers::copy_ups(session, &table)),
        block_devices: measured.then(|| disk::devices(session)),
        critical_path: critical::all(session),
        not_measured: match measured {
            true => Vec::new(),
            false => vec!["layers", "copy_ups", "block_devices"],
        },
        losses: figures::losses(session)
            .into_iter()
            .map(|loss| Loss {
                name: loss.name,
                count: loss.count,
                text: loss.text,
                is_loss: loss.is_loss,
            })
            .collect(),
        own: own(session),
        damage: session.damage.clone(),
    }
}

fn user_stacks(session: &Session) -> UserStacksOut {
    let UserStacks {
        all,
        no_user,
        in_exec,
        unknown,
        early,
        programs,
        short,
        frames,
    } = UserStacks::of(session);
    let count = |count: Count| StackCount {
        samples: count.samples,
        whole: count.whole,
    };
    let mut programs: Vec<_> = programs.into_iter().collect();
    programs.sort_by(|(a, of_a), (b, of_b)| (of_b.samples, a).cmp(&(of_a.samples, b)));
    UserStacksOut {
        samples: all.samples,
        whole: all.whole,
        no_user,
        in_exec,
        frames,
        unknown,
        short: count(short),
        early: early
            .into_iter()
            .map(|(end, count)| (user_stacks::cause_name(end), count))
            .collect(),
        programs: programs
            .into_iter()
            .map(|(program, of)| ProgramStacks {
                program: Escaped::new(&program),
                count: count(of),
            })
            .collect(),
    }
}

fn indexes(len: usize) -> impl Iterator<Item = u32> {
    0..u32::try_from(len).unwrap_or(u32::MAX)
}

fn operation(session: &Session, ix: OperationIx) -> Operation {
    let operation = &session.operations[ix.ix()];
    Operation {
        index: ix.0,
        name: operation.name.clone(),
        from_ns: operation.span.from,
        to_ns: operation.span.to,
        wall_ns: operation.span.len(),
        unattributed_ns: figures::length(&figures::outside_phases(session, ix)),
        open: operation.open,
        process: operation.process.0,
        processes: operation.processes.iter().map(|ix| ix.0).collect(),
        containers: indexes(session.containers.len())
            .filter(|container| session.containers[*container as usize].operation == Some(ix))
            .collect(),
    }
}

fn container(known: &Known<'_>, session: &Session, ix: ContainerIx, classifier: &mut Classifier) -> Container {
    let container = &session.containers[ix.ix()];
    let largest = known.peaks.largest_of(ix);
    Container {
        index: ix.0,
        id: Escaped::new(&container.id),
        name: Escaped::new(&container.name),
        engine: container.engine.clone(),
        runtime: container.runtime.clone(),
        image: Escaped::new(&container.image),
        digest: Escaped::new(&container.digest),
        memory_peak_bytes: known.peaks.container(container),
        peak_rss_bytes: largest.map(|(_, bytes)| bytes),
        peak_rss_process: largest.map(|(process, _)| process.0),
        cgroup: (container.cgroup != 0).then_some(container.cgroup),
        operation: container.operation.map(|ix| ix.0),
        entrypoint: container.entrypoint.map(|ix| ix.0),
        disk: known
            .disk
            .as_ref()
            .map(|disk| DiskOut::new(&disk.containers[ix.ix()], disk.full)),
        from_ns: container.span.from,
        to_ns: container.span.to,
        phases: phases(known, session, Some(ix), None, classifier),
    }
}

/// The phases of `container` directly below `parent`; without a parent those whose own parent is of another container
/// (or that have none).
fn phases(
    known: &Known<'_>,
    session: &Session,
    container: Option<ContainerIx>,
    parent: Option<PhaseIx>,
    classifier: &mut Classifier,
) -> Vec<Phase> {
    all_phases(session)
        .filter(|ix| {
            let phase = &session.phases[ix.ix()];
            let above = phase.parent.filter(|above| {
                // A parent comes before its children, so that no broken tree is gone down for ever.
                *above < *ix && session.phases[above.ix()].container == container
            });
            phase.container == container && above == parent
        })
        .map(|ix| phase(known, session, ix, classifier))
        .collect()
}

fn phase(known: &Known<'_>, session: &Session, ix: PhaseIx, classifier: &mut Classifier) -> Phase {
    let phase = &session.phases[ix.ix()];
    let figures = resources::phase(session, phase, classifier);
    let largest = known.peaks.largest(&phase.processes, phase.span);
    let engine = phase.container.and_then(|ix| session.containers.get(ix.ix()));
    Phase {
        index: ix.0,
        name: phase.kind.name(),
        label: Escaped::new(&phase.label),
        from_ns: phase.span.from,
        to_ns: phase.span.to,
        wall_ns: phase.span.len(),
        open: phase.open,
        parent: phase.parent.map(|ix| ix.0),
        operation: phase.operation.map(|ix| ix.0),
        container: phase.container.map(|ix| ix.0),
        engine: engine.map(|container| container.engine.clone()).unwrap_or_default(),
        exit_status: figures::exit_status(session, phase),
        peak_rss_bytes: largest.map(|(_, bytes)| bytes),
        peak_rss_process: largest.map(|(process, _)| process.0),
        wall: Times::new(&figures.wall, figures.unattributed),
        critical: critical_times(session, ix, &known.paths, classifier),
        all: Times::new(&figures.all, 0),
        cut_ns: figures.all.cut,
        disk: known
            .disk
            .as_ref()
            .map(|disk| DiskOut::new(&disk.phases[ix.ix()], disk.full)),
        processes: phase.processes.iter().map(|ix| ix.0).collect(),
        bytes: phase.bytes,
        evidence: Evidence {
            from: phase.evidence.0.clone(),
            to: phase.evidence.1.clone(),
        },
        phases: phases(known, session, phase.container, Some(ix), classifier),
    }
}

/// States along a phase's critical path.
fn critical_times(session: &Session, ix: PhaseIx, paths: &Paths<'_>, classifier: &mut Classifier) -> Times {
    let (resources, unattributed) = paths.of_phase(ix).resources(session, classifier);
    Times::new(&resources, unattributed)
}

fn process(known: &Known<'_>, session: &Session, ix: ProcessIx, classifier: &mut Classifier) -> Process {
    let process = &session.processes[ix.ix()];
    let image = process.image();
    // As `wait()` gives it: `status << 8 | signal`, with 0x80 for a core dump.
    let signal = process.exit_code.map(|code| code & 0x7f).filter(|signal| *signal != 0);
    Process {
        index: ix.0,
        pid: process.tgid,
        start_ns: process.start,
        parent: process.parent.map(|ix| ix.0),
        comm: Escaped::new(image.map_or(&[], |image| &image.comm)),
        argv: image.map(|image| Escaped::list(&image.argv)).unwrap_or_default(),
        from_ns: process.span.from,
        to_ns: process.span.to,
        open: process.open,
        adopted: process.adopted,
        exit_status: process
            .exit_code
            .filter(|_| signal.is_none())
            .map(|code| code >> 8 & 0xff),
        signal,
        peak_rss_bytes: known.peaks.process(ix),
        disk: known.disk.as_ref().map(|disk| {
            let own = disk.processes.get(&ix).copied();
            DiskOut::new(&own.unwrap_or_default(), disk.full)
        }),
        resources: Times::new(&resources::process_within(session, ix, process.span, classifier), 0),
        threads: process
            .threads
            .iter()
            .map(|ix| thread(session, *ix, classifier))
            .collect(),
    }
}

fn thread(session: &Session, ix: ThreadIx, classifier: &mut Classifier) -> Thread {
    let thread = &session.threads[ix.ix()];
    Thread {
        tid: thread.id.tid,
        comm: Escaped::new(&thread.comm),
        from_ns: thread.span.from,
        to_ns: thread.span.to,
        resources: Times::new(&resources::thread_within(session, ix, thread.span, classifier), 0),
        sum_exec_runtime_ns: thread.sum_exec,
    }
}

fn oom_kills(session: &Session) -> Vec<OomKill> {
    let known = |bytes: u64| (bytes > 0).then_some(bytes);
    let kills = memory::kills(session);
    let victims = kills.iter().zip(&session.ooms);
    victims
        .map(|(kill, oom)| OomKill {
            at_ns: kill.ts,
            pid: kill.pid,
            process: kill.process.map(|ix| ix.0),
            comm: Escaped::new(&oom.comm),
            container: kill.container.map(|ix| ix.0),
            phase: kill.phase.map(|ix| ix.0),
            rss_bytes: known(kill.rss),
            memory_peak_bytes: known(kill.cgroup_peak),
            allocating_pid: kill.allocating,
        })
        .collect()
}

/// The longest waits of all, longest first.
fn waits(session: &Session, classifier: &mut Classifier) -> Vec<Wait> {
    let mut longest: Vec<(&crate::model::Thread, &crate::model::Interval)> = session
        .threads
        .iter()
        .flat_map(|thread| thread.intervals.iter().map(move |interval| (thread, interval)))
        .filter(|(_, interval)| matches!(interval.state, State::Blocked { .. }))
        .collect();
    longest.sort_by_key(|(thread, interval)| {
        (
            std::cmp::Reverse(interval.span.len()),
            interval.span.from,
            thread.id.tid,
        )
    });
    longest.truncate(WAITS);
    longest
        .into_iter()
        .map(|(thread, interval)| {
            let (stack, waker) = match interval.state {
                State::Blocked { stack, waker, .. } => (stack, waker),
                _ => (0, None),
            };
            let class = classifier.classify(session, interval.state);
            let frames = session
                .stacks
                .get(stack)
                .map(|stack| &stack.frames[..])
                .unwrap_or_default();
            Wait {
                pid: thread.id.tgid,
                tid: thread.id.tid,
                process: thread.process.0,
                from_ns: interval.span.from,
                to_ns: interval.span.to,
                wait_ns: interval.span.len(),
                class: class.wait.name(),
                detail: class.detail,
                at: awaited::at(session, interval.state).unwrap_or_default(),
                stack: frames
                    .iter()
                    .map(|frame| Escaped::new(&session.stacks.name(*frame)))
                    .collect(),
                woken_by: waker.map(|waker| Waker {
                    pid: waker.tgid,
                    tid: waker.tid,
                    interrupt: waker.interrupt,
                }),
            }
        })
        .collect()
}

fn own(session: &Session) -> Own {
    let cost = Cost::of(session);
    let own = &session.self_cost;
    Own {
        bpf_ns: cost.bpf_ns,
        bpf_runs: cost.bpf_runs,
        bpf_missed: cost.bpf_missed,
        programs: own
            .programs
            .iter()
            .map(|(name, run_ns, runs, missed)| Program {
                name: name.clone(),
                run_ns: *run_ns,
                runs: *runs,
                missed: *missed,
            })
            .collect(),
        user_ns: own.user_ns,
        system_ns: own.system_ns,
        host_cpu_ns: cost.host_ns,
        peak_memory_bytes: own.peak_rss_bytes,
        recording_bytes: own.recording_bytes,
        startup_ns: own.startup_ns,
        startup_cpu_ns: own.startup_cpu_ns,
        symbolize_ns: own.symbolize_ns,
        gaps: gaps::all(session)
            .into_iter()
            .map(|gap| Gap {
                lever: gap.began.lever.clone(),
                from_ns: gap.span.from,
                to_ns: gap.span.to,
                value: gap.began.value,
                lost: gap.lost(),
                cost_ppm: gap.cost_ppm(),
                cap_ppm: gap.began.cap_ppm,
                dearest: gap.began.dearest.clone(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod published;
#[cfg(test)]
mod tests;
