//! What is to be mounted and covered in the namespaces of a `run`: decided outside, from the table of mounts and the environment,
//! carried out inside.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::session::mounts::{MountEntry, mount_of};

/// A workspace that merged is mounted over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Its real path.
    pub(super) path: PathBuf,
    /// Device and inode of its root, so that nothing else is covered by mistake; `None` for one that lies in another target, where
    /// merged shows it with numbers of its own.
    pub(super) identity: Option<(u64, u64)>,
    /// What the table of mounts is to show.
    pub(super) source: String,
    /// Whether merged takes no writes.
    pub(super) read_only: bool,
}

/// A path that the program must not reach as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cover {
    /// Another way to a workspace, or to a part of it: shows merged as well.
    Merged {
        /// The covered path.
        at: PathBuf,
        /// What shows there.
        from: PathBuf,
    },
    /// Becomes empty and takes no writes; some entries beneath may stay as they are.
    Empty {
        /// The covered path, of a directory or anything else.
        at: PathBuf,
        /// Absolute paths beneath it that stay.
        keep: Vec<PathBuf>,
    },
    /// A directory that becomes an empty one for the program's own use.
    Fresh(PathBuf),
    /// Stays, and takes no writes.
    ReadOnly(PathBuf),
}

impl Cover {
    /// The covered path.
    pub(super) fn at(&self) -> &Path {
        match self {
            Self::Merged { at, .. } | Self::Empty { at, .. } | Self::Fresh(at) | Self::ReadOnly(at) => at,
        }
    }
}

/// All that is done inside before the program starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Parents before what lies in them.
    pub(super) targets: Vec<Target>,
    pub(super) covers: Vec<Cover>,
    /// What stays as it is, whatever appears there.
    pub(super) expose: Vec<PathBuf>,
    /// Whether merged is looked through once while the program begins.
    pub(super) prewarm: bool,
    pub(super) cwd: PathBuf,
    pub(super) command: Vec<OsString>,
    /// Whether the caller is root: then device nodes and kernel settings are kept from the program as well.
    pub(super) root: bool,
}

impl Plan {
    /// Whether a path that appeared in the home directory is to be covered: it is neither exposed nor in a workspace, where merged judges.
    pub(super) fn covers_late(&self, path: &Path) -> bool {
        !self.expose.iter().any(|e| path.starts_with(e))
            && !self.targets.iter().any(|t| path.starts_with(&t.path))
    }
}

/// Other ways to a workspace: bind mounts of it, of a directory above it or in it, wherever they are.
pub(super) fn other_ways(table: &[MountEntry], target: &Target) -> Vec<Cover> {
    let Some(own) = mount_of(table, &target.path) else { return Vec::new() };
    let Ok(beneath) = target.path.strip_prefix(&own.mountpoint) else { return Vec::new() };
    let on_disk = join(&own.root, beneath);
    let mut covers = Vec::new();
    for mount in table.iter().filter(|m| m.device == own.device && !m.is_ours()) {
        if let Ok(rest) = on_disk.strip_prefix(&mount.root) {
            let at = join(&mount.mountpoint, rest);
            if at != target.path && identity(&at) == identity(&target.path) {
                covers.push(Cover::Merged { at, from: target.path.clone() });
            }
        } else if let Ok(part) = mount.root.strip_prefix(&on_disk)
            && !mount.mountpoint.starts_with(&target.path)
        {
            covers.push(Cover::Merged { at: mount.mountpoint.clone(), from: join(&target.path, part) });
        }
    }
    covers
}

/// `Path::join` would add a slash for nothing.
fn join(base: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { base.to_owned() } else { base.join(rest) }
}

pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Mounts of other sessions, which this program has no business in.
pub(super) fn other_sessions(table: &[MountEntry]) -> Vec<Cover> {
    let ours = table.iter().filter(|m| m.is_ours());
    ours.map(|m| Cover::Empty { at: m.mountpoint.clone(), keep: Vec::new() }).collect()
}

