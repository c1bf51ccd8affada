//! The first screen of the README, replayed line by line with the real binary on a real mount.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Where FUSE is not to be had the test says so; `SCRUBFS_REQUIRE_FUSE=1` makes that a failure.
fn fuse_is_missing() -> bool {
    let missing = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err();
    if missing {
        assert!(std::env::var_os("SCRUBFS_REQUIRE_FUSE").is_none(), "/dev/fuse cannot be opened");
        eprintln!("skipped: /dev/fuse cannot be opened");
    }
    missing
}

fn script(root: &Path, text: &str) -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_scrubfs")).parent().unwrap().to_str().unwrap().to_owned();
    let out = Command::new("timeout")
        .args(["-k", "5", "60", "bash", "-c", text])
        .current_dir(root)
        .env("PATH", format!("{}:{bin}:{}", root.join("bin").display(), std::env::var("PATH").unwrap()))
        .env("HOME", root)
        .env("SCRUBFS_STATE_DIR", root.join("state"))
        .env("SCRUBFS_CONFIG_DIR", root.join("config"))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}\n{stdout}\n{}", String::from_utf8_lossy(&out.stderr));
    stdout
}

/// Unmounts also when an assertion fails.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let mount = self.0.join("mnt/shop");
        Command::new("umount").arg("-lq").arg(&mount).status().unwrap();
        Command::new("fusermount3").arg("-uzq").arg(&mount).status().ok();
    }
}

#[test]
fn the_first_session_of_the_readme_works() {
    if fuse_is_missing() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let repo = root.join("src/shop");
    for sub in ["src/shop/.aws", "mnt/shop", "bin"] {
        fs::create_dir_all(root.join(sub)).unwrap();
    }
    let token = format!("ghp_{}", "x7Kq2Vn9Lw4Rt6Zp1Bm8Dc3Fg5Hj0SaYeUiOo"[..36].to_owned());
    let deploy = format!("export GITHUB_TOKEN={token}\necho deploy\n");
    for (name, content) in [
        (".env", "A=canary"),
        ("id_rsa", "canary"),
        (".npmrc", "//registry.example.com/:_authToken=canary-8192734\n"),
        (".aws/credentials", "canary"),
    ] {
        fs::write(repo.join(name), content).unwrap();
    }
    fs::write(repo.join("deploy.sh"), &deploy).unwrap();
    fs::write(
        root.join("bin/your-agent"),
        "#!/bin/sh\nsed -i s/echo/printf/ deploy.sh && echo new > notes.md\n",
    )
    .unwrap();
    fs::set_permissions(root.join("bin/your-agent"), fs::Permissions::from_mode(0o755)).unwrap();
    let _unmount = Unmount(&root);

    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block = readme.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    let mut seen = Vec::new();
    for line in block.lines() {
        let command =
            line.split("  #").next().unwrap().replace("/mnt/shop", root.join("mnt/shop").to_str().unwrap());
        let command = command
            .replace("| less", "| cat")
            .replace("apply shop", "apply shop --allow redacted --allow secret");
        let stdout = script(&root, &format!("set -eo pipefail; {command}"));
        assert!(
            !stdout.contains("canary") && !stdout.contains(&token),
            "{command} shows a secret:\n{stdout}"
        );
        if command.starts_with("scrubfs apply") {
            let applied = fs::read_to_string(repo.join("deploy.sh")).unwrap();
            assert_eq!(applied, deploy.replace("echo", "printf"), "the mask became the real value again");
            assert_eq!(fs::read_to_string(repo.join("notes.md")).unwrap(), "new\n");
        }
        seen.push((command, stdout));
    }
    let of = |start: &str| &seen.iter().find(|(c, _)| c.starts_with(start)).unwrap().1;
    assert_eq!(of("ls -A").lines().collect::<Vec<_>>(), [".npmrc", "deploy.sh"]);
    assert!(of("cat").starts_with("//registry.example.com/:_authToken=XXXX"), "{}", of("cat"));
    assert!(of("scrubfs status").contains("notes.md"));
    assert!(of("scrubfs diff").contains("diff --git a/deploy.sh b/deploy.sh"));
    assert_eq!(fs::read_to_string(repo.join("deploy.sh")).unwrap(), deploy, "undo gives the file back");
    assert!(!repo.join("notes.md").exists());
    assert_eq!(fs::read_to_string(repo.join(".env")).unwrap(), "A=canary");
    script(&root, "scrubfs unmount shop && scrubfs remove --force shop");
}
