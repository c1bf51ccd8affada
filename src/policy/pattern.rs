//! The patterns of rule files. They match at every depth, unless they begin with a slash, and ignore case: bytes that are UTF-8
//! are folded, others are compared as they are, so no name can panic or slip through by a broken byte.
//!
//! | pattern | matches |
//! |---|---|
//! | `id_rsa` | that name, in any directory |
//! | `*.pem`, `gcp-key*.json`, `id_?sa`, `core.[0-9]*`, `*.{yml,yaml}` | names of that shape; `*` and `?` stay within one name |
//! | `.ssh/` | a directory (or a link, which may lead to one) of that name |
//! | `.cargo/credentials` | the name in a directory of that name |
//! | `.docker/contexts/**/key.pem` | with any directories between |
//! | `group_vars/**` | everything beneath a directory of that name, not the directory |
//! | `/build/out` | from the workspace's root only |

use std::borrow::Cow;

use super::glob::Glob;

/// How many patterns the braces of one may expand to.
const MAX_ALTERNATIVES: usize = 128;

/// How many `**` between directories one pattern may have: each multiplies the work by the path's depth.
const MAX_ANY_DEPTH: usize = 2;

/// No name is longer than 255 bytes; classes and escapes take some more.
const MAX_COMPONENT: usize = 1024;

/// One pattern without braces.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    anchored: bool,
    only_dir: bool,
    /// From the outermost directory inwards.
    dirs: Vec<Part>,
    last: Part,
}

/// What one component has to be.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// This name, folded.
    Literal(Box<[u8]>),
    /// A name of this shape.
    Shape(Glob),
    /// Any directories, also none; as the last part: any name.
    Any,
}

/// A path made ready for matching: folded once, cut into directory and name.
#[derive(Debug)]
pub(super) struct Folded<'a> {
    bytes: Cow<'a, [u8]>,
    name_at: usize,
}

impl<'a> Folded<'a> {
    pub(super) fn new(path: &'a [u8]) -> Self {
        let bytes = fold(path);
        let name_at = bytes.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
        Self { bytes, name_at }
    }

    pub(super) fn name(&self) -> &[u8] {
        self.bytes.get(self.name_at..).unwrap_or_default()
    }

    /// The directory's path, empty for the root.
    pub(super) fn dir(&self) -> &[u8] {
        self.bytes.get(..self.name_at.saturating_sub(1)).unwrap_or_default()
    }

    /// An entry of the same directory under another (folded) name.
    pub(super) fn sibling(&self, name: &[u8]) -> Folded<'static> {
        let mut bytes = self.bytes.get(..self.name_at).unwrap_or_default().to_vec();
        bytes.extend_from_slice(name);
        Folded { bytes: Cow::Owned(bytes), name_at: self.name_at }
    }
}

