//! `/proc/PID/mountinfo`, as far as files are found by it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

use crate::lookup::overlay::{Options, absolute};

/// Longest mountinfo read, bytes: a host with 10,000 mounts of 400 bytes.
const MAX_MOUNTINFO: u64 = 4 << 20;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, while it is there.
    pub id: u64,
    /// `major << 20 | minor`
    pub dev: u32,
    /// Where it is mounted, as the namespace sees it.
    pub point: Vec<u8>,
    pub fstype: Vec<u8>,
    /// Options of the file system (not of the mount).
    pub options: Vec<u8>,
}

/// The mounts of a process' namespace; `who` is a process id or `self`. Empty when the process is gone.
pub fn mounts_of(who: &str) -> Vec<Mount> {
    let Ok(file) = File::open(format!("/proc/{who}/mountinfo")) else {
        return Vec::new();
    };
    read(BufReader::new(file.take(MAX_MOUNTINFO)))
}

fn read(text: impl BufRead) -> Vec<Mount> {
    let lines = text.split(b'\n').map_while(Result::ok);
    lines.filter_map(|line| parse(&line)).collect()
}

/// File systems where a read waits for a disk at most, as mount tables name them. All others may ask a daemon or a network:
/// FUSE, NFS, 9p and their like, and what is not known.
const LOCAL: [&[u8]; 18] = [
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"btrfs",
    b"tmpfs",
    b"ramfs",
    b"rootfs",
    b"zfs",
    b"f2fs",
    b"bcachefs",
    b"erofs",
    b"squashfs",
    b"iso9660",
    b"vfat",
    b"exfat",
    b"jfs",
    b"nilfs2",
];
const OVERLAY: &[u8] = b"overlay";

/// The mounts that a process sees, and which of them can be read without waiting for a daemon or a network.
#[derive(Debug, Default)]
pub struct Table {
    own: Vec<Mount>,
    /// Of another namespace.
    theirs: Option<Vec<Mount>>,
}

impl Table {
    /// Of our own namespace.
    pub fn own(own: Vec<Mount>) -> Table {
        Table { own, theirs: None }
    }

    /// Of a process elsewhere, with our own.
    pub fn of(theirs: Vec<Mount>, own: Vec<Mount>) -> Table {
        Table {
            own,
            theirs: Some(theirs),
        }
    }

    fn seen(&self) -> &[Mount] {
        self.theirs.as_ref().unwrap_or(&self.own)
    }

    /// The topmost mount at a place.
    pub fn at(&self, point: &[u8]) -> Option<&Mount> {
        self.seen().iter().rev().find(|mount| mount.point == point)
    }

    /// Whether the mount of that number is there, and local.
    pub fn is_local_id(&self, id: u64) -> bool {
        self.seen()
            .iter()
            .find(|mount| mount.id == id)
            .is_some_and(|mount| self.is_local(mount))
    }

    /// Whether a read there waits for a disk at most.
    ///
    /// An overlay reads from its layers. Of one in our own table root of the host has chosen them, and they are looked
    /// up in it. One that other namespaces alone have may be made by root of a user namespace, over FUSE, and what its
    /// options name may be something else by now: it is not local.
    pub fn is_local(&self, mount: &Mount) -> bool {
        /// As kernels stack file systems (`FILESYSTEM_MAX_STACK_DEPTH`), and the one below.
        const DEPTH: u32 = 3;
        self.is_local_within(mount, DEPTH)
    }

    fn is_local_within(&self, mount: &Mount, depth: u32) -> bool {
        // What we run from ourselves: nothing goes on where that stalls.
        let root = self.own.iter().rev().find(|ours| ours.point == b"/");
        if root.is_some_and(|root| root.dev == mount.dev) {
            return true;
        }
        if mount.fstype != OVERLAY {
            return LOCAL.contains(&mount.fstype.as_slice());
        }
        let Some(ours) = self.own.iter().find(|ours| ours.dev == mount.dev) else {
            return false;
        };
        let options = Options::parse(&ours.options);
        let base = options.base(&ours.point);
        depth > 0
            && options.layers().all(|layer| {
                let path = absolute(&layer.path, base.as_deref());
                let below = path.and_then(|path| self.above(&path));
                below.is_some_and(|below| self.is_local_within(below, depth - 1))
            })
    }

    /// Our own mount that a path lies in.
    fn above(&self, path: &[u8]) -> Option<&Mount> {
        let holding = self.own.iter().filter(|ours| holds(&ours.point, path));
        holding.max_by_key(|ours| ours.point.len())
    }
}

/// Our own mounts as they are: the table is read again when it has changed.
#[derive(Debug, Default)]
pub struct Own(RefCell<(Option<File>, Table)>);

impl Own {
    /// Whether a read of what a descriptor stands for waits for a disk at most. The file system itself is not asked, as
    /// `fstat` and `fstatfs` do: that alone can wait for its daemon.
    pub fn is_local(&self, fd: &impl AsFd) -> bool {
        let Some(seen) = seen(fd) else { return false };
        // On a block device; where a daemon serves one (`fuseblk`), root has started it.
        if seen.stx_dev_major != 0 {
            return true;
        }
        let mut own = self.0.borrow_mut();
        let (file, table) = &mut *own;
        if file.as_ref().is_none_or(has_changed) {
            if file.is_none() {
                *file = File::open("/proc/self/mountinfo").ok();
            }
            *table = Table::own(mounts_of("self"));
        }
        table.is_local_id(seen.stx_mnt_id) || is_of_root(&seen)
    }
}

/// Whether that lies on the file system that we run from, which a table that is seen from below its mount does not list.
fn is_of_root(seen: &Statx) -> bool {
    let root = statx(CWD, "/", AtFlags::STATX_DONT_SYNC, StatxFlags::INO);
    root.is_ok_and(|root| (root.stx_dev_major, root.stx_dev_minor) == (seen.stx_dev_major, seen.stx_dev_minor))
}

