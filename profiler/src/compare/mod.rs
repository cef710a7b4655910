//! Series of runs: what of a recording is compared, statistics over runs, differences, budgets, history. No terminal, no
//! clock, no eBPF: `cli` runs commands and reads files, `report::compare` shows what is found here.

pub mod budget;
pub mod diff;
pub mod digest;
pub mod history;
pub mod key;
pub mod pareto;
pub mod rank;
pub mod results;
pub mod samples;
pub mod stats;
pub mod step;
