//! `scrubfs doctor`: what this machine offers, and how to get what is missing.

use serde::Serialize;

use super::json::SCHEMA;
use super::ui::Label;
use super::{Exit, Result, Ui};
use crate::session::{Check, doctor};

/// Say what this machine offers (FUSE, namespaces, allow_other, limits) and how to get what is missing
///
/// Exits with 1 if something is missing without which `mount` or `run` do not work.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    checks: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: &'static str,
    ok: bool,
    needed: bool,
    what: String,
    cure: Option<String>,
}

impl From<Check> for Row {
    fn from(c: Check) -> Self {
        Self { id: c.id, ok: c.ok, needed: c.needed, what: c.what, cure: c.cure }
    }
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let checks: Vec<Row> = doctor().into_iter().map(Row::from).collect();
    let all_well = checks.iter().all(|c| c.ok || !c.needed);
    if args.json {
        ui.json(&Document { schema: SCHEMA, checks })?;
    } else {
        for row in &checks {
            let (word, label) = match (row.ok, row.needed) {
                (true, _) => ("ok     ", Label::Name),
                (false, true) => ("missing", Label::Error),
                (false, false) => ("absent ", Label::Warning),
            };
            let word = ui.out_palette.paint(label, word);
            ui.line(format_args!("{word}  {}: {}", row.id, row.what))?;
            if let Some(cure) = &row.cure {
                ui.line(format_args!("         {cure}"))?;
            }
        }
    }
    Ok(if all_well { Exit::Done } else { Exit::Failed })
}
