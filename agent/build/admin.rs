//! The admin interface: compiled with protox, so that building needs no `protoc`.

/// Compiles `proto/admin.proto`. Its messages are also what the command line prints as JSON.
pub fn build() -> Result<(), String> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/admin.proto"], ["proto"]).map_err(|e| format!("{e:?}"))?;
    tonic_prost_build::configure()
        .message_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .compile_fds(descriptors)
        .map_err(|e| e.to_string())
}
