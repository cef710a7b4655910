//! Sockets that begin to listen: TCP, unix and all others, by the one call that they share.
//!
//! `inet_sock_set_state` tells of TCP alone, and unix sockets have no tracepoint. `listen` is called once in a service's
//! life, and its socket, bound by then, is found by its descriptor.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel, macros::map};
use profiler_common::{
    Counter, kind,
    listen::{Listen, UNIX_PATH_LEN},
};

use crate::{
    emit::{self, Scratch},
    globals::offset,
    task::{self, Task},
};

#[map]
static LISTEN_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

/// `include/linux/socket.h`
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// At the end of the running task's `listen(fd, …)`.
#[inline(always)]
pub fn listening(task: Task, enter: u64, now: u64, fd: u64, result: i64) -> Result<(), Counter> {
    if result != 0 {
        return Ok(());
    }
    let scratch = emit::scratch(&LISTEN_SCRATCH)?;
    const HEAD: usize = core::mem::size_of::<Listen>();
    let mut event = Listen {
        header: task::header_current(task, kind::LISTEN, now),
        enter,
        ..Listen::default()
    };
    // Without its beginning the call's descriptor is not known.
    let sock = if enter == 0 { core::ptr::null() } else { sock(task, fd) };
    event.family = task::read::<u16>(sock, offset!(sock_family));
    let mut path_len = 0;
    if event.family == 0 {
        emit::count(Counter::ListenSocket);
    } else {
        event.r#type = task::read::<u16>(sock, offset!(sock_type));
        event.protocol = task::read::<u16>(sock, offset!(sock_protocol));
    }
    match event.family {
        AF_INET => {
            event.port = task::read::<u16>(sock, offset!(sock_num));
            let [a, b, c, d] = task::read::<[u8; 4]>(sock, offset!(sock_rcv_saddr));
            event.address[0] = a;
            event.address[1] = b;
            event.address[2] = c;
            event.address[3] = d;
        }
        AF_INET6 => {
            event.port = task::read::<u16>(sock, offset!(sock_num));
            event.address = task::read::<[u8; 16]>(sock, offset!(sock_v6_rcv_saddr));
        }
        AF_UNIX => {
            let address = task::read_ptr(sock, offset!(unix_sock_addr));
            // The family comes before the path, and is counted.
            let full = task::read::<u32>(address, offset!(unix_address_len)).saturating_sub(2);
            path_len = if full as usize > UNIX_PATH_LEN {
                UNIX_PATH_LEN
            } else {
                full as usize & 0x7f
            };
            let path = address.wrapping_add(offset!(unix_address_name) as usize + 2);
            // SAFETY: HEAD + 0x7f is less than SCRATCH_LEN; the helper copes with any source.
            let failed = unsafe { bpf_probe_read_kernel(scratch.add(HEAD).cast(), path_len as u32, path.cast()) };
            if failed != 0 {
                emit::count(Counter::ListenSocket);
                path_len = 0;
            }
        }
        _ => {}
    }
    event.path_len = path_len as u32;
    // SAFETY: as above; scratch memory is 8-aligned.
    unsafe {
        scratch.cast::<Listen>().write(event);
        emit::send_raw(scratch, HEAD + path_len, Counter::RingListen)
    }
}

/// The `struct sock *` behind a descriptor of a task; null when it can't be read.
#[inline(always)]
fn sock(task: Task, fd: u64) -> *const u8 {
    // `listen` has succeeded: the file is a socket's.
    let socket = task::read_ptr(task::file(task, fd), offset!(file_private_data));
    task::read_ptr(socket, offset!(socket_sk))
}
