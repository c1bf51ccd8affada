//! Text that no parser reads: source code, comments, files inside files, and files that turned out not to be what their name says.
//! In code the value of a secret name is a string literal near it (`password = "…"`, `"password" => '…'`, `setPassword("…")`,
//! `env("PASSWORD", "…")`); in plain lines it is the rest of the line. The work per byte is bounded.

use std::ops::Range;

use super::names::Words;
use super::sink::{Judged, Level, Sink};
use super::value;

/// How far behind a name its literal may begin.
const GAP_MAX: usize = 48;

/// How long a literal may be.
const LITERAL_MAX: usize = 16 << 10;

/// What may stand in a name: 1 also at its beginning, 2 only behind that.
const NAMES: [u8; 256] = {
    let mut names = [0; 256];
    let mut b = 0;
    while b < 256 {
        names[b] = match b as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => 1,
            b'-' | b'.' | b'$' | b'@' | b'?' | b'!' => 2,
            _ => 0,
        };
        b += 1;
    }
    names
};

fn is_name(b: u8) -> bool {
    NAMES[usize::from(b)] == 1
}

/// Masks literals that are assigned to secret names, and those that are passed beside them if `calls` says so.
pub(super) fn scan(sink: &mut Sink<'_>, range: Range<usize>, calls: bool) {
    let mut at = range.start;
    let mut before: &[u8] = b"";
    let mut identified = 0;
    while let Some(rest) = sink.text.get(at..range.end).filter(|r| !r.is_empty()) {
        let Some(begin) = rest.iter().position(|b| is_name(*b)) else { return };
        let inner = |b: &u8| NAMES[usize::from(*b)] != 0;
        let name = rest.get(begin..).unwrap_or_default();
        let len = name.iter().position(|b| !inner(b)).unwrap_or(name.len());
        let start = at + begin;
        let end = start + len;
        at = end;
        let name = sink.slice(start..end);
        let last = std::mem::replace(&mut before, name);
        if name.eq_ignore_ascii_case(b"identified") {
            identified = end;
        }
        // `IDENTIFIED BY '…'`, with the name of a plug-in between the two.
        let by = name.eq_ignore_ascii_case(b"by") && identified > 0 && start < identified + GAP_MAX;
        let name = if by { b"identified by" } else { name };
        if len < 3 && !by || last == b"type" || !name.iter().any(u8::is_ascii_alphabetic) {
            continue;
        }
        let judged @ Judged::Secret(..) = sink.judge(name, Level::Keys) else { continue };
        let quote =
            start.checked_sub(1).and_then(|b| sink.text.get(b)).copied().filter(|b| b"\"'`".contains(b));
        let place = Place { quote, calls, by, name, before: range.start..start };
        if let Some(literal) = literal(sink, end..range.end, &place) {
            let text = sink.slice(literal.clone());
            if !is_label(text, name) && !is_variable(sink, text) {
                sink.value(literal.clone(), judged);
            }
            at = literal.end.max(end);
        }
    }
}

/// How a name stands.
struct Place<'a> {
    /// The quote it stands behind.
    quote: Option<u8>,
    /// Whether what is passed beside a name counts.
    calls: bool,
    /// Whether it is `IDENTIFIED BY`.
    by: bool,
    name: &'a [u8],
    /// What stands before it, and the quote.
    before: Range<usize>,
}

impl Place<'_> {
    /// Whether what is passed to the name itself may be its value: `creds.get("x")` asks for a name.
    fn is_called(&self, sink: &Sink<'_>) -> bool {
        let method = self.name.rsplit(|b| *b == b'.').next().unwrap_or_default();
        self.by || matches!(sink.judge(method, Level::Keys), Judged::Secret(..))
    }

    /// Whether a name in quotes is one of a list, or passed to a function that hardly gives it a value.
    fn is_listed(&self, sink: &Sink<'_>) -> bool {
        self.quote.is_some() && is_listed(sink.slice(self.before.start..self.before.end - 1))
    }
}

/// See [`Place::is_listed`]; `before` is what stands before the quote.
fn is_listed(before: &[u8]) -> bool {
    let before = before.trim_ascii_end();
    match before.split_last() {
        Some((b',' | b'[' | b'{', _)) => true,
        Some((b'(', before)) => {
            let len = before.iter().rev().take_while(|b| is_name(**b)).count();
            let function = before.get(before.len() - len..).unwrap_or_default().to_ascii_lowercase();
            const GIVES: &[&[u8]] = &[
                b"env", b"get", b"set", b"put", b"add", b"defin", b"conf", b"opt", b"param", b"default",
                b"attr", b"prop", b"field", b"header", b"append", b"insert", b"with", b"secret", b"pass",
                b"token", b"key", b"auth", b"cred", b"arg", b"var", b"input",
            ];
            !function.is_empty() && !GIVES.iter().any(|word| memchr::memmem::find(&function, word).is_some())
        }
        _ => false,
    }
}

