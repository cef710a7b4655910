//! Write-back: dirty pages that are given to their devices for nobody in particular.

use aya_ebpf::{
    EbpfContext as _,
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};
use profiler_common::{Counter, disk::WriteBack, kind};

use super::{block::is_kernel_thread, files, id_of};
use crate::{emit, globals::offset, preempt, task};

/// When the write-back began that a thread does, and of which inode; by thread.
#[map]
static WRITING: HashMap<u64, [u64; 2]> = HashMap::with_max_entries(1024, 0);

/// `writeback_single_inode_start(struct inode *inode, struct writeback_control *wbc, unsigned long nr_to_write)`.
#[btf_tracepoint(function = "writeback_single_inode_start")]
pub fn write_back_begins(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    let inode: u64 = ctx.arg(0);
    let task = task::current();
    if !is_kernel_thread(task) && task::get(task).is_none() {
        return 0;
    }
    emit::done(
        WRITING
            .insert(task as u64, [task::now(), inode], 0)
            .map_err(|_| Counter::DiskMapFull),
    )
}

/// `writeback_single_inode(struct inode *inode, struct writeback_control *wbc, unsigned long nr_to_write)`: at the end of
/// `__writeback_single_inode`.
#[btf_tracepoint(function = "writeback_single_inode")]
pub fn write_back_ends(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_end(&ctx))
}

#[inline(always)]
fn try_end(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    // As a number: with its type it could not be handed on to [`files::tell_path`].
    let inode = task::read::<u64>(ctx.as_ptr().cast(), 0) as *const u8;
    let control: *const u8 = ctx.arg(1);
    let budget: i64 = ctx.arg(2);
    let task = task::current();
    let now = task::now();
    let key = task as u64;
    let mut from = now;
    if let Some(begun) = WRITING.get_ptr(key) {
        // SAFETY: points into the map; only this thread writes its own entry.
        let begun = unsafe { *begun };
        if begun[1] == inode as u64 {
            from = begun[0];
        }
        let _ = WRITING.remove(key);
    }
    let pages = budget - task::read::<i64>(control, offset!(wbc_nr_to_write));
    if pages <= 0 {
        return Ok(());
    }
    let kernel = is_kernel_thread(task);
    if !kernel && task::get(task).is_none() {
        return Ok(());
    }
    let id = id_of(inode);
    files::tell(inode, id, now);
    let memory = task::read_ptr(task::read_ptr(inode, offset!(inode_wb)), offset!(wb_memcg));
    let event = WriteBack {
        header: task::header_current(task, kind::WRITE_BACK, now),
        from,
        inode: id,
        pages: pages as u64,
        cgroup: task::cgroup_id(task::read_ptr(memory, offset!(css_cgroup))),
        sync: u32::from(task::read::<u32>(control, offset!(wbc_sync_mode)) == 1),
        kernel: u32::from(kernel),
    };
    emit::send_bulk(&event, Counter::RingWriteBack)
}
