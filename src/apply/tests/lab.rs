//! A session in a temporary directory: workspace, upper, base, state, and an agent that changes upper as the view does.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use crate::apply::{self, Allow, Done, Execution, Options, Pattern, Plan, Site};
use crate::change::{ChangeSet, ScanOptions, scan};
use crate::judge::{EntryVerdict, Judge};
use crate::layer::{BaseStore, LowerDir, Origin, Stamp, UpperDir, mark_opaque, mark_origin};
use crate::path::RelPath;
use crate::policy::{Policy, PolicyBuilder};
use crate::sys;

pub(crate) fn rel(path: &str) -> RelPath {
    RelPath::parse(path).unwrap()
}

/// What a tree holds at one path: type and mode, and a file's bytes or a link's target.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Object(pub(crate) u32, pub(crate) Vec<u8>);

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:o} {}", self.0, self.1.escape_ascii())
    }
}

pub(crate) type Tree = BTreeMap<String, Object>;

/// All objects beneath a directory, itself not.
pub(crate) fn tree(root: &Path) -> Tree {
    fn walk(dir: &Path, at: &str, all: &mut Tree) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{at}{}", entry.file_name().to_str().unwrap());
            let meta = entry.path().symlink_metadata().unwrap();
            let content = if meta.is_file() {
                fs::read(entry.path()).unwrap()
            } else if meta.is_symlink() {
                fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes()
            } else {
                Vec::new()
            };
            all.insert(path.clone(), Object(meta.mode(), content));
            if meta.is_dir() {
                walk(&entry.path(), &format!("{path}/"), all);
            }
        }
    }
    let mut all = Tree::new();
    walk(root, "", &mut all);
    all
}

/// Writes a file and the directories above it.
pub(crate) fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn mkfifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

pub(crate) struct Lab {
    pub(crate) root: PathBuf,
    pub(crate) judge: Judge,
    pub(crate) upper: UpperDir,
    pub(crate) base: BaseStore,
    _dir: Option<tempfile::TempDir>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    /// In memory, where that takes the marks of upper: for tests that make thousands.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        let takes_marks = |dir: &tempfile::TempDir| {
            let fd = fs::File::open(dir.path()).unwrap();
            sys::set_xattr(fd.as_fd(), crate::layer::OPAQUE, b"y", rustix::fs::XattrFlags::empty()).is_ok()
        };
        match tempfile::tempdir_in(memory) {
            Ok(dir) if takes_marks(&dir) => Self::at(dir),
            Ok(_) | Err(_) => Self::new(),
        }
    }

    fn at(dir: tempfile::TempDir) -> Self {
        let root = dir.path().to_owned();
        for sub in ["ws", "state", "state/upper", "state/work", "state/base"] {
            fs::create_dir(root.join(sub)).unwrap();
        }
        Self { _dir: Some(dir), ..Self::open(&root) }
    }

    /// Opens what another one left behind.
    pub(crate) fn open(root: &Path) -> Self {
        let lower = Arc::new(LowerDir::open(&root.join("ws")).unwrap());
        static POLICY: LazyLock<Arc<Policy>> =
            LazyLock::new(|| Arc::new(PolicyBuilder::builtin().build().unwrap()));
        let judge = Judge::new(lower, Arc::clone(&POLICY), [7; 32], Vec::new());
        let upper = UpperDir::open(&root.join("state/upper"), &root.join("state/work")).unwrap();
        let base = BaseStore::open(&root.join("state/base")).unwrap();
        Self { root: root.to_owned(), judge, upper, base, _dir: None }
    }

    pub(crate) fn ws(&self) -> PathBuf {
        self.root.join("ws")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(crate) fn up(&self) -> PathBuf {
        self.root.join("state/upper")
    }

    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        put(&self.ws(), path, content);
    }

    pub(crate) fn scan(&self) -> ChangeSet {
        scan(&self.judge, &self.upper, &self.base, ScanOptions::default()).unwrap()
    }

    /// Runs `f` with the places of this session.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&Site<'_>) -> T) -> T {
        let (workspace, session_dir, lock_dir) = (self.ws(), self.state(), self.root.join("locks"));
        f(&Site {
            judge: &self.judge,
            workspace: &workspace,
            upper: &self.upper,
            base: &self.base,
            session_dir: &session_dir,
            lock_dir: &lock_dir,
        })
    }

    pub(crate) fn plan_with(&self, options: &Options) -> Plan {
        self.with(|site| apply::plan(site, &self.scan(), options)).unwrap()
    }

    pub(crate) fn plan(&self, paths: &[&str]) -> Plan {
        let paths = paths.iter().map(|p| Pattern::parse(p.as_bytes()).unwrap()).collect();
        self.plan_with(&Options { paths, ..open_gates() })
    }

    pub(crate) fn execute(&self, plan: &Plan) -> apply::Result<Done> {
        self.with(|site| apply::execute(site, plan, Execution::default()))
    }

    pub(crate) fn apply(&self) -> Done {
        let plan = self.plan(&[]);
        assert!(plan.is_clean(), "conflicts {:?}, gated {:?}", plan.conflicts, plan.gated);
        self.execute(&plan).unwrap()
    }

    pub(crate) fn undo(&self) -> apply::Result<Done> {
        self.with(|site| apply::undo(site, false))
    }

    /// What is left to apply, as `letter path`.
    pub(crate) fn left(&self) -> Vec<String> {
        self.scan().changes.iter().map(|c| format!("{} {}", c.kind.letter(), c.path)).collect()
    }
}

