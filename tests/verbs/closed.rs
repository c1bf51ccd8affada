//! What an ordinary user closed to himself, in the workspace or behind the mount, is no obstacle for the verbs that he types.

use super::World;

const LIST: &str = "find w -mindepth 1 -printf '%m %P\\n' | sort -k 2";

#[test]
fn closed_directories_are_applied_discarded_and_undone() {
    let Some(world) = World::of_ordinary(&[("open/a", "1\n"), ("closed/a", "1\n")]) else { return };
    world.sh("chmod 555 w/closed", true);
    let before = world.sh(LIST, true);
    world.sh("echo 2 >> m/open/a; echo 2 >> m/closed/a; mkdir -p m/new/deep; echo 1 > m/new/deep/f; echo 1 > m/new/g", true);
    world.sh("chmod 555 m/new/deep m/new m/open", true);
    let left = world.run(&["diff", "w", "--name-status"]);
    // Each way, whole, and back.
    for verb in ["discard", "apply"] {
        assert_eq!(world.run(&[verb, "w"]).0, 0, "{verb}");
        assert_eq!(world.run(&["undo", "w"]).0, 0, "undo of {verb}");
        assert_eq!(world.sh(LIST, true), before, "after {verb} and undo");
        assert_eq!(world.run(&["diff", "w", "--name-status"]), left, "after {verb} and undo");
    }
    assert_eq!(world.run(&["discard", "w", "new/deep/f"]).0, 0);
    assert_eq!(world.run(&["apply", "w"]).0, 0);
    let after = world.sh(LIST, true);
    assert_eq!(after, "555 closed\n644 closed/a\n555 new\n644 new/g\n555 open\n644 open/a\n");
    assert_eq!(world.sh("cat m/closed/a w/open/a", true), "1\n2\n1\n2\n");
}

#[test]
fn what_nobody_can_look_into_is_discarded_whole() {
    let Some(world) = World::of_ordinary(&[("a", "1\n")]) else { return };
    world.sh("mkdir -p m/d/e; echo 1 > m/d/e/f; chmod 0 m/d/e", true);
    assert_eq!(world.run(&["apply", "w"]).0, 3);
    assert_eq!(world.run(&["discard", "w"]).0, 0);
    assert_eq!(world.sh("ls m", true), "a\n");
    assert_eq!(world.run(&["undo", "w"]).0, 0);
    assert_eq!(world.sh("chmod 700 m/d/e; cat m/d/e/f", true), "1\n");
}
