//! `diff`: two series of runs beside each other.

use std::io;
use std::path::{Path, PathBuf};

use super::flame::Kind;
use super::inputs::{self, Input};
use super::output::Target;
use super::problem::tell;
use super::{Problem, load, output, terminal};
use crate::compare::diff::{self, Difference, Verdict};
use crate::compare::results::Series;
use crate::report::compare as shown;
use crate::report::flame::differential::{self, Stacks};
use crate::report::flame::{self, Roots};
use crate::report::select::Selection;
use crate::report::text;

/// Compare two series of runs: which phases changed, by how much, and how sure that is
///
/// BASE and NEW are folders or results.json of `phasegraph bench`, folders of recordings, or single recordings. Each phase's
/// length and the resources on its critical path are compared by an exact rank test (Wilcoxon, Mann and Whitney), which asks
/// nothing of how times are distributed, corrected for the number of comparisons (Holm); shifts are Hodges and Lehmann's,
/// with a 95 % interval each. For what is the same, the smallest change that would have been found four times of five is
/// told. Times of different hosts, or of one host at different times of day, differ for reasons of their own.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph diff base new\n  \
                        phasegraph diff base new --series warm -o difference\n  \
                        phasegraph diff runs runs --base-series 'warm j=1' --new-series 'warm j=4'\n  \
                        phasegraph diff yesterday.phg today.phg --flame difference.svg\n\n\
                        Exit status: 0 the same, 1 changed, 2 can't tell (single runs, too few runs, unusable input).")]
pub(crate) struct Args {
    /// What to compare with
    base: PathBuf,

    /// What to compare
    new: PathBuf,

    /// Only the series of this name [default: every name that both have]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["base_series", "new_series"])]
    series: Option<String>,

    /// This series of BASE
    #[arg(long, value_name = "NAME", requires = "new_series")]
    base_series: Option<String>,

    /// This series of NEW
    #[arg(long, value_name = "NAME", requires = "base_series")]
    new_series: Option<String>,

    /// The smallest change that counts, percent of a phase's length
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    min_change: f64,

    /// Show every comparison, not only lengths and what changed
    #[arg(long)]
    all: bool,

    /// Write every comparison and the differential flamegraphs of both sides into this folder
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Write one differential flamegraph here: the new runs' frames, red where they take longer than the base's
    #[arg(long, value_name = "FILE")]
    flame: Option<PathBuf>,

    /// Of which time --flame is
    #[arg(long, value_enum, default_value = "cpu")]
    kind: Kind,

    /// Replace files that exist
    #[arg(long)]
    force: bool,

    /// Columns, 60 to 200 [default: the terminal's; 80 when there is none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(60..=200))]
    width: Option<u16>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    if !(0.0..=1_000.0).contains(&args.min_change) {
        return Err(Problem::new("--min-change is a percentage from 0 to 1000").with_status(2));
    }
    let (base, new) = (inputs::read(&args.base)?, inputs::read(&args.new)?);
    let options = diff::Options {
        min_change: args.min_change / 100.0,
    };
    let pairs = pairs(args, &base, &new)?;
    let circumstances = diff::circumstances(&base.results, &new.results);
    let differences: Vec<Difference> = pairs
        .iter()
        .map(|(base, new)| diff::compare(base, new, &options))
        .collect();
    let style = terminal::style(&io::stdout(), args.width.map(usize::from));
    let titles = (&base.title[..], &new.title[..]);
    output::stdout(shown::diff::render(&differences, titles, &circumstances, args.all, &style).as_bytes())?;
    draw(args, (&base, &new), &pairs, &differences)?;
    Ok(verdict(&differences).status())
}

/// Of all pairs of series.
pub(super) fn verdict(differences: &[Difference]) -> Verdict {
    let has = |verdict| differences.iter().any(|difference| difference.verdict == verdict);
    match (has(Verdict::Changed), has(Verdict::CantTell)) {
        (true, _) => Verdict::Changed,
        (false, true) => Verdict::CantTell,
        (false, false) => Verdict::Same,
    }
}

