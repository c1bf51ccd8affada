//! Sessions as processes: daemons, mounts, namespaces. Not a test of the usual kind, because the daemon is the program started anew, and
//! `run` needs a process with one thread: this binary is the program, too (see `helper`).
//!
//! `cargo test --test session [FILTER]`. Without `/dev/fuse` or without root nothing is tested, unless `SCRUBFS_REQUIRE_FUSE=1`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking and reports by printing"
)]

use std::ffi::OsString;
use std::panic::catch_unwind;
use std::process::ExitCode;

mod broken;
mod files;
mod helper;
mod home;
mod leaks;
mod live;
mod mounts;
mod robust;
mod runs;
mod volumes;
mod world;

use world::NOBODY;

type Test = (&'static str, fn(u32));

const TESTS: &[Test] = &[
    ("a_session_from_beginning_to_end", mounts::a_session_from_beginning_to_end),
    ("a_crash_is_healed", mounts::a_crash_is_healed),
    ("a_mount_right_after_a_kill", mounts::a_mount_right_after_a_kill),
    ("a_signal_unmounts", mounts::a_signal_unmounts),
    ("a_mount_in_another_namespace_lingers", mounts::a_mount_in_another_namespace_lingers),
    ("the_foreground", mounts::the_foreground),
    ("changes_wait_for_a_hold", mounts::changes_wait_for_a_hold),
    ("what_is_refused", mounts::what_is_refused),
    ("only_named_users_get_in", mounts::only_named_users_get_in),
    ("volumes_from_beginning_to_end", volumes::volumes_from_beginning_to_end),
    ("bad_volumes_are_refused", volumes::bad_volumes_are_refused),
    ("volumes_survive_the_plugin_and_a_crash", volumes::volumes_survive_the_plugin_and_a_crash),
    ("no_removal_loses_a_change", volumes::no_removal_loses_a_change),
    ("the_host_goes_on", live::the_host_goes_on),
    ("no_watches_left", live::no_watches_left),
    ("an_untouched_tree_costs_no_request", files::an_untouched_tree_costs_no_request),
    ("what_was_looked_through_ahead_costs_no_request", files::what_was_looked_through_ahead_costs_no_request),
    ("what_the_kernel_forgets_is_forgotten", files::what_the_kernel_forgets_is_forgotten),
    ("looked_through_ahead", files::looked_through_ahead),
    ("merged_answers_as_a_plain_directory", files::questions),
    ("marks_do_not_exist", files::marks_do_not_exist),
    ("acls_as_in_a_plain_directory", files::acls),
    ("no_acls_without_them_in_lower", files::no_acls),
    ("few_descriptors", robust::few_descriptors),
    ("no_space", robust::no_space),
    ("very_many_entries", robust::very_many_entries),
    ("very_long", robust::very_long),
    ("lower_goes_away", robust::lower_goes_away),
    ("calls_fail", broken::calls_fail),
    ("cut_short", broken::cut_short),
    ("power_cut", broken::power_cut),
    ("the_workspace_at_its_own_path", runs::the_workspace_at_its_own_path),
    ("the_exit_status", runs::the_exit_status),
    ("signals", runs::signals),
    ("a_person_at_a_terminal", runs::a_person_at_a_terminal),
    ("exposing", runs::exposing),
    ("nothing_leaks", leaks::nothing_leaks),
    ("several_workspaces", runs::several_workspaces),
    ("an_agent_keeps_its_own", home::an_agent_keeps_its_own),
    ("credentials_that_appear_later", home::credentials_that_appear_later),
    ("a_configuration_that_is_not_there", home::a_configuration_that_is_not_there),
    ("a_working_day", home::a_working_day),
    ("entering", runs::entering),
    ("no_second_door", runs::no_second_door),
    ("the_doctor_tries_namespaces", runs::the_doctor_tries_namespaces),
    ("namespaces_forbidden", runs::namespaces_forbidden),
];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    helper::maybe(&arguments);
    let required = std::env::var_os("SCRUBFS_REQUIRE_FUSE").is_some_and(|v| v == "1");
    if !rustix::process::geteuid().is_root() || !std::path::Path::new("/dev/fuse").exists() {
        println!("skipped: these tests need root and /dev/fuse");
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    // As udev leaves it everywhere but on bare machines.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions("/dev/fuse", std::fs::Permissions::from_mode(0o666)).unwrap();
    let filter =
        arguments.iter().filter_map(|a| a.to_str()).find(|a| !a.starts_with('-')).unwrap_or_default();
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in TESTS {
        for (user, uid) in [("root", 0), ("user", NOBODY)] {
            let name = format!("{name}::{user}");
            if !name.contains(filter) {
                continue;
            }
            let ok = catch_unwind(|| test(uid)).is_ok();
            println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
            *if ok { &mut passed } else { &mut failed } += 1;
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
