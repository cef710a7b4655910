//! A made-up host whose cost depends on what is given up.

use super::*;

const CPUS: u32 = 4;
const CAP_PPM: u32 = 20_000;

/// What an interval costs as long as nothing is given up: ns by program, ns of the process, events.
#[derive(Clone, Debug, Default)]
struct Load {
    switch_ns: u64,
    sample_ns: u64,
    newtask_ns: u64,
    /// Of the calls' programs, and of the pages'.
    file_calls_ns: u64,
    pages_ns: u64,
    process_ns: u64,
    work: Work,
    switches: u64,
    births: u64,
}

/// Follows the watchdog's orders.
struct Host {
    watchdog: Watchdog,
    reading: Reading,
    actions: Vec<(u64, Action)>,
}

impl Host {
    fn new() -> Host {
        let mut host = Host {
            watchdog: Watchdog::new(CAP_PPM, 99),
            reading: Reading {
                ts: 1_000,
                cpus: CPUS,
                ..Reading::default()
            },
            actions: Vec::new(),
        };
        assert!(host.watchdog.observe(host.reading.clone()).0.is_empty());
        host
    }

    /// One interval of `load`, as far as it is still followed; its cost as a share of the cap.
    fn interval(&mut self, load: &Load) -> f64 {
        let watchdog = &self.watchdog;
        let on = |lever| !watchdog.is_pulled(lever);
        let sampled = f64::from(watchdog.hz()) / 99.0;
        let scheduling = on(Lever::Scheduling);
        let mut now = self.reading.clone();
        now.ts += INTERVAL_NS;
        let mut add = |name: &str, ns: u64| *now.programs.entry(name.to_owned()).or_default() += ns;
        let sample_ns = (load.sample_ns as f64 * sampled) as u64;
        let switch_ns = if scheduling { load.switch_ns } else { 0 };
        let newtask_ns = if on(Lever::Births) {
            load.newtask_ns
        } else {
            load.newtask_ns / 20
        };
        add("cpu_sample", sample_ns);
        add("sched_switch", switch_ns);
        add("task_newtask", newtask_ns);
        if on(Lever::FileCalls) {
            add("file_call_ends", load.file_calls_ns);
        }
        if on(Lever::Pages) {
            add("page_added", load.pages_ns);
        }
        let work = Work {
            disk: 0,
            samples: (load.work.samples as f64 * sampled) as u64,
            cycles: if scheduling && on(Lever::ShortWaits) {
                load.work.cycles
            } else {
                0
            },
            stacks: if scheduling && on(Lever::WaitStacks) {
                load.work.stacks
            } else {
                0
            },
            mappings: if on(Lever::Mappings) { load.work.mappings } else { 0 },
            lifecycle: if on(Lever::Births) {
                load.work.lifecycle
            } else {
                load.work.lifecycle / 20
            },
        };
        let weight = |work: &Work| {
            work.cycles * WEIGHT_CYCLE
                + work.stacks * WEIGHT_STACK
                + work.samples * WEIGHT_SAMPLE
                + work.mappings * WEIGHT_MAPPING
                + work.lifecycle * WEIGHT_LIFECYCLE
        };
        let process_ns = (load.process_ns * weight(&work))
            .checked_div(weight(&load.work))
            .unwrap_or(load.process_ns);
        now.process_ns += process_ns;
        now.work.samples += work.samples;
        now.work.cycles += work.cycles;
        now.work.stacks += work.stacks;
        now.work.mappings += work.mappings;
        now.work.lifecycle += work.lifecycle;
        now.switches += load.switches;
        now.births += load.births;
        self.reading = now.clone();
        let (actions, cost) = self.watchdog.observe(now);
        self.actions
            .extend(actions.into_iter().map(|action| (self.reading.ts, action)));
        assert_eq!(cost.window_ns, INTERVAL_NS);
        cost.ppm() as f64 / f64::from(CAP_PPM)
    }

    fn intervals(&mut self, load: &Load, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.interval(load)).collect()
    }

    fn levers(&self) -> Vec<(Lever, bool)> {
        self.actions
            .iter()
            .map(|(_, action)| (action.lever, action.reduced))
            .collect()
    }
}

/// The whole cap of an interval, ns.
fn cap_ns() -> u64 {
    INTERVAL_NS * u64::from(CPUS) * u64::from(CAP_PPM) / 1_000_000
}

fn quiet() -> Load {
    Load {
        switch_ns: cap_ns() / 10,
        sample_ns: cap_ns() / 20,
        process_ns: cap_ns() / 10,
        work: Work {
            samples: 100,
            cycles: 1_000,
            stacks: 50,
            mappings: 100,
            lifecycle: 100,
            disk: 0,
        },
        switches: 5_000,
        births: 20,
        ..Load::default()
    }
}

/// Make sure that below the cap nothing is given up, whatever comes in short bursts.
#[test]
fn bursts_are_let_pass() {
    let mut host = Host::new();
    let burst = Load {
        switch_ns: cap_ns() * 3,
        ..quiet()
    };
    for _ in 0..20 {
        host.intervals(&quiet(), 5);
        host.interval(&burst);
    }
    assert_eq!(host.actions, []);
}

