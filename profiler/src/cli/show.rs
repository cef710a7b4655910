//! `show`: a recording's summary.

use std::io;
use std::path::PathBuf;

use clap::ValueEnum;

use super::{Problem, inputs, load, output, terminal};
use crate::report::select::Query;
use crate::report::terminal::{self as summary, DEFAULT_TOP};
use crate::report::{compare, json};

/// Show a recording: phases, where their time went, programs, losses, the profiler's own cost
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph show build.phg\n  \
                        phasegraph show build.phg --phase 'step 3' --sort wall\n  \
                        phasegraph show build.phg --critical --phase 'step 3'\n  \
                        phasegraph show --pareto runs --series 'cold j=4'\n  \
                        phasegraph show build.phg --json | jq '.containers[].phases[] | {name, wall_ns}'")]
pub(crate) struct Args {
    /// The recording
    file: PathBuf,

    /// Print everything as JSON, integers in ns and bytes
    #[arg(long, conflicts_with_all = ["phase", "container", "critical", "sort", "top", "width"])]
    json: bool,

    /// FILE is a series of runs (what `bench` wrote, or a folder of recordings): show what their time goes on, the costliest
    /// phases and reasons first, cold apart from warm
    #[arg(long, conflicts_with_all = ["phase", "container", "critical", "sort", "json", "config"])]
    pareto: bool,

    /// With --pareto, only series of this name
    #[arg(long, value_name = "NAME", requires = "pareto")]
    series: Option<String>,

    /// Only this phase: its name, 'step 3', or its number
    #[arg(long, value_name = "P")]
    phase: Option<String>,

    /// Only this container: its name, its id or the beginning of its id
    #[arg(long, value_name = "C")]
    container: Option<String>,

    /// Show the critical path, of each operation or of the chosen phases: the chain of processes that its end waited for,
    /// and what to mend first
    #[arg(long)]
    critical: bool,

    /// Take the rules for phases of your own from here instead of from the recording
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Order phases and programs by this
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,

    /// Programs, or reasons with --critical, to list
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TOP)]
    top: usize,

    /// Columns, 60 to 200 [default: the terminal's; 80 when there is none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(60..=200))]
    width: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Sort {
    /// Longest first
    Wall,
    /// Most CPU time first
    Cpu,
    /// In order of time
    #[default]
    Start,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    if args.pareto {
        let mut input = inputs::read(&args.file)?;
        if let Some(name) = &args.series {
            input.only(name)?;
        }
        let style = terminal::style(&io::stdout(), args.width.map(usize::from));
        let shown = compare::pareto::render(&input.results, &input.title, args.top, &style);
        output::stdout(shown.as_bytes())?;
        return Ok(0);
    }
    let session = load::with_rules(&args.file, args.config.as_deref())?;
    if args.json {
        let json = json::render(&session).map_err(|error| Problem::new("can't make JSON of it").because(error))?;
        output::stdout(&json)?;
        return Ok(0);
    }
    let options = summary::Options {
        query: Query {
            phase: args.phase.clone(),
            container: args.container.clone(),
            ..Query::default()
        },
        sort: match args.sort {
            Sort::Wall => summary::Sort::Wall,
            Sort::Cpu => summary::Sort::Cpu,
            Sort::Start => summary::Sort::Start,
        },
        top: args.top,
        critical: args.critical,
        answers: true,
    };
    let style = terminal::style(&io::stdout(), args.width.map(usize::from));
    let summary = summary::render(&session, &options, &style)
        .map_err(|error| Problem::new(format!("can't show {}", args.file.display())).because(error))?;
    output::stdout(summary.as_bytes())?;
    Ok(0)
}
