//! The shape language of the rule files: what a published token looks like, as data. `ghp_{alnum:36}` is four literal bytes and
//! 36 bytes of a class; `{w:20-300}` a run of 20 to 300; `{uuid}` a UUID; `{=a|b}` alternatives; parentheses enclose the part that is
//! secret, where that is not all of it; a backslash takes the next byte literally. A shape is found from one of its literals (its
//! anchor), matched leftwards and rightwards from there in bounded time, and can make examples of itself, so that no rule
//! file has to hold one. It refuses what the engine could not find: a shape without a literal of three bytes.

use super::class::{Class, Runs};

/// More elements than any shape needs; keeps a match on the stack.
const ELEMENTS_MAX: usize = 32;

/// One part of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Elem {
    /// Exactly these bytes.
    Lit(Vec<u8>),
    /// `min` to `max` bytes of a class; `id` names the element within a detector.
    Class { class: Class, min: usize, max: usize, id: usize },
}

impl Elem {
    /// How many bytes it has at least.
    fn least(&self) -> usize {
        match self {
            Self::Lit(bytes) => bytes.len(),
            Self::Class { min, .. } => *min,
        }
    }

    fn is_fixed(&self) -> bool {
        matches!(self, Self::Lit(_)) || matches!(self, Self::Class { min, max, .. } if min == max)
    }
}

/// What may not stand directly before a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Left {
    /// A letter or digit, unless it belongs to an escape (`\n`, `%3D`, an ANSI colour).
    #[default]
    Alnum,
    /// As `alnum`, and `_`, `-`, `.` and `/` as well: for short or common prefixes.
    Word,
    /// Nothing: the literal is distinctive wherever it stands.
    Any,
}

/// A compiled shape.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    elems: Vec<Elem>,
    anchor: Option<usize>,
    secret: (usize, usize),
    pub(super) left: Left,
    /// What every match has at fixed distances from its anchor, and from its beginning.
    around_anchor: Box<[Must]>,
    behind_start: Box<[Must]>,
}

/// A byte that every match has, so many bytes from a place. A few of them tell most of what only begins like a match.
#[derive(Debug, Clone, Copy)]
struct Must {
    offset: isize,
    class: Class,
    /// The text may end here.
    or_end: bool,
}

impl Must {
    fn holds(all: &[Self], text: &[u8], at: usize) -> bool {
        all.iter().all(|must| {
            let byte = at.checked_add_signed(must.offset).map(|at| text.get(at));
            byte.is_some_and(|byte| byte.map_or(must.or_end, |b| must.class.has(*b)))
        })
    }

    /// What every match has around element `index`, whose own bytes are known if it is an `anchor`: counted from where it begins, what
    /// says most first.
    fn of(elems: &[Elem], index: usize, anchor: bool) -> Box<[Self]> {
        let mut all: Vec<Self> = Vec::new();
        let mut add = |offset: isize, class| all.push(Self { offset, class, or_end: false });
        let mut end = 0;
        let mut is_fixed = true;
        for (i, elem) in elems.iter().enumerate().skip(index) {
            if !(anchor && i == index) {
                Self::of_elem(elem, end, &mut add);
            }
            end += elem.least() as isize;
            is_fixed = elem.is_fixed();
            if !is_fixed {
                break;
            }
        }
        let mut start = 0;
        for elem in elems.iter().take(index).rev() {
            start -= elem.least() as isize;
            Self::of_elem(elem, start, &mut add);
            if !elem.is_fixed() {
                break;
            }
        }
        all.sort_by_key(|must| must.class.count());
        if let Some(Elem::Class { class, .. }) = elems.last().filter(|_| is_fixed) {
            all.push(Self { offset: end, class: class.or_alnum().complement(), or_end: true });
        }
        all.into()
    }

