//! What must hold of masks whatever the file, the secrets and the edit: length and windows of a masked read, and the way back.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// A piece of a file: text, a secret in it, text. Edits move, copy, drop and indent whole pieces.
#[derive(Debug, Clone)]
struct Piece {
    before: String,
    secret: String,
    after: String,
}

/// Secrets of the kinds that masks tell apart, long enough to be found wherever they move.
fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z0-9_+/!%&*-]{12,80}",
        1 => "[0-9a-f]{16,64}",
        1 => "[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{12}",
        1 => "[1-9][0-9]{15,30}",
        1 => "([A-Za-z0-9+/]{4}){4,12}[A-Za-z0-9+/]{2}==",
        1 => "[A-Za-z0-9_-]{12,30}\\.[A-Za-z0-9_-]{12,40}\\.[A-Za-z0-9_-]{20,40}",
        1 => "([A-Za-z0-9+/]{64}\n){2,6}[A-Za-z0-9+/]{20,60}=",
        1 => "([A-Za-z0-9+/]{64}\r\n    ){2,4}[A-Za-z0-9+/]{20,60}",
        1 => "[a-z]{4,20} [a-z]{4,20}\n[a-z ]{4,20}[0-9]{8}",
        1 => "[äöüßé✓a-z]{8,20}",
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    ("[a-z_]{0,12}[:=]? ?[\"']?", secret(), "[\"']?[,;]?( #[a-z ]{0,20})?")
        .prop_map(|(before, secret, after)| Piece { before, secret, after: after + "\n" })
}

/// The file, and the spans of its secrets.
fn file(pieces: &[Piece]) -> (Vec<u8>, Vec<Span>) {
    let (mut text, mut spans) = (Vec::new(), Vec::new());
    for (i, piece) in pieces.iter().enumerate() {
        text.extend_from_slice(piece.before.as_bytes());
        let start = text.len() as u64;
        spans.push(Span { start, len: piece.secret.len() as u64, rule: RuleId(i as u32) });
        text.extend_from_slice(piece.secret.as_bytes());
        text.extend_from_slice(piece.after.as_bytes());
    }
    (text, spans)
}

fn masked(text: &[u8], masks: &Masks) -> Vec<u8> {
    let mut seen = text.to_vec();
    masks.overlay(0, &mut seen);
    seen
}

/// Whether a text has six consecutive bytes of a secret, other than what separates its parts.
fn gives_away(secret: &[u8], seen: &[u8]) -> bool {
    let solid = |w: &[u8]| w.iter().filter(|b| b.is_ascii_alphanumeric()).count() >= 5;
    secret.windows(6).filter(|w| solid(w)).any(|w| memchr::memmem::find(seen, w).is_some())
}

#[derive(Debug, Clone)]
enum Edit {
    Drop(Index),
    Copy(Index, Index),
    Move(Index, Index),
    Indent(Index, u8),
    Insert(Index, String),
    Spoil(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Edit::Drop),
        (at(), at()).prop_map(|(a, b)| Edit::Copy(a, b)),
        (at(), at()).prop_map(|(a, b)| Edit::Move(a, b)),
        (at(), 1u8..9).prop_map(|(a, n)| Edit::Indent(a, n)),
        (at(), "[a-z =\"]{0,30}\n").prop_map(|(a, text)| Edit::Insert(a, text)),
        (at(), at()).prop_map(|(a, b)| Edit::Spoil(a, b)),
    ]
}

/// Edits a list of texts. The same edits make of the original pieces what the edit of the masked ones should come back as.
fn apply(edits: &[Edit], mut texts: Vec<Vec<u8>>, spoil: impl Fn(&mut Vec<u8>, &Index)) -> Vec<u8> {
    for edit in edits {
        if texts.is_empty() {
            break;
        }
        let len = texts.len();
        match edit {
            Edit::Drop(at) => drop(texts.remove(at.index(len))),
            Edit::Copy(from, to) => texts.insert(to.index(len), texts[from.index(len)].clone()),
            Edit::Move(from, to) => {
                let text = texts.remove(from.index(len));
                texts.insert(to.index(len), text);
            }
            Edit::Indent(at, n) => {
                let text = &mut texts[at.index(len)];
                let lines = text.split_inclusive(|b| *b == b'\n');
                *text = lines
                    .map(|line| [vec![b' '; usize::from(*n)], line.to_vec()].concat())
                    .collect::<Vec<_>>()
                    .concat();
            }
            Edit::Insert(at, new) => texts.insert(at.index(len), new.clone().into_bytes()),
            Edit::Spoil(at, byte) => spoil(&mut texts[at.index(len)], byte),
        }
    }
    texts.concat()
}

