//! `scrubfs apply`: writes changes to the workspace as one transaction, or says why not.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::json::ApplyDocument;
use super::patch::{self, Chosen, Verb};
use super::target::{self, Target};
use super::ui::{Label, count};
use super::{CliError, Exit, Result, Ui};
use crate::apply::{self, Allow, ConflictMode, Done, Execution, Options, Plan, Recovered, Way};

/// The exit status of a command that Ctrl-C ended, as shells have it.
pub(super) const INTERRUPTED: u8 = 130;

/// Write the changes of a session to the workspace, as one transaction
///
/// All of them, or those of the paths and hunks that are named. Masks become the real values again. Nothing is applied while
/// there is a conflict or a closed gate among them (exit 3); `scrubfs status` explains both. What was applied leaves the session.
///
/// Examples:
///   scrubfs apply -p                    (hunk by hunk, with the keys of git add -p)
///   scrubfs apply --dry-run
///   scrubfs apply shop src/ --allow exec-bit:bin/*
///   scrubfs apply --allow bidi          (what is let through every time can stand in config.toml, as `allow` beneath `gates`)
///   scrubfs apply --restore config/new.toml   (a masked value that was copied there becomes the real one)
///   scrubfs apply --plan plan.json --dry-run, later: scrubfs apply --plan plan.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// A session, then paths or globs below the workspace
    #[arg(value_name = "SESSION] [PATH")]
    words: Vec<OsString>,
    /// Ask about each hunk, with the keys of `git add -p`; answers come from the terminal, or line by line from a pipe
    #[arg(short, long, conflicts_with_all = ["hunk", "json", "go_on", "abort"])]
    patch: bool,
    /// Apply only these hunks of their files; ids as in `diff --json`
    #[arg(long, value_name = "ID")]
    hunk: Vec<String>,
    /// Let a gate through, everywhere or for a path: exec-bit, auto-exec:.vscode/*
    #[arg(long, value_name = "FLAG[:PATH]")]
    allow: Vec<OsString>,
    /// Where the agent copied a masked value into another file, write the secret: for the files of this path or glob. It is
    /// refused where the mask's origin cannot be found or has changed, and where no rule would mask the secret in its new place
    #[arg(long, value_name = "PATH")]
    restore: Vec<OsString>,
    /// What to do where both sides changed the same lines
    #[arg(long, value_name = "HOW", default_value = "refuse", value_parser = ["refuse", "markers"])]
    conflict: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run, write the plan to a file; without, carry out the plan in it, if both sides are still as it says
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Go on with an interrupted apply
    #[arg(long = "continue", conflicts_with_all = ["abort", "dry_run", "plan", "hunk", "restore"])]
    go_on: bool,
    /// Take an interrupted apply back
    #[arg(long, conflicts_with_all = ["dry_run", "plan", "hunk", "restore"])]
    abort: bool,
    /// Wait while another command writes to the workspace
    #[arg(long)]
    wait: bool,
    /// How many applies can be undone
    #[arg(long, value_name = "N", default_value_t = 5)]
    keep: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let (session, paths) = target::session_and_paths(&args.words)?;
    if args.go_on || args.abort {
        return recover(session, args, ui);
    }
    let saved = args.plan.is_some() && !args.dry_run;
    let chooses = args.patch
        || !(paths.is_empty() && args.hunk.is_empty() && args.allow.is_empty() && args.restore.is_empty())
        || args.conflict != "refuse";
    if saved && chooses {
        return Err(CliError::SavedPlan);
    }
    let allow = args.allow.iter().map(|a| Allow::parse(a.as_bytes())).collect::<apply::Result<Vec<_>>>()?;
    let restore = args.restore.iter().map(|p| target::pattern(&session, p)).collect::<Result<Vec<_>>>()?;
    let conflicts = if args.conflict == "markers" { ConflictMode::Markers } else { ConflictMode::Refuse };
    let configured = target::configured(&session, ui)?;
    let mut options =
        Options { paths, hunks: args.hunk.clone(), parts: Vec::new(), allow, configured, restore, conflicts };
    if args.patch {
        let (look, set) = Target::look(session.clone())?;
        match patch::choose(&look, &set, &options, Verb::Apply, ui)? {
            Chosen::Interrupted => return Ok(Exit::Status(INTERRUPTED)),
            Chosen::Parts(parts) if parts.is_empty() => {
                ui.line("nothing was chosen, so nothing was applied")?;
                return Ok(Exit::Done);
            }
            Chosen::Parts(parts) => options = Options { parts, paths: Vec::new(), ..options },
        }
        look.finish(false)?;
    }
    let target = Target::open(session)?;
    let plan = match &args.plan {
        Some(file) if !args.dry_run => {
            let text = std::fs::read_to_string(file).map_err(CliError::io("read the plan", file))?;
            Plan::from_json(&text)?
        }
        Some(_) | None => apply::plan(&target.site(), &target.scan()?, &options)?,
    };
    if let Some(file) = args.plan.as_ref().filter(|_| args.dry_run) {
        std::fs::write(file, plan.to_json()?).map_err(CliError::io("write the plan", file))?;
    }
    if args.dry_run || !plan.is_clean() {
        print_plan(&plan, args.json, ui)?;
        let exit = if plan.is_clean() { Exit::Done } else { Exit::NotApplied };
        target.finish(false)?;
        return Ok(exit);
    }
    let done = apply::execute(&target.site(), &plan, Execution { keep: args.keep, wait: args.wait })?;
    target.finish(true)?;
    print_done(&done, args.json, ui)?;
    Ok(Exit::Done)
}

