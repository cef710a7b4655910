//! Sessions out of real event sequences, kept as text: what tracepoints said while a runtime ran.
//!
//! A line is `ns<TAB>pid[/tid]<TAB>event<TAB>fields…`, in order of time:
//!
//! ```text
//! fork       parent child clone-flags          (threads are left out; a thread's events name its tid)
//! exec       cgroup ns-pid pid-ns inode file argv…
//! exit       wait status
//! mkdir, rmdir, release   cgroup hierarchy path
//! populated  cgroup hierarchy 0|1 path
//! attach     cgroup hierarchy pid path
//! mount      entered result flags source target type
//! umount     entered result flags target
//! unshare    flags
//! wait       from kernel-function        (ends at the line's time)
//! ```

use std::collections::HashMap;

use profiler_common::container::call;

use super::detect;
use crate::model::{Image, Interval, Phase, PhaseKind, Process, ProcessIx, Session, Span, State, Thread, ThreadIx};
use crate::recording::record::{At, Begin, Cgroup, CgroupOp, Lookup, Place, Stack, Symbol, Syscall, TaskId, Text};

/// A fixture under construction.
#[derive(Default)]
pub(super) struct Fixture {
    session: Session,
    /// Latest process of each pid.
    pids: HashMap<u32, ProcessIx>,
    threads: HashMap<(ProcessIx, u32), ThreadIx>,
}

/// Reads a fixture. The first line's process is the recorded command.
pub(super) fn session(text: &str) -> Session {
    let mut fixture = Fixture::default();
    let mut last = 0;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        last = fields[0].parse().unwrap();
        fixture.line(last, fields[1], fields[2], &fields[3..]);
    }
    fixture.finish(last + 1)
}

impl Fixture {
    fn process(&mut self, pid: u32) -> ProcessIx {
        match self.pids.get(&pid) {
            Some(ix) => *ix,
            // A process that was there before: the kernel's workers, mostly.
            None => self.born(0, None, pid),
        }
    }

    fn born(&mut self, ts: u64, parent: Option<ProcessIx>, pid: u32) -> ProcessIx {
        let ix = ProcessIx(self.session.processes.len() as u32);
        let inherited = parent.map(|parent| self.session.processes[parent.ix()].clone());
        let image = inherited
            .as_ref()
            .and_then(|parent| parent.images.last())
            .map(|image| Image {
                ts,
                exec: false,
                ..image.clone()
            });
        self.session.processes.push(Process {
            tgid: pid,
            start: ts,
            parent,
            children: Vec::new(),
            span: Span { from: ts, to: u64::MAX },
            open: true,
            adopted: parent.is_none() && ts == 0,
            exit_code: None,
            images: vec![image.unwrap_or_default()],
            threads: Vec::new(),
            cgroups: vec![(ts, inherited.as_ref().map_or(1, |parent| parent.cgroup_at(u64::MAX)))],
            mnt_ns: Vec::new(),
            pid_ns: inherited.map_or(0, |parent| parent.pid_ns),
            ns_pid: pid,
        });
        if let Some(parent) = parent {
            self.session.processes[parent.ix()].children.push(ix);
        }
        self.pids.insert(pid, ix);
        self.thread(ix, pid);
        ix
    }

    fn thread(&mut self, process: ProcessIx, tid: u32) -> ThreadIx {
        if let Some(ix) = self.threads.get(&(process, tid)) {
            return *ix;
        }
        let ix = ThreadIx(self.session.threads.len() as u32);
        let owner = &mut self.session.processes[process.ix()];
        owner.threads.push(ix);
        let start = if tid == owner.tgid {
            owner.start
        } else {
            owner.start + u64::from(tid)
        };
        self.session.threads.push(Thread {
            id: TaskId {
                tgid: owner.tgid,
                tid,
                start,
            },
            process,
            comm: Text::new(),
            span: owner.span,
            open: true,
            intervals: Vec::new(),
            samples: Vec::new(),
            sum_exec: None,
            user_system: None,
        });
        self.threads.insert((process, tid), ix);
        ix
    }

