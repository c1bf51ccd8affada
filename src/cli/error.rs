//! Every error of the modules below, turned into what a person reads: one sentence, what caused it, and a command to type; and
//! into an exit code. It is the one exhaustive place for that.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::Color;
use super::ui::{Label, Palette, Ui, complain};
use crate::apply::ApplyError;
use crate::change::ChangeError;
use crate::judge::Undecided;
use crate::path::{Escaped, PathError, RelPath};
use crate::policy::RuleError;
use crate::session::SessionError;
use crate::sys::Errno;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Done,
    /// It failed; or there are changes and `--exit-code` was given.
    Failed,
    /// Bad usage.
    Usage,
    /// A conflict, a stale plan or a gate: nothing was applied.
    NotApplied,
    /// An interrupted apply was found.
    Interrupted,
    /// The status of the program that was run.
    Status(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotApplied => 3,
            Exit::Interrupted => 4,
            Exit::Status(status) => status,
        })
    }
}

/// Why a command did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Stdout cannot be written.
    #[error("the output could not be written")]
    Output(#[source] io::Error),
    /// A file of the user's could not be used.
    #[error("could not {action} {}", Escaped::path(.path))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// An object of the workspace could not be looked at.
    #[error("could not look at {path} in the workspace")]
    Lower {
        /// Which.
        path: RelPath,
        /// Why.
        source: Errno,
    },
    /// Policy cannot decide about an object.
    #[error("policy cannot decide about {path}, so it is hidden")]
    Undecided {
        /// Which.
        path: RelPath,
        /// Why.
        source: Undecided,
    },
    /// A path that cannot be one below the workspace.
    #[error("`{}` is not a path below the workspace", Escaped::path(.path))]
    NotBelow {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        source: Option<PathError>,
    },
    /// A rule is wrong.
    #[error("the rules cannot be used")]
    Rules(#[from] RuleError),
    /// Something is to be chosen from a saved plan.
    #[error("a saved plan is carried out as it is: nothing can be chosen from it or allowed in addition")]
    SavedPlan,
    /// A full screen needs one.
    #[error("this needs a terminal")]
    NoTerminal,
    /// A session that is to be removed has changes.
    #[error("session `{name}` has {changes} that were not applied")]
    Pending {
        /// Its name.
        name: String,
        /// How many, in words.
        changes: String,
    },
    /// Sessions.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Changes.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Applies.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl CliError {
    /// An error about a file of the user's.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// A reader closed stdout: nothing is wrong, and nothing more is to be said.
    fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }

    fn exit(&self) -> Exit {
        match self {
            Self::NotBelow { .. } | Self::SavedPlan => Exit::Usage,
            Self::Session(error) => session_exit(error),
            Self::Apply(error) => apply_exit(error),
            Self::Output(_)
            | Self::Io { .. }
            | Self::Lower { .. }
            | Self::Undecided { .. }
            | Self::Pending { .. }
            | Self::NoTerminal
            | Self::Change(_)
            | Self::Rules(_) => Exit::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Output(_) => None,
            Self::Io { path, .. } => Some(format!("ls -ld {}", Escaped::path(path))),
            Self::Lower { path, .. } => Some(format!("look at the permissions of {path}")),
            Self::Undecided { .. } => Some("make it readable, or name it with --hide or --show".to_owned()),
            Self::NotBelow { .. } => Some(
                "name it as seen from the workspace's root, as in `src/main.rs`, or as `./main.rs` from here"
                    .to_owned(),
            ),
            Self::Rules(error) => Some(error.hint.clone()),
            Self::Pending { name, .. } => Some(format!(
                "scrubfs status {name}, then apply or discard them, or `scrubfs remove --force {name}`"
            )),
            Self::SavedPlan => {
                Some("name the session and the plan alone, or make another with --dry-run".to_owned())
            }
            Self::NoTerminal => {
                Some("scrubfs diff and scrubfs apply -p read and write pipes as well".to_owned())
            }
            Self::Session(error) => error.hint(),
            Self::Change(_) => {
                Some("look at the path's permissions and at the session's daemon.log".to_owned())
            }
            Self::Apply(error) => apply_hint(error),
        }
    }

    /// What caused it, outermost first.
    pub(super) fn causes(&self) -> Vec<String> {
        if let Self::Session(SessionError::Daemon(failure)) = self {
            return failure.causes.clone();
        }
        if let Self::Apply(ApplyError::EditedSince(paths)) = self {
            return paths.iter().map(|r| format!("{}: {}", r.path, r.reason)).collect();
        }
        let mut causes = Vec::new();
        let mut source = self.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        causes
    }
}

/// Names and places that mean nothing are the caller's mistake; the rest is the machine's.
fn session_exit(error: &SessionError) -> Exit {
    match error {
        SessionError::BadName { .. } | SessionError::NotFound(_) | SessionError::Ambiguous { .. } => {
            Exit::Usage
        }
        SessionError::Interrupted(_) => Exit::Interrupted,
        _ => Exit::Failed,
    }
}

