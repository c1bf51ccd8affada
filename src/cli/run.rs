//! `scrubfs run` and `scrubfs enter`: a program inside the scrubbed view, with no way round it.

use std::ffi::OsString;
use std::path::PathBuf;

use super::lower::workspace_here;
use super::rules::RuleArgs;
use super::ui::count;
use super::{Exit, Result, Ui, target};
use crate::change::{ScanOptions, scan};
use crate::session::{self, ConfigDir, Ended, MountRequest, RunRequest, Session, SessionName, StateDir};

/// Run a program with the scrubbed view mounted over the workspace itself
///
/// In private user, mount and PID namespaces, without root: the program sees the view at the workspace's own path and has no way to
/// the original. Credentials in the home directory are covered. The exit status is the program's.
///
/// Examples:
///   scrubfs run -- your-agent
///   scrubfs run ~/src/shop --expose ~/.ssh/known_hosts -- bash
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The workspace [default: this repository's root, else the current directory]
    #[arg(value_name = "WORKSPACE")]
    workspace: Option<PathBuf>,
    /// The session's name [default: the workspace's only session, else one named after it]
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Take no writes
    #[arg(long)]
    read_only: bool,
    /// A further workspace, with a session of its own
    #[arg(long, value_name = "DIR")]
    also: Vec<PathBuf>,
    /// Put a scrubbed view over the home directory, too
    #[arg(long)]
    private_home: bool,
    /// Leave a path as it is although it holds credentials
    #[arg(long, value_name = "PATH")]
    expose: Vec<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    /// The program and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Start a further program in a running `run`
#[derive(Debug, clap::Args)]
pub(super) struct EnterArgs {
    /// The session's name or workspace
    #[arg(value_name = "SESSION")]
    session: OsString,
    /// The program and its arguments, after `--` [default: $SHELL]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let request = RunRequest {
        mount: MountRequest {
            workspace: args.workspace.clone().map_or_else(workspace_here, Ok)?,
            session: args.session.as_deref().map(SessionName::new).transpose()?,
            at: None,
            read_only: args.read_only,
            allow_other: false,
            allowed: Vec::new(),
            options: args.rules.options.clone(),
            rule_files: args.rules.files.clone(),
            strict: args.rules.strict,
        },
        also: args.also.clone(),
        private_home: args.private_home,
        expose: args.expose.clone(),
        command: args.command.clone(),
    };
    let outcome = session::run(&StateDir::from_env()?, &ConfigDir::from_env()?, &request)?;
    for session in &outcome.sessions {
        summary(session, ui);
    }
    Ok(ended(&outcome.ended, ui))
}

pub(super) fn enter(args: &EnterArgs, ui: &mut Ui) -> Result {
    let session = target::session(Some(&args.session))?;
    let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let command = if args.command.is_empty() { vec![shell()] } else { args.command.clone() };
    Ok(ended(&session::enter(&session, &command)?, ui))
}

fn ended(ended: &Ended, ui: &Ui) -> Exit {
    if let Some(why) = &ended.not_started {
        ui.warn(why);
    }
    Exit::Status(ended.status)
}

/// One line a session in which something was changed. The program's exit status counts, so what cannot be told is only said.
fn summary(session: &Session, ui: &Ui) {
    let options = ScanOptions { renames: true, content_flags: false };
    let scanned = session.peek().map_err(|e| e.to_string()).and_then(|layers| {
        scan(&layers.judge, &layers.upper, &layers.base, options).map_err(|e| e.to_string())
    });
    let name = session.name();
    match scanned {
        Ok(set) => match set.listed().count() {
            0 => ui.explain(format_args!("session `{name}`: nothing was changed")),
            n => ui.say(format_args!(
                "session `{name}`: {} — scrubfs status {name}",
                count(n, "change", "changes")
            )),
        },
        Err(why) => ui.warn(format_args!("session `{name}`: {why}")),
    }
}
