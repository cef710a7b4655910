//! The configurations that are measured side by side.

use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::exec;

/// A way to run a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Configuration {
    Unprofiled,
    Phasegraph,
    PerfRecord,
    PerfSched,
    Bpftrace,
}

impl Configuration {
    pub(crate) const ALL: [Configuration; 5] = [
        Configuration::Unprofiled,
        Configuration::Phasegraph,
        Configuration::PerfRecord,
        Configuration::PerfSched,
        Configuration::Bpftrace,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Configuration::Unprofiled => "unprofiled",
            Configuration::Phasegraph => "phasegraph",
            Configuration::PerfRecord => "perf record",
            Configuration::PerfSched => "perf sched",
            Configuration::Bpftrace => "bpftrace",
        }
    }

    /// Whether its program is here.
    pub(crate) fn available(self) -> bool {
        let version = match self {
            Configuration::Unprofiled | Configuration::Phasegraph => return true,
            Configuration::PerfRecord | Configuration::PerfSched => "perf",
            Configuration::Bpftrace => "bpftrace",
        };
        exec::first_line(Command::new(version).arg("--version")).is_some()
    }
}
