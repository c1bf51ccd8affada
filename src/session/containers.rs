//! A mount as the bind source of a container: what must hold on this machine, and the words that the engine wants. The default
//! mountpoint lies in a directory of mode 0700, so a mount with `allow_other` is open to those whom the engine lets in, not to
//! every user of the machine.

use std::fs;
use std::path::Path;

use super::mount::check;
use super::mounts::{mount_of, mount_table};
use super::{MountError, SessionError};
use crate::path::Escaped;

/// What a mount is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Docker, its daemon as root or as the user.
    Docker,
    /// Podman, as root or as the user.
    Podman,
    /// bubblewrap.
    Bwrap,
    /// A `devcontainer.json`.
    Devcontainer,
}

/// Something that is likely in the way, and the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// What was found, a sentence without a full stop.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

/// How a mountpoint is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The words to give to the engine, quoted for a shell; for a `devcontainer.json` its two lines.
    pub line: String,
    /// What is likely in the way.
    pub concerns: Vec<Concern>,
}

/// Where a workspace is in a container.
const TARGET: &str = "/workspace";

impl Engine {
    /// The engine of a name: `docker`, `podman`, `bwrap`, `devcontainer`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "docker" => Some(Self::Docker),
            "podman" => Some(Self::Podman),
            "bwrap" => Some(Self::Bwrap),
            "devcontainer" => Some(Self::Devcontainer),
            _ => None,
        }
    }

    /// Whether others than the mount's owner must get in: an engine that runs as root, or a program in the container under another uid.
    #[must_use]
    pub fn needs_allow_other(self) -> bool {
        match self {
            Self::Docker | Self::Devcontainer => !docker_is_rootless(),
            // Container root is the caller itself; with root's podman, programs run under other uids.
            Self::Podman => rustix::process::geteuid().is_root(),
            Self::Bwrap => false,
        }
    }

    /// What must hold before the mount is made.
    ///
    /// # Errors
    /// [`MountError::NoAllowOther`] where other users must get in and may not.
    pub fn preflight(self) -> Result<(), SessionError> {
        let user = !rustix::process::geteuid().is_root();
        if self.needs_allow_other() && user && !check::user_allow_other() {
            return Err(MountError::NoAllowOther.into());
        }
        Ok(())
    }

    fn program(self) -> &'static str {
        match self {
            Self::Docker | Self::Devcontainer => "docker",
            Self::Podman => "podman",
            Self::Bwrap => "bwrap",
        }
    }

    /// The words that bind a mountpoint, and what is likely in the way.
    ///
    /// # Errors
    /// [`SessionError::Io`] for the table of mounts; [`MountError::BadMountpoint`] for a path that the engine cannot take.
    pub fn binding(self, mountpoint: &Path, read_only: bool) -> Result<Binding, SessionError> {
        let text = mountpoint.to_str().filter(|t| !t.contains([',', '"', '\n']));
        let Some(path) = text else {
            let problem = "the engine takes no comma, quote or byte outside of UTF-8 in it".to_owned();
            return Err(MountError::BadMountpoint { path: mountpoint.to_owned(), problem }.into());
        };
        let only = if read_only { ",readonly" } else { "" };
        let bind = format!("type=bind,source={path},target={TARGET}{only}");
        let label = if selinux_enforces() { "--security-opt label=disable " } else { "" };
        let line = match self {
            Self::Docker | Self::Podman => format!("{label}--mount {}", quote(&bind)),
            Self::Bwrap => {
                format!("{} {} {TARGET}", if read_only { "--ro-bind" } else { "--bind" }, quote(path))
            }
            Self::Devcontainer => {
                format!("\"workspaceMount\": \"{bind}\",\n\"workspaceFolder\": \"{TARGET}\",")
            }
        };
        Ok(Binding { line, concerns: self.concerns(mountpoint)? })
    }

    fn concerns(self, mountpoint: &Path) -> Result<Vec<Concern>, SessionError> {
        let mut concerns = Vec::new();
        let program = self.program();
        match check::find_program(program) {
            None => concerns.push(Concern {
                what: format!("{program} is not installed"),
                cure: format!("install {program}"),
            }),
            Some(path) if path.starts_with("/snap") => concerns.push(Concern {
                what: format!("{program} is a snap, which does not see mounts beneath hidden directories"),
                cure: "name a mountpoint with --at DIR, or install the engine from the distribution"
                    .to_owned(),
            }),
            Some(_) => {}
        }
        let own_space =
            matches!(self, Self::Podman) && !rustix::process::geteuid().is_root() || docker_is_rootless();
        if own_space && !is_shared(mountpoint)? {
            concerns.push(Concern {
                what: format!(
                    "mounts made at {} do not reach an engine that runs in namespaces of its own already",
                    Escaped::path(mountpoint)
                ),
                cure: "as root: mount --make-rshared /; or begin the engine's namespaces anew: podman system migrate"
                    .to_owned(),
            });
        }
        Ok(concerns)
    }
}

/// Whether what is mounted at a path appears in namespaces that were copied earlier.
pub(super) fn is_shared(mountpoint: &Path) -> Result<bool, SessionError> {
    let table = mount_table().map_err(SessionError::io("read", Path::new("/proc/self/mountinfo")))?;
    let parent = mountpoint.parent().unwrap_or(mountpoint);
    Ok(mount_of(&table, parent).is_some_and(|mount| mount.shared))
}

pub(super) fn selinux_enforces() -> bool {
    fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|value| value.trim() == "1")
}

/// Whether the Docker daemon that this user's client talks to runs as the user.
fn docker_is_rootless() -> bool {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let runtime = std::env::var("XDG_RUNTIME_DIR").unwrap_or_default();
    !runtime.is_empty() && host.strip_prefix("unix://").is_some_and(|path| path.starts_with(&runtime))
}

/// Quoted for a shell where that is needed.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=,:@+".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_each_engine() {
        let line = |engine: Engine, path: &str, ro| engine.binding(Path::new(path), ro).unwrap().line;
        let docker = line(Engine::Docker, "/s/a b/merged", true);
        assert!(
            docker.ends_with("--mount 'type=bind,source=/s/a b/merged,target=/workspace,readonly'"),
            "{docker}"
        );
        assert!(line(Engine::Podman, "/m", false).ends_with("--mount type=bind,source=/m,target=/workspace"));
        assert_eq!(line(Engine::Bwrap, "/it's", false), "--bind '/it'\\''s' /workspace");
        assert_eq!(line(Engine::Bwrap, "/m", true), "--ro-bind /m /workspace");
        assert!(
            line(Engine::Devcontainer, "/m", false).contains("\"workspaceMount\": \"type=bind,source=/m,")
        );
        assert!(Engine::Docker.binding(Path::new("/a,b"), false).is_err());
        assert_eq!(Engine::from_name("lxc"), None);
    }
}
