//! What the engine may ask for of volumes. Requests about one volume take turns; others do not wait for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::VolumeError;
use super::volume::{OnRemove, Options, Volume};
use crate::session::mount::{check, mount, pick, policy};
use crate::session::unmount::{Unmounted, unmount};
use crate::session::{ConfigDir, Session, SessionError, StateDir};

type Turn = Arc<Mutex<()>>;

/// All volumes of a state directory.
#[derive(Debug)]
pub(super) struct Volumes {
    state: StateDir,
    config: ConfigDir,
    boot: String,
    /// Before a turn: whoever makes a volume looks at the others.
    making: Mutex<()>,
    turns: Mutex<BTreeMap<String, Turn>>,
}

/// What is told of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) name: String,
    /// Where it is mounted, if it is.
    pub(super) mountpoint: Option<PathBuf>,
    pub(super) session: Session,
    pub(super) state: &'static str,
    pub(super) users: usize,
}

impl Volumes {
    pub(super) fn new(state: StateDir, config: ConfigDir) -> Result<Self, SessionError> {
        let id = Path::new("/proc/sys/kernel/random/boot_id");
        let boot = fs::read_to_string(id).map_err(SessionError::io("read", id))?.trim().to_owned();
        Ok(Self { state, config, boot, making: Mutex::default(), turns: Mutex::default() })
    }

    fn turn(&self, name: &str) -> Turn {
        Arc::clone(self.turns.lock().entry(name.to_owned()).or_default())
    }

    fn all(&self) -> Result<Vec<Volume>, SessionError> {
        let mut all = Vec::new();
        for session in self.state.list()?.sessions {
            let name = session.name().clone();
            match Volume::of(session) {
                Ok(volume) => all.extend(volume),
                Err(error) => tracing::warn!(session = %name, %error, "a volume is left out"),
            }
        }
        Ok(all)
    }

    fn find(&self, name: &str) -> Result<Option<Volume>, SessionError> {
        Ok(self.all()?.into_iter().find(|v| v.record.volume == name))
    }

    fn existing(&self, name: &str) -> Result<Volume, SessionError> {
        self.find(name)?.ok_or_else(|| VolumeError::Missing(name.to_owned()).into())
    }

    /// Makes a volume: a session of its own, or one that exists and is no volume yet. Its rules are compiled and kept now, so that a wrong
    /// pattern is an error here and not when a container starts.
    pub(super) fn create(&self, name: &str, given: BTreeMap<String, String>) -> Result<(), SessionError> {
        let options = Options::parse(name, &given)?;
        let _making = self.making.lock();
        let turn = self.turn(name);
        let _turn = turn.lock();
        if let Some(volume) = self.find(name)? {
            let same = volume.record.options == given;
            return if same { Ok(()) } else { Err(VolumeError::Exists(name.to_owned()).into()) };
        }
        let workspace = check::workspace(&self.state, &options.source)?;
        check::machine(options.request().allow_other)?;
        let picked = pick(&self.state, &workspace, Some(&options.session))?;
        let session = picked.session.clone();
        let made = picked.created;
        let finish = || -> Result<(), SessionError> {
            if let Some(other) = Volume::of(session.clone())? {
                let volume = other.record.volume;
                return Err(VolumeError::Taken { session: session.name().clone(), volume }.into());
            }
            let source = policy(&self.config, &session, &options.request())?;
            source.build()?;
            session.save_policy(&source)?;
            Volume::new(session.clone(), name, made, &self.boot, given.clone()).save()
        };
        let finished = finish();
        match &finished {
            Ok(()) => tracing::info!(volume = name, session = %session.name(), made, "made"),
            Err(_) => picked.undo(),
        }
        finished
    }

