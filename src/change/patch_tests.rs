//! Patches of random change sets, applied by the real git to a copy of lower: the result is merged.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};

use super::testing::{Scene, put};
use super::{CONTEXT, Omitted, write_patch};
use crate::judge::Judge;
use crate::layer::{BaseStore, LowerDir, Origin, Stamp, UpperDir};
use crate::path::{Name, RelPath};
use crate::policy::Policy;
use crate::view::{ROOT, View, ViewConfig};

/// What a patch carries of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(Vec<u8>, bool),
    Link(Vec<u8>),
}

type Tree = BTreeMap<Vec<u8>, Node>;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"src",
    b"two words",
    b"tab\there",
    b"quo\"te",
    b"back\\slash",
    b"new\nline",
    b"caf\xc3\xa9",
    b"bad\xff",
    b"-dash",
    b"b/",
    b"trailing ",
    b"ctrl\x01",
    b"a.b",
    b"a-b",
];

fn name(rng: &mut Rng) -> Vec<u8> {
    rng.pick(NAMES).iter().copied().filter(|b| *b != b'/').collect()
}

fn path(rng: &mut Rng) -> Vec<u8> {
    let depth = 1 + rng.below(3);
    (0..depth).map(|_| name(rng)).collect::<Vec<_>>().join(&b'/')
}

fn content(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => Vec::new(),
        1 => (0..rng.below(300)).map(|_| rng.below(256) as u8).chain([0]).collect(),
        2 => b"no end of line".to_vec(),
        _ => {
            let mut text = Vec::new();
            for _ in 0..1 + rng.below(30) {
                let lines: &[&[u8]] =
                    &[b"fn f() {\n", b"}\n", b"\n", b"  x\r\n", b"\tlet y;\n", b"\xff\xfe\n", b"- minus\n"];
                text.extend_from_slice(rng.pick::<&[u8]>(lines));
                text.extend_from_slice(format!("{}\n", rng.below(1000)).as_bytes());
            }
            if rng.below(4) == 0 {
                text.pop();
            }
            text
        }
    }
}

fn edited(rng: &mut Rng, old: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = old.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(lines.len() + 1);
        match rng.below(3) {
            0 if at < lines.len() => {
                lines.remove(at);
            }
            1 if at < lines.len() => lines[at] = format!("edited {}\n", rng.below(100)).into_bytes(),
            _ => lines.insert(at, format!("inserted {}\n", rng.below(100)).into_bytes()),
        }
    }
    lines.concat()
}

fn node(rng: &mut Rng) -> Node {
    match rng.below(6) {
        0 => Node::Link(rng.pick(&[b"a".as_slice(), b"../x y", b"missing\n", b"nowhere/at all"]).to_vec()),
        n => Node::File(content(rng), n == 1),
    }
}

/// Whether a path can be added: none of its parents is a file, and it is no directory.
fn fits(tree: &Tree, path: &[u8]) -> bool {
    let prefix = [path, b"/"].concat();
    let parent = |i: usize| tree.contains_key(&path[..i]);
    !tree.keys().any(|p| p.starts_with(&prefix))
        && !path.iter().enumerate().any(|(i, b)| *b == b'/' && parent(i))
}

fn change(rng: &mut Rng, tree: &mut Tree) {
    let paths: Vec<Vec<u8>> = tree.keys().cloned().collect();
    if paths.is_empty() || rng.below(5) == 0 {
        let at = path(rng);
        if fits(tree, &at) {
            tree.insert(at, node(rng));
        }
        return;
    }
    let at = rng.pick(&paths).clone();
    match rng.below(6) {
        0 => {
            tree.remove(&at);
        }
        1 => {
            let old = tree.remove(&at).unwrap();
            let to = path(rng);
            let to = if fits(tree, &to) { to } else { at };
            let moved = match old {
                Node::File(bytes, exec) if rng.below(2) == 0 => Node::File(edited(rng, &bytes), exec),
                other => other,
            };
            tree.insert(to, moved);
        }
        2 => {
            // A directory goes, and perhaps a file takes its place.
            let dir = at.split(|b| *b == b'/').next().unwrap().to_vec();
            let prefix = [dir.as_slice(), b"/"].concat();
            tree.retain(|p, _| !p.starts_with(&prefix) && *p != dir);
            if rng.below(2) == 0 {
                tree.insert(dir, node(rng));
            }
        }
        3 => {
            tree.insert(at, node(rng));
        }
        4 => {
            // A file becomes a directory.
            tree.remove(&at);
            let inner = [at.as_slice(), b"/", &name(rng)].concat();
            if fits(tree, &inner) && inner.len() < 200 {
                tree.insert(inner, node(rng));
            }
        }
        _ => {
            if let Some(Node::File(bytes, exec)) = tree.get_mut(&at) {
                if rng.below(3) == 0 {
                    *exec = !*exec;
                } else {
                    *bytes = edited(rng, bytes);
                }
            }
        }
    }
}

