//! Discards and rebases: what they make of merged, that lower stays as it is, and that `undo` gives back what was there or refuses.

use std::collections::BTreeMap;
use std::fs;

use super::lab::{Lab, Object, Tree, chmod, open_gates, rel, tree};
use crate::apply::store;
use crate::apply::workspace::Workspace;
use crate::apply::{self, ApplyError, ConflictMode, Execution, Options, Pattern, Rebased, RebasedHow, What};
use crate::change::{CONTEXT, Sides, TextDiff};
use crate::judge::EntryVerdict;
use crate::layer::UpperEntry;

impl Lab {
    fn options(&self, paths: &[&str]) -> Options {
        let paths = paths.iter().map(|p| Pattern::parse(p.as_bytes()).unwrap()).collect();
        Options { paths, ..Options::default() }
    }

    fn discard_with(&self, options: &Options) -> apply::Result<()> {
        let set = self.scan();
        self.with(|site| {
            let chosen = apply::named(site, &set, options)?;
            apply::discard(site, &set, &chosen, Execution::default()).map(|_| ())
        })
    }

    pub(super) fn discard(&self, paths: &[&str]) {
        self.discard_with(&self.options(paths)).unwrap();
    }

    fn rebase_with(&self, conflicts: ConflictMode, paths: &[&str]) -> Rebased {
        let options = Options { conflicts, ..self.options(paths) };
        let set = self.scan();
        self.with(|site| apply::rebase(site, &set, &options, Execution::default(), false)).unwrap()
    }

    fn rebase(&self) -> Rebased {
        self.rebase_with(ConflictMode::Refuse, &[])
    }

    /// What the agent sees: paths with type, mode and content.
    pub(super) fn merged(&self) -> Tree {
        fn walk(lab: &Lab, dir: &str, all: &mut Tree) {
            let here = rel(dir);
            let list = |root: std::path::PathBuf| -> Vec<String> {
                let entries = fs::read_dir(root.join(dir)).into_iter().flatten();
                entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
            };
            let mut names: BTreeMap<String, bool> = BTreeMap::new();
            let opaque = matches!(lab.upper.entry(&here).unwrap(), UpperEntry::Opaque(_));
            let in_lower =
                here.is_root() || matches!(lab.judge.whole_path(&here), Ok(EntryVerdict::Shown(_)));
            if !opaque && in_lower && lab.ws().join(dir).is_dir() {
                names.extend(list(lab.ws()).into_iter().map(|n| (n, false)));
            }
            names.extend(list(lab.up()).into_iter().map(|n| (n, true)));
            for (name, upper) in names {
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                if upper && lab.upper.entry(&rel(&path)).unwrap() == UpperEntry::Whiteout {
                    continue;
                }
                if !upper && !matches!(lab.judge.whole_path(&rel(&path)), Ok(EntryVerdict::Shown(_))) {
                    continue;
                }
                let root = if upper { lab.up() } else { lab.ws() };
                let one = single(&root.join(&path));
                let is_dir = root.join(&path).symlink_metadata().unwrap().is_dir();
                all.insert(path.clone(), one);
                if is_dir {
                    walk(lab, &path, all);
                }
            }
        }
        let mut all = Tree::new();
        walk(self, "", &mut all);
        all
    }

    fn upper_text(&self, path: &str) -> String {
        fs::read_to_string(self.up().join(path)).unwrap()
    }
}

fn single(path: &std::path::Path) -> Object {
    use std::os::unix::fs::MetadataExt as _;
    let meta = path.symlink_metadata().unwrap();
    let content = if meta.is_file() {
        fs::read(path).unwrap()
    } else if meta.is_symlink() {
        fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
    } else {
        Vec::new()
    };
    Object(meta.mode(), content)
}

/// One change of each sort.
pub(super) fn one_of_each() -> Lab {
    let lab = Lab::in_memory();
    for file in
        ["edited", "gone", "mode", "moved-from", "dir/a", "dir/sub/b", "opaque/x", "opaque/y", "retyped"]
    {
        lab.put(file, format!("the content of {file}\n"));
    }
    lab.put("open/kept", "kept\n");
    lab.agent_writes("edited", "new\n");
    lab.agent_deletes("gone");
    lab.agent_chmods("mode", 0o600);
    lab.agent_moves("moved-from", "fresh/moved-to");
    lab.agent_writes("fresh/deep/new", "new\n");
    lab.agent_deletes("dir");
    lab.agent_makes_dir("opaque");
    lab.agent_writes("opaque/x", "made anew\n");
    lab.agent_makes_dir("retyped");
    lab.agent_writes("retyped/in", "in\n");
    lab.agent_chmods("open", 0o700);
    lab.agent_links("link", "edited");
    lab
}

