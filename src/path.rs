//! Names and paths below the root of a layer, as bytes. A string from outside is parsed into [`Name`] or [`RelPath`] once;
//! below that line there is no `..`, no NUL, no empty component and nothing absolute, so no later code has to look again.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// The longest name that local file systems accept, in bytes (`NAME_MAX`, limits.h).
pub const NAME_MAX: usize = 255;

/// Why bytes are not a [`Name`] or a [`RelPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// An empty component, as in `a//b`, or an empty name.
    #[error("a path component is empty")]
    Empty,
    /// `.` or `..`, which never name an entry here.
    #[error("a path component is `.` or `..`")]
    Dot,
    /// A NUL byte, or a slash inside one name.
    #[error("a path component holds a NUL byte or a slash")]
    Forbidden,
    /// A component over [`NAME_MAX`] bytes.
    #[error("a path component is longer than 255 bytes")]
    TooLong,
    /// A path that starts with a slash.
    #[error("the path is absolute")]
    Absolute,
}

/// One directory entry's name: 1 to 255 bytes, no slash, no NUL, neither `.` nor `..`. Not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Parses one component.
    ///
    /// # Errors
    /// [`PathError`] says what is wrong with it.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = bytes.as_ref();
        check_component(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name for calls of the standard library.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_bytes(&self.0, f)
    }
}

fn check_component(bytes: &[u8]) -> Result<(), PathError> {
    match bytes {
        b"" => Err(PathError::Empty),
        b"." | b".." => Err(PathError::Dot),
        _ if bytes.iter().any(|b| matches!(b, 0 | b'/')) => Err(PathError::Forbidden),
        _ if bytes.len() > NAME_MAX => Err(PathError::TooLong),
        _ => Ok(()),
    }
}

/// A path below the root of a layer: components joined by single slashes; the root itself is the empty path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The root of the layer.
    #[must_use]
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// Parses a path relative to the root. Empty bytes and a single `.` mean the root.
    ///
    /// # Errors
    /// [`PathError`] for an absolute path or a bad component; `a/./b` and `a/../b` are refused, not resolved.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() || bytes == b"." {
            return Ok(Self::root());
        }
        if bytes.starts_with(b"/") {
            return Err(PathError::Absolute);
        }
        for component in bytes.split(|b| *b == b'/') {
            check_component(component)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path's bytes, without a leading or trailing slash; empty for the root.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as an `OsStr`, empty for the root.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The entry `name` in this directory.
    #[must_use]
    pub fn join(&self, name: &Name) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(&name.0);
        Self(bytes)
    }

    /// The directory that holds this entry; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.parent_bytes().map(|bytes| Self(bytes.to_vec()))
    }

    /// As [`RelPath::parent`], without making a new path.
    #[must_use]
    pub fn parent_bytes(&self) -> Option<&[u8]> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        self.0.get(..end)
    }

    /// The last component; `None` for the root.
    #[must_use]
    pub fn file_name(&self) -> Option<Name> {
        self.0.rsplit(|b| *b == b'/').next().filter(|n| !n.is_empty()).map(|n| Name(n.into()))
    }

    /// The components from the root downwards.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// Whether this path is `ancestor` or lies beneath it.
    #[must_use]
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        match self.0.strip_prefix(ancestor.0.as_slice()) {
            Some(rest) => ancestor.is_root() || rest.is_empty() || rest.first() == Some(&b'/'),
            None => false,
        }
    }

    /// All proper ancestors from the root (included) down to the parent.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        let root = (!self.is_root()).then(Self::root);
        let inner = self.0.iter().enumerate().filter(|(_, b)| **b == b'/');
        root.into_iter().chain(inner.map(|(i, _)| Self(self.0.get(..i).unwrap_or_default().to_vec())))
    }
}

/// A map by path can be asked with bytes: a path hashes and compares as its bytes do.
impl Borrow<[u8]> for RelPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { display_bytes(&self.0, f) }
    }
}

/// Bytes from outside (paths of the host, names of mounts) as they may be shown: harmless text as it is, the rest escaped.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl<'a> Escaped<'a> {
    /// Of a path of the host.
    #[must_use]
    pub fn path(path: &'a std::path::Path) -> Self {
        Self(path.as_os_str().as_bytes())
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_bytes(self.0, f)
    }
}

/// Text as it is, where it is harmless on a terminal; control characters, what is not UTF-8, and characters that
/// reorder or hide text (bidirectional controls, zero-width) come escaped.
fn display_bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let harmless = shows_as_itself(c);
            if harmless { write!(f, "{c}")? } else { write!(f, "{}", c.escape_default())? }
        }
        write!(f, "{}", chunk.invalid().escape_ascii())?;
    }
    Ok(())
}

/// Whether a character is seen as what it is. Control characters command the terminal; bidirectional controls reorder text; zero-width
/// characters, fillers, tags and selectors are not seen, or carry text unseen.
#[must_use]
pub fn shows_as_itself(c: char) -> bool {
    let unseen = matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    );
    !c.is_control() && !unseen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_the_root() {
        for bad in ["/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a/./b"] {
            assert!(RelPath::parse(bad).is_err(), "{bad} was accepted");
        }
        assert_eq!(RelPath::parse(b"a\0b").unwrap_err(), PathError::Forbidden);
        assert_eq!(Name::new([b'x'; 256]).unwrap_err(), PathError::TooLong);
        assert!(Name::new([b'x'; 255]).is_ok());
    }

    #[test]
    fn parents_and_ancestors() {
        let p = RelPath::parse("a/b/c").unwrap();
        assert_eq!(p.parent().unwrap(), RelPath::parse("a/b").unwrap());
        assert_eq!(p.file_name().unwrap(), Name::new("c").unwrap());
        let names: Vec<String> = p.ancestors().map(|a| a.to_string()).collect();
        assert_eq!(names, [".", "a", "a/b"]);
        assert!(p.starts_with(&RelPath::parse("a/b").unwrap()));
        assert!(!p.starts_with(&RelPath::parse("a/bb").unwrap()));
        assert!(!RelPath::parse("ab").unwrap().starts_with(&RelPath::parse("a").unwrap()));
        assert_eq!(RelPath::root().parent(), None);
        assert_eq!(RelPath::parse("a").unwrap().parent().unwrap(), RelPath::root());
    }

    #[test]
    fn what_is_shown_cannot_fool_a_terminal() {
        assert_eq!(RelPath::parse(b"a\x1b[31m\xff").unwrap().to_string(), "a\\u{1b}[31m\\xff");
        assert_eq!(RelPath::parse("a\u{202e}b").unwrap().to_string(), "a\\u{202e}b");
    }
}
