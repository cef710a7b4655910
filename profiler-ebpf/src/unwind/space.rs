//! The running task's mappings, from the kernel's own tree of them.
//!
//! `bpf_find_vma` (5.17) is of no use here: with interrupts off, as in the sampling interrupt and in the scheduler, it
//! answers once and then -EBUSY until its deferred unlock has run (`bpf_mmap_unlock_get_irq_work` in
//! `kernel/bpf/mmap_unlock_work.h`), and a stack crosses several mappings. So the tree is read as it lies, without its
//! lock: each read copes with any address, each answer is checked against the mapping that it names, and the worst
//! that a tree in the middle of a change can do is to end a stack early.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use profiler_common::unwind::FileKey;

use super::Walk;
use crate::{
    globals::{has, offset},
    task::{read, read_ptr},
};

/// Levels of a maple tree: 65,530 mappings (`vm.max_map_count`), at least 5 in each node but the root.
const MAPLE_LEVELS: usize = 7;
/// Bytes of a maple node; its address in an entry is aligned to that (`MAPLE_NODE_MASK`).
const MAPLE_NODE: u64 = 256;
/// `enum maple_type` of `include/linux/maple_tree.h`.
const MAPLE_LEAF_64: u64 = 1;
const MAPLE_RANGE_64: u64 = 2;
const MAPLE_ARANGE_64: u64 = 3;
/// Levels of a red-black tree: twice the logarithm of `vm.max_map_count`.
const RB_LEVELS: usize = 32;
/// `VM_EXEC`
const VM_EXEC: u64 = 4;

/// The mapping that holds `address`; null when there is none.
#[inline(always)]
pub fn find(walk: &mut Walk, address: u64) -> *const u8 {
    let mm = walk.mm as *const u8;
    let vma = if has(offset!(mm_mt_root)) {
        in_maple_tree(walk, mm, address)
    } else {
        in_rb_tree(mm, address)
    };
    if vma.is_null() || address < read::<u64>(vma, offset!(vma_start)) || address >= read::<u64>(vma, offset!(vma_end))
    {
        return core::ptr::null();
    }
    vma
}

/// `mtree_lookup_walk` of `lib/maple_tree.c`, in Linux 6.1 and later.
#[inline(always)]
fn in_maple_tree(walk: &mut Walk, mm: *const u8, address: u64) -> *const u8 {
    let mut entry = read::<u64>(mm, offset!(mm_mt_root));
    for _ in 0..MAPLE_LEVELS {
        let kind = entry >> 3 & 15;
        // A node's parent, then pivots, then slots: one more slot than pivots.
        let pivots: u64 = match kind {
            MAPLE_ARANGE_64 => 9,
            MAPLE_LEAF_64 | MAPLE_RANGE_64 => 15,
            _ => return core::ptr::null(),
        };
        // SAFETY: the helper copes with any address, and `node` is as large as is asked for.
        let failed = unsafe {
            bpf_probe_read_kernel(
                walk.node.as_mut_ptr().cast(),
                MAPLE_NODE as u32,
                (entry & !(MAPLE_NODE - 1)) as *const _,
            )
        };
        if failed != 0 {
            return core::ptr::null();
        }
        // How many pivots from the first are below the address. Without a branch, since the verifier would follow each
        // of two ways through; user addresses and differences of them have no top bit, the last pivot of all has every.
        const TOP: u32 = 63;
        let mut slot = 0;
        let mut below = 1;
        for index in 0..15u64 {
            let pivot = walk.node[1 + index as usize] & !(1 << TOP);
            below &= pivot.wrapping_sub(address) >> TOP & index.wrapping_sub(pivots) >> TOP;
            slot += below;
        }
        entry = walk.node[((1 + pivots + slot) & 31) as usize];
        if kind == MAPLE_LEAF_64 {
            return entry as *const u8;
        }
    }
    core::ptr::null()
}

/// `find_vma` up to 6.0.
#[inline(always)]
fn in_rb_tree(mm: *const u8, address: u64) -> *const u8 {
    let mut node = read_ptr(mm, offset!(mm_rb));
    for _ in 0..RB_LEVELS {
        if node.is_null() {
            break;
        }
        let vma = node.wrapping_sub(offset!(vma_rb) as usize);
        if address >= read::<u64>(vma, offset!(vma_end)) {
            node = read_ptr(node, offset!(rb_right));
        } else if address < read::<u64>(vma, offset!(vma_start)) {
            node = read_ptr(node, offset!(rb_left));
        } else {
            return vma;
        }
    }
    core::ptr::null()
}

/// Takes in the executable mapping that holds `address`. Whether there is one.
#[inline(always)]
pub fn enter(walk: &mut Walk, address: u64) -> bool {
    let vma = find(walk, address);
    if vma.is_null() || read::<u64>(vma, offset!(vma_flags)) & VM_EXEC == 0 {
        return false;
    }
    walk.start = read::<u64>(vma, offset!(vma_start));
    walk.end = read::<u64>(vma, offset!(vma_end));
    let file = read_ptr(vma, offset!(vma_file));
    let pgoff = if file.is_null() {
        0
    } else {
        read::<u64>(vma, offset!(vma_pgoff)) << 12
    };
    walk.bias = pgoff.wrapping_sub(walk.start);
    walk.key = if !file.is_null() {
        key_of(read_ptr(file, offset!(file_inode)))
    } else if walk.start == walk.vdso {
        FileKey::VDSO
    } else {
        FileKey::default()
    };
    true
}

/// What names the content of an inode's file.
#[inline(always)]
fn key_of(inode: *const u8) -> FileKey {
    FileKey {
        ino: read::<u64>(inode, offset!(inode_ino)),
        mtime: read::<u64>(inode, offset!(inode_mtime)),
        mtime_nsec: read::<u32>(inode, offset!(inode_mtime_nsec)),
        generation: read::<u32>(inode, offset!(inode_generation)),
        dev: read::<u32>(read_ptr(inode, offset!(inode_sb)), offset!(super_block_dev)),
        pad: 0,
    }
}
