//! Three-way merge of text by lines, pure: what both sides made of a common base, put together, or the places where they
//! disagree. It promises never to pick a side where both changed the same lines, or lines with nothing unchanged between them,
//! in different ways. It refuses binary content. Callers merge in masked space: no secret byte is needed here.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

/// What a merge came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// Both sides' edits, put together.
    Clean(Vec<u8>),
    /// Some places disagree.
    Conflicts {
        /// The places.
        places: Vec<Disagreement>,
        /// The merge with the disagreements between conflict markers, base included (`diff3` style).
        marked: Vec<u8>,
    },
    /// A side holds NUL bytes, so lines mean nothing.
    Binary,
}

/// One place where both sides changed the same lines differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// First line (from 1) on the workspace's side.
    pub line: usize,
    /// The workspace's lines.
    pub ours: Vec<u8>,
    /// The base's lines.
    pub base: Vec<u8>,
    /// The session's lines.
    pub theirs: Vec<u8>,
}

/// Bytes that are looked at for a NUL, as git does.
const BINARY_PROBE: usize = 8000;

/// Whether content is not text.
pub(super) fn is_binary(content: &[u8]) -> bool {
    content.iter().take(BINARY_PROBE).any(|b| *b == 0)
}

/// Merges `ours` (the workspace) and `theirs` (the session), which both came from `base`.
#[must_use]
pub fn merge(base: &[u8], ours: &[u8], theirs: &[u8]) -> Merged {
    if ours == theirs || theirs == base {
        return Merged::Clean(ours.to_vec());
    }
    if ours == base {
        return Merged::Clean(theirs.to_vec());
    }
    if [base, ours, theirs].into_iter().any(is_binary) {
        return Merged::Binary;
    }
    let (base, ours, theirs) = (Text::new(base), Text::new(ours), Text::new(theirs));
    let mut out = Output::default();
    for piece in pieces(&base, &ours, &theirs) {
        let (b, o, t) = (base.lines(&piece.base), ours.lines(&piece.ours), theirs.lines(&piece.theirs));
        if o == t || t == b {
            out.take(o);
        } else if o == b {
            out.take(t);
        } else {
            out.disagree(piece.ours.start + 1, b, o, t);
        }
    }
    if out.places.is_empty() {
        Merged::Clean(out.bytes)
    } else {
        Merged::Conflicts { places: out.places, marked: out.bytes }
    }
}

/// A text and where its lines begin; line breaks belong to their lines.
struct Text<'a> {
    bytes: &'a [u8],
    starts: Vec<usize>,
}

impl<'a> Text<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut starts = vec![0];
        let mut at = 0;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            at += line.len();
            starts.push(at);
        }
        Self { bytes, starts }
    }

    fn count(&self) -> usize {
        self.starts.len() - 1
    }

    fn lines(&self, range: &Range<usize>) -> &'a [u8] {
        let at = |line: usize| self.starts.get(line).copied().unwrap_or(self.bytes.len());
        self.bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
    }
}

/// The same stretch of all three texts: unchanged on both sides, or a region that at least one side changed.
struct Piece {
    base: Range<usize>,
    ours: Range<usize>,
    theirs: Range<usize>,
}

/// A changed stretch of one side.
#[derive(Clone)]
struct Edit {
    base: Range<usize>,
    side: Range<usize>,
}

fn edits(base: &Text<'_>, side: &Text<'_>) -> Vec<Edit> {
    let input = InternedInput::new(base.bytes, side.bytes);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let wide = |r: Range<u32>| r.start as usize..r.end as usize;
    diff.hunks().map(|h| Edit { base: wide(h.before), side: wide(h.after) }).collect()
}

