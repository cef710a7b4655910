//! Which levels stand below the stacks.

use std::str::FromStr;

/// A level, from the root up. They always stand in this order; a container stands before the first of its phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// What a person asked for: `podman build`.
    Operation,
    Container,
    /// Steps and phases, from the outermost to the innermost.
    Phase,
    /// Programs from the topmost process of that phase down to the process' parent.
    Parents,
    /// The process' program.
    Process,
    /// Its arguments, in a frame of their own.
    Arguments,
    /// The thread, where its name says more than its process's.
    Thread,
}

/// Name, level and meaning, in order.
const LEVELS: [(&str, Level); 7] = [
    ("operation", Level::Operation),
    ("container", Level::Container),
    ("phase", Level::Phase),
    ("parents", Level::Parents),
    ("process", Level::Process),
    ("arguments", Level::Arguments),
    ("thread", Level::Thread),
];

/// The levels that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roots([bool; LEVELS.len()]);

/// All but the arguments: these part what is one program's.
impl Default for Roots {
    fn default() -> Self {
        let mut roots = Roots([true; LEVELS.len()]);
        roots.0[Level::Arguments as usize] = false;
        roots
    }
}

impl Roots {
    /// Processes and threads alone.
    pub(in crate::report) const PROCESSES: Roots = Roots([false, false, false, true, true, false, true]);

    pub(super) fn has(self, level: Level) -> bool {
        self.0[level as usize]
    }
}

/// `operation,phase,process`, in any order; `none`.
impl FromStr for Roots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut roots = Roots([false; LEVELS.len()]);
        if text == "none" {
            return Ok(roots);
        }
        for name in text.split(',').map(str::trim) {
            let Some((_, level)) = LEVELS.iter().find(|(known, _)| *known == name) else {
                let known: Vec<_> = LEVELS.iter().map(|(name, _)| *name).collect();
                return Err(format!("{name:?} is none of {}, or none alone", known.join(", ")));
            };
            roots.0[*level as usize] = true;
        }
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that each level has its name and its place, and that others are refused with the list.
    #[test]
    fn names() {
        for (index, (name, level)) in LEVELS.iter().enumerate() {
            assert_eq!(*level as usize, index);
            let only: Roots = name.parse().unwrap();
            assert!(LEVELS.iter().all(|(_, other)| only.has(*other) == (other == level)));
        }
        assert_eq!("none".parse(), Ok(Roots([false; LEVELS.len()])));
        assert_eq!("parents,process,thread".parse(), Ok(Roots::PROCESSES));
        assert_eq!(
            "thread, parents,operation,phase,container,process".parse(),
            Ok(Roots::default())
        );
        assert!("process,argv".parse::<Roots>().unwrap_err().contains("arguments"));
        assert!("".parse::<Roots>().is_err());
    }
}
