//! Draws the [`State`]. Everything that comes from files has been made harmless before. Without colour the signs, marks and the reversed
//! cursor say the same.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::{Block, Clear, Widget as _};
use unicode_width::UnicodeWidthChar as _;
use unicode_width::UnicodeWidthStr as _;

use super::colour::{Class, Code};
use super::file::{Cell, Row, Say};
use super::pick::{Mark, Pick};
use super::state::{Confirm, Focus, Mode, State, Verb};
use crate::change::Tag;
use crate::cli::ui::count;

/// Whether to colour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    fn fg(self, colour: Color) -> Style {
        if self.0 { Style::new().fg(colour) } else { Style::new() }
    }

    fn say(self, say: Say) -> Style {
        match say {
            Say::Fact => Style::new().add_modifier(Modifier::BOLD),
            Say::Gate => self.fg(Color::Red).add_modifier(Modifier::BOLD),
            Say::Flag => self.fg(Color::Yellow),
            Say::Conflict => self.fg(Color::Red),
            Say::Note => Style::new(),
        }
    }

    fn class(self, class: Class, tag: Tag) -> Style {
        match (class, tag) {
            (Class::Comment, _) => self.fg(Color::DarkGray),
            (Class::Keyword, _) => self.fg(Color::Magenta),
            (Class::Text, _) => self.fg(Color::Yellow),
            (Class::Number, _) => self.fg(Color::Cyan),
            (Class::Name, _) => self.fg(Color::Blue),
            (Class::Plain, Tag::Added) => self.fg(Color::Green),
            (Class::Plain, Tag::Removed) => self.fg(Color::Red),
            (Class::Plain, Tag::Context) => Style::new(),
        }
    }

    fn sign(self, tag: Tag) -> Style {
        match tag {
            Tag::Added => self.fg(Color::Green).add_modifier(Modifier::BOLD),
            Tag::Removed => self.fg(Color::Red).add_modifier(Modifier::BOLD),
            Tag::Context => Style::new(),
        }
    }
}

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, paint: Paint) {
    let panes = state.panes();
    let buffer = frame.buffer_mut();
    head(buffer, panes.head, state);
    tree(buffer, panes.tree, state, paint);
    if panes.tree.width > 0 && panes.diff.width > 0 {
        let x = panes.tree.right();
        (panes.tree.y..panes.tree.bottom()).for_each(|y| {
            buffer.set_stringn(x, y, "│", 1, paint.fg(Color::DarkGray));
        });
    }
    diff(buffer, panes.diff, state, paint);
    message(buffer, panes.message, state, paint);
    keys(buffer, panes.keys, state, paint);
    match &state.mode {
        Mode::Normal | Mode::Search(_) => {}
        Mode::Help => popup(buffer, frame_area(state), "Keys", &help(), paint),
        Mode::Notice(lines) => popup(buffer, frame_area(state), "Look", lines, paint),
        Mode::Confirm(confirm) => {
            let title = match confirm.verb {
                Verb::Apply => "Apply",
                Verb::Discard => "Discard",
            };
            popup(buffer, frame_area(state), title, &question(confirm), paint);
        }
    }
}

fn frame_area(state: &State) -> Rect {
    Rect::new(0, 0, state.size.0, state.size.1)
}

fn head(buffer: &mut Buffer, area: Rect, state: &State) {
    let (whole, part) = state.chosen();
    let gates = state.entries.iter().filter(|e| !e.gates.is_empty()).count();
    let conflicts = state.entries.iter().filter(|e| e.conflict).count();
    let mut text =
        format!(" scrubfs review {} · {}", state.session, count(state.entries.len(), "change", "changes"));
    for (n, one, many) in [
        (whole, "chosen", "chosen"),
        (part, "in part", "in part"),
        (gates, "behind a gate", "behind gates"),
        (conflicts, "conflict", "conflicts"),
    ] {
        if n > 0 {
            text.push_str(&format!(" · {}", count(n, one, many)));
        }
    }
    let style = Style::new().add_modifier(Modifier::REVERSED);
    buffer.set_style(area, style);
    buffer.set_stringn(area.x, area.y, text, usize::from(area.width), style);
}