    /// Adds what an element has that begins at `at`, as far as it is as short as it can be.
    fn of_elem(elem: &Elem, at: isize, add: &mut impl FnMut(isize, Class)) {
        match elem {
            Elem::Lit(bytes) => (at..).zip(bytes).for_each(|(at, byte)| add(at, Class::of(&[*byte]))),
            Elem::Class { class, min, .. } => {
                let min = *min as isize;
                for place in [0, min - 1, min / 2].into_iter().filter(|place| (0..min).contains(place)) {
                    add(at + place, *class);
                }
            }
        }
    }
}

/// Where a shape matched: all of it, and the secret within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) secret: (usize, usize),
}

impl Shape {
    /// Parses a shape; alternatives make several. The error says what is wrong.
    pub(super) fn parse(text: &str, left: Left) -> Result<Vec<Self>, String> {
        alternatives(text)?.iter().map(|one| Self::parse_one(one, left)).collect()
    }

    fn parse_one(text: &str, left: Left) -> Result<Self, String> {
        let mut elems = Vec::new();
        let mut secret = (None, None);
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let after = rest.get(c.len_utf8()..).unwrap_or_default();
            match c {
                '(' => secret.0 = Some(elems.len()),
                ')' => secret.1 = Some(elems.len()),
                '{' => {
                    let (spec, tail) = after.split_once('}').ok_or("`{` without `}`")?;
                    class_elems(spec, &mut elems)?;
                    rest = tail;
                    continue;
                }
                '\\' => {
                    let c = after.chars().next().ok_or("`\\` at the end")?;
                    push_literal(&mut elems, c, secret);
                    rest = after.get(c.len_utf8()..).unwrap_or_default();
                    continue;
                }
                c => push_literal(&mut elems, c, secret),
            }
            rest = after;
        }
        if elems.is_empty() || elems.len() > ELEMENTS_MAX {
            return Err(format!("a shape has 1 to {ELEMENTS_MAX} elements, this one {}", elems.len()));
        }
        let secret = (secret.0.unwrap_or(0), secret.1.unwrap_or(elems.len()));
        let mut shape =
            Self { elems, anchor: None, secret, left, around_anchor: [].into(), behind_start: [].into() };
        shape.anchor = shape.best_anchor();
        shape.around_anchor = shape.anchor.map(|at| Must::of(&shape.elems, at, true)).unwrap_or_default();
        shape.behind_start = Must::of(&shape.elems, 0, false);
        Ok(shape)
    }

    /// The literal from which the shape is searched: the first of three bytes or more, unless a later one is much longer.
    fn best_anchor(&self) -> Option<usize> {
        let literals = self.elems.iter().enumerate().filter_map(|(i, elem)| match elem {
            Elem::Lit(bytes) if bytes.len() >= 3 => Some((i, bytes.len().min(6))),
            Elem::Lit(_) | Elem::Class { .. } => None,
        });
        literals.reduce(|best, next| if next.1 > best.1 + 1 { next } else { best }).map(|(i, _)| i)
    }

    /// The anchor's bytes, and the class of the byte after it where that is known.
    pub(super) fn anchor(&self) -> Option<(&[u8], Option<Class>)> {
        let index = self.anchor?;
        let Some(Elem::Lit(bytes)) = self.elems.get(index) else { return None };
        let next = match self.elems.get(index + 1) {
            Some(Elem::Class { class, min: 1.., .. }) => Some(*class),
            Some(Elem::Class { min: 0, .. } | Elem::Lit(_)) | None => None,
        };
        Some((bytes, next))
    }

    /// Numbers the class elements from `next` on; each number is a slot in [`Runs`].
    pub(super) fn number(&mut self, next: &mut usize) {
        for elem in &mut self.elems {
            if let Elem::Class { id, .. } = elem {
                *id = *next;
                *next += 1;
            }
        }
    }

    pub(super) fn elems(&self) -> &[Elem] {
        &self.elems
    }

    /// The elements that are secret.
    pub(super) fn secret_elems(&self) -> (usize, usize) {
        self.secret
    }

    /// Whether the anchor is the shape's beginning, and must be that of a word.
    pub(super) fn begins_words(&self) -> bool {
        self.anchor == Some(0) && self.left != Left::Any
    }

    /// Whether the anchor at `at` has around it what every match has.
    pub(super) fn may_stand(&self, text: &[u8], at: usize) -> bool {
        Must::holds(&self.around_anchor, text, at)
    }

    /// Matches with the anchor at `at`, if it may stand there.
    pub(super) fn at_anchor(&self, runs: &mut Runs, text: &[u8], at: usize) -> Option<Match> {
        let anchor = self.anchor?;
        if anchor == 0 && !left_ok(text, at, self.left) {
            return None;
        }
        let mut bounds = [at; ELEMENTS_MAX + 1];
        self.leftwards(runs, text, anchor, &mut bounds)?;
        self.rightwards(runs, text, anchor, &mut bounds)?;
        self.finish(text, &bounds)
    }

    /// Matches with the first element at `at`.
    pub(super) fn at_start(&self, runs: &mut Runs, text: &[u8], at: usize) -> Option<Match> {
        Must::holds(&self.behind_start, text, at).then_some(())?;
        let mut bounds = [at; ELEMENTS_MAX + 1];
        self.rightwards(runs, text, 0, &mut bounds)?;
        self.finish(text, &bounds)
    }

    fn finish(&self, text: &[u8], bounds: &[usize; ELEMENTS_MAX + 1]) -> Option<Match> {
        let start = *bounds.first()?;
        let end = *bounds.get(self.elems.len())?;
        let secret = (*bounds.get(self.secret.0)?, *bounds.get(self.secret.1)?);
        let right = match (self.elems.last()?, text.get(end)) {
            (Elem::Lit(_), _) | (_, None) => true,
            (Elem::Class { class, .. }, Some(b)) => !class.has(*b) && !b.is_ascii_alphanumeric(),
        };
        (right && left_ok(text, start, self.left) && secret.0 < secret.1).then_some(Match {
            start,
            end,
            secret,
        })
    }

    /// Matches the elements before `index`, the last of which ends at `bounds[index]`.
    fn leftwards(&self, runs: &mut Runs, text: &[u8], index: usize, bounds: &mut [usize]) -> Option<()> {
        let Some(before) = index.checked_sub(1) else { return Some(()) };
        let end = *bounds.get(index)?;
        match self.elems.get(before)? {
            Elem::Lit(bytes) => {
                let start = end.checked_sub(bytes.len())?;
                (text.get(start..end)? == bytes.as_slice()).then_some(())?;
                *bounds.get_mut(before)? = start;
                self.leftwards(runs, text, before, bounds)
            }
            Elem::Class { class, min, max, id } => {
                let (start, _) = runs.around(*id, class, text, end);
                let longest = (end - start.min(end)).min(*max);
                for len in (*min..=longest).rev() {
                    *bounds.get_mut(before)? = end - len;
                    if self.leftwards(runs, text, before, bounds).is_some() {
                        return Some(());
                    }
                    if self.only_longest(before.checked_sub(1), class) {
                        break;
                    }
                }
                None
            }
        }
    }

    /// Matches the elements from `index` on, the first of which begins at `bounds[index]`.
    fn rightwards(&self, runs: &mut Runs, text: &[u8], index: usize, bounds: &mut [usize]) -> Option<()> {
        let Some(elem) = self.elems.get(index) else { return Some(()) };
        let start = *bounds.get(index)?;
        match elem {
            Elem::Lit(bytes) => {
                text.get(start..)?.starts_with(bytes).then_some(())?;
                *bounds.get_mut(index + 1)? = start + bytes.len();
                self.rightwards(runs, text, index + 1, bounds)
            }
            Elem::Class { class, min, max, id } => {
                let (_, end) = runs.around(*id, class, text, start);
                let longest = (end.max(start) - start).min(*max);
                for len in (*min..=longest).rev() {
                    *bounds.get_mut(index + 1)? = start + len;
                    if self.rightwards(runs, text, index + 1, bounds).is_some() {
                        return Some(());
                    }
                    if self.only_longest(Some(index + 1), class) {
                        break;
                    }
                }
                None
            }
        }
    }

    /// Whether giving bytes of a class run back cannot help: the neighbour is a literal that the class has no part in, or none.
    fn only_longest(&self, neighbour: Option<usize>, class: &Class) -> bool {
        match neighbour.and_then(|i| self.elems.get(i)) {
            None => true,
            Some(Elem::Lit(bytes)) => !bytes.iter().all(|b| class.has(*b)),
            Some(Elem::Class { class: other, .. }) => !other.meets(class),
        }
    }
}

