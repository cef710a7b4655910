//! The probes, as data: what is loaded, what `doctor` tells and what the support table says all derive from this.

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A BTF-typed raw tracepoint (Linux 5.5 and later).
    TpBtf(&'static str),
    /// The classic tracepoints `syscalls:PREFIX_CALL` of [`CALLS`].
    Syscalls(&'static str),
    /// The sampling clock, on each CPU.
    Clock,
    /// A task iterator (Linux 5.8 and later), run when it is needed.
    TaskIterator,
}

/// One program.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Name of the program in the object.
    pub program: &'static str,
    pub attach: Attach,
    /// Without it nothing can be recorded.
    pub required: bool,
    /// What it gives, and so what is missing without it.
    pub gives: &'static str,
    /// First Linux with all that the program calls and is attached to; the ring buffer alone asks for 5.8.
    pub since: &'static str,
    /// The kernel's declaration of what the program is given.
    pub prototype: &'static str,
}

/// In the order in which they are attached: what makes a thread tracked first, the sampler last (each attach
/// interrupts every CPU; with the sampler on, systing 090620c measured 9 s on 224 CPUs).
pub const PROBES: &[Probe] = &[
    Probe {
        program: "sched_process_exit",
        attach: Attach::TpBtf("sched_process_exit"),
        required: true,
        gives: "ends of threads, exit codes",
        since: "5.8",
        prototype: "sched_process_exit(struct task_struct *p); with bool group_dead since 6.16",
    },
    Probe {
        program: "sched_switch",
        attach: Attach::TpBtf("sched_switch"),
        required: true,
        gives: "on-CPU, run queue and blocked time",
        since: "5.9",
        prototype: "sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next); \
                    with unsigned int prev_state since 5.18",
    },
    Probe {
        program: "sched_waking",
        attach: Attach::TpBtf("sched_waking"),
        required: true,
        gives: "ends of waits and who ended them",
        since: "5.8",
        prototype: "sched_waking(struct task_struct *p)",
    },
    Probe {
        program: "sched_process_exec",
        attach: Attach::TpBtf("sched_process_exec"),
        required: true,
        gives: "programs and their arguments",
        since: "5.8",
        prototype: "sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)",
    },
    Probe {
        program: "task_newtask",
        attach: Attach::TpBtf("task_newtask"),
        required: true,
        gives: "births of processes and threads",
        since: "5.8",
        prototype: "task_newtask(struct task_struct *task, u64 clone_flags)",
    },
    Probe {
        program: "cgroup_mkdir",
        attach: Attach::TpBtf("cgroup_mkdir"),
        required: false,
        gives: "containers' cgroups: when they are made",
        since: "5.8",
        prototype: "cgroup_mkdir(struct cgroup *cgrp, const char *path)",
    },
    Probe {
        program: "cgroup_rmdir",
        attach: Attach::TpBtf("cgroup_rmdir"),
        required: false,
        gives: "containers' cgroups: when they are removed",
        since: "5.8",
        prototype: "cgroup_rmdir(struct cgroup *cgrp, const char *path)",
    },
    Probe {
        program: "cgroup_release",
        attach: Attach::TpBtf("cgroup_release"),
        required: false,
        gives: "containers' cgroups: when they are gone",
        since: "5.8",
        prototype: "cgroup_release(struct cgroup *cgrp, const char *path)",
    },
    Probe {
        program: "cgroup_attach_task",
        attach: Attach::TpBtf("cgroup_attach_task"),
        required: false,
        gives: "which process enters which container",
        since: "5.8",
        prototype: "cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, \
                    bool threadgroup)",
    },
    Probe {
        program: "cgroup_notify_populated",
        attach: Attach::TpBtf("cgroup_notify_populated"),
        required: false,
        gives: "when a container's last process is gone",
        since: "5.8",
        prototype: "cgroup_notify_populated(struct cgroup *cgrp, const char *path, int val)",
    },
    Probe {
        program: "sys_exit",
        attach: Attach::Syscalls("sys_exit"),
        required: false,
        gives: "mounts, unmounts, namespace changes and sockets that begin to listen",
        since: "5.8",
        prototype: "struct syscall_trace_exit { struct trace_entry ent; int nr; long ret; }",
    },
    Probe {
        program: "sys_enter",
        attach: Attach::Syscalls("sys_enter"),
        required: false,
        gives: "when mounts, unmounts and namespace changes began",
        since: "5.8",
        prototype: "struct syscall_trace_enter { struct trace_entry ent; int nr; unsigned long args[]; }",
    },
    Probe {
        program: "memory_exit",
        attach: Attach::TpBtf("sched_process_exit"),
        required: false,
        gives: "the most that processes and their cgroups held in memory",
        since: "5.8",
        prototype: "sched_process_exit(struct task_struct *p); with bool group_dead since 6.16",
    },
    Probe {
        program: "memory_exec",
        attach: Attach::TpBtf("sched_process_exec"),
        required: false,
        gives: "before 6.16, memory of a process's earlier programs apart from its last one's",
        since: "5.8",
        prototype: "sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)",
    },
    Probe {
        program: "oom_victim",
        attach: Attach::TpBtf("mark_victim"),
        required: false,
        gives: "kills for want of memory",
        since: "5.8",
        prototype: "mark_victim(int pid); with struct task_struct *task, uid_t uid instead since 6.9",
    },
    Probe {
        program: "adopt_tasks",
        attach: Attach::TaskIterator,
        required: true,
        gives: "threads that were there before the recording",
        since: "5.8",
        prototype: "struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }",
    },
    Probe {
        program: "flush_tasks",
        attach: Attach::TaskIterator,
        required: true,
        gives: "what threads are in when the recording ends",
        since: "5.8",
        prototype: "struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }",
    },
    Probe {
        program: "cpu_sample",
        attach: Attach::Clock,
        required: true,
        gives: "CPU samples with stacks",
        since: "5.8",
        prototype: "struct bpf_perf_event_data { bpf_user_pt_regs_t regs; __u64 sample_period; __u64 addr; }",
    },
];

/// A system call that is watched.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// As in the tracepoint's name, `sys_enter_NAME`.
    pub name: &'static str,
    /// Number on this architecture.
    pub number: i64,
    /// [`profiler_common::container::call`]
    pub call: u32,
}

macro_rules! calls {
    ($( $name:literal, $number:ident, $call:ident; )+) => {
        /// The system calls that change mounts and namespaces, and the one that opens a service. Few and rare, since each classic tracepoint counts:
        /// never one that a container's workload calls often.
        pub const CALLS: &[Call] = &[ $( Call {
            name: $name,
            number: libc::$number,
            call: profiler_common::container::call::$call,
        }, )+ ];
    };
}
calls! {
    "mount", SYS_mount, MOUNT;
    "umount", SYS_umount2, UMOUNT;
    "pivot_root", SYS_pivot_root, PIVOT_ROOT;
    "unshare", SYS_unshare, UNSHARE;
    "setns", SYS_setns, SETNS;
    "sethostname", SYS_sethostname, SETHOSTNAME;
    "move_mount", SYS_move_mount, MOVE_MOUNT;
    "fsopen", SYS_fsopen, FSOPEN;
    "fsconfig", SYS_fsconfig, FSCONFIG;
    "fsmount", SYS_fsmount, FSMOUNT;
    "listen", SYS_listen, LISTEN;
}

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that the sampler comes last, and names are unique.
    #[test]
    fn order() {
        assert_eq!(PROBES.last().unwrap().attach, Attach::Clock);
        let mut names: Vec<_> = PROBES.iter().map(|probe| probe.program).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROBES.len());
    }
}
