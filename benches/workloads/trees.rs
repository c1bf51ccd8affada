//! The trees that workloads work on, built once from the sources in cargo's registry and kept for the next time.

use std::fs;
use std::path::{Path, PathBuf};

use super::Result;
use super::systems::Bench;

/// A tree, by what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tree {
    /// A git repository of 50,000 files of up to 16 KiB.
    Files,
    /// 20,000 files of up to 4 KiB.
    Small,
    /// One file of 1 GiB.
    Big,
    /// One file of 50 MiB.
    Medium,
    /// Nothing; beside it a tar of the small files and a git repository of 5,000 files to clone.
    Empty,
    /// A crate with vendored dependencies.
    Project,
    /// A JavaScript project, and beside it a cache of its packages.
    Npm,
    /// A list of Python packages and their wheels.
    Pip,
}

impl Tree {
    fn dir_name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Small => "small",
            Self::Big => "big",
            Self::Medium => "medium",
            Self::Empty => "empty",
            Self::Project => "project",
            Self::Npm => "npm",
            Self::Pip => "pip",
        }
    }

    /// Where it is.
    pub(crate) fn dir(self, bench: &Bench) -> PathBuf {
        bench.trees().join(self.dir_name())
    }

    /// Builds it, unless that was done before.
    pub(crate) fn build(self, bench: &Bench) -> Result<()> {
        let (dir, done) = (self.dir(bench), bench.trees().join(format!(".{}.done", self.dir_name())));
        if done.exists() {
            return Ok(());
        }
        eprintln!("builds {}", dir.display());
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        self.fill(bench, &dir)?;
        bench.give_away(&dir)?;
        fs::write(done, "")?;
        Ok(())
    }

    fn fill(self, bench: &Bench, dir: &Path) -> Result<()> {
        match self {
            Self::Files => {
                copies(bench, dir, 50_000, 16 << 10)?;
                bench.shell(dir, COMMIT)
            }
            Self::Small => copies(bench, dir, 20_000, 4 << 10),
            Self::Big => one_file(bench, &dir.join("big"), 1 << 30),
            Self::Medium => one_file(bench, &dir.join("big"), 50 << 20),
            Self::Empty => {
                Self::Small.build(bench)?;
                bench.shell(bench.trees(), "tar cf small.tar -C small .")?;
                let repo = bench.trees().join("repo");
                if repo.exists() {
                    fs::remove_dir_all(&repo)?;
                }
                fs::create_dir(&repo)?;
                copies(bench, &repo, 5_000, 64 << 10)?;
                bench.shell(&repo, COMMIT)?;
                bench.give_away(&repo)
            }
            Self::Project => {
                fs::create_dir(dir.join("src"))?;
                fs::write(dir.join("Cargo.toml"), MANIFEST)?;
                fs::write(dir.join("src/main.rs"), "fn main() {}\n")?;
                fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"), dir.join("Cargo.lock"))?;
                let vendor = "mkdir .cargo && cargo vendor -q --offline vendor >.cargo/config.toml";
                bench.shell(dir, vendor)
            }
            Self::Npm => {
                fs::write(dir.join("package.json"), PACKAGE)?;
                // What the second one asks for, the first one does not: a lock file may name no addresses.
                let install = "for how in install ci; do npm $how --silent --no-audit --no-fund --cache \"$TREES/npm-cache\" \
                               >/dev/null && rm -r node_modules || exit; done";
                bench.shell(dir, install)?;
                bench.give_away(&bench.trees().join("npm-cache"))
            }
            Self::Pip => {
                fs::write(dir.join("requirements.txt"), REQUIREMENTS)?;
                bench.shell(dir, "pip3 download -q -d wheels -r requirements.txt")
            }
        }
    }
}

const COMMIT: &str = "git init -q . && git add -A . && git -c user.name=b -c user.email=b@example.com commit -q -m all && \
                      git repack -adq && git status >/dev/null";

const MANIFEST: &str = "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n\
                        regex = \"1\"\nserde = { version = \"1\", features = [\"derive\"] }\nserde_json = \"1\"\n\
                        ignore = \"0.4\"\nclap = { version = \"4\", features = [\"derive\"] }\n\n[workspace]\n";

const PACKAGE: &str = "{\"name\": \"project\", \"version\": \"1.0.0\", \"private\": true, \
                       \"dependencies\": {\"express\": \"^4\", \"eslint\": \"^8\", \"typescript\": \"^5\", \"lodash\": \"^4\"}}\n";

const REQUIREMENTS: &str = "flask\nrequests\nrich\nsqlalchemy\n";

/// Fills a directory with so many files of the registry, no larger than `limit` bytes, copied as often as needed.
fn copies(bench: &Bench, to: &Path, count: usize, limit: u64) -> Result<()> {
    let sources = sources(bench, limit)?;
    let mut made = 0;
    for round in 0.. {
        for source in &sources {
            if made == count {
                return Ok(());
            }
            let target = to.join(format!("copy-{round}")).join(source.strip_prefix(bench.registry())?);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(source, &target)?;
            made += 1;
        }
    }
    Ok(())
}

/// Files of the registry, sorted, no larger than `limit` bytes.
fn sources(bench: &Bench, limit: u64) -> Result<Vec<PathBuf>> {
    let mut open = vec![bench.registry().to_owned()];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let meta = fs::symlink_metadata(entry.path())?;
            // What would make one tree a repository in a repository, or ignore files of it, is left out.
            let odd = entry.file_name().to_str().is_none_or(|n| n.starts_with(".git"));
            match meta.is_dir() {
                true => open.push(entry.path()),
                false if meta.is_file() && meta.len() <= limit && !odd => found.push(entry.path()),
                false => {}
            }
        }
    }
    found.sort();
    if found.is_empty() { Err("cargo's registry holds no sources".into()) } else { Ok(found) }
}

/// One file of `len` bytes: sources of the registry behind each other, over and over.
fn one_file(bench: &Bench, to: &Path, len: u64) -> Result<()> {
    use std::io::Write as _;
    let sources = sources(bench, 1 << 20)?;
    let mut out = fs::File::create(to)?;
    let mut left = len;
    while left > 0 {
        for source in &sources {
            let bytes = fs::read(source)?;
            let take = bytes.len().min(usize::try_from(left)?);
            out.write_all(&bytes[..take])?;
            left -= take as u64;
        }
    }
    Ok(())
}
