//! What the reviewer shows and how it answers keys and the mouse. Pure: it draws nothing, reads nothing and writes nothing; what has to be done
//! outside comes back as an [`Effect`].

use std::collections::BTreeMap;
use std::sync::Arc;

use ratatui::layout::Rect;

use super::file::{Row, Say, Shown};
use super::pick::{Mark, Pick};
use super::tree::Tree;
use crate::apply::Take;
use crate::change::{Change, Flag};

/// So many files are kept ready to be drawn.
const KEPT: usize = 64;

/// What the list says of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path, as shown.
    pub(super) path: String,
    /// git's letter.
    pub(super) letter: char,
    /// The flags that stop an apply.
    pub(super) gates: Vec<Flag>,
    /// Whether it has other flags.
    pub(super) noted: bool,
    /// Whether it conflicts.
    pub(super) conflict: bool,
}

impl Entry {
    pub(super) fn new(change: &Change) -> Self {
        Self {
            path: change.path.to_string(),
            letter: change.kind.letter(),
            gates: change.gates().map(|r| r.flag).collect(),
            noted: change.flags.iter().any(|r| !r.flag.is_gate()),
            conflict: change.conflict.is_some(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    Tree,
    Diff,
}

/// What is to be done with the selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Apply,
    Discard,
}

/// A question before something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confirm {
    pub(super) verb: Verb,
    /// What will happen, line by line.
    pub(super) lines: Vec<String>,
    /// The gates that must be named.
    pub(super) gates: Vec<Flag>,
    /// What was typed so far.
    pub(super) typed: String,
    /// Why it cannot be done.
    pub(super) blocked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Normal,
    Help,
    Search(String),
    Confirm(Confirm),
    /// Something to be read, until a key is pressed.
    Notice(Vec<String>),
}

/// What has to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Quit,
    /// Read the session anew.
    Reload,
    /// Find out what an apply or discard of the selection would do, and ask.
    Ask(Verb),
    /// Do it, with these gates open.
    Do(Verb, Vec<Flag>),
}

/// The whole screen.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// The session's name, as shown.
    pub(super) session: String,
    pub(super) entries: Vec<Entry>,
    pub(super) tree: Tree,
    /// The nodes that are drawn.
    pub(super) rows: Vec<usize>,
    pub(super) picks: Vec<Pick>,
    pub(super) focus: Focus,
    /// Cursor and first row of the tree, among `rows`.
    pub(super) tree_at: usize,
    pub(super) tree_top: usize,
    /// Cursor and first row of the diff.
    pub(super) diff_at: usize,
    pub(super) diff_top: usize,
    /// Columns that lines are shifted by.
    pub(super) shift: usize,
    pub(super) side_by_side: bool,
    pub(super) mode: Mode,
    pub(super) sought: String,
    pub(super) message: Option<String>,
    pub(super) size: (u16, u16),
    shown: BTreeMap<usize, Arc<Shown>>,
}

/// Where things are on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panes {
    pub(super) head: Rect,
    pub(super) tree: Rect,
    pub(super) diff: Rect,
    pub(super) message: Rect,
    pub(super) keys: Rect,
}

impl State {
    pub(super) fn new(session: String, changes: &[Change]) -> Self {
        let tree = Tree::new(changes.iter().map(|c| c.path.as_bytes()));
        let rows = tree.shown();
        Self {
            session,
            entries: changes.iter().map(Entry::new).collect(),
            tree,
            rows,
            picks: vec![Pick::Nothing; changes.len()],
            focus: Focus::Tree,
            tree_at: 0,
            tree_top: 0,
            diff_at: 0,
            diff_top: 0,
            shift: 0,
            side_by_side: false,
            mode: Mode::Normal,
            sought: String::new(),
            message: None,
            size: (80, 24),
            shown: BTreeMap::new(),
        }
    }

    /// The panes of a screen of this size. A narrow one shows one pane at a time where two would be too small.
    pub(super) fn panes(&self) -> Panes {
        let (width, height) = self.size;
        let body = height.saturating_sub(3);
        let narrow = width < 60 || (self.side_by_side && width < 110);
        let tree = match (narrow, self.focus) {
            (true, Focus::Tree) => width,
            (true, Focus::Diff) => 0,
            (false, _) => (width * 3 / 10).clamp(24, 60),
        };
        // One column between the panes.
        let gap = u16::from(tree > 0 && tree < width);
        let row = |y: u16| Rect::new(0, y.min(height.saturating_sub(1)), width, u16::from(height > 0));
        Panes {
            head: row(0),
            tree: Rect::new(0, 1, tree, body),
            diff: Rect::new(tree + gap, 1, width.saturating_sub(tree + gap), body),
            message: row(height.saturating_sub(2)),
            keys: row(height.saturating_sub(1)),
        }
    }

    /// The node at the cursor.
    pub(super) fn node(&self) -> Option<usize> {
        self.rows.get(self.tree_at).copied()
    }

