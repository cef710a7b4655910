//! What an overlay's inodes stand for.

use crate::{
    globals::{has, offset},
    task,
};

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
