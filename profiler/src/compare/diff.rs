//! Two series beside each other: what has changed, by how much, how sure that is, and how small a change could have been
//! seen.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::budget::is_called;
use super::rank;
use super::results::{Outcome, PhaseRun, Results, Series, TOTAL};
use super::samples;
use super::stats::{self, Summary};
use crate::report::text;

/// Significance that all comparisons together are held to, and the confidence of each interval.
pub const ALPHA: f64 = 0.05;

/// Phases shorter than this part of the command in both series are not compared: they can't matter, and each comparison
/// makes the others less sharp.
const SMALLEST_PHASE: f64 = 0.001;

/// Resources that take less than this part of their phase in both series are not compared.
const SMALLEST_MEASURE: f64 = 0.01;

/// A wait that takes less than this part of the command, summed over threads, is not told as new or gone.
const SMALLEST_WAIT: f64 = 0.01;

/// Columns of a command or a CPU's name that are told.
const WORDS: usize = 60;

/// What to compare by.
#[derive(Clone, Debug)]
pub struct Options {
    /// The smallest change of a phase that counts, as a part of the phase's length in the base: a difference can be
    /// certain and still not matter.
    pub min_change: f64,
    /// Only phases of these names ([`is_called`]), whatever their length; empty for all. Who knows beforehand what a change
    /// is to make shorter needs no correction for all that it is not.
    pub phases: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            min_change: 0.01,
            phases: Vec::new(),
        }
    }
}

impl Options {
    fn choose(&self, phase: &PhaseRun) -> bool {
        self.phases.is_empty() || self.phases.iter().any(|name| is_called(phase, name))
    }
}

/// How a figure is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// More of it, significant and large enough to count.
    More,
    /// Less of it.
    Less,
    /// No significant change, or one too small to count.
    Same,
    /// Too few runs for any difference to be significant.
    Unknown,
}

/// A figure in both series.
#[derive(Clone, Debug)]
pub struct Change {
    pub key: String,
    pub measure: String,
    pub base: Summary,
    pub new: Summary,
    /// Hodges–Lehmann estimate, in the measure's unit.
    pub shift: f64,
    /// Its confidence interval; `None` with too few runs.
    pub interval: Option<(f64, f64)>,
    /// Two-sided, exact.
    pub p: f64,
    /// Corrected for the number of comparisons (Holm).
    pub p_adjusted: f64,
    /// The smallest shift that would have been found four times of five; `None` when none would.
    pub detectable: Option<f64>,
    /// What shares are of: the phase's median length in the base.
    pub phase_ns: f64,
    pub judged: Judged,
}

impl Change {
    /// A shift as a part of the phase's length in the base.
    pub fn part(&self, shift: f64) -> f64 {
        if samples::is_size(&self.measure) {
            shift / (self.base.median as f64).max(1.0)
        } else {
            shift / self.phase_ns.max(1.0)
        }
    }
}

/// Something that only one of the series has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Only {
    /// `phase`, `program`, `wait`.
    pub what: &'static str,
    pub name: String,
    /// In how many of how many runs.
    pub runs: usize,
    pub of: usize,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    Changed,
    CantTell,
}

impl Verdict {
    /// The program's exit status.
    pub fn status(self) -> u8 {
        match self {
            Verdict::Same => 0,
            Verdict::Changed => 1,
            Verdict::CantTell => 2,
        }
    }
}

/// Two series compared.
#[derive(Clone, Debug)]
pub struct Difference {
    pub base: Side,
    pub new: Side,
    /// Phase after phase, the command as a whole first; of each the wall time first.
    pub changes: Vec<Change>,
    pub gone: Vec<Only>,
    pub added: Vec<Only>,
    /// Phases and resources that were too small to be compared.
    pub too_small: usize,
    /// Why the verdict is to be taken with care, in words.
    pub cautions: Vec<String>,
    pub verdict: Verdict,
    /// Why nothing can be told; empty when something can.
    pub why: String,
}

/// One of the two.
#[derive(Clone, Debug, Default)]
pub struct Side {
    pub series: String,
    /// Runs whose figures count, and all.
    pub good: usize,
    pub runs: usize,
    /// Median length of the command, ns.
    pub total_ns: f64,
}

impl Side {
    fn of(series: &Series) -> Side {
        Side {
            series: series.name.clone(),
            good: series.good().count(),
            runs: series.runs.len(),
            total_ns: stats::median(&samples::independent(series, TOTAL, "wall")),
        }
    }
}

