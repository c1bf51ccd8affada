//! Why a program could not be run in namespaces of its own. Nothing is ever run unprotected instead.

use std::path::PathBuf;

use crate::path::Escaped;
use crate::session::SessionName;
use crate::sys::Errno;

/// Why a program could not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The kernel does not let this user make namespaces.
    #[error("this machine does not let you make user namespaces: {errno}")]
    Forbidden {
        /// What the kernel said.
        errno: Errno,
        /// Which setting is in the way, and how to change it.
        cure: String,
    },
    /// This process has threads, so it cannot be copied.
    #[error("this process has {0} threads, and can make namespaces only with one")]
    Threads(usize),
    /// A step of the set-up failed; the program was not started.
    #[error("the namespaces could not be set up: {step}{}: {errno}", at(.path))]
    SetUp {
        /// What was tried.
        step: String,
        /// Where, or empty.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// The first process of the namespaces ended without a word.
    #[error("the namespaces' first process ended before the program began ({0})")]
    Ended(String),
    /// The root directory cannot be covered.
    #[error("a workspace at / cannot be covered by its merged tree")]
    RootWorkspace,
    /// One workspace was named twice, or the same session.
    #[error("{} is named twice", Escaped::path(.0))]
    Twice(PathBuf),
    /// The current directory does not exist in the merged tree.
    #[error("the current directory, {}, does not exist for the program", Escaped::path(.0))]
    NoCurrentDirectory(PathBuf),
    /// There is no home directory to make private.
    #[error("there is no home directory: HOME is not set to an existing directory")]
    NoHome,
    /// No agent has that name.
    #[error("there is no agent `{}` in the list", Escaped(.name.as_bytes()))]
    NoAgent {
        /// What was given.
        name: String,
        /// The names that are known.
        known: String,
    },
    /// The session is not in use by a `run`.
    #[error("session `{0}` is not running")]
    NotRunning(SessionName),
}

impl RunError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Forbidden { cure, .. } => cure.clone(),
            Self::Threads(_) | Self::Ended(_) => "report this".to_owned(),
            Self::SetUp { errno: Errno::PERM | Errno::ACCESS, .. } => {
                "scrubfs doctor   (a security module may forbid mounts in user namespaces)".to_owned()
            }
            Self::SetUp { .. } => "scrubfs doctor".to_owned(),
            Self::RootWorkspace => "name a directory beneath it".to_owned(),
            Self::Twice(_) => "name each workspace once".to_owned(),
            Self::NoCurrentDirectory(_) => "cd to a directory that is not hidden".to_owned(),
            Self::NoHome => "set HOME".to_owned(),
            Self::NoAgent { known, .. } => {
                format!("name one of {known}; or give paths back with --expose PATH")
            }
            Self::NotRunning(name) => format!("scrubfs run --session {name} -- COMMAND"),
        };
        Some(text)
    }

    /// The error of making namespaces, with the setting that is likely in the way.
    pub(super) fn namespaces(errno: Errno) -> Self {
        let setting = |path: &str| std::fs::read_to_string(path).ok().map(|v| v.trim().to_owned());
        Self::Forbidden { errno, cure: cure(errno, &setting) }
    }
}

fn at(path: &std::path::Path) -> String {
    if path.as_os_str().is_empty() { String::new() } else { format!(" {}", Escaped::path(path)) }
}

/// Which setting forbids user namespaces. `setting` reads a file of `/proc/sys`.
pub(in crate::session) fn cure(errno: Errno, setting: &dyn Fn(&str) -> Option<String>) -> String {
    let is = |name: &str, value: &str| setting(&format!("/proc/sys/{name}")).as_deref() == Some(value);
    if is("kernel/unprivileged_userns_clone", "0") {
        return "as root: sysctl -w kernel.unprivileged_userns_clone=1".to_owned();
    }
    if is("user/max_user_namespaces", "0") || errno == Errno::NOSPC {
        return "as root: sysctl -w user.max_user_namespaces=15000".to_owned();
    }
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0   \
                (or give scrubfs an AppArmor profile with `userns,`)"
            .to_owned();
    }
    if errno == Errno::INVAL || errno == Errno::NOSYS {
        return "use a kernel that is built with CONFIG_USER_NS".to_owned();
    }
    "in a container: --security-opt seccomp=unconfined --security-opt apparmor=unconfined, or --cap-add SYS_ADMIN"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_in_the_way_is_named() {
        let with = |errno, name: &'static str, value: &'static str| {
            cure(errno, &move |path| (path == format!("/proc/sys/{name}")).then(|| value.to_owned()))
        };
        assert!(with(Errno::PERM, "kernel/unprivileged_userns_clone", "0").contains("userns_clone=1"));
        assert!(with(Errno::NOSPC, "user/max_user_namespaces", "0").contains("max_user_namespaces"));
        assert!(with(Errno::PERM, "kernel/apparmor_restrict_unprivileged_userns", "1").contains("apparmor"));
        assert!(with(Errno::PERM, "x", "0").contains("seccomp"));
        assert!(with(Errno::INVAL, "x", "0").contains("CONFIG_USER_NS"));
    }
}
