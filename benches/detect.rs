//! How fast the content rules are, in megabytes a second on one core: over real source, minified JavaScript and binaries, and over
//! input made to be slow for each rule. Other scanners that are installed run over the same files beside it.
//! `cargo bench --bench detect -- [DIR…]`: the files are taken from there, else from what this machine has of each kind.
//!
//! Times are processor times. The last rows tell how they grow with the text, where it is nasty for one of the formats.
//!
//! What paid, on 50 MB of Rust and C: choosing the windows of a literal by how common they are, comparing eight bytes before a literal is
//! looked at, and no allocation for a text without one, together 1.66 times as fast. Then, on a busy machine, 454 to 920 MB/s: asking
//! for nine windows at once whether any passes; a fourth byte, the first, as the column of a table whose rows are the other three;
//! eight bytes loaded at once; a factor of the hash and windows chosen by what source text is full of; 128 KiB of table instead of 32
//! (834 to 1113 MB/s for the search alone). Inputs of nothing but tokens went from 5 to 20 MB/s: placeholder words by their first three
//! bytes, entropy by a table of logarithms, the words near a match and the line of a connection string remembered.
//!
//! Of 5366 inputs made to be slow, on a busy machine, 925 ran below 100 MB/s, the slowest at 12. Names cut into words in one buffer, one
//! table of words under a hash of its own, and switches and placeholders told without a copy in lower case left 734; that buffer kept
//! for the next name, what was said of the last names, and flags judged only where a dash is, 471; entropy once a candidate, of
//! counts in bytes and logarithms in whole numbers, base64 that only begins like an armour line given up at its first byte that is
//! none, and no search for a substring where one byte tells, 295, the slowest at 38. Two bytes of the run behind a literal looked at
//! before all else, a word that begins no token settled to its end, and a settled literal not compared: of the inputs without a
//! format 82 instead of 157, the slowest at 54 instead of 28.
//!
//! After that, each input below 100 MB/s measured again, on a machine as busy: of the 4302 without a format 131 were below, of the 1064
//! with one 367. Bytes that every match of a shape has at fixed distances from its literal, asked before the literal is compared; a
//! candidate, a value or a line that comes again byte for byte answered from a small memory; no more than a few literals with a window
//! alike, where another is nearly as rare; and separators looked for from the end of the shortest part that can be random, left 34
//! and 218, the slowest at 58 and 38: `server=a;password=` in JSON and `a:` line by line in YAML. More than one reader goes over
//! a text that is not of its format; what is left is spread over them, and no call stands out.
//!
//! What did not: windows of four bytes in 32 groups with a table of pairs were half as fast; the fourth byte behind the other three
//! instead of before them, since literals of three bytes then have windows that say too little (301 MB/s). Remembering values of fewer
//! than four bytes costs more than looking at them.

#![allow(clippy::print_stdout)]

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use scrubfs::policy::{Format, PathAction, PathVerdict, Policy, Sample};

/// How much of each kind is read.
const CORPUS: usize = 48 << 20;

/// How much is made up for each slow input.
const SLOW: usize = 128 << 10;

/// What no input is to fall below, in megabytes a second.
const AIM: f64 = 100.0;

const PLAIN: PathVerdict = PathVerdict { action: PathAction::Plain, rule: None };

