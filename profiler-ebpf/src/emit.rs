//! The way out: one ring, the counters, and scratch memory for events with a tail.

use crate::globals::enabled;
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use profiler_common::{Counter, Plain, control, counter::COUNTERS_LEN};

/// Largest event: a header and a full mount record (three paths, one page of options).
pub const SCRATCH_LEN: usize = 8192;

/// Events for user space. Its size is set at load. Never woken: user space drains it by timer, which costs the
/// probes 25 instead of 1,410 ns an event (cephtrace#188).
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 23, 0);

/// Losses by cause, summed by user space over the CPUs.
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS_LEN, 0);

/// What user space tells the running programs; see [`control`].
#[map]
static CONTROL: Array<u64> = Array::with_max_entries(control::LEN, 0);

/// Scratch memory of one kind of program. Each kind has its own, since the sampling interrupt can hit in the middle
/// of another program on the same CPU.
pub type Scratch = PerCpuArray<[u8; SCRATCH_LEN]>;

/// The value at an index of [`profiler_common::control`].
#[inline(always)]
pub fn control(index: u32) -> u64 {
    match CONTROL.get(index) {
        Some(value) => {
            let value: *const u64 = value;
            // SAFETY: points into the map; volatile because user space writes it.
            unsafe { core::ptr::read_volatile(value) }
        }
        None => 0,
    }
}

/// Whether a bit of [`control::shed`] is set.
#[inline(always)]
pub fn shed(what: u64) -> bool {
    control(control::SHED) & what != 0
}

/// Counts one loss.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own slot; an interrupt between read and write could lose a count of a loss, no more.
        unsafe { *slot += 1 }
    }
}

/// Ends an entry function: counts the failure, if there is one.
#[inline(always)]
pub fn done(result: Result<(), Counter>) -> u32 {
    if let Err(counter) = result {
        count(counter);
    }
    0
}

/// Whether the ring is so full that what is left is kept for events that tell of lives: of what comes by the thousands
/// (time, samples, stacks) a part may be lost, a birth, an exec or a cgroup of a container should not be.
#[inline(always)]
fn crowded() -> bool {
    // SAFETY: the map outlives the program.
    let used = unsafe {
        bpf_ringbuf_query(
            core::ptr::from_ref(&EVENTS).cast_mut().cast(),
            u64::from(BPF_RB_AVAIL_DATA),
        )
    };
    used > u64::from(enabled!(ring_bulk_bytes))
}

/// As [`send`], of events that come by the thousands.
#[inline(always)]
pub fn send_bulk<T: Plain + 'static>(event: &T, full: Counter) -> Result<(), Counter> {
    if crowded() {
        return Err(full);
    }
    send(event, full)
}

/// As [`send_raw`], of events that come by the thousands.
///
/// # Safety
///
/// As there.
#[inline(always)]
pub unsafe fn send_raw_bulk(scratch: *const u8, len: usize, full: Counter) -> Result<(), Counter> {
    if crowded() {
        return Err(full);
    }
    // SAFETY: as there.
    unsafe { send_raw(scratch, len, full) }
}

/// Sends an event without a tail.
#[inline(always)]
pub fn send<T: Plain + 'static>(event: &T, full: Counter) -> Result<(), Counter> {
    EVENTS.output::<T>(event, u64::from(BPF_RB_NO_WAKEUP)).map_err(|_| full)
}

/// Sends the first `len` bytes of scratch memory.
///
/// # Safety
///
/// `scratch` points at [`SCRATCH_LEN`] bytes and the verifier knows `len` to be at most that.
#[inline(always)]
pub unsafe fn send_raw(scratch: *const u8, len: usize, full: Counter) -> Result<(), Counter> {
    // SAFETY: see above; the map outlives the program.
    let result = unsafe {
        bpf_ringbuf_output(
            core::ptr::from_ref(&EVENTS).cast_mut().cast(),
            scratch.cast_mut().cast(),
            len as u64,
            u64::from(BPF_RB_NO_WAKEUP),
        )
    };
    if result == 0 { Ok(()) } else { Err(full) }
}

/// Room in the ring for an event that comes by the thousands; to be given to [`submit`].
#[inline(always)]
pub fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    if crowded() {
        return None;
    }
    EVENTS.reserve::<T>(0)
}

/// Sends what was reserved.
#[inline(always)]
pub fn submit<T: 'static>(entry: RingBufEntry<T>) {
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// This CPU's scratch memory.
#[inline(always)]
pub fn scratch(map: &'static Scratch) -> Result<*mut u8, Counter> {
    scratch_at(map, 0)
}

/// One of several of this CPU's.
#[inline(always)]
pub fn scratch_at(map: &'static Scratch, index: u32) -> Result<*mut u8, Counter> {
    match map.get_ptr_mut(index) {
        Some(memory) => Ok(memory.cast()),
        None => Err(Counter::Scratch),
    }
}
