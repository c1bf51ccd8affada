//! A volume: a session, with a file `volume.toml` in its directory that says under which name and with which options the engine knows
//! it, and for which containers it is mounted. There is no other list of volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::VolumeError;
use crate::path::Escaped;
use crate::session::mount::check;
use crate::session::record::FORMAT;
use crate::session::state::{read_toml, write_private};
use crate::session::{MountRequest, PolicyOption, Session, SessionError, SessionName};

/// All options, for hints.
pub(super) const OPTIONS: &str = "source=DIR, session=NAME, hide=PAT,…, redact=PAT,…, show=PAT,…, rules=FILE,…, strict, read-only, \
    allow-other=UID,…, on-remove=refuse|keep|discard";

/// The longest name of a volume, in bytes.
const NAME_MAX: usize = 255;

/// What becomes of a session that was made for a volume when the volume is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnRemove {
    /// Goes, unless it has changes: then the removal is refused.
    Refuse,
    /// Stays, and is no volume any more.
    Keep,
    /// Goes with its changes.
    Discard,
}

/// What `-o` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) source: PathBuf,
    pub(super) session: SessionName,
    pub(super) policy: Vec<PolicyOption>,
    pub(super) rule_files: Vec<PathBuf>,
    pub(super) strict: bool,
    pub(super) read_only: bool,
    pub(super) allowed: Vec<u32>,
    pub(super) on_remove: OnRemove,
}

impl Options {
    /// Parses the options of a volume. Lists are separated by commas, except in braces.
    pub(super) fn parse(name: &str, given: &BTreeMap<String, String>) -> Result<Self, SessionError> {
        check_name(name)?;
        let mut source = None;
        let mut session = None;
        let mut parsed = Self {
            source: PathBuf::new(),
            // Replaced below; a volume's name may be too long for a session.
            session: SessionName::for_workspace(Path::new("volume"), 1),
            policy: Vec::new(),
            rule_files: Vec::new(),
            strict: false,
            read_only: false,
            allowed: Vec::new(),
            on_remove: OnRemove::Refuse,
        };
        let mut shown = Vec::new();
        for (option, value) in given {
            let list = || split(value).into_iter();
            match option.as_str() {
                "source" => source = Some(absolute("source", value)?),
                "session" => session = Some(SessionName::new(value)?),
                "hide" => parsed.policy.extend(list().map(PolicyOption::Hide)),
                "redact" => parsed.policy.extend(list().map(PolicyOption::Redact)),
                // Last, so that it makes exceptions from the other two.
                "show" => shown.extend(list().map(PolicyOption::Show)),
                "rules" => {
                    for file in list() {
                        parsed.rule_files.push(absolute("rules", &file)?);
                    }
                }
                "strict" => parsed.strict = flag("strict", value)?,
                "read-only" => parsed.read_only = flag("read-only", value)?,
                "allow-other" => parsed.allowed = uids(value)?,
                "on-remove" => parsed.on_remove = on_remove(value)?,
                _ => return Err(VolumeError::UnknownOption(option.clone()).into()),
            }
        }
        parsed.policy.append(&mut shown);
        parsed.source = source.ok_or(VolumeError::NoSource)?;
        parsed.session = match session {
            Some(session) => session,
            None => SessionName::new(name).map_err(|error| match error {
                SessionError::BadName { name, problem } => {
                    VolumeError::BadName { name, problem: problem.to_owned() }.into()
                }
                other => other,
            })?,
        };
        Ok(parsed)
    }

    /// The mount that the volume is made with.
    pub(super) fn request(&self) -> MountRequest {
        MountRequest {
            workspace: self.source.clone(),
            session: Some(self.session.clone()),
            at: None,
            read_only: self.read_only,
            // A user's own engine gets in in any case; only programs under its other ids are kept out where this is not allowed.
            allow_other: !self.allowed.is_empty()
                || rustix::process::geteuid().is_root()
                || check::user_allow_other(),
            allowed: self.allowed.clone(),
            options: self.policy.clone(),
            rule_files: self.rule_files.clone(),
            strict: self.strict,
            prewarm: true,
        }
    }
}