fn at(root: &Path, path: &[u8]) -> std::path::PathBuf {
    root.join(OsStr::from_bytes(path))
}

fn store(root: &Path, path: &[u8], node: &Node) {
    let at = at(root, path);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    match node {
        Node::File(bytes, exec) => {
            fs::write(&at, bytes).unwrap();
            fs::set_permissions(&at, fs::Permissions::from_mode(if *exec { 0o755 } else { 0o644 })).unwrap();
        }
        Node::Link(target) => symlink(OsStr::from_bytes(target), at).unwrap(),
    }
}

fn load(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let (path, meta) = (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap());
            let rel = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            if meta.is_dir() {
                todo.push(path);
            } else if meta.is_symlink() {
                tree.insert(
                    rel,
                    Node::Link(fs::read_link(&path).unwrap().into_os_string().as_bytes().to_vec()),
                );
            } else {
                tree.insert(
                    rel,
                    Node::File(fs::read(&path).unwrap(), meta.permissions().mode() & 0o100 != 0),
                );
            }
        }
    }
    tree
}

/// Makes upper so that it turns `old`, which lower holds, into `new`. What is gone is covered by a whiteout or by an opaque directory.
fn build_upper(s: &Scene, rng: &mut Rng, old: &Tree, new: &Tree) {
    let parents = |tree: &Tree| -> std::collections::BTreeSet<Vec<u8>> {
        let dirs = tree
            .keys()
            .flat_map(|p| p.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| p[..i].to_vec()));
        dirs.collect()
    };
    let (old_dirs, new_dirs) = (parents(old), parents(new));
    for path in old.keys().chain(&old_dirs) {
        let path = RelPath::parse(path).unwrap();
        let stat = s.judge.lower().stat(&path).unwrap();
        s.base.record(&path, &Origin { stamp: Stamp::from(&stat), hash: None }).unwrap();
    }
    let mut opaque = Vec::new();
    for dir in &new_dirs {
        let covered = opaque.iter().any(|o: &Vec<u8>| dir.starts_with(&[o.as_slice(), b"/"].concat()));
        if covered || rng.below(6) == 0 || old.contains_key(dir) {
            fs::create_dir_all(at(&s.upper_dir(), dir)).unwrap();
            if !covered {
                opaque.push(dir.clone());
                let fd = crate::sys::open_path(s.upper.as_fd(), &RelPath::parse(dir).unwrap()).unwrap();
                crate::layer::mark_opaque(std::os::fd::AsFd::as_fd(&fd)).unwrap();
            }
        }
    }
    let is_covered = |path: &[u8]| opaque.iter().any(|o| path.starts_with(&[o.as_slice(), b"/"].concat()));
    for (path, node) in new {
        if is_covered(path) || old.get(path) != Some(node) || rng.below(5) == 0 {
            store(&s.upper_dir(), path, node);
        }
    }
    let gone_dirs = old_dirs.iter().filter(|d| !new_dirs.contains(*d) && !new.contains_key(*d));
    let gone = old.keys().filter(|p| !new.contains_key(*p) && !new_dirs.contains(*p));
    let mut whited: Vec<Vec<u8>> = Vec::new();
    for path in gone_dirs.chain(gone) {
        let under = |o: &Vec<u8>| path.starts_with(&[o.as_slice(), b"/"].concat());
        let parent_is_file = path.iter().enumerate().any(|(i, b)| *b == b'/' && new.contains_key(&path[..i]));
        if is_covered(path) || whited.iter().any(under) || parent_is_file {
            continue;
        }
        let at = at(&s.upper_dir(), path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        s.upper.whiteout(&RelPath::parse(path).unwrap()).unwrap();
        whited.push(path.clone());
    }
}

