//! The file under its partial and its final name: whose it is, what it replaces, what errors leave.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::super::error::WriteError;
use super::super::record::{Clock, Lookup};
use super::super::writer::Writer;
use super::*;

fn clock(mono: u64) -> Record {
    Clock { mono, real: 1 }.into()
}

/// A record that does not compress.
fn noise(len: usize) -> Record {
    let mut state = 1u64;
    let path = (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    let build = super::super::record::TaskId {
        tgid: 1,
        tid: 1,
        start: 1,
    };
    Lookup::Dockerfile {
        build,
        path,
        instructions: Vec::new(),
    }
    .into()
}

fn read_file(path: &Path) -> (Vec<Record>, Vec<String>) {
    let mut reader = Reader::open(path).unwrap();
    let records = reader.by_ref().collect();
    (records, reader.damage().to_vec())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn refused(path: &Path, overwrite: bool) -> WriteError {
    Writer::create(path, overwrite).map(|_| ()).unwrap_err()
}

/// Make sure that a recording has its final name only when it is finished, and then nothing else is left.
#[test]
fn final_name_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    let mut writer = Writer::create(&path, false).unwrap();
    assert_eq!(writer.partial_path(), folder.path().join("app.phg.partial"));
    for sample in samples() {
        writer.write(&sample).unwrap();
    }
    assert_eq!(names(folder.path()), ["app.phg.partial"]);
    let summary = writer.finish().unwrap();
    assert_eq!(names(folder.path()), ["app.phg"]);
    assert_eq!(summary.path, path);
    assert_eq!((summary.blocks, summary.records), (1, samples().len() as u64));
    assert_eq!(summary.bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(read_file(&path), (samples(), Vec::new()));
}

/// Make sure that what was flushed is in the file while it is being written, and that a full block needs no flush.
#[test]
fn flushed_records_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    let mut writer = Writer::create(&path, false).unwrap();
    let header = writer.bytes_written();
    writer.write(&clock(1)).unwrap();
    assert_eq!(writer.bytes_written(), header);
    writer.flush().unwrap();
    assert!(writer.bytes_written() > header);
    assert_eq!(read_file(&writer.partial_path()), (vec![clock(1)], Vec::new()));
    let flushed = writer.bytes_written();
    writer.flush().unwrap();
    assert_eq!(writer.bytes_written(), flushed, "nothing to flush writes nothing");
    writer.write(&noise(600_000)).unwrap();
    assert!(writer.bytes_written() > flushed + 600_000);
    // As after a SIGKILL: neither finished nor dropped.
    let partial = writer.partial_path();
    std::mem::forget(writer);
    assert_eq!(read_file(&partial), (vec![clock(1), noise(600_000)], Vec::new()));
}

/// Make sure that a writer that is dropped keeps its records under the partial name, and one without records leaves
/// nothing.
#[test]
fn dropped_and_discarded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    drop(Writer::create(&path, false).unwrap());
    assert!(names(folder.path()).is_empty());
    let mut writer = Writer::create(&path, false).unwrap();
    writer.write(&clock(1)).unwrap();
    writer.discard();
    assert!(names(folder.path()).is_empty());
    let mut writer = Writer::create(&path, false).unwrap();
    writer.write(&clock(1)).unwrap();
    drop(writer);
    assert_eq!(names(folder.path()), ["app.phg.partial"]);
    assert_eq!(
        read_file(&folder.path().join("app.phg.partial")),
        (vec![clock(1)], Vec::new())
    );
}

/// Make sure that only the user can read a recording, whatever the umask.
#[test]
fn mode_is_0600() {
    for umask in [0, 0o777] {
        let mode = std::thread::spawn(move || {
            // SAFETY: takes no pointers. From here on this thread alone has its umask.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FS) }, 0);
            let folder = tempfile::tempdir().unwrap();
            // SAFETY: takes no pointers.
            unsafe { libc::umask(umask) };
            let path = folder.path().join("app.phg");
            let mut writer = Writer::create(&path, false).unwrap();
            let partial = fs::metadata(writer.partial_path()).unwrap().permissions().mode();
            writer.write(&clock(1)).unwrap();
            writer.finish().unwrap();
            (
                partial & 0o7777,
                fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            )
        })
        .join()
        .unwrap();
        assert_eq!(mode, (0o600, 0o600), "umask {umask:o}");
    }
}

/// Make sure that nothing that exists is touched unless that is asked for, and then only a plain file.
#[test]
fn existing_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    fs::write(&path, "mine").unwrap();
    assert!(matches!(refused(&path, false), WriteError::Exists { .. }));
    assert_eq!(names(folder.path()), ["app.phg"]);

    let mut writer = Writer::create(&path, true).unwrap();
    writer.write(&clock(1)).unwrap();
    writer.flush().unwrap();
    assert_eq!(
        fs::read(&path).unwrap(),
        b"mine",
        "the old one stays until the new one is whole"
    );
    writer.finish().unwrap();
    assert_eq!(read_file(&path).0, [clock(1)]);

    let link = folder.path().join("link.phg");
    symlink("app.phg", &link).unwrap();
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).unwrap();
    for special in [&link, &sub, Path::new("/dev/null")] {
        assert!(matches!(refused(special, false), WriteError::Exists { .. }));
        assert!(matches!(refused(special, true), WriteError::NotPlain { .. }));
    }
}

