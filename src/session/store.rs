//! A session on disk: its files, its state, its layers, and its removal, which is one rename.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mounts::{SOURCE_PREFIX, mount_table, mounted_at};
use super::record::{FORMAT, MountKind, MountRecord, SessionRecord};
use super::state::{VERDICTS, make_private_dir, read_toml, write_volatile};
use super::{ConfigDir, Hold, PolicySource, SessionError, SessionLock, SessionName, lock};
use crate::apply::{self, ApplyError};
use crate::change::{ChangeError, ScanOptions, scan};
use crate::judge::Judge;
use crate::layer::{BaseStore, LowerDir, UpperDir};
use crate::path::Escaped;

/// What a session is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// Its daemon runs.
    Mounted {
        /// Plain mount or `run`.
        kind: MountKind,
        /// Where merged is; for a `run`, a path inside its namespaces.
        mountpoint: PathBuf,
    },
    /// Nothing is mounted.
    Unmounted,
    /// Its daemon is dead, and the dead mount is still there.
    Stale {
        /// Where it is.
        mountpoint: PathBuf,
    },
}

impl SessionState {
    /// The word of the contract's JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Mounted { .. } => "mounted",
            Self::Unmounted => "unmounted",
            Self::Stale { .. } => "stale",
        }
    }

    /// Where it is mounted, dead or alive.
    #[must_use]
    pub fn mountpoint(&self) -> Option<&Path> {
        match self {
            Self::Mounted { mountpoint, .. } | Self::Stale { mountpoint } => Some(mountpoint),
            Self::Unmounted => None,
        }
    }
}

/// The layers of a session and the judge over them.
#[derive(Debug)]
pub struct Layers {
    /// The workspace.
    pub lower: Arc<LowerDir>,
    /// What was written.
    pub upper: UpperDir,
    /// What lower was.
    pub base: BaseStore,
    /// The verdicts.
    pub judge: Arc<Judge>,
}

impl Layers {
    /// How many changes there are. Their content is not looked at.
    ///
    /// # Errors
    /// Those of [`scan`].
    pub fn count_changes(&self) -> Result<usize, ChangeError> {
        let options = ScanOptions { content_flags: false, ..ScanOptions::default() };
        Ok(scan(&self.judge, &self.upper, &self.base, options)?.listed().count())
    }
}

/// A session on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    dir: PathBuf,
    record: SessionRecord,
}

impl Session {
    pub(super) fn new(dir: PathBuf, record: SessionRecord) -> Self {
        Self { dir, record }
    }

    pub(super) fn open(dir: PathBuf, name: &SessionName) -> Result<Self, SessionError> {
        let file = dir.join("session.toml");
        let hint = format!(
            "the upper layer is untouched: restore the file, or keep {}",
            Escaped::path(&dir.join("upper"))
        );
        let record: Option<SessionRecord> = read_toml(&file, FORMAT, &hint)?;
        let problem = match record {
            Some(record) if record.name == *name => return Ok(Self { dir, record }),
            Some(_) => "it names another session",
            None => "it is missing",
        };
        Err(SessionError::Corrupt { file, problem: problem.to_owned(), hint })
    }

    /// Opens the session in a directory, as the daemon does that was told only this.
    ///
    /// # Errors
    /// [`SessionError::NotFound`], [`SessionError::Corrupt`], [`SessionError::NewerFormat`].
    pub fn in_dir(dir: &Path) -> Result<Self, SessionError> {
        let missing = || SessionError::NotFound(dir.as_os_str().as_bytes().to_owned());
        let name = dir.file_name().and_then(|n| n.to_str()).ok_or_else(missing)?;
        Self::open(dir.to_owned(), &SessionName::new(name)?)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &SessionName {
        &self.record.name
    }

    /// Its workspace.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        &self.record.workspace
    }

