//! perf events that carry a BPF program.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use perf_event_open_sys::{
    bindings::{self, perf_event_attr},
    ioctls,
};

/// A perf event with its program; closing it detaches the program.
#[derive(Debug)]
pub struct Event {
    fd: OwnedFd,
}

impl Event {
    /// Changes the frequency of a sampling clock, Hz. It takes effect at once (`perf_event_period`, since 5.1).
    pub fn set_frequency(&self, hz: u32) -> io::Result<()> {
        // A clock by frequency becomes one by period when it is made (`perf_swevent_init_hrtimer`), ns.
        let period = 1_000_000_000 / u64::from(hz.max(1));
        // The kernel takes the value by its address, which is what the binding's integer stands for.
        // SAFETY: an open descriptor; the call reads the one u64.
        if unsafe { ioctls::PERIOD(self.fd.as_raw_fd(), (&raw const period) as u64) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

fn open(mut attr: perf_event_attr, cpu: i32, program: BorrowedFd<'_>) -> io::Result<Event> {
    attr.size = size_of::<perf_event_attr>() as u32;
    // SAFETY: `attr` is a whole, zero-initialized attribute block; the result is checked.
    let fd =
        unsafe { perf_event_open_sys::perf_event_open(&mut attr, -1, cpu, -1, bindings::PERF_FLAG_FD_CLOEXEC.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: both descriptors are open; the calls take no memory.
    unsafe {
        if ioctls::SET_BPF(fd.as_raw_fd(), program.as_raw_fd() as u32) < 0 {
            return Err(io::Error::last_os_error());
        }
        if ioctls::ENABLE(fd.as_raw_fd(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(Event { fd })
}

/// Runs `program` at each hit of the classic tracepoint `id`, on every CPU: the program hangs on the tracepoint, not
/// on the CPU that the event is opened for.
pub fn tracepoint(id: u64, program: BorrowedFd<'_>) -> io::Result<Event> {
    let mut attr = perf_event_attr {
        type_: bindings::PERF_TYPE_TRACEPOINT,
        config: id,
        ..Default::default()
    };
    attr.__bindgen_anon_1.sample_period = 1;
    open(attr, 0, program)
}

/// Runs `program` `hz` times a second on one CPU, by the `cpu-clock` timer.
///
/// Not by hardware cycles: a virtual machine without a PMU has none, and the clock's period is the same on all.
/// Ticks at the same moment on all CPUs would contend for the ring, but timers start with their CPU's attach.
pub fn clock(cpu: u32, hz: u32, program: BorrowedFd<'_>) -> io::Result<Event> {
    let mut attr = perf_event_attr {
        type_: bindings::PERF_TYPE_SOFTWARE,
        config: bindings::PERF_COUNT_SW_CPU_CLOCK.into(),
        ..Default::default()
    };
    attr.__bindgen_anon_1.sample_freq = hz.into();
    attr.set_freq(1);
    open(attr, cpu as i32, program)
}
