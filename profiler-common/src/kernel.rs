//! What the eBPF programs must know of the running kernel. rustc emits no CO-RE relocations, so user space resolves
//! member offsets from the kernel's BTF and writes them into the object's read-only data before it is loaded.

use crate::{awaited::CALL_WORDS, layout};

/// A member that this kernel does not have. What needs it is switched off and said so.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets of members within their structs, named `struct_member`.
///
/// Every field is resolved by its name in `phasegraph::kernel::offsets`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_start_time: u32,
    pub task_real_parent: u32,
    pub task_comm: u32,
    /// `__state` since 5.14, `state` before.
    pub task_state: u32,
    /// A byte since 7.2, an int that is 0 or 1 before: its first byte is read.
    pub task_on_cpu: u32,
    pub task_exit_code: u32,
    pub task_utime: u32,
    pub task_stime: u32,
    /// `se.sum_exec_runtime`
    pub task_sum_exec_runtime: u32,
    pub task_mm: u32,
    pub task_nsproxy: u32,
    pub task_cgroups: u32,
    pub task_thread_pid: u32,
    pub task_stack: u32,
    /// Byte and bit of the bit field `in_iowait`.
    pub task_in_iowait: u32,
    pub task_in_iowait_bit: u32,
    pub css_set_dfl_cgrp: u32,
    pub cgroup_kn: u32,
    pub cgroup_level: u32,
    pub cgroup_root: u32,
    pub cgroup_root_hierarchy_id: u32,
    pub kernfs_node_id: u32,
    pub nsproxy_mnt_ns: u32,
    /// `ns.inum`
    pub mnt_namespace_inum: u32,
    pub pid_level: u32,
    pub pid_numbers: u32,
    pub upid_nr: u32,
    pub upid_ns: u32,
    pub upid_size: u32,
    /// `ns.inum`
    pub pid_namespace_inum: u32,
    pub mm_arg_start: u32,
    pub mm_arg_end: u32,
    pub binprm_filename: u32,
    pub binprm_file: u32,
    pub file_inode: u32,
    pub inode_ino: u32,
    pub inode_sb: u32,
    pub super_block_dev: u32,
    /// `orig_ax` of the saved user registers.
    pub pt_regs_orig_ax: u32,
    /// Unwinding: the mappings of an address space, as a maple tree (6.1 and later) or a red-black tree.
    pub mm_mt_root: u32,
    pub mm_rb: u32,
    /// `context.vdso`
    pub mm_vdso: u32,
    pub vma_start: u32,
    pub vma_end: u32,
    pub vma_rb: u32,
    pub vma_flags: u32,
    pub vma_pgoff: u32,
    pub vma_file: u32,
    pub rb_left: u32,
    pub rb_right: u32,
    pub inode_generation: u32,
    pub inode_mtime: u32,
    pub inode_mtime_nsec: u32,
    pub task_flags: u32,
    /// `__sk_common.skc_family`
    pub sock_family: u32,
    pub sock_dport: u32,
    pub sock_daddr: u32,
    pub sock_v6_daddr: u32,
    pub sock_peer_pid: u32,
    pub tcp_sock_copied_seq: u32,
    /// Second argument of a system call.
    pub pt_regs_si: u32,
    pub task_files: u32,
    pub files_fdt: u32,
    pub fdtable_fd: u32,
    /// `f_path.dentry`
    pub file_dentry: u32,
    /// `d_name.name`
    pub dentry_name: u32,
    /// `ioac.rchar` and its neighbours
    pub task_rchar: u32,
    pub task_wchar: u32,
    pub task_read_bytes: u32,
    pub task_write_bytes: u32,
    pub task_signal: u32,
    pub signal_maxrss: u32,
    /// `live.counter`: threads that have not ended.
    pub signal_live: u32,
    pub mm_hiwater_rss: u32,
    /// The three counters that a resident set is the sum of: a plain array to 6.1, per-CPU counters since.
    pub mm_rss_file: u32,
    pub mm_rss_anon: u32,
    pub mm_rss_shmem: u32,
    /// Element of `subsys` for the memory controller, whose place differs with the configuration.
    pub css_set_memory: u32,
    pub css_cgroup: u32,
    /// `memory.watermark`, from the start of the `css` in it.
    pub mem_cgroup_watermark: u32,
    pub fdtable_max_fds: u32,
    pub file_private_data: u32,
    pub socket_sk: u32,
    pub sock_type: u32,
    pub sock_protocol: u32,
    pub sock_num: u32,
    /// `__sk_common.skc_rcv_saddr`
    pub sock_rcv_saddr: u32,
    pub sock_v6_rcv_saddr: u32,
    pub unix_sock_addr: u32,
    pub unix_address_len: u32,
    pub unix_address_name: u32,
    /// Counts the changes of an address space's mappings (6.4 and later): what is known of them holds while it stays.
    pub mm_lock_seq: u32,
    pub task_exec_id: u32,
    /// First argument of a system call.
    pub pt_regs_di: u32,
    pub inode_mode: u32,
    pub dentry_parent: u32,
}
layout!(
    Offsets,
    size = 392,
    task_pid = 0,
    pt_regs_orig_ax = 160,
    mm_mt_root = 164,
    sock_family = 224,
    task_write_bytes = 284,
    task_signal = 288,
    unix_address_name = 368,
    task_exec_id = 376,
    dentry_parent = 388
);

