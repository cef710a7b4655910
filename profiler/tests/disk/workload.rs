//! What is profiled: this program again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Names what this program does as a workload.
pub(crate) const WORKLOAD: &str = "PHASEGRAPH_DISK_WORKLOAD";
pub(crate) const PAGE: u64 = 4096;
/// `EXT4_SUPER_MAGIC`
pub(crate) const EXT4: u32 = 0xef53;

/// Make sure that a profiled process does what its test wants; as a test of its own it does nothing.
#[test]
fn workload() {
    let Ok(what) = std::env::var(WORKLOAD) else { return };
    println!();
    match what.as_str() {
        "ways" => ways(),
        "flush" => flush(),
        "dirty" => dirty(),
        "storm" => storm(),
        "calls" => super::calls::workload(),
        "charged" => super::charged::workload(),
        "deletes" => super::deletes::workload(),
        other => super::copies::workload(other),
    }
}

/// What a workload said: lines `stamp WORDS NUMBER`.
pub(crate) struct Stamps(BTreeMap<String, u64>);

impl Stamps {
    pub(crate) fn of(said: &str) -> Stamps {
        let lines = said.lines().filter_map(|line| line.strip_prefix("stamp "));
        Stamps(
            lines
                .filter_map(|line| line.rsplit_once(' '))
                .map(|(name, number)| (name.to_owned(), number.parse().unwrap()))
                .collect(),
        )
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.0))
    }

    pub(crate) fn inode(&self, name: &str) -> u64 {
        self.number(&format!("inode {name}"))
    }

    /// Of all files that it told of.
    pub(crate) fn inodes(&self) -> BTreeSet<u64> {
        let told = self.0.iter().filter(|(name, _)| name.starts_with("inode "));
        told.map(|(_, number)| *number).collect()
    }
}

pub(crate) fn stamp(name: &str, number: u64) {
    println!("stamp {name} {number}");
}

/// `CLOCK_MONOTONIC`, ns.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `time`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub(crate) fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

pub(crate) fn is_ext4(path: &Path) -> bool {
    // SAFETY: all zeros is a value of it.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: writes to `about`.
    unsafe { libc::statfs(c(path).as_ptr(), &mut about) == 0 && about.f_type as u32 == EXT4 }
}

/// Makes a file of that size whose contents can't be compressed to nothing, on the disk and in no page cache.
pub(crate) fn cold(path: &Path, size: u64) {
    let mut file = File::create(path).unwrap();
    let piece: Vec<u8> = (0..1 << 20)
        .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let mut left = size;
    while left > 0 {
        let part = left.min(piece.len() as u64) as usize;
        file.write_all(&piece[..part]).unwrap();
        left -= part as u64;
    }
    file.sync_all().unwrap();
    evict(&file);
}

pub(crate) fn evict(file: &File) {
    // SAFETY: no memory is passed.
    let failed = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(failed, 0);
}

/// How many of a file's pages are in memory, as the kernel says.
pub(crate) fn cached(path: &Path) -> u64 {
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len() as usize;
    let mut pages = vec![0u8; size.div_ceil(PAGE as usize)];
    // SAFETY: a mapping of its own, that is looked at by the kernel alone and goes again.
    unsafe {
        let memory = libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(memory, libc::MAP_FAILED);
        assert_eq!(libc::mincore(memory, size, pages.as_mut_ptr()), 0);
        libc::munmap(memory, size);
    }
    pages.iter().filter(|page| *page & 1 != 0).count() as u64
}

fn told(path: &Path, name: &str) {
    let about = fs::metadata(path).unwrap();
    stamp(&format!("size {name}"), about.len());
    stamp(&format!("inode {name}"), about.ino());
}

/// Files that are read cold: not whole pages, nor whole readahead windows.
pub(crate) const COLD: &[(&str, u64)] = &[
    ("read", 10_000_001),
    ("mapped", 3_000_000),
    ("sent", 5_000_001),
    ("copied", 4_100_000),
];

/// Size of the file that is read directly.
pub(crate) const DIRECT: u64 = 2 << 20;

