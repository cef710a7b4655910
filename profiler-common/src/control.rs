//! What user space tells the running programs, by the `CONTROL` map: an array of `u64`.

/// Index: the moment at which the recording (or its scheduling) ends, ns, for the flush.
pub const END: u32 = 0;
/// Index: what is not recorded at present, bits of [`shed`].
pub const SHED: u32 = 1;
/// Index: intervals at least this long stream whole, ns; what is below [`crate::sched::WHOLE_NS`] counts as that.
pub const WHOLE_NS: u32 = 2;
/// Indexes: where the code of the overlay's `ovl_copy_up_flags` lies, which every copy-up goes through: from, and up to; 0
/// when there is none.
pub const COPY_UP_FROM: u32 = 3;
pub const COPY_UP_TO: u32 = 4;
/// Index: 1 when the overlay's own functions tell when a copy-up begins and ends.
pub const COPY_UP_BRACKETED: u32 = 5;
/// Index of the first of six: where the code of ext4's functions that rename lies, up to [`RENAMING`] times from and up to; 0
/// when there is none.
pub const RENAMES: u32 = 6;
pub const RENAMING: u32 = 3;
/// Index: calls on files are counted that began after it, ns.
pub const FILE_CALLS_SINCE: u32 = RENAMES + 2 * RENAMING;
/// Length of the map.
pub const LEN: u32 = FILE_CALLS_SINCE + 1;

/// Bits of [`SHED`]: what the overhead cap has switched off.
pub mod shed {
    /// Nothing of threads' times: `sched_switch` and `sched_waking` are detached. Each thread's `off` is
    /// [`crate::sched::GAP`] until it is seen again.
    pub const SCHEDULING: u64 = 1 << 0;
    /// No stacks of waits.
    pub const WAIT_STACKS: u64 = 1 << 1;
    /// Births beyond [`super::BIRTHS_OF_PARENT`] and [`super::BIRTHS_OF_CPU`] are not tracked.
    pub const BIRTHS: u64 = 1 << 2;
}

/// Births are counted anew at each multiple of this, ns (2^27, about 134 ms).
pub const BIRTHS_SHIFT: u32 = 27;
/// With [`shed::BIRTHS`], births that one thread may have tracked in that time: about 120 a second. What makes
/// containers bears fewer; a storm comes from few parents.
pub const BIRTHS_OF_PARENT: u32 = 16;
/// With [`shed::BIRTHS`], births that one CPU may have tracked in that time, whoever the parent is: about 480 a second.
pub const BIRTHS_OF_CPU: u32 = 64;
