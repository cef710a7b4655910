//! What the profiler works on, by what could be given up.

/// What the profiler worked on in some time, by what could be given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub samples: u64,
    /// Scheduling intervals without a stack.
    pub cycles: u64,
    /// Those with one.
    pub stacks: u64,
    /// Records of mappings and execs.
    pub mappings: u64,
    /// Births, execs, ends, mounts, cgroups.
    pub lifecycle: u64,
    /// Files, their pages, requests to devices.
    pub disk: u64,
}

impl Work {
    /// What came since `before`.
    pub fn since(&self, before: &Work) -> Work {
        Work {
            samples: self.samples.saturating_sub(before.samples),
            cycles: self.cycles.saturating_sub(before.cycles),
            stacks: self.stacks.saturating_sub(before.stacks),
            mappings: self.mappings.saturating_sub(before.mappings),
            lifecycle: self.lifecycle.saturating_sub(before.lifecycle),
            disk: self.disk.saturating_sub(before.disk),
        }
    }
}
