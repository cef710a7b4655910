//! Tasks: reading their fields, and the one accessor of the per-task state.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_smp_processor_id,
    generated::{bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_probe_read_kernel},
};
use profiler_common::{
    Counter, Header,
    sched::{SYSCALL_NOT_ASKED, TaskState, done},
    task::COMM_LEN,
};

use crate::{
    emit,
    globals::{enabled, has, offset},
};

/// A kernel's `struct task_struct *`, as a program was given it (so that the verifier knows its type).
pub type Task = *mut aya_ebpf::bindings::task_struct;

/// Reads a `T` at `base + offset` of kernel memory; 0 when that can't be read or the member is absent.
#[inline(always)]
pub fn read<T: Copy + Default>(base: *const u8, offset: u32) -> T {
    let mut value = T::default();
    if has(offset) && !base.is_null() {
        // SAFETY: the helper copes with any address, and `value` is as large as is asked for.
        unsafe {
            bpf_probe_read_kernel(
                (&raw mut value).cast(),
                core::mem::size_of::<T>() as u32,
                base.wrapping_add(offset as usize).cast(),
            );
        }
    }
    value
}

/// Reads a `T` at `base + offset`; 0 when that can't be read, as from a null pointer. Has no branch: what reads much in a loop
/// would multiply the verifier's work by each. Only of members that are known to be there.
#[inline(always)]
pub fn peek<T: Copy + Default>(base: *const u8, offset: u32) -> T {
    let mut value = T::default();
    // SAFETY: the helper copes with any address, fills `value` with 0 when it fails, and `value` is as large as is asked for.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            core::mem::size_of::<T>() as u32,
            base.wrapping_add(offset as usize).cast(),
        );
    }
    value
}

/// Reads a pointer.
#[inline(always)]
pub fn read_ptr(base: *const u8, offset: u32) -> *const u8 {
    read::<u64>(base, offset) as *const u8
}

/// A kernel's structure whose type the verifier knows: the running task, an argument of a BTF program, and what is reached
/// from those by pointers. Its members are read by plain loads, which give 0 where nothing can be read
/// (`BPF_PROBE_MEM`); a call of the helper for each costs some ten times as much. Kernels that lack task storage get the helper.
#[derive(Clone, Copy)]
pub struct Known(*const u8);

impl Known {
    #[inline(always)]
    pub fn task(task: Task) -> Known {
        Known(task.cast())
    }

    /// `None` for null, which the verifier takes some arguments to be.
    ///
    /// # Safety
    ///
    /// The verifier knows the type: an argument of a BTF program, or what a helper returned with its type.
    #[inline(always)]
    pub unsafe fn new(structure: *const u8) -> Option<Known> {
        if structure.is_null() {
            None
        } else {
            Some(Known(structure))
        }
    }

    /// A member; 0 when it can't be read or the kernel has none.
    #[inline(always)]
    pub fn load<T: Copy + Default>(self, offset: u32) -> T {
        if !has(offset) {
            return T::default();
        }
        #[cfg(feature = "task-storage")]
        // SAFETY: the verifier has this load handled when it fails; volatile, since the kernel writes there.
        unsafe {
            core::ptr::read_volatile(self.0.wrapping_add(offset as usize).cast())
        }
        #[cfg(not(feature = "task-storage"))]
        peek(self.0, offset)
    }

    /// What a member points at.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Known {
        Known(self.load::<u64>(offset) as *const u8)
    }

    #[inline(always)]
    pub fn address(self) -> *const u8 {
        self.0
    }

    /// The address without its type, which a function of the verifier's own (`BTF_FUNC_GLOBAL`) may not be given: by way of a
    /// place in a map.
    #[inline(always)]
    pub fn number(self, place: &mut u64) -> *const u8 {
        let place: *mut u64 = place;
        // SAFETY: from a reference; volatile so that it is read again.
        unsafe {
            core::ptr::write_volatile(place, self.0 as u64);
            core::ptr::read_volatile(place) as *const u8
        }
    }
}

#[cfg(feature = "task-storage")]
mod state {
    use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE};
    use aya_ebpf::helpers::generated::{bpf_task_storage_delete, bpf_task_storage_get};

    use super::*;

    /// BTF-style definition: the verifier wants key and value types for task storage, and aya has no type for it.
    #[repr(C)]
    pub struct TaskStorage {
        r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
        key: *const i32,
        value: *const TaskState,
        map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
    }
    // SAFETY: pointers that only carry types for the loader; never read.
    unsafe impl Sync for TaskStorage {}

    #[unsafe(link_section = ".maps")]
    #[unsafe(no_mangle)]
    static TASKS: TaskStorage = TaskStorage {
        r#type: core::ptr::null(),
        key: core::ptr::null(),
        value: core::ptr::null(),
        map_flags: core::ptr::null(),
    };

    const CREATE: u64 = aya_ebpf::bindings::BPF_LOCAL_STORAGE_GET_F_CREATE as u64;

    #[inline(always)]
    fn map() -> *mut core::ffi::c_void {
        core::ptr::from_ref(&TASKS).cast_mut().cast()
    }

    pub fn get(task: Task) -> Option<*mut TaskState> {
        // SAFETY: `task` is a task pointer that the verifier knows; a null result is turned into None.
        let state = unsafe { bpf_task_storage_get(map(), task, core::ptr::null_mut(), 0) };
        if state.is_null() { None } else { Some(state.cast()) }
    }

    pub fn create(task: Task, value: &TaskState) -> Option<*mut TaskState> {
        let mut value = *value;
        // SAFETY: as in `get`; `value` is copied by the helper.
        let state = unsafe { bpf_task_storage_get(map(), task, (&raw mut value).cast(), CREATE) };
        if state.is_null() { None } else { Some(state.cast()) }
    }

    pub fn remove(task: Task) {
        // SAFETY: as in `get`.
        unsafe { bpf_task_storage_delete(map(), task) };
    }

    /// The state hangs on the task, whatever its id.
    pub fn renamed(_task: Task, _old_tid: u32) {}
}

