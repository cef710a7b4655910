//! CPU samples.

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_perf_event_data,
    helpers::bpf_get_current_pid_tgid,
    macros::{map, perf_event},
    maps::ProgramArray,
    programs::PerfEventContext,
};
use profiler_common::{
    Counter,
    cpu::Sample,
    kind,
    unwind::{self as contract, pt},
};

use super::memory;
use crate::{
    emit::{self, Scratch},
    globals, stack, task,
    unwind::{self, Walk, Walks},
};

#[map]
static CPU_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

#[map]
static CPU_WALK: Walks = Walks::with_max_entries(1, 0);

/// [`cpu_unwind_more`], where it was loaded.
#[map]
static CPU_MORE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// A tick of the sampling clock (`cpu-clock`) on this CPU; user stacks by unwind tables.
#[perf_event]
pub fn cpu_unwind(ctx: PerfEventContext) -> u32 {
    emit::done(try_unwind(&ctx))
}

/// Goes on where [`cpu_unwind`], or a run of its own, has stopped.
#[perf_event]
pub fn cpu_unwind_more(ctx: PerfEventContext) -> u32 {
    emit::done(try_unwind_more(&ctx))
}

#[inline(always)]
fn try_unwind(ctx: &PerfEventContext) -> Result<(), Counter> {
    let pid_tgid = bpf_get_current_pid_tgid();
    if pid_tgid == 0 || (pid_tgid >> 32) as u32 == globals::self_tgid() {
        return Ok(());
    }
    let task = task::current();
    if task::get(task).is_none() {
        return Err(Counter::SampleUntracked);
    }
    let now = task::now();
    memory::sampled(task, now);
    let scratch = emit::scratch(&CPU_SCRATCH)?;
    let walk = walk()?;
    let interrupted = interrupted(ctx, walk);
    const HEAD: usize = core::mem::size_of::<contract::Sample>();
    // In user mode there is no kernel stack: -EFAULT (14).
    let kernel = if interrupted {
        -14
    } else {
        // SAFETY: HEAD + STACK_BYTES is less than SCRATCH_LEN.
        unsafe { stack::current(ctx.as_ptr(), scratch.add(HEAD), false) }
    };
    let kernel_bytes = if kernel < 0 { 0 } else { kernel as u32 & 0x3f8 };
    if kernel < 0 && kernel != -14 {
        emit::count(Counter::KernelStack);
    }
    walk.head = HEAD as u32 + kernel_bytes;
    let registers = interrupted || unwind::saved_registers(task, walk);
    unwind::begin(walk, registers, interrupted);
    let event = contract::Sample {
        header: task::header_current(task, kind::UNWOUND_SAMPLE, now),
        kernel_frames: (kernel_bytes / 8) as u16,
        kernel_error: if kernel < 0 { kernel as i16 } else { 0 },
        ..Default::default()
    };
    // SAFETY: as above; scratch memory is 8-aligned.
    unsafe { scratch.cast::<contract::Sample>().write(event) };
    if walk.stop == u32::from(contract::end::NONE) {
        call_more(ctx, walk);
    }
    send(walk, scratch)
}

#[inline(always)]
fn try_unwind_more(ctx: &PerfEventContext) -> Result<(), Counter> {
    let scratch = emit::scratch(&CPU_SCRATCH)?;
    let walk = walk()?;
    // SAFETY: scratch memory is as large as it must be.
    if unsafe { unwind::walk(walk, scratch) } {
        call_more(ctx, walk);
    }
    send(walk, scratch)
}

/// Lets [`cpu_unwind_more`] go on. Comes back only when that can't be called, and the stack ends here.
#[inline(always)]
fn call_more(ctx: &PerfEventContext, walk: &mut Walk) {
    // SAFETY: the program there is of this type.
    unsafe { CPU_MORE.tail_call(ctx, 0) };
    walk.stop = u32::from(contract::end::DEPTH);
}

#[inline(always)]
fn walk() -> Result<&'static mut Walk, Counter> {
    match CPU_WALK.get_ptr_mut(0) {
        // SAFETY: this CPU's own, and the sampling interrupt does not interrupt itself.
        Some(walk) => Ok(unsafe { &mut *walk }),
        None => Err(Counter::Scratch),
    }
}

