//! Sessions out of real event sequences, kept as text: what was recorded while a runtime ran, without scheduling and
//! samples. Paths are shortened, and iptables' processes left out.
//!
//! A line that begins with `#` says where the sequence is from, where it is not a recording. Any other is `ns<TAB>pid[/tid]<TAB>event<TAB>fields…`, in order of time:
//!
//! ```text
//! begin                                        (this process is the recorded command)
//! adopt      parent cgroup ns-pid pid-ns argv…
//! fork       parent child clone-flags          (threads are left out; a thread's events name its tid)
//! exec       cgroup ns-pid pid-ns inode file argv…
//! exit       wait-status
//! mkdir, rmdir, release   cgroup hierarchy path
//! populated  cgroup hierarchy 0|1 path
//! attach     cgroup hierarchy pid path
//! mount      entered result flags source target type
//! umount     entered result flags target
//! unshare    flags
//! fsopen     context's-fd type
//! fsconfig   context's-fd key value
//! fsmount    mount's-fd context's-fd
//! move_mount mount's-fd target
//! rename     from to
//! sync       file
//! listen     port|path                         (TCP, or a unix socket)
//! request    peer method path [word=value…]    (to the process `peer` over a local socket)
//! frames     peer [word=value…]                (the same, of HTTP/2: `digest`, `id`, `snapshot`)
//! exchange   begin last bytes method path      (with a registry, told at its end)
//! wait       from kernel-function              (a wait of that thread, ended at the line's time)
//! ```

mod write;

use std::collections::HashMap;

use profiler_common::container::call;
use profiler_common::net::{AF_INET, AF_UNIX};

use super::detect;
use crate::model::build::Builder;
use crate::model::{Interval, Phase, PhaseKind, Session, Span, State};
use crate::recording::record::{
    Adopt, At, Begin, Cgroup, CgroupOp, End, Exchange, Exec, Exit, Fork, Frame, Listen, Lookup, Place, Record, Request,
    Stack, Symbol, Syscall, TaskId, Text,
};

/// The start of the recording: fixtures count from there.
const BASE: u64 = 1_000_000_000;
const CLONE_THREAD: u64 = 0x0001_0000;
const IPPROTO_TCP: u16 = 6;

/// What is known of a process while its fixture is read.
#[derive(Clone, Copy)]
struct Now {
    leader: TaskId,
    cgroup: u64,
    pid_ns: u32,
    ns_pid: u32,
}

#[derive(Default)]
struct Fixture {
    builder: Builder,
    pids: HashMap<u32, Now>,
    threads: HashMap<u32, TaskId>,
    waits: Vec<(TaskId, Interval)>,
    stacks: u32,
}

/// Reads a fixture.
pub(super) fn session(text: &str) -> Session {
    let mut fixture = Fixture::default();
    let mut last = BASE;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        last = BASE + fields[0].parse::<u64>().unwrap();
        fixture.line(last, fields[1], fields[2], &fields[3..]);
    }
    fixture.builder.push(
        End {
            mono: last + 1_000,
            exit_code: None,
        }
        .into(),
    );
    let mut session = fixture.builder.finish(Vec::new());
    for (task, wait) in fixture.waits {
        let thread = session.threads.iter_mut().find(|thread| thread.id == task).unwrap();
        thread
            .intervals
            .retain(|interval| !matches!(interval.state, State::Lost));
        thread.intervals.push(wait);
    }
    session
}

impl Fixture {
    fn push(&mut self, record: impl Into<Record>) {
        self.builder.push(record.into());
    }

    fn now(&mut self, pid: u32) -> Now {
        // A process that nothing tells of: one of the kernel's workers, mostly.
        *self.pids.entry(pid).or_insert(Now {
            leader: TaskId {
                tgid: pid,
                tid: pid,
                start: 1,
            },
            cgroup: 1,
            pid_ns: 1,
            ns_pid: pid,
        })
    }

