//! How paths, stamps and hashes stand in a plan and in a journal: as text that loses no byte. A path is itself, with `%` and
//! whatever is not UTF-8 or a control character as `%XX`; a stamp is the words of an origin mark.

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};

use crate::layer::{Origin, Stamp};
use crate::path::RelPath;

/// The text of a path.
pub(super) fn path_text(path: &RelPath) -> String {
    let mut text = String::with_capacity(path.as_bytes().len());
    let escape = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            text.push_str(&format!("%{byte:02X}"));
        }
    };
    for chunk in path.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// The path of a text; `None` for what [`path_text`] does not write.
pub(super) fn path_of_text(text: &str) -> Option<RelPath> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = tail.get(2..)?;
    }
    RelPath::parse(bytes).ok()
}

/// `#[serde(with = "wire::path")]`.
pub(super) mod path {
    use super::{Deserializer, RelPath, Serializer, path_of_text, path_text};
    use serde::Deserialize as _;
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(path: &RelPath, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&path_text(path))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<RelPath, D::Error> {
        let text = String::deserialize(from)?;
        path_of_text(&text).ok_or_else(|| D::Error::custom("not a path below the workspace"))
    }
}

/// `#[serde(with = "wire::paths")]`.
pub(super) mod paths {
    use super::{Deserializer, RelPath, Serializer, path_of_text, path_text};
    use serde::Deserialize as _;
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(paths: &[RelPath], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(path_text))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RelPath>, D::Error> {
        let read =
            |t: &String| path_of_text(t).ok_or_else(|| D::Error::custom("not a path below the workspace"));
        Vec::<String>::deserialize(from)?.iter().map(read).collect()
    }
}

/// `#[serde(with = "wire::stamp")]`, for stamps that must be there.
pub(super) mod stamp {
    use super::{Deserializer, Serializer, Stamp, read_stamp, stamp_text};

    pub(crate) fn serialize<S: Serializer>(stamp: &Stamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&stamp_text(stamp))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Stamp, D::Error> {
        read_stamp(from)
    }
}

/// `#[serde(with = "wire::maybe_stamp")]`, `null` where nothing was seen.
pub(super) mod maybe_stamp {
    use super::{Deserializer, Serializer, Stamp, stamp_of_text, stamp_text};
    use serde::Deserialize as _;
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(stamp: &Option<Stamp>, to: S) -> Result<S::Ok, S::Error> {
        match stamp {
            Some(stamp) => to.serialize_some(&stamp_text(stamp)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Stamp>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let read = |t: String| stamp_of_text(&t).ok_or_else(|| D::Error::custom("not a stamp"));
        text.map(read).transpose()
    }
}

/// `#[serde(with = "wire::maybe_origin")]`.
pub(super) mod maybe_origin {
    use super::{Deserializer, Origin, Serializer};
    use serde::Deserialize as _;
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(origin: &Option<Origin>, to: S) -> Result<S::Ok, S::Error> {
        match origin {
            Some(origin) => to.serialize_some(&origin.encode()),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Origin>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let read = |t: String| Origin::decode(t.as_bytes()).ok_or_else(|| D::Error::custom("not an origin"));
        text.map(read).transpose()
    }
}

fn stamp_text(stamp: &Stamp) -> String {
    Origin { stamp: *stamp, hash: None }.encode()
}

fn stamp_of_text(text: &str) -> Option<Stamp> {
    Origin::decode(text.as_bytes()).map(|o| o.stamp)
}

fn read_stamp<'de, D: Deserializer<'de>>(from: D) -> Result<Stamp, D::Error> {
    let text = String::deserialize(from)?;
    stamp_of_text(&text).ok_or_else(|| D::Error::custom("not a stamp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_as_text() {
        for bytes in [b"".as_slice(), b"a/b c", b"100%", b"\xff\n/\x1b", "ü/日本%41".as_bytes()] {
            let path = RelPath::parse(bytes).unwrap();
            let text = path_text(&path);
            assert!(!text.chars().any(char::is_control));
            assert_eq!(path_of_text(&text), Some(path), "{text}");
        }
        for bad in ["%", "%4", "%zz", "../x", "/x"] {
            assert_eq!(path_of_text(bad), None, "{bad}");
        }
    }
}
