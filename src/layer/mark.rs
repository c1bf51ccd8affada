//! The marks on objects of upper. `user.overlay.opaque` is the kernel's (Documentation/filesystems/overlayfs.rst, `userxattr`);
//! `user.scrubfs.origin` is ours: what a copied-up object was in lower. An overlayfs reader may ignore ours. A mark that
//! cannot be read counts as none, and the object then as new: nothing is decided by a damaged mark.

use std::os::fd::BorrowedFd;

use crate::sys::{self, FileType, Result, Stat, Time};

/// The kernel's mark of an opaque directory, value `y`.
pub const OPAQUE: &[u8] = b"user.overlay.opaque";

/// Our mark of what an object was in lower.
pub const ORIGIN: &[u8] = b"user.scrubfs.origin";

/// The prefix of the kernel's marks; also `uuid`, `impure`, `origin`, which kernel overlayfs leaves behind.
pub const OVERLAY_PREFIX: &[u8] = b"user.overlay.";

/// The prefix of our marks.
pub const MARK_PREFIX: &[u8] = b"user.scrubfs.";

/// The ACL that decides who may do what with an object (acl(5)).
pub const ACL: &[u8] = b"system.posix_acl_access";

/// The ACL that a directory gives to what is made in it.
pub const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Whether an attribute is a layer's own business and never shown to the agent or copied from lower.
#[must_use]
pub fn is_private_xattr(name: &[u8]) -> bool {
    name.starts_with(OVERLAY_PREFIX) || name.starts_with(MARK_PREFIX)
}

/// Whether an attribute goes with its object from layer to layer: the user's own and the ACLs.
#[must_use]
pub fn is_carried_xattr(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !is_private_xattr(name)) || name == ACL || name == DEFAULT_ACL
}

/// The attributes of an object that go with it from layer to layer, in the kernel's order.
///
/// # Errors
/// The errno of listxattr(2) or getxattr(2).
pub fn carried_xattrs(fd: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = Vec::new();
    for name in sys::list_xattrs(fd)?.into_iter().filter(|name| is_carried_xattr(name)) {
        if let Some(value) = sys::get_xattr(fd, &name)? {
            all.push((name, value));
        }
    }
    Ok(all)
}

/// The access ACL that a new object with a mode gets from its directory's default ACL: what the mode does not grant is taken away
/// (acl(5), "Object creation and default ACLs"). The form is the kernel's (linux/posix_acl_xattr.h); one that is damaged gives nothing.
#[must_use]
pub fn inherited_acl(default: &[u8], mode: u32) -> Option<Vec<u8>> {
    const USER_OBJ: u8 = 0x01;
    const GROUP_OBJ: u8 = 0x04;
    const MASK: u8 = 0x10;
    const OTHER: u8 = 0x20;
    let mut acl = default.to_vec();
    let (version, entries) = acl.split_first_chunk_mut::<4>()?;
    if *version != 2_u32.to_le_bytes() || entries.len() % 8 != 0 {
        return None;
    }
    let has_mask = entries.chunks_exact(8).any(|entry| entry.first() == Some(&MASK));
    for entry in entries.chunks_exact_mut(8) {
        let [tag, _, allowed, ..] = entry else { return None };
        let granted = match *tag {
            USER_OBJ => mode >> 6,
            MASK => mode >> 3,
            GROUP_OBJ if !has_mask => mode >> 3,
            OTHER => mode,
            _ => 0o7,
        };
        *allowed &= (granted & 0o7) as u8;
    }
    Some(acl)
}

/// What tells one state of an object from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Device of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
}

impl From<&Stat> for Stamp {
    fn from(s: &Stat) -> Self {
        Self { dev: s.dev, ino: s.ino, mode: s.mode, size: s.size, mtime: s.mtime, ctime: s.ctime }
    }
}

impl Stamp {
    /// The object's type.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode)
    }

    /// Whether a later stat shows the object with the same content: same inode, type, size and modification time. The inode's
    /// change time may differ (a rename, a new link, a chmod).
    #[must_use]
    pub fn same_content(&self, now: &Self) -> bool {
        self.dev == now.dev
            && self.ino == now.ino
            && self.file_type() == now.file_type()
            && (self.file_type() == FileType::Dir || (self.size == now.size && self.mtime == now.mtime))
    }
}

/// What an object of upper was in lower when it was copied up, or what lower had at a path when upper first covered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The lower object's state then.
    pub stamp: Stamp,
    /// BLAKE3 of the content as the agent saw it (masked), where it was worth computing.
    pub hash: Option<[u8; 32]>,
}

impl Origin {
    /// The mark's text: version, numbers, hash or `-`, separated by spaces.
    #[must_use]
    pub fn encode(&self) -> String {
        let s = &self.stamp;
        let hash =
            self.hash.map_or_else(|| "-".to_owned(), |h| blake3::Hash::from_bytes(h).to_hex().to_string());
        format!(
            "1 {} {} {:o} {} {}.{} {}.{} {hash}",
            s.dev, s.ino, s.mode, s.size, s.mtime.sec, s.mtime.nsec, s.ctime.sec, s.ctime.nsec
        )
    }

    /// Reads the mark's text; `None` for anything this version did not write.
    #[must_use]
    pub fn decode(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut words = text.split(' ');
        if words.next()? != "1" {
            return None;
        }
        let stamp = Stamp {
            dev: words.next()?.parse().ok()?,
            ino: words.next()?.parse().ok()?,
            mode: u32::from_str_radix(words.next()?, 8).ok()?,
            size: words.next()?.parse().ok()?,
            mtime: decode_time(words.next()?)?,
            ctime: decode_time(words.next()?)?,
        };
        let hash = match words.next()? {
            "-" => None,
            hex => Some(*blake3::Hash::from_hex(hex).ok()?.as_bytes()),
        };
        words.next().is_none().then_some(Self { stamp, hash })
    }
}

fn decode_time(text: &str) -> Option<Time> {
    let (sec, nsec) = text.rsplit_once('.')?;
    Some(Time { sec: sec.parse().ok()?, nsec: nsec.parse().ok().filter(|n| *n < 1_000_000_000)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_the_round_trip_and_damage_is_noticed() {
        let time = Time { sec: -3, nsec: 999_999_999 };
        let stamp = Stamp { dev: 5, ino: u64::MAX, mode: 0o100_644, size: 0, mtime: time, ctime: time };
        for hash in [None, Some([7; 32])] {
            let origin = Origin { stamp, hash };
            let text = origin.encode();
            assert_eq!(Origin::decode(text.as_bytes()), Some(origin));
            for cut in 0..text.len().saturating_sub(1) {
                assert_ne!(Origin::decode(&text.as_bytes()[..cut]), Some(origin), "cut at {cut}");
            }
        }
        assert_eq!(Origin::decode(b"2 0 0 0 0 0.0 0.0 -"), None);
    }
}
