//! From the kernel's rings to the recording: decoded, in order of time, with names and files looked up while they
//! are there.

mod code;
pub mod decode;
pub mod frames;
mod life;
mod looking;
pub mod mappings;
pub mod marks;
pub mod naming;
pub mod redact;
mod requests;
pub mod spaces;
pub mod stacks;
pub mod unwound;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
};

use aya::maps::{MapData, RingBuf, StackTraceMap};
use decode::{Event, UserStack, decode};
use frames::RawStack;
use looking::Looking;
use mappings::{Mappings, MappingsError};
use profiler_common::net;
use stacks::Stacks;
use unwound::Unwinding;

use crate::{
    control::work::Work,
    kernel::host,
    load::unwind::UnwindMaps,
    lookup::{engines, images, overlay, state},
    recording::{
        Summary, WriteError, Writer,
        record::{Losses, Parsing, Record, TaskId, Versions},
    },
    symbol::kernel::{Kernel, KernelError},
};

/// How long an event may take from its time stamp to its place in a ring, ns.
const SETTLE_NS: u64 = 1_000_000;

/// Why nothing more can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The way of events into the recording.
pub struct Ingest {
    writer: Writer,
    ring: RingBuf<MapData>,
    user_stacks: StackTraceMap<MapData>,
    /// Stacks of [`Ingest::user_stacks`] that were read: the kernel never changes an entry.
    user_stacks_read: HashMap<u32, Vec<u64>>,
    mappings: Mappings,
    stacks: Stacks,
    unwinding: Unwinding,
    /// Mount namespace of each profiled process: perf does not tell it.
    mnt_ns: HashMap<u32, u32>,
    images: images::Watch,
    overlays: overlay::watch::Watch,
    daemons: state::Daemons,
    looking: Looking,
    redact: bool,
    batch: Vec<Event>,
    out: Vec<Record>,
    /// Leaders of the thread groups that were adopted.
    leaders: HashMap<u32, TaskId>,
    /// Adopted processes whose mappings are looked at when they first have a user stack; `None`: those of all were
    /// looked at before.
    unseeded: Option<HashSet<u32>>,
    /// Processes born since the recording began that have not ended.
    alive: HashSet<u32>,
    undecodable: u64,
    failed_user_stacks: u64,
    /// Stacks of runs of pages that have not ended, by thread and begin.
    run_stacks: HashMap<(TaskId, u64), u32>,
    /// The overhead cap has the mappings' records switched off.
    mappings_paused: bool,
    /// Programs that began meanwhile.
    unmapped_execs: u64,
    /// Records that were too large.
    unwritten: u64,
    work: Work,
    /// Engines and runtimes that ran.
    engines: BTreeSet<&'static str>,
}

impl Ingest {
    pub fn new(
        writer: Writer,
        ring: RingBuf<MapData>,
        user_stacks: StackTraceMap<MapData>,
        mappings: Mappings,
        symbols: Result<Kernel, KernelError>,
        redact: bool,
    ) -> Ingest {
        Ingest {
            writer,
            ring,
            user_stacks,
            user_stacks_read: HashMap::new(),
            mappings,
            stacks: Stacks::new(symbols),
            unwinding: Unwinding::default(),
            mnt_ns: HashMap::new(),
            images: images::Watch::default(),
            overlays: overlay::watch::Watch::default(),
            daemons: state::Daemons::default(),
            looking: Looking::default(),
            redact,
            batch: Vec::new(),
            out: Vec::new(),
            leaders: HashMap::new(),
            unseeded: None,
            alive: HashSet::new(),
            undecodable: 0,
            failed_user_stacks: 0,
            run_stacks: HashMap::new(),
            mappings_paused: false,
            unmapped_execs: 0,
            unwritten: 0,
            work: Work::default(),
            engines: BTreeSet::new(),
        }
    }

    /// Makes unwind tables for the kernel from here on.
    pub fn unwind_by(&mut self, maps: Option<UnwindMaps>) {
        self.stacks.unwind_by(maps);
    }

    /// Learns the mappings of a process that is there already.
    pub fn seed(&mut self, pid: u32) {
        self.stacks.seed(pid);
    }

