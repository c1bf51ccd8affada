//! Reads the `[[content]]` tables of rule files into compiled rules. A file is taken whole or refused with the line and what
//! to do. A user's table with the id of a built-in rule replaces it and inherits what it leaves out; a table in the workspace
//! can only add.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::checks::Checksum;
use super::native::Native;
use super::shape::{Left, Shape};
use crate::policy::rules::{RuleError, RuleText};
use crate::policy::{Origin, RuleInfo};

/// Where a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scope {
    /// In every file.
    #[default]
    All,
    /// Only in files that a path rule gives a format, or with `--strict`.
    Config,
    /// Only with `--strict`.
    Strict,
}

/// A string or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn all(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// Words that must stand near a match.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Near {
    /// Any of these, case folded; in lower case, once the rule is compiled.
    pub(super) keywords: Vec<String>,
    /// Within so many bytes before or after.
    pub(super) within: usize,
}

impl Near {
    fn folded(mut self) -> Self {
        self.keywords.iter_mut().for_each(|keyword| keyword.make_ascii_lowercase());
        self
    }
}

/// What is never masked although it matches.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Except {
    /// Substrings of the secret.
    pub(super) words: Vec<String>,
    /// A regular expression over the secret.
    pub(super) regex: Option<String>,
}

/// A `[[content]]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    id: String,
    why: Option<String>,
    shape: Option<Texts>,
    regex: Option<String>,
    native: Option<Native>,
    keywords: Option<Vec<String>>,
    secret: Option<usize>,
    left: Option<Left>,
    near: Option<Near>,
    entropy: Option<f64>,
    checksum: Option<Checksum>,
    scope: Option<Scope>,
    except: Option<Except>,
    examples: Option<Vec<String>>,
    negatives: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    content: Vec<Spanned<Table>>,
}

/// What finds the candidates of a rule.
#[derive(Debug, Clone)]
pub(super) enum Finder {
    /// Shapes with literals of their own.
    Shapes(Vec<Shape>),
    /// Shapes of values that are assigned to one of these names.
    Assigned { keywords: Vec<String>, shapes: Vec<Shape> },
    /// A regular expression near one of these literals; the number of the capture group that is secret.
    Regex { keywords: Vec<String>, regex: Box<regex::bytes::Regex>, group: usize },
    /// Code.
    Native(Native),
}

/// One compiled rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) info: RuleInfo,
    pub(super) finder: Finder,
    pub(super) near: Option<Near>,
    pub(super) entropy: f64,
    pub(super) checksum: Option<Checksum>,
    pub(super) scope: Scope,
    pub(super) except_words: Vec<memchr::memmem::Finder<'static>>,
    pub(super) except_regex: Option<Box<regex::bytes::Regex>>,
    /// Texts in which this rule finds something (the part in parentheses), and texts in which it does not.
    pub(super) examples: Vec<Shape>,
    #[cfg_attr(not(test), expect(dead_code, reason = "rules carry their counter-examples; tests run them"))]
    pub(super) negatives: Vec<String>,
}

/// All rules of the built-in file and of `texts`, in the order of their ids' first appearance.
pub(super) fn load(texts: &[RuleText]) -> Result<Vec<Rule>, RuleError> {
    let builtin =
        RuleText { text: super::TOKENS.into(), file: "built-in tokens.toml".into(), origin: Origin::BuiltIn };
    let mut tables: Vec<(Table, Arc<str>, u32, Origin)> = Vec::new();
    let mut by_id: BTreeMap<String, usize> = BTreeMap::new();
    for text in std::iter::once(&builtin).chain(texts) {
        let file: File = toml::from_str(&text.text).map_err(|e| syntax(text, &e))?;
        for table in file.content {
            let line = text.line_at(table.span());
            let table = table.into_inner();
            let error = |problem: &str, hint: &str| refuse(text, line, &table.id, problem, hint);
            match by_id.get(&table.id).copied() {
                _ if table.id.is_empty() => return Err(error("the rule has no id", "Give it `id = \"…\"`.")),
                Some(_) if text.origin == Origin::Workspace => {
                    return Err(error(
                        "a rule of this id exists, and a workspace can only add",
                        "Choose another id.",
                    ));
                }
                Some(_) if text.origin == Origin::BuiltIn => {
                    return Err(error("two rules have this id", "Choose another id."));
                }
                Some(at) => {
                    if let Some(slot) = tables.get_mut(at) {
                        let inherited = slot.0.clone();
                        *slot = (table.or(inherited), Arc::clone(&text.file), line, text.origin);
                    }
                }
                None => {
                    by_id.insert(table.id.clone(), tables.len());
                    tables.push((table, Arc::clone(&text.file), line, text.origin));
                }
            }
        }
    }
    tables.into_iter().map(|(table, file, line, origin)| compile(table, &file, line, origin)).collect()
}

