//! Requests to block devices: how long each waits and takes, for whom and for which file.

use aya_ebpf::{
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};
use profiler_common::{
    Counter, Header,
    disk::{BlockIo, InodeId, block_flag},
    kind,
};

use super::id_of;
use crate::{
    emit,
    globals::{enabled, has, offset},
    preempt,
    probes::cgroup,
    task::{self, Task},
};

/// `PF_KTHREAD` of include/linux/sched.h, unchanged since 2.6.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Requests that their devices have, by address.
#[map]
static ISSUED: HashMap<u64, BlockIo> = HashMap::with_max_entries(8192, 0);

/// `block_rq_issue(struct request *rq)`; `struct request_queue *q` before it before 5.11 (a54895fa057c).
#[btf_tracepoint(function = "block_rq_issue")]
pub fn block_issue(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_issue(&ctx))
}

/// `block_rq_complete(struct request *rq, blk_status_t error, unsigned int nr_bytes)`; `int error` before 5.16.
#[btf_tracepoint(function = "block_rq_complete")]
pub fn block_complete(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_complete(&ctx))
}

/// Whether a task is a thread of the kernel's own.
#[inline(always)]
pub fn is_kernel_thread(task: Task) -> bool {
    task::read::<u32>(task.cast(), offset!(task_flags)) & KERNEL_THREAD != 0
}

#[inline(always)]
fn try_issue(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let task = task::current();
    let kernel = is_kernel_thread(task);
    if !kernel && task::get(task).is_none() {
        return Ok(());
    }
    let request: *const u8 = if enabled!(issue_has_queue) != 0 {
        ctx.arg(1)
    } else {
        ctx.arg(0)
    };
    let now = task::now();
    let command = task::read::<u32>(request, offset!(request_cmd_flags));
    let bio = task::read_ptr(request, offset!(request_bio));
    let group = task::read_ptr(task::read_ptr(bio, offset!(bio_blkg)), offset!(blkg_blkcg));
    let group = task::read_ptr(group, offset!(blkcg_cgroup));
    let event = BlockIo {
        header: task::header_current(task, kind::BLOCK_IO, now),
        queued: task::read::<u64>(request, offset!(request_start_time)),
        issued: now,
        sector: task::read::<u64>(request, offset!(request_sector)),
        cgroup: task::cgroup_id(group),
        // Other requests than reads and writes have no pages.
        inode: if command & 0xff > 1 {
            InodeId::NONE
        } else {
            file_of(bio)
        },
        bytes: task::read::<u32>(request, offset!(request_data_len)),
        dev: device(request),
        op: command & 0xff,
        flags: flags(command, kernel),
        hierarchy: if group.is_null() { 0 } else { cgroup::hierarchy(group) },
        error: 0,
    };
    ISSUED
        .insert(request as u64, event, 0)
        .map_err(|_| Counter::BlockMapFull)
}

#[inline(always)]
fn flags(command: u32, kernel: bool) -> u32 {
    let bit = |number: u32| has(number) && command >> (number & 31) & 1 != 0;
    let mut flags = 0;
    if bit(enabled!(req_sync_bit)) {
        flags |= block_flag::SYNC;
    }
    if bit(enabled!(req_meta_bit)) {
        flags |= block_flag::META;
    }
    if bit(enabled!(req_rahead_bit)) {
        flags |= block_flag::READAHEAD;
    }
    if bit(enabled!(req_preflush_bit)) || bit(enabled!(req_fua_bit)) {
        flags |= block_flag::FLUSH;
    }
    if kernel {
        flags |= block_flag::KERNEL;
    }
    flags
}

/// The device, as `major << 20 | minor`.
#[inline(always)]
fn device(request: *const u8) -> u32 {
    let disk = if has(offset!(request_disk)) {
        task::read_ptr(request, offset!(request_disk))
    } else {
        task::read_ptr(task::read_ptr(request, offset!(request_queue)), offset!(queue_disk))
    };
    task::read::<u32>(disk, offset!(gendisk_major)) << 20 | task::read::<u32>(disk, offset!(gendisk_first_minor))
}

/// The file that the first page of a bio is of. One that was split off another has its pages, and counts none (`bi_vcnt`).
#[inline(always)]
fn file_of(bio: *const u8) -> InodeId {
    let mut page = task::read_ptr(task::read_ptr(bio, offset!(bio_vec)), offset!(bio_vec_page));
    // A later page of a folio points at its first: the lowest bit is set.
    let head = task::read::<u64>(page, offset!(page_compound_head));
    if head & 1 != 0 {
        page = (head - 1) as *const u8;
    }
    // The two lowest bits tell that a page is no file's: `PAGE_MAPPING_FLAGS`.
    let mapping = task::read::<u64>(page, offset!(folio_mapping));
    if mapping & 3 != 0 {
        return InodeId::NONE;
    }
    id_of(task::read_ptr(mapping as *const u8, offset!(mapping_host)))
}

#[inline(always)]
fn try_complete(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let request: u64 = ctx.arg(0);
    let Some(issued) = ISSUED.get_ptr(request) else {
        return Ok(());
    };
    // SAFETY: points into the map.
    let issued = unsafe { *issued };
    let _ = ISSUED.remove(request);
    let event = BlockIo {
        header: Header {
            ts: task::now(),
            ..issued.header
        },
        error: ctx.arg(1),
        ..issued
    };
    emit::send_bulk(&event, Counter::RingBlockIo)
}