/// Sockets and directories through which a program outside can be made to act: container engines, service managers, terminal
/// multiplexers, agents that hold keys. `env` reads the environment.
pub(super) fn doors(uid: u32, env: &dyn Fn(&str) -> Option<OsString>) -> Vec<Cover> {
    let empty = |at: PathBuf| Cover::Empty { at, keep: Vec::new() };
    let mut covers: Vec<Cover> = [
        "/run/docker.sock",
        "/run/docker",
        "/run/containerd",
        "/run/podman",
        "/run/crio",
        "/run/buildkit",
        "/run/lxd.socket",
        "/var/lib/lxd/unix.socket",
        "/var/snap/lxd/common/lxd/unix.socket",
        "/run/libvirt",
        "/run/systemd/private",
        "/run/snapd.socket",
        "/run/snapd-snap.socket",
        "/run/acpid.socket",
    ]
    .iter()
    .map(|at| empty(PathBuf::from(at)))
    .collect();
    if uid == 0 {
        // Whoever speaks as root on the system bus may start services.
        covers.push(empty("/run/dbus/system_bus_socket".into()));
    }
    let runtime = env("XDG_RUNTIME_DIR").map_or_else(|| format!("/run/user/{uid}").into(), PathBuf::from);
    covers.push(Cover::Fresh(runtime));
    let tmux = env("TMUX_TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from);
    covers.push(Cover::Fresh(tmux.join(format!("tmux-{uid}"))));
    covers.push(Cover::Fresh("/run/screen".into()));
    for variable in
        ["SSH_AUTH_SOCK", "GPG_AGENT_INFO", "DOCKER_HOST", "CONTAINER_HOST", "DBUS_SESSION_BUS_ADDRESS"]
    {
        covers.extend(env(variable).and_then(|value| socket_in(&value)).map(empty));
    }
    // `$TMUX` is `SOCKET,PID,WINDOW`.
    covers.extend(env("TMUX").and_then(|value| socket_in(&value)).map(empty));
    covers
}

/// The path in `/a/b`, `unix:///a/b`, `unix:path=/a/b,guid=…`, `/a/b:PID:1` and `/a/b,1,0`.
fn socket_in(value: &OsStr) -> Option<PathBuf> {
    let bytes = value.as_bytes();
    let bytes = bytes.strip_prefix(b"unix:path=").or_else(|| bytes.strip_prefix(b"unix://")).unwrap_or(bytes);
    let end = bytes.iter().position(|b| matches!(b, b',' | b':' | b';')).unwrap_or(bytes.len());
    let path = PathBuf::from(OsString::from_vec(bytes.get(..end)?.to_vec()));
    path.is_absolute().then_some(path)
}

/// Brings covers into order: real paths, those that exist, none twice, none beneath an empty one, outer before inner; what `expose`
/// names stays uncovered.
pub(super) fn settle(covers: Vec<Cover>, expose: &[PathBuf]) -> Vec<Cover> {
    let mut seen = BTreeSet::new();
    let mut settled: Vec<Cover> = Vec::new();
    let mut real: Vec<Cover> = covers.into_iter().filter_map(|cover| with_real_path(cover, expose)).collect();
    // What shows merged comes first: another cover may lie in it.
    real.sort_by_key(|c| (!matches!(c, Cover::Merged { .. }), c.at().components().count()));
    for cover in real {
        let beneath_empty = |c: &Cover| {
            matches!(c, Cover::Empty { keep, .. } if keep.is_empty()) && cover.at().starts_with(c.at())
        };
        if settled.iter().any(beneath_empty) || !seen.insert(cover.at().to_owned()) {
            continue;
        }
        settled.push(cover);
    }
    settled
}

fn with_real_path(cover: Cover, expose: &[PathBuf]) -> Option<Cover> {
    // A mount that hangs or is dead cannot be resolved; its path is real already, from the table.
    let real = |at: &Path| match fs::canonicalize(at) {
        Ok(path) => Some(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(_) => Some(at.to_owned()),
    };
    let exposed = |at: &Path| expose.iter().any(|e| at.starts_with(e));
    match cover {
        Cover::Merged { at, from } => Some(Cover::Merged { at, from }),
        Cover::ReadOnly(at) => real(&at).map(Cover::ReadOnly),
        Cover::Fresh(at) => {
            let path = real(&at)?;
            (!exposed(&at) && !exposed(&path)).then_some(Cover::Fresh(path))
        }
        Cover::Empty { at, .. } => {
            let path = real(&at)?;
            if exposed(&at) || exposed(&path) {
                return None;
            }
            let keep = expose.iter().filter(|e| e.starts_with(&path) && e.exists()).cloned().collect();
            Some(Cover::Empty { at: path, keep })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, device: &str, root: &str, at: &str, source: &str) -> MountEntry {
        MountEntry {
            id,
            parent: 1,
            device: device.to_owned(),
            root: root.into(),
            mountpoint: at.into(),
            options: String::new(),
            shared: false,
            fs_type: if source.starts_with("scrubfs:") { "fuse.scrubfs" } else { "ext4" }.to_owned(),
            source: source.into(),
        }
    }

    #[test]
    fn every_other_mount_of_the_workspace_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        let repo = base.join("repo");
        fs::create_dir_all(repo.join("sub")).unwrap();
        // The same directory under another path, as a bind mount would show it.
        let alias = base.join("alias");
        std::os::unix::fs::symlink(&repo, &alias).unwrap();
        let target =
            Target { path: repo.clone(), identity: identity(&repo), source: String::new(), read_only: false };
        let at = |p: &Path| p.to_str().unwrap().to_owned();
        let table = [
            mount(1, "8:1", "/", "/", "/dev/sda1"),
            mount(2, "8:1", &at(&repo), &at(&alias), "/dev/sda1"),
            mount(3, "8:1", &at(&repo.join("sub")), "/srv/sub", "/dev/sda1"),
            mount(4, "8:2", "/", "/other", "/dev/sda2"),
            mount(5, "0:9", "/", "/m", "scrubfs:x"),
            mount(6, "8:1", &at(&base.join("elsewhere")), "/srv/elsewhere", "/dev/sda1"),
        ];
        assert_eq!(
            other_ways(&table, &target),
            [
                Cover::Merged { at: alias, from: repo.clone() },
                Cover::Merged { at: "/srv/sub".into(), from: repo.join("sub") },
            ]
        );
        assert_eq!(other_sessions(&table), [Cover::Empty { at: "/m".into(), keep: vec![] }]);
    }

    #[test]
    fn sockets_that_the_environment_names() {
        let path = |value: &str| socket_in(OsStr::new(value));
        assert_eq!(path("unix:path=/run/user/1/bus,guid=7"), Some("/run/user/1/bus".into()));
        assert_eq!(path("unix:///var/run/docker.sock"), Some("/var/run/docker.sock".into()));
        assert_eq!(path("/tmp/tmux-0/default,12,0"), Some("/tmp/tmux-0/default".into()));
        assert_eq!(path("tcp://x"), None);
    }

    #[test]
    fn covers_are_settled() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        for sub in ["ssh", "aws/x", "run"] {
            fs::create_dir_all(base.join(sub)).unwrap();
        }
        fs::write(base.join("ssh/known_hosts"), "").unwrap();
        std::os::unix::fs::symlink("aws", base.join("link")).unwrap();
        let empty = |sub: &str| Cover::Empty { at: base.join(sub), keep: vec![] };
        let all =
            vec![empty("aws/x"), empty("link"), empty("ssh"), empty("no"), Cover::Fresh(base.join("run"))];
        let settled = settle(all, &[base.join("ssh/known_hosts"), base.join("run")]);
        assert_eq!(
            settled,
            [empty("aws"), Cover::Empty { at: base.join("ssh"), keep: vec![base.join("ssh/known_hosts")] }]
        );
    }
}
