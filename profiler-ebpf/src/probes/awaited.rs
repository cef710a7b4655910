//! What a wait was for: the file, pipe or socket behind the descriptor that its system call was given.

use aya_ebpf::{helpers::generated::bpf_probe_read_kernel_str, macros::map};
use profiler_common::{
    Counter,
    awaited::{Awaited, CALL_WORDS, NAME_LEN, NAMES, PATH_LEN, flag, mode, place},
    kind,
    net::{AF_INET, AF_INET6, AF_UNIX},
    sched::Cycle,
};

use super::net;
use crate::{
    emit::{self, Scratch},
    globals::{features, has, offset},
    task::{self, Task},
};

#[map]
static AWAITED_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

const HEAD: usize = core::mem::size_of::<Awaited>();

/// Sends what the thread that wakes up now has waited for, if its system call was given a descriptor. `regs` are its user
/// registers.
#[inline(always)]
pub fn tell(task: Task, cycle: &Cycle, regs: *const u8) -> Result<(), Counter> {
    if !takes_descriptor(cycle.syscall) || !has(offset!(pt_regs_di)) {
        return Ok(());
    }
    let file = task::file(task, task::read::<u64>(regs, offset!(pt_regs_di)));
    let inode = task::read_ptr(file, offset!(file_inode));
    if inode.is_null() {
        return Ok(());
    }
    let scratch = emit::scratch(&AWAITED_SCRATCH)?;
    // SAFETY: scratch memory is 8-aligned, large enough, and this CPU's own: switches do not nest.
    let event = unsafe {
        scratch.cast::<Awaited>().write(Awaited::default());
        &mut *scratch.cast::<Awaited>()
    };
    event.header = cycle.header;
    event.header.kind = kind::AWAITED;
    event.off = cycle.off;
    event.ino = task::read::<u64>(inode, offset!(inode_ino));
    event.dev = task::read::<u32>(task::read_ptr(inode, offset!(inode_sb)), offset!(super_block_dev));
    event.mode = task::read::<u16>(inode, offset!(inode_mode));
    let len = match event.mode & mode::MASK {
        mode::SOCKET => {
            let socket = task::read_ptr(file, offset!(file_private_data));
            of_socket(task::read_ptr(socket, offset!(socket_sk)), event);
            0
        }
        mode::PIPE => 0,
        _ => names(task::read_ptr(file, offset!(file_dentry)), scratch, event),
    };
    // SAFETY: HEAD + PATH_LEN is less than SCRATCH_LEN.
    unsafe { emit::send_raw_bulk(scratch, HEAD + len, Counter::RingAwaited) }
}

/// Whether a system call's first argument is a descriptor that it can wait at.
#[inline(always)]
fn takes_descriptor(number: i32) -> bool {
    let Some((word, bit)) = place(number) else {
        return false;
    };
    // SAFETY: a static of this object, and the index is less than its length; volatile because the loader overwrites it.
    let word = unsafe { core::ptr::read_volatile(&raw const features().descriptor_calls[word & (CALL_WORDS - 1)]) };
    word >> bit & 1 != 0
}

#[inline(always)]
fn of_socket(sock: *const u8, event: &mut Awaited) {
    event.family = task::read::<u16>(sock, offset!(sock_family));
    event.r#type = task::read::<u16>(sock, offset!(sock_type));
    event.protocol = task::read::<u16>(sock, offset!(sock_protocol));
    match event.family {
        AF_INET => {
            first_four(&mut event.local, task::read::<[u8; 4]>(sock, offset!(sock_rcv_saddr)));
            first_four(&mut event.remote, task::read::<[u8; 4]>(sock, offset!(sock_daddr)));
        }
        AF_INET6 => {
            event.local = task::read::<[u8; 16]>(sock, offset!(sock_v6_rcv_saddr));
            event.remote = task::read::<[u8; 16]>(sock, offset!(sock_v6_daddr));
        }
        AF_UNIX => {
            event.peer_pid = net::peer(sock);
            return;
        }
        _ => return,
    }
    event.local_port = task::read::<u16>(sock, offset!(sock_num));
    event.remote_port = u16::from_be(task::read::<u16>(sock, offset!(sock_dport)));
}

#[inline(always)]
fn first_four(address: &mut [u8; 16], four: [u8; 4]) {
    address[0] = four[0];
    address[1] = four[1];
    address[2] = four[2];
    address[3] = four[3];
}

/// Writes the names of a file and of the folders above it behind the event, each in a place of its own, and gives the
/// length of what is to be sent.
#[inline(always)]
fn names(mut dentry: *const u8, scratch: *mut u8, event: &mut Awaited) -> usize {
    if !has(offset!(dentry_parent)) {
        return 0;
    }
    let mut count = 0;
    for index in 0..NAMES {
        let parent = task::read_ptr(dentry, offset!(dentry_parent));
        // The root of a file system is its own parent: its name is `/`.
        if parent.is_null() || parent == dentry {
            break;
        }
        let name = task::read_ptr(dentry, offset!(dentry_name));
        // SAFETY: HEAD + PATH_LEN is less than SCRATCH_LEN; the helper copes with any source.
        let len = unsafe {
            bpf_probe_read_kernel_str(
                scratch.add(HEAD + index * NAME_LEN).cast(),
                NAME_LEN as u32,
                name.cast(),
            )
        };
        if len <= 0 {
            break;
        }
        if len as usize == NAME_LEN {
            event.flags |= flag::CUT;
        }
        event.name_len[index] = len as u8 - 1;
        count = index + 1;
        dentry = parent;
        if index + 1 == NAMES && task::read_ptr(dentry, offset!(dentry_parent)) != dentry {
            event.flags |= flag::CUT;
        }
    }
    event.names = count as u16;
    (count * NAME_LEN) & (2 * PATH_LEN - 1)
}