/// Make sure that a file that takes the name during the recording is not replaced, and the recording is kept.
#[test]
fn name_taken_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    let mut writer = Writer::create(&path, false).unwrap();
    writer.write(&clock(1)).unwrap();
    fs::write(&path, "theirs").unwrap();
    assert!(matches!(writer.finish(), Err(WriteError::Taken { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"theirs");
    assert_eq!(read_file(&folder.path().join("app.phg.partial")).0, [clock(1)]);
}

/// Make sure that a symbolic link under the partial name is not written through, and one that replaces the file
/// during the recording does not get the final name.
#[test]
fn symlink_under_the_partial_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    let partial = folder.path().join("app.phg.partial");
    let victim = folder.path().join("victim");
    for target in ["victim", "not-there"] {
        fs::write(&victim, "precious").unwrap();
        symlink(target, &partial).unwrap();
        assert!(matches!(refused(&path, true), WriteError::NotPlain { .. }));
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(!folder.path().join("not-there").exists());
        fs::remove_file(&partial).unwrap();
    }
    let mut writer = Writer::create(&path, false).unwrap();
    writer.write(&clock(1)).unwrap();
    fs::remove_file(&partial).unwrap();
    symlink("victim", &partial).unwrap();
    assert!(matches!(writer.finish(), Err(WriteError::Moved { .. })));
    assert!(!path.exists());
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

/// Make sure that another user's symbolic link in a folder that anyone may write to is not followed on the way to
/// the recording, and that other links are.
#[test]
fn symlink_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("real");
    let open = folder.path().join("open");
    fs::create_dir(&real).unwrap();
    fs::create_dir(&open).unwrap();
    symlink(&real, folder.path().join("own")).unwrap();
    symlink("../real", open.join("relative")).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    for way in ["own/a.phg", "open/relative/b.phg", "open/../own/./c.phg"] {
        let mut writer = Writer::create(&folder.path().join(way), false).unwrap();
        writer.write(&clock(1)).unwrap();
        writer.finish().unwrap();
    }
    assert_eq!(names(&real), ["a.phg", "b.phg", "c.phg"]);

    symlink("loop", folder.path().join("loop")).unwrap();
    assert!(matches!(
        refused(&folder.path().join("loop/a.phg"), false),
        WriteError::Io { .. }
    ));

    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make another user's link");
        return;
    }
    let stranger = open.join("stranger");
    symlink(&real, &stranger).unwrap();
    std::os::unix::fs::lchown(&stranger, Some(12_345), None).unwrap();
    let error = refused(&stranger.join("d.phg"), false);
    assert!(
        matches!(&error, WriteError::Symlink { link, .. } if *link == stranger),
        "{error}"
    );
    assert_eq!(names(&real), ["a.phg", "b.phg", "c.phg"]);
}

/// Make sure that two writers of one name never meet: the second is told at once, and writes after the first is done.
#[test]
fn two_writers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    let mut first = Writer::create(&path, false).unwrap();
    first.write(&clock(1)).unwrap();
    first.flush().unwrap();
    for overwrite in [false, true] {
        assert!(matches!(refused(&path, overwrite), WriteError::Busy { .. }));
    }
    first.write(&clock(2)).unwrap();
    first.finish().unwrap();
    assert_eq!(read_file(&path).0, [clock(1), clock(2)]);
    assert_eq!(names(folder.path()), ["app.phg"]);
    Writer::create(&path, true).unwrap();
}

/// Make sure that of many writers that begin at once exactly one gets the name.
#[test]
fn many_writers_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    let start = std::sync::Barrier::new(8);
    let writers: Vec<Option<Writer>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    Writer::create(&path, false).ok()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut winners: Vec<Writer> = writers.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(names(folder.path()), ["app.phg.partial"]);
    let mut winner = winners.pop().unwrap();
    winner.write(&clock(1)).unwrap();
    winner.finish().unwrap();
    assert_eq!(read_file(&path).0, [clock(1)]);
}

