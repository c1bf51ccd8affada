//! What the tests of views are set up with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Entry, NodeId, ROOT, View, ViewConfig};
use crate::judge::Judge;
use crate::layer::{BaseStore, LowerDir, UpperDir};
use crate::path::Name;
use crate::policy::Policy;

/// A view over layers in a temporary directory.
pub(super) struct Lab {
    pub(super) dir: tempfile::TempDir,
    pub(super) view: Arc<View>,
}

impl Lab {
    /// `make` fills the layers first.
    pub(super) fn new(make: impl FnOnce(&dyn Fn(&str) -> PathBuf)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |sub: &str| dir.path().join(sub);
        for sub in ["lower", "upper", "work", "base"] {
            fs::create_dir(at(sub)).unwrap();
        }
        make(&at);
        let view = Self::open(dir.path());
        Self { dir, view }
    }

    pub(super) fn open(dir: &Path) -> Arc<View> {
        let lower = Arc::new(LowerDir::open(&dir.join("lower")).unwrap());
        let judge = Arc::new(Judge::new(lower, Arc::new(Policy::builtin()), [0; 32], Vec::new()));
        let upper = UpperDir::open(&dir.join("upper"), &dir.join("work")).unwrap();
        let base = BaseStore::open(&dir.join("base")).unwrap();
        View::new(ViewConfig { judge, upper, base, read_only: false }).unwrap()
    }

    pub(super) fn at(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    pub(super) fn walk(&self, path: &str) -> Option<Entry> {
        let mut found = None;
        let mut parent: NodeId = ROOT;
        for name in path.split('/') {
            found = self.view.lookup(parent, &Name::new(name).unwrap()).unwrap();
            parent = found?.id;
        }
        found
    }

    pub(super) fn read(&self, id: NodeId) -> Vec<u8> {
        self.view.read(id, 0, 100).unwrap()
    }

    /// Changes the layers while the view is quiet, and has it take that up.
    pub(super) fn change(&self, change: impl FnOnce()) {
        let quiet = self.view.quiesce();
        change();
        self.view.take_up(quiet);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.view.close();
    }
}
