//! Secret values found by reading a file in its format: bytes in, spans out. No IO; the time is linear in the text; nothing needs the
//! text to be valid. The names of `rules/formats.toml` decide which values are secret. Where a reader meets what it does not
//! understand, the text is also read line by line, and in files that are there to hold credentials all that is not known to be harmless
//! is masked. A masked file is still one of its format.

use super::rules::{Registry, RuleError, RuleText};
use super::{Format, Formats, Origin, RuleId, Span};

mod code;
mod ini;
mod memo;
mod names;
mod pair;
mod random;
#[cfg(test)]
mod round_trip_tests;
mod rules;
mod shell;
mod sink;
#[cfg(test)]
mod tests;
mod tree;
mod value;
mod words;
mod xml;
mod yaml;

use names::Names;
use rules::{FormatRule, KeyName, Loaded, Masked, Settings};
use sink::{Judged, Level, Sink};
use tree::Dialect;

/// Counts up whenever the same rules and bytes give other spans than before: part of the policy's digest.
pub(super) const VERSION: u32 = 9;

/// The built-in file's name and text.
pub(super) const BUILTIN: (&str, &str) =
    ("built-in formats.toml", include_str!("../../../rules/formats.toml"));

/// The tables in rule files that are this module's.
pub(super) const TABLES: &[&str] = &["keyname", "setting", "format"];

/// The compiled format rules.
#[derive(Debug, Default)]
pub(super) struct FormatRules {
    names: Names,
    formats: Vec<(RuleId, Vec<Format>, Masked)>,
}

impl FormatRules {
    /// Compiles the built-in rules and those of other rule files.
    pub(super) fn build(texts: &[RuleText], registry: &mut Registry) -> Result<Self, RuleError> {
        let (file, text) = BUILTIN;
        let builtin = RuleText { text: text.into(), file: file.into(), origin: Origin::BuiltIn };
        let mut documents = Vec::new();
        for text in std::iter::once(&builtin).chain(texts) {
            documents.push((text, text.parse()?));
        }
        let keynames: Vec<Loaded<KeyName>> = rules::load(&mut documents)?;
        let settings: Vec<Loaded<Settings>> = rules::load(&mut documents)?;
        let formats: Vec<Loaded<FormatRule>> = rules::load(&mut documents)?;
        let mut given = Vec::new();
        let mut claims = Vec::new();
        for Loaded { info, rule } in keynames {
            if !registry.disabled(&info.id) {
                let id = registry.add(info.clone());
                claims.extend((info.origin != Origin::BuiltIn).then(|| (id, info, rule.clone())));
                given.push((id, rule));
            }
        }
        let settings =
            settings.into_iter().filter(|s| !registry.disabled(&s.info.id)).map(|s| s.rule).collect();
        let names = Names::new(given, settings);
        for (id, info, rule) in claims {
            if let Some(problem) = names.disproves(id, &rule) {
                let hint = "Correct the rule's `names`, or its `examples` and `negatives`.".into();
                return Err(RuleError {
                    file: info.source,
                    line: info.line,
                    rule: Some(info.id),
                    problem,
                    hint,
                });
            }
        }
        let mut compiled = Self { names, formats: Vec::new() };
        for Loaded { info, rule } in formats {
            if !registry.disabled(&info.id) {
                let id = registry.add(info);
                compiled.formats.push((id, rule.formats, rule.masked.unwrap_or_default()));
            }
        }
        Ok(compiled)
    }

    /// Whether what a rule finds was called a secret by whoever wrote it down: by its name, or by its place in a file of passwords.
    pub(super) fn is_named(&self, rule: RuleId) -> bool {
        let by_place =
            |of: &[Format]| of.iter().any(|f| matches!(f, Format::Netrc | Format::Pgpass | Format::Passwd));
        !self.formats.iter().any(|(id, of, _)| *id == rule && !by_place(of))
    }

