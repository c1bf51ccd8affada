//! The state directory and the configuration directory of one user. They are made with mode 0700 and refused when they belong
//! to somebody else; a state directory that others can enter is closed to them first.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::SessionError;
use super::record::{check_format, parse};
use crate::apply::Allow;
use crate::change::Flag;
use crate::path::Escaped;

/// The newest format of the state directory that this program knows.
const FORMAT: u32 = 1;

/// The directory of the verdict caches, one a workspace, in the state directory.
pub(super) const VERDICTS: &str = "verdicts";

/// Where sessions live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The directory that the environment names, made if it is not there: `$SCRUBFS_STATE_DIR`, else
    /// `$XDG_STATE_HOME/scrubfs`, else `~/.local/state/scrubfs`.
    ///
    /// # Errors
    /// [`SessionError::NoHome`], and as [`StateDir::at`].
    pub fn from_env() -> Result<Self, SessionError> {
        let dir =
            place("SCRUBFS_STATE_DIR", "XDG_STATE_HOME", ".local/state", &|name| std::env::var_os(name))
                .ok_or(SessionError::NoHome("sessions", "SCRUBFS_STATE_DIR"))?;
        Self::at(&dir)
    }

    /// This directory, made if it is not there.
    ///
    /// # Errors
    /// [`SessionError::Unsafe`] if it belongs to another user, [`SessionError::NewerFormat`] if a newer program made it,
    /// [`SessionError::Io`].
    pub fn at(dir: &Path) -> Result<Self, SessionError> {
        make_private_dir(dir)?;
        let root = fs::canonicalize(dir).map_err(SessionError::io("open", dir))?;
        let this = Self { root };
        make_private_dir(&this.sessions_dir())?;
        this.check_format()?;
        Ok(this)
    }

    fn check_format(&self) -> Result<(), SessionError> {
        let file = self.root.join("format");
        match read_small(&file) {
            Ok(Some(text)) => match text.trim().parse::<u32>() {
                Ok(found) => check_format(&file, found, FORMAT),
                Err(_) => Err(SessionError::Corrupt {
                    problem: "it should hold one number".to_owned(),
                    hint: format!("echo {FORMAT} > {}", Escaped::path(&file)),
                    file,
                }),
            },
            Ok(None) => write_private(&file, format!("{FORMAT}\n").as_bytes()),
            Err(e) => Err(e),
        }
    }

    /// The directory itself, absolute and free of links.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory in which each session has its own.
    #[must_use]
    pub fn sessions_dir(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// Device and inode, so that it can be hidden where it lies in a workspace.
    ///
    /// # Errors
    /// [`SessionError::Io`].
    pub fn identity(&self) -> Result<(u64, u64), SessionError> {
        let meta = fs::metadata(&self.root).map_err(SessionError::io("look at", &self.root))?;
        Ok((meta.dev(), meta.ino()))
    }
}

/// Where the user's configuration and rules are: `$SCRUBFS_CONFIG_DIR`, else `$XDG_CONFIG_HOME/scrubfs`, else
/// `~/.config/scrubfs`. It need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDir {
    root: PathBuf,
}

/// What `config.toml` may say: defaults for the options of `mount` and `run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Patterns to hide in every workspace.
    pub hide: Vec<String>,
    /// Patterns to redact in every workspace.
    pub redact: Vec<String>,
    /// Patterns to show in every workspace.
    pub show: Vec<String>,
    /// Further rule files, relative to the configuration directory.
    pub rules: Vec<PathBuf>,
    /// Turns the entropy-based rules on.
    pub strict: bool,
    /// Lets other users use every mount.
    pub allow_other: bool,
    /// Paths of the home directory that `run` gives back.
    pub expose: Vec<PathBuf>,
    /// Gates of `apply` that stand open.
    pub gates: Gates,
}

/// Which gates need not be named at each apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gates {
    /// `FLAG` or `FLAG:PATH`, as `apply --allow` takes it.
    pub allow: Vec<OpenGate>,
}

/// A gate that stands open.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct OpenGate(pub Allow);

impl TryFrom<String> for OpenGate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allow = Allow::parse(text.as_bytes()).map_err(|e| e.to_string())?;
        // It stands for one file of the user's that an agent cannot see, so each is a decision of its own.
        if allow.flag() == Flag::HiddenName.as_str() {
            return Err(
                "`hidden-name` is let through by naming the path at apply, not by configuration".to_owned()
            );
        }
        Ok(Self(allow))
    }
}