fn tree(buffer: &mut Buffer, area: Rect, state: &State, paint: Paint) {
    if state.rows.is_empty() && area.width > 0 {
        buffer.set_stringn(area.x, area.y, "Nothing was changed.", usize::from(area.width), Style::new());
    }
    let rows = state.rows.iter().enumerate().skip(state.tree_top).take(usize::from(area.height));
    for (line, (at, node)) in (area.y..area.bottom()).zip(rows) {
        let Some(entry) = state.tree.nodes.get(*node) else { continue };
        let change = entry.change.and_then(|c| state.entries.get(c));
        let sign = match (entry.is_dir, entry.is_open, change) {
            (true, true, _) => '▾',
            (true, false, _) => '▸',
            (false, _, Some(change)) => change.letter,
            (false, _, None) => ' ',
        };
        let slash = if entry.is_dir { "/" } else { "" };
        let (flag, style) = match change {
            Some(c) if c.conflict => ("×", paint.fg(Color::Red)),
            Some(c) if !c.gates.is_empty() => ("!", paint.fg(Color::Red).add_modifier(Modifier::BOLD)),
            Some(c) if c.noted => ("·", paint.fg(Color::Yellow)),
            _ => (" ", Style::new()),
        };
        let mark = state.mark(*node);
        // However deep a path is, the name keeps some room.
        let indent = (entry.depth * 2).min(usize::from(area.width) / 2);
        let text = format!("{}{} {sign} {}{slash}", " ".repeat(indent), mark.box_text(), entry.label);
        let text_style =
            if mark == Mark::No { Style::new() } else { Style::new().add_modifier(Modifier::BOLD) };
        let room = usize::from(area.width).saturating_sub(2);
        buffer.set_stringn(area.x, line, cut(&text, room), room, text_style);
        buffer.set_stringn(area.right().saturating_sub(1), line, flag, 1, style);
        cursor(
            buffer,
            Rect::new(area.x, line, area.width, 1),
            at == state.tree_at,
            state.focus == Focus::Tree,
        );
    }
}

/// Marks the row of the cursor; where the other pane has the focus, only softly.
fn cursor(buffer: &mut Buffer, row: Rect, here: bool, focus: bool) {
    if here {
        let modifier = if focus { Modifier::REVERSED } else { Modifier::UNDERLINED };
        buffer.set_style(row, Style::new().add_modifier(modifier));
    }
}

/// A text in so many columns; what is cut off is told by `…`.
fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 1);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

fn diff(buffer: &mut Buffer, area: Rect, state: &State, paint: Paint) {
    if area.width == 0 {
        return;
    }
    let Some(file) = state.file() else {
        let rows = match (state.change(), state.node()) {
            (None, Some(node)) => state.directory(node, usize::from(area.height).saturating_sub(2)),
            (Some(_), _) => vec![(Say::Note, "reading …".to_owned())],
            (None, None) => Vec::new(),
        };
        for (line, (say, text)) in (area.y..area.bottom()).zip(rows) {
            let room = usize::from(area.width);
            buffer.set_stringn(area.x, line, cut(&text, room), room, paint.say(say));
        }
        return;
    };
    let digits = number_width(state.diff_rows());
    let pick = state.change().and_then(|c| state.picks.get(c)).cloned().unwrap_or_default();
    let draw = Lines { pick: &pick, code: &file.code, digits, shift: state.shift, paint };
    let rows = state.diff_rows().iter().enumerate().skip(state.diff_top).take(usize::from(area.height));
    for (line, (at, row)) in (area.y..area.bottom()).zip(rows) {
        let place = Rect::new(area.x, line, area.width, 1);
        match row {
            Row::Text(say, text) => draw.text(buffer, place, text, paint.say(*say)),
            Row::Attrs(text) => {
                let mark = if pick.has_attrs() { Mark::Yes } else { Mark::No };
                draw.text(buffer, place, &format!("{} {text}", mark.box_text()), paint.fg(Color::Cyan));
            }
            Row::Hunk(hunk, text) => {
                let lines = file.hunks.get(*hunk).map(Vec::as_slice).unwrap_or_default();
                let mark = if file.parts.is_some() { pick.mark_of(lines) } else { pick.mark() };
                draw.text(buffer, place, &format!("{} {text}", mark.box_text()), paint.fg(Color::Cyan));
            }
            Row::Line(_, cell) => draw.cell(buffer, place, Some(cell)),
            Row::Pair(_, left, right) => {
                let half = place.width.saturating_sub(1) / 2;
                draw.cell(buffer, Rect { width: half, ..place }, left.as_ref());
                buffer.set_stringn(place.x + half, line, "│", 1, paint.fg(Color::DarkGray));
                let rest = place.width.saturating_sub(half + 1);
                draw.cell(buffer, Rect { x: place.x + half + 1, width: rest, ..place }, right.as_ref());
            }
        }
        cursor(buffer, place, at == state.diff_at, state.focus == Focus::Diff);
    }
}

