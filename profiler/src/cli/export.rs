//! `export`: a recording in other programs' forms.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};

use super::flame::Kind;
use super::output::Target;
use super::problem::tell;
use super::{Problem, endpoint, load, names};
use crate::report::export::{self, Error, Request, SINKS, Sink};
use crate::report::select::{Query, Selection};
use crate::report::text;

/// Write a recording for other programs
///
/// Everything is made of the recording alone: nothing is run, opened or looked up on the machine at hand (but for
/// --debug-dir, --inline and --debuginfod). Names from containers are escaped and bounded in each form. Losses are told where the form has a place for them.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph export build.phg --format json | jq .receipt\n  \
                        phasegraph export build.phg --format csv -o phases.csv\n  \
                        phasegraph export build.phg --format pprof && go tool pprof -http : build.pprof\n  \
                        phasegraph export build.phg --format perfetto     (open it in ui.perfetto.dev)\n  \
                        phasegraph export build.phg --format otlp --endpoint http://127.0.0.1:4318/v1/traces\n  \
                        phasegraph export build.phg --format prometheus -o /var/lib/node_exporter/build.prom --force")]
pub(crate) struct Args {
    /// The recording
    file: PathBuf,

    /// What to write
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    format: &'static dyn Sink,

    /// Only this phase: its name, 'step 3', or its number (csv, tsv, folded, pprof, speedscope)
    #[arg(long, value_name = "P")]
    phase: Option<String>,

    /// Only this container: its name, its id or the beginning of its id (the same)
    #[arg(long, value_name = "C")]
    container: Option<String>,

    /// Only this process: its pid, or all that ran the program of this name (folded, pprof, speedscope)
    #[arg(long, value_name = "P")]
    process: Option<String>,

    /// Only this operation: its name as `show` prints it (folded, pprof, speedscope)
    #[arg(long, value_name = "O")]
    operation: Option<String>,

    /// Which time the stacks are of (folded) [default: cpu]
    #[arg(long, value_enum)]
    kind: Option<Kind>,

    /// Take the rules for phases of your own from here instead of from the recording
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    names: names::Args,

    /// Write here; - is standard output [default: standard output; <recording>.<format> in the current folder for pprof,
    /// perfetto and speedscope]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the output if it exists
    #[arg(long)]
    force: bool,

    /// Send it there by HTTP POST instead (otlp): a collector's /v1/traces
    #[arg(long, value_name = "URL", conflicts_with = "output")]
    endpoint: Option<String>,
}

/// The sinks' own names and lines.
fn formats() -> impl clap::builder::TypedValueParser<Value = &'static dyn Sink> {
    let values = SINKS.map(|sink| PossibleValue::new(sink.name()).help(sink.about()));
    PossibleValuesParser::new(values).try_map(|name| export::find(&name).ok_or("no such format"))
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let sink = args.format;
    check(args)?;
    let mut session = load::with_rules(&args.file, args.config.as_deref())?;
    names::improve(&mut session, &args.names)?;
    let failed = || Problem::new(format!("can't export {} as {}", args.file.display(), sink.name()));
    let query = Query {
        phase: args.phase.clone(),
        container: args.container.clone(),
        process: args.process.clone(),
        operation: args.operation.clone(),
    };
    let request = Request {
        selection: Selection::find(&session, &query).map_err(|error| failed().because(error))?,
        kind: args.kind.unwrap_or_default().into(),
    };
    let mut bytes = Vec::new();
    sink.write(&session, &request, &mut bytes).map_err(|error| {
        let empty = matches!(error, Error::Empty(_));
        let problem = failed().because(error);
        if empty {
            problem.next("another phase, container or process (see phasegraph show), or --kind wall")
        } else {
            problem
        }
    })?;
    if let Some(url) = &args.endpoint {
        let answer = endpoint::post(url, &bytes)?;
        tell(&format!("sent to {}: {answer}", text::visible(url.as_bytes())));
        return Ok(0);
    }
    let target = target(args, sink);
    if target == Target::Stdout && sink.ending().is_some() && std::io::stdout().is_terminal() {
        return Err(failed()
            .because("standard output is a terminal, which can't show it")
            .next("-o FILE, or a pipe")
            .with_status(2));
    }
    target.write(&bytes, args.force)?;
    target.tell();
    Ok(0)
}

/// Options that the format has no use for are mistakes, not wishes to be passed over.
fn check(args: &Args) -> Result<(), Problem> {
    let sink = args.format;
    let phases = args.phase.is_some() || args.container.is_some();
    let stacks = args.process.is_some() || args.operation.is_some();
    let table = matches!(sink.name(), "csv" | "tsv");
    let wrong = if (phases || stacks) && !sink.takes_part() {
        Some("is of a whole recording: --phase, --container, --process and --operation mean nothing to it")
    } else if stacks && table {
        Some("has a row for each phase: --process and --operation mean nothing to it")
    } else if args.kind.is_some() && !sink.takes_kind() {
        Some("has all kinds of time: --kind means nothing to it")
    } else if args.endpoint.is_some() && sink.name() != "otlp" {
        Some("is not sent anywhere: --endpoint is for otlp")
    } else {
        None
    };
    match wrong {
        Some(why) => Err(Problem::new(format!("--format {} {why}", sink.name())).with_status(2)),
        None => Ok(()),
    }
}

fn target(args: &Args, sink: &dyn Sink) -> Target {
    match (&args.output, sink.ending()) {
        (Some(path), _) => Target::new(path),
        (None, None) => Target::Stdout,
        (None, Some(ending)) => Target::File(default_name(&args.file, ending)),
    }
}

/// `build.pprof` for `build.phg`, in the current folder.
fn default_name(recording: &Path, ending: &str) -> PathBuf {
    let mut name = recording.file_stem().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a default name lies in the current folder.
    #[test]
    fn default_names() {
        assert_eq!(
            default_name(Path::new("/var/tmp/build.phg"), "pprof"),
            Path::new("build.pprof")
        );
        assert_eq!(
            default_name(Path::new("../x"), "speedscope.json"),
            Path::new("x.speedscope.json")
        );
    }
}
