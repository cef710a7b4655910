//! Where a series of figures over time changed its level: the split at which the ranks before and after differ most (Pettitt's
//! statistic, standardized), with its significance by permutation instead of his approximation, which is far too careful for
//! a dozen figures. Source: Pettitt, *A non-parametric approach to the change-point problem*, Applied Statistics 28 (1979).

use super::stats::median;

/// Fewest figures in which a step can be significant at all: of eight, four low before four high come by chance in 2 of 70.
pub const FEWEST: usize = 8;

/// Permutations, with a fixed seed; p is known to about 0.002 at 0.05.
const PERMUTATIONS: usize = 9_999;

/// Of the permutations.
const SEED: u64 = 0x7374_6570;

/// Most steps that are looked for.
const MOST: usize = 32;

/// A change of level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Index of the first figure at the new level.
    pub at: usize,
    /// Medians between this step and its neighbours.
    pub before: f64,
    pub after: f64,
    pub p: f64,
}

/// All steps that are significant at `alpha`, in order: the largest first splits the figures, then each side is looked at,
/// with its part of `alpha`.
pub fn steps(values: &[f64], alpha: f64) -> Vec<Step> {
    let mut found: Vec<(usize, f64)> = Vec::new();
    let mut open = vec![(0, values.len(), alpha)];
    while let Some((from, to, alpha)) = open.pop() {
        if to - from < FEWEST || found.len() >= MOST {
            continue;
        }
        let (split, p) = largest(&values[from..to]);
        if p <= alpha {
            found.push((from + split, p));
            open.push((from, from + split, alpha / 2.0));
            open.push((from + split, to, alpha / 2.0));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    let edges: Vec<usize> = std::iter::once(0)
        .chain(found.iter().map(|(at, _)| *at))
        .chain([values.len()])
        .collect();
    let levels: Vec<f64> = edges.windows(2).map(|pair| median(&values[pair[0]..pair[1]])).collect();
    let found = found.into_iter().zip(levels.windows(2));
    found
        .map(|((at, p), levels)| Step {
            at,
            before: levels[0],
            after: levels[1],
            p,
        })
        .collect()
}

/// Index behind the split at which before and after differ most, and how likely so large a difference is by chance.
fn largest(values: &[f64]) -> (usize, f64) {
    let mut signs = signs(values);
    let (split, seen) = statistic(&signs);
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut as_large = 1;
    for _ in 0..PERMUTATIONS {
        // A figure keeps its sign wherever it stands.
        random.shuffle(&mut signs);
        as_large += usize::from(statistic(&signs).1 >= seen);
    }
    (split, as_large as f64 / (PERMUTATIONS + 1) as f64)
}

/// Of each figure: how many are smaller less how many are larger.
fn signs(values: &[f64]) -> Vec<i64> {
    let sign = |value: &f64| {
        let orders = values.iter().map(|other| value.total_cmp(other) as i64);
        orders.sum()
    };
    values.iter().map(sign).collect()
}

/// The largest sum of signs from the start, as a part of its deviation by chance, and its place. The sum of all is 0.
/// Without that scale an edge figure that is a little out of its level moves the place.
fn statistic(signs: &[i64]) -> (usize, f64) {
    let mut sum = 0;
    let mut best = (0, -1.0);
    for (index, sign) in signs.iter().enumerate().take(signs.len().saturating_sub(1)) {
        sum += sign;
        let split = index + 1;
        let scaled = sum.abs() as f64 / ((split * (signs.len() - split)) as f64).sqrt();
        if scaled > best.1 {
            best = (split, scaled);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::rank::tests::normal;

    /// Make sure that a step is found where it is, with its levels, and a second one too.
    #[test]
    fn found() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut values = normal(&mut random, 10, 100.0, 0.02);
        values.extend(normal(&mut random, 10, 115.0, 0.02));
        values.extend(normal(&mut random, 12, 90.0, 0.02));
        let steps = steps(&values, 0.05);
        let places: Vec<usize> = steps.iter().map(|step| step.at).collect();
        assert_eq!(places, [10, 20], "{steps:?}");
        assert!((steps[0].before - 100.0).abs() < 2.0 && (steps[0].after - 115.0).abs() < 2.0);
        assert!((steps[1].after - 90.0).abs() < 2.0);
    }

    /// Make sure that shuffled signs give the p that shuffled figures do, ties included.
    #[test]
    fn signs_are_the_figures() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut tied = normal(&mut random, 12, 100.0, 0.05);
        tied.iter_mut().for_each(|value| *value = (*value / 5.0).round());
        for values in [normal(&mut random, 9, 100.0, 0.05), tied, vec![1.0; 8]] {
            let seen = statistic(&signs(&values)).1;
            let mut random = fastrand::Rng::with_seed(SEED);
            let mut shuffled = values.clone();
            let mut as_large = 1;
            for _ in 0..PERMUTATIONS {
                random.shuffle(&mut shuffled);
                as_large += usize::from(statistic(&signs(&shuffled)).1 >= seen);
            }
            let p = as_large as f64 / (PERMUTATIONS + 1) as f64;
            assert_eq!(largest(&values).1, p, "{values:?}");
        }
    }

    /// Make sure that a level that only varies has steps in about one of twenty series, and eight figures are enough for one.
    #[test]
    fn not_found() {
        let mut random = fastrand::Rng::with_seed(2);
        let with = (0..60)
            .filter(|_| !steps(&normal(&mut random, 16, 100.0, 0.05), 0.05).is_empty())
            .count();
        // 3 are expected, three standard deviations more are 8.
        assert!(with <= 8, "{with} of 60");
        assert_eq!(steps(&[1.0, 1.1, 0.9, 1.05, 2.0, 2.1, 1.9, 2.05], 0.05).len(), 1);
        assert_eq!(steps(&[1.0, 1.1, 0.9, 2.0, 2.1, 1.9], 0.05), []);
        assert_eq!(steps(&[3.0; 30], 0.05), []);
        assert_eq!(steps(&[], 0.05), []);
    }
}
