//! `show --json`: the stable schema. These types are its definition; they are not the model's own, so that the model
//! can change without it. Fields are added, never renamed or given another meaning; `schema` counts breaking changes.
//!
//! All times are integers in ns of the recorded host's monotonic clock, all sizes integers in bytes. `host.clocks`
//! pairs monotonic with real time. Text that is not UTF-8 stands as a lossy string, with its exact bytes beside it in
//! a field named `…_hex`.

use serde::Serialize;

use super::figures::{self, Cost, Coverage};
use super::select::all_phases;
use crate::attribute::resources::{self, Resources};
use crate::attribute::waits::Classifier;
use crate::model::{ContainerIx, OperationIx, PhaseIx, ProcessIx, Session, State, ThreadIx};
use crate::recording::record::Text;

/// Raised when a field's meaning changes or a field goes.
pub const SCHEMA: u32 = 1;

/// Longest waits told one by one.
const WAITS: usize = 1_000;

#[derive(Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    /// phasegraph's version that recorded.
    pub version: String,
    pub name: String,
    pub host: Host,
    pub command: Command,
    pub span: Span,
    pub sample_hz: u32,
    pub operations: Vec<Operation>,
    pub containers: Vec<Container>,
    /// Phases of no container, such as a build's steps; those of a container stand there, below them in the tree.
    pub phases: Vec<Phase>,
    pub processes: Vec<Process>,
    pub waits: Vec<Wait>,
    pub coverage: CoverageOut,
    /// `null`: not measured, see `not_measured`.
    pub layers: Option<Vec<()>>,
    pub copy_ups: Option<Vec<()>>,
    pub critical_path: Option<()>,
    /// Names of the fields that are `null` because this version does not measure them.
    pub not_measured: Vec<&'static str>,
    pub losses: Vec<Loss>,
    #[serde(rename = "self")]
    pub own: Own,
    /// What of the recording could not be used; empty for a whole one.
    pub damage: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Host {
    pub hostname: String,
    pub kernel: String,
    pub machine: String,
    pub cpu_model: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub clocks: Vec<Clock>,
    pub probes: Vec<Probe>,
    pub facts: Vec<Fact>,
}

#[derive(Debug, Serialize)]
pub struct Clock {
    pub monotonic_ns: u64,
    /// Since 1970-01-01 UTC.
    pub real_ns: u64,
}

#[derive(Debug, Serialize)]
pub struct Probe {
    pub name: String,
    pub rung: String,
}

#[derive(Debug, Serialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Serialize)]
pub struct Command {
    /// Empty when the whole host was recorded.
    pub argv: Vec<Escaped>,
    pub cwd: Escaped,
    pub user: String,
    /// 128 + signal when it was killed.
    pub exit_status: Option<i32>,
}

/// Time covered.
#[derive(Debug, Serialize)]
pub struct Span {
    pub begin_ns: u64,
    pub end_ns: u64,
    pub length_ns: u64,
    /// False when the recording was cut off.
    pub closed: bool,
}

