//! Style that is a test needs no memory: who may import whom, where `unsafe`, `fuser` and printing may stand, how long files and
//! functions are, and what must not stand in the tree at all. The table of ARCHITECTURE.md is [`MODULES`].

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A module, what of ours it may use, and which crates it must not name.
struct Module {
    name: &'static str,
    may_use: &'static [&'static str],
    never_names: &'static [&'static str],
}

const ALL: &[&str] =
    &["path", "policy", "sys", "layer", "judge", "view", "fuse", "change", "apply", "session", "cli"];

const MODULES: &[Module] = &[
    Module { name: "path", may_use: &[], never_names: &["std::fs", "rustix", "fuser", "clap"] },
    Module {
        name: "policy",
        may_use: &["path"],
        never_names: &["std::fs", "std::time", "std::env", "rustix", "fuser", "clap"],
    },
    Module { name: "sys", may_use: &["path"], never_names: &["fuser", "clap"] },
    Module { name: "layer", may_use: &["path", "sys"], never_names: &["fuser", "clap"] },
    Module { name: "judge", may_use: &["path", "policy", "layer", "sys"], never_names: &["fuser", "clap"] },
    Module {
        name: "view",
        may_use: &["path", "policy", "judge", "layer", "sys"],
        never_names: &["fuser", "clap"],
    },
    // `sys` and `path` for errnos, attributes and names, which are what it decodes into.
    Module { name: "fuse", may_use: &["view", "path", "sys"], never_names: &["clap"] },
    Module {
        name: "change",
        may_use: &["path", "policy", "judge", "layer", "sys"],
        never_names: &["fuser", "clap"],
    },
    Module {
        name: "apply",
        may_use: &["path", "policy", "judge", "layer", "sys", "change"],
        never_names: &["fuser", "clap"],
    },
    Module {
        name: "session",
        may_use: &["path", "policy", "sys", "layer", "judge", "view", "fuse", "change", "apply"],
        never_names: &["clap"],
    },
    Module { name: "cli", may_use: ALL, never_names: &["rustix", "fuser", "nix", "libc"] },
];

/// Words that print, and where they may stand: nowhere but in `cli`.
const PRINTING: &[&str] = &["println!", "eprintln!", "print!", "eprint!", "stdout()", "stderr()", "dbg!"];

const FILE_MAX: usize = 500;
const FUNCTION_MAX: usize = 70;

