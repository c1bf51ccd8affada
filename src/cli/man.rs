//! `scrubfs man`: manual pages, generated from the command tree.

use std::fs;
use std::path::{Path, PathBuf};

use super::args::tree;
use super::{CliError, Exit, Result, Ui};

/// Print the manual page, or write all of them to a directory
///
/// Examples:
///   scrubfs man | man -l -
///   scrubfs man --dir ~/.local/share/man/man1
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Write scrubfs.1 and one page for each command (scrubfs-mount.1 …) to this directory, which is made if needed
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    match &args.dir {
        None => ui.write(&page(tree())?)?,
        Some(dir) => {
            let written = write_all(dir)?;
            ui.say(format_args!("{written} pages written to {}", dir.display()));
        }
    }
    Ok(Exit::Done)
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text).map_err(CliError::Output)?;
    Ok(text)
}

/// Writes the page of the program and of each verb; returns how many.
fn write_all(dir: &Path) -> Result<usize> {
    fs::create_dir_all(dir).map_err(CliError::io("make", dir))?;
    let mut root = tree().disable_help_flag(true);
    root.build();
    let mut pages = vec![root.clone()];
    for verb in root.get_subcommands().filter(|c| !c.is_hide_set()) {
        let name = format!("scrubfs-{}", verb.get_name());
        // The page's name has a dash where the command has a space, as with git.
        pages.push(verb.clone().name(name.clone()).display_name(name).version(env!("CARGO_PKG_VERSION")));
    }
    let count = pages.len();
    for command in pages {
        let file = dir.join(format!("{}.1", command.get_name()));
        fs::write(&file, page(command)?).map_err(CliError::io("write", &file))?;
    }
    Ok(count)
}
