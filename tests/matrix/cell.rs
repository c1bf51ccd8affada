//! One cell: a workspace with an object at `x`, an agent that does something to it through a real view, a user who does something to
//! it afterwards, an apply, an undo. What only a kernel overlay can leave in upper is made in upper directly.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustix::fs::{CWD, Mode, mknodat};
use scrubfs::apply::{self, Allow, ApplyError, Execution, Options, Plan, Site};
use scrubfs::change::{ChangeSet, ScanOptions, scan};
use scrubfs::judge::Judge;
use scrubfs::layer::{BaseStore, LowerDir, OPAQUE, UpperDir, mark_opaque};
use scrubfs::path::{Name, RelPath};
use scrubfs::policy::Policy;
use scrubfs::sys::{self, FileType};
use scrubfs::view::{Caller, Entry, NewNode, NodeId, ROOT, SetAttr, View, ViewConfig};

use crate::{Kind, Since};

const CALLER: Caller = Caller { uid: 0, gid: 0, umask: 0 };

/// Type, mode and content by path, without what a comparison of two trees at two places cannot keep.
type Tree = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) lower: Kind,
    pub(crate) upper: Kind,
    pub(crate) since: Since,
}

impl Cell {
    /// Makes it, applies it, checks what holds in every cell, and names the outcome.
    pub(crate) fn outcome(self) -> String {
        let place = Place::new();
        place.lower_begins(self.lower);
        let base = place.lower();
        place.with_view(|view| agent(view, self.lower, self.upper));
        place.upper_as_the_kernel_leaves_it(self);
        let agents = place.merged();
        place.lower_goes_on(self.lower, self.since);
        let (today, exactly) = (place.lower(), exact(&place.ws()));
        let merged = place.merged();
        let changes = place.scan();
        let plan = place.plan(&changes);
        let stays = |outcome: String| {
            assert_eq!(exact(&place.ws()), exactly, "{self:?}: {outcome}, but lower was written");
            outcome
        };
        if let Some(conflict) = plan.conflicts.first() {
            let refused = place.execute(&plan);
            assert!(matches!(refused, Err(ApplyError::Refused { .. })), "{self:?}: {refused:?}");
            return stays(format!("!{}", conflict.reason.as_str()));
        }
        if !plan.gated.is_empty() {
            assert!(plan.gated.iter().all(|g| g.flags.iter().all(|f| f.flag == "hidden-name")), "{plan:?}");
            assert!(place.execute(&plan).is_err(), "{self:?}: a gate holds");
            return stays("held".into());
        }
        place.execute(&plan).unwrap_or_else(|e| panic!("{self:?}: {e:?}"));
        let after = place.lower();
        let shown: Tree = after.clone().into_iter().filter(|(_, o)| !o.starts_with("CharDevice")).collect();
        assert_eq!(shown, merged, "{self:?}: lower is not what merged showed");
        for (path, object) in today.iter().filter(|(p, o)| base.get(*p) != Some(o)) {
            assert_eq!(after.get(path), Some(object), "{self:?}: what the user did since is lost");
        }
        assert!(place.scan().is_empty(), "{self:?}: something is left to apply");
        if changes.is_empty() {
            return stays("as is".into());
        }
        place.undo();
        // A directory's time tells when entries came and went, and they did.
        let untimed = |all: &Exact| all.iter().map(|(p, o)| (p.clone(), o.untimed())).collect::<Vec<_>>();
        assert_eq!(untimed(&exact(&place.ws())), untimed(&exactly), "{self:?}: undo");
        match () {
            () if !after.contains_key("x") => "gone",
            () if after == agents => "agent",
            () => "both",
        }
        .into()
    }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for dir in ["ws", "state/upper", "state/work", "state/base", "locks"] {
            fs::create_dir_all(place.0.path().join(dir)).unwrap();
        }
        fs::write(place.ws().join("bystander"), "nobody touches it\n").unwrap();
        place
    }

    fn ws(&self) -> PathBuf {
        self.0.path().join("ws")
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn judge(&self) -> Judge {
        static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| Arc::new(Policy::builtin()));
        let lower = Arc::new(LowerDir::open(&self.ws()).unwrap());
        Judge::new(lower, Arc::clone(&POLICY), [1; 32], Vec::new())
    }

    fn upper(&self) -> UpperDir {
        UpperDir::open(&self.state().join("upper"), &self.state().join("work")).unwrap()
    }

    fn base(&self) -> BaseStore {
        BaseStore::open(&self.state().join("base")).unwrap()
    }

    fn with_view<T>(&self, f: impl FnOnce(&View) -> T) -> T {
        let judge = Arc::new(self.judge());
        let config = ViewConfig { judge, upper: self.upper(), base: self.base(), read_only: false };
        let view = View::new(config).unwrap();
        let done = f(&view);
        view.close();
        done
    }

    fn with_site<T>(&self, f: impl FnOnce(&Site<'_>) -> T) -> T {
        f(&Site {
            judge: &self.judge(),
            workspace: &self.ws(),
            upper: &self.upper(),
            base: &self.base(),
            session_dir: &self.state(),
            lock_dir: &self.0.path().join("locks"),
        })
    }

    fn scan(&self) -> ChangeSet {
        scan(&self.judge(), &self.upper(), &self.base(), ScanOptions::default()).unwrap()
    }

    /// FIFOs wait behind a gate of their own, which is not what the table is about.
    fn plan(&self, changes: &ChangeSet) -> Plan {
        let options = Options { allow: vec![Allow::parse(b"special").unwrap()], ..Options::default() };
        self.with_site(|site| apply::plan(site, changes, &options)).unwrap()
    }

    fn execute(&self, plan: &Plan) -> apply::Result<apply::Done> {
        self.with_site(|site| apply::execute(site, plan, Execution::default()))
    }

    fn undo(&self) {
        self.with_site(|site| apply::undo(site, false)).unwrap();
    }

    fn lower(&self) -> Tree {
        let mut tree = Tree::new();
        on_disk(&self.ws(), "", &mut tree);
        tree
    }

    fn merged(&self) -> Tree {
        self.with_view(|view| {
            let mut tree = Tree::new();
            shown(view, ROOT, "", &mut tree);
            tree
        })
    }

    fn lower_begins(&self, lower: Kind) {
        let x = self.ws().join("x");
        match lower {
            Kind::File => fs::write(x, "one\ntwo\n").unwrap(),
            Kind::Dir | Kind::Opaque => {
                fs::create_dir(&x).unwrap();
                fs::write(x.join("in"), "in\n").unwrap();
                if lower == Kind::Opaque {
                    mark_opaque(fs::File::open(x).unwrap().as_fd()).unwrap();
                }
            }
            Kind::Link => symlink("of-the-base", x).unwrap(),
            Kind::Whiteout => special(&x, FileType::CharDevice),
            Kind::Absent => {}
            Kind::Fifo => special(&x, FileType::Fifo),
        }
    }

    /// What the user does.
    fn lower_goes_on(&self, lower: Kind, since: Since) {
        let x = self.ws().join("x");
        let chmod = || fs::set_permissions(&x, fs::Permissions::from_mode(0o640)).unwrap();
        let dir = || {
            fs::create_dir(&x).unwrap();
            fs::write(x.join("user"), "user\n").unwrap();
        };
        match (since, lower) {
            (Since::Unchanged, _) | (Since::Deleted, Kind::Absent) => {}
            (Since::Deleted, _) => remove(&x),
            (Since::Edited, Kind::File) => fs::write(x, "one\nuser\n").unwrap(),
            (Since::Edited, Kind::Dir | Kind::Opaque) => fs::write(x.join("user"), "user\n").unwrap(),
            (Since::Edited, Kind::Link) => {
                remove(&x);
                symlink("of-the-user", x).unwrap();
            }
            (Since::Edited, Kind::Absent) => fs::write(x, "user\n").unwrap(),
            (Since::Edited, Kind::Whiteout) => chmod(),
            (Since::Edited, Kind::Fifo) => {
                remove(&x);
                special(&x, FileType::Fifo);
                chmod();
            }
            (Since::Retyped, Kind::Absent) => dir(),
            (Since::Retyped, Kind::File | Kind::Link | Kind::Fifo) => {
                remove(&x);
                dir();
            }
            (Since::Retyped, Kind::Dir | Kind::Opaque | Kind::Whiteout) => {
                remove(&x);
                fs::write(x, "user\n").unwrap();
            }
        }
    }

    /// A whiteout over nothing, a directory over a file that is not opaque, one over nothing that is: no program leaves these.
    fn upper_as_the_kernel_leaves_it(&self, cell: Cell) {
        let at = RelPath::parse("x").unwrap();
        let upper = self.upper();
        let mark = || {
            let fd = sys::open_path(upper.as_fd(), &at).unwrap();
            sys::get_xattr(fd.as_fd(), OPAQUE).unwrap()
        };
        let over_dir = matches!(cell.lower, Kind::Dir | Kind::Opaque);
        match cell.upper {
            Kind::Whiteout if matches!(cell.lower, Kind::Absent | Kind::Whiteout) => {
                upper.whiteout(&at).unwrap()
            }
            Kind::Dir if over_dir => assert_eq!(mark(), None, "{cell:?}"),
            Kind::Dir if mark().is_some() => {
                let fd = sys::open_path(upper.as_fd(), &at).unwrap();
                sys::remove_xattr(fd.as_fd(), OPAQUE).unwrap();
            }
            Kind::Opaque if over_dir => assert_eq!(mark().as_deref(), Some(b"y".as_slice()), "{cell:?}"),
            Kind::Opaque => mark_opaque(sys::open_path(upper.as_fd(), &at).unwrap().as_fd()).unwrap(),
            Kind::Absent | Kind::File | Kind::Dir | Kind::Link | Kind::Whiteout | Kind::Fifo => {}
        }
    }
}