fn push_literal(elems: &mut Vec<Elem>, c: char, secret: (Option<usize>, Option<usize>)) {
    let mut buf = [0; 4];
    let bytes = c.encode_utf8(&mut buf).as_bytes();
    let fresh = secret.0 == Some(elems.len()) || secret.1 == Some(elems.len());
    match elems.last_mut() {
        Some(Elem::Lit(literal)) if !fresh => literal.extend_from_slice(bytes),
        Some(_) | None => elems.push(Elem::Lit(bytes.to_vec())),
    }
}

fn class_elems(spec: &str, elems: &mut Vec<Elem>) -> Result<(), String> {
    let mut class = |name: &str, min: usize, max: usize| -> Result<(), String> {
        let class = Class::named(name).ok_or_else(|| format!("no class is called `{name}`"))?;
        elems.push(Elem::Class { class, min, max, id: 0 });
        Ok(())
    };
    if spec == "uuid" {
        class("xdigit", 8, 8)?;
        for len in [4, 4, 4, 12] {
            class("[-]", 1, 1)?;
            class("xdigit", len, len)?;
        }
        return Ok(());
    }
    let (name, count) = spec.rsplit_once(':').unwrap_or((spec, "1"));
    let (min, max) = count.split_once('-').unwrap_or((count, count));
    let number = |n: &str| n.parse::<usize>().map_err(|_| format!("`{n}` is no count"));
    let (min, max) = (number(min)?, number(max)?);
    if min > max || max == 0 || max > 20_000 {
        return Err(format!("`{count}` is no range of 1 to 20000"));
    }
    class(name, min, max)
}