/// The registers of interrupted user code. Whether it was that.
#[inline(always)]
fn interrupted(ctx: &PerfEventContext, walk: &mut Walk) -> bool {
    let ctx = ctx.as_ptr().cast::<bpf_perf_event_data>();
    // SAFETY: the program's own context; the verifier knows its size.
    let regs = unsafe { &(*ctx).regs };
    if regs.cs & 3 != 3 {
        return false;
    }
    let to = &mut walk.registers;
    to[0] = regs.r15;
    to[1] = regs.r14;
    to[2] = regs.r13;
    to[3] = regs.r12;
    to[pt::BP] = regs.rbp;
    to[pt::BX] = regs.rbx;
    to[6] = regs.r11;
    to[7] = regs.r10;
    to[8] = regs.r9;
    to[9] = regs.r8;
    to[10] = regs.rax;
    to[11] = regs.rcx;
    to[12] = regs.rdx;
    to[13] = regs.rsi;
    to[14] = regs.rdi;
    to[pt::IP] = regs.rip;
    to[pt::CS] = regs.cs;
    to[pt::SP] = regs.rsp;
    true
}

#[inline(always)]
fn send(walk: &mut Walk, scratch: *mut u8) -> Result<(), Counter> {
    // SAFETY: `try_unwind` wrote it.
    let event = unsafe { &mut *scratch.cast::<contract::Sample>() };
    unwind::finish(walk, event);
    if event.end == contract::end::NO_TABLE && unwind::copy(walk, &event.header) {
        event.flags |= contract::flag::COPIED;
    }
    // SAFETY: what was written is less than scratch memory.
    unsafe { emit::send_raw_bulk(scratch, unwind::length(walk), Counter::RingSample) }
}

/// A tick of the sampling clock (`cpu-clock`) on this CPU; user stacks by frame pointers.
#[perf_event]
pub fn cpu_sample(ctx: PerfEventContext) -> u32 {
    emit::done(try_sample(&ctx))
}

#[inline(always)]
fn try_sample(ctx: &PerfEventContext) -> Result<(), Counter> {
    let pid_tgid = bpf_get_current_pid_tgid();
    if pid_tgid == 0 || (pid_tgid >> 32) as u32 == globals::self_tgid() {
        return Ok(());
    }
    let task = task::current();
    if task::get(task).is_none() {
        return Err(Counter::SampleUntracked);
    }
    let now = task::now();
    memory::sampled(task, now);
    let scratch = emit::scratch(&CPU_SCRATCH)?;
    const HEAD: usize = core::mem::size_of::<Sample>();
    // SAFETY: HEAD + 2 × STACK_BYTES is less than SCRATCH_LEN; lengths are masked to at most 0x3ff.
    let user = unsafe { stack::current(ctx.as_ptr(), scratch.add(HEAD), true) };
    let user_bytes = if user < 0 { 0 } else { user as usize & 0x3ff };
    // SAFETY: as above.
    let kernel = unsafe { stack::current(ctx.as_ptr(), scratch.add(HEAD + user_bytes), false) };
    let kernel_bytes = if kernel < 0 { 0 } else { kernel as usize & 0x3ff };
    // A kernel thread has no user stack, and a sample in user mode no kernel stack: both answer -EFAULT (14).
    if user < 0 && user != -14 {
        emit::count(Counter::UserStack);
    }
    if kernel < 0 && kernel != -14 {
        emit::count(Counter::KernelStack);
    }
    let event = Sample {
        header: task::header_current(task, kind::SAMPLE, now),
        user_frames: (user_bytes / 8) as u16,
        kernel_frames: (kernel_bytes / 8) as u16,
        user_error: if user < 0 { user as i16 } else { 0 },
        kernel_error: if kernel < 0 { kernel as i16 } else { 0 },
    };
    // SAFETY: as above; scratch memory is 8-aligned.
    unsafe {
        scratch.cast::<Sample>().write(event);
        emit::send_raw_bulk(scratch, HEAD + user_bytes + kernel_bytes, Counter::RingSample)
    }
}
