//! What this host offers, and whether a recording would work here: found by looking and by trial, never by version.

mod host;
mod page;
mod runtimes;
mod trial;

use serde::Serialize;

pub use page::render;

/// Raised when a field's meaning changes or a field goes.
pub const SCHEMA: u32 = 1;

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Good,
    /// Something is missing from recordings.
    Less,
    /// Nothing can be recorded.
    Bad,
    /// It could not be found out.
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name, for machines.
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What is missing for it, and what to do; empty when all is well.
    pub advice: String,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Check {
        Check {
            name,
            verdict: Verdict::Good,
            found: found.into(),
            advice: String::new(),
        }
    }

    fn but(self, verdict: Verdict, advice: impl Into<String>) -> Check {
        Check {
            verdict,
            advice: advice.into(),
            ..self
        }
    }
}

/// A signal, as the trial had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signal {
    pub signal: &'static str,
    /// What is missing without it.
    pub gives: &'static str,
    pub required: bool,
    /// `null`: not to be had.
    pub rung: Option<&'static str>,
    /// What is lost against the best rung; empty for that.
    pub lost: &'static str,
    /// More of the rung: what it covers.
    pub detail: String,
    /// The better rungs and why they can't be had.
    pub refused: Vec<Refused>,
}

/// A rung that the kernel does not grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub rung: &'static str,
    pub why: String,
}

/// A container program of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Runtime {
    pub program: &'static str,
    pub path: String,
    /// As it says itself; empty when it does not in time.
    pub version: String,
    /// Storage drivers that its state shows; empty when it has none or it could not be seen.
    pub storage: Vec<String>,
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Findings {
    pub schema: u32,
    pub version: &'static str,
    /// Whether `run` and `record` would work.
    pub works: bool,
    pub checks: Vec<Check>,
    /// Empty when nothing could be tried.
    pub signals: Vec<Signal>,
    pub runtimes: Vec<Runtime>,
}

/// Looks at everything. Without privileges it says so and tries nothing.
pub fn examine() -> Findings {
    let mut checks = host::checks();
    let privileged = !checks.iter().any(|check| check.verdict == Verdict::Bad);
    let signals = if privileged {
        let (check, signals) = trial::run();
        checks.push(check);
        signals
    } else {
        let untried = Check::good("signals", "not tried");
        checks.push(untried.but(Verdict::Unknown, "what stands above comes first"));
        Vec::new()
    };
    Findings {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        works: checks
            .iter()
            .all(|check| matches!(check.verdict, Verdict::Good | Verdict::Less)),
        checks,
        signals,
        runtimes: runtimes::find(),
    }
}

#[cfg(test)]
mod tests;
