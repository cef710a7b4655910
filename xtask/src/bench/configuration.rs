//! The configurations that are measured side by side.

use std::process::Command;

use serde::{Deserialize, Serialize};

use super::workload::Kind;
use crate::exec;

/// A way to run a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Configuration {
    Unprofiled,
    Phasegraph,
    /// phasegraph with user stacks by frame pointers, as the last rung has them.
    FramePointers,
    /// phasegraph that counts and times each call on a file.
    FileCalls,
    PerfRecord,
    /// perf with copies of stacks, unwound afterwards.
    PerfDwarf,
    PerfSched,
    Bpftrace,
}

impl Configuration {
    pub(crate) const ALL: [Configuration; 8] = [
        Configuration::Unprofiled,
        Configuration::Phasegraph,
        Configuration::FramePointers,
        Configuration::FileCalls,
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
            Configuration::FileCalls => "disk full",
            Configuration::PerfRecord => "perf record",
            Configuration::PerfDwarf => "perf, dwarf",
            Configuration::PerfSched => "perf sched",
            Configuration::Bpftrace => "bpftrace",
        }
    }

    /// Whether it tells something of a workload: the storms have no stacks, and few work with files.
    pub(crate) fn is_for(self, kind: Kind) -> bool {
        match self {
            Configuration::FramePointers | Configuration::PerfDwarf => kind == Kind::Build,
            Configuration::FileCalls => matches!(kind, Kind::Read | Kind::Untar),
            _ => true,
        }
    }

    /// Whether its program is here.
    pub(crate) fn available(self) -> bool {
        let version = match self {
            Configuration::Unprofiled
            | Configuration::Phasegraph
            | Configuration::FramePointers
            | Configuration::FileCalls => return true,
            Configuration::PerfRecord | Configuration::PerfDwarf | Configuration::PerfSched => "perf",
            Configuration::Bpftrace => "bpftrace",
        };
        exec::first_line(Command::new(version).arg("--version")).is_some()
    }
}