/// Makes what [`ways`] reads.
pub(crate) fn prepare_ways(folder: &Path) {
    let folder = folder.join("files");
    fs::create_dir(&folder).unwrap();
    for (name, size) in COLD {
        cold(&folder.join(name), *size);
    }
    cold(&folder.join("direct"), DIRECT);
    cold(&folder.join("warm"), 1 << 20);
    fs::read(folder.join("warm")).unwrap();
}

/// Reads files cold in several ways, one warm, one directly, and writes.
fn ways() {
    let folder = std::env::current_dir().unwrap().join("files");
    stamp("inode folder", fs::metadata(&folder).unwrap().ino());
    let path = |name: &str| folder.join(name);
    let mut contents = Vec::new();
    for (name, _) in COLD {
        stamp(&format!("cached before {name}"), cached(&path(name)));
    }
    File::open(path("read")).unwrap().read_to_end(&mut contents).unwrap();
    // Again: nothing is cold.
    contents.clear();
    File::open(path("read")).unwrap().read_to_end(&mut contents).unwrap();
    map(&path("mapped"), 3_000_000);
    let from = File::open(path("sent")).unwrap();
    let to = File::create(path("sent.to")).unwrap();
    // SAFETY: no memory is passed but none.
    while unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), std::ptr::null_mut(), 1 << 20) } > 0 {}
    let from = File::open(path("copied")).unwrap();
    let to = File::create(path("copied.to")).unwrap();
    // SAFETY: as above.
    while unsafe {
        libc::copy_file_range(
            from.as_raw_fd(),
            std::ptr::null_mut(),
            to.as_raw_fd(),
            std::ptr::null_mut(),
            1 << 20,
            0,
        )
    } > 0
    {}
    direct(&path("direct"));
    File::create(path("written"))
        .unwrap()
        .write_all(&contents[..6_000_000])
        .unwrap();
    fs::read(path("warm")).unwrap();
    for (name, _) in COLD {
        stamp(&format!("cached after {name}"), cached(&path(name)));
    }
    for name in [
        "read",
        "mapped",
        "sent",
        "copied",
        "direct",
        "warm",
        "sent.to",
        "copied.to",
        "written",
    ] {
        told(&path(name), name);
    }
}

/// Touches every page of a file by a mapping.
fn map(path: &Path, size: usize) {
    let file = File::open(path).unwrap();
    // SAFETY: a mapping of its own, read within its length.
    unsafe {
        let memory = libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(memory, libc::MAP_FAILED);
        for at in (0..size).step_by(PAGE as usize) {
            std::ptr::read_volatile(memory.cast::<u8>().add(at));
        }
        libc::munmap(memory, size);
    }
}

/// Reads a file past the page cache.
pub(crate) fn direct(path: &Path) {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .unwrap();
    let mut memory = vec![0u8; (1 << 20) + PAGE as usize];
    let skip = memory.as_ptr().align_offset(PAGE as usize);
    let buffer = &mut memory[skip..skip + (1 << 20)];
    let mut at = 0;
    while let Ok(read @ 1..) = file.read_at(buffer, at) {
        at += read as u64;
    }
}

/// Lets a child make pages dirty, and then the file system flush them.
fn flush() {
    let own = std::env::current_exe().unwrap();
    let mut writer = Command::new(own)
        .args(["--exact", "workload::workload", "--nocapture", "--test-threads=1"])
        .env(WORKLOAD, "dirty")
        // What the harness says of the test would mix with the lines here.
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    stamp("pid writer", writer.id().into());
    assert!(writer.wait().unwrap().success());
    let folder = File::open(".").unwrap();
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::syncfs(folder.as_raw_fd()) }, 0);
    told(Path::new("dirtied"), "dirtied");
}

fn dirty() {
    File::create("dirtied")
        .unwrap()
        .write_all(&vec![7u8; 32 << 20])
        .unwrap();
}

/// Appends a little and syncs it, many times.
fn storm() {
    const LINE: u64 = 100;
    let mut file = File::create("log").unwrap();
    let mut dirtied = 0;
    for line in 0..200 {
        file.write_all(&[b'x'; LINE as usize]).unwrap();
        file.sync_all().unwrap();
        let (first, last) = (line * LINE / PAGE, (line * LINE + LINE - 1) / PAGE);
        dirtied += last - first + 1;
    }
    stamp("dirtied log", dirtied);
    told(Path::new("log"), "log");
}
