//! The volume plugin, as an engine would use it: JSON over HTTP on its socket.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{Running, World, is_mounted, text, until};

/// A plugin that runs beside the test.
struct Plugin<'a> {
    world: &'a World,
    running: Running,
}

impl<'a> Plugin<'a> {
    fn start(world: &'a World) -> Self {
        let (running, _) = Running::start(world.scrubfs("plugin").arg(socket(world)), "listening");
        Self { world, running }
    }

    /// One request; what it answers.
    fn ask(&self, call: &str, body: &Value) -> Value {
        let (status, answer) = raw(&socket(self.world), "POST", call, &body.to_string());
        assert_eq!(status, 200, "{call} {body}: {answer}");
        answer
    }

    fn done(&self, call: &str, body: &Value) -> Value {
        let answer = self.ask(call, body);
        assert_eq!(answer["Err"], "", "{call} {body}");
        answer
    }

    /// An error that says this, with a hint.
    fn refused(&self, call: &str, body: &Value, says: &str) {
        let answer = self.ask(call, body);
        let why = answer["Err"].as_str().unwrap();
        assert!(why.contains(says) && why.contains("(hint: "), "{call} {body}: {why}");
    }

    fn create(&self, name: &str, options: &[(&str, &str)]) {
        self.done("VolumeDriver.Create", &volume(self.world, name, options));
    }

    fn mount(&self, name: &str, id: &str) -> PathBuf {
        let answer = self.done("VolumeDriver.Mount", &json!({ "Name": name, "ID": id }));
        PathBuf::from(answer["Mountpoint"].as_str().unwrap())
    }

    fn unmount(&self, name: &str, id: &str) {
        self.done("VolumeDriver.Unmount", &json!({ "Name": name, "ID": id }));
    }

    fn names(&self) -> Vec<String> {
        let answer = self.done("VolumeDriver.List", &json!({}));
        let all = answer["Volumes"].as_array().unwrap();
        all.iter().map(|v| v["Name"].as_str().unwrap().to_owned()).collect()
    }
}

fn socket(world: &World) -> PathBuf {
    world.path("home/run/p.sock")
}

fn volume(world: &World, name: &str, options: &[(&str, &str)]) -> Value {
    let mut all: BTreeMap<&str, &str> = options.iter().copied().collect();
    let repo = world.repo();
    all.entry("source").or_insert_with(|| repo.to_str().unwrap());
    json!({ "Name": name, "Opts": all })
}

fn raw(socket: &Path, method: &str, call: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} /{call} HTTP/1.1\r\nHost: p\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

fn see(world: &World, script: &str, at: &Path) -> String {
    let output = world.command("sh".as_ref()).args(["-c", script, "sh"]).arg(at).output().unwrap();
    text(&output)
}

