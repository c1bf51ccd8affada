//! Whatever call of an apply or an undo fails, wherever it stops, and whatever of its unsynced writes a power loss takes: afterwards the
//! workspace is exactly as before or exactly as after, the session holds what it held or what is left, and nothing hidden is touched.
//! Recovery may be interrupted as well.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::faulty::{Fault, Faulty};
use super::lab::{Lab, Tree, chmod, tree};
use crate::apply::contents::Fit;
use crate::apply::execute::run;
use crate::apply::journal::Kind;
use crate::apply::recover::recover_on;
use crate::apply::undo::run_undo;
use crate::apply::workspace::Workspace;
use crate::apply::{ApplyError, Done, Recovered, Result, Way, pending, store};
use crate::sys::Errno;

const WAYS: [Way; 2] = [Way::Continue, Way::Abort];

/// Everything takes minutes: every fault at every call of every scene, and all subsets of up to 12 unsynced writes. Without it the
/// first scene meets every fault at every call, the others one fault at each.
fn thorough() -> bool {
    std::env::var_os("SCRUBFS_TEST_THOROUGH").is_some()
}

/// What happens.
#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    build: fn() -> Lab,
    undo: bool,
    keep: usize,
}

const SCENES: [Scene; 4] = [
    Scene { name: "one of each", build: one_of_each, undo: false, keep: 5 },
    Scene { name: "many files", build: many_files, undo: false, keep: 1 },
    Scene { name: "other types", build: other_types, undo: false, keep: 0 },
    Scene { name: "undo", build: one_of_each, undo: true, keep: 5 },
];

fn one_of_each() -> Lab {
    let lab = Lab::in_memory();
    lab.put("edited", "old\n");
    lab.put("gone", "gone\n");
    lab.put("mode", "mode\n");
    lab.put("moved", "some content to be moved\n");
    lab.put("dir/.env", "TOKEN=hidden\n");
    lab.put("dir/file", "x\n");
    lab.agent_writes("edited", "new\n");
    lab.agent_deletes("gone");
    lab.agent_deletes("dir");
    lab.agent_writes("fresh/a", "a\n");
    lab.agent_moves("moved", "fresh/moved");
    lab.agent_chmods("mode", 0o600);
    lab
}

fn many_files() -> Lab {
    let lab = Lab::in_memory();
    lab.put("d0/kept", "kept\n");
    for n in 0..10 {
        lab.put(&format!("d{}/old", n % 3), "old\n");
    }
    for n in 0..10 {
        lab.agent_writes(&format!("d{}/new{n}", n % 3), format!("{n}\n"));
    }
    lab.agent_writes("d1/old", "edited\n");
    lab.agent_deletes("d2");
    lab
}

fn other_types() -> Lab {
    let lab = Lab::in_memory();
    lab.put("was-file", "x\n");
    lab.put("was-dir/a", "a\n");
    lab.put("opaque/old", "old\n");
    lab.agent_deletes("was-file");
    lab.agent_makes_dir("was-file");
    lab.agent_writes("was-file/in", "in\n");
    lab.agent_deletes("was-dir");
    lab.agent_links("was-dir", "opaque");
    lab.agent_makes_dir("opaque");
    lab.agent_writes("opaque/new", "new\n");
    lab.agent_makes_fifo("fifo");
    lab
}

/// Lower and what is left in upper.
#[derive(Debug, PartialEq, Eq)]
struct View(Tree, Vec<String>);

fn view(lab: &Lab) -> View {
    View(tree(&lab.ws()), lab.left())
}

/// Both ends of a scene, and its calls.
struct Ends {
    before: View,
    after: View,
    calls: usize,
    syncs: Vec<usize>,
}

impl Scene {
    fn start(&self) -> Lab {
        let lab = (self.build)();
        if self.undo {
            lab.apply();
        }
        lab
    }

    /// Runs it with a fault; afterwards unsynced writes are lost as told (by their position).
    fn act(
        &self,
        lab: &Lab,
        fault: Fault,
        lost: impl Fn(usize) -> bool,
    ) -> (Result<Done>, usize, Vec<usize>) {
        let plan = (!self.undo).then(|| lab.plan(&[]));
        lab.with(|site| {
            let workspace = Workspace::open(site, true).unwrap();
            let disk = Faulty::new(&workspace.disk, &grave(lab), fault);
            let done = match &plan {
                Some(plan) => run(&disk, site, Kind::Apply { keep: self.keep }, plan, Fit::Exact),
                None => run_undo(&disk, site, &store::ids(&disk).unwrap().pop().unwrap(), false),
            };
            let (calls, syncs) = (disk.calls(), disk.syncs());
            disk.lose(lost);
            (done, calls, syncs)
        })
    }

