//! Two series compared by ranks, which asks nothing of how their figures are distributed: the exact Wilcoxon–Mann–Whitney
//! test, Hodges and Lehmann's shift with the confidence interval that belongs to that test, Holm's correction for many
//! comparisons, and the smallest shift that would have been found.
//!
//! Sources: Hollander, Wolfe, Chicken, *Nonparametric Statistical Methods*, 3rd ed., sections 4.1 to 4.3 (test, estimate,
//! interval); Holm, *A simple sequentially rejective multiple test procedure*, Scand. J. Statist. 6 (1979).
//!
//! statrs has this test from 0.19 on, but its exact form knows no ties and walks through every combination, which nobody
//! lives to see the end of from about 20 figures each; so only the normal distribution is taken from there.

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF, Normal};

use super::stats::median;

/// Most figures of both series together for which the null distribution is counted out; beyond, the normal approximation
/// with corrections for ties and continuity is off by less than a hundredth of p.
const MOST_EXACT: usize = 100;

/// Resamples for [`detectable`]: the share of them that is found is known to about 3 %.
const RESAMPLES: usize = 200;

/// Halvings by which the smallest shift is found: to a 16,000th of the figures' width.
const STEPS: usize = 14;

/// The share of series that must be found for a shift to count as one that would have been.
pub const POWER: f64 = 0.8;

/// Two-sided p of the hypothesis that both series come from the same distribution. Exact, ties included, up to
/// [`MOST_EXACT`] figures; 1 when a series is empty.
pub fn p_value(base: &[f64], new: &[f64]) -> f64 {
    let (n, m) = (base.len(), new.len());
    if n == 0 || m == 0 {
        return 1.0;
    }
    let ranks = doubled_ranks(base, new);
    if n + m > MOST_EXACT {
        return approximate_p(&ranks, n);
    }
    let sum: usize = ranks[..n].iter().sum();
    let counts = subset_sums(&ranks, n);
    let total: f64 = counts.iter().sum();
    // Twice the mean of the doubled rank sum, to stay in whole numbers.
    let twice_mean = 2 * n * (n + m + 1);
    let distance = |sum: usize| (2 * sum).abs_diff(twice_mean);
    let seen = distance(sum);
    let extreme = counts.iter().enumerate().filter(|(sum, _)| distance(*sum) >= seen);
    let extreme: f64 = extreme.map(|(_, count)| count).sum();
    (extreme / total).min(1.0)
}

/// p by the normal approximation, from doubled ranks of which the first `n` are the base's.
fn approximate_p(ranks: &[usize], n: usize) -> f64 {
    let count = ranks.len() as f64;
    let (n, m) = (n as f64, count - n as f64);
    let sum = ranks.iter().take(n as usize).sum::<usize>() as f64 / 2.0;
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    let ties = sorted
        .chunk_by(|a, b| a == b)
        .map(|tied| (tied.len() as f64).powi(3) - tied.len() as f64);
    let variance = n * m / 12.0 * (count + 1.0 - ties.sum::<f64>() / (count * (count - 1.0)));
    if variance <= 0.0 {
        // All figures alike: nothing speaks against the hypothesis.
        return 1.0;
    }
    let distance = ((sum - n * (count + 1.0) / 2.0).abs() - 0.5).max(0.0);
    (2.0 * (1.0 - Normal::standard().cdf(distance / variance.sqrt()))).min(1.0)
}

/// The smallest p that two series of these lengths can give: all of one below all of the other.
pub fn smallest_p(n: usize, m: usize) -> f64 {
    let mut combinations = 1.0;
    for index in 0..n.min(m) {
        combinations *= (n + m - index) as f64 / (index + 1) as f64;
    }
    (2.0 / combinations).min(1.0)
}

/// Ranks of all figures, the base's first, doubled so that those of ties are whole.
fn doubled_ranks(base: &[f64], new: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = base.iter().chain(new).copied().collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|a, b| all[*a].total_cmp(&all[*b]));
    let mut ranks = vec![0; all.len()];
    let mut from = 0;
    while from < order.len() {
        let mut to = from + 1;
        while to < order.len() && all[order[to]] == all[order[from]] {
            to += 1;
        }
        for index in &order[from..to] {
            ranks[*index] = from + 1 + to;
        }
        from = to;
    }
    ranks
}

/// By sum: how many subsets of `size` of the ranks have it.
fn subset_sums(ranks: &[usize], size: usize) -> Vec<f64> {
    let most: usize = ranks.iter().sum();
    let mut counts = vec![vec![0.0; most + 1]; size + 1];
    counts[0][0] = 1.0;
    let mut reached = 0;
    for (index, rank) in ranks.iter().enumerate() {
        reached += rank;
        for taken in (1..=size.min(index + 1)).rev() {
            let (below, here) = counts.split_at_mut(taken);
            let (below, here) = (&below[taken - 1], &mut here[0]);
            for sum in *rank..=reached {
                here[sum] += below[sum - rank];
            }
        }
    }
    counts.pop().unwrap_or_default()
}

