//! Completions and manual pages come from the command tree.

use crate::world::World;

#[test]
fn every_shell_gets_completions() {
    let world = World::new();
    for (shell, word) in
        [("bash", "_scrubfs()"), ("zsh", "#compdef scrubfs"), ("fish", "complete -c scrubfs")]
    {
        let ran = world.run(&["completions", shell]);
        assert!(ran.stdout.contains(word) && ran.stdout.contains("audit"), "{shell}");
    }
    let bash = world.run(&["completions", "bash"]).stdout;
    world.file("completion.bash", bash);
    let mut check = std::process::Command::new("bash");
    assert!(check.arg("-n").arg(world.path("completion.bash")).status().unwrap().success());
}

#[test]
fn there_is_a_page_for_every_verb() {
    let world = World::new();
    let page = world.run(&["man"]).stdout;
    assert!(page.contains(".TH scrubfs 1") && page.contains("Exit codes"));
    let ran = world.run(&["man", "--dir", world.path("man").to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let check = std::fs::read_to_string(world.path("man/scrubfs-check.1")).unwrap();
    assert!(check.contains(".TH scrubfs-check 1") && check.contains("\\-\\-json"));
    let blocked = world.run(&["man", "--dir", world.path("man/scrubfs.1").to_str().unwrap()]);
    assert_eq!(blocked.code, 1);
    assert!(blocked.stderr.starts_with("Error: could not make $W/man/scrubfs.1\nCaused by: "));
}
