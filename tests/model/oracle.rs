//! The kernel's own overlayfs as a judge of upper: mounted over the same lower and upper it must show what the view shows,
//! policy aside. The mount is attached nowhere (fsmount(2)), so it ends with its descriptor. Only root may make one here.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::mount::{self as rm, FsMountFlags, FsOpenFlags, MountAttrFlags};
use scrubfs::sys::Errno;

use super::tree::{self, Tree};

/// Says once why the oracle is not asked.
static SKIPPED: OnceLock<()> = OnceLock::new();

fn mount(lower: &Path, state: &Path) -> Result<OwnedFd, Errno> {
    let work = state.join("kernel-work");
    std::fs::create_dir_all(&work).unwrap();
    let fs = rm::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rm::fsconfig_set_string(fs.as_fd(), "lowerdir", lower)?;
    rm::fsconfig_set_string(fs.as_fd(), "upperdir", state.join("upper"))?;
    rm::fsconfig_set_string(fs.as_fd(), "workdir", work)?;
    rm::fsconfig_set_flag(fs.as_fd(), "userxattr")?;
    rm::fsconfig_create(fs.as_fd())?;
    rm::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// What the kernel makes of lower and upper; `None` where this process may not mount.
pub fn tree(lower: &Path, state: &Path) -> Option<Tree> {
    if !rustix::process::geteuid().is_root() {
        SKIPPED.get_or_init(|| println!("kernel overlayfs is not asked: not root"));
        return None;
    }
    match mount(lower, state) {
        Ok(root) => Some(tree::read(root.as_fd())),
        Err(errno) => {
            assert!(std::env::var_os("SCRUBFS_REQUIRE_FUSE").is_none(), "kernel overlayfs refused: {errno}");
            SKIPPED.get_or_init(|| println!("kernel overlayfs is not asked: {errno}"));
            None
        }
    }
}

/// Compares: all that the view shows must be there and the same, and what more is there must be hidden.
pub fn compare(kernel: &Tree, view: &Tree) {
    for (path, object) in view {
        let at = path.escape_ascii();
        let theirs = kernel.get(path).unwrap_or_else(|| panic!("the kernel does not show {at}"));
        assert_eq!(
            (theirs.kind, theirs.mode, &theirs.content, theirs.mtime, &theirs.xattrs),
            (object.kind, object.mode, &object.content, object.mtime, &object.xattrs),
            "the kernel shows another {at}"
        );
    }
    for path in kernel.keys().filter(|p| !view.contains_key(*p)) {
        assert!(super::fixture::is_hidden(path), "only the kernel shows {}", path.escape_ascii());
    }
}