/// Both what a careful person types first, and the real thing.
fn git_apply(dir: &Path, patch: &[u8]) -> Result<(), String> {
    run_git(dir, &["apply", "--binary", "--check", "-"], patch)?;
    run_git(dir, &["apply", "--binary", "-"], patch)
}

fn run_git(dir: &Path, words: &[&str], patch: &[u8]) -> Result<(), String> {
    let mut git = Command::new("git");
    git.args(words).current_dir(dir);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    git.env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap());
    let mut child = git
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git is installed");
    // A patch may be larger than a pipe holds, and git may stop reading.
    let mut input = child.stdin.take().unwrap();
    let written = input.write_all(patch);
    drop(input);
    let out = child.wait_with_output().unwrap();
    match out.status.success() {
        true => written.map_err(|e| e.to_string()),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}

fn patch(s: &Scene) -> Vec<u8> {
    let set = s.scan();
    let mut patch = Vec::new();
    let skipped = write_patch(&s.sides(), &set.changes, CONTEXT, &mut patch).unwrap();
    let whole = |k: &Omitted| matches!(k, Omitted::EmptyDirectory | Omitted::Attributes);
    assert!(skipped.iter().all(|s| whole(&s.why)), "{skipped:?}");
    patch
}

/// What a view shows.
fn merged(s: &Scene) -> Tree {
    static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| Arc::new(Policy::builtin()));
    let lower = Arc::new(LowerDir::open(&s.lower()).unwrap());
    let judge = Arc::new(Judge::new(lower, Arc::clone(&POLICY), [7; 32], Vec::new()));
    let upper = UpperDir::open(&s.upper_dir(), &s.dir.path().join("work")).unwrap();
    let base = BaseStore::open(&s.dir.path().join("base")).unwrap();
    let view = View::new(ViewConfig { judge, upper, base, read_only: true }).unwrap();
    let (mut tree, mut todo) = (Tree::new(), vec![(ROOT, Vec::new())]);
    while let Some((dir, at)) = todo.pop() {
        let mut names = Vec::new();
        view.read_dir(dir, 0, |line| {
            names.extend(Name::new(line.name));
            true
        })
        .unwrap();
        for name in names {
            let entry = view.lookup(dir, &name).unwrap().unwrap();
            let path = [at.as_slice(), name.as_bytes()].concat();
            if entry.stat.is_dir() {
                todo.push((entry.id, [path.as_slice(), b"/"].concat()));
            } else if entry.stat.is_file() {
                let bytes = view.read(entry.id, 0, 1 << 20).unwrap();
                tree.insert(path, Node::File(bytes, entry.stat.permissions() & 0o100 != 0));
            } else {
                tree.insert(path, Node::Link(view.readlink(entry.id).unwrap()));
            }
        }
    }
    view.close();
    tree
}

/// What a patch may carry; each must come often enough for the test to mean it.
const CARRIED: &[&[u8]] = &[
    b"\nnew file mode 100644\n",
    b"\nnew file mode 100755\n",
    b"\nnew file mode 120000\n",
    b"\ndeleted file mode 100644\n",
    b"\nold mode 100644\nnew mode 100755\n",
    b"\nsimilarity index 100%\nrename from ",
    b"\nrename from ",
    b"\nGIT binary patch\n",
    b"\n\\ No newline at end of file\n",
    b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    b"diff --git \"a/",
    b"tab\\there",
    b"quo\\\"te",
    b"new\\nline",
    b"bad\\377",
    b"two words",
    b"\r\n",
];

