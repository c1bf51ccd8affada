//! How long the path side of the policy takes: compiling it, and judging 50,000 entries of an ordinary tree. Plain numbers on
//! stdout, median of several runs; `cargo bench --bench paths`.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use scrubfs::path::RelPath;
use scrubfs::policy::{Kind, PathAction, Policy, PolicyBuilder};

const ENTRIES: usize = 50_000;

fn main() {
    let build = median(|| drop(black_box(Policy::builtin())));
    println!("compile the built-in policy        {build:?}");
    let ordinary = tree();
    report("50,000 ordinary entries", &Policy::builtin(), &ordinary);
    let json: Vec<_> = (0..ENTRIES)
        .filter_map(|i| RelPath::parse(format!("data/set-{}/item-{i}.json", i % 40)).ok())
        .collect();
    report("50,000 .json entries", &Policy::builtin(), &json);
    let hostile: Vec<_> = (0..ENTRIES)
        .filter_map(|i| RelPath::parse(format!("{}{i}~.bak.1 (1).gz", "secret-.".repeat(28))).ok())
        .collect();
    report("50,000 names of 240 bytes, made to be slow", &Policy::builtin(), &hostile);
    let mut builder = PolicyBuilder::builtin();
    let given = builder.hide("*.zzz").and_then(|b| b.show("docs/secret.env")).is_ok();
    if let (true, Ok(policy)) = (given, builder.build()) {
        report("50,000 ordinary entries, --hide and --show", &policy, &ordinary);
    }
}

/// A tree as repositories have them: sources of several languages, six levels deep, some capitals, some without extension.
fn tree() -> Vec<RelPath> {
    let names = [
        "mod.rs",
        "lib_{}.rs",
        "index{}.tsx",
        "README.md",
        "test_{}.py",
        "data{}.json",
        "conf{}.yml",
        "Makefile",
        "{}.png",
        "{}.min.js",
        "a{}.tar.gz",
        "{}.c",
        "{}.h",
        "LICENSE",
        "Main{}.java",
    ];
    let name = |i: usize| names[i % names.len()].replace("{}", &i.to_string());
    (0..ENTRIES)
        .filter_map(|i| {
            RelPath::parse(format!("crates/part{}/src/module-{}/inner/{}", i % 13, i % 170, name(i))).ok()
        })
        .collect()
}

fn report(what: &str, policy: &Policy, paths: &[RelPath]) {
    let time = median(|| {
        let hidden = paths.iter().filter(|p| policy.path(p, Kind::File).action == PathAction::Hide).count();
        black_box(hidden);
    });
    let each = time / u32::try_from(paths.len().max(1)).unwrap_or(u32::MAX);
    println!("{what:<44} {time:?}, {each:?} each");
}

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..25)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times.first().copied().unwrap_or_default()
}
