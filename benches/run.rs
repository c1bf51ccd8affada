//! What `scrubfs run` costs at the start: `run -- true` against `true`, in a repository of 1,000 files and in one of 50,000. Medians of
//! interleaved runs on stdout, after one of each that is not counted (it makes the session); `cargo bench --bench run`. Ends with 1 if a
//! start costs more than 60 ms, or if the larger repository makes it dearer by half.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench reports by printing, and ends where it cannot measure"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 21;
const LIMIT: Duration = Duration::from_millis(60);

fn main() -> ExitCode {
    let dir = tempfile::tempdir().unwrap();
    let repos: Vec<PathBuf> = [1_000, 50_000].iter().map(|files| repository(dir.path(), *files)).collect();
    let plain = || Command::new("true");
    let inside = |repo: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scrubfs"));
        command.args(["run", "--quiet"]).arg(repo).args(["--", "true"]);
        command
            .env("SCRUBFS_STATE_DIR", dir.path().join("state"))
            .env("SCRUBFS_CONFIG_DIR", dir.path().join("config"));
        command
    };
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..=ROUNDS {
        let taken = [time(plain()), time(inside(&repos[0])), time(inside(&repos[1]))];
        if round > 0 {
            times.iter_mut().zip(taken).for_each(|(all, one)| all.push(one));
        }
    }
    let [base, small, large] = times.map(median);
    let cost = |of: Duration| of.saturating_sub(base);
    println!("true                                   {base:?}");
    println!("run -- true, less that:   1,000 files  {:?}", cost(small));
    println!("                         50,000 files  {:?}", cost(large));
    let independent = cost(large) <= cost(small).mul_f64(1.5);
    if cost(large) <= LIMIT && independent { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sources in directories of fifty, some secrets among them.
fn repository(dir: &Path, files: usize) -> PathBuf {
    let repo = dir.join(format!("repo-{files}"));
    for n in 0..files {
        let sub = repo.join(format!("src/part-{}/module-{}", n / 2500, n / 50));
        if n % 50 == 0 {
            std::fs::create_dir_all(&sub).unwrap();
        }
        let name = if n % 5000 == 0 { ".env".to_owned() } else { format!("file-{n}.rs") };
        std::fs::write(sub.join(name), format!("pub const N: usize = {n};\n")).unwrap();
    }
    repo
}

fn time(mut command: Command) -> Duration {
    let begin = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let taken = begin.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    taken
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}
