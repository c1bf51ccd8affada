//! The leak hunt: one canary for each rule, read through a real mount in every way (`hunt.py`), then looked for in all that is left behind:
//! upper, work, base, the state directory with its logs, and what the commands print.

use std::fs;
use std::path::Path;
use std::process::Command;

use scrubfs::policy::{PathAction, PathVerdict, Policy, Sample};

use crate::world::{World, text};

/// Files that are hidden by their name.
const HIDDEN: &[&str] = &[".env", ".ssh/id_ed25519", "credentials.json", ".netrc"];

/// Reads everything in every way, and searches what is left.
pub fn nothing_leaks(uid: u32) {
    let world = World::new(uid);
    let canaries = plant(&world);
    let at = world.mount();
    let (script, list) = (world.path("out/hunt.py"), world.path("out/canaries.json"));
    fs::write(&script, include_str!("hunt.py")).unwrap();
    let entries: Vec<(&str, String)> = canaries.iter().map(|(n, s)| (n.as_str(), hex(s))).collect();
    fs::write(&list, serde_json::to_string(&entries).unwrap()).unwrap();
    let mut command = world.command("python3".as_ref());
    let output =
        command.arg(&script).args([at, world.repo(), world.path("out"), list.clone()]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success() && said.contains("done") && !said.contains("LEAK"), "{said}");
    for way in ["read", "pread", "mmap", "O_DIRECT", "inside", "sendfile", "splice", "append"] {
        assert!(said.contains(&format!("way {way} failed 0")), "{said}");
    }
    let mut printed = Vec::new();
    let program = world.path("scrubfs");
    fs::copy(env!("CARGO_BIN_EXE_scrubfs"), &program).unwrap();
    for words in [
        &["status", "--json"][..],
        &["diff"],
        &["diff", "--json"],
        &["apply", "--dry-run", "--json"],
        &["audit", ".", "--json"],
        &["check", "canary/0", ".env", "--json"],
        &["apply"],
    ] {
        let output = world.command(&program).args(words).output().unwrap();
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{words:?} says nothing");
        printed.extend([output.stdout, output.stderr].concat());
    }
    search("what commands print", &printed, &canaries);
    fs::remove_file(&list).unwrap();
    let mut files = 0;
    for dir in [world.state(), world.path("out")] {
        search_dir(&dir, &canaries, &mut files);
    }
    assert!(files > 20, "only {files} files were searched");
    assert!(world.scrubfs("unmount").status().unwrap().success());
    search_dir(&world.state(), &canaries, &mut files);
}

/// A file for each sample of each rule, and hidden ones; names below the workspace and the secret in each.
fn plant(world: &World) -> Vec<(String, Vec<u8>)> {
    let repo = world.repo();
    fs::create_dir_all(repo.join("canary")).unwrap();
    fs::create_dir_all(repo.join(".ssh")).unwrap();
    fs::write(repo.join("clean"), "nothing\n").unwrap();
    let policy = Policy::builtin();
    let mut canaries = Vec::new();
    for (i, sample) in policy.samples(99).into_iter().enumerate() {
        let Sample { text, secret, .. } = sample;
        let whole = [b"first line\n", text.as_slice(), b"\nlast line\n"].concat();
        let plain = PathVerdict { action: PathAction::Plain, rule: None };
        // Some rules apply to files of certain formats only.
        if policy.scan(&plain, &whole, None).is_empty() {
            continue;
        }
        let name = format!("canary/{i}");
        fs::write(repo.join(&name), &whole).unwrap();
        canaries.push((name, text[secret].to_vec()));
    }
    assert!(canaries.len() > 150);
    for (name, (_, secret)) in HIDDEN.iter().zip(canaries.clone()) {
        fs::write(repo.join(name), [b"KEY=", secret.as_slice(), b"\n"].concat()).unwrap();
    }
    let own = format!("{}:{}", world.uid(), world.uid());
    assert!(Command::new("chown").args(["-R", &own]).arg(&repo).status().unwrap().success());
    canaries
}

/// Searches all but merged and the originals that `undo` would put back: those are the user's own files, kept where no agent reads.
fn search_dir(dir: &Path, canaries: &[(String, Vec<u8>)], files: &mut usize) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let original = path.ends_with("lower") && path.ancestors().any(|above| above.ends_with("undo"));
        if kind.is_dir() && !path.ends_with("merged") && !original {
            search_dir(&path, canaries, files);
        } else if kind.is_file() {
            *files += 1;
            search(&path.display().to_string(), &fs::read(&path).unwrap(), canaries);
        }
    }
}

fn search(what: &str, bytes: &[u8], canaries: &[(String, Vec<u8>)]) {
    for (name, secret) in canaries {
        let end = &secret[secret.len().saturating_sub(10)..];
        assert!(memchr::memmem::find(bytes, end).is_none(), "{what} holds the secret of {name}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