/// Columns that line numbers take.
fn number_width(rows: &[Row]) -> usize {
    let last = rows.iter().rev().find_map(|r| match r {
        Row::Line(_, cell) => Some(cell.number),
        Row::Pair(_, left, right) => left.iter().chain(right).map(|c| c.number).max(),
        Row::Text(..) | Row::Attrs(_) | Row::Hunk(..) => None,
    });
    last.unwrap_or(0).to_string().len().max(3)
}

struct Lines<'a> {
    pick: &'a Pick,
    code: &'a [Code],
    digits: usize,
    shift: usize,
    paint: Paint,
}

impl Lines<'_> {
    fn text(&self, buffer: &mut Buffer, place: Rect, text: &str, style: Style) {
        let room = usize::from(place.width);
        let shifted = skip_columns(text, self.shift);
        buffer.set_stringn(place.x, place.y, cut(shifted, room), room, style);
    }

    fn cell(&self, buffer: &mut Buffer, place: Rect, cell: Option<&Cell>) {
        let Some(cell) = cell else { return };
        let chosen = cell.id.is_some_and(|id| self.pick.mark_of(&[id]) == Mark::Yes);
        let mark = if chosen { 'x' } else { ' ' };
        let front = format!("{mark}{}{:>w$} ", cell.tag.sign(), cell.number, w = self.digits);
        let (mut x, y) =
            buffer.set_stringn(place.x, place.y, &front, usize::from(place.width), self.paint.sign(cell.tag));
        let mut skip = self.shift;
        for (class, text) in self.code.get(cell.code).map(Vec::as_slice).unwrap_or_default() {
            let shown = skip_columns(text, skip);
            skip = skip.saturating_sub(text.width());
            let room = usize::from(place.right().saturating_sub(x));
            (x, _) = buffer.set_stringn(x, y, shown, room, self.paint.class(*class, cell.tag));
        }
    }
}

/// A text without its first columns.
fn skip_columns(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        if used >= columns {
            return text.get(at..).unwrap_or_default();
        }
        used += c.width().unwrap_or(0);
    }
    ""
}

fn message(buffer: &mut Buffer, area: Rect, state: &State, paint: Paint) {
    let text = match (&state.mode, &state.message) {
        (Mode::Search(text), _) => format!("/{text}▏"),
        (_, Some(message)) => message.clone(),
        (_, None) => position(state),
    };
    let style = if state.message.is_some() { paint.fg(Color::Yellow) } else { Style::new() };
    let room = usize::from(area.width).saturating_sub(1);
    buffer.set_stringn(area.x + 1, area.y, cut(&text, room), room, style);
}

/// Where the cursor is.
fn position(state: &State) -> String {
    let entry = state.change().and_then(|c| state.entries.get(c));
    let path = entry.map(|e| e.path.clone()).unwrap_or_default();
    let Some(file) = state.file() else { return path };
    let hunk = state.diff_rows().get(state.diff_at).and_then(Row::hunk);
    match hunk {
        Some(hunk) => format!("hunk {}/{}  {path}", hunk + 1, file.hunks.len()),
        None if file.hunks.is_empty() => path,
        None => format!("{}  {path}", count(file.hunks.len(), "hunk", "hunks")),
    }
}

fn keys(buffer: &mut Buffer, area: Rect, state: &State, paint: Paint) {
    let hints: &[(&str, &str)] = match (&state.mode, state.focus) {
        (Mode::Search(_), _) => &[("Enter", "search"), ("Esc", "leave")],
        (Mode::Confirm(c), _) if c.blocked => &[("any key", "back")],
        (Mode::Confirm(c), _) if c.gates.is_empty() => &[("y", "do it"), ("n", "leave")],
        (Mode::Confirm(_), _) => &[("Enter", "do it"), ("Esc", "leave")],
        (Mode::Help | Mode::Notice(_), _) => &[("any key", "back")],
        (Mode::Normal, Focus::Tree) => &[
            ("?", "help"),
            ("q", "quit"),
            ("space", "choose"),
            ("Enter", "open"),
            ("A", "apply"),
            ("D", "discard"),
            ("v", "side by side"),
            ("/", "search"),
            ("a", "all"),
            ("R", "reload"),
        ],
        (Mode::Normal, Focus::Diff) => &[
            ("?", "help"),
            ("q", "quit"),
            ("space", "line"),
            ("t", "hunk"),
            ("f", "file"),
            ("]", "next hunk"),
            ("J", "next file"),
            ("A", "apply"),
            ("v", "side by side"),
            ("/", "search"),
            ("< >", "shift"),
            ("Tab", "tree"),
        ],
    };
    let mut x = area.x + 1;
    for (key, what) in hints {
        let width = u16::try_from(key.width() + what.width() + 3).unwrap_or(u16::MAX);
        if x.saturating_add(width) > area.right() + 2 {
            break;
        }
        let style = paint.fg(Color::Cyan).add_modifier(Modifier::BOLD);
        (x, _) = buffer.set_stringn(x, area.y, key, usize::from(area.right().saturating_sub(x)), style);
        let room = usize::from(area.right().saturating_sub(x));
        (x, _) = buffer.set_stringn(x, area.y, format!(" {what}  "), room, Style::new());
    }
}

