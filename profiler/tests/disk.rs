//! What is read and written of which file, copied up and flushed, beside what the kernel and a stopwatch say. Needs root.
//!
//! Each test profiles this program, which then is the workload: it does what the test names and tells what it saw.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

#[path = "disk/calls.rs"]
mod calls;
#[path = "disk/charged.rs"]
mod charged;
#[path = "disk/copies.rs"]
mod copies;
#[path = "disk/deletes.rs"]
mod deletes;
#[path = "disk/workload.rs"]
mod workload;

use std::ffi::OsStr;
use std::path::Path;

use phasegraph::model::build::Builder;
use phasegraph::model::disk::{File, PageRun, magic};
use phasegraph::model::{FileIx, Session};
use phasegraph::recording::reader::Reader;
use run::{Folder, needs_root, stderr};
use workload::{PAGE, Stamps, WORKLOAD};

/// Profiles a workload in a folder: what was recorded, and what the workload saw.
fn profile(folder: &Folder, what: &str, rungs: &str) -> (Session, Stamps) {
    profile_with(folder, what, rungs, &[])
}

/// The same, with more of an environment.
fn profile_with(folder: &Folder, what: &str, rungs: &str, more: &[(&str, &OsStr)]) -> (Session, Stamps) {
    let own = std::env::current_exe().unwrap();
    let words = [
        own.to_str().unwrap(),
        "--exact",
        "workload::workload",
        "--nocapture",
        "--test-threads=1",
    ];
    let output = folder
        .profile("disk.phg", words)
        .env(WORKLOAD, what)
        .env("PHASEGRAPH_RUNGS", rungs)
        .envs(more.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", stderr(&output));
    let session = session(&folder.path("disk.phg"));
    let lost: Vec<_> = session.losses.counters.iter().filter(|(id, _)| *id >= 47).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    (session, Stamps::of(&said))
}

fn session(file: &Path) -> Session {
    let mut reader = Reader::open(file).unwrap();
    let mut builder = Builder::new();
    builder.extend(reader.by_ref());
    let damage = reader.damage().to_vec();
    assert!(damage.is_empty(), "{damage:?}");
    builder.finish(damage)
}

/// The file of that inode number and name.
fn file(session: &Session, stamps: &Stamps, name: &str) -> Option<(FileIx, File)> {
    let number = stamps.inode(name);
    let (ix, file) = session
        .files
        .iter()
        .enumerate()
        .find(|(_, file)| file.id.ino == number && file.magic == workload::EXT4)?;
    Some((FileIx(ix as u32), file.clone()))
}

/// Pages read and written of a file.
fn pages(session: &Session, stamps: &Stamps, name: &str) -> (u64, u64) {
    let Some((ix, _)) = file(session, stamps, name) else {
        return (0, 0);
    };
    let runs = || session.page_runs.iter().filter(|run| run.file == ix);
    let sum = |of: fn(&PageRun) -> u32| runs().map(|run| u64::from(of(run))).sum();
    (sum(PageRun::read), sum(PageRun::written))
}

/// A folder whose pages are told, on ext4; `None`, with the reason, where there is none.
fn folder() -> Option<Folder> {
    let folder = Folder::new();
    if workload::is_ext4(&folder.path("")) {
        return Some(folder);
    }
    eprintln!("skipped: {} is not on ext4", folder.path("").display());
    None
}

/// Make sure that pages read and written are those of the file, to the page, by read, page fault, sendfile and
/// copy_file_range, and that nothing is told of what is in the page cache.
#[test]
fn pages_by_every_way() {
    needs_root!();
    let Some(folder) = folder() else { return };
    workload::prepare_ways(&folder.path(""));
    let (session, stamps) = profile(&folder, "ways", "");
    for name in ["read", "mapped", "sent", "copied"] {
        let size = stamps.number(&format!("size {name}"));
        // The workload asked the kernel which pages were in memory, before and after.
        assert_eq!(stamps.number(&format!("cached before {name}")), 0, "{name}");
        let cached = stamps.number(&format!("cached after {name}"));
        assert_eq!(cached, size.div_ceil(PAGE), "{name}");
        assert_eq!(pages(&session, &stamps, name), (cached, 0), "{name}");
        let (ix, file) = file(&session, &stamps, name).unwrap();
        assert!(file.told && file.size == size, "{file:?}");
        let path = session.path_on_disk(ix);
        assert!(path.ends_with(format!("/{name}").as_bytes()) && path.starts_with(b"/"));
        let folder_number = stamps.inode("folder");
        assert!(
            session
                .ancestors(ix)
                .any(|above| session.files[above.ix()].id.ino == folder_number)
        );
    }
    assert_eq!(pages(&session, &stamps, "warm"), (0, 0));
    assert_eq!(pages(&session, &stamps, "direct"), (0, 0));
    for name in ["sent.to", "copied.to", "written"] {
        let size = stamps.number(&format!("size {name}"));
        assert_eq!(pages(&session, &stamps, name), (0, size.div_ceil(PAGE)), "{name}");
    }
    // Direct reads are in no page: the kernel's account of the process has them, with all that was cold.
    let disk: u64 = session.io.iter().map(|io| io.bytes.disk_read).sum();
    let cold: u64 = ["read", "mapped", "sent", "copied"]
        .map(|name| stamps.number(&format!("size {name}")).next_multiple_of(PAGE))
        .iter()
        .sum();
    let direct = stamps.number("size direct");
    let (said, others) = (
        cold + direct,
        session.page_runs.iter().filter(|run| {
            session.files[run.file.ix()].magic == magic::BLOCK_DEVICE
                || !stamps.inodes().contains(&session.files[run.file.ix()].id.ino)
        }),
    );
    let others: u64 = others.map(|run| u64::from(run.read()) * PAGE).sum();
    assert!(
        disk >= said && disk <= said + others,
        "{disk} read, of {said} and {others}"
    );
}

/// Make sure that every request of the recorded process to the device is told, with its file and times in order.
#[test]
fn requests_to_the_device() {
    needs_root!();
    let Some(folder) = folder() else { return };
    workload::prepare_ways(&folder.path(""));
    let (session, stamps) = profile(&folder, "ways", "");
    let (ix, _) = file(&session, &stamps, "read").unwrap();
    let of_file: u64 = session
        .block
        .iter()
        .filter(|io| io.file == Some(ix) && io.op == 0)
        .map(|io| u64::from(io.bytes))
        .sum();
    // Devices are read in blocks of the file system, which are pages here; what is merged with a neighbour's is told with it.
    let size = stamps.number("size read").next_multiple_of(PAGE);
    assert!(of_file >= size / 2 && of_file <= size, "{of_file} of {size}");
    for io in &session.block {
        assert!(io.span.from <= io.issued && io.issued <= io.span.to, "{io:?}");
        assert_eq!(io.error, 0, "{io:?}");
    }
    let direct = stamps.number("size direct");
    let without: u64 = session
        .block
        .iter()
        .filter(|io| io.file.is_none() && io.op == 0)
        .map(|io| u64::from(io.bytes))
        .sum();
    assert!(without >= direct, "{without} of {direct}");
}

/// Make sure that write-back is told for the file whose pages it is, with all of them, also when another process makes it
/// happen, and that who made them dirty is known.
#[test]
fn dirtied_by_one_and_flushed_by_another() {
    needs_root!();
    let Some(folder) = folder() else { return };
    let (session, stamps) = profile(&folder, "flush", "");
    let (ix, _) = file(&session, &stamps, "dirtied").unwrap();
    let whole = stamps.number("size dirtied") / PAGE;
    let written: u64 = session
        .write_backs
        .iter()
        .filter(|write| write.file == ix)
        .map(|write| write.pages)
        .sum();
    assert_eq!(written, whole);
    let by: Vec<u64> = session
        .page_runs
        .iter()
        .filter(|run| run.file == ix && run.written() > 0)
        .map(|run| u64::from(session.threads[run.thread.unwrap().ix()].id.tgid))
        .collect();
    assert!(
        !by.is_empty() && by.iter().all(|pid| *pid == stamps.number("pid writer")),
        "{by:?}"
    );
    assert_eq!(pages(&session, &stamps, "dirtied"), (0, whole));
}

/// Make sure that pages that are made dirty again after each fsync are counted each time.
#[test]
fn fsync_storm() {
    needs_root!();
    let Some(folder) = folder() else { return };
    let (session, stamps) = profile(&folder, "storm", "");
    assert_eq!(pages(&session, &stamps, "log"), (0, stamps.number("dirtied log")));
}
