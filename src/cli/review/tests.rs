//! The reviewer without a terminal: keys go in, a picture and a selection come out.

use expect_test::{Expect, expect};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::style::Color;

use super::file::Shown;
use super::pick::{Mark, Pick};
use super::state::{Confirm, Effect, Focus, Mode, State, Verb};
use super::view::{Paint, draw};
use crate::apply::Take;
use crate::apply::tests::lab::{Lab, chmod};
use crate::change::{Change, Flag, Sides};

/// A session with changes of several sorts, and its reviewer.
struct Desk {
    lab: Lab,
    changes: Vec<Change>,
    state: State,
}

const CODE: &str = "use std::fs;\n\nfn main() {\n    let a = 1;\n    let b = 2;\n    let c = 3;\n    let d = 4;\n    let e = 5;\n    let f = 6;\n    let g = 7;\n    let h = 8;\n    let i = 9;\n    let j = 10;\n}\n";

impl Desk {
    fn new() -> Self {
        let lab = Lab::new();
        lab.put("src/main.rs", CODE);
        lab.put("gone.txt", "bye\n");
        lab.put("pic", b"\0\x01");
        lab.agent_writes(
            "src/main.rs",
            CODE.replace("use std::fs;", "use std::io;")
                .replace("    let j = 10;", "    let j = 11;\n    // \u{1b}[31mred\u{202e}"),
        );
        lab.agent_deletes("gone.txt");
        lab.agent_writes("pic", b"\0\x02\x03");
        lab.agent_writes("tools/deep/run.sh", "#!/bin/sh\nexit 0\n");
        chmod(&lab.up().join("tools/deep/run.sh"), 0o755);
        let changes: Vec<Change> = lab.scan().listed().cloned().collect();
        let state = State::new("shop".into(), &changes);
        let mut desk = Self { lab, changes, state };
        desk.load();
        desk
    }

    fn load(&mut self) {
        while let Some(change) = self.state.wanted() {
            let sides = Sides::new(&self.lab.judge, &self.lab.upper, &self.lab.base);
            self.state.loaded(change, Shown::load(&sides, &self.changes[change]));
        }
    }

    fn press(&mut self, keys: &str) -> Effect {
        let mut effect = Effect::Nothing;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{1b}' => KeyCode::Esc,
                '\u{8}' => KeyCode::Backspace,
                c => KeyCode::Char(c),
            };
            effect = self.state.key(KeyEvent::new(code, KeyModifiers::NONE));
            self.load();
        }
        effect
    }

    fn picture(&mut self, width: u16, height: u16, colour: bool) -> Terminal<TestBackend> {
        self.state.resize(width, height);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &self.state, Paint(colour))).unwrap();
        terminal
    }

    fn shows(&mut self, width: u16, height: u16, expected: &Expect) {
        let picture = self.picture(width, height, false);
        let buffer = picture.backend().buffer();
        let rows = buffer.content().chunks(usize::from(width));
        let text: Vec<String> = rows
            .map(|row| row.iter().map(|c| c.symbol()).collect::<String>().trim_end().to_owned())
            .collect();
        expected.assert_eq(&(text.join("\n").trim_end().to_owned() + "\n"));
    }

    fn pick(&self, path: &str) -> &Pick {
        let at = self.changes.iter().position(|c| c.path.to_string() == path).unwrap();
        &self.state.picks[at]
    }

    fn click(&mut self, column: u16, row: u16) {
        let kind = MouseEventKind::Down(MouseButton::Left);
        self.state.mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE });
        self.load();
    }
}

