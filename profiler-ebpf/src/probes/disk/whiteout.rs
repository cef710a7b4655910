//! Deletes in overlays of what a lower layer has: a whiteout takes its name in the upper one.
//!
//! By the overlay's own function where it can be hooked. Else by the rename that puts the whiteout, a character device 0:0
//! that was made in the overlay's work directory, in its place: ext4 marks its inode dirty once for it.

use aya_ebpf::{
    macros::{btf_tracepoint, kretprobe},
    programs::{BtfTracePointContext, RetProbeContext},
};
use profiler_common::{Counter, awaited::mode, control, disk::Whiteout, kind};

use crate::{
    emit,
    globals::offset,
    preempt,
    task::{self, Known, Task},
};

/// System calls of x86-64 that delete: `rmdir`, `unlink`, `unlinkat`.
const RMDIR: i32 = 84;
const UNLINK: i32 = 87;
const UNLINKAT: i32 = 263;

/// `int ovl_cleanup_and_whiteout(struct ovl_fs *ofs, struct dentry *dir, struct dentry *dentry)` of fs/overlayfs/dir.c has
/// returned; `dir` was an inode before 6.16.
#[kretprobe]
pub fn whited_out(ctx: RetProbeContext) -> u32 {
    let task = task::current();
    if task::get(task).is_none() || ctx.ret::<i32>() != 0 {
        return 0;
    }
    tell(task, task::system_call(task::registers(task)));
    0
}

/// `ext4_mark_inode_dirty(struct inode *inode, unsigned long ip)`: `ip` lies in the function that has changed the inode.
#[btf_tracepoint(function = "ext4_mark_inode_dirty")]
pub fn whiteout_placed(ctx: BtfTracePointContext) -> u32 {
    // SAFETY: an argument of a BTF program.
    let Some(inode) = (unsafe { Known::new(ctx.arg(0)) }) else {
        return 0;
    };
    // Nearly all are something else.
    if inode.load::<u16>(offset!(inode_mode)) & mode::MASK != mode::CHARACTER
        || inode.load::<u32>(offset!(inode_rdev)) != 0
    {
        return 0;
    }
    let _held = preempt::hold();
    let task = task::current();
    if task::get(task).is_none() || !renames(ctx.arg(1)) {
        return 0;
    }
    // A whiteout that something new takes the place of is renamed too, by other calls.
    let syscall = task::system_call(task::registers(task));
    if syscall == UNLINKAT || syscall == UNLINK || syscall == RMDIR {
        tell(task, syscall);
    }
    0
}

/// Whether an address lies in one of ext4's functions that rename.
#[inline(always)]
fn renames(ip: u64) -> bool {
    let within = |from: u32| {
        let begin = emit::control(from);
        ip.wrapping_sub(begin) < emit::control(from + 1).wrapping_sub(begin)
    };
    within(control::RENAMES) || within(control::RENAMES + 2) || within(control::RENAMES + 4)
}

#[inline(always)]
fn tell(task: Task, syscall: i32) {
    match emit::reserve::<Whiteout>() {
        Some(mut entry) => {
            // SAFETY: memory of the ring of that size; every field is written.
            let event = unsafe { &mut *entry.as_mut_ptr() };
            event.header = task::header(task, kind::WHITEOUT, task::now());
            event.syscall = syscall;
            event.pad = 0;
            emit::submit(entry);
        }
        None => emit::count(Counter::RingWhiteout),
    }
}