    /// All of a list for the first scene, else one.
    fn some<T>(&self, all: impl IntoIterator<Item = T>, at: usize) -> Vec<T> {
        let mut all: Vec<T> = all.into_iter().collect();
        if self.name != SCENES[0].name && !thorough() {
            all = vec![all.swap_remove(at % all.len())];
        }
        all
    }

    fn ends(&self) -> Ends {
        let lab = self.start();
        let before = view(&lab);
        let (done, calls, syncs) = self.act(&lab, Fault::Nothing, |_| false);
        done.unwrap();
        let after = view(&lab);
        assert_ne!(before, after);
        Ends { before, after, calls, syncs }
    }
}

fn grave(lab: &Lab) -> PathBuf {
    lab.root.join("grave")
}

/// A recovery as another process does it: everything is opened anew. Other tests start programs, which hold the lock for a moment.
fn recover(lab: &Lab, way: Way, fault: Fault) -> (Result<Recovered>, usize) {
    let lab = Lab::open(&lab.root);
    lab.with(|site| {
        let workspace = Workspace::open(site, true).unwrap();
        let disk = Faulty::new(&workspace.disk, &grave(&lab), fault);
        let recovered = recover_on(&disk, site, way);
        (recovered, disk.calls())
    })
}

/// Ends what is interrupted, and checks that all is as before or as after.
fn settle(lab: &Lab, ends: &Ends, way: Way, what: &str) {
    let expected = match pending(&lab.state()).unwrap() {
        Some(_) => match recover(lab, way, Fault::Nothing).0 {
            Ok(Recovered::Before) => Some(&ends.before),
            Ok(Recovered::After(_)) => Some(&ends.after),
            Err(error) => panic!("{what}: {way:?}: {error:?}"),
        },
        None => None,
    };
    expect(lab, ends, expected, what);
}

fn expect(lab: &Lab, ends: &Ends, expected: Option<&View>, what: &str) {
    let found = view(&Lab::open(&lab.root));
    match expected {
        Some(expected) => assert_eq!(found, *expected, "{what}"),
        None => assert!(found == ends.before || found == ends.after, "{what}: neither: {found:?}"),
    }
    assert!(pending(&lab.state()).unwrap().is_none(), "{what}");
}

#[test]
fn an_apply_that_stops_anywhere_ends_one_way_or_the_other() {
    let mut cases = 0;
    for scene in SCENES {
        let ends = scene.ends();
        for call in 0..ends.calls {
            let all = [(Fault::Stop(call), 0), (Fault::Stop(call), 1), (Fault::Torn(call), call)];
            for (fault, way) in scene.some(all, call) {
                let (lab, way) = (scene.start(), WAYS[way % 2]);
                let (done, _, _) = scene.act(&lab, fault, |_| false);
                let what = format!("{}: {fault:?} of {}: {way:?} after {done:?}", scene.name, ends.calls);
                settle(&lab, &ends, way, &what);
                let again = recover(&lab, way, Fault::Nothing).0;
                assert!(matches!(again, Err(ApplyError::NothingInterrupted)), "{what}");
                cases += 1;
            }
        }
    }
    assert!(cases > 100, "only {cases} cases");
}

#[test]
fn a_recovery_that_stops_anywhere_can_be_repeated() {
    let (mut random, mut cases) = (Random(1), 0);
    for scene in SCENES {
        let ends = scene.ends();
        let all = (0..ends.calls).flat_map(|call| WAYS.map(|way| (call, way)));
        for (call, way) in all.step_by(if thorough() { 1 } else { 5 }) {
            let lab = scene.start();
            scene.act(&lab, Fault::Stop(call), |_| false).0.ok();
            let mut stops = Vec::new();
            // Stopped again and again, until one comes through.
            while pending(&lab.state()).unwrap().is_some() && stops.len() < 3 {
                let stop = random.below(40) as usize;
                let fault = if stop.is_multiple_of(5) { Fault::Torn(stop) } else { Fault::Stop(stop) };
                let way = if random.below(4) == 0 { WAYS[stop % 2] } else { way };
                stops.push((fault, way));
                recover(&lab, way, fault).0.ok();
            }
            let what = format!("{}: stop at {call}, {way:?}, recovery stopped at {stops:?}", scene.name);
            settle(&lab, &ends, way, &what);
            cases += 1;
        }
    }
    assert!(cases > 100, "only {cases} cases");
}