/// Makes names comparable: lower case for what is UTF-8, nothing for what is not. A path that is lower-case ASCII, as most
/// are, is not copied.
pub(super) fn fold(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.is_ascii() {
        return match bytes.iter().any(u8::is_ascii_uppercase) {
            true => Cow::Owned(bytes.to_ascii_lowercase()),
            false => Cow::Borrowed(bytes),
        };
    }
    let mut folded = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            for lower in c.to_lowercase() {
                // The long s is the one letter that has a plain ASCII upper case and is its own lower case.
                let lower = if lower == 'ſ' { 's' } else { lower };
                folded.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        folded.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(folded)
}

impl Pattern {
    /// Parses a pattern; braces make several of it.
    ///
    /// # Errors
    /// A sentence, without a full stop, that says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Vec<Self>, String> {
        let mut plain = Vec::new();
        expand(text, &mut plain)?;
        plain.iter().map(|p| Self::parse_plain(p)).collect()
    }

    fn parse_plain(text: &str) -> Result<Self, String> {
        let anchored = text.starts_with('/');
        let only_dir = text.ends_with('/');
        let inner = text.strip_prefix('/').unwrap_or(text);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        match text.chars().next() {
            None => return Err("a pattern is empty".into()),
            Some('!') => return Err(format!("`{text}`: exceptions belong in `except`")),
            Some('~') if inner.starts_with("~/") => {
                return Err(format!("`{text}`: patterns match at every depth, write it without `~/`"));
            }
            Some(_) => {}
        }
        let mut parts = inner.split('/').map(Part::parse).collect::<Result<Vec<_>, _>>()?;
        let last = parts.pop().unwrap_or(Part::Any);
        if !anchored {
            let leading = parts.iter().take_while(|p| matches!(p, Part::Any)).count();
            parts.drain(..leading);
        }
        if matches!(last, Part::Any) {
            if parts.is_empty() {
                return Err(format!("`{text}` would match everything"));
            }
            parts.push(Part::Any);
        }
        let between = parts.iter().rev().skip(1).filter(|p| matches!(p, Part::Any)).count();
        if between > MAX_ANY_DEPTH {
            return Err(format!("`{text}` has more than {MAX_ANY_DEPTH} `**` between directories"));
        }
        Ok(Self { anchored, only_dir, dirs: parts, last })
    }

    pub(super) fn last(&self) -> &Part {
        &self.last
    }

    /// The innermost directory that the pattern names.
    pub(super) fn directory(&self) -> Option<&Part> {
        self.dirs.iter().rev().find(|p| !matches!(p, Part::Any))
    }

    /// Whether most names, or most of one extension, fit the last part, so that it is quicker to look at the directory first.
    pub(super) fn says_little_of_names(&self) -> bool {
        match &self.last {
            Part::Any => true,
            Part::Literal(_) => false,
            Part::Shape(shape) => shape.is_extension(),
        }
    }

    /// Whether a path matches. `maybe_dir` says that it is a directory or a symbolic link.
    pub(super) fn matches(&self, path: &Folded<'_>, maybe_dir: bool) -> bool {
        (maybe_dir || !self.only_dir) && self.last.matches(path.name()) && self.matches_dir(path.dir())
    }

    /// As [`Pattern::matches`], where the name is known to match.
    pub(super) fn matches_rest(&self, path: &Folded<'_>, maybe_dir: bool) -> bool {
        (maybe_dir || !self.only_dir) && self.matches_dir(path.dir())
    }

    fn matches_dir(&self, dir: &[u8]) -> bool {
        if self.dirs.is_empty() {
            return !self.anchored || dir.is_empty();
        }
        climb(&self.dirs, dir, self.anchored)
    }
}

/// Matches directory parts from the innermost outwards.
fn climb(parts: &[Part], dir: &[u8], anchored: bool) -> bool {
    let Some((part, outer)) = parts.split_last() else { return !anchored || dir.is_empty() };
    if matches!(part, Part::Any) {
        let mut dir = dir;
        loop {
            if climb(outer, dir, anchored) {
                return true;
            }
            if dir.is_empty() {
                return false;
            }
            dir = split(dir).0;
        }
    }
    if dir.is_empty() {
        return false;
    }
    let (parent, name) = split(dir);
    part.matches(name) && climb(outer, parent, anchored)
}

/// Parent and last component of a path that is not empty.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => return Err("a pattern has an empty component".into()),
            "." | ".." => return Err("a pattern component is `.` or `..`".into()),
            "**" => return Ok(Self::Any),
            long if long.len() > MAX_COMPONENT => {
                return Err(format!("a pattern component is longer than {MAX_COMPONENT} bytes"));
            }
            _ => {}
        }
        let folded = fold(text.as_bytes());
        let glob = Glob::parse(&String::from_utf8_lossy(&folded))?;
        Ok(match glob.literal() {
            Some(name) => Self::Literal(name.into()),
            None => Self::Shape(glob),
        })
    }

    pub(super) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => **literal == *name,
            Self::Shape(glob) => glob.matches(name),
            Self::Any => true,
        }
    }
}

