//! Names of the system calls that read, write and change files.

/// Name and number on x86-64: `arch/x86/entry/syscalls/syscall_64.tbl`. The formatter leaves the table alone: it would give
/// each its line.
#[rustfmt::skip]
const X86_64: &[(&str, i32)] = &[
    ("read", 0), ("write", 1), ("open", 2), ("close", 3), ("stat", 4), ("mmap", 9), ("munmap", 11), ("ioctl", 16),
    ("pread64", 17), ("pwrite64", 18), ("readv", 19), ("writev", 20), ("msync", 26), ("mincore", 27), ("madvise", 28),
    ("sendfile", 40), ("bind", 49), ("execve", 59), ("exit", 60), ("fcntl", 72), ("fsync", 74), ("fdatasync", 75),
    ("truncate", 76), ("ftruncate", 77), ("getdents", 78), ("rename", 82), ("mkdir", 83), ("rmdir", 84), ("creat", 85),
    ("link", 86), ("unlink", 87), ("symlink", 88), ("readlink", 89), ("chmod", 90), ("fchmod", 91), ("chown", 92),
    ("fchown", 93), ("lchown", 94), ("utime", 132), ("mknod", 133), ("pivot_root", 155), ("sync", 162),
    ("mount", 165), ("umount2", 166), ("swapon", 167), ("init_module", 175), ("readahead", 187), ("setxattr", 188),
    ("lsetxattr", 189), ("fsetxattr", 190), ("getxattr", 191), ("removexattr", 197), ("lremovexattr", 198),
    ("fremovexattr", 199), ("getdents64", 217), ("fadvise64", 221), ("exit_group", 231), ("utimes", 235),
    ("openat", 257), ("mkdirat", 258), ("mknodat", 259), ("fchownat", 260), ("futimesat", 261), ("newfstatat", 262),
    ("unlinkat", 263), ("renameat", 264), ("linkat", 265), ("symlinkat", 266), ("readlinkat", 267), ("fchmodat", 268),
    ("splice", 275), ("sync_file_range", 277), ("vmsplice", 278), ("utimensat", 280), ("fallocate", 285),
    ("preadv", 295), ("pwritev", 296), ("name_to_handle_at", 303), ("open_by_handle_at", 304), ("syncfs", 306),
    ("finit_module", 313), ("renameat2", 316), ("execveat", 322), ("copy_file_range", 326), ("preadv2", 327),
    ("pwritev2", 328), ("statx", 332), ("io_uring_enter", 426), ("fsopen", 430), ("fsconfig", 431), ("fsmount", 432),
    ("openat2", 437), ("fchmodat2", 452), ("setxattrat", 463), ("removexattrat", 466),
];

/// What a system call is called: `openat`. `None` for others, and on other machines, whose numbers mean other calls.
pub fn name(machine: &str, number: i32) -> Option<&'static str> {
    let known = X86_64.iter().filter(|_| machine == "x86_64");
    known.clone().find(|(_, own)| *own == number).map(|(name, _)| *name)
}

/// What a thread was doing, for people: a call by its name or number, a page fault.
pub fn doing(machine: &str, number: i32) -> String {
    match (name(machine, number), number) {
        (Some(name), _) => name.to_owned(),
        (None, crate::model::disk::PAGE_FAULT) => "page fault".to_owned(),
        (None, number) => format!("system call {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that numbers are those of this machine's own headers, that none stands twice, and that another machine's
    /// have no name.
    #[test]
    fn numbers() {
        assert_eq!(name("x86_64", 257), Some("openat"));
        #[cfg(target_arch = "x86_64")]
        for (call, number) in [
            ("openat", libc::SYS_openat),
            ("fchownat", libc::SYS_fchownat),
            ("utimensat", libc::SYS_utimensat),
            ("renameat2", libc::SYS_renameat2),
            ("copy_file_range", libc::SYS_copy_file_range),
            ("ftruncate", libc::SYS_ftruncate),
            ("linkat", libc::SYS_linkat),
            ("setxattr", libc::SYS_setxattr),
            ("sendfile", libc::SYS_sendfile),
            ("fchmodat2", libc::SYS_fchmodat2),
        ] {
            assert_eq!(name("x86_64", number as i32), Some(call));
        }
        let mut numbers: Vec<i32> = X86_64.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), X86_64.len());
        assert_eq!(name("aarch64", 257), None);
        assert_eq!(doing("aarch64", 56), "system call 56");
        assert_eq!(doing("x86_64", -1), "page fault");
    }
}
