//! The arithmetic: medians, spreads, ratios.

/// What the rounds of one figure gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` when there are no values.
    pub(crate) fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = match middle.checked_sub(1).and_then(|lower| sorted.get(lower)) {
            Some(lower) if sorted.len().is_multiple_of(2) => (lower + upper) / 2.0,
            _ => upper,
        };
        Some(Spread { median, min, max })
    }

    /// Half of the distance between the extremes, as a share of the median.
    pub(crate) fn noise(&self) -> f64 {
        if self.median == 0.0 {
            0.0
        } else {
            (self.max - self.min) / 2.0 / self.median
        }
    }
}

/// `above / below`, `None` where that has no meaning.
pub(crate) fn ratio(above: f64, below: f64) -> Option<f64> {
    (below != 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that the median of an odd number of rounds is the middle one, of an even number the mean of the two
    /// in the middle, whatever their order, and that no rounds give nothing.
    #[test]
    fn median() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            spread,
            Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            }
        );
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 8.0]).unwrap().median, 3.0);
        assert_eq!(
            Spread::of(&[7.0]).unwrap(),
            Spread {
                median: 7.0,
                min: 7.0,
                max: 7.0
            }
        );
        assert_eq!(Spread::of(&[]), None);
    }

    /// Make sure that the noise is half of the range against the median, and that a median of 0 has none.
    #[test]
    fn noise() {
        assert_eq!(Spread::of(&[9.0, 10.0, 12.0]).unwrap().noise(), 0.15);
        assert_eq!(Spread::of(&[0.0, 0.0]).unwrap().noise(), 0.0);
    }

    /// Make sure that a ratio to 0 is told as none.
    #[test]
    fn ratios() {
        assert_eq!(ratio(3.0, 2.0), Some(1.5));
        assert_eq!(ratio(3.0, 0.0), None);
    }
}
