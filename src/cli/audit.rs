//! `scrubfs audit`: all that policy hides or redacts in a workspace, by rule, before any mount.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use super::json::{Audit, Entry, SCHEMA};
use super::lower::Workspace;
use super::progress::Progress;
use super::rules::RuleArgs;
use super::ui::{Label, count};
use super::{Exit, Result, Ui};
use crate::judge::{Depth, Finding, Found, Survey};
use crate::path::RelPath;
use crate::policy::{Origin, PathAction, PathVerdict, Policy, RuleId, RuleInfo, Span, Verdict};
use crate::session::StateDir;

/// How many paths of one rule are listed unless `--all` is given.
const SHOWN: usize = 10;

/// List all that would be hidden or redacted in a workspace, and by which rule
///
/// Reads every file that the rules do not hide; nothing is mounted and nothing is written. The values of secrets are never
/// printed: a redacted file is listed with the number of masked places.
///
/// Examples:
///   scrubfs audit                         the current directory
///   scrubfs audit --hide '*.sqlite' ~/src/app
///   scrubfs audit --unused                also: which rules found nothing here
///   scrubfs audit --json | jq -r '.entries[] | select(.verdict == \"hide\") | .path'
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The workspace; a session's name means its workspace, by the rules it was mounted with
    #[arg(value_name = "WORKSPACE", default_value = ".")]
    workspace: OsString,
    /// List every path
    #[arg(short, long)]
    all: bool,
    /// List also the rules that found nothing, the built-in ones included
    #[arg(long, conflicts_with = "json")]
    unused: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rules: RuleArgs,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let dir = PathBuf::from(&args.workspace);
    let is_session =
        !dir.exists() && crate::session::find(&StateDir::from_env()?, &args.workspace)?.is_some();
    let workspace = if is_session {
        Workspace::of_session(&args.workspace)?
    } else {
        Workspace::open(&dir, &args.rules)?
    };
    let survey = {
        let progress = Progress::start(ui, "Looking for secrets", "entries");
        workspace.judge.survey(&RelPath::root(), Depth::Content, &|| progress.tick())
    };
    let policy = workspace.judge.policy();
    if args.json {
        ui.json(&document(policy, &survey))?;
    } else {
        ui.page()?;
        let limit = if args.all { usize::MAX } else { SHOWN };
        print(policy, &survey, limit, ui)?;
        if args.unused {
            print_unused(policy, &survey, ui)?;
        }
    }
    for (path, errno) in &survey.unreadable {
        ui.warn(format_args!("{path} could not be looked at, so nothing of it is listed: {errno}"));
    }
    for rule in unused(policy, &survey).filter(|r| r.origin == Origin::CommandLine) {
        ui.warn(format_args!("{} `{}` matches nothing here that it decides", rule.source, rule.id));
    }
    let own = |r: &&RuleInfo| matches!(r.origin, Origin::User | Origin::Workspace);
    let idle: Vec<_> =
        unused(policy, &survey).filter(own).map(|r| format!("{} ({}:{})", r.id, r.source, r.line)).collect();
    if !idle.is_empty() {
        ui.say(format_args!("rules of your own that decide nothing here: {}", idle.join(", ")));
    }
    let idle = idle_patterns(policy, &survey);
    if !idle.is_empty() {
        ui.say(format_args!("patterns of your own that match nothing here: {}", idle.join(", ")));
    }
    Ok(Exit::Done)
}

/// The patterns of the user's and the workspace's rules that matched nothing, without those of rules that are named themselves.
fn idle_patterns(policy: &Policy, survey: &Survey) -> Vec<String> {
    let named: BTreeSet<_> = unused(policy, survey).map(|rule| (&rule.source, rule.line)).collect();
    let patterns = policy.own_patterns().map(|(id, pattern)| (policy.rule(id), pattern)).enumerate();
    patterns
        .filter(|(number, (rule, _))| {
            !survey.matched.contains(number) && !named.contains(&(&rule.source, rule.line))
        })
        .map(|(_, (rule, pattern))| format!("{pattern} ({}:{})", rule.source, rule.line))
        .collect()
}

/// The rule that makes a path redacted: that of the path, else the one that found the first span.
fn redacting(policy: &Policy, verdict: &PathVerdict, spans: &[Span]) -> Option<RuleId> {
    let own = verdict.rule.filter(|_| matches!(verdict.action, PathAction::Redact(_)));
    own.or_else(|| spans.first().map(|s| s.rule)).filter(|id| !policy.rule(*id).id.is_empty())
}

fn document(policy: &Policy, survey: &Survey) -> Audit {
    let entry = |finding: &Finding| match &finding.what {
        Found::Hidden(rule) => Entry::new(&finding.path, Verdict::Hide, Some(rule)),
        Found::Undecided(_) => Entry::new(&finding.path, Verdict::Hide, None),
        Found::Redacted { verdict, spans } => {
            let rule = redacting(policy, verdict, spans).map(|id| policy.rule(id));
            Entry::new(&finding.path, Verdict::Redact, rule).with_spans(policy, spans)
        }
    };
    Audit { schema: SCHEMA, entries: survey.findings.iter().map(entry).collect() }
}

