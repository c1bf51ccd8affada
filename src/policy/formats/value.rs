//! What a value by itself says: which part of it is secret when its key is.
//! References (`${VAR}`, `{{ x }}`), placeholders, switches, short numbers and plain paths are no secrets; the default in
//! `${VAR:-default}` is one.

use std::ops::Range;

use super::random::looks_random;
use crate::policy::detect::checks;

/// How many references are looked into, one inside the other.
const NESTED_MAX: usize = 8;

/// Longer values are no placeholders.
const PLACEHOLDER_MAX: usize = 64;

/// Numbers of more digits are no limits, ports or times.
const NUMBER_MAX: usize = 10;

/// The part of a value that is to be masked, given that its key is secret. `numbers` says that a short number is secret too.
pub(super) fn secret_part(value: &[u8], numbers: bool) -> Option<Range<usize>> {
    let mut range = scheme(value)..value.len();
    for _ in 0..NESTED_MAX {
        let part = value.get(range.clone())?;
        if let Some(inner) = default_of(part) {
            range = range.start + inner.start..range.start + inner.end;
        } else if is_harmless(part, numbers) {
            return None;
        } else {
            break;
        }
    }
    Some(range)
}

/// Whether a value is none that anybody would hide.
fn is_harmless(value: &[u8], numbers: bool) -> bool {
    is_switch(value)
        || (!(numbers && is_whole_number(value)) && is_amount(value))
        || is_version(value)
        || is_reference(value)
        || is_placeholder(value)
        || is_path(value)
        || is_elsewhere(value)
        // A reference that was cut at its first space.
        || matches!(value, b"${{" | b"{{")
}

/// How long the scheme of an `Authorization` value is, with the space behind it.
fn scheme(value: &[u8]) -> usize {
    if value.len() < b"bot x".len() {
        return 0;
    }
    let header = [&b"authorization:"[..], b"proxy-authorization:"]
        .iter()
        .find(|h| value.get(..h.len()).is_some_and(|v| v.eq_ignore_ascii_case(h)))
        .map_or(0, |h| h.len());
    let blank =
        |from: usize| value.get(from..).unwrap_or_default().iter().take_while(|b| **b == b' ').count();
    let header = header + if header > 0 { blank(header) } else { 0 };
    let value = value.get(header..).unwrap_or_default();
    let word = value.iter().take(10).take_while(|b| b.is_ascii_alphabetic()).count();
    let known = value.get(..word).is_some_and(|w| {
        [&b"basic"[..], b"bearer", b"token", b"bot", b"apikey"].contains(&w.to_ascii_lowercase().as_slice())
    });
    let space = value.get(word..).unwrap_or_default().iter().take_while(|b| **b == b' ').count();
    header + if known && space > 0 { word + space } else { 0 }
}

/// Booleans, null, nothing.
pub(super) fn is_switch(value: &[u8]) -> bool {
    if value.first().is_some_and(|b| !b"TtFfYyNnOoUu~EeDdAaIiRrPpWw[{\"'*".contains(b)) {
        return false;
    }
    let mut lower = [0; 9];
    let Some(lower) = lower.get_mut(..value.len()) else { return false };
    lower.copy_from_slice(value);
    lower.make_ascii_lowercase();
    matches!(
        &*lower,
        b"" | b"true"
            | b"false"
            | b"yes"
            | b"no"
            | b"on"
            | b"off"
            | b"null"
            | b"none"
            | b"nil"
            | b"undefined"
            | b"~"
            | b"enabled"
            | b"disabled"
            | b"auto"
            | b"inherit"
            | b"default"
            | b"required"
            | b"optional"
            | b"prompt"
            | b"read"
            | b"write"
            | b"[]"
            | b"{}"
            | b"\"\""
            | b"''"
            | b"*"
    )
}

