//! Builds what the agent carries inside: the kernel programs and the admin interface.

#[path = "build/admin.rs"]
mod admin;
#[path = "build/kernel.rs"]
mod kernel;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut outcome = ExitCode::SUCCESS;
    for step in [kernel::build, admin::build] {
        if let Err(message) = step() {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            outcome = ExitCode::FAILURE;
        }
    }
    outcome
}
