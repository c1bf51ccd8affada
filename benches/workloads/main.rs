//! Whole commands, in the native directory, in ours and in its peers, interleaved in one run: `cargo bench --bench workloads`.
//! Numbers of different runs are not to be compared, ratios of one run are. Everything is on: the built-in policy and all content
//! rules. Peers that are not installed are left out, and the report says so; what was mounted is unmounted, by a record of its own.
//!
//! ```text
//! cargo bench --bench workloads -- [--quick] [--runs N] [--user NAME] [--systems A,B] [--binary FILE]
//!     [--json FILE] [--markdown FILE] [WORKLOAD…]
//! ```
//! `--quick` makes 3 runs instead of 7; `--user` lets another user own the trees and run daemons and commands (needs root);
//! `--binary` measures another build of ours. A workload is named by a part of its name. On a busy machine,
//! `chrt --fifo 1` before the program keeps what else runs out of the figures of what reads; not of what deletes, see below.
//!
//! # What paid, and what did not
//! The README has the figures of a whole run. This is what lies behind them, on two virtual cores.
//!
//! - No OPEN, OPENDIR, FLUSH and CREATE, names and attributes that live until the host changes them: all that is warm costs no request, and no
//!   daemon. What is left is the kernel's own work: attributes without a file system beneath, and small folios in the page cache.
//! - Looking through a mount ahead pays only if it also looks *again*: reading makes the kernel doubt the time of the last access, of files and
//!   of directories, and with it all of stat(2). The first `git status` after it sent 51,876 requests of 50,000 files, now about 150.
//! - A mount begins with two starts of the program and the rules. Those are read side by side on two threads, without counting lines over
//!   and over.
//! - A large file is searched in blocks of 4 MiB, each once, the next one beside it where somebody reads on, and at copy-up on several threads.
//!   Before, two requests for one block searched it twice. What a first read costs is the search.
//! - What a first touch costs is requests: the first `git status` of 50,000 files in 10,000 directories looks up each file and lists each
//!   directory, two round trips each. `find` takes four times as long as natively before the daemon is counted: an inode is made for each
//!   entry. Of the daemon's time (perf, calls and what they call) lookups were 38 % and listings 31 %; of a lookup, answering 28 %, half of it to
//!   wake who waits (in a virtual machine an interrupt to another core), the rules of the path 17 %, looking at the file 13 %, opening and watching
//!   its directory 16 %. Three patterns that climbed every path (10 % of the daemon's time) are asked only where the path can hold them; a node is
//!   found by its own number, without a second table (14 % of a listing); the known values (14 %, a walk of all of lower that the first reader waited
//!   for) are learnt from the moment of the mount. bindfs, which judges, watches and numbers nothing, takes half to nine tenths of our time at a
//!   first touch.
//! - Tried and given up: a thread that lists the directories of a listed one ahead. On two cores it takes the one that the daemon answers on: `git
//!   status` 10 %, `find` 7 % faster, within the noise. Listing small directories without attributes of files, as bindfs does: fuser writes one number
//!   as the node and as the entry's inode, so an entry without a node cannot be told; answering the first piece with `.` and `..` alone, after which
//!   the kernel asks for names only, costs a round trip more for each directory, and each file a lookup later.
//! - Tried and given up: the daemon on one core and the commands on the other (no difference); both on the same core (`find` takes two thirds
//!   of the time: no processor has to be woken; but nobody may pin other people's commands, and if only the daemon is pinned the kernel moves the
//!   command away); polling instead of halting in the guest (no difference).
//! - What is deleted costs UNLINK, FORGET and a GETATTR of the directory, which the kernel then doubts. The file's inode goes with the last
//!   descriptor, at the FORGET; the rmdir(2) of ext4 spins until that is through (`shrink_dcache_parent`), which under `chrt` starves it.
//! - What is written is copied three times (the caller's pages, the daemon's buffer, the page cache of upper): of the time for 1 GiB nothing is ours
//!   (perf: no function of the daemon over 0.1 %). Passing it through needs an OPEN, and splice(2) is not in fuser. Of the daemon's time to untar 20,000
//!   files 27 % make them, 13 % write and 12 % set times, nearly all of it ext4's and the kernel's; each file takes a lookup, MKNOD, WRITE and SETATTR.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints figures")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod report;
mod systems;
mod trees;
mod work;
mod worker;

