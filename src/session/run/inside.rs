//! Inside the new namespaces, before the program: merged over the workspaces, covers over every other way, a `/proc` of its own, no
//! privilege. Every step that fails ends the run; nothing is left out.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind_recursive,
    mount_change, mount_remount, move_mount, open_tree,
};
use rustix::process::Signal;

use super::RunError;
use super::plan::{Cover, Plan, Target};
use super::wire::{Line, Said};
use crate::session::mounts::mount_table;
use crate::sys::{self, Errno};

/// Names a step for an error.
fn step<'a>(step: &'a str, path: &'a Path) -> impl FnOnce(Errno) -> RunError + 'a {
    move |errno| RunError::SetUp { step: step.to_owned(), path: path.to_owned(), errno }
}

fn io_step<'a>(name: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> RunError + 'a {
    move |error| step(name, path)(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Does all of it, in an order in which each step still finds what it needs.
pub(super) fn set_up(plan: &Plan, line: &Line) -> Result<(), RunError> {
    let none = Path::new("");
    // Should outside be killed, this process and with it the whole namespace goes.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("binding this process to the one outside", none))?;
    line.wait_to_go().map_err(step("waiting for the id maps", none))?;
    let propagation = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", propagation).map_err(step("making mounts private at", Path::new("/")))?;
    for (number, target) in plan.targets.iter().enumerate() {
        mount_merged(number, target, line)?;
    }
    let blank = Blank::new()?;
    for cover in &plan.covers {
        put(cover, &blank)?;
    }
    line.say(&Said::Blank, Some(blank.0.as_fd())).map_err(step("handing over empty entries", none))?;
    drop(blank);
    new_proc(plan.root)?;
    if plan.root {
        new_dev()?;
        read_only_beneath(Path::new("/sys"))?;
    }
    rustix::process::chdir(&plan.cwd).map_err(|_| RunError::NoCurrentDirectory(plan.cwd.clone()))?;
    sys::close_inherited_directories().map_err(step("closing directories that were open", none))?;
    match sys::new_session_keyring() {
        // A kernel or a filter without keyrings has none to keep from the program.
        Ok(()) | Err(Errno::NOSYS | Errno::PERM) => {}
        Err(errno) => return Err(step("beginning a session keyring", none)(errno)),
    }
    sys::drop_privileges().map_err(step("giving up privileges", none))?;
    sys::forbid_terminal_injection().map_err(step("keeping the terminal's input", none))?;
    sys::protect_memory_of_process().map_err(step("protecting this process", none))
}

/// A path that only refers to what is there now; a link as the last component is refused.
fn refer(path: &Path) -> sys::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn on(fd: BorrowedFd<'_>) -> String {
    sys::proc_path(fd)
}

/// Mounts merged over a workspace, and waits until its daemon answers.
fn mount_merged(number: usize, target: &Target, line: &Line) -> Result<(), RunError> {
    let at = &target.path;
    let place = refer(at).map_err(step("looking at", at))?;
    let stat = sys::stat_fd(place.as_fd()).map_err(step("looking at", at))?;
    let unchanged = target.identity.is_none_or(|identity| identity == (stat.dev, stat.ino));
    if !unchanged || !stat.is_dir() {
        return Err(step("finding the workspace unchanged at", at)(Errno::STALE));
    }
    let device = Path::new("/dev/fuse");
    let fuse = rustix::fs::open(device, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(step("opening", device))?;
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        std::os::fd::AsRawFd::as_raw_fd(&fuse),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let data = CString::new(data).map_err(|_| step("mounting at", at)(Errno::INVAL))?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if target.read_only {
        flags |= MountFlags::RDONLY;
    }
    mount(target.source.as_str(), on(place.as_fd()), "fuse.scrubfs", flags, data.as_c_str())
        .map_err(step("mounting at", at))?;
    line.say(&Said::Fuse(number), Some(fuse.as_fd())).map_err(step("handing over the mount at", at))?;
    line.wait_to_go().map_err(step("waiting for the daemon of", at))
}

/// An empty directory and an empty file to cover things with. They stand over the old `/proc`, where the new one hides them in turn;
/// nothing that is done meanwhile needs `/proc`.
#[derive(Debug)]
pub(super) struct Blank(OwnedFd);

impl Blank {
    const DIR: &str = "dir";
    const FILE: &str = "file";

    fn new() -> Result<Self, RunError> {
        let bench = Path::new("/proc");
        let make = || -> sys::Result<Self> {
            let root = tmpfs(c"mode=0755,size=64k,nr_inodes=64")?;
            attach(root.as_fd(), refer(bench)?.as_fd())?;
            let root = refer(bench)?;
            rustix::fs::mkdirat(&root, Self::DIR, Mode::from_raw_mode(0o555))?;
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            drop(rustix::fs::openat(&root, Self::FILE, flags, Mode::from_raw_mode(0o444))?);
            remount_read_only(bench)?;
            Ok(Self(root))
        };
        make().map_err(step("making empty entries over", bench))
    }

    /// What came from the namespaces over the line.
    pub(super) fn from_inside(root: OwnedFd) -> Self {
        Self(root)
    }

    /// A detached mount of the empty directory or the empty file, which takes no writes.
    fn piece(&self, dir: bool) -> sys::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = if dir { Self::DIR } else { Self::FILE };
        copy_tree(rustix::fs::openat(&self.0, name, flags, Mode::empty())?.as_fd())
    }

    /// Covers what appeared at a path while the program runs. To be called in its namespaces; what is covered already stays so, and
    /// what is gone again is no error.
    pub(super) fn cover(&self, at: &Path) -> sys::Result<()> {
        let place = match refer(at) {
            Err(errno) if sys::is_absent(errno) => return Ok(()),
            other => other?,
        };
        // Something is mounted there: a cover, perhaps one that lets some entries stay.
        if sys::is_mount_root(place.as_fd())? {
            return Ok(());
        }
        let stat = sys::stat_fd(place.as_fd())?;
        attach(self.piece(stat.is_dir())?.as_fd(), place.as_fd())
    }
}

/// A detached tmpfs.
fn tmpfs(options: &std::ffi::CStr) -> sys::Result<OwnedFd> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    };
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "scrubfs")?;
    for option in options.to_str().unwrap_or_default().split(',') {
        if let Some((key, value)) = option.split_once('=') {
            fsconfig_set_string(&context, key, value)?;
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Puts a detached mount on what a descriptor refers to.
fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> sys::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", place, c"", flags)
}

/// Copies the mounts at and beneath what a descriptor refers to.
fn copy_tree(of: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(of, c"", flags)
}

fn put(cover: &Cover, blank: &Blank) -> Result<(), RunError> {
    let at = cover.at();
    let place = match refer(at) {
        Ok(place) => place,
        // Hidden in merged, which is as good as covered; or out of this user's reach, and so out of the program's, which may less.
        Err(errno) if sys::is_absent(errno) || errno == Errno::ACCESS => return Ok(()),
        Err(errno) => return Err(step("looking at", at)(errno)),
    };
    let is_dir = || sys::stat_fd(place.as_fd()).map_or(true, |stat| stat.is_dir());
    let result = match cover {
        Cover::Empty { keep, .. } if keep.is_empty() => {
            blank.piece(is_dir()).and_then(|piece| attach(piece.as_fd(), place.as_fd()))
        }
        Cover::Empty { keep, .. } => return keep_some(at, &place, keep),
        Cover::Fresh(_) => tmpfs(c"mode=0700,size=64m").and_then(|tree| attach(tree.as_fd(), place.as_fd())),
        Cover::Merged { from, .. } => return show_merged(at, &place, from, blank, is_dir()),
        Cover::ReadOnly(_) => return read_only(at),
    };
    result.map_err(step("covering", at))
}

/// Another way to the workspace shows merged, or nothing where merged has nothing.
fn show_merged(at: &Path, place: &OwnedFd, from: &Path, blank: &Blank, dir: bool) -> Result<(), RunError> {
    let same_kind = refer(from).and_then(|from| {
        let stat = sys::stat_fd(from.as_fd())?;
        Ok((stat.is_dir() == dir).then_some(from))
    });
    let tree = match same_kind {
        Ok(Some(from)) => copy_tree(from.as_fd()),
        Ok(None) => blank.piece(dir),
        Err(errno) if sys::is_absent(errno) => blank.piece(dir),
        Err(errno) => Err(errno),
    };
    tree.and_then(|tree| attach(tree.as_fd(), place.as_fd())).map_err(step("showing the merged tree at", at))
}

/// Covers a directory, and puts back the entries that stay.
fn keep_some(at: &Path, place: &OwnedFd, keep: &[PathBuf]) -> Result<(), RunError> {
    let mut kept = Vec::new();
    for path in keep {
        let tree = refer(path).and_then(|fd| {
            let stat = sys::stat_fd(fd.as_fd())?;
            copy_tree(fd.as_fd()).map(|tree| (stat.is_dir(), tree))
        });
        kept.push((path, tree.map_err(step("keeping", path))?));
    }
    tmpfs(c"mode=0700,size=1m")
        .and_then(|tree| attach(tree.as_fd(), place.as_fd()))
        .map_err(step("covering", at))?;
    for (path, (dir, tree)) in kept {
        let parent = if dir { Some(path.as_path()) } else { path.parent() };
        if let Some(parent) = parent {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(parent).map_err(io_step("keeping", path))?;
        }
        if !dir {
            new_file(path).map_err(io_step("keeping", path))?;
        }
        refer(path).and_then(|place| attach(tree.as_fd(), place.as_fd())).map_err(step("keeping", path))?;
    }
    remount_read_only(at).map_err(step("closing", at))
}

fn new_file(path: &Path) -> std::io::Result<()> {
    File::options().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

/// Lets a directory stay and take no writes.
fn read_only(at: &Path) -> Result<(), RunError> {
    mount_bind_recursive(at, at).and_then(|()| remount_read_only(at)).map_err(step("making read-only", at))
}

/// Adds "read-only" to the flags of the mount on top at a path. The others must stay: the kernel does not let a user namespace take
/// away what the owner of the file system set.
fn remount_read_only(at: &Path) -> sys::Result<()> {
    let have = rustix::fs::statvfs(at)?.f_flag;
    let all = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (_, flag) in all.iter().filter(|(bit, _)| have.contains(*bit)) {
        flags |= *flag;
    }
    mount_remount(at, flags, c"")
}

/// The `/proc` of the new PID namespace: no process outside is in it.
fn new_proc(root: bool) -> Result<(), RunError> {
    let proc = Path::new("/proc");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", proc, "proc", flags, None).map_err(step("mounting", proc))?;
    if root {
        // These files look at the uid alone; as root the program could have the kernel run a helper outside.
        for name in ["sys", "sysrq-trigger", "irq", "bus", "fs"] {
            let at = proc.join(name);
            if at.exists() {
                read_only(&at)?;
            }
        }
    }
    Ok(())
}

/// Takes writing away from all mounts at and beneath a directory.
fn read_only_beneath(dir: &Path) -> Result<(), RunError> {
    let table = mount_table().map_err(io_step("reading the table of mounts for", dir))?;
    for mount in table.iter().filter(|m| m.mountpoint.starts_with(dir)) {
        match remount_read_only(&mount.mountpoint) {
            Ok(()) => {}
            // Lies beneath another mount.
            Err(errno) if sys::is_absent(errno) || errno == Errno::INVAL => {}
            Err(errno) => return Err(step("making read-only", &mount.mountpoint)(errno)),
        }
    }
    Ok(())
}

/// Devices that a program may need and that lead to no disk and no memory.
const DEVICES: [&str; 15] = [
    "null",
    "zero",
    "full",
    "random",
    "urandom",
    "tty",
    "ptmx",
    "pts",
    "mqueue",
    "kvm",
    "dri",
    "nvidia0",
    "nvidiactl",
    "nvidia-uvm",
    "snd",
];

/// A `/dev` without disks: to root their device nodes are a way to every byte.
fn new_dev() -> Result<(), RunError> {
    let dev = Path::new("/dev");
    let mut trees = Vec::new();
    for name in DEVICES {
        let path = dev.join(name);
        let Ok(fd) = refer(&path) else { continue };
        let stat = sys::stat_fd(fd.as_fd()).map_err(step("looking at", &path))?;
        // `ptmx` may be a link to `pts/ptmx`, which is made anew below.
        if stat.file_type() != sys::FileType::Symlink {
            trees.push((path.clone(), stat.is_dir(), copy_tree(fd.as_fd()).map_err(step("keeping", &path))?));
        }
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    let place = refer(dev).map_err(step("looking at", dev))?;
    tmpfs(c"mode=0755,size=1m")
        .and_then(|tree| attach(tree.as_fd(), place.as_fd()))
        .map_err(step("covering", dev))?;
    for (path, dir, tree) in trees {
        let made = if dir { fs::create_dir(&path) } else { new_file(&path) };
        made.map_err(io_step("making", &path))?;
        refer(&path).and_then(|at| attach(tree.as_fd(), at.as_fd())).map_err(step("keeping", &path))?;
    }
    if !dev.join("ptmx").exists() {
        std::os::unix::fs::symlink("pts/ptmx", dev.join("ptmx"))
            .map_err(io_step("making", &dev.join("ptmx")))?;
    }
    for (name, target) in links {
        std::os::unix::fs::symlink(target, dev.join(name)).map_err(io_step("making", &dev.join(name)))?;
    }
    let shm = dev.join("shm");
    fs::create_dir(&shm).map_err(io_step("making", &shm))?;
    refer(&shm)
        .and_then(|at| attach(tmpfs(c"mode=1777")?.as_fd(), at.as_fd()))
        .map_err(step("making", &shm))?;
    // The tmpfs of /dev itself takes no more entries; what is mounted in it is not concerned.
    remount_read_only(dev).map_err(step("closing", dev))
}
