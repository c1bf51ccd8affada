//! Puts a [`Policy`] together from the built-in rules, the user's, the workspace's and the command line.

use std::collections::BTreeSet;

use super::rules::{Registry, RuleError, RuleText};
use super::{Origin, Policy, RuleInfo, detect};

/// Collects rules; [`PolicyBuilder::build`] compiles them.
#[derive(Debug, Clone, Default)]
pub struct PolicyBuilder {
    texts: Vec<RuleText>,
    options: Vec<(PathOption, String)>,
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathOption {
    Hide,
    Redact,
    Show,
}

impl PolicyBuilder {
    /// The built-in rules alone.
    #[must_use]
    pub fn builtin() -> Self {
        Self::default()
    }

    /// Adds a user's rule file. It may add rules, replace one by its id (fields left out are inherited), switch some off
    /// (`disable = ["id"]`), and turn `hide` into `redact` or `clear`. A later file wins over an earlier one.
    ///
    /// # Errors
    /// [`RuleError`] names the file (`source`, as shown to people), the line and the rule.
    pub fn user_rules(&mut self, text: &str, source: &str) -> Result<&mut Self, RuleError> {
        self.add(text, source, Origin::User)
    }

    /// Adds a rule file found in the workspace (`.scrubfs.toml`). It may only hide or redact more.
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
        self.option(PathOption::Hide, pattern)
    }

    /// Redacts what matches a gitignore-style pattern (`--redact`).
    ///
    /// # Errors
    /// [`RuleError`] if the pattern is malformed.
    pub fn redact(&mut self, pattern: &str) -> Result<&mut Self, RuleError> {
        self.option(PathOption::Redact, pattern)
    }

    /// Shows what matches a gitignore-style pattern, with nothing masked (`--show`).
    ///
    /// # Errors
    /// [`RuleError`] if the pattern is malformed.
    pub fn show(&mut self, pattern: &str) -> Result<&mut Self, RuleError> {
        self.option(PathOption::Show, pattern)
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
        let mut registry = Registry::new(BTreeSet::new());
        if !registry.disabled("dotenv") {
            registry.add(RuleInfo {
                id: "dotenv".into(),
                source: "built-in paths.toml".into(),
                line: 1,
                why: "".into(),
                origin: Origin::BuiltIn,
            });
        }
        let content = detect::Detector::build(&self.texts, self.strict, &mut registry)?;
        Ok(Policy { rules: registry.into_rules(), content, digest: self.digest() })
    }

    fn add(&mut self, text: &str, source: &str, origin: Origin) -> Result<&mut Self, RuleError> {
        self.texts.push(RuleText { text: text.into(), file: source.into(), origin });
        Ok(self)
    }

    fn option(&mut self, option: PathOption, pattern: &str) -> Result<&mut Self, RuleError> {
        self.options.push((option, pattern.into()));
        Ok(self)
    }

    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&detect::VERSION.to_le_bytes());
        for (name, text) in detect::BUILTIN {
            hasher.update(blake3::hash(name.as_bytes()).as_bytes());
            hasher.update(blake3::hash(text.as_bytes()).as_bytes());
        }
        for RuleText { text, file, origin } in &self.texts {
            hasher.update(&[*origin as u8]);
            hasher.update(blake3::hash(file.as_bytes()).as_bytes());
            hasher.update(blake3::hash(text.as_bytes()).as_bytes());
        }
        for (option, pattern) in &self.options {
            hasher.update(&[*option as u8]);
            hasher.update(blake3::hash(pattern.as_bytes()).as_bytes());
        }
        hasher.update(&[u8::from(self.strict)]);
        *hasher.finalize().as_bytes()
    }
}