/// The name of an environment variable: `"AWS_SECRET_ACCESS_KEY"`.
fn is_variable(sink: &Sink<'_>, text: &[u8]) -> bool {
    text.contains(&b'_')
        && text.iter().all(|b| b.is_ascii_uppercase() || *b == b'_')
        && !matches!(sink.judge(text, Level::Keys), Judged::Unknown(_))
}

/// The name of a secret in lower case: `ansible_password`.
fn is_secret_name(sink: &Sink<'_>, text: &[u8]) -> bool {
    text.contains(&b'_')
        && text.iter().all(|b| b.is_ascii_lowercase() || *b == b'_')
        && matches!(sink.judge(text, Level::Keys), Judged::Secret(..))
}

/// Several words with signs between them, as names have: `ftp_user`, `server.api.http2`.
fn is_name_of_words(text: &[u8]) -> bool {
    let dotted = text.contains(&b'.') && !super::random::looks_random(text);
    let letter = |b: &u8| {
        b.is_ascii_alphabetic() || matches!(b, b'_' | b'-') || (dotted && (b.is_ascii_digit() || *b == b'.'))
    };
    text.iter().all(letter) && super::names::words(text).len() > 1
}

/// What asks for a value, or stands between two: `"Password: "`, `":"`.
fn is_prompt(text: &[u8]) -> bool {
    let words = |text: &[u8]| text.iter().all(|b| b.is_ascii_alphabetic() || b" _-".contains(b));
    (text.len() <= 2 && text.iter().all(u8::is_ascii_punctuation))
        || text.trim_ascii_end().strip_suffix(b":").is_some_and(words)
}

/// A text for people, or the name of a field: not a value of its own.
fn is_label(text: &[u8], name: &[u8]) -> bool {
    fn last(words: &Words) -> Option<&[u8]> {
        words.last().map(|word| word.strip_suffix(b"s").unwrap_or(word))
    }
    let all_in = |few: &Words, many: &Words| few.len() > 1 && few.iter().all(|w| many.contains(w));
    let plain = text.iter().all(|b| b.is_ascii_alphabetic() || b"_-. ".contains(b));
    let signs = text.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b));
    if value::is_prose(text)
        || is_prompt(text.trim_ascii())
        || text.chunks(2).all(|pair| matches!(pair, [b'\\', b'n' | b'r' | b't' | b'0']))
        || text.contains(&b'|') && text.iter().all(|b| b.is_ascii_alphanumeric() || b"|:_,".contains(b))
    {
        return true;
    }
    if !plain && !signs {
        return false;
    }
    let words = super::names::words(text);
    let of_name = super::names::words(name);
    let digits = text.iter().filter(|b| b.is_ascii_digit()).count();
    (plain && all_in(&words, &of_name))
        || (plain && words.len() <= 5 && all_in(&of_name, &words))
        || (plain && words.len() <= 3 && last(&words) == last(&of_name))
        // `secretAccessKey: 'secret'`, and a constant that is called as what it says.
        || (plain && words.len() == 1 && of_name.contains(words.get(0)))
        || (signs && words == of_name && (words.len() > 2 || digits <= 3))
}

/// How many bytes of a set follow in a text, up to the longest gap.
fn run(rest: &[u8], from: usize, set: &[u8]) -> usize {
    rest.get(from..).unwrap_or_default().iter().take(GAP_MAX).take_while(|b| set.contains(b)).count()
}

/// Where a value may begin behind an operator: behind a type, if there is one (`password: &str = "…"`). `None` where something else
/// is assigned to in the next line.
fn behind_type(rest: &[u8], operator: usize) -> Option<usize> {
    let from = operator + run(rest, operator, b" \t\r\n");
    let next_line = rest.get(operator..from)?.contains(&b'\n');
    let text = rest.get(from..)?.iter().take(GAP_MAX);
    let word = text.take_while(|b| is_name(**b) || b"&<>?[]|.:'".contains(b)).count();
    let assign = from + word + run(rest, from + word, b" \t");
    let assigns = word > 0 && rest.get(assign) == Some(&b'=') && rest.get(assign + 1) != Some(&b'=');
    match (assigns, next_line) {
        (true, true) => None,
        (true, false) => Some(assign + 1 + run(rest, assign + 1, b" \t")),
        (false, _) => Some(from),
    }
}

/// What may stand between a name and its value.
const OPERATORS: &[&[u8]] =
    &[b"=>", b":=", b"||=", b"||", b"??=", b"??", b"->", b"==", b"+=", b"=", b":", b"or ", b"(", b","];

