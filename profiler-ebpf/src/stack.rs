//! Stacks: of the running task, of the task about to run, and by id.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_F_USER_STACK,
    helpers::generated::{bpf_get_stack, bpf_get_stackid, bpf_get_task_stack},
    macros::map,
    maps::StackTrace,
};
use profiler_common::MAX_FRAMES;

use crate::task::Task;

/// Bytes of the longest stack.
pub const STACK_BYTES: usize = MAX_FRAMES * 8;

/// User stacks of waits, by id: taken at switch-out, when nobody knows yet whether the wait will matter.
#[map]
static USER_STACKS: StackTrace = StackTrace::with_max_entries(8192, 0);

/// Writes the running task's stack to `buffer` ([`STACK_BYTES`] long); bytes written, or a negative errno.
///
/// # Safety
///
/// `buffer` points at [`STACK_BYTES`] bytes that the verifier knows.
#[inline(always)]
pub unsafe fn current(ctx: *mut c_void, buffer: *mut u8, user: bool) -> i64 {
    let flags = if user { u64::from(BPF_F_USER_STACK) } else { 0 };
    // SAFETY: see above.
    unsafe { bpf_get_stack(ctx, buffer.cast(), STACK_BYTES as u32, flags) }
}

/// Writes the kernel stack of a task that is not running. Of a user stack the kernel answers -95 there.
///
/// # Safety
///
/// As [`current`].
#[inline(always)]
pub unsafe fn of_task(task: Task, buffer: *mut u8) -> i64 {
    // SAFETY: see above.
    unsafe { bpf_get_task_stack(task, buffer.cast(), STACK_BYTES as u32, 0) }
}

/// Id of the running task's user stack, or a negative errno.
#[inline(always)]
pub fn user_id(ctx: *mut c_void) -> i32 {
    // SAFETY: the map outlives the program.
    (unsafe {
        bpf_get_stackid(
            ctx,
            core::ptr::from_ref(&USER_STACKS).cast_mut().cast(),
            u64::from(BPF_F_USER_STACK),
        )
    }) as i32
}