    /// The secret values of a text in all these formats. `all` says that the file is a hidden one: everything counts that is not
    /// known to be harmless.
    pub(super) fn spans(&self, formats: Formats, text: &[u8], all: bool) -> Vec<Span> {
        // A byte order mark, or what is left of one in the narrow copy of wide text.
        let begin = match text {
            [0xef, 0xbb, 0xbf, ..] => 3,
            [0xff, ..] => 1,
            _ => 0,
        };
        let mut spans = Vec::new();
        for format in formats.iter() {
            let Some((rule, _, masked)) = self.formats.iter().find(|(_, of, _)| of.contains(&format)) else {
                continue;
            };
            let level = match masked {
                Masked::AllButHarmless => Level::All(*rule),
                Masked::SecretKeys | Masked::SecretKeysAndRandom if all => Level::All(*rule),
                Masked::SecretKeysAndRandom => Level::Random(*rule),
                Masked::SecretKeys => Level::Keys,
            };
            let mut sink = Sink::new(text, &self.names, format, *rule);
            if is_text(format) && memchr::memchr(0, text).is_some() {
                // A text format that holds what no text does: nobody knows what it is.
                sink.whole(begin..text.len(), *rule);
            } else {
                read(&mut sink, format, begin..text.len(), level);
            }
            let found = sink.into_spans().into_iter().map(|(range, rule)| Span {
                start: range.start as u64,
                len: range.len() as u64,
                rule,
            });
            super::append(&mut spans, found.collect());
        }
        spans
    }
}

/// Whether a file of this format is text throughout.
fn is_text(format: Format) -> bool {
    !matches!(format, Format::Text | Format::Pem | Format::UrlUserinfo | Format::Sql | Format::Code)
}

/// Reads a text in a format.
fn read(sink: &mut Sink<'_>, format: Format, range: std::ops::Range<usize>, level: Level) {
    let all = range.clone();
    let by_line = matches!(format, Format::Dotenv | Format::Ini | Format::Properties | Format::Npmrc);
    if by_line && sink.slice(sink.trim(all.clone())).starts_with(b"{") {
        json(sink, range.clone(), level);
    }
    match format {
        Format::Dotenv => shell::dotenv(sink, range, level),
        Format::Shell | Format::Dockerfile => shell::script(sink, range, level),
        Format::Ini | Format::Pypirc | Format::GitConfig => ini::read(sink, range, level, ini::Style::Ini),
        Format::Npmrc => ini::read(sink, range, level, ini::Style::Flat),
        Format::Netrc => words::netrc(sink, range),
        Format::Pgpass => words::pgpass(sink, range),
        Format::Passwd => words::passwd(sink, range),
        Format::Pem => words::armour(sink, range),
        Format::Properties => ini::properties(sink, range, level),
        Format::Json | Format::DockerConfig => json(sink, range, level),
        Format::Yaml | Format::Kubeconfig => {
            if !yaml::read(sink, range, level) {
                code::lines(sink, all, level);
            }
        }
        Format::Toml => nested(sink, range, level, Dialect::Toml),
        Format::Hcl => nested(sink, range, level, Dialect::Hcl),
        Format::Xml => {
            if !xml::read(sink, range, level) {
                code::lines(sink, all, level);
            }
        }
        Format::Conf | Format::Http => code::lines(sink, range, level),
        Format::UrlUserinfo => sink.value(range, Judged::Unknown(Level::Keys)),
        Format::Php | Format::Python | Format::Ruby | Format::Javascript | Format::Sql | Format::Code => {
            code::scan(sink, range, true);
        }
        Format::Text => guess(sink, range, level),
    }
}

/// Where a line-based reader may have got a file that is none.
fn guess(sink: &mut Sink<'_>, range: std::ops::Range<usize>, level: Level) {
    match sink.slice(sink.trim(range.clone())) {
        [b'{', ..] | [b'[', b'{' | b'\n' | b'\r' | b'"', ..] => json(sink, range, level),
        [b'<', ..] => read(sink, Format::Xml, range, level),
        text if text.starts_with(b"---") => read(sink, Format::Yaml, range, level),
        _ => code::lines(sink, range, level),
    }
}

/// JSON: its strings may hold source code (notebooks) or other files.
fn json(sink: &mut Sink<'_>, range: std::ops::Range<usize>, level: Level) {
    let text = sink.slice(range.clone());
    let secret = |kind: &[u8]| kind.get(..24).unwrap_or(kind).split(|b| *b == b'"').nth(1) == Some(b"Secret");
    sink.data_is_secret =
        memchr::memmem::find_iter(text, b"\"kind\"").any(|at| text.get(at + 6..).is_some_and(secret));
    let (_, whole) = tree::read(sink, range.clone(), Dialect::Json, Judged::Unknown(level));
    sink.data_is_secret = false;
    if whole {
        code::scan(sink, range, false);
    } else {
        code::lines(sink, range, level);
    }
}

fn nested(sink: &mut Sink<'_>, range: std::ops::Range<usize>, level: Level, dialect: Dialect) {
    let (_, whole) = tree::read(sink, range.clone(), dialect, Judged::Unknown(level));
    if !whole {
        code::lines(sink, range, level);
    }
}
