//! The JSON documents of the listing commands, as types. Each has `"schema": 1`; a path that is not UTF-8 comes also as base64. No
//! document has a place for a secret's value.

use serde::Serialize;

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::apply::{Done, Plan};
use crate::change::{Body, CONTEXT, Change, ChangeError, ChangeKind, Sides, file_diff};
use crate::path::RelPath;
use crate::policy::{Policy, RuleInfo, Span, Verdict};

/// The version of the documents.
pub(super) const SCHEMA: u32 = 1;

/// A path below the workspace: text, and its bytes where it is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct JsonPath {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl From<&RelPath> for JsonPath {
    fn from(path: &RelPath) -> Self {
        let shown = if path.is_root() { b"." } else { path.as_bytes() };
        Self { path: String::from_utf8_lossy(shown).into_owned(), path_bytes: not_utf8(shown) }
    }
}

/// Bytes in base64, if they are not UTF-8.
fn not_utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| base64(bytes))
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4_usize {
            let letter = LETTERS.get((word >> (18 - 6 * i) & 63) as usize).copied().unwrap_or(b'=');
            text.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// The contract's word for a verdict.
pub(super) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clear => "clear",
        Verdict::Redact => "redact",
        Verdict::Hide => "hide",
    }
}

/// `audit --json` and `check --json`.
#[derive(Debug, Serialize)]
pub(super) struct Audit {
    /// Always [`SCHEMA`].
    pub(super) schema: u32,
    /// One a path.
    pub(super) entries: Vec<Entry>,
}

/// A judged path.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    path: JsonPath,
    verdict: &'static str,
    rule: Option<String>,
    source: Option<String>,
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spans: Option<Vec<JsonSpan>>,
}

impl Entry {
    /// An entry without spans; `rule` is the one that decided.
    pub(super) fn new(path: &RelPath, verdict: Verdict, rule: Option<&RuleInfo>) -> Self {
        Self {
            path: path.into(),
            verdict: verdict_word(verdict),
            rule: rule.map(|r| r.id.to_string()),
            source: rule.map(|r| r.source.to_string()),
            line: rule.map(|r| r.line),
            spans: None,
        }
    }

    /// With the masked ranges of the file.
    pub(super) fn with_spans(mut self, policy: &Policy, spans: &[Span]) -> Self {
        let span =
            |s: &Span| JsonSpan { rule: policy.rule(s.rule).id.to_string(), start: s.start, len: s.len };
        self.spans = Some(spans.iter().map(span).collect());
        self
    }
}

#[derive(Debug, Serialize)]
struct JsonSpan {
    rule: String,
    start: u64,
    len: u64,
}

