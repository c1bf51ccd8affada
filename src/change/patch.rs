//! Writes changes as a git-format patch that `git apply --binary` accepts on a clean checkout of the base. Masks stay masks:
//! where old content is redacted, its blob id (a hash that a guess at the secret could be tested against) is not written for
//! text, and for binary content it is the id of the masked bytes.

use std::io::{self, Write};

use super::binary::{NO_BLOB, blob_id, quoted, write_literal};
use super::file::{Body, FileDiff, GitMode, Omitted, Piece, file_diff, omitted};
use super::hunk::Hunk;
use super::sides::OpenSide;
use super::text::TextDiff;
use super::{Change, ChangeError, Sides};
use crate::path::RelPath;

/// A change that the patch does not carry, or not whole.
#[derive(Debug)]
pub struct Skipped {
    /// Which.
    pub path: RelPath,
    /// Why.
    pub why: Omitted,
}

/// Writes the patch of the changes, in their order, with `context` lines around each edit, and returns what it could not
/// carry.
///
/// # Errors
/// [`ChangeError::Write`] if `out` fails. A change that cannot be read is skipped, and told.
pub fn write_patch<'c>(
    sides: &Sides<'_>,
    changes: impl IntoIterator<Item = &'c Change>,
    context: u32,
    out: &mut impl Write,
) -> Result<Vec<Skipped>, ChangeError> {
    let mut skipped = Vec::new();
    for change in changes {
        if let Some(why) = omitted(change) {
            skipped.push(Skipped { path: change.path.clone(), why });
        }
        match file_diff(sides, change) {
            Ok(diff) => write_file(sides, change, &diff, context, out).map_err(ChangeError::Write)?,
            Err(error) => {
                skipped.push(Skipped { path: change.path.clone(), why: Omitted::Unread(error) });
            }
        }
    }
    Ok(skipped)
}

/// Writes one file's part of a patch.
///
/// # Errors
/// Of `out`, or of reading a side anew for binary content.
pub fn write_file(
    sides: &Sides<'_>,
    change: &Change,
    diff: &FileDiff,
    context: u32,
    out: &mut impl Write,
) -> io::Result<()> {
    for piece in &diff.pieces {
        header(change, piece, diff.similarity, out)?;
        match &piece.body {
            Body::Same => empty_file(piece, out)?,
            Body::Text(text) => {
                if !piece.redacted {
                    let id = |bytes: &[u8]| blob_id(&OpenSide::Bytes(bytes.to_vec()));
                    index_line(piece, &id(text.old_content())?, &id(text.new_content())?, out)?;
                }
                text_body(change, piece, text, context, out)?;
            }
            Body::Binary { .. } => binary_body(sides, change, piece, out)?,
        }
    }
    Ok(())
}

fn header(change: &Change, piece: &Piece, similarity: Option<u8>, out: &mut impl Write) -> io::Result<()> {
    let (old, new) = (change.old_path().as_bytes(), change.path.as_bytes());
    out.write_all(b"diff --git ")?;
    out.write_all(&quoted("a/", old))?;
    out.write_all(b" ")?;
    out.write_all(&quoted("b/", new))?;
    out.write_all(b"\n")?;
    match (piece.old, piece.new) {
        (Some(old), Some(new)) if old != new => {
            writeln!(out, "old mode {}\nnew mode {}", old.as_str(), new.as_str())?;
        }
        (None, Some(new)) => writeln!(out, "new file mode {}", new.as_str())?,
        (Some(old), None) => writeln!(out, "deleted file mode {}", old.as_str())?,
        (Some(_), Some(_)) | (None, None) => {}
    }
    if let Some(percent) = similarity {
        writeln!(out, "similarity index {percent}%")?;
        out.write_all(b"rename from ")?;
        out.write_all(&quoted("", old))?;
        out.write_all(b"\nrename to ")?;
        out.write_all(&quoted("", new))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// An empty file that comes or goes has a blob id and no lines.
fn empty_file(piece: &Piece, out: &mut impl Write) -> io::Result<()> {
    let empty = blob_id(&OpenSide::Bytes(Vec::new()))?;
    match (piece.old, piece.new) {
        (None, Some(_)) | (Some(_), None) => index_line(piece, &empty, &empty, out),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

fn index_line(piece: &Piece, old: &str, new: &str, out: &mut impl Write) -> io::Result<()> {
    let old = if piece.old.is_some() { old } else { NO_BLOB };
    let new = if piece.new.is_some() { new } else { NO_BLOB };
    match (piece.old, piece.new) {
        (Some(mode), Some(same)) if mode == same => writeln!(out, "index {old}..{new} {}", mode.as_str()),
        _ => writeln!(out, "index {old}..{new}"),
    }
}

fn text_body(
    change: &Change,
    piece: &Piece,
    text: &TextDiff,
    context: u32,
    out: &mut impl Write,
) -> io::Result<()> {
    side_line("--- ", "a/", piece.old, change.old_path(), out)?;
    side_line("+++ ", "b/", piece.new, &change.path, out)?;
    for hunk in text.hunks(&change.path, context) {
        write_hunk(text, &hunk, out)?;
    }
    Ok(())
}

fn side_line(
    sign: &str,
    prefix: &str,
    mode: Option<GitMode>,
    path: &RelPath,
    out: &mut impl Write,
) -> io::Result<()> {
    out.write_all(sign.as_bytes())?;
    if mode.is_none() {
        return out.write_all(b"/dev/null\n");
    }
    let name = quoted(prefix, path.as_bytes());
    out.write_all(&name)?;
    // git ends a name with blanks by a tab, or the blank would count as the end of the name.
    let tab = !name.starts_with(b"\"") && name.contains(&b' ');
    out.write_all(if tab { b"\t\n" } else { b"\n" })
}

/// Writes one hunk, from its `@@` line on.
///
/// # Errors
/// Of `out`.
pub fn write_hunk(text: &TextDiff, hunk: &Hunk, out: &mut impl Write) -> io::Result<()> {
    let range = |start: u32, lines: u32| match lines {
        1 => start.to_string(),
        lines => format!("{start},{lines}"),
    };
    let (old, new) = (range(hunk.old_start, hunk.old_lines), range(hunk.new_start, hunk.new_lines));
    write!(out, "@@ -{old} +{new} @@")?;
    if let Some(heading) = text.heading(hunk) {
        out.write_all(b" ")?;
        out.write_all(heading)?;
    }
    out.write_all(b"\n")?;
    for line in text.hunk_lines(hunk) {
        write!(out, "{}", line.tag.sign())?;
        out.write_all(line.text)?;
        if !line.text.ends_with(b"\n") {
            out.write_all(b"\n\\ No newline at end of file\n")?;
        }
    }
    Ok(())
}

fn binary_body(sides: &Sides<'_>, change: &Change, piece: &Piece, out: &mut impl Write) -> io::Result<()> {
    let old = match piece.old {
        Some(_) => sides.open_old(change)?,
        None => None,
    };
    let new = match piece.new {
        Some(_) => sides.open_new(change)?,
        None => None,
    };
    let id = |side: &Option<OpenSide<'_>>| side.as_ref().map_or(Ok(NO_BLOB.to_owned()), blob_id);
    index_line(piece, &id(&old)?, &id(&new)?, out)?;
    writeln!(out, "GIT binary patch")?;
    write_literal(out, new.as_ref())?;
    write_literal(out, old.as_ref())
}
