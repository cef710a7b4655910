//! `man`: manual pages, made of the arguments' own definitions.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::output::{self, Target};
use super::problem::tell;
use super::{Cli, Problem};
use crate::report::text;

/// Write the manual pages
///
/// Without a folder the page of phasegraph itself goes to standard output. Into a folder goes one for each command too:
/// phasegraph-run.1 and so on.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph man | man -l -\n  \
                        phasegraph man /usr/local/share/man/man1 --force")]
pub(crate) struct Args {
    /// Folder for the pages
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Replace pages that exist
    #[arg(long, requires = "folder")]
    force: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let pages = pages().map_err(|error| Problem::new("can't make the manual pages").because(error))?;
    match &args.folder {
        None => {
            for (_, page) in pages.iter().take(1) {
                output::stdout(page)?;
            }
        }
        Some(folder) => {
            for (name, page) in &pages {
                let path = folder.join(name);
                Target::File(path.clone()).write(page, args.force)?;
                // They hold nothing of anybody's, and are for all users.
                std::fs::set_permissions(&path, Permissions::from_mode(0o644))
                    .map_err(|error| Problem::new(format!("can't publish {}", path.display())).because(error))?;
            }
            let folder = text::visible(folder.as_os_str().as_encoded_bytes());
            tell(&format!("written: {} pages in {folder}", pages.len()));
        }
    }
    Ok(0)
}

/// File name and text of each, the program's own first.
fn pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut cli = Cli::command();
    cli.build();
    let mut pages = Vec::new();
    let shown = cli.get_subcommands().filter(|command| !command.is_hide_set());
    for command in std::iter::once(&cli).chain(shown.filter(|command| command.get_name() != "help")) {
        // With its full name, `phasegraph-run`: a page is found by it.
        let name = command.get_display_name().unwrap_or(super::NAME).to_owned();
        let mut page = Vec::new();
        Man::new(command.clone()).render(&mut page)?;
        pages.push((format!("{name}.1"), page));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that every command has a page with its name and an example, and hidden ones have none.
    #[test]
    fn a_page_a_command() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names[0], "phasegraph.1");
        for command in [
            "run",
            "record",
            "show",
            "flame",
            "export",
            "mark",
            "demo",
            "doctor",
            "completions",
            "man",
        ] {
            assert!(
                names.contains(&&format!("phasegraph-{command}.1")[..]),
                "{command}: {names:?}"
            );
        }
        assert!(!names.contains(&"phasegraph-rungs.1"));
        for (name, page) in &pages {
            let page = String::from_utf8(page.clone()).unwrap();
            assert!(page.contains(".TH"), "{name}");
            assert!(page.contains("Example"), "{name}: {page}");
        }
    }
}
