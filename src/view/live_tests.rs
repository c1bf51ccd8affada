//! Tests of what a view takes up when somebody else changed the layers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::path::Name;
use crate::view::testing::Lab;
use crate::view::{Notice, ROOT};

#[test]
fn what_moved_down_with_all_directories_above_it_keeps_its_nodes() {
    let lab = Lab::new(|at| {
        fs::create_dir_all(at("lower/a/b/c/d/e")).unwrap();
        fs::write(at("lower/a/b/c/d/e/f"), "old").unwrap();
    });
    let file = lab.walk("a/b/c/d/e/f").unwrap();
    lab.view.write(file.id, 0, b"new", false).unwrap();
    lab.change(|| {
        fs::rename(lab.at("upper/a/b/c/d/e/f"), lab.at("lower/a/b/c/d/e/f")).unwrap();
        fs::remove_dir_all(lab.at("upper/a")).unwrap();
    });
    assert_eq!(lab.read(file.id), b"new");
    assert_eq!(lab.walk("a/b/c/d/e/f").unwrap().id, file.id);
}

#[test]
fn names_of_one_lower_file_are_one_node_after_a_discard() {
    let lab = Lab::new(|at| {
        fs::create_dir(at("lower/d")).unwrap();
        fs::write(at("lower/d/one"), "old").unwrap();
        fs::hard_link(at("lower/d/one"), at("lower/two")).unwrap();
    });
    let [one, two] = ["d/one", "two"].map(|name| lab.walk(name).unwrap().id);
    assert_eq!(one, two);
    lab.view.write(one, 0, b"new", false).unwrap();
    assert_eq!(lab.read(two), b"new");
    lab.change(|| {
        fs::remove_dir_all(lab.at("upper/d")).unwrap();
        fs::remove_file(lab.at("upper/two")).unwrap();
    });
    let [one, two] = ["d/one", "two"].map(|name| lab.walk(name).unwrap().id);
    assert_eq!(one, two);
    assert_eq!(lab.read(one), b"old");
    lab.view.write(two, 0, b"own", false).unwrap();
    assert_eq!(lab.read(one), b"own");
}

#[test]
fn names_that_a_crash_kept_apart_are_linked_and_those_that_a_discard_did_are_not() {
    for crashed in [true, false] {
        let lab = Lab::new(|at| {
            fs::write(at("lower/one"), "old").unwrap();
            fs::hard_link(at("lower/one"), at("lower/two")).unwrap();
        });
        lab.view.write(lab.walk("one").unwrap().id, 0, b"new", false).unwrap();
        lab.view.close();
        fs::remove_file(lab.at("upper/two")).unwrap();
        if crashed {
            // What is there while the names are linked.
            std::os::unix::fs::symlink("one", lab.at("work/linking")).unwrap();
        }
        let again = Lab::open(lab.dir.path());
        let two = again.lookup(ROOT, &Name::new("two").unwrap()).unwrap().unwrap().id;
        let expected: &[u8] = if crashed { b"new" } else { b"old" };
        assert_eq!(again.read(two, 0, 9).unwrap(), expected);
        assert_eq!(fs::read_dir(lab.at("work")).unwrap().count(), 0);
        again.close();
    }
}

#[test]
fn a_name_that_became_another_file_is_not_the_old_nodes_any_more() {
    let lab = Lab::new(|at| {
        fs::write(at("lower/one"), "old").unwrap();
        fs::hard_link(at("lower/one"), at("lower/two")).unwrap();
    });
    let [one, two] = ["one", "two"].map(|name| lab.walk(name).unwrap().id);
    assert_eq!(one, two);
    lab.change(|| {
        fs::remove_file(lab.at("lower/two")).unwrap();
        fs::write(lab.at("lower/two"), "another").unwrap();
    });
    let [first, second] = ["one", "two"].map(|name| lab.walk(name).unwrap().id);
    assert_ne!(first, second);
    assert_eq!((lab.read(first), lab.read(second)), (b"old".to_vec(), b"another".to_vec()));
    assert_eq!(fs::metadata(lab.at("lower/one")).unwrap().ino(), first);
}

#[test]
fn the_kernel_is_told_of_names_that_it_may_know_as_absent() {
    let lab = Lab::new(|at| {
        for sub in ["lower/gone", "lower/d/inner"] {
            fs::create_dir_all(at(sub)).unwrap();
        }
    });
    let inner = lab.walk("d").unwrap().id;
    let name = |name: &str| Name::new(name).unwrap();
    lab.view.rmdir(ROOT, &name("gone")).unwrap();
    lab.view.rmdir(inner, &name("inner")).unwrap();
    assert!(lab.walk("gone").is_none() && lab.walk("d/inner").is_none());
    lab.change(|| {
        for sub in ["upper/gone", "upper/d/inner"] {
            fs::remove_file(lab.at(sub)).unwrap();
        }
    });
    let told = lab.view.next_notices().unwrap();
    for expected in [Notice::Entry(ROOT, name("gone")), Notice::Entry(inner, name("inner"))] {
        assert!(told.contains(&expected), "{expected:?}");
    }
}

#[test]
fn what_the_host_writes_while_it_is_listed_is_taken_back_from_the_kernel() {
    let lab = Lab::new(|at| {
        (0..9).for_each(|n| fs::write(at("lower").join(n.to_string()), "x").unwrap());
    });
    // Nobody waits for ever for a notice that does not come.
    let view = Arc::clone(&lab.view);
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(20));
        view.close();
    });
    let mut told: Vec<Notice> = Vec::new();
    let mut until = |wanted: &Notice| {
        while !told.contains(wanted) {
            told.extend(lab.view.next_notices().unwrap());
        }
    };
    let mut entered = Vec::new();
    let read = lab.view.read_dir_plus(ROOT, 0, |line, entry| {
        let Some(entry) = entry else { return true };
        if entered.is_empty() {
            // All entries were looked at by now, and no other one is known yet.
            for n in (0..9).map(|n: u64| n.to_string()).filter(|n| n.as_bytes() != line.name) {
                fs::write(lab.at("lower").join(&n), "longer").unwrap();
                until(&Notice::Entry(ROOT, Name::new(n).unwrap()));
            }
        }
        entered.push(*entry);
        true
    });
    read.unwrap();
    assert_eq!(entered.iter().filter(|e| e.stat.size == 1).count(), 9, "all of them are as they were");
    // One that is known may be so to the view alone: what is being answered comes first.
    let known = entered.last().unwrap().id;
    let name = (0..9)
        .map(|n: u64| n.to_string())
        .find(|n| fs::metadata(lab.at("lower").join(n)).unwrap().ino() == known);
    fs::write(lab.at("lower").join(name.unwrap()), "longest").unwrap();
    until(&Notice::Content(known));
    let place = |notice| told.iter().position(|n| *n == notice).unwrap();
    assert!(place(Notice::Answered(ROOT)) < place(Notice::Content(known)));
}