/// Every gate that a test's changes might meet is open.
pub(crate) fn open_gates() -> Options {
    let flags = ["auto-exec", "exec-bit", "symlink-escape", "special", "setid"];
    Options {
        allow: flags.iter().map(|f| Allow::parse(f.as_bytes()).unwrap()).collect(),
        ..Options::default()
    }
}

/// The agent.
impl Lab {
    fn record(&self, path: &str) {
        if let Ok(EntryVerdict::Shown(_)) = self.judge.whole_path(&rel(path)) {
            let stat = self.judge.lower().stat(&rel(path)).unwrap();
            self.base.record(&rel(path), &Origin { stamp: Stamp::from(&stat), hash: None }).unwrap();
            if stat.is_dir() {
                for entry in self.judge.lower().list(&rel(path)).unwrap() {
                    self.record(&format!("{path}/{}", std::str::from_utf8(&entry.name).unwrap()));
                }
            }
        }
    }

    fn lower_shows(&self, path: &str) -> bool {
        let covered = rel(path).ancestors().skip(1).any(|dir| {
            let at = self.up().join(dir.to_string());
            at.symlink_metadata().is_ok_and(|m| !m.is_dir()) || self.is_opaque(&dir)
        });
        !covered && matches!(self.judge.whole_path(&rel(path)), Ok(EntryVerdict::Shown(_)))
    }

    fn is_opaque(&self, dir: &RelPath) -> bool {
        sys::open_path(self.upper.as_fd(), dir)
            .is_ok_and(|fd| sys::get_xattr(fd.as_fd(), crate::layer::OPAQUE).unwrap().is_some())
    }

    fn in_upper(&self, path: &str) -> bool {
        self.up().join(path).symlink_metadata().is_ok()
    }

    fn parents(&self, path: &str) {
        for dir in rel(path).ancestors().skip(1) {
            let dir = dir.to_string();
            if self.in_upper(&dir) {
                continue;
            }
            if self.lower_shows(&dir) {
                self.copy_up(&dir);
            } else {
                self.agent_makes_dir(&dir);
            }
        }
    }

    /// Copies lower's object to upper, as the agent sees it.
    pub(crate) fn copy_up(&self, path: &str) {
        self.copy_up_as(path, path);
    }