    fn task(&mut self, ts: u64, now: Now, tid: u32) -> TaskId {
        let pid = now.leader.tgid;
        if tid == pid {
            return now.leader;
        }
        if let Some(task) = self.threads.get(&tid).filter(|task| task.tgid == pid) {
            return *task;
        }
        let task = TaskId {
            tid,
            start: ts,
            ..now.leader
        };
        self.threads.insert(tid, task);
        self.push(Fork {
            at: At {
                ts,
                task,
                cgroup: now.cgroup,
                mnt_ns: 1,
                cpu: 0,
            },
            parent: now.leader,
            clone_flags: CLONE_THREAD,
            pid_ns: now.pid_ns,
            ns_tid: tid,
            comm: Text::new(),
        });
        task
    }

    fn line(&mut self, ts: u64, who: &str, event: &str, fields: &[&str]) {
        let number = |field: usize| {
            let text = fields[field];
            text.strip_prefix("0x")
                .map_or_else(|| text.parse().unwrap(), |hex| i64::from_str_radix(hex, 16).unwrap())
        };
        let text = |field: usize| {
            fields
                .get(field)
                .map(|text| text.as_bytes().to_vec())
                .unwrap_or_default()
        };
        let words = |from: usize| -> Vec<Text> { fields[from..].iter().map(|word| word.as_bytes().to_vec()).collect() };
        let (pid, tid) = who.split_once('/').unwrap_or((who, who));
        let (pid, tid): (u32, u32) = (pid.parse().unwrap(), tid.parse().unwrap());
        let mut now = self.now(pid);
        let task = self.task(ts, now, tid);
        let at = At {
            ts,
            task,
            cgroup: now.cgroup,
            mnt_ns: 1,
            cpu: 0,
        };
        let cgroup = |op, path| Cgroup {
            at,
            op,
            id: number(0) as u64,
            hierarchy: number(1) as u32,
            level: 0,
            path,
        };
        let call = |call, enter: u64, result, flags: u64, [a, b, c]: [Text; 3]| Syscall {
            at,
            enter,
            result,
            args: [flags, 0],
            call,
            a,
            b,
            c,
            d: Text::new(),
        };
        match event {
            "begin" => self.push(Begin {
                mono: ts,
                command: Some(task),
            }),
            "adopt" => {
                now = Now {
                    cgroup: number(1) as u64,
                    ns_pid: number(2) as u32,
                    pid_ns: number(3) as u32,
                    ..now
                };
                self.pids.insert(pid, now);
                self.push(Adopt {
                    at: At {
                        cgroup: now.cgroup,
                        ..at
                    },
                    parent_tgid: number(0) as u32,
                    pid_ns: now.pid_ns,
                    ns_tid: now.ns_pid,
                    state: 1,
                    on_cpu: false,
                    comm: Text::new(),
                    argv: words(4),
                    exe: text(4),
                });
            }
            "fork" => {
                let child = number(1) as u32;
                let leader = TaskId {
                    tgid: child,
                    tid: child,
                    start: ts,
                };
                self.pids.insert(
                    child,
                    Now {
                        leader,
                        ns_pid: child,
                        ..now
                    },
                );
                self.push(Fork {
                    at: At { task: leader, ..at },
                    parent: task,
                    clone_flags: number(2) as u64,
                    pid_ns: now.pid_ns,
                    ns_tid: child,
                    comm: Text::new(),
                });
            }
            "exec" => {
                now = Now {
                    cgroup: number(0) as u64,
                    ns_pid: number(1) as u32,
                    pid_ns: number(2) as u32,
                    ..now
                };
                self.pids.insert(pid, now);
                self.push(Exec {
                    at: At {
                        cgroup: now.cgroup,
                        ..at
                    },
                    old_tid: tid,
                    pid_ns: now.pid_ns,
                    ns_tid: now.ns_pid,
                    exe_dev: 1,
                    exe_ino: number(3) as u64,
                    comm: Text::new(),
                    filename: text(4),
                    argv: words(5),
                    argv_cut: 0,
                });
            }
            "exit" => {
                self.pids.remove(&pid);
                let code = number(0) as i32;
                let mut gone: Vec<TaskId> = self.threads.values().copied().filter(|task| task.tgid == pid).collect();
                self.threads.retain(|_, task| task.tgid != pid);
                gone.push(task);
                for task in gone {
                    let group_dead = Some(task.tid == pid);
                    let at = At { task, ..at };
                    self.push(Exit {
                        at,
                        code,
                        group_dead,
                        utime: 0,
                        stime: 0,
                    });
                }
            }
            "mkdir" => self.push(cgroup(CgroupOp::Mkdir, text(2))),
            "rmdir" => self.push(cgroup(CgroupOp::Rmdir, text(2))),
            "release" => self.push(cgroup(CgroupOp::Release, text(2))),
            "populated" => self.push(cgroup(CgroupOp::Populated(number(2) != 0), text(3))),
            "attach" => {
                let moved = self.now(number(2) as u32);
                let cgroup_id = number(0) as u64;
                self.pids.insert(
                    moved.leader.tgid,
                    Now {
                        cgroup: cgroup_id,
                        ..moved
                    },
                );
                self.push(cgroup(CgroupOp::Attach(moved.leader), text(3)));
            }
            "mount" => {
                let strings = [text(3), text(4), text(5)];
                self.push(call(
                    call::MOUNT,
                    BASE + number(0) as u64,
                    number(1),
                    number(2) as u64,
                    strings,
                ));
            }
            "umount" => {
                let strings = [Text::new(), text(3), Text::new()];
                self.push(call(
                    call::UMOUNT,
                    BASE + number(0) as u64,
                    number(1),
                    number(2) as u64,
                    strings,
                ));
            }
            "unshare" => self.push(call(call::UNSHARE, ts, 0, number(0) as u64, Default::default())),
            "fsopen" => {
                let strings = [Text::new(), Text::new(), text(1)];
                self.push(call(call::FSOPEN, ts, number(0), 0, strings));
            }
            "fsconfig" => {
                let strings = [text(2), Text::new(), text(1)];
                self.push(call(call::FSCONFIG, ts, 0, number(0) as u64, strings));
            }
            "fsmount" => self.push(call(call::FSMOUNT, ts, number(0), number(1) as u64, Default::default())),
            "move_mount" => {
                let strings = [Text::new(), text(1), Text::new()];
                self.push(call(call::MOVE_MOUNT, ts, 0, number(0) as u64, strings));
            }
            "rename" => self.push(call(call::RENAME, ts, 0, 0, [text(0), text(1), Text::new()])),
            "sync" => self.push(call(call::SYNC, ts, 0, 0, [text(0), Text::new(), Text::new()])),
            "listen" => {
                let port: Option<u16> = fields[0].parse().ok();
                self.push(Listen {
                    at,
                    enter: ts,
                    family: if port.is_some() { AF_INET } else { AF_UNIX },
                    socket_type: 1,
                    protocol: if port.is_some() { IPPROTO_TCP } else { 0 },
                    port: port.unwrap_or(0),
                    address: Vec::new(),
                    path: if port.is_some() { Text::new() } else { text(0) },
                });
            }
            "request" => self.push(Request {
                at,
                peer: number(0) as u32,
                method: text(1),
                path: text(2),
                query: pairs(&fields[3..]),
            }),
            "frames" => self.push(Request {
                at,
                peer: number(0) as u32,
                method: b"frames".to_vec(),
                path: Text::new(),
                query: pairs(&fields[1..]),
            }),
            "exchange" => {
                let begin = BASE + number(0) as u64;
                self.push(Request {
                    at: At { ts: begin, ..at },
                    peer: 0,
                    method: text(3),
                    path: text(4),
                    query: Vec::new(),
                });
                self.push(Exchange {
                    at,
                    connect: 0,
                    begin,
                    last: BASE + number(1) as u64,
                    sent: 200,
                    received: number(2) as u64,
                    address: vec![192, 0, 2, 1],
                    port: 5000,
                });
            }
            "wait" => {
                let stack = self.stack(fields[1]);
                let span = Span {
                    from: BASE + number(0) as u64,
                    to: ts,
                };
                let state = State::Blocked {
                    stack,
                    syscall: -1,
                    iowait: true,
                    task_state: 2,
                    waker: None,
                    open: false,
                    awaited: None,
                };
                self.waits.push((task, Interval { span, state }));
            }
            _ => panic!("{event}"),
        }
    }