/// The largest U with a probability of at most `tail` that it or a smaller one comes by chance; `None` when even 0 is
/// likelier. Without ties.
fn critical_u(n: usize, m: usize, tail: f64) -> Option<usize> {
    if n + m > MOST_EXACT {
        let (n, m) = (n as f64, m as f64);
        let sd = (n * m * (n + m + 1.0) / 12.0).sqrt();
        let u = n * m / 2.0 - Normal::standard().inverse_cdf(1.0 - tail) * sd - 0.5;
        return (u >= 0.0).then(|| u.floor() as usize);
    }
    let ranks: Vec<usize> = (1..=n + m).collect();
    let counts = subset_sums(&ranks, n);
    let total: f64 = counts.iter().sum();
    let lowest = n * (n + 1) / 2;
    let mut below = 0.0;
    let mut critical = None;
    for (u, count) in counts.iter().skip(lowest).enumerate() {
        below += count;
        if below / total > tail {
            break;
        }
        critical = Some(u);
    }
    critical
}

/// Critical values by lengths of both series and bits of the tail, each counted out once: of a hundred comparisons nearly all
/// have the same.
#[derive(Debug, Default)]
pub struct Criticals(BTreeMap<(usize, usize, u64), Option<usize>>);

impl Criticals {
    /// As [`critical_u`].
    fn u(&mut self, n: usize, m: usize, tail: f64) -> Option<usize> {
        let known = self.0.entry((n, m, tail.to_bits()));
        *known.or_insert_with(|| critical_u(n, m, tail))
    }
}

/// How far the new figures lie from the base's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// Hodges and Lehmann's estimate: the median of all differences between a new and a base figure.
    pub by: f64,
    /// Confidence interval; `None` when there are too few figures for one.
    pub interval: Option<(f64, f64)>,
}

/// The shift from `base` to `new`, with an interval of `confidence` (0.95) of its own; `None` when a series is empty.
pub fn shift(base: &[f64], new: &[f64], confidence: f64, criticals: &mut Criticals) -> Option<Shift> {
    if base.is_empty() || new.is_empty() {
        return None;
    }
    let pairs = base.iter().flat_map(|base| new.iter().map(move |new| new - base));
    let mut differences: Vec<f64> = pairs.collect();
    differences.sort_by(f64::total_cmp);
    let critical = criticals.u(base.len(), new.len(), (1.0 - confidence) / 2.0);
    let interval = critical.map(|u| {
        let last = differences.len() - 1;
        (differences[u.min(last)], differences[last - u.min(last)])
    });
    Some(Shift {
        by: median(&differences),
        interval,
    })
}

/// p corrected for the number of comparisons, each in its place: the chance of even one false finding among all is then
/// held (Holm 1979), whatever depends on what.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut largest: f64 = 0.0;
    for (place, index) in order.into_iter().enumerate() {
        largest = largest.max(p[index] * (p.len() - place) as f64).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

/// The smallest shift that is found, with significance `alpha`, in [`POWER`] of series drawn (with a fixed seed) from
/// these two, each about its own median. `None` when no shift could be: too few figures.
pub fn detectable(base: &[f64], new: &[f64], alpha: f64, criticals: &mut Criticals) -> Option<f64> {
    let (n, m) = (base.len(), new.len());
    let critical = criticals.u(n, m, alpha / 2.0)? as f64;
    let about = |values: &[f64]| {
        let middle = median(values);
        values.iter().map(move |value| value - middle).collect::<Vec<f64>>()
    };
    let rest: Vec<f64> = about(base).into_iter().chain(about(new)).collect();
    let widest = rest.iter().fold(0.0_f64, |widest, value| widest.max(value.abs()));
    if widest == 0.0 {
        return Some(0.0);
    }
    let mut random = fastrand::Rng::with_seed(0x7068_6173_6567_7261);
    let mut draw = |count: usize| {
        let mut drawn: Vec<f64> = (0..count).map(|_| rest[random.usize(..rest.len())]).collect();
        drawn.sort_by(f64::total_cmp);
        drawn
    };
    let resamples: Vec<(Vec<f64>, Vec<f64>)> = (0..RESAMPLES).map(|_| (draw(n), draw(m))).collect();
    let found = |by: f64| {
        let found = resamples.iter().filter(|(base, new)| u(base, new, by) <= critical);
        found.count() as f64 >= POWER * RESAMPLES as f64
    };
    // At twice the widest distance from the middle, all of one lie above all of the other.
    let (mut low, mut high) = (0.0, 2.0 * widest * (1.0 + f64::EPSILON) + f64::MIN_POSITIVE);
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if found(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// U of sorted figures: pairs in which the new one, longer by `by`, is the smaller one; ties count half. Few tell of a
/// shift upwards.
fn u(base: &[f64], new: &[f64], by: f64) -> f64 {
    let (mut below, mut up_to) = (0, 0);
    let mut sum = 0;
    for base in base {
        while new.get(below).is_some_and(|new| new + by < *base) {
            below += 1;
        }
        while new.get(up_to).is_some_and(|new| new + by <= *base) {
            up_to += 1;
        }
        sum += below + up_to;
    }
    sum as f64 / 2.0
}

#[cfg(test)]
pub(crate) mod tests;
