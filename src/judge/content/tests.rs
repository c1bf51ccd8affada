//! What is searched anew and what is remembered, in one judge and from one to the next.

use std::fs::{self, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::judge::EntryVerdict;
use crate::layer::LowerDir;
use crate::path::RelPath;
use crate::policy::Policy;

/// A value of the shape of a GitHub token, put together so that no scanner takes this file for a leak.
fn secret() -> String {
    format!("token = \"ghp_{}\"\n", "q8Zk3LmPw0TtYv7RnB2cXd5Fg6Hj1Ks4Aa9e")
}

fn judge(dir: &Path, cache: &Path) -> Judge {
    let lower = Arc::new(LowerDir::open(dir).unwrap());
    let mut judge = Judge::new(lower, Arc::new(Policy::builtin()), [7; 32], Vec::new());
    // Whatever file system the tests run on.
    judge.cache = Some(cache.to_owned());
    judge.stamps_changes = true;
    judge
}

fn read(judge: &Judge, name: &str) -> String {
    let path = RelPath::parse(name).unwrap();
    let (file, stat) = judge.lower.open_file_stat(&path).unwrap();
    let EntryVerdict::Shown(verdict) = judge.entry(&path, &stat) else { panic!("{name} is hidden") };
    let bytes = judge.read(&verdict, (&file, &stat), 0, 1 << 20).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Waits until what was written is older than the clock's tick.
fn settle() {
    std::thread::sleep(Duration::from_millis(60));
}

#[test]
fn a_second_mount_searches_no_clear_file_again() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cache = state.path().join("clear");
    for name in ["a.rs", "b.txt"] {
        fs::write(dir.path().join(name), "nothing to see\n").unwrap();
    }
    settle();
    let names = ["a.rs", "b.txt"];
    let first = judge(dir.path(), &cache);
    let before: Vec<String> = names.iter().map(|n| read(&first, n)).collect();
    assert_eq!(first.scans(), 2);
    assert!(names.iter().all(|n| !read(&first, n).is_empty()) && first.scans() == 2);
    first.flush();
    let second = judge(dir.path(), &cache);
    let after: Vec<String> = names.iter().map(|n| read(&second, n)).collect();
    assert_eq!((second.scans(), after), (0, before));
}

#[test]
fn a_block_is_searched_once_and_one_with_a_secret_at_every_mount() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (name, text) in [("clear", "nothing to see\n".to_owned()), ("masked", secret())] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    settle();
    for (mount, scans) in [(1, 2), (2, 1)] {
        let judge = judge(dir.path(), &state.path().join("clear"));
        for name in ["clear", "masked"] {
            let file = File::open(dir.path().join(name)).unwrap();
            let stamp = Stamp::from(&sys::stat_fd(file.as_fd()).unwrap());
            let verdict = PathVerdict { action: PathAction::Plain, rule: None };
            let content = Content { stamp, verdict, masks: Known::Blocks(Arc::default()), quiet: true };
            let seen = content.read(&judge, &file, 0, 100).unwrap();
            assert_eq!(seen != fs::read(dir.path().join(name)).unwrap(), name == "masked");
        }
        judge.flush();
        assert_eq!(judge.scans(), scans, "mount {mount}");
    }
}

#[test]
fn a_rewritten_file_is_searched_although_size_and_time_are_as_before() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (file, cache) = (dir.path().join("a.rs"), state.path().join("clear"));
    let old = SystemTime::now() - Duration::from_secs(1000);
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        let file = File::options().write(true).open(&file).unwrap();
        file.set_times(FileTimes::new().set_modified(old)).unwrap();
    };
    write(&"x".repeat(secret().len()));
    settle();
    let first = judge(dir.path(), &cache);
    read(&first, "a.rs");
    first.flush();
    assert!(cache.exists());
    write(&secret());
    for judge in [&first, &judge(dir.path(), &cache)] {
        let seen = read(judge, "a.rs");
        assert!(seen.starts_with("token = \"") && seen != secret(), "the new content is shown");
    }
}

#[test]
fn what_changed_within_the_clocks_tick_is_not_remembered() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cache = state.path().join("clear");
    let judge = judge(dir.path(), &cache);
    // Learns what is known, which takes time, before it matters.
    fs::write(dir.path().join("warm"), "x").unwrap();
    read(&judge, "warm");
    fs::write(dir.path().join("a.rs"), "nothing to see\n").unwrap();
    read(&judge, "a.rs");
    read(&judge, "a.rs");
    assert_eq!(judge.scans(), 3);
    judge.flush();
    assert!(!cache.exists());
}

#[test]
fn a_new_secret_in_a_hidden_file_has_all_files_searched_again() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cache = state.path().join("clear");
    let value = format!("https://u:{}@db.internal.corp/x", "q8Zk3LmPw0TtYv7RnB2c");
    fs::write(dir.path().join("a.rs"), "uses q8Zk3LmPw0TtYv7RnB2c here\n").unwrap();
    settle();
    let first = judge(dir.path(), &cache);
    assert!(read(&first, "a.rs").contains("q8Zk3"));
    first.flush();
    fs::write(dir.path().join(".env"), format!("DATABASE_URL={value}\n")).unwrap();
    let second = judge(dir.path(), &cache);
    assert!(!read(&second, "a.rs").contains("q8Zk3"));
    assert_eq!(second.scans(), 1);
}

/// As a file system whose stamps do not tell of every change, or a file written through a mapping a moment ago.
#[test]
fn a_change_that_no_stamp_tells_of_is_judged_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut judge = judge(dir.path(), &dir.path().join("none"));
    judge.stamps_changes = false;
    let verdict = PathVerdict { action: PathAction::Plain, rule: None };
    for size in [0, 3 << 19] {
        let clean = "a clean line of text\n".repeat(size / 21 + 10);
        fs::write(dir.path().join("a"), &clean).unwrap();
        settle();
        let file = File::open(dir.path().join("a")).unwrap();
        let content = judge.content(&verdict, &file).unwrap();
        assert!(!content.is_clear());
        let at = clean.len() / 2;
        let dirty = [&clean.as_bytes()[..at], secret().as_bytes(), &clean.as_bytes()[at..]].concat();
        fs::write(dir.path().join("a"), &dirty[..clean.len()]).unwrap();
        let stat = sys::stat_fd(file.as_fd()).unwrap();
        // The stamp that it was judged with is made to be that of now.
        let content = Content { stamp: Stamp::from(&stat), ..content };
        for (offset, len) in [(0, clean.len()), (at - 7, 90), (at + 13, 5), (at + 30, clean.len())] {
            let seen = content.read(&judge, &file, offset as u64, len).unwrap();
            let end = clean.len().min(offset + len);
            assert_eq!(seen.len(), end - offset);
            let real = &dirty[offset..end];
            let kept = seen.iter().zip(real).filter(|(a, b)| a == b).count();
            assert!(kept < real.len() && memchr::memmem::find(&seen, b"q8Zk3L").is_none(), "{offset} {len}");
        }
    }
}
