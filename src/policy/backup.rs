//! Names that programs and people give to copies of a file: `.env~`, `#.env#`, `id_rsa.bak`, `.npmrc.swp`, `credentials (1).json`.
//! Such a name stands for another, which the rules know. This module only says which; names come folded to lower case.

/// What a copy's bytes look like beside the original's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    /// The same format: what masks the original masks the copy.
    Same,
    /// A lock, swap or compressed file: nothing in it can be masked.
    Other,
}

/// How many marks may be stacked: `.env.bak.1~`.
const MAX_MARKS: usize = 4;

/// Whether an extension says that a file is a copy which keeps the format.
fn is_same(extension: &[u8]) -> bool {
    matches!(
        extension,
        b"bak"
            | b"backup"
            | b"bkp"
            | b"bk"
            | b"back"
            | b"old"
            | b"orig"
            | b"original"
            | b"save"
            | b"saved"
            | b"sav"
            | b"copy"
            | b"prev"
            | b"previous"
            | b"tmp"
            | b"temp"
            | b"new"
            | b"mine"
            | b"theirs"
            | b"yours"
            | b"rej"
            | b"disabled"
            | b"off"
            | b"inactive"
            | b"dpkg-old"
            | b"dpkg-dist"
            | b"dpkg-new"
            | b"dpkg-bak"
            | b"dpkg-tmp"
            | b"ucf-old"
            | b"ucf-dist"
            | b"ucf-new"
            | b"rpmsave"
            | b"rpmnew"
            | b"rpmorig"
            | b"pacsave"
            | b"pacnew"
            | b"part"
            | b"partial"
            | b"crdownload"
            | b"download"
            | b"txt"
    )
}

/// Whether an extension says that a file is a copy in another format.
fn is_other(extension: &[u8]) -> bool {
    matches!(
        extension,
        [b's', b'w', b'a'..=b'p']
            | b"kate-swp"
            | b"un"
            | b"gz"
            | b"bz2"
            | b"xz"
            | b"zst"
            | b"lz4"
            | b"br"
            | b"zip"
            | b"7z"
            | b"rar"
            | b"tar"
            | b"tgz"
            | b"tbz2"
            | b"txz"
    )
}

/// Marks before an extension, or at the end of a name without one, that end in a letter.
fn marks_ending_in(letter: u8) -> &'static [&'static [u8]] {
    match letter {
        b'y' => &[b" - copy", b" copy", b"-copy", b"_copy", b".copy"],
        b'k' => &[b".bak", b"-bak", b"_bak"],
        b'p' => &[b".backup", b"-backup", b"_backup"],
        b'd' => &[b".old", b"-old", b"_old"],
        b'g' => &[b".orig", b"-orig", b"_orig"],
        b'l' => &[b".original", b"_local"],
        b'e' => &[b"_base", b"_remote"],
        _ => &[],
    }
}

/// Calls `judge` with each original that a name may be a copy of, the nearest first, until it returns something. The original
/// may be any bytes but the empty ones.
pub(super) fn originals<T>(name: &[u8], mut judge: impl FnMut(&[u8], Copy) -> Option<T>) -> Option<T> {
    let mut current = std::borrow::Cow::Borrowed(name);
    let mut copy = Copy::Same;
    for _ in 0..MAX_MARKS {
        let (original, how) = unmark(&current)?;
        if how == Copy::Other {
            copy = Copy::Other;
        }
        if let Some(found) = judge(&original, copy) {
            return Some(found);
        }
        // vim puts a dot before the swap file of a name that has none.
        if let Some(undotted) = original.strip_prefix(b".").filter(|n| how == Copy::Other && !n.is_empty())
            && let Some(found) = judge(undotted, copy)
        {
            return Some(found);
        }
        current = std::borrow::Cow::Owned(original);
    }
    None
}

/// Takes the outermost mark off.
fn unmark(name: &[u8]) -> Option<(Vec<u8>, Copy)> {
    let (original, copy) = around(name).or_else(|| behind(name)).or_else(|| within(name))?;
    (!original.is_empty()).then_some((original, copy))
}

/// `#name#`, `.#name` (Emacs), `~$name` (office programs), `copy of name`.
fn around(name: &[u8]) -> Option<(Vec<u8>, Copy)> {
    if let Some(inner) = name.strip_prefix(b"#").and_then(|n| n.strip_suffix(b"#")) {
        return Some((inner.to_vec(), Copy::Same));
    }
    let locks: [&[u8]; 3] = [b".#", b"~$", b".~lock."];
    if let Some(inner) = locks.iter().find_map(|lock| name.strip_prefix(*lock)) {
        return Some((inner.strip_suffix(b"#").unwrap_or(inner).to_vec(), Copy::Other));
    }
    name.strip_prefix(b"copy of ").map(|inner| (inner.to_vec(), Copy::Same))
}