/// Compares two series of runs.
pub fn compare(base: &Series, new: &Series, options: &Options) -> Difference {
    let sides = (Side::of(base), Side::of(new));
    let (changes, too_small) = changes(base, new, &sides, options);
    let (gone, added) = (only(base, new, &sides.0, options), only(new, base, &sides.1, options));
    let mut difference = Difference {
        base: sides.0,
        new: sides.1,
        changes,
        gone,
        added,
        too_small,
        cautions: Vec::new(),
        verdict: Verdict::CantTell,
        why: String::new(),
    };
    judge(&mut difference, options);
    cautions(&mut difference, base, new);
    difference
}

/// What of the circumstances differs between two files of results.
pub fn circumstances(base: &Results, new: &Results) -> Vec<String> {
    let mut differ = Vec::new();
    let mut differs = |what: &str, base: &str, new: &str| {
        if base != new {
            let short = |words: &str| text::fit(words, WORDS);
            differ.push(format!("{what}: {:?} and {:?}", short(base), short(new)));
        }
    };
    let (old, now) = (&base.host, &new.host);
    let size = |bytes: u64| format!("{} MiB", bytes >> 20);
    differs("another host", &old.hostname, &now.hostname);
    differs("another CPU", &old.cpu_model, &now.cpu_model);
    differs("another number of CPUs", &old.cpus.to_string(), &now.cpus.to_string());
    differs("other memory", &size(old.memory_bytes), &size(now.memory_bytes));
    differs("another kernel", &old.kernel, &now.kernel);
    differs("another machine", &old.machine, &now.machine);
    differs("another version of phasegraph", &base.version, &new.version);
    differs("another command", &base.command.join(" "), &new.command.join(" "));
    let names: BTreeSet<&String> = base.notes.keys().chain(new.notes.keys()).collect();
    for name in names {
        let noted = |results: &Results| results.notes.get(name).cloned().unwrap_or_default();
        differs(&format!("another {name}"), &noted(base), &noted(new));
    }
    differ
}

fn changes(base: &Series, new: &Series, sides: &(Side, Side), options: &Options) -> (Vec<Change>, usize) {
    let total = sides.0.total_ns.max(sides.1.total_ns);
    let mut criticals = rank::Criticals::default();
    // With the figures of both sides.
    let mut compared: Vec<(Change, Vec<f64>, Vec<f64>)> = Vec::new();
    let mut too_small = 0;
    let of_base = base.good().flat_map(|run| &run.phases);
    let known: HashSet<&str> = of_base
        .filter(|phase| options.choose(phase))
        .map(|phase| &phase.key[..])
        .collect();
    for key in samples::keys(new).into_iter().filter(|key| known.contains(key)) {
        let mut phase_ns = (0.0, 0.0);
        for measure in samples::MEASURES {
            let (before, after) = (
                samples::independent(base, key, measure),
                samples::independent(new, key, measure),
            );
            if before.is_empty() || after.is_empty() {
                continue;
            }
            // A phase's is often that of one process below it: one figure many times would dull all other comparisons.
            if measure == "memory" && key != TOTAL {
                continue;
            }
            let (middle, now) = (stats::median(&before), stats::median(&after));
            let larger = middle.max(now);
            if measure == "wall" {
                phase_ns = (middle, larger);
                if larger < SMALLEST_PHASE * total && options.phases.is_empty() {
                    too_small += 1;
                    break;
                }
            }
            let small = SMALLEST_MEASURE * phase_ns.1;
            if measure != "wall" && (larger == 0.0 || (!samples::is_size(measure) && larger < small)) {
                too_small += usize::from(larger > 0.0);
                continue;
            }
            let Some(shift) = rank::shift(&before, &after, 1.0 - ALPHA, &mut criticals) else {
                continue;
            };
            let change = Change {
                key: key.to_owned(),
                measure: measure.to_owned(),
                base: Summary::of(&before),
                new: Summary::of(&after),
                shift: shift.by,
                interval: shift.interval,
                p: rank::p_value(&before, &after),
                p_adjusted: 1.0,
                detectable: None,
                phase_ns: phase_ns.0,
                judged: Judged::Unknown,
            };
            compared.push((change, before, after));
        }
    }
    let p: Vec<f64> = compared.iter().map(|(change, _, _)| change.p).collect();
    let alpha = ALPHA / p.len().max(1) as f64;
    for ((change, before, after), adjusted) in compared.iter_mut().zip(rank::holm(&p)) {
        change.p_adjusted = adjusted;
        // The strictest of Holm's steps: what is said to be detectable is so whatever else is found.
        change.detectable = rank::detectable(before, after, alpha, &mut criticals);
        let possible = rank::smallest_p(before.len(), after.len()) <= alpha;
        change.judged = if adjusted <= ALPHA && change.part(change.shift).abs() >= options.min_change {
            if change.shift > 0.0 { Judged::More } else { Judged::Less }
        } else if possible || adjusted <= ALPHA {
            Judged::Same
        } else {
            Judged::Unknown
        };
    }
    let changes = compared.into_iter().map(|(change, _, _)| change);
    (changes.collect(), too_small)
}