#[test]
fn all_discarded_is_lower_and_undone_is_what_was() {
    let lab = one_of_each();
    let (lower, merged, left) = (tree(&lab.ws()), lab.merged(), lab.left());
    lab.discard(&[]);
    assert_eq!(lab.merged(), lower);
    assert_eq!(lab.left(), [""; 0]);
    let left_over: Vec<String> = tree(&lab.up()).into_keys().collect();
    assert_eq!(left_over, ["open"], "whose mode is lower's again");
    let done = lab.undo().unwrap();
    assert_eq!(done.what, What::Discard);
    assert_eq!((lab.merged(), lab.left(), tree(&lab.ws())), (merged, left, lower));
    assert!(matches!(lab.undo(), Err(ApplyError::NothingToUndo)));
}

#[test]
fn each_change_alone_can_be_discarded_and_brought_back() {
    for (path, shows) in [
        ("edited", "edited"),
        ("gone", "gone"),
        ("mode", "mode"),
        ("fresh/moved-to", "moved-from"),
        ("fresh/deep/new", ""),
        ("dir/a", "dir/a"),
        ("dir/sub/b", "dir/sub/b"),
        ("dir", "dir/sub/b"),
        ("opaque/x", "opaque/x"),
        ("opaque/y", "opaque/y"),
        ("retyped", "retyped"),
        ("open", "open"),
        ("link", ""),
        ("*.nothing", ""),
    ] {
        let lab = one_of_each();
        let (lower, merged, left) = (tree(&lab.ws()), lab.merged(), lab.left());
        let options = lab.options(&[path]);
        if path == "*.nothing" {
            assert!(matches!(lab.discard_with(&options), Err(ApplyError::NoMatch { .. })));
            continue;
        }
        let meant: Vec<String> = apply::matching(&lab.scan(), &options.paths)
            .unwrap()
            .iter()
            .map(|c| c.path.to_string())
            .collect();
        lab.discard_with(&options).unwrap();
        let now = lab.merged();
        if shows.is_empty() {
            assert!(!now.contains_key(path), "{path} is gone");
        } else {
            assert_eq!(now.get(shows), lower.get(shows), "{shows} is lower's");
        }
        // Nothing else has changed, but for directories that came or went with it.
        for (other, object) in &merged {
            let touched = meant.iter().any(|m| m == other) || other == shows || object.0 & 0o40_000 != 0;
            assert!(touched || now.get(other) == Some(object), "{path}: {other} {:?}", now.get(other));
        }
        for other in now.keys() {
            let back = rel(shows).starts_with(&rel(other)) || rel(other).starts_with(&rel(path));
            assert!(merged.contains_key(other) || back, "{path}: {other} is new");
        }
        lab.undo().unwrap();
        assert_eq!((lab.merged(), lab.left()), (merged, left), "undo of {path}");
        assert_eq!(tree(&lab.ws()), lower);
    }
}

#[test]
fn a_discard_is_not_undone_where_merged_has_moved_on() {
    let lab = one_of_each();
    lab.discard(&["edited", "gone"]);
    lab.agent_writes("edited", "again\n");
    let Err(ApplyError::EditedSince(paths)) = lab.undo() else { panic!("undone") };
    assert_eq!(paths.iter().map(|r| r.path.to_string()).collect::<Vec<_>>(), ["edited"]);
    assert_eq!((lab.upper_text("edited").as_str(), lab.in_merged("gone")), ("again\n", true));
    lab.discard(&["edited"]);
    lab.put("gone", "the user's\n");
    lab.undo().unwrap();
    let Err(ApplyError::EditedSince(paths)) = lab.undo() else { panic!("undone") };
    assert_eq!(paths.iter().map(|r| r.path.to_string()).collect::<Vec<_>>(), ["edited", "gone"]);
}