    /// A kernel stack of one function.
    fn stack(&mut self, function: &str) -> u32 {
        self.stacks += 1;
        let id = self.stacks;
        self.push(Frame {
            id,
            place: Place::Kernel(u64::from(id)),
        });
        self.push(Symbol {
            frame: id,
            name: function.into(),
            offset: 0,
        });
        self.push(Stack {
            id,
            kernel: 1,
            frames: vec![id],
            user_error: 0,
        });
        id
    }
}

/// `word=value`
fn pairs(words: &[&str]) -> Vec<(Text, Text)> {
    let pairs = words.iter().map(|word| word.split_once('=').unwrap());
    pairs.map(|(word, value)| (word.into(), value.into())).collect()
}

/// Tells the session what the build whose client is `tool` read.
pub(super) fn dockerfile(session: &mut Session, tool: &str, text: &str) {
    let client = session.processes.iter().find(|process| {
        process.images.iter().any(|image| {
            let argv = &image.argv;
            argv.first().is_some_and(|word| word == tool.as_bytes())
                && argv.get(1).is_some_and(|word| word == b"build" || word == b"bud")
        })
    });
    let client = client.unwrap();
    let build = TaskId {
        tgid: client.tgid,
        tid: client.tgid,
        start: client.start,
    };
    let instructions = crate::lookup::dockerfile::parse(text.as_bytes());
    session.lookups.push(Lookup::Dockerfile {
        build,
        path: b"Containerfile".to_vec(),
        instructions,
    });
}

