//! Calls that read, write and sync files, each counted and timed. Only where that was asked for: it makes every system call
//! of the host dearer.
//!
//! What a thread does to one file is added up in its own memory and told when a third file comes, after [`RUN_NS`], and at the
//! thread's execs and its end.

use core::mem::offset_of;

use aya_ebpf::{bindings::pt_regs, macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_common::{
    Counter,
    awaited::mode,
    control,
    disk::{CallSum, FileCalls, InodeId, RUN_NS},
    kind,
};

use super::{DiskState, files, get, id_of, overlay, profiled};
use crate::{
    calls::Calls,
    emit,
    globals::offset,
    preempt,
    task::{self, Task},
};

/// Files that a thread has open sums of at a time: a copy has two.
pub const FILES: usize = 2;

/// A sum that goes on; see [`FileCalls`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Run {
    pub from: u64,
    pub to: u64,
    pub inode: InodeId,
    /// Address and number of the inode that the caller has, which of an overlay is another one; 0: the place is free.
    pub host: u64,
    pub ino: u64,
    /// 1: `inode` is of a lower layer, and so the file's until it is copied up.
    pub lower: u32,
    pub pad: u32,
    pub sums: [CallSum; 3],
}

/// Places of [`FileCalls::sums`].
const READ: usize = 0;
const WRITE: usize = 1;
const SYNC: usize = 2;

/// System calls that are counted: what reads, what writes, what syncs the file of its first argument.
static READS: Calls = Calls::of(&[(0, 0), (17, 17), (19, 19), (295, 295), (327, 327)]);
static WRITES: Calls = Calls::of(&[(1, 1), (18, 18), (20, 20), (296, 296), (328, 328)]);
static SYNCS: Calls = Calls::of(&[(74, 75), (277, 277)]);
static COUNTED: Calls = Calls::of(&[
    (SENDFILE as usize, SENDFILE as usize),
    (SPLICE as usize, SPLICE as usize),
    (COPY_FILE_RANGE as usize, COPY_FILE_RANGE as usize),
])
.and(&READS)
.and(&WRITES)
.and(&SYNCS);
/// From one file to another: `sendfile` to its first from its second, the other two from their first to their third.
const SENDFILE: i32 = 40;
const SPLICE: i32 = 275;
const COPY_FILE_RANGE: i32 = 326;

/// Whether a system call reads the file of its first argument and does nothing else.
#[cfg(not(feature = "task-storage"))]
#[inline(always)]
pub fn is_read(syscall: i32) -> bool {
    READS.holds(syscall)
}

