//! `weft-control`: see `weft-control --help`.

use std::process::ExitCode;

/// A mesh's objects come and go in all sizes; glibc's own allocator gives little of what was free in between back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    weft_control::cli::main()
}
