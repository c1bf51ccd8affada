//! The command line's say on paths: `--hide`, `--redact`, `--show`, with gitignore patterns relative to the workspace's root, upper
//! and lower case alike. The last option that matches an entry wins. `--show` and `--redact` of something in a hidden directory
//! make the way to it visible and leave everything else in there hidden; the pattern has to name that directory
//! (`--show .aws/config`). `--show` of a directory shows the directory: what is in it is judged as ever, and `--show 'dir/**'` shows
//! that as well. `--redact` of a directory redacts at least what is beneath it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::paths::PathRules;
use super::pattern::{fold, split};
use super::rules::RuleError;
use super::{Kind, PathAction, PathVerdict, RuleId};

/// What an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Hide,
    Redact,
    Show,
}

impl Choice {
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Hide => "--hide",
            Self::Redact => "--redact",
            Self::Show => "--show",
        }
    }
}

/// The options of one command line, in its order.
#[derive(Debug)]
pub(super) struct Options {
    given: Vec<Given>,
    all: Gitignore,
    redact: Gitignore,
    /// Directories that are hidden but on the way to something shown: the rule that hides them, and the option that shows.
    opened: HashMap<Box<[u8]>, (RuleId, RuleId)>,
}

#[derive(Debug)]
struct Given {
    choice: Choice,
    pattern: String,
    rule: RuleId,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            given: Vec::new(),
            all: Gitignore::empty(),
            redact: Gitignore::empty(),
            opened: HashMap::new(),
        }
    }
}

/// Says what is wrong with a pattern of the command line, if anything is.
pub(super) fn check(choice: Choice, pattern: &str, position: u32) -> Result<(), RuleError> {
    let problem = match pattern.trim_end().chars().next() {
        None => Some("the pattern is empty".to_owned()),
        Some('!') => {
            Some(format!("`{pattern}`: an exception is an option of its own (`--show` for `--hide`)"))
        }
        Some('#') => Some(format!("`{pattern}` is a comment")),
        Some(_) => GitignoreBuilder::new("").add_line(None, pattern).err().map(|e| e.to_string()),
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(RuleError {
            file: choice.option().into(),
            line: position,
            rule: Some(pattern.into()),
            problem,
            hint: "Patterns are those of gitignore: `name`, `*.ext`, `dir/`, `/from/the/root`, `dir/**`; `\\!` and `\\#` \
                   stand for a leading `!` and `#`."
                .into(),
        }),
    }
}

impl Options {
    /// Compiles checked options.
    ///
    /// # Errors
    /// [`RuleError`] if all patterns together are too large.
    pub(super) fn new(options: &[(Choice, String, RuleId)], rules: &PathRules) -> Result<Self, RuleError> {
        let given: Vec<_> = options
            .iter()
            .map(|(choice, pattern, rule)| Given { choice: *choice, pattern: pattern.clone(), rule: *rule })
            .collect();
        let all = compile(given.iter())?;
        let redact = compile(given.iter().filter(|g| g.choice == Choice::Redact))?;
        let mut options = Self { given, all, redact, opened: HashMap::new() };
        for index in 0..options.given.len() {
            options.open_the_way(index, rules);
        }
        Ok(options)
    }

    /// The option that names this very entry.
    fn naming(&self, path: &[u8], kind: Kind) -> Option<(usize, &Given)> {
        let index = last_match(&self.all, path, kind)?;
        self.given.get(index).map(|given| (index, given))
    }

    /// What the options and then the rules say about a path.
    pub(super) fn judge(&self, path: &[u8], kind: Kind, rules: &PathRules) -> PathVerdict {
        if self.given.is_empty() {
            return rules.judge(path, kind);
        }
        // Whether a later option hides it was asked when the way was opened.
        if !self.opened.is_empty()
            && kind != Kind::File
            && let Some((_, shown_by)) = self.opened.get(fold(path).as_ref())
        {
            return PathVerdict { action: PathAction::Open, rule: Some(*shown_by) };
        }
        if let Some((_, given)) = self.naming(path, kind) {
            let action = match (given.choice, kind) {
                (Choice::Hide, _) => PathAction::Hide,
                (Choice::Show, _) => PathAction::Clear,
                (Choice::Redact, Kind::File) => PathAction::Redact(rules.format(path).into()),
                (Choice::Redact, Kind::Dir | Kind::Symlink | Kind::Other) => PathAction::Open,
            };
            return PathVerdict { action, rule: Some(given.rule) };
        }
        if let Some(hidden_by) = self.beside_the_way(path) {
            return PathVerdict { action: PathAction::Hide, rule: Some(hidden_by) };
        }
        let verdict = rules.judge(path, kind);
        if kind == Kind::File && verdict.action.strictness() < PathAction::Gate.strictness() {
            let above = ancestors(path).find_map(|dir| last_match(&self.redact, dir, Kind::Dir));
            if let Some(given) =
                above.and_then(|at| self.given.iter().filter(|g| g.choice == Choice::Redact).nth(at))
            {
                return PathVerdict {
                    action: PathAction::Redact(rules.format(path).into()),
                    rule: Some(given.rule),
                };
            }
        }
        verdict
    }