/// What one rule found.
struct Group<'a> {
    rule: &'a RuleInfo,
    /// Paths, and how many places are masked in each.
    paths: Vec<(&'a Finding, usize)>,
}

type Groups<'a> = BTreeMap<(&'a str, &'a str, u32), Group<'a>>;

fn add<'a>(groups: &mut Groups<'a>, rule: &'a RuleInfo, finding: &'a Finding, spans: usize) {
    let key = (&*rule.source, &*rule.id, rule.line);
    let group = groups.entry(key).or_insert(Group { rule, paths: Vec::new() });
    match group.paths.last_mut() {
        Some((last, count)) if last.path == finding.path => *count += spans,
        Some(_) | None => group.paths.push((finding, spans)),
    }
}

fn print(policy: &Policy, survey: &Survey, limit: usize, ui: &mut Ui) -> Result<()> {
    let (mut hidden, mut redacted, mut undecided) = (Groups::new(), Groups::new(), Vec::new());
    let (mut files, mut spans_in_all) = (0, 0);
    for finding in &survey.findings {
        match &finding.what {
            Found::Hidden(rule) => add(&mut hidden, rule, finding, 0),
            Found::Undecided(why) => undecided.push((finding, why)),
            Found::Redacted { spans, .. } => {
                files += 1;
                spans_in_all += spans.len();
                for span in spans {
                    add(&mut redacted, policy.rule(span.rule), finding, 1);
                }
            }
        }
    }
    let hides: usize = hidden.values().map(|g| g.paths.len()).sum();
    print_groups(&count(hides, "entry is hidden", "entries are hidden"), &hidden, limit, ui)?;
    let title = count(files, "file is redacted", "files are redacted");
    print_groups(&format!("{title}, in {}", count(spans_in_all, "place", "places")), &redacted, limit, ui)?;
    if !undecided.is_empty() {
        let title =
            count(undecided.len(), "file cannot be judged", "files cannot be judged, and cannot be read");
        ui.line(ui.out_palette.paint(Label::Heading, title))?;
        for (finding, why) in undecided {
            ui.line(format_args!("    {}   {why}", finding.path))?;
        }
    }
    ui.say(format_args!("{} judged", count(survey.judged, "entry", "entries")));
    Ok(())
}

fn print_groups(title: &str, groups: &Groups<'_>, limit: usize, ui: &mut Ui) -> Result<()> {
    ui.line(ui.out_palette.paint(Label::Heading, title))?;
    let mut sorted: Vec<&Group<'_>> = groups.values().collect();
    sorted.sort_by_key(|g| std::cmp::Reverse(g.paths.len()));
    for group in sorted {
        let rule = group.rule;
        let id = ui.out_palette.paint(Label::Name, &rule.id);
        let place = ui.out_palette.paint(Label::Dim, format!("{}:{}", rule.source, rule.line));
        let why = if rule.why.is_empty() { String::new() } else { format!(": {}", rule.why) };
        ui.line(format_args!("  {id}{why}  ({place})"))?;
        for (finding, spans) in group.paths.iter().take(limit) {
            let slash = if finding.is_dir { "/" } else { "" };
            let places = if *spans > 1 { format!("   ({spans} places)") } else { String::new() };
            ui.line(format_args!("    {}{slash}{places}", finding.path))?;
        }
        let more = group.paths.len().saturating_sub(limit);
        if more > 0 {
            ui.line(format_args!("    … and {more} more (--all lists them)"))?;
        }
    }
    Ok(())
}

/// The rules in force that decided nothing.
fn unused<'a>(policy: &'a Policy, survey: &'a Survey) -> impl Iterator<Item = &'a RuleInfo> {
    let key = |rule: &RuleInfo| (rule.source.to_string(), rule.id.to_string(), rule.line);
    let mut used: BTreeSet<_> = survey.decided.iter().map(|id| key(policy.rule(*id))).collect();
    for finding in &survey.findings {
        match &finding.what {
            Found::Hidden(rule) => {
                used.insert(key(rule));
            }
            Found::Redacted { spans, .. } => used.extend(spans.iter().map(|s| key(policy.rule(s.rule)))),
            Found::Undecided(_) => {}
        }
    }
    policy.rules().map(|(_, rule)| rule).filter(move |rule| !used.contains(&key(rule)))
}

fn print_unused(policy: &Policy, survey: &Survey, ui: &mut Ui) -> Result<()> {
    let rules: Vec<&RuleInfo> = unused(policy, survey).collect();
    ui.line(
        ui.out_palette.paint(Label::Heading, count(rules.len(), "rule found nothing", "rules found nothing")),
    )?;
    for rule in rules {
        let id = ui.out_palette.paint(Label::Name, &rule.id);
        let place = ui.out_palette.paint(Label::Dim, format!("{}:{}", rule.source, rule.line));
        ui.line(format_args!("  {id}  ({place})"))?;
    }
    Ok(())
}
