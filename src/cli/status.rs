//! `scrubfs status`: what people look at most. Changes by kind, then what needs attention with its reason, then what the session never
//! showed, then what to type next.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::json::{SCHEMA, StatusChange, StatusDocument, StatusHidden, StatusRedacted, path_text};
use super::target::{self, Target};
use super::ui::{Label, count};
use super::{Exit, Result, Ui};
use crate::apply::OpenGates;
use crate::change::{Change, ChangeKind, ChangeSet, Flag};
use crate::judge::{Depth, Found, Survey};
use crate::path::{Escaped, RelPath};
use crate::policy::Policy;

/// How many entries of a list are shown without `--all`.
const SHOWN: usize = 20;

/// Show what changed in a session, what needs attention, and what is hidden and redacted there
///
/// Redacted files are looked for by their names; `scrubfs audit` reads the content of all files.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A session's name, its workspace or its mountpoint [default: the current directory's]
    #[arg(value_name = "SESSION")]
    session: Option<OsString>,
    /// List everything, however long
    #[arg(long)]
    all: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let target = Target::open(target::session(args.session.as_deref())?)?;
    // Both walk trees one entry after another for a good part, so beside each other they take half the time.
    let (set, survey) = std::thread::scope(|scope| {
        let survey = scope.spawn(|| target.layers.judge.survey(&RelPath::root(), Depth::Names, &|| {}));
        let set = target.scan();
        (set, survey.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let set = set?;
    let configured = OpenGates::new(&target::configured(&target.session, ui)?)?;
    if args.json {
        ui.json(&document(&target, &set, &survey, &configured)?)?;
    } else {
        let limit = if args.all { usize::MAX } else { SHOWN };
        print(&target, &set, (&survey, &configured), limit, ui)?;
    }
    target.finish(false)?;
    Ok(Exit::Done)
}

fn document(
    target: &Target,
    set: &ChangeSet,
    survey: &Survey,
    configured: &OpenGates,
) -> Result<StatusDocument> {
    let state = target.session.state()?;
    let policy = target.layers.judge.policy();
    let (mut hidden, mut redacted) = (Vec::new(), Vec::new());
    for finding in &survey.findings {
        match &finding.what {
            Found::Hidden(rule) => hidden.push(StatusHidden::new(&finding.path, &rule.id)),
            Found::Undecided(_) => hidden.push(StatusHidden::new(&finding.path, "undecided")),
            Found::Redacted { spans, .. } => redacted.push(StatusRedacted::new(&finding.path, policy, spans)),
        }
    }
    Ok(StatusDocument {
        schema: SCHEMA,
        session: target.session.name().to_string(),
        workspace: path_text(target.session.workspace()),
        mountpoint: state.mountpoint().map(path_text),
        state: state.word(),
        changes: set.listed().map(|c| StatusChange::new(c, configured)).collect(),
        hidden,
        redacted,
    })
}

fn print(
    target: &Target,
    set: &ChangeSet,
    (survey, configured): (&Survey, &OpenGates),
    limit: usize,
    ui: &mut Ui,
) -> Result<()> {
    let state = target.session.state()?;
    let name = ui.out_palette.paint(Label::Name, target.session.name());
    let at = state.mountpoint().map(|m| format!(" at {}", Escaped::path(m))).unwrap_or_default();
    ui.line(format_args!(
        "Session {name} on {}, {}{at}",
        Escaped::path(target.session.workspace()),
        state.word()
    ))?;
    let listed: Vec<&Change> = set.listed().collect();
    if listed.is_empty() {
        ui.line("Nothing was changed.")?;
    } else {
        print_changes(&listed, limit, ui)?;
        print_attention(&listed, configured, limit, ui)?;
    }
    print_unseen(target.layers.judge.policy(), survey, limit, ui)?;
    if !listed.is_empty() {
        let name = target.session.name();
        ui.hint(format_args!(
            "scrubfs review {name}   ·   scrubfs diff {name}   ·   scrubfs apply {name}   ·   scrubfs discard {name}"
        ));
        if listed.iter().any(|c| c.gates().any(|r| configured.opens(c, r.flag).is_none())) {
            ui.hint(
                "what blocks apply is let through by name: --allow FLAG[:PATH], once you have looked at it",
            );
        }
    }
    Ok(())
}

/// Each change, or, where there are too many to read, how many lie in which directory.
fn print_changes(listed: &[&Change], limit: usize, ui: &mut Ui) -> Result<()> {
    let total = count(listed.len(), "change", "changes");
    let heading = format!("{total}: {}", by_kind(listed.iter().copied()));
    ui.line(ui.out_palette.paint(Label::Heading, heading))?;
    if listed.len() <= limit {
        for change in listed {
            ui.line(format_args!("  {} {}", change.kind.letter(), described(change)))?;
        }
        return Ok(());
    }
    let groups = by_directory(listed, limit);
    let wide = groups.iter().take(limit).map(|(dir, _)| dir.chars().count()).max().unwrap_or(0).min(60);
    for (dir, changes) in groups.iter().take(limit) {
        let kinds = by_kind(changes.iter().copied());
        ui.line(format_args!("  {dir:<wide$}  {:>6}  {kinds}", changes.len()))?;
    }
    match groups.len().saturating_sub(limit) {
        0 => ui.line("  (--all lists each change)"),
        more => ui.line(format_args!("  … and {more} more places (--all lists each change)")),
    }
}

/// `2 added, 1 deleted`.
fn by_kind<'c>(changes: impl Iterator<Item = &'c Change>) -> String {
    const ORDER: [&str; 6] = ["added", "modified", "deleted", "renamed", "type", "mode"];
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for change in changes {
        *counts.entry(change.kind.as_str()).or_default() += 1;
    }
    let told: Vec<String> = ORDER
        .iter()
        .filter_map(|kind| {
            let word = match *kind {
                "type" => "of another type",
                "mode" => "with another mode",
                kind => kind,
            };
            counts.get(kind).map(|n| format!("{n} {word}"))
        })
        .collect();
    told.join(", ")
}

/// Changes by directory, as deep as at most `limit` directories allow.
fn by_directory<'c>(listed: &[&'c Change], limit: usize) -> Vec<(String, Vec<&'c Change>)> {
    let mut best = Vec::new();
    for depth in 1..8 {
        let mut groups: BTreeMap<Vec<u8>, Vec<&'c Change>> = BTreeMap::new();
        for change in listed {
            let dirs = change.path.parent_bytes().unwrap_or_default().split(|b| *b == b'/');
            let dir: Vec<&[u8]> = dirs.take(depth).collect();
            groups.entry(dir.join(&b'/')).or_default().push(change);
        }
        let is_deeper = groups.len() > best.len();
        if depth > 1 && (groups.len() > limit || !is_deeper) {
            break;
        }
        let name = |dir: &[u8]| if dir.is_empty() { "./".to_owned() } else { format!("{}/", Escaped(dir)) };
        best = groups.into_iter().map(|(dir, changes)| (name(&dir), changes)).collect();
    }
    best
}

