//! System calls by number.

use profiler_common::awaited::{CALL_WORDS, place};

/// System calls that wait at the file that their first argument is the descriptor of. Not those that wait at many files
/// (`poll`, `epoll_wait`), whose descriptor tells nothing.
const AT_DESCRIPTOR: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_ioctl,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_connect,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_getdents64,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_copy_file_range,
];

/// [`profiler_common::kernel::Features::descriptor_calls`]
pub(super) fn at_descriptor() -> [u64; CALL_WORDS] {
    let mut set = [0; CALL_WORDS];
    for number in AT_DESCRIPTOR {
        if let Some((word, bit)) = i32::try_from(*number).ok().and_then(place) {
            set[word] |= 1 << bit;
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that every call of the list has a place in the set.
    #[test]
    fn all_have_a_place() {
        let bits: u32 = at_descriptor().iter().map(|word| word.count_ones()).sum();
        assert_eq!(bits as usize, AT_DESCRIPTOR.len());
    }
}
