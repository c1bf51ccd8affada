//! The path rules in force, once all rule files have had their say: the built-in ones, the user's additions, replacements and
//! switches, and what the workspace adds. A workspace file that tries to show or switch off something is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pattern::{Folded, Pattern};
use super::rules::{Action, Only, RawPath, RuleError, RuleText, Table};
use super::{Format, Origin, RuleInfo, detect, formats};

/// The name under which the built-in path rules are shown.
pub(super) const BUILTIN_FILE: &str = "built-in paths.toml";

/// The built-in path rules.
pub(super) const BUILTIN: &str = include_str!("../../rules/paths.toml");

/// Patterns as written, and what each compiles to.
type Written = Vec<(Arc<str>, Vec<Pattern>)>;

/// A path rule, resolved: what it inherits is filled in.
#[derive(Debug, Clone)]
pub(super) struct PathRule {
    pub(super) info: RuleInfo,
    pub(super) action: Action,
    pub(super) patterns: Written,
    pub(super) except: Vec<Pattern>,
    pub(super) kind: Option<Only>,
    pub(super) format: Option<Format>,
    /// Matters in the user's home directory as well.
    pub(super) home: bool,
    /// The name alone is no sign of a secret: copies of such a file are masked like it, not hidden.
    pub(super) generic: bool,
}

impl PathRule {
    /// Whether the rule by itself matches a path; one that ends in a slash is a directory.
    pub(super) fn matches(&self, path: &str) -> bool {
        let is_dir = path.ends_with('/');
        let fits = match self.kind {
            None => true,
            Some(Only::File) => !is_dir,
            Some(Only::Dir) => is_dir,
        };
        let folded = Folded::new(path.trim_end_matches('/').as_bytes());
        let hit = |patterns: &[Pattern]| patterns.iter().any(|p| p.matches(&folded, is_dir));
        fits && self.patterns.iter().any(|(_, patterns)| hit(patterns)) && !hit(&self.except)
    }

    /// What is wrong with a rule whose examples do not match or whose counter-examples do.
    fn disproved_by(&self, examples: &[String], negatives: &[String]) -> Option<String> {
        let missed =
            examples.iter().find(|e| !self.matches(e)).map(|e| format!("its example `{e}` does not match"));
        missed.or_else(|| {
            negatives.iter().find(|n| self.matches(n)).map(|n| format!("its negative `{n}` matches"))
        })
    }
}

/// All rule files merged.
#[derive(Debug, Default)]
pub(super) struct RuleSet {
    pub(super) paths: Vec<PathRule>,
    /// Ids switched off, with the file and line that did it.
    disabled: BTreeMap<String, (Arc<str>, u32)>,
    /// Further names of ignore files.
    pub(super) ignore_files: BTreeSet<String>,
}

impl RuleSet {
    /// The built-in rules.
    ///
    /// # Errors
    /// [`RuleError`] if they do not compile, which a test rules out.
    pub(super) fn builtin() -> Result<Self, RuleError> {
        let text = RuleText { text: BUILTIN.into(), file: BUILTIN_FILE.into(), origin: Origin::BuiltIn };
        let mut set = Self::default();
        set.add(&text)?;
        Ok(set)
    }

    /// Adds a rule file.
    ///
    /// # Errors
    /// [`RuleError`] for the first thing in it that cannot be done; the set is then not to be used.
    pub(super) fn add(&mut self, text: &RuleText) -> Result<(), RuleError> {
        let mut document = text.parse()?;
        if let (Origin::Workspace, Some((id, line))) = (text.origin, document.disable.first()) {
            return Err(text.error(
                *line,
                Some(id.as_str().into()),
                "a workspace file cannot switch rules off",
                ONLY_MORE,
            ));
        }
        for (name, line) in std::mem::take(&mut document.ignore_files) {
            if name.is_empty() || name.contains(['/', '\0']) {
                return Err(text.error(
                    line,
                    None,
                    format!("`{name}` is not a file name"),
                    "Give names without a slash.",
                ));
            }
            self.ignore_files.insert(name);
        }
        for (id, line) in std::mem::take(&mut document.disable) {
            self.disabled.insert(id, (text.file.clone(), line));
        }
        let mut seen = BTreeSet::new();
        for table in document.take("path") {
            let rule = self.resolve(text, table)?;
            if !seen.insert(rule.info.id.clone()) {
                return Err(text.error(
                    rule.info.line,
                    Some(rule.info.id),
                    "the id is used twice in this file",
                    "Give each rule an id of its own.",
                ));
            }
            self.insert(rule);
        }
        Ok(())
    }

    /// Puts a rule in the place of the one that it replaces, or behind all others.
    fn insert(&mut self, rule: PathRule) {
        if rule.info.origin == Origin::User {
            self.disabled.remove(&*rule.info.id);
        }
        match self.replaced(rule.info.origin, &rule.info.id).and_then(|at| self.paths.get_mut(at)) {
            Some(slot) => *slot = rule,
            None => self.paths.push(rule),
        }
    }

