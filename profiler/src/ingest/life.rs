//! What births, programs and ends change on the way into the recording: what must be looked up while they are there.

use std::os::unix::ffi::OsStringExt as _;

use profiler_common::container::call;

use super::{Ingest, decode, looking::seen_by, marks, redact};
use crate::{
    kernel::host,
    lookup::{dockerfile, engines, images::Viewer, state},
    recording::record::{Adopt, ContainerState, Exec, Exit, Fork, Lookup, Mark, Record},
};

/// `CLONE_THREAD` of `include/uapi/linux/sched.h`.
const CLONE_THREAD: u64 = 0x0001_0000;

impl Ingest {
    /// Whether the exec is of a process that is not profiled: one of those that are told for what they may mark.
    pub(super) fn is_told_only(&self, exec: &Exec) -> bool {
        exec.comm == marks::PROGRAM.as_bytes() && !self.mnt_ns.contains_key(&exec.at.task.tgid)
    }

    pub(super) fn mark(&mut self, exec: &Exec) {
        if marks::parse(&exec.argv).is_none() {
            return;
        }
        let mut argv = exec.argv.clone();
        if self.redact {
            redact::redact(&mut argv);
        }
        if let Some((op, name)) = marks::parse(&argv) {
            self.out.push(Mark { at: exec.at, op, name }.into());
        }
    }

    /// What engines keep about a container is written before the runtime is called, and may be gone soon after.
    fn container_state(&mut self, exec: &Exec) {
        self.daemons.seen(&exec.argv);
        let Ingest { looking, daemons, .. } = self;
        let state = looking.look(exec.at, |tree| state::created(&exec.argv, daemons, tree));
        if let Some(state) = state {
            self.tell_state(state);
        }
    }

    /// The same of a container that was there before, by its monitor.
    fn monitored_state(&mut self, adopt: &Adopt) {
        self.daemons.seen(&adopt.argv);
        if let Some(state) = state::monitored(&adopt.argv, || seen_by(adopt.at)) {
            self.tell_state(state);
        }
    }

    fn tell_state(&mut self, mut state: ContainerState) {
        if self.redact {
            redact::redact(&mut state.healthcheck);
        }
        self.out.push(state.into());
    }

    /// What the events of births, execs and ends change here.
    pub(super) fn lifecycle(&mut self, record: &mut Record) {
        match record {
            Record::Fork(fork) => self.fork(fork),
            Record::Exit(exit) => self.exit(exit),
            Record::Exec(exec) => {
                self.mnt_ns.insert(exec.at.task.tgid, exec.at.mnt_ns);
                if let Some(unseeded) = &mut self.unseeded {
                    unseeded.remove(&exec.at.task.tgid);
                }
                self.map_until(exec.at.ts);
                self.stacks.process(exec.at.task.tgid, exec.ns_tid);
                if self.mappings_paused {
                    // The old image's mappings would name the new one's frames.
                    self.stacks.exec(exec.at.task.tgid);
                    self.unmapped_execs += 1;
                }
                self.engines.extend(engine(&exec.filename, &exec.argv));
                self.build_file(exec);
                self.container_state(exec);
                self.mark(exec);
                if self.redact {
                    redact::redact(&mut exec.argv);
                }
            }
            Record::Adopt(adopt) => {
                let task = adopt.at.task;
                if task.tgid == task.tid {
                    self.leaders.insert(task.tgid, task);
                    if let Some(unseeded) = &mut self.unseeded {
                        unseeded.insert(task.tgid);
                    }
                    self.mnt_ns.insert(task.tgid, adopt.at.mnt_ns);
                    self.overlays.adopted(task.tgid, adopt.at.mnt_ns);
                    self.stacks.process(task.tgid, adopt.ns_tid);
                    let (argv, exe) = program_of(task.tgid);
                    self.engines.extend(engine(&exe, &argv));
                    adopt.argv = argv;
                    adopt.exe = exe;
                    self.monitored_state(adopt);
                    if self.redact {
                        redact::redact(&mut adopt.argv);
                    }
                }
            }
            Record::Syscall(call) => {
                self.mnt_ns.insert(call.at.task.tgid, call.at.mnt_ns);
                self.stacks.syscall(call);
                self.overlays.syscall(call);
                if call.call == call::RENAME && call.result == 0 {
                    let (mnt_ns, pid) = (call.at.mnt_ns, call.at.task.tgid);
                    self.images.renamed(Viewer { mnt_ns, pid }, &call.b);
                }
            }
            _ => {}
        }
    }

    /// A build's steps are named by the file it reads, which may be gone or changed later.
    fn build_file(&mut self, exec: &Exec) {
        let found = self.looking.look(exec.at, |tree| dockerfile::look_up(&exec.argv, tree));
        let Some((path, mut instructions)) = found else {
            return;
        };
        if self.redact {
            redact::redact(&mut instructions);
        }
        self.out.push(
            Lookup::Dockerfile {
                build: exec.at.task,
                path: path.into_os_string().into_vec(),
                instructions,
            }
            .into(),
        );
    }

    fn fork(&mut self, fork: &Fork) {
        if fork.clone_flags & CLONE_THREAD == 0 {
            let child = fork.at.task.tgid;
            self.map_until(fork.at.ts);
            self.stacks.fork(fork.parent.tgid, child);
            self.stacks.process(child, fork.ns_tid);
            self.mnt_ns.insert(child, fork.at.mnt_ns);
            self.alive.insert(child);
            if let Some(unseeded) = &mut self.unseeded
                && unseeded.contains(&fork.parent.tgid)
            {
                unseeded.insert(child);
            }
        }
    }

    fn exit(&mut self, exit: &Exit) {
        let task = exit.at.task;
        self.unwinding.exit(task);
        // Where the kernel does not tell the group's end, the leader's stands for it.
        if exit.group_dead.unwrap_or(task.tgid == task.tid) {
            self.map_until(exit.at.ts);
            self.alive.remove(&task.tgid);
            self.overlays.exited(task.tgid);
            self.stacks.exit(task.tgid);
            self.mnt_ns.remove(&task.tgid);
            self.leaders.remove(&task.tgid);
            if let Some(unseeded) = &mut self.unseeded {
                unseeded.remove(&task.tgid);
            }
        }
    }
}

/// Arguments and program file of a process that is there already.
fn program_of(pid: u32) -> (Vec<Vec<u8>>, Vec<u8>) {
    let argv = host::command_line(pid);
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    (decode::arguments(&argv), exe.into_os_string().into_encoded_bytes())
}

/// The engine or runtime that a process runs, by its file or what it was started as: runc and crun execute themselves
/// through `/proc`.
fn engine(file: &[u8], argv: &[Vec<u8>]) -> Option<&'static str> {
    let names = [Some(file), argv.first().map(Vec::as_slice)];
    names
        .into_iter()
        .flatten()
        .find_map(|name| engines::known(name.rsplit(|byte| *byte == b'/').next().unwrap_or_default()))
}
