//! Which inodes were told already.

use aya_ebpf::maps::Array;
use profiler_common::disk::InodeId;

/// Places of such a table; two next to each other are the places of an inode.
pub const PLACES: u32 = 1 << 17;

/// A table of the inodes that came last. One that another pushed out is told again, which user space copes with: a few events
/// more are cheaper than the lookups in a map of inodes, whose entries lie in memory that no cache holds.
pub type Told = Array<u64>;

/// What stands for an inode in a table: 64 bits of it mixed, so that one store writes an entry whole. Of a million inodes two
/// have the same once in some 10 million recordings, and then one of them is not told.
#[inline(always)]
fn mark(id: InodeId) -> u64 {
    // The finalizer of splitmix64 (Stafford's variant 13).
    let mut mixed = id.ino ^ (u64::from(id.dev) << 32 | u64::from(id.generation)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    // 0 is a free place.
    (mixed ^ mixed >> 31) | 1
}

#[inline(always)]
fn places(mark: u64) -> (u32, u32) {
    let first = (mark >> 32) as u32 & (PLACES - 1);
    (first, first ^ 1)
}

#[inline(always)]
fn at(table: &'static Told, place: u32) -> u64 {
    match table.get_ptr(place) {
        // SAFETY: points into the map; volatile since other CPUs write it.
        Some(mark) => unsafe { core::ptr::read_volatile(mark) },
        None => 0,
    }
}

#[inline(always)]
fn put(table: &'static Told, place: u32, mark: u64) {
    if let Some(kept) = table.get_ptr_mut(place) {
        // SAFETY: as in `at`.
        unsafe { core::ptr::write_volatile(kept, mark) }
    }
}

/// Whether an inode was told.
#[inline(always)]
pub fn holds(table: &'static Told, id: InodeId) -> bool {
    let mark = mark(id);
    let (first, second) = places(mark);
    at(table, first) == mark || at(table, second) == mark
}

/// It was told. The older of those in its places makes room.
#[inline(always)]
pub fn keep(table: &'static Told, id: InodeId) {
    let mark = mark(id);
    let (first, second) = places(mark);
    put(table, second, at(table, first));
    put(table, first, mark);
}

/// It was not told after all.
#[inline(always)]
pub fn forget(table: &'static Told, id: InodeId) {
    let mark = mark(id);
    let (first, second) = places(mark);
    for place in [first, second] {
        if at(table, place) == mark {
            put(table, place, 0);
        }
    }
}