/// A path outside the workspace, as text.
pub(super) fn path_text(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

/// `list --json`.
#[derive(Debug, Serialize)]
pub(super) struct ListDocument {
    /// Always [`SCHEMA`].
    pub(super) schema: u32,
    /// By name.
    pub(super) sessions: Vec<ListedSession>,
}

/// One session.
#[derive(Debug, Serialize)]
pub(super) struct ListedSession {
    /// Its name.
    pub(super) name: String,
    /// Its workspace.
    pub(super) workspace: String,
    /// Where it is mounted.
    pub(super) mountpoint: Option<String>,
    /// The contract's word.
    pub(super) state: &'static str,
    /// How many changes it has; `None` where that cannot be told.
    pub(super) changes: Option<usize>,
}

/// `status --json`.
#[derive(Debug, Serialize)]
pub(super) struct StatusDocument {
    /// Always [`SCHEMA`].
    pub(super) schema: u32,
    /// The session's name.
    pub(super) session: String,
    /// Its workspace.
    pub(super) workspace: String,
    /// Where it is mounted.
    pub(super) mountpoint: Option<String>,
    /// The contract's word.
    pub(super) state: &'static str,
    /// What changed.
    pub(super) changes: Vec<StatusChange>,
    /// What merged does not show.
    pub(super) hidden: Vec<StatusHidden>,
    /// What it shows masked.
    pub(super) redacted: Vec<StatusRedacted>,
}

/// One change.
#[derive(Debug, Serialize)]
pub(super) struct StatusChange {
    #[serde(flatten)]
    path: JsonPath,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    flags: Vec<&'static str>,
    /// Those of them that config.toml lets through.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    opened: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict: Option<String>,
}

impl StatusChange {
    /// From the change model.
    pub(super) fn new(change: &Change, gates: &crate::apply::OpenGates) -> Self {
        let is_open = |f: &&crate::change::Raised| gates.opens(change, f.flag).is_some();
        let from = match &change.kind {
            ChangeKind::Renamed { from } => Some(String::from_utf8_lossy(from.as_bytes()).into_owned()),
            _ => None,
        };
        Self {
            path: (&change.path).into(),
            kind: change.kind.as_str(),
            from,
            flags: change.flags.iter().map(|f| f.flag.as_str()).collect(),
            opened: change.flags.iter().filter(is_open).map(|f| f.flag.as_str()).collect(),
            conflict: change.conflict.as_ref().map(ToString::to_string),
        }
    }
}

/// One hidden entry.
#[derive(Debug, Serialize)]
pub(super) struct StatusHidden {
    #[serde(flatten)]
    path: JsonPath,
    rule: String,
}

impl StatusHidden {
    /// With the rule that hides it.
    pub(super) fn new(path: &RelPath, rule: &str) -> Self {
        Self { path: path.into(), rule: rule.to_owned() }
    }
}

/// One redacted file.
#[derive(Debug, Serialize)]
pub(super) struct StatusRedacted {
    #[serde(flatten)]
    path: JsonPath,
    rules: BTreeSet<String>,
    spans: usize,
}

impl StatusRedacted {
    /// With the rules that mask something in it.
    pub(super) fn new(path: &RelPath, policy: &Policy, spans: &[Span]) -> Self {
        let rules = spans.iter().map(|s| policy.rule(s.rule).id.to_string()).collect();
        Self { path: path.into(), rules, spans: spans.len() }
    }
}

/// `diff --json`.
#[derive(Debug, Serialize)]
pub(super) struct DiffDocument {
    /// Always [`SCHEMA`].
    pub(super) schema: u32,
    /// One a change.
    pub(super) files: Vec<DiffFile>,
}

/// The hunks of one change.
#[derive(Debug, Serialize)]
pub(super) struct DiffFile {
    #[serde(flatten)]
    path: JsonPath,
    kind: &'static str,
    hunks: Vec<JsonHunk>,
}

#[derive(Debug, Serialize)]
struct JsonHunk {
    id: String,
    old_start: u32,
    old_lines: u32,
    new_start: u32,
    new_lines: u32,
}

impl DiffFile {
    /// Reads both sides; a change that has no text has no hunks.
    pub(super) fn new(sides: &Sides<'_>, change: &Change) -> Result<Self, ChangeError> {
        let mut hunks = Vec::new();
        for piece in file_diff(sides, change)?.pieces {
            let Body::Text(text) = &piece.body else { continue };
            hunks.extend(text.hunks(&change.path, CONTEXT).into_iter().map(|h| JsonHunk {
                id: h.id,
                old_start: h.old_start,
                old_lines: h.old_lines,
                new_start: h.new_start,
                new_lines: h.new_lines,
            }));
        }
        Ok(Self { path: (&change.path).into(), kind: change.kind.as_str(), hunks })
    }
}

/// `apply --json`, with and without `--dry-run`.
#[derive(Debug, Default, Serialize)]
pub(super) struct ApplyDocument {
    /// Always [`SCHEMA`].
    pub(super) schema: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    undone: Option<&'static str>,
    applied: Vec<JsonApplied>,
    kept: Vec<JsonReason>,
    conflicts: Vec<JsonReason>,
    gated: Vec<JsonGated>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<JsonNote>,
}

#[derive(Debug, Serialize)]
struct JsonNote {
    #[serde(flatten)]
    path: JsonPath,
    note: String,
}

#[derive(Debug, Serialize)]
struct JsonApplied {
    #[serde(flatten)]
    path: JsonPath,
    kind: String,
}

#[derive(Debug, Serialize)]
struct JsonReason {
    #[serde(flatten)]
    path: JsonPath,
    reason: String,
}

#[derive(Debug, Serialize)]
struct JsonGated {
    #[serde(flatten)]
    path: JsonPath,
    flags: Vec<String>,
}

impl ApplyDocument {
    /// What a plan would do. A plan that is refused applies nothing.
    pub(super) fn of_plan(plan: &Plan) -> Self {
        let mut document = Self::of(&plan.applied, &plan.kept, &plan.notes);
        if !plan.is_clean() {
            document.applied.clear();
        }
        let reason =
            |r: &crate::apply::Refusal| JsonReason { path: (&r.path).into(), reason: r.reason.to_string() };
        document.conflicts = plan.conflicts.iter().map(reason).collect();
        let gated = |g: &crate::apply::Gated| JsonGated {
            path: (&g.path).into(),
            flags: g.flags.iter().map(|f| f.flag.clone()).collect(),
        };
        document.gated = plan.gated.iter().map(gated).collect();
        document
    }

    /// What an apply did.
    pub(super) fn of_done(done: &Done) -> Self {
        Self::of(&done.applied, &done.kept, &done.notes)
    }

    /// What an undo took back.
    pub(super) fn of_undo(done: &Done) -> Self {
        Self { undone: Some(done.what.as_str()), ..Self::of(&done.applied, &done.kept, &done.notes) }
    }

    fn of(
        applied: &[crate::apply::Applied],
        kept: &[crate::apply::Kept],
        notes: &[crate::apply::Note],
    ) -> Self {
        let shown = applied.iter().filter(|a| !a.implied);
        Self {
            applied: shown.map(|a| JsonApplied { path: (&a.path).into(), kind: a.kind.clone() }).collect(),
            kept: kept
                .iter()
                .map(|k| JsonReason { path: (&k.path).into(), reason: k.reason.to_string() })
                .collect(),
            notes: notes
                .iter()
                .map(|n| JsonNote { path: (&n.path).into(), note: n.what.to_string() })
                .collect(),
            schema: SCHEMA,
            ..Self::default()
        }
    }
}

/// `discard --json`.
#[derive(Debug, Serialize)]
pub(super) struct DiscardDocument {
    schema: u32,
    discarded: Vec<JsonApplied>,
}

impl DiscardDocument {
    /// What was dropped.
    pub(super) fn new<'a>(dropped: impl Iterator<Item = &'a Change>) -> Self {
        let one = |c: &Change| JsonApplied { path: (&c.path).into(), kind: c.kind.as_str().to_owned() };
        Self { schema: SCHEMA, discarded: dropped.map(one).collect() }
    }
}