/// Whether a mount table that is open is another than when this was asked last.
pub fn has_changed(table: &File) -> bool {
    let mut polled = [PollFd::new(table, PollFlags::PRI)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // mounts_poll of fs/proc_namespace.c: POLLERR and POLLPRI once for each change.
    !matches!(poll(&mut polled, Some(&now)), Ok(0))
}

/// Inode, device and mount of what a descriptor stands for, of which no file system is asked: 0 where it has not said.
pub fn seen(fd: &impl AsFd) -> Option<Statx> {
    let at = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(fd, "", at, StatxFlags::INO | StatxFlags::MNT_ID).ok()
}

/// Whether a path lies at or below a place.
fn holds(point: &[u8], path: &[u8]) -> bool {
    let rest = path.strip_prefix(point.strip_suffix(b"/").unwrap_or(point));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Reads a line: `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let (major, minor) = std::str::from_utf8(fields.nth(1)?).ok()?.split_once(':')?;
    let dev = major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()? & 0xf_ffff;
    let point = unescape(fields.nth(1)?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let fstype = fields.next()?.to_vec();
    let options = unescape(fields.nth(1)?);
    Some(Mount {
        id,
        dev,
        point,
        fstype,
        options,
    })
}

/// Undoes the kernel's `\040` (`mangle_path`).
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .filter(|digits| digits.iter().all(|digit| matches!(digit, b'0'..=b'7')));
        match digits {
            Some(digits) if byte == b'\\' => {
                out.push(
                    digits
                        .iter()
                        .fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a line with optional fields and escapes is read, and garbage is not.
    #[test]
    fn lines() {
        let line = b"36 35 0:39 / /a\\040b rw shared:1 master:2 - overlay overlay rw,lowerdir=/x\\134:y";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.dev), (36, 39));
        assert_eq!((&mount.point[..], &mount.fstype[..]), (&b"/a b"[..], &b"overlay"[..]));
        assert_eq!(&mount.options[..], b"rw,lowerdir=/x\\:y");
        assert_eq!(parse(b"36 35 98:0 /mnt1 /mnt2 rw"), None);
        assert_eq!(parse(b""), None);
    }

    const HOST: &str = "\
        20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        21 20 0:30 / /home/u/fuse rw - fuse.sshfs u@h: rw\n\
        22 20 0:31 / /mnt/share rw - nfs4 h:/ rw\n\
        23 20 8:2 / /data rw - xfs /dev/sda2 rw\n\
        24 20 0:32 / /auto rw - autofs systemd-1 rw\n\
        25 24 8:3 / /auto rw - ext4 /dev/sda3 rw\n\
        26 23 0:40 / /data/overlay/a/merged rw - overlay overlay rw,lowerdir=l/X:l/Y,upperdir=/data/overlay/a/diff\n\
        27 23 0:41 / /data/overlay/b/merged rw - overlay overlay rw,lowerdir=/data/l:/home/u/fuse/l\n\
        28 23 0:42 / /data/overlay/c/merged rw - overlay overlay rw,lowerdir=/data/overlay/a/merged\n\
        29 23 0:43 / /d rw - overlay overlay rw,lowerdir=/d/itself\n\
        30 20 0:44 / /vm rw - virtiofs tag rw\n\
        31 20 0:45 / /odd rw - hitherto_unknown x rw\n";

    fn table(text: &str) -> Vec<Mount> {
        read(text.as_bytes())
    }

    /// Make sure that only mounts that wait for a disk at most are local, an overlay if its layers are, and the topmost of
    /// a place counts.
    #[test]
    fn local_mounts() {
        let host = Table::own(table(HOST));
        let is_local = |point: &str| host.at(point.as_bytes()).map(|mount| host.is_local(mount));
        for point in [
            "/",
            "/data",
            "/auto",
            "/data/overlay/a/merged",
            "/data/overlay/c/merged",
        ] {
            assert_eq!(is_local(point), Some(true), "{point}");
        }
        for point in [
            "/home/u/fuse",
            "/mnt/share",
            "/data/overlay/b/merged",
            "/d",
            "/vm",
            "/odd",
        ] {
            assert_eq!(is_local(point), Some(false), "{point}");
        }
        assert_eq!(is_local("/home/u"), None);
        assert!(host.is_local_id(23) && !host.is_local_id(21) && !host.is_local_id(99));
        // What we run from.
        let root = Table::own(table(
            "1 0 0:9 / / rw - virtiofs root rw\n2 1 0:10 / /m rw - virtiofs other rw\n",
        ));
        assert!(root.is_local_id(1) && !root.is_local_id(2));
    }

    /// Make sure that an overlay of another namespace is local only where it is one of ours.
    #[test]
    fn mounts_elsewhere() {
        let theirs = "\
            50 40 0:40 / / rw - overlay overlay rw,lowerdir=/x\n\
            51 50 0:77 / /mine rw - overlay overlay rw,lowerdir=/fuse\n\
            52 50 8:2 /v /volume rw - xfs /dev/sda2 rw\n\
            53 50 0:78 / /fuse rw - fuse.x x rw\n\
            54 50 0:41 / /slow rw - overlay overlay rw,lowerdir=/data\n";
        let table = Table::of(table(theirs), table(HOST));
        let local: Vec<u64> = (50..55).filter(|id| table.is_local_id(*id)).collect();
        assert_eq!(local, [50, 52]);
    }

    /// Make sure that this process has a root mount.
    #[test]
    fn own_mounts() {
        assert!(mounts_of("self").iter().any(|mount| mount.point == b"/"));
        assert!(mounts_of("0").is_empty());
    }
}