#[cfg(not(feature = "task-storage"))]
mod state {
    use aya_ebpf::{macros::map, maps::HashMap};

    use super::*;

    /// Keyed by thread id. Sized for the largest build host's tracked threads.
    #[map]
    static TASKS: HashMap<u32, TaskState> = HashMap::with_max_entries(32_768, 0);

    #[inline(always)]
    fn tid(task: Task) -> u32 {
        read::<u32>(task.cast(), offset!(task_pid))
    }

    pub fn get(task: Task) -> Option<*mut TaskState> {
        TASKS.get_ptr_mut(tid(task))
    }

    pub fn create(task: Task, value: &TaskState) -> Option<*mut TaskState> {
        let tid = tid(task);
        TASKS.insert(tid, value, 0).ok()?;
        TASKS.get_ptr_mut(tid)
    }

    pub fn remove(task: Task) {
        let _ = TASKS.remove(tid(task));
    }

    /// A thread that is no leader takes the leader's id in exec: its state moves with it.
    pub fn renamed(task: Task, old_tid: u32) {
        let tid = tid(task);
        if tid == old_tid {
            return;
        }
        if let Some(old) = TASKS.get_ptr_mut(old_tid) {
            // SAFETY: points into the map; this is the running thread's own state.
            let copy = unsafe { *old };
            let _ = TASKS.insert(tid, copy, 0);
            let _ = TASKS.remove(old_tid);
        }
    }
}

/// The profiled thread's state; `None` for a thread that is not profiled.
#[inline(always)]
pub fn get(task: Task) -> Option<*mut TaskState> {
    state::get(task)
}

/// Whether the first of two programs on a tracepoint has done its part for the running thread: it marks it, and the second
/// (`AGAIN`) leaves it or, where there is no mark, counts that it does it instead.
#[inline(always)]
pub fn is_done<const AGAIN: bool>(state: &mut TaskState, event: u32, again: Counter) -> bool {
    if !AGAIN {
        state.done |= event;
        return false;
    }
    let done = state.done & event != 0;
    // A thread execs again, and ends once.
    if event == done::EXEC {
        state.done &= !event;
    } else {
        state.done |= event;
    }
    if !done {
        emit::count(again);
    }
    done
}

/// Begins to profile a thread.
#[inline(always)]
pub fn create(task: Task, value: &TaskState) -> Result<*mut TaskState, Counter> {
    state::create(task, value).ok_or(Counter::TaskMapFull)
}

/// Ends it.
#[inline(always)]
pub fn remove(task: Task) {
    state::remove(task);
}

/// Tells that a thread changed its id (exec by a thread that was no leader).
#[inline(always)]
pub fn renamed(task: Task, old_tid: u32) {
    state::renamed(task, old_tid);
}

/// The running task, as a pointer that the verifier knows.
#[inline(always)]
pub fn current() -> Task {
    #[cfg(feature = "task-storage")]
    // SAFETY: always the running task. Since 5.11; task storage for tracing programs is younger.
    unsafe {
        aya_ebpf::helpers::generated::bpf_get_current_task_btf()
    }
    #[cfg(not(feature = "task-storage"))]
    // SAFETY: always the running task.
    unsafe {
        aya_ebpf::helpers::generated::bpf_get_current_task() as Task
    }
}

/// Where the user registers of a task lie, at the upper end of its kernel stack; null when that is not known. Needs no type
/// of the task.
#[inline(always)]
pub fn registers_on_stack(task: Task) -> *const u8 {
    let stack = read_ptr(task.cast(), offset!(task_stack));
    if enabled!(saved_regs) == 0 || stack.is_null() {
        return core::ptr::null();
    }
    stack.wrapping_add(enabled!(saved_regs) as usize)
}

/// Where the user registers lie of a task that a BTF program was given, whose type the verifier knows in both variants; null when
/// that is not known.
#[inline(always)]
pub fn registers_of(task: Task) -> *const u8 {
    if enabled!(task_pt_regs) != 0 {
        // SAFETY: a task pointer that the verifier knows.
        return unsafe { aya_ebpf::helpers::generated::bpf_task_pt_regs(task) } as *const u8;
    }
    registers_on_stack(task)
}

