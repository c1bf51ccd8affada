//! `audit`: what would be hidden and redacted, by rule.

use expect_test::expect;

use crate::world::World;

fn world() -> World {
    let world = World::new();
    world.file("w/.env", "A=1\n").file("w/sub/.env", "A=1\n").file("w/src/main.rs", "fn main() {}\n");
    world.file("w/.ssh/id_rsa", "x").file("w/data.sqlite", "x");
    world
}

#[test]
fn findings_are_grouped_by_rule() {
    let shown = world().session(&[
        "audit",
        "audit --hide *.sqlite --hide *.nothing --quiet",
        "audit --show .env -q .",
    ]);
    expect![[r#"
        $ scrubfs audit
        3 entries are hidden
          dotenv: API keys and database passwords of an application  (built-in paths.toml:N)
            .env
            sub/.env
          ssh-directory: SSH keys and configuration  (built-in paths.toml:N)
            .ssh/
        0 files are redacted, in 0 places
        7 entries judged
        $ scrubfs audit --hide *.sqlite --hide *.nothing --quiet
        4 entries are hidden
          dotenv: API keys and database passwords of an application  (built-in paths.toml:N)
            .env
            sub/.env
          *.sqlite: named on the command line  (--hide:1)
            data.sqlite
          ssh-directory: SSH keys and configuration  (built-in paths.toml:N)
            .ssh/
        0 files are redacted, in 0 places
        Warning: --hide `*.nothing` matches nothing here that it decides
        $ scrubfs audit --show .env -q .
        1 entry is hidden
          ssh-directory: SSH keys and configuration  (built-in paths.toml:N)
            .ssh/
        0 files are redacted, in 0 places
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
              "path": ".ssh",
              "verdict": "hide",
              "rule": "ssh-directory",
              "source": "built-in paths.toml",
              "line": N
            },
            {
              "path": "sub/.env",
              "verdict": "hide",
              "rule": "dotenv",
              "source": "built-in paths.toml",
              "line": N
            }
          ]
        }
    "#]]
    .assert_eq(&world().run(&["audit", "--json"]).stdout);
}

#[test]
fn long_lists_are_cut_unless_all_is_asked_for() {
    let world = World::new();
    for n in 0..12 {
        world.file(format!("w/{n:02}/.env"), "");
    }
    let cut = world.run(&["audit"]).stdout;
    assert!(cut.contains("    09/.env\n    … and 2 more (--all lists them)\n") && !cut.contains("10/.env"));
    assert!(world.run(&["audit", "--all"]).stdout.contains("11/.env"));
}

#[test]
fn rules_that_found_nothing_are_listed_on_demand() {
    let world = world();
    let unused = world.run(&["audit", "--unused"]).stdout;
    assert!(unused.contains("rules found nothing") && unused.contains("\n  netrc  (built-in paths.toml:N)"));
    assert!(!unused.split("found nothing").nth(1).unwrap().contains("  dotenv  "));
}

#[test]
fn a_broken_rule_file_is_named_with_line_and_rule() {
    let world = world();
    world.file("rules.toml", "[[path]]\nid = \"mine\"\naction = \"explode\"\nmatch = [\"*.x\"]\n");
    let shown = world.session(&[
        "audit --rules ../rules.toml",
        "audit --rules ../none.toml",
        "audit nowhere",
        "audit --hide [",
    ]);
    expect![[r#"
        $ scrubfs audit --rules ../rules.toml
        Error: the rules cannot be used
        Caused by: $W/w/../rules.toml, line 3, rule `mine`: unknown variant `explode`, expected one of `redact`, `gate`, `hide`, `open`, `clear`
        Hint: Correct the line or take it out; nothing of the file is in force until it is right.
        [exit 1]
        $ scrubfs audit --rules ../none.toml
        Error: the rule file $W/w/../none.toml cannot be used: it does not exist
        Hint: scrubfs reads rule files as UTF-8 TOML of at most 1 MiB
        [exit 1]
        $ scrubfs audit nowhere
        Error: the workspace nowhere does not exist
        Hint: mkdir nowhere   (or correct the path)
        [exit 1]
        $ scrubfs audit --hide [
        3 entries are hidden
          dotenv: API keys and database passwords of an application  (built-in paths.toml:N)
            .env
            sub/.env
          ssh-directory: SSH keys and configuration  (built-in paths.toml:N)
            .ssh/
        0 files are redacted, in 0 places
        7 entries judged
        Warning: --hide `[` matches nothing here that it decides
    "#]].assert_eq(&shown);
}

#[test]
fn rules_of_the_user_that_decide_nothing_are_named() {
    let world = world();
    world.file("config/rules.toml", "[[path]]\nid = \"mine\"\nwhy = \"x\"\naction = \"hide\"\nmatch = [\"*.none\"]\n\n[[content]]\nid = \"ours\"\nwhy = \"x\"\nshape = \"OUR-{digit:10}\"\n");
    world.file("w/found", "OUR-8306219475\n");
    let said = world.session(&["audit"]);
    let idle = "rules of your own that decide nothing here: mine ($W/config/rules.toml:1)\n";
    assert!(said.contains(idle), "{said}");
    assert!(said.contains("ours: x"), "{said}");
}

#[test]
fn patterns_of_the_user_that_match_nothing_are_named() {
    let world = world();
    let several = "[[path]]\nid = \"several\"\nwhy = \"x\"\naction = \"hide\"\nmatch = [\"*.sqlite\", \"*.{typo,none}\", \"sub/\"]\n";
    let none = "[[path]]\nid = \"none\"\nwhy = \"x\"\naction = \"hide\"\nmatch = [\"*.a\", \"*.b\"]\n";
    world.file("config/rules.toml", [several, none].concat());
    let said = world.session(&["audit"]);
    let rules = "rules of your own that decide nothing here: none ($W/config/rules.toml:6)\n";
    let patterns = "patterns of your own that match nothing here: *.{typo,none} ($W/config/rules.toml:1)\n";
    assert!(said.contains(rules) && said.contains(patterns), "{said}");
}
