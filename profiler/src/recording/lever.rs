//! What can be given up to keep the overhead cap, as recordings name it.

/// Something that can be given up. In the order in which it is: what tells least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lever {
    /// No counts and times of calls on files.
    FileCalls,
    /// Fewer CPU samples a second.
    Sampling,
    /// Intervals up to a millisecond are summed as shorter ones are: true to the nanosecond, without a cause.
    ShortWaits,
    /// No stacks of waits.
    WaitStacks,
    /// Nothing of what is read and written of files.
    Pages,
    /// No mappings of new programs, so no names for their user frames.
    Mappings,
    /// No scheduling: where threads' time goes is not known.
    Scheduling,
    /// Not every process that is born is tracked.
    Births,
}

impl Lever {
    /// In the order in which they are pulled.
    pub const ALL: [Lever; 8] = [
        Lever::FileCalls,
        Lever::Sampling,
        Lever::ShortWaits,
        Lever::WaitStacks,
        Lever::Pages,
        Lever::Mappings,
        Lever::Scheduling,
        Lever::Births,
    ];

    /// Stable name, as recordings have it.
    pub fn name(self) -> &'static str {
        match self {
            Lever::FileCalls => "file_calls",
            Lever::Sampling => "sampling",
            Lever::ShortWaits => "short_waits",
            Lever::WaitStacks => "wait_stacks",
            Lever::Pages => "pages",
            Lever::Mappings => "mappings",
            Lever::Scheduling => "scheduling",
            Lever::Births => "births",
        }
    }

    /// The lever of that name.
    pub fn from_name(name: &str) -> Option<Lever> {
        Lever::ALL.into_iter().find(|lever| lever.name() == name)
    }

    /// What a recording lacks while it is pulled.
    pub fn lost(self) -> &'static str {
        match self {
            Lever::FileCalls => "calls on files are not counted",
            Lever::Sampling => "fewer CPU samples",
            Lever::ShortWaits => "waits below 1 ms are summed, without a cause",
            Lever::WaitStacks => "waits have no stacks",
            Lever::Pages => "what is read and written of files is not recorded",
            Lever::Mappings => "new programs' user frames have no names",
            Lever::Scheduling => "threads' times are not recorded: they show as lost",
            Lever::Births => "not every new process is recorded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that names tell levers apart and lead back to them.
    #[test]
    fn names() {
        for lever in Lever::ALL {
            assert_eq!(Lever::from_name(lever.name()), Some(lever));
        }
        assert_eq!(Lever::from_name("nothing"), None);
    }
}
