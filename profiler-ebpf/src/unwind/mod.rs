//! Unwinding the running task's user stack by the tables that user space has filled in.
//!
//! A walk's state lies in memory of its CPU, and a program walks [`FRAMES_A_PROGRAM`] frames before it calls the next
//! one: so it stays within what the verifier of 5.10 is ready to follow, which has no `bpf_loop`.

mod space;

use aya_ebpf::{
    helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_user},
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use profiler_common::{
    Counter, Header, kind,
    unwind::{
        BLOCK_ENTRIES, BLOCK_ROWS, COPY_BYTES, Copied, FILES, FRAME_POINTERS, FRAMES_A_PROGRAM, FileKey, FileTable,
        LOW_MASK, Memory, PAGE_SHIFT, RULES, Registers, Rule, Sample, Step, TABLE, USER_FRAMES, cfa, end, flag,
        is_sigreturn, pt, search, step,
    },
};

use crate::{
    emit,
    globals::{enabled, has, offset},
    task::{self, Task},
};

/// Tables by file.
#[map]
static UNWIND_FILES: HashMap<FileKey, FileTable> = HashMap::with_max_entries(FILES, 0);

/// Rows and index entries of all tables. The number of blocks is set at load.
#[map]
static UNWIND_BLOCKS: Array<[u32; BLOCK_ROWS]> = Array::with_max_entries(1, 0);

/// What rows refer to.
#[map]
static UNWIND_RULES: Array<Rule> = Array::with_max_entries(RULES, 0);

/// State of a walk.
#[repr(C)]
pub struct Walk {
    pub at: Registers,
    /// `struct pt_regs` of the interrupted user code, and room up to what a mask can bound an index to: a comparison is
    /// of no use to the verifier when the compiler makes it on a copy of the index.
    pub registers: [u64; 32],
    mm: u64,
    vdso: u64,
    /// The mapping that was looked at last, and what to add to an address in it for the offset in its file.
    start: u64,
    end: u64,
    bias: u64,
    pub key: FileKey,
    table: FileTable,
    /// 1 while `at` is the interrupted code.
    leaf: u32,
    /// 1 while `at.pc` is no return address.
    exact: u32,
    pub frames: u32,
    /// [`end`]
    pub stop: u32,
    /// 1 in an exec's system call.
    pub exec: u32,
    /// Bytes of the event before the first user frame.
    pub head: u32,
    /// A node of the tree of mappings.
    node: [u64; 32],
}

/// A walk a CPU. Each kind of program has its own, since the sampling interrupt can hit in the middle of another.
pub type Walks = PerCpuArray<Walk>;

/// `PF_IO_WORKER | PF_USER_WORKER | PF_KTHREAD`: tasks that never were in user space.
const KERNEL_TASK: u32 = 0x10 | 0x4000 | 0x20_0000;
/// `__USER32_CS`
const USER32_CS: u64 = 0x23;
/// `execve` and `execveat`
const EXECVE: u64 = 59;
const EXECVEAT: u64 = 322;

struct User<'a>(&'a Walk);

impl Memory for User<'_> {
    #[inline(always)]
    fn word(&self, address: u64) -> Option<u64> {
        let mut value = 0u64;
        // SAFETY: the helper copes with any address.
        let failed = unsafe { bpf_probe_read_user((&raw mut value).cast(), 8, address as *const _) };
        if failed == 0 { Some(value) } else { None }
    }

    #[inline(always)]
    fn register(&self, index: u8) -> Option<u64> {
        if self.0.leaf == 0 {
            return None;
        }
        Some(self.0.registers[usize::from(index) & 31])
    }
}

/// Reads the running task's user registers, saved where it entered the kernel. Not by `bpf_task_pt_regs`: that is
/// younger, and asks for a task of known type.
#[inline(always)]
pub fn saved_registers(task: Task, walk: &mut Walk) -> bool {
    let stack = task::read_ptr(task.cast(), offset!(task_stack));
    if enabled!(saved_regs) == 0 || stack.is_null() {
        return false;
    }
    let regs = stack.wrapping_add(enabled!(saved_regs) as usize);
    // SAFETY: the helper copes with any address, and `registers` is as large as is asked for.
    let failed =
        unsafe { bpf_probe_read_kernel(walk.registers.as_mut_ptr().cast(), (pt::LEN * 8) as u32, regs.cast()) };
    failed == 0
}

