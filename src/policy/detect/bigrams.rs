//! How common three bytes are in source text. It promises an estimate, never exactness: a wrong one costs time, never a find.

/// The bytes that have a row and a column in [`PAIRS`], in this order; digits share one, and all other bytes the last.
const ORDER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0_-./:=\" ";

const KINDS: usize = ORDER.len() + 1;

/// How often one byte follows another in Rust, C, Python and JavaScript: each step is a factor of two.
const PAIRS: [&[u8; KINDS]; KINDS] = [
    b"7bcc69b5b49dcd4c5ddeb9a9b79a685868ba",
    b"b786b557aa3b55b62996b321a388586838ca",
    b"c7a8c95ca1bb76d84c9ca766828b686957aa",
    b"b78be895c56977b83aaaa668939b7a6b79dc",
    b"caddbca7957dce9bbeed8baca59c9b7c9aee",
    b"b678ba93c04a8bc63b99a33170996c3957cb",
    b"9875c689b1487a971aa8a532556a697a67bb",
    b"c546d623b03676b6398a9342826a594866ba",
    b"baccbcc3728cceda6bdd6b690b9967674599",
    b"6040a0026010118300926020001426050367",
    b"7566c5749016576525967580327a5848569a",
    b"c78bdc75d17c77c836bbc875a36b686978bb",
    b"ca78d554b04997bc46a9b741848a687867ba",
    b"c7cddbd7b5998aca48ddba94957c8a7a79dc",
    b"abbc8b95a7bbcebc5ebccab9566b686857ba",
    b"d679d768b07b76ca1cacc646a27a5948669b",
    b"52534000303733225552b140055725152469",
    b"d7bbe8b6d099bbd84cccba86b27b7a5b68dd",
    b"b6b8e88bc1a998cb88cec783a58c7b9b99dd",
    b"d8aae87ed25998da3dcbc688c69d8b6b89ed",
    b"aca9c991a02cbc7b0ccd622721b624050487",
    b"c363c565b005549624662325229836474579",
    b"b755a53ab01649941aa5317200795757469a",
    b"869696159035736a135b222463b96838669a",
    b"7676955370288a9b27aa4661446b695977bb",
    b"7333b1107014437402514010535643042557",
    b"88888844764556662576954915ea9b7a39bd",
    b"bbcbbb9ab79bbbbb7bcbaaa766ab0526258a",
    b"78776664634766674787656325a1b110449b",
    b"a8a99998a879a99a69aa989545aa0a5259bc",
    b"768875757447757727766574227114d024cb",
    b"98a99a779677999949b978943685529d34dc",
    b"65766735634568662678435430854010b8da",
    b"9899887785689878489977865486686a3b9d",
    b"dcdccdbbd9acccdd8deecbc998dbbacadcff",
    b"babbab99b799baac7acbaa9b77b99bbb8cff",
];

/// Words that source text is full of, of which pairs of bytes do not tell.
const WORDS: &[&str] = &[
    "windows_sys",
    "http_",
    "token",
    "test_",
    "mark",
    "buffer",
    "client",
    "access",
    "space",
    "trail",
    "rollback",
    "private",
    "node",
    "convert",
    "state",
    "path",
    "_key_",
    "_api_",
    "_app_",
    "log_",
    "live_",
    "secret",
    "password",
    "production",
    "_att",
    "_cli",
    "_sig",
    "_acc",
    "https://",
    "default",
];

/// How much more common a part of such a word is.
const IN_A_WORD: f64 = 32.0;

/// The relative frequency of three bytes behind another one, if that is known; letter case folded.
pub(super) fn frequency(first: Option<u8>, last: [u8; 3]) -> f64 {
    let [b, c, d] = last.map(kind);
    let follows = |a: usize, b: usize| pair(a, b) / (0..KINDS).map(|next| pair(a, next)).sum::<f64>();
    let precedes = |a: usize, b: usize| pair(a, b) / (0..KINDS).map(|prev| pair(prev, b)).sum::<f64>();
    let known: Vec<u8> = first.into_iter().chain(last).map(|b| b.to_ascii_lowercase()).collect();
    let in_a_word = WORDS.iter().any(|word| word.as_bytes().windows(known.len()).any(|w| w == known));
    first.map_or(1.0, |a| precedes(kind(a), b))
        * pair(b, c)
        * follows(c, d)
        * if in_a_word { IN_A_WORD } else { 1.0 }
}

fn pair(a: usize, b: usize) -> f64 {
    let step = PAIRS.get(a).and_then(|row| row.get(b)).and_then(|digit| char::from(*digit).to_digit(16));
    f64::from(1u32 << step.unwrap_or_default())
}

fn kind(b: u8) -> usize {
    let b = if b.is_ascii_digit() { b'0' } else { b.to_ascii_lowercase() };
    ORDER.iter().position(|known| *known == b).unwrap_or(ORDER.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_source_are_common_and_prefixes_of_tokens_rare() {
        for (common, rare) in [(b"ion", b"zat"), (b"the", b"ghp"), (b"   ", b"eyJ"), (b"est", b"xox")] {
            assert!(frequency(None, *common) > 8.0 * frequency(None, *rare));
        }
        assert!((frequency(None, *b"KEY") - frequency(None, *b"key")).abs() < 1e-9);
        assert!(frequency(Some(b'q'), *b"key") < frequency(Some(b' '), *b"key"));
    }
}