/// `rebase --json`.
#[derive(Debug, Serialize)]
pub(super) struct RebaseDocument {
    schema: u32,
    rebased: Vec<JsonRebased>,
    conflicts: Vec<JsonReason>,
}

#[derive(Debug, Serialize)]
struct JsonRebased {
    #[serde(flatten)]
    path: JsonPath,
    how: &'static str,
}

impl RebaseDocument {
    /// What was taken from lower, and what conflicts.
    pub(super) fn new(done: &crate::apply::Rebased) -> Self {
        let taken = |t: &crate::apply::Taken| JsonRebased { path: (&t.path).into(), how: t.how.as_str() };
        let reason =
            |r: &crate::apply::Refusal| JsonReason { path: (&r.path).into(), reason: r.reason.to_string() };
        Self {
            schema: SCHEMA,
            rebased: done.taken.iter().map(taken).collect(),
            conflicts: done.conflicts.iter().map(reason).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_the_rfc_has_it() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(b"\xff\xfe\xfd"), "//79");
    }

    #[test]
    fn a_path_that_is_not_utf8_comes_twice() {
        let json = |p: &[u8]| serde_json::to_string(&JsonPath::from(&RelPath::parse(p).unwrap())).unwrap();
        assert_eq!(json(b"a/b"), r#"{"path":"a/b"}"#);
        assert_eq!(json(b"a\xff"), "{\"path\":\"a\u{fffd}\",\"path_bytes\":\"Yf8=\"}");
        assert_eq!(json(b""), r#"{"path":"."}"#);
    }
}
