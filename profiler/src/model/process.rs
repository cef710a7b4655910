//! Processes, threads, and where a thread's time went.

use super::share::share;
use super::{AwaitedIx, ProcessIx, Span, ThreadIx};
use crate::recording::record::{TaskId, Text};

/// One thread group, through all its execs.
#[derive(Clone, Debug)]
pub struct Process {
    pub tgid: u32,
    /// Start time of its leader, ns: with `tgid` its name for good.
    pub start: u64,
    pub parent: Option<ProcessIx>,
    pub children: Vec<ProcessIx>,
    /// Birth (or adoption, see `adopted`) to the end of its last thread, clipped to the recording.
    pub span: Span,
    /// It had not ended when the recording did.
    pub open: bool,
    /// It was there before the recording began.
    pub adopted: bool,
    /// As `wait()` gives it: `status << 8 | signal`.
    pub exit_code: Option<i32>,
    /// When its last thread began to end (`sched_process_exit`), which is what its parent and every tool call its exit.
    /// Its span goes on to that thread's last moment on a CPU: meanwhile the kernel gives back what it held, of a
    /// container's first process its namespaces, which can take milliseconds.
    pub exited: Option<u64>,
    /// Programs it ran, in order. The first is what it inherited at birth (`exec == false`, its parent's argv); none
    /// when neither its birth nor an exec was seen.
    pub images: Vec<Image>,
    pub threads: Vec<ThreadIx>,
    /// Cgroup ids it was in, with the time from which.
    pub cgroups: Vec<(u64, u64)>,
    /// Mount namespaces it was in, with the time from which.
    pub mnt_ns: Vec<(u64, u32)>,
    /// Pid namespace at birth or last exec, and its pid in there.
    pub pid_ns: u32,
    pub ns_pid: u32,
    /// Bytes that its threads moved while they were recorded; `None` when the kernel told of none.
    pub io: Option<Bytes>,
}

/// Bytes moved, as the kernel accounts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// By system calls, from and to anything: files, pipes, terminals.
    pub read: u64,
    pub written: u64,
    /// From block devices, and to them sooner or later.
    pub disk_read: u64,
    pub disk_written: u64,
}

/// A program that a process ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    pub ts: u64,
    pub comm: Text,
    /// As passed to exec; empty when inherited.
    pub filename: Text,
    pub argv: Vec<Text>,
    /// True when it came by exec (or is an adopted process's program), false when inherited by fork.
    pub exec: bool,
    pub exe: (u32, u64),
}

impl Process {
    /// Its exit: see [`Process::exited`]; where that was not recorded, its last moment.
    pub fn end(&self) -> u64 {
        self.exited
            .map_or(self.span.to, |exited| exited.clamp(self.span.from, self.span.to))
    }

    /// The program it ran at `ts`.
    pub fn image_at(&self, ts: u64) -> Option<&Image> {
        self.images
            .iter()
            .rev()
            .find(|image| image.ts <= ts)
            .or(self.images.first())
    }

    /// Its last program.
    pub fn image(&self) -> Option<&Image> {
        self.images.last()
    }

    /// The cgroup it was in at `ts`.
    pub fn cgroup_at(&self, ts: u64) -> u64 {
        self.cgroups
            .iter()
            .rev()
            .find(|(from, _)| *from <= ts)
            .or(self.cgroups.first())
            .map_or(0, |(_, id)| *id)
    }
}

/// One thread.
#[derive(Clone, Debug)]
pub struct Thread {
    pub id: TaskId,
    pub process: ProcessIx,
    /// The thread that made it by `fork`, `clone` or `vfork`; `None` when its birth, or that thread, was not recorded.
    pub maker: Option<ThreadIx>,
    pub comm: Text,
    /// Birth or adoption to its last moment on a CPU, clipped to the recording.
    pub span: Span,
    pub open: bool,
    /// Tiles `span` without a gap or an overlap, in order of time; what no event covers is [`State::Lost`].
    pub intervals: Vec<Interval>,
    /// CPU samples: time and stack id, in order of time.
    pub samples: Vec<(u64, u32)>,
    /// The kernel's own account of its time on CPUs, ns, if its end was seen.
    pub sum_exec: Option<u64>,
    /// User and system time as the kernel accounts them.
    pub user_system: Option<(u64, u64)>,
}

/// A piece of a thread's life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub span: Span,
    pub state: State,
}

impl Interval {
    /// The part of it that lies in `span`. A [`State::Mixed`] that is cut is shared out in proportion and still adds
    /// up to its length exactly.
    pub fn clip(self, span: Span) -> Interval {
        let part = self.span.clip(span);
        let state = match self.state {
            State::Mixed {
                cpu,
                runqueue,
                blocked,
                count,
            } if part != self.span => {
                let [cpu, runqueue, blocked] = share(part.len(), [cpu, runqueue, blocked]);
                // Differences of rounded running counts: those of all parts add up to the whole's.
                let until = |ts: u64| {
                    let passed = u128::from(ts.saturating_sub(self.span.from)) * u128::from(count);
                    let passed = passed.checked_div(u128::from(self.span.len())).unwrap_or(0);
                    u32::try_from(passed).unwrap_or(count)
                };
                State::Mixed {
                    cpu,
                    runqueue,
                    blocked,
                    count: until(part.to).saturating_sub(until(part.from)),
                }
            }
            state => state,
        };
        Interval { span: part, state }
    }
}

/// What a thread was doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    Cpu,
    /// Runnable, waiting for a CPU.
    Runqueue,
    Blocked {
        /// Id of the wait's stack, 0 for none.
        stack: u32,
        /// System call it was in; -1 none, -2 not asked.
        syscall: i32,
        /// The kernel's `in_iowait`.
        iowait: bool,
        /// 1 interruptible, 2 uninterruptible, …
        task_state: u32,
        waker: Option<Waker>,
        /// The wait had not ended when the recording did.
        open: bool,
        /// At what file, where that was recorded.
        awaited: Option<AwaitedIx>,
    },
    /// Many short intervals, known by their sums, ns; they add up to the interval's length.
    Mixed {
        cpu: u64,
        runqueue: u64,
        blocked: u64,
        count: u32,
    },
    /// No event covers it.
    Lost,
}

/// Who ended a wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waker {
    pub tgid: u32,
    pub tid: u32,
    /// From an interrupt: the waker is whoever was interrupted.
    pub interrupt: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that short intervals keep their times and their number however they are cut.
    #[test]
    fn cut_sums() {
        for count in [0, 1, 2, 7, 1_000, u32::MAX] {
            let whole = Interval {
                span: Span { from: 100, to: 1_117 },
                state: State::Mixed {
                    cpu: 500,
                    runqueue: 17,
                    blocked: 500,
                    count,
                },
            };
            for parts in [1, 2, 3, 10, 1_017] {
                let edge = |part: u64| 100 + 1_017 * part / parts;
                let mut sums = [0; 2];
                for part in 0..parts {
                    let span = Span {
                        from: edge(part),
                        to: edge(part + 1),
                    };
                    let State::Mixed {
                        cpu,
                        runqueue,
                        blocked,
                        count,
                    } = whole.clip(span).state
                    else {
                        panic!("cut into something else");
                    };
                    assert_eq!(cpu + runqueue + blocked, span.len());
                    sums = [sums[0] + span.len(), sums[1] + u64::from(count)];
                }
                assert_eq!(sums, [1_017, u64::from(count)], "{parts} parts");
            }
        }
    }
}
