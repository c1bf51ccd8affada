//! The adapter to the kernel: decode a request, call the view, reply. It decides nothing about the tree.
//!
//! The mount runs without OPEN, OPENDIR, FLUSH and CREATE: answering ENOSYS once makes the kernel open files and directories by
//! itself, keep its caches over a close, and make files by MKNOD (fs/fuse/file.c, `no_open`; fs/fuse/dir.c, `no_create`). A warm
//! lookup, stat, open, read or listing then costs no request; what changes on the host is pushed to the kernel instead.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fuser::{Config, MountOption, Notifier, Session, SessionACL};

use crate::view::{Notice, View};

mod adapter;
mod convert;

use adapter::Adapter;

/// How long the kernel may remember names and attributes where host changes are pushed.
const PUSHED: Duration = Duration::from_secs(24 * 3600);

/// How long where they are not.
const POLLED: Duration = Duration::from_secs(1);

/// How a view is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// The source that `mount` and `df` show.
    pub fs_name: String,
    /// Whether other users may look in. Permissions are checked by the kernel in any case.
    pub allow_other: bool,
    /// If not empty, which other users: these, root and this process's own. The root is asked for anew at every step through it then.
    pub allowed: Vec<u32>,
    /// Whether the mount is read-only.
    pub read_only: bool,
    /// How many threads answer requests; at least 1.
    pub threads: usize,
}

/// A mounted view, ready to answer.
#[derive(Debug)]
pub struct Server {
    session: Session<Adapter>,
    view: Arc<View>,
    notices: JoinHandle<()>,
}

/// Mounts a view at a directory: by mount(2) where that is allowed, otherwise by `fusermount3`.
///
/// # Errors
/// Any error of mounting or of the handshake with the kernel.
pub fn mount(view: Arc<View>, at: &Path, options: &MountOptions) -> io::Result<Server> {
    let session = Session::new(Adapter::new(Arc::clone(&view), &options.allowed), at, &config(options))?;
    Server::start(session, view)
}

/// Serves a mount that was made by hand with an open `/dev/fuse`. Its options are `default_permissions`, and `allow_other` as wanted.
///
/// # Errors
/// Any error of the handshake with the kernel.
pub fn serve_fd(view: Arc<View>, fuse: OwnedFd, options: &MountOptions) -> io::Result<Server> {
    let adapter = Adapter::new(Arc::clone(&view), &options.allowed);
    let session = Session::from_fd(adapter, fuse, acl(options), config(options))?;
    Server::start(session, view)
}

fn acl(options: &MountOptions) -> SessionACL {
    if options.allow_other { SessionACL::All } else { SessionACL::Owner }
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(options.fs_name.clone()),
        MountOption::Subtype("scrubfs".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::NoSuid,
        MountOption::NoDev,
    ];
    if options.read_only {
        config.mount_options.push(MountOption::RO);
    }
    config.acl = acl(options);
    config.n_threads = Some(options.threads.max(1));
    config
}

impl Server {
    fn start(session: Session<Adapter>, view: Arc<View>) -> io::Result<Self> {
        let notifier = session.notifier();
        let source = Arc::clone(&view);
        let notices =
            thread::Builder::new().name("notices".to_owned()).spawn(move || tell(&source, &notifier))?;
        Ok(Self { session, view, notices })
    }

    /// Answers requests until the mount is gone.
    ///
    /// # Errors
    /// The error that ended it, if it was not unmounting.
    pub fn run(self) -> io::Result<()> {
        let Self { session, view, notices } = self;
        let result = session.run();
        view.close();
        if notices.join().is_err() {
            tracing::error!("the thread that tells the kernel about changes ended by a panic");
        }
        result
    }
}

/// Sends notices until the view closes. A name or node that the kernel does not know is no error.
fn tell(view: &View, notifier: &Notifier) {
    while let Some(notices) = view.next_notices() {
        for notice in notices {
            let sent = match &notice {
                Notice::Entry(parent, name) => {
                    notifier.inval_entry(fuser::INodeNo(*parent), name.as_os_str())
                }
                Notice::Content(id) => notifier.inval_inode(fuser::INodeNo(*id), 0, 0),
                // A negative offset drops the attributes and keeps the pages (fs/fuse/inode.c, fuse_reverse_inval_inode).
                Notice::Attributes(id) => notifier.inval_inode(fuser::INodeNo(*id), -1, 0),
                // For a name the kernel locks the directory, as lookups and listings do until they have their answer; it never knows this name
                // (fs/fuse/dir.c, fuse_reverse_inval_entry).
                Notice::Answered(id) => notifier.inval_entry(fuser::INodeNo(*id), OsStr::new(".")),
            };
            match sent {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::debug!(?notice, %error, "the kernel did not take a notice");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
}
