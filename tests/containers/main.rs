//! Real engines on real mounts: Docker with a daemon of this test's own, the volume plugin and compose, rootless podman, bubblewrap, and the
//! adversary of `tests/session` inside each. Everything runs in mount and PID namespaces of its own with a `/run`, accounts and a
//! `fuse.conf` of its own, so nothing is seen outside, and all of it is gone when the test ends, however that is.
//!
//! `cargo test --test containers [FILTER]`. It needs root, `/dev/fuse` and the engines; what is missing is skipped and named, unless
//! `SCRUBFS_REQUIRE_FUSE=1`, which makes it a failure.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and reports by printing"
)]

use std::os::unix::process::CommandExt as _;
use std::panic::catch_unwind;
use std::process::{Command, ExitCode};

mod adversary;
mod docker;
mod others;
mod volumes;
mod world;

use world::World;

type Test = (&'static str, &'static [&'static str], fn(&World));

/// Name, the programs that it needs, and what it does.
const TESTS: &[Test] = &[
    ("docker_reads_and_writes", DOCKER, docker::reads_and_writes),
    ("docker_gets_an_error_when_the_daemon_is_killed", DOCKER, docker::the_daemon_is_killed),
    ("docker_volumes_are_sessions", DOCKER, volumes::are_sessions),
    ("docker_volumes_refuse_what_is_wrong", DOCKER, volumes::refuse_what_is_wrong),
    ("docker_volumes_survive_the_engine_and_the_plugin", DOCKER, volumes::survive_the_engine_and_the_plugin),
    ("compose_runs_two_sessions_of_one_workspace", COMPOSE, volumes::compose),
    ("podman_without_root", PODMAN, others::podman),
    ("podman_lets_its_other_users_in", PODMAN, others::podman_other_users),
    ("bubblewrap", &["bwrap"], others::bubblewrap),
    ("no_second_door_in_docker", DOCKER, adversary::in_docker),
    ("no_second_door_in_podman", PODMAN, adversary::in_podman),
    ("no_second_door_in_bubblewrap", &["bwrap"], adversary::in_bubblewrap),
];

const DOCKER: &[&str] = &["dockerd", "docker"];
const COMPOSE: &[&str] = &["dockerd", "docker", "docker-compose"];
const PODMAN: &[&str] = &["podman", "crun", "newuidmap"];

/// Says that this process is the one in the namespaces.
const INSIDE: &str = "SCRUBFS_CONTAINERS_INSIDE";

fn main() -> ExitCode {
    let required = std::env::var_os("SCRUBFS_REQUIRE_FUSE").is_some_and(|v| v == "1");
    if !rustix::process::geteuid().is_root() || !std::path::Path::new("/dev/fuse").exists() {
        println!("skipped: these tests need root and /dev/fuse");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    if std::env::var_os(INSIDE).is_none() {
        let error = Command::new("timeout")
            .args([
                "-k",
                "10",
                "900",
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            // The shell waits for what nobody else does: to an engine a zombie is a process that lives.
            .args(["--propagation", "private", "--", "bash", "-c", "\"$@\" & wait $!", "bash"])
            .arg(std::env::current_exe().unwrap())
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .exec();
        println!("no namespaces: {error}");
        return ExitCode::FAILURE;
    }
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let world = World::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, needs, test) in TESTS.iter().filter(|(name, ..)| name.contains(&filter)) {
        let missing: Vec<&&str> =
            needs.iter().chain(&["busybox"]).filter(|p| !world::is_installed(p)).collect();
        if !missing.is_empty() {
            println!("test {name} ... skipped: not installed: {missing:?}");
            *if required { &mut failed } else { &mut skipped } += 1;
            continue;
        }
        let ok = catch_unwind(std::panic::AssertUnwindSafe(|| test(&world))).is_ok();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        *if ok { &mut passed } else { &mut failed } += 1;
        world.clean();
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
