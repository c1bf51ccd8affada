//! What an apply does, for every object of lower, every object of upper over it, and whatever lower did since: one table with the
//! expected outcome in each cell. Each cell is really made, applied and undone. It promises that nothing is lost in any of them: a
//! conflict or a closed gate leaves lower as it is, and what lower gained since is still there after an apply that was not refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

mod cell;

use cell::Cell;

/// An object at one path, of lower or of upper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    /// In upper it shows what lower has beneath it as well.
    Dir,
    /// In lower it is a directory with overlayfs's mark, which means nothing there.
    Opaque,
    Link,
    /// In lower it is a device, which merged does not present: a hidden object.
    Whiteout,
    /// In upper it means that the agent did nothing.
    Absent,
    Fifo,
}

/// What lower did after the agent was done. Where it had nothing, an edit is a new file and a new type is a new directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Unchanged,
    Edited,
    Deleted,
    Retyped,
}

/// `agent`: what the agent made is there · `gone`: deleted · `as is`: no change, lower stays what it is today · `both`: what lower has
/// today and what the agent made · `held`: it waits behind a gate until it is named · `!reason`: a conflict, lower stays what it is today.
///
/// A retyped file, link, FIFO or nothing is a directory today, a retyped directory or device a file.
#[rustfmt::skip]
const TABLE: &str = "
lower    | upper    | unchanged | edited                     | deleted                     | retyped
file     | file     | agent     | !same-lines                | !edited-here-deleted-there  | !type-against-content
file     | dir      | agent     | !type-against-content      | agent                       | both
file     | opaque   | agent     | !type-against-content      | agent                       | !added-in-deleted
file     | link     | agent     | !type-against-content      | !edited-here-deleted-there  | !type-against-content
file     | whiteout | gone      | !deleted-here-edited-there | as is                       | !type-against-content
file     | absent   | as is     | as is                      | as is                       | as is
file     | fifo     | agent     | !type-against-content      | !edited-here-deleted-there  | !type-against-content

dir      | file     | agent     | !added-in-deleted          | !edited-here-deleted-there  | !type-against-content
dir      | dir      | agent     | both                       | both                        | !type-against-content
dir      | opaque   | agent     | !added-in-deleted          | agent                       | !type-against-content
dir      | link     | agent     | !added-in-deleted          | !edited-here-deleted-there  | !type-against-content
dir      | whiteout | gone      | !added-in-deleted          | as is                       | !type-against-content
dir      | absent   | as is     | as is                      | as is                       | as is
dir      | fifo     | agent     | !added-in-deleted          | !edited-here-deleted-there  | !type-against-content

opaque   | file     | agent     | !added-in-deleted          | !edited-here-deleted-there  | !type-against-content
opaque   | dir      | agent     | both                       | both                        | !type-against-content
opaque   | opaque   | agent     | !added-in-deleted          | agent                       | !type-against-content
opaque   | link     | agent     | !added-in-deleted          | !edited-here-deleted-there  | !type-against-content
opaque   | whiteout | gone      | !added-in-deleted          | as is                       | !type-against-content
opaque   | absent   | as is     | as is                      | as is                       | as is
opaque   | fifo     | agent     | !added-in-deleted          | !edited-here-deleted-there  | !type-against-content

link     | file     | agent     | !type-against-content      | !edited-here-deleted-there  | !type-against-content
link     | dir      | agent     | !type-against-content      | agent                       | both
link     | opaque   | agent     | !type-against-content      | agent                       | !added-in-deleted
link     | link     | agent     | !edited-both               | !edited-here-deleted-there  | !type-against-content
link     | whiteout | gone      | !deleted-here-edited-there | as is                       | !type-against-content
link     | absent   | as is     | as is                      | as is                       | as is
link     | fifo     | agent     | !type-against-content      | !edited-here-deleted-there  | !type-against-content

whiteout | file     | held      | held                       | agent                       | !same-lines
whiteout | dir      | held      | held                       | agent                       | !added-both
whiteout | opaque   | held      | held                       | agent                       | !added-both
whiteout | link     | held      | held                       | agent                       | !added-both
whiteout | whiteout | as is     | as is                      | as is                       | !base-unknown
whiteout | absent   | as is     | as is                      | as is                       | as is
whiteout | fifo     | held      | held                       | agent                       | !added-both

absent   | file     | agent     | !same-lines                | agent                       | !added-both
absent   | dir      | agent     | !added-both                | agent                       | both
absent   | opaque   | agent     | !added-both                | agent                       | !base-unknown
absent   | link     | agent     | !added-both                | agent                       | !added-both
absent   | whiteout | as is     | !base-unknown              | as is                       | !base-unknown
absent   | absent   | as is     | as is                      | as is                       | as is
absent   | fifo     | agent     | !added-both                | agent                       | !added-both

fifo     | file     | agent     | !type-against-content      | !edited-here-deleted-there  | !type-against-content
fifo     | dir      | agent     | !type-against-content      | agent                       | both
fifo     | opaque   | agent     | !type-against-content      | agent                       | !added-in-deleted
fifo     | link     | agent     | !type-against-content      | !edited-here-deleted-there  | !type-against-content
fifo     | whiteout | gone      | !deleted-here-edited-there | as is                       | !type-against-content
fifo     | absent   | as is     | as is                      | as is                       | as is
fifo     | fifo     | agent     | !mode-both                 | !edited-here-deleted-there  | !type-against-content
";

const SINCE: [Since; 4] = [Since::Unchanged, Since::Edited, Since::Deleted, Since::Retyped];

fn kind(word: &str) -> Kind {
    match word {
        "file" => Kind::File,
        "dir" => Kind::Dir,
        "opaque" => Kind::Opaque,
        "link" => Kind::Link,
        "whiteout" => Kind::Whiteout,
        "absent" => Kind::Absent,
        "fifo" => Kind::Fifo,
        other => panic!("{other} is no kind"),
    }
}

#[test]
fn every_object_over_every_object_whatever_lower_did_since() {
    let (mut pairs, mut wrong) = (BTreeSet::new(), Vec::new());
    for row in TABLE.lines().skip(2).filter(|l| !l.is_empty()) {
        let words: Vec<&str> = row.split('|').map(str::trim).collect();
        let [lower, upper, expected @ ..] = words.as_slice() else { panic!("{row}") };
        assert!(expected.len() == SINCE.len() && pairs.insert((*lower, *upper)), "{row}");
        for (since, expected) in SINCE.into_iter().zip(expected) {
            let cell = Cell { lower: kind(lower), upper: kind(upper), since };
            // What went wrong is printed by then.
            let found = std::panic::catch_unwind(|| cell.outcome()).unwrap_or_else(|_| "broken".into());
            if found != *expected {
                wrong.push(format!("{lower} | {upper} | {since:?}: {found}, not {expected}"));
            }
        }
    }
    assert_eq!(pairs.len(), 7 * 7, "a row is missing");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
