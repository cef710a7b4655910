//! What an overlay's inodes stand for.

use aya_ebpf::{helpers::bpf_probe_read_user, macros::map, maps::Array};
use profiler_common::container::call;

use crate::{
    globals::{has, offset},
    task,
};

/// `OVERLAYFS_SUPER_MAGIC`
const MAGIC: u64 = 0x794c_7630;

/// What `mount` has as type.
const NAME: u64 = u64::from_ne_bytes(*b"overlay\0");

/// `FSCONFIG_CMD_CREATE`, and `FSCONFIG_CMD_CREATE_EXCL` since 6.6.
const CREATE: [u64; 2] = [6, 8];

/// When the last overlay was mounted, or may have been: the only entry.
#[map]
static OVERLAY_MOUNTED: Array<u64> = Array::with_max_entries(1, 0);

/// A system call of these arguments, one of [`call`], succeeded: it may have mounted an overlay.
#[inline(always)]
pub fn mounted(what: u32, args: &[u64; 5], now: u64) {
    let new = match what {
        // SAFETY: the helper copes with any source.
        call::MOUNT => (unsafe { bpf_probe_read_user(args[2] as *const u64) }) == Ok(NAME),
        // Of whichever type: that was a call before this one.
        call::FSCONFIG => args[1] == CREATE[0] || args[1] == CREATE[1],
        _ => false,
    };
    if new && let Some(mounted) = OVERLAY_MOUNTED.get_ptr_mut(0) {
        // SAFETY: points into the map; volatile since other CPUs write there. Whichever is last, it was not there before.
        unsafe { mounted.write_volatile(now) };
    }
}

/// When the last one was. A device number that is free goes to the next mount, whose files have the numbers of the lower
/// ones: an overlay's inode has the name of another mount's before it.
#[inline(always)]
pub fn last_mount() -> u64 {
    match OVERLAY_MOUNTED.get_ptr(0) {
        // SAFETY: as above.
        Some(mounted) => unsafe { mounted.read_volatile() },
        None => 0,
    }
}

/// Whether an inode is an overlay's.
#[inline(always)]
pub fn is(inode: *const u8) -> bool {
    task::read::<u64>(task::read_ptr(inode, offset!(inode_sb)), offset!(super_block_magic)) == MAGIC
}

/// Whether an overlay's inode has one in the upper layer.
#[inline(always)]
pub fn has_upper(inode: *const u8) -> bool {
    let own = inode.wrapping_sub(offset!(ovl_inode_vfs) as usize);
    !task::read_ptr(own, offset!(ovl_inode_upper)).is_null()
}

/// The inodes beneath an overlay's: of the topmost lower layer that has it, and of the upper one. Null where there is none,
/// or where the kernel does not tell.
#[inline(always)]
pub fn beneath(inode: *const u8, dentry: *const u8) -> (*const u8, *const u8) {
    if inode.is_null() || !has(offset!(ovl_inode_vfs)) {
        return (core::ptr::null(), core::ptr::null());
    }
    let own = inode.wrapping_sub(offset!(ovl_inode_vfs) as usize);
    let upper = task::read_ptr(task::read_ptr(own, offset!(ovl_inode_upper)), offset!(dentry_inode));
    // In the inode since 6.5 (0af950f57fef), before that with the name.
    let entry = if has(offset!(ovl_inode_oe)) {
        task::read_ptr(own, offset!(ovl_inode_oe))
    } else {
        task::read_ptr(dentry, offset!(dentry_fsdata))
    };
    if task::read::<u32>(entry, offset!(ovl_entry_count)) == 0 {
        return (core::ptr::null(), upper);
    }
    let first = entry.wrapping_add(offset!(ovl_entry_stack) as usize);
    let lower = task::read_ptr(task::read_ptr(first, offset!(ovl_path_dentry)), offset!(dentry_inode));
    (lower, upper)
}