    fn line(&mut self, ts: u64, who: &str, event: &str, fields: &[&str]) {
        let number = |field: usize| fields[field].parse::<i64>().unwrap();
        let text = |field: usize| {
            fields
                .get(field)
                .map(|text| text.as_bytes().to_vec())
                .unwrap_or_default()
        };
        let (pid, tid) = who.split_once('/').unwrap_or((who, who));
        let (pid, tid): (u32, u32) = (pid.parse().unwrap(), tid.parse().unwrap());
        if event == "fork" {
            let parent = self.pids.get(&(number(0) as u32)).copied();
            self.born(ts, parent.filter(|_| number(0) != number(1)), number(1) as u32);
            return;
        }
        let process = self.process(pid);
        let thread = self.thread(process, tid);
        let cgroup = self.session.processes[process.ix()].cgroup_at(ts);
        let at = At {
            ts,
            task: self.session.threads[thread.ix()].id,
            cgroup,
            mnt_ns: 0,
            cpu: 0,
        };
        let mut on_cgroup = |op, path: Text| {
            let (id, hierarchy) = (number(0) as u64, number(1) as u32);
            self.session.cgroups.push(Cgroup {
                at,
                op,
                id,
                hierarchy,
                level: 0,
                path,
            });
        };
        let call = |call, enter: i64, result, args: [u64; 2], [a, b, c]: [Text; 3]| {
            let enter = enter as u64;
            Syscall {
                at,
                enter,
                result,
                args,
                call,
                a,
                b,
                c,
                d: Text::new(),
            }
        };
        match event {
            "exec" => {
                let process = &mut self.session.processes[process.ix()];
                if number(0) as u64 != cgroup {
                    process.cgroups.push((ts, number(0) as u64));
                }
                if number(2) != 0 {
                    (process.ns_pid, process.pid_ns) = (number(1) as u32, number(2) as u32);
                }
                process.images.push(Image {
                    ts,
                    comm: Text::new(),
                    filename: text(4),
                    argv: fields[5..].iter().map(|word| word.as_bytes().to_vec()).collect(),
                    exec: true,
                    exe: (1, number(3) as u64),
                });
            }
            "exit" => {
                let process = &mut self.session.processes[process.ix()];
                (process.span.to, process.open, process.exit_code) = (ts, false, Some(number(0) as i32));
                self.pids.remove(&pid);
            }
            "mkdir" => on_cgroup(CgroupOp::Mkdir, text(2)),
            "rmdir" => on_cgroup(CgroupOp::Rmdir, text(2)),
            "release" => on_cgroup(CgroupOp::Release, text(2)),
            "populated" => on_cgroup(CgroupOp::Populated(number(2) != 0), text(3)),
            "attach" => {
                let moved = self.process(number(2) as u32);
                self.session.processes[moved.ix()].cgroups.push((ts, number(0) as u64));
            }
            "mount" => {
                let strings = [text(3), text(4), text(5)];
                let call = call(call::MOUNT, number(0), number(1), [number(2) as u64, 0], strings);
                self.session.syscalls.push(call);
            }
            "umount" => {
                let strings = [Text::new(), text(3), Text::new()];
                let call = call(call::UMOUNT, number(0), number(1), [number(2) as u64, 0], strings);
                self.session.syscalls.push(call);
            }
            "unshare" => {
                let call = call(call::UNSHARE, ts as i64, 0, [number(0) as u64, 0], Default::default());
                self.session.syscalls.push(call);
            }
            "wait" => {
                let stack = self.stack(fields[1]);
                let span = Span {
                    from: number(0) as u64,
                    to: ts,
                };
                let state = State::Blocked {
                    stack,
                    syscall: -1,
                    iowait: true,
                    task_state: 2,
                    waker: None,
                    open: false,
                };
                self.session.threads[thread.ix()]
                    .intervals
                    .push(Interval { span, state });
            }
            _ => panic!("{event}"),
        }
    }

    /// A kernel stack of one function.
    fn stack(&mut self, function: &str) -> u32 {
        let id = self.session.stacks.stacks.len() as u32 + 1;
        self.session.stacks.frames.insert(id, Place::Kernel(u64::from(id)));
        let name = function.as_bytes().to_vec();
        self.session.stacks.symbols.insert(
            id,
            Symbol {
                frame: id,
                name,
                offset: 0,
            },
        );
        self.session.stacks.stacks.insert(
            id,
            Stack {
                id,
                kernel: 1,
                frames: vec![id],
                user_error: 0,
            },
        );
        id
    }

    fn finish(mut self, end: u64) -> Session {
        self.session.span = Span { from: 0, to: end };
        for process in self.session.processes.iter_mut().filter(|process| process.open) {
            process.span.to = end;
        }
        for thread in &mut self.session.threads {
            thread.span = self.session.processes[thread.process.ix()].span;
            thread.open = self.session.processes[thread.process.ix()].open;
        }
        let command = self.session.processes.first().map(|process| TaskId {
            tgid: process.tgid,
            tid: process.tgid,
            start: process.start,
        });
        self.session.begin = Some(Begin { mono: 0, command });
        self.session
    }
}

/// Tells the session what the build whose client is `tool` read.
pub(super) fn dockerfile(session: &mut Session, tool: &str, text: &str) {
    let client = session.processes.iter().find(|process| {
        process.images.iter().any(|image| {
            let argv = &image.argv;
            argv.first().is_some_and(|word| word == tool.as_bytes()) && argv.get(1).is_some_and(|word| word == b"build")
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
    let ms = |ns: u64| ns as f64 / 1e6;
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
