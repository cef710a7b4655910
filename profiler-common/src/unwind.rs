//! Unwinding of user stacks: tables, the step from a frame to its caller, and why a walk ends.
//!
//! A table is a list of rows sorted by address; a row says by which [`Rule`] the caller is found from its address on.
//! Rows lie in blocks of [`BLOCK_ROWS`]; those of one page of code ([`PAGE_SHIFT`]) lie in one block, found by the
//! page's number in the file's index blocks:
//!
//! ```text
//! file offset ─▶ page ─▶ index entry (block, first row, rows) ─▶ row (low address bits, rule) ─▶ Rule
//! ```
//!
//! Addresses are offsets in the file, so a table serves every process that maps the file, wherever it does.
//!
//! [`step`] and [`search`] run in the kernel and in user space, and are tested on the host.

use crate::{Header, layout};

/// Size of a page of code, as a shift: one index entry each.
pub const PAGE_SHIFT: u32 = 12;
/// Rows (`u32`) of a block.
pub const BLOCK_ROWS: usize = 1024;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = BLOCK_ROWS * 4;
/// Index entries of a block: two words each, the block (counted from the file's first) and `first << 16 | rows`.
pub const BLOCK_ENTRIES: u32 = BLOCK_ROWS as u32 / 2;
/// Most rules that differ; a build with gcc's and LLVM's tools has about 2,000.
pub const RULES: u32 = 32_768;
/// Most files with a table at a time.
pub const FILES: u32 = 4096;

/// Most user frames of a stack. Deeper ones keep the leaf's side, and their end says so ([`end::DEPTH`]).
pub const USER_FRAMES: usize = 256;
/// Frames that one program walks before it calls the next; 32 calls make [`USER_FRAMES`], and a kernel allows no more
/// (`MAX_TAIL_CALL_CNT`).
pub const FRAMES_A_PROGRAM: u32 = 8;

/// Longest piece of a user stack that is copied, bytes.
pub const COPY_BYTES: usize = 32 * 1024;
/// What is copied at a time, bytes: the copy begins at a multiple of it, so no part lies in two pages.
pub const COPY_PART: u64 = 2048;

/// Why a walk has ended. The numbers are permanent, and recorded.
pub mod end {
    /// Still walking.
    pub const NONE: u8 = 0;
    /// At the outermost frame: its unwind information says that there is no caller.
    pub const OUTERMOST: u8 = 1;
    /// At the outermost frame: a frame pointer or return address of 0.
    pub const ZERO: u8 = 2;
    /// Deeper than [`super::USER_FRAMES`]: the outer frames are missing.
    pub const DEPTH: u8 = 3;
    /// The address lies in no executable mapping.
    pub const UNMAPPED: u8 = 4;
    /// No table of the file is there (yet).
    pub const NO_TABLE: u8 = 5;
    /// The file has unwind information, but not for this address, and there is no frame pointer.
    pub const NO_ROW: u8 = 6;
    /// The rule at this address is one that is not supported.
    pub const RULE: u8 = 7;
    /// Stack memory could not be read.
    pub const MEMORY: u8 = 8;
    /// The caller's frame would not lie above its callee's.
    pub const STUCK: u8 = 9;
    /// The copied piece of the stack was too short.
    pub const COPY: u8 = 10;
    /// No user memory: a kernel thread, or a task that has left its memory at its end.
    pub const NO_USER: u8 = 11;
    /// In the middle of an exec: the old image is gone, the new one has not begun.
    pub const EXEC: u8 = 12;
    /// The user registers could not be had.
    pub const REGISTERS: u8 = 13;
    /// A 32-bit process.
    pub const COMPAT: u8 = 14;
}

/// Names a file's content: inodes are used again, and files are written to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileKey {
    pub ino: u64,
    /// Seconds of the last change of content.
    pub mtime: u64,
    /// Its nanoseconds.
    pub mtime_nsec: u32,
    pub generation: u32,
    /// `major << 20 | minor` of the file system. 0 with an `ino` of [`VDSO_INO`]: the vDSO.
    pub dev: u32,
    pub pad: u32,
}
layout!(
    FileKey,
    size = 32,
    ino = 0,
    mtime = 8,
    mtime_nsec = 16,
    generation = 20,
    dev = 24,
    pad = 28
);

/// [`FileKey::ino`] of the vDSO, with everything else 0.
pub const VDSO_INO: u64 = 1;

impl FileKey {
    /// The kernel's own code in every process.
    pub const VDSO: FileKey = FileKey {
        ino: VDSO_INO,
        mtime: 0,
        mtime_nsec: 0,
        generation: 0,
        dev: 0,
        pad: 0,
    };
}