fn apply_exit(error: &ApplyError) -> Exit {
    match error {
        ApplyError::Stale { .. }
        | ApplyError::Refused { .. }
        | ApplyError::EditedSince(_)
        | ApplyError::NoHunk { .. } => Exit::NotApplied,
        ApplyError::Interrupted(_) | ApplyError::Unfinished { .. } | ApplyError::OtherInterrupted { .. } => {
            Exit::Interrupted
        }
        ApplyError::Pattern { .. }
        | ApplyError::UnknownFlag { .. }
        | ApplyError::NoMatch { .. }
        | ApplyError::NothingToRestore { .. }
        | ApplyError::NotInParts { .. } => Exit::Usage,
        ApplyError::Io { .. }
        | ApplyError::Busy
        | ApplyError::NotTheWorkspace(_)
        | ApplyError::OtherDevice { .. }
        | ApplyError::JournalLost { .. }
        | ApplyError::Blocked { .. }
        | ApplyError::NothingInterrupted
        | ApplyError::NothingToUndo
        | ApplyError::Undecided { .. }
        | ApplyError::Base { .. }
        | ApplyError::BadPlan(_)
        | ApplyError::Change(_)
        | ApplyError::Encode(_) => Exit::Failed,
    }
}

fn apply_hint(error: &ApplyError) -> Option<String> {
    let hint = match error {
        ApplyError::Stale { .. } => "look at the changes again, with scrubfs diff or a new plan",
        ApplyError::Refused { .. } => "scrubfs status explains each; --allow FLAG[:PATH] opens a gate",
        ApplyError::EditedSince(_) => "scrubfs status; your own later edits are not thrown away",
        ApplyError::NoHunk { .. } => "scrubfs diff --json lists the hunks as they are now",
        ApplyError::Interrupted(_) | ApplyError::Unfinished { .. } | ApplyError::OtherInterrupted { .. } => {
            "scrubfs apply --continue, or scrubfs apply --abort"
        }
        ApplyError::UnknownFlag { .. } => "scrubfs status names the flags of each change",
        ApplyError::NothingToRestore { .. } => "scrubfs status names the changes that do",
        ApplyError::NotInParts { .. } => "name its path instead of a hunk",
        ApplyError::Change(_) => "look at the path's permissions and at the session's daemon.log",
        ApplyError::Pattern { .. } | ApplyError::NoMatch { .. } => {
            "scrubfs diff --name-status lists the changes"
        }
        ApplyError::Busy => "try again when it has ended, or use --wait",
        ApplyError::NotTheWorkspace(_) => "scrubfs list shows where sessions belong",
        ApplyError::OtherDevice { .. } => "make the session on that file system's own root",
        ApplyError::JournalLost { .. } => {
            "nothing was deleted; look at the staging directory in the workspace"
        }
        ApplyError::Blocked { .. } => {
            "move what is in the way aside, then scrubfs apply --continue or --abort"
        }
        ApplyError::NothingInterrupted => "scrubfs status",
        ApplyError::NothingToUndo => "scrubfs list",
        ApplyError::Io { .. } | ApplyError::Base { .. } => "check free space and permissions, then try again",
        ApplyError::Undecided { .. } => "make it readable, or name other paths",
        ApplyError::BadPlan(_) => "make the plan anew with --dry-run --plan FILE",
        ApplyError::Encode(_) => return None,
    };
    Some(hint.to_owned())
}

/// Reports an error and says how the command ends.
pub(super) fn report(error: &CliError, ui: &Ui) -> Exit {
    if error.is_closed_output() {
        return Exit::Done;
    }
    print(ui.err_palette, &error.to_string(), &error.causes(), error.hint().as_deref());
    error.exit()
}

/// Reports what clap found wrong with the command line, or prints the help that was asked for.
pub(super) fn usage(error: &clap::Error, color: Color) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // To a closed pipe there is nothing to say.
            error.print().unwrap_or_default();
            return Exit::Done;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            complain(error.render());
            return Exit::Usage;
        }
        _ => {}
    }
    let palette = Palette::new(color, io::IsTerminal::is_terminal(&io::stderr()));
    let text = error.render().to_string();
    let body = text.strip_prefix("error: ").unwrap_or(&text);
    let body = body.split("\n\nUsage:").next().unwrap_or(body);
    let body = body.split("\n\nFor more information").next().unwrap_or(body);
    let message = body.split("\n\n  tip:").next().unwrap_or(body).trim_end();
    print(palette, message, &[], Some(&usage_hint(error)));
    Exit::Usage
}

/// What clap suggests, else the help of the verb in question.
fn usage_hint(error: &clap::Error) -> String {
    for kind in [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue] {
        match error.get(kind) {
            Some(ContextValue::String(word)) => return format!("did you mean `{word}`?"),
            Some(ContextValue::Strings(words)) if !words.is_empty() => {
                return format!("did you mean `{}`?", words.join("` or `"));
            }
            Some(_) | None => {}
        }
    }
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        Some(_) | None => String::new(),
    };
    let mut words = usage.split_ascii_whitespace().skip_while(|w| *w != "scrubfs").skip(1);
    let is_verb = |w: &&str| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !w.starts_with('-');
    match words.next().filter(is_verb) {
        Some(verb) => format!("scrubfs {verb} --help"),
        None => "scrubfs --help".to_owned(),
    }
}

fn print(palette: Palette, message: &str, causes: &[String], hint: Option<&str>) {
    complain(format_args!("{} {message}", palette.paint(Label::Error, "Error:")));
    if let Some((first, rest)) = causes.split_first() {
        complain(format_args!("{} {first}", palette.paint(Label::Heading, "Caused by:")));
        for cause in rest {
            complain(format_args!("           {cause}"));
        }
    }
    if let Some(hint) = hint {
        complain(format_args!("{} {hint}", palette.paint(Label::Hint, "Hint:")));
    }
}