#[test]
fn a_failing_call_takes_everything_back_or_leaves_it_to_recovery() {
    let mut cases = 0;
    for scene in SCENES {
        let ends = scene.ends();
        for call in 0..ends.calls {
            let once = |errno| Fault::Once(call, errno);
            let all = [once(Errno::NOSPC), once(Errno::IO), once(Errno::ACCESS), Fault::Full(call)];
            for fault in scene.some(all, call) {
                let (lab, way) = (scene.start(), WAYS[call % 2]);
                let (done, _, _) = scene.act(&lab, fault, |_| false);
                let what = format!("{}: {fault:?} of {}: {way:?} after {done:?}", scene.name, ends.calls);
                let waits = pending(&lab.state()).unwrap().is_some();
                match done {
                    Ok(_) => expect(&lab, &ends, Some(&ends.after), &what),
                    Err(ApplyError::Unfinished { .. }) => {
                        assert!(waits, "{what}");
                        settle(&lab, &ends, way, &what);
                    }
                    Err(_) => expect(&lab, &ends, Some(&ends.before), &what),
                }
                cases += 1;
            }
        }
    }
    assert!(cases > 100, "only {cases} cases");
}

#[test]
fn a_power_loss_that_takes_any_part_of_the_unsynced_writes_is_recovered() {
    let (mut random, mut cases) = (Random(2), 0);
    let (most, samples) = if thorough() { (12, 200) } else { (2, 3) };
    for scene in SCENES {
        let ends = scene.ends();
        // What is not synced is most before each sync; at the end, what is left.
        for stop in ends.syncs.iter().copied().map(Some).chain([None]) {
            let fault = stop.map_or(Fault::Nothing, Fault::Stop);
            let count = unsynced(&scene, fault);
            let all = 1_u64 << count.min(63);
            let subsets: Vec<u64> = if count <= most {
                (0..all).collect()
            } else {
                [all - 1].into_iter().chain((0..samples).map(|_| random.below(all))).collect()
            };
            for (subset, way) in subsets.into_iter().zip(WAYS.into_iter().cycle()) {
                let lab = scene.start();
                let (done, _, _) = scene.act(&lab, fault, |at| (subset >> at.min(63)) & 1 == 1);
                let what = format!("{}: {fault:?}, lost {subset:b} of {count}: {way:?}", scene.name);
                if done.is_ok() {
                    // It was reported as done, so it is.
                    settle(&lab, &ends, Way::Continue, &what);
                    expect(&lab, &ends, Some(&ends.after), &what);
                } else {
                    settle(&lab, &ends, way, &what);
                }
                cases += 1;
            }
        }
    }
    assert!(cases > 100, "only {cases} cases");
}

/// For its owner a closed directory is opened within a call, which root does not need and a fault does not stop in.
#[test]
fn a_directory_that_an_interruption_left_open_is_closed_again() {
    let build = || {
        let lab = Lab::in_memory();
        lab.put("closed/edited", "old\n");
        lab.put("closed/gone", "gone\n");
        lab.agent_writes("closed/edited", "new\n");
        lab.agent_deletes("closed/gone");
        chmod(&lab.ws().join("closed"), 0o555);
        chmod(&lab.up().join("closed"), 0o555);
        lab
    };
    for undo in [false, true] {
        let scene = Scene { name: "closed", build, undo, keep: 5 };
        let ends = scene.ends();
        for call in 0..ends.calls {
            let (lab, way) = (scene.start(), WAYS[call % 2]);
            scene.act(&lab, Fault::Stop(call), |_| false).0.ok();
            let waits = pending(&lab.state()).unwrap().is_some();
            if waits {
                chmod(&lab.ws().join("closed"), 0o755);
            }
            settle(&lab, &ends, way, &format!("undo {undo}: stop at {call} of {}: {way:?}", ends.calls));
        }
    }
}

