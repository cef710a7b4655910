//! Kills for want of memory, of a cgroup or of the host.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_common::{Counter, kind, memory::Oom, task::COMM_LEN};

use super::memory::{self, MemoryCgroup};
use crate::{
    emit,
    globals::{enabled, offset},
    preempt,
    task::{self, Task},
};

/// `mark_victim(struct task_struct *task, uid_t uid)`; `mark_victim(int pid)` before 6.9. The running
/// task is the one whose allocation failed. Told of the whole host: whoever is killed, the host was short.
#[btf_tracepoint(function = "mark_victim")]
pub fn oom_victim(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_victim(&ctx))
}

#[inline(always)]
fn try_victim(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let mut event = Oom {
        header: task::header_current(task::current(), kind::OOM, task::now()),
        ..Oom::default()
    };
    if enabled!(victim_is_task) == 0 {
        event.victim_tid = ctx.arg::<u32>(0);
        return emit::send(&event, Counter::RingOom);
    }
    let victim: Task = ctx.arg(0);
    let base: *const u8 = victim.cast();
    let header = task::header(victim, kind::OOM, event.header.ts);
    event.victim_start = header.start;
    event.victim_cgroup = header.cgroup;
    event.victim_tgid = header.tgid;
    event.victim_tid = header.tid;
    event.victim_rss = memory::resident(task::read_ptr(base, offset!(task_mm)));
    let memcg = MemoryCgroup::of(victim);
    event.memcg = memcg.id;
    event.memcg_peak = memcg.peak;
    event.memcg_hierarchy = memcg.hierarchy;
    event.comm = task::read::<[u8; COMM_LEN]>(base, offset!(task_comm));
    emit::send(&event, Counter::RingOom)
}
