//! What happened inside a `.git`: counted, never listed one by one, never applied as files. What git on the host obeys from
//! there (hooks, configuration) is named in the reason.

use std::os::fd::AsFd;

use super::{ChangeError, Flag, Raised};
use crate::judge::Judge;
use crate::layer::{UpperDir, UpperEntry};
use crate::path::{Name, RelPath};
use crate::sys::{self, Errno};

/// What was counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Objects of upper beneath, whiteouts included, that are not plainly lower's.
    pub(super) objects: usize,
    hooks: bool,
    config: bool,
}

impl Survey {
    pub(super) fn flag(&self) -> Raised {
        let why = match (self.hooks, self.config) {
            (false, false) => return Raised::plain(Flag::GitInternal),
            (true, false) => "git's own data, hooks among it; never applied as files",
            (false, true) => "git's own data, its configuration among it; never applied as files",
            (true, true) => "git's own data, hooks and configuration among it; never applied as files",
        };
        Raised::new(Flag::GitInternal, why)
    }

    fn count(&mut self, inside: &[u8]) {
        self.objects += 1;
        self.hooks |= inside.starts_with(b"hooks/") || inside.windows(7).any(|w| w == b"/hooks/");
        self.config |= inside == b"config"
            || inside == b"config.worktree"
            || inside.ends_with(b"/config")
            || inside == b"info/attributes";
    }
}

/// Counts what upper has beneath `top`. Copies that show lower's size and modification time are taken for lower's.
pub(super) fn survey(
    judge: &Judge,
    upper: &UpperDir,
    top: &RelPath,
    over_lower: bool,
) -> Result<Survey, ChangeError> {
    let mut survey = Survey::default();
    let mut todo = vec![(top.clone(), over_lower)];
    while let Some((path, over_lower)) = todo.pop() {
        let dir = match sys::open_list(upper.as_fd(), &path) {
            // A file in place of the directory, or one that its mode closes: one object.
            Err(Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => {
                survey.objects += 1;
                continue;
            }
            other => other.map_err(|errno| ChangeError::Upper { path: path.clone(), errno })?,
        };
        let in_upper = |errno| ChangeError::Upper { path: path.clone(), errno };
        for raw in sys::list_dir(dir.as_fd()).map_err(in_upper)? {
            let name = Name::new(&raw.name).map_err(|_| in_upper(Errno::INVAL))?;
            let child = path.join(&name);
            let inside = child.as_bytes().get(top.as_bytes().len() + 1..).unwrap_or_default();
            match upper.entry_at(dir.as_fd(), name.as_bytes()).map_err(in_upper)? {
                UpperEntry::Absent => {}
                UpperEntry::Whiteout => survey.count(inside),
                UpperEntry::Opaque(_) => {
                    survey.count(inside);
                    todo.push((child, false));
                }
                UpperEntry::Object(stat) if stat.is_dir() => todo.push((child, over_lower)),
                UpperEntry::Object(stat) => {
                    let same = over_lower
                        && judge.lower().stat(&child).is_ok_and(|old| {
                            old.mode == stat.mode && old.size == stat.size && old.mtime == stat.mtime
                        });
                    if !same {
                        survey.count(inside);
                    }
                }
            }
        }
    }
    Ok(survey)
}
