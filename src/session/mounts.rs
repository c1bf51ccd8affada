//! The table of mounts, from `/proc/self/mountinfo` (proc(5)). Nothing here touches a mounted file system, so a dead FUSE mount
//! cannot make it wait.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What the source of our mounts begins with.
pub(super) const SOURCE_PREFIX: &str = "scrubfs:";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's id.
    pub id: u64,
    /// The id of the mount it is mounted on.
    pub parent: u64,
    /// Device of the file system, as `MAJOR:MINOR`.
    pub device: String,
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Options of this mount, comma-separated.
    pub options: String,
    /// Whether mounts made here appear elsewhere (`shared:N`).
    pub shared: bool,
    /// The type, as `ext4` or `fuse.scrubfs`.
    pub fs_type: String,
    /// The source.
    pub source: OsString,
}

impl MountEntry {
    /// Whether it is a merged tree of scrubfs.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.is_fuse() && self.source.as_bytes().starts_with(SOURCE_PREFIX.as_bytes())
    }

    /// Whether it is a FUSE file system.
    #[must_use]
    pub fn is_fuse(&self) -> bool {
        self.fs_type == "fuse" || self.fs_type.starts_with("fuse.")
    }
}

/// All mounts that this process sees, in the order they were made.
///
/// # Errors
/// Any error of reading the table; a line that cannot be understood.
pub fn mount_table() -> io::Result<Vec<MountEntry>> {
    let bytes = std::fs::read("/proc/self/mountinfo")?;
    parse(&bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a line of mountinfo is not understood"))
}

fn parse(bytes: &[u8]) -> Option<Vec<MountEntry>> {
    bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let mut text = || fields.next();
    let number = |b: &[u8]| std::str::from_utf8(b).ok()?.parse().ok();
    let (id, parent) = (number(text()?)?, number(text()?)?);
    let device = String::from_utf8(text()?.to_vec()).ok()?;
    let (root, mountpoint) = (unescape(text()?), unescape(text()?));
    let options = String::from_utf8_lossy(text()?).into_owned();
    let mut shared = false;
    for tag in fields.by_ref() {
        if tag == b"-" {
            break;
        }
        shared |= tag.starts_with(b"shared:");
    }
    let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next().unwrap_or_default());
    Some(MountEntry {
        id,
        parent,
        device,
        root: root.into(),
        mountpoint: mountpoint.into(),
        options,
        shared,
        fs_type,
        source,
    })
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let value = octal.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match value {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

/// The mount that is on top at exactly this path.
pub(super) fn mounted_at<'a>(table: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    table.iter().rev().find(|m| m.mountpoint == path)
}

/// The mount that an absolute path, free of links, lies in: the last made among those whose mountpoint is its longest ancestor.
pub(super) fn mount_of<'a>(table: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    path.ancestors().find_map(|dir| mounted_at(table, dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        36 22 0:50 / /a\\040b/m rw,nosuid master:1 - fuse.scrubfs scrubfs:x rw,user_id=0\n\
        37 22 0:51 / /a\\040b/m rw - tmpfs  rw\n";

    #[test]
    fn lines_with_and_without_optional_fields() {
        let table = parse(TABLE).unwrap();
        assert_eq!(table.len(), 3);
        assert!(table[0].shared && !table[1].shared && table[1].is_ours() && !table[2].is_ours());
        assert_eq!(table[1].mountpoint, Path::new("/a b/m"));
        assert_eq!(mounted_at(&table, Path::new("/a b/m")).unwrap().id, 37);
        assert_eq!(mount_of(&table, Path::new("/a b/m/x/y")).unwrap().id, 37);
        assert_eq!(mount_of(&table, Path::new("/a b/n")).unwrap().id, 22);
        assert!(parse(b"22 1 8:1 /\n").is_none());
    }

    #[test]
    fn the_real_table_has_a_root() {
        assert!(mount_table().unwrap().iter().any(|m| m.mountpoint == Path::new("/")));
    }
}