fn recover(session: crate::session::Session, args: &Args, ui: &mut Ui) -> Result {
    let target = Target::open_interrupted(session)?;
    let way = if args.go_on { Way::Continue } else { Way::Abort };
    let recovered = apply::recover(&target.site(), way)?;
    target.finish(true)?;
    match recovered {
        Recovered::Before => ui.say("the interrupted apply was taken back: the workspace is as before it"),
        Recovered::After(done) => print_done(&done, args.json, ui)?,
    }
    Ok(Exit::Done)
}

fn print_plan(plan: &Plan, json: bool, ui: &mut Ui) -> Result<()> {
    if json {
        return ui.json(&ApplyDocument::of_plan(plan));
    }
    let would = plan.applied.iter().filter(|a| !a.implied);
    let heading = count(would.clone().count(), "change would be applied", "changes would be applied");
    if plan.is_clean() {
        ui.line(ui.out_palette.paint(Label::Heading, heading))?;
        for applied in would {
            ui.line(format_args!("  {} {}", applied.kind, applied.path))?;
        }
    } else {
        ui.line(ui.out_palette.paint(Label::Error, "nothing was applied"))?;
    }
    for refusal in &plan.conflicts {
        ui.line(format_args!("  conflict  {}: {}", refusal.path, refusal.reason))?;
    }
    for gated in &plan.gated {
        for flag in &gated.flags {
            ui.line(format_args!("  gate      {}: {} ({})", gated.path, flag.flag, flag.why))?;
        }
    }
    for kept in &plan.kept {
        ui.line(format_args!("  keep      {}: {}", kept.path, kept.reason))?;
    }
    for note in &plan.notes {
        ui.line(format_args!("  note      {}: {}", note.path, note.what))?;
    }
    if let Some((path, flag)) = plan.gated.first().and_then(|g| Some((&g.path, g.flags.first()?))) {
        let restore = if flag.only_masks {
            format!(", `scrubfs apply --restore {path}` to put the secrets there,")
        } else {
            String::new()
        };
        ui.hint(format_args!(
            "look at it with `scrubfs diff`, then `scrubfs apply --allow {}`{restore} or name other paths",
            flag.flag
        ));
    }
    Ok(())
}

/// Says what an apply or undo did.
pub(super) fn print_done(done: &Done, json: bool, ui: &mut Ui) -> Result<()> {
    if json {
        return ui.json(&ApplyDocument::of_done(done));
    }
    let applied = done.applied.iter().filter(|a| !a.implied).count();
    ui.line(format_args!("{} applied", count(applied, "change", "changes")))?;
    for kept in &done.kept {
        ui.line(format_args!("  keep      {}: {}", kept.path, kept.reason))?;
    }
    for note in &done.notes {
        ui.line(format_args!("  note      {}: {}", note.path, note.what))?;
    }
    if applied > 0 {
        ui.hint("scrubfs undo takes it back");
    }
    Ok(())
}
