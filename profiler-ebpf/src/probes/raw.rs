//! Raw tracepoints: the rung below the BTF-typed ones, for kernels that have the tracepoint and not its type.
//!
//! The arguments are the same, and so is the code. But the verifier knows no types there: a task pointer is a mere number
//! to it, which task storage refuses, so what is about a task other than the running one is in the hash variant only.

use aya_ebpf::{
    EbpfContext as _,
    programs::{BtfTracePointContext, RawTracePointContext},
};

/// A raw tracepoint's context, read as that of its BTF-typed sibling: both are the tracepoint's arguments in 64 bits each
/// (`struct bpf_raw_tracepoint_args`).
#[inline(always)]
pub(super) fn typed(ctx: &RawTracePointContext) -> BtfTracePointContext {
    BtfTracePointContext::new(ctx.as_ptr())
}

#[cfg(not(feature = "task-storage"))]
mod tasks {
    use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

    use super::typed;
    use crate::{
        emit, preempt,
        probes::{cgroup, process, sched},
    };

    #[raw_tracepoint(tracepoint = "sched_switch")]
    pub fn sched_switch_raw(ctx: RawTracePointContext) -> u32 {
        emit::done(sched::try_switch::<false>(&typed(&ctx)))
    }

    #[raw_tracepoint(tracepoint = "sched_waking")]
    pub fn sched_waking_raw(ctx: RawTracePointContext) -> u32 {
        sched::waking(&typed(&ctx));
        0
    }

    #[raw_tracepoint(tracepoint = "task_newtask")]
    pub fn task_newtask_raw(ctx: RawTracePointContext) -> u32 {
        let _held = preempt::hold();
        emit::done(process::try_newtask(&typed(&ctx)))
    }

    #[raw_tracepoint(tracepoint = "sched_process_exec")]
    pub fn sched_process_exec_raw(ctx: RawTracePointContext) -> u32 {
        let _held = preempt::hold();
        emit::done(process::try_exec::<false>(&typed(&ctx)))
    }

    #[raw_tracepoint(tracepoint = "sched_process_exit")]
    pub fn sched_process_exit_raw(ctx: RawTracePointContext) -> u32 {
        let _held = preempt::hold();
        emit::done(process::try_exit::<false>(&typed(&ctx)))
    }

    #[raw_tracepoint(tracepoint = "cgroup_attach_task")]
    pub fn cgroup_attach_task_raw(ctx: RawTracePointContext) -> u32 {
        let _held = preempt::hold();
        emit::done(cgroup::try_attach(&typed(&ctx)))
    }
}
