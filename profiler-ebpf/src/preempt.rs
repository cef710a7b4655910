//! Programs stay on their CPU until they are done.
//!
//! Up to 6.x the kernel calls a tracepoint's programs with preemption off. Since 7.0 (a46023d5616e) another thread can take
//! the CPU in the middle of one: its own programs would write to the same scratch memory, and its switch would tell a later
//! time before an earlier one. The kernel's functions against that are called by number, which user space puts in their
//! places before it loads the object ([`profiler_common::preempt`]); where they are not needed it takes the calls out.

use profiler_common::preempt::{DISABLE, ENABLE};

/// While it lives no other thread takes this CPU; interrupts do.
pub struct Held(());

/// Begins it. The first thing in programs of tracepoints and functions that can be called with preemption on.
#[inline(always)]
pub fn hold() -> Held {
    call::<DISABLE>();
    Held(())
}

impl Drop for Held {
    #[inline(always)]
    fn drop(&mut self) {
        call::<ENABLE>();
    }
}

#[inline(always)]
fn call<const NUMBER: u32>() {
    // SAFETY: as helpers are called: LLVM makes of an address that is a constant a call by number. Neither
    // `void bpf_preempt_disable(void)` nor `void bpf_preempt_enable(void)` takes or gives anything.
    unsafe {
        let function: unsafe extern "C" fn() = core::mem::transmute::<usize, _>(NUMBER as usize);
        function();
    }
}
