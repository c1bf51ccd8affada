//! `scrubfs review`: the changes of a session on a full screen, chosen by file, hunk or line, and applied or discarded from there. It is
//! a state (`state`, `keys`: pure), a picture of it (`view`), and this loop. Files are read and compared by a thread of its own,
//! one at a time and only when looked at, so neither many changes nor large ones stop the keys. The session is not held while a
//! person reads; what moved on meanwhile is refused as stale and read anew.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::target::{self, Target};
use super::ui::count;
use super::{CliError, Exit, Result, Ui};
use crate::apply::{self, Allow, Execution, Options, Part, Take};
use crate::change::{Change, ChangeSet, Flag, Sides};
use crate::path::Escaped;
use crate::session::Session;

mod colour;
mod file;
mod keys;
mod pick;
mod state;
mod term;
mod tree;
mod view;

#[cfg(test)]
mod tests;

use file::Shown;
use pick::Pick;
use state::{Confirm, Effect, Mode, State, Verb};
use term::Screen;
use view::Paint;

/// How long to wait for a key before looking for a signal, and while a file is being read.
const IDLE: Duration = Duration::from_millis(200);
const BUSY: Duration = Duration::from_millis(15);

/// So many paths are listed in a question.
const LISTED: usize = 10;

/// Review the changes of a session on a full screen, then apply or discard what was chosen
///
/// Space chooses a file, a hunk or a line; A applies, D discards, ? explains the keys. The mouse works too. The session goes on
/// meanwhile; what it or you change after it was shown is not applied.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A session's name, its workspace or its mountpoint [default: the current directory's]
    #[arg(value_name = "SESSION")]
    session: Option<OsString>,
    /// How many applies, and how many discards, can be undone
    #[arg(long, value_name = "N", default_value_t = 5)]
    keep: usize,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let session = target::session(args.session.as_deref())?;
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(CliError::NoTerminal);
    }
    let mut reviewer = Reviewer::open(session, args.keep, ui)?;
    let paint = Paint(ui.out_palette.is_on());
    let ended = reviewer.run(paint)?;
    for line in &reviewer.done {
        ui.line(line)?;
    }
    Ok(ended)
}

/// What is looked at: the layers and the changes of one moment.
struct Look {
    target: Target,
    changes: Vec<Change>,
    set: ChangeSet,
}

/// The thread that reads files.
struct Reader {
    wanted: Sender<usize>,
    read: Receiver<(usize, Shown)>,
    /// What it was asked for last.
    asked: Option<usize>,
}

impl Reader {
    fn start(look: &Arc<Look>) -> Self {
        let (wanted, requests) = channel::<usize>();
        let (results, read) = channel();
        let look = Arc::clone(look);
        std::thread::spawn(move || {
            while let Ok(mut change) = requests.recv() {
                // Who moved on does not want the files that were passed by.
                while let Ok(later) = requests.try_recv() {
                    change = later;
                }
                let layers = &look.target.layers;
                let sides = Sides::new(&layers.judge, &layers.upper, &layers.base);
                let Some(of) = look.changes.get(change) else { continue };
                if results.send((change, Shown::load(&sides, of))).is_err() {
                    return;
                }
            }
        });
        Self { wanted, read, asked: None }
    }
}

struct Reviewer {
    session: Session,
    keep: usize,
    configured: Vec<Allow>,
    look: Arc<Look>,
    reader: Reader,
    state: State,
    /// What was done, to be told when the screen is gone.
    done: Vec<String>,
}

impl Reviewer {
    fn open(session: Session, keep: usize, ui: &Ui) -> Result<Self> {
        let configured = target::configured(&session, ui)?;
        let look = Arc::new(look(session.clone())?);
        let reader = Reader::start(&look);
        let state = State::new(session.name().to_string(), &look.changes);
        Ok(Self { session, keep, configured, look, reader, state, done: Vec::new() })
    }

