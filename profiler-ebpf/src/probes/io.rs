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
    // Each only grows: what has not changed has the same sum.
    let sum = total(task);
    if sum == state.io_sum {
        return;
    }
    let base: *const u8 = task.cast();
    match emit::reserve::<IoTotals>() {
        Some(mut entry) => {
            // SAFETY: memory of the ring of that size; every field is written.
            let event = unsafe { &mut *entry.as_mut_ptr() };
            event.header = Header {
                kind: kind::IO_TOTALS,
                ..*header
            };
            event.rchar = task::read::<u64>(base, offset!(task_rchar));
            event.wchar = task::read::<u64>(base, offset!(task_wchar));
            event.syscr = task::read::<u64>(base, offset!(task_syscr));
            event.syscw = task::read::<u64>(base, offset!(task_syscw));
            event.read_bytes = task::read::<u64>(base, offset!(task_read_bytes));
            event.write_bytes = task::read::<u64>(base, offset!(task_write_bytes));
            event.cancelled_write_bytes = task::read::<u64>(base, offset!(task_cancelled));
            emit::submit(entry);
            state.io_sum = sum;
        }
        None => emit::count(Counter::RingIoTotals),
    }
}

/// Sum of everything that is accounted: seven numbers, one behind the other (`struct task_io_accounting`, unchanged since
/// 2.6.30).
#[inline(always)]
fn total(task: Task) -> u64 {
    let [a, b, c, d, e, f, g] = task::read::<[u64; 7]>(task.cast(), offset!(task_rchar));
    a.wrapping_add(b)
        .wrapping_add(c)
        .wrapping_add(d)
        .wrapping_add(e)
        .wrapping_add(f)
        .wrapping_add(g)
}