    /// The rule that one of the user's with this id replaces.
    fn replaced(&self, origin: Origin, id: &str) -> Option<usize> {
        let replaces = origin == Origin::User;
        self.paths.iter().position(|r| replaces && *r.info.id == *id && r.info.origin != Origin::Workspace)
    }

    /// Reads one table; what a replacing rule leaves out is inherited.
    fn resolve(&self, text: &RuleText, table: Table<'_>) -> Result<PathRule, RuleError> {
        let line = table.line;
        let raw: RawPath = table.read()?;
        let id = Arc::<str>::from(raw.id.as_str());
        let fail = |problem: &str, hint: &str| text.error(line, Some(id.clone()), problem, hint);
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        {
            return Err(fail(
                "an id may hold letters, digits, `-`, `_` and `.` only",
                "Choose a plainer id.",
            ));
        }
        let old = self.replaced(text.origin, &id).and_then(|at| self.paths.get(at));
        let Some(action) = raw.action.or(old.map(|r| r.action)) else {
            let hint = "Say `action = \"hide\"`, `redact`, `gate`, `open` or `clear`.";
            return Err(fail("a new rule has no `action`", hint));
        };
        check_action(text.origin, action).map_err(|problem| fail(problem, ONLY_MORE))?;
        let patterns = match (&raw.patterns, old) {
            (None, Some(old)) => old.patterns.clone(),
            (patterns, _) => compile_all(text, &id, patterns.as_deref().unwrap_or_default())?,
        };
        if patterns.is_empty() {
            return Err(fail(
                "a rule has no patterns",
                "Say `match = [\"name\", \"*.ext\", \"directory/\"]`.",
            ));
        }
        let except = match (&raw.except, old) {
            (None, Some(old)) => old.except.clone(),
            (except, _) => {
                let compiled = compile_all(text, &id, except.as_deref().unwrap_or_default())?;
                compiled.into_iter().flat_map(|(_, patterns)| patterns).collect()
            }
        };
        let why = raw.why.as_deref().map(Into::into).or(old.map(|r| r.info.why.clone()));
        let why = why.unwrap_or_else(|| format!("a rule of {}", text.file).into());
        let rule = PathRule {
            info: RuleInfo { id: id.clone(), source: text.file.clone(), line, why, origin: text.origin },
            action,
            patterns,
            except,
            kind: raw.kind.or(old.and_then(|r| r.kind)),
            format: raw.format.or(old.and_then(|r| r.format)),
            home: raw.home.or(old.map(|r| r.home)).unwrap_or_default(),
            generic: raw.generic.or(old.map(|r| r.generic)).unwrap_or_default(),
        };
        match rule.disproved_by(&raw.examples, &raw.negatives).filter(|_| text.origin != Origin::BuiltIn) {
            // The built-in rules are tested as a whole, which says more and costs nobody's start.
            None => Ok(rule),
            Some(problem) => {
                Err(fail(&problem, "Correct the rule's patterns, or its `examples` and `negatives`."))
            }
        }
    }

    /// The ids that the user switched off, of path rules and of others.
    pub(super) fn disabled(&self) -> BTreeSet<String> {
        self.disabled.keys().cloned().collect()
    }

    /// The error about an id that was switched off and does not exist.
    pub(super) fn unknown_id(&self, id: &str) -> RuleError {
        let (file, line) = self.disabled.get(id).cloned().unwrap_or_else(|| ("rules".into(), 0));
        RuleError {
            file,
            line,
            rule: Some(id.into()),
            problem: "there is no rule with this id to switch off".into(),
            hint:
                "Correct the id; `scrubfs check PATH` and `scrubfs audit` show the ids of rules that match."
                    .into(),
        }
    }
}

const ONLY_MORE: &str =
    "A rule file in the workspace may only hide or redact more; move the rule to your own rules file.";

fn check_action(origin: Origin, action: Action) -> Result<(), &'static str> {
    match (origin, action) {
        (Origin::Workspace, Action::Open | Action::Clear) => Err("a workspace file cannot show anything"),
        (Origin::BuiltIn, Action::Clear) => Err("a built-in rule cannot switch masking off"),
        _ => Ok(()),
    }
}

/// Compiles patterns, each beside what was written.
fn compile_all(
    text: &RuleText,
    id: &Arc<str>,
    patterns: &[toml::Spanned<String>],
) -> Result<Written, RuleError> {
    let compile = |pattern: &toml::Spanned<String>| match Pattern::parse(pattern.get_ref()) {
        Ok(compiled) => Ok((Arc::from(pattern.get_ref().as_str()), compiled)),
        Err(problem) => {
            let hint = "Patterns look like `name`, `*.ext`, `directory/`, `directory/name`, `directory/**`.";
            Err(text.error(text.line_at(pattern.span()), Some(id.clone()), problem, hint))
        }
    };
    patterns.iter().map(compile).collect()
}

/// All built-in rule files: name, text. The digest covers them.
pub(super) fn builtin_texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    std::iter::once((BUILTIN_FILE, BUILTIN)).chain(detect::BUILTIN.iter().copied()).chain([formats::BUILTIN])
}
