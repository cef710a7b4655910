//! The command line: low-level arguments → validated options → a call into the library. One file per subcommand.
//!
//! Exit status: 0 done (also when the reader of standard output has gone), 1 the work failed, 2 the arguments make no
//! sense; `run` passes on the command's own, 126 when the command can't be executed and 127 when there is none.

mod bench;
mod capture;
mod check;
mod completions;
mod demo;
mod diff;
mod doctor;
mod endpoint;
mod export;
mod flame;
mod inputs;
mod layers;
mod load;
mod man;
mod mark;
mod names;
mod output;
mod problem;
mod record;
mod report;
mod run;
mod rungs;
mod show;
mod terminal;
mod timed;
mod trend;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

pub use load::load;
pub use problem::Problem;

/// The program's name, whatever its file is called.
const NAME: &str = "phasegraph";

#[derive(Parser)]
#[command(
    name = NAME,
    version,
    about = "Where a container's time goes, phase by phase",
    long_about = "Profiles a container command from the kernel: its lifecycle's phases with CPU and waiting time for \
                  each, and a flamegraph of any of them. Workloads, images and runtimes are not modified.",
    after_help = "Examples:\n  \
                  sudo phasegraph doctor                                whether it works here, and what it would lack\n  \
                  sudo phasegraph demo                                  see it work, without a container runtime\n  \
                  sudo phasegraph run -- podman build -t app .          profile one command and all that it causes\n  \
                  sudo phasegraph record --duration 60s                 the whole host\n  \
                  phasegraph show phasegraph-20260131T120000Z.phg       look at a recording, without root\n  \
                  phasegraph report phasegraph-20260131T120000Z.phg     all of it as a page for a browser\n  \
                  phasegraph flame phasegraph-20260131T120000Z.phg --phase 'step 3'\n\n\
                  Environment:\n  \
                  NO_COLOR         set to anything: no colour even on a terminal\n  \
                  PHASEGRAPH_LOG   debug: what it does, on standard error"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Record(record::Args),
    Bench(bench::Args),
    Diff(diff::Args),
    Check(check::Args),
    Trend(trend::Args),
    Show(show::Args),
    Flame(flame::Args),
    Layers(layers::Args),
    Export(export::Args),
    Report(report::Args),
    Mark(mark::Args),
    Demo(demo::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    Rungs(rungs::Args),
    #[command(hide = true)]
    Timed(timed::Args),
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` are "errors" that go to standard output; a reader that has gone is no failure.
            let status = if error.use_stderr() { 2 } else { 0 };
            _ = error.print();
            return ExitCode::from(status);
        }
    };
    let filter = EnvFilter::try_from_env("PHASEGRAPH_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    let done = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Record(args) => record::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Check(args) => check::run(args),
        Command::Trend(args) => trend::run(args),
        Command::Show(args) => show::run(args),
        Command::Flame(args) => flame::run(args),
        Command::Layers(args) => layers::run(args),
        Command::Export(args) => export::run(args),
        Command::Report(args) => report::run(args),
        Command::Mark(args) => mark::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::Rungs(args) => rungs::run(args),
        Command::Timed(args) => timed::run(args),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(problem) => {
            problem.print();
            ExitCode::from(problem.status())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Make sure that the arguments' definitions contradict themselves nowhere.
    #[test]
    fn definitions_hold() {
        Cli::command().debug_assert();
    }

    /// Make sure that the help of every command shows an example.
    #[test]
    fn help_shows_an_example() {
        let cli = Cli::command().term_width(80);
        assert!(cli.clone().render_long_help().to_string().contains("Example"));
        for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.clone().term_width(80).render_long_help().to_string();
            assert!(help.contains("Example"), "{}", command.get_name());
        }
    }

    /// Make sure that `run` leaves everything behind `--` to the command, whatever it looks like.
    #[test]
    fn command_is_kept_as_it_is() {
        let cli = Cli::try_parse_from(["phasegraph", "run", "-F", "199", "--", "sh", "-c", "-F 1", "--help"]).unwrap();
        let Command::Run(args) = cli.command else { panic!() };
        assert_eq!(args.command, ["sh", "-c", "-F 1", "--help"]);
        assert_eq!(args.capture.frequency, 199);
    }

    /// Make sure that arguments that make no sense are refused.
    #[test]
    fn nonsense_is_refused() {
        for args in [
            &["phasegraph"][..],
            &["phasegraph", "run"],
            &["phasegraph", "run", "-F", "0", "--", "true"],
            &["phasegraph", "run", "-F", "20000", "--", "true"],
            &["phasegraph", "run", "--max-overhead", "0", "--", "true"],
            &["phasegraph", "record", "true"],
            &["phasegraph", "record", "--duration", "soon"],
            &["phasegraph", "show"],
            &["phasegraph", "show", "x.phg", "--sort", "name"],
            &["phasegraph", "show", "x.phg", "--width", "3"],
            &["phasegraph", "flame", "x.phg", "--kind", "heap"],
            &["phasegraph", "layers"],
            &["phasegraph", "layers", "x.phg", "--width", "3"],
            &["phasegraph", "flame", "x.phg", "--roots", "everything"],
            &["phasegraph", "flame", "x.phg", "--slowest", "3"],
            &["phasegraph", "flame", "x.phg", "--slowest", "0", "-o", "x"],
            &["phasegraph", "export", "x.phg"],
            &["phasegraph", "export", "x.phg", "--format", "html"],
            &["phasegraph", "completions", "tcsh"],
            &["phasegraph", "report"],
        ] {
            assert!(Cli::try_parse_from(args).is_err(), "{args:?}");
        }
    }
}