fn is_whole_number(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"-").or_else(|| value.strip_prefix(b"+")).unwrap_or(value);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// A short number, with a unit or not.
fn is_amount(value: &[u8]) -> bool {
    let sign = usize::from(matches!(value.first(), Some(b'-' | b'+')));
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let body = value.get(sign..).unwrap_or_default();
    let number = body.iter().take_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b'_')).count();
    let unit = body.get(number..).unwrap_or_default();
    let units = unit.len() <= 2 && unit.iter().all(u8::is_ascii_alphabetic) || unit == b"%";
    digits > 0 && digits <= NUMBER_MAX && number > 0 && units
}

/// A requirement on a version: `^1.2`, `>=3, <4`.
fn is_version(value: &[u8]) -> bool {
    let sign = value.iter().take_while(|b| b"^~<>=! ".contains(b)).count();
    let rest = value.get(sign..).unwrap_or_default();
    sign > 0
        && rest.first().is_some_and(u8::is_ascii_digit)
        && rest.iter().all(|b| b.is_ascii_digit() || b".,<>=^~* -+".contains(b) || b.is_ascii_lowercase())
        && value.len() < 32
}

/// The default in `${NAME:-default}` and its like.
fn default_of(value: &[u8]) -> Option<Range<usize>> {
    let inner = value.strip_prefix(b"${")?.strip_suffix(b"}")?;
    let name =
        inner.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')).count();
    // A dash may be part of a name (Spring) or begin the default (shell).
    let dash = inner.get(..name)?.iter().position(|b| *b == b'-');
    let operator = match inner.get(name..)? {
        [b':', b'-' | b'=' | b'+', ..] => name + 2,
        [b':' | b'=' | b'+', ..] => name + 1,
        [] => dash.filter(|at| inner.get(..*at).is_some_and(is_upper_name))? + 1,
        _ => dash? + 1,
    };
    // An error message is no value, and `${a}${b}` is no default.
    let rest = inner.get(operator..)?;
    let depth_holds = rest.iter().try_fold(0i32, |depth, b| match b {
        b'{' => Some(depth + 1),
        b'}' => (depth > 0).then_some(depth - 1),
        _ => Some(depth),
    });
    (!rest.is_empty() && depth_holds == Some(0)).then_some(2 + operator..value.len() - 1)
}

fn is_upper_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
}

/// Whether a value is made of references alone, and of what separates them.
pub(super) fn is_reference(value: &[u8]) -> bool {
    let mut rest = value;
    let mut any = false;
    while let Some(first) = rest.first() {
        rest = match reference(rest) {
            Some(len) => {
                any = true;
                rest.get(len..).unwrap_or_default()
            }
            None if b" -_/.:@,|".contains(first) => rest.get(1..).unwrap_or_default(),
            None => return false,
        };
    }
    any
}

/// How long the reference is that a text begins with.
fn reference(text: &[u8]) -> Option<usize> {
    let until = |open: usize, close: &[u8]| {
        let inner = text.get(open..text.len().min(open + 512))?;
        let end = memchr::memmem::find(inner, close)?;
        // A default may be a secret.
        let plain = inner.get(..end)?;
        let default = [&b":-"[..], b":=", b"'", b"\""].iter().any(|d| checks::contains(plain, d));
        (!default && !plain.is_empty()).then_some(open + end + close.len())
    };
    match text {
        [b'$', b'{', b'{', ..] => until(3, b"}}"),
        [b'$' | b'#' | b'@' | b'%', b'{', ..] => until(2, b"}"),
        [b'$', b'(', ..] => text.ends_with(b")").then_some(text.len()),
        [b'$', b'$', ..] => None,
        [b'$', b'0'..=b'9' | b'@' | b'*' | b'#' | b'?'] => Some(2),
        [b'$', ..] => {
            let rest = text.get(1..)?;
            let name = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            let name = rest.get(..name)?;
            let shaped = name.first().is_some_and(|b| !b.is_ascii_digit());
            let lower = name.iter().all(|b| b.is_ascii_lowercase() || *b == b'_');
            (shaped && (is_upper_name(name) || lower)).then_some(1 + name.len())
        }
        [b'<', b'%', ..] => until(2, b"%>"),
        [b'%', b'(', ..] => until(2, b")s"),
        [b'{', b'{', ..] => until(2, b"}}"),
        // What is filled in by `%` and `format`.
        [b'%', b's' | b'd' | b'r', rest @ ..] if !rest.first().is_some_and(u8::is_ascii_alphanumeric) => {
            Some(2)
        }
        [b'{', b'}', ..] => Some(2),
        [b'{', rest @ ..] => {
            let len = rest.iter().take(40).position(|b| *b == b'}')?;
            let name = rest.get(..len)?;
            let number = len <= 2 && name.iter().all(u8::is_ascii_digit);
            let lower = name.iter().all(|b| b.is_ascii_lowercase() || b"_.".contains(b));
            (number || lower).then_some(len + 2)
        }
        [b'%', ..] => {
            let end = text.get(1..)?.iter().position(|b| *b == b'%')?;
            is_upper_name(text.get(1..=end)?).then_some(end + 2)
        }
        [b'!', rest @ ..] => {
            let known =
                [&b"Ref "[..], b"Sub ", b"GetAtt ", b"ImportValue ", b"secret ", b"env_var ", b"include "];
            known.iter().any(|k| rest.starts_with(k)).then_some(text.len())
        }
        _ => None,
    }
}

