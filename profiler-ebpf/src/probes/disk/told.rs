//! Which inodes were told already.

use aya_ebpf::maps::Array;
use profiler_common::disk::InodeId;

/// Places of such a table; two next to each other are the places of an inode.
const PLACES: usize = 1 << 17;

/// A table of the inodes that came last, the only entry of its map: to look into it takes no branch, each of which would be a
/// way more for the verifier. An inode that another pushed out is told again, which user space copes with: a few events more
/// are cheaper than lookups in a map of inodes, whose entries lie in memory that no cache holds.
pub type Told = Array<[u64; PLACES]>;

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

/// The table's entry; `None` never is.
#[inline(always)]
pub fn of(table: &'static Told) -> Option<*mut u64> {
    table.get_ptr_mut(0).map(|places| places.cast())
}

/// The two places of a mark.
#[inline(always)]
fn places(table: *mut u64, mark: u64) -> (*mut u64, *mut u64) {
    let first = (mark >> 32) as usize & (PLACES - 1);
    // SAFETY: both numbers are less than PLACES.
    unsafe { (table.add(first), table.add(first ^ 1)) }
}

/// Whether an inode was told. `table` is what [`of`] gave.
#[inline(always)]
pub fn holds(table: *mut u64, id: InodeId) -> bool {
    let mark = mark(id);
    let (first, second) = places(table, mark);
    // SAFETY: points into the map; volatile since other CPUs write there.
    let (first, second) = unsafe { (first.read_volatile(), second.read_volatile()) };
    // Bits and no branches.
    is_zero(first ^ mark) | is_zero(second ^ mark) != 0
}

/// 1 for 0, else 0.
#[inline(always)]
fn is_zero(value: u64) -> u64 {
    !(value | value.wrapping_neg()) >> 63
}

/// It was told. The older of those in its places makes room.
#[inline(always)]
pub fn keep(table: *mut u64, id: InodeId) {
    let mark = mark(id);
    let (first, second) = places(table, mark);
    // SAFETY: as in `holds`.
    unsafe {
        second.write_volatile(first.read_volatile());
        first.write_volatile(mark);
    }
}

/// It was not told after all.
#[inline(always)]
pub fn forget(table: *mut u64, id: InodeId) {
    let mark = mark(id);
    let (first, second) = places(table, mark);
    for place in [first, second] {
        // SAFETY: as in `holds`.
        unsafe {
            if place.read_volatile() == mark {
                place.write_volatile(0);
            }
        }
    }
}
