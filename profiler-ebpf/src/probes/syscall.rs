//! System calls that change mounts and namespaces, and those by which engines put files in place: by a hook on each call's own function where the kernel has one to
//! give (`fentry`/`fexit`, `kprobe`/`kretprobe`), else by its classic tracepoints.
//!
//! A classic system call tracepoint switches every task of the host to the slow system call entry, a hook on a function
//! costs its callers only; see `docs/design/0005-system-call-tracepoints.md` and `docs/design/0009-the-ladder.md`. All
//! of them give the same event.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_kernel,
        generated::{bpf_probe_read_kernel_str, bpf_probe_read_user_str},
    },
    macros::{fentry, fexit, kprobe, kretprobe, map, tracepoint},
    maps::HashMap,
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext, TracePointContext},
};
use profiler_common::{
    Counter,
    container::{DATA_LEN, FSTYPE_LEN, PATH_LEN, Syscall, call},
    kind,
    sched::{ATTENTION_STACKS, TaskState},
};

use super::{disk::overlay, listen, net, sched};
use crate::{
    emit::{self, Scratch},
    globals::offset,
    preempt, task,
};

#[map]
static SYSCALL_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

/// A call between its start and its end.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entered {
    enter: u64,
    number: u64,
    args: [u64; 5],
}

/// By `tgid << 32 | tid`. A thread is in one call at most; what it left behind is overwritten by its next.
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

/// `long __x64_sys_NAME(const struct pt_regs *regs)`: `arch/x86/include/asm/syscall_wrapper.h`, since 4.17. Loaded once
/// for each call.
#[fentry]
pub fn call_fentry(ctx: FEntryContext) -> i32 {
    let _held = preempt::hold();
    emit::done(try_function(ctx.arg(0))) as i32
}

/// As [`call_fentry`]; the result follows the one argument.
#[fexit]
pub fn call_fexit(ctx: FExitContext) -> i32 {
    let _held = preempt::hold();
    emit::done(try_exit(ctx.arg::<i64>(1), None)) as i32
}

/// The function of [`call_fentry`], by a breakpoint (or by ftrace) at its beginning.
#[kprobe]
pub fn call_kprobe(ctx: ProbeContext) -> u32 {
    emit::done(match ctx.arg(0) {
        Some(regs) => try_function(regs),
        None => Ok(()),
    })
}

/// Its end. The kernel keeps room for `max(10, 2 × CPUs)` callers that have not returned; the end of a further one is
/// not told (`kernel/kprobes.c`, `register_kretprobe`), which [`Counter::SyscallEnd`] counts.
#[kretprobe]
pub fn call_kretprobe(ctx: RetProbeContext) -> u32 {
    emit::done(try_exit(ctx.ret(), None))
}

#[tracepoint]
pub fn call_enter(ctx: TracePointContext) -> u32 {
    emit::done(try_enter(&ctx))
}

#[tracepoint]
pub fn call_exit(ctx: TracePointContext) -> u32 {
    emit::done(try_exit(field(&ctx, RESULT), Some(&ctx)))
}

#[inline(always)]
fn field<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
    // SAFETY: within the record, see the constants above; the verifier checks it against the record's size.
    unsafe { ctx.as_ptr().cast::<u8>().add(offset).cast::<T>().read_volatile() }
}

/// The part of the caller's saved registers that holds a system call's number and arguments on x86-64, in its order.
#[repr(C)]
#[derive(Clone, Copy)]
struct Registers {
    r10: u64,
    r9: u64,
    r8: u64,
    rax: u64,
    rcx: u64,
    rdx: u64,
    rsi: u64,
    rdi: u64,
    orig_rax: u64,
}
const REGISTERS: usize = core::mem::offset_of!(pt_regs, r10);
const _: () = assert!(
    core::mem::offset_of!(pt_regs, orig_rax) - REGISTERS == core::mem::offset_of!(Registers, orig_rax)
        && core::mem::offset_of!(pt_regs, rdi) - REGISTERS == core::mem::offset_of!(Registers, rdi)
);

#[inline(always)]
fn try_function(regs: *const pt_regs) -> Result<(), Counter> {
    let task = task::current();
    let Some(state) = task::get(task) else {
        return Ok(());
    };
    // SAFETY: the helper copes with any source.
    let regs = unsafe { bpf_probe_read_kernel(regs.cast::<u8>().wrapping_add(REGISTERS).cast::<Registers>()) };
    let regs = regs.map_err(|_| Counter::Path)?;
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8];
    // SAFETY: points into the map; the running thread's own state.
    enter(task, unsafe { &mut *state }, regs.orig_rax, args)
}

#[inline(always)]
fn try_enter(ctx: &TracePointContext) -> Result<(), Counter> {
    let task = task::current();
    let Some(state) = task::get(task) else {
        return Ok(());
    };
    let number: u32 = field(ctx, NUMBER);
    // Read as memory, not as context: the kernel refuses (EACCES) to attach a program that may read the context past
    // the arguments that this system call has (`max_ctx_offset`, `perf_event_set_bpf_prog`). What is handed over has
    // room for six always (`struct syscall_tp_t`, kernel/trace/trace_syscalls.c); those it has not are not used.
    // SAFETY: within the record, see above; the helper copes with any source.
    let args = unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u8>().add(ARGS).cast::<[u64; 5]>()) };
    // SAFETY: points into the map; the running thread's own state.
    let state = unsafe { &mut *state };
    enter(task, state, u64::from(number), args.map_err(|_| Counter::Path)?)
}

