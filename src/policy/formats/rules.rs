//! Reads the tables of format rules: `[[keyname]]` (names whose values are secret), `[[setting]]` (names whose values are not, and
//! words that clear a secret name) and `[[format]]` (how much a format shows). A user's table with the id of a built-in one replaces
//! it and inherits what it leaves out; the workspace can only add names that are secret.

use std::sync::Arc;

use serde::Deserialize;

use crate::policy::rules::{Document, RuleError, RuleText, Table};
use crate::policy::{Format, Origin, RuleInfo};

/// A `[[keyname]]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeyName {
    pub(super) id: String,
    pub(super) why: Option<String>,
    /// Phrases of lower-case words; `*word` is the end of a word.
    pub(super) names: Vec<String>,
    /// Words before a phrase that make it harmless.
    pub(super) before: Vec<String>,
    /// Words after a phrase that make it harmless.
    pub(super) after: Vec<String>,
    /// Words that make other phrases harmless, but not these.
    pub(super) keeps: Vec<String>,
    pub(super) container: Option<bool>,
    pub(super) numbers: Option<bool>,
    pub(super) formats: Vec<Format>,
    pub(super) examples: Vec<String>,
    pub(super) negatives: Vec<String>,
}

/// A `[[setting]]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    pub(super) id: String,
    pub(super) why: Option<String>,
    /// Phrases in which a harmless name ends.
    pub(super) names: Vec<String>,
    /// Words that make a secret name after them harmless.
    pub(super) before: Vec<String>,
    /// Words that make a secret name before them harmless.
    pub(super) after: Vec<String>,
    pub(super) formats: Vec<Format>,
    pub(super) examples: Vec<String>,
    pub(super) negatives: Vec<String>,
}

/// Which values of a format are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Masked {
    /// Those of secret keys.
    #[default]
    SecretKeys,
    /// These, and what looks random.
    SecretKeysAndRandom,
    /// All but those of keys that are known to be harmless.
    AllButHarmless,
}

/// A `[[format]]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FormatRule {
    pub(super) id: String,
    pub(super) why: Option<String>,
    pub(super) formats: Vec<Format>,
    pub(super) masked: Option<Masked>,
    /// Texts in which what stands between `«` and `»` is masked, and nothing else.
    pub(super) examples: Vec<String>,
    /// Texts in which nothing is masked.
    pub(super) negatives: Vec<String>,
}

/// A table that all three kinds are read as.
pub(super) trait Rule: Clone + for<'a> Deserialize<'a> {
    /// Its name in a rule file.
    const TABLE: &'static str;
    /// Whether a rule file in the workspace may hold it: only what masks more.
    const ADDS_ONLY: bool;

    fn id(&self) -> &str;
    fn why(&self) -> Option<&str>;
    /// Fills in what is left out.
    fn inherit(&mut self, from: &Self);
    /// What is wrong with it.
    fn problem(&self) -> Option<String>;
}

impl KeyName {
    pub(super) fn applies(&self, format: Format) -> bool {
        self.formats.is_empty() || self.formats.contains(&format)
    }
}

impl Settings {
    pub(super) fn applies(&self, format: Format) -> bool {
        self.formats.is_empty() || self.formats.contains(&format)
    }
}

fn or(list: &mut Vec<String>, other: &[String]) {
    if list.is_empty() {
        list.extend_from_slice(other);
    }
}

fn bad_phrase(phrases: &[String]) -> Option<String> {
    let good = |phrase: &String| {
        let plain = phrase.strip_prefix('*').unwrap_or(phrase);
        !plain.is_empty()
            && plain
                .split(' ')
                .all(|w| !w.is_empty() && !w.bytes().any(|b| !b.is_ascii_lowercase() && b.is_ascii()))
    };
    let bad = phrases.iter().find(|p| !good(p))?;
    Some(format!("`{bad}` is not made of lower-case words with one space between them"))
}

impl Rule for KeyName {
    const TABLE: &'static str = "keyname";
    const ADDS_ONLY: bool = true;

    fn id(&self) -> &str {
        &self.id
    }

    fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    fn inherit(&mut self, from: &Self) {
        self.why = self.why.take().or_else(|| from.why.clone());
        or(&mut self.names, &from.names);
        or(&mut self.before, &from.before);
        or(&mut self.after, &from.after);
        or(&mut self.keeps, &from.keeps);
        self.container = self.container.or(from.container);
        self.numbers = self.numbers.or(from.numbers);
        if self.formats.is_empty() {
            self.formats.clone_from(&from.formats);
        }
    }

    fn problem(&self) -> Option<String> {
        if self.names.is_empty() {
            return Some("a key name rule has no `names`".into());
        }
        bad_phrase(&self.names).or_else(|| bad_phrase(&[&self.before[..], &self.after, &self.keeps].concat()))
    }
}

impl Rule for Settings {
    const TABLE: &'static str = "setting";
    const ADDS_ONLY: bool = false;

    fn id(&self) -> &str {
        &self.id
    }

    fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    fn inherit(&mut self, from: &Self) {
        self.why = self.why.take().or_else(|| from.why.clone());
        or(&mut self.names, &from.names);
        or(&mut self.before, &from.before);
        or(&mut self.after, &from.after);
        if self.formats.is_empty() {
            self.formats.clone_from(&from.formats);
        }
    }

    fn problem(&self) -> Option<String> {
        let all = [&self.names[..], &self.before, &self.after].concat();
        if all.is_empty() {
            return Some("a setting has none of `names`, `before` and `after`".into());
        }
        bad_phrase(&all)
    }
}

impl Rule for FormatRule {
    const TABLE: &'static str = "format";
    const ADDS_ONLY: bool = false;

    fn id(&self) -> &str {
        &self.id
    }

    fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    fn inherit(&mut self, from: &Self) {
        self.why = self.why.take().or_else(|| from.why.clone());
        self.masked = self.masked.or(from.masked);
        if self.formats.is_empty() {
            self.formats.clone_from(&from.formats);
        }
    }

    fn problem(&self) -> Option<String> {
        self.formats.is_empty().then(|| "a format rule names no `formats`".into())
    }
}

/// A rule and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Loaded<R> {
    pub(super) info: RuleInfo,
    pub(super) rule: R,
}

/// The rules of one kind in all rule files.
pub(super) fn load<R: Rule>(
    documents: &mut [(&RuleText, Document<'_>)],
) -> Result<Vec<Loaded<R>>, RuleError> {
    let mut rules: Vec<Loaded<R>> = Vec::new();
    for (text, document) in documents {
        for table in document.take(R::TABLE) {
            add(&mut rules, text, table)?;
        }
    }
    Ok(rules)
}

fn add<'a, R: Rule>(rules: &mut Vec<Loaded<R>>, text: &RuleText, table: Table<'a>) -> Result<(), RuleError> {
    let line = table.line;
    let mut rule: R = table.read()?;
    let id = Arc::<str>::from(rule.id());
    let fail = |problem: &str, hint: &str| text.error(line, Some(id.clone()), problem, hint);
    if id.is_empty() {
        return Err(text.error(line, None, "the rule has no id", "Give it `id = \"…\"`."));
    }
    if text.origin == Origin::Workspace && !R::ADDS_ONLY {
        let hint = "A rule file in the workspace may add `[[path]]`, `[[content]]` and `[[keyname]]` rules.";
        return Err(fail("a workspace file cannot say what is harmless", hint));
    }
    let old = rules.iter().position(|r| r.info.id == id);
    if old.is_some() && text.origin != Origin::User {
        return Err(fail("a rule of this id exists", "Choose another id."));
    }
    if let Some(old) = old.and_then(|at| rules.get(at)) {
        rule.inherit(&old.rule);
    }
    if let Some(problem) = rule.problem() {
        return Err(fail(&problem, "See the built-in formats.toml for working examples."));
    }
    let why = rule.why().map_or_else(|| format!("a rule of {}", text.file).into(), Into::into);
    let info = RuleInfo { id, source: text.file.clone(), line, why, origin: text.origin };
    let loaded = Loaded { info, rule };
    match old.and_then(|at| rules.get_mut(at)) {
        Some(slot) => *slot = loaded,
        None => rules.push(loaded),
    }
    Ok(())
}
