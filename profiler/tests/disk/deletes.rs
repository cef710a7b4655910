//! Deletes on a bare overlay, beside the whiteouts that are in its upper layer afterwards.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use crate::copies::{overlay, rungs};
use crate::run::needs_root;
use crate::workload::stamp;
use crate::{folder, profile};

/// Files in the folder of the lower layer that is deleted as a whole.
const MANY: usize = 30;

/// Makes the lower layer.
fn prepare(folder: &Path) {
    let lower = folder.join("lower");
    fs::create_dir_all(lower.join("full")).unwrap();
    fs::create_dir_all(lower.join("many")).unwrap();
    for name in ["plain", "copied", "renamed", "again", "folder", "full/file"] {
        fs::write(lower.join(name), name).unwrap();
    }
    for number in 0..MANY {
        fs::write(lower.join(format!("many/{number}")), b"x").unwrap();
    }
}

/// Whiteouts below a folder: character devices 0:0.
fn whiteouts(folder: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let met = fs::symlink_metadata(&path).unwrap();
        if met.is_dir() {
            sum += whiteouts(&path);
        } else {
            sum += u64::from(met.file_type().is_char_device() && met.rdev() == 0);
        }
    }
    sum
}

/// Deletes what the lower layer has, and does much that looks like it.
pub(crate) fn workload() {
    let folder = std::env::current_dir().unwrap();
    let merged = overlay(&folder);
    let there = || whiteouts(&folder.join("upper"));
    let made = std::cell::Cell::new(0);
    // What is done, and how many whiteouts it is to leave more than there were.
    let delete = |what: &str, more: u64, by: &dyn Fn()| {
        let before = there();
        by();
        assert_eq!(there(), before + more, "{what}");
        made.set(made.get() + more);
    };
    delete("a file", 1, &|| fs::remove_file(merged.join("plain")).unwrap());
    fs::OpenOptions::new().append(true).open(merged.join("copied")).unwrap();
    delete("a file that was copied up", 1, &|| {
        fs::remove_file(merged.join("copied")).unwrap()
    });
    delete("files", MANY as u64, &|| {
        for number in 0..MANY {
            fs::remove_file(merged.join(format!("many/{number}"))).unwrap();
        }
    });
    // The folder's whiteout takes the place of those within it.
    let before = there();
    fs::remove_dir(merged.join("many")).unwrap();
    assert_eq!(there(), before - MANY as u64 + 1);
    made.set(made.get() + 1);
    delete("what comes back", 2, &|| {
        for name in ["again", "folder"] {
            fs::remove_file(merged.join(name)).unwrap();
        }
    });
    // None of these deletes what a lower layer has.
    fs::write(merged.join("again"), b"back").unwrap();
    fs::create_dir(merged.join("folder")).unwrap();
    File::create(merged.join("new")).unwrap();
    fs::remove_file(merged.join("new")).unwrap();
    fs::create_dir(merged.join("new")).unwrap();
    fs::remove_dir(merged.join("new")).unwrap();
    fs::remove_dir(merged.join("full")).unwrap_err();
    fs::remove_file(merged.join("nothing")).unwrap_err();
    fs::rename(merged.join("renamed"), merged.join("elsewhere")).unwrap();
    // A whiteout of nobody's.
    let device = folder.join("device");
    let status = Command::new("mknod")
        .arg(&device)
        .args(["c", "0", "0"])
        .status()
        .unwrap();
    assert!(status.success());
    fs::rename(&device, folder.join("moved")).unwrap();
    fs::remove_file(folder.join("moved")).unwrap();
    stamp("made", made.get());
}

/// Make sure that each delete of what a lower layer has is told, and nothing else is, on each rung.
#[test]
fn whiteouts_are_told() {
    needs_root!();
    let _ = Command::new("modprobe").arg("overlay").output();
    for rung in rungs("rename") {
        let Some(folder) = folder() else { return };
        prepare(&folder.path(""));
        let (session, stamps) = profile(&folder, "deletes", &format!("whiteouts={rung}"));
        assert_eq!(
            session.whiteouts.len() as u64,
            stamps.number("made"),
            "{rung}: {:#?}",
            session.whiteouts
        );
        let deletes = [libc::SYS_unlink, libc::SYS_unlinkat, libc::SYS_rmdir];
        for told in &session.whiteouts {
            assert!(deletes.contains(&i64::from(told.syscall)), "{rung}: {told:?}");
            assert!(told.thread.is_some(), "{rung}: {told:?}");
        }
    }
}
