//! Copy-ups on a bare overlay, in a mount namespace of its own.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use phasegraph::model::Session;
use phasegraph::model::disk::CopyUp;

use crate::run::machine::emulated;
use crate::run::needs_root;
use crate::workload::{PAGE, Stamps, c, cold, now, stamp};
use crate::{folder, profile};

/// What is copied up: name, size and by what.
const COPIES: &[(&str, u64, By)] = &[
    ("byte.write", 1, By::Write),
    ("byte.chown", 1, By::Chown),
    ("byte.rename", 1, By::Rename),
    ("page.truncate", 4096, By::Truncate),
    ("page.link", 4096, By::Link),
    ("page.write", 4096, By::Write),
    ("large.write", 64 << 20, By::Write),
    ("large.chown", 64 << 20, By::Chown),
    ("some.truncate", 3_000_001, By::Truncate),
    ("some.rename", 3_000_001, By::Rename),
    ("some.link", 3_000_001, By::Link),
    ("empty.chown", 0, By::Chown),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Write,
    Chown,
    Truncate,
    Rename,
    Link,
}

impl By {
    fn copy(self, path: &Path) {
        match self {
            By::Write => drop(OpenOptions::new().append(true).open(path).unwrap()),
            By::Chown => chown(path, Some(1), Some(1)).unwrap(),
            // To the size that it has: no more than a copy is to be done.
            By::Truncate => truncate(path, fs::metadata(path).unwrap().len()),
            By::Rename => fs::rename(path, path.with_extension("renamed")).unwrap(),
            By::Link => fs::hard_link(path, path.with_extension("linked")).unwrap(),
        }
    }

    /// Number of the system call that the standard library, or the test, makes.
    fn calls(self) -> &'static [i64] {
        match self {
            By::Write => &[libc::SYS_openat],
            By::Chown => &[libc::SYS_chown],
            By::Truncate => &[libc::SYS_truncate],
            By::Rename => &[libc::SYS_rename, libc::SYS_renameat2, libc::SYS_renameat],
            By::Link => &[libc::SYS_linkat, libc::SYS_link],
        }
    }
}

fn truncate(path: &Path, size: u64) {
    // SAFETY: a string that ends with NUL.
    assert_eq!(unsafe { libc::truncate(c(path).as_ptr(), size as i64) }, 0);
}

fn mount(kind: &str, target: &Path, flags: libc::c_ulong, options: &str) {
    let (kind, options) = (c(Path::new(kind)), c(Path::new(options)));
    // SAFETY: strings that end with NUL.
    let failed = unsafe {
        libc::mount(
            kind.as_ptr(),
            c(target).as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
}

/// Mounts an overlay in a mount namespace of this process's own.
pub(crate) fn overlay(folder: &Path) -> PathBuf {
    // SAFETY: no memory is passed.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    // Mounts of the host stay as they are.
    mount("none", Path::new("/"), libc::MS_REC | libc::MS_PRIVATE, "");
    for name in ["upper", "work", "merged"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    let at = |name: &str| folder.join(name).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("lower"),
        at("upper"),
        at("work")
    );
    mount("overlay", &folder.join("merged"), 0, &options);
    folder.join("merged")
}

/// Makes what is copied up, in no page cache.
fn prepare(folder: &Path) {
    fs::create_dir_all(folder.join("lower/kept")).unwrap();
    for (name, size, _) in COPIES {
        cold(&folder.join("lower").join(name), *size);
    }
    for name in ["kept/file", "deleted", "read", "warm", "cut"] {
        cold(&folder.join("lower").join(name), 5_000);
    }
    std::os::unix::fs::symlink("nowhere", folder.join("lower/symlink")).unwrap();
}

/// One copy-up after the other, each with a stopwatch.
fn by_every_way() {
    let folder = std::env::current_dir().unwrap();
    for (name, _, _) in COPIES {
        let lower = fs::metadata(folder.join("lower").join(name)).unwrap();
        stamp(&format!("inode {name}"), lower.ino());
    }
    stamp("inode read", fs::metadata(folder.join("lower/read")).unwrap().ino());
    stamp("inode warm", fs::metadata(folder.join("lower/warm")).unwrap().ino());
    let merged = overlay(&folder);
    // Its name is looked up before the stopwatch starts.
    let copy = |name: &str, path: &Path, by: &dyn Fn(&Path)| {
        fs::symlink_metadata(path).unwrap();
        let begin = now();
        by(path);
        let end = now();
        stamp(&format!("begin {name}"), begin);
        stamp(&format!("end {name}"), end);
    };
    for (name, _, by) in COPIES {
        copy(name, &merged.join(name), &|path| by.copy(path));
    }
    // No copy-ups: a delete makes a whiteout, a file of the upper layer is there, reading copies nothing.
    fs::remove_file(merged.join("deleted")).unwrap();
    let mut again = OpenOptions::new().append(true).open(merged.join("byte.write")).unwrap();
    again.write_all(b"more").unwrap();
    again.sync_all().unwrap();
    fs::read(merged.join("read")).unwrap();
    File::create(merged.join("new")).unwrap().write_all(b"new").unwrap();
    // Two: the folder before its file. And one without contents.
    copy("kept", &merged.join("kept/file"), &|path| By::Chown.copy(path));
    fs::read(merged.join("warm")).unwrap();
    copy("warm", &merged.join("warm"), &|path| By::Chown.copy(path));
    copy("cut", &merged.join("cut"), &|path| truncate(path, 1));
    copy("symlink", &merged.join("symlink"), &|path| {
        std::os::unix::fs::lchown(path, Some(1), Some(1)).unwrap();
    });
}

pub(crate) fn workload(what: &str) {
    assert_eq!(what, "copies");
    by_every_way();
}

/// Copy-ups that lie within the stopwatch's times.
fn within<'a>(session: &'a Session, stamps: &Stamps, name: &str) -> Vec<&'a CopyUp> {
    let (begin, end) = (
        stamps.number(&format!("begin {name}")),
        stamps.number(&format!("end {name}")),
    );
    let all = session.copy_ups.iter();
    all.filter(|copy| begin <= copy.span.from && copy.span.to <= end)
        .collect()
}

