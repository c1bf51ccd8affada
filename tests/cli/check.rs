//! `check`: verdict, rule and place for each path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use expect_test::expect;

use crate::world::World;

fn world() -> World {
    let world = World::new();
    world.file("w/.env", "A=1\n").file("w/.env.example", "A=\n").file("w/src/main.rs", "fn main() {}\n");
    world.file("w/.ssh/config", "Host x\n").file("w/data.sqlite", "x");
    world
}

#[test]
fn each_path_with_the_rule_that_decides() {
    let shown = world().session(&[
        "check .env .env.example src/main.rs src .ssh/config",
        "check --hide *.sqlite data.sqlite",
        "check --show .env .env",
        "check not/there/.env not/there",
    ]);
    expect![[r#"
        $ scrubfs check .env .env.example src/main.rs src .ssh/config
        built-in paths.toml:N:dotenv	hide	.env
        built-in paths.toml:N:env-template	clear	.env.example
        ::	clear	src/main.rs
        ::	clear	src
        built-in paths.toml:N:ssh-directory	hide	.ssh/config
        $ scrubfs check --hide *.sqlite data.sqlite
        --hide:1:*.sqlite	hide	data.sqlite
        $ scrubfs check --show .env .env
        --show:1:.env	clear	.env
        $ scrubfs check not/there/.env not/there
        built-in paths.toml:N:dotenv	hide	not/there/.env
        ::	clear	not/there
    "#]]
    .assert_eq(&shown);
}

#[test]
fn json_has_the_contracts_fields() {
    expect![[r#"
        {
          "schema": 1,
          "entries": [
            {
              "path": ".env",
              "verdict": "hide",
              "rule": "dotenv",
              "source": "built-in paths.toml",
              "line": N
            },
            {
              "path": "src",
              "verdict": "clear",
              "rule": null,
              "source": null,
              "line": null
            }
          ]
        }
    "#]]
    .assert_eq(&world().run(&["check", "--json", "./src/../.env", "src"]).stdout);
}

#[test]
fn what_lies_elsewhere_is_refused() {
    let world = world();
    let shown = world.session(&[
        "check ../x",
        "check -C nowhere x",
        "check -C data.sqlite x",
        "check --session no x",
    ]);
    expect![[r#"
        $ scrubfs check ../x
        Error: `../x` is not a path below the workspace
        Hint: name it as seen from the workspace's root, as in `src/main.rs`, or as `./main.rs` from here
        [exit 2]
        $ scrubfs check -C nowhere x
        Error: the workspace nowhere does not exist
        Hint: mkdir nowhere   (or correct the path)
        [exit 1]
        $ scrubfs check -C data.sqlite x
        Error: the workspace $W/w/data.sqlite is not a directory
        Hint: name the directory that is to be protected
        [exit 1]
        $ scrubfs check --session no x
        Error: there is no session `no`
        Hint: scrubfs list
        [exit 2]
    "#]]
    .assert_eq(&shown);
}

#[test]
fn paths_count_from_the_current_directory_and_the_repository_is_the_workspace() {
    let world = world();
    world.file("w/.git/HEAD", "ref: refs/heads/main\n").file("w/sub/.env", "A=1\n");
    let mut command = world.command(&["check", ".env", "../src/main.rs"]);
    command.current_dir(world.path("w/sub"));
    expect![[r#"
        built-in paths.toml:N:dotenv	hide	sub/.env
        ::	clear	src/main.rs
    "#]]
    .assert_eq(&world.finish(command).stdout);
}

#[test]
fn a_name_that_is_not_utf8_comes_as_base64_too() {
    let world = world();
    let name = OsStr::from_bytes(b"a\xff.env");
    std::fs::write(world.path("w").join(name), "").unwrap();
    let ran = world.run(&[OsStr::new("check"), OsStr::new("--json"), name]);
    assert!(ran.stdout.contains("\"path_bytes\": \"Yf8uZW52\""), "{}", ran.stdout);
}
