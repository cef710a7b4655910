//! Options of all commands that show functions: where better names may be.

use std::path::PathBuf;

use super::Problem;
use super::problem::tell;
use crate::model::Session;
use crate::report::text;
use crate::symbol::later;

#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Look for debug information in this folder too: laid out as /usr/lib/debug, as a container's root, or holding the
    /// files; can be given several times
    #[arg(long, value_name = "DIR")]
    debug_dir: Vec<PathBuf>,

    /// Show functions that the compiler put into others, where there is debug information
    #[arg(long)]
    inline: bool,

    /// Ask this debuginfod server for debug information, and keep what it gives in ~/.cache/phasegraph
    #[arg(long, value_name = "URL")]
    debuginfod: Option<String>,
}

/// Gives the frames of a recording better names, as far as it is asked for.
pub(super) fn improve(session: &mut Session, args: &Args) -> Result<(), Problem> {
    let options = later::Options {
        folders: args.debug_dir.clone(),
        inline: args.inline,
        server: args.debuginfod.clone(),
    };
    if options.is_nothing() {
        return Ok(());
    }
    let failed = || Problem::new("can't look for debug information");
    for folder in &options.folders {
        std::fs::read_dir(folder).map_err(|error| {
            failed()
                .because(format!("{}: {error}", folder.display()))
                .next("a folder that can be read")
        })?;
    }
    let gain = later::improve(session, &options).map_err(|error| {
        failed()
            .because(error)
            .next("--debuginfod https://debuginfod.debian.net, for example")
    })?;
    for note in &gain.notes {
        tell(&text::visible(note.as_bytes()));
    }
    tell(&format!(
        "names: {} frames of {} files looked up again; nothing better was found for {} files",
        gain.frames, gain.files, gain.without
    ));
    Ok(())
}