/// The phases as text, one a line: `container kind [label] from..to`, ms, children indented.
pub(super) fn outline(session: &mut Session) -> String {
    detect(session);
    check(session);
    let mut out = String::new();
    for (index, phase) in session
        .phases
        .iter()
        .enumerate()
        .filter(|(_, phase)| phase.parent.is_none())
    {
        line(session, index, phase, 0, &mut out);
    }
    out
}

fn line(session: &Session, index: usize, phase: &Phase, depth: usize, out: &mut String) {
    let container = phase.container.map(|ix| {
        let container = &session.containers[ix.ix()];
        let name = if container.name.is_empty() {
            &container.id[..container.id.len().min(6)]
        } else {
            &container.name
        };
        String::from_utf8_lossy(name).into_owned()
    });
    let operation = phase.operation.map(|ix| session.operations[ix.ix()].name.as_str());
    let ms = |ns: u64| (ns - BASE) as f64 / 1e6;
    out.push_str(&format!(
        "{:indent$}{} | {} | {}{}{} {:.1}..{:.1}{}\n",
        "",
        operation.unwrap_or("-"),
        container.as_deref().unwrap_or("-"),
        phase.kind.name(),
        if phase.label.is_empty() { "" } else { " " },
        String::from_utf8_lossy(&phase.label).replace('\n', " "),
        ms(phase.span.from),
        ms(phase.span.to),
        if phase.open { " open" } else { "" },
        indent = 2 * depth,
    ));
    for (child_index, child) in session.phases.iter().enumerate() {
        if child.parent.is_some_and(|parent| parent.ix() == index) {
            line(session, child_index, child, depth + 1, out);
        }
    }
}

/// What holds of every session.
pub(super) fn check(session: &Session) {
    for (index, phase) in session.phases.iter().enumerate() {
        assert!(phase.span.from <= phase.span.to, "{phase:?}");
        assert!(
            !phase.evidence.0.is_empty() && !phase.evidence.1.is_empty(),
            "{phase:?}"
        );
        if let Some(parent) = phase.parent {
            assert!(parent.ix() < index, "{phase:?}");
            let outer = session.phases[parent.ix()].span;
            assert!(outer.from <= phase.span.from && phase.span.to <= outer.to, "{phase:?}");
        }
        assert!(!phase.open || phase.span.to == session.span.to || phase.parent.is_some());
        assert!(phase.main.is_none_or(|main| main.ix() < session.threads.len()));
        assert!(phase.kind != PhaseKind::Step || phase.container.is_none());
    }
}
