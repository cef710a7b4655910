//! What each program cost, by the kernel's own statistics.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use super::Loaded;

/// What a program cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramCost {
    pub name: String,
    pub run_ns: u64,
    pub runs: u64,
    /// Runs that the kernel dropped because they would have interrupted the program itself (Linux 5.12 and later).
    pub recursion_misses: u64,
    /// Instructions that the verifier went through (Linux 5.16 and later).
    pub verified_instructions: u32,
}

impl Loaded {
    /// What each program cost so far. A program that is loaded once for each of several functions is one line.
    pub fn costs(&self) -> Vec<ProgramCost> {
        let mut costs: Vec<ProgramCost> = self
            .ebpf
            .programs()
            .filter_map(|(name, program)| Some(cost(name, program.fd().ok()?.as_fd())))
            .collect();
        for (name, program) in &self.functions {
            let more = cost(name, program.as_fd());
            match costs.iter_mut().find(|cost| cost.name == *name) {
                Some(cost) => {
                    cost.run_ns += more.run_ns;
                    cost.runs += more.runs;
                    cost.recursion_misses += more.recursion_misses;
                    cost.verified_instructions = cost.verified_instructions.max(more.verified_instructions);
                }
                None => costs.push(more),
            }
        }
        costs
    }
}

/// As the descriptor's fdinfo tells; aya does not read all of its fields.
pub(super) fn cost(name: &str, program: BorrowedFd<'_>) -> ProgramCost {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok())
            .unwrap_or(0)
    };
    ProgramCost {
        name: name.to_owned(),
        run_ns: field("run_time_ns"),
        runs: field("run_cnt"),
        recursion_misses: field("recursion_misses"),
        verified_instructions: u32::try_from(field("verified_insns")).unwrap_or(u32::MAX),
    }
}
