//! The adversary of `tests/session` in a container: every door that it knows, with what a well-informed one knows of the host.

use std::fs;
use std::process::Output;

use crate::others::{PODMAN_RUN, bwrap_command, podman_command, podman_image};
use crate::world::{CANARY, HARDENED, IMAGE, World, text};

/// Writes script and knowledge to a directory that the container gets read-only; its path.
fn arm(world: &World, root: bool, session: &str, uid: u32) -> String {
    let dir = world.path(&format!("adversary-{session}"));
    fs::create_dir(&dir).unwrap();
    let session_dir = world.state(root).join("sessions").join(session);
    let docker = world.path("docker.sock");
    let facts = serde_json::json!({
        "canary": CANARY,
        "workspace": "/workspace",
        "hidden": "/workspace/.env",
        "home_secret": world.path("home/.ssh/id_rsa"),
        "aliases": [world.repo().join(".env")],
        "state": world.state(root),
        "config": world.path("config/scrubfs"),
        "sockets": [session_dir.join("control.sock"), docker],
        "daemons": [world.daemon(root, session).parse::<i32>().unwrap()],
        "handles": handles(&[world.repo(), world.repo().join(".env"), world.path("home")]),
        "agent": docker,
        "uid": uid,
        "filter": false,
        "first": false,
    });
    fs::write(dir.join("facts.json"), facts.to_string()).unwrap();
    fs::write(dir.join("adversary.py"), include_str!("../session/adversary.py")).unwrap();
    dir.to_str().unwrap().to_owned()
}

const COMMAND: &[&str] = &["/usr/bin/python3", "/adversary/adversary.py", "/adversary/facts.json"];

fn all_shut(output: &Output) {
    let all = text(output);
    assert!(output.status.success() && all.contains(", 0 open"), "{all}");
    let tried: u32 = all.lines().find_map(|l| l.split(" doors tried").next()?.parse().ok()).unwrap();
    assert!(tried >= 60, "{tried} doors only: {all}");
}

pub fn in_docker(world: &World) {
    world.docker();
    let (at, _) = world.mount(true, "a-docker", &["--for", "docker"]);
    let dir = arm(world, true, "a-docker", 1000);
    let (workspace, knowledge) = (format!("{at}:/workspace"), format!("{dir}:/adversary:ro"));
    let more = ["--tmpfs", "/tmp", "-v", "/usr:/usr:ro", "-v", &workspace, "-v", &knowledge, IMAGE];
    all_shut(&world.engine(&[HARDENED, &more, COMMAND].concat()));
}

pub fn in_podman(world: &World) {
    podman_image(world);
    let (at, _) = world.mount(false, "a-podman", &["--for", "podman"]);
    let dir = arm(world, false, "a-podman", 0);
    let (workspace, knowledge) = (format!("{at}:/workspace"), format!("{dir}:/adversary:ro"));
    let more = ["--tmpfs", "/tmp", "-v", "/usr:/usr:ro", "-v", &workspace, "-v", &knowledge, IMAGE];
    all_shut(&podman_command(world, &[PODMAN_RUN, &more, COMMAND].concat()).output().unwrap());
}

pub fn in_bubblewrap(world: &World) {
    let (at, _) = world.mount(false, "a-bwrap", &["--for", "bwrap"]);
    let dir = arm(world, false, "a-bwrap", 1000);
    let bind = ["--ro-bind", "/usr", "/usr", "--bind", &at, "/workspace", "--ro-bind", &dir, "/adversary"];
    all_shut(&bwrap_command(world, &bind, COMMAND).output().unwrap());
}

/// File handles, as hex and type, that name_to_handle_at(2) gives outside.
fn handles(paths: &[std::path::PathBuf]) -> Vec<(String, i32)> {
    let script = include_str!("../session/handles.py");
    let output =
        std::process::Command::new("/usr/bin/python3").args(["-c", script]).args(paths).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let found = lines.lines().filter_map(|l| l.split_once(' ')).filter(|(hex, _)| !hex.is_empty());
    let found: Vec<(String, i32)> =
        found.map(|(hex, kind)| (hex.to_owned(), kind.parse().unwrap())).collect();
    assert_eq!(found.len(), paths.len(), "no handles to try");
    found
}