    /// From here on, learns the mappings of an adopted process only when it first has a user stack.
    pub fn seed_late(&mut self) {
        self.unseeded = Some(HashSet::new());
    }

    /// Learns the mappings of a process whose stack is about to be looked at, if they are still to be learnt.
    fn seed_now(&mut self, tgid: u32) {
        if let Some(unseeded) = &mut self.unseeded
            && unseeded.remove(&tgid)
        {
            self.stacks.seed(tgid);
        }
    }

    /// The adopted leader of that thread group.
    pub fn leader(&self, tgid: u32) -> Option<TaskId> {
        self.leaders.get(&tgid).copied()
    }

    /// How many processes that were born since the recording began are still there.
    pub fn alive(&self) -> usize {
        self.alive.len()
    }

    /// What was worked on so far, by kind.
    pub fn work(&self) -> Work {
        Work {
            mappings: self.mappings.taken(),
            ..self.work
        }
    }

    /// Records no mappings until they are resumed: programs that begin meanwhile have no names for their frames.
    pub fn pause_mappings(&mut self) {
        self.mappings.pause();
        self.mappings_paused = true;
    }

    /// Records mappings again.
    pub fn resume_mappings(&mut self) {
        self.mappings.resume();
        self.mappings_paused = false;
    }

    /// Records the mappings of a CPU that came online.
    ///
    /// # Errors
    ///
    /// When the kernel gives no event or ring for it.
    pub fn add_cpu(&mut self, cpu: u32) -> Result<(), MappingsError> {
        self.mappings.add_cpu(cpu)?;
        if self.mappings_paused {
            self.mappings.pause();
        }
        Ok(())
    }

    /// Forgets a CPU that went offline, with what its ring still holds: drain first.
    pub fn remove_cpu(&mut self, cpu: u32) {
        self.mappings.remove_cpu(cpu);
    }

    /// Size of the recording so far, bytes.
    pub fn bytes_written(&self) -> u64 {
        self.writer.bytes_written()
    }

    /// Takes what the rings hold into the recording.
    pub fn drain(&mut self) -> Result<(), IngestError> {
        // What is older than this is in the rings by now.
        let settled = host::monotonic_ns().saturating_sub(SETTLE_NS);
        self.stacks.poll();
        self.looking.renew();
        let mut batch = std::mem::take(&mut self.batch);
        while let Some(item) = self.ring.next() {
            match decode(&item) {
                Ok(event) => batch.push(event),
                Err(why) => {
                    tracing::debug!("{why}");
                    self.undecodable += 1;
                }
            }
        }
        // CPUs reserve their places in the ring a little out of the order of their clocks.
        batch.sort_by_key(Event::ts);
        let result = batch.drain(..).try_for_each(|event| self.event(event));
        self.batch = batch;
        // Mappings of processes that gave no event are taken too, or their ring would overflow; but not those of
        // processes whose birth is still in the other ring.
        self.map_until(settled);
        self.unwinding.retry(&mut self.stacks, &mut self.out);
        self.overlays.look_up(&self.mnt_ns, &mut self.images, &mut self.out);
        self.images.look_up(&self.mnt_ns, &mut self.out);
        self.stacks.name(&mut self.out);
        self.write_out()?;
        result
    }

    fn map_until(&mut self, until: u64) {
        let Ingest {
            mappings,
            stacks,
            mnt_ns,
            ..
        } = self;
        mappings.drain(until, |event| {
            // Processes that are not profiled have no stacks to resolve.
            if let Some(mnt_ns) = mnt_ns.get(&event.pid) {
                stacks.mapping(&event, *mnt_ns);
            }
        });
    }

