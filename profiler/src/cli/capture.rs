//! What `run` and `record` have in common: where the recording goes, what it may cost, the summary at its end.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::problem::tell;
use super::{Problem, load, terminal};
use crate::load::forced::Forced;
use crate::lookup::rules;
use crate::report::terminal as summary;
use crate::report::text;
use crate::session;

/// CPU samples a second on each CPU, when nobody says how many: no multiple of the timer's tick.
pub(super) const DEFAULT_HZ: u32 = 99;

/// Options of every command that records.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub(crate) struct Args {
    /// Write the recording here [default: phasegraph-<UTC time>.phg]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Replace FILE if it exists
    #[arg(long)]
    pub(crate) force: bool,

    /// A name for this recording, shown in reports
    #[arg(long, value_name = "N", default_value = "", hide_default_value = true)]
    pub(crate) name: String,

    /// Keep this in the recording and its receipt, such as toolchain="rustc 1.95.0"; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = note)]
    pub(crate) note: Vec<Note>,

    /// CPU samples a second on each CPU
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = DEFAULT_HZ, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) frequency: u32,

    /// The most that it may cost, percent of the host's CPU time, or `off`: above it less is recorded, and the
    /// recording says what and when
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = overhead, env = "PHASEGRAPH_MAX_OVERHEAD")]
    pub(crate) max_overhead: Cap,

    /// What is told of files: `totals` by threads' own accounts, with what is read from disk, made dirty and copied up of each
    /// file; `full` counts and times each call that reads, writes or syncs one, which makes every system call of the host dearer
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Disk::Totals, env = "PHASEGRAPH_DISK")]
    pub(crate) disk: Disk,

    /// Keep arguments that look like secrets (passwords, tokens) in the recording
    #[arg(long)]
    pub(crate) no_redact: bool,

    /// Take the rules for phases of your own from here [default: phasegraph.toml in the current folder, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Take a signal by this rung and no other (SIGNAL=RUNG, `none` to leave it out); `phasegraph rungs` lists them
    #[arg(long, value_name = "SIGNAL=RUNG", hide = true)]
    pub(crate) rung: Vec<Forced>,

    /// Look for debug information in this folder too, which is laid out as /usr/lib/debug; can be given several times
    #[arg(long, value_name = "DIR")]
    pub(crate) debug_dir: Vec<PathBuf>,

    /// Print no summary at the end
    #[arg(long)]
    pub(crate) no_summary: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What is told of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Disk {
    #[default]
    Totals,
    Full,
}

/// A name and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note(pub(crate) String, pub(crate) String);

/// Longest name of a note, and longest value, bytes.
const NOTE: (usize, usize) = (64, 1_000);

pub(super) fn note(text: &str) -> Result<Note, String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("NAME=VALUE, such as toolchain=stable".to_owned());
    };
    if name.is_empty() || name.len() > NOTE.0 || value.len() > NOTE.1 {
        return Err(format!(
            "a name of 1 to {} bytes and a value of up to {}",
            NOTE.0, NOTE.1
        ));
    }
    if text.chars().any(char::is_control) {
        return Err("one line without control characters".to_owned());
    }
    Ok(Note(name.to_owned(), value.to_owned()))
}

/// A cap on the overhead, millionths of the host's CPU time; `None` for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cap(pub(crate) Option<u32>);

pub(super) fn overhead(text: &str) -> Result<Cap, String> {
    if text == "off" {
        return Ok(Cap(None));
    }
    let percent: f64 = text
        .strip_suffix('%')
        .unwrap_or(text)
        .parse()
        .map_err(|_| "a percentage such as 2 or 0.5, or `off`".to_owned())?;
    if !(0.01..=100.0).contains(&percent) {
        return Err("a percentage from 0.01 to 100, or `off`".to_owned());
    }
    Ok(Cap(Some((percent * 10_000.0).round() as u32)))
}

impl Args {
    /// The session's options, without a command.
    pub(super) fn options(&self) -> Result<session::Options, Problem> {
        let rules = rules::find(self.config.as_deref()).map_err(|error| {
            Problem::new("can't use the rules for phases")
                .because(error)
                .with_status(2)
        })?;
        Ok(session::Options {
            output: self.output.clone().unwrap_or_else(default_output),
            force: self.force,
            name: self.name.clone(),
            notes: self
                .note
                .iter()
                .map(|Note(name, value)| (name.clone(), value.clone()))
                .collect(),
            sample_hz: self.frequency,
            user: None,
            timeout: None,
            redact: !self.no_redact,
            debug_folders: self.debug_dir.clone(),
            quiet: self.quiet,
            rules,
            max_overhead_ppm: self.max_overhead.0,
            file_calls: self.disk == Disk::Full,
            forced: self.rung.iter().cloned().fold(Forced::default(), Forced::and),
            command: Vec::new(),
            host: None,
        })
    }

    /// Prints the summary and the recording's name, as far as they are wanted.
    pub(super) fn tell(&self, recording: &Path) -> Result<(), Problem> {
        if self.quiet {
            return Ok(());
        }
        if !self.no_summary {
            let session = load(recording)?;
            let style = terminal::style(&io::stderr(), None);
            let summary = summary::render(&session, &summary::Options::default(), &style)
                .map_err(|error| Problem::new("can't show the recording").because(error))?;
            // Standard output is the command's. A reader that has gone must not hide the command's exit status.
            _ = io::stderr().write_all(summary.as_bytes());
        }
        let name = text::visible(recording.as_os_str().as_encoded_bytes());
        tell(&format!("recording: {name}"));
        Ok(())
    }
}

/// A failed session as a problem for people.
pub(super) fn failed(what: &str, error: session::Error) -> Problem {
    let status = error.exit_status();
    let next = error.next_step();
    let problem = Problem::new(what).because(error).with_status(status);
    match next {
        Some(next) => problem.next(next),
        None => problem,
    }
}

/// `phasegraph-20260131T120000Z.phg` in the current folder.
fn default_output() -> PathBuf {
    PathBuf::from(format!(
        "phasegraph-{}.phg",
        jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that the default name holds the time and can be sorted by it.
    #[test]
    fn default_name() {
        let name = default_output().display().to_string();
        assert_eq!(name.len(), "phasegraph-20260131T120000Z.phg".len());
        assert!(name.starts_with("phasegraph-2") && name.ends_with("Z.phg"), "{name}");
    }

    /// Make sure that a note is a name and a value of one line, which may hold anything else.
    #[test]
    fn notes() {
        assert_eq!(note("a=b=c d"), Ok(Note("a".to_owned(), "b=c d".to_owned())));
        assert_eq!(note("a="), Ok(Note("a".to_owned(), String::new())));
        for nonsense in ["", "a", "=b", "a=b\nc", &format!("a={}", "b".repeat(1_001))] {
            assert!(note(nonsense).is_err(), "{nonsense}");
        }
    }

    /// Make sure that a cap is a percentage or none, and nothing else.
    #[test]
    fn caps() {
        assert_eq!(overhead("2"), Ok(Cap(Some(20_000))));
        assert_eq!(overhead("0.5%"), Ok(Cap(Some(5_000))));
        assert_eq!(overhead("off"), Ok(Cap(None)));
        for nonsense in ["", "0", "-1", "101", "NaN", "inf", "two"] {
            assert!(overhead(nonsense).is_err(), "{nonsense}");
        }
    }
}
