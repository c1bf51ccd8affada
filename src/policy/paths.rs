//! The matcher of path rules. It runs for every name that is looked up or listed, so it tries few patterns: by the exact name, by
//! the last extension, by the first or last letter, and the few that have none of these. Directories of a pattern are looked at
//! only where the name fits. Among the rules of one level exceptions win, then the most
//! hiding rule, then one that is not generic, then the first in the file.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use memchr::memmem::Finder;

use super::backup::{self, Copy};
use super::pattern::{Folded, Part, Pattern, split};
use super::rules::{Action, Only};
use super::ruleset::PathRule;
use super::{Format, Kind, Origin, PathAction, PathVerdict, RuleId};

/// Counts up whenever the same rules judge a path otherwise than before.
pub(super) const VERSION: u32 = 1;

/// Compiled path rules.
#[derive(Debug, Default)]
pub(super) struct PathRules {
    rules: Vec<Rule>,
    patterns: Vec<Entry>,
    exact: Buckets,
    extension: HashMap<Box<[u8]>, Vec<Candidate>, Fast>,
    first: HashMap<u8, Vec<Candidate>, Fast>,
    last: HashMap<u8, Vec<Candidate>, Fast>,
    other: Vec<Candidate>,
    /// Patterns whose last part fits most names (`**`, `*.json`), by the directory that they name.
    beneath: Buckets,
    /// First letters and lengths of the keys of `beneath`, so that most directory names cost one test of a bit.
    beneath_mask: [u64; 16],
    /// The others of these, each with what the name of a directory on the way has to hold.
    beneath_other: Vec<(Finder<'static>, u32)>,
    /// The patterns that are not built in, as written, of rules with several.
    own: Vec<(RuleId, Arc<str>, Vec<Pattern>)>,
}

type Buckets = HashMap<Box<[u8]>, Vec<u32>, Fast>;
type Fast = BuildHasherDefault<Quick>;

/// A pattern that may match, and what a name has to begin with for it (two bytes, one, or any), and the byte that has to stand
/// before the extension. 0 stands for any.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    begins: [u8; 2],
    before_extension: u8,
    at: u32,
}

#[derive(Debug)]
struct Rule {
    id: RuleId,
    action: Action,
    origin: Origin,
    kind: Option<Only>,
    format: Option<Format>,
    except: Vec<Pattern>,
    generic: bool,
}

#[derive(Debug)]
struct Entry {
    pattern: Pattern,
    rule: u32,
}

/// The best rule so far of the user's and built-in ones, and of the workspace's.
#[derive(Debug, Clone, Copy, Default)]
struct Best {
    main: Option<u32>,
    workspace: Option<u32>,
}

impl PathRules {
    /// Compiles rules; `ids` gives each its id.
    pub(super) fn new(rules: &[(RuleId, PathRule)]) -> Self {
        let mut compiled = Self::default();
        for (id, rule) in rules {
            let index = u32::try_from(compiled.rules.len()).unwrap_or(u32::MAX);
            compiled.rules.push(Rule {
                id: *id,
                action: rule.action,
                origin: rule.info.origin,
                kind: rule.kind,
                format: rule.format,
                except: rule.except.clone(),
                generic: rule.generic,
            });
            for pattern in rule.patterns.iter().flat_map(|(_, patterns)| patterns) {
                compiled.insert(pattern.clone(), index);
            }
            if rule.info.origin != Origin::BuiltIn && rule.patterns.len() > 1 {
                let own = rule.patterns.iter().map(|(text, patterns)| (*id, text.clone(), patterns.clone()));
                compiled.own.extend(own);
            }
        }
        compiled
    }