/// The gates of a configuration do not count: it lies in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the gates that {} opens stay closed, because it lies in the workspace", Escaped::path(.0))]
pub struct GatesIgnored(pub PathBuf);

impl ConfigDir {
    /// The directory that the environment names.
    ///
    /// # Errors
    /// [`SessionError::NoHome`].
    pub fn from_env() -> Result<Self, SessionError> {
        place("SCRUBFS_CONFIG_DIR", "XDG_CONFIG_HOME", ".config", &|name| std::env::var_os(name))
            .map(|root| Self { root })
            .ok_or(SessionError::NoHome("the configuration", "SCRUBFS_CONFIG_DIR"))
    }

    /// This directory.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { root: dir.to_owned() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads `config.toml`; the defaults where there is none.
    ///
    /// # Errors
    /// [`SessionError::Config`] says where it is wrong; [`SessionError::Io`].
    pub fn config(&self) -> Result<Config, SessionError> {
        let file = self.root.join("config.toml");
        let Some(text) = read_small(&file)? else { return Ok(Config::default()) };
        toml::from_str(&text).map_err(|e| SessionError::Config { file, problem: e.to_string() })
    }

    /// The gates that `config.toml` opens for a workspace. None, if the file lies in that workspace or is a link into it: who
    /// writes there must not open a gate for himself. The answer then says so.
    ///
    /// # Errors
    /// As [`ConfigDir::config`].
    pub fn gates(&self, workspace: &Path) -> Result<Result<Vec<Allow>, GatesIgnored>, SessionError> {
        let open: Vec<Allow> = self.config()?.gates.allow.into_iter().map(|g| g.0).collect();
        if open.is_empty() {
            return Ok(Ok(open));
        }
        let real = |path: &Path| fs::canonicalize(path).map_err(SessionError::io("find", path));
        let workspace = real(workspace)?;
        let file = self.root.join("config.toml");
        let inside = real(&file)?.starts_with(&workspace) || real(&self.root)?.starts_with(&workspace);
        Ok(if inside { Err(GatesIgnored(file)) } else { Ok(open) })
    }

    /// The text of `rules.toml`, if there is one, and its path.
    ///
    /// # Errors
    /// [`SessionError::Io`], [`SessionError::RuleFile`].
    pub fn rules(&self) -> Result<Option<(PathBuf, String)>, SessionError> {
        let file = self.root.join("rules.toml");
        Ok(read_small(&file)?.map(|text| (file, text)))
    }
}

fn place(own: &str, xdg: &str, below_home: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|p| p.is_absolute());
    // A relative path of ours is the user's plain word and counts from here; the XDG specification says to ignore relative ones.
    if let Some(dir) = env(own).filter(|v| !v.is_empty()) {
        return Some(PathBuf::from(dir));
    }
    if let Some(dir) = absolute(xdg) {
        return Some(dir.join("scrubfs"));
    }
    absolute("HOME").map(|home| home.join(below_home).join("scrubfs"))
}

/// Makes a directory that only its owner can enter, or sees to it that an existing one is such.
pub(super) fn make_private_dir(dir: &Path) -> Result<(), SessionError> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(SessionError::io("make", parent))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other.map_err(SessionError::io("make", dir)),
    }
    let meta = fs::metadata(dir).map_err(SessionError::io("look at", dir))?;
    let unsafe_dir = |problem| SessionError::Unsafe { path: dir.to_owned(), problem };
    if !meta.is_dir() {
        return Err(unsafe_dir("it is not a directory"));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(unsafe_dir("it belongs to another user"));
    }
    if meta.mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(SessionError::io("close to others", dir))?;
    }
    Ok(())
}

/// Replaces a file of ours in one step; what was there stays until the new content is on disk.
pub(super) fn write_private(file: &Path, content: &[u8]) -> Result<(), SessionError> {
    replace(file, content, true)
}

/// As [`write_private`] for what means nothing any more after a loss of power, so it need not wait for the disk.
pub(super) fn write_volatile(file: &Path, content: &[u8]) -> Result<(), SessionError> {
    replace(file, content, false)
}

fn replace(file: &Path, content: &[u8], durable: bool) -> Result<(), SessionError> {
    // Two processes may write the same file at once, so each has its own temporary name.
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temp = file.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let write = || -> io::Result<()> {
        let mut out =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        out.write_all(content)?;
        if durable {
            out.sync_all()?;
        }
        fs::rename(&temp, file)
    };
    write().map_err(SessionError::io("write", file))
}

/// Files that people and we write are small; a larger one is not ours.
const SMALL: u64 = 1 << 20;