/// Begins a walk at `walk.registers`; `interrupted`: the task was in user mode.
#[inline(always)]
pub fn begin(walk: &mut Walk, registers: bool, interrupted: bool) {
    // SAFETY: no arguments.
    let task = (unsafe { bpf_get_current_task() }) as *const u8;
    walk.frames = 0;
    walk.stop = u32::from(end::NONE);
    walk.exec = 0;
    walk.start = 0;
    walk.end = 0;
    walk.key = FileKey::default();
    walk.leaf = 1;
    walk.exact = 1;
    walk.mm = task::read::<u64>(task, offset!(task_mm));
    walk.vdso = task::read::<u64>(walk.mm as *const u8, offset!(mm_vdso));
    if walk.mm == 0 || task::read::<u32>(task, offset!(task_flags)) & KERNEL_TASK != 0 {
        walk.stop = u32::from(end::NO_USER);
        return;
    }
    let cs = walk.registers[pt::CS];
    if !registers || cs & 3 != 3 {
        walk.stop = u32::from(end::REGISTERS);
        return;
    }
    if cs == USER32_CS {
        walk.stop = u32::from(end::COMPAT);
        return;
    }
    if !interrupted {
        let call = walk.registers[pt::ORIG_AX];
        walk.exec = u32::from(call == EXECVE || call == EXECVEAT);
    }
    walk.at = Registers {
        pc: walk.registers[pt::IP],
        sp: walk.registers[pt::SP],
        bp: walk.registers[pt::BP],
        bx: walk.registers[pt::BX],
    };
}

/// Walks some frames; their addresses go to `event`. Whether the walk goes on.
///
/// # Safety
///
/// `event` points at [`emit::SCRATCH_LEN`] bytes.
#[inline(always)]
pub unsafe fn walk(walk: &mut Walk, event: *mut u8) -> bool {
    for _ in 0..FRAMES_A_PROGRAM {
        // SAFETY: as for the caller.
        let stop = unsafe { frame(walk, event) };
        if stop != end::NONE {
            walk.stop = u32::from(stop);
            return false;
        }
    }
    true
}

/// Notes the frame that the walk is at and goes to its caller. What [`end`] it has come to.
#[inline(always)]
unsafe fn frame(walk: &mut Walk, event: *mut u8) -> u8 {
    // A return address can be the first byte of another function.
    let address = walk.at.pc.wrapping_sub(u64::from(walk.exact == 0));
    let mapped = (address >= walk.start && address < walk.end) || enter_file(walk, address);
    if !mapped && walk.leaf == 0 {
        return end::UNMAPPED;
    }
    if walk.frames >= USER_FRAMES as u32 {
        return end::DEPTH;
    }
    let at = (walk.head & 0x7ff) + (walk.frames & (USER_FRAMES as u32 - 1)) * 8;
    let shown = walk.at.pc.wrapping_add(u64::from(walk.exact != 0 && walk.leaf == 0));
    // SAFETY: 0x7ff and 8 × USER_FRAMES are less than SCRATCH_LEN together; `head` is a multiple of 8.
    unsafe { event.add(at as usize).cast::<u64>().write(shown) };
    walk.frames += 1;
    if !mapped {
        return end::UNMAPPED;
    }
    let mut rule = Rule::FRAME_POINTER;
    if walk.table.kind == TABLE {
        rule = rule_at(&walk.table, address.wrapping_add(walk.bias));
    } else if walk.table.kind != FRAME_POINTERS {
        return end::NO_TABLE;
    }
    if rule.cfa == cfa::NONE {
        rule = if at_sigreturn(walk.at.pc) {
            Rule::SIGNAL
        } else {
            Rule::FRAME_POINTER
        };
    }
    let mut at = walk.at;
    let result = step(&rule, &mut at, &User(walk));
    walk.at = at;
    walk.leaf = 0;
    match result {
        Step::Caller => walk.exact = 0,
        Step::Interrupted => walk.exact = 1,
        Step::End(end) => return end,
    }
    end::NONE
}

/// Takes in the mapping at an address and the table of its file.
#[inline(always)]
fn enter_file(walk: &mut Walk, address: u64) -> bool {
    walk.start = 0;
    walk.end = 0;
    if !space::enter(walk, address) {
        return false;
    }
    walk.table = FileTable::default();
    if walk.key.ino == 0 {
        // Memory in no file: a JIT's. Most keep frame pointers.
        walk.table.kind = FRAME_POINTERS;
        return true;
    }
    #[expect(
        clippy::needless_borrows_for_generic_args,
        reason = "a copy of the key would lie on the program's stack of 512 bytes"
    )]
    // SAFETY: nobody changes an entry of a hash in place here; user space replaces it.
    let table = unsafe { UNWIND_FILES.get(&walk.key) };
    if let Some(table) = table {
        walk.table = *table;
    }
    true
}

