use super::*;
use std::{fs, process::Command};

fn scratch(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("weft-image-{}-{name}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    directory
}

fn image() -> Image {
    let long = format!("/usr/share/{}/{}", "d".repeat(90), "f".repeat(90));
    Image::new("weft.dev/test:1")
        .text("/etc/greeting", "hello")
        .text(&long, "long")
        .directory("/tmp", 0o1777)
        .link("/bin/sh", "busybox")
        .entrypoint(&["/bin/sh"])
}

#[test]
fn the_same_files_make_the_same_archive() {
    let directory = scratch("same");
    let (one, other) = (directory.join("one.tar"), directory.join("other.tar"));
    image().build(&one).expect("built");
    image().build(&other).expect("built");
    assert_eq!(fs::read(&one).expect("read"), fs::read(&other).expect("read"));
    assert_eq!(fs::read_dir(&directory).expect("read").count(), 2, "nothing else is left");
    fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn tar_itself_reads_archive_and_layer() {
    let directory = scratch("read");
    let archive = directory.join("image.tar");
    image().build(&archive).expect("built");
    let unpack = |from: &Path| {
        let status = Command::new("tar").arg("-xf").arg(from).arg("-C").arg(&directory).status();
        assert!(status.expect("tar runs").success(), "{}", from.display());
    };
    unpack(&archive);
    let index: Value =
        serde_json::from_str(&fs::read_to_string(directory.join("index.json")).expect("an index"))
            .expect("JSON");
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "weft.dev/test:1");
    let blob = |digest: &Value| {
        let digest = digest.as_str().expect("a digest").trim_start_matches("sha256:");
        directory.join("blobs/sha256").join(digest)
    };
    let manifest = fs::read_to_string(blob(&index["manifests"][0]["digest"])).expect("a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    let layer = blob(&manifest["layers"][0]["digest"]);
    let bytes = fs::read(&layer).expect("a layer");
    assert_eq!(layer.file_name().and_then(|name| name.to_str()), Some(tar::digest(&bytes).as_str()));
    unpack(&layer);
    assert_eq!(fs::read_to_string(directory.join("etc/greeting")).expect("a file"), "hello");
    let mode = fs::metadata(directory.join("tmp")).expect("a directory").permissions().mode();
    assert_eq!(mode & 0o7777, 0o1777);
    assert_eq!(fs::read_link(directory.join("bin/sh")).expect("a link"), Path::new("busybox"));
    fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn a_path_that_does_not_fit_is_refused() {
    let directory = scratch("refused");
    let image = Image::new("weft.dev/test:1").text(&"n".repeat(300), "");
    let error = image.build(&directory.join("image.tar")).expect_err("too long");
    assert!(error.to_string().contains("too long"), "{error}");
    fs::remove_dir_all(directory).expect("removed");
}
