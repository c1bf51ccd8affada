//! What this binary does when a test calls it by a verb: the session's functions, with the plainest of command lines. The daemon is the
//! program started anew, so whoever calls these functions must answer to `daemon` and `prewarm`, too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::exit;

use scrubfs::session::{
    AgentChoice, ConfigDir, MountRequest, PolicyOption, RunRequest, SessionError, SessionName, StateDir,
    daemon_main, docker_plugin, enter, mount, mount_here, prewarm_main, resolve, run, unmount,
};

type Result<T> = std::result::Result<T, SessionError>;

/// Does what the verb says and ends; returns if it is no verb.
pub fn maybe(arguments: &[OsString]) {
    let Some(verb) = arguments.first().and_then(|v| v.to_str()) else { return };
    let rest = arguments.get(1..).unwrap_or_default();
    let status = match verb {
        "daemon" => i32::from(daemon_main(Path::new(&rest[1]))),
        "prewarm" => i32::from(prewarm_main(Path::new(&rest[0]))),
        "mount" | "foreground" => report(start(verb, rest)),
        "unmount" => report(StateDir::from_env().and_then(|state| {
            let session = resolve(&state, rest.first().map(OsString::as_os_str))?;
            unmount(&session, rest.len() > 1).map(|done| println!("{done:?}"))
        })),
        "list" => report(list()),
        "nodes" => report(StateDir::from_env().and_then(|state| {
            let session = resolve(&state, None)?;
            let mut client = scrubfs::session::control::Client::connect(session.dir()).unwrap();
            println!("{}", client.status().unwrap().nodes);
            Ok(())
        })),
        "doctor" => {
            for check in scrubfs::session::doctor() {
                println!("{} {} {}", if check.ok { "ok" } else { "no" }, check.id, check.what);
            }
            0
        }
        "hold" => report(hold(rest)),
        "plugin" => report(places().and_then(|(state, config)| {
            let socket = PathBuf::from(&rest[0]);
            docker_plugin(state, config, &socket, &mut || println!("listening"))
        })),
        "run" => match begin(rest) {
            Ok(status) => status,
            Err(error) => report::<()>(Err(error)),
        },
        "enter" => match inside(rest) {
            Ok(status) => status,
            Err(error) => report::<()>(Err(error)),
        },
        _ => return,
    };
    exit(status);
}

fn report<T>(result: Result<T>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(error) => {
            eprintln!("Error: {error}");
            if let SessionError::Daemon(failure) = &error {
                failure.causes.iter().for_each(|cause| eprintln!("Caused by: {cause}"));
            }
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprintln!("Caused by: {cause}");
                source = cause.source();
            }
            eprintln!("Hint: {}", error.hint().unwrap_or_default());
            250
        }
    }
}

fn request(words: &[OsString]) -> (RunRequest, Vec<OsString>) {
    let mut request = RunRequest::default();
    let mut words = words.iter().cloned();
    request.mount.workspace = words.next().map(PathBuf::from).unwrap();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap();
        match word.to_str().unwrap() {
            "--" => break,
            "--at" => request.mount.at = Some(value().into()),
            "--session" => request.mount.session = Some(SessionName::new(value().to_str().unwrap()).unwrap()),
            "--read-only" => request.mount.read_only = true,
            "--allow-other" => request.mount.allow_other = true,
            "--allowed" => request.mount.allowed.push(value().to_str().unwrap().parse().unwrap()),
            "--hide" => request.mount.options.push(PolicyOption::Hide(value().into_string().unwrap())),
            "--also" => request.also.push(value().into()),
            "--expose" => request.expose.push(value().into()),
            "--agent" => request.agent = AgentChoice::Named(value().into_string().unwrap()),
            "--prewarm" => request.mount.prewarm = true,
            "--private-home" => request.private_home = true,
            other => panic!("{other}"),
        }
    }
    (request, words.collect())
}

fn places() -> Result<(StateDir, ConfigDir)> {
    Ok((StateDir::from_env()?, ConfigDir::from_env()?))
}

fn start(verb: &str, words: &[OsString]) -> Result<()> {
    let (state, config) = places()?;
    let request: MountRequest = request(words).0.mount;
    if verb == "foreground" {
        let ready = &mut |m: &scrubfs::session::Mounted| println!("{}", m.mountpoint.display());
        return mount_here(&state, &config, &request, ready, || println!("busy"));
    }
    let mounted = mount(&state, &config, &request)?;
    println!("{}", mounted.mountpoint.display());
    eprintln!("already={} healed={} created={}", mounted.already, mounted.healed, mounted.created);
    Ok(())
}

fn list() -> Result<()> {
    let listing = StateDir::from_env()?.list()?;
    for session in listing.sessions {
        println!("{} {}", session.name(), session.state()?.word());
    }
    for broken in listing.broken {
        println!("broken {}: {}", broken.dir.display(), broken.error);
    }
    Ok(())
}

/// Holds the layers until standard input ends.
fn hold(words: &[OsString]) -> Result<()> {
    let session = resolve(&StateDir::from_env()?, words.first().map(OsString::as_os_str))?;
    let hold = session.hold()?;
    println!("held live={}", hold.is_live());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    hold.finish(true)
}

fn begin(words: &[OsString]) -> Result<i32> {
    let (state, config) = places()?;
    let (mut request, command) = request(words);
    request.command = command;
    let outcome = run(&state, &config, &request)?;
    if let Some(why) = outcome.ended.not_started {
        eprintln!("{why}");
    }
    Ok(i32::from(outcome.ended.status))
}

fn inside(words: &[OsString]) -> Result<i32> {
    let session = resolve(&StateDir::from_env()?, words.first().map(OsString::as_os_str))?;
    let ended = enter(&session, words.get(1..).unwrap_or_default())?;
    Ok(i32::from(ended.status))
}
