//! `apply -p` and `discard -p`: the changes one by one in the line terminal, with the keys of `git add -p`. What is shown comes from the
//! change model that apply plans with, and a choice holds for the state that was shown: if either side has moved on when all
//! is answered, nothing is done. The session is not held while a person reads.

mod edit;
mod keys;
mod show;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use super::target::Target;
use super::ui::{Label, count};
use super::{CliError, Result, Ui};
use crate::apply::{self, Options, Part, Take, keep_edit, matching};
use crate::change::{Body, Change, ChangeKind, ChangeSet, Flag, Sides, TextDiff, file_diff};
use crate::sys::FileType;

use keys::{Answers, Typed};
pub(super) use show::facts;
use walk::{Outcome, Walk, What};

/// What is done with what is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// It goes to lower.
    Apply,
    /// It leaves upper.
    Discard,
}

/// How the questions ended.
pub(super) enum Chosen {
    /// With these parts.
    Parts(Vec<Part>),
    /// By Ctrl-C: nothing is meant.
    Interrupted,
}

/// Asks about all changes that the options mean, and then for the names of the gates that what was chosen meets.
pub(super) fn choose(
    look: &Target,
    set: &ChangeSet,
    options: &Options,
    verb: Verb,
    ui: &mut Ui,
) -> Result<Chosen> {
    let changes: Vec<&Change> = matching(set, &options.paths)?.into_iter().filter(|c| !c.implied).collect();
    let mut asker = Asker { look, set, options, verb, changes, walks: Vec::new(), answers: Answers::new() };
    if asker.changes.is_empty() {
        ui.say("there are no changes");
    }
    if !asker.ask_all(ui)? {
        return Ok(Chosen::Interrupted);
    }
    let parts = asker.parts()?;
    Ok(Chosen::Parts(match verb {
        Verb::Apply => asker.name_gates(parts, ui)?,
        Verb::Discard => parts,
    }))
}

struct Asker<'a> {
    look: &'a Target,
    set: &'a ChangeSet,
    options: &'a Options,
    verb: Verb,
    changes: Vec<&'a Change>,
    /// Of the changes that were come to, in their order.
    walks: Vec<Walk>,
    answers: Answers,
}

/// Where to go after a command.
enum Next {
    /// The same file goes on.
    Stay,
    /// The file was come to from elsewhere: its heading is shown again.
    Moved(usize),
    Quit,
    Interrupt,
}

