//! What threads read and write in all, by the kernel's own account of them (`task_struct.ioac`).

use profiler_common::{
    Counter, Header,
    disk::IoTotals,
    kind,
    sched::{TaskState, WINDOW_SHIFT},
};

use crate::{
    emit,
    globals::{has, offset},
    task::{self, Task},
};

/// Tells a thread's totals if they have changed: at most once in a summing window, at an event of its own always. The
/// header is that of the event it is told with.
#[inline(always)]
pub fn tell(task: Task, state: &mut TaskState, header: &Header, own: bool) {
    if !has(offset!(task_rchar)) {
        return;
    }
    let window = (header.ts >> WINDOW_SHIFT) as u32;
    if !own && window == state.io_window {
        return;
    }
    state.io_window = window;
    // Seven numbers, one behind the other (`struct task_io_accounting`, unchanged since 2.6.30). Each only grows: what has
    // not changed has the same sum.
    let all = task::read::<[u64; 7]>(task.cast(), offset!(task_rchar));
    let [
        rchar,
        wchar,
        syscr,
        syscw,
        read_bytes,
        write_bytes,
        cancelled_write_bytes,
    ] = all;
    let sum = rchar
        .wrapping_add(wchar)
        .wrapping_add(syscr)
        .wrapping_add(syscw)
        .wrapping_add(read_bytes)
        .wrapping_add(write_bytes)
        .wrapping_add(cancelled_write_bytes);
    if sum == state.io_sum {
        return;
    }
    match emit::reserve::<IoTotals>() {
        Some(mut entry) => {
            // SAFETY: memory of the ring of that size; every field is written.
            let event = unsafe { &mut *entry.as_mut_ptr() };
            event.header = Header {
                kind: kind::IO_TOTALS,
                ..*header
            };
            event.rchar = rchar;
            event.wchar = wchar;
            event.syscr = syscr;
            event.syscw = syscw;
            event.read_bytes = read_bytes;
            event.write_bytes = write_bytes;
            event.cancelled_write_bytes = cancelled_write_bytes;
            emit::submit(entry);
            state.io_sum = sum;
        }
        None => emit::count(Counter::RingIoTotals),
    }
}