impl Table {
    /// This table, and what it leaves out from another.
    fn or(self, other: Self) -> Self {
        let finder = self.shape.is_some() || self.regex.is_some() || self.native.is_some();
        let inherit = |theirs| if finder { None } else { theirs };
        Self {
            id: self.id,
            why: self.why.or(other.why),
            shape: self.shape.or(inherit(other.shape)),
            regex: self.regex.or(if finder { None } else { other.regex }),
            native: self.native.or(if finder { None } else { other.native }),
            keywords: self.keywords.or(if finder { None } else { other.keywords }),
            secret: self.secret.or(if finder { None } else { other.secret }),
            left: self.left.or(other.left),
            near: self.near.or(other.near),
            entropy: self.entropy.or(other.entropy),
            checksum: self.checksum.or(other.checksum),
            scope: self.scope.or(other.scope),
            except: self.except.or(other.except),
            examples: self.examples.or(other.examples),
            negatives: self.negatives.or(other.negatives),
        }
    }
}

fn compile(table: Table, file: &Arc<str>, line: u32, origin: Origin) -> Result<Rule, RuleError> {
    let error = |problem: String| RuleError {
        file: Arc::clone(file),
        line,
        rule: Some(table.id.as_str().into()),
        problem,
        hint: "See the built-in tokens.toml for working examples.".into(),
    };
    let finder = finder(&table).map_err(error)?;
    let except = table.except.clone().unwrap_or_default();
    let except_regex = match &except.regex {
        Some(text) => Some(Box::new(bytes_regex(text).map_err(error)?)),
        None => None,
    };
    let mut examples = Vec::new();
    for text in table.examples.iter().flatten() {
        examples.extend(Shape::parse(text, Left::Any).map_err(error)?);
    }
    let info = RuleInfo {
        id: table.id.as_str().into(),
        source: Arc::clone(file),
        line,
        why: table.why.as_deref().unwrap_or("a secret").into(),
        origin,
    };
    Ok(Rule {
        info,
        finder,
        near: table.near.map(Near::folded),
        entropy: table.entropy.unwrap_or(0.0),
        checksum: table.checksum,
        scope: table.scope.unwrap_or_default(),
        except_words: except
            .words
            .iter()
            .map(|word| memchr::memmem::Finder::new(word.as_bytes()).into_owned())
            .collect(),
        except_regex,
        examples,
        negatives: table.negatives.unwrap_or_default(),
    })
}

fn finder(table: &Table) -> Result<Finder, String> {
    let left = table.left.unwrap_or_default();
    let keywords = table.keywords.clone().unwrap_or_default();
    match (&table.shape, &table.regex, table.native) {
        (Some(texts), None, None) => {
            let mut shapes = Vec::new();
            for text in texts.all() {
                shapes.extend(Shape::parse(text, left)?);
            }
            if !keywords.is_empty() {
                return long_enough(keywords).map(|keywords| Finder::Assigned { keywords, shapes });
            }
            match shapes
                .iter()
                .all(|s| s.anchor().is_some_and(|(bytes, next)| bytes.len() > 3 || next.is_some()))
            {
                true => Ok(Finder::Shapes(shapes)),
                false => Err("a shape without `keywords` needs a literal of three bytes or more".into()),
            }
        }
        (None, Some(text), None) => {
            let keywords = long_enough(keywords)?;
            if keywords.is_empty() {
                return Err("a rule with a `regex` needs `keywords`".into());
            }
            let regex = bytes_regex(text)?;
            let group = table.secret.unwrap_or(usize::from(regex.captures_len() > 1));
            if group >= regex.captures_len() {
                return Err(format!("the regex has no group {group}"));
            }
            Ok(Finder::Regex { keywords, regex: Box::new(regex), group })
        }
        (None, None, Some(native)) => Ok(Finder::Native(native)),
        _ => Err("a rule has one of `shape`, `regex` and `native`".into()),
    }
}

fn long_enough(keywords: Vec<String>) -> Result<Vec<String>, String> {
    match keywords.iter().find(|k| k.len() < 4) {
        Some(short) => Err(format!("the keyword `{short}` is shorter than four bytes")),
        None => Ok(keywords),
    }
}

/// Compiles a regular expression over bytes, bounded in size.
fn bytes_regex(text: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(text)
        .unicode(false)
        .size_limit(1 << 20)
        .dfa_size_limit(1 << 20)
        .build()
        .map_err(|e| format!("the regular expression does not compile: {e}"))
}

fn syntax(text: &RuleText, error: &toml::de::Error) -> RuleError {
    let at = error.span().map_or(0, |span| span.start);
    refuse(
        text,
        text.line_at(at..at),
        "",
        error.message(),
        "Correct the file; see the built-in tokens.toml for the fields.",
    )
}

fn refuse(text: &RuleText, line: u32, id: &str, problem: &str, hint: &str) -> RuleError {
    RuleError {
        file: Arc::clone(&text.file),
        line,
        rule: (!id.is_empty()).then(|| id.into()),
        problem: problem.into(),
        hint: hint.into(),
    }
}