/// `sys_enter(struct pt_regs *regs, long id)`
#[btf_tracepoint(function = "sys_enter")]
pub fn file_call_begins(ctx: BtfTracePointContext) -> u32 {
    if !COUNTED.holds(ctx.arg::<u64>(1) as i32) {
        return 0;
    }
    let _held = preempt::hold();
    emit::done(match profiled(task::current()) {
        Ok(Some(state)) => {
            state.call_began = task::now();
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(counter) => Err(counter),
    })
}

/// `sys_exit(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
pub fn file_call_ends(ctx: BtfTracePointContext) -> u32 {
    let regs: *const u8 = ctx.arg(0);
    let number = task::read::<u64>(regs, offset_of!(pt_regs, orig_rax) as u32) as i32;
    if !COUNTED.holds(number) {
        return 0;
    }
    let _held = preempt::hold();
    let task = task::current();
    let Some(state) = get(task) else { return 0 };
    let began = core::mem::take(&mut state.call_began);
    // Else it began before it could be seen, or what is noted is of a call before a time in which calls were not counted.
    if began <= emit::control(control::FILE_CALLS_SINCE) {
        return 0;
    }
    let now = task::now();
    let result: i64 = ctx.arg(1);
    let sum = CallSum {
        calls: 1,
        pad: 0,
        bytes: if result > 0 { result as u64 } else { 0 },
        ns: now - began,
    };
    let argument = |at: usize| task::read::<u64>(regs, at as u32);
    let first = argument(offset_of!(pt_regs, rdi));
    if READS.holds(number) {
        add(task, state, first, READ, sum, now);
    } else if WRITES.holds(number) {
        add(task, state, first, WRITE, sum, now);
    } else if SYNCS.holds(number) {
        add(task, state, first, SYNC, CallSum { bytes: 0, ..sum }, now);
    } else {
        let (from, to) = match number {
            SENDFILE => (argument(offset_of!(pt_regs, rsi)), first),
            _ => (first, argument(offset_of!(pt_regs, rdx))),
        };
        add(task, state, from, READ, sum, now);
        // Its time is told once, with what is read.
        add(task, state, to, WRITE, CallSum { ns: 0, ..sum }, now);
    }
    0
}

/// Adds a call to the sum of the file behind a descriptor, if that is no pipe, socket or terminal.
#[inline(always)]
fn add(task: Task, state: &mut DiskState, descriptor: u64, place: usize, sum: CallSum, now: u64) {
    let file = task::file(task, descriptor);
    let inode = task::read_ptr(file, offset!(file_inode));
    let address = inode as u64;
    let ino = task::read::<u64>(inode, offset!(inode_ino));
    let mut at = FILES;
    let mut index = 0;
    while index < FILES {
        let run = &state.calls[index];
        if address != 0 && run.host == address && run.ino == ino {
            at = index;
            break;
        }
        index += 1;
    }
    let mut fresh = false;
    if at == FILES {
        let kind = task::read::<u16>(inode, offset!(inode_mode)) & mode::MASK;
        if kind != mode::REGULAR && kind != mode::BLOCK {
            return;
        }
        at = 1 - (state.last_call as usize & 1);
        fresh = true;
    } else if state.calls[at & 1].lower != 0 {
        fresh = overlay::has_upper(inode);
    }
    if fresh {
        begin(task, state, at, file, now);
        state.calls[at & 1].from = now - sum.ns;
    }
    let slot = at & 1;
    state.last_call = slot as u32;
    let run = &mut state.calls[slot];
    run.to = now;
    let all = &mut run.sums[place];
    all.calls += sum.calls;
    all.bytes += sum.bytes;
    all.ns += sum.ns;
    if now - run.from >= RUN_NS {
        tell(task, state, slot, now);
    }
}

/// Makes place for a sum of a file. Of an overlay that of the layer is told: the overlay's own inode has no name for good.
#[inline(never)]
fn begin(task: Task, state: &mut DiskState, slot: usize, file: *const u8, now: u64) {
    tell(task, state, slot, now);
    let inode = task::read_ptr(file, offset!(file_inode));
    let (mut lower, mut upper) = (core::ptr::null(), core::ptr::null());
    if overlay::is(inode) {
        (lower, upper) = overlay::beneath(inode, task::read_ptr(file, offset!(file_dentry)));
    }
    let mut real = inode;
    if !upper.is_null() {
        real = upper;
    } else if !lower.is_null() {
        real = lower;
    }
    let id = id_of(real);
    files::tell(real, id, now);
    let run = &mut state.calls[slot & 1];
    run.host = inode as u64;
    run.ino = task::read::<u64>(inode, offset!(inode_ino));
    run.inode = id;
    run.lower = u32::from(upper.is_null() && !lower.is_null());
}

/// Tells a sum, and makes its place free.
#[inline(never)]
fn tell(task: Task, state: &mut DiskState, slot: usize, now: u64) {
    let run = &mut state.calls[slot & 1];
    if run.host == 0 {
        return;
    }
    match emit::reserve::<FileCalls>() {
        Some(mut entry) => {
            // SAFETY: memory of the ring of that size; every field is written.
            let event = unsafe { &mut *entry.as_mut_ptr() };
            event.header = task::header(task, kind::FILE_CALLS, now);
            event.from = run.from;
            event.to = run.to;
            event.inode = run.inode;
            event.sums = run.sums;
            emit::submit(entry);
        }
        None => emit::count(Counter::RingFileCalls),
    }
    run.host = 0;
    run.sums = [CallSum::default(); 3];
}

/// Tells what a thread has sums of.
#[inline(always)]
pub fn end(task: Task, state: &mut DiskState, now: u64) {
    let mut slot = 0;
    while slot < FILES {
        tell(task, state, slot, now);
        slot += 1;
    }
}
