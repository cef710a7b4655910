//! `report`: a recording as a page for people.

use std::path::{Path, PathBuf};

use super::output::Target;
use super::{Problem, load, names};
use crate::report::html;

/// Make a page of a recording: timeline, phases, flamegraphs, waits, findings
///
/// One HTML file that needs no network: open it in a browser, send it to somebody. It holds what the recording holds of
/// names and arguments, so treat it alike. Chromium 80, Firefox 113, Safari 16.4 or later.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph report build.phg\n  \
                        phasegraph report build.phg -o build.html --force\n  \
                        phasegraph report today.phg --baseline yesterday.phg\n  \
                        phasegraph report build.phg --debug-dir /srv/debug --inline\n  \
                        phasegraph report build.phg -o - | gzip > build.html.gz")]
pub(crate) struct Args {
    /// The recording
    file: PathBuf,

    /// Write here; - is standard output [default: <recording>.html in the current folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Show what has changed since this earlier recording
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Take the rules for phases of your own from here instead of from the recording
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    names: names::Args,

    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let mut session = load::with_rules(&args.file, args.config.as_deref())?;
    names::improve(&mut session, &args.names)?;
    let mut baseline = args
        .baseline
        .as_deref()
        .map(|file| load::with_rules(file, args.config.as_deref()))
        .transpose()?;
    if let Some(baseline) = &mut baseline {
        names::improve(baseline, &args.names)?;
    }
    let page = html::render(&session, baseline.as_ref())
        .map_err(|error| Problem::new(format!("can't make a page of {}", args.file.display())).because(error))?;
    let target = match &args.output {
        Some(path) => Target::new(path),
        None => Target::File(default_name(&args.file)),
    };
    target.write(&page, args.force)?;
    target.tell();
    Ok(0)
}

/// `build.html` for `build.phg`, in the current folder.
fn default_name(recording: &Path) -> PathBuf {
    let mut name = recording.file_stem().unwrap_or_default().to_owned();
    name.push(".html");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a default name lies in the current folder.
    #[test]
    fn default_names() {
        assert_eq!(default_name(Path::new("/var/tmp/build.phg")), Path::new("build.html"));
        assert_eq!(default_name(Path::new("../x")), Path::new("x.html"));
    }
}
