//! What user space sets before the object is loaded. aya freezes the read-only data, so the verifier knows each
//! value as a constant and prunes what it switches off.

use profiler_common::{
    CONTRACT_VERSION,
    awaited::CALL_WORDS,
    kernel::{ABSENT, Features, Offsets},
};

/// Contract this object was built with; user space compares it before it loads anything.
#[unsafe(no_mangle)]
static CONTRACT: u32 = CONTRACT_VERSION;

#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::NONE;

#[unsafe(no_mangle)]
static FEATURES: Features = Features {
    switch_has_prev_state: 0,
    task_stack: 0,
    task_pt_regs: 0,
    exit_has_group_dead: 0,
    kernel_stack_size: 0,
    saved_regs: 0,
    victim_is_task: 0,
    issue_has_queue: 0,
    head_bit: ABSENT,
    req_sync_bit: ABSENT,
    req_meta_bit: ABSENT,
    req_rahead_bit: ABSENT,
    req_preflush_bit: ABSENT,
    req_fua_bit: ABSENT,
    ring_bulk_bytes: 0,
    pad: 0,
    descriptor_calls: [0; CALL_WORDS],
};

/// Pid of the profiler itself (in the host's pid namespace): its own threads are never sampled.
#[unsafe(no_mangle)]
static SELF_TGID: u32 = 0;

/// The contract version; read so that the global is kept in the object.
#[inline(always)]
pub fn contract() -> u32 {
    // SAFETY: a static of this object; volatile because the loader overwrites it.
    unsafe { core::ptr::read_volatile(&CONTRACT) }
}

#[inline(always)]
pub fn self_tgid() -> u32 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&SELF_TGID) }
}

/// Offset of one member, as [`Offsets`] names it.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a static of this object; volatile because the loader overwrites it.
        unsafe { core::ptr::read_volatile(&$crate::globals::offsets().$field) }
    };
}
pub(crate) use offset;

/// One switch of [`Features`].
macro_rules! enabled {
    ($field:ident) => {
        // SAFETY: as for `offset!`.
        unsafe { core::ptr::read_volatile(&$crate::globals::features().$field) }
    };
}
pub(crate) use enabled;

#[inline(always)]
pub fn offsets() -> &'static Offsets {
    &OFFSETS
}

#[inline(always)]
pub fn features() -> &'static Features {
    &FEATURES
}

/// Whether the running kernel has a member.
#[inline(always)]
pub fn has(offset: u32) -> bool {
    offset != ABSENT
}
