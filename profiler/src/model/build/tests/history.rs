//! Random but possible histories of threads, as the kernel half would tell them: whatever is lost or comes late, time
//! is conserved; and when nothing is, the totals are the truth.

use profiler_common::sched::{WHOLE_NS, flag, new_window};

use crate::attribute::resources::{Resources, thread_within, within};
use crate::attribute::stacks;
use crate::attribute::waits::Classifier;
use crate::model::build::task::RawCycle;
use crate::model::fixture::*;
use crate::model::{Interval, ProcessIx, Session, ThreadIx};
use crate::recording::record::{Cycle, Exec, Record, TaskId};

/// Marsaglia's xorshift64: the same histories on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Short more often than long, as in life.
    fn length(&mut self) -> u64 {
        let scale = [100, 5_000, WHOLE_NS, 10 * WHOLE_NS, 200 * WHOLE_NS][self.below(5) as usize];
        self.below(scale)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a thread really did, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Truth {
    cpu: u64,
    runqueue: u64,
    blocked: u64,
}

/// The kernel half's memory of a thread, and what it tells.
struct Teller {
    id: TaskId,
    from: u64,
    on: u64,
    sums: Truth,
    count: u32,
    records: Vec<Record>,
    truth: Truth,
}

impl Teller {
    /// Born at `ts`, waiting for a CPU.
    fn born(id: TaskId, ts: u64, random: &mut Random) -> Teller {
        let mut teller = Teller {
            id,
            from: ts,
            on: ts,
            sums: Truth::default(),
            count: 0,
            records: Vec::new(),
            truth: Truth::default(),
        };
        teller.switch(ts, ts, ts + random.length());
        teller
    }

    fn cycle(&mut self, times: [u64; 3], flags: u16) {
        let [off, wake, ts] = times;
        self.records.push(
            Cycle {
                sum_cpu: self.sums.cpu as u32,
                sum_runqueue: self.sums.runqueue as u32,
                sum_blocked: self.sums.blocked as u32,
                sum_count: self.count,
                flags,
                stack: (off % 3) as u32,
                ..cycle(self.id, [self.from, self.on, off, wake, ts])
            }
            .into(),
        );
        self.sums = Truth::default();
        self.count = 0;
        self.from = ts;
        self.on = ts;
    }

    fn account(&mut self, off: u64, wake: u64, ts: u64) {
        self.truth.cpu += off - self.on;
        self.truth.blocked += wake - off;
        self.truth.runqueue += ts - wake;
    }

    /// Off its CPU at `off`, woken at `wake`, on a CPU again at `ts`.
    fn switch(&mut self, off: u64, wake: u64, ts: u64) {
        self.account(off, wake, ts);
        let parts = [off - self.on, wake - off, ts - wake];
        if parts.into_iter().any(|part| part >= WHOLE_NS) || new_window(self.from, ts) {
            let flags = if wake == off { flag::PREEMPTED } else { 0 };
            self.cycle([off, wake, ts], flags);
        } else {
            self.sums.cpu += parts[0];
            self.sums.blocked += parts[1];
            self.sums.runqueue += parts[2];
            self.count += 1;
            self.on = ts;
        }
    }

    /// An own event on its CPU.
    fn boundary(&mut self, ts: u64, flags: u16) {
        self.account(ts, ts, ts);
        self.cycle([ts, ts, ts], flags);
    }

    /// Lives on for some rounds; where it stops it is on a CPU.
    fn live(&mut self, random: &mut Random) {
        let mut now = self.on;
        for _ in 0..random.below(60) {
            let off = now + random.length();
            if random.chance(60) {
                self.records
                    .push(sample(self.id, now + (off - now) / 2, random.below(4) as u32).into());
            }
            if random.chance(10) {
                self.boundary(off, flag::BOUNDARY);
                now = off;
                continue;
            }
            let wake = off + if random.chance(20) { 0 } else { random.length() };
            now = wake + random.length();
            self.switch(off, wake, now);
        }
    }

    fn ended(&self) -> bool {
        let last = self.records.last();
        matches!(last, Some(Record::Cycle(cycle)) if cycle.flags & flag::END != 0)
    }

    /// Executes a program without being the leader: waits until the leader is gone, then takes its identity.
    fn take_over(&mut self, leader: TaskId, gone: u64, random: &mut Random) {
        let (old, off) = (self.id, self.on + 1);
        let wake = off.max(gone + random.below(3_000));
        self.id = leader;
        self.switch(off, wake, wake + random.length());
        let ts = self.on + random.length();
        self.boundary(ts, flag::BOUNDARY);
        let exec = Exec {
            old_tid: old.tid,
            ..exec(leader, ts, &["again"])
        };
        self.records.push(exec.into());
    }

    /// Ends at its next event.
    fn exit(&mut self, random: &mut Random) {
        let ts = self.on + random.length();
        self.records.push(exit(self.id, ts, 0).into());
        self.boundary(ts + random.below(9_000), flag::END);
    }

    /// Is still there when the recording ends: blocked since `off`.
    fn stay(&mut self, random: &mut Random) {
        let off = self.on + random.length();
        self.account(off, END, END);
        self.cycle([off, END, END], flag::OPEN | flag::NO_WAKE);
    }
}

/// When recordings end, ns; later than any history goes.
const END: u64 = 40_000_000_000;

/// What happened on a host.
#[derive(Default)]
struct History {
    records: Vec<Record>,
    truth: Truth,
}

impl History {
    /// Processes with two threads each; in one of three the second thread executes a program.
    fn new(random: &mut Random) -> History {
        let mut history = History::default();
        let processes = 1 + random.below(8);
        for number in 0..processes {
            // Numbers repeat, each only after its owner's end, which is seconds before.
            let may_stay = number + 3 >= processes;
            let main = leader(10 + (number % 3) as u32 * 100, 1_000 + number * 4_000_000_000);
            history.records.push(fork(leader(1, 1), main, main.start).into());
            let mut first = Teller::born(main, main.start, random);
            first.live(random);
            let second = thread(main.tgid, main.tgid + 1, first.on + 1);
            history.records.push(fork(main, second, second.start).into());
            let mut second = Teller::born(second, second.start, random);
            second.live(random);
            first.live(random);
            if random.chance(33) {
                first.exit(random);
                second.take_over(main, first.from, random);
                if let Some(Record::Cycle(end)) = first.records.last_mut().filter(|_| random.chance(50)) {
                    // It left its CPU after the exchange of tids.
                    end.at.task.tid = main.tgid + 1;
                }
            }
            for teller in [&mut first, &mut second] {
                if !teller.ended() {
                    teller.live(random);
                    match may_stay && random.chance(30) {
                        true => teller.stay(random),
                        false => teller.exit(random),
                    }
                }
            }
            for teller in [first, second] {
                history.records.extend(teller.records);
                history.truth.cpu += teller.truth.cpu;
                history.truth.runqueue += teller.truth.runqueue;
                history.truth.blocked += teller.truth.blocked;
            }
        }
        history
    }

    /// Nearly in order of time, as several sources give it, without `lost` percent of the records.
    fn recorded(&self, random: &mut Random, lost: u64) -> Vec<Record> {
        let mut records = Vec::new();
        for record in &self.records {
            if !random.chance(lost) {
                records.push((time(record) + random.below(2_000_000), record.clone()));
            }
        }
        records.sort_by_key(|(ts, _)| *ts);
        records.into_iter().map(|(_, record)| record).collect()
    }
}

fn time(record: &Record) -> u64 {
    match record {
        Record::Fork(fork) => fork.at.ts,
        Record::Exec(exec) => exec.at.ts,
        Record::Exit(exit) => exit.at.ts,
        Record::Cycle(cycle) => cycle.at.ts,
        Record::Sample(sample) => sample.at.ts,
        _ => 0,
    }
}

fn all(session: &Session) -> Vec<ProcessIx> {
    (0..session.processes.len() as u32).map(ProcessIx).collect()
}

/// Everything that holds for any session whatever, over random spans.
fn conserves(session: &Session, random: &mut Random) {
    let mut classifier = Classifier::new();
    for _ in 0..20 {
        let edges = [random.below(END), random.below(END)];
        let part = match random.below(3) {
            0 => session.span,
            1 => span(edges[0].min(edges[1]), edges[0].max(edges[1])),
            _ => span(edges[0] / 100, edges[0] / 100 + random.length()),
        };
        let mut sum = Resources::default();
        for (index, thread) in session.threads.iter().enumerate() {
            let ix = ThreadIx(index as u32);
            let resources = thread_within(session, ix, part, &mut classifier);
            assert_eq!(resources.total(), thread.span.clip(part).len());
            assert!(resources.cut <= resources.total());
            // Two halves make the whole.
            let middle = part.from + random.below(part.len());
            let mut halves = thread_within(session, ix, span(part.from, middle), &mut classifier);
            halves.add(&thread_within(session, ix, span(middle, part.to), &mut classifier));
            assert_eq!(halves.total(), resources.total());
            assert!(halves.cpu.abs_diff(resources.cpu) <= halves.cut + 1);
            sum.add(&resources);
        }
        let processes = all(session);
        assert_eq!(within(session, &processes, part, &mut classifier), sum);
        let twice: Vec<ProcessIx> = processes.iter().chain(&processes).copied().collect();
        assert_eq!(within(session, &twice, part, &mut classifier), sum);
        let total = |rows: Vec<stacks::StackRow>| rows.iter().map(|row| row.ns).sum::<u64>();
        assert_eq!(total(stacks::on_cpu(session, &processes, part)), sum.cpu);
        assert_eq!(
            total(stacks::off_cpu(session, &processes, part, &mut classifier)),
            sum.blocked()
        );
        assert_eq!(total(stacks::wall(session, &twice, part, &mut classifier)), sum.total());
    }
}

fn totals(session: &Session) -> (Truth, u64) {
    let resources = within(session, &all(session), session.span, &mut Classifier::new());
    assert_eq!(resources.cut, 0, "nothing is cut at the session's own edges");
    let truth = Truth {
        cpu: resources.cpu,
        runqueue: resources.runqueue,
        blocked: resources.blocked(),
    };
    (truth, resources.lost)
}

/// Make sure that without losses every total is the truth, to the nanosecond, whatever the order of records.
#[test]
fn whole_histories() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..60 {
        let history = History::new(&mut random);
        let session = session(span(0, END), history.recorded(&mut random, 0));
        assert_eq!(totals(&session), (history.truth, 0), "round {round}");
        assert_eq!(session.losses.named, [], "round {round}");
        let samples = history
            .records
            .iter()
            .filter(|record| matches!(record, Record::Sample(_)));
        let kept: usize = session.threads.iter().map(|thread| thread.samples.len()).sum();
        assert_eq!(kept, samples.count());
        conserves(&session, &mut random);
    }
}

/// Make sure that with losses nothing is made up: time is conserved, and no total is larger than the truth.
#[test]
fn lossy_histories() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..120 {
        let history = History::new(&mut random);
        let lost = [1, 5, 30, 90][random.below(4) as usize];
        let session = session(span(0, END), history.recorded(&mut random, lost));
        let (told, _) = totals(&session);
        let truth = history.truth;
        assert!(
            told.cpu <= truth.cpu && told.runqueue <= truth.runqueue && told.blocked <= truth.blocked,
            "round {round}: {told:?} of {truth:?}"
        );
        conserves(&session, &mut random);
    }
}

/// Make sure that a part of a recording conserves as the whole does: sessions that begin and end amid everything.
#[test]
fn clipped_histories() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..40 {
        let history = History::new(&mut random);
        let from = random.below(END / 2);
        let part = span(from, from + random.below(END / 2));
        let session = session(part, history.recorded(&mut random, 2));
        conserves(&session, &mut random);
    }
}

/// Make sure that what a cycle costs in memory stays bounded: a session has millions.
#[test]
fn intervals_are_small() {
    assert!(size_of::<Interval>() <= 48);
    assert!(size_of::<RawCycle>() <= 80);
}
