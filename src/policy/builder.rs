//! Puts a [`Policy`] together from the built-in rules, the user's, the workspace's and the command line.

use std::sync::Arc;

use super::options::{self, Choice, Options};
use super::paths::{self, PathRules};
use super::rules::{Registry, RuleError, RuleText};
use super::ruleset::{PathRule, RuleSet, builtin_texts};
use super::{Origin, Policy, RuleId, RuleInfo, detect, formats};

/// Collects rules; [`PolicyBuilder::build`] compiles them.
#[derive(Debug, Clone, Default)]
pub struct PolicyBuilder {
    texts: Vec<RuleText>,
    options: Vec<(Choice, String)>,
    strict: bool,
}

impl PolicyBuilder {
    /// The built-in rules alone.
    #[must_use]
    pub fn builtin() -> Self {
        Self::default()
    }

    /// Adds a user's rule file. It may add rules, replace one by its id (fields left out are inherited), switch some off
    /// (`disable = ["id"]`), turn `hide` into `redact` or `clear`, and name more ignore files (`ignore-files = [".gitignore"]`).
    /// A later file wins over an earlier one.
    ///
    /// # Errors
    /// [`RuleError`] names the file (`source`, as shown to people), the line and the rule.
    pub fn user_rules(&mut self, text: &str, source: &str) -> Result<&mut Self, RuleError> {
        self.add(text, source, Origin::User)
    }

    /// Adds a rule file found in the workspace ([`super::WORKSPACE_RULES`]). It may only hide or redact more.
    ///
    /// # Errors
    /// [`RuleError`] if it cannot be read whole or tries to show something.
    pub fn workspace_rules(&mut self, text: &str, source: &str) -> Result<&mut Self, RuleError> {
        self.add(text, source, Origin::Workspace)
    }

    /// Hides what matches a gitignore-style pattern (`--hide`). The last option that matches a path wins, so call these three in the
    /// order of the command line.
    ///
    /// # Errors
    /// [`RuleError`] if the pattern is malformed.
    pub fn hide(&mut self, pattern: &str) -> Result<&mut Self, RuleError> {
        self.option(Choice::Hide, pattern)
    }

    /// Redacts what matches a gitignore-style pattern (`--redact`).
    ///
    /// # Errors
    /// [`RuleError`] if the pattern is malformed.
    pub fn redact(&mut self, pattern: &str) -> Result<&mut Self, RuleError> {
        self.option(Choice::Redact, pattern)
    }

    /// Shows what matches a gitignore-style pattern, with nothing masked (`--show`).
    ///
    /// # Errors
    /// [`RuleError`] if the pattern is malformed.
    pub fn show(&mut self, pattern: &str) -> Result<&mut Self, RuleError> {
        self.option(Choice::Show, pattern)
    }

    /// Turns the entropy-based generic rules on (`--strict`).
    pub fn strict(&mut self, strict: bool) -> &mut Self {
        self.strict = strict;
        self
    }

    /// Compiles the policy.
    ///
    /// # Errors
    /// [`RuleError`] for the first rule that does not compile.
    pub fn build(&self) -> Result<Policy, RuleError> {
        // Most of the time that a mount takes to begin goes here, so one half does not wait for the other.
        std::thread::scope(|scope| {
            let loaded = scope.spawn(|| detect::load(&self.texts));
            let mut set = self.rule_set()?;
            let mut registry = Registry::new(set.disabled());
            let (rules, home) = path_rules(&mut set, &mut registry);
            let options = self.register_options(&mut registry);
            let paths = scope.spawn(move || PathRules::new(&rules));
            let content = detect::Detector::build(joined(loaded)?, &self.texts, self.strict, &mut registry)?;
            let paths = joined(paths);
            let options = Options::new(&options, &paths)?;
            if let Some(id) = registry.unknown().next() {
                return Err(set.unknown_id(id));
            }
            Ok(Policy {
                rules: registry.into_rules(),
                paths: Some(paths),
                options,
                content,
                home,
                ignore_files: set.ignore_files,
                digest: self.digest(),
            })
        })
    }

    fn rule_set(&self) -> Result<RuleSet, RuleError> {
        let mut set = RuleSet::builtin()?;
        // The user's word on built-in rules first, so that the order in which files were found does not matter.
        for origin in [Origin::User, Origin::Workspace] {
            self.texts.iter().filter(|t| t.origin == origin).try_for_each(|text| set.add(text))?;
        }
        Ok(set)
    }

    /// Gives the command line's patterns ids.
    fn register_options(&self, registry: &mut Registry) -> Vec<(Choice, String, RuleId)> {
        let register = |(position, (choice, pattern)): (u32, &(Choice, String))| {
            let id = registry.add(RuleInfo {
                id: pattern.as_str().into(),
                source: choice.option().into(),
                line: position,
                why: "named on the command line".into(),
                origin: Origin::CommandLine,
            });
            (*choice, pattern.clone(), id)
        };
        (1..).zip(&self.options).map(register).collect()
    }

    fn add(&mut self, text: &str, source: &str, origin: Origin) -> Result<&mut Self, RuleError> {
        let text = RuleText { text: text.into(), file: source.into(), origin };
        // Read now, so that the error comes where the file is named; what it means beside other files comes out in `build`.
        text.parse()?;
        self.texts.push(text);
        Ok(self)
    }

    fn option(&mut self, choice: Choice, pattern: &str) -> Result<&mut Self, RuleError> {
        let position = u32::try_from(self.options.len()).unwrap_or(u32::MAX).saturating_add(1);
        options::check(choice, pattern, position)?;
        self.options.push((choice, pattern.into()));
        Ok(self)
    }

    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(blake3::hash(bytes).as_bytes());
        };
        part(env!("CARGO_PKG_VERSION").as_bytes());
        part(&[paths::VERSION, detect::VERSION, formats::VERSION].map(u32::to_le_bytes).concat());
        for (name, text) in builtin_texts() {
            part(name.as_bytes());
            part(text.as_bytes());
        }
        for RuleText { text, file, origin } in &self.texts {
            part(&[*origin as u8]);
            part(file.as_bytes());
            part(text.as_bytes());
        }
        part(b"options");
        for (choice, pattern) in &self.options {
            part(choice.option().as_bytes());
            part(pattern.as_bytes());
        }
        part(&[u8::from(self.strict)]);
        *hasher.finalize().as_bytes()
    }
}

/// Path rules with their ids.
type PathRulesById = Vec<(RuleId, PathRule)>;

/// Patterns, each with the rule that it is of.
type PatternsOf = Vec<(Arc<str>, RuleId)>;

/// The path rules that are not switched off, with their ids, and the patterns of those for home directories.
fn path_rules(set: &mut RuleSet, registry: &mut Registry) -> (PathRulesById, PatternsOf) {
    let (mut rules, mut home) = (Vec::new(), Vec::new());
    for rule in std::mem::take(&mut set.paths) {
        if rule.info.origin != Origin::Workspace && registry.disabled(&rule.info.id) {
            continue;
        }
        let id = registry.add(rule.info.clone());
        if rule.home {
            home.extend(rule.patterns.iter().map(|(pattern, _)| (pattern.clone(), id)));
        }
        rules.push((id, rule));
    }
    (rules, home)
}

/// What a thread made; where it panicked, so does this one.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