    fn run(&mut self, paint: Paint) -> Result {
        let mut screen = Screen::open().map_err(CliError::Output)?;
        let size = screen.terminal.size().map_err(CliError::Output)?;
        self.state.resize(size.width, size.height);
        loop {
            let drawn = screen.terminal.draw(|frame| {
                let area = frame.area();
                self.state.resize(area.width, area.height);
                view::draw(frame, &self.state, paint);
            });
            drawn.map_err(CliError::Output)?;
            let wanted = self.state.wanted();
            if let Some(change) = wanted.filter(|_| wanted != self.reader.asked) {
                self.reader.asked = wanted;
                // A reader that is gone leaves "reading" on the screen.
                self.reader.wanted.send(change).unwrap_or_default();
            }
            loop {
                if let Some(signal) = screen.signal() {
                    return Ok(Exit::Status(128 + signal));
                }
                if let Ok((change, shown)) = self.reader.read.try_recv() {
                    self.state.loaded(change, shown);
                    break;
                }
                let wait = if wanted.is_some() { BUSY } else { IDLE };
                if !event::poll(wait).map_err(CliError::Output)? {
                    continue;
                }
                // All that is there already, before anything is drawn anew.
                while event::poll(Duration::ZERO).map_err(CliError::Output)? {
                    let effect = self.input(event::read().map_err(CliError::Output)?);
                    if let Some(exit) = self.follow(effect)? {
                        return Ok(exit);
                    }
                }
                break;
            }
        }
    }

