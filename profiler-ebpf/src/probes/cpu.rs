//! CPU samples.

use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_get_current_pid_tgid,
    macros::{map, perf_event},
    programs::PerfEventContext,
};
use profiler_common::{Counter, cpu::Sample, kind};

use super::memory;
use crate::{
    emit::{self, Scratch},
    globals, stack, task,
};

#[map]
static CPU_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

/// A tick of the sampling clock (`cpu-clock`) on this CPU.
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
        emit::send_raw(scratch, HEAD + user_bytes + kernel_bytes, Counter::RingSample)
    }
}