/// Make sure that each copy-up is told once, with its bytes to the page, its stall beside a stopwatch, what was copied, where
/// to and why; and that nothing else is taken for one.
#[test]
fn copy_ups() {
    needs_root!();
    // Functions of a module can be hooked once it is there; where it is built in, this fails.
    let _ = Command::new("modprobe").arg("overlay").output();
    for rung in rungs("signature") {
        let Some(folder) = folder() else { return };
        prepare(&folder.path(""));
        let (session, stamps) = profile(&folder, "copies", &format!("copy_ups={rung}"));
        check(&session, &stamps);
    }
}

/// The rungs that this kernel has: hooks on the overlay, and what is taken without them.
pub(crate) fn rungs(without: &'static str) -> Vec<&'static str> {
    let kprobes = Path::new("/sys/bus/event_source/devices/kprobe").exists();
    if kprobes {
        vec![without, "kprobe"]
    } else {
        vec![without]
    }
}

fn check(session: &Session, stamps: &Stamps) {
    // A module's types are told since 5.11: without them the overlay's own inode can't be read, which the recording says.
    let facts = &session.meta.facts;
    let unreadable = facts
        .iter()
        .find(|(_, said)| said.contains("which files of an overlay are opened"));
    let readable = unreadable.is_none();
    for (name, size, by) in COPIES {
        let found = within(session, stamps, name);
        let [copy] = found[..] else {
            panic!("{name}: {found:?} of {:#?}", session.copy_ups)
        };
        assert!(!copy.failed, "{copy:?}");
        assert!(by.calls().contains(&i64::from(copy.syscall)), "{name}: {copy:?}");
        assert_eq!(u64::from(copy.copied), size.div_ceil(PAGE), "{name}: {copy:?}");
        // Each was cold.
        assert_eq!(u64::from(copy.read), size.div_ceil(PAGE), "{name}: {copy:?}");
        if *size > 0 {
            let lower = copy.lower.unwrap_or_else(|| panic!("{name}: {copy:?}"));
            assert_eq!(session.files[lower.ix()].id.ino, stamps.inode(name), "{name}");
            assert!(
                session
                    .path_on_disk(lower)
                    .ends_with(format!("/lower/{name}").as_bytes())
            );
        }
        if copy.bracketed && !readable && *size == 0 {
            // Nothing but the overlay's inode tells what it is.
            continue;
        }
        let upper = copy.upper.unwrap_or_else(|| panic!("{name}: {copy:?}"));
        let path = String::from_utf8(session.path_on_disk(upper)).unwrap();
        let stem = name.split_once('.').unwrap().0;
        assert!(path.contains(&format!("/upper/{stem}.")), "{name}: {path}");
        let stall = copy.span.len();
        let watch = stamps.number(&format!("end {name}")) - stamps.number(&format!("begin {name}"));
        println!("{name}: stall {stall} ns of {watch}");
        // There a program's first way through the kernel takes tens of milliseconds.
        if emulated() {
            continue;
        }
        // 5 %; or what a system call does before and after it copies.
        assert!(
            watch - stall <= (watch / 20).max(300_000),
            "{name}: {stall} of {watch} ns"
        );
    }
    // What took the stack of a run is no part of it.
    let stacks = session.page_runs.iter().filter_map(|run| session.stacks.get(run.stack));
    for frames in stacks.map(|stack| &stack.frames) {
        let names: Vec<_> = frames.iter().map(|frame| session.stacks.name(*frame)).collect();
        let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
        let hook = names
            .iter()
            .find(|name| name.starts_with("bpf_") || name.starts_with("[k]"));
        assert_eq!(hook, None, "{names:?}");
    }
    let kept = within(session, stamps, "kept");
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!(
        kept.iter().map(|copy| copy.copied).collect::<Vec<_>>(),
        [0, 2],
        "{kept:?}"
    );
    let symlink = within(session, stamps, "symlink");
    assert_eq!(symlink.len(), 1, "{symlink:?}");
    let [warm] = within(session, stamps, "warm")[..] else {
        panic!("{:#?}", session.copy_ups)
    };
    assert_eq!((warm.read, warm.copied), (0, 2), "{warm:?}");
    // What was in the page cache leaves no trace but to the overlay's own function.
    let lower = warm.lower.map(|lower| session.files[lower.ix()].id.ino);
    let known = warm.bracketed && readable;
    assert_eq!(lower, known.then(|| stamps.inode("warm")), "{warm:?}");
    // All of it is copied before it is cut.
    let [cut] = within(session, stamps, "cut")[..] else {
        panic!("{:#?}", session.copy_ups)
    };
    assert_eq!((cut.copied, cut.size.div_ceil(PAGE)), (2, 2), "{cut:?}");
    assert_eq!(session.copy_ups.len(), COPIES.len() + 5, "{:#?}", session.copy_ups);
    // Opened once each, from the lower layer: what was read, and what was opened to be written.
    for name in ["read", "warm"] {
        let opened = session.overlaid.iter().filter(|file| {
            let lower = file.lower.map(|lower| session.files[lower.ix()].id.ino);
            lower == Some(stamps.inode(name)) && file.upper.is_none()
        });
        assert_eq!(
            opened.count(),
            usize::from(readable),
            "{name}: {unreadable:?} {:?}",
            session.overlaid
        );
    }
}
