//! `trend`: a phase over the results in a history.

use std::io;
use std::path::PathBuf;

use super::output::Target;
use super::{Problem, output, terminal};
use crate::compare::history::{History, HistoryError};
use crate::compare::samples;
use crate::report::compare::trend;

/// Show a phase over time: its medians, and when their level changed
///
/// The history is what `phasegraph bench --history FILE` adds to. Results of different hosts, commands and series stand
/// apart. A step is a change of level that chance makes in less than one of twenty such histories.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph trend start --history history.sqlite\n  \
                        phasegraph trend total --history history.sqlite --series warm --svg total.svg\n  \
                        phasegraph trend 'step 2' --measure cpu_all --history history.sqlite")]
pub(crate) struct Args {
    /// The phase: its kind, 'step 3', a whole key as `bench` shows it; total for the whole command
    phase: String,

    /// The history
    #[arg(long, value_name = "FILE")]
    history: PathBuf,

    /// Which figure of it
    #[arg(long, value_name = "MEASURE", default_value = "wall", value_parser = samples::MEASURES)]
    measure: String,

    /// Only series of this name
    #[arg(long, value_name = "NAME")]
    series: Option<String>,

    /// Only results of this name (`bench --name`)
    #[arg(long, value_name = "N")]
    name: Option<String>,

    /// Only results of this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// Write a plot here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Replace the plot if it exists
    #[arg(long)]
    force: bool,

    /// Columns, 60 to 200 [default: the terminal's; 80 when there is none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(60..=200))]
    width: Option<u16>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let failed =
        |error: HistoryError| Problem::new(format!("can't use the history {}", args.history.display())).because(error);
    let history = History::open(&args.history).map_err(failed)?;
    let mut entries = history.entries(&args.phase, &args.measure).map_err(failed)?;
    entries.retain(|entry| {
        let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        is(&args.series, &entry.series) && is(&args.name, &entry.name) && is(&args.host, &entry.hostname)
    });
    if entries.is_empty() {
        let known = history.known().map_err(failed)?;
        return Err(
            Problem::new(format!("no such figures of phase {:?} in this history", args.phase))
                .next(format!("one of: {}", known.join(", "))),
        );
    }
    let courses = trend::lines(&entries);
    let style = terminal::style(&io::stdout(), args.width.map(usize::from));
    output::stdout(trend::render(&courses, &args.measure, &style).as_bytes())?;
    if let Some(path) = &args.svg {
        let [course] = &courses[..] else {
            return Err(Problem::new(format!("{} courses don't fit one plot", courses.len()))
                .next("choose one with --series, --name, --host or the phase's whole key"));
        };
        let svg = trend::svg(course, &args.measure).map_err(|error| Problem::new("can't plot it").because(error))?;
        let target = Target::new(path);
        target.write(svg.as_bytes(), args.force)?;
        target.tell();
    }
    Ok(0)
}
