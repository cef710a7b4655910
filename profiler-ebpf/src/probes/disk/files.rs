//! Names of files: each inode is told once, with its name and the directory it lies in, which is told as well.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel_str, macros::map};
use profiler_common::{
    Counter,
    awaited::mode,
    disk::{Inode, InodeId, NAME_LEN},
    kind,
};

use super::told::{self, Told};
use crate::{
    emit::{self, Scratch},
    globals::{has, offset},
    task::{self, Known},
};

#[map]
static FILES_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

#[map]
static TOLD: Told = Told::with_max_entries(1, 0);

/// Deepest path that is followed.
const DEEPEST: u32 = 32;

/// `s_magic` of the file system of block devices' own pages.
const BLOCK_DEVICE: u32 = 0x6264_6576;

/// Whether an inode stands for a block device: its pages are a file system's own data.
#[inline(always)]
pub fn is_block_device(inode: *const u8) -> bool {
    magic(task::read_ptr(inode, offset!(inode_sb))) == BLOCK_DEVICE
}

/// Whether a directory is called `work`, as the one that an overlay works in.
#[inline(always)]
pub fn is_called_work(directory: Known) -> bool {
    let dentry = dentry_at(directory.load::<u64>(offset!(inode_dentries)) as *const u8);
    let name = task::read_ptr(dentry, offset!(dentry_name));
    task::read::<[u8; 5]>(name, 0) == *b"work\0"
}

#[inline(always)]
fn magic(super_block: *const u8) -> u32 {
    task::read::<u64>(super_block, offset!(super_block_magic)) as u32
}

/// The name that was made last for an inode; null when it has none.
#[inline(always)]
fn dentry_of(inode: *const u8) -> *const u8 {
    dentry_at(task::read_ptr(inode, offset!(inode_dentries)))
}

/// The name whose member in an inode's list of names lies there.
#[inline(always)]
fn dentry_at(alias: *const u8) -> *const u8 {
    if alias.is_null() || !has(offset!(dentry_alias)) {
        return core::ptr::null();
    }
    alias.wrapping_sub(offset!(dentry_alias) as usize)
}

/// Tells an inode and the directories above it, as far as they were not told yet.
#[inline(always)]
pub fn tell(inode: *const u8, id: InodeId, now: u64) {
    let known = has(offset!(inode_dentries)) && has(offset!(dentry_parent)) && has(offset!(dentry_inode));
    let Some(told) = told::of(&TOLD) else { return };
    if !known || inode.is_null() || told::holds(told, id) {
        return;
    }
    tell_again(inode, id, now);
}

/// Tells an inode again, by the name that it has now.
#[inline(always)]
pub fn tell_again(inode: *const u8, id: InodeId, now: u64) {
    tell_path(
        inode as u64,
        id.ino,
        u64::from(id.dev) << 32 | u64::from(id.generation),
        now,
    );
}

/// Tells a path, of the inode at that address. A function of its own to the verifier too, which goes through it once for each
/// program (`BTF_FUNC_GLOBAL`) and not once for each way to its calls; so its arguments are numbers.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tell_path(inode: u64, ino: u64, dev_and_generation: u64, now: u64) -> u32 {
    let id = InodeId {
        ino,
        dev: (dev_and_generation >> 32) as u32,
        generation: dev_and_generation as u32,
    };
    let Some(told) = told::of(&TOLD) else { return 0 };
    if let Err(counter) = walk(inode as *const u8, id, told, now) {
        // One that is only missing for want of room is told again.
        if counter == Counter::RingInode {
            told::forget(told, id);
        }
        emit::count(counter);
    }
    0
}

#[inline(always)]
fn walk(inode: *const u8, mut id: InodeId, told: *mut u64, now: u64) -> Result<(), Counter> {
    let scratch = emit::scratch(&FILES_SCRATCH)?;
    // SAFETY: scratch memory is large enough and 8-aligned.
    let event = unsafe { &mut *scratch.cast::<Inode>() };
    event.header = task::header_current(task::current(), kind::INODE, now);
    event.size = task::peek::<u64>(inode, offset!(inode_size));
    event.nlink = task::peek::<u32>(inode, offset!(inode_nlink));
    event.mode = u32::from(task::peek::<u16>(inode, offset!(inode_mode)));
    event.magic = magic(task::peek::<u64>(inode, offset!(inode_sb)) as *const u8);
    event.rdev = task::peek::<u32>(inode, offset!(inode_rdev));
    event.pad = 0;
    let mut dentry = dentry_of(inode) as u64;
    let mut depth = 0;
    // Little and without branches: the verifier follows each step, and each way through it.
    while depth < DEEPEST {
        depth += 1;
        let above = task::peek::<u64>(dentry as *const u8, offset!(dentry_parent));
        // A root is its own parent, and what has no name has none: all bits set for what is neither.
        let below = not_zero(above ^ dentry);
        let parent = (task::peek::<u64>(above as *const u8, offset!(dentry_inode)) & below) as *const u8;
        let parent_id = InodeId {
            ino: task::peek::<u64>(parent, offset!(inode_ino)),
            dev: id.dev & below as u32,
            generation: task::peek::<u32>(parent, offset!(inode_generation)),
        };
        // A root is called `/`.
        let name = task::peek::<u64>(dentry as *const u8, offset!(dentry_name)) & below;
        const HEAD: usize = core::mem::size_of::<Inode>();
        // SAFETY: HEAD + NAME_LEN is less than SCRATCH_LEN; the helper copes with any source.
        let read = unsafe { bpf_probe_read_kernel_str(scratch.add(HEAD).cast(), NAME_LEN as u32, name as *const _) };
        // The length counts the NUL; an error is negative.
        let read = read as i64 - 1;
        let length = (read & !(read >> 63)) as usize & (NAME_LEN - 1);
        event.id = id;
        event.parent = parent_id;
        event.name_len = length as u32;
        // SAFETY: as above.
        unsafe { emit::send_raw_bulk(scratch, HEAD + length, Counter::RingInode)? };
        told::keep(told, id);
        if parent.is_null() || told::holds(told, parent_id) {
            return Ok(());
        }
        // Of a directory no more is told.
        event.size = 0;
        event.nlink = 0;
        event.mode = u32::from(mode::FOLDER);
        event.rdev = 0;
        id = parent_id;
        dentry = above;
    }
    Err(Counter::InodePath)
}

/// All bits set, or 0 for 0, without a branch.
#[inline(always)]
fn not_zero(value: u64) -> u64 {
    (((value | value.wrapping_neg()) as i64) >> 63) as u64
}
