//! Files of overlays that are opened: what they stand for.

use aya_ebpf::{
    EbpfContext as _,
    macros::{kprobe, map, tracepoint},
    programs::{ProbeContext, TracePointContext},
};
use profiler_common::{
    Counter,
    awaited::mode,
    disk::{InodeId, Overlaid},
    kind,
};

use super::{
    files, id_of, overlay,
    told::{self, Told},
};
use crate::{
    emit,
    globals::offset,
    task::{self, Task},
};

#[map]
static OPENED: Told = Told::with_max_entries(1, 0);

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

/// `sys_exit_openat`: the result is the file's number. Of folders it is told too.
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
    if overlay::is(inode) && task::read::<u16>(inode, offset!(inode_mode)) & mode::MASK == mode::REGULAR {
        opened(task, inode, file);
    }
    0
}

/// Tells what a file of an overlay stands for, if it has a lower one: one that is new is no layer's. Once, and once more after
/// each mount of an overlay, which may have the file's device number by then.
#[inline(never)]
fn opened(task: Task, inode: *const u8, file: *const u8) {
    let id = id_of(inode);
    let Some(told) = told::of(&OPENED) else { return };
    // An overlay counts no generations.
    let mark = InodeId {
        generation: overlay::last_mount() as u32,
        ..id
    };
    if told::holds(told, mark) {
        return;
    }
    let (lower, upper) = overlay::beneath(inode, task::read_ptr(file, offset!(file_dentry)));
    if lower.is_null() {
        return;
    }
    let now = task::now();
    let lower_id = id_of(lower);
    files::tell(lower, lower_id, now);
    match emit::reserve::<Overlaid>() {
        Some(mut entry) => {
            // SAFETY: memory of the ring of that size; every field is written.
            let event = unsafe { &mut *entry.as_mut_ptr() };
            event.header = task::header(task, kind::OVERLAID, now);
            event.overlay = id;
            event.lower = lower_id;
            event.upper = id_of(upper);
            emit::submit(entry);
            told::keep(told, mark);
        }
        None => emit::count(Counter::RingOverlaid),
    }
}
