//! What the container stamped beside what was recorded of it.

use crate::attribute::resources::{Resources, thread_within};
use crate::attribute::waits::Classifier;
use crate::model::{Session, Span, ThreadIx};

use super::stamps::{Part, Stamps};

/// One part of the workload: the container's own account, and the profile's of the same thread and time.
#[derive(Clone, Debug)]
pub struct Compared {
    pub part: Part,
    pub profiled: Resources,
}

impl Compared {
    /// Time off the CPU by the container's account, ns: its clock minus its thread's CPU clock.
    pub fn stamped_off_cpu(&self) -> u64 {
        self.part.wall_ns().saturating_sub(self.part.cpu_ns)
    }

    /// Time off the CPU by the profile, ns: blocked, or waiting in a run queue.
    pub fn profiled_off_cpu(&self) -> u64 {
        self.profiled.blocked().saturating_add(self.profiled.runqueue)
    }
}

/// The container's first process is not in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the recording holds no process {pid} that lived while the container's entrypoint ran")]
pub struct NotRecorded {
    pub pid: u32,
}

/// Looks up each part of the workload in the recording.
///
/// # Errors
///
/// When the container's first process was not recorded.
pub fn compare(session: &Session, stamps: &Stamps) -> Result<Vec<Compared>, NotRecorded> {
    let thread = entrypoint(session, stamps).ok_or(NotRecorded { pid: stamps.pid })?;
    let mut classifier = Classifier::new();
    let compared = stamps.parts.iter().map(|part| {
        let span = Span {
            from: part.start_ns,
            to: part.end_ns,
        };
        Compared {
            part: part.clone(),
            profiled: thread_within(session, thread, span, &mut classifier),
        }
    });
    Ok(compared.collect())
}

/// The entrypoint's only thread: pids repeat, so it must have lived when the first part began.
fn entrypoint(session: &Session, stamps: &Stamps) -> Option<ThreadIx> {
    let began = stamps.parts.first()?.start_ns;
    let found = session.threads.iter().position(|thread| {
        thread.id.tgid == stamps.pid && thread.id.tid == stamps.pid && thread.span.contains(began)
    })?;
    u32::try_from(found).ok().map(ThreadIx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Interval, ProcessIx, State, Thread};
    use crate::recording::record::TaskId;

    fn interval(from: u64, to: u64, state: State) -> Interval {
        Interval {
            span: Span { from, to },
            state,
        }
    }

    fn session(pid: u32, start: u64) -> Session {
        let sleep = State::Blocked {
            stack: 0,
            syscall: -1,
            iowait: false,
            task_state: 1,
            waker: None,
            open: false,
            awaited: None,
        };
        Session {
            threads: vec![Thread {
                id: TaskId {
                    tgid: pid,
                    tid: pid,
                    start,
                },
                process: ProcessIx(0),
                comm: Vec::new(),
                span: Span { from: start, to: 1000 },
                open: false,
                intervals: vec![
                    interval(start, 400, State::Cpu),
                    interval(400, 500, State::Runqueue),
                    interval(500, 1000, sleep),
                ],
                samples: Vec::new(),
                sum_exec: None,
                maker: None,
                user_system: None,
            }],
            ..Session::default()
        }
    }

    fn stamps(pid: u32) -> Stamps {
        let part = |name: &str, start_ns, end_ns, cpu_ns| Part {
            name: name.to_owned(),
            start_ns,
            end_ns,
            cpu_ns,
            bytes: 0,
            cached_bytes: 0,
        };
        Stamps {
            container: "c".to_owned(),
            cgroup: None,
            pid,
            stages: Vec::new(),
            parts: vec![part("burn", 200, 450, 200), part("sleep", 450, 900, 0)],
        }
    }

    /// Make sure that each part is compared with its own thread's time between its own stamps.
    #[test]
    fn parts_are_clipped() {
        let compared = compare(&session(7, 100), &stamps(7)).unwrap();
        assert_eq!((compared[0].profiled.cpu, compared[0].profiled_off_cpu()), (200, 50));
        assert_eq!(compared[0].stamped_off_cpu(), 50);
        assert_eq!((compared[1].profiled.cpu, compared[1].profiled_off_cpu()), (0, 450));
        assert_eq!(compared[1].stamped_off_cpu(), 450);
    }

    /// Make sure that a process with the same pid that came later is not taken for the container's.
    #[test]
    fn pid_reused() {
        assert_eq!(
            compare(&session(7, 300), &stamps(7)).unwrap_err(),
            NotRecorded { pid: 7 }
        );
        assert_eq!(
            compare(&session(8, 100), &stamps(7)).unwrap_err(),
            NotRecorded { pid: 7 }
        );
    }
}
