//! A discard, a rebase and the undo of either, with a fault at every call: merged then shows each path as it was or as it was to be, lower is
//! untouched, and undo gives all back.

use super::faulty::{Fault, Faulty};
use super::lab::{Lab, tree};
use super::revisions::{OLD, one_of_each};
use crate::apply::discard::discard_on;
use crate::apply::rebase::rebase_on;
use crate::apply::undo::undo_last;
use crate::apply::workspace::Workspace;
use crate::apply::{Options, Take};
use crate::sys::Errno;

fn rebased() -> Lab {
    let lab = Lab::in_memory();
    for file in ["a", "b", "c"] {
        lab.put(file, OLD);
    }
    lab.agent_writes("a", OLD.replace("12\n", "twelve\n"));
    lab.agent_writes("b", OLD.replace("12\n", "twelve\n"));
    lab.copy_up("c");
    for file in ["a", "b", "c"] {
        lab.put(file, OLD.replace("1\n2\n", "one\n2\n"));
    }
    lab
}

/// Discards or rebases all; says whether that came to its end, and the number of calls.
fn act(lab: &Lab, rebase: bool, fault: Fault) -> (bool, usize) {
    let (set, options) = (lab.scan(), Options::default());
    lab.with(|site| {
        let workspace = Workspace::open_settled(site, true).unwrap();
        let disk = Faulty::new(&workspace.disk, &lab.root.join("grave"), fault);
        let ok = if rebase {
            rebase_on(&disk, site, &set, &options, 5, false).is_ok()
        } else {
            let chosen: Vec<_> = set.changes.iter().map(|c| (c, Take::Whole)).collect();
            discard_on(&disk, site, &set, &chosen, 5).is_ok()
        };
        (ok, disk.calls())
    })
}

fn undo(lab: &Lab, fault: Fault) -> (bool, usize) {
    lab.with(|site| {
        let workspace = Workspace::open_settled(site, true).unwrap();
        let disk = Faulty::new(&workspace.disk, &lab.root.join("grave"), fault);
        (undo_last(&disk, site).is_ok(), disk.calls())
    })
}

#[test]
fn a_fault_at_any_call_loses_nothing() {
    for rebase in [false, true] {
        let build = if rebase { rebased } else { one_of_each };
        let lab = build();
        let (before, lower) = (lab.merged(), tree(&lab.ws()));
        let (ok, calls) = act(&lab, rebase, Fault::Nothing);
        assert!(ok && calls > 10, "{calls} calls");
        let after = lab.merged();
        let undo_calls = undo(&lab, Fault::Nothing).1;
        assert_eq!(lab.merged(), before);
        for call in 0..calls {
            for fault in [Fault::Stop(call), Fault::Once(call, Errno::NOSPC), Fault::Full(call)] {
                let lab = build();
                let (ok, _) = act(&lab, rebase, fault);
                assert_eq!(tree(&lab.ws()), lower);
                let held = lab;
                let lab = Lab::open(&held.root);
                if rebase {
                    for (path, object) in lab.merged() {
                        let known = [&before, &after].iter().any(|t| t.get(&path) == Some(&object));
                        assert!(known, "call {call}: {path} {object:?}");
                    }
                    // Interrupted or not, the user's edits are in or still known as newer: an apply never undoes them.
                    let plan = lab.plan(&[]);
                    assert!(plan.is_clean(), "call {call}: {:?}", plan.conflicts);
                }
                if !ok || lab.merged() != before {
                    // What was begun and never recorded is nothing to undo.
                    let (undone, _) = undo(&lab, Fault::Nothing);
                    assert!(undone || lab.merged() == before, "call {call}");
                }
                assert_eq!(lab.merged(), before, "call {call} of {calls}, rebase {rebase}");
            }
        }
        for call in 0..undo_calls {
            let lab = build();
            act(&lab, rebase, Fault::Nothing);
            undo(&lab, Fault::Stop(call));
            let held = lab;
            let lab = Lab::open(&held.root);
            undo(&lab, Fault::Nothing);
            assert_eq!(lab.merged(), before, "undo stopped at call {call} of {undo_calls}, rebase {rebase}");
        }
    }
}
