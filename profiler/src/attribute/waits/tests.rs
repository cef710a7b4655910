//! Stacks and system calls of known meaning.

use super::*;
use crate::recording::record::{Stack, Symbol};

/// A session with one stack (id 1) of these frames, leaf first, the first `kernel` of them the kernel's.
fn session(names: &[&str], kernel: u16) -> Session {
    let mut session = Session::default();
    session.meta.machine = "x86_64".to_owned();
    let frames: Vec<u32> = (1..).take(names.len()).collect();
    for (frame, name) in frames.iter().zip(names) {
        let symbol = Symbol {
            frame: *frame,
            name: name.as_bytes().to_vec(),
            offset: 0,
        };
        session.stacks.symbols.insert(*frame, symbol);
        let place = if *frame <= u32::from(kernel) {
            Place::Kernel(u64::from(*frame))
        } else {
            Place::Unmapped(u64::from(*frame))
        };
        session.stacks.frames.insert(*frame, place);
    }
    let stack = Stack {
        id: 1,
        kernel,
        frames,
        user_error: 0,
    };
    session.stacks.stacks.insert(1, stack);
    session
}

fn blocked(stack: u32, syscall: i32, iowait: bool, task_state: u32) -> State {
    State::Blocked {
        stack,
        syscall,
        iowait,
        task_state,
        waker: None,
        open: false,
        awaited: None,
    }
}

fn of(names: &[&str]) -> (Wait, &'static str) {
    let class = Classifier::new().classify(&session(names, names.len() as u16), blocked(1, -1, false, 1));
    (class.wait, class.detail)
}

/// Make sure that stacks as kernels 5.10 to 7.x give them are classified by what is waited for.
#[test]
fn kernel_stacks() {
    let table: &[(&[&str], Wait, &str)] = &[
        (
            &["__schedule", "schedule", "pipe_read", "vfs_read"],
            Wait::Ipc,
            "pipe read",
        ),
        // Without `.sched.text`: what takes the lock is the leaf.
        (
            &["__vm_munmap", "__x64_sys_munmap", "do_syscall_64"],
            Wait::Lock,
            "kernel lock: memory map",
        ),
        (&["pipe_read", "vfs_read"], Wait::Ipc, "pipe read"),
        (
            &["ext4_file_write_iter", "vfs_write"],
            Wait::Lock,
            "kernel lock: file or directory",
        ),
        (&["do_syscall_64", "__vm_munmap"], Wait::Other, "unknown"),
        (
            &["__schedule", "schedule", "anon_pipe_read", "vfs_read"],
            Wait::Ipc,
            "pipe read",
        ),
        (&["schedule", "pipe_wait_readable", "pipe_read"], Wait::Ipc, "pipe read"),
        (
            &["schedule", "do_wait", "kernel_wait4"],
            Wait::Child,
            "wait for a child",
        ),
        (
            &[
                "schedule_timeout",
                "__wait_for_common",
                "wait_for_completion_state",
                "wait_for_vfork_done",
                "kernel_clone",
            ],
            Wait::Child,
            "vfork",
        ),
        (
            &["schedule", "futex_wait_queue", "__futex_wait", "do_futex"],
            Wait::Lock,
            "futex",
        ),
        (&["schedule", "futex_wait_queue_me", "futex_wait"], Wait::Lock, "futex"),
        (&["schedule", "do_nanosleep", "hrtimer_nanosleep"], Wait::Sleep, "timer"),
        (
            &[
                "schedule_hrtimeout_range_clock",
                "schedule_hrtimeout_range",
                "ep_poll",
                "do_epoll_wait",
            ],
            Wait::Sleep,
            "poll without input",
        ),
        (
            &[
                "schedule_hrtimeout_range",
                "poll_schedule_timeout.constprop.0",
                "do_sys_poll",
            ],
            Wait::Sleep,
            "poll without input",
        ),
        (
            &[
                "io_schedule",
                "folio_wait_bit_common",
                "filemap_get_pages",
                "filemap_read",
            ],
            Wait::Disk,
            "file read",
        ),
        (
            &["io_schedule", "wait_on_page_bit_common", "filemap_fault"],
            Wait::Disk,
            "page fault",
        ),
        (
            &["schedule", "jbd2_log_wait_commit", "ext4_sync_file", "vfs_fsync_range"],
            Wait::Disk,
            "fsync",
        ),
        (
            &[
                "io_schedule",
                "folio_wait_writeback",
                "file_write_and_wait_range",
                "ext4_sync_file",
                "ovl_copy_up_file [overlay]",
            ],
            Wait::Disk,
            "overlay copy-up",
        ),
        (
            &[
                "schedule",
                "wb_wait_for_completion",
                "sync_inodes_sb",
                "sync_filesystem",
                "generic_shutdown_super",
                "cleanup_mnt",
            ],
            Wait::Disk,
            "unmount",
        ),
        (
            &["schedule_timeout", "unix_stream_data_wait", "unix_stream_read_generic"],
            Wait::Ipc,
            "unix socket",
        ),
        (
            &[
                "schedule_timeout",
                "__skb_wait_for_more_packets",
                "__unix_dgram_recvmsg",
            ],
            Wait::Ipc,
            "unix socket",
        ),
        (
            &[
                "schedule_timeout",
                "__skb_wait_for_more_packets",
                "__skb_recv_udp",
                "udp_recvmsg",
            ],
            Wait::Network,
            "socket read",
        ),
        (
            &["schedule_timeout", "wait_woken", "sk_wait_data", "tcp_recvmsg"],
            Wait::Network,
            "socket read",
        ),
        (
            &["schedule_timeout", "inet_csk_accept", "inet_accept"],
            Wait::Network,
            "accept",
        ),
        (
            &["schedule_preempt_disabled", "__mutex_lock.constprop.0", "rtnl_lock"],
            Wait::Lock,
            "kernel lock: rtnl",
        ),
        (
            &[
                "schedule_preempt_disabled",
                "rwsem_down_write_slowpath",
                "down_write",
                "path_openat",
            ],
            Wait::Lock,
            "kernel lock: file or directory",
        ),
        (
            &["__mutex_lock", "pipe_read", "vfs_read"],
            Wait::Lock,
            "kernel lock: pipe",
        ),
        (
            &["wait_for_completion", "__wait_rcu_gp", "synchronize_rcu", "path_umount"],
            Wait::Lock,
            "RCU grace period",
        ),
        (
            &["schedule", "worker_thread", "kthread", "ret_from_fork"],
            Wait::Sleep,
            "idle kernel thread",
        ),
        (&["schedule", "fcntl_setlk", "do_fcntl"], Wait::Lock, "file lock"),
        (
            &["schedule", "do_signal_stop", "get_signal"],
            Wait::Other,
            "stopped by a signal",
        ),
        (
            &["wait_for_completion", "some_driver"],
            Wait::Other,
            "kernel completion",
        ),
        (&["__schedule", "schedule"], Wait::Other, "unknown"),
    ];
    for (names, wait, detail) in table {
        assert_eq!(of(names), (*wait, *detail), "{names:?}");
    }
}

