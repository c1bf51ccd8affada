//! Which rules a session has. They are gathered once, when it is mounted: the built-in ones, the user's, the workspace's own
//! `.scrubfs.toml` (read beneath the workspace's root, so a link leads nowhere), and the command line's. The texts are kept with the
//! session, so `diff` and `apply` judge as the mount did, whatever the files say by then.

use std::path::{Path, PathBuf};

use super::record::{FORMAT, path_bytes};
use super::state::{read_small, read_toml, write_private};
use super::{Config, ConfigDir, SessionError};
use crate::layer::LowerDir;
use crate::path::{Escaped, RelPath};
use crate::policy::{Policy, PolicyBuilder, RuleError};
use crate::sys;

/// The name of a workspace's own rule file.
const WORKSPACE_RULES: &str = ".scrubfs.toml";

/// A workspace's rule file may have this many bytes.
const RULES_MAX: u64 = 1 << 20;

/// One `--hide`, `--redact` or `--show`. The last one that matches a path wins.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyOption {
    /// Hide what matches.
    Hide(String),
    /// Redact what matches.
    Redact(String),
    /// Show what matches, unmasked.
    Show(String),
}

/// A user's rule file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct RuleFile {
    #[serde(with = "path_bytes")]
    path: PathBuf,
    text: String,
}

/// All that the policy of a session is built from.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PolicySource {
    format: u32,
    strict: bool,
    workspace: Option<String>,
    #[serde(default)]
    config: Vec<PolicyOption>,
    #[serde(default)]
    options: Vec<PolicyOption>,
    #[serde(default)]
    files: Vec<RuleFile>,
    #[serde(default)]
    named: Vec<RuleFile>,
}

impl PolicySource {
    /// Reads the rules that hold for a workspace now. `options` and `rule_files` are the command line's, in its order; those of
    /// `before`, the session's last mount, still hold and come first.
    ///
    /// # Errors
    /// [`SessionError::Config`], [`SessionError::RuleFile`] or [`SessionError::Io`] for a file that cannot be read. A rule
    /// file of the workspace that cannot be read is an error too: it may hide something.
    pub fn gather(
        config_dir: &ConfigDir,
        lower: &LowerDir,
        before: Option<&Self>,
        options: &[PolicyOption],
        rule_files: &[PathBuf],
        strict: bool,
    ) -> Result<Self, SessionError> {
        let config = config_dir.config()?;
        let mut files: Vec<RuleFile> =
            config_dir.rules()?.map(|(path, text)| RuleFile { path, text }).into_iter().collect();
        for path in &config.rules {
            files.push(read_rules(&config_dir.root().join(path))?);
        }
        let mut named: Vec<RuleFile> = Vec::new();
        let earlier = before.map(|b| b.named.iter().map(|f| f.path.as_path())).into_iter().flatten();
        for path in earlier.chain(rule_files.iter().map(PathBuf::as_path)) {
            let path = std::path::absolute(path).map_err(SessionError::io("find", path))?;
            named.retain(|f| f.path != path);
            named.push(read_rules(&path)?);
        }
        let mut all = before.map(|b| b.options.clone()).unwrap_or_default();
        for option in options {
            all.retain(|o| o != option);
            all.push(option.clone());
        }
        Ok(Self {
            format: FORMAT,
            strict: strict || config.strict || before.is_some_and(|b| b.strict),
            workspace: workspace_rules(lower)?,
            config: config_options(config),
            options: all,
            files,
            named,
        })
    }

    /// The same rules, with some more patterns that are shown.
    pub(super) fn showing(&self, patterns: &[String]) -> Self {
        let mut more = self.clone();
        more.options.extend(patterns.iter().cloned().map(PolicyOption::Show));
        more
    }

    /// Compiles the policy.
    ///
    /// # Errors
    /// [`RuleError`] names file, line and rule.
    pub fn build(&self) -> Result<Policy, RuleError> {
        let mut builder = PolicyBuilder::builtin();
        for file in self.files.iter().chain(&self.named) {
            builder.user_rules(&file.text, &Escaped::path(&file.path).to_string())?;
        }
        if let Some(text) = &self.workspace {
            builder.workspace_rules(text, WORKSPACE_RULES)?;
        }
        for option in self.config.iter().chain(&self.options) {
            match option {
                PolicyOption::Hide(pattern) => builder.hide(pattern)?,
                PolicyOption::Redact(pattern) => builder.redact(pattern)?,
                PolicyOption::Show(pattern) => builder.show(pattern)?,
            };
        }
        builder.strict(self.strict).build()
    }