/// Cuts the texts into pieces. Edits of both sides that overlap or touch fall into one piece.
fn pieces(base: &Text<'_>, ours: &Text<'_>, theirs: &Text<'_>) -> Vec<Piece> {
    let (our_edits, their_edits) = (edits(base, ours), edits(base, theirs));
    let (mut our_next, mut their_next) = (our_edits.iter().peekable(), their_edits.iter().peekable());
    let (mut b, mut o, mut t) = (0, 0, 0);
    let mut all = Vec::new();
    loop {
        let first = [our_next.peek(), their_next.peek()].into_iter().flatten().map(|e| e.base.start).min();
        let Some(start) = first else { break };
        let same = start - b;
        all.push(Piece { base: b..start, ours: o..o + same, theirs: t..t + same });
        (b, o, t) = (start, o + same, t + same);
        let (mut end, mut our_shift, mut their_shift) = (start, 0_isize, 0_isize);
        loop {
            if let Some(edit) = our_next.next_if(|e| e.base.start <= end) {
                end = end.max(edit.base.end);
                our_shift += growth(edit);
            } else if let Some(edit) = their_next.next_if(|e| e.base.start <= end) {
                end = end.max(edit.base.end);
                their_shift += growth(edit);
            } else {
                break;
            }
        }
        let our_end = (o + (end - b)).saturating_add_signed(our_shift);
        let their_end = (t + (end - b)).saturating_add_signed(their_shift);
        all.push(Piece { base: b..end, ours: o..our_end, theirs: t..their_end });
        (b, o, t) = (end, our_end, their_end);
    }
    all.push(Piece { base: b..base.count(), ours: o..ours.count(), theirs: t..theirs.count() });
    all
}

/// By how many lines an edit makes its side longer than the base.
fn growth(edit: &Edit) -> isize {
    // Line counts are far below isize::MAX: they were counted in memory.
    edit.side.len() as isize - edit.base.len() as isize
}

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    places: Vec<Disagreement>,
}

impl Output {
    fn take(&mut self, lines: &[u8]) {
        self.bytes.extend_from_slice(lines);
    }

    /// Writes both sides between markers, what they have in common at either end outside of them.
    fn disagree(&mut self, line: usize, base: &[u8], ours: &[u8], theirs: &[u8]) {
        let (head, tail) = common_ends(ours, theirs);
        let cut = |side: &[u8]| side.get(head..side.len() - tail).unwrap_or_default().to_vec();
        let lead = ours.get(..head).unwrap_or_default();
        let (our_part, their_part) = (cut(ours), cut(theirs));
        self.take(lead);
        self.marker(b"<<<<<<< workspace");
        self.take(&our_part);
        self.marker(b"||||||| base");
        self.take(base);
        self.marker(b"=======");
        self.take(&their_part);
        self.marker(b">>>>>>> session");
        self.take(ours.get(ours.len() - tail..).unwrap_or_default());
        let line = line + lead.iter().filter(|b| **b == b'\n').count();
        self.places.push(Disagreement { line, ours: our_part, base: base.to_vec(), theirs: their_part });
    }

    fn marker(&mut self, text: &[u8]) {
        if self.bytes.last().is_some_and(|b| *b != b'\n') {
            self.bytes.push(b'\n');
        }
        self.bytes.extend_from_slice(text);
        self.bytes.push(b'\n');
    }
}