/// [`FileTable::kind`]: rows.
pub const TABLE: u32 = 1;
/// [`FileTable::kind`]: no unwind information can be had; code is taken to keep frame pointers.
pub const FRAME_POINTERS: u32 = 2;

/// What the kernel knows of a file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileTable {
    /// [`TABLE`] or [`FRAME_POINTERS`].
    pub kind: u32,
    /// First block, that of the index.
    pub base: u32,
    /// Page (file offset >> [`PAGE_SHIFT`]) of the first index entry.
    pub first_page: u32,
    /// Number of index entries.
    pub pages: u32,
}
layout!(FileTable, size = 16, kind = 0, base = 4, first_page = 8, pages = 12);

/// How the frame's address (the stack pointer in the caller) is found.
pub mod cfa {
    /// Not at all: no unwind information.
    pub const NONE: u8 = 0;
    /// There is no caller.
    pub const OUTERMOST: u8 = 1;
    /// A signal handler returns here: the interrupted registers lie on the stack.
    pub const SIGNAL: u8 = 2;
    /// A frame pointer: caller's frame pointer and return address lie where it points.
    pub const FRAME_POINTER: u8 = 3;
    /// Stack pointer + `cfa_offset`.
    pub const SP: u8 = 4;
    /// Frame pointer + `cfa_offset`.
    pub const BP: u8 = 5;
    /// rbx + `cfa_offset`.
    pub const BX: u8 = 6;
    /// The interrupted register `register` + `cfa_offset`: only where all registers are known.
    pub const REGISTER: u8 = 7;
    /// The word at frame pointer + `cfa_offset` (realigned stacks).
    pub const AT_BP: u8 = 8;
    /// The word at stack pointer + `cfa_offset`.
    pub const AT_SP: u8 = 9;
    /// Stack pointer + 8, and 8 more from byte `cfa_offset` of a 16-byte entry on (procedure linkage table).
    pub const PLT: u8 = 10;
    /// There is information, of a kind that is not supported.
    pub const UNSUPPORTED: u8 = 11;
    /// As [`FRAME_POINTER`], but the caller's stack is another one, which may lie below (Go's `systemstack`).
    pub const OTHER_STACK: u8 = 12;
}

/// How a register of the caller is found.
pub mod saved {
    /// It has the same value.
    pub const SAME: u8 = 0;
    /// At frame address + offset.
    pub const CFA: u8 = 1;
    /// At frame pointer + offset.
    pub const BP: u8 = 2;
}

/// How to get from a frame to its caller.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// [`cfa`]
    pub cfa: u8,
    /// For [`cfa::REGISTER`]: index in [`Copied::registers`].
    pub register: u8,
    /// Return address: 0 below the frame address, else 1 + index in [`Copied::registers`].
    pub ra: u8,
    /// [`saved`] of the frame pointer, and of rbx in the upper four bits.
    pub saved: u8,
    pub cfa_offset: i32,
    pub bp_offset: i32,
    pub bx_offset: i32,
}
layout!(
    Rule,
    size = 16,
    cfa = 0,
    register = 1,
    ra = 2,
    saved = 3,
    cfa_offset = 4,
    bp_offset = 8,
    bx_offset = 12
);

impl Rule {
    const fn of(cfa: u8) -> Rule {
        Rule {
            cfa,
            register: 0,
            ra: 0,
            saved: 0,
            cfa_offset: 0,
            bp_offset: 0,
            bx_offset: 0,
        }
    }
    pub const NONE: Rule = Rule::of(cfa::NONE);
    pub const OUTERMOST: Rule = Rule::of(cfa::OUTERMOST);
    pub const SIGNAL: Rule = Rule::of(cfa::SIGNAL);
    pub const FRAME_POINTER: Rule = Rule::of(cfa::FRAME_POINTER);
    pub const OTHER_STACK: Rule = Rule::of(cfa::OTHER_STACK);
    pub const UNSUPPORTED: Rule = Rule::of(cfa::UNSUPPORTED);
}

/// Indexes of `struct pt_regs` of x86-64, in words: what [`Copied::registers`] holds.
pub mod pt {
    pub const BP: usize = 4;
    pub const BX: usize = 5;
    pub const ORIG_AX: usize = 15;
    pub const IP: usize = 16;
    pub const CS: usize = 17;
    pub const SP: usize = 19;
    /// Words in all.
    pub const LEN: usize = 21;
}

/// The registers that a walk carries from frame to frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    pub pc: u64,
    pub sp: u64,
    pub bp: u64,
    pub bx: u64,
}

/// Bytes below a frame's address that hold what most frames have saved: return address and six registers.
pub const NEAR_BYTES: u64 = 64;

