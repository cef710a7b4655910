//! Pages that threads bring into the page cache and make dirty, file by file.
//!
//! Nothing is done where a page is found in the cache. What belongs to one file and one kind of system call is added up in
//! the thread's own memory and told when another file takes its place, after [`RUN_NS`], and at its execs and its end.

pub mod block;
pub mod calls;
pub mod copy_up;
pub mod files;
pub mod opened;
pub mod overlay;
mod state;
mod told;
pub mod whiteout;
pub mod write_back;

use aya_ebpf::{EbpfContext as _, macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_common::{
    Counter,
    disk::{InodeId, PageRun, RUN_NS, run_flag},
    kind,
    sched::done,
};

use crate::{
    emit,
    globals::{enabled, has, offset},
    preempt,
    task::{self, Known, Task},
};
pub use state::{DiskState, get};
use state::{Run, create};

/// `mm_filemap_add_to_page_cache(struct folio *folio)`; `struct page *page` before 5.16. Behind
/// `__filemap_add_folio`, in the thread that wants the pages.
#[btf_tracepoint(function = "mm_filemap_add_to_page_cache")]
pub fn page_added(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_added(&ctx))
}

/// `writeback_dirty_folio(struct folio *folio, struct address_space *mapping)`; `writeback_dirty_page` with
/// `struct page *page` before 5.16. Where the kernel accounts a page as dirty that was not.
#[btf_tracepoint(function = "writeback_dirty_folio")]
pub fn page_dirtied(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_dirtied(&ctx))
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: what the old program read and wrote
/// is told.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn pages_exec(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    let task: Task = ctx.arg(0);
    state::renamed(task, ctx.arg(1));
    boundary(task, task::now());
    0
}

/// `sched_process_exit(struct task_struct *p[, bool group_dead])`; the second since 6.16.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn pages_exit(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    try_exit::<false>(&ctx);
    0
}

/// As [`pages_exit`], where the kernel left that out.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn pages_exit_again(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    try_exit::<true>(&ctx);
    0
}

#[inline(always)]
fn try_exit<const AGAIN: bool>(ctx: &BtfTracePointContext) {
    let task: Task = ctx.arg(0);
    match task::get(task) {
        // SAFETY: points into the map; the running thread's own state.
        Some(state) if task::is_done::<AGAIN>(unsafe { &mut *state }, done::PAGES, Counter::PagesAgain) => return,
        None if AGAIN => return,
        _ => {}
    }
    boundary(task, task::now());
    forget(task);
}

#[inline(always)]
fn try_added(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let task = task::current();
    let Some(state) = profiled(task)? else { return Ok(()) };
    // SAFETY: an argument of a BTF program.
    let Some(folio) = (unsafe { Known::new(ctx.arg(0)) }) else {
        return Ok(());
    };
    let host = folio.follow(offset!(folio_mapping)).follow(offset!(mapping_host));
    #[cfg(not(feature = "task-storage"))]
    if is_behind_end(task, folio, host) {
        return Ok(());
    }
    page(ctx, task, state, host, pages(folio), 0)
}

#[inline(always)]
fn try_dirtied(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let task = task::current();
    let Some(state) = profiled(task)? else { return Ok(()) };
    // SAFETY: arguments of a BTF program.
    let (Some(folio), Some(mapping)) = (unsafe { (Known::new(ctx.arg(0)), Known::new(ctx.arg(1))) }) else {
        return Ok(());
    };
    page(ctx, task, state, mapping.follow(offset!(mapping_host)), 0, pages(folio))
}

/// What a profiled thread is reading and writing; `None` for one that is not profiled.
#[inline(always)]
fn profiled(task: Task) -> Result<Option<&'static mut DiskState>, Counter> {
    match get(task) {
        Some(state) => Ok(Some(state)),
        None if task::get(task).is_none() => Ok(None),
        None => create(task).map(Some),
    }
}

/// Whether a page lies behind the end of a file that is read. To 5.11 a read there adds one that no disk is asked for
/// (`generic_file_buffered_read` of mm/filemap.c looks at the size afterwards); those kernels have the hash alone.
#[cfg(not(feature = "task-storage"))]
#[inline(always)]
fn is_behind_end(task: Task, folio: Known, host: Known) -> bool {
    const PAGE_SHIFT: u64 = 12;
    let size = host.load::<u64>(offset!(inode_size));
    folio.load::<u64>(offset!(folio_index)) << PAGE_SHIFT >= size
        && calls::is_read(task::system_call(task::registers(task)))
}

/// How many pages a folio has.
#[inline(always)]
fn pages(folio: Known) -> u32 {
    let head = enabled!(head_bit);
    if !has(offset!(folio_order)) || !has(head) {
        return 1;
    }
    let flags = folio.load::<u64>(offset!(folio_flags));
    if flags >> (head & 63) & 1 == 0 {
        return 1;
    }
    1 << (folio.load::<u8>(offset!(folio_order)) & 31)
}

/// Who an inode is whose type the verifier knows.
#[inline(always)]
fn id_of_known(inode: Known) -> InodeId {
    InodeId {
        ino: inode.load(offset!(inode_ino)),
        dev: inode.follow(offset!(inode_sb)).load(offset!(super_block_dev)),
        generation: inode.load(offset!(inode_generation)),
    }
}