/// `name~`, `name.~1~`, `name.bak`, `name.swp`, `name.1`, `name.2024-05-01`, `name-20240501`.
fn behind(name: &[u8]) -> Option<(Vec<u8>, Copy)> {
    if let Some(inner) = name.strip_suffix(b"~") {
        let undo = inner.strip_suffix(b".un");
        let numbered = inner.iter().rposition(|b| *b == b'~').filter(|at| {
            let digits = inner.get(at + 1..).unwrap_or_default();
            !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
        });
        return Some(match (undo, numbered) {
            (Some(original), _) => (original.to_vec(), Copy::Other),
            (None, Some(at)) => {
                let original = inner.get(..at).unwrap_or_default();
                (original.strip_suffix(b".").unwrap_or(original).to_vec(), Copy::Same)
            }
            (None, None) => (inner.to_vec(), Copy::Same),
        });
    }
    let dot = name.iter().rposition(|b| *b == b'.')?;
    let (stem, extension) = (name.get(..dot)?, name.get(dot + 1..)?);
    if is_same(extension) || is_numbered(extension) {
        return Some((stem.to_vec(), Copy::Same));
    }
    is_other(extension).then(|| (stem.to_vec(), Copy::Other))
}

/// `bak1`, `old2`, a count of up to four digits, a date with or without a time.
fn is_numbered(extension: &[u8]) -> bool {
    let words: [&[u8]; 4] = [b"bak", b"backup", b"old", b"orig"];
    let rest = words.iter().find_map(|w| extension.strip_prefix(*w)).unwrap_or(extension);
    let digits = rest.iter().filter(|b| b.is_ascii_digit()).count();
    let others = rest.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'_' | b't' | b':'));
    others && rest.first().is_some_and(|b| b.is_ascii_digit() || rest.len() < extension.len()) && digits > 0
}

/// A mark before the extension (`credentials (1).json`, `wp-config.old.php`) or behind a name that has none (`id_rsa-old`).
fn within(name: &[u8]) -> Option<(Vec<u8>, Copy)> {
    let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0).unwrap_or(name.len());
    let ends: [usize; 2] = [dot, name.len()];
    ends.iter().find_map(|end| {
        let (stem, extension) = name.split_at_checked(*end)?;
        let mut original = unmarked_stem(stem)?.to_vec();
        original.extend_from_slice(extension);
        Some((original, Copy::Same))
    })
}

fn unmarked_stem(stem: &[u8]) -> Option<&[u8]> {
    if let Some(inner) = stem.strip_suffix(b")") {
        let open = inner.iter().rposition(|b| *b == b'(')?;
        let counts = inner.get(open + 1..)?.iter().all(u8::is_ascii_digit);
        return stem.get(..open).filter(|_| counts).map(<[u8]>::trim_ascii_end);
    }
    if let Some(original) = marks_ending_in(*stem.last()?).iter().find_map(|mark| stem.strip_suffix(*mark)) {
        return Some(original);
    }
    undated(stem)
}

/// `x-20240501`, `x_2024-05-01`, `x.20240501120000`.
fn undated(stem: &[u8]) -> Option<&[u8]> {
    let tail = stem.iter().rev().take_while(|b| b.is_ascii_digit() || **b == b'-').count();
    let (head, date) = stem.split_at_checked(stem.len() - tail)?;
    let separated = head.strip_suffix(b"_").or_else(|| head.strip_suffix(b"."));
    let original = if date.starts_with(b"-") { head } else { separated? };
    let digits = date.iter().filter(|b| b.is_ascii_digit()).count();
    matches!(digits, 8 | 14).then_some(original)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(name: &str) -> Vec<String> {
        let mut seen = Vec::new();
        originals(name.as_bytes(), |original, _| {
            seen.push(String::from_utf8_lossy(original).into_owned());
            None::<()>
        });
        seen
    }

    #[test]
    fn copies_of_an_environment_file_are_known() {
        let copies = "
            .env~ .env.bak .env.bak2 .env.old .env.orig .env.save .env.backup .env.tmp .env.1 .env.~3~ .env.swp .env.swo .env.un~
            #.env# .#.env .env.2024-05-01 .env-20240501 .env_20240501 .env.20240501-120000 .env.dpkg-old .env.gz .env.bak~
            .env-old .env_backup .env.old.1 .env.txt .env.zip .env.bak.gz";
        for copy in copies.split_whitespace().chain([".env (1)", ".env copy", "copy of .env", ".env - copy"])
        {
            assert!(all(copy).iter().any(|o| o == ".env"), "{copy}: {:?}", all(copy));
        }
    }

    #[test]
    fn copies_of_a_name_with_an_extension_are_known() {
        let copies =
            ["credentials (1).json", "credentials copy.json", "credentials.bak.json", "credentials-old.json"];
        for copy in copies.into_iter().chain([
            "credentials_20240501.json",
            "credentials-2024-05-01.json",
            ".credentials.json.swp",
        ]) {
            assert!(all(copy).iter().any(|o| o == "credentials.json"), "{copy}: {:?}", all(copy));
        }
    }

    #[test]
    fn what_cannot_be_masked_is_said() {
        for (name, copy) in [(".env.swp", Copy::Other), (".env.gz", Copy::Other), (".env.bak", Copy::Same)] {
            assert_eq!(originals(name.as_bytes(), |_, how| Some(how)), Some(copy), "{name}");
        }
    }

    #[test]
    fn ordinary_names_are_no_copies() {
        for name in ["main.rs", "readme", "x.tar", "a.b.c", ".gitignore", "~", "#", "##", ".", "()", "2024"] {
            let originals = all(name);
            assert!(originals.iter().all(|o| !o.is_empty()), "{name}: {originals:?}");
        }
        assert!(all("main.rs").is_empty());
        assert!(all("version-2.0.rs").is_empty());
    }
}
