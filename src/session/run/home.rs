//! The user's own credentials in the home directory: which existing files and directories a `run` keeps from the program. The patterns
//! are the policy's that are marked `home`, from the home directory's root; where one has `*` or `**`, directories are listed,
//! to a bounded depth, so that the time does not grow with the home directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::path::RelPath;
use crate::policy::{Kind, PathAction, Policy};

/// So deep `**` is followed.
const ANY_DEPTH: usize = 4;

/// A directory with more entries than this is taken for data, and masked whole if a pattern looks into it.
const ENTRIES: usize = 20_000;

/// One component of a pattern.
#[derive(Debug, Clone)]
enum Part {
    Name(Shape),
    Any,
}

/// What a name looks like, case ignored. Few patterns need a real glob, and one is dear to compile: hundreds would be felt at each start.
#[derive(Debug, Clone)]
enum Shape {
    /// Literals with `*` between them; a single one is a plain name.
    Stars(Vec<String>),
    Glob(GlobMatcher),
}

impl Shape {
    fn parse(text: &str) -> Option<Self> {
        if text.contains(['?', '[', '\\']) {
            let mut glob = GlobBuilder::new(text);
            glob.case_insensitive(true).literal_separator(true).backslash_escape(true);
            return glob.build().ok().map(|g| Self::Glob(g.compile_matcher()));
        }
        Some(Self::Stars(text.to_lowercase().split('*').map(str::to_owned).collect()))
    }

    /// `folded` is the name in lower case, where it is UTF-8.
    fn is_match(&self, name: &OsStr, folded: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.is_match(Path::new(name)),
            Self::Stars(parts) => stars(parts, folded),
        }
    }
}