use report::{Report, Row, Sample};
use systems::{Bench, Mounted, System};
use work::{Start, WORKLOADS, Workload};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the command line asks for.
struct Options {
    runs: usize,
    user: Option<String>,
    systems: Vec<System>,
    binary: PathBuf,
    json: Option<PathBuf>,
    markdown: Option<PathBuf>,
    names: Vec<String>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "--worker") {
        return worker::run(&args);
    }
    if !args.iter().any(|a| a == "--bench") {
        println!("takes long: only `cargo bench` runs it");
        return Ok(());
    }
    let options = options(args)?;
    let bench = Bench::new(options.user.as_deref(), options.binary.clone())?;
    let mut report = Report::new(&bench, options.runs);
    for workload in WORKLOADS {
        if !options.names.is_empty() && !options.names.iter().any(|n| workload.name.contains(n.as_str())) {
            continue;
        }
        match measure(&bench, workload, &options) {
            Ok(rows) => report.add(workload, rows),
            Err(error) => {
                eprintln!("{}: left out: {error}", workload.name);
                report.left_out(workload, &error.to_string());
            }
        }
    }
    let markdown = report.markdown();
    println!("{markdown}");
    write(options.markdown.as_deref(), &markdown)?;
    write(options.json.as_deref(), &report.json())?;
    bench.clean_up()
}

fn write(to: Option<&Path>, text: &str) -> Result<()> {
    to.map_or(Ok(()), |file| Ok(std::fs::write(file, text)?))
}

fn options(args: Vec<String>) -> Result<Options> {
    let mut options = Options {
        runs: 7,
        user: None,
        systems: System::ALL.to_vec(),
        binary: env!("CARGO_BIN_EXE_scrubfs").into(),
        json: None,
        markdown: None,
        names: Vec::new(),
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--bench" => {}
            "--quick" => options.runs = 3,
            "--runs" => options.runs = value()?.parse()?,
            "--user" => options.user = Some(value()?),
            "--systems" => options.systems = System::parse_list(&value()?)?,
            "--binary" => options.binary = value()?.into(),
            "--json" => options.json = Some(value()?.into()),
            "--markdown" => options.markdown = Some(value()?.into()),
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}").into()),
            name => options.names.push(name.to_owned()),
        }
    }
    Ok(options)
}

/// All runs of one workload in all systems, interleaved: each round goes once through the systems.
fn measure(bench: &Bench, workload: &Workload, options: &Options) -> Result<Vec<Row>> {
    workload.need(bench)?;
    let systems: Vec<System> =
        options.systems.iter().copied().filter(|s| s.takes_part(workload) && bench.has(*s)).collect();
    let mut rows: Vec<Row> = systems.iter().map(|s| Row::new(*s)).collect();
    let mut kept: Vec<Option<Mounted<'_>>> = systems.iter().map(|_| None).collect();
    // Lower's own pages and directory entries are warm in every case.
    bench.warm(workload)?;
    for round in 0..options.runs {
        for (at, (row, kept)) in rows.iter_mut().zip(&mut kept).enumerate() {
            let sample = match workload.start {
                Start::Warm => {
                    if kept.is_none() {
                        *kept = Some(Mounted::new(bench, systems[at], workload, round)?);
                    }
                    let Some(mounted) = kept.as_ref() else { continue };
                    if round == 0 {
                        mounted.settle();
                        mounted.run(workload)?;
                    }
                    mounted.run(workload)?
                }
                Start::First | Start::Prewarmed | Start::Second | Start::Mount => {
                    let mut mounted = Mounted::new(bench, systems[at], workload, round)?;
                    if workload.start == Start::Prewarmed {
                        mounted.settle();
                    }
                    if workload.start == Start::Second {
                        mounted.run(workload)?;
                        mounted.mount_anew(workload)?;
                    }
                    let sample = if workload.start == Start::Mount {
                        Sample { wall: mounted.took(), daemon: Duration::ZERO }
                    } else {
                        mounted.run(workload)?
                    };
                    mounted.end()?;
                    sample
                }
            };
            eprintln!(
                "{} {} {:.1} ms, daemon {:.1} ms",
                workload.name,
                systems[at].name(),
                report::millis(sample.wall),
                report::millis(sample.daemon)
            );
            row.samples.push(sample);
        }
    }
    for mounted in kept.into_iter().flatten() {
        mounted.end()?;
    }
    Ok(rows)
}