fn question(confirm: &Confirm) -> Vec<String> {
    let mut lines = confirm.lines.clone();
    lines.push(String::new());
    if confirm.blocked {
        lines.push("Nothing can be done like this. Any key leads back.".to_owned());
    } else if confirm.gates.is_empty() {
        lines.push("y does it, n leaves it".to_owned());
    } else {
        let names: Vec<&str> = confirm.gates.iter().map(|g| g.as_str()).collect();
        lines.push(format!("To let these through, type {} and press Enter:", names.join(" ")));
        lines.push(format!("> {}▏", confirm.typed));
    }
    lines
}

fn help() -> Vec<String> {
    let keys = [
        ("↑ ↓  j k  PgUp PgDn  g G", "move"),
        ("Enter →  ← Esc  Tab", "into the diff, back to the tree"),
        ("space", "choose a file, a directory, a line"),
        ("t Enter  f  a", "choose the hunk, the file, everything"),
        ("] [   J K", "next, previous hunk; file"),
        ("v   < >", "side by side or not; shift long lines"),
        ("/  n N", "search paths (tree) or lines (diff)"),
        ("A   D", "apply, discard what is chosen"),
        ("R   q", "read the session anew; quit"),
        ("mouse", "click moves, a click on a mark chooses"),
    ];
    let mut lines: Vec<String> = keys.iter().map(|(k, w)| format!("{k:<26} {w}")).collect();
    lines.push(String::new());
    lines.push("[x] chosen  [~] in part   ! gate  × conflict  · note".to_owned());
    lines.push("A M D R T: added, modified, deleted, renamed, type".to_owned());
    lines
}

/// A box in the middle. What does not fit is cut: rows of a list at their end, a long list above its last rows, which ask.
fn popup(buffer: &mut Buffer, screen: Rect, title: &str, lines: &[String], paint: Paint) {
    let room = usize::from(screen.width).saturating_sub(4).max(1);
    let fit = |line: &String| {
        if line.starts_with("  ") || line.width() <= room { vec![cut(line, room)] } else { wrap(line, room) }
    };
    let mut rows: Vec<String> = lines.iter().flat_map(fit).collect();
    let most = usize::from(screen.height).saturating_sub(2).max(1);
    if rows.len() > most {
        let tail = rows.split_off(rows.len().saturating_sub(3));
        rows.truncate(most.saturating_sub(tail.len() + 1));
        rows.push("…".to_owned());
        rows.extend(tail);
    }
    let longest = rows.iter().map(|l| l.width()).max().unwrap_or(0).max(title.len() + 2);
    let width = u16::try_from(longest + 4).unwrap_or(u16::MAX).min(screen.width);
    let height = u16::try_from(rows.len() + 2).unwrap_or(u16::MAX).min(screen.height);
    let area = Rect::new((screen.width - width) / 2, (screen.height - height) / 2, width, height);
    Clear.render(area, buffer);
    let block = Block::bordered().title(format!(" {title} ")).border_style(paint.fg(Color::Cyan));
    let inside = block.inner(area);
    block.render(area, buffer);
    let room = usize::from(inside.width).saturating_sub(1);
    for (y, row) in (inside.y..inside.bottom()).zip(&rows) {
        buffer.set_stringn(inside.x + 1, y, row, room, Style::new());
    }
}

/// A text in rows of so many columns.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let (mut rows, mut used) = (vec![String::new()], 0);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            used = c.width().unwrap_or(0);
            rows.push(String::new());
        }
        if let Some(row) = rows.last_mut() {
            row.push(c);
        }
    }
    rows
}
