//! The parts of a git patch that are not lines: names quoted as git quotes them, blob ids, and binary content (zlib, base 85),
//! written as a stream so that a large file needs no memory.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use sha1::{Digest as _, Sha1};

use super::sides::OpenSide;

/// Bytes of compressed data in one line of a binary patch.
const LINE: usize = 52;

/// git's digits of base 85 (base85.c of git, RFC 1924).
const DIGITS: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// git's id of "no blob".
pub(super) const NO_BLOB: &str = "0000000000000000000000000000000000000000";

/// A path with git's prefix (`a/`, `b/`), in C quotes if a byte of it needs them.
pub(super) fn quoted(prefix: &str, path: &[u8]) -> Vec<u8> {
    let plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
    let mut out = Vec::with_capacity(path.len() + 4);
    if path.iter().all(|b| plain(*b)) {
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(path);
        return out;
    }
    out.push(b'"');
    out.extend_from_slice(prefix.as_bytes());
    for b in path {
        match b {
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0b => out.extend_from_slice(b"\\v"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b if plain(*b) => out.push(*b),
            b => out.extend_from_slice(format!("\\{b:03o}").as_bytes()),
        }
    }
    out.push(b'"');
    out
}

/// git's id of content as a blob.
pub(super) fn blob_id(side: &OpenSide<'_>) -> io::Result<String> {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", side.len()));
    side.pieces(|piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Writes one half of a `GIT binary patch`: content that replaces the other side's as a whole.
pub(super) fn write_literal(out: &mut impl Write, side: Option<&OpenSide<'_>>) -> io::Result<()> {
    let len = side.map_or(0, OpenSide::len);
    writeln!(out, "literal {len}")?;
    let mut encoder = ZlibEncoder::new(Lines { out, held: Vec::with_capacity(LINE) }, Compression::default());
    if let Some(side) = side {
        let mut failed = None;
        side.pieces(|piece| match encoder.write_all(piece) {
            Ok(()) => Ok(()),
            Err(error) => {
                failed.get_or_insert(error);
                Err(super::sides::Fault::Changing)
            }
        })
        .map_err(|fault| failed.unwrap_or_else(|| fault.into()))?;
    }
    encoder.finish()?.finish()?;
    writeln!(out)
}

/// Writes compressed bytes as lines: a letter for the count, then base 85.
struct Lines<'a, W: Write> {
    out: &'a mut W,
    held: Vec<u8>,
}

impl<W: Write> Lines<'_, W> {
    fn line(&mut self) -> io::Result<()> {
        let count = u8::try_from(self.held.len()).map_err(io::Error::other)?;
        let letter = if count <= 26 { b'A' + count - 1 } else { b'a' + count - 27 };
        let mut line = vec![letter];
        for group in self.held.chunks(4) {
            let mut bytes = [0; 4];
            for (to, from) in bytes.iter_mut().zip(group) {
                *to = *from;
            }
            let mut value = u32::from_be_bytes(bytes);
            let mut digits = [0_u8; 5];
            for digit in digits.iter_mut().rev() {
                *digit = DIGITS.get((value % 85) as usize).copied().unwrap_or_default();
                value /= 85;
            }
            line.extend_from_slice(&digits);
        }
        line.push(b'\n');
        self.held.clear();
        self.out.write_all(&line)
    }

    fn finish(mut self) -> io::Result<()> {
        if self.held.is_empty() { Ok(()) } else { self.line() }
    }
}

impl<W: Write> Write for Lines<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let taken = buf.len().min(LINE - self.held.len());
        self.held.extend_from_slice(buf.get(..taken).unwrap_or_default());
        if self.held.len() == LINE {
            self.line()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // A line is full or the last; only `finish` knows the last.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_git_does() {
        assert_eq!(quoted("a/", b"plain name"), b"a/plain name");
        assert_eq!(quoted("a/", b"q\"b\\s\n\x01\xff"), b"\"a/q\\\"b\\\\s\\n\\001\\377\"");
    }

    #[test]
    fn the_empty_blob_has_gits_id() {
        let empty = OpenSide::Bytes(Vec::new());
        assert_eq!(blob_id(&empty).unwrap(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        let mut out = Vec::new();
        write_literal(&mut out, None).unwrap();
        // Eight bytes of zlib for no byte of content.
        assert!(out.starts_with(b"literal 0\nH") && out.ends_with(b"\n\n"));
    }
}
