//! Rule files: where they come from, how they are read, and what an error in one says. The schema is TOML; a file is taken whole
//! or refused with its name, the line, the rule's id and what to do about it. The tables of path rules are read here, those of
//! content rules by `detect` out of the same [`Document`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Format, Origin, RuleId, RuleInfo, detect, formats};

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

/// A rule file cut into its tables.
#[derive(Debug)]
pub(super) struct Document<'a> {
    tables: BTreeMap<String, Vec<Table<'a>>>,
    /// Ids that are to be switched off.
    pub(super) disable: Vec<(String, u32)>,
    /// Names of files that are to be read as ignore files too.
    pub(super) ignore_files: Vec<(String, u32)>,
}

/// One `[[kind]]` table.
#[derive(Debug)]
pub(super) struct Table<'a> {
    text: &'a RuleText,
    value: Spanned<DeValue<'a>>,
    /// The rule's id, where the table has one.
    id: Option<Arc<str>>,
    /// The line on which the table begins.
    pub(super) line: u32,
}

impl RuleText {
    /// Parses the file.
    ///
    /// # Errors
    /// [`RuleError`] for what is not TOML, and for a key or a table that no rule file has.
    pub(super) fn parse(&self) -> Result<Document<'_>, RuleError> {
        let root = DeTable::parse(&self.text).map_err(|e| self.toml_error(&e, None))?.into_inner();
        let mut document =
            Document { tables: BTreeMap::new(), disable: Vec::new(), ignore_files: Vec::new() };
        for (key, value) in root {
            let line = self.line_at(key.span());
            match key.get_ref().as_ref() {
                "disable" => document.disable = self.strings(value)?,
                "ignore-files" => document.ignore_files = self.strings(value)?,
                name if name == "path"
                    || detect::TABLES.contains(&name)
                    || formats::TABLES.contains(&name) =>
                {
                    let tables = self.tables(value, name, line)?;
                    document.tables.insert(name.into(), tables);
                }
                name => {
                    let problem = format!("`{name}` is nothing that a rule file has");
                    let known = ["path"]
                        .iter()
                        .chain(detect::TABLES)
                        .chain(formats::TABLES)
                        .map(|t| format!("[[{t}]]"));
                    let known = known.collect::<Vec<_>>().join(", ");
                    let hint = format!("A rule file has `disable`, `ignore-files` and the tables {known}.");
                    return Err(self.error(line, None, problem, hint));
                }
            }
        }
        Ok(document)
    }

    fn strings(&self, value: Spanned<DeValue<'_>>) -> Result<Vec<(String, u32)>, RuleError> {
        let list = Vec::<Spanned<String>>::deserialize(value.into_deserializer());
        let list = list.map_err(|e| self.toml_error(&e, None))?;
        Ok(list.into_iter().map(|s| (s.get_ref().clone(), self.line_at(s.span()))).collect())
    }

    fn tables<'a>(
        &'a self,
        value: Spanned<DeValue<'a>>,
        name: &str,
        line: u32,
    ) -> Result<Vec<Table<'a>>, RuleError> {
        let DeValue::Array(items) = value.into_inner() else {
            let hint = format!("Write each rule as a table that begins with the line `[[{name}]]`.");
            return Err(self.error(line, None, format!("`{name}` is not a list of tables"), hint));
        };
        let tables = items.into_iter().map(|value| {
            let id = value.get_ref().get("id").and_then(|id| id.get_ref().as_str()).map(Into::into);
            Table { text: self, id, line: self.line_at(value.span()), value }
        });
        Ok(tables.collect())
    }

    /// The line of a byte range, from 1.
    pub(super) fn line_at(&self, span: Range<usize>) -> u32 {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        u32::try_from(memchr::memchr_iter(b'\n', before).count()).map_or(u32::MAX, |n| n.saturating_add(1))
    }

    /// An error in this file.
    pub(super) fn error(
        &self,
        line: u32,
        rule: Option<Arc<str>>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> RuleError {
        RuleError { file: self.file.clone(), line, rule, problem: problem.into(), hint: hint.into() }
    }

    fn toml_error(&self, error: &toml::de::Error, rule: Option<Arc<str>>) -> RuleError {
        let line = error.span().map_or(1, |span| self.line_at(span));
        let rule = rule.or_else(|| self.id_above(line));
        let hint = "Correct the line or take it out; nothing of the file is in force until it is right.";
        self.error(line, rule, error.message().trim_end_matches('.'), hint)
    }

    /// The id of the rule around a line of a file that cannot be parsed.
    fn id_above(&self, line: u32) -> Option<Arc<str>> {
        let lines: Vec<&str> = self.text.lines().take(line as usize).collect();
        let table = lines.iter().rev().take_while(|l| !l.trim_start().starts_with("[["));
        table.filter_map(|l| l.trim().strip_prefix("id")?.trim_start().strip_prefix('=')).next().and_then(
            |id| {
                let id = id.trim().trim_matches(['"', '\'']);
                (!id.is_empty()).then(|| id.into())
            },
        )
    }
}

impl<'a> Document<'a> {
    /// Takes the tables of one name out, in the order of the file.
    pub(super) fn take(&mut self, name: &str) -> Vec<Table<'a>> {
        self.tables.remove(name).unwrap_or_default()
    }
}

impl<'a> Table<'a> {
    /// Reads the table into a type.
    ///
    /// # Errors
    /// [`RuleError`] with the line of the field that does not fit.
    pub(super) fn read<T: Deserialize<'a>>(self) -> Result<T, RuleError> {
        let Self { text, value, id, .. } = self;
        T::deserialize(value.into_deserializer()).map_err(|e| text.toml_error(&e, id))
    }
}

/// What a path rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Action {
    Redact,
    Gate,
    Hide,
    Open,
    Clear,
}

/// What sort of object a path rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Only {
    /// Anything but directories.
    File,
    /// Directories, and links, which may lead to one.
    Dir,
}

/// A `[[path]]` table as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPath {
    pub(super) id: String,
    pub(super) why: Option<String>,
    pub(super) action: Option<Action>,
    #[serde(rename = "match")]
    pub(super) patterns: Option<Vec<Spanned<String>>>,
    pub(super) except: Option<Vec<Spanned<String>>>,
    pub(super) kind: Option<Only>,
    pub(super) format: Option<Format>,
    pub(super) home: Option<bool>,
    pub(super) generic: Option<bool>,
    #[serde(default)]
    pub(super) examples: Vec<String>,
    #[serde(default)]
    pub(super) negatives: Vec<String>,
}

/// Hands out rule ids while a policy is built.
#[derive(Debug, Default)]
pub(super) struct Registry {
    rules: Vec<RuleInfo>,
    disabled: BTreeMap<String, bool>,
}

impl Registry {
    /// A registry for a policy in which the user switched these rules off.
    pub(super) fn new(disabled: BTreeSet<String>) -> Self {
        Self { rules: Vec::new(), disabled: disabled.into_iter().map(|id| (id, false)).collect() }
    }

    /// Whether the user switched the rule off. Ask for every rule: an id that nobody asked for is one that does not exist.
    pub(super) fn disabled(&mut self, id: &str) -> bool {
        self.disabled.get_mut(id).map(|asked| *asked = true).is_some()
    }

    /// Ids that were switched off although no rule has them.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.disabled.iter().filter(|(_, asked)| !**asked).map(|(id, _)| id.as_str())
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
