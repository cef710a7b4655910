//! What went wrong, for a person: what, why, and what to do next.

use std::error::Error;
use std::io::{self, Write};

use crate::report::text;

/// A failed command.
#[derive(Debug)]
pub struct Problem {
    what: String,
    why: Option<Box<dyn Error + Send + Sync>>,
    next: Option<String>,
    status: u8,
    quiet: bool,
}

impl Problem {
    /// Something failed; `what` names it and where.
    pub fn new(what: impl Into<String>) -> Problem {
        Problem {
            what: what.into(),
            why: None,
            next: None,
            status: 1,
            quiet: false,
        }
    }

    /// With its cause.
    pub fn because(mut self, why: impl Into<Box<dyn Error + Send + Sync>>) -> Problem {
        self.why = Some(why.into());
        self
    }

    /// With what to do next.
    pub fn next(mut self, next: impl Into<String>) -> Problem {
        self.next = Some(next.into());
        self
    }

    /// With an exit status other than 1.
    pub fn with_status(mut self, status: u8) -> Problem {
        self.status = status;
        self
    }

    /// The exit status of the program.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// The reader of our standard output has gone (`| head`): no failure, and nobody is there to be told.
    pub fn reader_gone() -> Problem {
        Problem {
            quiet: true,
            ..Problem::new("standard output was closed").with_status(0)
        }
    }

    /// `what: why: its cause`, each once.
    pub fn chain(&self) -> String {
        let mut chain = self.what.clone();
        let mut cause = self.why.as_deref().map(|why| why as &(dyn Error + 'static));
        while let Some(error) = cause {
            let message = error.to_string();
            // A `#[error(transparent)]` or `{0}` error repeats its source.
            if !chain.ends_with(&message) {
                chain.push_str(": ");
                chain.push_str(&message);
            }
            cause = error.source();
        }
        chain
    }

    /// Prints it on standard error.
    pub fn print(&self) {
        if self.quiet {
            return;
        }
        // Paths and names in a message are as hostile as in a report.
        tell(&format!("phasegraph: {}", text::visible(self.chain().as_bytes())));
        if let Some(next) = &self.next {
            tell(&format!("try: {}", text::visible(next.as_bytes())));
        }
    }
}

/// A line on standard error. `eprintln!` panics when that is closed; a note that nobody reads must not.
pub(super) fn tell(line: &str) {
    _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("block 3 is damaged")]
    struct Outer(#[source] io::Error);

    /// Make sure that the whole chain of causes is told, and none of it twice.
    #[test]
    fn chain_of_causes() {
        let problem = Problem::new("can't read x.phg").because(Outer(io::Error::other("checksum")));
        assert_eq!(problem.chain(), "can't read x.phg: block 3 is damaged: checksum");
        let problem = Problem::new("no such file").because(io::Error::other("no such file"));
        assert_eq!(problem.chain(), "no such file");
    }

    /// Make sure that only a reader that has gone is no failure.
    #[test]
    fn statuses() {
        assert_eq!(Problem::reader_gone().status(), 0);
        assert_eq!(
            Problem::new("x")
                .because(io::Error::from(io::ErrorKind::BrokenPipe))
                .status(),
            1
        );
        assert_eq!(Problem::new("x").with_status(127).status(), 127);
    }
}
