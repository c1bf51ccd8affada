//! `scrubfs completions`: shell completions, generated from the command tree.

use clap_complete::Shell;

use super::args::tree;
use super::{Exit, Result, Ui};

/// Print completions for a shell
///
/// Examples:
///   scrubfs completions bash > ~/.local/share/bash-completion/completions/scrubfs
///   scrubfs completions fish > ~/.config/fish/completions/scrubfs.fish
///   scrubfs completions zsh  > ~/.zfunc/_scrubfs      (with ~/.zfunc in $fpath)
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    // Generated into memory: the generator takes a failed write, as to a closed pipe, for a bug.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tree(), "scrubfs", &mut script);
    ui.write(&script)?;
    Ok(Exit::Done)
}
