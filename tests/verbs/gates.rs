//! Gates that the user's configuration opens, and configuration that an agent could have written, which nothing may obey.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::World;
use expect_test::expect;

#[test]
fn the_configuration_opens_gates_and_says_so() {
    let Some(world) = World::new(&[("a", "x\n")]) else { return };
    for name in ["m/bin/tool", "m/other"] {
        world.write(name, "#!/bin/sh\n");
        std::fs::set_permissions(world.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    world.write("config/config.toml", "[gates]\nallow = [\"exec-bit:bin/*\"]\n");
    expect![[r#"
        $ scrubfs apply w --dry-run
        nothing was applied
          gate      other: exec-bit (a new executable file)
          note      bin/tool: exec-bit is let through by `exec-bit:bin/*` in config.toml
        Hint: look at it with `scrubfs diff`, then `scrubfs apply --allow exec-bit` or name other paths
        [exit 3]
        $ scrubfs apply w bin
        1 change applied
          note      bin/tool: exec-bit is let through by `exec-bit:bin/*` in config.toml
        Hint: scrubfs undo takes it back
        $ scrubfs undo w
        1 change of the last apply undone
        $ scrubfs apply w bin --dry-run --json
        {
          "schema": 1,
          "applied": [
            {
              "path": "bin/tool",
              "kind": "added"
            }
          ],
          "kept": [],
          "conflicts": [],
          "gated": [],
          "notes": [
            {
              "path": "bin/tool",
              "note": "exec-bit is let through by `exec-bit:bin/*` in config.toml"
            }
          ]
        }
        $ scrubfs apply w --allow exec-bits
        Error: `exec-bits` names no flag: there are hidden-name, redacted, auto-exec, exec-bit, setid, symlink-escape, secret, git-internal, special, bidi, invisible, package-scripts
        Hint: scrubfs status names the flags of each change
        [exit 2]
    "#]]
    .assert_eq(&world.session(&[
        "apply w --dry-run",
        "apply w bin",
        "undo w",
        "apply w bin --dry-run --json",
        "apply w --allow exec-bits",
    ]));
    let status = world.run(&["status", "w"]).1;
    assert!(status.contains("bin/tool   (let through by `exec-bit:bin/*` in config.toml)"), "{status}");
    assert!(status.contains("exec-bit (blocks apply)"), "{status}");
    let json = world.run(&["status", "w", "--json"]).1;
    assert_eq!(json.matches("\"opened\"").count(), 1, "{json}");
}

#[test]
fn a_configuration_that_is_wrong_or_in_the_workspace_opens_nothing() {
    let Some(world) = World::new(&[("a", "x\n")]) else { return };
    world.write("m/tool", "#!/bin/sh\n");
    std::fs::set_permissions(world.path("m/tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    world.write("config/config.toml", "[gates]\nallow = [\n  \"exec\",\n]\n");
    let (code, said) = world.run(&["apply", "w"]);
    assert_eq!(code, 1);
    assert!(said.contains("config.toml is wrong: TOML parse error at line "), "{said}");
    assert!(said.contains("`exec` names no flag"), "{said}");
    // A link into the workspace, which whoever writes there decides about.
    world.write("w/dots/config.toml", "[gates]\nallow = [\"exec-bit\"]\n");
    std::fs::remove_file(world.path("config/config.toml")).unwrap();
    symlink(world.path("w/dots/config.toml"), world.path("config/config.toml")).unwrap();
    let (code, said) = world.run(&["apply", "w"]);
    assert_eq!(code, 3);
    assert!(said.contains("stay closed, because it lies in the workspace"), "{said}");
    assert!(!world.path("w/tool").exists());
    // Nor does a workspace rule file open one.
    std::fs::remove_file(world.path("config/config.toml")).unwrap();
    world.write("w/.scrubfs.toml", "[gates]\nallow = [\"exec-bit\"]\n");
    assert_ne!(world.run(&["apply", "w"]).0, 0);
    assert!(!world.path("w/tool").exists());
}

/// No command runs git, nor any program that a file in the session names.
#[test]
fn nothing_obeys_what_the_agent_wrote() {
    let Some(world) = World::new(&[("f.txt", "1\n"), ("g.bin", "1\n")]) else { return };
    let init = Command::new("git").args(["init", "-q"]).current_dir(world.path("w")).status().unwrap();
    assert!(init.success());
    let canary = world.path("canary");
    let run = format!("touch {}", canary.display());
    let plant = format!("#!/bin/sh\n{run}; cat\n");
    for name in ["m/evil", "m/.git/hooks/post-checkout", "m/.git/hooks/pre-commit", "m/less", "m/git"] {
        world.write(name, &plant);
        std::fs::set_permissions(world.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let config = format!(
        "[core]\n\tfsmonitor = {run}\n\tpager = {run}\n\teditor = {run}\n\tsshCommand = {run}\n\thooksPath = .\n\
         [diff]\n\texternal = {run}\n[diff \"x\"]\n\ttextconv = {run}\n\tcommand = {run}\n\
         [filter \"x\"]\n\tclean = {run}\n\tsmudge = {run}\n\tprocess = {run}\n\trequired = true\n\
         [pager]\n\tdiff = {run}\n[interactive]\n\tdiffFilter = {run}\n[merge \"x\"]\n\tdriver = {run}\n\
         [include]\n\tpath = ../evil.config\n"
    );
    world.write("m/.git/config", &config);
    world.write("m/.gitconfig", &config);
    world.write("m/.gitattributes", "* diff=x filter=x merge=x\n");
    world.write("m/.lesskey", &format!("#env\nLESSOPEN=|{run}\n"));
    world.write("m/f.txt", "2\n");
    world.write("m/g.bin", "2\0\n");
    world.write("w/f.txt", "0\n1\n");
    // Whoever would call git meets this one first.
    world.write("bin/git", &format!("#!/bin/sh\n{run}\n"));
    std::fs::set_permissions(world.path("bin/git"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let keys = world.path("keys");
    std::fs::write(&keys, "q\nq\nq\n").unwrap();
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
    for at in ["m", "w"] {
        for line in [
            "status",
            "diff",
            "diff --stat",
            "diff --name-status",
            "diff --word",
            "diff --json",
            "rebase --dry-run",
            "apply --dry-run --allow exec-bit --allow auto-exec",
            "apply g.bin",
            "undo",
            "discard g.bin",
            "undo",
        ] {
            // On a terminal, so that there is a pager.
            let typed = format!("{} {line}", env!("CARGO_BIN_EXE_scrubfs"));
            let mut script = Command::new("script");
            script.args(["-qec", &typed, "/dev/null"]).current_dir(world.path(at)).env_clear();
            script.env("PATH", &path).env("HOME", world.path("home")).env("TERM", "xterm");
            script
                .env("SCRUBFS_STATE_DIR", world.path("state"))
                .env("SCRUBFS_CONFIG_DIR", world.path("config"));
            // Keys for a pager that stays.
            let ran = script.stdin(std::fs::File::open(&keys).unwrap()).output().unwrap();
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(!canary.exists(), "{line} in {at} ran what the agent wrote: {said}");
            assert!(!said.contains("Error:"), "{line} in {at}: {said}");
        }
    }
    // The trap works.
    Command::new("sh").arg("-c").arg(&run).status().unwrap();
    assert!(canary.exists());
}
