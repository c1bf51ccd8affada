//! Ignore files of coding agents, found anywhere in the workspace: gitignore syntax, upper and lower case alike, as a union that can
//! only hide. `!` takes back what the same file says and nothing else. What cannot be read as a pattern is a warning; a file that
//! cannot be taken whole hides everything beneath it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{Kind, Origin, RuleInfo};
use crate::path::{Name, RelPath};

/// The name of the workspace's own rule file, at its root.
pub const WORKSPACE_RULES: &str = ".scrubfs.toml";

/// Names of the ignore files that hide. Index and packing ignores (`.gitignore`, `.dockerignore`, …) are not among them.
pub const IGNORE_FILES: &[&str] = &[
    ".scrubfsignore",
    ".agentsignore",
    ".aiexclude",
    ".aiignore",
    ".augmentignore",
    ".clineignore",
    ".codeiumignore",
    ".continueignore",
    ".cursorignore",
    ".geminiignore",
    ".kiroignore",
    ".llmignore",
    ".noai",
    ".qwenignore",
    ".rooignore",
];

/// The longest ignore file that is read, in bytes.
pub const IGNORE_FILE_MAX: usize = 1 << 20;

/// The most patterns that one ignore file may have.
const MAX_PATTERNS: usize = 10_000;

/// Whether an entry of this name is an ignore file to every policy; [`super::Policy::is_ignore_file`] knows the user's additions.
#[must_use]
pub fn is_ignore_file(name: &[u8]) -> bool {
    IGNORE_FILES.iter().any(|known| known.as_bytes() == name)
}

/// One ignore file, compiled.
#[derive(Debug)]
pub struct IgnoreFile {
    dir: RelPath,
    source: Arc<str>,
    patterns: Patterns,
    warnings: Vec<IgnoreWarning>,
}

#[derive(Debug)]
enum Patterns {
    Compiled(Box<Gitignore>),
    /// The file cannot be taken whole: everything beneath its directory is hidden.
    Everything,
}

/// Something in an ignore file that is not understood. The caller logs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreWarning {
    /// The line, from 1; 0 for the file as a whole.
    pub line: u32,
    /// What is wrong and what follows from it, without a full stop.
    pub problem: String,
}

impl IgnoreFile {
    /// Compiles the ignore file `name` in `dir`. Pass at most [`IGNORE_FILE_MAX`] + 1 bytes of it: more are not looked at.
    #[must_use]
    pub fn parse(dir: &RelPath, name: &Name, bytes: &[u8]) -> Self {
        let mut warnings = Vec::new();
        let patterns = compile(bytes, &mut warnings).unwrap_or_else(|problem| {
            let problem = format!("{problem}, so everything beneath its directory is hidden");
            warnings.push(IgnoreWarning { line: 0, problem });
            Patterns::Everything
        });
        Self { dir: dir.clone(), source: dir.join(name).to_string().into(), patterns, warnings }
    }

    /// An ignore file that is there but could not be read: it hides everything beneath its directory.
    #[must_use]
    pub fn unreadable(dir: &RelPath, name: &Name) -> Self {
        let problem = "the file could not be read, so everything beneath its directory is hidden".into();
        let warnings = vec![IgnoreWarning { line: 0, problem }];
        Self {
            dir: dir.clone(),
            source: dir.join(name).to_string().into(),
            patterns: Patterns::Everything,
            warnings,
        }
    }

    /// What was not understood.
    #[must_use]
    pub fn warnings(&self) -> &[IgnoreWarning] {
        &self.warnings
    }

    /// The line that hides an entry beneath the file's directory (0 if the whole file does), judged by itself: that none of its
    /// parents is hidden is the caller's to know. `path` counts from the workspace's root.
    #[must_use]
    pub fn hides(&self, path: &RelPath, kind: Kind) -> Option<u32> {
        let relative = beneath(&self.dir, path)?;
        let matcher = match &self.patterns {
            Patterns::Everything => return Some(0),
            Patterns::Compiled(matcher) => matcher,
        };
        let maybe_dir = matches!(kind, Kind::Dir | Kind::Symlink);
        match matcher.matched(Path::new(OsStr::from_bytes(relative)), maybe_dir) {
            Match::None | Match::Whitelist(_) => None,
            Match::Ignore(glob) => {
                Some(glob.from().and_then(Path::to_str).and_then(|line| line.parse().ok()).unwrap_or(0))
            }
        }
    }

    /// As [`IgnoreFile::hides`], but hidden also where a directory between this file's and the entry is.
    #[must_use]
    pub fn hides_with_parents(&self, path: &RelPath, kind: Kind) -> Option<u32> {
        path.ancestors().find_map(|dir| self.hides(&dir, Kind::Dir)).or_else(|| self.hides(path, kind))
    }

    /// The rule behind a line, for reports.
    #[must_use]
    pub fn rule_info(&self, line: u32) -> RuleInfo {
        RuleInfo {
            id: "ignore-file".into(),
            source: self.source.clone(),
            line,
            why: "an ignore file of the workspace keeps it from agents".into(),
            origin: Origin::IgnoreFile,
        }
    }
}

/// The part of a path below a directory; `None` for the directory itself and what lies elsewhere.
fn beneath<'a>(dir: &RelPath, path: &'a RelPath) -> Option<&'a [u8]> {
    let rest = match dir.is_root() {
        true => path.as_bytes(),
        false => path.as_bytes().strip_prefix(dir.as_bytes())?.strip_prefix(b"/")?,
    };
    (!rest.is_empty()).then_some(rest)
}

