//! Compiles the `.proto` files with protox, so that building needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["discovery", "workload", "authorization", "ca", "cache", "node"].map(|f| format!("proto/{f}.proto"));
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(&files, ["proto"])?;
    tonic_prost_build::configure()
        // Sorted maps encode the same content to the same bytes: versions are hashes of them.
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