/// The first literal begins the name, the last ends it, and the others follow each other between.
fn stars(parts: &[String], name: &str) -> bool {
    let Some((first, rest)) = parts.split_first() else { return name.is_empty() };
    let Some((last, middle)) = rest.split_last() else { return name == first };
    let Some(mut left) = name.strip_prefix(first.as_str()) else { return false };
    for part in middle {
        match left.find(part.as_str()) {
            Some(at) => left = left.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    left.ends_with(last.as_str())
}

/// Existing paths beneath `home` that hold credentials, absolute; none lies beneath another. Links are not resolved.
pub(in crate::session) fn credentials(home: &Path, policy: &Policy) -> Vec<PathBuf> {
    let patterns: Vec<Vec<Part>> =
        policy.home_rules().flat_map(|(text, _)| expand(text)).filter_map(|text| parse(&text)).collect();
    let mut found = BTreeSet::new();
    let all: Vec<&[Part]> = patterns.iter().map(Vec::as_slice).collect();
    walk(home, &all, ANY_DEPTH, &mut found);
    let wanted = found.into_iter().filter(|path| is_secret(home, path, policy));
    let mut outermost: Vec<PathBuf> = Vec::new();
    for path in wanted {
        if !outermost.iter().any(|outer| path.starts_with(outer)) {
            outermost.push(path);
        }
    }
    outermost
}

/// The policy has the last word: an exception of the rule, or a rule of the user's own, may clear a path.
fn is_secret(home: &Path, path: &Path, policy: &Policy) -> bool {
    let Ok(relative) = path.strip_prefix(home) else { return true };
    let Ok(relative) = RelPath::parse(relative.as_os_str().as_bytes()) else { return true };
    let kind = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Kind::Dir,
        Ok(meta) if meta.is_symlink() => Kind::Symlink,
        Ok(meta) if meta.is_file() => Kind::File,
        Ok(_) | Err(_) => Kind::Other,
    };
    match policy.path_and_parents(&relative, kind).action {
        PathAction::Hide | PathAction::Gate | PathAction::Redact(_) => true,
        // `.config/x/**` speaks of what is beneath, not of the directory that it led to.
        PathAction::Plain => kind == Kind::Dir,
        PathAction::Open | PathAction::Clear => false,
    }
}

fn walk(dir: &Path, patterns: &[&[Part]], depth: usize, found: &mut BTreeSet<PathBuf>) {
    if patterns.is_empty() {
        return;
    }
    let Ok(entries) = fs::read_dir(dir) else { return };
    for (count, entry) in entries.flatten().enumerate() {
        if count >= ENTRIES {
            found.insert(dir.to_owned());
            return;
        }
        let name = entry.file_name();
        let folded = name.to_string_lossy().to_lowercase();
        let mut beneath: Vec<&[Part]> = Vec::new();
        for pattern in patterns {
            match pattern {
                [Part::Name(shape)] if shape.is_match(&name, &folded) => {
                    found.insert(entry.path());
                }
                // All that is beneath, and so the directory.
                [Part::Name(shape), Part::Any] if shape.is_match(&name, &folded) => {
                    found.insert(entry.path());
                }
                [Part::Name(shape), rest @ ..] if !rest.is_empty() && shape.is_match(&name, &folded) => {
                    beneath.push(rest);
                }
                [Part::Any, rest @ ..] => {
                    if let [Part::Name(shape)] = rest
                        && shape.is_match(&name, &folded)
                    {
                        found.insert(entry.path());
                    }
                    if depth > 0 {
                        beneath.push(pattern);
                    }
                }
                [] | [Part::Name(_), ..] => {}
            }
        }
        // A link to a directory may lead to the credentials as well.
        if !beneath.is_empty() && entry.path().is_dir() {
            let any = beneath.iter().any(|p| matches!(p.first(), Some(Part::Any)));
            walk(&entry.path(), &beneath, if any { depth.saturating_sub(1) } else { depth }, found);
        }
    }
}

fn parse(text: &str) -> Option<Vec<Part>> {
    let inner = text.trim_matches('/');
    inner
        .split('/')
        .map(|part| {
            if part == "**" {
                return Some(Part::Any);
            }
            Shape::parse(part).map(Part::Name)
        })
        .collect()
}

/// Braces make several patterns of one, also where they hold slashes.
fn expand(text: &str) -> Vec<String> {
    let Some(open) = text.find('{') else { return vec![text.to_owned()] };
    let (head, rest) = text.split_at(open);
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match (c, depth) {
            ('{', 1) => {}
            (',', 1) => parts.push(String::new()),
            ('}', 0) => {
                let tail = rest.get(at + 1..).unwrap_or_default();
                return parts.iter().flat_map(|p| expand(&format!("{head}{p}{tail}"))).collect();
            }
            _ => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    // Not closed: taken literally.
    vec![text.replace('{', "[{]")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let fits = |shape: &str, name: &str| {
            Shape::parse(shape).unwrap().is_match(OsStr::new(name), &name.to_lowercase())
        };
        for (shape, name) in [
            (".SSH", ".ssh"),
            (".ssh", ".SSH"),
            ("*", "x"),
            ("a*", "a"),
            ("*b", "AB"),
            ("a*b*c", "axxbc"),
            ("id_?sa", "ID_RSA"),
            ("core.[0-9]*", "core.7"),
            ("a**b", "ab"),
        ] {
            assert!(fits(shape, name), "{shape} {name}");
        }
        for (shape, name) in
            [(".ssh", ".sshx"), ("a*b", "ab1"), ("ab*ba", "aba"), ("a*b*c", "acb"), ("", "x")]
        {
            assert!(!fits(shape, name), "{shape} {name}");
        }
    }

    #[test]
    fn braces() {
        assert_eq!(expand("a{b,c/d}e"), ["abe", "ac/de"]);
        assert_eq!(expand("{a,b{c,d}}"), ["a", "bc", "bd"]);
        assert_eq!(expand("a{b"), ["a[{]b"]);
    }

    #[test]
    fn what_exists_is_found_and_what_is_plain_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        let files = [
            ".SSH/id_rsa",
            ".aws/credentials",
            ".config/gcloud/x.db",
            ".config/nvim/init.lua",
            ".netrc",
            ".bash_history",
            ".git-credentials",
            ".gnupg/private-keys-v1.d/k",
            ".kube/config",
            ".docker/config.json",
            ".local/share/keyrings/login.keyring",
            "code/.env",
            "notes.txt",
            ".bashrc",
        ];
        for file in files {
            let path = home.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let found = credentials(home, &Policy::builtin());
        let names: Vec<String> =
            found.iter().map(|p| p.strip_prefix(home).unwrap().display().to_string()).collect();
        for hidden in [
            ".SSH",
            ".aws",
            ".config/gcloud",
            ".netrc",
            ".bash_history",
            ".git-credentials",
            ".gnupg",
            ".kube",
            ".local/share/keyrings",
        ] {
            assert!(names.iter().any(|n| n == hidden), "{hidden} is not in {names:?}");
        }
        assert!(names.iter().any(|n| n == ".docker/config.json" || n == ".docker"), "{names:?}");
        for shown in
            [".config", ".config/nvim", ".config/nvim/init.lua", "code", "notes.txt", ".bashrc", ".local"]
        {
            assert!(!names.iter().any(|n| n == shown), "{shown} is in {names:?}");
        }
    }
}
