//! Files in which nothing is secret stay as they are: a fixed share of the sources that cargo keeps on this machine is judged. The figures
//! over whole registries come from `cargo run --release --example innocent`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and reports by printing"
)]

use std::fs;
use std::path::{Path, PathBuf};

use scrubfs::policy::{PathAction, PathVerdict, Policy};

/// How much is read, in bytes.
const BYTES: usize = 24 << 20;

#[test]
fn sources_of_libraries_stay_as_they_are() {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let Some(sources) = home.map(|home| home.join("registry/src")).filter(|dir| dir.is_dir()) else {
        println!("skipped: cargo keeps no sources on this machine");
        return;
    };
    let policy = Policy::builtin();
    let plain = PathVerdict { action: PathAction::Plain, rule: None };
    let (mut files, mut bytes, mut changed) = (0, 0, Vec::new());
    each_file(&sources, &mut |path| {
        if bytes >= BYTES
            || path.extension().is_none_or(|e| !["rs", "md", "toml", "c", "h"].iter().any(|x| e == *x))
        {
            return bytes < BYTES;
        }
        let text = fs::read(path).unwrap();
        (files, bytes) = (files + 1, bytes + text.len());
        // A private key in a test is one all the same.
        let spans = policy.scan(&plain, &text, None);
        let rules: Vec<_> = spans.iter().map(|s| policy.rule(s.rule).id.clone()).collect();
        if rules.iter().any(|id| &**id != "private-key") {
            changed.push(format!("{}: {rules:?}", path.display()));
        }
        true
    });
    println!("{} of {files} files changed, {} MB", changed.len(), bytes >> 20);
    assert!(changed.len() * 2000 <= files.max(2000), "{}", changed.join("\n"));
}

/// Calls `see` for each file, in order of names, while it says to go on.
fn each_file(dir: &Path, see: &mut impl FnMut(&Path) -> bool) -> bool {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().flatten().map(|e| e.path()).collect();
    entries.sort();
    entries.iter().all(|path| match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => each_file(path, see),
        Ok(meta) if meta.is_file() => see(path),
        _ => true,
    })
}
