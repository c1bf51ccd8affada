//! The corpus: every shape of every rule, in twelve surroundings, must be found, exactly and whole; every counter-example must not.

use super::*;
use crate::policy::{PathAction, PathVerdict, Policy, PolicyBuilder};

pub(crate) fn plain() -> PathVerdict {
    PathVerdict { action: PathAction::Plain, rule: None }
}

fn strict() -> Policy {
    PolicyBuilder::builtin().strict(true).build().unwrap()
}

/// Texts around a token as people write it: before, after.
const CONTEXTS: &[(&str, &str, &str)] = &[
    ("rust", "    let key = \"", "\".to_owned();\n"),
    ("python", "KEY = '", "'  # noqa\n"),
    ("javascript", "const client = new Client({ key: `", "` });\n"),
    ("go", "\tc := NewClient(\"", "\")\r\n"),
    ("java", "private static final String V = \"", "\";\n"),
    ("shell", "curl -s -H \"X-Key: ", "\" https://example.org\n"),
    ("json", "{\"a\": 1, \"value\":\"", "\",\"b\":null}\n"),
    ("yaml", "steps:\n  - run: x\n    value: ", "\n    other: 1\n"),
    ("dotenv", "# comment\nVALUE=", "\nOTHER=1\n"),
    ("csv", "id,name,value\n1,x,", ",2\n"),
    ("markdown", "Use the value `", "` for staging.\n\n"),
    ("minified", "!function(){var a=1,b=\"", "\";c(a,b)}();"),
    ("notebook", "\"source\": [\"import os\\n", "\\n\", \"x\"]\n"),
];

fn covers(spans: &[Span], secret: &std::ops::Range<usize>) -> bool {
    spans.iter().any(|s| s.start as usize <= secret.start && (s.start + s.len) as usize >= secret.end)
}

/// The sections of `tokens.toml`: the line each begins at, and its name.
fn categories() -> Vec<(u32, String)> {
    let heads = TOKENS.lines().zip(1..).filter_map(|(line, n)| Some((n, line.strip_prefix("# ── ")?)));
    heads.map(|(n, head)| (n, head.trim_end_matches(['─', ' ']).to_owned())).collect()
}

#[test]
fn every_shape_and_every_example_is_found_in_every_context() {
    let policy = strict();
    let categories = categories();
    assert!(categories.len() >= 10);
    // Found and all, by category and by context.
    let mut figures = std::collections::BTreeMap::<String, (usize, usize)>::new();
    let mut missed = std::collections::BTreeMap::<String, usize>::new();
    for seed in 0..2 {
        for sample in policy.samples(seed) {
            let rule = policy.rule(sample.rule);
            let category = categories.iter().rfind(|(line, _)| *line < rule.line).unwrap();
            for (context, before, after) in CONTEXTS {
                let text = [before.as_bytes(), &sample.text, after.as_bytes()].concat();
                let secret = before.len() + sample.secret.start..before.len() + sample.secret.end;
                let found = covers(&policy.scan(&plain(), &text, None), &secret);
                for key in ["all".to_owned(), format!("of {}", category.1), format!("in {context}")] {
                    let figure = figures.entry(key).or_default();
                    *figure = (figure.0 + usize::from(found), figure.1 + 1);
                }
                if !found {
                    *missed.entry(format!("{} in {context}", rule.id)).or_default() += 1;
                }
            }
        }
    }
    for (what, (found, all)) in &figures {
        println!("recall {:>6.2} %  {found:>6} of {all:>6}  {what}", *found as f64 * 100.0 / *all as f64);
    }
    println!("{missed:#?}");
    for (what, (found, all)) in &figures {
        assert!(found * 1000 >= all * 990, "{found} of {all} {what}");
    }
}

#[test]
fn made_up_values_hold_their_providers_check_sum() {
    let detector = Detector::build(load(&[]).unwrap(), &[], true, &mut Registry::default()).unwrap();
    let engine = detector.engine.as_ref().unwrap();
    let mut held = 0;
    for sample in detector.samples(3) {
        let rule = &engine.rules.iter().find(|(id, _)| *id == sample.rule).unwrap().1;
        if let Some(sum) = rule.checksum {
            assert!(sum.holds(&sample.text[sample.secret.clone()]), "{}", rule.info.id);
            held += 1;
        }
    }
    assert!(held >= 9, "{held} rules have check sums");
}

#[test]
fn there_are_as_many_shapes_as_promised() {
    let policy = Policy::builtin();
    assert!(policy.samples(0).len() >= 150);
    assert!(policy.rules().filter(|(_, r)| &*r.source == "built-in tokens.toml").count() >= 150);
}

#[test]
fn counter_examples_are_not_found() {
    let detector = Detector::build(load(&[]).unwrap(), &[], true, &mut Registry::default()).unwrap();
    let engine = detector.engine.as_ref().unwrap();
    for (id, rule) in &engine.rules {
        for text in &rule.negatives {
            let spans = engine.spans(&sample::expand_text(text, 7), true);
            assert!(!spans.iter().any(|s| s.rule == *id), "{} finds {text}", rule.info.id);
        }
    }
}

