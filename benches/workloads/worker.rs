//! Walks that no standard tool does without doing more: this program runs itself for them.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::Result;

/// `--worker lstat DIR` or `--worker read DIR`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [_, what, dir, ..] = args else { return Err("--worker needs a walk and a directory".into()) };
    let mut buf = vec![0; 64 << 10];
    let mut open = vec![Path::new(dir).to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            match (entry.file_type()?.is_dir(), what.as_str()) {
                (true, _) => open.push(entry.path()),
                (false, "lstat") => {
                    fs::symlink_metadata(entry.path())?;
                }
                (false, "read") => {
                    let mut file = File::open(entry.path())?;
                    while file.read(&mut buf)? > 0 {}
                }
                (false, other) => return Err(format!("no walk {other}").into()),
            }
        }
    }
    Ok(())
}
