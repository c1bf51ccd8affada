//! Rule files: where they come from, how they are read, and what an error in one says. The schema is TOML; a file is taken whole
//! or refused with its name, the line, the rule's id and what to do about it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Origin, RuleId, RuleInfo};

/// What is wrong in a rule file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}{}: {problem}", .rule.as_ref().map(|id| format!(", rule `{id}`")).unwrap_or_default())]
pub struct RuleError {
    /// The file as shown to people.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The rule's id, where it is known.
    pub rule: Option<Arc<str>>,
    /// What is wrong, without a full stop.
    pub problem: String,
    /// What to do about it, a sentence for the `Hint:` line.
    pub hint: String,
}

/// One rule file.
#[derive(Debug, Clone)]
pub(super) struct RuleText {
    pub(super) text: String,
    pub(super) file: Arc<str>,
    pub(super) origin: Origin,
}

/// Hands out rule ids while a policy is built.
#[derive(Debug, Default)]
pub(super) struct Registry {
    rules: Vec<RuleInfo>,
    disabled: BTreeSet<String>,
}

impl Registry {
    /// A registry for a policy in which the user switched these rules off.
    pub(super) fn new(disabled: BTreeSet<String>) -> Self {
        Self { rules: Vec::new(), disabled }
    }

    /// Whether the user switched the rule off (or replaced it by one of their own).
    pub(super) fn disabled(&self, id: &str) -> bool {
        self.disabled.contains(id)
    }

    /// Registers a rule.
    pub(super) fn add(&mut self, info: RuleInfo) -> RuleId {
        let id = u32::try_from(self.rules.len()).unwrap_or(u32::MAX);
        self.rules.push(info);
        RuleId(id)
    }

    /// All that was registered, in the order of ids.
    pub(super) fn into_rules(self) -> Vec<RuleInfo> {
        self.rules
    }
}
