//! Keys and mouse, turned into steps of the [`State`].

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::state::{Confirm, Effect, Focus, Mode, State, Verb};

/// Rows that a turn of the wheel moves.
const WHEEL: isize = 3;

/// Columns that lines are shifted by at once.
const SHIFT: usize = 8;

impl State {
    /// Answers a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Effect {
        self.message = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Effect::Quit;
        }
        let effect = match std::mem::replace(&mut self.mode, Mode::Normal) {
            Mode::Normal => self.normal(key),
            // Any key leaves it.
            Mode::Help | Mode::Notice(_) => Effect::Nothing,
            Mode::Search(text) => self.search(text, key.code),
            Mode::Confirm(confirm) => self.confirm(confirm, key.code),
        };
        self.settle();
        effect
    }

    fn normal(&mut self, key: KeyEvent) -> Effect {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let page = isize::from(i16::try_from(self.panes().diff.height.max(2) - 1).unwrap_or(i16::MAX));
        match (key.code, control) {
            (KeyCode::Char('q'), _) => return Effect::Quit,
            (KeyCode::Char('A'), _) => return self.ask(Verb::Apply),
            (KeyCode::Char('D'), _) => return self.ask(Verb::Discard),
            (KeyCode::Char('R'), _) => return Effect::Reload,
            (KeyCode::Char('?') | KeyCode::F(1), _) => self.mode = Mode::Help,
            (KeyCode::Char('/'), _) => self.mode = Mode::Search(String::new()),
            (KeyCode::Char('n'), _) => self.seek(true),
            (KeyCode::Char('N'), _) => self.seek(false),
            (KeyCode::Char('v'), _) => self.turn(),
            (KeyCode::Char('a'), _) => self.toggle_all(),
            (KeyCode::Char('f'), _) => {
                if let Some(node) = self.node() {
                    self.toggle_node(node);
                }
            }
            (KeyCode::Char('J'), _) => self.go_to_file(true),
            (KeyCode::Char('K'), _) => self.go_to_file(false),
            (KeyCode::Char('>'), _) => self.shift += SHIFT,
            (KeyCode::Char('<'), _) => self.shift = self.shift.saturating_sub(SHIFT),
            (KeyCode::Char('j') | KeyCode::Down, _) => self.step(1),
            (KeyCode::Char('k') | KeyCode::Up, _) => self.step(-1),
            (KeyCode::PageDown, _) | (KeyCode::Char('d'), true) => self.step(page),
            (KeyCode::PageUp, _) | (KeyCode::Char('u'), true) => self.step(-page),
            (KeyCode::Home | KeyCode::Char('g'), _) => self.step(isize::MIN),
            (KeyCode::End | KeyCode::Char('G'), _) => self.step(isize::MAX),
            (KeyCode::Tab | KeyCode::BackTab, _) => {
                self.focus = if self.focus == Focus::Tree { Focus::Diff } else { Focus::Tree };
            }
            (code, _) => match self.focus {
                Focus::Tree => self.tree_key(code),
                Focus::Diff => self.diff_key(code),
            },
        }
        Effect::Nothing
    }

    fn ask(&mut self, verb: Verb) -> Effect {
        if self.chosen() == (0, 0) {
            self.message = Some("nothing is chosen: space chooses a file, a hunk or a line".to_owned());
            return Effect::Nothing;
        }
        Effect::Ask(verb)
    }

    /// The other way to show a diff, at the same hunk.
    fn turn(&mut self) {
        let hunk = self.diff_rows().get(self.diff_at).and_then(|r| r.hunk());
        self.side_by_side = !self.side_by_side;
        let same = self.diff_rows().iter().position(|r| hunk.is_some() && r.hunk() == hunk);
        (self.diff_at, self.diff_top) = (same.unwrap_or(0), same.unwrap_or(0));
    }

    /// Moves the cursor of the pane in focus.
    fn step(&mut self, by: isize) {
        match self.focus {
            Focus::Tree => self.go_to_row(self.tree_at.saturating_add_signed(by)),
            Focus::Diff => self.diff_at = self.diff_at.saturating_add_signed(by),
        }
    }

    fn tree_key(&mut self, code: KeyCode) {
        let Some(node) = self.node() else { return };
        match code {
            KeyCode::Char(' ') => {
                self.toggle_node(node);
                self.step(1);
            }
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => {
                if self.fold(node, true) {
                } else if self.change().is_some() {
                    self.focus = Focus::Diff;
                } else if code == KeyCode::Enter {
                    self.fold(node, false);
                } else {
                    self.step(1);
                }
            }
            KeyCode::Left | KeyCode::Char('h') => {
                if !self.fold(node, false)
                    && let Some(parent) = self.tree.parent(node)
                    && let Ok(row) = self.rows.binary_search(&parent)
                {
                    self.go_to_row(row);
                }
            }
            _ => {}
        }
    }

    fn diff_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(' ') => {
                self.toggle_row(false);
                self.step(1);
            }
            KeyCode::Enter | KeyCode::Char('t') => self.toggle_row(true),
            KeyCode::Char(']' | '}') => self.go_to_hunk(true),
            KeyCode::Char('[' | '{') => self.go_to_hunk(false),
            KeyCode::Left | KeyCode::Esc | KeyCode::Char('h') => self.focus = Focus::Tree,
            _ => {}
        }
    }

    fn search(&mut self, mut text: String, code: KeyCode) -> Effect {
        match code {
            KeyCode::Enter => {
                if !text.is_empty() {
                    self.sought = text;
                }
                self.seek(true);
                return Effect::Nothing;
            }
            KeyCode::Esc => return Effect::Nothing,
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Char(c) => text.push(c),
            _ => {}
        }
        self.mode = Mode::Search(text);
        Effect::Nothing
    }

    fn confirm(&mut self, mut confirm: Confirm, code: KeyCode) -> Effect {
        match code {
            KeyCode::Esc => return Effect::Nothing,
            _ if confirm.blocked => return Effect::Nothing,
            KeyCode::Char('y' | 'Y') if confirm.gates.is_empty() => {
                return Effect::Do(confirm.verb, Vec::new());
            }
            _ if confirm.gates.is_empty() => return Effect::Nothing,
            KeyCode::Enter => {
                let words: Vec<&str> = confirm.typed.split([' ', ',']).collect();
                match confirm.gates.iter().find(|g| !words.contains(&g.as_str())) {
                    None => return Effect::Do(confirm.verb, confirm.gates),
                    Some(closed) => self.message = Some(format!("{closed} was not named")),
                }
            }
            KeyCode::Backspace => {
                confirm.typed.pop();
            }
            KeyCode::Char(c) => confirm.typed.push(c),
            _ => {}
        }
        self.mode = Mode::Confirm(confirm);
        Effect::Nothing
    }

    /// Answers the mouse.
    pub(super) fn mouse(&mut self, mouse: MouseEvent) {
        if self.mode != Mode::Normal {
            return;
        }
        let panes = self.panes();
        let at = Position::new(mouse.column, mouse.row);
        let (in_tree, in_diff) = (panes.tree.contains(at), panes.diff.contains(at));
        match mouse.kind {
            MouseEventKind::ScrollDown | MouseEventKind::ScrollUp if in_tree || in_diff => {
                let by = if mouse.kind == MouseEventKind::ScrollDown { WHEEL } else { -WHEEL };
                self.focus = if in_tree { Focus::Tree } else { Focus::Diff };
                self.step(by);
            }
            MouseEventKind::Down(MouseButton::Left) if in_tree => {
                let row = self.tree_top + usize::from(mouse.row - panes.tree.y);
                let Some(node) = self.rows.get(row).copied() else { return };
                self.focus = Focus::Tree;
                let indent = self.tree.nodes.get(node).map_or(0, |n| n.depth * 2);
                let column = usize::from(mouse.column - panes.tree.x);
                let again = row == self.tree_at;
                self.go_to_row(row);
                if (indent..indent + 3).contains(&column) {
                    self.toggle_node(node);
                } else if again && !self.fold(node, true) {
                    self.fold(node, false);
                }
            }
            MouseEventKind::Down(MouseButton::Left) if in_diff => {
                let row = self.diff_top + usize::from(mouse.row - panes.diff.y);
                self.focus = Focus::Diff;
                if row < self.diff_rows().len() {
                    self.diff_at = row;
                    if mouse.column < panes.diff.x + 2 {
                        self.toggle_row(false);
                    }
                }
            }
            _ => {}
        }
        self.settle();
    }

    /// The screen has another size.
    pub(super) fn resize(&mut self, width: u16, height: u16) {
        self.size = (width, height);
        self.settle();
    }
}
