//! `diff --tool`: the old and the new files in two directories, for a tool that compares directories. Only the user's command line says
//! which tool; nothing in the workspace does. The directories are private and hold masked content only; a symbolic link is
//! written as a file, so that no tool follows it.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use super::super::pager::absolute_path;
use super::super::{CliError, Result, Ui};
use crate::change::{Change, Side, Sides};
use crate::path::RelPath;
use crate::sys::FileType;

/// Writes the trees, runs the tool and removes them.
pub(super) fn run(sides: &Sides<'_>, changes: &[&Change], tool: &str, ui: &mut Ui) -> Result<()> {
    // For its owner alone, as all temporary directories of the library are.
    let dir = tempfile::Builder::new().prefix("scrubfs-diff-").tempdir();
    let dir = dir.map_err(CliError::io("make a directory in", &std::env::temp_dir()))?;
    let (left, right) = (dir.path().join("left"), dir.path().join("right"));
    for root in [&left, &right] {
        fs::create_dir(root).map_err(CliError::io("make", root))?;
    }
    for change in changes {
        let content = sides.old(change).and_then(|old| Ok((old, sides.new_content(change)?)));
        let (old, new) = match content {
            Ok(content) => content,
            Err(error) => {
                ui.warn(format_args!("{}: {error}", change.path));
                continue;
            }
        };
        put(&left, change.old_path(), change.old.as_ref(), &old)?;
        put(&right, &change.path, change.new.as_ref(), &new)?;
    }
    close(dir.path(), 0o500)?;
    let started = command(tool, &left, &right).current_dir(dir.path()).status();
    close(dir.path(), 0o700)?;
    // How a diff tool ends says whether there were differences.
    started.map(|_| ()).map_err(CliError::io("start", Path::new("/bin/sh")))
}

/// The tool's command line, read by a shell that knows both directories.
fn command(tool: &str, left: &Path, right: &Path) -> Command {
    let named = tool.contains("$left") || tool.contains("${left") || tool.contains("$right");
    let line = if named { tool.to_owned() } else { format!("{tool} \"$left\" \"$right\"") };
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).env("left", left).env("right", right);
    command.env("PATH", absolute_path(&std::env::var_os("PATH").unwrap_or_default()));
    command
}

/// Writes one side of a change: a file, or a link as a file with its target. Anything else has no content to compare.
fn put(root: &Path, path: &RelPath, side: Option<&Side>, content: &[u8]) -> Result<()> {
    let Some(side) = side.filter(|s| matches!(s.file_type(), FileType::File | FileType::Symlink)) else {
        return Ok(());
    };
    let at = root.join(path.as_os_str());
    if let Some(parent) = at.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(CliError::io("make", parent))?;
    }
    let mode = if side.file_type() == FileType::File && side.mode & 0o100 != 0 { 0o500 } else { 0o400 };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&at);
    file.and_then(|mut f| f.write_all(content)).map_err(CliError::io("write", &at))
}

/// Gives all directories a mode: closed for the tool, open again to be removed.
fn close(dir: &Path, mode: u32) -> Result<()> {
    let set = |dir: &Path| {
        fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(CliError::io("close", dir))
    };
    if mode & 0o200 != 0 {
        set(dir)?;
    }
    for entry in fs::read_dir(dir).map_err(CliError::io("list", dir))? {
        let entry = entry.map_err(CliError::io("list", dir))?;
        if entry.file_type().map_err(CliError::io("look at", dir))?.is_dir() {
            close(&entry.path(), mode)?;
        }
    }
    if mode & 0o200 == 0 { set(dir) } else { Ok(()) }
}
