//! Words compared within changed lines, for `--word` and for marks inside a line. A word is a run of letters, digits and
//! underscores, a run of blanks, or any other single byte.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

use super::text::Tag;

/// A run of words that play the same part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordRun {
    /// In both, only in the old or only in the new text.
    pub tag: Tag,
    /// The run's bytes in the old text (removed, context) or in the new one (added).
    pub range: Range<usize>,
}

/// The runs in order; removed ones stand before the added ones that take their place. Context runs are ranges of `old`.
#[must_use]
pub fn word_diff(old: &[u8], new: &[u8]) -> Vec<WordRun> {
    let (old_words, new_words) = (words(old), words(new));
    let mut input: InternedInput<&[u8]> = InternedInput::default();
    input.update_before(old_words.iter().filter_map(|r| old.get(r.clone())));
    input.update_after(new_words.iter().filter_map(|r| new.get(r.clone())));
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_no_heuristic(&input);
    let mut runs = Vec::new();
    let mut at = 0;
    for hunk in diff.hunks() {
        push(&mut runs, Tag::Context, &old_words, at..hunk.before.start);
        push(&mut runs, Tag::Removed, &old_words, hunk.before.clone());
        push(&mut runs, Tag::Added, &new_words, hunk.after.clone());
        at = hunk.before.end;
    }
    push(&mut runs, Tag::Context, &old_words, at..u32::try_from(old_words.len()).unwrap_or(u32::MAX));
    runs
}

fn push(runs: &mut Vec<WordRun>, tag: Tag, words: &[Range<usize>], of: Range<u32>) {
    let of = words.get(of.start as usize..of.end as usize).unwrap_or_default();
    if let (Some(first), Some(last)) = (of.first(), of.last()) {
        runs.push(WordRun { tag, range: first.start..last.end });
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Class {
    Word,
    Blank,
    Other,
}

fn class(b: u8) -> Class {
    match b {
        b if b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80 => Class::Word,
        b' ' | b'\t' => Class::Blank,
        _ => Class::Other,
    }
}

fn words(text: &[u8]) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut last = Class::Other;
    for (at, b) in text.iter().enumerate() {
        let class = class(*b);
        match words.last_mut() {
            Some(word) if class != Class::Other && class == last => word.end = at + 1,
            _ => words.push(at..at + 1),
        }
        last = class;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_texts_can_be_put_together_from_the_runs() {
        let (old, new) = (b"let x = foo(1, bar);\n".as_slice(), b"let y = foo(1, baz, 2);\n".as_slice());
        let runs = word_diff(old, new);
        let text = |tags: [Tag; 2]| -> Vec<u8> {
            runs.iter()
                .filter(|r| tags.contains(&r.tag))
                .flat_map(|r| if r.tag == Tag::Added { &new[r.range.clone()] } else { &old[r.range.clone()] })
                .copied()
                .collect()
        };
        assert_eq!(text([Tag::Context, Tag::Removed]), old);
        assert_eq!(text([Tag::Context, Tag::Added]), new);
        let removed: Vec<_> =
            runs.iter().filter(|r| r.tag == Tag::Removed).map(|r| &old[r.range.clone()]).collect();
        assert_eq!(removed, [b"x".as_slice(), b"bar"]);
    }

    #[test]
    fn an_empty_side() {
        assert_eq!(word_diff(b"", b"a b"), [WordRun { tag: Tag::Added, range: 0..3 }]);
        assert_eq!(word_diff(b"", b""), []);
    }
}
