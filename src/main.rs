//! The `scrubfs` program: parse, run, exit code.

fn main() -> std::process::ExitCode {
    scrubfs::cli::main()
}
