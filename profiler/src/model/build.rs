//! Makes a [`Session`] of records, wherever they come from: a file or a live recording.
//!
//! Records come nearly in order of time, because they come from several sources; what must be in order is sorted
//! here. Memory is linear: a cycle takes 80 bytes until its thread's intervals are made.

mod ancestry;
mod assemble;
mod disk;
mod lineage;
mod task;
#[cfg(test)]
mod tests;
mod timeline;

use self::task::{Birth, Tasks};
use super::{Session, Span};
use crate::recording::record::{At, End, Record};

/// Longest recording, ns (104 days): every number format has such times exactly, and what reports add up and multiply of
/// them does not run over.
const LONGEST: u64 = 1 << 53;

/// Takes records, gives a [`Session`].
#[derive(Debug, Default)]
pub struct Builder {
    session: Session,
    tasks: Tasks,
    disk: disk::Told,
    end: Option<End>,
    /// Times of the first and the last event.
    seen: Option<Span>,
    has_meta: bool,
}

impl Builder {
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Takes one record. Never fails: a record that makes no sense costs at most its own information.
    pub fn push(&mut self, record: Record) {
        match record {
            Record::Meta(meta) => {
                if !self.has_meta {
                    self.session.meta = meta;
                    self.has_meta = true;
                }
            }
            Record::Clock(clock) => self.session.clocks.push(clock),
            Record::Begin(begin) => {
                self.session.begin.get_or_insert(begin);
            }
            Record::End(end) => self.end = Some(end),
            Record::Fork(fork) => {
                let at = self.see(fork.at);
                self.tasks.born(&at, Birth::Fork(Box::new(fork)));
            }
            Record::Adopt(adopt) => {
                let at = self.see(adopt.at);
                self.tasks.born(&at, Birth::Adopt(Box::new(adopt)));
            }
            Record::Exec(exec) => {
                let at = self.see(exec.at);
                self.tasks.of(&at).execs.push(exec);
            }
            Record::Exit(exit) => {
                let at = self.see(exit.at);
                self.tasks.of(&at).exits.push(exit);
            }
            Record::Account(account) => {
                let at = self.see(account.at);
                self.tasks.of(&at).accounts.push((at.ts, account.sum_exec));
            }
            Record::Cycle(cycle) => {
                let at = self.see(cycle.at);
                self.tasks.of(&at).cycles.push((&cycle).into());
            }
            Record::Awaited(awaited) => {
                let at = self.see(awaited.at);
                let ix = self.session.awaited.place(awaited.file, at.task.tgid, awaited.off);
                self.tasks.of(&at).awaited.push((awaited.off, ix));
            }
            Record::Sample(sample) => {
                let at = self.see(sample.at);
                self.tasks.of(&at).samples.push((at.ts, sample.stack));
            }
            Record::File(file) => {
                self.session.stacks.files.insert(file.id, file);
            }
            Record::Frame(frame) => {
                self.session.stacks.frames.insert(frame.id, frame.place);
            }
            Record::Stack(stack) => {
                self.session.stacks.stacks.insert(stack.id, stack);
            }
            Record::StackEnd(end) => {
                self.session.stacks.ends.insert(end.stack, end.end);
            }
            Record::Symbol(symbol) => {
                self.session.stacks.symbols.insert(symbol.frame, symbol);
            }
            Record::Image(image) => {
                self.session.stacks.images.insert(image.file, image);
            }
            Record::Cgroup(cgroup) => {
                self.see(cgroup.at);
                self.session.cgroups.push(cgroup);
            }
            Record::Syscall(syscall) => {
                self.see(syscall.at);
                self.session.syscalls.push(syscall);
            }
            Record::Exchange(exchange) => {
                self.see(exchange.at);
                self.session.exchanges.push(exchange);
            }
            Record::Request(request) => {
                self.see(request.at);
                self.session.requests.push(request);
            }
            Record::Io(io) => {
                let at = self.see(io.at);
                self.tasks.of(&at).io.push(io);
            }
            Record::Inode(inode) => self.disk.inodes.push(inode),
            Record::PageRun(run) => {
                self.see(run.at);
                self.disk.runs.push(run);
            }
            Record::IoTotals(totals) => {
                self.see(totals.at);
                self.disk.totals.push(totals);
            }
            // Issued by whomever: not a sign of a thread's life.
            Record::BlockIo(io) => self.disk.block.push(io),
            Record::WriteBack(write) => self.disk.write_backs.push(write),
            Record::CopyUp(copy) => {
                self.see(copy.at);
                self.disk.copy_ups.push(copy);
            }
            Record::Whiteout(whiteout) => {
                self.see(whiteout.at);
                self.disk.whiteouts.push(whiteout);
            }
            Record::FileCalls(calls) => {
                self.see(calls.at);
                self.disk.calls.push(calls);
            }
            Record::Overlaid(file) => {
                self.see(file.at);
                self.disk.overlaid.push(file);
            }
            Record::Layer(layer) => self.session.layers.push(layer),
            Record::Stored(image) => self.session.images.push(image),
            Record::Overlay(overlay) => self.session.overlays.push(overlay),
            Record::Listen(listen) => {
                self.see(listen.at);
                self.session.listens.push(listen);
            }
            Record::Memory(memory) => {
                self.see(memory.at);
                self.session.memory.push(memory);
            }
            Record::Oom(oom) => {
                self.see(oom.at);
                self.session.ooms.push(oom);
            }
            Record::Mark(mark) => {
                self.see(mark.at);
                self.session.marks.push(mark);
            }
            Record::ContainerState(state) => self.session.states.push(state),
            Record::Rules(rules) => self.session.rules = rules,
            Record::Lookup(lookup) => self.session.lookups.push(lookup),
            Record::Losses(losses) => self.session.losses = losses,
            Record::SelfCost(cost) => self.session.self_cost = cost,
            Record::Parsing(parsing) => self.session.parsing = parsing,
            Record::Throttle(throttle) => self.session.throttles.push(throttle),
            Record::HostCpu(host) => self.session.host_cpu = Some(host),
            Record::Versions(versions) => self.session.versions = versions.programs,
            Record::CpuChange(change) => self.session.cpu_changes.push(change),
        }
    }