/// How many bytes of whole lines two texts have in common at their beginning and, of the rest, at their end.
fn common_ends(a: &[u8], b: &[u8]) -> (usize, usize) {
    let lines = |text| <[u8]>::split_inclusive(text, |b: &u8| *b == b'\n').map(<[u8]>::to_vec);
    let (a, b): (Vec<_>, Vec<_>) = (lines(a).collect(), lines(b).collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a.iter().skip(head).rev().zip(b.iter().skip(head).rev()).take_while(|(x, y)| x == y).count();
    let bytes = |lines: &[Vec<u8>]| lines.iter().map(Vec::len).sum();
    let first = a.get(..head).map_or(0, bytes);
    (first, a.get(a.len() - tail..).map_or(0, bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clean(base: &str, ours: &str, theirs: &str) -> String {
        match merge(base.as_bytes(), ours.as_bytes(), theirs.as_bytes()) {
            Merged::Clean(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("not clean: {other:?}"),
        }
    }

    #[test]
    fn edits_apart_from_each_other_merge() {
        let base = "a\nb\nc\nd\ne\n";
        assert_eq!(clean(base, "A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\n"), "A\nb\nc\nd\nE\n");
        assert_eq!(clean(base, "a\nx\nb\nc\nd\ne\n", "a\nb\nc\ne\n"), "a\nx\nb\nc\ne\n");
        assert_eq!(clean(base, "b\nc\nd\ne\n", "a\nb\nc\nd\ne\nf"), "b\nc\nd\ne\nf");
        // The same edit on both sides is one edit.
        assert_eq!(clean(base, "a\nX\nc\nd\ne\n", "a\nX\nc\nd\nE\n"), "a\nX\nc\nd\nE\n");
    }

    #[test]
    fn one_side_alone_is_taken_whole() {
        assert_eq!(clean("a\0", "a\0", "b\0"), "b\0");
        assert_eq!(clean("a", "b", "a"), "b");
        assert_eq!(clean("a", "b", "b"), "b");
    }

    #[test]
    fn the_same_line_edited_twice_is_a_disagreement() {
        let merged = merge(b"a\nb\nc\n", b"a\nours\nc\n", b"a\ntheirs\nc");
        let Merged::Conflicts { places, marked } = merged else { panic!("merged: {merged:?}") };
        assert_eq!(places.len(), 1);
        assert_eq!((places[0].line, places[0].ours.as_slice()), (2, b"ours\nc\n".as_slice()));
        let text = String::from_utf8(marked).unwrap();
        assert_eq!(
            text,
            "a\n<<<<<<< workspace\nours\nc\n||||||| base\nb\nc\n=======\ntheirs\nc\n>>>>>>> session\n"
        );
    }

    #[test]
    fn neighbouring_edits_and_insertions_at_one_place_disagree() {
        let cases =
            [("a\nb\n", "X\nb\n", "a\nY\n"), ("a\nb\n", "a\n1\nb\n", "a\n2\nb\n"), ("", "x\n", "y\n")];
        for (base, ours, theirs) in cases {
            let merged = merge(base.as_bytes(), ours.as_bytes(), theirs.as_bytes());
            assert!(matches!(merged, Merged::Conflicts { .. }), "{base:?} {ours:?} {theirs:?}: {merged:?}");
        }
    }

    #[test]
    fn binary_content_is_refused() {
        assert_eq!(merge(b"a\0", b"b\0", b"c\0"), Merged::Binary);
    }

    fn lines() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec!["a\n", "b\n", "c\n", "d\n", "\n", "x"]), 0..12)
            .prop_map(|v| v.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn a_merge_is_symmetric_and_loses_no_side(base in lines(), ours in lines(), theirs in lines()) {
            match (merge(&base, &ours, &theirs), merge(&base, &theirs, &ours)) {
                (Merged::Clean(one), Merged::Clean(other)) => prop_assert_eq!(one, other),
                (Merged::Conflicts { places, .. }, Merged::Conflicts { places: others, .. }) => {
                    prop_assert_eq!(places.len(), others.len());
                    for (a, b) in places.iter().zip(&others) {
                        prop_assert_eq!((&a.ours, &a.theirs), (&b.theirs, &b.ours));
                        prop_assert_ne!(&a.ours, &a.theirs);
                    }
                }
                (one, other) => prop_assert!(false, "{:?} against {:?}", one, other),
            }
        }

        #[test]
        fn a_side_that_did_nothing_does_not_matter(base in lines(), side in lines()) {
            prop_assert_eq!(merge(&base, &base, &side), Merged::Clean(side.clone()));
            prop_assert_eq!(merge(&base, &side, &base), Merged::Clean(side));
        }

        /// Edits made in the first and in the last part of a text, with unchanged lines between, always merge to both.
        #[test]
        fn edits_with_unchanged_lines_between_merge(ours in lines(), theirs in lines()) {
            let middle: &[u8] = b"\n1\n2\n3\n4\n5\n6\n7\n8\n";
            let base = [b"head", middle, b"tail"].concat();
            let one = [ours.as_slice(), middle, b"tail"].concat();
            let other = [b"head", middle, theirs.as_slice()].concat();
            let both = [ours.as_slice(), middle, theirs.as_slice()].concat();
            prop_assert_eq!(merge(&base, &one, &other), Merged::Clean(both));
        }
    }
}