#[test]
fn the_first_screen() {
    Desk::new().shows(
        80,
        14,
        &expect![[r#"
         scrubfs review shop · 4 changes · 2 behind gates
        [ ] D gone.txt          │deleted gone.txt
        [ ] M pic               │file
        [ ] ▾ src/              │[ ] @@ -1,1 +0,0 @@
          [ ] M main.rs        !│ -  1 bye
        [ ] ▾ tools/deep/       │
          [ ] A run.sh         !│
                                │
                                │
                                │
                                │
                                │
         1 hunk  gone.txt
         ? help  q quit  space choose  Enter open  A apply  D discard  v side by side
    "#]],
    );
}

#[test]
fn a_file_is_looked_at_and_its_lines_are_chosen() {
    let mut desk = Desk::new();
    desk.press("jjj\n]jjj");
    desk.press("jj ");
    desk.shows(
        80,
        24,
        &expect![[r#"
         scrubfs review shop · 4 changes · 2 behind gates
        [ ] D gone.txt          │modified src/main.rs
        [ ] M pic               │gate bidi: line 14 holds U+202E: characters that make …
        [ ] ▾ src/              │[ ] @@ -1,4 +1,4 @@
          [ ] M main.rs        !│ -  1 use std::fs;
        [ ] ▾ tools/deep/       │ +  1 use std::io;
          [ ] A run.sh         !│    2
                                │    3 fn main() {
                                │    4     let a = 1;
                                │[ ] @@ -10,5 +10,6 @@ fn main() {
                                │   10     let g = 7;
                                │   11     let h = 8;
                                │   12     let i = 9;
                                │ - 13     let j = 10;
                                │ + 13     let j = 11;
                                │ + 14     // \u{1b}[31mred\u{202e}
                                │   15 }
                                │
                                │
                                │
                                │
                                │
         this line is not changed
         ? help  q quit  space line  t hunk  f file  ] next hunk  J next file  A apply
    "#]],
    );
    desk.press("[j ");
    assert_eq!(desk.pick("src/main.rs").mark(), Mark::Part);
}

#[test]
fn side_by_side() {
    let mut desk = Desk::new();
    desk.press("jjj\nv");
    desk.shows(120, 20, &expect![[r#"
         scrubfs review shop · 4 changes · 2 behind gates
        [ ] D gone.txt                      │modified src/main.rs
        [ ] M pic                           │gate bidi: line 14 holds U+202E: characters that make text read differently from w…
        [ ] ▾ src/                          │[ ] @@ -1,4 +1,4 @@
          [ ] M main.rs                    !│ -  1 use std::fs;                       │ +  1 use std::io;
        [ ] ▾ tools/deep/                   │    2                                    │    2
          [ ] A run.sh                     !│    3 fn main() {                        │    3 fn main() {
                                            │    4     let a = 1;                     │    4     let a = 1;
                                            │[ ] @@ -10,5 +10,6 @@ fn main() {
                                            │   10     let g = 7;                     │   10     let g = 7;
                                            │   11     let h = 8;                     │   11     let h = 8;
                                            │   12     let i = 9;                     │   12     let i = 9;
                                            │ - 13     let j = 10;                    │ + 13     let j = 11;
                                            │                                         │ + 14     // \u{1b}[31mred\u{202e}
                                            │   14 }                                  │   15 }
                                            │
                                            │
                                            │
         2 hunks  src/main.rs
         ? help  q quit  space line  t hunk  f file  ] next hunk  J next file  A apply  v side by side  / search  < > shift
    "#]]);
    // Where two panes are too narrow for it, the diff has the screen.
    assert_eq!(desk.state.panes().diff.width, 120 - 36 - 1);
    desk.state.resize(80, 24);
    assert_eq!(desk.state.panes().diff.width, 80);
}

#[test]
fn a_narrow_screen_shows_one_pane() {
    let mut desk = Desk::new();
    desk.shows(
        40,
        8,
        &expect![[r#"
         scrubfs review shop · 4 changes · 2 beh
        [ ] D gone.txt
        [ ] M pic
        [ ] ▾ src/
          [ ] M main.rs                        !
        [ ] ▾ tools/deep/
         1 hunk  gone.txt
         ? help  q quit  space choose
    "#]],
    );
    for (width, height) in [(1, 1), (3, 2), (10, 3), (300, 100), (0, 0)] {
        desk.picture(width, height, true);
        desk.press("\t");
    }
}

#[test]
fn nothing_to_review_is_said() {
    let mut desk = Desk::new();
    desk.state = State::new("shop".into(), &[]);
    desk.shows(
        60,
        6,
        &expect![[r#"
         scrubfs review shop · 0 changes
        Nothing was changed.    │
                                │
                                │

         ? help  q quit  space choose  Enter open  A apply
    "#]],
    );
    assert_eq!(desk.press("j A\n\t t]nNvafJK"), Effect::Nothing);
}

#[test]
fn hostile_content_is_drawn_as_escapes() {
    let mut desk = Desk::new();
    desk.press("jjj\nG");
    let picture = desk.picture(120, 40, true);
    let text: String = picture.backend().buffer().content().iter().map(|c| c.symbol()).collect();
    assert!(text.contains("\\u{1b}[31mred\\u{202e}"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'));
}

#[test]
fn colour_says_nothing_that_signs_do_not_say() {
    let mut desk = Desk::new();
    desk.press("jjj\n");
    let plain = desk.picture(100, 30, false);
    let coloured = desk.picture(100, 30, true);
    let symbols = |t: &Terminal<TestBackend>| -> String {
        t.backend().buffer().content().iter().map(|c| c.symbol()).collect()
    };
    assert_eq!(symbols(&plain), symbols(&coloured));
    let colours = |t: &Terminal<TestBackend>| {
        t.backend().buffer().content().iter().any(|c| c.fg != Color::Reset || c.bg != Color::Reset)
    };
    assert!(!colours(&plain) && colours(&coloured));
}

#[test]
fn files_directories_and_everything_can_be_chosen() {
    let mut desk = Desk::new();
    desk.press(" ");
    assert_eq!(desk.pick("gone.txt"), &Pick::All);
    desk.press("j ");
    assert_eq!(desk.pick("src/main.rs"), &Pick::All);
    desk.press("a");
    assert_eq!(desk.state.chosen(), (desk.changes.len(), 0));
    desk.press("a");
    assert!(desk.state.takes().is_empty());
    desk.press("/run\nf");
    assert_eq!(desk.state.takes().len(), 1);
}

#[test]
fn a_directory_folds_and_search_opens_it() {
    let mut desk = Desk::new();
    let rows = desk.state.rows.len();
    desk.press("jjh");
    assert_eq!(desk.state.rows.len(), rows - 1);
    desk.press("/MAIN\n");
    assert!(desk.state.message.as_ref().unwrap().contains("not found"));
    desk.press("/main\n");
    assert_eq!((desk.state.rows.len(), desk.state.change().is_some()), (rows, true));
}

#[test]
fn lines_and_hunks_become_the_parts_of_a_plan() {
    let mut desk = Desk::new();
    desk.press("/main\n\n]");
    assert_eq!(desk.state.focus, Focus::Diff);
    desk.press("t");
    let takes = desk.state.takes();
    assert!(matches!(&takes[..], [(_, Take::Lines { lines, .. })] if !lines.is_empty()), "{takes:?}");
    desk.press("]t");
    assert_eq!(desk.pick("src/main.rs"), &Pick::All);
    desk.press("[t");
    assert_eq!(desk.pick("src/main.rs").mark(), Mark::Part);
    // What has no parts is chosen whole, from its diff too.
    desk.press("\u{1b}/gone\n\n t");
    desk.press("t");
    assert_eq!(desk.pick("gone.txt"), &Pick::All);
}

#[test]
fn the_mouse_chooses_and_moves() {
    let mut desk = Desk::new();
    desk.state.resize(100, 24);
    desk.click(1, 1);
    assert_eq!(desk.pick("gone.txt"), &Pick::All);
    desk.press("/main\n");
    let x = desk.state.panes().diff.x;
    desk.click(x + 10, 3);
    assert_eq!((desk.state.focus, desk.state.diff_at), (Focus::Diff, 2));
    let down = MouseEventKind::ScrollDown;
    desk.state.mouse(MouseEvent { kind: down, column: x, row: 5, modifiers: KeyModifiers::NONE });
    assert_eq!(desk.state.diff_at, 5);
    // A click outside everything does nothing.
    desk.click(99, 23);
}

#[test]
fn nothing_is_done_without_a_selection_or_a_word() {
    let mut desk = Desk::new();
    assert_eq!(desk.press("A"), Effect::Nothing);
    assert!(desk.state.message.is_some());
    assert_eq!(desk.press(" A"), Effect::Ask(Verb::Apply));
    let ask = |gates: Vec<Flag>, blocked| {
        let lines = vec!["Write 1 change to /ws:".to_owned()];
        Mode::Confirm(Confirm { verb: Verb::Apply, lines, gates, typed: String::new(), blocked })
    };
    desk.state.mode = ask(Vec::new(), false);
    assert_eq!(desk.press("x"), Effect::Nothing);
    desk.state.mode = ask(Vec::new(), false);
    assert_eq!(desk.press("y"), Effect::Do(Verb::Apply, Vec::new()));
    desk.state.mode = ask(vec![Flag::ExecBit, Flag::Secret], false);
    assert_eq!(desk.press("exec-bit\n"), Effect::Nothing);
    assert_eq!(desk.state.message.as_deref(), Some("secret was not named"));
    desk.shows(
        80,
        12,
        &expect![[r#"
         scrubfs review shop · 4 changes · 1 chosen · 2 behind gates
        [x] D gone.txt          │modified pic
        [ ] M pic               │binary or large content: 2 → 3 bytes
        [ ] ▾ sr┌ Apply ──────────────────────────────────────────────────────┐
          [ ] M │ Write 1 change to /ws:                                      │
        [ ] ▾ to│                                                             │
          [ ] A │ To let these through, type exec-bit secret and press Enter: │
                │ > exec-bit▏                                                 │
                └─────────────────────────────────────────────────────────────┘
                                │
         secret was not named
         Enter do it  Esc leave
    "#]],
    );
    assert_eq!(desk.press(" secret\n"), Effect::Do(Verb::Apply, vec![Flag::ExecBit, Flag::Secret]));
    desk.state.mode = ask(Vec::new(), true);
    assert_eq!(desk.press("y"), Effect::Nothing);
}

#[test]
fn help_fits_a_small_screen() {
    let mut desk = Desk::new();
    desk.press("?");
    desk.shows(
        80,
        24,
        &expect![[r#"
         scrubfs review shop · 4 changes · 2 behind gates
        [ ] D gone.txt          │deleted gone.txt
        [ ] M pic               │file
        [ ] ▾ src/              │[ ] @@ -1,1 +0,0 @@
          [ ]┌ Keys ─────────────────────────────────────────────────────────────┐
        [ ] ▾│ ↑ ↓  j k  PgUp PgDn  g G   move                                   │
          [ ]│ Enter →  ← Esc  Tab        into the diff, back to the tree        │
             │ space                      choose a file, a directory, a line     │
             │ t Enter  f  a              choose the hunk, the file, everything  │
             │ ] [   J K                  next, previous hunk; file              │
             │ v   < >                    side by side or not; shift long lines  │
             │ /  n N                     search paths (tree) or lines (diff)    │
             │ A   D                      apply, discard what is chosen          │
             │ R   q                      read the session anew; quit            │
             │ mouse                      click moves, a click on a mark chooses │
             │                                                                   │
             │ [x] chosen  [~] in part   ! gate  × conflict  · note              │
             │ A M D R T: added, modified, deleted, renamed, type                │
             └───────────────────────────────────────────────────────────────────┘
                                │
                                │
                                │
         1 hunk  gone.txt
         any key back
    "#]],
    );
}

#[test]
fn many_changes_are_drawn_quickly() {
    let mut desk = Desk::new();
    let one = desk.changes[0].clone();
    let many = |n: usize| {
        let path = crate::path::RelPath::parse(format!("d{}/f{n}", n % 100)).unwrap();
        Change { path, ..one.clone() }
    };
    let changes: Vec<Change> = (0..10_000).map(many).collect();
    desk.state = State::new("shop".into(), &changes);
    let begun = std::time::Instant::now();
    for key in "jjj  aGgn/f99\n".chars() {
        let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
        desk.state.key(KeyEvent::new(code, KeyModifiers::NONE));
        desk.picture(200, 50, true);
    }
    // Generous: a debug build on a busy machine.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert_eq!(desk.state.sought, "f99");
}
