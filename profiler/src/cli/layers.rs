//! `layers`: what was read, written and copied up of each container's layers.

use std::io;
use std::path::PathBuf;

use super::{Problem, load, output, terminal};
use crate::report::select::Query;
use crate::report::terminal::{DEFAULT_TOP, layers};

/// Show what each container read, wrote and copied up of each layer of its image
///
/// A layer's files are told by their own inodes, also behind bind mounts and in layers that several containers share. Bytes
/// are those that were not in the page cache: of two containers that share a layer, the first pays.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph layers build.phg\n  \
                        phasegraph layers build.phg --container web --top 30\n  \
                        phasegraph show build.phg --json | jq '.copy_ups[] | {path, bytes, stall_ns}'")]
pub(crate) struct Args {
    /// The recording
    file: PathBuf,

    /// Only this container: its name, its id or the beginning of its id
    #[arg(long, value_name = "C")]
    container: Option<String>,

    /// Copy-ups, files and directories to list
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TOP)]
    top: usize,

    /// Columns, 60 to 200 [default: the terminal's; 80 when there is none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(60..=200))]
    width: Option<u16>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let session = load::load(&args.file)?;
    let options = layers::Options {
        query: Query {
            container: args.container.clone(),
            ..Query::default()
        },
        top: args.top,
    };
    let style = terminal::style(&io::stdout(), args.width.map(usize::from));
    let page = layers::render(&session, &options, &style)
        .map_err(|error| Problem::new(format!("can't show {}", args.file.display())).because(error))?;
    output::stdout(page.as_bytes())?;
    Ok(0)
}