    /// The command line's options that hold for the session.
    #[must_use]
    pub fn options(&self) -> &[PolicyOption] {
        &self.options
    }

    pub(super) fn load(file: &Path) -> Result<Option<Self>, SessionError> {
        read_toml(file, FORMAT, &format!("move {} away and mount the session anew", Escaped::path(file)))
    }

    pub(super) fn save(&self, file: &Path) -> Result<(), SessionError> {
        let text = toml::to_string(self).map_err(|e| SessionError::Corrupt {
            file: file.to_owned(),
            problem: e.to_string(),
            hint: "report this".to_owned(),
        })?;
        write_private(file, text.as_bytes())
    }
}

fn config_options(config: Config) -> Vec<PolicyOption> {
    let hide = config.hide.into_iter().map(PolicyOption::Hide);
    let redact = config.redact.into_iter().map(PolicyOption::Redact);
    // What the user's own configuration shows comes last: there it is an exception from the two lists before.
    hide.chain(redact).chain(config.show.into_iter().map(PolicyOption::Show)).collect()
}

fn read_rules(path: &Path) -> Result<RuleFile, SessionError> {
    let text = read_small(path)?.ok_or_else(|| SessionError::RuleFile {
        file: path.to_owned(),
        problem: "it does not exist".to_owned(),
    })?;
    Ok(RuleFile { path: path.to_owned(), text })
}

fn workspace_rules(lower: &LowerDir) -> Result<Option<String>, SessionError> {
    use std::io::Read as _;
    let name = RelPath::parse(WORKSPACE_RULES).unwrap_or_default();
    let refuse = |problem: String| SessionError::RuleFile { file: WORKSPACE_RULES.into(), problem };
    let file = match lower.open_file(&name) {
        Err(errno) if sys::is_absent(errno) => return Ok(None),
        other => other.map_err(|errno| refuse(format!("it cannot be read as a regular file: {errno}")))?,
    };
    let mut bytes = Vec::new();
    file.take(RULES_MAX + 1).read_to_end(&mut bytes).map_err(|e| refuse(e.to_string()))?;
    if bytes.len() as u64 > RULES_MAX {
        return Err(refuse("it is larger than 1 MiB".to_owned()));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| refuse("it is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(
        dir: &Path,
        before: Option<&PolicySource>,
        options: &[PolicyOption],
    ) -> Result<PolicySource, SessionError> {
        let lower = LowerDir::open(dir).unwrap();
        PolicySource::gather(&ConfigDir::at(&dir.join("config")), &lower, before, options, &[], false)
    }

    #[test]
    fn options_add_up_over_the_mounts_of_a_session_and_the_last_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (hide, show) = (PolicyOption::Hide("*.x".into()), PolicyOption::Show("*.x".into()));
        let first = gather(dir.path(), None, std::slice::from_ref(&hide)).unwrap();
        let second = gather(dir.path(), Some(&first), std::slice::from_ref(&show)).unwrap();
        assert_eq!(second.options(), [hide.clone(), show.clone()]);
        let third = gather(dir.path(), Some(&second), std::slice::from_ref(&hide)).unwrap();
        assert_eq!(third.options(), [show, hide]);
        let file = dir.path().join("policy.toml");
        third.save(&file).unwrap();
        assert_eq!(PolicySource::load(&file).unwrap().unwrap(), third);
    }

    #[test]
    fn a_workspace_rule_file_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(WORKSPACE_RULES);
        std::fs::write(&file, b"\xff").unwrap();
        assert!(matches!(gather(dir.path(), None, &[]), Err(SessionError::RuleFile { .. })));
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert!(matches!(gather(dir.path(), None, &[]), Err(SessionError::RuleFile { .. })));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(gather(dir.path(), None, &[]).unwrap().workspace, None);
    }
}
