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

#[test]
fn every_shape_is_found_in_every_context() {
    let policy = strict();
    let (mut total, mut found) = (0, 0);
    let mut missed = std::collections::BTreeMap::<String, usize>::new();
    for seed in 0..2 {
        for sample in policy.samples(seed) {
            for (context, before, after) in CONTEXTS {
                let text = [before.as_bytes(), &sample.text, after.as_bytes()].concat();
                let secret = before.len() + sample.secret.start..before.len() + sample.secret.end;
                total += 1;
                if covers(&policy.scan(&plain(), &text, None), &secret) {
                    found += 1;
                } else {
                    *missed.entry(format!("{} in {context}", policy.rule(sample.rule).id)).or_default() += 1;
                }
            }
        }
    }
    println!("recall over shapes and contexts: {found} of {total}");
    println!("{missed:#?}");
    assert!(found * 1000 >= total * 995, "{found} of {total}");
}

#[test]
fn there_are_as_many_shapes_as_promised() {
    let policy = Policy::builtin();
    assert!(policy.samples(0).len() >= 150);
    assert!(policy.rules().filter(|(_, r)| &*r.source == "built-in tokens.toml").count() >= 150);
}

#[test]
fn counter_examples_are_not_found() {
    let detector = Detector::build(&[], true, &mut Registry::default()).unwrap();
    let engine = detector.engine.as_ref().unwrap();
    for (id, rule) in &engine.rules {
        for text in &rule.negatives {
            let spans = engine.spans(&sample::expand_text(text, 7), true);
            assert!(!spans.iter().any(|s| s.rule == *id), "{} finds {text}", rule.info.id);
        }
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
