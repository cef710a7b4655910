//! The tests beside tables, brute force and simulated series with fixed seeds.

use super::*;

/// Normal figures (Box and Muller) about `mean`, of the coefficient of variation `cv`.
pub(crate) fn normal(random: &mut fastrand::Rng, count: usize, mean: f64, cv: f64) -> Vec<f64> {
    let mut one = || {
        let (a, b) = (1.0 - random.f64(), random.f64());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    };
    (0..count).map(|_| mean * (1.0 + cv * one())).collect()
}

/// p by trying every choice of the base's figures out of all.
fn brute_force(base: &[f64], new: &[f64]) -> f64 {
    let all: Vec<f64> = base.iter().chain(new).copied().collect();
    let rank = |value: f64| {
        let below = all.iter().filter(|other| **other < value).count() as f64;
        let same = all.iter().filter(|other| **other == value).count() as f64;
        below + (same + 1.0) / 2.0
    };
    let ranks: Vec<f64> = all.iter().map(|value| rank(*value)).collect();
    let mean = base.len() as f64 * (all.len() + 1) as f64 / 2.0;
    let seen = (ranks[..base.len()].iter().sum::<f64>() - mean).abs();
    let (mut extreme, mut total) = (0.0, 0.0);
    for chosen in 0u32..1 << all.len() {
        if chosen.count_ones() as usize != base.len() {
            continue;
        }
        let sum: f64 = (0..all.len())
            .filter(|bit| chosen >> bit & 1 == 1)
            .map(|bit| ranks[bit])
            .sum();
        total += 1.0;
        if (sum - mean).abs() >= seen - 1e-9 {
            extreme += 1.0;
        }
    }
    extreme / total
}

/// Make sure that p is exact, with ties and without, and that the tables' numbers come out.
#[test]
fn exact() {
    // scipy.stats.mannwhitneyu(males, females, method="exact"), the example of its documentation.
    let (base, new) = ([19.0, 22.0, 16.0, 29.0, 24.0], [20.0, 11.0, 17.0, 12.0]);
    assert!((p_value(&base, &new) - 0.111_111_111).abs() < 1e-6);
    assert!((p_value(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]) - 0.1).abs() < 1e-12);
    assert!((smallest_p(3, 3) - 0.1).abs() < 1e-12);
    assert!((smallest_p(20, 20) - 2.0 / 137_846_528_820.0).abs() < 1e-18);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..50 {
        let (n, m) = (random.usize(1..6), random.usize(1..6));
        let mut few = |count: usize| (0..count).map(|_| f64::from(random.u32(0..6))).collect::<Vec<f64>>();
        let (base, new) = (few(n), few(m));
        let (p, expected) = (p_value(&base, &new), brute_force(&base, &new));
        assert!((p - expected).abs() < 1e-9, "{base:?} {new:?}: {p} {expected}");
    }
    assert_eq!(p_value(&[], &[1.0]), 1.0);
    assert_eq!(p_value(&[5.0; 10], &[5.0; 10]), 1.0);
    assert_eq!(p_value(&[5.0; 80], &[5.0; 80]), 1.0);
}

/// Make sure that where the exact count ends, the approximation that follows agrees with it.
#[test]
fn approximation_follows() {
    let mut random = fastrand::Rng::with_seed(2);
    let base = normal(&mut random, 50, 100.0, 0.05);
    let new = normal(&mut random, 50, 102.0, 0.05);
    let exact = p_value(&base, &new);
    let approximate = approximate_p(&doubled_ranks(&base, &new), 50);
    assert!((exact - approximate).abs() < 0.01, "{exact} {approximate}");
    let many = p_value(
        &normal(&mut random, 200, 100.0, 0.05),
        &normal(&mut random, 200, 110.0, 0.05),
    );
    assert!(many < 1e-9, "{many}");
}

/// Make sure that the interval holds the true shift as often as it says, and the estimate lies in it.
#[test]
fn intervals_hold() {
    let mut criticals = Criticals::default();
    let mut random = fastrand::Rng::with_seed(3);
    let mut held = 0;
    for _ in 0..1_000 {
        let base = normal(&mut random, 10, 100.0, 0.1);
        let new = normal(&mut random, 12, 107.0, 10.0 / 107.0);
        let shift = shift(&base, &new, 0.95, &mut criticals).unwrap();
        let (low, high) = shift.interval.unwrap();
        assert!(low <= shift.by && shift.by <= high);
        held += usize::from(low <= 7.0 && 7.0 <= high);
    }
    // 95.6 % is the exact level; 4 standard deviations of a count of 1,000 are 26.
    assert!((930..=982).contains(&held), "{held}");
    assert_eq!(
        shift(&[1.0, 2.0], &[3.0, 4.0], 0.95, &mut criticals).unwrap().interval,
        None
    );
    assert_eq!(shift(&[1.0, 2.0], &[3.0, 4.0], 0.95, &mut criticals).unwrap().by, 2.0);
}

/// Make sure that Holm's correction is the textbook's.
#[test]
fn correction() {
    // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
    for (is, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
        assert!((is - expected).abs() < 1e-12, "{adjusted:?}");
    }
    assert_eq!(holm(&[]), [0.0; 0]);
}

/// Make sure that a shift of the size that is said to be detectable is found in about four of five series, and that too
/// few figures find none.
#[test]
fn detectable_is_detected() {
    let mut criticals = Criticals::default();
    let mut random = fastrand::Rng::with_seed(4);
    for alpha in [0.05, 0.001] {
        let (mut found, mut said) = (0, 0.0);
        const SERIES: usize = 200;
        for _ in 0..SERIES {
            let base = normal(&mut random, 20, 100.0, 0.02);
            let new = normal(&mut random, 20, 100.0, 0.02);
            let by = detectable(&base, &new, alpha, &mut criticals).unwrap();
            said += by / SERIES as f64;
            // Other series of the same kind, shifted by what these say.
            let base = normal(&mut random, 20, 100.0, 0.02);
            let new: Vec<f64> = normal(&mut random, 20, 100.0, 0.02)
                .iter()
                .map(|value| value + by)
                .collect();
            found += usize::from(p_value(&base, &new) <= alpha);
        }
        let share = found as f64 / SERIES as f64;
        assert!((0.70..=0.90).contains(&share), "alpha {alpha}: {share} found of {said}");
    }
    assert_eq!(
        detectable(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0], 0.05, &mut criticals),
        None
    );
    assert_eq!(detectable(&[1.0; 9], &[1.0; 9], 0.05, &mut criticals), Some(0.0));
}

/// Make sure that a critical value that is known already is that of its own lengths and tail.
#[test]
fn criticals_are_kept_apart() {
    let mut criticals = Criticals::default();
    for _ in 0..2 {
        for (n, m) in [(3, 9), (9, 3), (10, 10), (60, 60), (2, 2)] {
            for tail in [0.025, 0.005] {
                assert_eq!(criticals.u(n, m, tail), critical_u(n, m, tail), "{n} {m} {tail}");
            }
        }
    }
    assert_eq!(criticals.0.len(), 10);
    // Hollander, Wolfe, Chicken, table A.6: 10 and 10, one tail of 0.025.
    assert_eq!(criticals.u(10, 10, 0.025), Some(23));
}
