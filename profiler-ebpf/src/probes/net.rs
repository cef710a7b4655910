//! What engines and their clients say over sockets.
//!
//! All programs return after one look-up for a task or a socket that is none of theirs.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_user, bpf_probe_read_user_str},
    macros::{btf_tracepoint, fexit, map},
    maps::HashMap,
    programs::{BtfTracePointContext, FExitContext},
};
use profiler_common::{
    Counter, Header, kind,
    net::{
        AF_INET, AF_INET6, AF_UNIX, Exchange, IPPROTO_TCP, LONG_REQUEST_LEN, MAX_FRAMES_LEN, MIN_FRAMES_LEN,
        REQUEST_LEN, Request, TCP_CLOSE, TCP_SYN_SENT, is_frames, is_request,
    },
    task::COMM_LEN,
};

use crate::{
    emit::{self, Scratch},
    globals::offset,
    preempt,
    task::{self, Task},
};

#[map]
static NET_SCRATCH: Scratch = Scratch::with_max_entries(4, 0);

/// Which memory of [`NET_SCRATCH`] the tracepoint's program has. Those on functions, which another thread may cut into, have
/// one for each function, and so for each family of sockets.
const OF_TRACEPOINT: u32 = 0;
const OF_UNIX: u32 = 1;
const OF_INET: u32 = 2;
const OF_INET6: u32 = 3;

/// Programs, by comm, whose work on images is watched: engines, and the clients that pull by themselves.
#[map]
static ENGINE_COMM: HashMap<[u8; COMM_LEN], u32> = HashMap::with_max_entries(64, 0);

/// By socket: the exchange that is going on, and between two the last one. Taken away when the socket closes; user
/// space reads what is left at the end.
#[map]
static EXCHANGES: HashMap<u64, Exchange> = HashMap::with_max_entries(4096, 0);

/// Whether the running thread is one of an engine's. Threads of Go programs bear their process's name.
#[inline(always)]
pub fn in_engine() -> bool {
    ENGINE_COMM.get_ptr(task::comm()).is_some()
}

/// `sock_send_length(struct sock *sk, int ret, int flags)`; since 6.3 (6e6eda44b939).
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_send(ctx.arg(0), ctx.arg(1), false))
}

/// The end of what `sock_sendmsg` calls, from where that tracepoint tells: `int unix_stream_sendmsg(struct socket *sock,
/// struct msghdr *msg, size_t len)`, `inet_sendmsg` and `inet6_sendmsg`. Before 6.3; the program is loaded once for each.
#[fexit]
pub fn sock_send_length_fexit(ctx: FExitContext) -> i32 {
    let _held = preempt::hold();
    let socket: *const u8 = ctx.arg(0);
    emit::done(try_send(task::read_ptr(socket, offset!(socket_sk)), ctx.arg(3), true)) as i32
}