impl Lab {
    fn in_merged(&self, path: &str) -> bool {
        self.merged().contains_key(path)
    }
}

#[test]
fn a_base_comes_back_with_its_change() {
    let lab = Lab::new();
    lab.put("f", "1\n2\n3\n4\n5\n");
    lab.agent_writes("f", "1\n2\n3\n4\nfive\n");
    lab.put("f", "one\n2\n3\n4\n5\n");
    lab.discard(&["f"]);
    lab.undo().unwrap();
    // The user's edit is still known as one that the agent did not undo.
    lab.apply();
    assert_eq!(fs::read_to_string(lab.ws().join("f")).unwrap(), "one\n2\n3\n4\nfive\n");
}

pub(super) const OLD: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
const NEW: &str = "one\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\ntwelve\n";

fn hunk(lab: &Lab, path: &str, at: usize) -> String {
    let set = lab.scan();
    let sides = Sides::new(&lab.judge, &lab.upper, &lab.base);
    let change = set.get(&rel(path)).unwrap();
    let text = TextDiff::new(sides.old(change).unwrap(), sides.new_content(change).unwrap());
    text.hunks(&rel(path), CONTEXT)[at].id.clone()
}

#[test]
fn a_hunk_is_dropped_and_the_rest_stays() {
    let lab = Lab::new();
    lab.put("f", OLD);
    lab.agent_writes("f", NEW);
    let id = hunk(&lab, "f", 0);
    lab.discard_with(&Options { hunks: vec![id.clone()], ..Options::default() }).unwrap();
    assert_eq!(lab.upper_text("f"), OLD.replace("12\n", "twelve\n"));
    lab.undo().unwrap();
    assert_eq!(lab.upper_text("f"), NEW);
    let both = Options { hunks: vec![id, hunk(&lab, "f", 1)], ..Options::default() };
    lab.discard_with(&both).unwrap();
    assert_eq!(tree(&lab.up()), Tree::new(), "all hunks are the whole change");
    lab.undo().unwrap();
    assert_eq!(lab.left(), ["M f"]);
    let unknown = Options { hunks: vec!["0123456789abcdef".into()], ..Options::default() };
    assert!(matches!(lab.discard_with(&unknown), Err(ApplyError::NoHunk { .. })));
}

#[test]
fn a_dropped_hunk_leaves_attributes_and_the_other_names() {
    let lab = Lab::new();
    lab.put("f", OLD);
    lab.agent_writes("f", NEW);
    lab.agent_chmods("f", 0o755);
    fs::hard_link(lab.up().join("f"), lab.up().join("g")).unwrap();
    let id = hunk(&lab, "f", 1);
    lab.discard_with(&Options { hunks: vec![id], ..Options::default() }).unwrap();
    assert_eq!(single(&lab.up().join("f")), Object(0o100_755, OLD.replace("1\n2\n", "one\n2\n").into()));
    assert_eq!(lab.upper_text("g"), NEW);
}

#[test]
fn masks_are_dropped_as_masks() {
    let lab = Lab::new();
    let secret = "npm_aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cD3fG6";
    let lower = format!("//r.example/:_authToken={secret}\n{}", "x\n".repeat(9));
    lab.put(".npmrc", &lower);
    lab.copy_up(".npmrc");
    let shown = lab.upper_text(".npmrc");
    assert!(!shown.contains(secret), "{shown}");
    lab.agent_writes(".npmrc", format!("first\n{shown}last\n"));
    let id = hunk(&lab, ".npmrc", 1);
    lab.discard_with(&Options { hunks: vec![id], ..Options::default() }).unwrap();
    assert_eq!(lab.upper_text(".npmrc"), format!("first\n{shown}"));
    lab.put(".npmrc", format!("{lower}; user\n"));
    assert_eq!(lab.rebase().conflicts, []);
    assert_eq!(lab.upper_text(".npmrc"), format!("first\n{shown}; user\n"));
    for path in [lab.up(), lab.state().join("undo"), lab.state().join("base")] {
        let all = tree(&path);
        let leak = all.iter().find(|(_, o)| o.1.windows(secret.len()).any(|w| w == secret.as_bytes()));
        assert!(leak.is_none(), "{leak:?}");
    }
    let plan = lab.plan_with(&Options {
        allow: ["redacted", "secret", "auto-exec"].map(|f| apply::Allow::parse(f.as_bytes()).unwrap()).into(),
        ..open_gates()
    });
    lab.execute(&plan).unwrap();
    assert_eq!(fs::read_to_string(lab.ws().join(".npmrc")).unwrap(), format!("first\n{lower}; user\n"));
}