/// What a kind of content is told by: its name, the ends of file names, and where it may be found.
type Kind = (&'static str, &'static [&'static str], &'static [&'static str]);

const KINDS: &[Kind] = &[
    ("source", &[".rs", ".py", ".go", ".c", ".h", ".ts", ".java", ".js"], &["~/.cargo/registry/src", "src"]),
    (
        "minified",
        &[".min.js", ".mjs", ".bundle.js"],
        &["~/.rustup/toolchains", "/usr/share", "/usr/lib/node_modules"],
    ),
    ("binary", &["", ".so", ".rlib"], &["/usr/bin", "target/release"]),
];

fn main() {
    let dirs: Vec<PathBuf> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).map(Into::into).collect();
    let policy = Policy::builtin();
    for kind in KINDS {
        let files = collect(kind, &dirs);
        let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
        if bytes == 0 {
            println!("{:<10} no files found", kind.0);
            continue;
        }
        let mut spans = 0;
        let time = least(5, || spans = files.iter().map(|(_, t)| policy.scan(&PLAIN, t, None).len()).sum());
        println!("{:<10} {:>8.0} MB/s over {} MB, {spans} spans", kind.0, rate(bytes, time), bytes >> 20);
        peers(&files);
    }
    slow(&policy);
    growth(&policy);
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9)
}

/// Processor time of this process: other load on the machine counts little.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// As [`best`], by processor time.
fn least(runs: usize, mut run: impl FnMut()) -> Duration {
    let time = || {
        let start = processor();
        run();
        processor().saturating_sub(start)
    };
    std::iter::repeat_with(time).take(runs).min().unwrap_or_default()
}

/// As [`least`], run more often where `len` bytes come out below the aim: on a busy machine many do once.
fn fair(len: usize, mut run: impl FnMut()) -> f64 {
    let time = least(2, &mut run);
    if rate(len, time) >= AIM { rate(len, time) } else { rate(len, time.min(least(10, &mut run))) }
}

fn best(runs: usize, mut run: impl FnMut()) -> Duration {
    let time = || {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    std::iter::repeat_with(time).take(runs).min().unwrap_or_default()
}

/// Files of one kind, read whole.
fn collect(kind: &Kind, dirs: &[PathBuf]) -> Vec<(PathBuf, Vec<u8>)> {
    let home = std::env::var("HOME").unwrap_or_default();
    let usual = || kind.2.iter().map(|d| PathBuf::from(d.replacen('~', &home, 1))).collect();
    let mut todo: Vec<PathBuf> = if dirs.is_empty() { usual() } else { dirs.to_vec() };
    let (mut files, mut bytes) = (Vec::new(), 0);
    while let Some(dir) = todo.pop() {
        let mut entries: Vec<_> =
            fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        entries.sort();
        for path in entries {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if meta.is_dir() {
                todo.push(path);
            } else if meta.is_file() && meta.len() < 8 << 20 && bytes < CORPUS && is_of(kind, &path) {
                let text = fs::read(&path).unwrap_or_default();
                if (kind.0 == "binary") == text.starts_with(b"\x7fELF") {
                    bytes += text.len();
                    files.push((path, text));
                }
            }
        }
    }
    files
}

fn is_of(kind: &Kind, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    kind.1.iter().any(|end| name.ends_with(end)) && !(kind.0 == "source" && name.contains(".min."))
}

/// Published token shapes as regular expressions: what a search for a few of the rules costs.
const PEER_PATTERNS: &[&str] = &[
    r"gh[pousr]_[A-Za-z0-9]{36}",
    r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    r"glpat-[A-Za-z0-9_-]{20}",
    r"(AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",
    r"AIza[A-Za-z0-9_-]{35}",
    r"xox[abprs]-[A-Za-z0-9-]{10,}",
    r"(sk|rk)_live_[A-Za-z0-9]{24,}",
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}",
    r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    r"sk-ant-[A-Za-z0-9_-]{90,}",
    r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY",
    r"[a-z]+://[^/\s:]+:[^/\s@]+@",
];

/// Programs that search files for secrets, or for patterns, and their arguments before the files.
fn peers(files: &[(PathBuf, Vec<u8>)]) {
    let patterns: Vec<String> = PEER_PATTERNS.iter().flat_map(|p| ["-e".into(), (*p).into()]).collect();
    let rg = ["-j1", "-uuu", "--count", "--no-messages", "--text"].map(String::from);
    peer("rg", &[rg.as_slice(), &patterns, &["--".into()]].concat(), "rg, 14 patterns", files, usize::MAX);
    // Slow enough for a small share of the files.
    peer("detect-secrets", &["scan".into()], "detect-secrets", files, 1 << 20);
}

fn peer(program: &str, arguments: &[String], what: &str, files: &[(PathBuf, Vec<u8>)], limit: usize) {
    let (mut paths, mut bytes) = (Vec::new(), 0);
    for (path, text) in files.iter().take(2000) {
        if bytes < limit {
            bytes += text.len();
            paths.push(path);
        }
    }
    let mut found = false;
    let time = best(3, || {
        let status = Command::new(program)
            .args(arguments)
            .args(&paths)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        // 1 is "nothing found" with rg.
        found = status.is_ok_and(|s| matches!(s.code(), Some(0 | 1)));
    });
    match found {
        true => println!("  beside   {:>8.1} MB/s {what}, {} MB", rate(bytes, time), bytes >> 20),
        false => println!("  beside   {what}: not installed"),
    }
}

/// The slowest input of each rule, of several kinds of repetition.
fn slow(policy: &Policy) {
    let mut worst: Vec<(f64, String, &str)> = Vec::new();
    for sample in policy.samples(1) {
        for (how, text) in inputs(&sample) {
            let rate = fair(text.len(), || drop(black_box(policy.scan(&PLAIN, &text, None))));
            worst.push((rate, policy.rule(sample.rule).id.to_string(), how));
        }
    }
    worst.sort_by(|a, b| a.0.total_cmp(&b.0));
    let below = worst.iter().filter(|(rate, ..)| *rate < AIM).count();
    println!(
        "made to be slow: {} inputs of {} KB, {below} below {AIM} MB/s; the slowest are",
        worst.len(),
        SLOW >> 10
    );
    for (rate, rule, how) in worst.iter().take(12) {
        println!("  {rate:>8.0} MB/s {rule}: {how}");
    }
}

fn inputs(sample: &Sample) -> Vec<(&'static str, Vec<u8>)> {
    let repeat = |part: &[u8]| part.iter().copied().cycle().take(SLOW).collect::<Vec<u8>>();
    let text = &sample.text;
    let token = text.get(sample.secret.clone()).unwrap_or_default();
    let cut = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    let head = text.get(..sample.secret.start.max(4)).unwrap_or_default();
    let then_last = |part: &[u8]| {
        let last = text.last().copied().unwrap_or(b'a');
        let mut all = part.to_vec();
        all.resize(SLOW, last);
        all
    };
    vec![
        ("found over and over", repeat(&[text, b"\n".as_slice()].concat())),
        ("without its last byte", repeat(&[cut, b"\n".as_slice()].concat())),
        ("without its last byte and without breaks", repeat(cut)),
        ("its beginning", repeat(head)),
        ("its first three bytes", repeat(text.get(..3).unwrap_or_default())),
        ("its first three bytes and a break", repeat(&[text.get(..3).unwrap_or_default(), b" "].concat())),
        ("its secret without breaks", repeat(token)),
        ("its last byte without end", then_last(text)),
        ("its beginning many times, then its last byte", {
            let mut all = repeat(head);
            all.truncate(SLOW / 2);
            then_last(&all)
        }),
    ]
}

const FORMATS: &[Format] = &[
    Format::Dotenv,
    Format::Ini,
    Format::Netrc,
    Format::Npmrc,
    Format::Json,
    Format::Yaml,
    Format::Toml,
    Format::Xml,
    Format::Properties,
    Format::Hcl,
    Format::Shell,
    Format::Pem,
    Format::Python,
    Format::Conf,
];

/// What a nasty text repeats: openings that nothing closes, lines that are none, and names without end. One a line;
/// `\n` and `\r` are line breaks, and `\s` is a space at the end.
const NASTY: &str = r#"
{
[
(
<a>
<a b="
<!
<?
</
<![CDATA[
${
$(
"
'
`
\
\"
'''
"""
-\s
-\n
---\n
...\n
a:\s
a:\n
a: |\n
a: "\n
a: '\n
a: [\n
a: &b\n
# a=\n
/*
a = <<A\n
a="\n
a='\n
a=`\n
a=$(\n
a = {
a.b.
[a]\n
[[a]]\n
]
"a":
{"a":
{"key":
{"a":1},
"kind"
password
password=
password: "
"password": '
password\s
password\n
aB
a_
://
a://b:c@
machine\s
macdef a\n\r\n
macdef a\n
-----BEGIN\s
-----BEGIN PRIVATE KEY-----
PRIVATE KEY
Private-Lines:
LS0tLS1CRUdJTi
authorization: bearer\s
;password=
server=a;password=
set\s
--password\s
-H '
\s
\n
,
;
%
\r\n
"#;

/// How the time grows with the text, format by format: linear work takes four times as long for four times as much.
fn growth(policy: &Policy) {
    let mut all: Vec<(f64, f64, String)> = Vec::new();
    for format in FORMATS {
        let verdict = PathVerdict { action: PathAction::Redact((*format).into()), rule: None };
        for part in NASTY.lines().filter(|part| !part.is_empty()) {
            let bytes = part.replace("\\n", "\n").replace("\\r", "\r").replace("\\s", " ");
            let [small, large] = [SLOW, 4 * SLOW].map(|len| {
                let text: Vec<u8> = bytes.bytes().cycle().take(len).collect();
                fair(len, || drop(black_box(policy.scan(&verdict, &text, None))))
            });
            all.push((4.0 * small / large, large, format!("{format:?}: {part}")));
        }
    }
    let print =
        |(times, rate, what): &(f64, f64, String)| println!("  {times:>6.1} x {rate:>7.0} MB/s {what}");
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let below = all.iter().filter(|(_, rate, _)| *rate < AIM).count();
    println!(
        "four times the text: {} inputs, {below} below {AIM} MB/s; those that grow most, and the slowest",
        all.len()
    );
    all.iter().take(10).for_each(print);
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    all.iter().take(10).for_each(print);
}