fn compile(bytes: &[u8], warnings: &mut Vec<IgnoreWarning>) -> Result<Patterns, String> {
    if bytes.len() > IGNORE_FILE_MAX {
        return Err(format!("the file is longer than {IGNORE_FILE_MAX} bytes"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut builder = GitignoreBuilder::new("");
    let mut patterns = 0;
    for (number, line) in (1..).zip(bytes.split(|b| *b == b'\n')) {
        let line = text_of(line.strip_suffix(b"\r").unwrap_or(line), number, warnings);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        patterns += 1;
        if patterns > MAX_PATTERNS {
            return Err(format!("the file has more than {MAX_PATTERNS} patterns"));
        }
        // What a file takes back it has to name exactly; what it hides it hides in any case.
        let added = builder
            .case_insensitive(!line.starts_with('!'))
            .and_then(|builder| builder.add_line(Some(PathBuf::from(number.to_string())), &line));
        if let Err(error) = added {
            warnings.push(IgnoreWarning {
                line: number,
                problem: format!("no pattern: {error}; it hides nothing"),
            });
        }
    }
    let compiled = builder.build().map_err(|e| format!("the patterns cannot be compiled ({e})"))?;
    Ok(Patterns::Compiled(Box::new(compiled)))
}

/// A line as text. A byte that is no text matches any one byte, which can only hide more; a line that takes something back is
/// dropped for the same reason.
fn text_of(line: &[u8], number: u32, warnings: &mut Vec<IgnoreWarning>) -> String {
    if let Ok(text) = std::str::from_utf8(line) {
        return text.to_owned();
    }
    let problem = if line.starts_with(b"!") {
        "the line is not UTF-8; it takes nothing back"
    } else {
        "the line is not UTF-8; a byte that is no text stands for any byte"
    };
    warnings.push(IgnoreWarning { line: number, problem: problem.into() });
    if line.starts_with(b"!") {
        return String::new();
    }
    let mut text = String::new();
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &str, text: impl AsRef<[u8]>) -> IgnoreFile {
        IgnoreFile::parse(&RelPath::parse(dir).unwrap(), &Name::new(".aiignore").unwrap(), text.as_ref())
    }

    fn hides(file: &IgnoreFile, path: &str) -> Option<u32> {
        let kind = if path.ends_with('/') { Kind::Dir } else { Kind::File };
        file.hides(&RelPath::parse(path.trim_end_matches('/')).unwrap(), kind)
    }

    #[test]
    fn a_file_hides_beneath_its_own_directory() {
        let f = file("a", "# comment\r\n\r\nsecret.txt\r\n/top\nlogs/\nx/y\n");
        assert_eq!(hides(&f, "a/secret.txt"), Some(3));
        assert_eq!(hides(&f, "a/b/SECRET.TXT"), Some(3));
        assert_eq!(hides(&f, "secret.txt"), None);
        assert_eq!(hides(&f, "ab/secret.txt"), None);
        assert_eq!(hides(&f, "a/top"), Some(4));
        assert_eq!(hides(&f, "a/b/top"), None);
        assert_eq!(hides(&f, "a/logs/"), Some(5));
        assert_eq!(hides(&f, "a/logs"), None);
        assert_eq!(hides(&f, "a/x/y"), Some(6));
        assert_eq!(hides(&f, "a"), None);
        assert_eq!(f.rule_info(3).source.as_ref(), "a/.aiignore");
        assert!(f.warnings().is_empty());
    }

    #[test]
    fn a_negation_takes_back_only_what_it_names() {
        let f = file("", "data/*\n!data/README\n");
        assert_eq!(hides(&f, "data/README"), None);
        assert_eq!(hides(&f, "data/readme"), Some(1));
        assert_eq!(hides(&f, "data/x"), Some(1));
        assert_eq!(hides(&file("", "!x\n"), "x"), None);
    }

    #[test]
    fn parents_count_where_they_are_asked_for() {
        let f = file("", "private/\n");
        let path = RelPath::parse("private/a/b").unwrap();
        assert_eq!(f.hides(&path, Kind::File), None);
        assert_eq!(f.hides_with_parents(&path, Kind::File), Some(1));
    }

    #[test]
    fn what_is_not_understood_hides_more_or_warns() {
        let f = file("", b"caf\xe9.txt\n!caf\xe9.txt\n");
        assert_eq!(f.hides(&RelPath::parse(b"caf\xe9.txt").unwrap(), Kind::File), Some(1));
        assert_eq!(f.warnings().iter().map(|w| w.line).collect::<Vec<_>>(), [1, 2]);
        let f = file("", "[z-a]\nok\n");
        assert_eq!((f.warnings().len(), hides(&f, "ok")), (1, Some(2)));
        for too_much in [vec![b'a'; IGNORE_FILE_MAX + 1], b"x\n".repeat(MAX_PATTERNS + 1)] {
            let f = file("d", too_much);
            assert_eq!((hides(&f, "d/whatever"), hides(&f, "whatever")), (Some(0), None));
            assert_eq!(f.warnings().len(), 1);
        }
    }

    #[test]
    fn the_names() {
        for name in [".aiignore", ".cursorignore", ".scrubfsignore", ".noai"] {
            assert!(is_ignore_file(name.as_bytes()), "{name}");
        }
        for name in [".gitignore", ".dockerignore", ".cursorindexingignore", ".repomixignore", "aiignore"] {
            assert!(!is_ignore_file(name.as_bytes()), "{name}");
        }
    }
}