impl Offsets {
    /// Every member absent.
    pub const NONE: Offsets = Offsets {
        task_pid: ABSENT,
        task_tgid: ABSENT,
        task_start_time: ABSENT,
        task_real_parent: ABSENT,
        task_comm: ABSENT,
        task_state: ABSENT,
        task_on_cpu: ABSENT,
        task_exit_code: ABSENT,
        task_utime: ABSENT,
        task_stime: ABSENT,
        task_sum_exec_runtime: ABSENT,
        task_mm: ABSENT,
        task_nsproxy: ABSENT,
        task_cgroups: ABSENT,
        task_thread_pid: ABSENT,
        task_stack: ABSENT,
        task_in_iowait: ABSENT,
        task_in_iowait_bit: ABSENT,
        css_set_dfl_cgrp: ABSENT,
        cgroup_kn: ABSENT,
        cgroup_level: ABSENT,
        cgroup_root: ABSENT,
        cgroup_root_hierarchy_id: ABSENT,
        kernfs_node_id: ABSENT,
        nsproxy_mnt_ns: ABSENT,
        mnt_namespace_inum: ABSENT,
        pid_level: ABSENT,
        pid_numbers: ABSENT,
        upid_nr: ABSENT,
        upid_ns: ABSENT,
        upid_size: ABSENT,
        pid_namespace_inum: ABSENT,
        mm_arg_start: ABSENT,
        mm_arg_end: ABSENT,
        binprm_filename: ABSENT,
        binprm_file: ABSENT,
        file_inode: ABSENT,
        inode_ino: ABSENT,
        inode_sb: ABSENT,
        super_block_dev: ABSENT,
        pt_regs_orig_ax: ABSENT,
        mm_mt_root: ABSENT,
        mm_rb: ABSENT,
        mm_vdso: ABSENT,
        vma_start: ABSENT,
        vma_end: ABSENT,
        vma_rb: ABSENT,
        vma_flags: ABSENT,
        vma_pgoff: ABSENT,
        vma_file: ABSENT,
        rb_left: ABSENT,
        rb_right: ABSENT,
        inode_generation: ABSENT,
        inode_mtime: ABSENT,
        inode_mtime_nsec: ABSENT,
        task_flags: ABSENT,
        sock_family: ABSENT,
        sock_dport: ABSENT,
        sock_daddr: ABSENT,
        sock_v6_daddr: ABSENT,
        sock_peer_pid: ABSENT,
        tcp_sock_copied_seq: ABSENT,
        pt_regs_si: ABSENT,
        task_files: ABSENT,
        files_fdt: ABSENT,
        fdtable_fd: ABSENT,
        file_dentry: ABSENT,
        dentry_name: ABSENT,
        task_rchar: ABSENT,
        task_wchar: ABSENT,
        task_read_bytes: ABSENT,
        task_write_bytes: ABSENT,
        task_signal: ABSENT,
        signal_maxrss: ABSENT,
        signal_live: ABSENT,
        mm_hiwater_rss: ABSENT,
        mm_rss_file: ABSENT,
        mm_rss_anon: ABSENT,
        mm_rss_shmem: ABSENT,
        css_set_memory: ABSENT,
        css_cgroup: ABSENT,
        mem_cgroup_watermark: ABSENT,
        fdtable_max_fds: ABSENT,
        file_private_data: ABSENT,
        socket_sk: ABSENT,
        sock_type: ABSENT,
        sock_protocol: ABSENT,
        sock_num: ABSENT,
        sock_rcv_saddr: ABSENT,
        sock_v6_rcv_saddr: ABSENT,
        unix_sock_addr: ABSENT,
        unix_address_len: ABSENT,
        unix_address_name: ABSENT,
        mm_lock_seq: ABSENT,
        task_exec_id: ABSENT,
        pt_regs_di: ABSENT,
        inode_mode: ABSENT,
        dentry_parent: ABSENT,
    };
}

/// Switches that differ from kernel to kernel, read-only for the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `sched_switch` carries `prev_state` as its fourth argument (5.18 and later).
    pub switch_has_prev_state: u32,
    /// `bpf_get_task_stack` may be called by the program that sees switches.
    pub task_stack: u32,
    /// `bpf_task_pt_regs` may be called by it (5.15 and later).
    pub task_pt_regs: u32,
    /// `sched_process_exit` tells `group_dead`.
    pub exit_has_group_dead: u32,
    /// Size of a kernel stack, bytes; 0 when unknown.
    pub kernel_stack_size: u32,
    /// Where on a kernel stack the saved user registers lie, bytes from its base; 0 when unknown. For programs that may
    /// not call `bpf_task_pt_regs`.
    pub saved_regs: u32,
    /// `mark_victim` is given the victim's task (6.9 and later), not its pid alone.
    pub victim_is_task: u32,
    /// Bytes of the ring that events which come by the thousands may fill; the rest is for those that tell of lives.
    pub ring_bulk_bytes: u32,
    /// Numbers of the system calls whose first argument is a descriptor that they can wait at, a bit each.
    pub descriptor_calls: [u64; CALL_WORDS],
}
layout!(
    Features,
    size = 96,
    switch_has_prev_state = 0,
    task_stack = 4,
    task_pt_regs = 8,
    saved_regs = 20,
    victim_is_task = 24,
    ring_bulk_bytes = 28,
    descriptor_calls = 32
);
