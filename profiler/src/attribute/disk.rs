//! What phases, containers and processes read and wrote: pages of files as they were asked for, and what of it write-back
//! wrote later, charged to whoever made it dirty.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::owners::Owners;
use crate::model::disk::CallSum;
use crate::model::{ContainerIx, FileIx, PhaseIx, ProcessIx, Session, Span, ThreadIx};

/// Bytes, and what was waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Read of files: bytes that were not in the page cache.
    pub cold: u64,
    /// Of files, made dirty.
    pub dirtied: u64,
    /// What of these was written back while it was recorded, by whomever.
    pub written_back: u64,
    /// Files that an overlay copied up for it, their bytes, and how long that stalled, ns.
    pub copy_ups: u64,
    pub copied: u64,
    pub stall: u64,
    /// Deletes of what a lower layer has.
    pub whiteouts: u64,
    /// Calls that read, wrote and synced files, where they are told.
    pub calls: [CallSum; 3],
}

impl Traffic {
    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        *self == Traffic::default()
    }

    /// Adds another's. Stops at the largest number there is instead of running over.
    pub fn add(&mut self, other: &Traffic) {
        let Traffic {
            cold,
            dirtied,
            written_back,
            copy_ups,
            copied,
            stall,
            whiteouts,
            calls,
        } = *other;
        for (sum, part) in [
            (&mut self.cold, cold),
            (&mut self.dirtied, dirtied),
            (&mut self.written_back, written_back),
            (&mut self.copy_ups, copy_ups),
            (&mut self.copied, copied),
            (&mut self.stall, stall),
            (&mut self.whiteouts, whiteouts),
        ] {
            *sum = sum.saturating_add(part);
        }
        for (sum, part) in self.calls.iter_mut().zip(&calls) {
            sum.add(part);
        }
    }
}

/// Who made pages dirty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dirtier {
    pub container: Option<ContainerIx>,
    /// The innermost.
    pub phase: Option<PhaseIx>,
    pub thread: Option<ThreadIx>,
    pub ts: u64,
}

/// Container and innermost phase that something was done for.
pub type Origin = (Option<ContainerIx>, Option<PhaseIx>);

/// Pages that write-back wrote, with who made them dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// Into [`Session::write_backs`].
    pub ix: usize,
    /// `None`: they were dirty before the recording, or nobody who is recorded made them so.
    pub by: Option<Dirtier>,
    pub bytes: u64,
}

/// Everything that is told of disk traffic.
#[derive(Debug, Default)]
pub struct Disk {
    /// Of each phase, in the session's order; with that of the phases below it.
    pub phases: Vec<Traffic>,
    /// Of each container, in the session's order.
    pub containers: Vec<Traffic>,
    /// What no container did.
    pub nobody: Traffic,
    pub processes: BTreeMap<ProcessIx, Traffic>,
    /// In order of time.
    pub flushed: Vec<Flushed>,
    /// Whether calls were counted (`--disk full`).
    pub full: bool,
}

/// Whether a recording has calls that read, write and sync files.
pub fn counts_calls(session: &Session) -> bool {
    session.rung_of("file_call_ends").is_some()
}

impl Disk {
    /// Adds up a whole recording.
    pub fn new(session: &Session) -> Disk {
        let owners = Owners::new(session);
        let mut disk = Disk {
            phases: vec![Traffic::default(); session.phases.len()],
            containers: vec![Traffic::default(); session.containers.len()],
            full: counts_calls(session),
            ..Disk::default()
        };
        let page = session.page();
        for run in &session.page_runs {
            let traffic = Traffic {
                cold: u64::from(run.read()) * page,
                dirtied: u64::from(run.written()) * page,
                ..Traffic::default()
            };
            let container = owners.container(run.thread, run.cgroup, run.span.from);
            disk.charge(session, &owners, run.thread, container, run.span.from, &traffic);
        }
        for copy in session.copy_ups.iter().filter(|copy| !copy.failed) {
            let traffic = Traffic {
                copy_ups: 1,
                copied: (u64::from(copy.copied) * page).min(copy.size),
                stall: copy.span.len(),
                ..Traffic::default()
            };
            let container = owners.container(copy.thread, copy.cgroup, copy.span.from);
            disk.charge(session, &owners, copy.thread, container, copy.span.from, &traffic);
        }
        for whiteout in &session.whiteouts {
            let traffic = Traffic {
                whiteouts: 1,
                ..Traffic::default()
            };
            let container = owners.container(whiteout.thread, whiteout.cgroup, whiteout.ts);
            disk.charge(session, &owners, whiteout.thread, container, whiteout.ts, &traffic);
        }
        for told in &session.file_calls {
            let traffic = Traffic {
                calls: [told.read, told.written, told.synced],
                ..Traffic::default()
            };
            let container = owners.container(told.thread, told.cgroup, told.span.from);
            disk.charge(session, &owners, told.thread, container, told.span.from, &traffic);
        }
        disk.flushed = flushed(session, &owners);
        for index in 0..disk.flushed.len() {
            let one = disk.flushed[index];
            let Some(by) = one.by else { continue };
            let traffic = Traffic {
                written_back: one.bytes,
                ..Traffic::default()
            };
            disk.charge(session, &owners, by.thread, by.container, by.ts, &traffic);
        }
        disk
    }