/// `tcp_rcv_space_adjust(struct sock *sk)`: a process has taken bytes; since 4.16.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_rcv_space_adjust(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    received(ctx.arg(0));
    0
}

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`; since 4.16.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_state(&ctx))
}

#[inline(always)]
fn try_send(sock: *const u8, sent: i32, on_function: bool) -> Result<(), Counter> {
    let task = task::current();
    if task::get(task).is_none() || sent <= 0 {
        return Ok(());
    }
    let family = task::read::<u16>(sock, offset!(sock_family));
    let scratch = match family {
        _ if !on_function => OF_TRACEPOINT,
        AF_UNIX => OF_UNIX,
        AF_INET => OF_INET,
        _ => OF_INET6,
    };
    match family {
        AF_UNIX => {
            let header = task::header_current(task, kind::REQUEST, task::now());
            request(task, sock, header, family, sent as u64, scratch)
        }
        // What asks for a name by UDP has no connection that would end.
        AF_INET | AF_INET6 if in_engine() && is_tcp(sock) => {
            let header = task::header_current(task, kind::EXCHANGE, task::now());
            if sent_over_tcp(sock, header, family, sent as u64)? {
                let header = Header {
                    kind: kind::REQUEST,
                    ..header
                };
                return request(task, sock, header, family, sent as u64, scratch);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether a socket is one of TCP's; where the kernel does not tell, all are taken for it.
#[inline(always)]
fn is_tcp(sock: *const u8) -> bool {
    offset!(sock_protocol) == 0 || task::read::<u16>(sock, offset!(sock_protocol)) == IPPROTO_TCP
}

/// Whether an exchange began with it.
#[inline(always)]
fn sent_over_tcp(sock: *const u8, header: Header, family: u16, sent: u64) -> Result<bool, Counter> {
    let now = header.ts;
    let Some(known) = EXCHANGES.get_ptr_mut(sock as u64) else {
        // Connected before the recording began.
        let fresh = Exchange {
            begin: now,
            sent,
            ..open(sock, header, family)
        };
        EXCHANGES
            .insert(sock as u64, fresh, 0)
            .map_err(|_| Counter::ExchangeMapFull)?;
        return Ok(true);
    };
    // SAFETY: points into the map. A connection's writer is one thread at a time; what another CPU reads meanwhile is
    // counted there or in the next exchange.
    let known = unsafe { &mut *known };
    if known.begin != 0 && known.last == 0 {
        known.sent += sent;
        return Ok(false);
    }
    let mut closed = Ok(());
    if known.begin != 0 {
        let whole = Exchange {
            header: Header {
                ts: now,
                ..known.header
            },
            ..*known
        };
        closed = emit::send(&whole, Counter::RingExchange);
        known.connect = 0;
    } else {
        // Before the connection was there the count meant nothing.
        known.sequence = task::read::<u32>(sock, offset!(tcp_sock_copied_seq));
    }
    known.header = header;
    known.begin = now;
    known.last = 0;
    known.sent = sent;
    known.received = 0;
    closed.map(|()| true)
}

#[inline(always)]
fn open(sock: *const u8, header: Header, family: u16) -> Exchange {
    let mut address = [0u8; 16];
    if family == AF_INET {
        let four = task::read::<[u8; 4]>(sock, offset!(sock_daddr));
        address[0] = four[0];
        address[1] = four[1];
        address[2] = four[2];
        address[3] = four[3];
    } else {
        address = task::read::<[u8; 16]>(sock, offset!(sock_v6_daddr));
    }
    Exchange {
        header,
        address,
        family,
        port: u16::from_be(task::read::<u16>(sock, offset!(sock_dport))),
        sequence: task::read::<u32>(sock, offset!(tcp_sock_copied_seq)),
        ..Exchange::default()
    }
}

#[inline(always)]
fn received(sock: *const u8) {
    let Some(known) = EXCHANGES.get_ptr_mut(sock as u64) else {
        return;
    };
    // SAFETY: points into the map; the socket is locked by the reader.
    let known = unsafe { &mut *known };
    let sequence = task::read::<u32>(sock, offset!(tcp_sock_copied_seq));
    known.received += u64::from(sequence.wrapping_sub(known.sequence));
    known.sequence = sequence;
    known.last = task::now();
}

#[inline(always)]
fn try_state(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let sock: *const u8 = ctx.arg(0);
    let state: i32 = ctx.arg(2);
    if state == TCP_CLOSE {
        let Some(known) = EXCHANGES.get_ptr(sock as u64) else {
            return Ok(());
        };
        // SAFETY: points into the map.
        let mut whole = unsafe { *known };
        let _ = EXCHANGES.remove(sock as u64);
        whole.header.ts = task::now();
        if whole.begin == 0 {
            return Ok(());
        }
        return emit::send(&whole, Counter::RingExchange);
    }
    if state != TCP_SYN_SENT {
        return Ok(());
    }
    let task = task::current();
    if task::get(task).is_none() || !in_engine() {
        return Ok(());
    }
    let header = task::header_current(task, kind::EXCHANGE, task::now());
    let family = task::read::<u16>(sock, offset!(sock_family));
    let fresh = Exchange {
        connect: header.ts,
        ..open(sock, header, family)
    };
    EXCHANGES
        .insert(sock as u64, fresh, 0)
        .map_err(|_| Counter::ExchangeMapFull)
}

/// Sends the beginning of what the running task sent, if it looks like a request: the second argument of `write` and
/// `sendto` is the memory it lies in.
#[inline(always)]
fn request(task: Task, sock: *const u8, header: Header, family: u16, sent: u64, scratch: u32) -> Result<(), Counter> {
    let regs = task::registers(task);
    if regs.is_null() {
        return Ok(());
    }
    let text = task::read::<u64>(regs, offset!(pt_regs_si));
    let mut first = [0u8; 8];
    // SAFETY: the helper copes with any source, and `first` is as large as is asked for.
    let failed = unsafe { bpf_probe_read_user(first.as_mut_ptr().cast(), 8, text as *const _) };
    let sized = (MIN_FRAMES_LEN..=MAX_FRAMES_LEN).contains(&sent);
    let frames = family == AF_UNIX && sized && is_frames(first) && in_engine();
    if failed != 0 || !(is_request(first) || frames) {
        return Ok(());
    }
    let scratch = emit::scratch_at(&NET_SCRATCH, scratch)?;
    let mut event = Request {
        header,
        peer: if family == AF_UNIX { peer(sock) } else { 0 },
        family,
        text_len: 0,
    };
    // One of two lengths, both known to the verifier.
    let len = if frames && sent > REQUEST_LEN as u64 {
        event.text_len = beginning::<LONG_REQUEST_LEN>(scratch, text, sent);
        LONG_REQUEST_LEN
    } else {
        event.text_len = beginning::<REQUEST_LEN>(scratch, text, sent);
        REQUEST_LEN
    };
    // SAFETY: HEAD + LONG_REQUEST_LEN is less than SCRATCH_LEN; scratch memory is 8-aligned.
    unsafe {
        scratch.cast::<Request>().write(event);
        emit::send_raw(scratch, HEAD + len, Counter::RingRequest)
    }
}

/// Where the text of a request begins in scratch memory.
const HEAD: usize = core::mem::size_of::<Request>();

/// Reads up to `LEN` bytes of what was sent behind the event in scratch memory, and gives how many of them were sent. As
/// much as there is room for: what lies behind the bytes sent is cut off. Where memory ends there, the request is up to
/// its first NUL.
#[inline(always)]
fn beginning<const LEN: usize>(scratch: *mut u8, text: u64, sent: u64) -> u16 {
    // SAFETY: HEAD + LEN is less than SCRATCH_LEN; the helper copes with any source.
    let failed = unsafe { bpf_probe_read_user(scratch.add(HEAD).cast(), LEN as u32, text as *const _) };
    let there = if failed == 0 {
        LEN as u64
    } else {
        // SAFETY: as above.
        let len = unsafe { bpf_probe_read_user_str(scratch.add(HEAD).cast(), LEN as u32, text as *const _) };
        if len > 0 { len as u64 - 1 } else { 0 }
    };
    if sent < there { sent as u16 } else { there as u16 }
}

/// The process at the other end of a local socket; the outermost namespace's number stands first.
#[inline(always)]
pub fn peer(sock: *const u8) -> u32 {
    let pid = task::read_ptr(sock, offset!(sock_peer_pid));
    if pid.is_null() {
        return 0;
    }
    task::read::<u32>(pid.wrapping_add(offset!(pid_numbers) as usize), offset!(upid_nr))
}