#[inline(always)]
fn rule_at(table: &FileTable, offset: u64) -> Rule {
    let page = (offset >> PAGE_SHIFT) as u32;
    let index = page.wrapping_sub(table.first_page);
    if index >= table.pages || offset >> 44 != 0 {
        return Rule::NONE;
    }
    let Some(entries) = UNWIND_BLOCKS.get(table.base + index / BLOCK_ENTRIES) else {
        return Rule::NONE;
    };
    let entry = (index % BLOCK_ENTRIES * 2) as usize;
    let block = entries[entry & (BLOCK_ROWS - 1)];
    let rows = entries[(entry + 1) & (BLOCK_ROWS - 1)];
    if rows & 0xffff == 0 {
        return Rule::NONE;
    }
    let Some(block) = UNWIND_BLOCKS.get(table.base + block) else {
        return Rule::NONE;
    };
    let row = search(block, rows >> 16, rows & 0xffff, offset as u32 & LOW_MASK);
    match UNWIND_RULES.get(row >> PAGE_SHIFT) {
        Some(rule) => *rule,
        None => Rule::NONE,
    }
}

/// Whether a signal handler's return leads to this code.
#[inline(always)]
fn at_sigreturn(pc: u64) -> bool {
    let mut code = 0u64;
    let mut next = 0u8;
    // SAFETY: the helper copes with any address.
    unsafe {
        bpf_probe_read_user((&raw mut code).cast(), 8, pc as *const _) == 0
            && bpf_probe_read_user((&raw mut next).cast(), 1, pc.wrapping_add(8) as *const _) == 0
            && is_sigreturn(code, next)
    }
}

/// Tells in `event` how the walk has ended.
#[inline(always)]
pub fn finish(walk: &Walk, event: &mut Sample) {
    event.end = walk.stop as u8;
    event.user_frames = walk.frames as u16;
    event.flags = if walk.exec != 0 { flag::EXEC } else { 0 };
    if event.end == end::NO_TABLE {
        event.missing = walk.key;
    }
}

/// Length of the event in bytes, at most what scratch memory holds.
#[inline(always)]
pub fn length(walk: &Walk) -> usize {
    ((walk.head & 0x7ff) + (walk.frames & 0x3ff) * 8) as usize & (emit::SCRATCH_LEN - 1)
}

/// Copies the rest of the stack, for user space to go on with. Whether it did.
#[inline(always)]
pub fn copy(walk: &mut Walk, header: &Header) -> bool {
    if !has(offset!(vma_end)) {
        return false;
    }
    let stack = space::find(walk, walk.at.sp);
    let bytes = task::read::<u64>(stack, offset!(vma_end)).wrapping_sub(walk.at.sp);
    if stack.is_null() || bytes == 0 {
        return false;
    }
    // Room in the ring is reserved in sizes that the verifier knows.
    if bytes <= 4096 {
        copied::<{ 4096 / 8 }>(walk, header, bytes)
    } else if bytes <= 12_288 {
        copied::<{ 12_288 / 8 }>(walk, header, bytes)
    } else {
        copied::<{ COPY_BYTES / 8 }>(walk, header, bytes)
    }
}

#[repr(C)]
struct Copy<const WORDS: usize> {
    head: Copied,
    stack: [u64; WORDS],
}

#[inline(always)]
fn copied<const WORDS: usize>(walk: &Walk, header: &Header, wanted: u64) -> bool {
    /// What is read at a time: a page that is not there ends the copy.
    const STEP: u64 = 2048;
    let Some(mut entry) = emit::reserve::<Copy<WORDS>>() else {
        emit::count(Counter::RingCopy);
        return false;
    };
    let to = entry.as_mut_ptr();
    let wanted = if wanted > WORDS as u64 * 8 {
        WORDS as u64 * 8
    } else {
        wanted
    };
    // Whole parts and a rest, at places counted by themselves: before 6.8 or so the verifier goes on in branches that
    // can't be (lengths above 2,049 and below 2,047), where it takes differences for negative and sums for no offset.
    let whole = wanted / STEP;
    let rest = wanted % STEP;
    let mut bytes = 0u64;
    for index in 0..WORDS as u64 * 8 / STEP {
        let part = if index < whole { STEP } else { rest };
        let at = index * STEP;
        // SAFETY: `at` is a multiple of STEP below WORDS * 8, and STEP bytes fit behind it.
        let failed = unsafe {
            let into = (&raw mut (*to).stack).cast::<u8>().add(at as usize);
            bpf_probe_read_user(into.cast(), part as u32, walk.at.sp.wrapping_add(at) as *const _)
        };
        if failed != 0 {
            break;
        }
        bytes += part;
        if index >= whole {
            break;
        }
    }
    if bytes < wanted {
        emit::count(Counter::CopyShort);
    }
    // SAFETY: within the reserved memory.
    unsafe {
        (&raw mut (*to).head).write(Copied {
            header: Header {
                kind: kind::COPIED_STACK,
                ..*header
            },
            at: walk.at,
            registers: *walk.registers.first_chunk().unwrap_or(&[0; pt::LEN]),
            bytes: bytes as u32,
            leaf: walk.leaf as u16,
            exact: walk.exact as u16,
        });
    }
    emit::submit(entry);
    true
}
