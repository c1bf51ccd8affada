//! The leak hunt: one canary for each rule, read through a real mount in every way (`hunt.py`), then looked for in all that is left behind:
//! upper, work, base, the state directory with its logs, and what the commands print.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use scrubfs::path::RelPath;
use scrubfs::policy::{Kind, PathAction, PathVerdict, Policy, Sample};

use crate::world::{World, text};

/// What is planted: names below the workspace, each with a secret.
#[derive(Default, serde::Serialize)]
struct Canaries {
    /// Shown with the secret masked.
    shown: Vec<Canary>,
    /// Not there in merged.
    hidden: Vec<Canary>,
}

type Canary = (String, String);

impl Canaries {
    fn all(&self) -> impl Iterator<Item = &Canary> {
        self.shown.iter().chain(&self.hidden)
    }
}

/// Reads everything in every way, and searches what is left.
pub fn nothing_leaks(uid: u32) {
    let world = World::new(uid);
    let canaries = plant(&world);
    let at = world.mount();
    let (script, list) = (world.path("out/hunt.py"), world.path("out/canaries.json"));
    fs::write(&script, include_str!("hunt.py")).unwrap();
    fs::write(&list, serde_json::to_string(&canaries).unwrap()).unwrap();
    let mut command = world.command("python3".as_ref());
    let output =
        command.arg(&script).args([at, world.repo(), world.path("out"), list.clone()]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success() && said.contains("done") && !said.contains("LEAK"), "{said}");
    for way in ["read", "pread", "mmap", "O_DIRECT", "inside", "sendfile", "splice", "append"] {
        assert!(said.contains(&format!("way {way} failed 0")), "{said}");
    }
    let printed = verbs(&world);
    let (_, secret) = &canaries.shown[1];
    let restored = fs::read(world.repo().join("copied-mask")).unwrap();
    assert!(hex(&restored).contains(secret), "the copied mask was not restored");
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

/// All that the commands print, also where they refuse.
fn verbs(world: &World) -> Vec<u8> {
    let mut printed = Vec::new();
    let program = world.path("scrubfs");
    fs::copy(env!("CARGO_BIN_EXE_scrubfs"), &program).unwrap();
    for (words, status) in [
        (&["status", "--json"][..], 0),
        (&["status", "-v"], 0),
        (&["diff"], 0),
        (&["diff", "--json"], 0),
        (&["apply", "--dry-run", "--json"], 3),
        (&["apply", "damaged", "nowhere"], 2),
        (&["apply", "canary/1"], 3),
        (&["apply", "--restore", "copied-mask", "--dry-run", "--plan", "plan.json"], 3),
        (&["audit", ".", "--json"], 0),
        (&["check", "canary/0", ".env", "--json"], 0),
        (&["check", "-v", "canary/1", "hidden"], 0),
        (&["discard", "canary/1"], 0),
        (&["apply", "--allow", "secret", "--restore", "copied-mask"], 0),
        (&["undo"], 0),
        (&["apply", "--allow", "secret", "--restore", "copied-mask"], 0),
        (&["diff", "nowhere"], 2),
    ] {
        let output = world.command(&program).args(words).output().unwrap();
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{words:?} says nothing");
        assert_eq!(output.status.code(), Some(status), "{words:?} {}", text(&output));
        printed.extend([output.stdout, output.stderr].concat());
    }
    printed.extend(fs::read(world.repo().join("plan.json")).unwrap());
    printed
}

/// Files for each sample of each content rule, for each format, and for each path rule.
fn plant(world: &World) -> Canaries {
    let repo = world.repo();
    fs::write(repo.join("clean"), "nothing\n").unwrap();
    let policy = Policy::builtin();
    let mut canaries = Canaries::default();
    let put = |name: &str, content: &[u8]| {
        let path = repo.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let mut planted = BTreeSet::new();
    let samples = policy.samples(99);
    for (i, Sample { text, secret, rule }) in samples.iter().enumerate() {
        let whole = [b"first line\n", text.as_slice(), b"\nlast line\n"].concat();
        // Some rules apply to files of certain formats only. And what chance makes is no secret now and then.
        let finds = |verdict: &PathVerdict| !policy.scan(verdict, &whole, None).is_empty();
        let name = [format!("canary/{i}"), format!("canary/{i}/redis.conf")]
            .into_iter()
            .find(|name| finds(&policy.path(&RelPath::parse(name).unwrap(), Kind::File)));
        let Some(name) = name else { continue };
        planted.insert(*rule);
        put(&name, &whole);
        canaries.shown.push((name, hex(&text[secret.clone()])));
    }
    let bare: BTreeSet<_> = samples.iter().map(|s| s.rule).filter(|rule| !planted.contains(rule)).collect();
    let bare: Vec<_> = bare.iter().map(|rule| &policy.rule(*rule).id).collect();
    assert!(bare.is_empty(), "no canary for {bare:?}");
    for (i, rule) in path_rules().iter().enumerate() {
        let secret = format!("zRt0Yw7cHdKq{i:04}");
        let example = rule.examples[0].trim_end_matches('/');
        let name = format!("{}/{i}/{example}", rule.action);
        match rule.action.as_str() {
            "hide" | "gate" => {
                let dir = if rule.examples[0].ends_with('/') { "/inside" } else { "" };
                put(&format!("{name}{dir}"), format!("x = {secret}\n").as_bytes());
                canaries.hidden.push((name, hex(secret.as_bytes())));
            }
            "redact" => {
                let Some(text) = text_with(rule, &secret) else { continue };
                put(&name, text.as_bytes());
                // A directory above it may be hidden whole.
                let verdict = policy.path_and_parents(&RelPath::parse(&name).unwrap(), Kind::File);
                let hides = verdict.action == PathAction::Hide;
                let list = if hides { &mut canaries.hidden } else { &mut canaries.shown };
                list.push((name, hex(secret.as_bytes())));
            }
            _ => {}
        }
    }
    assert!(canaries.shown.len() > 300 && canaries.hidden.len() > 70, "{}", canaries.shown.len());
    let (hidden, _) = &canaries.hidden[0];
    fs::hard_link(repo.join(hidden), repo.join("innocent-link")).unwrap();
    std::os::unix::fs::symlink(hidden, repo.join("innocent-symlink")).unwrap();
    let own = format!("{}:{}", world.uid(), world.uid());
    assert!(Command::new("chown").args(["-R", &own]).arg(&repo).status().unwrap().success());
    canaries
}

#[derive(serde::Deserialize)]
struct PathRule {
    action: String,
    format: Option<String>,
    examples: Vec<String>,
}

fn path_rules() -> Vec<PathRule> {
    #[derive(serde::Deserialize)]
    struct Pack {
        path: Vec<PathRule>,
    }
    toml::from_str::<Pack>(include_str!("../../rules/paths.toml")).unwrap().path
}

/// An example of the format of a rule, with this secret in it.
fn text_with(rule: &PathRule, secret: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Pack {
        format: Vec<Format>,
    }
    #[derive(serde::Deserialize)]
    struct Format {
        formats: Vec<String>,
        examples: Vec<String>,
    }
    let extension = Path::new(&rule.examples[0]).extension().and_then(|e| e.to_str());
    let format = rule.format.as_deref().or(extension.map(|e| if e == "yml" { "yaml" } else { e }))?;
    let pack = toml::from_str::<Pack>(include_str!("../../rules/formats.toml")).unwrap();
    let examples = pack.format.iter().filter(|f| f.formats.iter().any(|f| f == format));
    let text = examples.flat_map(|f| &f.examples).find(|text| text.contains("«hunter22»"))?;
    Some(text.replace("«hunter22»", secret).replace(['«', '»'], ""))
}

/// Searches all but merged and the originals that `undo` would put back: those are the user's own files, kept where no agent reads.
fn search_dir(dir: &Path, canaries: &Canaries, files: &mut usize) {
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

fn search(what: &str, bytes: &[u8], canaries: &Canaries) {
    for (name, secret) in canaries.all() {
        let secret: Vec<u8> = (0..secret.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&secret[i..i + 2], 16).unwrap())
            .collect();
        let end = &secret[secret.len().saturating_sub(10)..];
        assert!(memchr::memmem::find(bytes, end).is_none(), "{what} holds the secret of {name}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