    fn event(&mut self, event: Event) -> Result<(), IngestError> {
        let record = match event {
            Event::Whole(Record::Exec(exec)) if self.is_told_only(&exec) => {
                self.mark(&exec);
                return self.write_out();
            }
            Event::Whole(mut record) => {
                if is_of_disks(&record) {
                    self.work.disk += 1;
                } else {
                    self.work.lifecycle += 1;
                }
                self.lifecycle(&mut record);
                record
            }
            Event::Cycle {
                mut record,
                kernel,
                user_stack,
            } => {
                let streamed = if user_stack == UserStack::Streamed {
                    self.unwinding.waited(record.at.task, record.off)
                } else {
                    None
                };
                if kernel.is_empty() && streamed.is_none() && !matches!(user_stack, UserStack::Map(_)) {
                    self.work.cycles += 1;
                } else {
                    self.work.stacks += 1;
                    self.map_until(record.at.ts);
                    if matches!(user_stack, UserStack::Map(_)) {
                        self.seed_now(record.at.task.tgid);
                    }
                    let (user, end) = match (&streamed, user_stack) {
                        (Some(user), _) => (user.frames.as_slice(), user.end),
                        (None, UserStack::Map(id)) => {
                            let user = read_user_stack(
                                &self.user_stacks,
                                &mut self.user_stacks_read,
                                &mut self.failed_user_stacks,
                                id,
                            );
                            (user, 0)
                        }
                        _ => (&[][..], 0),
                    };
                    let raw = RawStack {
                        tgid: record.at.task.tgid,
                        kernel: &kernel,
                        user,
                        user_error: 0,
                        end,
                    };
                    record.stack = self.stacks.record(&raw, &mut self.out);
                }
                record.into()
            }
            Event::Sample {
                mut record,
                kernel,
                user,
                user_error,
            } => {
                self.work.samples += 1;
                self.map_until(record.at.ts);
                if !user.is_empty() {
                    self.seed_now(record.at.task.tgid);
                }
                let raw = RawStack {
                    tgid: record.at.task.tgid,
                    kernel: &kernel,
                    user: &user,
                    user_error,
                    end: 0,
                };
                record.stack = self.stacks.record(&raw, &mut self.out);
                record.into()
            }
            Event::Unwound { record, kernel, user } => {
                self.work.samples += 1;
                self.map_until(record.at.ts);
                self.seed_now(record.at.task.tgid);
                self.unwinding
                    .sample(record, kernel, user, &mut self.stacks, &mut self.out);
                return self.write_out();
            }
            Event::Wait { at, user } => {
                self.map_until(at.ts);
                self.seed_now(at.task.tgid);
                self.unwinding.wait(&at, user, &mut self.stacks);
                return Ok(());
            }
            Event::PageRun { mut record, kernel } => {
                self.work.disk += 1;
                let key = (record.at.task, record.from);
                // A run without pages brings the stack of the one that begins then.
                if record.added | record.dirtied == 0 {
                    if !kernel.is_empty() {
                        let raw = RawStack {
                            tgid: record.at.task.tgid,
                            kernel: self.stacks.below_hook(&kernel),
                            user: &[],
                            user_error: 0,
                            end: 0,
                        };
                        let stack = self.stacks.record(&raw, &mut self.out);
                        self.run_stacks.insert(key, stack);
                    }
                    return self.write_out();
                }
                record.stack = self.run_stacks.remove(&key).unwrap_or(0);
                record.into()
            }
            Event::Copied(piece) => {
                self.unwinding.copied(piece);
                return Ok(());
            }
        };
        self.out.push(record);
        self.write_out()
    }

    fn write_out(&mut self) -> Result<(), IngestError> {
        for record in self.out.drain(..) {
            self.unwritten += write(&mut self.writer, &record)?;
        }
        Ok(())
    }

    /// Adds a record of the profiler's own.
    pub fn write(&mut self, record: impl Into<Record>) -> Result<(), IngestError> {
        self.unwritten += write(&mut self.writer, &record.into())?;
        Ok(())
    }

    /// From here on a SIGKILL can't take what was drained.
    pub fn flush(&mut self) -> Result<(), IngestError> {
        Ok(self.writer.flush()?)
    }

    /// Names the user frames.
    pub fn symbolize(&mut self) -> Result<(), IngestError> {
        self.unwind_rest();
        self.stacks.symbolize(&mut self.out);
        self.write_out()
    }

    /// Also looks for debug information in these folders. Before the first file is seen.
    pub fn set_debug_folders(&mut self, folders: Vec<PathBuf>) {
        self.stacks.set_debug_folders(folders);
    }

    /// Starts the process that reads mapped files. While this one may still choose its user.
    pub fn start_parser(&mut self) {
        self.stacks.start_parser();
    }

    /// Ends the process that reads mapped files, and says what that took.
    pub fn close_parser(&mut self) -> Parsing {
        self.stacks.close_parser()
    }

