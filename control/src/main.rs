//! `weft-control`: see `weft-control --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    weft_control::cli::main()
}