    fn insert(&mut self, pattern: Pattern, rule: u32) {
        let at = u32::try_from(self.patterns.len()).unwrap_or(u32::MAX);
        match (pattern.last(), pattern.directory().filter(|_| pattern.says_little_of_names())) {
            (Part::Literal(name), _) => self.exact.entry(name.clone()).or_default().push(at),
            (_, Some(Part::Literal(directory))) => {
                let (word, bit) = mask_of(directory);
                if let Some(word) = self.beneath_mask.get_mut(word) {
                    *word |= bit;
                }
                self.beneath.entry(directory.clone()).or_default().push(at);
            }
            (Part::Any, directory) => {
                let held = match directory {
                    Some(Part::Shape(shape)) => shape.longest_end(),
                    Some(Part::Literal(_) | Part::Any) | None => &[],
                };
                self.beneath_other.push((Finder::new(held).into_owned(), at));
            }
            (Part::Shape(shape), _) => {
                let before_extension = before_last_dot(shape.suffix());
                let candidate = Candidate { begins: begins(shape.prefix()), before_extension, at };
                match (last_dot(shape.suffix()), shape.suffix().last(), shape.prefix().first()) {
                    (Some(extension), _, _) => {
                        self.extension.entry(extension.into()).or_default().push(candidate);
                    }
                    (None, Some(letter), _) => self.last.entry(*letter).or_default().push(candidate),
                    (None, None, Some(letter)) => self.first.entry(*letter).or_default().push(candidate),
                    (None, None, None) => self.other.push(candidate),
                }
            }
        }
        self.patterns.push(Entry { pattern, rule });
    }

    /// See [`super::Policy::own_patterns`].
    pub(super) fn own(&self) -> impl Iterator<Item = (RuleId, &str)> {
        self.own.iter().map(|(rule, text, _)| (*rule, &**text))
    }

    /// See [`super::Policy::note_own_patterns`].
    pub(super) fn note_own(&self, path: &[u8], kind: Kind, matched: &mut BTreeSet<usize>) {
        if self.own.is_empty() {
            return;
        }
        let (folded, maybe_dir) = (Folded::new(path), matches!(kind, Kind::Dir | Kind::Symlink));
        for (number, (_, _, patterns)) in self.own.iter().enumerate() {
            if !matched.contains(&number) && patterns.iter().any(|p| p.matches(&folded, maybe_dir)) {
                matched.insert(number);
            }
        }
    }

    /// What the rules say about a path, copies of known names included.
    pub(super) fn judge(&self, path: &[u8], kind: Kind) -> PathVerdict {
        let folded = Folded::new(path);
        let own = self.decide(self.best(&folded, kind), kind, path);
        match own.action {
            PathAction::Hide | PathAction::Open | PathAction::Clear => return own,
            PathAction::Plain | PathAction::Gate | PathAction::Redact(_) => {}
        }
        if kind == Kind::Dir {
            return own;
        }
        let original = backup::originals(folded.name(), |name, copy| {
            let best = self.best(&folded.sibling(name), Kind::File);
            let verdict = self.decide(best, Kind::File, name);
            let generic =
                verdict.rule.and_then(|id| self.rules.iter().find(|r| r.id == id)).is_some_and(|r| r.generic);
            copy_action(verdict.action, generic, copy).map(|action| PathVerdict { action, ..verdict })
        });
        match original {
            Some(copy) if copy.action.strictness() > own.action.strictness() => at_kind(copy, kind),
            Some(_) | None => own,
        }
    }

    /// The format in which a file is to be masked: that of the rule which knows it, or the one its name suggests.
    pub(super) fn format(&self, path: &[u8]) -> Format {
        let folded = Folded::new(path);
        let best = self.best(&folded, Kind::File);
        let known = [best.main, best.workspace].into_iter().flatten().find_map(|at| self.rule(at)?.format);
        known
            .or_else(|| {
                backup::originals(folded.name(), |name, copy| {
                    let at =
                        self.best(&folded.sibling(name), Kind::File).main.filter(|_| copy == Copy::Same)?;
                    self.rule(at)?.format
                })
            })
            .unwrap_or_else(|| format_of_name(folded.name()))
    }

    fn rule(&self, at: u32) -> Option<&Rule> {
        self.rules.get(at as usize)
    }

