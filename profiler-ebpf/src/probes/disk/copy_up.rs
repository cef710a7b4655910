//! Copy-ups of overlays.
//!
//! By the overlay's own functions where they can be hooked. Else by what a copy-up does: within a system call that
//! neither reads nor writes a file's contents, it makes an inode in the overlay's work directory and adds pages, with its
//! functions in the kernel stack.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    macros::{btf_tracepoint, kprobe, kretprobe, map},
    programs::{BtfTracePointContext, ProbeContext, RetProbeContext},
};
use profiler_common::{
    Counter, control,
    disk::{CopyUp, InodeId, PageRun, copy_flag, run_flag},
    kind,
    sched::{ATTENTION_COPY_UP, ATTENTION_STACKS},
};

use super::{DiskState, create, files, id_of, overlay, state::Copying};
use crate::{
    calls::{Calls, NONE},
    emit::{self, Scratch},
    globals::offset,
    preempt, stack,
    task::{self, Known, Task},
};

#[map]
static DISK_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

/// Frames, from the leaf, among which one of the overlay's copy-up is looked for: the fsync of a copy and the file system
/// below lie above it.
const LOOKED_AT: usize = 48;

/// System calls that can't copy up: those that read and write contents, look at metadata, wait or run programs.
static PLAIN: Calls = Calls::of(&[
    (NONE, NONE),
    // read, write; close to lseek without open; mmap to brk; ioctl to writev.
    (0, 1),
    (3, 12),
    (16, 20),
    // mremap to madvise.
    (25, 28),
    // sendfile; execve, exit, wait4; fsync, fdatasync; ftruncate, getdents.
    (40, 40),
    (59, 61),
    (74, 75),
    (77, 78),
    // readlink; statfs, fstatfs; sync; readahead; futex; getdents64; fadvise64; exit_group, epoll_wait.
    (89, 89),
    (137, 138),
    (162, 162),
    (187, 187),
    (202, 202),
    (217, 217),
    (221, 221),
    (231, 232),
    // newfstatat; splice to vmsplice; epoll_pwait; fallocate; preadv, pwritev; syncfs.
    (262, 262),
    (275, 278),
    (281, 281),
    (285, 285),
    (295, 296),
    (306, 306),
    // execveat; copy_file_range to pwritev2; statx; io_uring_enter.
    (322, 322),
    (326, 328),
    (332, 332),
    (426, 426),
]);

/// Whether a system call may copy up. Of each run of pages in one that may, the stack is looked at.
#[inline(always)]
pub fn possible(syscall: i32) -> bool {
    !PLAIN.holds(syscall)
}

/// Whether the overlay's own functions tell of copy-ups.
#[inline(always)]
pub fn bracketed() -> bool {
    emit::control(control::COPY_UP_BRACKETED) != 0
}

/// Sends a run's first stack, and tells whether it is one of a copy-up.
#[inline(always)]
pub fn by_stack(ctx: *mut c_void, task: Task, inode: InodeId, syscall: i32, now: u64) -> bool {
    const HEAD: usize = core::mem::size_of::<PageRun>();
    let Ok(scratch) = emit::scratch(&DISK_SCRATCH) else {
        emit::count(Counter::Scratch);
        return false;
    };
    // SAFETY: HEAD + STACK_BYTES is less than SCRATCH_LEN.
    let bytes = unsafe { stack::current(ctx, scratch.add(HEAD), false) };
    let bytes = if bytes < 0 {
        emit::count(Counter::RunStack);
        0
    } else {
        bytes as usize & 0x3ff
    };
    // SAFETY: scratch memory is large enough and 8-aligned.
    let event = unsafe { &mut *scratch.cast::<PageRun>() };
    event.header = task::header(task, kind::PAGE_RUN, now);
    event.from = now;
    event.to = now;
    event.inode = inode;
    event.size = 0;
    event.added = 0;
    event.dirtied = 0;
    event.syscall = syscall;
    event.flags = run_flag::WANT_STACK;
    event.kernel_frames = (bytes / 8) as u16;
    // SAFETY: as above; `bytes` is at most 0x3ff.
    let (sent, found) = unsafe {
        (
            emit::send_raw_bulk(scratch, HEAD + bytes, Counter::RingPageRun),
            among(scratch.add(HEAD), bytes / 8),
        )
    };
    if let Err(counter) = sent {
        emit::count(counter);
    }
    found
}

