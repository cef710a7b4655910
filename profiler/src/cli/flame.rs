//! `flame`: a flamegraph of a recording or a part of it.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::output::Target;
use super::problem::tell;
use super::{Problem, load, names as better};
use crate::model::{PhaseIx, Session};
use crate::report::flame::{self, Empty};
use crate::report::select::{Query, Selection, all_phases};
use crate::report::{names, text, units};

/// Draw a flamegraph of a recording, or of a phase, container or process of it
///
/// Frames go from the operation through its phases and processes to the stack; kernel frames are orange. Widths are
/// time, not samples: a thread's samples share out its exact time on CPUs, waits have their exact length.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph flame build.phg --phase 'step 3' -o step3.svg\n  \
                        phasegraph flame build.phg --phase create --kind offcpu\n  \
                        phasegraph flame build.phg --phase 'step 3' --kind critical\n  \
                        phasegraph flame build.phg --kind disk --container web\n  \
                        phasegraph flame build.phg --process cc1 --folded > cc1.folded\n  \
                        phasegraph flame build.phg --slowest 5 -o slow\n  \
                        phasegraph flame build.phg --roots process\n  \
                        phasegraph flame build.phg --debug-dir /srv/debug --inline")]
pub(crate) struct Args {
    /// The recording
    file: PathBuf,

    /// Only this phase: its name, 'step 3', or the number that `show` prints
    #[arg(long, value_name = "P")]
    phase: Option<String>,

    /// Only this container: its name, its id or the beginning of its id
    #[arg(long, value_name = "C")]
    container: Option<String>,

    /// Only this process: its pid, or all that ran the program of this name; without its children
    #[arg(long, value_name = "P")]
    process: Option<String>,

    /// Only this operation: its name as `show` prints it
    #[arg(long, value_name = "O")]
    operation: Option<String>,

    /// Take the rules for phases of your own from here instead of from the recording
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Which time, or traffic, to draw
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,

    /// Of --kind disk: draw bytes, or the time that was waited [default: bytes]
    #[arg(long, value_enum)]
    unit: Option<Unit>,

    /// What stands below the stacks: any of operation, container, phase, parents, process, arguments, thread, parted by
    /// commas, or none
    #[arg(
        long,
        value_name = "LEVELS",
        default_value = "operation,container,phase,parents,process,thread"
    )]
    roots: flame::Roots,

    #[command(flatten)]
    names: better::Args,

    /// Write here; - is standard output [default: <recording>-<phase>-<kind>.svg in the current folder; with --folded
    /// standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write folded lines (frames parted by ';', then µs, of --kind disk bytes) instead of an SVG
    #[arg(long, conflicts_with = "reverse")]
    folded: bool,

    /// Draw the N slowest phases, an SVG each, into the folder that -o names
    #[arg(long, value_name = "N", requires = "output", conflicts_with_all = ["folded", "phase", "process"],
        value_parser = clap::value_parser!(u16).range(1..))]
    slowest: Option<u16>,

    /// Put the leaves at the root: which functions take most, from wherever they are called
    #[arg(long)]
    reverse: bool,

    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Kind {
    /// Time on CPUs
    #[default]
    Cpu,
    /// Time blocked, by what was waited for
    Offcpu,
    /// All time of all threads: on CPUs, in run queues, blocked
    Wall,
    /// Wall time along the critical path of the operation or phase: what its end waited for
    Critical,
    /// Bytes of files that had to be read, and that were made dirty; with --unit time the time blocked on disks
    Disk,
}