impl Asker<'_> {
    /// False if it was interrupted.
    fn ask_all(&mut self, ui: &mut Ui) -> Result<bool> {
        let mut file = 0;
        let mut arrived = true;
        while let Some(change) = self.changes.get(file).copied() {
            if self.walks.len() == file {
                let walk = self.open(change, ui)?;
                self.walks.push(walk);
            } else if arrived {
                show::heading(self.sides(), change, ui)?;
            }
            let Some(walk) = self.walks.get(file).filter(|w| w.current().is_some()) else {
                (file, arrived) = (file + 1, true);
                continue;
            };
            show::ask(self.sides(), change, walk, show::CUT, ui)?;
            match self.command(file, change, ui)? {
                Next::Stay => arrived = false,
                Next::Moved(to) => (file, arrived) = (to, true),
                Next::Quit => return Ok(true),
                Next::Interrupt => return Ok(false),
            }
        }
        Ok(true)
    }

    fn sides(&self) -> Sides<'_> {
        let layers = &self.look.layers;
        Sides::new(&layers.judge, &layers.upper, &layers.base)
    }

    /// The walk through a change, its heading shown. One without questions, if it cannot be taken at all.
    fn open(&self, change: &Change, ui: &mut Ui) -> Result<Walk> {
        show::heading(self.sides(), change, ui)?;
        if self.verb == Verb::Discard {
            return Ok(Walk::new(change, text_of(self.sides(), change)));
        }
        if change.has(Flag::GitInternal) {
            ui.line("git's own data is never applied as files; skipped")?;
            return Ok(Walk::empty());
        }
        if change.conflict.is_some()
            && let Some(reason) = self.refusal(change)?
        {
            let label = ui.out_palette.paint(Label::Error, "cannot be applied:");
            ui.line(format_args!("{label} {reason}; skipped"))?;
            return Ok(Walk::empty());
        }
        Ok(Walk::new(change, text_of(self.sides(), change)))
    }

    /// Why a change could not be applied even alone and whole.
    fn refusal(&self, change: &Change) -> Result<Option<String>> {
        let options = Options {
            parts: vec![Part::new(change, Take::Whole)],
            paths: Vec::new(),
            ..self.options.clone()
        };
        let plan = apply::plan(&self.look.site(), self.set, &options)?;
        Ok(plan.conflicts.into_iter().find(|c| c.path == change.path).map(|c| c.reason.to_string()))
    }

    /// Asks for one command and follows it.
    fn command(&mut self, file: usize, change: &Change, ui: &mut Ui) -> Result<Next> {
        let Some(walk) = self.walks.get_mut(file) else { return Ok(Next::Quit) };
        let keys = walk.keys() + if file > 0 || walk.has_past() { ",u,p,?" } else { ",p,?" };
        let place = format!("({}/{})", walk.at + 1, walk.asks.len());
        let verb = match self.verb {
            Verb::Apply => "Apply",
            Verb::Discard => "Discard",
        };
        let what = format!("{place} {verb} {} [{keys}]? ", show::object(change, walk));
        ui.prompt(ui.out_palette.paint(Label::Hint, what))?;
        let (key, argument) = match self.answers.command(ui)? {
            Typed::End => return Ok(Next::Quit),
            Typed::Interrupt => return Ok(Next::Interrupt),
            Typed::Command(key, argument) => (key, argument),
        };
        match key {
            'y' | 'n' => walk.answer(key == 'y'),
            'a' | 'd' => walk.answer_rest(key == 'a'),
            'q' => return Ok(Next::Quit),
            'j' | 'J' | 'k' | 'K' => {
                let forward = key.eq_ignore_ascii_case(&'j');
                if !walk.step(forward, key.is_ascii_lowercase()) {
                    ui.line(format_args!("No {} question", if forward { "next" } else { "previous" }))?;
                }
            }
            's' => match walk.split() {
                0 => ui.line("This cannot be split")?,
                parts => ui.line(format_args!("Split into {parts} hunks."))?,
            },
            'g' => go_to(walk, &self.answers, argument, ui)?,
            '/' => search(walk, &self.answers, argument, ui)?,
            'e' => edit_hunk(walk, self.verb, ui)?,
            'p' => {
                let layers = &self.look.layers;
                let sides = Sides::new(&layers.judge, &layers.upper, &layers.base);
                show::ask(sides, change, walk, usize::MAX, ui)?;
                return Ok(Next::Stay);
            }
            'u' => return self.undo(file, ui),
            _ => show::help(self.verb, ui)?,
        }
        Ok(Next::Stay)
    }

    /// Takes the last answer back, also in an earlier file.
    fn undo(&mut self, file: usize, ui: &mut Ui) -> Result<Next> {
        for at in (0..=file).rev() {
            if self.walks.get_mut(at).is_some_and(Walk::undo) {
                return Ok(if at == file { Next::Stay } else { Next::Moved(at) });
            }
        }
        ui.line("Nothing was answered yet")?;
        Ok(Next::Stay)
    }

    /// What was chosen.
    fn parts(&self) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for (change, walk) in self.changes.iter().zip(&self.walks) {
            let take = match walk.outcome(change, self.verb) {
                Outcome::Nothing => continue,
                Outcome::Take(take) => take,
                Outcome::Edited { content, attrs } => {
                    Take::Edited { hash: keep_edit(&self.look.site(), &change.path, &content)?, attrs }
                }
            };
            parts.push(Part::new(change, take));
        }
        Ok(parts)
    }

    /// Has each gate that is met named, and leaves out what stays closed.
    fn name_gates(&self, mut parts: Vec<Part>, ui: &mut Ui) -> Result<Vec<Part>> {
        if parts.is_empty() {
            return Ok(parts);
        }
        let options = Options { parts: parts.clone(), paths: Vec::new(), ..self.options.clone() };
        let plan = apply::plan(&self.look.site(), self.set, &options)?;
        let mut gates: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for gated in &plan.gated {
            for flag in &gated.flags {
                gates.entry(flag.flag.clone()).or_default().push((gated.path.to_string(), flag.why.clone()));
            }
        }
        for (flag, paths) in gates {
            let name = ui.out_palette.paint(Label::Warning, &flag);
            ui.line(format_args!("{name} stops {}:", count(paths.len(), "change", "changes")))?;
            for (path, why) in paths.iter().take(20) {
                ui.line(format_args!("  {path}: {why}"))?;
            }
            if paths.len() > 20 {
                ui.line(format_args!("  … and {} more", paths.len() - 20))?;
            }
            let prompt = format!("Type {flag} to let it through, or anything else to leave it out: ");
            let named = self.answers.line(ui, &prompt)?.is_some_and(|typed| typed.trim() == flag);
            let is_met = |part: &Part| paths.iter().any(|(path, _)| *path == part.path().to_string());
            if let (true, Ok(flag)) = (named, flag.parse::<Flag>()) {
                parts = parts.into_iter().map(|p| if is_met(&p) { p.allowing([flag]) } else { p }).collect();
            } else {
                parts.retain(|p| !is_met(p));
            }
        }
        Ok(parts)
    }
}

