//! The command line as one tree of types: help, man pages and completions are generated from it.

use std::ffi::OsString;

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use super::{
    apply, audit, check, completions, daemon, diff, discard, docker_plugin, doctor, list, man, mount, rebase,
    remove, review, run, status, undo, unmount,
};

/// What every help text ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0  done (also `status` and `diff`, with or without changes)
  1  failed; or there are changes and `diff --exit-code` was given
  2  bad usage
  3  a conflict, a stale plan or a closed gate: nothing was applied
  4  an interrupted apply was found: `scrubfs apply --continue` or `scrubfs apply --abort`
`scrubfs run` exits with the status of the command that it ran.

Environment:
  SCRUBFS_STATE_DIR   where sessions live; else $XDG_STATE_HOME/scrubfs, else ~/.local/state/scrubfs
  SCRUBFS_CONFIG_DIR  config.toml (with the gates that stand open) and rules.toml; else $XDG_CONFIG_HOME/scrubfs, else ~/.config/scrubfs
  SCRUBFS_PAGER       the pager for long output; else $PAGER, else `less -FRX`; empty or `cat` for none
  NO_COLOR            set and not empty: no colour";

const ABOUT: &str = "A workspace secret-scrubbing file-system layer between a coding agent and a repository";

const LONG_ABOUT: &str = "\
scrubfs mounts a scrubbed, writable view of a directory. Secret files do not exist in it, secret values are masked, and \
what is written goes to a separate layer. The directory itself stays as it is until you apply.

  scrubfs audit .              what would be hidden and masked here, and by which rule
  cd \"$(scrubfs mount .)\"      work in the scrubbed view; let an agent loose in it
  scrubfs status               what was changed, and what deserves a look
  scrubfs diff                 the changes as a patch
  scrubfs review               look through them on a full screen, and choose
  scrubfs apply                write them to the workspace, as one transaction
  scrubfs undo                 take that back
  scrubfs discard -p           drop what you don't want, hunk by hunk
  scrubfs rebase               give the agent what you have changed meanwhile

SESSION, where a command takes one, is a session's name, its workspace or its mountpoint; left out, it is the session of \
the current directory. Paths after it count from the workspace's root and may be gitignore-style globs; a path that begins \
with ./ or ../ counts from the current directory.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "scrubfs", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = EXIT_CODES)]
#[command(max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, infer_long_args = false)]
pub(super) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of all commands.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Global {
    /// When to colour the output
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", global = true)]
    #[arg(help_heading = "Output", hide_possible_values = false)]
    pub(super) color: Color,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    pub(super) quiet: bool,
    /// Say more about what is done and why
    #[arg(short, long, global = true, help_heading = "Output")]
    pub(super) verbose: bool,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Also into a pipe or file
    Always,
    /// Never
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Mount(mount::Args),
    Run(run::Args),
    Enter(run::EnterArgs),
    Unmount(unmount::Args),
    List(list::Args),
    Status(status::Args),
    Diff(diff::Args),
    Review(review::Args),
    Apply(apply::Args),
    Discard(discard::Args),
    Rebase(rebase::Args),
    Undo(undo::Args),
    Remove(remove::Args),
    Audit(audit::Args),
    Check(check::Args),
    Doctor(doctor::Args),
    DockerPlugin(docker_plugin::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    Daemon(daemon::Args),
    #[command(hide = true)]
    Prewarm(daemon::PrewarmArgs),
}

/// Parses `argv`, the program's name first.
pub(super) fn parse(argv: &[OsString]) -> Result<(Global, Command), clap::Error> {
    let choice = match color_of(argv) {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    let matches = Cli::command().color(choice).try_get_matches_from(argv)?;
    let cli = Cli::from_arg_matches(&matches)?;
    Ok((cli.global, cli.command))
}

/// What `--color` says, found before the rest is parsed: help and usage errors obey it too.
pub(super) fn color_of(argv: &[OsString]) -> Color {
    let mut words = argv.iter().take_while(|a| *a != "--").filter_map(|a| a.to_str());
    let mut value = None;
    while let Some(word) = words.next() {
        match word.strip_prefix("--color") {
            Some("") => value = words.next(),
            Some(rest) => value = rest.strip_prefix('=').or(value),
            None => {}
        }
    }
    value.and_then(|v| Color::from_str(v, false).ok()).unwrap_or(Color::Auto)
}

/// The tree itself, for completions and man pages.
pub(super) fn tree() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        tree().debug_assert();
    }

    #[test]
    fn every_verb_and_option_explains_itself() {
        for verb in tree().get_subcommands().filter(|c| !c.is_hide_set()) {
            assert!(verb.get_about().is_some(), "`{}` has no help", verb.get_name());
            for arg in verb.get_arguments() {
                assert!(arg.get_help().is_some(), "`{} {}` has no help", verb.get_name(), arg.get_id());
            }
        }
    }

    #[test]
    fn colour_is_found_before_parsing() {
        let of = |words: &[&str]| color_of(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of(&["scrubfs", "--color=never", "x"]), Color::Never);
        assert_eq!(of(&["scrubfs", "x", "--color", "always"]), Color::Always);
        assert_eq!(of(&["scrubfs", "run", "--", "--color=never"]), Color::Auto);
        assert_eq!(of(&["scrubfs", "--color"]), Color::Auto);
    }
}