/// Where the running task's user registers lie; null when that is not known. `task` is [`current`].
#[inline(always)]
pub fn registers(task: Task) -> *const u8 {
    #[cfg(feature = "task-storage")]
    return registers_of(task);
    #[cfg(not(feature = "task-storage"))]
    registers_on_stack(task)
}

/// The system call that a task with these registers is in, or -1; [`SYSCALL_NOT_ASKED`] when they are null. They come from
/// [`registers`] or [`registers_of`].
#[inline(always)]
pub fn system_call(registers: *const u8) -> i32 {
    if registers.is_null() {
        return SYSCALL_NOT_ASKED;
    }
    if enabled!(task_pt_regs) != 0 {
        // With its type; that of what lies on the stack is not known.
        return Known(registers).load(offset!(pt_regs_orig_ax));
    }
    read(registers, offset!(pt_regs_orig_ax))
}

/// The `struct file *` behind a descriptor of a task; null when it can't be read.
#[inline(always)]
pub fn file(task: Task, fd: u64) -> *const u8 {
    let table = Known::task(task).follow(offset!(task_files)).follow(offset!(files_fdt));
    // The number is an `int` to the kernel: what stands above it in the register is none of it.
    let fd = fd & 0xffff_ffff;
    if fd >= u64::from(table.load::<u32>(offset!(fdtable_max_fds))) {
        return core::ptr::null();
    }
    let all = table.load::<u64>(offset!(fdtable_fd)) as *const u8;
    read_ptr(all.wrapping_add(fd as usize * 8), 0)
}

/// Inode number of a task's mount namespace; 0 when it has left it.
#[inline(always)]
pub fn mnt_ns(task: Task) -> u32 {
    let mnt_ns = Known::task(task)
        .follow(offset!(task_nsproxy))
        .follow(offset!(nsproxy_mnt_ns));
    mnt_ns.load(offset!(mnt_namespace_inum))
}

/// Inode number of the pid namespace that a task's id lives in, and its id there.
#[inline(always)]
pub fn in_pid_ns(task: Task) -> (u32, u32) {
    let pid = read_ptr(task.cast(), offset!(task_thread_pid));
    if pid.is_null() || !has(offset!(upid_size)) {
        return (0, 0);
    }
    let level = read::<u32>(pid, offset!(pid_level)) & 0x1f;
    let upid = pid.wrapping_add((offset!(pid_numbers) + level * offset!(upid_size)) as usize);
    let namespace = read_ptr(upid, offset!(upid_ns));
    (
        read::<u32>(namespace, offset!(pid_namespace_inum)),
        read::<u32>(upid, offset!(upid_nr)),
    )
}

/// Id of a cgroup.
#[inline(always)]
pub fn cgroup_id(cgroup: *const u8) -> u64 {
    read::<u64>(read_ptr(cgroup, offset!(cgroup_kn)), offset!(kernfs_node_id))
}

/// Id of the cgroup2 cgroup that a task is in.
#[inline(always)]
fn cgroup_of(task: Task) -> u64 {
    let group = Known::task(task)
        .follow(offset!(task_cgroups))
        .follow(offset!(css_set_dfl_cgrp));
    group.follow(offset!(cgroup_kn)).load(offset!(kernfs_node_id))
}

/// Header of an event about any task.
#[inline(always)]
pub fn header(task: Task, kind: u16, ts: u64) -> Header {
    let known = Known::task(task);
    Header {
        ts,
        start: known.load(offset!(task_start_time)),
        cgroup: cgroup_of(task),
        tgid: known.load(offset!(task_tgid)),
        tid: known.load(offset!(task_pid)),
        mnt_ns: mnt_ns(task),
        kind,
        cpu: cpu(),
    }
}

/// Header of an event about the running task.
#[inline(always)]
pub fn header_current(task: Task, kind: u16, ts: u64) -> Header {
    let pid_tgid = bpf_get_current_pid_tgid();
    Header {
        ts,
        start: Known::task(task).load(offset!(task_start_time)),
        // SAFETY: no arguments.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        tgid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        mnt_ns: mnt_ns(task),
        kind,
        cpu: cpu(),
    }
}

/// The running thread's name, with NULs to its end. As it stands in the task it has what is left of longer names behind it: on
/// kernels whose `__set_task_comm` does not pad, as that of 5.10 (fs/exec.c).
#[inline(always)]
pub fn comm() -> [u8; COMM_LEN] {
    let mut comm = [0u8; COMM_LEN];
    // SAFETY: the helper writes at most as much as it is told there is.
    unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), COMM_LEN as u32) };
    comm
}

#[inline(always)]
pub fn cpu() -> u16 {
    // SAFETY: no arguments.
    (unsafe { bpf_get_smp_processor_id() }) as u16
}

/// `CLOCK_MONOTONIC`, ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { aya_ebpf::helpers::generated::bpf_ktime_get_ns() }
}
