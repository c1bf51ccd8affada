//! UTF-16 text. It is scanned through a copy with one byte a unit, so that offsets translate by arithmetic. A unit outside
//! ASCII becomes one high byte: it ends a token, as it should.

use super::Span;

/// How many bytes are looked at to see whether text without a byte order mark is UTF-16.
const LOOK: usize = 4096;

/// One byte a unit, if the content is UTF-16: by its byte order mark, or because every second byte is NUL nearly throughout.
pub(super) fn narrow(content: &[u8]) -> Option<Vec<u8>> {
    let little = match content {
        [0xff, 0xfe, rest @ ..] if !rest.starts_with(&[0, 0]) => true,
        [0xfe, 0xff, ..] => false,
        _ => looks_wide(content)?,
    };
    let unit = |pair: &[u8]| match (pair, little) {
        ([low, 0], true) | ([0, low], false) if low.is_ascii() => *low,
        _ => 0xff,
    };
    Some(content.chunks(2).map(unit).collect())
}

/// A span of the narrow copy as one of the original.
pub(super) fn widen(span: Span) -> Span {
    Span { start: span.start * 2, len: span.len * 2, rule: span.rule }
}

/// Whether text is UTF-16 without a mark, and whether its low byte comes first.
fn looks_wide(content: &[u8]) -> Option<bool> {
    let look = content.get(..content.len().min(LOOK))?;
    memchr::memchr(0, look)?;
    let zeros = |parity: usize| look.iter().skip(parity).step_by(2).filter(|b| **b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let most = look.len() * 4 / 10;
    match (even, odd) {
        _ if look.len() < 16 => None,
        (few, many) if many >= most && few * 20 < many => Some(true),
        (many, few) if many >= most && few * 20 < many => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RuleId;

    #[test]
    fn both_byte_orders_with_and_without_a_mark() {
        let text = "token = ghp_a\u{e9}b\r\n, and enough of it to be sure";
        for mark in [true, false] {
            for little in [true, false] {
                let units = mark.then_some(0xfeffu16).into_iter().chain(text.encode_utf16());
                let bytes: Vec<u8> =
                    units.flat_map(|u| if little { u.to_le_bytes() } else { u.to_be_bytes() }).collect();
                let narrow = narrow(&bytes).unwrap();
                let at = narrow.windows(4).position(|w| w == b"ghp_").unwrap();
                let span = widen(Span { start: at as u64, len: 4, rule: RuleId(0) });
                let start = span.start as usize;
                assert_eq!(
                    bytes[start..start + 8].iter().filter(|b| **b != 0).copied().collect::<Vec<_>>(),
                    b"ghp_"
                );
            }
        }
        assert!(narrow(text.as_bytes()).is_none());
        assert!(narrow(&[0; 100]).is_none());
    }
}