/// What a step reads.
pub trait Memory {
    /// Told before more than one word of the [`NEAR_BYTES`] below `end` is read: they can be read at once.
    fn near(&mut self, _end: u64) {}
    /// The word at an address of the stack.
    fn word(&self, address: u64) -> Option<u64>;
    /// An interrupted register by its index in `pt_regs`; `None` where only [`Registers`] are known.
    fn register(&self, index: u8) -> Option<u64>;
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// At the caller: its address is where it goes on after the call.
    Caller,
    /// At what a signal has interrupted: its address is exact.
    Interrupted,
    /// No further: [`end`].
    End(u8),
}

/// Goes from a frame to its caller.
#[inline(always)]
pub fn step<M: Memory>(rule: &Rule, at: &mut Registers, memory: &mut M) -> Step {
    if rule.cfa == cfa::FRAME_POINTER || rule.cfa == cfa::OTHER_STACK {
        return frame_pointer(at, memory, rule.cfa == cfa::OTHER_STACK);
    }
    if rule.cfa == cfa::SIGNAL {
        return signal(at, memory);
    }
    let offset = rule.cfa_offset as i64 as u64;
    let frame = match rule.cfa {
        cfa::SP => at.sp.wrapping_add(offset),
        cfa::BP => at.bp.wrapping_add(offset),
        cfa::BX => at.bx.wrapping_add(offset),
        cfa::REGISTER => match memory.register(rule.register) {
            Some(value) => value.wrapping_add(offset),
            None => return Step::End(end::RULE),
        },
        cfa::AT_BP => match memory.word(at.bp.wrapping_add(offset)) {
            Some(value) => value,
            None => return Step::End(end::MEMORY),
        },
        cfa::AT_SP => match memory.word(at.sp.wrapping_add(offset)) {
            Some(value) => value,
            None => return Step::End(end::MEMORY),
        },
        cfa::PLT => at.sp.wrapping_add(if at.pc & 15 >= offset { 16 } else { 8 }),
        cfa::OUTERMOST => return Step::End(end::OUTERMOST),
        cfa::NONE => return Step::End(end::NO_ROW),
        _ => return Step::End(end::RULE),
    };
    if rule.saved != 0 {
        memory.near(frame);
    }
    let pc = if rule.ra == 0 {
        match memory.word(frame.wrapping_sub(8)) {
            Some(value) => value,
            None => return Step::End(end::MEMORY),
        }
    } else {
        match memory.register(rule.ra - 1) {
            Some(value) => value,
            None => return Step::End(end::RULE),
        }
    };
    let old_bp = at.bp;
    let place = match rule.saved & 15 {
        saved::CFA => frame.wrapping_add(rule.bp_offset as i64 as u64),
        saved::BP => old_bp.wrapping_add(rule.bp_offset as i64 as u64),
        _ => 0,
    };
    if place != 0 {
        match memory.word(place) {
            Some(value) => at.bp = value,
            None => return Step::End(end::MEMORY),
        }
    }
    let place = match rule.saved >> 4 {
        saved::CFA => frame.wrapping_add(rule.bx_offset as i64 as u64),
        saved::BP => old_bp.wrapping_add(rule.bx_offset as i64 as u64),
        _ => 0,
    };
    if place != 0 {
        match memory.word(place) {
            Some(value) => at.bx = value,
            None => return Step::End(end::MEMORY),
        }
    }
    // A frame whose return address was taken off the stack ends where it begins.
    if frame < at.sp || (frame == at.sp && rule.ra == 0) {
        return Step::End(end::STUCK);
    }
    at.sp = frame;
    at.pc = pc;
    if pc == 0 { Step::End(end::ZERO) } else { Step::Caller }
}

/// Code that keeps frame pointers.
#[inline(always)]
fn frame_pointer<M: Memory>(at: &mut Registers, memory: &mut M, other_stack: bool) -> Step {
    if at.bp == 0 {
        return Step::End(end::ZERO);
    }
    if (at.bp < at.sp && !other_stack) || at.bp & 7 != 0 {
        return Step::End(end::NO_ROW);
    }
    memory.near(at.bp.wrapping_add(16));
    let (Some(bp), Some(pc)) = (memory.word(at.bp), memory.word(at.bp.wrapping_add(8))) else {
        return Step::End(end::MEMORY);
    };
    at.sp = at.bp.wrapping_add(16);
    at.bp = bp;
    at.pc = pc;
    if pc == 0 { Step::End(end::ZERO) } else { Step::Caller }
}