/// The literal that belongs to a name which ends where `range` begins.
fn literal(sink: &Sink<'_>, range: Range<usize>, place: &Place<'_>) -> Option<Range<usize>> {
    let (rest, at) = (sink.slice(range.clone()), range.start);
    let Place { quote, calls, .. } = *place;
    let quoted = quote.is_some();
    let skip = |from: usize, set: &[u8]| from + run(rest, from, set);
    let mut from = skip(0, if quoted { b"\"'`\\])} \t" } else { b"]) \t" });
    let sign = rest.get(from);
    let may = |op: &&&[u8]| op.first() == sign && rest.get(from..).is_some_and(|r| r.starts_with(op));
    let found = OPERATORS.iter().find(may);
    match found {
        Some(&b"," | &b"(") if !calls => return None,
        Some(&b"(") if !place.is_called(sink) => return None,
        Some(&b",") if !quoted => return None,
        Some(op) => from += op.len(),
        // `password "…"`: only with a space, and not behind a closing bracket.
        None if rest.get(from) == Some(&b'`') => return None,
        None if !quoted && from > 0 && rest.get(..from)?.iter().all(|b| matches!(b, b' ' | b'\t')) => {}
        None => return None,
    }
    if matches!(found, Some(&b"(" | &b",")) && speaks_for_itself(sink, rest.get(from..)?) {
        return None;
    }
    // `"Token: "` and `"Token:"` are texts: the quote behind the operator closes them.
    if matches!(found, Some(&b":" | &b"=")) && rest.first().is_some_and(|b| b":=".contains(b)) {
        let gap = run(rest, from, b" ");
        if quote.is_some() && rest.get(from + gap).copied() == quote {
            return None;
        }
    }
    from = behind_type(rest, from)?;
    let bracketed = rest.get(from) == Some(&b'(');
    // A prefix of the literal (`b"…"`, `f'…'`, `@"…"`), a bracket, a call that wraps it.
    from = skip(from, b"([{@&$");
    if matches!(rest.get(from..), Some([b'a'..=b'z' | b'A'..=b'Z', b'"' | b'\'', ..])) {
        from += 1;
    }
    let literal = literal_at(rest, from)?;
    // What a separator follows is a key itself.
    let behind = rest.get(literal.end..).unwrap_or_default();
    let gap = behind.iter().take(GAP_MAX).take_while(|b| b"\\\"'`] \t".contains(b)).count();
    let is_key = matches!(behind.get(gap..), Some([b':', ..] | [b'=', b'>', ..]));
    // What begins a block in Python is its description: `def token(self):`.
    let describes = matches!(found, Some(&b":")) && !quoted && behind.starts_with(b"\"\"\"");
    // One name of many: `["ftp_password", "ftp_user", …]`.
    let inside = rest.get(literal.clone())?;
    let names = behind.get(1) == Some(&b',') && is_name_of_words(inside);
    let is_listed = match found {
        Some(&b",") => {
            names
                || is_secret_name(sink, inside)
                || inside.iter().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-'))
                    && place.is_listed(sink)
        }
        // `password=('ansible_ssh_pass', 'ansible_password')`
        _ => names && bracketed && inside.contains(&b'_'),
    };
    (!is_key && !describes && !is_listed).then_some(at + literal.start..at + literal.end)
}

/// Whether an argument is given by its own name, which is judged when its turn comes or is harmless: `Credentials(scopes=["x"])`.
fn speaks_for_itself(sink: &Sink<'_>, arguments: &[u8]) -> bool {
    let arguments = arguments.get(run(arguments, 0, b" \t\r\n")..).unwrap_or_default();
    let len = arguments.iter().take(GAP_MAX).take_while(|b| is_name(**b)).count();
    let name = arguments.get(..len).unwrap_or_default();
    matches!(arguments.get(len..), Some([b'=', next, ..]) if *next != b'=')
        && !matches!(sink.judge(name, Level::Keys), Judged::Unknown(_))
}

/// The inside of the literal that begins at `from`.
fn literal_at(text: &[u8], from: usize) -> Option<Range<usize>> {
    let rest = text.get(from..)?;
    rest.first().filter(|b| b"\"'`\\".contains(b))?;
    let quote = [&b"\"\"\""[..], b"'''", b"\\\"", b"\\'", b"\"", b"'", b"`"]
        .into_iter()
        .find(|q| rest.starts_with(q))?;
    let body = rest.get(quote.len()..rest.len().min(LITERAL_MAX))?;
    let multi = quote.len() == 3 || quote == b"`";
    let mut at = 0;
    loop {
        let here = body.get(at..)?;
        match here.first() {
            Some(_) if here.starts_with(quote) => break,
            Some(b'\\') if quote.first() != Some(&b'\\') => at += 2,
            // A literal without an end is taken as far as its line goes.
            Some(b'\n') if !multi => break,
            // So is one inside a string that ends here.
            Some(b'"') if quote == b"\\\"" => break,
            Some(_) => at += 1,
            None => break,
        }
    }
    let start = from + quote.len();
    let end = (start + at).min(text.len());
    (end > start).then_some(start..end)
}

