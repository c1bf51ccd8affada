//! `scrubfs mount`: makes or resumes a session and mounts it.

use std::path::PathBuf;

use super::lower::workspace_here;
use super::rules::RuleArgs;
use super::{CliError, Exit, Result, Ui};
use crate::path::Escaped;
use crate::session::{self, ConfigDir, Engine, MountRequest, Mounted, SessionName, StateDir};

/// Mount the scrubbed view of a workspace, and print where
///
/// Returns when the mount is usable. Standard output has one line, the mountpoint. A session that exists is resumed with what
/// was written in it; a dead mount left by a crash is taken away first.
///
/// Examples:
///   scrubfs mount                         (this repository)
///   cd "$(scrubfs mount ~/src/shop)"
///   scrubfs mount . --at /mnt/shop --hide '*.sqlite' --show config/demo.key
///   docker run --rm -v "$(scrubfs mount . --for docker)":/workspace IMAGE
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The workspace [default: this repository's root, else the current directory]
    #[arg(value_name = "WORKSPACE")]
    workspace: Option<PathBuf>,
    /// Where to mount: an empty directory outside the workspace [default: in the session's directory]
    #[arg(long, value_name = "DIR")]
    at: Option<PathBuf>,
    /// The session's name [default: the workspace's only session, else one named after it]
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Take no writes
    #[arg(long)]
    read_only: bool,
    /// Let other users in, as containers need it; with numbers, only these and root. Permissions of files stay in force
    #[arg(long, value_name = "UID", num_args = 0.., require_equals = true, value_delimiter = ',')]
    allow_other: Option<Vec<u32>>,
    /// What the mount is for: checks what it needs there, and says on standard error how to bind it
    #[arg(long = "for", value_name = "ENGINE", value_parser = ["docker", "podman", "bwrap", "devcontainer"])]
    engine: Option<String>,
    /// Stay, and unmount on SIGINT or SIGTERM
    #[arg(long)]
    foreground: bool,
    /// Do not look through the view once in the background, which makes the first `git status` in it fast
    #[arg(long)]
    no_prewarm: bool,
    #[command(flatten)]
    rules: RuleArgs,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let (state, config) = (StateDir::from_env()?, ConfigDir::from_env()?);
    let engine = args.engine.as_deref().and_then(Engine::from_name);
    engine.map_or(Ok(()), Engine::preflight)?;
    let request = MountRequest {
        workspace: args.workspace.clone().map_or_else(workspace_here, Ok)?,
        session: args.session.as_deref().map(SessionName::new).transpose()?,
        at: args.at.clone(),
        read_only: args.read_only,
        allow_other: args.allow_other.is_some() || engine.is_some_and(Engine::needs_allow_other),
        allowed: args.allow_other.clone().unwrap_or_default(),
        options: args.rules.options.clone(),
        rule_files: args.rules.files.clone(),
        strict: args.rules.strict,
        prewarm: !args.no_prewarm,
    };
    if !args.foreground {
        let mounted = session::mount(&state, &config, &request)?;
        tell(&mounted, ui)?;
        bind(engine, &mounted, args.read_only, ui)?;
        return Ok(Exit::Done);
    }
    let mut told: Result<()> = Ok(());
    let busy =
        || super::ui::complain("files in the mount are in use; a second signal unmounts it all the same");
    let mut ready = |mounted: &Mounted| {
        told = tell(mounted, ui).and_then(|()| bind(engine, mounted, args.read_only, ui));
    };
    session::mount_here(&state, &config, &request, &mut ready, busy)?;
    told.map(|()| Exit::Done)
}

fn tell(mounted: &Mounted, ui: &mut Ui) -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    if mounted.healed {
        ui.say("the dead mount of an earlier daemon was taken away");
    }
    let name = mounted.session.name();
    match (mounted.already, mounted.created) {
        (true, _) => ui.say(format_args!("session `{name}` is mounted there already")),
        (false, true) => ui.explain(format_args!(
            "session `{name}` was made for {}",
            Escaped::path(mounted.session.workspace())
        )),
        (false, false) => ui.explain(format_args!("session `{name}` goes on")),
    }
    ui.write(mounted.mountpoint.as_os_str().as_bytes())?;
    ui.line("")?;
    // A script waits for this line while the command stays in the foreground.
    ui.out().flush().map_err(CliError::Output)
}

/// How an engine binds the mount, and what is likely in the way.
fn bind(engine: Option<Engine>, mounted: &Mounted, read_only: bool, ui: &Ui) -> Result<()> {
    let Some(engine) = engine else { return Ok(()) };
    let binding = engine.binding(&mounted.mountpoint, read_only)?;
    for concern in &binding.concerns {
        ui.warn(&concern.what);
        ui.hint(&concern.cure);
    }
    ui.say(&binding.line);
    Ok(())
}
