//! Exact division of a whole into parts.

/// Sum of numbers that a broken recording may have made as large as they come: stops at the largest there is instead of
/// running over.
pub fn sum(values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(0, u64::saturating_add)
}

/// Shares `total` out in proportion to `weights`, rounded down, the remainder to the largest weight (the first of
/// equals): the parts always add up to `total`. With no weight at all everything goes to the first part.
pub fn share<const N: usize>(total: u64, weights: [u64; N]) -> [u64; N] {
    let sum: u128 = weights.iter().copied().map(u128::from).sum();
    let mut parts = [0; N];
    let mut rest = total;
    let mut largest = 0;
    for (index, weight) in weights.iter().copied().enumerate() {
        if weight > weights[largest] {
            largest = index;
        }
        let part = (u128::from(total) * u128::from(weight)).checked_div(sum).unwrap_or(0);
        // At most `total`, so it fits.
        parts[index] = u64::try_from(part).unwrap_or(total);
        rest -= parts[index];
    }
    if let Some(part) = parts.get_mut(largest) {
        *part += rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that parts add up to the total whatever is divided, and that proportions hold.
    #[test]
    fn parts_add_up() {
        assert_eq!(share(10, [1, 1, 1]), [4, 3, 3]);
        assert_eq!(share(100, [10, 60, 30]), [10, 60, 30]);
        assert_eq!(share(7, [0, 0, 5]), [0, 0, 7]);
        assert_eq!(share(7, [0, 0, 0]), [7, 0, 0]);
        assert_eq!(share(0, [3, 4]), [0, 0]);
        let parts = share(u64::MAX, [u64::MAX, u64::MAX, 1]);
        assert_eq!(
            parts.iter().copied().map(u128::from).sum::<u128>(),
            u128::from(u64::MAX)
        );
    }
}