/// Make sure that a storm of switches is shed within two seconds for what it is, that the cap holds while it lasts, and
/// that nothing is tried in vain until it is over.
#[test]
fn switch_storm() {
    let mut host = Host::new();
    host.intervals(&quiet(), 10);
    let storm = Load {
        switch_ns: cap_ns() * 3,
        switches: 400_000,
        ..quiet()
    };
    let costs = host.intervals(&storm, 400);
    let reaction = costs.iter().rposition(|share| *share > 1.0).unwrap() + 1;
    assert!(reaction <= 4, "{reaction} intervals: {:?}", &costs[..10]);
    assert_eq!(host.levers(), [(Lever::Scheduling, true)], "only what helps");
    host.intervals(&quiet(), 20);
    assert_eq!(host.levers().last(), Some(&(Lever::Scheduling, false)));
    assert!(!host.watchdog.is_pulled(Lever::Scheduling));
}

/// Make sure that what tells least goes first, and all comes back.
#[test]
fn least_loss_first() {
    let mut host = Host::new();
    let heavy = Load {
        sample_ns: cap_ns(),
        process_ns: cap_ns(),
        ..quiet()
    };
    host.intervals(&heavy, 40);
    let (_, first) = host.actions[0];
    assert_eq!((first.lever, first.reduced), (Lever::Sampling, true));
    assert!(first.value < 99 && first.value >= LOWEST_HZ);
    assert!(!host.watchdog.is_pulled(Lever::Scheduling), "{:?}", host.actions);
    let last = host.interval(&heavy);
    assert!(last <= 1.0, "{last}");
    host.intervals(&quiet(), 200);
    assert_eq!(host.watchdog.hz(), 99);
    assert!(Lever::ALL.into_iter().all(|lever| !host.watchdog.is_pulled(lever)));
}

/// Make sure that a storm of births ends with births being shed, and that this is the last resort.
#[test]
fn birth_storm() {
    let mut host = Host::new();
    let storm = Load {
        newtask_ns: cap_ns() * 2,
        process_ns: cap_ns() * 2,
        work: Work {
            lifecycle: 30_000,
            disk: 0,
            mappings: 100,
            ..quiet().work
        },
        births: 10_000,
        ..quiet()
    };
    host.intervals(&storm, 20);
    assert!(host.watchdog.is_pulled(Lever::Births), "{:?}", host.actions);
    assert!(host.interval(&storm) <= 1.0);
}

/// Make sure that what has to be pulled again soon is left alone for longer each time.
#[test]
fn relapses_wait_longer() {
    let mut host = Host::new();
    let heavy = Load {
        sample_ns: cap_ns() * 3,
        ..quiet()
    };
    let mut waits = Vec::new();
    for _ in 0..4 {
        while host.watchdog.hz() == 99 {
            host.interval(&heavy);
        }
        let since = host.reading.ts;
        while host.watchdog.hz() < 99 {
            host.interval(&Load::default());
        }
        waits.push(host.reading.ts - since);
    }
    assert!(
        waits.windows(2).all(|pair| pair[0] <= pair[1]) && waits[3] >= 3 * waits[0],
        "{waits:?}"
    );
}

/// Make sure that a cap that nothing can keep is said to be broken, once all is given up.
#[test]
fn helpless() {
    let mut host = Host::new();
    let dear = Load {
        process_ns: cap_ns() * 5,
        ..Load::default()
    };
    host.intervals(&dear, 60);
    assert!(host.watchdog.helpless() > 0);
}

/// Make sure that a reading without time between changes nothing.
#[test]
fn no_time() {
    let mut host = Host::new();
    let same = host.reading.clone();
    assert_eq!(host.watchdog.observe(same).0, []);
}

/// Make sure that calls on files, and pages, are given up when it is they that cost, and nothing else is; that they are tried
/// again less and less often while that lasts; and that they are taken up when it is over.
#[test]
fn files() {
    let (file_calls_ns, pages_ns) = (3 * cap_ns(), 3 * cap_ns());
    let calls = Load {
        file_calls_ns,
        ..quiet()
    };
    let pages = Load { pages_ns, ..quiet() };
    for (lever, load) in [(Lever::FileCalls, calls), (Lever::Pages, pages)] {
        let mut host = Host::new();
        let costs = host.intervals(&load, 400);
        assert!(
            host.levers().iter().all(|(pulled, _)| *pulled == lever),
            "only what helps"
        );
        let average = costs[20..].iter().sum::<f64>() / 380.0;
        assert!(average < 0.7, "{average}");
        let tried = host.levers().iter().filter(|(_, reduced)| !reduced).count();
        assert!((2..=8).contains(&tried), "{tried} times in 200 s");
        host.intervals(&quiet(), 130);
        assert!(!host.watchdog.is_pulled(lever));
    }
}
