//! The ignore files of the workspace. Those of a directory are read once, when something beneath it is first judged, from lower
//! and never through merged, so what the agent writes changes nothing. One that cannot be read hides all beneath it.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::layer::LowerDir;
use crate::path::{Name, RelPath};
use crate::policy::{IGNORE_FILE_MAX, IgnoreFile, Kind, Policy, RuleInfo};
use crate::sys::{FileType, RawEntry, Result, is_absent};

/// The ignore files that have a say about the entries of a directory, its own and those above it.
type Chain = Arc<[Arc<IgnoreFile>]>;

/// Ignore files by the directory whose entries they are asked about.
#[derive(Debug, Default)]
pub(super) struct Ignores(Mutex<HashMap<RelPath, Chain>>);

impl Ignores {
    fn lock(&self) -> MutexGuard<'_, HashMap<RelPath, Chain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ignore rule that hides an entry, whose parents are known to be visible.
    pub(super) fn hides(
        &self,
        lower: &LowerDir,
        policy: &Policy,
        path: &RelPath,
        kind: Kind,
    ) -> Option<RuleInfo> {
        let chain = self.chain(lower, policy, path.parent_bytes()?);
        chain.iter().find_map(|file| file.hides(path, kind).map(|line| file.rule_info(line)))
    }

    /// As [`Ignores::hides`], but hidden also where a directory above the entry is.
    pub(super) fn hides_with_parents(
        &self,
        lower: &LowerDir,
        policy: &Policy,
        path: &RelPath,
        kind: Kind,
    ) -> Option<RuleInfo> {
        let above = path.ancestors().skip(1).find_map(|dir| self.hides(lower, policy, &dir, Kind::Dir));
        above.or_else(|| self.hides(lower, policy, path, kind))
    }

    /// Takes a listing that somebody made anyway, and saves making it again.
    pub(super) fn saw(&self, lower: &LowerDir, policy: &Policy, dir: &RelPath, entries: &[RawEntry]) {
        if !self.lock().contains_key(dir) {
            self.read(lower, policy, dir, Ok(entries));
        }
    }

    fn chain(&self, lower: &LowerDir, policy: &Policy, dir: &[u8]) -> Chain {
        if let Some(known) = self.lock().get(dir) {
            return Arc::clone(known);
        }
        let Ok(dir) = RelPath::parse(dir) else { return Arc::new([]) };
        match lower.list(&dir) {
            Ok(entries) => self.read(lower, policy, &dir, Ok(&entries)),
            Err(errno) => self.read(lower, policy, &dir, Err(errno)),
        }
    }

    fn read(&self, lower: &LowerDir, policy: &Policy, dir: &RelPath, entries: Result<&[RawEntry]>) -> Chain {
        let above = match dir.parent_bytes() {
            Some(parent) => self.chain(lower, policy, parent),
            None => Arc::new([]),
        };
        let own = own_files(lower, policy, dir, entries);
        let chain: Chain = if own.is_empty() { above } else { above.iter().cloned().chain(own).collect() };
        // The first reading stands, so that two threads that read at once agree.
        Arc::clone(self.lock().entry(dir.clone()).or_insert(chain))
    }
}

fn own_files(
    lower: &LowerDir,
    policy: &Policy,
    dir: &RelPath,
    entries: Result<&[RawEntry]>,
) -> Vec<Arc<IgnoreFile>> {
    let entries = match entries {
        Ok(entries) => entries,
        // A directory that is gone has no entries to judge.
        Err(errno) if is_absent(errno) => return Vec::new(),
        Err(errno) => {
            tracing::warn!(%dir, %errno, "a directory that cannot be listed may hold an ignore file: all in it is hidden");
            let Ok(name) = Name::new(".scrubfsignore") else { return Vec::new() };
            return vec![Arc::new(IgnoreFile::unreadable(dir, &name))];
        }
    };
    let named = entries.iter().filter(|e| policy.is_ignore_file(&e.name) && e.kind != FileType::Dir);
    named.filter_map(|e| Name::new(&e.name).ok()).map(|name| Arc::new(read_file(lower, dir, &name))).collect()
}

fn read_file(lower: &LowerDir, dir: &RelPath, name: &Name) -> IgnoreFile {
    let path = dir.join(name);
    let mut bytes = Vec::new();
    let read = lower
        .open_file(&path)
        .map_err(std::io::Error::from)
        .and_then(|file| file.take(IGNORE_FILE_MAX as u64 + 1).read_to_end(&mut bytes));
    let file = match read {
        Ok(_) => IgnoreFile::parse(dir, name, &bytes),
        Err(error) => {
            tracing::warn!(%path, %error, "the ignore file could not be read");
            IgnoreFile::unreadable(dir, name)
        }
    };
    for warning in file.warnings() {
        tracing::warn!(%path, line = warning.line, "{}", warning.problem);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(ignores: &Ignores, lower: &LowerDir, path: &str) -> bool {
        let path = RelPath::parse(path).unwrap();
        ignores.hides_with_parents(lower, &Policy::builtin(), &path, Kind::File).is_some()
    }

    #[test]
    fn files_of_all_directories_above_count_and_are_read_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join(".aiignore"), "*.tok\n!b.tok\n").unwrap();
        std::fs::write(dir.path().join("a/.cursorignore"), "private/\n").unwrap();
        std::fs::write(dir.path().join("a/.gitignore"), "seen\n").unwrap();
        let lower = LowerDir::open(dir.path()).unwrap();
        let ignores = Ignores::default();
        assert!(hidden(&ignores, &lower, "a/b/x.tok"));
        assert!(!hidden(&ignores, &lower, "a/b/b.tok"));
        assert!(hidden(&ignores, &lower, "a/private/f"));
        assert!(!hidden(&ignores, &lower, "private/f"));
        assert!(!hidden(&ignores, &lower, "a/seen"));
        std::fs::write(dir.path().join("a/.cursorignore"), "").unwrap();
        assert!(hidden(&ignores, &lower, "a/private/f"), "policy is read once");
    }

    #[test]
    fn one_that_cannot_be_read_hides_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("a/.aiignore")).unwrap();
        let lower = LowerDir::open(dir.path()).unwrap();
        let ignores = Ignores::default();
        assert!(hidden(&ignores, &lower, "a/f"));
        assert!(!hidden(&ignores, &lower, "f"));
    }
}