fn special(at: &Path, kind: FileType) {
    let kind = if kind == FileType::Fifo {
        rustix::fs::FileType::Fifo
    } else {
        rustix::fs::FileType::CharacterDevice
    };
    mknodat(CWD, at, kind, Mode::from_raw_mode(0o644), 0).unwrap();
}

fn remove(at: &Path) {
    if at.symlink_metadata().unwrap().is_dir() {
        fs::remove_dir_all(at).unwrap();
    } else {
        fs::remove_file(at).unwrap();
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// What the agent does through merged.
fn agent(view: &View, lower: Kind, upper: Kind) {
    let x = name("x");
    let put = |dir: NodeId, name: &Name, text: &str| {
        let made = view.create(dir, name, NewNode::File(0o644), CALLER).unwrap();
        view.write(made.id, 0, text.as_bytes(), false).unwrap();
    };
    let shown = view.lookup(ROOT, &x).unwrap();
    assert_eq!(shown.is_some(), !matches!(lower, Kind::Absent | Kind::Whiteout), "{lower:?}");
    match (upper, shown) {
        (Kind::Absent, _) => return,
        (Kind::File, Some(entry)) if lower == Kind::File => {
            view.write(entry.id, 4, b"agent\n", false).unwrap();
            return;
        }
        (Kind::Dir, Some(entry)) if entry.stat.is_dir() => return put(entry.id, &name("agent"), "agent\n"),
        (Kind::Fifo, Some(entry)) if lower == Kind::Fifo => {
            view.setattr(entry.id, &SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
            return;
        }
        (_, Some(entry)) => unmake(view, &x, &entry),
        (_, None) => {}
    }
    let made = |new: NewNode<'_>| view.create(ROOT, &x, new, CALLER).unwrap().id;
    match upper {
        Kind::File => put(ROOT, &x, "agent\n"),
        Kind::Dir | Kind::Opaque => put(made(NewNode::Dir(0o755)), &name("agent"), "agent\n"),
        Kind::Link => drop(made(NewNode::Symlink(b"of-the-agent"))),
        Kind::Fifo => drop(made(NewNode::Special(FileType::Fifo, 0o644, 0))),
        Kind::Whiteout | Kind::Absent => {}
    }
}

fn unmake(view: &View, at: &Name, entry: &Entry) {
    if !entry.stat.is_dir() {
        return view.unlink(ROOT, at).unwrap();
    }
    view.lookup(entry.id, &name("in")).unwrap().unwrap();
    view.unlink(entry.id, &name("in")).unwrap();
    view.rmdir(ROOT, at).unwrap();
}

fn object(kind: FileType, mode: u32, content: &[u8]) -> String {
    format!("{kind:?} {mode:o} {}", content.escape_ascii())
}

fn shown(view: &View, dir: NodeId, prefix: &str, tree: &mut Tree) {
    let mut names = Vec::new();
    view.read_dir(dir, 0, |line| {
        names.extend(Name::new(line.name));
        true
    })
    .unwrap();
    for name in names {
        let entry = view.lookup(dir, &name).unwrap().unwrap();
        let (path, kind) = (format!("{prefix}{name}"), entry.stat.file_type());
        let content = match kind {
            FileType::File => view.read(entry.id, 0, 4096).unwrap(),
            FileType::Symlink => view.readlink(entry.id).unwrap(),
            _ => Vec::new(),
        };
        if kind == FileType::Dir {
            shown(view, entry.id, &format!("{path}/"), tree);
        }
        tree.insert(path, object(kind, entry.stat.permissions(), &content));
    }
}

fn on_disk(dir: &Path, prefix: &str, tree: &mut Tree) {
    let root = fs::File::open(dir).unwrap();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (at, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let stat = sys::stat_at(root.as_fd(), name.as_bytes()).unwrap();
        let path = format!("{prefix}{name}");
        let content = match stat.file_type() {
            FileType::File => fs::read(&at).unwrap(),
            FileType::Symlink => fs::read_link(&at).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        if stat.is_dir() {
            on_disk(&at, &format!("{path}/"), tree);
        }
        tree.insert(path, object(stat.file_type(), stat.permissions(), &content));
    }
}

/// All that a user could lose of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Whole {
    /// Type, mode, owner, device number, attributes, content or target.
    what: String,
    is_dir: bool,
    mtime: (i64, i64),
}

impl Whole {
    /// Without the time of a directory.
    fn untimed(&self) -> Self {
        Self { mtime: if self.is_dir { (0, 0) } else { self.mtime }, ..self.clone() }
    }
}

type Exact = BTreeMap<PathBuf, Whole>;

/// A directory and everything beneath it.
fn exact(root: &Path) -> Exact {
    let mut all = Exact::new();
    let mut todo = vec![root.to_owned()];
    while let Some(at) = todo.pop() {
        let meta = at.symlink_metadata().unwrap();
        let mut what = format!("{:o} {} {} {}", meta.mode(), meta.uid(), meta.gid(), meta.rdev());
        if meta.is_dir() {
            todo.extend(fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
        }
        if meta.is_file() || meta.is_dir() {
            let fd = fs::File::open(&at).unwrap();
            for name in sys::list_xattrs(fd.as_fd()).unwrap() {
                let value = sys::get_xattr(fd.as_fd(), &name).unwrap().unwrap();
                what += &format!(" {}={}", name.escape_ascii(), value.escape_ascii());
            }
        }
        if meta.is_file() {
            what += &format!(" {}", fs::read(&at).unwrap().escape_ascii());
        }
        if meta.is_symlink() {
            what += &format!(" {}", fs::read_link(&at).unwrap().display());
        }
        let whole = Whole { what, is_dir: meta.is_dir(), mtime: (meta.mtime(), meta.mtime_nsec()) };
        all.insert(at, whole);
    }
    all
}