/// Made, mounted for two containers, written to, unmounted with the second one, gone.
pub fn volumes_from_beginning_to_end(uid: u32) {
    let world = World::new(uid);
    let mut plugin = Plugin::start(&world);
    assert_eq!(fs::metadata(socket(&world)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(plugin.done("Plugin.Activate", &json!({}))["Implements"], json!(["VolumeDriver"]));
    assert_eq!(plugin.done("VolumeDriver.Capabilities", &json!({}))["Capabilities"]["Scope"], "local");
    plugin.create("one", &[("hide", "plain")]);
    plugin.create("one", &[("hide", "plain")]);
    plugin.create("two", &[]);
    assert_eq!(plugin.names(), ["one", "two"]);
    let told = plugin.done("VolumeDriver.Get", &json!({ "Name": "one" }));
    assert_eq!(
        (&told["Volume"]["Mountpoint"], &told["Volume"]["Status"]["state"]),
        (&json!(""), &json!("unmounted"))
    );
    let at = plugin.mount("one", "a");
    assert_eq!(plugin.mount("one", "b"), at);
    let other = plugin.mount("two", "c");
    let told = plugin.done("VolumeDriver.Path", &json!({ "Name": "one" }));
    assert_eq!(told["Mountpoint"], at.to_str().unwrap());
    let all = see(&world, "ls -A \"$1\"; echo new > \"$1/new\"", &at);
    assert!(all.contains("sub") && !all.contains(".env") && !all.contains("plain"), "{all}");
    assert!(!other.join("new").exists() && !world.repo().join("new").exists());
    plugin.unmount("one", "a");
    assert!(is_mounted(&at), "gone while a container needs it");
    plugin.unmount("one", "b");
    assert!(!is_mounted(&at) && is_mounted(&other));
    plugin.unmount("two", "c");
    plugin.done("VolumeDriver.Remove", &json!({ "Name": "two" }));
    assert_eq!(plugin.names(), ["one"]);
    let zombies = format!("ps -o stat= --ppid {} | grep -c Z", plugin.running.pid());
    until("no daemon is left as a zombie", || see(&world, &zombies, &at).contains("\n0\n"));
    plugin.running.send("-TERM");
    assert!(plugin.running.0.wait().unwrap().success());
    assert!(!socket(&world).exists());
}

/// One clear sentence each, and nothing is made.
pub fn bad_volumes_are_refused(uid: u32) {
    let world = World::new(uid);
    let plugin = Plugin::start(&world);
    let create = |name: &str, options: &[(&str, &str)], says: &str| {
        plugin.refused("VolumeDriver.Create", &volume(&world, name, options), says);
    };
    create("v", &[("source", "repo")], "must be an absolute path");
    create("v", &[("source", "/no/such/place")], "does not exist");
    create("v", &[("source", world.repo().join("plain").to_str().unwrap())], "is not a directory");
    create("v", &[("source", world.state().to_str().unwrap())], "inside the state directory");
    create("v", &[("size", "1g")], "no option `size`");
    create("v", &[("rules", "/no/such/rules.toml")], "it does not exist");
    create("../v", &[], "cannot name a volume");
    create(&"v".repeat(80), &[], "longer than 64 bytes");
    plugin.refused("VolumeDriver.Create", &json!({ "Name": "v" }), "needs the option `source`");
    for call in ["Mount", "Unmount", "Get", "Path", "Remove"] {
        plugin.refused(&format!("VolumeDriver.{call}"), &json!({ "Name": "v", "ID": "a" }), "no volume `v`");
    }
    assert!(plugin.names().is_empty());
    assert!(!text(&world.scrubfs("list").output().unwrap()).contains("unmounted"), "a session was made");
    plugin.create("v", &[]);
    create("v", &[("hide", "x")], "exists with other options");
    create("w", &[("session", "v")], "belongs to volume `v`");
    plugin.refused("VolumeDriver.Mount", &json!({ "Name": "v" }), "did not say which container");
    for (method, call, body, status) in [
        ("POST", "VolumeDriver.Mount", "{", 400),
        ("POST", "VolumeDriver.Other", "{}", 404),
        ("GET", "VolumeDriver.List", "", 405),
        ("POST", "VolumeDriver.Create", &format!("\"{}\"", "x".repeat(2 << 20)), 413),
    ] {
        let (found, answer) = raw(&socket(&world), method, call, body);
        assert!(found == status && answer["Err"] != "", "{method} {call}: {found} {answer}");
    }
    // A second plugin on the same socket.
    let second = world.scrubfs("plugin").arg(socket(&world)).output().unwrap();
    assert!(text(&second).contains("a plugin listens there already"), "{}", text(&second));
    if uid == 0 {
        // Nobody else may ask.
        let script = "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
        let mut stranger = Command::new("setpriv");
        let stranger = stranger.args([
            "--reuid",
            "34",
            "--regid",
            "34",
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            script,
        ]);
        let output = stranger.arg(socket(&world)).output().unwrap();
        assert!(text(&output).contains("PermissionError"), "{}", text(&output));
    }
}

/// Killed and started anew, the plugin knows its volumes and who has them; a daemon that was killed is healed by the next container.
pub fn volumes_survive_the_plugin_and_a_crash(uid: u32) {
    let world = World::new(uid);
    let plugin = Plugin::start(&world);
    plugin.create("v", &[]);
    let at = plugin.mount("v", "a");
    see(&world, "echo kept > \"$1/kept\"", &at);
    drop(plugin);
    assert!(
        is_mounted(&at) && see(&world, "cat \"$1/kept\"", &at).contains("kept"),
        "the mount went with the plugin"
    );
    let plugin = Plugin::start(&world);
    assert_eq!((plugin.names(), plugin.mount("v", "b")), (vec!["v".to_owned()], at.clone()));
    plugin.unmount("v", "b");
    assert!(is_mounted(&at), "the first container was forgotten");
    assert!(Command::new("kill").args(["-KILL", &world.daemon("v").to_string()]).status().unwrap().success());
    until("the volume is stale", || {
        plugin.done("VolumeDriver.Get", &json!({ "Name": "v" }))["Volume"]["Status"]["state"] == "stale"
    });
    assert_eq!(plugin.mount("v", "c"), at);
    assert!(see(&world, "cat \"$1/kept\"", &at).contains("kept"));
    plugin.unmount("v", "c");
    plugin.unmount("v", "a");
    assert!(!is_mounted(&at));
    // One whose daemon is dead is unmounted as well.
    plugin.mount("v", "d");
    assert!(Command::new("kill").args(["-KILL", &world.daemon("v").to_string()]).status().unwrap().success());
    until("the volume is stale", || {
        plugin.done("VolumeDriver.Get", &json!({ "Name": "v" }))["Volume"]["Status"]["state"] == "stale"
    });
    plugin.unmount("v", "d");
    assert!(!is_mounted(&at));
}

/// A volume with changes stays, unless it was made so; a session that was there before is never deleted.
pub fn no_removal_loses_a_change(uid: u32) {
    let world = World::new(uid);
    let plugin = Plugin::start(&world);
    let remove = |name: &str| plugin.done("VolumeDriver.Remove", &json!({ "Name": name }));
    let write = |name: &str| {
        let at = plugin.mount(name, "a");
        see(&world, "echo x > \"$1/x\"", &at);
        plugin.unmount(name, "a");
    };
    let upper = |session: &str| world.state().join("sessions").join(session).join("upper/x");
    for (name, on_remove) in [("asks", "refuse"), ("keeps", "keep"), ("drops", "discard")] {
        plugin.create(name, &[("on-remove", on_remove)]);
        write(name);
    }
    plugin.refused("VolumeDriver.Remove", &json!({ "Name": "asks" }), "has 1 change that was not applied");
    remove("keeps");
    remove("drops");
    assert!(
        upper("asks").exists() && upper("keeps").exists() && !world.state().join("sessions/drops").exists()
    );
    // What is kept is a session like any other, and may become a volume again.
    plugin.create("again", &[("session", "keeps"), ("on-remove", "discard")]);
    remove("again");
    assert!(upper("keeps").exists());
    assert_eq!(plugin.names(), ["asks"]);
    // A container that the kernel still sees is more than what was said of it.
    let at = plugin.mount("asks", "b");
    let mut command = Command::new("timeout");
    let inside = "cd \"$1\"; echo there; exec sleep 60";
    command
        .args(["-s", "KILL", "100", "unshare", "-m", "--propagation", "private"])
        .args(["setpriv", "--reuid", &uid.to_string(), "--regid", &uid.to_string(), "--clear-groups"])
        .args(["sh", "-c", inside, "sh"])
        .arg(&at)
        .current_dir("/")
        .stdout(std::process::Stdio::piped());
    let (container, _) = Running::start(&mut command, "there");
    plugin.refused("VolumeDriver.Remove", &json!({ "Name": "asks" }), "a container still has its mount");
    drop(container);
    fs::remove_file(upper("asks")).unwrap();
    until("the daemon ends", || text(&world.scrubfs("list").output().unwrap()).contains("asks unmounted"));
    until("nobody has it", || plugin.ask("VolumeDriver.Remove", &json!({ "Name": "asks" }))["Err"] == "");
    assert!(plugin.names().is_empty());
}
