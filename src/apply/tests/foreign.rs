//! A masked value that the agent copied into another file becomes the secret only on the user's word, and is never guessed.

use std::fs;

use super::lab::{Lab, open_gates, rel};
use crate::apply::{ApplyError, Options, Pattern, Plan, Reason};
use crate::judge::EntryVerdict;

const SECRET: &str = "Zx81kQpLmN44vRt0Yw7cHd";
const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.put(".npmrc", format!("save-exact=true\n_auth={SECRET}\n"));
    lab.put("app.py", "import os\n");
    lab
}

/// What the agent reads.
fn shown(lab: &Lab, path: &str) -> String {
    let EntryVerdict::Shown(verdict) = lab.judge.whole_path(&rel(path)).unwrap() else {
        panic!("{path} is hidden");
    };
    String::from_utf8(lab.judge.whole(&rel(path), &verdict, 1 << 20).unwrap().masked()).unwrap()
}

fn mask(lab: &Lab) -> String {
    shown(lab, ".npmrc").split_once("_auth=").unwrap().1.trim_end().to_owned()
}

fn restoring(at: &str) -> Options {
    Options { restore: vec![Pattern::parse(at.as_bytes()).unwrap()], ..open_gates() }
}

fn reason(plan: &Plan) -> &Reason {
    &plan.conflicts.first().unwrap().reason
}

#[test]
fn a_copied_mask_becomes_the_secret_where_the_user_says_so_and_nowhere_else() {
    let lab = lab();
    let text = format!("# new\nregistry = \"{0}\"\nagain = \"{0}\"\n", mask(&lab));
    lab.agent_writes("conf/new.toml", &text);
    lab.agent_writes("conf/other.toml", &text);
    assert_eq!(lab.plan(&[]).gated.len(), 2, "the flag blocks both");
    let plan = lab.plan_with(&restoring("conf/new.toml"));
    assert_eq!(plan.gated.iter().map(|g| g.path.to_string()).collect::<Vec<_>>(), ["conf/other.toml"]);
    assert_eq!(plan.notes[0].what.to_string(), "2 masks become the secrets of .npmrc");
    assert!(!plan.to_json().unwrap().contains(SECRET) && !format!("{plan:?}").contains(SECRET));
    let paths = vec![Pattern::parse(b"conf/new.toml").unwrap()];
    let plan = lab.plan_with(&Options { paths, ..restoring("conf/new.toml") });
    let plan = Plan::from_json(&plan.to_json().unwrap()).unwrap();
    lab.execute(&plan).unwrap();
    let wanted = format!("# new\nregistry = \"{SECRET}\"\nagain = \"{SECRET}\"\n");
    assert_eq!(fs::read_to_string(lab.ws().join("conf/new.toml")).unwrap(), wanted);
    assert_eq!(shown(&lab, "conf/new.toml"), text, "the agent reads the mask as before");
    lab.undo().unwrap();
    assert_eq!(fs::read_to_string(lab.up().join("conf/new.toml")).unwrap(), text);
}

#[test]
fn a_mask_goes_from_one_redacted_file_into_another() {
    let lab = lab();
    lab.put("sub/.npmrc", "_auth=Qq92jWsDfG55hBn1UxAb\n");
    let own = shown(&lab, "sub/.npmrc");
    lab.agent_writes("sub/.npmrc", format!("{own}//r.example/:_authToken={}\n", mask(&lab)));
    let plan = lab.plan_with(&restoring("sub"));
    assert!(plan.is_clean(), "{:?} {:?}", plan.conflicts, plan.gated);
    lab.execute(&plan).unwrap();
    let wanted = format!("_auth=Qq92jWsDfG55hBn1UxAb\n//r.example/:_authToken={SECRET}\n");
    assert_eq!(fs::read_to_string(lab.ws().join("sub/.npmrc")).unwrap(), wanted);
}

#[test]
fn a_secret_beside_the_mask_needs_a_word_of_its_own() {
    let lab = lab();
    lab.agent_writes("new.toml", format!("a = \"{}\"\nb = \"{TOKEN}\"\n", mask(&lab)));
    let plan = lab.plan_with(&restoring("new.toml"));
    assert!(plan.gated[0].flags[0].why.starts_with("line 2 matches rule "), "{:?}", plan.gated);
}