    fn best(&self, path: &Folded<'_>, kind: Kind) -> Best {
        let mut best = Best::default();
        let name = path.name();
        let (starts, before) = (begins(name), before_last_dot(name));
        let lists = [
            last_dot(name).and_then(|extension| self.extension.get(extension)),
            name.first().and_then(|letter| self.first.get(letter)),
            name.last().and_then(|letter| self.last.get(letter)),
            Some(&self.other),
        ];
        for candidate in lists.into_iter().flatten().flatten() {
            let [first, second] = candidate.begins;
            let fits = (first == 0 || first == starts[0])
                && (second == 0 || second == starts[1])
                && (candidate.before_extension == 0 || candidate.before_extension == before);
            if fits {
                self.consider(candidate.at, false, path, kind, &mut best);
            }
        }
        let mut consider = |list: Option<&Vec<u32>>, known: bool| {
            for at in list.into_iter().flatten() {
                self.consider(*at, known, path, kind, &mut best);
            }
        };
        consider(self.exact.get(name), true);
        if !self.beneath.is_empty() {
            let mut dir = path.dir();
            while !dir.is_empty() {
                let (parent, name) = split(dir);
                let (word, bit) = mask_of(name);
                if self.beneath_mask.get(word).is_some_and(|word| word & bit != 0) {
                    consider(self.beneath.get(name), false);
                }
                dir = parent;
            }
        }
        for (held, at) in &self.beneath_other {
            if held.find(path.dir()).is_some() {
                self.consider(*at, false, path, kind, &mut best);
            }
        }
        best
    }

    fn consider(&self, at: u32, known: bool, path: &Folded<'_>, kind: Kind, best: &mut Best) {
        let Some(entry) = self.patterns.get(at as usize) else { return };
        let Some(rule) = self.rule(entry.rule) else { return };
        let slot = if rule.origin == Origin::Workspace { &mut best.workspace } else { &mut best.main };
        if let Some(better) = slot.and_then(|at| Some((at, self.rule(at)?)))
            && (rank(better.1), std::cmp::Reverse(better.0)) >= (rank(rule), std::cmp::Reverse(entry.rule))
        {
            return;
        }
        let maybe_dir = matches!(kind, Kind::Dir | Kind::Symlink);
        let fits = match (rule.kind, rule.action) {
            (Some(Only::File), _) => kind != Kind::Dir,
            (Some(Only::Dir), _) => maybe_dir,
            (None, Action::Hide | Action::Open | Action::Clear) => true,
            (None, Action::Gate | Action::Redact) => kind != Kind::Dir,
        };
        let matches = match known {
            true => entry.pattern.matches_rest(path, maybe_dir),
            false => entry.pattern.matches(path, maybe_dir),
        };
        if fits && matches && !rule.except.iter().any(|e| e.matches(path, maybe_dir)) {
            *slot = Some(entry.rule);
        }
    }

    /// Turns the best rules into a verdict: the workspace's counts where it hides more.
    fn decide(&self, best: Best, kind: Kind, path: &[u8]) -> PathVerdict {
        let verdict = |at: Option<u32>| match at.and_then(|at| self.rule(at)) {
            Some(rule) => at_kind(PathVerdict { action: action_of(rule, path), rule: Some(rule.id) }, kind),
            None => PathVerdict { action: PathAction::Plain, rule: None },
        };
        let (main, workspace) = (verdict(best.main), verdict(best.workspace));
        if workspace.action.strictness() > main.action.strictness() && workspace.action != PathAction::Plain {
            workspace
        } else {
            main
        }
    }
}

/// The user's rules before the built-in ones; then exceptions, then what hides more, then what is not generic.
fn rank(rule: &Rule) -> u8 {
    let action = match rule.action {
        Action::Clear => 10,
        Action::Open => 8,
        Action::Hide => 6,
        Action::Gate => 4,
        Action::Redact => 2 + u8::from(!rule.generic),
    };
    match rule.origin {
        Origin::User => action + 16,
        Origin::BuiltIn | Origin::Workspace | Origin::IgnoreFile | Origin::CommandLine => action,
    }
}

fn action_of(rule: &Rule, path: &[u8]) -> PathAction {
    match rule.action {
        Action::Hide => PathAction::Hide,
        Action::Gate => PathAction::Gate,
        Action::Open => PathAction::Open,
        Action::Clear => PathAction::Clear,
        Action::Redact => {
            let format = rule.format.unwrap_or_else(|| format_of_name(Folded::new(path).name()));
            PathAction::Redact(format.into())
        }
    }
}