/// Whether the whole value says that something is to be put here. What holds a digit is taken for a value, not for such words.
fn is_placeholder(value: &[u8]) -> bool {
    if value.iter().all(|b| b"*.xX_-?#".contains(b)) {
        return true;
    }
    let mut lower = [0; PLACEHOLDER_MAX];
    let Some(lower) = lower.get_mut(..value.len()) else { return false };
    if value.iter().any(|b| b.is_ascii_digit()) {
        return false;
    }
    lower.copy_from_slice(value);
    lower.make_ascii_lowercase();
    if let [b'<' | b'[', inner @ .., b'>' | b']'] = &*lower {
        return inner.iter().all(|b| b.is_ascii_alphabetic() || b" _-.:".contains(b));
    }
    is_placeholder_word(lower) || is_request(lower)
}

fn is_placeholder_word(lower: &[u8]) -> bool {
    matches!(
        lower,
        // Whoever sees such a password has learnt nothing.
        b"password"
            | b"changeme"
            | b"change_me"
            | b"change-me"
            | b"change me"
            | b"changeit"
            | b"replaceme"
            | b"replace_me"
            | b"replace-me"
            | b"placeholder"
            | b"redacted"
            | b"todo"
            | b"tbd"
            | b"fixme"
            | b"dummy"
            | b"akid"
            | b"example"
            | b"empty"
            | b"n/a"
            | b"unset"
            | b"not-set"
            | b"not_set"
            | b"notset"
    )
}

/// Words that tell the reader to put something here.
fn is_request(lower: &[u8]) -> bool {
    const BEGINNINGS: &[&[u8]] = &[
        b"your-",
        b"your_",
        b"your ",
        b"<your",
        b"replace-with",
        b"replace_with",
        b"replace with",
        b"insert-",
        b"insert_",
        b"insert ",
        b"enter-",
        b"enter_",
        b"enter ",
        b"put-your",
        b"put_your",
        b"add-your",
        b"add_your",
        b"example-",
        b"example_",
    ];
    let begins = matches!(lower.first(), Some(b'y' | b'<' | b'r' | b'i' | b'e' | b'p' | b'a'));
    let ends = || [&b"-here"[..], b"_here", b" here"].iter().any(|e| lower.ends_with(e));
    let yours = || {
        lower.starts_with(b"your")
            && [&b"password"[..], b"token", b"secret", b"key"].iter().any(|e| lower.ends_with(e))
    };
    ((begins && BEGINNINGS.iter().any(|b| lower.starts_with(b))) || ends() || yours())
        && lower.iter().all(|b| b.is_ascii_alphabetic() || b" _-.<>/".contains(b))
}