#[test]
fn a_mask_whose_secret_is_not_found_whole_refuses_the_change() {
    let lab = lab();
    let mask = mask(&lab);
    for (name, text) in [
        ("cut", mask[..mask.len() - 1].to_owned()),
        ("edited", mask.replacen(&mask[12..13], "0", 1)),
        ("made up", "REDACTEDabcdefghijklmn".to_owned()),
    ] {
        lab.agent_writes("new.toml", format!("x = 1\na = \"{text}\"\n"));
        if lab.plan(&[]).is_clean() {
            // No mask by its look, so there is nothing to restore.
            let options = restoring("new.toml");
            let refused = lab.with(|site| crate::apply::plan(site, &lab.scan(), &options));
            assert!(matches!(refused, Err(ApplyError::NothingToRestore { .. })), "{name}");
        } else {
            let plan = lab.plan_with(&restoring("new.toml"));
            assert_eq!(*reason(&plan), Reason::UnknownMask { lines: vec![2] }, "{name}");
        }
    }
    // The origin is gone, or has changed since the plan.
    lab.agent_writes("new.toml", format!("a = \"{mask}\"\n"));
    let plan = lab.plan_with(&restoring("new.toml"));
    lab.put(".npmrc", "_auth=Qq92jWsDfG55hBn1UxAb00\n");
    assert!(matches!(lab.execute(&plan), Err(ApplyError::Stale { path, .. }) if path == rel(".npmrc")));
    assert_eq!(*reason(&lab.plan_with(&restoring("new.toml"))), Reason::UnknownMask { lines: vec![1] });
    assert!(!lab.ws().join("new.toml").exists());
}

#[test]
fn a_secret_is_not_written_where_the_agent_could_read_it_afterwards() {
    let lab = lab();
    // Moved, not copied: nothing but the new place would have the value.
    let mask = mask(&lab);
    lab.agent_writes(".npmrc", "save-exact=true\n");
    lab.agent_writes("app.py", format!("import os\nx = '{mask}'\n"));
    assert_eq!(*reason(&lab.plan_with(&restoring("app.py"))), Reason::ShownThere { lines: vec![2] });
    // A file whose rule masks the value by itself may take it.
    lab.agent_deletes("app.py");
    lab.agent_writes("sub/.npmrc", format!("_auth={mask}\n"));
    let plan = lab.plan_with(&restoring("sub/.npmrc"));
    assert!(plan.is_clean(), "{:?} {:?}", plan.conflicts, plan.gated);
    lab.execute(&plan).unwrap();
    assert_eq!(fs::read_to_string(lab.ws().join("sub/.npmrc")).unwrap(), format!("_auth={SECRET}\n"));
    assert_eq!(shown(&lab, "sub/.npmrc"), format!("_auth={mask}\n"));
}

/// Short text, short hex, a JWT and a private key have masks that look like nothing.
#[test]
fn masks_without_a_stem_are_known_by_what_lower_masks() {
    let lab = Lab::new();
    let policy = lab.judge.policy();
    let jwt = policy.samples(1).into_iter().find(|s| &*policy.rule(s.rule).id == "jwt").unwrap();
    let jwt = String::from_utf8(jwt.text).unwrap();
    let line = blake3::hash(b"key").to_hex().to_uppercase();
    let key = format!("-----BEGIN {0} KEY-----\n{line}\n{line}\n-----END {0} KEY-----\n", "PRIVATE");
    lab.put(".npmrc", "_auth=q8Zk3LmPw0TtY\n//r.example/:_authToken=0f1e2d3c4b5a6978\n");
    lab.put("notes.txt", format!("token {jwt}\n"));
    lab.put("key.txt", &key);
    for (name, secret, from) in [
        ("text", "_auth=q8Zk3LmPw0TtY\n", ".npmrc"),
        ("hex", "//r.example/:_authToken=0f1e2d3c4b5a6978\n", ".npmrc"),
        ("jwt", jwt.as_str(), "notes.txt"),
        ("key", key.as_str(), "key.txt"),
    ] {
        let original = fs::read_to_string(lab.ws().join(from)).unwrap();
        let at = original.find(secret).unwrap();
        let copied = shown(&lab, from)[at..at + secret.len()].to_owned();
        assert_ne!(copied, secret, "{name}");
        lab.agent_writes("new.txt", format!("# new\n{copied}"));
        let gated = lab.plan(&[]).gated;
        let why = &gated.first().unwrap_or_else(|| panic!("{name} is not flagged")).flags[0];
        assert!(why.only_masks && why.why.contains("holds the mask of a secret"), "{name}: {why:?}");
        let plan = lab.plan_with(&restoring("new.txt"));
        assert!(plan.is_clean(), "{name}: {:?} {:?}", plan.conflicts, plan.gated);
        lab.execute(&plan).unwrap();
        assert_eq!(
            fs::read_to_string(lab.ws().join("new.txt")).unwrap(),
            format!("# new\n{secret}"),
            "{name}"
        );
        lab.undo().unwrap();
        lab.agent_deletes("new.txt");
    }
}

/// The survey of all of lower is the costly part.
#[test]
fn lower_is_surveyed_once_for_all_files_that_masks_are_restored_in() {
    let lab = lab();
    let text = format!("a = \"{}\"\n", mask(&lab));
    (0..4).for_each(|n| lab.agent_writes(&format!("conf/{n}.toml"), &text));
    let before = lab.judge.scans();
    assert!(lab.plan_with(&restoring("conf/0.toml")).gated.len() == 3);
    let one = lab.judge.scans() - before;
    let plan = lab.plan_with(&restoring("conf"));
    assert!(plan.is_clean(), "{:?} {:?}", plan.conflicts, plan.gated);
    assert!(lab.judge.scans() - before - one <= one + 4, "each file more is a survey more");
}