/// Who an inode is.
#[inline(always)]
pub fn id_of(inode: *const u8) -> InodeId {
    if inode.is_null() {
        return InodeId::NONE;
    }
    InodeId {
        ino: task::read::<u64>(inode, offset!(inode_ino)),
        dev: task::read::<u32>(task::read_ptr(inode, offset!(inode_sb)), offset!(super_block_dev)),
        generation: task::read::<u32>(inode, offset!(inode_generation)),
    }
}

/// Pages of the file `host` were added to the page cache, or made dirty, by the running thread.
#[inline(always)]
fn page(
    ctx: &BtfTracePointContext,
    task: Task,
    state: &mut DiskState,
    host: Known,
    added: u32,
    dirtied: u32,
) -> Result<(), Counter> {
    let now = task::now();
    let syscall = task::system_call(task::registers(task));
    let address = host.address() as u64;
    let ino = host.load::<u64>(offset!(inode_ino));
    // The thread can be interrupted by nothing that comes here.
    let mut at = state::RUNS;
    let mut index = 0;
    while index < state::RUNS {
        let run = &state.runs[index];
        if run.host == address && run.inode.ino == ino && run.syscall == syscall {
            at = index;
            break;
        }
        index += 1;
    }
    // A page is made dirty after it was added: closing runs at additions only keeps the two together.
    let fresh = match at {
        state::RUNS => true,
        at => added > 0 && now - state.runs[at & 1].from >= RUN_NS,
    };
    if fresh {
        let slot = if at == state::RUNS {
            1 - (state.last as usize & 1)
        } else {
            at & 1
        };
        close(task, state, slot, now);
        open(ctx, task, state, slot, host, syscall, now);
        at = slot;
    }
    let slot = at & 1;
    state.last = slot as u32;
    let run = &mut state.runs[slot];
    run.to = now;
    run.added += added;
    run.dirtied += dirtied;
    run.size = host.load(offset!(inode_size));
    if run.flags & run_flag::COPY_UP != 0 {
        copy_up::page(state, slot, now, added, dirtied);
    }
    Ok(())
}

/// Begins a run, tells its file and, of an unusual system call, the kernel stack.
#[inline(always)]
fn open(
    ctx: &BtfTracePointContext,
    task: Task,
    state: &mut DiskState,
    slot: usize,
    host: Known,
    syscall: i32,
    now: u64,
) {
    let inode = id_of_known(host);
    let mut flags = 0;
    files::tell(host.number(&mut state.runs[slot & 1].host), inode, now);
    let bracketed = copy_up::bracketed();
    let own_data = files::is_block_device(host.address());
    let look = !bracketed && copy_up::possible(syscall) && !own_data;
    if bracketed && state.copying.from != 0 && !own_data {
        flags = run_flag::COPY_UP;
    }
    if look {
        flags = run_flag::WANT_STACK;
        if copy_up::by_stack(ctx.as_ptr(), task, inode, syscall, now) {
            flags |= run_flag::COPY_UP;
        }
    }
    let run = &mut state.runs[slot & 1];
    *run = Run {
        from: now,
        to: now,
        inode,
        size: 0,
        host: host.address() as u64,
        added: 0,
        dirtied: 0,
        syscall,
        flags,
        pad: 0,
    };
    copy_up::run(task, state, flags & run_flag::COPY_UP != 0, look, syscall, now);
}

/// Tells a run, and makes its place free.
#[inline(always)]
fn close(task: Task, state: &mut DiskState, slot: usize, now: u64) {
    let run = &mut state.runs[slot & 1];
    if run.added | run.dirtied != 0 {
        // Written in place: a program's stack has no room for it.
        match emit::reserve::<PageRun>() {
            Some(mut entry) => {
                // SAFETY: memory of the ring of that size; every field is written.
                let event = unsafe { &mut *entry.as_mut_ptr() };
                event.header = task::header(task, kind::PAGE_RUN, now);
                event.from = run.from;
                event.to = run.to;
                event.inode = run.inode;
                event.size = run.size;
                event.added = run.added;
                event.dirtied = run.dirtied;
                event.syscall = run.syscall;
                event.flags = run.flags;
                event.kernel_frames = 0;
                emit::submit(entry);
            }
            None => emit::count(Counter::RingPageRun),
        }
    }
    run.host = 0;
    run.added = 0;
    run.dirtied = 0;
}

/// An event of the thread's own, or the recording's end: what it is in the middle of is told.
#[inline(never)]
pub fn boundary(task: Task, now: u64) {
    let Some(state) = get(task) else { return };
    close(task, state, 0, now);
    close(task, state, 1, now);
    calls::end(task, state, now);
    if !copy_up::bracketed() {
        copy_up::end(task, state);
    } else if state.copying.from != 0 {
        state.copying.from = 0;
        emit::count(Counter::CopyUpOpen);
    }
}

/// The thread is gone. What it did after its end was told, while the kernel took down its memory and files, is counted and not
/// told: to tell it from the switch would make that many times longer for the verifier.
#[inline(always)]
pub fn forget(task: Task) {
    let Some(state) = get(task) else { return };
    for run in &state.runs {
        if run.added | run.dirtied != 0 {
            emit::count(Counter::RunUntold);
        }
    }
    state::remove(task);
}