/// A path of words.
fn is_path(value: &[u8]) -> bool {
    let begins = [&b"/"[..], b"./", b"../", b"~/", b"file:"].iter().any(|b| value.starts_with(b))
        || matches!(value, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic());
    let shaped = value.iter().all(|b| b.is_ascii_alphanumeric() || b"/._-~\\: ".contains(b));
    begins && value.len() > 3 && shaped && !looks_random(value)
}

/// A value that is kept elsewhere, or here in a form that is no secret without a key.
fn is_elsewhere(value: &[u8]) -> bool {
    const BEGINNINGS: &[&[u8]] = &[
        b"op://",
        b"vault:",
        b"vault://",
        b"arn:aws:secretsmanager:",
        b"arn:aws:ssm:",
        b"ENC[AES256_GCM,",
        b"env:",
        b"env://",
        // The name of a kind of authentication in the model of a service.
        b"aws.auth#",
        b"secretsmanager:",
        b"ssm://",
        b"keyring:",
        b"keychain:",
        b"{cipher}",
        b"$ANSIBLE_VAULT;",
        b"AWS_SECRET_MANAGER",
        b"@Microsoft.KeyVault(",
        b"sops:",
        b"doppler://",
        b"gcpsm://",
        b"akeyless:",
    ];
    (4..4096).contains(&value.len()) && BEGINNINGS.iter().any(|b| value.starts_with(b))
}

/// A sentence: words with spaces between them, and nothing else.
pub(super) fn is_prose(value: &[u8]) -> bool {
    let spaces = value.iter().filter(|b| **b == b' ').count();
    let other =
        value.iter().any(|b| !(b.is_ascii_alphabetic() || b" .,!?:'()-\n".contains(b) || !b.is_ascii()));
    spaces >= 1 && !other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(value: &str) -> Option<&str> {
        secret_part(value.as_bytes(), false).map(|range| &value[range])
    }

    #[test]
    fn what_is_no_secret_stays() {
        for value in [
            "",
            "true",
            "No",
            "null",
            "3600",
            "30s",
            "512MB",
            "${DB_PASSWORD}",
            "$DB_PASSWORD",
            "$(cat file)",
            "{{ .Values.x }}",
            "${{ secrets.TOKEN }}",
            "%PASSWORD%",
            "%(pw)s",
            "#{pw}",
            "${A}-${B}",
            "changeme",
            "<your token>",
            "YOUR_API_KEY",
            "your-token-here",
            "xxxx",
            "********",
            "/run/secrets/db_password",
            "./certs/server.key",
            "op://vault/item/field",
            "<%= ENV['X'] %>",
            "Bearer %s",
            "%s:%s",
            "Token {0}",
            "{}:{}",
            "Bearer {settings.token}",
        ] {
            // A reference with a quote in it may carry a default, so it is masked.
            let quoted = value.contains('\'');
            assert_eq!(part(value).is_some(), quoted, "{value}");
        }
    }

    #[test]
    fn what_is_a_secret_is_masked_in_its_secret_part() {
        for (value, expected) in [
            ("hunter2", "hunter2"),
            ("${DB_PASSWORD:-hunter2}", "hunter2"),
            ("${DB_PASSWORD-hunter2}", "hunter2"),
            ("${db.password:hunter2}", "hunter2"),
            ("${A:-${B:-hunter2}}", "hunter2"),
            ("Bearer abc", "abc"),
            ("$ecret!", "$ecret!"),
            ("$Tr0ub4dor", "$Tr0ub4dor"),
            ("${A}hunter2", "${A}hunter2"),
            ("/k3yWith/Sl4shes9aZx81kQpLmN4+", "/k3yWith/Sl4shes9aZx81kQpLmN4+"),
            ("123456789012", "123456789012"),
            ("postgres", "postgres"),
            ("{hunter22}", "{hunter22}"),
            ("%s3cret", "%s3cret"),
        ] {
            assert_eq!(part(value), Some(expected), "{value}");
        }
        assert_eq!(secret_part(b"4711", true), Some(0..4));
        assert_eq!(secret_part(b"-4711", true), Some(0..5));
        assert_eq!(part("${A:-${B}}"), None);
    }
}