/// As the engine checks them: a letter or digit, then also `_`, `.` and `-`.
fn check_name(name: &str) -> Result<(), VolumeError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let problem = match name.bytes().next() {
        None => "it is empty",
        Some(_) if name.len() > NAME_MAX => "it is longer than 255 bytes",
        Some(_) if !name.bytes().all(plain) => {
            "it holds something other than letters, digits, `.`, `_` and `-`"
        }
        Some(first) if !first.is_ascii_alphanumeric() => "it does not begin with a letter or a digit",
        Some(_) => return Ok(()),
    };
    Err(VolumeError::BadName { name: name.to_owned(), problem: problem.to_owned() })
}

fn absolute(option: &'static str, value: &str) -> Result<PathBuf, VolumeError> {
    let path = PathBuf::from(value);
    if path.is_absolute() { Ok(path) } else { Err(VolumeError::Relative { option, value: value.to_owned() }) }
}

fn flag(option: &'static str, value: &str) -> Result<bool, VolumeError> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(VolumeError::BadValue { option, value: value.to_owned(), takes: "`true` or `false`" }),
    }
}

fn uids(value: &str) -> Result<Vec<u32>, VolumeError> {
    let bad = |_| VolumeError::BadValue {
        option: "allow-other",
        value: value.to_owned(),
        takes: "numeric user ids, separated by commas",
    };
    value.split(',').map(|uid| uid.parse().map_err(bad)).collect()
}

fn on_remove(value: &str) -> Result<OnRemove, VolumeError> {
    match value {
        "refuse" => Ok(OnRemove::Refuse),
        "keep" => Ok(OnRemove::Keep),
        "discard" => Ok(OnRemove::Discard),
        _ => Err(VolumeError::BadValue {
            option: "on-remove",
            value: value.to_owned(),
            takes: "`refuse`, `keep` or `discard`",
        }),
    }
}

/// At commas outside of braces, because `*.{key,pem}` is one pattern. Empty pieces are left out.
fn split(value: &str) -> Vec<String> {
    let mut depth = 0_u32;
    let pieces = value.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    pieces.filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

/// `volume.toml`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct VolumeRecord {
    format: u32,
    /// Its name.
    pub(super) volume: String,
    /// Whether the session was made for the volume.
    pub(super) made: bool,
    /// The boot that `used_by` speaks of: no container outlives it.
    boot: String,
    /// The engine's words for who has it mounted.
    used_by: BTreeSet<String>,
    /// Its options as they were given.
    pub(super) options: BTreeMap<String, String>,
}

/// A volume with the session that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) session: Session,
    pub(super) record: VolumeRecord,
}

impl Volume {
    pub(super) fn new(
        session: Session,
        name: &str,
        made: bool,
        boot: &str,
        options: BTreeMap<String, String>,
    ) -> Self {
        let record = VolumeRecord {
            format: FORMAT,
            volume: name.to_owned(),
            made,
            boot: boot.to_owned(),
            used_by: BTreeSet::new(),
            options,
        };
        Self { session, record }
    }

    /// The volume that a session is; `None` if it is none.
    pub(super) fn of(session: Session) -> Result<Option<Self>, SessionError> {
        let file = file(&session);
        let hint = format!("move {} away; the session is not touched by that", Escaped::path(&file));
        Ok(read_toml(&file, FORMAT, &hint)?.map(|record| Self { session, record }))
    }

    /// The options, parsed.
    pub(super) fn options(&self) -> Result<Options, SessionError> {
        Options::parse(&self.record.volume, &self.record.options)
    }

    /// For whom it is mounted, in this boot.
    pub(super) fn used_by(&self, boot: &str) -> usize {
        if self.record.boot == boot { self.record.used_by.len() } else { 0 }
    }

    /// Notes a user; whether it is a new one.
    pub(super) fn add_user(&mut self, boot: &str, id: &str) -> bool {
        if self.record.boot != boot {
            boot.clone_into(&mut self.record.boot);
            self.record.used_by.clear();
        }
        self.record.used_by.insert(id.to_owned())
    }

