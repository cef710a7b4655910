//! Files, their pages, and threads' totals.

use crate::model::FileIx;
use crate::model::disk::{IoBytes, PAGE_FAULT, PageRun};
use crate::model::fixture::{adopt, at, fork, last, leader, session, span, thread_ix};
use crate::recording::record::{self, Inode, InodeId, IoTotals, TaskId, WriteBack};

fn id(ino: u64) -> InodeId {
    InodeId {
        ino,
        dev: 8 << 20,
        generation: 1,
    }
}

fn inode(ts: u64, ino: u64, parent: Option<u64>, name: &str) -> Inode {
    Inode {
        at: at(leader(10, 1), ts),
        id: id(ino),
        parent: parent.map(id),
        name: name.as_bytes().to_vec(),
        size: 100,
        nlink: 1,
        mode: 0o100_644,
        magic: 0xef53,
        rdev: 0,
    }
}

fn totals(task: TaskId, ts: u64, read: u64) -> IoTotals {
    IoTotals {
        at: at(task, ts),
        rchar: read,
        wchar: 0,
        syscr: 0,
        syscw: 0,
        read_bytes: 0,
        write_bytes: 0,
        cancelled_write_bytes: 0,
    }
}

fn run(added: u32, dirtied: u32, syscall: i32) -> PageRun {
    PageRun {
        thread: None,
        span: span(0, 0),
        file: FileIx(0),
        added,
        dirtied,
        syscall,
        copy_up: false,
        stack: 0,
        cgroup: 0,
    }
}

/// Make sure that pages of what a call writes are not taken for read, and that those of a page fault are.
#[test]
fn read_or_written() {
    let both = |run: PageRun| (run.read(), run.written());
    assert_eq!(both(run(5, 0, 0)), (5, 0));
    assert_eq!(both(run(5, 4, 1)), (0, 4));
    assert_eq!(both(run(5, 2, PAGE_FAULT)), (5, 2));
    assert_eq!(both(run(0, 3, 1)), (0, 3));
}

/// Make sure that a file's path is made of what was told of it and the folders above, that the last name counts, that what
/// was not told is there without a name, and that folders in a circle have an end.
#[test]
fn paths() {
    let records = vec![
        inode(1, 2, None, "").into(),
        inode(1, 3, Some(2), "layer").into(),
        inode(1, 4, Some(3), "#1").into(),
        inode(2, 4, Some(3), "a\nb").into(),
        inode(1, 5, Some(6), "in a circle").into(),
        inode(1, 6, Some(5), "of folders").into(),
        inode(1, 7, Some(9), "below what was lost").into(),
        WriteBack {
            at: at(leader(10, 1), 5),
            from: 4,
            inode: id(8),
            pages: 1,
            cgroup: 0,
            sync: false,
            kernel: true,
        }
        .into(),
    ];
    let session = session(span(0, 10), records);
    let file = |ino: u64| FileIx(session.files.iter().position(|file| file.id.ino == ino).unwrap() as u32);
    assert_eq!(session.path_on_disk(file(4)), b"/layer/a\nb");
    assert_eq!(session.path_below(file(4), file(3)).unwrap(), b"a\nb");
    assert_eq!(session.path_below(file(3), file(4)), None);
    assert_eq!(session.path_on_disk(file(2)), b"/");
    assert!(!session.path_on_disk(file(5)).is_empty());
    assert_eq!(session.path_on_disk(file(7)), b"below what was lost");
    assert_eq!(session.write_backs[0].file, file(8));
    assert!(!session.files[file(8).ix()].told && session.files[file(7).ix()].told);
}

/// Make sure that a thread's totals become what it did between readings: from its birth on, and of one that was there before
/// from its first reading on.
#[test]
fn totals_become_intervals() {
    let (old, new) = (leader(10, 1), leader(20, 5));
    let records = vec![
        adopt(old, 2).into(),
        totals(old, 2, 1_000).into(),
        totals(old, 4, 1_500).into(),
        fork(old, new, 5).into(),
        totals(new, 7, 30).into(),
        // Out of order, as records may come.
        totals(old, 9, 1_700).into(),
        totals(old, 6, 1_600).into(),
        last(new, 5, 8).into(),
    ];
    let session = session(span(0, 10), records);
    let of = |task| {
        let ix = thread_ix(&session, task);
        let own = session.io.iter().filter(move |io| io.thread == ix);
        own.map(|io| (io.span.from, io.span.to, io.bytes.read))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(old), [(2, 4, 500), (4, 6, 100), (6, 9, 100)]);
    assert_eq!(of(new), [(5, 7, 30)]);
    assert!(session.io.iter().all(|io| io.bytes
        == IoBytes {
            read: io.bytes.read,
            ..IoBytes::default()
        }));
    let process = &session.processes[session.threads[thread_ix(&session, new).ix()].process.ix()];
    assert_eq!(process.io.unwrap().read, 30);
}

/// Make sure that numbers of a broken recording, the largest there are, do no harm.
#[test]
fn largest_numbers() {
    let broken = record::PageRun {
        at: at(leader(10, 1), 5),
        from: u64::MAX,
        to: 0,
        inode: id(u64::MAX),
        size: u64::MAX,
        added: u32::MAX,
        dirtied: u32::MAX,
        syscall: i32::MIN,
        flags: u16::MAX,
        stack: u32::MAX,
    };
    let session = session(span(0, 10), vec![broken.into()]);
    assert_eq!(session.page_runs.len(), 1);
    assert!(session.page_runs[0].span.is_empty());
}
