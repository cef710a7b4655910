//! The overhead cap: decides what to give up, and when to take it up again. No I/O: it is told what was measured, and
//! says what to do (`docs/design/0011`).

use std::collections::BTreeMap;

use super::work::Work;
use crate::recording::lever::Lever;

/// Lowest sampling frequency that the cap goes down to, Hz.
pub const LOWEST_HZ: u32 = 6;

/// How often the cost is looked at, ns: five hundred times what reading it takes.
pub const INTERVAL_NS: u64 = 500_000_000;
/// What may be used up at once, as time at the cap, ns: a container's start is no storm.
const BURST_NS: u64 = 1_500_000_000;
/// Part of the cap that is aimed at when something is given up, so that it holds.
const AIM: f64 = 0.7;
/// Part of the cap below which something is taken up again.
const LOW: f64 = 0.5;
/// What a lever must save, of what has to be saved, to be worth its loss.
const WORTH: f64 = 0.1;
/// How long the cost must have been low before anything is taken up again, ns; doubled for a lever each time it has to
/// be pulled again soon after.
const HOLD_NS: u64 = 3_000_000_000;
/// The most that the doubling leads to, ns.
const MAX_HOLD_NS: u64 = 60_000_000_000;
/// Pulled again within this time after it was taken up, ns: too early.
const RELAPSE_NS: u64 = 30_000_000_000;

/// Relative cost of one event in user space, measured by `perf` on builds: a stack is looked up frame by frame, a
/// mapping asks for a file.
const WEIGHT_CYCLE: u64 = 1;
const WEIGHT_STACK: u64 = 4;
const WEIGHT_SAMPLE: u64 = 4;
const WEIGHT_MAPPING: u64 = 3;
const WEIGHT_LIFECYCLE: u64 = 3;
const WEIGHT_DISK: u64 = 1;
/// What a stack costs the kernel (`docs/design/0004`), ns.
const KERNEL_STACK_NS: u64 = 2_000;
/// What sending an event costs the kernel, ns.
const KERNEL_EVENT_NS: u64 = 300;
/// Part of the intervals without a stack that summing up to a millisecond saves: a guess that the next look corrects.
const SUMMED: f64 = 0.8;

/// Signals that a lever detaches.
pub fn signals(lever: Lever) -> &'static [&'static str] {
    match lever {
        // A wake tells nothing without the switches around it.
        Lever::Scheduling => &["sched_switch", "sched_waking"],
        Lever::FileCalls => &["file_call_begins", "file_call_ends"],
        Lever::Pages => &["page_added", "page_dirtied"],
        Lever::Sampling | Lever::ShortWaits | Lever::WaitStacks | Lever::Mappings | Lever::Births => &[],
    }
}

/// What has been measured since the recording began.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`, ns.
    pub ts: u64,
    /// CPUs online now.
    pub cpus: u32,
    /// Run time by program, ns, by the kernel's statistics.
    pub programs: BTreeMap<String, u64>,
    /// CPU time of the profiler's process, ns.
    pub process_ns: u64,
    pub work: Work,
    /// Context switches of the host (`ctxt` of `/proc/stat`).
    pub switches: u64,
    /// Processes born on the host (`processes` of `/proc/stat`).
    pub births: u64,
}

/// Cost of one interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    pub bpf_ns: u64,
    pub process_ns: u64,
    pub window_ns: u64,
    pub cpus: u32,
    /// The program with the longest run time; empty without any.
    pub dearest: String,
}

impl Cost {
    fn total(&self) -> u64 {
        self.bpf_ns + self.process_ns
    }

    /// Share of the host's CPU time, in millionths.
    pub fn ppm(&self) -> u64 {
        let host = self.window_ns * u64::from(self.cpus);
        (self.total() * 1_000_000).checked_div(host).unwrap_or(0)
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    pub lever: Lever,
    /// For [`Lever::Sampling`] the frequency from now on, Hz; for the others 1: recorded, 0: not.
    pub value: u32,
    /// Less than was asked for.
    pub reduced: bool,
}

/// What is known of a lever.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    pulled: bool,
    /// What it saved when it was pulled, as a share of the host's CPU time.
    saved: f64,
    /// Switches and births a second then.
    rates: (f64, f64),
    hold_ns: u64,
    /// When it was last taken up again.
    released: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Watchdog {
    /// Share of the host's CPU time.
    cap: f64,
    full_hz: u32,
    hz: u32,
    last: Option<Reading>,
    /// What may be used up before something must be given up, ns of CPU time.
    credit: f64,
    levers: [Known; Lever::ALL.len()],
    /// In the order in which they were pulled.
    pulled: Vec<Lever>,
    /// Since when the cost is low.
    low_since: Option<u64>,
    /// Intervals in which the cap was not kept although nothing was left to give up.
    helpless: u64,
}

impl Watchdog {
    /// `cap_ppm`: millionths of the host's CPU time; `hz`: the sampling frequency that was asked for.
    pub fn new(cap_ppm: u32, hz: u32) -> Watchdog {
        Watchdog {
            cap: f64::from(cap_ppm) / 1e6,
            full_hz: hz,
            hz,
            last: None,
            credit: f64::MAX,
            levers: [Known {
                hold_ns: HOLD_NS,
                ..Known::default()
            }; Lever::ALL.len()],
            pulled: Vec::new(),
            low_since: None,
            helpless: 0,
        }
    }

