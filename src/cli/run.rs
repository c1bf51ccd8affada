//! `scrubfs run` and `scrubfs enter`: a program inside the scrubbed view, with no way round it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::lower::workspace_here;
use super::rules::RuleArgs;
use super::ui::count;
use super::{Exit, Result, Ui, target};
use crate::change::{Change, Flag, ScanOptions, scan};
use crate::session::{
    self, AgentChoice, ConfigDir, Ended, MountRequest, RunRequest, Session, SessionName, StateDir,
};

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
    /// Leave this agent's own login, settings and history as they are; `none` for nobody's [default: the agent that CMD names]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Do not look through the view once in the background, which makes the first `git status` in it fast
    #[arg(long)]
    no_prewarm: bool,
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
            prewarm: !args.no_prewarm,
        },
        also: args.also.clone(),
        private_home: args.private_home,
        expose: args.expose.clone(),
        agent: match args.agent.as_deref() {
            None => AgentChoice::ByCommand,
            Some("none") => AgentChoice::None,
            Some(name) => AgentChoice::Named(name.to_owned()),
        },
        command: args.command.clone(),
    };
    let outcome = session::run(&StateDir::from_env()?, &ConfigDir::from_env()?, &request)?;
    for session in &outcome.sessions {
        summary(session, ui);
    }
    if outcome.covered > 0 {
        let what = count(outcome.covered, "credential", "credentials");
        ui.explain(format_args!("{what} in the home directory did not exist for it"));
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

/// What deserves a look, as `; 2 auto-exec, 1 secret`.
fn flags<'a>(changes: impl Iterator<Item = &'a Change>) -> String {
    let mut counts: BTreeMap<Flag, usize> = BTreeMap::new();
    for flag in changes.flat_map(|change| &change.flags).map(|raised| raised.flag) {
        *counts.entry(flag).or_default() += 1;
    }
    let all: Vec<String> = counts.iter().map(|(flag, n)| format!("{n} {}", flag.as_str())).collect();
    if all.is_empty() { String::new() } else { format!("; look at {}", all.join(", ")) }
}

/// One line a session in which something was changed. The program's exit status counts, so what cannot be told is only said.
fn summary(session: &Session, ui: &Ui) {
    // Mostly so for a short command, and then the rules need not be compiled once more.
    if session.is_untouched().is_ok_and(|untouched| untouched) {
        return ui.explain(format_args!("session `{}`: nothing was changed", session.name()));
    }
    let options = ScanOptions::default();
    let scanned = session.peek().map_err(|e| e.to_string()).and_then(|layers| {
        scan(&layers.judge, &layers.upper, &layers.base, options).map_err(|e| e.to_string())
    });
    let name = session.name();
    match scanned {
        Ok(set) => match set.listed().count() {
            0 => ui.explain(format_args!("session `{name}`: nothing was changed")),
            n => {
                let changes = count(n, "change", "changes");
                let flags = flags(set.listed());
                ui.say(format_args!("session `{name}`: {changes}{flags} — scrubfs status {name}"));
            }
        },
        Err(why) => ui.warn(format_args!("session `{name}`: {why}")),
    }
}
