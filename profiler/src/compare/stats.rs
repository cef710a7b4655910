//! What a series of figures is told by: middle, spread, tails, and the runs that stand apart.

use serde::{Deserialize, Serialize};
use statrs::statistics::{Data, Distribution, OrderStatistics};

/// How far outside of the quartiles a figure lies that stands apart, in interquartile ranges: Tukey's fence for "far
/// out" values (Exploratory Data Analysis, 1977). His nearer fence at 1.5 names one run in eight of ten normal ones.
const FAR_OUT: f64 = 3.0;

/// Fewest figures of which one can be said to stand apart: of fewer the quartiles are the figures themselves.
const FEWEST_FOR_OUTLIERS: usize = 5;

/// A series of times (ns) or sizes (bytes) in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
    /// How many figures.
    pub n: u32,
    pub median: u64,
    pub mean: u64,
    /// Sample standard deviation (n − 1); 0 of a single figure.
    pub sd: u64,
    pub min: u64,
    pub max: u64,
    /// Quantiles by Hyndman and Fan's definition 8 (median-unbiased whatever the distribution): with fewer than about 20
    /// figures the 95th percentile is close to the largest, with fewer than 100 the 99th.
    pub p95: u64,
    pub p99: u64,
    /// Distance of the quartiles.
    pub iqr: u64,
}

impl Summary {
    /// Of these figures; all zero of none.
    pub fn of(values: &[f64]) -> Summary {
        let Some(n) = u32::try_from(values.len()).ok().filter(|n| *n > 0) else {
            return Summary::default();
        };
        let mut data = Data::new(values.to_vec());
        let sd = if n > 1 { data.std_dev().unwrap_or(0.0) } else { 0.0 };
        Summary {
            n,
            median: whole(data.quantile(0.5)),
            mean: whole(data.mean().unwrap_or(0.0)),
            sd: whole(sd),
            min: whole(data.quantile(0.0)),
            max: whole(data.quantile(1.0)),
            p95: whole(data.quantile(0.95)),
            p99: whole(data.quantile(0.99)),
            iqr: whole(data.quantile(0.75) - data.quantile(0.25)),
        }
    }

    /// Coefficient of variation: the standard deviation as a part of the mean; `None` of a mean of 0.
    pub fn cv(&self) -> Option<f64> {
        (self.mean > 0).then(|| self.sd as f64 / self.mean as f64)
    }
}

fn whole(value: f64) -> u64 {
    // Saturates; NaN is 0.
    value.round() as u64
}

/// The middle of some figures, 0 of none.
pub fn median(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    Data::new(values.to_vec()).quantile(0.5)
}

/// Indexes of the figures that stand apart from the others.
pub fn outliers(values: &[f64]) -> Vec<usize> {
    if values.len() < FEWEST_FOR_OUTLIERS {
        return Vec::new();
    }
    let mut data = Data::new(values.to_vec());
    let (low, high) = (data.quantile(0.25), data.quantile(0.75));
    let reach = FAR_OUT * (high - low);
    let apart = |value: &f64| *value < low - reach || *value > high + reach;
    let found = values.iter().enumerate().filter(|(_, value)| apart(value));
    found.map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that the figures are those of the textbook: sample deviation, quantiles between the figures.
    #[test]
    fn summary() {
        // R: x <- c(10, 20, 30, 40, 50); sd(x) = 15.8; quantile(x, c(.25, .75), type = 8) = 16.7, 43.3
        let summary = Summary::of(&[30.0, 10.0, 50.0, 20.0, 40.0]);
        assert_eq!(
            summary,
            Summary {
                n: 5,
                median: 30,
                mean: 30,
                sd: 16,
                min: 10,
                max: 50,
                p95: 50,
                p99: 50,
                iqr: 27,
            }
        );
        // R: quantile(1:100, c(.95, .99), type = 8) = 95.65, 99.6567
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let summary = Summary::of(&hundred);
        assert_eq!((summary.p95, summary.p99, summary.median), (96, 100, 51));
        assert_eq!(Summary::of(&[7.0]).sd, 0);
        assert_eq!(Summary::of(&[]), Summary::default());
        assert_eq!(Summary::of(&[0.0, 0.0]).cv(), None);
    }

    /// Make sure that only what is far from the others is named, and nothing of too few.
    #[test]
    fn far_out() {
        assert_eq!(outliers(&[10.0, 11.0, 10.0, 12.0, 11.0, 30.0]), [5]);
        assert_eq!(outliers(&[10.0, 11.0, 10.0, 12.0, 11.0, 13.0]), [0; 0]);
        assert_eq!(outliers(&[1.0, 1.0, 99.0]), [0; 0]);
    }
}