/// Reads lines of `name = value`, `name: value` and `name value`, and the literals in them.
pub(super) fn lines(sink: &mut Sink<'_>, range: Range<usize>, level: Level) {
    let mut at = range.start;
    while at < range.end {
        let end = sink.line_end(at..range.end);
        let begin = sink.trim(at..end).start;
        if begin == end {
            at = end + 1;
            continue;
        }
        let is_comment = matches!(
            sink.slice(begin..end),
            [b'#' | b';' | b'!', ..] | [b'/' | b'-', b'/' | b'-' | b'*', ..]
        );
        if is_comment {
            comment(sink, begin..end);
        } else {
            sink.line(at..end, (level, false), |sink, range| line(sink, range, level, false));
        }
        at = end + 1;
    }
    scan(sink, range, true);
}

/// Looks for an assignment in a comment: what was switched off is a secret still.
pub(super) fn comment(sink: &mut Sink<'_>, range: Range<usize>) {
    let text = sink.slice(range.clone());
    let lead = text.iter().take_while(|b| b"#;/!*- \t".contains(b)).count();
    sink.line(range.start + lead..range.end, (Level::Keys, true), |sink, range| {
        line(sink, range, Level::Keys, true);
    });
    scan(sink, range, true);
}

const LEADS: &[&[u8]] =
    &[b"export ", b"set ", b"setenv ", b"declare -x ", b"local ", b"const ", b"let ", b"var ", b"- "];

fn line(sink: &mut Sink<'_>, range: Range<usize>, level: Level, comment: bool) {
    let mut range = sink.trim(range);
    let text = sink.slice(range.clone());
    let leads = |lead: &&&[u8]| lead.first() == text.first() && text.starts_with(lead);
    if let Some(lead) = LEADS.iter().find(leads) {
        range = sink.trim(range.start + lead.len()..range.end);
    }
    let text = sink.slice(range.clone());
    let name =
        text.iter().take(200).take_while(|b| !matches!(b, b'=' | b':' | b'"' | b'\'' | b'(' | b'{')).count();
    let sign = text.get(name).is_some_and(|b| matches!(b, b'=' | b':'));
    let head = text.get(..name).unwrap_or_default();
    let words = head.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).count();
    let (name, from) = match (sign, words) {
        // A name before a sign may have a space or two.
        (true, 1..=3) => (head, name + 1),
        _ if comment => return,
        _ => {
            let first = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
            (text.get(..first).unwrap_or_default(), first)
        }
    };
    if !sign && words == 1 && matches!(level, Level::All(_)) {
        // A word alone may be the secret itself.
        sink.value(range, Judged::Unknown(level));
        return;
    }
    let judged = sink.judge(name, level);
    let value = sink.trim(range.start + from..range.end);
    let bytes = sink.slice(value.clone());
    if (comment || !sign) && (value::is_prose(bytes) || bytes.is_empty()) {
        return;
    }
    match judged {
        Judged::Secret(..) | Judged::Unknown(Level::All(_)) => {
            let value = rest_of_line(sink, value);
            sink.value(value, judged);
        }
        Judged::Unknown(_) | Judged::Harmless(_) => sink.value(value, judged),
    }
}

/// A value that goes on to the end of its line: inside its quotes, without what ends a statement.
fn rest_of_line(sink: &Sink<'_>, range: Range<usize>) -> Range<usize> {
    let text = sink.slice(range.clone());
    if let Some(quote) = text.first().filter(|b| b"\"'`".contains(b)) {
        let mut at = 1;
        while let Some(byte) = text.get(at).filter(|b| *b != quote) {
            at += if *byte == b'\\' { 2 } else { 1 };
        }
        // What stands behind the closing quote belongs to the value, unless it ends the statement or begins a comment.
        let behind = text.get(at + 1..).unwrap_or_default().trim_ascii();
        if at < text.len() && (behind.is_empty() || b",;)}]#/{".contains(behind.first().unwrap_or(&b' '))) {
            return range.start + 1..range.start + at;
        }
        return if at < text.len() { range } else { range.start + 1..range.end };
    }
    let trail = text.iter().rev().take_while(|b| b",;".contains(b)).count();
    range.start..range.end - trail
}
