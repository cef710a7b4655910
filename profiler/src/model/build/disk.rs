//! From records of disk events to the session's files and what happened to them.

use super::LONGEST;
use std::collections::HashMap;

use profiler_common::disk::{copy_flag, run_flag};

use crate::model::disk::{
    BlockIo, CallSum, CopyUp, File, FileCalls, IoBytes, IoInterval, Overlaid, PageRun, Whiteout, WriteBack,
};
use crate::model::{FileIx, Session, Span, ThreadIx};
use crate::recording::record::{self, At, Inode, InodeId, IoTotals, TaskId};

/// As they come.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) inodes: Vec<Inode>,
    pub(super) runs: Vec<record::PageRun>,
    pub(super) totals: Vec<IoTotals>,
    pub(super) block: Vec<record::BlockIo>,
    pub(super) write_backs: Vec<record::WriteBack>,
    pub(super) copy_ups: Vec<record::CopyUp>,
    pub(super) calls: Vec<record::FileCalls>,
    pub(super) whiteouts: Vec<record::Whiteout>,
    pub(super) overlaid: Vec<record::Overlaid>,
}

/// Files by their names for good.
#[derive(Default)]
struct Files {
    all: Vec<File>,
    by_id: HashMap<InodeId, FileIx>,
}

impl Files {
    /// The file of that name, known or not.
    fn of(&mut self, id: InodeId) -> FileIx {
        let all = &mut self.all;
        *self.by_id.entry(id).or_insert_with(|| {
            all.push(File {
                id,
                parent: None,
                name: Vec::new(),
                size: 0,
                nlink: 0,
                mode: 0,
                magic: 0,
                rdev: 0,
                told: false,
            });
            FileIx((all.len() - 1) as u32)
        })
    }

    fn told(&mut self, inode: Inode) {
        let parent = inode.parent.map(|parent| self.of(parent));
        let ix = self.of(inode.id);
        let file = &mut self.all[ix.ix()];
        // What is copied up has a temporary name first: the last one counts.
        *file = File {
            id: inode.id,
            parent: parent.filter(|parent| *parent != ix),
            name: inode.name,
            size: inode.size.max(file.size),
            nlink: inode.nlink,
            mode: inode.mode,
            magic: inode.magic,
            rdev: inode.rdev,
            told: true,
        };
    }

    fn seen_size(&mut self, ix: FileIx, size: u64) {
        let file = &mut self.all[ix.ix()];
        file.size = file.size.max(size);
    }
}

/// Threads by identity.
struct Threads {
    threads: HashMap<TaskId, ThreadIx>,
    /// The first thread of each process: an exec can have changed the number of the one that is meant.
    leaders: HashMap<(u32, u64), ThreadIx>,
}

impl Threads {
    fn new(session: &Session) -> Threads {
        let threads = session.threads.iter().enumerate();
        let leaders = session.processes.iter().filter_map(|process| {
            let leader = *process.threads.first()?;
            Some(((process.tgid, process.start), leader))
        });
        Threads {
            threads: threads.map(|(ix, thread)| (thread.id, ThreadIx(ix as u32))).collect(),
            leaders: leaders.collect(),
        }
    }

    fn of(&self, at: &At) -> Option<ThreadIx> {
        let task = at.task;
        self.threads
            .get(&task)
            .or_else(|| self.leaders.get(&(task.tgid, task.start)))
            .copied()
    }
}

