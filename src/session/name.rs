//! Names of sessions. They become directory names and stand in command lines, so they are plain: letters, digits, `.`, `_`, `-`,
//! at most 64 bytes, and a letter or digit first.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::SessionError;

/// The longest name, in bytes.
const MAX: usize = 64;

/// A valid name of a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(String);

impl SessionName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`SessionError::BadName`] says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, SessionError> {
        let problem = if text.is_empty() {
            Some("it is empty")
        } else if text.len() > MAX {
            Some("it is longer than 64 bytes")
        } else if !text.bytes().all(is_plain) {
            Some("it holds something other than letters, digits, `.`, `_` and `-`")
        } else if !text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) {
            Some("it does not begin with a letter or a digit")
        } else {
            None
        };
        match problem {
            None => Ok(Self(text.to_owned())),
            Some(problem) => Err(SessionError::BadName { name: text.to_owned(), problem }),
        }
    }

    /// The name to propose for a workspace: its base name, made plain. With `n` over 1 that number is added.
    #[must_use]
    pub fn for_workspace(workspace: &Path, n: u32) -> Self {
        let base = workspace.file_name().map_or(b"root".as_slice(), |name| name.as_bytes());
        let mut text: String =
            base.iter().map(|b| if is_plain(*b) { char::from(*b) } else { '-' }).take(MAX - 8).collect();
        text = text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        if text.is_empty() {
            text.push_str("workspace");
        }
        Self(if n > 1 { format!("{text}-{n}") } else { text })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for SessionName {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for SessionName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_name_cannot_be_a_path_or_an_option() {
        for bad in ["", ".", "..", "a/b", "-x", ".hidden", "a b", "a\n", "ä", &"x".repeat(65)] {
            assert!(SessionName::new(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "repo-2", "7", "a.b_c", &"x".repeat(64)] {
            assert!(SessionName::new(good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn every_workspace_has_a_valid_name() {
        let odd: &[&[u8]] = &[b"/", b"/a/repo", b"/a/..b", b"/x/\xff\xfe", b"/x/ - ", &[b'y'; 300]];
        for path in odd {
            for n in [1, 2, 4_000_000] {
                let name = SessionName::for_workspace(Path::new(OsStr::from_bytes(path)), n);
                assert!(SessionName::new(name.as_str()).is_ok(), "{name}");
            }
        }
        assert_eq!(SessionName::for_workspace(Path::new("/a/my repo"), 2).as_str(), "my-repo-2");
    }
}
