//! The JSON documents of the listing commands, as types. Each has `"schema": 1`; a path that is not UTF-8 comes also as base64. No
//! document has a place for a secret's value.

use serde::Serialize;

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
