//! System calls that change mounts and namespaces, by their classic tracepoints.
//!
//! A classic system call tracepoint switches every task of the host to the slow system call entry, so only these
//! few rare calls are hooked and never `raw_syscalls`; see `docs/design/0005-system-call-tracepoints.md`.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, generated::bpf_probe_read_user_str},
    macros::{map, tracepoint},
    maps::HashMap,
    programs::TracePointContext,
};
use profiler_common::{
    Counter,
    container::{DATA_LEN, FSTYPE_LEN, PATH_LEN, Syscall, call},
    kind,
    sched::ATTENTION_STACKS,
};

use super::{listen, sched};
use crate::{
    emit::{self, Scratch},
    task,
};

#[map]
static SYSCALL_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

/// A call between its start and its end.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entered {
    enter: u64,
    args: [u64; 5],
}

/// By `tgid << 32 | tid`. A thread is in one call at most; an abandoned entry (a task killed in the call) is
/// overwritten when its id returns.
#[map]
static ENTERED: HashMap<u64, Entered> = HashMap::with_max_entries(1024, 0);

/// System call number → [`call`], filled by user space for the architecture at hand.
#[map]
static CALLS: HashMap<u32, u32> = HashMap::with_max_entries(64, 0);

/// Offsets in the classic tracepoints' records, the same since 3.x:
/// `Documentation/trace/events.rst`, `struct syscall_trace_enter`/`_exit`.
const NUMBER: usize = 8;
const ARGS: usize = 16;
const RESULT: usize = 16;

#[tracepoint]
pub fn sys_enter(ctx: TracePointContext) -> u32 {
    emit::done(try_enter(&ctx))
}

#[tracepoint]
pub fn sys_exit(ctx: TracePointContext) -> u32 {
    emit::done(try_exit(&ctx))
}

#[inline(always)]
fn field<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
    // SAFETY: within the record, see the constants above; the verifier checks it against the record's size.
    unsafe { ctx.as_ptr().cast::<u8>().add(offset).cast::<T>().read_volatile() }
}

#[inline(always)]
fn try_enter(ctx: &TracePointContext) -> Result<(), Counter> {
    let task = task::current();
    let Some(state) = task::get(task) else {
        return Ok(());
    };
    let now = task::now();
    // SAFETY: points into the map; the running thread's own state.
    sched::boundary(task, unsafe { &mut *state }, now)?;
    // Read as memory, not as context: the kernel refuses (EACCES) to attach a program that may read the context past
    // the arguments that this system call has (`max_ctx_offset`, `perf_event_set_bpf_prog`). What is handed over has
    // room for six always (`struct syscall_tp_t`, kernel/trace/trace_syscalls.c); those it has not are not used.
    // SAFETY: within the record, see above; the helper copes with any source.
    let args = unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u8>().add(ARGS).cast::<[u64; 5]>()) };
    let entered = Entered {
        enter: now,
        args: args.map_err(|_| Counter::Path)?,
    };
    ENTERED
        .insert(bpf_get_current_pid_tgid(), entered, 0)
        .map_err(|_| Counter::SyscallMapFull)
}

/// Reads a string of the caller to `scratch + at`; its length without the NUL.
#[inline(always)]
fn text(scratch: *mut u8, at: usize, max: usize, source: u64) -> usize {
    if source == 0 {
        return 0;
    }
    // SAFETY: callers keep `at + max` within SCRATCH_LEN; the helper copes with any source.
    let len = unsafe { bpf_probe_read_user_str(scratch.add(at).cast(), max as u32, source as *const _) };
    if len <= 0 {
        emit::count(Counter::Path);
        return 0;
    }
    (len as usize - 1) & (max - 1)
}

#[inline(always)]
fn try_exit(ctx: &TracePointContext) -> Result<(), Counter> {
    let key = bpf_get_current_pid_tgid();
    let task = task::current();
    let Some(state) = task::get(task) else {
        return Ok(());
    };
    let number: u32 = field(ctx, NUMBER);
    let Some(what) = CALLS.get_ptr(number) else {
        return Ok(());
    };
    // SAFETY: points into a map that only user space writes, before the programs are attached.
    let what = unsafe { *what };
    let now = task::now();
    // SAFETY: points into the map; the running thread's own state.
    let state = unsafe { &mut *state };
    sched::boundary(task, state, now)?;
    let mut event = Syscall {
        header: task::header_current(task, kind::SYSCALL, now),
        result: field(ctx, RESULT),
        call: what,
        ..Syscall::default()
    };
    let mut args = [0u64; 5];
    if let Some(entered) = ENTERED.get_ptr(key) {
        // SAFETY: points into the map; only this thread writes its own entry.
        let entered = unsafe { *entered };
        event.enter = entered.enter;
        args = entered.args;
        let _ = ENTERED.remove(key);
    }
    let [first, second, third, fourth, fifth] = args;
    if what == call::LISTEN {
        return listen::listening(task, event.enter, now, first, event.result);
    }
    // (a, b, c, d) as `call` documents them; the strings are read at the end, when the kernel has faulted them in.
    let (a, b, c, d) = match what {
        call::MOUNT => {
            event.args = [fourth, 0];
            (first, second, third, fifth)
        }
        call::UMOUNT => {
            event.args = [second, 0];
            // The costly part of an umount comes after the call, as task work (`cleanup_mnt`).
            state.attention |= ATTENTION_STACKS;
            (0, first, 0, 0)
        }
        call::PIVOT_ROOT => (first, second, 0, 0),
        call::SETHOSTNAME => (first, 0, 0, 0),
        call::MOVE_MOUNT => {
            event.args = [first, third];
            (second, fourth, 0, 0)
        }
        call::FSOPEN => {
            event.args = [second, 0];
            (0, 0, first, 0)
        }
        call::FSCONFIG => {
            event.args = [first, second];
            // FSCONFIG_SET_FLAG and FSCONFIG_SET_STRING: the others carry no text as value.
            (
                if second == 1 { fourth } else { 0 },
                0,
                if second <= 1 { third } else { 0 },
                0,
            )
        }
        // unshare, setns, fsmount: numbers only
        _ => {
            event.args = [first, second];
            (0, 0, 0, 0)
        }
    };
    let scratch = emit::scratch(&SYSCALL_SCRATCH)?;
    const HEAD: usize = core::mem::size_of::<Syscall>();
    let a_len = text(scratch, HEAD, PATH_LEN, a);
    let b_len = text(scratch, HEAD + a_len, PATH_LEN, b);
    let c_len = text(scratch, HEAD + a_len + b_len, FSTYPE_LEN, c);
    let d_len = text(scratch, HEAD + a_len + b_len + c_len, DATA_LEN, d);
    event.a_len = a_len as u16;
    event.b_len = b_len as u16;
    event.c_len = c_len as u16;
    event.d_len = d_len as u16;
    // SAFETY: HEAD, two PATH_LEN, FSTYPE_LEN and DATA_LEN together are less than SCRATCH_LEN; 8-aligned.
    unsafe {
        scratch.cast::<Syscall>().write(event);
        emit::send_raw(scratch, HEAD + a_len + b_len + c_len + d_len, Counter::RingSyscall)
    }
}
