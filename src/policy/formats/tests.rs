//! The format rules test themselves, and masked files are read by real parsers.

use super::*;
use crate::policy::rules::Table;

pub(super) fn rules() -> FormatRules {
    FormatRules::build(&[], &mut Registry::default()).unwrap()
}

fn tables<T: serde::de::DeserializeOwned>(name: &str) -> Vec<T> {
    let text = RuleText { text: BUILTIN.1.into(), file: BUILTIN.0.into(), origin: Origin::BuiltIn };
    text.parse().unwrap().take(name).into_iter().map(|t: Table<'_>| t.read().unwrap()).collect()
}

/// A text without its marks, and the ranges between them.
fn marked(text: &str) -> (String, Vec<std::ops::Range<usize>>) {
    let mut plain = String::new();
    let mut ranges = Vec::new();
    for (n, part) in text.split(['«', '»']).enumerate() {
        let start = plain.len();
        plain.push_str(part);
        if n % 2 == 1 {
            ranges.push(start..plain.len());
        }
    }
    (plain, ranges)
}

/// A text with marks around its spans, overlapping ones merged.
fn mark(text: &str, spans: &[Span]) -> String {
    let mut secret = vec![false; text.len()];
    for span in spans {
        for at in span.start..span.start + span.len {
            secret[at as usize] = true;
        }
    }
    let mut out = String::new();
    let mut last = false;
    for (at, c) in text.char_indices() {
        if secret[at] != last {
            out.push(if last { '»' } else { '«' });
            last = secret[at];
        }
        out.push(c);
    }
    if last {
        out.push('»');
    }
    out
}

#[test]
fn every_example_of_a_format_is_masked_as_it_says() {
    let rules = rules();
    let mut wrong = Vec::new();
    for rule in tables::<FormatRule>("format") {
        assert!(!rule.examples.is_empty() && !rule.negatives.is_empty(), "{}: examples", rule.id);
        for format in &rule.formats {
            for example in &rule.examples {
                let plain = marked(example).0;
                let got = mark(&plain, &rules.spans((*format).into(), plain.as_bytes(), false));
                if got != *example {
                    wrong.push(format!("{} in {format:?}:\n{example}--- is masked as\n{got}", rule.id));
                }
            }
            for text in &rule.negatives {
                let got = mark(text, &rules.spans((*format).into(), text.as_bytes(), false));
                if got != *text {
                    wrong.push(format!("{} in {format:?}: a negative is masked as\n{got}", rule.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_example_of_a_name_is_judged_as_it_says() {
    let rules = rules();
    let mut registry = Registry::default();
    FormatRules::build(&[], &mut registry).unwrap();
    let infos = registry.into_rules();
    let mut wrong = Vec::new();
    for rule in tables::<KeyName>("keyname") {
        let format = rule.formats.first().copied().unwrap_or(Format::Yaml);
        for name in &rule.examples {
            match rules.names.judge(name.as_bytes(), format) {
                names::Named::Secret(s) if *infos[s.rule.0 as usize].id == *rule.id => {}
                other => wrong.push(format!("{}: {name} is {other:?}", rule.id)),
            }
        }
        for name in &rule.negatives {
            if let names::Named::Secret(s) = rules.names.judge(name.as_bytes(), format) {
                wrong.push(format!(
                    "{}: the negative {name} is secret by {}",
                    rule.id, infos[s.rule.0 as usize].id
                ));
            }
        }
    }
    for rule in tables::<Settings>("setting") {
        let format = rule.formats.first().copied().unwrap_or(Format::Yaml);
        for (names, harmless) in [(&rule.examples, true), (&rule.negatives, false)] {
            for name in names {
                let got = rules.names.judge(name.as_bytes(), format);
                if (got == names::Named::Harmless) != harmless {
                    wrong.push(format!("{}: {name} is {got:?}", rule.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a real parser takes a text; `None` where there is none for the format.
fn parses(format: Format, text: &[u8]) -> Option<bool> {
    use saphyr::LoadableYamlNode as _;
    let text = std::str::from_utf8(text).ok()?;
    Some(match format {
        Format::Json | Format::DockerConfig => serde_json::from_str::<serde_json::Value>(text).is_ok(),
        Format::Yaml | Format::Kubeconfig => saphyr::Yaml::load_from_str(text).is_ok(),
        Format::Toml => toml::from_str::<toml::Value>(text).is_ok(),
        Format::Xml => xml_parses(text),
        Format::Dotenv => dotenvy::from_read_iter(text.as_bytes()).all(|line| line.is_ok()),
        _ => return None,
    })
}

fn xml_parses(text: &str) -> bool {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(Event::Eof) => return true,
            Ok(Event::Start(tag) | Event::Empty(tag)) if tag.attributes().any(|a| a.is_err()) => {
                return false;
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// A text as the agent sees it.
pub(super) fn masked(rules: &FormatRules, format: Format, text: &[u8]) -> (Vec<u8>, crate::policy::Masks) {
    let spans = crate::policy::detect::normal(rules.spans(format.into(), text, false));
    let masks = crate::policy::Masker::new([7; 32]).mask(text, 0, &spans);
    let mut out = text.to_vec();
    masks.overlay(0, &mut out);
    (out, masks)
}

/// The examples of a format without their marks.
pub(super) fn examples(format: Format) -> Vec<String> {
    let of = tables::<FormatRule>("format").into_iter().filter(|rule| rule.formats.contains(&format));
    of.flat_map(|rule| rule.examples).map(|text| marked(&text).0).collect()
}

/// Secrets as people and machines make them.
const SECRETS: &[&str] = &[
    "hunter22",
    "correct horse battery staple",
    "q8Zk3LmPw0TtYv7RnB2c",
    "5f4dcc3b5aa765d61d8327deb882cf99",
    "dXNlcjpwYXNzd29yZA==",
    "550e8400-e29b-41d4-a716-446655440000",
    "4711",
    "123456789012",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "p",
    "xyz9",
    "5",
    "-12",
    "1.5",
    "1e5",
    "caf\u{e9}-\u{1f600}",
    "MIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8AgEAAkEAq7BF\\u003d\\u003d",
];

#[test]
fn masked_text_still_parses_and_keeps_its_lines() {
    let rules = rules();
    let mut count = 0;
    for format in Format::ALL {
        let examples = examples(*format);
        let mut texts = examples.clone();
        for secret in SECRETS {
            for place in ["hunter22", "4711"] {
                let with = examples.iter().filter(|text| text.contains(place));
                texts.extend(with.map(|text| text.replace(place, secret)));
            }
        }
        texts.extend(texts.clone().iter().map(|text| text.replace('\n', "\r\n")));
        for text in &texts {
            let (out, masks) = masked(&rules, *format, text.as_bytes());
            let shown = String::from_utf8_lossy(&out);
            assert_eq!(out.len(), text.len());
            let breaks = |bytes: &[u8]| memchr::memchr_iter(b'\n', bytes).collect::<Vec<_>>();
            assert_eq!(breaks(&out), breaks(text.as_bytes()), "{format:?}: {shown}");
            if parses(*format, text.as_bytes()) == Some(true) {
                count += masks.0.len();
                assert_eq!(parses(*format, &out), Some(true), "{format:?}:\n{text}\n--- masked:\n{shown}");
            }
        }
    }
    assert!(count > 500, "{count}");
}

/// The look-ahead for what kind of document it is goes on to the next `---`, and every `...` before that ends a document.
#[test]
fn three_dots_end_a_document_and_are_looked_beyond_once() {
    let rules = rules();
    let secret = "kind: Secret\ndata:\n  a: «YWJj»\n";
    let other = "kind: ConfigMap\ndata:\n  a: b\n";
    for text in [
        format!("{secret}...\n{other}"),
        format!("{secret}...\n{other}...\n{other}---\n{secret}...\n{other}"),
        format!("{other}---\n{secret}...\n...\n{other}"),
        // What stands before it is masked with it.
        format!("{}...\n{secret}...\n{other}", other.replace("a: b", "a: «b»")),
    ] {
        let plain = marked(&text).0;
        assert_eq!(mark(&plain, &rules.spans(Format::Yaml.into(), plain.as_bytes(), false)), text);
    }
    // Looked beyond again and again, this would take a day.
    let many = format!("{}{other}", "...\n".repeat(1 << 20));
    assert!(rules.spans(Format::Yaml.into(), many.as_bytes(), false).is_empty());
}