    /// Intervals in which the cap was not kept although nothing was left to give up.
    pub fn helpless(&self) -> u64 {
        self.helpless
    }

    /// The sampling frequency at present, Hz.
    pub fn hz(&self) -> u32 {
        self.hz
    }

    /// Whether something is given up at present.
    pub fn is_pulled(&self, lever: Lever) -> bool {
        self.levers[lever as usize].pulled
    }

    /// What was to be taken up again can't be: it counts as given up for as long as possible.
    pub fn keep(&mut self, lever: Lever) {
        let known = &mut self.levers[lever as usize];
        if !known.pulled {
            known.pulled = true;
            known.hold_ns = MAX_HOLD_NS;
            self.pulled.push(lever);
        }
    }

    /// Takes a reading; says what to do, and what the interval cost that led to it.
    pub fn observe(&mut self, now: Reading) -> (Vec<Action>, Cost) {
        let Some(before) = self.last.replace(now.clone()) else {
            return (Vec::new(), Cost::default());
        };
        let interval = Interval::new(&before, &now);
        let Interval { cost, .. } = &interval;
        if cost.window_ns == 0 || cost.cpus == 0 {
            return (Vec::new(), cost.clone());
        }
        let host = interval.host();
        let burst = self.cap * BURST_NS as f64 * f64::from(cost.cpus);
        let total = cost.total() as f64;
        self.credit = (self.credit + self.cap * host - total).min(burst);
        let actions = if self.credit < 0.0 {
            self.low_since = None;
            // The next interval pays for what is done now.
            self.credit = burst / 3.0;
            self.give_up(&interval, total - AIM * self.cap * host, host)
        } else if total < LOW * self.cap * host && !self.pulled.is_empty() {
            let since = *self.low_since.get_or_insert(before.ts);
            self.take_up(&interval, since, now.ts, total / host)
        } else {
            self.low_since = None;
            Vec::new()
        };
        (actions, interval.cost)
    }

    fn give_up(&mut self, interval: &Interval, mut excess: f64, host: f64) -> Vec<Action> {
        let mut actions = Vec::new();
        let all = excess;
        for lever in Lever::ALL {
            while excess > 0.0 && self.can_pull(lever) {
                let saving = self.saving(lever, interval);
                if saving < all * WORTH {
                    break;
                }
                actions.retain(|action: &Action| action.lever != lever);
                actions.push(self.pull(lever, saving / host, interval));
                excess -= saving;
            }
        }
        if actions.is_empty() {
            // Nothing that is worth much by itself: the dearest there is.
            let left = Lever::ALL.into_iter().filter(|lever| self.can_pull(*lever));
            let dearest = left
                .map(|lever| (lever, self.saving(lever, interval)))
                .filter(|(_, saving)| *saving > 0.0)
                .max_by(|(_, a), (_, b)| a.total_cmp(b));
            match dearest {
                Some((lever, saving)) => actions.push(self.pull(lever, saving / host, interval)),
                None => self.helpless += 1,
            }
        }
        actions
    }

    fn can_pull(&self, lever: Lever) -> bool {
        match lever {
            Lever::Sampling => self.hz > LOWEST_HZ,
            other => !self.is_pulled(other),
        }
    }

    /// What pulling a lever would have saved of an interval, ns.
    fn saving(&self, lever: Lever, interval: &Interval) -> f64 {
        let Interval { work, .. } = interval;
        let user = |weighted: u64| interval.user(weighted);
        match lever {
            Lever::Sampling => {
                let all = interval.sampling() * interval.host();
                all * (1.0 - f64::from(self.lower_hz()) / f64::from(self.hz))
            }
            Lever::FileCalls => interval.programs_of(signals(lever)),
            Lever::Pages => interval.programs_of(signals(lever)) + user(work.disk * WEIGHT_DISK),
            Lever::ShortWaits => {
                let kernel = (work.cycles * KERNEL_EVENT_NS) as f64;
                SUMMED * (kernel + user(work.cycles * WEIGHT_CYCLE))
            }
            Lever::WaitStacks => (work.stacks * KERNEL_STACK_NS) as f64 + user(work.stacks * WEIGHT_STACK),
            Lever::Mappings => user(work.mappings * WEIGHT_MAPPING),
            Lever::Scheduling => {
                let events = work.cycles * WEIGHT_CYCLE + work.stacks * WEIGHT_STACK;
                interval.programs_of(signals(lever)) + user(events)
            }
            Lever::Births => {
                let programs = ["task_newtask", "sched_process_exec", "sched_process_exit"];
                interval.programs_of(&programs) + user(work.lifecycle * WEIGHT_LIFECYCLE)
            }
        }
    }