    fn input(&mut self, event: Event) -> Effect {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => return self.state.key(key),
            Event::Mouse(mouse) => self.state.mouse(mouse),
            Event::Resize(width, height) => self.state.resize(width, height),
            _ => {}
        }
        Effect::Nothing
    }

    /// Does what the state asks for. What fails is told on the screen.
    fn follow(&mut self, effect: Effect) -> Result<Option<Exit>> {
        let result = match effect {
            Effect::Nothing => return Ok(None),
            Effect::Quit => return Ok(Some(Exit::Done)),
            Effect::Reload => self.reload(&BTreeSet::new()),
            Effect::Ask(verb) => self.question(verb).map(|q| self.state.mode = Mode::Confirm(q)),
            Effect::Do(verb, gates) => self.carry_out(verb, &gates),
        };
        if let Err(error) = result {
            let mut lines = vec![format!("Error: {error}")];
            lines.extend(error.causes().into_iter().map(|cause| format!("Caused by: {cause}")));
            // What was shown may be out of date; if it cannot be read anew either, the first error is the one to tell.
            if self.reload(&BTreeSet::new()).is_ok() {
                lines.push("The session was read anew.".to_owned());
            }
            self.state.mode = Mode::Notice(lines);
        }
        Ok(None)
    }

    fn parts(&self, gates: &[Flag]) -> Vec<Part> {
        let part = |(at, take): (usize, Take)| {
            let change = self.look.changes.get(at)?;
            let open = change.gates().map(|r| r.flag).filter(|f| gates.contains(f));
            Some(Part::new(change, take).allowing(open.collect::<Vec<_>>()))
        };
        self.state.takes().into_iter().filter_map(part).collect()
    }

    /// What an apply or discard of the selection would do.
    fn question(&self, verb: Verb) -> Result<Confirm> {
        let takes = self.state.takes();
        let mut lines = Vec::new();
        let workspace = Escaped::path(self.session.workspace()).to_string();
        let what = count(takes.len(), "change", "changes");
        match verb {
            Verb::Apply => lines.push(format!("Write {what} to {workspace}:")),
            Verb::Discard => {
                lines.push(format!("Drop {what} from session {}:", self.session.name()));
            }
        }
        for (at, take) in takes.iter().take(LISTED) {
            let Some(entry) = self.state.entries.get(*at) else { continue };
            let part = if *take == Take::Whole { "" } else { "  (in part)" };
            lines.push(format!("  {} {}{part}", entry.letter, entry.path));
        }
        if takes.len() > LISTED {
            lines.push(format!("  … and {} more", takes.len() - LISTED));
        }
        let mut confirm = Confirm { verb, lines, gates: Vec::new(), typed: String::new(), blocked: false };
        match verb {
            Verb::Apply => self.plan_for(&mut confirm)?,
            Verb::Discard => {}
        }
        Ok(confirm)
    }

    /// Adds what stands against an apply.
    fn plan_for(&self, confirm: &mut Confirm) -> Result<()> {
        let options =
            Options { parts: self.parts(&[]), configured: self.configured.clone(), ..Options::default() };
        let plan = apply::plan(&self.look.target.site(), &self.look.set, &options)?;
        for refusal in plan.conflicts.iter().take(LISTED) {
            confirm.lines.push(format!("conflict {}: {}", refusal.path, refusal.reason));
        }
        for kept in plan.kept.iter().take(LISTED) {
            confirm.lines.push(format!("stays {}: {}", kept.path, kept.reason));
        }
        let mut gates = BTreeSet::new();
        for gated in &plan.gated {
            for flag in &gated.flags {
                if let Ok(known) = flag.flag.parse::<Flag>()
                    && gates.insert(known)
                {
                    let met =
                        plan.gated.iter().filter(|g| g.flags.iter().any(|f| f.flag == flag.flag)).count();
                    let more = if met > 1 { format!(", and {} more", met - 1) } else { String::new() };
                    confirm.lines.push(format!("gate {}: {}: {}{more}", flag.flag, gated.path, flag.why));
                }
            }
        }
        confirm.gates = gates.into_iter().collect();
        confirm.blocked = !plan.conflicts.is_empty();
        Ok(())
    }

    fn carry_out(&mut self, verb: Verb, gates: &[Flag]) -> Result<()> {
        let parts = self.parts(gates);
        let target = Target::open(self.session.clone())?;
        let set = target.scan()?;
        let said = match verb {
            Verb::Apply => {
                let configured = self.configured.clone();
                let options = Options { parts: parts.clone(), configured, ..Options::default() };
                let plan = apply::plan(&target.site(), &set, &options)?;
                let how = Execution { keep: self.keep, wait: false };
                let done = apply::execute(&target.site(), &plan, how)?;
                let applied = done.applied.iter().filter(|a| !a.implied).count();
                format!("{} applied · scrubfs undo takes it back", count(applied, "change", "changes"))
            }
            Verb::Discard => {
                let options = Options { parts: parts.clone(), ..Options::default() };
                let chosen = apply::named(&target.site(), &set, &options)?;
                let how = Execution { keep: self.keep, wait: false };
                apply::discard(&target.site(), &set, &chosen, how)?;
                let dropped = count(chosen.len(), "change", "changes");
                format!("{dropped} discarded · scrubfs undo takes it back")
            }
        };
        target.finish(true)?;
        self.done.push(said.clone());
        let gone = parts.iter().map(|p| p.path().to_string()).collect();
        self.reload(&gone)?;
        self.state.message = Some(said);
        Ok(())
    }

    /// Reads the session anew. What was chosen stays so where both sides are as they were, but for what was just done.
    fn reload(&mut self, gone: &BTreeSet<String>) -> Result<()> {
        let new = Arc::new(look(self.session.clone())?);
        let mut state = State::new(self.session.name().to_string(), &new.changes);
        state.size = self.state.size;
        state.side_by_side = self.state.side_by_side;
        let old = self.look.changes.iter().zip(&self.state.picks);
        for (change, pick) in old.filter(|(_, p)| **p != Pick::Nothing) {
            let at = new.changes.binary_search_by(|c| c.path.cmp(&change.path)).ok();
            let same = at.filter(|at| new.changes.get(*at) == Some(change));
            if let Some(slot) = same.and_then(|at| state.picks.get_mut(at))
                && !gone.contains(&change.path.to_string())
            {
                slot.clone_from(pick);
            }
        }
        let path = self.state.change().and_then(|c| self.look.changes.get(c)).map(|c| &c.path);
        let same = new.changes.iter().position(|c| path.is_some_and(|p| c.path >= *p));
        if let Some(node) = same.and_then(|c| state.tree.of_change(c)) {
            state.reveal(node);
        }
        state.settle();
        self.reader = Reader::start(&new);
        (self.look, self.state) = (new, state);
        Ok(())
    }
}

fn look(session: Session) -> Result<Look> {
    let (target, set) = Target::look(session)?;
    let changes = set.listed().cloned().collect();
    Ok(Look { target, changes, set })
}