/// A source file.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The module of `src/` that it belongs to; `None` for `lib.rs`, `main.rs` and files elsewhere.
    fn module(&self) -> Option<String> {
        let below = self.path.strip_prefix("src").ok()?;
        let first = below.components().next()?.as_os_str().to_str()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (name != "lib" && name != "main").then(|| name.to_owned())
    }

    /// Whether it is compiled for tests alone; such files are named so.
    fn is_test(&self) -> bool {
        let name = self.path.file_stem().unwrap().to_str().unwrap();
        name.ends_with("_tests") || name.ends_with("_test") || matches!(name, "tests" | "testing")
    }

    /// Lines of code with their numbers, without comments and tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = if self.is_test() { "" } else { &self.text };
        text.lines()
            .enumerate()
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .map(|(n, line)| (n + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below these directories whose name ends so, with paths relative to the package.
fn files(dirs: &[&str], ends: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = dirs.iter().map(|d| root().join(d)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if ends.iter().any(|end| path.to_str().unwrap().ends_with(end)) {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            found.push(Source { path: path.strip_prefix(root()).unwrap().to_owned(), text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty());
    found
}

fn rust() -> Vec<Source> {
    files(&["src", "tests", "benches"], &[".rs"])
}

/// Fails with one line for each complaint.
fn expect_none(rule: &str, complaints: impl IntoIterator<Item = String>) {
    let all: Vec<String> = complaints.into_iter().collect();
    assert!(all.is_empty(), "{rule}:\n  {}", all.join("\n  "));
}

fn at(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", source.path.display())
}

/// Modules of ours that a line names: `crate::x`, also in `use crate::{x::…, y::…}`.
fn named_modules(line: &str) -> BTreeSet<String> {
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names: BTreeSet<String> = line.split("crate::").skip(1).map(word).collect();
    if let Some(group) = line.split("crate::{").nth(1) {
        let mut depth = 0;
        let mut begins = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                ' ' => {}
                _ if begins => {
                    names.insert(word(&group[i..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    names.into_iter().filter(|n| ALL.contains(&n.as_str())).collect()
}

/// Whether a line names a crate or a module of the standard library, as `x::…`, `use x;` or in `use std::{x, …}`.
fn names_path(line: &str, path: &str) -> bool {
    let whole = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    let grouped = path.strip_prefix("std::").is_some_and(|last| {
        line.split_once("use std::{")
            .is_some_and(|(_, group)| group.split(['{', '}', ',', ';', ':']).any(|word| word.trim() == last))
    });
    line.match_indices(&format!("{path}::")).any(|(at, _)| whole(at))
        || line.trim().trim_start_matches("pub ") == format!("use {path};")
        || grouped
}

#[test]
fn every_module_is_in_the_table() {
    let known: BTreeSet<&str> = MODULES.iter().map(|m| m.name).collect();
    let found: BTreeSet<String> = files(&["src"], &[".rs"]).iter().filter_map(Source::module).collect();
    expect_none("modules without a row", found.into_iter().filter(|m| !known.contains(m.as_str())));
}

#[test]
fn imports_go_one_way() {
    let mut complaints = Vec::new();
    for source in files(&["src"], &[".rs"]) {
        let Some(name) = source.module() else { continue };
        let Some(module) = MODULES.iter().find(|m| m.name == name) else { continue };
        for (n, line) in source.code() {
            let used = named_modules(line).into_iter();
            complaints.extend(
                used.filter(|u| *u != name && !module.may_use.contains(&u.as_str()))
                    .map(|u| at(&source, n, &format!("{name} uses {u}"))),
            );
            let names = |word: &&&str| names_path(line, word);
            complaints.extend(
                module.never_names.iter().filter(names).map(|w| at(&source, n, &format!("{name} names {w}"))),
            );
        }
    }
    expect_none("imports against the table", complaints);
}

#[test]
fn unsafe_stands_in_sys_alone_and_printing_in_cli_alone() {
    let mut complaints = Vec::new();
    for source in files(&["src"], &[".rs"]) {
        let module = source.module();
        for (n, line) in source.code() {
            let is_unsafe = line.contains("unsafe ") || line.contains("allow(unsafe_code");
            if is_unsafe && module.as_deref() != Some("sys") {
                complaints.push(at(&source, n, "unsafe outside sys"));
            }
            if (names_path(line, "libc") || names_path(line, "nix")) && module.as_deref() != Some("sys") {
                complaints.push(at(&source, n, "libc or nix outside sys"));
            }
            if names_path(line, "fuser") && !matches!(module.as_deref(), Some("fuse" | "session")) {
                complaints.push(at(&source, n, "fuser outside fuse and session"));
            }
            if module.as_deref() != Some("cli") && PRINTING.iter().any(|word| line.contains(word)) {
                complaints.push(at(&source, n, "printing outside cli"));
            }
        }
    }
    expect_none("words in the wrong place", complaints);
}

#[test]
fn main_is_short_and_lib_denies_unsafe() {
    let main = std::fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.lines().count() <= 25);
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""));
}

#[test]
fn files_are_at_most_500_lines_and_open_with_their_purpose() {
    let mut complaints = Vec::new();
    for source in rust() {
        let lines = source.text.lines().count();
        if lines > FILE_MAX {
            complaints.push(at(&source, 1, &format!("{lines} lines")));
        }
        if !source.text.starts_with("//!") {
            complaints.push(at(&source, 1, "does not open with //!"));
        }
    }
    expect_none("files", complaints);
}

/// Functions with their first line and their length. The code is formatted, so a function ends at the first line that is a
/// closing brace at its own depth.
fn functions(source: &Source) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_head =
            ["fn ", "pub fn ", "const fn ", "unsafe fn ", "async fn "].iter().any(|h| code.starts_with(h))
                || (code.starts_with("pub") && code.contains(" fn ") && !code.contains('='));
        if !is_head {
            continue;
        }
        let end = format!("{}}}", " ".repeat(line.len() - code.len()));
        let is_declaration = |l: &&str| l.ends_with(';') && !l.contains('{');
        if code.ends_with('}') || is_declaration(line) {
            continue;
        }
        let length = lines[first..].iter().position(|l| **l == end).map_or(0, |n| n + 1);
        found.push((first + 1, length));
    }
    found
}

#[test]
fn functions_are_at_most_70_lines() {
    let mut complaints = Vec::new();
    for source in rust() {
        for (line, length) in functions(&source) {
            if length > FUNCTION_MAX {
                complaints.push(at(&source, line, &format!("a function of {length} lines")));
            }
        }
    }
    expect_none("functions", complaints);
}

#[test]
fn errors_are_not_swallowed() {
    let mut complaints = Vec::new();
    for source in files(&["src"], &[".rs"]) {
        for (n, line) in source.code() {
            if line.contains("#[allow(") || line.contains("#![allow(") {
                complaints.push(at(&source, n, "allow: use expect with a reason"));
            }
            if line.contains("expect(clippy::let_underscore_must_use") {
                complaints.push(at(&source, n, "let _ = on a Result"));
            }
        }
    }
    expect_none("swallowed", complaints);
}

#[test]
fn nothing_of_a_developers_machine_stands_in_the_tree() {
    let mut complaints = Vec::new();
    let own = root().to_str().unwrap();
    let home = std::env::var("HOME").unwrap_or_default();
    // Put together here, so that this file does not hold them.
    let words = [["index", ".crates.io"].concat(), ["/home", "/runner"].concat()];
    let mut sources = files(&["src", "tests", "benches", "rules"], &[".rs", ".toml", ".sh", ".md", ".txt"]);
    sources.extend(files(&["Cargo.toml"], &["Cargo.toml"]));
    for source in sources {
        for (n, line) in source.text.lines().enumerate() {
            let mut bad: Vec<&str> = words.iter().map(String::as_str).collect();
            bad.push(own);
            if home.len() > "/root".len() {
                bad.push(&home);
            }
            complaints.extend(bad.iter().filter(|w| line.contains(**w)).map(|w| at(&source, n + 1, w)));
        }
    }
    expect_none("names of machines", complaints);
}

/// Every ```` ```sh ```` block of the README is replayed by a test, which says so by holding the block's first command. A
/// block that cannot be replayed (containers, installation) is marked ```` ```console ````.
#[test]
fn shell_blocks_of_the_readme_are_replayed() {
    let Ok(readme) = std::fs::read_to_string(root().join("README.md")) else { return };
    let replayed: String = files(&["tests"], &[".rs", ".sh"]).iter().fold(String::new(), |mut all, s| {
        write!(all, "{}", s.text).unwrap();
        all
    });
    let blocks = readme.split("```sh\n").skip(1).map(|b| b.split("```").next().unwrap_or_default());
    let unknown = |block: &str| {
        !block.lines().all(|l| l.trim().is_empty() || l.starts_with('#') || replayed.contains(l.trim()))
    };
    expect_none("README blocks that no test replays", blocks.filter(|b| unknown(b)).map(str::to_owned));
}

#[test]
fn the_tests_of_this_file_see_what_they_look_for() {
    assert_eq!(named_modules("use crate::{layer::A, path::{B, C}};").len(), 2);
    assert!(named_modules("    let x = crate::fuse::X;").contains("fuse"));
    assert!(names_path("use std::{env, fs::{self}};", "std::fs") && names_path("    nix::x()", "nix"));
    assert!(!names_path("use std::os::unix::ffi::OsStrExt;", "nix"));
    let text = format!("//! x\nfn a() {{\n{}}}\n", "    b();\n".repeat(80));
    let long = Source { path: "x.rs".into(), text };
    assert_eq!(functions(&long), [(2, 82)]);
}
