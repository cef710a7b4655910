//! The probes, as data: what is loaded, what `doctor` tells and what the support table says all derive from this.

mod rung;

pub use rung::Rung;

/// What a signal is taken from: which rungs there are for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// The memory of each profiled thread; no program of its own, but the variant of the object.
    State,
    /// A tracepoint whose program needs its arguments' types, with no rung below.
    TpBtf(&'static str),
    /// The same, where it is asked for.
    Asked(&'static str),
    /// The same again, where the kernel leaves the first program out when it is in the middle of another thread's.
    Again(&'static str),
    /// The same, with the name that it had before.
    Renamed(&'static str, &'static str),
    /// A tracepoint, BTF-typed or raw; the raw one's program has the name with `_raw`.
    Tracepoint(&'static str),
    /// What sockets send: a tracepoint, or the functions [`SENDS`].
    Sends(&'static str),
    /// The beginnings and ends of [`CALLS`], each call by itself.
    Calls,
    /// The functions of the overlay that bracket a copy-up, or its traces.
    CopyUps,
    /// The overlay's function that puts whiteouts in their places, or ext4's renames that do.
    Whiteouts,
    /// The function by which an overlay opens a file, or the end of the system call.
    Opens,
    /// A program that another one on this tracepoint goes on in; not attached by itself.
    Tail(&'static str),
    /// The sampling clock, on each CPU.
    Clock,
    /// A task iterator, run when it is needed.
    TaskIterator,
}

impl Attach {
    /// The tracepoint that a program of its own is attached to, by the name that it has now.
    pub const fn tracepoint(self) -> Option<&'static str> {
        match self {
            Attach::TpBtf(name)
            | Attach::Asked(name)
            | Attach::Again(name)
            | Attach::Renamed(name, _)
            | Attach::Sends(name)
            | Attach::Tracepoint(name) => Some(name),
            Attach::State
            | Attach::Calls
            | Attach::CopyUps
            | Attach::Whiteouts
            | Attach::Opens
            | Attach::Tail(_)
            | Attach::Clock
            | Attach::TaskIterator => None,
        }
    }

    /// The ways in which it can be had, best and cheapest first.
    pub const fn rungs(self) -> &'static [Rung] {
        match self {
            Attach::State => &[Rung::Storage, Rung::Hash, Rung::HashUntyped],
            Attach::TpBtf(_) | Attach::Asked(_) | Attach::Again(_) | Attach::Renamed(..) => &[Rung::TpBtf],
            Attach::Sends(_) => &[Rung::TpBtf, Rung::Fentry],
            Attach::CopyUps => &[Rung::Kprobe, Rung::Signature],
            Attach::Whiteouts => &[Rung::Kprobe, Rung::Rename],
            Attach::Opens => &[Rung::Kprobe, Rung::Classic],
            Attach::Tracepoint(_) => &[Rung::TpBtf, Rung::RawTp],
            Attach::Calls => &[Rung::Fentry, Rung::Kprobe, Rung::Classic],
            Attach::Clock => &[Rung::Unwind, Rung::Clock],
            Attach::Tail(_) => &[Rung::TpBtf],
            Attach::TaskIterator => &[Rung::TaskIterator],
        }
    }
}

/// One signal.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The signal's name, and that of the program of its best rung.
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
        program: "task_state",
        attach: Attach::State,
        required: true,
        gives: "the kernel's memory of each profiled thread",
        since: "5.9",
        prototype: "",
    },
    Probe {
        program: "sched_process_exit",
        attach: Attach::Tracepoint("sched_process_exit"),
        required: true,
        gives: "ends of threads, exit codes",
        since: "5.8",
        prototype: "sched_process_exit(struct task_struct *p); with bool group_dead since 6.16",
    },
    Probe {
        program: "sched_switch",
        attach: Attach::Tracepoint("sched_switch"),
        required: true,
        gives: "on-CPU, run queue and blocked time",
        since: "5.9",
        prototype: "sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next); \
                    with unsigned int prev_state since 5.18",
    },
    Probe {
        program: "wait_unwind",
        attach: Attach::Tail("sched_switch"),
        required: false,
        gives: "user stacks of waits by unwind tables (else by frame pointers)",
        since: "5.9",
        prototype: "as sched_switch, which calls it",
    },
    Probe {
        program: "sched_waking",
        attach: Attach::Tracepoint("sched_waking"),
        required: true,
        gives: "ends of waits and who ended them",
        since: "5.8",
        prototype: "sched_waking(struct task_struct *p)",
    },
    Probe {
        program: "sched_process_exec",
        attach: Attach::Tracepoint("sched_process_exec"),
        required: true,
        gives: "programs and their arguments",
        since: "5.8",
        prototype: "sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)",
    },
    Probe {
        program: "task_newtask",
        attach: Attach::Tracepoint("task_newtask"),
        required: true,
        gives: "births of processes and threads",
        since: "5.8",
        prototype: "task_newtask(struct task_struct *task, u64 clone_flags)",
    },
    Probe {
        program: "cgroup_mkdir",
        attach: Attach::Tracepoint("cgroup_mkdir"),
        required: false,
        gives: "containers' cgroups: when they are made",
        since: "5.8",
        prototype: "cgroup_mkdir(struct cgroup *cgrp, const char *path)",
    },
    Probe {
        program: "cgroup_rmdir",
        attach: Attach::Tracepoint("cgroup_rmdir"),
        required: false,
        gives: "containers' cgroups: when they are removed",
        since: "5.8",
        prototype: "cgroup_rmdir(struct cgroup *cgrp, const char *path)",
    },
    Probe {
        program: "cgroup_release",
        attach: Attach::Tracepoint("cgroup_release"),
        required: false,
        gives: "containers' cgroups: when they are gone",
        since: "5.8",
        prototype: "cgroup_release(struct cgroup *cgrp, const char *path)",
    },
    Probe {
        program: "cgroup_attach_task",
        attach: Attach::Tracepoint("cgroup_attach_task"),
        required: false,
        gives: "which process enters which container",
        since: "5.8",
        prototype: "cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, \
                    bool threadgroup)",
    },
    Probe {
        program: "cgroup_notify_populated",
        attach: Attach::Tracepoint("cgroup_notify_populated"),
        required: false,
        gives: "when a container's last process is gone",
        since: "5.8",
        prototype: "cgroup_notify_populated(struct cgroup *cgrp, const char *path, int val)",
    },
    Probe {
        program: "inet_sock_set_state",
        attach: Attach::TpBtf("inet_sock_set_state"),
        required: false,
        gives: "engines' connections: when they are asked for and closed",
        since: "5.8",
        prototype: "inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)",
    },
    Probe {
        program: "tcp_rcv_space_adjust",
        attach: Attach::TpBtf("tcp_rcv_space_adjust"),
        required: false,
        gives: "bytes that engines read from registries",
        since: "5.8",
        prototype: "tcp_rcv_space_adjust(struct sock *sk)",
    },
    Probe {
        program: "sock_send_length",
        attach: Attach::Sends("sock_send_length"),
        required: false,
        gives: "downloads, and which client asked an engine for what",
        since: "5.8",
        prototype: "sock_send_length(struct sock *sk, int ret, int flags) since 6.3; with \
                    int unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len), inet_sendmsg and \
                    inet6_sendmsg",
    },
    Probe {
        program: "mount_calls",
        attach: Attach::Calls,
        required: false,
        gives: "mounts, unmounts, namespace changes, sockets that begin to listen; files that engines put in place",
        since: "5.8",
        prototype: "long __x64_sys_NAME(const struct pt_regs *regs); \
                    with struct syscall_trace_enter { struct trace_entry ent; int nr; unsigned long args[]; } and \
                    struct syscall_trace_exit { struct trace_entry ent; int nr; long ret; } as tracepoints",
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
        program: "page_added",
        attach: Attach::TpBtf("mm_filemap_add_to_page_cache"),
        required: false,
        gives: "which files are read from disk, and by whom",
        since: "5.8",
        prototype: "mm_filemap_add_to_page_cache(struct folio *folio); with struct page *page before 5.16",
    },
    Probe {
        program: "page_dirtied",
        attach: Attach::Renamed("writeback_dirty_folio", "writeback_dirty_page"),
        required: false,
        gives: "which files are written, and by whom",
        since: "5.8",
        prototype: "writeback_dirty_folio(struct folio *folio, struct address_space *mapping); \
                    with struct page *page as writeback_dirty_page before 5.16",
    },
    Probe {
        program: "pages_exec",
        attach: Attach::TpBtf("sched_process_exec"),
        required: false,
        gives: "what programs read and wrote, apart from what they ran next",
        since: "5.8",
        prototype: "sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)",
    },
    Probe {
        program: "pages_exit",
        attach: Attach::TpBtf("sched_process_exit"),
        required: false,
        gives: "the last pages that threads read and wrote",
        since: "5.8",
        prototype: "sched_process_exit(struct task_struct *p); with bool group_dead since 6.16",
    },
    Probe {
        program: "task_newtask_again",
        attach: Attach::Again("task_newtask"),
        required: false,
        gives: "births that the kernel left out of task_newtask",
        since: "7.0",
        prototype: "task_newtask(struct task_struct *task, u64 clone_flags)",
    },
    Probe {
        program: "sched_process_exec_again",
        attach: Attach::Again("sched_process_exec"),
        required: false,
        gives: "execs that it left out of sched_process_exec",
        since: "7.0",
        prototype: "sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)",
    },
    Probe {
        program: "sched_process_exit_again",
        attach: Attach::Again("sched_process_exit"),
        required: false,
        gives: "ends that it left out of sched_process_exit",
        since: "7.0",
        prototype: "sched_process_exit(struct task_struct *p, bool group_dead)",
    },
    Probe {
        program: "memory_exit_again",
        attach: Attach::Again("sched_process_exit"),
        required: false,
        gives: "the most in memory that it left out of memory_exit",
        since: "7.0",
        prototype: "sched_process_exit(struct task_struct *p, bool group_dead)",
    },
    Probe {
        program: "pages_exit_again",
        attach: Attach::Again("sched_process_exit"),
        required: false,
        gives: "the last pages that it left out of pages_exit",
        since: "7.0",
        prototype: "sched_process_exit(struct task_struct *p, bool group_dead)",
    },
    Probe {
        program: "copy_ups",
        attach: Attach::CopyUps,
        required: false,
        gives: "copy-ups of overlays",
        since: "5.8",
        prototype: "int ovl_copy_up_start(struct dentry *dentry, int flags); with \
                    void ovl_copy_up_end(struct dentry *dentry); or \
                    ext4_allocate_inode(struct inode *inode, struct inode *dir, int mode)",
    },
    Probe {
        program: "file_call_begins",
        attach: Attach::Asked("sys_enter"),
        required: false,
        gives: "with --disk full: calls that read, write and sync files",
        since: "5.8",
        prototype: "sys_enter(struct pt_regs *regs, long id)",
    },
    Probe {
        program: "file_call_ends",
        attach: Attach::Asked("sys_exit"),
        required: false,
        gives: "with --disk full: how long these take, and their bytes",
        since: "5.8",
        prototype: "sys_exit(struct pt_regs *regs, long ret)",
    },
    Probe {
        program: "whiteouts",
        attach: Attach::Whiteouts,
        required: false,
        gives: "deletes in overlays of what lower layers have",
        since: "5.8",
        prototype: "int ovl_cleanup_and_whiteout(struct ovl_fs *ofs, struct dentry *dir, struct dentry *dentry); with \
                    struct inode *dir before 6.16; or \
                    ext4_mark_inode_dirty(struct inode *inode, unsigned long ip)",
    },
    Probe {
        program: "overlay_opens",
        attach: Attach::Opens,
        required: false,
        gives: "which files of an overlay are opened, and from which layer",
        since: "5.8",
        prototype: "int ovl_open(struct inode *inode, struct file *file)",
    },
    Probe {
        program: "block_issue",
        attach: Attach::TpBtf("block_rq_issue"),
        required: false,
        gives: "requests to block devices",
        since: "5.8",
        prototype: "block_rq_issue(struct request *rq); with struct request_queue *q before it before 5.11",
    },
    Probe {
        program: "block_complete",
        attach: Attach::TpBtf("block_rq_complete"),
        required: false,
        gives: "how long block devices take",
        since: "5.8",
        prototype: "block_rq_complete(struct request *rq, blk_status_t error, unsigned int nr_bytes); \
                    with int error before 5.16",
    },
    Probe {
        program: "write_back_begins",
        attach: Attach::TpBtf("writeback_single_inode_start"),
        required: false,
        gives: "how long write-back of a file takes",
        since: "5.8",
        prototype: "writeback_single_inode_start(struct inode *inode, struct writeback_control *wbc, \
                    unsigned long nr_to_write)",
    },
    Probe {
        program: "write_back_ends",
        attach: Attach::TpBtf("writeback_single_inode"),
        required: false,
        gives: "write-back: whose dirty pages are flushed, and by whom",
        since: "5.8",
        prototype: "writeback_single_inode(struct inode *inode, struct writeback_control *wbc, \
                    unsigned long nr_to_write)",
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
        program: "resync_tasks",
        attach: Attach::TaskIterator,
        required: false,
        gives: "what sleeping threads are in when the overhead cap lets scheduling be recorded again",
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

/// The functions by which sockets send that engines and registries are spoken to with: what `sock_sendmsg` calls, which
/// tells of them by its tracepoint since 6.3.
pub const SENDS: [&str; 3] = ["unix_stream_sendmsg", "inet_sendmsg", "inet6_sendmsg"];

/// A system call that is watched.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// As in the tracepoints' names, `sys_enter_NAME`, and in the function's, `__x64_sys_NAME`.
    pub name: &'static str,
    /// Number on this architecture.
    pub number: i64,
    /// [`profiler_common::container::call`]
    pub call: u32,
}

impl Call {
    /// The kernel's function: `arch/x86/include/asm/syscall_wrapper.h`, since 4.17.
    pub fn function(&self) -> String {
        format!("__x64_sys_{}", self.name)
    }
}

macro_rules! calls {
    ($( $name:literal, $number:ident, $call:ident; )+) => {
        /// The system calls that change mounts and namespaces, the one that opens a service, and those by which engines
        /// put files in place. Few and rare: never one that a container's workload calls often. The first is one that
        /// every kernel has.
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
    "renameat", SYS_renameat, RENAME;
    "renameat2", SYS_renameat2, RENAME;
    "fsync", SYS_fsync, SYNC;
    "fdatasync", SYS_fdatasync, SYNC;
    "listen", SYS_listen, LISTEN;
}

#[cfg(test)]
mod support;
#[cfg(test)]
mod verified;

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