/// What a series has in most of its runs, and the other in none.
fn only(here: &Series, there: &Series, side: &Side, options: &Options) -> Vec<Only> {
    let count = |series: &Series| {
        let mut counts: BTreeMap<(&'static str, String), usize> = BTreeMap::new();
        for run in series.good() {
            let mut own = std::collections::BTreeSet::new();
            let phases = run.phases.iter().filter(|phase| options.choose(phase));
            own.extend(phases.map(|phase| ("phase", phase.key.clone())));
            if !options.phases.is_empty() {
                for name in own {
                    *counts.entry(name).or_default() += 1;
                }
                continue;
            }
            own.extend(run.programs.iter().map(|program| ("program", program.name.clone())));
            let waits = run
                .waits
                .iter()
                .filter(|wait| wait.wait_ns as f64 >= SMALLEST_WAIT * run.wall_ns as f64);
            own.extend(waits.map(|wait| ("wait", format!("{}: {}", wait.class, wait.detail))));
            for name in own {
                *counts.entry(name).or_default() += 1;
            }
        }
        counts
    };
    // A short wait is no new one: whatever the other series has of it counts.
    let mut elsewhere: HashMap<(&'static str, String), usize> = count(there).into_iter().collect();
    for wait in there.good().flat_map(|run| &run.waits) {
        *elsewhere
            .entry(("wait", format!("{}: {}", wait.class, wait.detail)))
            .or_default() += 1;
    }
    count(here)
        .into_iter()
        .filter(|(name, runs)| 2 * runs > side.good && !elsewhere.contains_key(name))
        .map(|((what, name), runs)| Only {
            what,
            name,
            runs,
            of: side.good,
        })
        .collect()
}

fn judge(difference: &mut Difference, options: &Options) {
    let (n, m) = (difference.base.good, difference.new.good);
    let comparisons = difference.changes.len();
    let alpha = ALPHA / comparisons.max(1) as f64;
    let structure = difference.gone.iter().chain(&difference.added);
    let structure = structure.filter(|only| only.what != "wait").count();
    if n == 0 || m == 0 {
        difference.why = "one side has no successful run".to_owned();
    } else if n == 1 || m == 1 {
        difference.why = "of a single run nobody knows how much it varies: no difference can be significant".to_owned();
    } else if difference
        .changes
        .iter()
        .any(|change| matches!(change.judged, Judged::More | Judged::Less))
    {
        difference.verdict = Verdict::Changed;
    } else if comparisons == 0 && !options.phases.is_empty() {
        let names = options.phases.join(", ");
        difference.why = format!("the two have no phase {} in common", text::visible(names.as_bytes()));
    } else if comparisons == 0 {
        difference.why = "the two have no phase in common".to_owned();
    } else if rank::smallest_p(n, m) > alpha {
        difference.why = format!(
            "{n} and {m} runs are too few for {comparisons} comparisons: even a complete difference could come by chance; \
             {} runs each are enough",
            enough(alpha)
        );
    } else if structure > 0 {
        difference.verdict = Verdict::Changed;
    } else {
        difference.verdict = Verdict::Same;
    }
}

/// The fewest runs on each side of which a complete difference is significant at `alpha`.
fn enough(alpha: f64) -> usize {
    (2..100)
        .find(|runs| rank::smallest_p(*runs, *runs) <= alpha)
        .unwrap_or(100)
}

fn cautions(difference: &mut Difference, base: &Series, new: &Series) {
    for (name, series) in [("base", base), ("new", new)] {
        let not = |outcome: Outcome| series.runs.iter().filter(|run| run.outcome == outcome).count();
        for (outcome, words) in [
            (Outcome::Failed, "failed"),
            (Outcome::Timeout, "ran into the timeout"),
            (Outcome::Broken, "were not recorded to their end"),
        ] {
            if not(outcome) > 0 {
                let (count, runs) = (not(outcome), series.runs.len());
                difference
                    .cautions
                    .push(format!("{name}: {count} of {runs} runs {words} and are left out"));
            }
        }
        let lossy = series.good().filter(|run| run.lost > 0).count();
        if lossy > 0 {
            difference
                .cautions
                .push(format!("{name}: events are missing from {lossy} recordings"));
        }
        let mut versions: Vec<&str> = series.runs.iter().map(|run| &run.version[..]).collect();
        versions.sort_unstable();
        versions.dedup();
        if versions.len() > 1 {
            let versions = versions.join(", ");
            difference.cautions.push(format!(
                "{name}: recorded by different versions of phasegraph ({versions})"
            ));
        }
    }
    if base.cold != new.cold {
        difference
            .cautions
            .push("one series is cold, the other warm".to_owned());
    }
}

#[cfg(test)]
pub(crate) mod tests;