    /// The change at the cursor.
    pub(super) fn change(&self) -> Option<usize> {
        self.tree.nodes.get(self.node()?)?.change
    }

    /// The change that has to be loaded to draw the screen.
    pub(super) fn wanted(&self) -> Option<usize> {
        self.change().filter(|c| !self.shown.contains_key(c))
    }

    /// Takes a change that was loaded.
    pub(super) fn loaded(&mut self, change: usize, shown: Shown) {
        while self.shown.len() >= KEPT {
            let current = self.change();
            let far =
                self.shown.keys().copied().filter(|k| Some(*k) != current).max_by_key(|k| k.abs_diff(change));
            match far {
                Some(far) => self.shown.remove(&far),
                None => break,
            };
        }
        self.shown.insert(change, Arc::new(shown));
        self.settle();
    }

    /// The file at the cursor, if it is loaded.
    pub(super) fn file(&self) -> Option<&Arc<Shown>> {
        self.shown.get(&self.change()?)
    }

    /// The rows of the diff pane.
    pub(super) fn diff_rows(&self) -> &[Row] {
        match self.file() {
            Some(file) if self.side_by_side => &file.sides,
            Some(file) => &file.unified,
            None => &[],
        }
    }

    /// How much of a node is chosen.
    pub(super) fn mark(&self, node: usize) -> Mark {
        let pick = |c: usize| self.picks.get(c).map_or(Mark::No, Pick::mark);
        Mark::of(self.tree.changes(node).map(pick))
    }

    /// How many changes are chosen, whole and in part.
    pub(super) fn chosen(&self) -> (usize, usize) {
        let count = |mark| self.picks.iter().filter(|p| p.mark() == mark).count();
        (count(Mark::Yes), count(Mark::Part))
    }

    /// What is chosen, by change.
    pub(super) fn takes(&self) -> Vec<(usize, Take)> {
        self.picks.iter().enumerate().filter_map(|(n, p)| Some((n, p.take()?))).collect()
    }

    /// Keeps cursors on rows that exist, and in sight.
    pub(super) fn settle(&mut self) {
        let panes = self.panes();
        self.tree_at = self.tree_at.min(self.rows.len().saturating_sub(1));
        let rows = self.diff_rows().len();
        self.diff_at = self.diff_at.min(rows.saturating_sub(1));
        self.tree_top = in_sight(self.tree_top, self.tree_at, panes.tree.height);
        self.diff_top = in_sight(self.diff_top, self.diff_at, panes.diff.height);
    }

    /// Moves the tree's cursor; another file begins at its top.
    pub(super) fn go_to_row(&mut self, row: usize) {
        let row = row.min(self.rows.len().saturating_sub(1));
        if row != self.tree_at {
            (self.tree_at, self.diff_at, self.diff_top, self.shift) = (row, 0, 0, 0);
        }
    }

    /// Shows the node of a change, opening what it lies in.
    pub(super) fn reveal(&mut self, node: usize) {
        let mut at = self.tree.parent(node);
        while let Some(dir) = at {
            if let Some(dir) = self.tree.nodes.get_mut(dir) {
                dir.is_open = true;
            }
            at = self.tree.parent(dir);
        }
        self.rows = self.tree.shown();
        if let Ok(row) = self.rows.binary_search(&node) {
            self.go_to_row(row);
        }
    }

    /// Opens or closes a directory.
    pub(super) fn fold(&mut self, node: usize, open: bool) -> bool {
        let Some(dir) = self.tree.nodes.get_mut(node).filter(|n| n.is_dir && n.is_open != open) else {
            return false;
        };
        dir.is_open = open;
        self.rows = self.tree.shown();
        true
    }

    /// Chooses all of a node, or takes all of it out.
    pub(super) fn toggle_node(&mut self, node: usize) {
        let pick = if self.mark(node) == Mark::Yes { Pick::Nothing } else { Pick::All };
        let changes: Vec<usize> = self.tree.changes(node).collect();
        for change in changes {
            if let Some(slot) = self.picks.get_mut(change) {
                slot.clone_from(&pick);
            }
        }
    }

    /// Chooses everything, or nothing.
    pub(super) fn toggle_all(&mut self) {
        let all = self.picks.iter().all(|p| *p == Pick::All);
        self.picks.fill(if all { Pick::Nothing } else { Pick::All });
    }

    /// Chooses the line at the cursor (`hunk`: its whole hunk), or takes it out. What has no parts is chosen whole.
    pub(super) fn toggle_row(&mut self, hunk: bool) {
        let (Some(change), Some(node), Some(file)) = (self.change(), self.node(), self.file().cloned())
        else {
            return;
        };
        let Some(parts) = &file.parts else { return self.toggle_node(node) };
        let Some(row) = self.diff_rows().get(self.diff_at).cloned() else { return };
        let Some(pick) = self.picks.get_mut(change) else { return };
        let of_hunk = |h: usize| file.hunks.get(h).cloned().unwrap_or_default();
        match (&row, row.hunk()) {
            (Row::Attrs(_), _) => pick.toggle_attrs(parts),
            (Row::Hunk(..), Some(h)) => pick.toggle_lines(parts, &of_hunk(h)),
            (_, Some(h)) if hunk => pick.toggle_lines(parts, &of_hunk(h)),
            (_, Some(_)) if !row.ids().is_empty() => pick.toggle_lines(parts, &row.ids()),
            (_, Some(_)) => self.message = Some("this line is not changed".to_owned()),
            (_, None) => self.toggle_node(node),
        }
    }

