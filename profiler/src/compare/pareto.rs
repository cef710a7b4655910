//! What a series of runs spends its time on: parts of the operations' critical paths, summed over the runs, the costliest
//! first.

use std::collections::HashMap;

use super::results::{PathShare, Series};

/// A part of the time of all runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    /// Over all runs, ns.
    pub ns: u64,
    /// With all that are larger, ns.
    pub up_to_ns: u64,
}

/// Time outside of all phases.
pub const OUTSIDE: &str = "outside of all phases";

/// By innermost phase.
pub fn phases(series: &[&Series]) -> Vec<Part> {
    rank(series, |share| {
        if share.phase.is_empty() {
            OUTSIDE.to_owned()
        } else {
            share.phase.clone()
        }
    })
}

/// By what the time went on, and which program's it was.
pub fn reasons(series: &[&Series]) -> Vec<Part> {
    rank(series, |share| {
        if share.program.is_empty() {
            share.reason.clone()
        } else {
            format!("{} in {}", share.reason, share.program)
        }
    })
}

/// By phase and reason: what to mend first.
pub fn bottlenecks(series: &[&Series]) -> Vec<Part> {
    rank(series, |share| {
        let phase = if share.phase.is_empty() { OUTSIDE } else { &share.phase };
        format!("{phase}: {}", share.reason)
    })
}

/// Sums of all successful runs.
fn rank(series: &[&Series], name: impl Fn(&PathShare) -> String) -> Vec<Part> {
    let mut sums: HashMap<String, u64> = HashMap::new();
    for share in series.iter().flat_map(|series| series.good()).flat_map(|run| &run.path) {
        let sum = sums.entry(name(share)).or_default();
        *sum = sum.saturating_add(share.ns);
    }
    let mut parts: Vec<Part> = sums
        .into_iter()
        .map(|(name, ns)| Part { name, ns, up_to_ns: 0 })
        .collect();
    parts.sort_by(|a, b| b.ns.cmp(&a.ns).then_with(|| a.name.cmp(&b.name)));
    let mut sum: u64 = 0;
    for part in &mut parts {
        sum = sum.saturating_add(part.ns);
        part.up_to_ns = sum;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::results::tests::results;

    /// Make sure that every ranking adds up to the same time, the largest first, over all runs.
    #[test]
    fn sums() {
        let (one, three) = (results(1), results(3));
        let of = |results: &super::super::results::Results, rank: fn(&[&Series]) -> Vec<Part>| {
            rank(&results.series.iter().collect::<Vec<_>>())
        };
        for rank in [phases, reasons, bottlenecks] {
            let (single, all) = (of(&one, rank), of(&three, rank));
            assert!(all.windows(2).all(|pair| pair[0].ns >= pair[1].ns));
            let path: u64 = three.series[0]
                .runs
                .iter()
                .flat_map(|run| &run.path)
                .map(|share| share.ns)
                .sum();
            assert_eq!(all.last().unwrap().up_to_ns, path);
            assert_eq!(single[0].ns * 3, all[0].ns);
        }
        assert_eq!(phases(&[]), []);
    }
}