    /// The rule that hides what is in an opened directory without being on the way itself.
    fn beside_the_way(&self, path: &[u8]) -> Option<RuleId> {
        if self.opened.is_empty() {
            return None;
        }
        for dir in ancestors(path) {
            if let Some((hidden_by, _)) = self.opened.get(fold(dir).as_ref()) {
                return Some(*hidden_by);
            }
            if self.naming(dir, Kind::Dir).is_some_and(|(_, given)| given.choice != Choice::Hide) {
                return None;
            }
        }
        None
    }

    /// Finds the hidden directories that an option's pattern names on its way.
    fn open_the_way(&mut self, index: usize, rules: &PathRules) {
        let Some(given) = self.given.get(index).filter(|g| g.choice != Choice::Hide) else { return };
        let shown_by = given.rule;
        let mut hidden_by = None;
        for dir in directories_named(&given.pattern) {
            let verdict = match self.naming(&dir, Kind::Dir) {
                Some((later, named)) if named.choice == Choice::Hide && later > index => return,
                Some((_, named)) => match named.choice {
                    Choice::Hide => PathVerdict { action: PathAction::Hide, rule: Some(named.rule) },
                    Choice::Redact | Choice::Show => PathVerdict { action: PathAction::Clear, rule: None },
                },
                None => rules.judge(&dir, Kind::Dir),
            };
            match (verdict.action, verdict.rule) {
                (PathAction::Hide, Some(rule)) => hidden_by = Some(rule),
                // What the user shows by name is theirs to see, also below what is hidden.
                (PathAction::Clear, None) => hidden_by = None,
                _ => {}
            }
            if let Some(hidden_by) = hidden_by {
                self.opened.insert(fold(&dir).into(), (hidden_by, shown_by));
            }
        }
    }
}

/// The directories from the root downwards that a pattern names without wildcards before its last component.
fn directories_named(pattern: &str) -> Vec<Vec<u8>> {
    let inner = pattern.trim_end().trim_end_matches('/');
    let (rooted, inner) = (inner.starts_with('/'), inner.trim_start_matches('/'));
    let mut parts: Vec<&str> = inner.split('/').collect();
    parts.pop();
    if parts.is_empty() && !rooted {
        return Vec::new();
    }
    let literal = parts.iter().take_while(|p| !p.contains(['*', '?', '[', '{', '\\']));
    let mut path = Vec::new();
    literal
        .map(|part| {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part.as_bytes());
            path.clone()
        })
        .collect()
}

/// Proper ancestors of a path below the root, the nearest first.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let parent = |path: &[u8]| -> usize { split(path).0.len() };
    std::iter::successors(path.get(..parent(path)), move |dir| dir.get(..parent(dir)))
        .take_while(|dir| !dir.is_empty())
}

/// A pattern's position is put where the matcher keeps the name of the file that a pattern is from.
fn compile<'a>(given: impl Iterator<Item = &'a Given>) -> Result<Gitignore, RuleError> {
    let mut builder = GitignoreBuilder::new("");
    let fail = |pattern: &str, e: ignore::Error| RuleError {
        file: "command line".into(),
        line: 1,
        rule: Some(pattern.into()),
        problem: e.to_string(),
        hint: "Give fewer or simpler patterns, or put them into a rules file.".into(),
    };
    builder.case_insensitive(true).map_err(|e| fail("", e))?;
    for (index, given) in given.enumerate() {
        let from = Some(PathBuf::from(index.to_string()));
        builder.add_line(from, &given.pattern).map_err(|e| fail(&given.pattern, e))?;
    }
    builder.build().map_err(|e| fail("", e))
}

fn last_match(matcher: &Gitignore, path: &[u8], kind: Kind) -> Option<usize> {
    let maybe_dir = matches!(kind, Kind::Dir | Kind::Symlink);
    match matcher.matched(Path::new(OsStr::from_bytes(path)), maybe_dir) {
        Match::Ignore(glob) => glob.from().and_then(Path::to_str).and_then(|index| index.parse().ok()),
        Match::None | Match::Whitelist(_) => None,
    }
}