    /// What was flushed during any of `spans` (sorted by it), by who made it dirty: most bytes first.
    pub fn flushed_during(&self, session: &Session, spans: &mut [Span]) -> Vec<(Option<Origin>, u64)> {
        spans.sort_unstable();
        let mut sums: BTreeMap<Option<Origin>, u64> = BTreeMap::new();
        // In order of their end: those before the first span are skipped at once.
        let first = spans.first().map_or(u64::MAX, |span| span.from);
        let later = self
            .flushed
            .partition_point(|one| session.write_backs[one.ix].span.to <= first);
        for one in &self.flushed[later..] {
            let when = session.write_backs[one.ix].span;
            // Spans of several threads overlap, so the one before the next may have ended, and an earlier one not.
            let begun = spans.partition_point(|span| span.from < when.to);
            if spans[..begun].iter().any(|span| span.to > when.from) {
                let sum = sums.entry(one.by.map(|by| (by.container, by.phase))).or_default();
                *sum = sum.saturating_add(one.bytes);
            }
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(by, bytes)| (std::cmp::Reverse(*bytes), *by));
        sums
    }

    fn charge(
        &mut self,
        session: &Session,
        owners: &Owners<'_>,
        thread: Option<ThreadIx>,
        container: Option<ContainerIx>,
        ts: u64,
        traffic: &Traffic,
    ) {
        match container.and_then(|ix| self.containers.get_mut(ix.ix())) {
            Some(sum) => sum.add(traffic),
            None => self.nobody.add(traffic),
        }
        let process = thread.and_then(|ix| Some(session.threads.get(ix.ix())?.process));
        let Some(process) = process else { return };
        self.processes.entry(process).or_default().add(traffic);
        for phase in owners.phases(process, ts) {
            self.phases[phase.ix()].add(traffic);
        }
    }
}

/// Shares out what write-back wrote among those who made the files' pages dirty. Of one file what was made dirty first is
/// taken to be written first: which pages of it are written is not known.
fn flushed(session: &Session, owners: &Owners<'_>) -> Vec<Flushed> {
    let page = session.page();
    let mut dirty: HashMap<FileIx, VecDeque<(Dirtier, u64)>> = HashMap::new();
    let mut runs: Vec<_> = session.page_runs.iter().filter(|run| run.written() > 0).collect();
    runs.sort_by_key(|run| run.span.from);
    let mut runs = runs.into_iter().peekable();
    let mut order: Vec<usize> = (0..session.write_backs.len()).collect();
    order.sort_by_key(|ix| session.write_backs[*ix].span.to);
    let mut flushed = Vec::new();
    for ix in order {
        let told = &session.write_backs[ix];
        while let Some(run) = runs.next_if(|run| run.span.from <= told.span.to) {
            let ts = run.span.from;
            let process = run.thread.and_then(|ix| Some(session.threads.get(ix.ix())?.process));
            let by = Dirtier {
                container: owners.container(run.thread, run.cgroup, ts),
                phase: process.and_then(|process| owners.phase(process, ts)),
                thread: run.thread,
                ts,
            };
            dirty
                .entry(run.file)
                .or_default()
                .push_back((by, u64::from(run.written())));
        }
        let mut left = told.pages;
        let waiting = dirty.entry(told.file).or_default();
        while let Some((by, pages)) = waiting.front_mut() {
            let taken = left.min(*pages);
            if taken > 0 {
                flushed.push(Flushed {
                    ix,
                    by: Some(*by),
                    bytes: taken * page,
                });
            }
            left -= taken;
            *pages -= taken;
            if *pages > 0 {
                break;
            }
            waiting.pop_front();
        }
        if left > 0 {
            flushed.push(Flushed {
                ix,
                by: None,
                bytes: left.saturating_mul(page),
            });
        }
    }
    flushed
}

/// Requests of one kind to one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub count: u64,
    pub bytes: u64,
    pub errors: u64,
    /// Times that each waited for the driver, and that the device took, ns; sorted.
    pub queued: Vec<u64>,
    pub device: Vec<u64>,
}

