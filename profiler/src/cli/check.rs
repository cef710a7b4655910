//! `check`: are a series' figures what they may be?

use std::io;
use std::path::{Path, PathBuf};

use super::output::Target;
use super::{Problem, inputs, output, terminal};
use crate::compare::budget::{self, Budgets};
use crate::compare::diff;
use crate::report::compare as shown;

/// Largest file of budgets, bytes.
const LARGEST: u64 = 1 << 20;

/// Check results against budgets: a verdict for each, and an exit status for CI
///
/// RESULTS is what `phasegraph bench` wrote, a folder of recordings, or one recording. A budget compares a figure with a
/// limit: `phase.NAME.FIGURE` (its length), `phase.NAME.MEASURE.FIGURE`, `total.FIGURE`, `total.MEASURE.FIGURE`,
/// `success_rate`, `lost`, `copy_up.bytes`, `copy_up.files` (the most in a run), `overhead_vs(baseline)`. FIGURE is median,
/// mean, min, max, p95, p99, sd, cv, share (of the command's length) or count; MEASURE is wall, cpu, runqueue, disk, network,
/// lock, ipc, child, sleep, short_blocked, other, lost, unattributed, cpu_all, bytes, memory (of total wall, cpu_all, memory).
/// NAME is a phase's kind (create), a step ("step 2"), or a whole key as `bench` shows it. [regression] compares every phase
/// with the baseline.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph check --budget budget.toml runs\n  \
                        phasegraph check --budget budget.toml runs --baseline base --junit verdicts.xml --github\n  \
                        phasegraph check --budget budget.toml runs --receipt receipt.json\n\n\
                        A budget file:\n  \
                        budget = [\n    \
                        'phase.start.p95 < \"1s\"',\n    \
                        'phase.pull.share < 0.3',\n    \
                        'success_rate >= 0.995',\n    \
                        'overhead_vs(baseline) < 0.20',\n    \
                        { expr = 'total.median < \"30s\"', name = \"all of it\", series = \"cold\", level = \"alert\" },\n  \
                        ]\n  \
                        [regression]\n  \
                        alert = 0.10\n  \
                        fail = 0.20\n\n\
                        Exit status: 0 within all budgets (alerts are told), 1 over one, 2 can't tell (a phase that never \
                        occurred, no baseline, unusable input).")]
pub(crate) struct Args {
    /// Results to check
    results: PathBuf,

    /// The budgets
    #[arg(long, value_name = "FILE")]
    budget: PathBuf,

    /// Results to compare with
    #[arg(long, value_name = "RESULTS")]
    baseline: Option<PathBuf>,

    /// Write the verdicts here as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// Write the verdicts here as JSON, with commit, command, host and notes (`bench --note`) of the results
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,

    /// Print the verdicts as GitHub's annotations too
    #[arg(long)]
    github: bool,

    /// Replace files that exist
    #[arg(long)]
    force: bool,

    /// Columns, 60 to 200 [default: the terminal's; 80 when there is none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(60..=200))]
    width: Option<u16>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    // Whatever goes wrong is no verdict.
    checked(args).map_err(|problem| problem.with_status(2))
}

fn checked(args: &Args) -> Result<u8, Problem> {
    let budgets = budgets(&args.budget)?;
    let input = inputs::read(&args.results)?;
    let baseline = args.baseline.as_deref().map(inputs::read).transpose()?;
    let mut cautions = Vec::new();
    let mut checked = budget::without_series(&budgets, &input.results.series);
    if let Some(baseline) = &baseline {
        let differ = diff::circumstances(&baseline.results, &input.results);
        cautions.extend(
            differ
                .into_iter()
                .map(|what| format!("baseline and results differ, {what}")),
        );
    }
    for series in &input.results.series {
        let base = baseline.as_ref().and_then(|baseline| {
            let all = &baseline.results.series;
            // The only one there is belongs to the only one here, whatever they are called.
            let only = all
                .first()
                .filter(|_| all.len() == 1 && input.results.series.len() == 1);
            all.iter().find(|base| base.name == series.name).or(only)
        });
        if let Some(base) = base.filter(|base| base.cold != series.cold) {
            cautions.push(format!(
                "{} is compared with {}: one is cold, the other warm",
                series.name, base.name
            ));
        }
        checked.extend(budget::check(&budgets, series, base));
    }
    let style = terminal::style(&io::stdout(), args.width.map(usize::from));
    let mut text = shown::check::render(&input.title, &checked, &cautions, &style);
    if args.github {
        text.push_str(&shown::check::github(&checked, &cautions));
    }
    if let Some(path) = &args.junit {
        let xml = shown::check::junit(&checked, &cautions);
        let xml = xml.map_err(|error| Problem::new("can't make XML of the verdicts").because(error))?;
        let target = Target::new(path);
        output::unless_gone(target.write(xml.as_bytes(), args.force))?;
        target.tell();
    }
    if let Some(path) = &args.receipt {
        let against = baseline.as_ref().map(|baseline| &baseline.results);
        let json = shown::receipt::render(&input.results, against, &checked, &cautions);
        let json = json.map_err(|error| Problem::new("can't make JSON of the verdicts").because(error))?;
        let target = Target::new(path);
        output::unless_gone(target.write(&json, args.force))?;
        target.tell();
    }
    output::unless_gone(output::stdout(text.as_bytes()))?;
    Ok(budget::status(&checked))
}

fn budgets(path: &Path) -> Result<Budgets, Problem> {
    let failed = || {
        Problem::new(format!("can't use the budgets in {}", path.display()))
            .next("phasegraph check --help shows a budget file")
    };
    let length = path.metadata().map_err(|error| failed().because(error))?.len();
    if length > LARGEST {
        return Err(failed().because("the file is larger than 1 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed().because(error))?;
    Budgets::parse(&text).map_err(|error| failed().because(error))
}
