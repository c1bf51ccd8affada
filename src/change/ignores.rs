//! Whether git ignores a path, by lower's own `.gitignore` files: what the agent wrote into its copies does not count, or it
//! could talk its files out of a reviewer's sight.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::layer::LowerDir;
use crate::path::{Name, RelPath};

/// A `.gitignore` is read up to this many bytes.
const READ_MAX: u64 = 1 << 20;

/// Lower's ignore files, read as they are asked for.
pub(super) struct Ignores<'a> {
    lower: &'a LowerDir,
    files: Mutex<HashMap<RelPath, Arc<Gitignore>>>,
}

impl<'a> Ignores<'a> {
    pub(super) fn new(lower: &'a LowerDir) -> Self {
        Self { lower, files: Mutex::new(HashMap::new()) }
    }

    /// Whether git ignores the file at `path`, or a directory above it.
    pub(super) fn ignored(&self, path: &RelPath) -> bool {
        let dirs: Vec<RelPath> = path.ancestors().collect();
        let subjects = dirs.iter().skip(1).map(|d| (d, true)).chain([(path, false)]);
        for (depth, (subject, is_dir)) in subjects.enumerate() {
            // The nearest file that says something decides.
            let verdict = dirs.iter().take(depth + 1).rev().find_map(|dir| {
                let beneath = relative(subject, dir)?;
                match self.file(dir).matched(beneath, is_dir) {
                    ignore::Match::None => None,
                    ignore::Match::Ignore(_) => Some(true),
                    ignore::Match::Whitelist(_) => Some(false),
                }
            });
            if verdict == Some(true) {
                return true;
            }
        }
        false
    }

    fn file(&self, dir: &RelPath) -> Arc<Gitignore> {
        let known = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(dir).cloned();
        known.unwrap_or_else(|| {
            let read = Arc::new(self.read(dir));
            self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.clone(), Arc::clone(&read));
            read
        })
    }

    /// An ignore file that cannot be read ignores nothing: then more is shown, not less.
    fn read(&self, dir: &RelPath) -> Gitignore {
        let mut text = Vec::new();
        if let Ok(name) = Name::new(".gitignore")
            && let Ok(file) = self.lower.open_file(&dir.join(&name))
            && let Err(error) = file.take(READ_MAX).read_to_end(&mut text)
        {
            tracing::debug!(%dir, %error, "an ignore file could not be read");
            text.clear();
        }
        let mut builder = GitignoreBuilder::new("");
        for line in String::from_utf8_lossy(&text).lines() {
            if let Err(error) = builder.add_line(None, line) {
                tracing::debug!(%dir, %error, "a line of an ignore file was skipped");
            }
        }
        builder.build().unwrap_or_else(|_| Gitignore::empty())
    }
}

fn relative<'p>(path: &'p RelPath, dir: &RelPath) -> Option<&'p std::ffi::OsStr> {
    use std::os::unix::ffi::OsStrExt as _;
    let rest = path.as_bytes().strip_prefix(dir.as_bytes())?;
    Some(std::ffi::OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_decides_and_the_nearest_file_wins() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sub/deep")).unwrap();
        std::fs::write(dir.path().join(".gitignore"), "/target\n*.log\n").unwrap();
        std::fs::write(dir.path().join("sub/.gitignore"), "!keep.log\nbuild/\n").unwrap();
        let lower = LowerDir::open(dir.path()).unwrap();
        let ignores = Ignores::new(&lower);
        let ignored = |p: &str| ignores.ignored(&RelPath::parse(p).unwrap());
        for path in ["target/debug/x", "a.log", "sub/a.log", "sub/build/x", "sub/deep/build/x"] {
            assert!(ignored(path), "{path}");
        }
        for path in ["src/target/x", "sub/keep.log", "build/x", "sub/buildx", "x"] {
            assert!(!ignored(path), "{path}");
        }
    }
}
