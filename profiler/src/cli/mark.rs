//! `mark`: a phase of the user's own.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::Problem;

/// Mark a phase of your own in whatever recording is being made
///
/// This program's start is the mark: it does nothing else, asks for no privilege and costs a millisecond whether a
/// profiler runs or not. In a recording the phase lies in the container or operation that the mark was made in, or on
/// the host. Phases nest as they lie in time; one without an end goes on to the end of where it was made.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph mark --begin deps; dnf -y builddep app.spec; phasegraph mark --end deps\n  \
                        phasegraph mark tests -- make check                    the command's life is the phase\n  \
                        phasegraph mark warm                                   a moment\n  \
                        /bin/true phasegraph mark --begin deps                 where phasegraph is not installed\n\n\
                        Phases by what programs are started as need no marks: see phasegraph run --config.")]
pub(crate) struct Args {
    /// The phase begins; it ends with the mark --end of the same name
    #[arg(long, conflicts_with_all = ["end", "command"])]
    begin: bool,

    /// The phase ends; without a name the one that began last
    #[arg(long, conflicts_with = "command")]
    end: bool,

    /// The phase's name
    #[arg(required_unless_present = "end", value_parser = name)]
    name: Option<String>,

    /// Run this command; its life is the phase
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Refuses what would not be recorded as it is.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > crate::ingest::marks::MAX_NAME || text.contains(char::is_control) {
        return Err(format!(
            "a name has 1 to {} bytes without control characters",
            crate::ingest::marks::MAX_NAME
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let Some((program, words)) = args.command.split_first() else {
        return Ok(0);
    };
    let error = Command::new(program).args(words).exec();
    let status = if error.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    Err(Problem::new(format!("can't execute {}", program.display()))
        .because(error)
        .with_status(status))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::ingest::marks;
    use crate::recording::record::MarkOp;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        mark: Args,
    }

    /// Make sure that the command line takes what a recording understands as a mark, and the same of it, and refuses the
    /// rest.
    #[test]
    fn agrees_with_the_recording() {
        for line in [
            "warm",
            "--begin deps",
            "deps --begin",
            "--end deps",
            "--end",
            "tests -- make check",
            "tests -- make --end",
            "",
            "--begin",
            "a b",
            "--begin --end a",
            "--begin a -- make",
            "--end -- make",
            "-- make",
            "--other a",
        ] {
            let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
            let parsed = Cli::try_parse_from(["mark"].iter().chain(&words))
                .ok()
                .map(|cli| cli.mark);
            let told = parsed.map(|args| {
                let op = match (args.begin, args.end, args.command.is_empty()) {
                    (true, ..) => MarkOp::Begin,
                    (_, true, _) => MarkOp::End,
                    (_, _, false) => MarkOp::Command,
                    _ => MarkOp::Instant,
                };
                (op, args.name.unwrap_or_default().into_bytes())
            });
            let argv: Vec<Vec<u8>> = ["phasegraph", "mark"]
                .iter()
                .chain(&words)
                .map(|word| word.as_bytes().to_vec())
                .collect();
            assert_eq!(told, marks::parse(&argv), "{line:?}");
        }
        assert!(Cli::try_parse_from(["mark", "a\x1bb"]).is_err());
        assert!(Cli::try_parse_from(["mark", &"x".repeat(300)]).is_err());
    }
}