/// `rt_sigreturn`'s stack: a `struct ucontext` at the stack pointer, whose `uc_mcontext` begins at byte 40
/// (`arch/x86/include/uapi/asm/{ucontext,sigcontext}.h`).
#[inline(always)]
fn signal<M: Memory>(at: &mut Registers, memory: &M) -> Step {
    let word = |offset: u64| memory.word(at.sp.wrapping_add(offset));
    let Some(bp) = word(120) else {
        return Step::End(end::MEMORY);
    };
    let Some(bx) = word(128) else {
        return Step::End(end::MEMORY);
    };
    let Some(sp) = word(160) else {
        return Step::End(end::MEMORY);
    };
    let Some(pc) = word(168) else {
        return Step::End(end::MEMORY);
    };
    *at = Registers { pc, sp, bp, bx };
    if pc == 0 {
        Step::End(end::ZERO)
    } else {
        Step::Interrupted
    }
}

/// The code that a signal handler returns to, `mov $15, %rax; syscall`, in the two ways to write the first.
/// Where the C library has no unwind information for it (musl, Go), its bytes tell.
#[inline(always)]
pub const fn is_sigreturn(code: u64, next: u8) -> bool {
    // 48 c7 c0 0f 00 00 00 0f 05
    (code == 0x0f00_0000_0fc0_c748 && next == 0x05)
        // b8 0f 00 00 00 0f 05
        || code & 0x00ff_ffff_ffff_ffff == 0x0005_0f00_0000_0fb8
}

/// Bits of a row's address: the offset in its page.
pub const LOW_MASK: u32 = (1 << PAGE_SHIFT) - 1;

/// The row in force at the address `low` of a page: the last of `rows` rows from `first` on that begins there or
/// before. A page's first row begins at 0.
#[inline(always)]
pub fn search(block: &[u32; BLOCK_ROWS], first: u32, rows: u32, low: u32) -> u32 {
    const MASK: u32 = BLOCK_ROWS as u32 - 1;
    let mut at = first;
    let mut len = rows;
    // 2^10 rows at most. Without a branch: the verifier follows each of two ways through, and the processor guesses
    // wrong every other time.
    for _ in 0..10 {
        let half = len >> 1;
        let middle = block[((at + half) & MASK) as usize] & LOW_MASK;
        // 1 where the row begins after the address.
        let after = low.wrapping_sub(middle) >> 31;
        at += half & after.wrapping_sub(1);
        len = half + ((len & 1) & after.wrapping_sub(1));
    }
    block[(at & MASK) as usize]
}

/// A tick of the sampling clock that hit a profiled thread, its user stack unwound.
///
/// Followed by `kernel_frames` and then `user_frames` addresses (`u64`), each leaf first. User addresses but the leaf
/// are return addresses; one that a signal interrupted is given plus one, so that the byte before is its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub header: Header,
    /// The file that ended the walk ([`end::NO_TABLE`]), else all 0.
    pub missing: FileKey,
    /// 0 to [`USER_FRAMES`].
    pub user_frames: u16,
    /// 0 to 127.
    pub kernel_frames: u16,
    /// Negative errno of the kernel stack, or 0.
    pub kernel_error: i16,
    /// [`end`] of the user stack.
    pub end: u8,
    /// [`flag`]
    pub flags: u8,
}
layout!(
    Sample,
    size = 80,
    header = 0,
    missing = 40,
    user_frames = 72,
    kernel_frames = 74,
    kernel_error = 76,
    end = 78,
    flags = 79
);

/// Bits of [`Sample::flags`].
pub mod flag {
    /// A [`super::Copied`] of the same time and thread came before it.
    pub const COPIED: u8 = 1 << 0;
    /// The thread was in an exec's system call.
    pub const EXEC: u8 = 1 << 1;
}

/// The user stack of a wait, taken when its thread left the CPU, at `header.ts`: `off` of the cycle that tells the
/// wait. Laid out as [`Sample`].
pub type Wait = Sample;

/// A piece of a user stack, for user space to go on with. Followed by `bytes` bytes from [`Copied::from`] on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Copied {
    pub header: Header,
    /// Where the walk in the kernel has stopped.
    pub at: Registers,
    /// `struct pt_regs` of the interrupted code; meaningful while [`Copied::leaf`] is 1.
    pub registers: [u64; pt::LEN],
    pub bytes: u32,
    /// 1 when `at` is the interrupted code itself, all of whose registers are known.
    pub leaf: u8,
    /// 1 when `at.pc` is exact, 0 when it is a return address.
    pub exact: u8,
    /// A bit for each part of [`COPY_PART`] bytes that could not be read: a page that is not there.
    pub holes: u16,
}
layout!(
    Copied,
    size = 248,
    header = 0,
    at = 40,
    registers = 72,
    bytes = 240,
    leaf = 244,
    exact = 245,
    holes = 246
);

impl Copied {
    /// Address of the first byte that was copied: the stack pointer or a little below.
    #[inline(always)]
    pub const fn from(&self) -> u64 {
        self.at.sp & !(COPY_PART - 1)
    }
}
