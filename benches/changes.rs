//! What it costs to look at many changes and to apply them: 10,000 edited files of a repository of 20,000, beside git and cp, and status of
//! 50,000. Medians of interleaved runs on stdout, after one of each that is not counted; `cargo bench --bench changes`. Each apply is
//! taken back by an undo, which is timed as well. `cp -a` copies the same files; as an apply is durable when it ends, it is also timed
//! with a `sync` behind it. Ends with 1 if status takes more than 1 s, `diff --stat` more than 2 s, or apply more than 10 s.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench reports by printing, and ends where it cannot measure"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const CHANGED: usize = 10_000;
const MANY: usize = 50_000;
const LOOKS: usize = 7;
const APPLIES: usize = 3;

/// A repository, its session with the changes in it, and a clone with the same changes in its working tree.
struct Lab {
    dir: PathBuf,
    files: usize,
}

fn main() -> ExitCode {
    let temp = tempfile::tempdir().unwrap();
    let lab = Lab::new(temp.path().join("some"), CHANGED * 2, CHANGED);
    let [status, git_status, stat, git_stat] = medians(LOOKS, || {
        [
            time(lab.scrubfs(&["status"])),
            time(lab.git(&["status", "--short"])),
            time(lab.scrubfs(&["diff", "--stat"])),
            time(lab.git(&["diff", "--stat"])),
        ]
    });
    let copy = lab.dir.join("copy");
    let cp = || {
        let mut cp = Command::new("cp");
        cp.arg("-a").arg(lab.upper()).arg(&copy);
        let took = time(cp);
        let synced = took + time(Command::new("sync"));
        fs::remove_dir_all(&copy).unwrap();
        [took, synced]
    };
    let [apply, undo, cp, synced] = medians(APPLIES, || {
        let [cp, synced] = cp();
        [time(lab.scrubfs(&["apply"])), time(lab.scrubfs(&["undo"])), cp, synced]
    });
    println!("{CHANGED} changed files of {}", lab.files);
    line("status", status, &[("git status", git_status)]);
    line("diff --stat", stat, &[("git diff --stat", git_stat)]);
    line("apply", apply, &[("cp -a", cp), ("cp -a; sync", synced)]);
    line("undo", undo, &[("cp -a", cp), ("cp -a; sync", synced)]);
    let many = Lab::new(temp.path().join("many"), MANY, MANY);
    let [of_many, git_many] =
        medians(APPLIES, || [time(many.scrubfs(&["status"])), time(many.git(&["status", "--short"]))]);
    println!("{MANY} changed files of {}", many.files);
    line("status", of_many, &[("git status", git_many)]);
    let seconds = Duration::from_secs;
    let met = status <= seconds(1) && stat <= seconds(2) && apply <= seconds(10);
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(what: &str, took: Duration, peers: &[(&str, Duration)]) {
    print!("  {what:12} {took:>9.1?}");
    for (peer, theirs) in peers {
        print!("   {:.2} of `{peer}` ({theirs:.1?})", took.as_secs_f64() / theirs.as_secs_f64());
    }
    println!();
}

/// Runs all in turn, once for nothing, then `rounds` times.
fn medians<const N: usize>(rounds: usize, mut turn: impl FnMut() -> [Duration; N]) -> [Duration; N] {
    let mut all: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::new());
    for round in 0..=rounds {
        let taken = turn();
        if round > 0 {
            all.iter_mut().zip(taken).for_each(|(all, one)| all.push(one));
        }
    }
    all.map(|mut all| {
        all.sort_unstable();
        all[all.len() / 2]
    })
}

fn time(mut command: Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let out = command.output().unwrap();
    let took = began.elapsed();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    took
}

fn content(n: usize, edited: bool) -> String {
    let mut text: String =
        (0..30).map(|line| format!("let value_{line} = compute({n}, {line});\n")).collect();
    if edited {
        text.insert_str(text.len() / 2, "// an edit\n");
    }
    text
}

impl Lab {
    fn new(dir: PathBuf, files: usize, changed: usize) -> Self {
        let lab = Self { dir, files };
        for n in 0..files {
            lab.write(&lab.repo(), n, false);
        }
        for words in [&["init", "-q"][..], &["add", "-A"], &["commit", "-qm", "first"]] {
            time(lab.git_in(&lab.repo(), words));
        }
        time({
            let mut cp = Command::new("cp");
            cp.arg("-a").arg(lab.repo()).arg(lab.working());
            cp
        });
        time(lab.git_in(&lab.working(), &["update-index", "-q", "--refresh"]));
        let merged = lab.dir.join("merged");
        let mut mount = lab.scrubfs(&["mount"]);
        mount.arg("--at").arg(&merged);
        time(mount);
        for n in (0..files).step_by(files / changed) {
            lab.write(&merged, n, true);
            lab.write(&lab.working(), n, true);
        }
        time(lab.scrubfs(&["unmount"]));
        lab
    }

    fn repo(&self) -> PathBuf {
        self.dir.join("repo")
    }

    fn working(&self) -> PathBuf {
        self.dir.join("clone")
    }

    /// Holds just the changed files.
    fn upper(&self) -> PathBuf {
        self.dir.join("state/sessions/repo/upper/src")
    }

    fn write(&self, root: &Path, n: usize, edited: bool) {
        let dir = root.join(format!("src/part-{}/module-{}", n / 2500, n / 50));
        if !edited && n.is_multiple_of(50) {
            fs::create_dir_all(&dir).unwrap();
        }
        fs::write(dir.join(format!("file-{n}.rs")), content(n, edited)).unwrap();
    }

    fn git_in(&self, at: &Path, words: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.args(words)
            .current_dir(at)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        for (role, name) in [("AUTHOR", "a"), ("COMMITTER", "c")] {
            git.env(format!("GIT_{role}_NAME"), name).env(format!("GIT_{role}_EMAIL"), name);
        }
        git
    }

    fn git(&self, words: &[&str]) -> Command {
        self.git_in(&self.working(), words)
    }

    fn scrubfs(&self, words: &[&str]) -> Command {
        let mut scrubfs = Command::new(env!("CARGO_BIN_EXE_scrubfs"));
        scrubfs.arg(words[0]).arg(self.repo()).args(&words[1..]);
        scrubfs
            .env("SCRUBFS_STATE_DIR", self.dir.join("state"))
            .env("SCRUBFS_CONFIG_DIR", self.dir.join("config"));
        scrubfs
    }
}