/// Bytes from a traced process.
#[derive(Debug, Serialize)]
pub struct Escaped {
    pub text: String,
    /// The exact bytes, only when they are not UTF-8.
    #[serde(rename = "text_hex", skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

impl Escaped {
    fn new(bytes: &[u8]) -> Escaped {
        Escaped {
            text: String::from_utf8_lossy(bytes).into_owned(),
            hex: std::str::from_utf8(bytes)
                .is_err()
                .then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    fn list(texts: &[Text]) -> Vec<Escaped> {
        texts.iter().map(|text| Escaped::new(text)).collect()
    }
}

#[derive(Debug, Serialize)]
pub struct Operation {
    pub index: u32,
    pub name: String,
    pub from_ns: u64,
    pub to_ns: u64,
    pub wall_ns: u64,
    /// It had not ended when the recording did.
    pub open: bool,
    /// Index of its client in `processes`.
    pub process: u32,
    /// Indexes in `processes`.
    pub processes: Vec<u32>,
    /// Indexes in `containers`.
    pub containers: Vec<u32>,
}

#[derive(Debug, Serialize)]
pub struct Container {
    pub index: u32,
    pub id: Escaped,
    pub name: Escaped,
    pub engine: String,
    pub runtime: String,
    pub image: Escaped,
    /// Id in the default cgroup hierarchy; `null` when none was seen.
    pub cgroup: Option<u64>,
    pub operation: Option<u32>,
    /// Index in `processes` of the first process inside.
    pub entrypoint: Option<u32>,
    pub from_ns: u64,
    pub to_ns: u64,
    pub phases: Vec<Phase>,
}

#[derive(Debug, Serialize)]
pub struct Phase {
    /// What `--phase` takes.
    pub index: u32,
    pub name: &'static str,
    pub label: Escaped,
    pub from_ns: u64,
    pub to_ns: u64,
    pub wall_ns: u64,
    pub open: bool,
    pub parent: Option<u32>,
    pub operation: Option<u32>,
    pub container: Option<u32>,
    /// States of the main thread; they and `unattributed_ns` add up to `wall_ns`.
    pub wall: Times,
    /// States of all threads of `processes` within the phase; `unattributed_ns` is 0.
    pub all: Times,
    /// The most by which a figure of `all` can be off: time in sums that the phase's edges cut.
    pub cut_ns: u64,
    /// Indexes in `processes`.
    pub processes: Vec<u32>,
    pub evidence: Evidence,
    /// Phases below it that are of the same container, or of none.
    pub phases: Vec<Phase>,
}

#[derive(Debug, Serialize)]
pub struct Evidence {
    pub from: String,
    pub to: String,
}

/// Where time went. All of them add up to the length that they divide.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
pub struct Times {
    pub cpu_ns: u64,
    pub runqueue_ns: u64,
    pub disk_ns: u64,
    pub network_ns: u64,
    pub lock_ns: u64,
    pub ipc_ns: u64,
    pub child_ns: u64,
    pub sleep_ns: u64,
    /// Waits too short for a stack of their own, known by their sum.
    pub short_blocked_ns: u64,
    pub other_ns: u64,
    pub lost_ns: u64,
    pub unattributed_ns: u64,
}

impl Times {
    fn new(resources: &Resources, unattributed_ns: u64) -> Times {
        Times {
            cpu_ns: resources.cpu,
            runqueue_ns: resources.runqueue,
            disk_ns: resources.disk,
            network_ns: resources.network,
            lock_ns: resources.lock,
            ipc_ns: resources.ipc,
            child_ns: resources.child,
            sleep_ns: resources.sleep,
            short_blocked_ns: resources.short_blocked,
            other_ns: resources.other,
            lost_ns: resources.lost,
            unattributed_ns,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Process {
    pub index: u32,
    pub pid: u32,
    /// With `pid` its name for good: pids are used again.
    pub start_ns: u64,
    pub parent: Option<u32>,
    /// Of its last program.
    pub comm: Escaped,
    pub argv: Vec<Escaped>,
    pub from_ns: u64,
    pub to_ns: u64,
    pub open: bool,
    /// It was there before the recording began.
    pub adopted: bool,
    /// `null` when its end was not seen or a signal killed it.
    pub exit_status: Option<i32>,
    pub signal: Option<i32>,
    pub resources: Times,
    pub threads: Vec<Thread>,
}

#[derive(Debug, Serialize)]
pub struct Thread {
    pub tid: u32,
    pub comm: Escaped,
    pub from_ns: u64,
    pub to_ns: u64,
    pub resources: Times,
    /// The kernel's own account of its time on CPUs, from birth: an independent witness. `null` when its end was not
    /// seen.
    pub sum_exec_runtime_ns: Option<u64>,
}

/// One of the longest waits.
#[derive(Debug, Serialize)]
pub struct Wait {
    pub pid: u32,
    pub tid: u32,
    pub process: u32,
    pub from_ns: u64,
    pub to_ns: u64,
    pub wait_ns: u64,
    /// What was waited for.
    pub class: &'static str,
    /// The same in a few more words: `pipe read`.
    pub detail: &'static str,
    /// Names of the stack's frames, leaf first, the kernel's first.
    pub stack: Vec<Escaped>,
    pub woken_by: Option<Waker>,
}

#[derive(Debug, Serialize)]
pub struct Waker {
    pub pid: u32,
    pub tid: u32,
    /// Woken from an interrupt: pid and tid are whoever was interrupted, no cause.
    pub interrupt: bool,
}

#[derive(Debug, Serialize)]
pub struct CoverageOut {
    pub samples: u64,
    pub samples_with_stack: u64,
    pub samples_with_user_stack: u64,
    pub samples_with_kernel_stack: u64,
    pub blocked_ns: u64,
    pub blocked_with_kernel_stack_ns: u64,
    pub blocked_with_user_stack_ns: u64,
}

#[derive(Debug, Serialize)]
pub struct Loss {
    pub name: String,
    pub count: u64,
    pub text: String,
    /// False for what is counted but takes nothing away from the figures.
    pub is_loss: bool,
}

/// The profiler's own cost.
#[derive(Debug, Serialize)]
pub struct Own {
    /// `null` when the kernel's BPF statistics were off.
    pub bpf_ns: Option<u64>,
    pub bpf_runs: u64,
    pub bpf_missed: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    /// CPUs × length of the recording.
    pub host_cpu_ns: u64,
    pub peak_memory_bytes: u64,
    pub recording_bytes: u64,
    pub startup_ns: u64,
    pub symbolize_ns: u64,
}

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
    Report {
        schema: SCHEMA,
        version: meta.version.clone(),
        name: meta.name.clone(),
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
            .map(|ix| container(session, ContainerIx(ix), &mut classifier))
            .collect(),
        phases: phases(session, None, None, &mut classifier),
        processes: indexes(session.processes.len())
            .map(|ix| process(session, ProcessIx(ix), &mut classifier))
            .collect(),
        waits: waits(session, &mut classifier),
        coverage: CoverageOut {
            samples: samples.samples,
            samples_with_stack: samples.samples_with_any,
            samples_with_user_stack: samples.samples_with_user,
            samples_with_kernel_stack: samples.samples_with_kernel,
            blocked_ns: all.blocked(),
            blocked_with_kernel_stack_ns: all.with_kernel_stack,
            blocked_with_user_stack_ns: all.with_user_stack,
        },
        layers: None,
        copy_ups: None,
        critical_path: None,
        not_measured: vec!["layers", "copy_ups", "critical_path"],
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
        open: operation.open,
        process: operation.process.0,
        processes: operation.processes.iter().map(|ix| ix.0).collect(),
        containers: indexes(session.containers.len())
            .filter(|container| session.containers[*container as usize].operation == Some(ix))
            .collect(),
    }
}

fn container(session: &Session, ix: ContainerIx, classifier: &mut Classifier) -> Container {
    let container = &session.containers[ix.ix()];
    Container {
        index: ix.0,
        id: Escaped::new(&container.id),
        name: Escaped::new(&container.name),
        engine: container.engine.clone(),
        runtime: container.runtime.clone(),
        image: Escaped::new(&container.image),
        cgroup: (container.cgroup != 0).then_some(container.cgroup),
        operation: container.operation.map(|ix| ix.0),
        entrypoint: container.entrypoint.map(|ix| ix.0),
        from_ns: container.span.from,
        to_ns: container.span.to,
        phases: phases(session, Some(ix), None, classifier),
    }
}

/// The phases of `container` directly below `parent`; without a parent those whose own parent is of another container
/// (or that have none).
fn phases(
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
        .map(|ix| phase(session, ix, classifier))
        .collect()
}

fn phase(session: &Session, ix: PhaseIx, classifier: &mut Classifier) -> Phase {
    let phase = &session.phases[ix.ix()];
    let figures = resources::phase(session, phase, classifier);
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
        wall: Times::new(&figures.wall, figures.unattributed),
        all: Times::new(&figures.all, 0),
        cut_ns: figures.all.cut,
        processes: phase.processes.iter().map(|ix| ix.0).collect(),
        evidence: Evidence {
            from: phase.evidence.0.clone(),
            to: phase.evidence.1.clone(),
        },
        phases: phases(session, phase.container, Some(ix), classifier),
    }
}

fn process(session: &Session, ix: ProcessIx, classifier: &mut Classifier) -> Process {
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
        user_ns: own.user_ns,
        system_ns: own.system_ns,
        host_cpu_ns: cost.host_ns,
        peak_memory_bytes: own.peak_rss_bytes,
        recording_bytes: own.recording_bytes,
        startup_ns: own.startup_ns,
        symbolize_ns: own.symbolize_ns,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::fixture;

    fn parsed(session: &Session) -> Value {
        serde_json::from_slice(&render(session).unwrap()).unwrap()
    }

    /// Make sure that the fields that are promised are there, with their types.
    #[test]
    fn promised_fields() {
        let report = parsed(&fixture::session());
        for pointer in [
            "/schema",
            "/span/begin_ns",
            "/span/end_ns",
            "/host/cpus",
            "/host/clocks/0/real_ns",
            "/operations/0/wall_ns",
            "/containers/0/cgroup",
            "/containers/0/phases/0/wall_ns",
            "/containers/0/phases/1/wall/cpu_ns",
            "/containers/0/phases/1/all/unattributed_ns",
            "/containers/0/phases/1/cut_ns",
            "/containers/0/phases/1/processes/0",
            "/phases/0/index",
            "/processes/0/pid",
            "/processes/1/parent",
            "/processes/0/threads/0/tid",
            "/processes/0/threads/0/resources/child_ns",
            "/waits/0/wait_ns",
            "/self/host_cpu_ns",
        ] {
            assert!(report.pointer(pointer).is_some_and(Value::is_u64), "{pointer}");
        }
        for pointer in [
            "/version",
            "/host/hostname",
            "/containers/0/id/text",
            "/containers/0/image/text",
            "/containers/0/engine",
            "/containers/0/runtime",
            "/phases/1/name",
            "/phases/1/label/text",
            "/processes/0/comm/text",
            "/processes/0/argv/0/text",
            "/containers/0/phases/1/evidence/from",
            "/waits/0/class",
        ] {
            assert!(report.pointer(pointer).is_some_and(Value::is_string), "{pointer}");
        }
        // What is not measured says so and is no empty list.
        for field in ["layers", "copy_ups", "critical_path"] {
            assert!(report[field].is_null());
            assert!(report["not_measured"].as_array().unwrap().contains(&field.into()));
        }
        for field in ["losses", "damage"] {
            assert!(report[field].is_array());
        }
    }

    /// Make sure that each phase stands in the tree exactly once, below its container or its step.
    #[test]
    fn phases_once() {
        fn collect(phases: &Value, found: &mut Vec<u64>) {
            for phase in phases.as_array().unwrap() {
                found.push(phase["index"].as_u64().unwrap());
                collect(&phase["phases"], found);
            }
        }
        let report = parsed(&fixture::session());
        let mut found = Vec::new();
        collect(&report["phases"], &mut found);
        assert_eq!(found, [0, 1, 2]);
        collect(&report["containers"][0]["phases"], &mut found);
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3, 4, 5]);
    }

    /// Make sure that a phase's wall time and each thread's life are the sum of their parts.
    #[test]
    fn times_add_up() {
        let session = fixture::session();
        let sum = |times: &Value| {
            times
                .as_object()
                .unwrap()
                .values()
                .map(|ns| ns.as_u64().unwrap())
                .sum::<u64>()
        };
        let report = parsed(&session);
        for phase in report["containers"][0]["phases"].as_array().unwrap() {
            assert_eq!(
                sum(&phase["wall"]),
                phase["wall_ns"].as_u64().unwrap(),
                "{}",
                phase["name"]
            );
        }
        for process in report["processes"].as_array().unwrap() {
            for thread in process["threads"].as_array().unwrap() {
                let life = thread["to_ns"].as_u64().unwrap() - thread["from_ns"].as_u64().unwrap();
                assert_eq!(sum(&thread["resources"]), life);
            }
        }
    }

    /// Make sure that bytes that are no UTF-8 are kept exactly, and hostile text stays text.
    #[test]
    fn bytes_are_kept() {
        let mut session = fixture::session();
        session.containers[0].name = b"a\xffb".to_vec();
        let report = parsed(&session);
        assert_eq!(report["containers"][0]["name"]["text"], "a\u{fffd}b");
        assert_eq!(report["containers"][0]["name"]["text_hex"], "61ff62");
        assert!(report["containers"][0]["id"].get("text_hex").is_none());
        assert_eq!(report["processes"][5]["argv"][1]["text"], fixture::HOSTILE);
    }

    /// Make sure that an exit status and a signal are told apart.
    #[test]
    fn exits() {
        let mut session = fixture::session();
        session.processes[0].exit_code = Some(3 << 8);
        session.processes[1].exit_code = Some(9);
        session.processes[2].exit_code = None;
        let report = parsed(&session);
        let exit = |index: usize| {
            (
                &report["processes"][index]["exit_status"],
                &report["processes"][index]["signal"],
            )
        };
        assert_eq!(exit(0), (&Value::from(3), &Value::Null));
        assert_eq!(exit(1), (&Value::Null, &Value::from(9)));
        assert_eq!(exit(2), (&Value::Null, &Value::Null));
    }

    /// Make sure that a broken tree of phases ends.
    #[test]
    fn circular_phases() {
        let mut session = fixture::session();
        session.phases[0].parent = Some(PhaseIx(1));
        session.phases[1].parent = Some(PhaseIx(0));
        parsed(&session);
    }

    /// Make sure that an empty session is a report.
    #[test]
    fn empty_session() {
        assert!(parsed(&Session::default())["phases"].as_array().unwrap().is_empty());
    }
}