fn described(change: &Change) -> String {
    let slash = if change.is_dir() { "/" } else { "" };
    match &change.kind {
        ChangeKind::Renamed { from } => format!("{from} → {}", change.path),
        _ if change.git_objects > 0 => format!(
            "{}/  ({} in git's own data)",
            change.path,
            count(change.git_objects, "object", "objects")
        ),
        _ => format!("{}{slash}", change.path),
    }
}

fn more(len: usize, limit: usize, ui: &mut Ui) -> Result<()> {
    match len.saturating_sub(limit) {
        0 => Ok(()),
        more => ui.line(format_args!("  … and {more} more (--all lists them)")),
    }
}

fn print_attention(listed: &[&Change], configured: &OpenGates, limit: usize, ui: &mut Ui) -> Result<()> {
    let conflicts: Vec<_> = listed.iter().filter_map(|c| Some((c, c.conflict.as_ref()?))).collect();
    if !conflicts.is_empty() {
        ui.line(ui.out_palette.paint(Label::Error, count(conflicts.len(), "conflict", "conflicts")))?;
        for (change, conflict) in conflicts.iter().take(limit) {
            ui.line(format_args!("  {}: {conflict}", change.path))?;
        }
        more(conflicts.len(), limit, ui)?;
    }
    let mut flags: BTreeMap<Flag, Vec<(&Change, String)>> = BTreeMap::new();
    for change in listed {
        for raised in &change.flags {
            flags.entry(raised.flag).or_default().push((change, raised.why.to_string()));
        }
    }
    if !flags.is_empty() {
        ui.line(ui.out_palette.paint(Label::Warning, "needs attention"))?;
    }
    for (flag, changes) in flags {
        let blocks = changes.iter().any(|(c, _)| configured.opens(c, flag).is_none());
        let gate = match (flag.is_gate(), blocks) {
            (true, true) => "blocks apply",
            (true, false) => "let through by config.toml",
            (false, _) => "for your information",
        };
        let name = ui.out_palette.paint(Label::Name, flag.as_str());
        ui.line(format_args!("  {name} ({gate}): {}", flag.why()))?;
        for (change, why) in changes.iter().take(limit) {
            let why = if *why == flag.why() { String::new() } else { format!("   {why}") };
            let by = configured.opens(change, flag).filter(|_| blocks);
            let by = by.map(|by| format!("   (let through by `{by}` in config.toml)")).unwrap_or_default();
            ui.line(format_args!("    {}{why}{by}", change.path))?;
        }
        more(changes.len(), limit, ui)?;
    }
    Ok(())
}

fn print_unseen(policy: &Policy, survey: &Survey, limit: usize, ui: &mut Ui) -> Result<()> {
    let mut rows = Vec::new();
    let (mut hidden, mut redacted) = (0, 0);
    for finding in &survey.findings {
        let slash = if finding.is_dir { "/" } else { "" };
        let what = match &finding.what {
            Found::Hidden(rule) => {
                hidden += 1;
                format!("hidden by {}", rule.id)
            }
            Found::Undecided(why) => {
                hidden += 1;
                format!("not readable: {why}")
            }
            Found::Redacted { spans, .. } => {
                redacted += 1;
                let rule = spans.first().map(|s| policy.rule(s.rule).id.to_string()).unwrap_or_default();
                format!("{} masked by {rule}", count(spans.len(), "value", "values"))
            }
        };
        rows.push(format!("  {}{slash}   {what}", finding.path));
    }
    if rows.is_empty() {
        return Ok(());
    }
    ui.line(ui.out_palette.paint(Label::Secret, format!("{hidden} hidden, {redacted} redacted")))?;
    for row in rows.iter().take(limit) {
        ui.line(row)?;
    }
    more(rows.len(), limit, ui)
}
