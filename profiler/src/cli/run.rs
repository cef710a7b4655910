//! `run`: profile one command and all that it causes.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Problem, capture};
use crate::session;

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
    #[command(flatten)]
    pub(crate) capture: capture::Args,

    /// Run the command as this user, with that user's environment [default: as whoever runs phasegraph]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// Tell the command to end after this time, and kill it when it does not within 5 s: 90s, 5m
    #[arg(long, value_name = "D", value_parser = super::record::duration)]
    pub(crate) timeout: Option<Duration>,

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
    let outcome = session::run(&session::Options {
        user: args.user.clone(),
        timeout: args.timeout,
        command: args.command.clone(),
        ..args.capture.options()?
    })
    .map_err(|error| capture::failed("can't profile the command", error))?;
    args.capture.tell(&outcome.recording)?;
    Ok(outcome.status)
}

/// Says before anything is attached that a command can't be run, with the shell's exit statuses (POSIX XCU 2.8.2).
pub(super) fn check_program(program: &OsString) -> Result<(), Problem> {
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
}