/// The series that belong together.
fn pairs<'a>(args: &Args, base: &'a Input, new: &'a Input) -> Result<Vec<(&'a Series, &'a Series)>, Problem> {
    let find = |input: &'a Input, name: &str| {
        input
            .results
            .series
            .iter()
            .find(|series| series.name == name)
            .ok_or_else(|| {
                let known: Vec<&str> = input.results.series.iter().map(|series| &series.name[..]).collect();
                Problem::new(format!(
                    "no series {name:?} in {}; there is: {}",
                    input.title,
                    known.join(", ")
                ))
                .with_status(2)
            })
    };
    if let (Some(old), Some(now)) = (&args.base_series, &args.new_series) {
        return Ok(vec![(find(base, old)?, find(new, now)?)]);
    }
    if let Some(name) = &args.series {
        return Ok(vec![(find(base, name)?, find(new, name)?)]);
    }
    if let ([old], [now]) = (&base.results.series[..], &new.results.series[..]) {
        return Ok(vec![(old, now)]);
    }
    let pairs: Vec<_> = base
        .results
        .series
        .iter()
        .filter_map(|old| Some((old, find(new, &old.name).ok()?)))
        .collect();
    if pairs.is_empty() {
        return Err(Problem::new("the two have no series of the same name")
            .next("choose with --base-series and --new-series")
            .with_status(2));
    }
    Ok(pairs)
}

/// What is asked for as files.
fn draw(
    args: &Args,
    (base, new): (&Input, &Input),
    pairs: &[(&Series, &Series)],
    differences: &[Difference],
) -> Result<(), Problem> {
    let mut written = Vec::new();
    let mut graph = |path: &Path, kind: Kind, newer: bool, pair: (&Series, &Series)| -> Result<(), Problem> {
        let sides = (stacks(base, pair.0, kind)?, stacks(new, pair.1, kind)?);
        let (drawn, other) = if newer {
            (&sides.1, &sides.0)
        } else {
            (&sides.0, &sides.1)
        };
        if drawn.is_empty() || other.is_empty() {
            tell(&format!(
                "phasegraph: no recordings with such time on both sides: {} is not drawn",
                path.display()
            ));
            return Ok(());
        }
        let (drawn_title, other_title) = if newer {
            (&new.title, &base.title)
        } else {
            (&base.title, &new.title)
        };
        let title = text::fit(&format!("{drawn_title}, compared with {other_title}"), 110);
        let subtitle = "mean of the runs; red: more time in the newer runs, blue: less";
        let svg = differential::draw(drawn, other, newer, &title, subtitle)
            .map_err(|error| Problem::new("can't draw the flamegraph").because(error))?;
        Target::new(path).write(&svg, args.force)?;
        written.push(path.to_owned());
        Ok(())
    };
    if let (Some(path), Some(pair)) = (&args.flame, pairs.first()) {
        graph(path, args.kind, true, *pair)?;
    }
    if let Some(folder) = &args.output {
        let failed = |error| Problem::new(format!("can't make the folder {}", folder.display())).because(error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        for (index, pair) in pairs.iter().enumerate() {
            for (kind, name) in [(Kind::Cpu, "oncpu"), (Kind::Offcpu, "offcpu")] {
                for (newer, side) in [(true, "new"), (false, "base")] {
                    let name = format!("{:02}-{name}-{side}.svg", index + 1);
                    graph(&folder.join(name), kind, newer, *pair)?;
                }
            }
        }
        let table = shown::diff::tsv(differences);
        let table = table.map_err(|error| Problem::new("can't make a table of the changes").because(error))?;
        let path = folder.join("changes.tsv");
        Target::new(&path).write(&table, args.force)?;
        written.push(path);
    }
    for path in written {
        tell(&format!(
            "written: {}",
            text::visible(path.as_os_str().as_encoded_bytes())
        ));
    }
    Ok(())
}

/// The mean of a series' recordings; containers' names, which are new with every run, are left out.
fn stacks(input: &Input, series: &Series, kind: Kind) -> Result<Stacks, Problem> {
    let mut stacks = Stacks::default();
    let roots: Roots = "operation,phase,parents,process,thread"
        .parse()
        .map_err(|error: String| Problem::new(error))?;
    for path in input.recordings(series) {
        let session = load(&path)?;
        // A recording without such time has nothing to add.
        if let Ok(flame) = flame::collect(&session, &Selection::all(), kind.into(), roots) {
            stacks.add(&flame);
        }
    }
    Ok(stacks)
}