/// Only regular files have content that a rule can look into.
fn at_kind(verdict: PathVerdict, kind: Kind) -> PathVerdict {
    match (verdict.action, kind) {
        (PathAction::Gate | PathAction::Redact(_), Kind::Dir | Kind::Symlink | Kind::Other) => {
            PathVerdict { action: PathAction::Plain, rule: None }
        }
        _ => verdict,
    }
}

/// What a copy of a file with this verdict deserves; `None` if the verdict says nothing about copies.
fn copy_action(original: PathAction, generic: bool, copy: Copy) -> Option<PathAction> {
    match (original, copy) {
        (PathAction::Hide, _) => Some(PathAction::Hide),
        (PathAction::Gate, Copy::Same) => Some(PathAction::Gate),
        (PathAction::Gate, Copy::Other) => Some(PathAction::Hide),
        (PathAction::Redact(format), Copy::Same) if generic => Some(PathAction::Redact(format)),
        (PathAction::Redact(_), Copy::Other) if generic => None,
        (PathAction::Redact(_), _) => Some(PathAction::Hide),
        (PathAction::Open | PathAction::Clear, _) => Some(PathAction::Plain),
        (PathAction::Plain, _) => None,
    }
}

/// The format that a name's extension suggests; content rules alone where it suggests none.
fn format_of_name(name: &[u8]) -> Format {
    match last_dot(name).unwrap_or_default() {
        b".env" => Format::Dotenv,
        b".json" | b".jsonc" | b".jsonl" | b".json5" | b".ipynb" | b".har" => Format::Json,
        b".yml" | b".yaml" => Format::Yaml,
        b".toml" => Format::Toml,
        b".ini" | b".cfg" => Format::Ini,
        b".xml" | b".config" | b".plist" => Format::Xml,
        b".properties" => Format::Properties,
        b".tf" | b".tfvars" | b".hcl" => Format::Hcl,
        b".sh" | b".bash" | b".zsh" | b".fish" => Format::Shell,
        b".pem" | b".key" | b".crt" | b".cer" | b".asc" => Format::Pem,
        b".php" => Format::Php,
        b".py" => Format::Python,
        b".rb" => Format::Ruby,
        b".js" | b".ts" | b".mjs" | b".cjs" | b".jsx" | b".tsx" => Format::Javascript,
        b".sql" => Format::Sql,
        b".conf" | b".cnf" => Format::Conf,
        b".http" | b".rest" => Format::Http,
        _ => Format::Text,
    }
}

/// The place of a directory's name in the mask: a word and a bit in it.
fn mask_of(name: &[u8]) -> (usize, u64) {
    let letter = usize::from(name.first().copied().unwrap_or_default());
    ((name.len() ^ (letter >> 6)) & 15, 1 << (letter & 63))
}

/// The first two bytes, 0 for what is not there; names hold no 0.
fn begins(name: &[u8]) -> [u8; 2] {
    match name {
        [] => [0, 0],
        [first] => [*first, 0],
        [first, second, ..] => [*first, *second],
    }
}

/// The byte before the last dot; 0 if there is none.
fn before_last_dot(name: &[u8]) -> u8 {
    let dot = name.iter().rposition(|b| *b == b'.');
    dot.and_then(|dot| name.get(dot.checked_sub(1)?)).copied().unwrap_or_default()
}

/// The last extension with its dot.
fn last_dot(name: &[u8]) -> Option<&[u8]> {
    name.iter().rposition(|b| *b == b'.').and_then(|dot| name.get(dot..))
}

/// A multiplicative hash, eight bytes a step: names are short, and what is looked up by it are the rules' own keys, which no
/// attacker chooses.
#[derive(Debug, Default)]
struct Quick(u64);

impl Quick {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.mix(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let rest = chunks.remainder().iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        self.mix(rest);
    }

    fn write_usize(&mut self, number: usize) {
        self.0 ^= number as u64;
    }

    fn finish(&self) -> u64 {
        // The table takes the lowest bits for the place and the highest for a first comparison; the product mixes upwards only.
        self.0.rotate_left(26)
    }
}