/// Closes the thread's sums and keeps the arguments for the call's end.
#[inline(always)]
fn enter(task: task::Task, state: &mut TaskState, number: u64, args: [u64; 5]) -> Result<(), Counter> {
    if let Some(what) = CALLS.get_ptr(number as u32)
        // SAFETY: points into a map that only user space writes, before the programs are attached.
        && call::of_engines(unsafe { *what })
        && !net::in_engine()
    {
        return Ok(());
    }
    let now = task::now();
    sched::boundary(task, state, now);
    let key = bpf_get_current_pid_tgid();
    if ENTERED.get_ptr(key).is_some() {
        emit::count(Counter::SyscallEnd);
    }
    let entered = Entered {
        enter: now,
        number,
        args,
    };
    ENTERED.insert(key, entered, 0).map_err(|_| Counter::SyscallMapFull)
}

/// Reads a string of the caller to `scratch + at`; its length without the NUL.
#[inline(always)]
fn text(scratch: *mut u8, at: usize, max: usize, source: u64) -> usize {
    if source == 0 {
        return 0;
    }
    // SAFETY: callers keep `at + max` within SCRATCH_LEN; the helper copes with any source.
    let len = unsafe { bpf_probe_read_user_str(scratch.add(at).cast(), max as u32, source as *const _) };
    // An empty one has a length without its NUL on older kernels, 6.1 among them (`strncpy_from_user_nofault`, mm/maccess.c).
    if len < 0 {
        emit::count(Counter::Path);
    }
    if len <= 0 {
        return 0;
    }
    (len as usize - 1) & (max - 1)
}

/// Reads the name that a file descriptor of the running task has in its folder to `scratch`; its length.
#[inline(always)]
fn file_name(task: task::Task, scratch: *mut u8, fd: u64) -> usize {
    const HEAD: usize = core::mem::size_of::<Syscall>();
    let dentry = task::read_ptr(task::file(task, fd), offset!(file_dentry));
    let name = task::read_ptr(dentry, offset!(dentry_name));
    if name.is_null() {
        return 0;
    }
    // SAFETY: HEAD + PATH_LEN is less than SCRATCH_LEN; the helper copes with any source.
    let len = unsafe { bpf_probe_read_kernel_str(scratch.add(HEAD).cast(), PATH_LEN as u32, name.cast()) };
    if len <= 0 {
        emit::count(Counter::Path);
        return 0;
    }
    (len as usize - 1) & (PATH_LEN - 1)
}

/// The end of a call. A classic tracepoint can tell the end of one that began before the recording; only it has a
/// record with the number then.
#[inline(always)]
fn try_exit(result: i64, record: Option<&TracePointContext>) -> Result<(), Counter> {
    let key = bpf_get_current_pid_tgid();
    let task = task::current();
    let Some(state) = task::get(task) else {
        return Ok(());
    };
    let (mut begun, mut number, mut args) = (0, u64::MAX, [0u64; 5]);
    if let Some(entered) = ENTERED.get_ptr(key) {
        // SAFETY: points into the map; only this thread writes its own entry.
        let entered = unsafe { *entered };
        (begun, number, args) = (entered.enter, entered.number, entered.args);
        let _ = ENTERED.remove(key);
    }
    if let Some(record) = record {
        number = u64::from(field::<u32>(record, NUMBER));
    }
    let Some(what) = CALLS.get_ptr(number as u32) else {
        return Ok(());
    };
    // SAFETY: points into a map that only user space writes, before the programs are attached.
    let what = unsafe { *what };
    // Of a call that is told of engines only, another's beginning was not kept.
    if call::of_engines(what) && begun == 0 {
        return Ok(());
    }
    let now = task::now();
    // SAFETY: points into the map; the running thread's own state.
    let state = unsafe { &mut *state };
    sched::boundary(task, state, now);
    if result == 0 {
        overlay::mounted(what, &args, now);
    }
    let [first, second, third, fourth, fifth] = args;
    if what == call::LISTEN {
        return listen::listening(task, begun, now, first, result);
    }
    let mut event = Syscall {
        header: task::header_current(task, kind::SYSCALL, now),
        enter: begun,
        result,
        call: what,
        ..Syscall::default()
    };
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
        // renameat and renameat2: folder, path, folder, path.
        call::RENAME => (second, fourth, 0, 0),
        call::SETNS => {
            event.args = [first, second];
            (0, 0, 0, 0)
        }
        // unshare, fsmount, fsync: one number. What follows is none of theirs: whatever was in the registers.
        _ => {
            event.args = [first, 0];
            (0, 0, 0, 0)
        }
    };
    let scratch = emit::scratch(&SYSCALL_SCRATCH)?;
    const HEAD: usize = core::mem::size_of::<Syscall>();
    let a_len = if what == call::SYNC {
        file_name(task, scratch, first)
    } else {
        text(scratch, HEAD, PATH_LEN, a)
    };
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
