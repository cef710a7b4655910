//! `completions`: what a shell needs to complete this program's arguments.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Problem, output};

/// Print completions of the arguments for a shell
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        phasegraph completions bash > /usr/share/bash-completion/completions/phasegraph\n  \
                        phasegraph completions zsh > /usr/local/share/zsh/site-functions/_phasegraph\n  \
                        phasegraph completions fish > ~/.config/fish/completions/phasegraph.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), super::NAME, &mut script);
    output::stdout(&script)?;
    Ok(0)
}
