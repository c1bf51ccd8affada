//! What is said to a command line that makes no sense, and what holds for every verb.

use std::io::Read as _;
use std::process::Stdio;

use expect_test::expect;

use crate::world::World;

#[test]
fn a_mistake_gets_one_sentence_and_a_hint() {
    let world = World::new();
    let shown =
        world.session(&["chek .env", "check", "check --jsn x", "completions tcsh", "--color=maybe check x"]);
    expect![[r#"
        $ scrubfs chek .env
        Error: unrecognized subcommand 'chek'
        Hint: did you mean `check`?
        [exit 2]
        $ scrubfs check
        Error: the following required arguments were not provided:
          <PATH>...
        Hint: scrubfs check --help
        [exit 2]
        $ scrubfs check --jsn x
        Error: unexpected argument '--jsn' found
        Hint: did you mean `--json`?
        [exit 2]
        $ scrubfs completions tcsh
        Error: invalid value 'tcsh' for '<SHELL>'
          [possible values: bash, elvish, fish, powershell, zsh]
        Hint: did you mean `zsh`?
        [exit 2]
        $ scrubfs --color=maybe check x
        Error: invalid value 'maybe' for '--color <WHEN>'
          [possible values: auto, always, never]
        Hint: scrubfs --help
        [exit 2]
    "#]]
    .assert_eq(&shown);
}

#[test]
fn help_names_the_exit_codes_and_goes_to_stdout() {
    let world = World::new();
    let help = world.run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.contains("Exit codes:") && help.stdout.contains("SCRUBFS_STATE_DIR"));
    let none = world.run::<&str>(&[]);
    assert_eq!((none.code, none.stdout.as_str()), (2, ""));
    assert!(none.stderr.contains("Usage:"));
}

#[test]
fn colour_only_where_it_is_wanted() {
    let world = World::new();
    world.file("w/.env", "");
    assert!(!world.run(&["audit"]).stdout.contains('\u{1b}'));
    assert!(world.run(&["audit", "--color=always"]).stdout.contains('\u{1b}'));
    assert!(!world.run(&["chek"]).stderr.contains('\u{1b}'));
    assert!(world.run(&["chek", "--color=always"]).stderr.contains('\u{1b}'));
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let world = World::new();
    let mut command = world.command(&["completions", "zsh"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() && stderr.is_empty(), "{status}: {stderr}");
}

#[test]
fn without_a_home_the_hint_says_what_to_set() {
    let world = World::new();
    let mut command = world.command(&["audit"]);
    command.env_remove("HOME").env_remove("SCRUBFS_STATE_DIR").env_remove("SCRUBFS_CONFIG_DIR");
    let ran = world.finish(command);
    expect![[r#"
        Error: there is no place for the configuration: neither SCRUBFS_CONFIG_DIR nor HOME is set
        Hint: set SCRUBFS_CONFIG_DIR to a directory of your own
    "#]]
    .assert_eq(&ran.stderr);
    assert_eq!(ran.code, 1);
}