    /// Mounts a volume for a container; what a crash left is taken away first. Returns where.
    pub(super) fn mount(&self, name: &str, id: &str) -> Result<PathBuf, SessionError> {
        if id.is_empty() {
            return Err(VolumeError::NoId.into());
        }
        let turn = self.turn(name);
        let _turn = turn.lock();
        let mut volume = self.existing(name)?;
        let mut request = volume.options()?.request();
        // Kept with the session since the volume was made.
        request.options.clear();
        request.rule_files.clear();
        volume.session.workspace().clone_into(&mut request.workspace);
        // Noted first: should this process end in between, the mount has a user too many rather than none.
        let new = volume.add_user(&self.boot, id);
        volume.save()?;
        let mounted = mount(&self.state, &self.config, &request);
        if mounted.is_err() && new {
            volume.drop_user(id);
            volume.save()?;
        }
        let mounted = mounted?;
        tracing::info!(
            volume = name,
            id,
            users = volume.used_by(&self.boot),
            healed = mounted.healed,
            "mounted"
        );
        Ok(mounted.mountpoint)
    }

    /// A container does not need a volume any more. With the last one its mount goes, unless somebody works in it.
    pub(super) fn unmount(&self, name: &str, id: &str) -> Result<(), SessionError> {
        let turn = self.turn(name);
        let _turn = turn.lock();
        let mut volume = self.existing(name)?;
        if !volume.drop_user(id) {
            tracing::warn!(volume = name, id, "unmounted for a container that did not have it");
        }
        volume.save()?;
        let users = volume.used_by(&self.boot);
        if users > 0 {
            tracing::info!(volume = name, id, users, "still needed");
            return Ok(());
        }
        match unmount(&volume.session, false) {
            Ok(Unmounted::Was(_) | Unmounted::WasNot) => tracing::info!(volume = name, id, "unmounted"),
            Ok(Unmounted::Lingers(pid)) => tracing::warn!(volume = name, pid, "unmounted, and still served"),
            Err(error @ SessionError::MountBusy { .. }) => {
                tracing::warn!(volume = name, %error, "stays mounted");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes a volume that nobody uses. Its session goes too, as its options say, if it was made for it.
    pub(super) fn remove(&self, name: &str) -> Result<(), SessionError> {
        let turn = self.turn(name);
        let _turn = turn.lock();
        let volume = self.existing(name)?;
        let session = volume.session.clone();
        // The kernel knows who has it. The engine's words do not count here: an engine that was killed never takes them back.
        if let Unmounted::Lingers(_) = unmount(&session, false)? {
            let session = session.name().clone();
            return Err(VolumeError::InUse { name: name.to_owned(), session }.into());
        }
        let how = volume.options().map_or(OnRemove::Refuse, |o| o.on_remove);
        match (volume.record.made, how) {
            (false, _) | (true, OnRemove::Keep) => volume.detach()?,
            (true, OnRemove::Discard) => session.remove()?,
            (true, OnRemove::Refuse) => {
                let changes = pending(name, &session)?;
                if changes > 0 {
                    let (name, session) = (name.to_owned(), session.name().clone());
                    return Err(VolumeError::Pending { name, session, changes }.into());
                }
                session.remove()?;
            }
        }
        tracing::info!(volume = name, ?how, "removed");
        Ok(())
    }

    /// Tells of one volume.
    pub(super) fn get(&self, name: &str) -> Result<Told, SessionError> {
        self.tell(self.existing(name)?)
    }

    /// Tells of all.
    pub(super) fn list(&self) -> Result<Vec<Told>, SessionError> {
        self.all()?.into_iter().map(|volume| self.tell(volume)).collect()
    }

    fn tell(&self, volume: Volume) -> Result<Told, SessionError> {
        let state = volume.session.state()?;
        let users = volume.used_by(&self.boot);
        let Volume { session, record } = volume;
        Ok(Told {
            name: record.volume,
            mountpoint: state.mountpoint().map(Path::to_owned),
            session,
            state: state.word(),
            users,
        })
    }
}

/// How many changes wait in a session.
fn pending(name: &str, session: &Session) -> Result<usize, SessionError> {
    let hold = session.hold()?;
    let layers = session.layers(&hold)?;
    let changes = layers
        .count_changes()
        .map_err(|e| VolumeError::Unreadable { name: name.to_owned(), why: e.to_string() })?;
    drop(layers);
    hold.finish(false)?;
    Ok(changes)
}