    /// Forgets a user; whether it was one.
    pub(super) fn drop_user(&mut self, id: &str) -> bool {
        self.record.used_by.remove(id)
    }

    pub(super) fn save(&self) -> Result<(), SessionError> {
        let file = file(&self.session);
        let text = toml::to_string(&self.record).map_err(|e| SessionError::Corrupt {
            file: file.clone(),
            problem: e.to_string(),
            hint: "report this".to_owned(),
        })?;
        write_private(&file, text.as_bytes())
    }

    /// Makes a plain session of it.
    pub(super) fn detach(&self) -> Result<(), SessionError> {
        let file = file(&self.session);
        match fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(SessionError::io("remove", &file)(e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn file(session: &Session) -> PathBuf {
    session.dir().join("volume.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, given: &[(&str, &str)]) -> Result<Options, SessionError> {
        let given = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Options::parse(name, &given)
    }

    #[test]
    fn options_are_understood() {
        let given = [
            ("source", "/repo"),
            ("show", "a.key"),
            ("hide", "*.{key,pem},*.p12"),
            ("strict", ""),
            ("read-only", "false"),
            ("allow-other", "1000,1001"),
            ("on-remove", "keep"),
        ];
        let options = parse("shop_one", &given).unwrap();
        assert_eq!(options.session.as_str(), "shop_one");
        assert_eq!(
            options.policy,
            [
                PolicyOption::Hide("*.{key,pem}".into()),
                PolicyOption::Hide("*.p12".into()),
                PolicyOption::Show("a.key".into())
            ]
        );
        assert!(options.strict && !options.read_only && options.on_remove == OnRemove::Keep);
        assert_eq!(options.allowed, [1000, 1001]);
        let long = "v".repeat(100);
        assert!(parse(&long, &given).unwrap_err().hint().unwrap().contains("session=NAME"));
        assert!(parse(&long, &[("source", "/r"), ("session", "s")]).is_ok());
    }

    #[test]
    fn bad_options_are_named() {
        let refused = |given: &[(&str, &str)], says: &str| {
            let error = parse("v", given).unwrap_err();
            assert!(error.to_string().contains(says) && error.hint().is_some(), "{error}");
        };
        refused(&[], "needs the option `source`");
        refused(&[("source", "repo")], "must be an absolute path");
        refused(&[("source", "")], "must be an absolute path");
        refused(&[("source", "/r"), ("size", "1g")], "no option `size`");
        refused(&[("source", "/r"), ("strict", "maybe")], "`true` or `false`");
        refused(&[("source", "/r"), ("allow-other", "me")], "numeric user ids");
        refused(&[("source", "/r"), ("allow-other", "")], "numeric user ids");
        refused(&[("source", "/r"), ("on-remove", "now")], "`refuse`, `keep` or `discard`");
        refused(&[("source", "/r"), ("rules", "/a,b")], "must be an absolute path");
        refused(&[("source", "/r"), ("session", "../x")], "cannot name a session");
        for name in ["", "-x", "a/b", "a b", &"v".repeat(256)] {
            assert!(parse(name, &[("source", "/r"), ("session", "s")]).is_err(), "{name}");
        }
    }

    #[test]
    fn users_of_an_earlier_boot_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let state = crate::session::StateDir::at(&dir.path().join("state")).unwrap();
        let session = state.create(dir.path(), None).unwrap();
        let mut volume = Volume::new(session.clone(), "v", true, "boot-1", BTreeMap::new());
        assert!(volume.add_user("boot-1", "a") && !volume.add_user("boot-1", "a"));
        volume.save().unwrap();
        let mut volume = Volume::of(session).unwrap().unwrap();
        assert_eq!((volume.used_by("boot-1"), volume.used_by("boot-2")), (1, 0));
        assert!(volume.add_user("boot-2", "b") && volume.used_by("boot-2") == 1);
        assert!(volume.drop_user("b") && !volume.drop_user("a"));
    }
}
