//! The rounds of a workload, and medians over them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::configuration::Configuration;
use super::figures::Spread;
use super::profiler::Measured;
use super::workload::Kind;

/// What each configuration gave in one round.
pub(crate) type Round = BTreeMap<Configuration, Measured>;

/// The rounds of one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rounds {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    pub(crate) cpus: u32,
    pub(crate) rounds: Vec<Round>,
}

impl Rounds {
    pub(crate) fn values(&self, configuration: Configuration, value: &dyn Fn(&Measured) -> Option<f64>) -> Vec<f64> {
        self.rounds
            .iter()
            .filter_map(|round| value(round.get(&configuration)?))
            .collect()
    }

    pub(crate) fn median(&self, configuration: Configuration, value: &dyn Fn(&Measured) -> Option<f64>) -> Option<f64> {
        Spread::of(&self.values(configuration, value)).map(|spread| spread.median)
    }

    /// Median of what is computed within each round.
    pub(crate) fn median_of(&self, value: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.rounds.iter().filter_map(value).collect();
        Spread::of(&values).map(|spread| spread.median)
    }

    pub(crate) fn configurations(&self) -> Vec<Configuration> {
        Configuration::ALL
            .into_iter()
            .filter(|configuration| self.rounds.iter().any(|round| round.contains_key(configuration)))
            .collect()
    }
}

#[cfg(test)]
pub(super) mod fixture {
    use super::*;
    use crate::bench::account::Account;
    use crate::bench::child::{Look, Stamp};

    pub(crate) fn run(configuration: Configuration, wall_ns: u64) -> Measured {
        Measured {
            configuration,
            stamp: Stamp {
                before: Look::default(),
                after: Look {
                    at_ns: wall_ns,
                    ..Look::default()
                },
                workload_ns: wall_ns / 2,
            },
            ready_ns: 0,
            done_ns: 0,
            process_ns: 0,
            peak_bytes: 0,
            written_bytes: 0,
            account: Account::default(),
            foreign_programs: 0,
            load: String::new(),
        }
    }

    /// Rounds with these wall times, ns: unprofiled, phasegraph.
    pub(crate) fn rounds(walls: &[(u64, u64)]) -> Rounds {
        let round = |&(unprofiled, phasegraph): &(u64, u64)| {
            BTreeMap::from([
                (Configuration::Unprofiled, run(Configuration::Unprofiled, unprofiled)),
                (Configuration::Phasegraph, run(Configuration::Phasegraph, phasegraph)),
            ])
        };
        Rounds {
            kind: Kind::Build,
            what: "a test".to_owned(),
            cpus: 2,
            rounds: walls.iter().map(round).collect(),
        }
    }
}
