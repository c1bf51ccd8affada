//! Syntax colouring of lines as they are shown. Content is hostile, so the time it takes is linear in what is shown: the patterns are such
//! as the `regex` crate runs, and long lines stay plain. Without a known language everything is plain.

use synoptic::{Highlighter, TokOpt, from_extension};

/// Longer lines are not coloured, in bytes.
const LINE_MAX: usize = 400;

/// What a piece of code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Plain,
    Comment,
    Keyword,
    Text,
    Number,
    Name,
}

/// A line in pieces.
pub(super) type Code = Vec<(Class, String)>;

/// Colours the lines of one file, in stretches that belong together.
pub(super) struct Colours(Option<Highlighter>);

impl Colours {
    /// For a file of this name.
    pub(super) fn of(name: &[u8]) -> Self {
        let name = String::from_utf8_lossy(name);
        let extension = match name.rsplit_once('.') {
            Some((_, extension)) => extension.to_ascii_lowercase(),
            None => match name.as_ref() {
                "Makefile" | "makefile" | "Dockerfile" => "sh".to_owned(),
                _ => return Self(None),
            },
        };
        let extension = if matches!(extension.as_str(), "jsx" | "mjs" | "cjs") { "js" } else { &extension };
        Self(from_extension(extension, 4))
    }

    /// Consecutive lines in pieces.
    pub(super) fn lines(&self, lines: &[String]) -> Vec<Code> {
        let plain = |line: &String| vec![(Class::Plain, line.clone())];
        let Some(highlighter) = self.0.as_ref().filter(|_| lines.iter().all(|l| l.len() <= LINE_MAX)) else {
            return lines.iter().map(plain).collect();
        };
        let mut highlighter = highlighter.clone();
        highlighter.run(lines);
        let code = |(at, line): (usize, &String)| -> Code {
            let pieces: Code = highlighter
                .line(at, line)
                .into_iter()
                .map(|token| match token {
                    TokOpt::Some(text, kind) => (class(&kind), text),
                    TokOpt::None(text) => (Class::Plain, text),
                })
                .collect();
            // What is shown is the line, whatever became of it on the way.
            if pieces.iter().map(|(_, t)| t.as_str()).collect::<String>() == *line {
                pieces
            } else {
                plain(line)
            }
        };
        lines.iter().enumerate().map(code).collect()
    }
}

fn class(kind: &str) -> Class {
    match kind {
        "comment" | "quote" => Class::Comment,
        "keyword" | "heading" | "tag" | "statement" | "conditional" | "boolean" => Class::Keyword,
        "string" | "character" | "link" | "block" => Class::Text,
        "digit" | "number" => Class::Number,
        "function" | "struct" | "macro" | "macros" | "namespace" | "attribute" | "type" | "key" => {
            Class::Name
        }
        _ => Class::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_itself_in_any_language() {
        let lines: Vec<String> = ["/* \"a", "b\" */ fn x() -> 1 {", "日本 \\u{1b} '", ""]
            .iter()
            .map(|l| (*l).to_owned())
            .collect();
        for name in ["a.rs", "a.py", "a.sh", "a.md", "a.html", "a.toml", "a.unknown", "Makefile", "x"] {
            let shown = Colours::of(name.as_bytes()).lines(&lines);
            let text: Vec<String> =
                shown.iter().map(|l| l.iter().map(|(_, t)| t.as_str()).collect()).collect();
            assert_eq!(text, lines, "{name}");
        }
    }

    #[test]
    fn code_has_its_classes() {
        let line = |name: &str, text: &str| Colours::of(name.as_bytes()).lines(&[text.to_owned()]).remove(0);
        let has = |code: &Code, class, text: &str| code.iter().any(|(c, t)| *c == class && t.contains(text));
        let code = line("a.rs", "let x = \"s\"; // why");
        assert!(has(&code, Class::Keyword, "let") && has(&code, Class::Text, "s"), "{code:?}");
        assert!(has(&code, Class::Comment, "why"), "{code:?}");
        let long = "x".repeat(LINE_MAX + 1);
        assert_eq!(line("a.rs", &long), [(Class::Plain, long)]);
    }
}