    /// Goes to the next or last heading of a hunk.
    pub(super) fn go_to_hunk(&mut self, forward: bool) {
        let rows = self.diff_rows();
        let is_head = |n: &usize| matches!(rows.get(*n), Some(Row::Hunk(..)));
        let found = if forward {
            (self.diff_at + 1..rows.len()).find(is_head)
        } else {
            (0..self.diff_at).rev().find(is_head)
        };
        match found {
            Some(row) => self.diff_at = row,
            None => self.message = Some(format!("no {} hunk", if forward { "next" } else { "previous" })),
        }
    }

    /// Goes to the next or last file.
    pub(super) fn go_to_file(&mut self, forward: bool) {
        let is_file = |n: &usize| {
            let node = self.rows.get(*n).and_then(|r| self.tree.nodes.get(*r));
            node.is_some_and(|n| n.change.is_some())
        };
        let found = if forward {
            (self.tree_at + 1..self.rows.len()).find(is_file)
        } else {
            (0..self.tree_at).rev().find(is_file)
        };
        match found {
            Some(row) => self.go_to_row(row),
            None => self.message = Some(format!("no {} file", if forward { "next" } else { "previous" })),
        }
    }

    /// Goes to the next (or last) place with the sought text, around the end: a path in the tree, a line in the diff.
    pub(super) fn seek(&mut self, forward: bool) {
        if self.sought.is_empty() {
            return;
        }
        let exact = self.sought.chars().any(char::is_uppercase);
        let sought = self.sought.clone();
        let hit = |text: &str| {
            if exact { text.contains(&sought) } else { text.to_lowercase().contains(&sought) }
        };
        let around = |at: usize, len: usize| {
            (1..=len).map(move |n| if forward { (at + n) % len } else { (at + len - n % len) % len })
        };
        let found = match self.focus {
            Focus::Tree => {
                let at = self.node().unwrap_or(0);
                let text = |n: &usize| {
                    let node = self.tree.nodes.get(*n);
                    let path = node.and_then(|n| n.change).and_then(|c| self.entries.get(c));
                    path.map(|e| e.path.clone()).or(node.map(|n| n.label.clone())).unwrap_or_default()
                };
                let found = around(at, self.tree.nodes.len()).find(|n| hit(&text(n)));
                if let Some(node) = found {
                    self.reveal(node);
                }
                found
            }
            Focus::Diff => {
                let rows = self.diff_rows();
                let found = around(self.diff_at, rows.len())
                    .find(|n| rows.get(*n).is_some_and(|r| hit(&self.row_text(r))));
                self.diff_at = found.unwrap_or(self.diff_at);
                found
            }
        };
        if found.is_none() {
            self.message = Some(format!("`{}` is not found", self.sought));
        }
    }

    fn row_text(&self, row: &Row) -> String {
        let cell = |code: usize| -> String {
            let code = self.file().and_then(|f| f.code.get(code));
            code.map(|c| c.iter().map(|(_, t)| t.as_str()).collect()).unwrap_or_default()
        };
        match row {
            Row::Text(_, text) | Row::Attrs(text) | Row::Hunk(_, text) => text.clone(),
            Row::Line(_, line) => cell(line.code),
            Row::Pair(_, left, right) => {
                [left, right].into_iter().flatten().map(|c| cell(c.code)).collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// What the diff pane says of a directory.
    pub(super) fn directory(&self, node: usize, limit: usize) -> Vec<(Say, String)> {
        let mut rows = Vec::new();
        let total = self.tree.changes(node).count();
        rows.push((Say::Fact, super::super::ui::count(total, "change", "changes")));
        for entry in self.tree.changes(node).filter_map(|c| self.entries.get(c)).take(limit) {
            let gates: Vec<&str> = entry.gates.iter().map(|f| f.as_str()).collect();
            let say = match (entry.conflict, gates.is_empty()) {
                (true, _) => Say::Conflict,
                (false, false) => Say::Gate,
                (false, true) => Say::Note,
            };
            let flags = if gates.is_empty() { String::new() } else { format!("   {}", gates.join(" ")) };
            rows.push((say, format!("{} {}{flags}", entry.letter, entry.path)));
        }
        if total > limit {
            rows.push((Say::Fact, format!("… and {} more", total - limit)));
        }
        rows
    }
}

/// The first row to draw so that the cursor is in sight.
fn in_sight(top: usize, at: usize, height: u16) -> usize {
    let height = usize::from(height).max(1);
    if at < top { at } else { top.max((at + 1).saturating_sub(height)) }
}