fn hows(done: &Rebased) -> Vec<(String, RebasedHow)> {
    done.taken.iter().map(|t| (t.path.to_string(), t.how)).collect()
}

#[test]
fn a_rebase_takes_what_is_new_and_names_what_conflicts() {
    let lab = Lab::new();
    for file in ["apart", "same-line", "untouched", "gone", "mode", "moved", "equal", "both-gone"] {
        lab.put(file, OLD);
    }
    lab.agent_writes("apart", OLD.replace("12\n", "twelve\n"));
    lab.agent_writes("same-line", OLD.replace("12\n", "twelve\n"));
    for file in ["untouched", "gone"] {
        lab.copy_up(file);
    }
    lab.agent_chmods("mode", 0o755);
    lab.agent_moves("moved", "to/moved");
    lab.agent_writes("equal", NEW);
    lab.agent_deletes("both-gone");
    lab.agent_writes("added", "agent's\n");
    // The user goes on.
    let users = OLD.replace("1\n2\n", "one\n2\n");
    for file in ["apart", "untouched", "mode", "moved"] {
        lab.put(file, &users);
    }
    lab.put("same-line", OLD.replace("12\n", "dozen\n"));
    lab.put("equal", NEW);
    lab.put("added", "user's\n");
    fs::remove_file(lab.ws().join("gone")).unwrap();
    fs::remove_file(lab.ws().join("both-gone")).unwrap();
    let (lower, before) = (tree(&lab.ws()), lab.merged());

    let done = lab.rebase();
    assert_eq!(
        hows(&done),
        [
            ("apart".into(), RebasedHow::Merged),
            ("equal".into(), RebasedHow::Taken),
            ("gone".into(), RebasedHow::Deleted),
            ("mode".into(), RebasedHow::Taken),
            ("to/moved".into(), RebasedHow::Merged),
            ("untouched".into(), RebasedHow::Taken),
        ]
    );
    let conflicts: Vec<(String, &str)> =
        done.conflicts.iter().map(|c| (c.path.to_string(), c.reason.as_str())).collect();
    assert_eq!(conflicts, [("added".to_owned(), "same-lines"), ("same-line".to_owned(), "same-lines")]);
    assert_eq!(lab.upper_text("apart"), NEW);
    assert_eq!(lab.upper_text("to/moved"), users);
    assert_eq!(single(&lab.up().join("mode")), Object(0o100_755, users.clone().into()));
    assert!(!lab.in_merged("gone") && !lab.in_merged("both-gone"));
    assert_eq!(lab.merged().get("untouched"), lower.get("untouched"));
    assert_eq!(lab.upper_text("same-line"), OLD.replace("12\n", "twelve\n"), "left as it was");
    assert_eq!(tree(&lab.ws()), lower, "lower is not touched");
    // The bases are lower of today: what is left to say is the agent's own work.
    let again = lab.rebase();
    assert_eq!((again.taken, again.conflicts.len(), again.id), (Vec::new(), 2, None));
    assert_eq!(lab.undo().unwrap().what, What::Rebase);
    assert_eq!(lab.merged(), before);
    assert_eq!(lab.rebase().taken.len(), 6, "the old bases are back");

    let marked = lab.rebase_with(ConflictMode::Markers, &["same-line"]);
    assert_eq!(hows(&marked), [("same-line".into(), RebasedHow::Markers)]);
    assert!(lab.upper_text("same-line").contains("<<<<<<< workspace\ndozen\n"));
    lab.agent_writes("same-line", OLD.replace("12\n", "a dozen\n"));
    lab.discard(&["added"]);
    lab.apply();
    assert_eq!(fs::read_to_string(lab.ws().join("same-line")).unwrap(), OLD.replace("12\n", "a dozen\n"));
    assert_eq!(fs::read_to_string(lab.ws().join("apart")).unwrap(), NEW);
}

