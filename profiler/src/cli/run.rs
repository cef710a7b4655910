//! `run`: profile one command and all that it causes.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
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

/// Profile one command and all that it causes
///
/// The command keeps the terminal, its signals and its exit status. The recording is written while it runs, and a
/// summary is printed on standard error at the end.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        sudo phasegraph run -- podman build -t app .\n  \
                        sudo phasegraph run -o pull.phg --name cold -- docker pull debian:13\n  \
                        sudo phasegraph run --user alice -- podman run --rm alpine true\n\n\
                        Exit status: the command's; 127 when there is no such command, 126 when it can't be executed, \
                        1 when the recording can't be made.")]
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

    /// CPU samples a second on each CPU
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = DEFAULT_HZ, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) frequency: u32,

    /// Run the command as this user, with that user's environment [default: as whoever runs phasegraph]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// Keep arguments that look like secrets (passwords, tokens) in the recording
    #[arg(long)]
    pub(crate) no_redact: bool,

    /// Take the rules for phases of your own from here [default: phasegraph.toml in the current folder, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print no summary at the end
    #[arg(long)]
    pub(crate) no_summary: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Take a signal by this rung and no other (SIGNAL=RUNG, `none` to leave it out); `phasegraph rungs` lists them
    #[arg(long, value_name = "SIGNAL=RUNG", hide = true)]
    pub(crate) rung: Vec<Forced>,

    /// The command, after --
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    if args.user.is_none()
        && let Some(program) = args.command.first()
    {
        check_program(program)?;
    }
    let rules = rules::find(args.config.as_deref()).map_err(|error| {
        Problem::new("can't use the rules for phases")
            .because(error)
            .with_status(2)
    })?;
    let output = args.output.clone().unwrap_or_else(default_output);
    let outcome = session::run(&session::Options {
        output,
        force: args.force,
        name: args.name.clone(),
        sample_hz: args.frequency,
        user: args.user.clone(),
        redact: !args.no_redact,
        quiet: args.quiet,
        rules,
        forced: args.rung.iter().cloned().fold(Forced::default(), Forced::and),
        command: args.command.clone(),
    })
    .map_err(|error| {
        let status = error.exit_status();
        let next = error.next_step();
        let problem = Problem::new("can't profile the command")
            .because(error)
            .with_status(status);
        match next {
            Some(next) => problem.next(next),
            None => problem,
        }
    })?;
    if !args.quiet {
        if !args.no_summary {
            let session = load(&outcome.recording)?;
            let style = terminal::style(&io::stderr(), None);
            let summary = summary::render(&session, &summary::Options::default(), &style)
                .map_err(|error| Problem::new("can't show the recording").because(error))?;
            // Standard output is the command's. A reader that has gone must not hide the command's exit status.
            _ = io::stderr().write_all(summary.as_bytes());
        }
        let name = text::visible(outcome.recording.as_os_str().as_encoded_bytes());
        tell(&format!("recording: {name}"));
    }
    Ok(outcome.status)
}

/// `phasegraph-20260131T120000Z.phg` in the current folder.
fn default_output() -> PathBuf {
    PathBuf::from(format!(
        "phasegraph-{}.phg",
        jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")
    ))
}

/// Says before anything is attached that a command can't be run, with the shell's exit statuses (POSIX XCU 2.8.2).
fn check_program(program: &OsString) -> Result<(), Problem> {
    let path = Path::new(program);
    let candidates: Vec<PathBuf> = if path.components().count() > 1 || path.is_absolute() {
        vec![path.to_owned()]
    } else {
        let folders = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        std::env::split_paths(&folders)
            .map(|folder| folder.join(path))
            .collect()
    };
    let mut found = None;
    for candidate in candidates {
        match candidate.metadata() {
            Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => return Ok(()),
            Ok(_) => found = Some((candidate, io::Error::from(io::ErrorKind::PermissionDenied))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => found = Some((candidate, error)),
        }
    }
    Err(match found {
        Some((path, error)) => Problem::new(format!("can't execute {}", path.display()))
            .because(error)
            .next("a program with execute permission")
            .with_status(126),
        None => Problem::new(format!("{}: command not found", path.display()))
            .next("check the spelling and PATH (sudo has its own), or give the program's full path")
            .with_status(127),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a missing command and one that can't be executed have the shell's exit statuses, and that a good
    /// one passes, by name and by path.
    #[test]
    fn missing_and_not_executable() {
        let status =
            |program: &Path| check_program(&program.as_os_str().to_owned()).map_err(|problem| problem.status());
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "x").unwrap();
        assert_eq!(status(&plain), Err(126));
        assert_eq!(status(folder.path()), Err(126));
        assert_eq!(status(&folder.path().join("none")), Err(127));
        assert_eq!(status(Path::new("no-such-program-anywhere")), Err(127));
        assert_eq!(status(Path::new("sh")), Ok(()));
        assert_eq!(status(Path::new("/bin/sh")), Ok(()));
    }

    /// Make sure that the default name holds the time and can be sorted by it.
    #[test]
    fn default_name() {
        let name = default_output().display().to_string();
        assert_eq!(name.len(), "phasegraph-20260131T120000Z.phg".len());
        assert!(name.starts_with("phasegraph-2") && name.ends_with("Z.phg"), "{name}");
    }
}