/// Expands `{a,b}` (not nested).
fn expand(text: &str, out: &mut Vec<String>) -> Result<(), String> {
    if out.len() >= MAX_ALTERNATIVES {
        return Err(format!("the braces of a pattern make more than {MAX_ALTERNATIVES} patterns of it"));
    }
    let Some(open) = unescaped(text, '{') else {
        return match unescaped(text, '}') {
            Some(_) => Err(format!("`{text}` has a `}}` without a `{{`")),
            None => {
                out.push(text.into());
                Ok(())
            }
        };
    };
    let (head, rest) = (text.get(..open).unwrap_or_default(), text.get(open + 1..).unwrap_or_default());
    let close = unescaped(rest, '}').ok_or_else(|| format!("`{text}` has a `{{` without a `}}`"))?;
    let (inner, tail) = (rest.get(..close).unwrap_or_default(), rest.get(close + 1..).unwrap_or_default());
    if unescaped(inner, '{').is_some() {
        return Err(format!("`{text}` has braces within braces"));
    }
    inner.split(',').try_for_each(|alternative| expand(&format!("{head}{alternative}{tail}"), out))
}

fn unescaped(text: &str, wanted: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(i, c)| {
        let hit = c == wanted && !escaped;
        escaped = c == '\\' && !escaped;
        hit.then_some(i)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(pattern: &str, path: &str) -> bool {
        let maybe_dir = path.ends_with('/');
        let folded = Folded::new(path.trim_end_matches('/').as_bytes());
        Pattern::parse(pattern).unwrap().iter().any(|p| p.matches(&folded, maybe_dir))
    }

    #[test]
    fn what_patterns_match() {
        for (pattern, yes, no) in [
            ("id_rsa", vec!["id_rsa", "a/b/ID_RSA", "id_rsa/"], vec!["id_rsa.pub", "xid_rsa", "id_rsa/x"]),
            ("*.pem", vec![".pem", "a/x.PEM", "x.y.pem"], vec!["pem", "x.pem.txt"]),
            (".ssh/", vec![".ssh/", "home/.SSH/"], vec![".ssh", "ssh/"]),
            ("/a/b", vec!["a/b"], vec!["x/a/b", "a/b/c", "b"]),
            ("a/b", vec!["a/b", "x/a/b"], vec!["xa/b", "b", "a/x/b"]),
            ("a/**/b", vec!["a/b", "x/a/y/z/b"], vec!["b", "x/b"]),
            ("a/**", vec!["a/b", "x/a/b/c"], vec!["a", "x/a/", "b/c"]),
            ("/a/**", vec!["a/b"], vec!["x/a/b"]),
            ("**/a", vec!["a", "x/y/a"], vec!["a/b"]),
            ("x*y*z", vec!["xyz", "x1y2z", "xyyzz"], vec!["xz", "xzy", "axyz"]),
            ("ab*ba", vec!["abba", "ab-ba"], vec!["aba"]),
            ("core.[0-9]*", vec!["core.1", "core.12"], vec!["core.x", "core."]),
            ("?.{yml,yaml}", vec!["a.yml", "b.YAML"], vec!["ab.yml", ".yml", "a.{yml,yaml}"]),
            (r"a\*b", vec!["a*b"], vec!["axb"]),
            ("schlüssel", vec!["SCHLÜSSEL"], vec!["schlussel"]),
        ] {
            for path in yes {
                assert!(hit(pattern, path), "{pattern} does not match {path}");
            }
            for path in no {
                assert!(!hit(pattern, path), "{pattern} matches {path}");
            }
        }
    }

    #[test]
    fn letters_that_fold_to_ascii_and_bytes_that_are_no_text() {
        assert!(hit("kids", "\u{212a}id\u{17f}"), "Kelvin sign and long s");
        let broken = Folded::new(b"a\xff/X\xfe.PEM");
        assert!(Pattern::parse("*.pem").unwrap()[0].matches(&broken, false));
        assert!(!Pattern::parse("x?.pem").unwrap()[0].matches(&Folded::new(b"x.pem"), false));
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for bad in ["", "/", "a//b", "../x", "./x", "!x", "~/x", "**", "{a", "a}", "{a{b}}", "x\\", "[z-a]"] {
            let parsed = Pattern::parse(bad);
            assert!(parsed.is_err(), "`{bad}` was accepted: {parsed:?}");
        }
        assert!(Pattern::parse(&"?".repeat(2000)).is_err());
        assert!(Pattern::parse("a/**/b/**/c/**/d/**/e").is_err());
        assert!(Pattern::parse("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}").is_err());
    }
}
