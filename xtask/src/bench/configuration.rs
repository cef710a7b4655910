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
    /// phasegraph with user stacks by frame pointers, as the last rung has them.
    FramePointers,
    PerfRecord,
    /// perf with copies of stacks, unwound afterwards.
    PerfDwarf,
    PerfSched,
    Bpftrace,
}

impl Configuration {
    pub(crate) const ALL: [Configuration; 7] = [
        Configuration::Unprofiled,
        Configuration::Phasegraph,
        Configuration::FramePointers,
        Configuration::PerfRecord,
        Configuration::PerfDwarf,
        Configuration::PerfSched,
        Configuration::Bpftrace,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Configuration::Unprofiled => "unprofiled",
            Configuration::Phasegraph => "phasegraph",
            Configuration::FramePointers => "phasegraph, fp",
            Configuration::PerfRecord => "perf record",
            Configuration::PerfDwarf => "perf, dwarf",
            Configuration::PerfSched => "perf sched",
            Configuration::Bpftrace => "bpftrace",
        }
    }

    /// Whether it is about stacks alone, which the storms have none of.
    pub(crate) fn of_stacks(self) -> bool {
        matches!(self, Configuration::FramePointers | Configuration::PerfDwarf)
    }

    /// Whether its program is here.
    pub(crate) fn available(self) -> bool {
        let version = match self {
            Configuration::Unprofiled | Configuration::Phasegraph | Configuration::FramePointers => return true,
            Configuration::PerfRecord | Configuration::PerfDwarf | Configuration::PerfSched => "perf",
            Configuration::Bpftrace => "bpftrace",
        };
        exec::first_line(Command::new(version).arg("--version")).is_some()
    }
}