/// Make sure that what killed runs left is kept beside the new recording and told; an empty leftover is not worth it.
#[test]
fn leftovers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    for round in 0..3 {
        let mut writer = Writer::create(&path, false).unwrap();
        match round {
            0 => assert!(writer.notes().is_empty()),
            _ => {
                assert_eq!(writer.notes().len(), 1);
                assert!(
                    writer.notes()[0].ends_with(&format!("app.phg.partial.{round}")),
                    "{:?}",
                    writer.notes()
                );
            }
        }
        writer.write(&clock(round)).unwrap();
        drop(writer);
    }
    assert_eq!(
        names(folder.path()),
        ["app.phg.partial", "app.phg.partial.1", "app.phg.partial.2"]
    );
    for round in 1..3 {
        let aside = folder.path().join(format!("app.phg.partial.{round}"));
        assert_eq!(read_file(&aside).0, [clock(round - 1)]);
    }
    fs::write(folder.path().join("app.phg.partial"), "").unwrap();
    let writer = Writer::create(&path, false).unwrap();
    assert!(writer.notes().is_empty());
    assert_eq!(names(folder.path()).len(), 3);
}

/// Make sure that names and folders that can't hold a recording are refused with the next step.
#[test]
fn unusable_paths() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(refused(Path::new("-"), false), WriteError::StandardOutput));
    for no_name in ["", "/", "..", "a/.."] {
        assert!(
            matches!(refused(Path::new(no_name), false), WriteError::NoName { .. }),
            "{no_name}"
        );
    }
    assert!(matches!(
        refused(&folder.path().join("x/"), false),
        WriteError::NoName { .. }
    ));
    let told = refused(&folder.path().join("nowhere/app.phg"), false).to_string();
    assert!(told.contains("make the folder first"), "{told}");
    let told = refused(&file.join("app.phg"), false).to_string();
    assert!(told.contains("not a folder"), "{told}");
    let told = refused(&folder.path().join("x".repeat(250)), false).to_string();
    assert!(told.contains("too long"), "{told}");
    assert_eq!(names(folder.path()), ["file"]);
}

/// Make sure that a record that is too large is refused alone.
#[test]
fn too_large_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    let mut writer = Writer::create(&path, false).unwrap();
    writer.write(&clock(1)).unwrap();
    let error = writer.write(&noise(2 << 20)).unwrap_err();
    assert!(matches!(error, WriteError::TooLarge { kind: 40, .. }) && error.is_of_one_record());
    writer.write(&clock(2)).unwrap();
    assert_eq!(writer.finish().unwrap().records, 2);
    assert_eq!(read_file(&path), (vec![clock(1), clock(2)], Vec::new()));
}

/// Make sure that a full disk is told with path and next step, that it stays told, and that nothing gets the name.
#[test]
fn full_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.phg");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let Err(error) = Writer::onto(full, &path) else {
        panic!("/dev/full takes bytes");
    };
    let told = error.to_string();
    assert!(told.contains("app.phg.partial") && told.contains("make room"), "{told}");
    assert!(names(folder.path()).is_empty());
}

/// Make sure that a disk that gets full in the middle leaves a recording that is whole up to there.
#[test]
fn full_disk() {
    let done = std::thread::spawn(|| {
        // SAFETY: takes no pointers. From here on this thread alone has its mounts.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            eprintln!(
                "skipped: no right to mount a small file system ({})",
                std::io::Error::last_os_error()
            );
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let target = std::ffi::CString::new(folder.path().to_str().unwrap()).unwrap();
        let none = std::ptr::null();
        // SAFETY: NUL-terminated strings that outlive the calls; null is allowed where nothing is named.
        unsafe {
            assert_eq!(
                libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()),
                0
            );
            let options = c"size=256k".as_ptr().cast();
            assert_eq!(
                libc::mount(c"tmpfs".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, options),
                0
            );
        }
        let path = folder.path().join("app.phg");
        let mut writer = Writer::create(&path, false).unwrap();
        let mut written = 0;
        let error = loop {
            writer.write(&noise(60_000)).unwrap();
            match writer.flush() {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(written, 4);
        let whole = writer.bytes_written();
        let told = error.to_string();
        assert!(told.contains("app.phg.partial") && told.contains("make room") && told.contains(&whole.to_string()));
        let partial = writer.partial_path();
        assert_eq!(
            fs::metadata(&partial).unwrap().size(),
            whole,
            "the torn block is cut off"
        );
        writer.write(&clock(1)).unwrap();
        assert!(matches!(writer.flush(), Err(WriteError::StoppedBefore { .. })));
        assert!(matches!(writer.finish(), Err(WriteError::StoppedBefore { .. })));
        assert_eq!(names(folder.path()), ["app.phg.partial"]);
        assert_eq!(read_file(&partial), (vec![noise(60_000); 4], Vec::new()));
        // SAFETY: as above.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    });
    done.join().unwrap();
}

/// Make sure that what can't be opened is told apart.
#[test]
fn unreadable_paths() {
    use super::super::error::ReadError;
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(folder.path()), Err(ReadError::Directory { .. })));
    let missing = Reader::open(&folder.path().join("x.phg")).map(|_| ()).unwrap_err();
    assert!(matches!(&missing, ReadError::Open { .. }), "{missing}");
    assert!(missing.to_string().contains("x.phg"));
}