/// The copies of the journal that are there: the session's own, and the one in the staging directory.
fn journals(lab: &Lab) -> [Option<PathBuf>; 2] {
    let find = |dir: PathBuf, is: &dyn Fn(&str) -> bool| {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
        entries.map(|e| e.path()).find(|p| is(p.file_name().unwrap().to_str().unwrap()))
    };
    let prefix = std::str::from_utf8(crate::judge::STAGING_PREFIX).unwrap();
    let staging = find(lab.ws(), &|name| name.starts_with(prefix));
    let own = find(lab.state(), &|name| name.ends_with(".journal"));
    [own, staging.map(|dir| dir.join("journal")).filter(|p| p.exists())]
}

/// All contents of files and links in the workspace and in the session, wherever they lie.
fn contents(lab: &Lab) -> BTreeSet<Vec<u8>> {
    let both = [lab.ws(), lab.state()];
    both.iter().flat_map(|root| tree(root).into_values()).map(|object| object.1).collect()
}

/// A flipped bit, or an end that is cut off. That each of either leaves a beginning of the journal's story is shown beside the
/// journal, bit by bit; here it is what recovery makes of such a beginning.
fn damage(file: &std::path::Path, random: &mut Random) -> String {
    let mut bytes = std::fs::read(file).unwrap();
    let at = random.below(bytes.len() as u64) as usize;
    let bit = random.below(8);
    let what = if random.below(2) == 0 {
        bytes.truncate(at);
        format!("cut at {at}")
    } else {
        bytes[at] ^= 1 << bit;
        format!("bit {bit} of {at}")
    };
    std::fs::write(file, bytes).unwrap();
    what
}

#[test]
fn a_damaged_journal_ends_one_way_or_the_other_or_is_refused_with_nothing_lost() {
    let mut random = Random(3);
    let (mut ended, mut refused) = (0, 0);
    for scene in SCENES {
        let ends = scene.ends();
        for call in (0..ends.calls).step_by(if thorough() { 1 } else { 7 }) {
            // An undo whose end is gone from both copies cannot be told from one that has not ended.
            let both = (!scene.undo).then_some([true, true]);
            for copies in [[true, false], [false, true]].into_iter().chain(both) {
                let lab = scene.start();
                let all: BTreeSet<Vec<u8>> =
                    [lab.ws(), lab.up()].iter().flat_map(|d| tree(d).into_values()).map(|o| o.1).collect();
                scene.act(&lab, Fault::Stop(call), |_| false).0.ok();
                let there = journals(&lab);
                if scene.undo && there.iter().flatten().count() == 1 {
                    // The last copy, which is all that there is.
                    continue;
                }
                let mut damages = Vec::new();
                for (copy, _) in there.iter().zip(copies).filter(|(_, damaged)| *damaged) {
                    damages.extend(copy.as_ref().map(|file| damage(file, &mut random)));
                }
                let way = WAYS[random.below(2) as usize];
                let what = format!("{}: stop at {call}, {copies:?}: {damages:?}: {way:?}", scene.name);
                if pending(&lab.state()).unwrap().is_none() {
                    expect(&lab, &ends, None, &what);
                    continue;
                }
                match recover(&lab, way, Fault::Nothing).0 {
                    Ok(_) => {
                        expect(&lab, &ends, None, &what);
                        let again = recover(&lab, way, Fault::Nothing).0;
                        assert!(matches!(again, Err(ApplyError::NothingInterrupted)), "{what}");
                        ended += 1;
                    }
                    Err(ApplyError::JournalLost { .. }) => {
                        let lost: Vec<_> = all.difference(&contents(&lab)).cloned().collect();
                        assert!(lost.is_empty(), "{what}: {lost:?}");
                        assert!(pending(&lab.state()).unwrap().is_some(), "{what}: every command says so");
                        let again = recover(&lab, way, Fault::Nothing).0;
                        assert!(matches!(again, Err(ApplyError::JournalLost { .. })), "{what}: {again:?}");
                        refused += 1;
                    }
                    Err(error) => panic!("{what}: {error:?}"),
                }
            }
        }
    }
    assert!(ended > refused && refused > 0, "{ended} ended, {refused} refused");
}

fn unsynced(scene: &Scene, fault: Fault) -> u32 {
    let lab = scene.start();
    let count = std::cell::Cell::new(0);
    let counting = |_| {
        count.set(count.get() + 1);
        false
    };
    scene.act(&lab, fault, counting).0.ok();
    count.get()
}

/// Small, and the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 16) % end
    }
}
