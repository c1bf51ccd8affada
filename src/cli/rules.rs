//! The options that add to the rules: `--hide`, `--redact`, `--show`, `--rules`, `--strict`. The first three are one list, because the
//! last one that matches a path wins, whichever of the three it is.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, error::Error};

use crate::session::PolicyOption;

/// The rules of the command line.
#[derive(Debug, Clone, Default)]
pub(super) struct RuleArgs {
    /// In the order in which they were given.
    pub(super) options: Vec<PolicyOption>,
    /// Further rule files.
    pub(super) files: Vec<PathBuf>,
    /// Whether the entropy-based rules are on.
    pub(super) strict: bool,
}

const HEADING: &str = "Rules";

fn pattern(id: &'static str, help: &'static str, long: &'static str) -> Arg {
    Arg::new(id)
        .long(id)
        .value_name("PAT")
        .action(ArgAction::Append)
        .help(help)
        .long_help(long)
        .help_heading(HEADING)
}

impl clap::Args for RuleArgs {
    fn augment_args(cmd: Command) -> Command {
        cmd.arg(pattern(
            "hide",
            "Hide what matches a gitignore-style pattern",
            "Hide what matches a gitignore-style pattern, and all beneath it. May be given several times; of --hide, \
             --redact and --show the last one that matches a path wins, over every rule file.",
        ))
        .arg(pattern(
            "redact",
            "Mask the secrets in what matches a pattern",
            "Show what matches a gitignore-style pattern with the values of its secret keys masked.",
        ))
        .arg(pattern(
            "show",
            "Show what matches a pattern, with nothing masked",
            "Show what matches a gitignore-style pattern as it is, with nothing hidden and nothing masked.",
        ))
        .arg(
            Arg::new("rules")
                .long("rules")
                .value_name("FILE")
                .action(ArgAction::Append)
                .value_parser(clap::value_parser!(PathBuf))
                .help("Read further rules from a file (TOML)")
                .help_heading(HEADING),
        )
        .arg(
            Arg::new("strict")
                .long("strict")
                .action(ArgAction::SetTrue)
                .help("Mask also what only looks random enough to be a secret")
                .help_heading(HEADING),
        )
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

impl clap::FromArgMatches for RuleArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut options: Vec<(usize, PolicyOption)> = Vec::new();
        let mut collect = |id, option: fn(String) -> PolicyOption| {
            let places = matches.indices_of(id).into_iter().flatten();
            let patterns = matches.get_many::<String>(id).into_iter().flatten();
            options.extend(places.zip(patterns.cloned().map(option)));
        };
        collect("hide", PolicyOption::Hide);
        collect("redact", PolicyOption::Redact);
        collect("show", PolicyOption::Show);
        options.sort_by_key(|(place, _)| *place);
        Ok(Self {
            options: options.into_iter().map(|(_, option)| option).collect(),
            files: matches.get_many("rules").into_iter().flatten().cloned().collect(),
            strict: matches.get_flag("strict"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    #[test]
    fn the_order_of_the_command_line_is_kept() {
        let line = ["x", "--show", "a", "--hide=b", "--redact", "c", "--hide", "a"];
        let matches = RuleArgs::augment_args(Command::new("x")).get_matches_from(line);
        let args = RuleArgs::from_arg_matches(&matches).unwrap();
        let text = |s: &str| s.to_owned();
        assert_eq!(
            args.options,
            [
                PolicyOption::Show(text("a")),
                PolicyOption::Hide(text("b")),
                PolicyOption::Redact(text("c")),
                PolicyOption::Hide(text("a"))
            ]
        );
        assert!(!args.strict);
    }
}