    fn lower_hz(&self) -> u32 {
        (self.hz / 2).max(LOWEST_HZ).min(self.hz)
    }

    fn pull(&mut self, lever: Lever, saved: f64, interval: &Interval) -> Action {
        let value = match lever {
            Lever::Sampling => {
                self.hz = self.lower_hz();
                self.hz
            }
            _ => 0,
        };
        let known = &mut self.levers[lever as usize];
        let relapse = known
            .released
            .is_some_and(|released| interval.to.saturating_sub(released) < RELAPSE_NS);
        if !known.pulled && relapse {
            known.hold_ns = (known.hold_ns * 2).min(MAX_HOLD_NS);
        }
        known.saved = if known.pulled { known.saved + saved } else { saved };
        known.rates = interval.rates;
        if !known.pulled {
            known.pulled = true;
            self.pulled.push(lever);
        }
        Action {
            lever,
            value,
            reduced: true,
        }
    }

    /// Takes up what was given up last, if it would not lead over the cap again by all that is known.
    fn take_up(&mut self, interval: &Interval, since: u64, now: u64, cost: f64) -> Vec<Action> {
        let Some(&lever) = self.pulled.last() else {
            return Vec::new();
        };
        let known = &mut self.levers[lever as usize];
        // It costs in proportion to what it follows, which the host counts whether it is followed or not.
        let (switches, births) = interval.rates;
        let ratio = |now: f64, then: f64| if then > 0.0 { now / then } else { 1.0 };
        let more = match lever {
            // What is still sampled tells.
            Lever::Sampling => interval.sampling() * (f64::from(self.full_hz) / f64::from(self.hz) - 1.0),
            Lever::ShortWaits | Lever::WaitStacks | Lever::Scheduling => known.saved * ratio(switches, known.rates.0),
            Lever::Mappings | Lever::Births => known.saved * ratio(births, known.rates.1),
            // Nothing that the host counts follows them: to try is the only way, each time after twice as long.
            Lever::FileCalls | Lever::Pages => 0.0,
        };
        if now.saturating_sub(since) < known.hold_ns || cost + more > AIM * self.cap {
            return Vec::new();
        }
        known.pulled = false;
        known.released = Some(now);
        self.pulled.pop();
        self.low_since = None;
        let value = match lever {
            Lever::Sampling => {
                self.hz = self.full_hz;
                self.hz
            }
            _ => 1,
        };
        vec![Action {
            lever,
            value,
            reduced: false,
        }]
    }
}

/// What came between two readings.
struct Interval {
    to: u64,
    cost: Cost,
    programs: BTreeMap<String, u64>,
    work: Work,
    /// Switches and births of the host a second.
    rates: (f64, f64),
}

impl Interval {
    fn new(before: &Reading, now: &Reading) -> Interval {
        let programs: BTreeMap<String, u64> = now
            .programs
            .iter()
            .map(|(name, ns)| {
                let before = before.programs.get(name).copied().unwrap_or(0);
                (name.clone(), ns.saturating_sub(before))
            })
            .collect();
        let window_ns = now.ts.saturating_sub(before.ts);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 * 1e9 / window_ns.max(1) as f64;
        let dearest = programs.iter().max_by_key(|(_, ns)| **ns).filter(|(_, ns)| **ns > 0);
        Interval {
            to: now.ts,
            cost: Cost {
                bpf_ns: programs.values().sum(),
                process_ns: now.process_ns.saturating_sub(before.process_ns),
                window_ns,
                cpus: now.cpus,
                dearest: dearest.map(|(name, _)| name.clone()).unwrap_or_default(),
            },
            rates: (rate(now.switches, before.switches), rate(now.births, before.births)),
            work: now.work.since(&before.work),
            programs,
        }
    }

    /// CPU time that there was, ns.
    fn host(&self) -> f64 {
        (self.cost.window_ns * u64::from(self.cost.cpus)) as f64
    }

    /// Cost of the CPU samples, as a share of the host's CPU time.
    fn sampling(&self) -> f64 {
        let all = self.program("cpu_sample") + self.user(self.work.samples * WEIGHT_SAMPLE);
        all / self.host().max(1.0)
    }

    fn programs_of(&self, names: &[&str]) -> f64 {
        names.iter().map(|name| self.program(name)).sum()
    }

    fn program(&self, name: &str) -> f64 {
        self.programs.get(name).copied().unwrap_or(0) as f64
    }

    /// Part of the process's time that went into events of this weight.
    fn user(&self, weighted: u64) -> f64 {
        let work = &self.work;
        let all = work.cycles * WEIGHT_CYCLE
            + work.stacks * WEIGHT_STACK
            + work.samples * WEIGHT_SAMPLE
            + work.mappings * WEIGHT_MAPPING
            + work.lifecycle * WEIGHT_LIFECYCLE
            + work.disk * WEIGHT_DISK;
        if all == 0 {
            return 0.0;
        }
        self.cost.process_ns as f64 * weighted as f64 / all as f64
    }
}

#[cfg(test)]
mod tests;