#[test]
fn random_change_sets_through_git() {
    let (mut applied, mut bytes) = (0, 0);
    let mut carried = vec![0; CARRIED.len()];
    for seed in 1..=320_u64 {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut old = Tree::new();
        for _ in 0..rng.below(12) {
            let at = path(&mut rng);
            if fits(&old, &at) {
                old.insert(at, node(&mut rng));
            }
        }
        let s = Scene::new();
        let copy = s.dir.path().join("copy");
        fs::create_dir(&copy).unwrap();
        for (path, node) in &old {
            store(&s.lower(), path, node);
            store(&copy, path, node);
        }
        let mut new = old.clone();
        for _ in 0..1 + rng.below(8) {
            change(&mut rng, &mut new);
        }
        build_upper(&s, &mut rng, &old, &new);
        let patch = patch(&s);
        bytes += patch.len();
        for (n, what) in carried.iter_mut().zip(CARRIED) {
            *n += usize::from(memchr::memmem::find(&patch, what).is_some());
        }
        assert_eq!(merged(&s), new, "seed {seed}");
        if patch.is_empty() {
            assert_eq!(old, new, "seed {seed}");
            continue;
        }
        if let Err(error) = git_apply(&copy, &patch) {
            panic!("seed {seed}: {error}\n{}\n{:?}", String::from_utf8_lossy(&patch), s.shown());
        }
        let got = load(&copy);
        assert_eq!(got, new, "seed {seed}\n{}", String::from_utf8_lossy(&patch));
        applied += 1;
    }
    let rare = CARRIED.iter().zip(&carried).find(|(_, n)| **n < 5);
    assert_eq!(rare.map(|(what, n)| (what.escape_ascii().to_string(), n)), None);
    assert!(applied >= 300 && bytes > 100_000, "{applied} patches of {bytes} bytes");
}

#[test]
fn a_patch_looks_as_gits_does() {
    let s = Scene::new();
    put(&s.lower(), "dir/old name", "one\ntwo\nthree\n");
    s.rename("dir/old name", "dir/new name");
    fs::write(s.upper_dir().join("dir/new name"), "one\ntwo\n3").unwrap();
    s.write("empty", "");
    s.write("bin", b"\0\x01");
    assert_eq!(
        String::from_utf8(patch(&s)).unwrap(),
        "diff --git a/bin b/bin
new file mode 100644
index 0000000000000000000000000000000000000000..bdc955b7b2e610ad5a72302b139a2e6cb325519a
GIT binary patch
literal 2
Jc${Nk1ONa700IC2

literal 0
Hc$@<O00001

diff --git a/dir/old name b/dir/new name
similarity index 57%
rename from dir/old name
rename to dir/new name
index 4cb29ea38f70d7c61b2a3a25b02e3bdf44905402..c3641d0c49c8e079d16aa537d1cdf06430595601 100644
--- a/dir/old name\t
+++ b/dir/new name\t
@@ -1,3 +1,3 @@
 one
 two
-three
+3
\\ No newline at end of file
diff --git a/empty b/empty
new file mode 100644
index 0000000000000000000000000000000000000000..e69de29bb2d1d6434b8b29ae775ad8c2e48c5391
"
    );
}

#[test]
fn what_a_patch_cannot_carry_is_told() {
    let s = Scene::new();
    put(&s.lower(), "mode", "x\n");
    put(&s.lower(), ".git/index", "x");
    s.copy_up("mode");
    fs::set_permissions(s.upper_dir().join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(s.upper_dir().join("empty")).unwrap();
    s.write(".git/index", "yy");
    let mut out = Vec::new();
    let skipped = write_patch(&s.sides(), &s.scan().changes, CONTEXT, &mut out).unwrap();
    assert_eq!(out, b"");
    let why: Vec<String> = skipped.iter().map(|s| format!("{}: {:?}", s.path, s.why)).collect();
    assert_eq!(why, [".git: GitInternal", "empty: EmptyDirectory", "mode: Attributes"]);
}

#[test]
fn figures_of_a_change() {
    let s = Scene::new();
    put(&s.lower(), "f", "a\nb\nc\n");
    put(&s.lower(), "gone", "x\ny\n");
    s.write("f", "a\nB\nc\nd\n");
    s.write("bin", b"\0");
    s.delete("gone");
    let set = s.scan();
    let stats = super::diff_stat(&s.sides(), set.listed()).unwrap();
    let line = |s: &super::DiffStat| (s.path.to_string(), s.added, s.removed, s.binary);
    assert_eq!(
        stats.iter().map(line).collect::<Vec<_>>(),
        [("bin".into(), 0, 0, Some((0, 1))), ("f".into(), 2, 1, None), ("gone".into(), 0, 2, None)]
    );
}