/// Reads a text file of at most 1 MiB; `None` if there is none.
pub(super) fn read_small(file: &Path) -> Result<Option<String>, SessionError> {
    let meta = match fs::metadata(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(SessionError::io("read", file))?,
    };
    let refuse =
        |problem: &str| SessionError::RuleFile { file: file.to_owned(), problem: problem.to_owned() };
    if !meta.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    if meta.len() > SMALL {
        return Err(refuse("it is larger than 1 MiB"));
    }
    let bytes = fs::read(file).map_err(SessionError::io("read", file))?;
    String::from_utf8(bytes).map(Some).map_err(|_| refuse("it is not UTF-8"))
}

/// Reads one of our own TOML files; `None` if there is none.
pub(super) fn read_toml<T: serde::de::DeserializeOwned>(
    file: &Path,
    format: u32,
    hint: &str,
) -> Result<Option<T>, SessionError> {
    let text = match read_small(file) {
        Err(SessionError::RuleFile { file, problem }) => {
            return Err(SessionError::Corrupt { file, problem, hint: hint.to_owned() });
        }
        other => other?,
    };
    text.map(|text| parse(file, &text, format, hint)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v))
    }

    #[test]
    fn the_environment_names_the_place() {
        let get =
            |vars: &[(&str, &str)]| place("SCRUBFS_STATE_DIR", "XDG_STATE_HOME", ".local/state", &env(vars));
        assert_eq!(get(&[("SCRUBFS_STATE_DIR", "/s"), ("HOME", "/h")]), Some("/s".into()));
        assert_eq!(get(&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")]), Some("/x/scrubfs".into()));
        assert_eq!(get(&[("XDG_STATE_HOME", "rel"), ("HOME", "/h")]), Some("/h/.local/state/scrubfs".into()));
        assert_eq!(get(&[("SCRUBFS_STATE_DIR", ""), ("HOME", "rel")]), None);
    }

    #[test]
    fn an_open_directory_is_closed_and_a_newer_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        let state = StateDir::at(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(state.root().join("format")).unwrap().mode() & 0o777, 0o600);
        fs::write(root.join("format"), "2\n").unwrap();
        assert!(matches!(StateDir::at(&root), Err(SessionError::NewerFormat { found: 2, .. })));
        fs::write(root.join("format"), "x").unwrap();
        assert!(matches!(StateDir::at(&root), Err(SessionError::Corrupt { .. })));
    }

    #[test]
    fn an_unknown_key_in_the_configuration_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let config = ConfigDir::at(dir.path());
        assert_eq!(config.config().unwrap(), Config::default());
        fs::write(dir.path().join("config.toml"), "strict = true\nhide = [\"*.x\"]\n").unwrap();
        assert!(config.config().unwrap().strict);
        fs::write(dir.path().join("config.toml"), "strict = true\nhyde = []\n").unwrap();
        let error = config.config().unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("config.toml"), "{error}");
    }

    #[test]
    fn gates_stand_open_only_by_a_file_outside_the_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let (config, workspace) = (ConfigDir::at(&dir.path().join("c")), dir.path().join("w"));
        for sub in ["c", "w/dots"] {
            fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        let file = dir.path().join("c/config.toml");
        assert_eq!(config.gates(&workspace).unwrap(), Ok(Vec::new()));
        fs::write(&file, "[gates]\nallow = [\"exec-bit:bin/*\", \"bidi\"]\n").unwrap();
        let shown: Vec<String> =
            config.gates(&workspace).unwrap().unwrap().iter().map(Allow::to_string).collect();
        assert_eq!(shown, ["exec-bit:bin/*", "bidi"]);
        for (text, says) in [
            ("exec-bits", "`exec-bits` names no flag: there are hidden-name, "),
            ("exec-bit:../x", "`../x` is not a path"),
            ("hidden-name:.env", "naming the path"),
        ] {
            fs::write(&file, format!("strict = true\n[gates]\nallow = [\"bidi\", \"{text}\"]\n")).unwrap();
            let error = config.config().unwrap_err().to_string();
            assert!(error.contains("line 3, column ") && error.contains(says), "{error}");
        }
        fs::write(dir.path().join("w/dots/config.toml"), "[gates]\nallow = [\"bidi\"]\n").unwrap();
        assert!(ConfigDir::at(&dir.path().join("w/dots")).gates(&workspace).unwrap().is_err());
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(dir.path().join("w/dots/config.toml"), &file).unwrap();
        assert!(config.gates(&workspace).unwrap().is_err());
    }
}
