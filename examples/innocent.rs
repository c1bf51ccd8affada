//! How many innocent files the policy would touch: `cargo run --release --example innocent -- DIR…` judges all files beneath, as `audit`
//! does, and prints each one that would be masked or hidden with the rule, and how many those are in 10,000. What a rule found is not
//! printed, only where.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scrubfs::judge::{Depth, Found, Judge};
use scrubfs::layer::LowerDir;
use scrubfs::path::RelPath;
use scrubfs::policy::{Policy, PolicyBuilder};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let strict = arguments.iter().any(|a| a == "--strict");
    let Ok(policy) = PolicyBuilder::builtin().strict(strict).build() else {
        eprintln!("the rules do not compile");
        return ExitCode::FAILURE;
    };
    let policy = Arc::new(policy);
    let mut total = Total::default();
    for dir in arguments.iter().filter(|a| !a.starts_with("--")) {
        if let Err(error) = total.add(Path::new(dir), &policy) {
            eprintln!("{dir}: {error}");
            return ExitCode::FAILURE;
        }
    }
    total.print();
    ExitCode::SUCCESS
}

#[derive(Default)]
struct Total {
    judged: usize,
    masked: usize,
    hidden: usize,
    rules: BTreeMap<String, usize>,
}

impl Total {
    fn add(&mut self, dir: &Path, policy: &Arc<Policy>) -> Result<(), scrubfs::sys::Errno> {
        let lower = Arc::new(LowerDir::open(dir)?);
        let judge = Judge::new(lower, Arc::clone(policy), [0; 32], Vec::new());
        let judged = AtomicUsize::new(0);
        let survey = judge.survey(&RelPath::root(), Depth::Content, &|| {
            judged.fetch_add(1, Ordering::Relaxed);
        });
        self.judged += judged.into_inner();
        for finding in &survey.findings {
            let at = dir.join(finding.path.to_string());
            match &finding.what {
                Found::Hidden(rule) => {
                    self.hidden += 1;
                    self.count(format!("hidden by {}", rule.id));
                    println!("hidden {} {}", rule.id, at.display());
                }
                Found::Redacted { spans, .. } => {
                    self.masked += 1;
                    for span in spans {
                        let id = &policy.rule(span.rule).id;
                        self.count(format!("masked by {id}"));
                        println!("masked {id} {}@{}+{}", at.display(), span.start, span.len);
                    }
                }
                Found::Undecided(why) => println!("undecided {} {why}", at.display()),
            }
        }
        Ok(())
    }

    fn count(&mut self, rule: String) {
        *self.rules.entry(rule).or_default() += 1;
    }

    fn print(&self) {
        for (rule, count) in &self.rules {
            println!("{count:>6} {rule}");
        }
        let share = |n: usize| n as f64 * 10_000.0 / self.judged.max(1) as f64;
        let Self { judged, masked, hidden, .. } = self;
        println!("{judged} entries");
        println!("{masked} masked, {:.2} in 10,000", share(*masked));
        println!("{hidden} hidden, {:.2} in 10,000", share(*hidden));
    }
}