/// Expands `{=a|b}`.
fn alternatives(text: &str) -> Result<Vec<String>, String> {
    let Some((head, rest)) = text.split_once("{=") else { return Ok(vec![text.into()]) };
    let (options, tail) = rest.split_once('}').ok_or("`{=` without `}`")?;
    let mut all = Vec::new();
    for tail in alternatives(tail)? {
        all.extend(options.split('|').map(|option| format!("{head}{option}{tail}")));
    }
    Ok(all)
}

/// Whether a token may begin at `start`, judged by what stands before it.
pub(super) fn left_ok(text: &[u8], start: usize, left: Left) -> bool {
    let head = text.get(..start).unwrap_or_default();
    let Some(prev) = head.last() else { return true };
    match left {
        Left::Any => true,
        Left::Word if matches!(prev, b'_' | b'-' | b'.' | b'/') => false,
        Left::Alnum | Left::Word => !prev.is_ascii_alphanumeric() || ends_in_escape(head),
    }
}

/// No escape is longer, in bytes.
pub(super) const ESCAPE_MAX: usize = 16;

/// Whether the last letter or digit belongs to an escape rather than to a word.
fn ends_in_escape(head: &[u8]) -> bool {
    match head {
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f' | b'v' | b'0'] => true,
        [.., b'%' | b'=', a, b] => a.is_ascii_hexdigit() && b.is_ascii_hexdigit() && !a.is_ascii_lowercase(),
        [.., b'\\', b'x', a, b] => a.is_ascii_hexdigit() && b.is_ascii_hexdigit(),
        [.., b'\\', b'u', a, b, c, d] => [a, b, c, d].iter().all(|x| x.is_ascii_hexdigit()),
        [rest @ .., b'm'] => {
            let digits = rest.iter().rev().take_while(|b| b.is_ascii_digit() || **b == b';').count();
            digits <= 12 && rest.len() > digits && rest.get(rest.len() - digits - 1) == Some(&b'[')
        }
        _ => false,
    }
}