/// Found in the sources of well-known packages.
#[test]
fn code_and_documentation_are_not_taken_for_credentials() {
    let policy = Policy::builtin();
    for text in [
        "url = URL(\"https://jo%40email.com:a%20secret@company.de:1234/pa%20th\")",
        "must be a valid URI like dotenv://:key_1234@dotenv.org/vault/.env.vault?e",
        "case 3:i(this,y).username=a(this,P,A).call(this);break;case 4:i(this,y).password=a(this,P,A).call(this);",
        "x;let url=new URL(u),username=url.username,password=parsedURL.password,auth=username?password:1;",
        "s.username=r.username;s.password=r.password,s.host=r.host,s.port=r.port;s.path=vo(r.path)",
        "For example, `-----BEGIN RSA PRIVATE KEY----- MIIEpQIBAAKCAQEAuyf/lNrH9ck8DmNyo3fG... -----END RSA PRIVATE KEY-----`",
    ] {
        assert!(policy.scan(&plain(), text.as_bytes(), None).is_empty(), "{text}");
    }
}

#[test]
fn wide_text_is_searched() {
    let policy = Policy::builtin();
    let sample = &policy.samples(1)[0];
    let text = [b"key = \"", sample.text.as_slice(), b"\"\r\nmore text here to see what it is"].concat();
    for little in [true, false] {
        let bytes: Vec<u8> = text.iter().flat_map(|b| if little { [*b, 0] } else { [0, *b] }).collect();
        let secret = 2 * (7 + sample.secret.start)..2 * (7 + sample.secret.end);
        assert!(covers(&policy.scan(&plain(), &bytes, None), &secret));
    }
}

/// A file's own values, learnt, must not spread over the marks around them.
#[test]
fn what_is_learnt_from_a_file_is_what_its_format_finds() {
    let policy = Policy::builtin();
    let text = b"[db]\npassword = \"\"\"x7Kq2\nvTz9LmW4pRb8YcN\"\"\"\n";
    let path = crate::path::RelPath::parse("config.toml").unwrap();
    let verdict = policy.path(&path, crate::policy::Kind::File);
    let mut values = KnownValues::new();
    policy.learn(&path, &verdict, text, &mut values);
    assert_eq!(values.len(), 1);
    for known in [None, Some(&values.build())] {
        let spans = policy.scan(&verdict, text, known);
        let found: Vec<_> = spans.iter().map(|s| (s.start, s.len, &*policy.rule(s.rule).id)).collect();
        assert_eq!(found, [(19, 21, "key-password")]);
    }
}

/// An environment as a process has it ends its entries with NUL; what a binary file has between its line breaks is nobody's secret.
#[test]
fn what_a_hidden_file_with_a_nul_calls_a_secret_is_learnt() {
    let policy = Policy::builtin();
    let path = crate::path::RelPath::parse(".env").unwrap();
    let hidden = PathVerdict { action: PathAction::Hide, rule: None };
    let learnt = |text: &[u8]| {
        let mut values = KnownValues::new();
        policy.learn(&path, &hidden, text, &mut values);
        values.build()
    };
    let secret = b"x7Kq2vTz9LmW4pRb8YcN";
    let text = [b"LANG=C\0DB_PASSWORD=".as_slice(), secret, b"\0HOME=/x\0"].concat();
    assert_eq!(learnt(&text).find(secret), std::iter::once(0..secret.len()).collect::<Vec<_>>());
    let binary = [b"\0\x01ab\n".as_slice(), secret, b"\n\0"].concat();
    assert!(learnt(&binary).is_empty());
}

/// Inside a word nothing begins, but an escape ends the word.
#[test]
fn a_token_behind_an_escape_is_found_whatever_word_stands_before_it() {
    let policy = Policy::builtin();
    let mut found = 0;
    for sample in policy.samples(3) {
        let head: Vec<u8> =
            sample.text.iter().copied().take_while(u8::is_ascii_alphanumeric).take(4).collect();
        let covers = |between: &[u8]| {
            let mut text = head.repeat(20);
            text.extend_from_slice(between);
            let at = (text.len() + sample.secret.start) as u64;
            text.extend_from_slice(&sample.text);
            policy.scan(&plain(), &text, None).iter().any(|s| s.start <= at && at < s.start + s.len)
        };
        if covers(b" ") {
            found += 1;
            for escape in [&b"\\n"[..], b"%3D", b"\\x41", b"\\u0041", b"\x1b[31m"] {
                let rule = &policy.rule(sample.rule).id;
                assert!(covers(escape), "{rule} behind {}", escape.escape_ascii());
            }
        }
    }
    assert!(found > 300, "{found}");
}
