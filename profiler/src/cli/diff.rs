//! `diff`: two series of runs beside each other.

use std::io;
use std::path::PathBuf;

use super::flame::Kind;
use super::inputs::{self, Input};
use super::output::Target;
use super::problem::tell;
use super::{Problem, load, output, terminal};
use crate::compare::diff::{self, Difference, Verdict};
use crate::compare::results::{Results, Series};
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
                        phasegraph diff base new --phase total\n  \
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

    /// Compare only phases of this name, as for `trend`: total for the whole command; can be given several times. Fewer runs
    /// are enough for a question that was asked beforehand than for all that could have changed
    #[arg(long, value_name = "PHASE")]
    phase: Vec<String>,

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

    /// Of which time, or traffic, --flame is
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
    // Whatever goes wrong is no verdict.
    compared(args).map_err(|problem| problem.with_status(2))
}

fn compared(args: &Args) -> Result<u8, Problem> {
    if !(0.0..=1_000.0).contains(&args.min_change) {
        return Err(Problem::new("--min-change is a percentage from 0 to 1000"));
    }
    let (base, new) = (inputs::read(&args.base)?, inputs::read(&args.new)?);
    let options = diff::Options {
        min_change: args.min_change / 100.0,
        phases: args.phase.clone(),
    };
    let pairs = pairs(args, &base, &new)?;
    let circumstances = diff::circumstances(&base.results, &new.results);
    let differences: Vec<Difference> = pairs
        .iter()
        .map(|(base, new)| diff::compare(base, new, &options))
        .collect();
    let style = terminal::style(&io::stdout(), args.width.map(usize::from));
    let titles = (&base.title[..], &new.title[..]);
    let mut cautions: Vec<String> = circumstances
        .iter()
        .map(|what| format!("{what}; differences may come from that"))
        .collect();
    cautions.extend(left_out(&pairs, &base.results, &new.results, args));
    let shown = shown::diff::render(&differences, titles, &cautions, args.all, &style);
    output::unless_gone(output::stdout(shown.as_bytes()))?;
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
    if let (Some(old), Some(now)) = (&args.base_series, &args.new_series) {
        return Ok(vec![(base.series(old)?, new.series(now)?)]);
    }
    if let Some(name) = &args.series {
        return Ok(vec![(base.series(name)?, new.series(name)?)]);
    }
    if let ([old], [now]) = (&base.results.series[..], &new.results.series[..]) {
        return Ok(vec![(old, now)]);
    }
    let pairs: Vec<_> = base
        .results
        .series
        .iter()
        .filter_map(|old| Some((old, new.series(&old.name).ok()?)))
        .collect();
    if pairs.is_empty() {
        return Err(
            Problem::new("the two have no series of the same name").next("choose with --base-series and --new-series")
        );
    }
    Ok(pairs)
}

/// Series that only one of the two has, unless somebody chose which to compare.
fn left_out(pairs: &[(&Series, &Series)], base: &Results, new: &Results, args: &Args) -> Vec<String> {
    if args.series.is_some() || args.base_series.is_some() {
        return Vec::new();
    }
    let of = |results: &Results, side: &str, paired: &dyn Fn(&Series) -> bool| -> Vec<String> {
        let alone = results.series.iter().filter(|series| !paired(series));
        alone
            .map(|series| {
                format!(
                    "only the {side} runs have the series {}: it is not compared",
                    series.name
                )
            })
            .collect()
    };
    let base = of(base, "base's", &|series| {
        pairs.iter().any(|(old, _)| old.name == series.name)
    });
    let new = of(new, "new", &|series| {
        pairs.iter().any(|(_, now)| now.name == series.name)
    });
    [base, new].concat()
}

/// A flamegraph that is asked for.
struct Graph {
    path: PathBuf,
    kind: flame::Kind,
    /// Whether the newer runs' frames are drawn, or the base's.
    newer: bool,
}

/// Flamegraphs of a pair of series, the first of which has the number 0.
fn graphs(args: &Args, number: usize) -> Vec<Graph> {
    let mut graphs = Vec::new();
    if let Some(path) = args.flame.as_ref().filter(|_| number == 0) {
        graphs.push(Graph {
            path: path.clone(),
            kind: args.kind.into(),
            newer: true,
        });
    }
    if let Some(folder) = &args.output {
        for (kind, name) in [(flame::Kind::Cpu, "oncpu"), (flame::Kind::OffCpu, "offcpu")] {
            for (newer, side) in [(true, "new"), (false, "base")] {
                graphs.push(Graph {
                    path: folder.join(format!("{:02}-{name}-{side}.svg", number + 1)),
                    kind,
                    newer,
                });
            }
        }
    }
    graphs
}