    /// What `session.toml` says.
    #[must_use]
    pub fn record(&self) -> &SessionRecord {
        &self.record
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The upper layer.
    #[must_use]
    pub fn upper_path(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// Scratch beside upper.
    #[must_use]
    pub fn work_path(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// What lower was when it was covered.
    #[must_use]
    pub fn base_path(&self) -> PathBuf {
        self.dir.join("base")
    }

    /// Whether nothing was written in it: the upper layer is empty.
    ///
    /// # Errors
    /// [`SessionError::Io`].
    pub fn is_untouched(&self) -> Result<bool, SessionError> {
        let upper = self.upper_path();
        let first = fs::read_dir(&upper).and_then(|mut entries| entries.next().transpose());
        first.map(|entry| entry.is_none()).map_err(SessionError::io("list", &upper))
    }

    /// The daemon's log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// Where it is mounted unless the user says otherwise.
    #[must_use]
    pub fn default_mountpoint(&self) -> PathBuf {
        self.dir.join("merged")
    }

    /// The source that its mounts bear in the table of mounts.
    #[must_use]
    pub fn mount_source(&self) -> String {
        format!("{SOURCE_PREFIX}{}", self.record.name)
    }

    /// The key of the session's masks.
    ///
    /// # Errors
    /// [`SessionError::Corrupt`] if the file is missing or not 32 bytes long.
    pub fn mask_key(&self) -> Result<[u8; 32], SessionError> {
        let file = self.dir.join("mask.key");
        let problem = match fs::read(&file) {
            Ok(bytes) => match <[u8; 32]>::try_from(bytes.as_slice()) {
                Ok(key) => return Ok(key),
                Err(_) => "it should be 32 bytes long".to_owned(),
            },
            Err(e) => format!("it cannot be read: {e}"),
        };
        let hint = format!(
            "restore it; without it masks in the upper layer cannot be told from text (scrubfs remove --force {})",
            self.record.name
        );
        Err(SessionError::Corrupt { file, problem, hint })
    }

    fn mount_file(&self) -> PathBuf {
        self.dir.join("mount.toml")
    }

    /// What the last daemon wrote about its mount; it may be dead.
    ///
    /// # Errors
    /// [`SessionError::Corrupt`], [`SessionError::NewerFormat`], [`SessionError::Io`].
    pub fn mount_record(&self) -> Result<Option<MountRecord>, SessionError> {
        let file = self.mount_file();
        read_toml(&file, FORMAT, &format!("if nothing is mounted: rm {}", Escaped::path(&file)))
    }

    /// The daemon's own: says what is mounted.
    pub(super) fn write_mount_record(&self, record: &MountRecord) -> Result<(), SessionError> {
        let file = self.mount_file();
        let text = toml::to_string(record).map_err(|e| SessionError::Corrupt {
            file: file.clone(),
            problem: e.to_string(),
            hint: "report this".to_owned(),
        })?;
        write_volatile(&file, text.as_bytes())
    }

    pub(super) fn clear_mount_record(&self) -> Result<(), SessionError> {
        let file = self.mount_file();
        match fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(SessionError::io("remove", &file)(e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether it is mounted. Touches no mounted file system.
    ///
    /// # Errors
    /// As [`Session::mount_record`]; [`SessionError::Io`] for the lock or the table of mounts.
    pub fn state(&self) -> Result<SessionState, SessionError> {
        if lock::is_held(&self.lock_path())? {
            // A lock without a record is held by a daemon that begins, or by an apply of an unmounted session. One with a mount that is
            // not here was unmounted by hand, and its daemon may serve mounts in other namespaces.
            return match self.mount_record()? {
                Some(MountRecord { kind, mountpoint, .. })
                    if kind == MountKind::Run || self.is_mounted_at(&mountpoint)? =>
                {
                    Ok(SessionState::Mounted { kind, mountpoint })
                }
                Some(_) | None => Ok(SessionState::Unmounted),
            };
        }
        self.state_without_daemon()
    }

    /// The state where nobody serves the session, or only the caller could. A record that was damaged then, say by a loss of power,
    /// means nothing any more.
    fn state_without_daemon(&self) -> Result<SessionState, SessionError> {
        let record = self.mount_record().unwrap_or_else(|error| {
            tracing::warn!(%error, "an old mount record is ignored");
            None
        });
        let mountpoint = record.map_or_else(|| self.default_mountpoint(), |r| r.mountpoint);
        Ok(if self.is_mounted_at(&mountpoint)? {
            SessionState::Stale { mountpoint }
        } else {
            SessionState::Unmounted
        })
    }

    /// Whether the table of mounts has a mount of this session on top at a path.
    pub(super) fn is_mounted_at(&self, mountpoint: &Path) -> Result<bool, SessionError> {
        let table = mount_table().map_err(SessionError::io("read", Path::new("/proc/self/mountinfo")))?;
        let top = mounted_at(&table, mountpoint);
        Ok(top.is_some_and(|m| m.is_ours() && m.source.as_bytes() == self.mount_source().as_bytes()))
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Takes the session's lock; `None` if another process holds it.
    ///
    /// # Errors
    /// [`SessionError::Io`].
    pub fn lock(&self) -> Result<Option<SessionLock>, SessionError> {
        SessionLock::take(&self.lock_path())
    }

    /// Opens the layers for writing. The hold proves that nobody else changes them.
    ///
    /// # Errors
    /// [`SessionError`] names what cannot be opened.
    pub fn layers(&self, hold: &Hold) -> Result<Layers, SessionError> {
        self.open_layers(!hold.is_live())
    }

    /// Opens the layers for a look while others may change them. What is read may be a mixture of two moments.
    ///
    /// # Errors
    /// As [`Session::layers`].
    pub fn peek(&self) -> Result<Layers, SessionError> {
        self.open_layers(false)
    }

    fn open_layers(&self, alone: bool) -> Result<Layers, SessionError> {
        let lower = Arc::new(SessionError::open_workspace(self.workspace())?);
        let source = match self.saved_policy()? {
            Some(source) => source,
            None => PolicySource::gather(&ConfigDir::from_env()?, &lower, None, &[], &[], false)?,
        };
        self.open_layers_with(lower, &source, alone)
    }

    pub(super) fn open_layers_with(
        &self,
        lower: Arc<LowerDir>,
        source: &PolicySource,
        alone: bool,
    ) -> Result<Layers, SessionError> {
        let (upper, work) = (self.upper_path(), self.work_path());
        let open = if alone { UpperDir::open } else { UpperDir::open_beside };
        let upper = open(&upper, &work)
            .map_err(|errno| SessionError::io("open the layer", &upper)(io::Error::from(errno)))?;
        let base_path = self.base_path();
        let base = if alone { BaseStore::open(&base_path) } else { BaseStore::open_beside(&base_path) }
            .map_err(SessionError::io("open the base in", &base_path))?;
        let policy = Arc::new(source.build()?);
        let excluded = vec![self.state_identity()?];
        let judge = Judge::new(lower.clone(), policy, self.mask_key()?, excluded);
        let judge = Arc::new(judge.with_cache(self.verdicts_path(&lower)?));
        Ok(Layers { lower, upper, base, judge })
    }

    fn state_root(&self) -> &Path {
        self.dir.ancestors().nth(2).unwrap_or(&self.dir)
    }

    /// Device and inode of the state directory, which no view shows.
    fn state_identity(&self) -> Result<(u64, u64), SessionError> {
        let root = self.state_root();
        let meta = fs::metadata(root).map_err(SessionError::io("look at", root))?;
        Ok((meta.dev(), meta.ino()))
    }

    /// What is known of the workspace's files, for all of its sessions.
    fn verdicts_path(&self, lower: &LowerDir) -> Result<PathBuf, SessionError> {
        let dir = self.state_root().join(VERDICTS);
        make_private_dir(&dir)?;
        let root = lower.root_stat();
        Ok(dir.join(format!("{:x}-{:x}", root.dev, root.ino)))
    }

    fn policy_path(&self) -> PathBuf {
        self.dir.join("policy.toml")
    }

    /// The rules of the last mount.
    ///
    /// # Errors
    /// [`SessionError::Corrupt`], [`SessionError::NewerFormat`], [`SessionError::Io`].
    pub fn saved_policy(&self) -> Result<Option<PolicySource>, SessionError> {
        PolicySource::load(&self.policy_path())
    }

    pub(super) fn save_policy(&self, source: &PolicySource) -> Result<(), SessionError> {
        // Mostly it is the same as last time; then the disk is not waited for.
        match self.saved_policy() {
            Ok(Some(saved)) if saved == *source => Ok(()),
            Ok(_) | Err(_) => source.save(&self.policy_path()),
        }
    }

    /// Follows a workspace that was moved: it was found by its identity at another path.
    pub(super) fn move_workspace(&mut self, to: &Path) -> Result<(), SessionError> {
        self.record.workspace = to.to_owned();
        super::create::write_record(&self.dir, &self.record)
    }

    /// Deletes the session with all that was written in it and not applied.
    ///
    /// # Errors
    /// [`SessionError::InUse`] while it is mounted or being applied; [`SessionError::Interrupted`] while files of the workspace may lie
    /// where only its journal finds them; [`SessionError::Io`], and what is left then is no session any more and is deleted later.
    pub fn remove(self) -> Result<(), SessionError> {
        let Some(lock) = self.lock()? else {
            return Err(SessionError::InUse { name: self.record.name.clone(), pid: None });
        };
        if let SessionState::Stale { mountpoint } = self.state_without_daemon()? {
            return Err(SessionError::StaleMount { name: self.record.name.clone(), mountpoint });
        }
        let unknown = |error: ApplyError| SessionError::io("read", &self.dir)(io::Error::other(error));
        if apply::pending(&self.dir).map_err(unknown)?.is_some() {
            return Err(SessionError::Interrupted(self.record.name));
        }
        let sessions = self.dir.parent().unwrap_or(&self.dir);
        let gone = sessions.join(format!(".gone.{}.{}", self.record.name, std::process::id()));
        fs::rename(&self.dir, &gone).map_err(SessionError::io("remove", &self.dir))?;
        drop(lock);
        super::create::delete(sessions, &gone)
    }
}
