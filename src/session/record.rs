//! The files that describe a session: `session.toml`, written once when it is made, and `mount.toml`, written by its daemon. Both
//! carry a format number; a newer one is refused, a damaged file is named and left as it is.

use std::path::{Path, PathBuf};

use super::{SessionError, SessionName};

/// The newest format of both files that this program knows.
pub(super) const FORMAT: u32 = 1;

/// `session.toml`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionRecord {
    /// Format of the file.
    pub format: u32,
    /// The session's name; its directory bears the same.
    pub name: SessionName,
    /// The workspace, absolute and free of links when the session was made.
    #[serde(with = "path_bytes")]
    pub workspace: PathBuf,
    /// Device of the workspace's root.
    pub dev: u64,
    /// Inode of the workspace's root.
    pub ino: u64,
    /// Seconds since 1970.
    pub created: u64,
}

/// How a session is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// Mounted where every process of the user sees it.
    Mount,
    /// Mounted over the workspace inside the namespaces of a `run`.
    Run,
}

/// `mount.toml`: what the daemon that holds the lock does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MountRecord {
    /// Format of the file.
    pub format: u32,
    /// Whether it is a plain mount or that of a `run`.
    pub kind: MountKind,
    /// Where merged is; for a `run`, a path inside its namespaces.
    #[serde(with = "path_bytes")]
    pub mountpoint: PathBuf,
    /// The daemon.
    pub pid: i32,
    /// When the daemon started, in clock ticks since boot (proc(5), field 22), so that a reused pid is not taken for it.
    pub started: u64,
    /// A process inside the namespaces of a `run`, and when it started.
    #[serde(default)]
    pub inside: Option<(i32, u64)>,
    /// Whether merged takes no writes.
    pub read_only: bool,
    /// Whether other users were let in.
    pub allow_other: bool,
    /// Which others; all where empty.
    #[serde(default)]
    pub allowed: Vec<u32>,
}

/// When a process started, in clock ticks since boot; `None` if there is none of that pid.
#[must_use]
pub(super) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the fields begin after the last one.
    let rest = stat.get(stat.iter().rposition(|b| *b == b')')? + 2..)?;
    std::str::from_utf8(rest).ok()?.split(' ').nth(19)?.parse().ok()
}

pub(super) fn check_format(file: &Path, found: u32, known: u32) -> Result<(), SessionError> {
    if found <= known {
        Ok(())
    } else {
        Err(SessionError::NewerFormat { file: file.to_owned(), found, known })
    }
}

/// Reads one of our TOML files: first its format, then the rest.
pub(super) fn parse<T: serde::de::DeserializeOwned>(
    file: &Path,
    text: &str,
    known: u32,
    hint: &str,
) -> Result<T, SessionError> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }
    let corrupt = |e: toml::de::Error| SessionError::Corrupt {
        file: file.to_owned(),
        problem: e.message().to_owned(),
        hint: hint.to_owned(),
    };
    let head: Head = toml::from_str(text).map_err(corrupt)?;
    check_format(file, head.format, known)?;
    toml::from_str(text).map_err(corrupt)
}

/// A path for lists.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(super) struct AnyPath(#[serde(with = "path_bytes")] pub(super) PathBuf);

/// A path in TOML: text where it is UTF-8, else its bytes as numbers.
pub(super) mod path_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(in super::super) fn serialize<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        let bytes = path.as_os_str().as_bytes();
        let form = match std::str::from_utf8(bytes) {
            Ok(text) => Form::Text(text.to_owned()),
            Err(_) => Form::Bytes(bytes.to_owned()),
        };
        serde::Serialize::serialize(&form, to)
    }

    pub(in super::super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<PathBuf, D::Error> {
        let path = match serde::Deserialize::deserialize(from)? {
            Form::Text(text) => PathBuf::from(text),
            Form::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        };
        if path.is_absolute() { Ok(path) } else { Err(serde::de::Error::custom("a path is not absolute")) }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn record() -> SessionRecord {
        SessionRecord {
            format: FORMAT,
            name: SessionName::new("a").unwrap(),
            workspace: PathBuf::from(OsString::from_vec(b"/w/\xff\n".to_vec())),
            dev: 1,
            ino: u64::MAX >> 1,
            created: 3,
        }
    }

    #[test]
    fn a_path_of_any_bytes_survives() {
        let text = toml::to_string(&record()).unwrap();
        assert_eq!(parse::<SessionRecord>(Path::new("f"), &text, FORMAT, "").unwrap(), record());
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_an_error_or_a_record() {
        let mut record = record();
        record.workspace = "/w".into();
        let text = toml::to_string(&record).unwrap();
        for cut in 0..text.len() {
            if let Ok(read) = parse::<SessionRecord>(Path::new("f"), &text[..cut], FORMAT, "") {
                assert!(record.created.to_string().starts_with(&read.created.to_string()));
            }
        }
        let newer = text.replace("format = 1", "format = 9");
        let error = parse::<SessionRecord>(Path::new("f"), &newer, FORMAT, "").unwrap_err();
        assert!(matches!(error, SessionError::NewerFormat { found: 9, known: 1, .. }));
        let relative = text.replace("/w", "w");
        assert!(matches!(
            parse::<SessionRecord>(Path::new("f"), &relative, FORMAT, ""),
            Err(SessionError::Corrupt { .. })
        ));
    }

    #[test]
    fn the_own_start_time_is_known() {
        let own = start_time(rustix::process::getpid().as_raw_nonzero().get()).unwrap();
        assert!(own > 0);
        assert_eq!(start_time(i32::MAX), None);
    }
}