/// The pieces of a file as texts, secrets as they stand in `text`.
fn cut(pieces: &[Piece], text: &[u8]) -> Vec<Vec<u8>> {
    let mut at = 0;
    let part = |p: &Piece| p.before.len() + p.secret.len() + p.after.len();
    pieces
        .iter()
        .map(|p| {
            at += part(p);
            text[at - part(p)..at].to_vec()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_masked_read_has_the_length_and_nothing_of_the_secret(
        pieces in vec(piece(), 1..6),
        key in any::<[u8; 32]>(),
        reads in vec((any::<Index>(), 1usize..200), 1..20),
    ) {
        let (text, spans) = file(&pieces);
        let masks = Masker::new(key).mask(&text, 0, &spans);
        let seen = masked(&text, &masks);
        prop_assert_eq!(seen.len(), text.len());
        for (piece, mask) in pieces.iter().zip(&masks.0) {
            prop_assert_eq!(mask.bytes.len(), piece.secret.len());
            prop_assert!(!gives_away(piece.secret.as_bytes(), &mask.bytes), "{:?} in {:?}", piece.secret, mask.bytes.escape_ascii().to_string());
            let breaks = |t: &[u8]| t.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i).collect::<Vec<_>>();
            prop_assert_eq!(breaks(&mask.bytes), breaks(piece.secret.as_bytes()));
        }
        for (at, len) in reads {
            let at = at.index(text.len());
            let end = text.len().min(at + len);
            let mut window = text[at..end].to_vec();
            masks.overlay(at as u64, &mut window);
            prop_assert_eq!(&window, &seen[at..end]);
        }
    }

    #[test]
    fn windows_of_a_large_file_mask_as_the_whole_does(
        pieces in vec(piece(), 1..6),
        key in any::<[u8; 32]>(),
        base in 1u64..1 << 40,
    ) {
        let (text, spans) = file(&pieces);
        let masker = Masker::new(key);
        let whole = masked(&text, &masker.mask(&text, 0, &spans));
        let moved: Vec<Span> = spans.iter().map(|s| Span { start: s.start + base, ..*s }).collect();
        let mut window = text.clone();
        masker.mask(&text, base, &moved).overlay(base, &mut window);
        prop_assert_eq!(window, whole);
    }

    #[test]
    fn what_survives_an_edit_comes_back_and_what_does_not_is_told(
        pieces in vec(piece(), 1..6),
        key in any::<[u8; 32]>(),
        edits in vec(edit(), 0..8),
    ) {
        let (text, spans) = file(&pieces);
        let masks = Masker::new(key).mask(&text, 0, &spans);
        let spoilt = std::cell::Cell::new(false);
        let spoil = |text: &mut Vec<u8>, byte: &Index| {
            // One byte in the middle of a mask that the piece holds whole.
            for mask in &masks.0 {
                if let Some(at) = memchr::memmem::find(text, &mask.bytes) {
                    let at = at + byte.index(mask.bytes.len());
                    if text[at].is_ascii_alphanumeric() {
                        text[at] = b'!';
                        spoilt.set(true);
                    }
                    return;
                }
            }
        };
        let edited = apply(&edits, cut(&pieces, &masked(&text, &masks)), spoil);
        let back = restore(&text, &masks, &edited);
        prop_assert_eq!(back.bytes.len(), edited.len());
        if spoilt.get() {
            // Unless it was dropped afterwards, or the spoilt byte made no difference.
            let left = edited.contains(&b'!') && !text.contains(&b'!');
            prop_assert!(!left || !back.damaged.is_empty(), "{}", edited.escape_ascii());
        } else {
            let wanted = apply(&edits, cut(&pieces, &text), |_, _| {});
            prop_assert!(back.damaged.is_empty(), "{:?} in {}", back.damaged, edited.escape_ascii());
            prop_assert_eq!(back.bytes, wanted);
        }
    }
}
