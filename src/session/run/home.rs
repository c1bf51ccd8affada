//! The user's own credentials in the home directory: which files and directories a `run` keeps from the program. The patterns
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

/// Where in which pattern a directory stands: the pattern's number, and that of the part that its entries are compared with.
type At = (usize, usize);

/// A directory into which patterns lead.
#[derive(Debug, Clone)]
struct Place {
    dir: PathBuf,
    at: Vec<At>,
    depth: usize,
}

/// Is told of each directory before the search looks into it: the number by which the search knows it, and its path.
pub(in crate::session) type Enter<'a> = &'a mut dyn FnMut(usize, &Path);

/// A search for credentials beneath a home directory, which remembers where it looked, so that it can go on when something appears.
#[derive(Debug)]
pub(in crate::session) struct Search<'a> {
    home: &'a Path,
    policy: &'a Policy,
    patterns: Vec<Vec<Part>>,
    places: Vec<Place>,
}

impl<'a> Search<'a> {
    pub(in crate::session) fn new(home: &'a Path, policy: &'a Policy) -> Self {
        let texts = policy.home_rules().flat_map(|(text, _)| expand(text));
        let patterns = texts.filter_map(|text| parse(&text)).collect();
        Self { home, policy, patterns, places: Vec::new() }
    }

    /// Existing paths that hold credentials, absolute; none lies beneath another. Links are not resolved.
    pub(in crate::session) fn all(&mut self, enter: Enter<'_>) -> Vec<PathBuf> {
        let at = (0..self.patterns.len()).map(|number| (number, 0)).collect();
        let mut found = BTreeSet::new();
        self.walk(Place { dir: self.home.to_owned(), at, depth: ANY_DEPTH }, &mut found, enter);
        self.outermost(found)
    }

    /// What holds credentials at and beneath an entry of a directory that was looked into, by its number.
    pub(in crate::session) fn at_entry(
        &mut self,
        place: usize,
        name: &OsStr,
        enter: Enter<'_>,
    ) -> Vec<PathBuf> {
        let Some(place) = self.places.get(place).cloned() else { return Vec::new() };
        let mut found = BTreeSet::new();
        let path = place.dir.join(name);
        if path.symlink_metadata().is_ok() {
            self.entry(&place, name, path, &mut found, enter);
        }
        self.outermost(found)
    }

    fn outermost(&self, found: BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let mut outermost: Vec<PathBuf> = Vec::new();
        for path in found.into_iter().filter(|path| is_secret(self.home, path, self.policy)) {
            if !outermost.iter().any(|outer| path.starts_with(outer)) {
                outermost.push(path);
            }
        }
        outermost
    }

    fn walk(&mut self, place: Place, found: &mut BTreeSet<PathBuf>, enter: Enter<'_>) {
        let known = self.places.iter().position(|known| known.dir == place.dir);
        let number = known.unwrap_or_else(|| {
            self.places.push(place.clone());
            self.places.len() - 1
        });
        enter(number, &place.dir);
        let Ok(entries) = fs::read_dir(&place.dir) else { return };
        for (count, entry) in entries.flatten().enumerate() {
            if count >= ENTRIES {
                found.insert(place.dir);
                return;
            }
            self.entry(&place, &entry.file_name(), entry.path(), found, enter);
        }
    }

    fn entry(
        &mut self,
        place: &Place,
        name: &OsStr,
        path: PathBuf,
        found: &mut BTreeSet<PathBuf>,
        enter: Enter<'_>,
    ) {
        let folded = name.to_string_lossy().to_lowercase();
        let mut beneath: Vec<At> = Vec::new();
        let mut any = false;
        let mut todo = place.at.clone();
        while let Some((number, part)) = todo.pop() {
            let parts = self.patterns.get(number).and_then(|all| all.get(part..)).unwrap_or_default();
            match parts {
                // With `**` at the end all that is beneath is meant, and so the directory.
                [Part::Name(shape)] | [Part::Name(shape), Part::Any] => {
                    if shape.is_match(name, &folded) {
                        found.insert(path.clone());
                    }
                }
                [Part::Name(shape), next, ..] => {
                    if shape.is_match(name, &folded) {
                        beneath.push((number, part + 1));
                        any |= matches!(next, Part::Any);
                    }
                }
                [Part::Any, ..] => {
                    // It may stand for no directory at all.
                    todo.push((number, part + 1));
                    if place.depth > 0 {
                        beneath.push((number, part));
                        any = true;
                    }
                }
                [] => {}
            }
        }
        // A link to a directory may lead to the credentials as well.
        if !beneath.is_empty() && path.is_dir() {
            let depth = if any { place.depth.saturating_sub(1) } else { place.depth };
            self.walk(Place { dir: path, at: beneath, depth }, found, enter);
        }
    }
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
        let policy = Policy::builtin();
        let found = Search::new(home, &policy).all(&mut |_, _| {});
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
        // What appears later is found from the entry on, in a directory that is new, too.
        let mut search = Search::new(home, &policy);
        let mut entered = Vec::new();
        search.all(&mut |number, dir| entered.push((number, dir.to_owned())));
        let mut at = |dir: &Path, name: &str| {
            let number = entered.iter().find(|(_, known)| known == dir).unwrap().0;
            search
                .at_entry(number, OsStr::new(name), &mut |number, dir| entered.push((number, dir.to_owned())))
        };
        let (config, gh) = (home.join(".config"), home.join(".config/gh"));
        assert!(at(home, ".npmrc").is_empty());
        fs::write(home.join(".npmrc"), "x").unwrap();
        fs::create_dir_all(home.join(".config/gh")).unwrap();
        assert_eq!(at(home, ".npmrc"), [home.join(".npmrc")]);
        assert!(at(&config, "gh").is_empty());
        fs::write(gh.join("hosts.yml"), "x").unwrap();
        assert_eq!(at(&gh, "hosts.yml"), [gh.join("hosts.yml")]);
        assert!(at(home, "notes.txt").is_empty());

        assert!(names.iter().any(|n| n == ".docker/config.json" || n == ".docker"), "{names:?}");
        for shown in
            [".config", ".config/nvim", ".config/nvim/init.lua", "code", "notes.txt", ".bashrc", ".local"]
        {
            assert!(!names.iter().any(|n| n == shown), "{shown} is in {names:?}");
        }
    }
}
