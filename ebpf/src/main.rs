//! The kernel programs. On the host this binary is empty: `agent/build.rs` builds the real one for the kernel's machine.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("weft-ebpf holds kernel programs; they are built into weft-agent, which loads them");
}
