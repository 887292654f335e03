//! The `homeostat` binary: one file per subcommand, and the only place that sees every crate.

mod admin;
mod api;
mod assemble;
mod callers;
mod changes;
mod cli;
mod client;
mod components;
mod configuration;
mod demo;
mod deviations;
mod explain;
mod extensions;
mod ledger;
mod living;
mod logs;
mod model;
mod output;
mod print_config;
mod process;
mod receivers;
mod rehearsal;
mod reload;
mod replay;
mod run;
mod schema;
mod silence;
mod test;
mod tracer;
mod validate;
mod why;

use std::process::ExitCode;

/// Worth 30 % where objects are allocated (reference: the design's performance page).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Debian's kernel gives huge pages unasked, and a heap of one megabyte would be resident with ten.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    open_files();
    cli::main()
}

/// Two listeners take more connections than the 1,024 files that a shell or systemd gives a process unasked; the hard limit is
/// what the system means.
fn open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it cannot be raised, accepting waits for files to be closed, and says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
