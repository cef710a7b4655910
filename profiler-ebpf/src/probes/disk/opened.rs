//! Files of overlays that are opened: what they stand for.

use aya_ebpf::{
    EbpfContext as _,
    macros::{kprobe, map, tracepoint},
    maps::LruHashMap,
    programs::{ProbeContext, TracePointContext},
};
use profiler_common::{
    Counter,
    disk::{InodeId, Overlaid},
    kind,
};

use super::{files, id_of, overlay};
use crate::{
    emit,
    globals::offset,
    task::{self, Task},
};

/// `OVERLAYFS_SUPER_MAGIC`
const OVERLAY: u64 = 0x794c_7630;

/// Files that were told. One that is pushed out is told again.
#[map]
static OPENED: LruHashMap<InodeId, u32> = LruHashMap::with_max_entries(32_768, 0);

/// `int ovl_open(struct inode *inode, struct file *file)` of fs/overlayfs/file.c; since 4.19.
#[kprobe]
pub fn overlay_opens(ctx: ProbeContext) -> u32 {
    let task = task::current();
    if task::get(task).is_none() {
        return 0;
    }
    if let (Some(inode), Some(file)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) {
        opened(task, inode as *const u8, file as *const u8);
    }
    0
}

/// `sys_exit_openat`: the result is the file's number.
#[tracepoint]
pub fn overlay_opens_exit(ctx: TracePointContext) -> u32 {
    const RESULT: usize = 16;
    let task = task::current();
    if task::get(task).is_none() {
        return 0;
    }
    // SAFETY: within the record of a system call's end (`struct syscall_trace_exit`).
    let number = unsafe { ctx.as_ptr().cast::<u8>().add(RESULT).cast::<i64>().read_volatile() };
    if number < 0 {
        return 0;
    }
    let file = task::file(task, number as u64);
    let inode = task::read_ptr(file, offset!(file_inode));
    let super_block = task::read_ptr(inode, offset!(inode_sb));
    if task::read::<u64>(super_block, offset!(super_block_magic)) == OVERLAY {
        opened(task, inode, file);
    }
    0
}

/// Tells what a file of an overlay stands for, if it has a lower one: one that is new is no layer's.
#[inline(never)]
fn opened(task: Task, inode: *const u8, file: *const u8) {
    let id = id_of(inode);
    if OPENED.get_ptr(id).is_some() {
        return;
    }
    let (lower, upper) = overlay::beneath(inode, task::read_ptr(file, offset!(file_dentry)));
    if lower.is_null() {
        return;
    }
    let now = task::now();
    let lower_id = id_of(lower);
    files::tell(lower, lower_id, task, now);
    match emit::reserve::<Overlaid>() {
        Some(mut entry) => {
            // SAFETY: memory of the ring of that size; every field is written.
            let event = unsafe { &mut *entry.as_mut_ptr() };
            task::header_into(&mut event.header, task, kind::OVERLAID, now);
            event.overlay = id;
            event.lower = lower_id;
            event.upper = id_of(upper);
            emit::submit(entry);
            // One that can't be kept is told again.
            let _ = OPENED.insert(id, 1u32, 0);
        }
        None => emit::count(Counter::RingOverlaid),
    }
}