/// Whether one of `count` addresses lies in the overlay's copy-up.
///
/// # Safety
///
/// `frames` points at [`STACK_BYTES`] bytes that the verifier knows.
#[inline(always)]
unsafe fn among(frames: *const u8, count: usize) -> bool {
    let from = emit::control(control::COPY_UP_FROM);
    let length = emit::control(control::COPY_UP_TO).wrapping_sub(from);
    let mut index = 0;
    let mut found = 0;
    // Few branches: the verifier goes through the loop once for each way through them.
    while index < LOOKED_AT {
        // SAFETY: see above.
        let address = unsafe { frames.add(index * 8).cast::<u64>().read() };
        // A return address lies behind the call. The top bit is set of what is too small or too large.
        let behind = address.wrapping_sub(from).wrapping_sub(1);
        let outside = behind | length.wrapping_sub(1).wrapping_sub(behind);
        let is_frame = (index as u64).wrapping_sub(count as u64);
        found |= !outside & is_frame;
        index += 1;
    }
    found >> 63 != 0
}

/// A run of pages has begun, of a copy-up or of something else. `looked`: its stack was looked at.
#[inline(always)]
pub fn run(task: Task, state: &mut DiskState, copy_up: bool, looked: bool, syscall: i32, now: u64) {
    if bracketed() || (!copy_up && state.copying.from == 0) {
        return;
    }
    let same = state.copying.over == 0 && state.copying.syscall == syscall;
    // A file system's own data are read and written within a copy-up too.
    let goes_on = same && (copy_up || !looked);
    if !goes_on {
        end(task, state);
    }
    if copy_up {
        if !goes_on || state.copying.from == 0 {
            begin(state, InodeId::NONE, 0, 0, syscall, now);
        }
        state.copying.to = now;
        watch(task);
    }
}

#[inline(always)]
fn begin(state: &mut DiskState, upper: InodeId, host: u64, mode: u32, syscall: i32, now: u64) {
    state.copying = Copying {
        from: now,
        to: now,
        lower: InodeId::NONE,
        upper,
        overlay: InodeId::NONE,
        host,
        dentry: 0,
        size: 0,
        read: 0,
        copied: 0,
        mode,
        syscall,
        over: 0,
        pad: 0,
    };
}

/// The stack of the thread's next wait shall tell whether the copy-up goes on.
#[inline(always)]
fn watch(task: Task) {
    if let Some(scheduling) = task::get(task) {
        // SAFETY: points into the map; the running thread's own state.
        unsafe { (*scheduling).attention |= ATTENTION_COPY_UP };
    }
}

/// Pages of a run that belongs to a copy-up.
#[inline(always)]
pub fn page(state: &mut DiskState, slot: usize, now: u64, added: u32, dirtied: u32) {
    let run = state.runs[slot & 1];
    let copying = &mut state.copying;
    if !bracketed() {
        copying.to = now;
    }
    if dirtied > 0 {
        if copying.upper == InodeId::NONE {
            copying.upper = run.inode;
            copying.host = run.host;
            // It is new, so all of the run's pages are the copy's.
            copying.copied = run.added;
            if copying.lower == run.inode {
                // What was taken for the lower file's first page.
                copying.lower = InodeId::NONE;
                copying.read = 0;
            }
        }
    } else if copying.upper == run.inode {
        // A last page that is not whole is made dirty twice: pages that are new are counted.
        copying.copied += added;
    } else {
        if copying.lower == InodeId::NONE {
            copying.lower = run.inode;
        }
        if copying.lower == run.inode {
            copying.read += added;
        }
    }
}

/// A wait has ended, whose kernel stack is given, after something of a copy-up was seen. Whether that goes on.
///
/// # Safety
///
/// `frames` points at [`STACK_BYTES`] bytes that the verifier knows.
#[inline(always)]
pub unsafe fn waited(task: Task, frames: *const u8, count: usize, now: u64) -> bool {
    let Some(state) = super::get(task) else { return false };
    // SAFETY: see above.
    if state.copying.from != 0 && unsafe { among(frames, count) } {
        state.copying.to = now;
        grown(&mut state.copying);
        return true;
    }
    // Told with the thread's next page or event of its own.
    state.copying.over = 1;
    false
}

/// Looks at the copy's size.
#[inline(always)]
fn grown(copying: &mut Copying) {
    if copying.host != 0 {
        let size = task::read::<u64>(copying.host as *const u8, offset!(inode_size));
        copying.size = if size > copying.size { size } else { copying.size };
    }
}

/// Tells the copy-up that goes on, if one does.
#[inline(always)]
pub fn end(task: Task, state: &mut DiskState) {
    if state.copying.from == 0 {
        return;
    }
    send(task, state, if bracketed() { copy_flag::BRACKETED } else { 0 });
}

