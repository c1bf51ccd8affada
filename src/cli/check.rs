//! `scrubfs check`: the verdict on paths, with the rule, its file and its line, as `git check-ignore -v` tells it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::json::{Audit, Entry, SCHEMA, verdict_word};
use super::lower::{Workspace, workspace_here};
use super::rules::RuleArgs;
use super::{CliError, Exit, Result, Ui};
use crate::judge::EntryVerdict;
use crate::path::RelPath;
use crate::policy::{Kind, PathAction, RuleInfo, Span, Verdict};
use crate::sys;

/// Say for each path whether it is clear, redacted or hidden, and by which rule
///
/// Prints `SOURCE:LINE:RULE<tab>VERDICT<tab>PATH` for each path, as `git check-ignore -v` does, with `::` where no rule
/// has a say. A redacted file has one line for each rule that masks something in it. Paths count from the current
/// directory and need not exist: then their names alone are judged.
///
/// Examples:
///   scrubfs check .env config/*.yaml
///   scrubfs check --hide '*.sqlite' data.sqlite      (what that option would do)
///   scrubfs check --session api .env                 (by the rules of a session as it was mounted)
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The paths
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The workspace [default: the current session's, else the repository's root, else the current directory]
    #[arg(short = 'C', long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Judge by the rules that this session was mounted with
    #[arg(long, value_name = "SESSION", conflicts_with_all = ["workspace", "hide", "redact", "show", "rules", "strict"])]
    session: Option<OsString>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rules: RuleArgs,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let workspace = match (&args.session, &args.workspace) {
        (Some(session), _) => Workspace::of_session(session)?,
        (None, Some(dir)) => Workspace::open(dir, &args.rules)?,
        (None, None) => Workspace::open(&workspace_here()?, &args.rules)?,
    };
    let judged = args.paths.iter().map(|path| judge(&workspace, path)).collect::<Result<Vec<_>>>()?;
    if args.json {
        let policy = workspace.judge.policy();
        let entry = |j: &Judged| {
            let entry = Entry::new(&j.path, j.verdict, j.rules.first());
            if j.verdict == Verdict::Redact { entry.with_spans(policy, &j.spans) } else { entry }
        };
        ui.json(&Audit { schema: SCHEMA, entries: judged.iter().map(entry).collect() })?;
    } else {
        for judged in &judged {
            print(judged, ui)?;
        }
    }
    Ok(Exit::Done)
}

/// The verdict on a path; the rule that decided comes first.
struct Judged {
    path: RelPath,
    verdict: Verdict,
    rules: Vec<RuleInfo>,
    spans: Vec<Span>,
}

fn judge(workspace: &Workspace, given: &Path) -> Result<Judged> {
    let path = workspace.locate(given)?;
    let plain = |verdict, rules| Ok(Judged { path: path.clone(), verdict, rules, spans: Vec::new() });
    if path.is_root() {
        return plain(Verdict::Clear, Vec::new());
    }
    let judge = &workspace.judge;
    let verdict = match judge.whole_path(&path) {
        Ok(EntryVerdict::Hidden(rule)) => return plain(Verdict::Hide, vec![(*rule).clone()]),
        Ok(EntryVerdict::Shown(verdict)) => verdict,
        Err(errno) if sys::is_absent(errno) => return by_name(workspace, path, given),
        Err(source) => return Err(CliError::Lower { path, source }),
    };
    let own: Option<RuleInfo> = verdict.rule.map(|id| judge.policy().rule(id).clone());
    let stat = judge.lower().stat(&path).map_err(|source| CliError::Lower { path: path.clone(), source })?;
    if !stat.is_file() {
        return plain(Verdict::Clear, own.into_iter().collect());
    }
    let spans = match judge.spans(&path, &verdict) {
        Ok(spans) => spans,
        Err(source) => return Err(CliError::Undecided { path, source }),
    };
    if spans.is_empty() {
        return plain(Verdict::Clear, own.into_iter().collect());
    }
    let mut rules = Vec::new();
    let masks = matches!(verdict.action, PathAction::Redact(_));
    for rule in
        own.filter(|_| masks).into_iter().chain(spans.iter().map(|s| judge.policy().rule(s.rule).clone()))
    {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    Ok(Judged { path, verdict: Verdict::Redact, rules, spans })
}

/// What would be said of a path where nothing is.
fn by_name(workspace: &Workspace, path: RelPath, given: &Path) -> Result<Judged> {
    let policy = workspace.judge.policy();
    let kind = if given.as_os_str().as_encoded_bytes().ends_with(b"/") { Kind::Dir } else { Kind::File };
    let verdict = policy.path_and_parents(&path, kind);
    let word = match verdict.action {
        PathAction::Hide => Verdict::Hide,
        // Content that is not there cannot say that it is public.
        PathAction::Gate => Verdict::Hide,
        PathAction::Redact(_) => Verdict::Redact,
        PathAction::Plain | PathAction::Open | PathAction::Clear => Verdict::Clear,
    };
    let rules = verdict.rule.map(|id| policy.rule(id).clone()).into_iter().collect();
    Ok(Judged { path, verdict: word, rules, spans: Vec::new() })
}

fn print(judged: &Judged, ui: &mut Ui) -> Result<()> {
    let word = verdict_word(judged.verdict);
    if judged.rules.is_empty() {
        ui.line(format_args!("::\t{word}\t{}", judged.path))?;
    }
    for rule in &judged.rules {
        ui.line(format_args!("{}:{}:{}\t{word}\t{}", rule.source, rule.line, rule.id, judged.path))?;
        if !rule.why.is_empty() {
            ui.explain(format_args!("{}: {}", rule.id, rule.why));
        }
    }
    Ok(())
}
