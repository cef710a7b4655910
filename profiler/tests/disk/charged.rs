//! Requests beside what the kernel's io controller charges to a cgroup.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::run::needs_root;
use crate::workload::{COLD, DIRECT, direct, prepare_ways};
use crate::{folder, profile_with};

/// A cgroup of the test's own.
struct Group(PathBuf);

impl Group {
    /// `None`, with the reason printed, where no cgroup's requests are counted: version 1 counts those of cgroups with a
    /// limit only.
    fn new() -> Option<Group> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut places = mounts
            .lines()
            .filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
                [_, place, "cgroup2", ..] => Some(PathBuf::from(place)),
                _ => None,
            });
        let has_io = |place: &PathBuf| {
            let on = fs::read_to_string(place.join("cgroup.subtree_control")).unwrap_or_default();
            on.split_whitespace().any(|controller| controller == "io")
        };
        let Some(place) = places.find(has_io) else {
            eprintln!("skipped: no version 2 hierarchy of cgroups has the io controller here");
            return None;
        };
        let group = Group(place.join(format!("phasegraph-disk-{}", std::process::id())));
        fs::create_dir(&group.0).unwrap();
        Some(group)
    }

    /// As recordings have it.
    fn id(&self) -> u64 {
        fs::metadata(&self.0).unwrap().ino()
    }

    /// Bytes read and written, of all devices.
    fn bytes(&self) -> (u64, u64) {
        let told = fs::read_to_string(self.0.join("io.stat")).unwrap();
        let sum = |name: &str| -> u64 {
            let values = told.split_whitespace().filter_map(|word| word.strip_prefix(name));
            values.map(|value| value.parse::<u64>().unwrap()).sum()
        };
        (sum("rbytes="), sum("wbytes="))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that ended an instant ago still keeps it busy.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{} is left", self.0.display());
    }
}

/// Names the cgroup that the workload goes into.
const GROUP: &str = "PHASEGRAPH_DISK_GROUP";

/// Reads cold, read directly, written with an fsync, and written for whoever flushes the file system.
pub(crate) fn workload() {
    let group = PathBuf::from(std::env::var_os(GROUP).unwrap());
    fs::write(group.join("cgroup.procs"), "0").unwrap();
    for (name, _) in COLD {
        fs::read(Path::new("files").join(name)).unwrap();
    }
    direct(Path::new("files/direct"));
    let mut synced = File::create("synced").unwrap();
    synced.write_all(&vec![3u8; SYNCED as usize]).unwrap();
    synced.sync_all().unwrap();
    let mut flushed = File::create("flushed").unwrap();
    flushed.write_all(&vec![5u8; FLUSHED as usize]).unwrap();
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::syncfs(flushed.as_raw_fd()) }, 0);
}

/// Bytes that the workload writes: synced by itself, and flushed with the file system, by the kernel's threads.
const SYNCED: u64 = 4 << 20;
const FLUSHED: u64 = 6 << 20;

/// Make sure that the requests which are told as charged to a cgroup are, to the byte, those which the kernel's io
/// controller counts for it, read and written, write-back by the kernel's own threads included.
#[test]
fn requests_and_the_kernels_account() {
    needs_root!();
    let Some(folder) = folder() else { return };
    let Some(group) = Group::new() else { return };
    prepare_ways(&folder.path(""));
    let (session, _) = profile_with(&folder, "charged", "", &[(GROUP, group.0.as_os_str())]);
    let id = group.id();
    let sum = |op: u32, kernel: Option<bool>| -> u64 {
        let charged = session.block.iter().filter(|io| {
            let by_kernel = io.flags & profiler_common::disk::block_flag::KERNEL != 0;
            io.cgroup == id && io.hierarchy == 0 && io.op == op && kernel.is_none_or(|kernel| kernel == by_kernel)
        });
        charged.map(|io| u64::from(io.bytes)).sum()
    };
    let told = (sum(0, None), sum(1, None));
    println!(
        "{:?} bytes read and written, {} of these by the kernel's threads",
        group.bytes(),
        sum(1, Some(true))
    );
    assert_eq!(told, group.bytes());
    // Not less than the workload asked for.
    let read: u64 = COLD.iter().map(|(_, size)| size).sum();
    assert!(told.0 >= read + DIRECT, "{told:?}");
    assert!(told.1 >= SYNCED + FLUSHED, "{told:?}");
    assert!(sum(1, Some(true)) >= FLUSHED, "{told:?}");
}