/// What is asked for as files.
fn draw(
    args: &Args,
    (base, new): (&Input, &Input),
    pairs: &[(&Series, &Series)],
    differences: &[Difference],
) -> Result<(), Problem> {
    let mut written = Vec::new();
    if let Some(folder) = &args.output {
        let failed = |error| Problem::new(format!("can't make the folder {}", folder.display())).because(error);
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    for (number, pair) in pairs.iter().enumerate() {
        let graphs = graphs(args, number);
        let mut kinds: Vec<flame::Kind> = Vec::new();
        for graph in &graphs {
            if !kinds.contains(&graph.kind) {
                kinds.push(graph.kind);
            }
        }
        if kinds.is_empty() {
            continue;
        }
        let (old, now) = (stacks(base, pair.0, &kinds)?, stacks(new, pair.1, &kinds)?);
        for graph in graphs {
            let of = |all: &[(flame::Kind, Stacks)]| all.iter().position(|(kind, _)| *kind == graph.kind);
            let (Some(old), Some(now)) = (of(&old).map(|at| &old[at].1), of(&now).map(|at| &now[at].1)) else {
                continue;
            };
            let ((drawn, drawn_title), (other, other_title)) = if graph.newer {
                ((now, &new.title), (old, &base.title))
            } else {
                ((old, &base.title), (now, &new.title))
            };
            let missing = if drawn.recordings() == 0 || other.recordings() == 0 {
                Some("one side has no recordings that tell of it")
            } else if drawn.is_empty() {
                Some("there is none of it")
            } else {
                None
            };
            if let Some(why) = missing {
                let path = text::visible(graph.path.as_os_str().as_encoded_bytes());
                tell(&format!("phasegraph: {path} is not drawn: {why}"));
                continue;
            }
            let title = text::fit(&format!("{drawn_title}, compared with {other_title}"), 110);
            let svg = differential::draw(drawn, other, graph.newer, &title)
                .map_err(|error| Problem::new("can't draw the flamegraph").because(error))?;
            let target = Target::new(&graph.path);
            output::unless_gone(target.write(&svg, args.force))?;
            written.push(target);
        }
    }
    if let Some(folder) = &args.output {
        let table = shown::tsv::changes(differences);
        let table = table.map_err(|error| Problem::new("can't make a table of the changes").because(error))?;
        let target = Target::File(folder.join("changes.tsv"));
        target.write(&table, args.force)?;
        written.push(target);
    }
    written.iter().for_each(Target::tell);
    Ok(())
}

/// The means of a series' recordings, each of which is read once; containers' names, which are new with every run, are left out.
fn stacks(input: &Input, series: &Series, kinds: &[flame::Kind]) -> Result<Vec<(flame::Kind, Stacks)>, Problem> {
    let mut all: Vec<(flame::Kind, Stacks)> = kinds.iter().map(|kind| (*kind, Stacks::new(*kind))).collect();
    let roots: Roots = "operation,phase,parents,process,thread"
        .parse()
        .map_err(|error: String| Problem::new(error))?;
    for path in input.recordings(series) {
        let session = load(&path)?;
        for (kind, stacks) in &mut all {
            stacks.add(&flame::collect(&session, &Selection::all(), *kind, roots));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Line::parse_from(["diff", "a", "b"].iter().chain(words)).args
    }

    fn results(names: &[&str]) -> Results {
        let series = names.iter().map(|name| Series {
            name: (*name).to_owned(),
            ..Series::default()
        });
        Results {
            series: series.collect(),
            ..Results::default()
        }
    }

    /// Make sure that a series that only one side has is told, from both sides, unless somebody chose which to compare.
    #[test]
    fn series_of_one_side() {
        let input = |names: &[&str]| Input::of(results(names));
        let (base, new) = (input(&["cold", "warm", "warm j=1"]), input(&["warm", "warm j=4"]));
        let told = |args: &Args| {
            let pairs = pairs(args, &base, &new).unwrap();
            left_out(&pairs, &base.results, &new.results, args)
        };
        assert_eq!(
            told(&args(&[])),
            [
                "only the base's runs have the series cold: it is not compared",
                "only the base's runs have the series warm j=1: it is not compared",
                "only the new runs have the series warm j=4: it is not compared",
            ]
        );
        assert_eq!(told(&args(&["--series", "warm"])), [""; 0]);
        assert_eq!(
            told(&args(&["--base-series", "warm j=1", "--new-series", "warm j=4"])),
            [""; 0]
        );
        // One on each side is compared, whatever they are called.
        let (one, other) = (input(&["cold"]), input(&["warm"]));
        let args = args(&[]);
        let pairs = pairs(&args, &one, &other).unwrap();
        assert_eq!(left_out(&pairs, &one.results, &other.results, &args), [""; 0]);
    }
}
