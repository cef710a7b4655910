//! Series of runs for people, spreadsheets and CI: `bench`, `diff`, `check`, `trend`, `show --pareto`.

pub mod check;
pub mod diff;
pub mod pareto;
pub mod receipt;
pub mod summary;
mod table;
pub mod trend;
pub mod tsv;

use crate::compare::results::Outcome;

/// How a run ended, in words.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Timeout => "ran into the timeout",
        Outcome::Broken => "was not recorded to its end",
    }
}