#[inline(never)]
fn send(task: Task, state: &mut DiskState, flags: u32) {
    let copying = &mut state.copying;
    let host = copying.host as *const u8;
    let there = !host.is_null() && id_of(host) == copying.upper;
    if there {
        grown(copying);
        files::tell_again(host, copying.upper, copying.to);
    }
    match emit::reserve::<CopyUp>() {
        Some(mut entry) => {
            // SAFETY: memory of the ring of that size; every field is written.
            let event = unsafe { &mut *entry.as_mut_ptr() };
            event.header = task::header(task, kind::COPY_UP, copying.to);
            event.from = copying.from;
            event.lower = copying.lower;
            event.upper = copying.upper;
            event.overlay = copying.overlay;
            event.size = copying.size;
            event.mode = copying.mode;
            if there {
                event.mode = u32::from(task::read::<u16>(host, offset!(inode_mode)));
            }
            event.read = copying.read;
            event.copied = copying.copied;
            event.syscall = copying.syscall;
            event.flags = flags;
            event.pad = 0;
            emit::submit(entry);
        }
        None => emit::count(Counter::RingCopyUp),
    }
    copying.from = 0;
}

/// `ext4_allocate_inode(struct inode *inode, struct inode *dir, int mode)`: at the end of `__ext4_new_inode`.
#[btf_tracepoint(function = "ext4_allocate_inode")]
pub fn inode_made(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_made(&ctx))
}

#[inline(always)]
fn try_made(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let task = task::current();
    if task::get(task).is_none() {
        return Ok(());
    }
    let syscall = task::system_call(task::registers(task));
    if !possible(syscall) || bracketed() {
        return Ok(());
    }
    // What is copied is made in the overlay's work directory, `work/work`; most inodes are made elsewhere.
    // SAFETY: an argument of a BTF program.
    let Some(directory) = (unsafe { Known::new(ctx.arg(1)) }) else {
        return Ok(());
    };
    if !files::is_called_work(directory) {
        return Ok(());
    }
    let inode: *const u8 = ctx.arg(0);
    let mode: u32 = ctx.arg(2);
    let now = task::now();
    let id = id_of(inode);
    if !by_stack(ctx.as_ptr(), task, id, syscall, now) {
        return Ok(());
    }
    let state = create(task)?;
    end(task, state);
    begin(state, id, inode as u64, mode, syscall, now);
    watch(task);
    Ok(())
}

/// `int ovl_copy_up_start(struct dentry *dentry, int flags)` of fs/overlayfs/util.c: takes the overlay's lock of the inode;
/// 0 when there is something to copy up. Since 4.15 with `flags`.
#[kprobe]
pub fn copy_up_begins(ctx: ProbeContext) -> u32 {
    let task = task::current();
    if task::get(task).is_none() {
        return 0;
    }
    emit::done(match (ctx.arg::<u64>(0), create(task)) {
        (Some(dentry), Ok(state)) => {
            begin(
                state,
                InodeId::NONE,
                0,
                0,
                task::system_call(task::registers(task)),
                task::now(),
            );
            state.copying.from = 0;
            state.copying.dentry = dentry;
            Ok(())
        }
        (_, Err(counter)) => Err(counter),
        (None, _) => Ok(()),
    })
}

/// Its end.
#[kretprobe]
pub fn copy_up_begun(ctx: RetProbeContext) -> u32 {
    let task = task::current();
    let Some(scheduling) = task::get(task) else { return 0 };
    let Some(state) = super::get(task) else { return 0 };
    if ctx.ret::<i32>() == 0 && state.copying.dentry != 0 {
        state.copying.from = state.copying.to;
        // SAFETY: points into the map; the running thread's own state.
        unsafe { (*scheduling).attention |= ATTENTION_STACKS };
    } else {
        state.copying.dentry = 0;
    }
    0
}

/// `void ovl_copy_up_end(struct dentry *dentry)` of fs/overlayfs/util.c.
#[kprobe]
pub fn copy_up_ends(_ctx: ProbeContext) -> u32 {
    let task = task::current();
    let Some(scheduling) = task::get(task) else { return 0 };
    let Some(state) = super::get(task) else { return 0 };
    // SAFETY: as above.
    unsafe { (*scheduling).attention &= !ATTENTION_STACKS };
    if state.copying.from == 0 {
        return 0;
    }
    state.copying.to = task::now();
    let dentry = state.copying.dentry as *const u8;
    let overlay = task::read_ptr(dentry, offset!(dentry_inode));
    let (lower, upper) = overlay::beneath(overlay, dentry);
    state.copying.overlay = id_of(overlay);
    if !lower.is_null() {
        state.copying.lower = id_of(lower);
        files::tell(lower, state.copying.lower, state.copying.to);
    }
    if !upper.is_null() {
        state.copying.upper = id_of(upper);
        state.copying.host = upper as u64;
    } else if lower.is_null() {
        // Before 5.11 modules do not tell their types: of what has no pages the overlay's own name is all there is.
        files::tell(overlay, state.copying.overlay, state.copying.to);
    }
    // What has no upper file after it was not copied: the file system is full, a signal came.
    let failed = upper.is_null() && !lower.is_null();
    send(
        task,
        state,
        copy_flag::BRACKETED | if failed { copy_flag::FAILED } else { 0 },
    );
    0
}