    fn copy_up_as(&self, path: &str, to: &str) {
        self.parents(to);
        let (from, at) = (self.ws().join(path), self.up().join(to));
        let meta = from.symlink_metadata().unwrap();
        let stat = self.judge.lower().stat(&rel(path)).unwrap();
        let mut origin = Origin { stamp: Stamp::from(&stat), hash: None };
        if meta.is_symlink() {
            symlink(fs::read_link(&from).unwrap(), &at).unwrap();
        } else if meta.is_dir() {
            fs::create_dir(&at).unwrap();
        } else if meta.is_file() {
            let EntryVerdict::Shown(verdict) = self.judge.whole_path(&rel(path)).unwrap() else {
                panic!("{path} is hidden")
            };
            let content = self.judge.whole(&rel(path), &verdict, 1 << 30).unwrap().masked();
            fs::write(&at, &content).unwrap();
            let hash = *blake3::hash(&content).as_bytes();
            self.base.keep_content(&hash, &content).unwrap();
            origin.hash = Some(hash);
        } else {
            mkfifo(&at);
        }
        let fd = sys::open_path(self.upper.as_fd(), &rel(to)).unwrap();
        if meta.is_file() || meta.is_dir() {
            chmod(&at, meta.mode());
            mark_origin(fd.as_fd(), &origin).unwrap();
        }
        sys::set_times(fd.as_fd(), None, Some(stat.mtime)).unwrap();
        if !meta.is_dir() {
            self.base.record(&rel(path), &origin).unwrap();
        }
    }

    /// Makes room in upper for a new object.
    fn clear(&self, path: &str) {
        self.parents(path);
        if self.lower_shows(path) {
            self.record(path);
        }
        let at = self.up().join(path);
        match at.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(at).unwrap(),
            Ok(_) => fs::remove_file(at).unwrap(),
            Err(_) => {}
        }
    }

    pub(crate) fn agent_writes(&self, path: &str, content: impl AsRef<[u8]>) {
        let at = self.up().join(path);
        let is_file = |p: &Path| p.symlink_metadata().is_ok_and(|m| m.is_file());
        if !is_file(&at) {
            if !self.in_upper(path) && self.lower_shows(path) && is_file(&self.ws().join(path)) {
                self.copy_up(path);
            } else {
                self.clear(path);
            }
        }
        fs::write(at, content).unwrap();
    }

    pub(crate) fn agent_deletes(&self, path: &str) {
        let shows = self.lower_shows(path);
        self.clear(path);
        if shows {
            self.upper.whiteout(&rel(path)).unwrap();
        }
    }

    /// Makes a directory; over one of lower's it is opaque.
    pub(crate) fn agent_makes_dir(&self, path: &str) {
        self.clear(path);
        fs::create_dir(self.up().join(path)).unwrap();
        if self.ws().join(path).is_dir() {
            mark_opaque(sys::open_path(self.upper.as_fd(), &rel(path)).unwrap().as_fd()).unwrap();
        }
    }

    pub(crate) fn agent_links(&self, path: &str, target: &str) {
        self.clear(path);
        symlink(target, self.up().join(path)).unwrap();
    }

    pub(crate) fn agent_makes_fifo(&self, path: &str) {
        self.clear(path);
        mkfifo(&self.up().join(path));
    }

    pub(crate) fn agent_chmods(&self, path: &str, mode: u32) {
        if !self.in_upper(path) {
            self.copy_up(path);
        }
        chmod(&self.up().join(path), mode);
    }

    /// Renames a file that lower still shows.
    pub(crate) fn agent_moves(&self, from: &str, to: &str) {
        if self.in_upper(from) {
            self.parents(to);
            fs::rename(self.up().join(from), self.up().join(to)).unwrap();
        } else {
            self.copy_up_as(from, to);
        }
        self.agent_deletes(from);
    }
}
