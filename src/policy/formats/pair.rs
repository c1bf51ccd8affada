//! Maps that have the name of a value under one key and the value under another, whichever comes first.

use std::ops::Range;

use super::sink::{Judged, Level, Sink};

/// A map that has the name of a value under one key (`name`) and the value under another (`value`).
#[derive(Debug, Default)]
pub(super) struct Pair {
    name: Option<Judged>,
    /// Where the name stands, and what its own key says of it: without a value beside it, it is one.
    title: Option<(Range<usize>, Judged)>,
    valued: bool,
    waiting: Vec<Range<usize>>,
}

/// What a key is within such a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Name,
    Value,
    Other,
}

impl Role {
    pub(super) fn of(key: &[u8]) -> Self {
        let mut lower = [0; 12];
        let Some(lower) = lower.get_mut(..key.len()) else { return Self::Other };
        lower.copy_from_slice(key);
        lower.make_ascii_lowercase();
        match &*lower {
            b"name" | b"key" | b"header" | b"variable" | b"parameter" | b"setting" | b"option" | b"env" => {
                Self::Name
            }
            b"value" | b"default" | b"plainvalue" | b"currentvalue" | b"initialvalue" | b"secretvalue" => {
                Self::Value
            }
            _ => Self::Other,
        }
    }
}

impl Pair {
    /// Takes the name, whose key was judged so; the values that came before it are judged by it.
    pub(super) fn named(&mut self, name: Range<usize>, key: Judged, level: Level, sink: &mut Sink<'_>) {
        let judged = sink.judge(sink.slice(name.clone()), level);
        for value in std::mem::take(&mut self.waiting) {
            sink.value(value, judged);
        }
        if let Some((title, judged)) = self.title.replace((name, key)).filter(|_| !self.valued) {
            alone(title, judged, sink);
        }
        self.name = Some(judged);
    }

    /// A pair whose name stands elsewhere.
    pub(super) fn of(name: Judged) -> Self {
        Self { name: Some(name), ..Self::default() }
    }

    /// Takes a value, at once or when the name comes.
    pub(super) fn value(&mut self, value: Range<usize>, sink: &mut Sink<'_>) {
        self.valued = true;
        match self.name {
            Some(judged) => sink.value(value, judged),
            None => self.waiting.push(value),
        }
    }

    /// The map ends: values without a name are judged by the map's level.
    pub(super) fn end(&mut self, level: Level, sink: &mut Sink<'_>) {
        for value in std::mem::take(&mut self.waiting) {
            sink.value(value, Judged::Unknown(level));
        }
        if let Some((title, judged)) = self.title.take().filter(|_| !self.valued) {
            alone(title, judged, sink);
        }
    }

    /// What the name says of the value, if it is known.
    pub(super) fn judged(&self) -> Option<Judged> {
        self.name
    }
}

/// Takes a name without a value. Beneath a secret name, another name of words says nothing: `{key: vault_salt, section: defaults}`.
fn alone(title: Range<usize>, judged: Judged, sink: &mut Sink<'_>) {
    let text = sink.slice(title.clone());
    let words = text.contains(&b'_') && text.iter().all(|b| b.is_ascii_lowercase() || *b == b'_');
    let is_name = words && !matches!(sink.judge(text, Level::Keys), Judged::Unknown(_));
    if matches!(judged, Judged::Secret(..)) || !is_name {
        sink.value(title, judged);
    }
}