/// A change's content by lines, if it is asked about hunk by hunk: that of a file that stays at its path.
fn text_of(sides: Sides<'_>, change: &Change) -> Option<TextDiff> {
    let is_file =
        |s: &Option<crate::change::Side>| s.as_ref().is_none_or(|s| s.file_type() == FileType::File);
    let in_parts = matches!(change.kind, ChangeKind::Modified | ChangeKind::Added);
    if !in_parts || !is_file(&change.old) || !is_file(&change.new) {
        return None;
    }
    let piece = file_diff(&sides, change).ok()?.pieces.into_iter().next()?;
    match piece.body {
        Body::Text(text) => Some(text),
        Body::Same | Body::Binary { .. } => None,
    }
}

fn go_to(walk: &mut Walk, answers: &Answers, argument: String, ui: &mut Ui) -> Result<()> {
    let argument = if argument.is_empty() {
        show::list(walk, ui)?;
        answers.line(ui, "Go to which? ")?.unwrap_or_default()
    } else {
        argument
    };
    match argument.trim().parse() {
        Ok(number) if walk.go_to(number) => Ok(()),
        Ok(_) | Err(_) => ui.line(format_args!("There are {} questions here", walk.asks.len())),
    }
}

fn search(walk: &mut Walk, answers: &Answers, argument: String, ui: &mut Ui) -> Result<()> {
    let argument = if argument.is_empty() {
        answers.line(ui, "Search for the regular expression: ")?.unwrap_or_default()
    } else {
        argument
    };
    match regex::bytes::Regex::new(&argument) {
        Err(_) => ui.line("This is no regular expression"),
        Ok(pattern) if walk.search(|line| pattern.is_match(line)) => Ok(()),
        Ok(_) => ui.line("No hunk matches"),
    }
}

/// Has the hunk at hand edited.
fn edit_hunk(walk: &mut Walk, verb: Verb, ui: &mut Ui) -> Result<()> {
    let Some(walk::Ask { what: What::Hunk(hunk, _), .. }) = walk.current().cloned() else {
        return ui.line("This cannot be edited");
    };
    let Some(text) = &walk.text else { return ui.line("This cannot be edited") };
    let edited = match in_editor(&edit::editable(text, &hunk, verb))? {
        Some(edited) => edited,
        None => return ui.line("The editor did not end well; the hunk is as before"),
    };
    match edit::read_back(text, &hunk, &edited) {
        Ok(None) => ui.line("Nothing is left; the hunk is as before"),
        Ok(Some(replacements)) => match walk.edit(replacements) {
            true => Ok(()),
            false => ui.line("Another hunk is about the same lines; the hunk is as before"),
        },
        Err(why) => ui.line(format_args!("The edited hunk does not fit: {why}; the hunk is as before")),
    }
}

/// Opens the user's editor on a text; `None` if it failed. The file lies in a directory of its own that nobody else can enter, and the
/// editor starts there, where no configuration of the workspace's can reach it.
fn in_editor(text: &[u8]) -> Result<Option<Vec<u8>>> {
    let dir = tempfile::Builder::new().prefix("scrubfs-edit-").tempdir();
    let dir = dir.map_err(CliError::io("make a directory in", &std::env::temp_dir()))?;
    let path = dir.path().join("hunk.diff");
    let file = std::fs::File::create_new(&path).and_then(|mut f| f.write_all(text));
    file.map_err(CliError::io("write", &path))?;
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let mut command = super::pager::users_program(&editor, &[path.as_os_str()]);
    let status =
        command.current_dir(dir.path()).status().map_err(CliError::io("start", Path::new(&editor)))?;
    if !status.success() {
        return Ok(None);
    }
    std::fs::read(&path).map(Some).map_err(CliError::io("read", &path))
}