#[test]
fn what_a_rebase_cannot_solve_is_named_and_left() {
    type Edit = fn(&Lab);
    let cases: [(Edit, Edit, &str); 5] = [
        (|l| l.agent_deletes("f"), |l| l.put("f", "new\n"), "deleted-here-edited-there"),
        (
            |l| l.agent_writes("f", "x"),
            |l| fs::remove_file(l.ws().join("f")).unwrap(),
            "edited-here-deleted-there",
        ),
        (
            |l| l.agent_writes("f", "x"),
            |l| {
                fs::remove_file(l.ws().join("f")).unwrap();
                l.put("f/in", "x");
            },
            "type-against-content",
        ),
        (|l| l.agent_writes("f", b"a\0b"), |l| l.put("f", b"c\0d"), "binary"),
        (|l| l.agent_chmods("f", 0o700), |l| chmod(&l.ws().join("f"), 0o600), "mode-both"),
    ];
    for (agent, user, name) in cases {
        let lab = Lab::new();
        lab.put("f", "old\n");
        agent(&lab);
        user(&lab);
        let before = lab.merged();
        let done = lab.rebase();
        let reasons: Vec<&str> = done.conflicts.iter().map(|c| c.reason.as_str()).collect();
        assert!(reasons.contains(&name), "{name}: {reasons:?}");
        assert_eq!(done.taken, []);
        assert_eq!(lab.merged(), before, "{name}");
        assert!(matches!(lab.undo(), Err(ApplyError::NothingToUndo)), "{name}: nothing was done");
    }
}

#[test]
fn the_last_five_of_either_sort_can_be_undone() {
    let lab = Lab::new();
    lab.agent_writes("applied", "x\n");
    lab.apply();
    for n in 0..7 {
        let name = format!("f{n}");
        lab.agent_writes(&name, "x\n");
        lab.discard(&[&name]);
    }
    for n in (2..7).rev() {
        lab.undo().unwrap();
        assert!(lab.in_merged(&format!("f{n}")));
    }
    assert_eq!(lab.undo().unwrap().what, What::Apply, "discards have not pushed it out");
    assert!(matches!(lab.undo(), Err(ApplyError::NothingToUndo)));
}

#[test]
fn kept_content_goes_when_nothing_can_need_it_any_more() {
    let lab = Lab::new();
    let kept = |lab: &Lab| fs::read_dir(lab.state().join("base/content")).unwrap().count();
    let collect = |lab: &Lab| {
        lab.with(|site| {
            let workspace = Workspace::open_settled(site, true).unwrap();
            store::collect(&workspace.disk, site, std::time::Duration::ZERO).unwrap();
        });
    };
    for file in ["applied", "discarded", "pending"] {
        lab.put(file, format!("{file}\n"));
        lab.agent_writes(file, "new\n");
    }
    assert_eq!(kept(&lab), 3);
    lab.execute(&lab.plan(&["applied"])).unwrap();
    lab.discard(&["discarded"]);
    collect(&lab);
    assert_eq!(kept(&lab), 3, "an undo needs them");
    lab.undo().unwrap();
    lab.undo().unwrap();
    collect(&lab);
    assert_eq!((kept(&lab), lab.left().len()), (3, 3));
    fs::write(lab.ws().join("applied"), "edited since\n").unwrap();
    let done = lab.rebase();
    assert_eq!(done.conflicts.len(), 1, "it was merged with the base: {done:?}");
    for file in ["applied", "discarded"] {
        lab.discard(&[file]);
    }
    fs::remove_dir_all(lab.state().join("undo")).unwrap();
    collect(&lab);
    assert_eq!(kept(&lab), 1);
    assert_eq!(lab.left(), ["M pending"]);
}

#[test]
fn an_interrupted_apply_comes_first() {
    let lab = Lab::new();
    lab.put("f", "x\n");
    lab.agent_writes("f", "y\n");
    fs::write(lab.state().join("apply-000000000000-00000000.journal"), "torn").unwrap();
    let options = Options::default();
    assert!(matches!(lab.discard_with(&options), Err(ApplyError::Interrupted(_))));
    let set = lab.scan();
    let tried = lab.with(|site| apply::rebase(site, &set, &options, Execution::default(), false));
    assert!(matches!(tried, Err(ApplyError::Interrupted(_))));
    assert_eq!(lab.upper_text("f"), "y\n");
}
