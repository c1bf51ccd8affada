//! `scrubfs list`: all sessions.

use super::json::{ListDocument, ListedSession, SCHEMA, path_text};
use super::ui::{Label, count};
use super::{Exit, Result, Ui};
use crate::path::Escaped;
use crate::session::{Session, StateDir};

/// List all sessions, their state and how much was changed in each
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let listing = StateDir::from_env()?.list()?;
    let mut sessions = Vec::new();
    for session in &listing.sessions {
        let state = session.state()?;
        sessions.push(ListedSession {
            name: session.name().to_string(),
            workspace: path_text(session.workspace()),
            mountpoint: state.mountpoint().map(path_text),
            state: state.word(),
            changes: changes(session, ui),
        });
    }
    if args.json {
        ui.json(&ListDocument { schema: SCHEMA, sessions })?;
    } else {
        for (listed, session) in sessions.iter().zip(&listing.sessions) {
            let name = ui.out_palette.paint(Label::Name, &listed.name);
            let changes = match listed.changes {
                Some(n) => count(n, "change", "changes"),
                None => "changes unknown".to_owned(),
            };
            let at = listed.mountpoint.as_deref().map(|m| format!("  at {m}")).unwrap_or_default();
            ui.line(format_args!(
                "{name}  {}  {changes}  {}{at}",
                listed.state,
                Escaped::path(session.workspace())
            ))?;
        }
        if sessions.is_empty() {
            ui.say("there are no sessions");
        }
    }
    for broken in &listing.broken {
        ui.warn(format_args!("{}: {}", Escaped::path(&broken.dir), broken.error));
    }
    Ok(Exit::Done)
}

/// How many changes a session has; a session whose workspace is gone cannot tell.
fn changes(session: &Session, ui: &Ui) -> Option<usize> {
    let counted = session
        .peek()
        .map_err(|e| e.to_string())
        .and_then(|layers| layers.count_changes().map_err(|e| e.to_string()));
    match counted {
        Ok(count) => Some(count),
        Err(why) => {
            ui.warn(format_args!("session `{}`: {why}", session.name()));
            None
        }
    }
}