    /// Records the samples that still wait for a table.
    fn unwind_rest(&mut self) {
        const STEP: std::time::Duration = std::time::Duration::from_millis(2);
        while self.unwinding.is_waiting() {
            self.stacks.poll();
            self.unwinding.retry(&mut self.stacks, &mut self.out);
            std::thread::sleep(STEP);
        }
    }

    /// Writes the exchanges that had not ended when the recording did.
    pub fn write_exchanges(&mut self, open: &[net::Exchange]) -> Result<(), IngestError> {
        for exchange in open.iter().filter(|exchange| exchange.begin != 0) {
            self.write(decode::exchange(exchange))?;
        }
        Ok(())
    }

    /// Writes the losses: the kernel's, counted in `counters`, and those of this side.
    /// `further` are causes that others counted.
    pub fn write_losses(
        &mut self,
        counters: BTreeMap<u32, u64>,
        further: impl IntoIterator<Item = (String, u64)>,
    ) -> Result<(), IngestError> {
        let mut named = self.stacks.losses();
        named.extend(further);
        named.extend(self.unwinding.losses());
        named.extend(self.overlays.losses());
        named.extend(self.images.losses());
        named.extend(self.looking.losses());
        if self.failed_user_stacks > 0 {
            named.push((
                "user stacks of waits that could not be read back".to_owned(),
                self.failed_user_stacks,
            ));
        }
        if self.unwritten > 0 {
            named.push(("records too large to be written".to_owned(), self.unwritten));
        }
        if self.unmapped_execs > 0 {
            named.push((
                "programs begun while their mappings were not recorded, to keep the overhead cap: no names for their \
                 frames"
                    .to_owned(),
                self.unmapped_execs,
            ));
        }
        if self.mappings.malformed() > 0 {
            named.push((
                "mapping records that could not be parsed".to_owned(),
                self.mappings.malformed(),
            ));
        }
        self.write(Losses {
            counters: counters.into_iter().collect(),
            mappings_lost: self.mappings.lost(),
            undecodable: self.undecodable,
            named,
        })
    }

    /// Asks the engines and runtimes that ran for their versions, all at once: what they say was not part of the
    /// recording, which is over.
    pub fn write_versions(&mut self) -> Result<(), IngestError> {
        let asked: Vec<_> = self
            .engines
            .iter()
            .map(|program| (*program, std::thread::spawn(|| engines::version(program))))
            .collect();
        let mut programs = Vec::new();
        for (program, thread) in asked {
            if let Ok(Some((path, version))) = thread.join() {
                programs.push((program.to_owned(), version, path.into_os_string().into_vec()));
            }
        }
        self.write(Versions { programs })
    }

    /// Gives the recording up: there is nothing to be recorded.
    pub fn discard(self) {
        self.writer.discard();
    }

    /// Gives the recording its name.
    pub fn finish(self) -> Result<Summary, IngestError> {
        Ok(self.writer.finish()?)
    }
}

/// A single record that can't be written (it is too large) is a loss, not the end: how many were lost.
fn write(writer: &mut Writer, record: &Record) -> Result<u64, IngestError> {
    match writer.write(record) {
        Ok(()) => Ok(0),
        Err(error) if error.is_of_one_record() => {
            tracing::warn!("{error}");
            Ok(1)
        }
        Err(error) => Err(error.into()),
    }
}

fn read_user_stack<'a>(
    map: &StackTraceMap<MapData>,
    read: &'a mut HashMap<u32, Vec<u64>>,
    failed: &mut u64,
    id: u32,
) -> &'a [u64] {
    read.entry(id).or_insert_with(|| match map.get(&id, 0) {
        Ok(stack) => stack.frames().iter().map(|frame| frame.ip).collect(),
        Err(_) => {
            *failed += 1;
            Vec::new()
        }
    })
}

/// Whether a record is about what is read and written.
fn is_of_disks(record: &Record) -> bool {
    matches!(
        record,
        Record::Inode(_)
            | Record::IoTotals(_)
            | Record::BlockIo(_)
            | Record::WriteBack(_)
            | Record::CopyUp(_)
            | Record::Whiteout(_)
            | Record::FileCalls(_)
            | Record::Overlaid(_)
    )
}
