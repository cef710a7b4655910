//! What kernel functions and system calls wait for.
//!
//! Names are those of Linux 5.10 to 7.x: where a function was renamed both names stand. A stack is read from the leaf
//! outward; generic functions (`schedule`, `schedule_timeout`, `wait_woken`) stand in no table. The formatter leaves the
//! tables alone: it would give each name a line.

use super::{COPY_UP, FLUSH, FUTEX, POLL};
use crate::attribute::resources::Wait;

/// Functions that wait for the same.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) wait: Wait,
    pub(super) detail: &'static str,
    /// Exact names, or prefixes with a `*`.
    pub(super) functions: &'static [&'static str],
    /// Its callers tell more: [`DISK_CALLERS`], [`LOCK_CALLERS`].
    pub(super) served: bool,
}

const fn row(wait: Wait, detail: &'static str, functions: &'static [&'static str]) -> Row {
    Row {
        wait,
        detail,
        functions,
        served: false,
    }
}

const fn served(wait: Wait, detail: &'static str, functions: &'static [&'static str]) -> Row {
    Row {
        served: true,
        ..row(wait, detail, functions)
    }
}

/// Functions that wait for one thing: the first from the leaf decides.
#[rustfmt::skip]
pub(super) const FIRM: &[Row] = &[
    // Children
    row(Wait::Child, "wait for a child", &["do_wait", "__do_wait", "kernel_wait4", "kernel_wait", "kernel_waitid"]),
    row(Wait::Child, "vfork", &["wait_for_vfork_done"]),
    row(Wait::Child, "end of a pid namespace", &["zap_pid_ns_processes"]),
    row(Wait::Child, "kernel's helper program", &["call_usermodehelper_exec", "call_usermodehelper"]),
    // Timers, polls and signals
    row(Wait::Sleep, "timer", &[
        "do_nanosleep", "hrtimer_nanosleep", "common_nsleep*", "alarm_timer_nsleep", "timerfd_read*",
    ]),
    row(Wait::Sleep, "kernel timer", &["msleep*", "usleep_range*", "fsleep"]),
    row(Wait::Sleep, POLL, &[
        "ep_poll", "do_epoll_wait", "do_epoll_pwait*", "do_sys_poll", "do_poll", "do_select", "core_sys_select",
    ]),
    row(Wait::Sleep, "signal", &[
        "sigsuspend", "do_sigtimedwait", "do_pause", "__do_sys_pause", "__x64_sys_pause", "signalfd_read*",
        "signalfd_dequeue",
    ]),
    row(Wait::Sleep, "file notification", &["inotify_read", "fanotify_read"]),
    row(Wait::Sleep, "kernel log", &["do_syslog", "syslog_print", "devkmsg_read"]),
    row(Wait::Sleep, "trace buffer", &["ring_buffer_wait", "tracing_wait_pipe", "perf_read"]),
    row(Wait::Sleep, "terminal input", &["n_tty_read"]),
    row(Wait::Sleep, "idle virtual CPU", &["kvm_vcpu_block", "kvm_vcpu_halt"]),
    row(Wait::Other, "kernel work item", &["process_one_work", "kthread_worker_fn"]),
    row(Wait::Sleep, "idle kernel thread", &[
        "worker_thread", "rescuer_thread", "kthreadd", "smpboot_thread_fn", "kswapd", "kcompactd", "kjournald2",
        "kauditd_thread", "khugepaged", "ksm_scan_thread", "oom_reaper", "rcu_gp_kthread", "rcu_nocb_cb_kthread",
        "rcu_tasks_kthread", "irq_thread", "io_wq_worker", "io_sq_thread", "vhost_worker",
    ]),
    // Locks
    row(Wait::Lock, FUTEX, &["futex_wait*", "__futex_wait*", "futex_lock_pi*", "do_futex", "futex_do_wait"]),
    served(Wait::Lock, "kernel lock", &[
        "__mutex_lock*", "mutex_lock*", "__ww_mutex_lock*", "ww_mutex_lock*", "rt_mutex_*", "__rt_mutex_*",
        "rtlock_*", "rwsem_down_*", "down_read*", "down_write*", "__down_read*", "__down_write*", "down",
        "down_interruptible", "down_killable", "down_timeout", "__down*", "percpu_rwsem_wait", "__percpu_down_read",
        "percpu_down_*", "queued_write_lock_slowpath",
    ]),
    row(Wait::Lock, "socket lock", &["__lock_sock", "lock_sock_nested"]),
    row(Wait::Lock, "file lock", &[
        "fcntl_setlk*", "locks_lock_inode_wait", "flock_lock_inode_wait", "posix_lock_inode_wait",
        "do_lock_file_wait", "__break_lease", "__do_sys_flock", "__x64_sys_flock",
    ]),
    row(Wait::Lock, "RCU grace period", &[
        "__wait_rcu_gp", "synchronize_rcu*", "synchronize_srcu*", "__synchronize_srcu", "synchronize_net",
        "synchronize_sched*", "rcu_barrier*", "srcu_barrier*", "exp_funnel_lock", "synchronize_shrinkers",
    ]),
    row(Wait::Lock, "inode", &[
        "__wait_on_freeing_inode", "find_inode*", "wait_on_inode", "wait_on_new_inode",
        "d_alloc_parallel", "d_wait_lookup",
    ]),
    row(Wait::Lock, "cgroup being removed", &["cgroup_lock_and_drain_offline"]),
    row(Wait::Lock, "System V semaphore", &["do_semtimedop", "__do_semtimedop"]),
    // Disk and memory
    served(Wait::Disk, "disk I/O", &[
        "io_schedule*", "bit_wait_io*", "folio_wait_bit*", "wait_on_page_bit*", "__folio_lock*", "__lock_page*",
        "folio_wait_writeback*", "wait_on_page_writeback*", "__wait_on_buffer", "__lock_buffer", "blk_mq_get_tag",
        "rq_qos_wait", "wbt_wait", "blk_io_schedule", "blk_execute_rq", "submit_bio_wait", "blkdev_issue_*",
        "bio_await", "iomap_dio_rw", "__iomap_dio_rw", "blkdev_direct_IO*", "__blkdev_direct_IO*", "dio_await_*",
        "blk_mq_freeze_queue*", "inode_dio_wait*",
    ]),
    served(Wait::Disk, "journal", &[
        "jbd2_log_wait_commit", "jbd2_complete_transaction", "jbd2_journal_commit_transaction",
        "jbd2_journal_get_write_access", "do_get_write_access", "wait_transaction_locked", "add_transaction_credits",
        "start_this_handle", "__jbd2_log_wait_for_space", "xfs_log_force*", "xlog_*", "xfs_trans_alloc*",
        "btrfs_commit_transaction", "btrfs_wait_for_commit", "wait_for_commit", "wait_current_trans",
        "btrfs_sync_log", "wait_log_commit",
    ]),
    row(Wait::Disk, "write-back limit", &["balance_dirty_pages*", "congestion_wait", "wait_iff_congested"]),
    served(Wait::Disk, "write-back", &[
        "wb_wait_for_completion", "sync_inodes_sb", "writeback_inodes_sb*", "__writeback_inodes_sb*",
        "try_to_writeback_inodes_sb", "sync_filesystem", "inode_wait_for_writeback",
        "btrfs_wait_ordered_*", "btrfs_start_ordered_*",
    ]),
    row(Wait::Disk, "fsync", &["ext4_sync_file", "xfs_file_fsync", "btrfs_sync_file", "vfs_fsync_range", "ovl_fsync"]),
    row(Wait::Disk, "unmount", &[
        "cleanup_mnt", "deactivate_super", "deactivate_locked_super", "generic_shutdown_super",
    ]),
    row(Wait::Disk, COPY_UP, &["ovl_copy_up_*"]),
    row(Wait::Disk, "swap", &["swap_readpage", "swap_read_folio*", "do_swap_page"]),
    row(Wait::Disk, "asynchronous I/O", &["read_events", "do_io_getevents"]),
    row(Wait::Disk, "9p server", &["p9_client_rpc", "p9_virtio_request", "p9_client_zc_rpc"]),
    row(Wait::Other, "memory reclaim", &[
        "throttle_direct_reclaim", "reclaim_throttle", "shrink_node*", "shrink_lruvec",
    ]),
    row(Wait::Other, "memory limit", &[
        "mem_cgroup_handle_over_high", "__mem_cgroup_handle_over_high", "mem_cgroup_oom_synchronize",
    ]),
    // Neighbours
    row(Wait::Ipc, "pipe read", &["pipe_read", "anon_pipe_read", "fifo_pipe_read", "pipe_wait_readable", "ipipe_prep"]),
    row(Wait::Ipc, "pipe write", &[
        "pipe_write", "anon_pipe_write", "fifo_pipe_write", "pipe_wait_writable", "opipe_prep", "wait_for_space",
    ]),
    row(Wait::Ipc, "pipe", &["pipe_wait", "splice_from_pipe_next*"]),
    row(Wait::Ipc, "opening of a FIFO", &["wait_for_partner", "fifo_open"]),
    row(Wait::Ipc, "unix socket", &[
        "unix_stream_data_wait", "unix_stream_read_generic", "unix_stream_recvmsg", "unix_stream_sendmsg",
        "unix_stream_connect", "unix_dgram_recvmsg", "__unix_dgram_recvmsg", "unix_dgram_sendmsg",
        "unix_dgram_connect", "unix_wait_for_peer", "unix_accept", "unix_seqpacket_*",
    ]),
    row(Wait::Ipc, "netlink", &["netlink_recvmsg", "netlink_sendmsg", "netlink_attachskb", "netlink_dump"]),
    row(Wait::Ipc, "message queue", &["do_msgrcv", "do_msgsnd", "wq_sleep", "do_mq_timedreceive", "do_mq_timedsend"]),
    row(Wait::Ipc, "eventfd", &["eventfd_read", "eventfd_write"]),
    row(Wait::Ipc, "FUSE server", &[
        "request_wait_answer", "__fuse_request_send", "fuse_simple_request", "__fuse_simple_request", "fuse_wait_*",
    ]),
    row(Wait::Ipc, "FUSE request", &["fuse_dev_do_read"]),
    row(Wait::Ipc, "seccomp supervisor", &["seccomp_do_user_notification"]),
    row(Wait::Ipc, "seccomp notification", &["seccomp_notify_recv", "recv_wait_event"]),
    row(Wait::Ipc, "terminal output", &["n_tty_write", "tty_wait_until_sent", "tty_write_lock"]),
    row(Wait::Ipc, "binder", &["binder_thread_read", "binder_wait_for_work"]),
    // Network
    row(Wait::Network, "accept", &["inet_csk_accept", "inet_csk_wait_for_connect", "inet_accept"]),
    row(Wait::Network, "connect", &[
        "inet_stream_connect", "__inet_stream_connect", "inet_wait_for_connect", "sk_stream_wait_connect",
    ]),
    row(Wait::Network, "socket read", &[
        "sk_wait_data", "tcp_recvmsg*", "udp_recvmsg", "udpv6_recvmsg", "__skb_recv_udp", "raw_recvmsg",
        "rawv6_recvmsg", "packet_recvmsg",
    ]),
    row(Wait::Network, "socket write", &["sk_stream_wait_memory", "tcp_sendmsg*", "udp_sendmsg", "udpv6_sendmsg"]),
    row(Wait::Network, "socket close", &["sk_stream_wait_close", "inet_csk_destroy_sock", "tcp_close", "__tcp_close"]),
    row(Wait::Network, "NFS or RPC server", &["rpc_wait_bit_killable", "nfs_wait_*", "__rpc_execute", "nfs4_*"]),
    row(Wait::Network, "vsock", &["vsock_*", "virtio_vsock_*"]),
    row(Wait::Network, "CIFS server", &["wait_for_response", "cifs_*", "smb2_*"]),
    // Stopped and others
    row(Wait::Other, "stopped by a signal", &["do_signal_stop"]),
    row(Wait::Other, "stopped by a tracer", &["ptrace_stop", "ptrace_notify"]),
    row(Wait::Other, "frozen", &["do_freezer_trap", "__refrigerator", "__thaw_task"]),
    row(Wait::Other, "io_uring completion", &["io_cqring_wait*", "io_cqring_schedule_timeout"]),
    row(Wait::Other, "user-space page fault", &["handle_userfault"]),
    row(Wait::Other, "core dump", &["coredump_wait", "coredump_task_exit", "do_coredump", "vfs_coredump"]),
    row(Wait::Other, "death of other threads", &["de_thread"]),
    row(Wait::Other, "start of a kernel thread", &[
        "__kthread_create_on_node", "kthread_create_on_node", "create_io_thread",
    ]),
    row(Wait::Other, "end of a kernel thread", &["kthread_stop", "kthread_park"]),
    row(Wait::Other, "another CPU", &["stop_one_cpu", "stop_two_cpus", "stop_machine*", "affine_move_task"]),
];

/// Functions that serve many ends: they count when no function of [`FIRM`] called them.
#[rustfmt::skip]
pub(super) const WEAK: &[Row] = &[
    row(Wait::Lock, "kernel lock", &["schedule_preempt_disabled"]),
    row(Wait::Sleep, "timer", &[
        "schedule_hrtimeout*", "schedule_timeout_interruptible", "schedule_timeout_uninterruptible",
    ]),
    row(Wait::Network, "socket", &["__skb_wait_for_more_packets", "sock_alloc_send_pskb", "sock_wait_for_wmem"]),
    row(Wait::Other, "kernel completion", &["wait_for_completion*", "__wait_for_common", "wait_for_common*"]),
    row(Wait::Other, "kernel work item", &[
        "__flush_work", "flush_work", "flush_workqueue", "__flush_workqueue", "drain_workqueue",
    ]),
    row(Wait::Other, "kernel bit lock", &["__wait_on_bit*", "out_of_line_wait_on_bit*"]),
    row(Wait::Sleep, "idle kernel thread", &["kthread"]),
];

/// Callers that tell what a wait for the disk served: the first of this table that the stack holds.
#[rustfmt::skip]
pub(super) const DISK_CALLERS: &[Row] = &[
    row(Wait::Disk, COPY_UP, &["ovl_copy_up_*"]),
    // The flush of a whole file system is what makes an unmount slow: it has a name of its own.
    row(Wait::Disk, FLUSH, &["ovl_sync_fs"]),
    row(Wait::Disk, "unmount", &["cleanup_mnt", "generic_shutdown_super"]),
    row(Wait::Disk, "swap", &["do_swap_page"]),
    row(Wait::Disk, "fsync", &[
        "ext4_sync_file", "xfs_file_fsync", "btrfs_sync_file", "vfs_fsync_range", "do_fsync", "ovl_fsync",
        "__x64_sys_msync",
    ]),
    row(Wait::Disk, "sync", &["ksys_sync", "__x64_sys_syncfs", "sync_filesystem", "iterate_supers"]),
    row(Wait::Disk, "write-back limit", &["balance_dirty_pages*"]),
    row(Wait::Disk, "page fault", &["filemap_fault", "__do_fault"]),
    row(Wait::Disk, "program load", &["load_elf_binary", "kernel_read"]),
    row(Wait::Disk, "file read", &[
        "filemap_read", "generic_file_buffered_read", "generic_file_read_iter", "vfs_read", "ovl_read_iter",
    ]),
    row(Wait::Disk, "file write", &[
        "generic_perform_write", "vfs_write", "iomap_file_buffered_write", "ovl_write_iter",
    ]),
    row(Wait::Disk, "directory read", &["iterate_dir"]),
    row(Wait::Disk, "file removal", &["do_unlinkat", "do_rmdir", "evict", "filename_unlinkat", "filename_rmdir"]),
    row(Wait::Disk, "path lookup", &["path_openat", "lookup_slow", "__lookup_slow", "path_lookupat"]),
];

/// Callers that tell which lock it was: the first of this table that the stack holds.
#[rustfmt::skip]
pub(super) const LOCK_CALLERS: &[Row] = &[
    row(Wait::Lock, "kernel lock: rtnl", &["rtnl_lock*", "rtnetlink_rcv*", "rtnl_*", "__rtnl_*"]),
    row(Wait::Lock, "kernel lock: network namespaces", &[
        "copy_net_ns", "cleanup_net", "setup_net", "register_pernet_*", "unregister_pernet_*",
    ]),
    row(Wait::Lock, "kernel lock: cgroup", &[
        "cgroup_kn_lock_live", "cgroup_lock*", "cgroup_procs_write*", "__cgroup_procs_write", "cgroup_mkdir",
        "cgroup_rmdir", "cgroup_attach_task*", "cgroup_apply_control*", "cgroup_can_fork",
        "cgroup_threadgroup_change_begin", "proc_cgroup_show", "cgroup1_*", "cpuset_*",
    ]),
    row(Wait::Lock, "kernel lock: mount table", &[
        "namespace_lock", "lock_mount*", "do_lock_mount", "path_umount", "path_mount", "do_umount", "copy_mnt_ns",
        "mnt_want_write*", "do_move_mount", "path_pivot_root", "do_new_mount*",
    ]),
    row(Wait::Lock, "kernel lock: superblock", &["grab_super*", "sget_fc", "sget", "super_lock*", "iterate_supers"]),
    row(Wait::Lock, "kernel lock: memory map", &[
        "lock_mm_and_find_vma", "do_user_addr_fault", "exc_page_fault", "vm_mmap_pgoff", "__vm_munmap",
        "do_mprotect_pkey", "dup_mmap", "exit_mmap", "__x64_sys_brk", "__do_sys_brk", "do_madvise", "mm_access",
        "access_remote_vm",
    ]),
    row(Wait::Lock, "kernel lock: pipe", &[
        "pipe_read", "pipe_write", "anon_pipe_read", "anon_pipe_write", "pipe_lock", "pipe_release",
    ]),
    row(Wait::Lock, "kernel lock: terminal", &["tty_*", "n_tty_*", "ldsem_*", "pty_*", "ptmx_open"]),
    row(Wait::Lock, "kernel lock: sysfs", &["kernfs_*"]),
    row(Wait::Lock, "kernel lock: file or directory", &[
        "path_openat", "lookup_slow", "walk_component", "do_unlinkat", "do_rmdir", "do_mkdirat", "do_renameat2",
        "lock_rename*", "filename_create", "start_dirop", "iterate_dir", "ext4_file_write_iter",
        "ext4_buffered_write_iter", "chmod_common", "chown_common", "notify_change", "ovl_*", "vfs_fsync_range",
        "generic_file_write_iter", "xfs_file_*",
    ]),
    row(Wait::Lock, "kernel lock: file position", &["__fdget_pos", "fdget_pos"]),
];

/// A system call that can wait for one thing only, so its number tells what for without a stack.
#[derive(Debug)]
pub(super) struct Call {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "key of the table: numbers of other machines go by it")
    )]
    pub(super) name: &'static str,
    /// `arch/x86/entry/syscalls/syscall_64.tbl`
    pub(super) x86_64: i32,
    pub(super) wait: Wait,
    pub(super) detail: &'static str,
}