impl From<Kind> for flame::Kind {
    fn from(kind: Kind) -> flame::Kind {
        match kind {
            Kind::Cpu => flame::Kind::Cpu,
            Kind::Offcpu => flame::Kind::OffCpu,
            Kind::Wall => flame::Kind::Wall,
            Kind::Critical => flame::Kind::Critical,
            Kind::Disk => flame::Kind::Disk,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Unit {
    Bytes,
    Time,
}

/// The kind that is drawn.
fn kind(args: &Args) -> Result<flame::Kind, Problem> {
    match (args.kind.into(), args.unit) {
        (flame::Kind::Disk, Some(Unit::Time)) => Ok(flame::Kind::DiskTime),
        (kind, Some(Unit::Bytes)) if kind != flame::Kind::Disk => {
            Err(Problem::new("this kind of flamegraph shows time, not bytes")
                .next("--kind disk, for bytes read and written")
                .with_status(2))
        }
        (kind, _) => Ok(kind),
    }
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let kind = kind(args)?;
    if kind == flame::Kind::Critical && args.process.is_some() {
        return Err(Problem::new("a critical path goes through many processes")
            .because("--process limits a flamegraph to one program's")
            .next("--phase, --container or --operation with --kind critical")
            .with_status(2));
    }
    let mut session = load::with_rules(&args.file, args.config.as_deref())?;
    better::improve(&mut session, &args.names)?;
    let failed = || Problem::new(format!("can't draw {}", args.file.display()));
    let query = Query {
        phase: args.phase.clone(),
        container: args.container.clone(),
        process: args.process.clone(),
        operation: args.operation.clone(),
    };
    let selection = Selection::find(&session, &query).map_err(|error| failed().because(error))?;
    if let Some(count) = args.slowest {
        return slowest(args, &session, &selection, kind, count);
    }
    let flame = flame::collect(&session, &selection, kind, args.roots).map_err(|error| {
        let next = match &error {
            Empty::NoProcess { .. } => "another phase, container or process: see phasegraph show",
            Empty::NoTime { .. } if kind == flame::Kind::Disk => {
                "--kind disk --unit time, for waits: all that was read was in the page cache, and nothing was written"
            }
            Empty::NoTime { .. } => "--kind wall, which shows all time",
            Empty::NoSamples { .. } => "--kind wall, or record with more samples: phasegraph run -F 999",
        };
        failed().because(error).next(next)
    })?;
    let target = match &args.output {
        Some(path) => Target::new(path),
        None if args.folded => Target::Stdout,
        None => Target::File(default_name(&args.file, args.phase.as_deref(), kind)),
    };
    let bytes = if args.folded {
        flame.folded().into_bytes()
    } else {
        flame.svg(args.reverse).map_err(|error| failed().because(error))?
    };
    target.write(&bytes, args.force)?;
    target.tell();
    Ok(0)
}

/// The slowest phases of the selection that have such time, slowest first, an SVG each. Files are named by numbers alone:
/// `01-phase-17-cpu.svg`.
fn slowest(
    args: &Args,
    session: &Session,
    selection: &Selection,
    kind: flame::Kind,
    count: u16,
) -> Result<u8, Problem> {
    let folder = args.output.as_deref().unwrap_or(Path::new("."));
    let failed = || Problem::new(format!("can't draw into {}", folder.display()));
    let mut phases: Vec<PhaseIx> = match &selection.phases {
        Some(phases) => phases.clone(),
        None => all_phases(session).collect(),
    };
    phases.retain(|ix| {
        let operation = session.phases[ix.ix()].operation;
        selection.has_operation(operation)
    });
    phases.sort_by_key(|ix| (std::cmp::Reverse(session.phases[ix.ix()].span.len()), ix.0));
    let mut drawn = Vec::new();
    for ix in phases {
        if drawn.len() == usize::from(count) {
            break;
        }
        let title = format!("phase {} ({})", ix.0, names::phase(session, ix));
        let part = Selection {
            phases: Some(vec![ix]),
            title: title.clone(),
            ..Selection::all()
        };
        match flame::collect(session, &part, kind, args.roots) {
            Ok(flame) => {
                let svg = flame.svg(args.reverse).map_err(|error| failed().because(error))?;
                let rank = drawn.len() + 1;
                let length = units::time(session.phases[ix.ix()].span.len());
                let name = format!("{rank:02}-phase-{}-{}.svg", ix.0, kind.name());
                drawn.push((folder.join(name), svg, format!("{title}, {length}")));
            }
            // It says which phase itself.
            Err(error) => tell(&format!("left out: {error}")),
        }
    }
    if drawn.is_empty() {
        return Err(failed()
            .because("no phase has such time")
            .next("--kind wall, which shows all time"));
    }
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed().because(error)),
        _ => {}
    }
    for (path, svg, what) in drawn {
        Target::File(path.clone()).write(&svg, args.force)?;
        let path = text::visible(path.as_os_str().as_encoded_bytes());
        tell(&format!("written: {path}  {what}"));
    }
    Ok(0)
}

/// `build-step-3-cpu.svg` for `build.phg`, in the current folder. Of what was asked for only letters and digits come
/// into a file name.
fn default_name(recording: &Path, phase: Option<&str>, kind: flame::Kind) -> PathBuf {
    let mut name = recording.file_stem().unwrap_or_default().to_owned();
    if let Some(phase) = phase {
        let plain: String = phase
            .chars()
            .take(40)
            .map(|char| if char.is_ascii_alphanumeric() { char } else { '-' })
            .collect();
        name.push(format!("-{plain}"));
    }
    name.push(format!("-{}.svg", kind.name()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a default name lies in the current folder whatever was asked for.
    #[test]
    fn default_names() {
        let name = |recording: &str, phase| default_name(Path::new(recording), phase, flame::Kind::OffCpu);
        assert_eq!(name("/var/tmp/build.phg", None), Path::new("build-offcpu.svg"));
        assert_eq!(name("b.phg", Some("step 3")), Path::new("b-step-3-offcpu.svg"));
        assert_eq!(
            name("b.phg", Some("../../etc/x")),
            Path::new("b-------etc-x-offcpu.svg")
        );
    }
}