/// All requests, by device and operation (the kernel's `enum req_op`), in their order.
pub fn requests(session: &Session) -> BTreeMap<(u32, u32), Requests> {
    let mut all: BTreeMap<(u32, u32), Requests> = BTreeMap::new();
    for one in &session.block {
        let sum = all.entry((one.dev, one.op)).or_default();
        sum.count += 1;
        sum.bytes = sum.bytes.saturating_add(u64::from(one.bytes));
        sum.errors += u64::from(one.error != 0);
        sum.queued.push(one.issued.saturating_sub(one.span.from));
        sum.device.push(one.span.to.saturating_sub(one.issued));
    }
    for sum in all.values_mut() {
        sum.queued.sort_unstable();
        sum.device.sort_unstable();
    }
    all
}

/// The value that so many percent of a sorted list are not above; 0 of none.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::disk::{BlockIo, PageRun, WriteBack};
    use crate::recording::record::TaskId;
    use crate::report::fixture::{self, MS};

    fn run(thread: u32, ms: u64, file: u32, added: u32, dirtied: u32) -> PageRun {
        PageRun {
            thread: Some(ThreadIx(thread)),
            span: fixture::span(ms, ms + 1),
            file: FileIx(file),
            added,
            dirtied,
            syscall: 1,
            copy_up: false,
            stack: 0,
            cgroup: 0,
        }
    }

    fn write_back(ms: u64, file: u32, pages: u64) -> WriteBack {
        WriteBack {
            span: fixture::span(ms, ms + 10),
            file: FileIx(file),
            pages,
            thread: None,
            cgroup: 0,
            sync: true,
            kernel: true,
        }
    }

    /// A thread of the process of that number.
    fn thread_of(session: &Session, tgid: u32) -> u32 {
        session
            .threads
            .iter()
            .position(|thread| thread.id.tgid == tgid)
            .unwrap() as u32
    }

    /// Make sure that what is read and written is charged to the phases around it, their container and the process, once
    /// each, and what write-back writes to who made it dirty, in order, the rest to nobody.
    #[test]
    fn charges() {
        let mut session = fixture::session();
        let (cc1, podman) = (thread_of(&session, 104), thread_of(&session, 100));
        session.page_runs = vec![
            run(cc1, 5_000, 0, 10, 0),
            run(cc1, 5_100, 1, 0, 8),
            run(podman, 9_950, 1, 0, 4),
            run(podman, 9_960, 2, 3, 0),
        ];
        session.write_backs = vec![write_back(9_970, 1, 10), write_back(9_980, 3, 5)];
        let disk = Disk::new(&session);
        let own = disk.containers[0];
        assert_eq!(
            (own.cold, own.dirtied, own.written_back),
            (10 * 4096, 8 * 4096, 8 * 4096)
        );
        assert_eq!(
            (disk.nobody.cold, disk.nobody.dirtied, disk.nobody.written_back),
            (3 * 4096, 4 * 4096, 2 * 4096)
        );
        let told: Vec<_> = disk
            .flushed
            .iter()
            .map(|one| (one.ix, one.by.is_some(), one.bytes / 4096))
            .collect();
        assert_eq!(told, [(0, true, 8), (0, true, 2), (1, false, 5)]);
        let run_phase = session
            .phases
            .iter()
            .position(|phase| phase.kind.name() == "run")
            .unwrap();
        assert_eq!(disk.phases[run_phase].cold, 10 * 4096);
        let all: u64 = disk.processes.values().map(|one| one.dirtied).sum();
        assert_eq!(all, 12 * 4096);
        let within = disk.flushed_during(&session, &mut [fixture::span(9_975, 9_976)]);
        assert_eq!(within.iter().map(|(_, bytes)| bytes / 4096).collect::<Vec<_>>(), [8, 2]);
        assert_eq!(Disk::new(&Session::default()).phases, []);
    }

    /// Make sure that latencies are those of the requests, and that a percentile is one of its values.
    #[test]
    fn latencies() {
        let task = TaskId {
            tgid: 0,
            tid: 0,
            start: 0,
        };
        let io = |from: u64, issued: u64, to: u64, op| BlockIo {
            span: fixture::span(from, to),
            issued: fixture::span(issued, to).from,
            thread: None,
            task,
            file: None,
            cgroup: 0,
            hierarchy: 0,
            dev: 8 << 20,
            op,
            flags: 0,
            bytes: 4096,
            error: 0,
        };
        let session = Session {
            block: vec![io(0, 1, 5, 0), io(0, 3, 4, 0), io(0, 0, 9, 1)],
            ..Session::default()
        };
        let all = requests(&session);
        let reads = &all[&(8 << 20, 0)];
        assert_eq!((reads.count, reads.bytes), (2, 8192));
        assert_eq!(
            (reads.queued.as_slice(), reads.device.as_slice()),
            (&[MS, 3 * MS][..], &[MS, 4 * MS][..])
        );
        assert_eq!(percentile(&[1, 2, 3, 4], 50), 2);
        assert_eq!(percentile(&[1, 2, 3, 4], 99), 4);
        assert_eq!(percentile(&[], 50), 0);
    }
}
