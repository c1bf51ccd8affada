//! The volume plugin with a real engine.

use std::fs;
use std::process::Output;

use crate::world::{CANARY, IMAGE, Running, USER, World, kill, text};

fn plugin(world: &World) -> Running {
    world.docker();
    let mut command = world.command(true, env!("CARGO_BIN_EXE_scrubfs"));
    Running::start(command.arg("docker-plugin"), "/run/docker/plugins/scrubfs.sock")
}

fn create(world: &World, name: &str, options: &[&str]) -> Output {
    let source = format!("source={}", world.repo().display());
    let mut words = vec!["volume", "create", "-d", "scrubfs", "-o", &source];
    for option in options {
        words.extend(["-o", option]);
    }
    words.push(name);
    world.engine(&words)
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

/// Two containers on two sessions of one workspace do not see each other's work, and nobody sees a secret.
pub fn are_sessions(world: &World) {
    let _plugin = plugin(world);
    done(&create(world, "one", &["hide=plain"]));
    done(&create(world, "two", &[]));
    for name in ["one", "two"] {
        let script = format!(
            "cat /workspace/.env; ls -A /workspace; echo {name} > /workspace/new; cat /workspace/new; echo end"
        );
        let output = world.contained(&["-v", &format!("{name}:/workspace")], &script);
        let all = text(&output);
        assert!(
            all.contains(&format!("{name}\nend\n")) && !all.contains(CANARY) && all.contains("No such file"),
            "{all}"
        );
        assert_eq!(all.lines().any(|l| l == "plain"), name == "two", "{all}");
        assert_eq!(fs::read_to_string(world.upper(true, name).join("new")).unwrap(), format!("{name}\n"));
        assert_eq!(
            text(&world.engine(&["volume", "inspect", name])).matches("\"Driver\": \"scrubfs\"").count(),
            1
        );
    }
    assert!(!world.repo().join("new").exists());
    let read_only = world
        .contained(&["-v", "one:/workspace:ro"], "echo x > /workspace/x && echo wrote; cat /workspace/new");
    assert!(text(&read_only).contains("Read-only file system") && text(&read_only).contains("one\n"));
    let refused = world.engine(&["volume", "rm", "one"]);
    assert!(text(&refused).contains("has 1 change that was not applied"), "{}", text(&refused));
    done(&world.scrubfs(true, &["apply", "two", "new"]));
    assert_eq!(fs::read_to_string(world.repo().join("new")).unwrap(), "two\n");
    fs::remove_file(world.repo().join("new")).unwrap();
    done(&world.scrubfs(true, &["discard", "one"]));
    done(&world.engine(&["volume", "rm", "one"]));
    done(&world.engine(&["volume", "rm", "two"]));
    assert!(!world.state(true).join("sessions/one").exists());
}

/// What the person at the engine's command line reads.
pub fn refuse_what_is_wrong(world: &World) {
    let _plugin = plugin(world);
    for (option, says) in [
        ("source=repo", "must be an absolute path"),
        ("source=/no/such/place", "does not exist"),
        ("size=3", "there is no option `size`"),
        ("on-remove=never", "`refuse`, `keep` or `discard`"),
    ] {
        let refused = text(&create(world, "bad", &[option]));
        assert!(refused.contains(says) && refused.contains("hint: "), "{option}: {refused}");
    }
    let volumes = text(&world.engine(&["volume", "ls"]));
    assert!(!volumes.contains("bad"), "{volumes}");
}

/// The engine killed, the plugin killed, the session's daemon killed: what was written is in the next container.
pub fn survive_the_engine_and_the_plugin(world: &World) {
    let first = plugin(world);
    done(&create(world, "kept", &[]));
    done(&world.contained(&["-v", "kept:/workspace"], "echo kept > /workspace/kept"));
    let read = || text(&world.contained(&["-v", "kept:/workspace"], "cat /workspace/kept"));
    let mut command = world.command(true, "docker");
    let up = [
        "run",
        "--network",
        "none",
        "--name",
        "up",
        "-v",
        "kept:/workspace",
        IMAGE,
        "sh",
        "-c",
        "echo up; sleep 60",
    ];
    let container = Running::start(command.args(up), "up");
    drop(first);
    let _plugin = plugin(world);
    let inside = || text(&world.engine(&["exec", "up", "cat", "/workspace/kept"]));
    assert!(inside().contains("kept\n"), "the plugin's end is felt: {}", inside());
    kill("-KILL", &world.daemon(true, "kept"));
    // What the kernel has in its caches is still read; what needs the daemon is refused.
    let write = text(&world.engine(&["exec", "up", "touch", "/workspace/x"]));
    assert!(write.contains("not connected") || write.contains("connection abort"), "{write}");
    assert!(read().contains("kept\n"), "{}", read());
    drop(container);
    world.stop_engine("-KILL");
    world.start_engine(world.docker());
    assert!(read().contains("kept\n"), "{}", read());
    done(&world.scrubfs(true, &["discard", "kept"]));
    world.engine(&["rm", "-f", "up"]);
    done(&world.engine(&["volume", "rm", "kept"]));
}

/// The README's compose file, with this image: two services on two sessions of one workspace.
pub fn compose(world: &World) {
    let _plugin = plugin(world);
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let file = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let file = file
        .replace("/src/shop", world.repo().to_str().unwrap())
        .replace("IMAGE", IMAGE)
        .replace("your-agent", "sh -c 'cat /workspace/.env; echo $$(id -u) > /workspace/new; echo end'");
    let project = world.path("shop");
    fs::create_dir_all(&project).unwrap();
    fs::write(project.join("docker-compose.yml"), file).unwrap();
    let compose = |words: &[&str]| {
        let mut command = world.command(true, "docker-compose");
        command.current_dir(&project).args(words).output().unwrap()
    };
    let up = compose(&["up", "--no-color"]);
    let all = text(&up);
    assert!(up.status.success() && all.matches("end\n").count() == 2 && !all.contains(CANARY), "{all}");
    for session in ["shop_fix-login", "shop_write-tests"] {
        assert_eq!(
            fs::read_to_string(world.upper(true, session).join("new")).unwrap(),
            format!("{USER}\n"),
            "{all}"
        );
        done(&world.scrubfs(true, &["discard", session]));
    }
    assert!(!world.repo().join("new").exists());
    done(&compose(&["down", "--volumes"]));
    let volumes = text(&world.engine(&["volume", "ls"]));
    assert!(!volumes.contains("shop_"), "{volumes}");
}
