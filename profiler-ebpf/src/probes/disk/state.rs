//! The kernel's memory of what each thread is reading and writing. Apart from that of its scheduling, since most threads
//! never come here.

use profiler_common::{Counter, disk::InodeId};

use super::calls;
use crate::task::Task;

/// Runs of pages that a thread has open at a time: a copy has two.
pub const RUNS: usize = 2;

/// A run of pages that goes on; see [`profiler_common::disk::PageRun`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Run {
    pub from: u64,
    pub to: u64,
    pub inode: InodeId,
    pub size: u64,
    /// Address of the inode; 0: the place is free.
    pub host: u64,
    pub added: u32,
    pub dirtied: u32,
    pub syscall: i32,
    pub flags: u16,
    pub pad: u16,
}

/// A copy-up that goes on; see [`profiler_common::disk::CopyUp`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Copying {
    /// 0: none goes on.
    pub from: u64,
    pub to: u64,
    pub lower: InodeId,
    pub upper: InodeId,
    pub overlay: InodeId,
    /// Address of the upper inode; 0: not known.
    pub host: u64,
    /// Address of the overlay's dentry; 0: not known.
    pub dentry: u64,
    /// Largest size of the copy that was seen: a truncate that it was done for makes it smaller again.
    pub size: u64,
    pub read: u32,
    pub copied: u32,
    pub mode: u32,
    pub syscall: i32,
    /// 1: it does not go on, and is still to be told.
    pub over: u32,
    pub pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct DiskState {
    pub runs: [Run; RUNS],
    pub copying: Copying,
    pub calls: [calls::Run; calls::FILES],
    /// When the call began that is counted; 0: none goes on.
    pub call_began: u64,
    /// The run that was used last, and the same of `calls`.
    pub last: u32,
    pub last_call: u32,
}

#[cfg(feature = "task-storage")]
mod map {
    use aya_ebpf::bindings::{
        BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE,
    };
    use aya_ebpf::helpers::generated::bpf_task_storage_get;

    use super::*;

    /// As that of scheduling, in `task.rs`.
    #[repr(C)]
    pub struct Storage {
        r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
        key: *const i32,
        value: *const DiskState,
        map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
    }
    // SAFETY: pointers that only carry types for the loader; never read.
    unsafe impl Sync for Storage {}

    #[unsafe(link_section = ".maps")]
    #[unsafe(no_mangle)]
    static DISK_TASKS: Storage = Storage {
        r#type: core::ptr::null(),
        key: core::ptr::null(),
        value: core::ptr::null(),
        map_flags: core::ptr::null(),
    };

    #[inline(always)]
    fn find(task: Task, flags: u64) -> Option<*mut DiskState> {
        // SAFETY: `task` is a task pointer that the verifier knows; a null result is turned into None. Without a value the
        // kernel fills new memory with 0.
        let state = unsafe {
            bpf_task_storage_get(
                core::ptr::from_ref(&DISK_TASKS).cast_mut().cast(),
                task,
                core::ptr::null_mut(),
                flags,
            )
        };
        if state.is_null() { None } else { Some(state.cast()) }
    }

    #[inline(always)]
    pub fn get(task: Task) -> Option<*mut DiskState> {
        find(task, 0)
    }

    #[inline(always)]
    pub fn create(task: Task) -> Option<*mut DiskState> {
        find(task, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE))
    }

    #[inline(always)]
    pub fn remove(_task: Task) {}

    /// The state hangs on the task, whatever its id.
    #[inline(always)]
    pub fn renamed(_task: Task, _old_tid: u32) {}
}

#[cfg(not(feature = "task-storage"))]
mod map {
    use aya_ebpf::{
        macros::map,
        maps::{Array, HashMap},
    };

    use super::*;
    use crate::{globals::offset, task};

    /// Keyed by thread id, for threads that read or write files. One that ends takes its entry with it.
    #[map]
    static DISK_TASKS: HashMap<u32, DiskState> = HashMap::with_max_entries(16_384, 0);

    /// What a thread begins with: its size is too much for a program's stack.
    #[map]
    static DISK_NOTHING: Array<DiskState> = Array::with_max_entries(1, 0);

    #[inline(always)]
    fn tid(task: Task) -> u32 {
        task::read::<u32>(task.cast(), offset!(task_pid))
    }

    #[inline(always)]
    pub fn get(task: Task) -> Option<*mut DiskState> {
        DISK_TASKS.get_ptr_mut(tid(task))
    }

    #[inline(always)]
    pub fn create(task: Task) -> Option<*mut DiskState> {
        let tid = tid(task);
        if let Some(state) = DISK_TASKS.get_ptr_mut(tid) {
            return Some(state);
        }
        let nothing = DISK_NOTHING.get(0)?;
        DISK_TASKS.insert(tid, nothing, 0).ok()?;
        DISK_TASKS.get_ptr_mut(tid)
    }

    #[inline(always)]
    pub fn remove(task: Task) {
        let _ = DISK_TASKS.remove(tid(task));
    }

    /// As that of scheduling, in `task.rs`.
    #[inline(always)]
    pub fn renamed(task: Task, old_tid: u32) {
        let tid = tid(task);
        if tid == old_tid {
            return;
        }
        if let Some(old) = DISK_TASKS.get_ptr_mut(old_tid) {
            // SAFETY: points into the map; this is the running thread's own state. By reference: a program's stack has no
            // room for it.
            let old: &DiskState = unsafe { &*old };
            let _ = DISK_TASKS.insert(tid, old, 0);
            let _ = DISK_TASKS.remove(old_tid);
        }
    }
}

/// What the thread is reading and writing; `None` when it never did.
#[inline(always)]
pub fn get(task: Task) -> Option<&'static mut DiskState> {
    // SAFETY: points into the map; only the thread itself writes its own, and the closing iterator when it can't.
    map::get(task).map(|state| unsafe { &mut *state })
}

/// The same, from now on.
#[inline(always)]
pub fn create(task: Task) -> Result<&'static mut DiskState, Counter> {
    match map::create(task) {
        // SAFETY: as above.
        Some(state) => Ok(unsafe { &mut *state }),
        None => Err(Counter::DiskMapFull),
    }
}

/// The thread changed its id: exec by one that was no leader.
#[inline(always)]
pub fn renamed(task: Task, old_tid: u32) {
    map::renamed(task, old_tid);
}

/// The thread ends.
#[inline(always)]
pub fn remove(task: Task) {
    map::remove(task);
}