/// Make sure that a program that calls its own function `pipe_read` is not believed, whatever the recording says
/// of how many frames are the kernel's.
#[test]
fn user_frames_do_not_count() {
    let session_ = session(&["schedule", "pipe_read"], 1);
    let class = Classifier::new().classify(&session_, blocked(1, -1, false, 1));
    assert_eq!(class, UNKNOWN);
    let mut session_ = session(&["schedule", "pipe_read"], 1);
    session_.stacks.stacks.get_mut(&1).unwrap().kernel = 200;
    let class = Classifier::new().classify(&session_, blocked(1, -1, false, 1));
    assert_eq!(class, UNKNOWN);
}

/// Make sure of the order of evidence where the stack is missing or vague.
#[test]
fn without_a_telling_stack() {
    let vague = session(&["wait_for_completion"], 1);
    let mut classifier = Classifier::new();
    let mut of = |stack, syscall, iowait, state| {
        let class = classifier.classify(&vague, blocked(stack, syscall, iowait, state));
        (class.wait, class.detail)
    };
    assert_eq!(of(0, 61, false, 1), (Wait::Child, "wait for a child"));
    assert_eq!(of(0, 0, true, 2), (Wait::Disk, "disk I/O"));
    assert_eq!(of(0, 0, false, 1), (Wait::Other, "unknown"));
    assert_eq!(of(0, -2, false, 1), (Wait::Other, "unknown"));
    assert_eq!(of(0, 61, false, TASK_TRACED), (Wait::Other, "stopped by a tracer"));
    assert_eq!(of(1, 74, false, 2), (Wait::Disk, "fsync"));
    assert_eq!(of(1, -1, false, 2), (Wait::Other, "kernel completion"));
    assert_eq!(of(1, -1, true, 2), (Wait::Disk, "disk I/O"));
    // A leaf that takes a lock may wait for the disk as well.
    let leaf = session(&["ext4_file_write_iter", "vfs_write"], 2);
    let class = Classifier::new().classify(&leaf, blocked(1, -1, true, 2));
    assert_eq!(class.wait, Wait::Disk);
    assert_eq!(of(999, 202, false, 1), (Wait::Lock, "futex"));
}

/// Make sure that x86-64's numbers are not read into another machine's recording.
#[test]
fn numbers_of_another_machine() {
    let mut session = session(&[], 0);
    session.meta.machine = "aarch64".to_owned();
    assert_eq!(Classifier::new().classify(&session, blocked(0, 61, false, 1)), UNKNOWN);
}

/// Make sure that the tables hold no pattern twice (the later would never match) and no number twice.
#[test]
fn tables_are_clean() {
    for rows in [FIRM, WEAK, DISK_CALLERS, LOCK_CALLERS] {
        let mut seen = std::collections::HashSet::new();
        for pattern in rows.iter().flat_map(|row| row.functions) {
            assert!(seen.insert(pattern), "{pattern} twice");
            assert!(!pattern.is_empty() && *pattern != "*");
        }
    }
    assert!(DISK_CALLERS.iter().all(|row| row.wait == Wait::Disk));
    assert!(LOCK_CALLERS.iter().all(|row| row.wait == Wait::Lock));
    let numbers: std::collections::HashSet<i32> = CALLS.iter().map(|call| call.x86_64).collect();
    let names: std::collections::HashSet<&str> = CALLS.iter().map(|call| call.name).collect();
    assert_eq!((numbers.len(), names.len()), (CALLS.len(), CALLS.len()));
}