/// Fills the session's files and what happened to them. After its threads are there.
pub(super) fn assemble(session: &mut Session, told: Told) {
    let Told {
        mut inodes,
        runs,
        totals,
        block,
        write_backs,
        copy_ups,
        calls,
        whiteouts,
        overlaid,
    } = told;
    let mut files = Files::default();
    inodes.sort_by_key(|inode| inode.at.ts);
    for inode in inodes {
        files.told(inode);
    }
    let threads = Threads::new(session);
    for run in runs {
        let file = files.of(run.inode);
        files.seen_size(file, run.size);
        session.page_runs.push(PageRun {
            thread: threads.of(&run.at),
            span: span(run.from, run.to),
            file,
            added: run.added,
            dirtied: run.dirtied,
            syscall: run.syscall,
            copy_up: run.flags & run_flag::COPY_UP != 0,
            stack: run.stack,
            cgroup: run.at.cgroup,
        });
    }
    session.page_runs.sort_by_key(|run| (run.span.from, run.span.to));

    for io in block {
        let begin = if io.queued == 0 { io.issued } else { io.queued };
        session.block.push(BlockIo {
            span: span(begin, io.at.ts),
            issued: io.issued,
            thread: threads.of(&io.at),
            task: io.at.task,
            file: io.inode.map(|inode| files.of(inode)),
            cgroup: io.cgroup,
            hierarchy: io.hierarchy,
            dev: io.dev,
            op: io.op,
            flags: io.flags,
            bytes: io.bytes,
            error: io.error,
        });
    }
    session.block.sort_by_key(|io| (io.span.from, io.span.to));

    for write in write_backs {
        session.write_backs.push(WriteBack {
            span: span(write.from, write.at.ts),
            file: files.of(write.inode),
            pages: write.pages,
            thread: threads.of(&write.at),
            cgroup: write.cgroup,
            sync: write.sync,
            kernel: write.kernel,
        });
    }
    session
        .write_backs
        .sort_by_key(|write| (write.span.from, write.span.to));

    let page = session.page();
    for copy in copy_ups {
        let mut of = |id: Option<InodeId>| id.map(|id| files.of(id));
        // What a truncate has made smaller meanwhile had at least so much.
        let least = u64::from(copy.copied.saturating_sub(1)).saturating_mul(page);
        session.copy_ups.push(CopyUp {
            thread: threads.of(&copy.at),
            span: span(copy.from, copy.at.ts),
            lower: of(copy.lower),
            upper: of(copy.upper),
            overlay: of(copy.overlay),
            size: copy.size.max(least),
            read: copy.read,
            copied: copy.copied,
            mode: copy.mode,
            syscall: copy.syscall,
            bracketed: copy.flags & copy_flag::BRACKETED != 0,
            failed: copy.flags & copy_flag::FAILED != 0,
            cgroup: copy.at.cgroup,
        });
    }
    session.copy_ups.sort_by_key(|copy| (copy.span.from, copy.span.to));

    for told in calls {
        let sum = |sum: record::CallSum| CallSum {
            calls: sum.calls.into(),
            bytes: sum.bytes,
            ns: sum.ns,
        };
        session.file_calls.push(FileCalls {
            thread: threads.of(&told.at),
            span: span(told.from, told.to),
            file: files.of(told.inode),
            read: sum(told.read),
            written: sum(told.written),
            synced: sum(told.synced),
            cgroup: told.at.cgroup,
        });
    }
    session.file_calls.sort_by_key(|calls| (calls.span.from, calls.span.to));

    let whiteout = |whiteout: record::Whiteout| Whiteout {
        ts: whiteout.at.ts,
        thread: threads.of(&whiteout.at),
        syscall: whiteout.syscall,
        cgroup: whiteout.at.cgroup,
    };
    session.whiteouts = whiteouts.into_iter().map(whiteout).collect();
    session.whiteouts.sort_by_key(|whiteout| whiteout.ts);

    for file in overlaid {
        let mut of = |id: Option<InodeId>| id.map(|id| files.of(id));
        let (lower, upper) = (of(file.lower), of(file.upper));
        session.overlaid.push(Overlaid {
            ts: file.at.ts,
            thread: threads.of(&file.at),
            overlay: files.of(file.overlay),
            lower,
            upper,
            cgroup: file.at.cgroup,
        });
    }
    session.overlaid.sort_by_key(|file| file.ts);
    session.files = files.all;
    session.io = intervals(session, &threads, totals);
    for io in &session.io {
        let process = session.threads[io.thread.ix()].process;
        let sum = session.processes[process.ix()].io.get_or_insert_default();
        sum.read = sum.read.saturating_add(io.bytes.read);
        sum.written = sum.written.saturating_add(io.bytes.written);
        sum.disk_read = sum.disk_read.saturating_add(io.bytes.disk_read);
        sum.disk_written = sum.disk_written.saturating_add(io.bytes.disk_written);
    }
}

/// What changed from each reading of a thread to the next.
fn intervals(session: &Session, threads: &Threads, mut totals: Vec<IoTotals>) -> Vec<IoInterval> {
    totals.sort_by_key(|reading| reading.at.ts);
    let mut last: HashMap<ThreadIx, IoTotals> = HashMap::new();
    let mut all = Vec::new();
    for now in totals {
        let Some(thread) = threads.of(&now.at) else { continue };
        let before = last.insert(thread, now);
        let born = &session.threads[thread.ix()];
        let adopted = session.processes[born.process.ix()].adopted;
        let (from, before) = match before {
            Some(before) => (before.at.ts, Some(before)),
            // Of a thread that was there before, what it did until then is not of this recording.
            None if adopted && born.maker.is_none() => continue,
            None => (born.span.from, None),
        };
        let since = |of: fn(&IoTotals) -> u64| of(&now).saturating_sub(before.as_ref().map_or(0, of));
        all.push(IoInterval {
            thread,
            span: span(from, now.at.ts),
            bytes: IoBytes {
                read: since(|io| io.rchar),
                written: since(|io| io.wchar),
                read_calls: since(|io| io.syscr),
                write_calls: since(|io| io.syscw),
                disk_read: since(|io| io.read_bytes),
                disk_written: since(|io| io.write_bytes),
                cancelled: since(|io| io.cancelled_write_bytes),
            },
        });
    }
    all
}

/// What claims to have lasted longer than any recording does is cut to that.
fn span(from: u64, to: u64) -> Span {
    Span {
        from: from.min(to).max(to.saturating_sub(LONGEST)),
        to,
    }
}
