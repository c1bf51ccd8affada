//! The commands, one file a verb. This is the only module that prints: data goes to stdout, talk to stderr, and an error is one
//! sentence with its causes and a command to type (`error.rs`). It promises the exit codes of `Exit` and JSON documents
//! with a schema (`json.rs`). It refuses to decide anything: what is secret, what changed and what may be written is asked
//! of the modules below.

use std::process::ExitCode;

mod apply;
mod args;
mod audit;
mod check;
mod completions;
mod daemon;
mod diff;
mod discard;
mod docker_plugin;
mod doctor;
mod error;
mod json;
mod list;
mod lower;
mod man;
mod mount;
mod pager;
mod patch;
mod progress;
mod rebase;
mod remove;
mod review;
mod rules;
mod run;
mod safe;
mod status;
mod target;
mod ui;
mod undo;
mod unmount;

use args::Command;
use error::{CliError, Exit};
use ui::Ui;

/// What a verb comes to.
type Result<T = Exit> = std::result::Result<T, CliError>;

/// Parses the command line, runs the verb and reports how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    let (global, command) = match args::parse(&argv) {
        Ok(parsed) => parsed,
        Err(error) => return error::usage(&error, args::color_of(&argv)).into(),
    };
    let mut ui = Ui::new(&global);
    let outcome = verb(&command, &mut ui);
    let exit = outcome.and_then(|exit| ui.finish().map(|()| exit)).unwrap_or_else(|e| error::report(&e, &ui));
    exit.into()
}

fn verb(command: &Command, ui: &mut Ui) -> Result {
    match command {
        Command::Mount(args) => mount::run(args, ui),
        Command::Run(args) => run::run(args, ui),
        Command::Enter(args) => run::enter(args, ui),
        Command::Unmount(args) => unmount::run(args, ui),
        Command::List(args) => list::run(args, ui),
        Command::Status(args) => status::run(args, ui),
        Command::Diff(args) => diff::run(args, ui),
        Command::Review(args) => review::run(args, ui),
        Command::Apply(args) => apply::run(args, ui),
        Command::Discard(args) => discard::run(args, ui),
        Command::Rebase(args) => rebase::run(args, ui),
        Command::Undo(args) => undo::run(args, ui),
        Command::Remove(args) => remove::run(args, ui),
        Command::Audit(args) => audit::run(args, ui),
        Command::Check(args) => check::run(args, ui),
        Command::Doctor(args) => doctor::run(args, ui),
        Command::DockerPlugin(args) => docker_plugin::run(args, ui),
        Command::Completions(args) => completions::run(args, ui),
        Command::Man(args) => man::run(args, ui),
        Command::Daemon(args) => Ok(daemon::run(args)),
        Command::Prewarm(args) => Ok(daemon::prewarm(args)),
    }
}