const fn call(name: &'static str, x86_64: i32, wait: Wait, detail: &'static str) -> Call {
    Call {
        name,
        x86_64,
        wait,
        detail,
    }
}

/// Calls such as `read`, `recvmsg` or `openat`, which wait for this or that, do not stand here.
pub(super) const CALLS: &[Call] = &[
    call("poll", 7, Wait::Sleep, POLL),
    call("select", 23, Wait::Sleep, POLL),
    call("msync", 26, Wait::Disk, "fsync"),
    call("pause", 34, Wait::Sleep, "signal"),
    call("nanosleep", 35, Wait::Sleep, "timer"),
    // A parent that waits in clone does so for a child that shares its memory (CLONE_VFORK, as posix_spawn() asks).
    call("clone", 56, Wait::Child, "vfork"),
    call("vfork", 58, Wait::Child, "vfork"),
    call("wait4", 61, Wait::Child, "wait for a child"),
    call("semop", 65, Wait::Lock, "System V semaphore"),
    call("msgsnd", 69, Wait::Ipc, "message queue"),
    call("msgrcv", 70, Wait::Ipc, "message queue"),
    call("fcntl", 72, Wait::Lock, "file lock"),
    call("flock", 73, Wait::Lock, "file lock"),
    call("fsync", 74, Wait::Disk, "fsync"),
    call("fdatasync", 75, Wait::Disk, "fsync"),
    call("rt_sigtimedwait", 128, Wait::Sleep, "signal"),
    call("rt_sigsuspend", 130, Wait::Sleep, "signal"),
    call("sync", 162, Wait::Disk, "sync"),
    call("umount2", 166, Wait::Disk, "unmount"),
    call("futex", 202, Wait::Lock, FUTEX),
    call("io_getevents", 208, Wait::Disk, "asynchronous I/O"),
    call("semtimedop", 220, Wait::Lock, "System V semaphore"),
    call("clock_nanosleep", 230, Wait::Sleep, "timer"),
    call("epoll_wait", 232, Wait::Sleep, POLL),
    call("mq_timedsend", 242, Wait::Ipc, "message queue"),
    call("mq_timedreceive", 243, Wait::Ipc, "message queue"),
    call("waitid", 247, Wait::Child, "wait for a child"),
    call("pselect6", 270, Wait::Sleep, POLL),
    call("ppoll", 271, Wait::Sleep, POLL),
    call("sync_file_range", 277, Wait::Disk, "fsync"),
    call("epoll_pwait", 281, Wait::Sleep, POLL),
    call("syncfs", 306, Wait::Disk, "sync"),
    call("io_pgetevents", 333, Wait::Disk, "asynchronous I/O"),
    call("clone3", 435, Wait::Child, "vfork"),
    call("epoll_pwait2", 441, Wait::Sleep, POLL),
    call("futex_waitv", 449, Wait::Lock, FUTEX),
    call("futex_wait", 455, Wait::Lock, FUTEX),
];