    /// The session. `damage` is what the reader could not use, in words.
    pub fn finish(self, damage: Vec<String>) -> Session {
        let Builder {
            mut session,
            tasks,
            disk: told,
            end,
            seen,
            has_meta: _,
        } = self;
        session.damage = damage;
        session.clocks.sort_by_key(|clock| clock.mono);
        session.cgroups.sort_by_key(|cgroup| cgroup.at.ts);
        session.syscalls.sort_by_key(|syscall| syscall.at.ts);
        session
            .exchanges
            .sort_by_key(|exchange| (exchange.begin, exchange.at.ts));
        session.overlays.sort_by_key(|overlay| overlay.ts);
        session.requests.sort_by_key(|request| request.at.ts);
        session.listens.sort_by_key(|listen| listen.at.ts);
        session.memory.sort_by_key(|memory| memory.at.ts);
        session.ooms.sort_by_key(|oom| oom.at.ts);
        session.marks.sort_by_key(|mark| mark.at.ts);

        let seen = seen.unwrap_or_default();
        let from = session.begin.map_or(seen.from, |begin| begin.mono);
        let last = end.map_or(seen.to, |end| end.mono).max(from);
        let to = last.min(from.saturating_add(LONGEST));
        session.span = Span { from, to };
        if to < last {
            let days = LONGEST / 86_400_000_000_000;
            session.damage.push(format!(
                "it claims to be longer than {days} days, which no recording is: what it tells of later times is left out"
            ));
        }
        session.closed = end.map(|end| end.exit_code);
        if end.is_none() {
            session.damage.push(format!(
                "the recording was cut off at {}.{:03} s: it has no end record, so what happened later is unknown",
                (to - from) / 1_000_000_000,
                (to - from) / 1_000_000 % 1_000,
            ));
        }
        assemble::assemble(&mut session, tasks.into_sorted());
        disk::assemble(&mut session, told);
        session
    }

    fn see(&mut self, at: At) -> At {
        let seen = self.seen.get_or_insert(Span { from: at.ts, to: at.ts });
        seen.from = seen.from.min(at.ts);
        seen.to = seen.to.max(at.ts);
        at
    }
}

impl Extend<Record> for Builder {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        records.into_iter().for_each(|record| self.push(record));
    }
}
