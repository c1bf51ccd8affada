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

#[test]
fn rules_of_the_user_add_replace_switch_off_and_soften_and_those_of_the_workspace_only_add() {
    let world = world();
    let rules = "disable = [\"ssh-directory\", \"key-token\"]\n\n[[path]]\nid = \"mine\"\nwhy = \"x\"\naction = \"hide\"\nmatch = [\"*.mine\"]\n\n\
                 [[path]]\nid = \"dotenv\"\naction = \"redact\"\n\n[[path]]\nid = \"netrc\"\naction = \"clear\"\n\n\
                 [[content]]\nid = \"ours\"\nwhy = \"x\"\nshape = \"OUR-{digit:10}\"\n\n\
                 [[content]]\nid = \"github-pat\"\nwhy = \"x\"\nshape = \"HUB-{digit:10}\"\n";
    world.file("config/rules.toml", rules);
    world.file("w/.env", "PASSWORD=hunter22\n").file("w/.netrc", "machine a login b password hunter22\n");
    world.file("w/text", "OUR-8306219475\n").file("w/old", "ghp_16C7e42F292c6912E7710c838347Ae178B4a\n");
    world.file("w/new", "HUB-8306219475\n").file("w/app.toml", "token = \"zRt0Yw7cHd\"\n");
    world.file("more.toml", "[[path]]\nid = \"mine\"\naction = \"clear\"\n");
    let workspace = |rules: &str| {
        world.file("w/.scrubfs.toml", rules);
        world.session(&["check a.mine app.toml"])
    };
    let mut shown = world.session(&[
        "check a.mine .env .netrc .ssh/config text old new app.toml",
        "check --rules ../more.toml a.mine",
    ]);
    shown += &workspace("[[path]]\nid = \"theirs\"\nwhy = \"x\"\naction = \"hide\"\nmatch = [\"app.*\"]\n");
    shown += &workspace("disable = [\"mine\"]\n");
    shown += &workspace("[[path]]\nid = \"theirs\"\nwhy = \"x\"\naction = \"clear\"\nmatch = [\"*.mine\"]\n");
    shown += &workspace("[[path]]\nid = \"mine\"\nwhy = \"x\"\naction = \"redact\"\n");
    expect![[r#"
        $ scrubfs check a.mine .env .netrc .ssh/config text old new app.toml
        $W/config/rules.toml:3:mine	hide	a.mine
        $W/config/rules.toml:9:dotenv	redact	.env
        built-in formats.toml:N:key-password	redact	.env
        $W/config/rules.toml:13:netrc	clear	.netrc
        ::	clear	.ssh/config
        $W/config/rules.toml:17:ours	redact	text
        ::	clear	old
        $W/config/rules.toml:22:github-pat	redact	new
        ::	clear	app.toml
        $ scrubfs check --rules ../more.toml a.mine
        $W/w/../more.toml:1:mine	clear	a.mine
        $ scrubfs check a.mine app.toml
        $W/config/rules.toml:3:mine	hide	a.mine
        .scrubfs.toml:1:theirs	hide	app.toml
        $ scrubfs check a.mine app.toml
        Error: the rules cannot be used
        Caused by: .scrubfs.toml, line 1, rule `mine`: a workspace file cannot switch rules off
        Hint: A rule file in the workspace may only hide or redact more; move the rule to your own rules file.
        [exit 1]
        $ scrubfs check a.mine app.toml
        Error: the rules cannot be used
        Caused by: .scrubfs.toml, line 1, rule `theirs`: a workspace file cannot show anything
        Hint: A rule file in the workspace may only hide or redact more; move the rule to your own rules file.
        [exit 1]
        $ scrubfs check a.mine app.toml
        Error: the rules cannot be used
        Caused by: .scrubfs.toml, line 1, rule `mine`: a rule has no patterns
        Hint: Say `match = ["name", "*.ext", "directory/"]`.
        [exit 1]
    "#]]
    .assert_eq(&shown);
}
