//! A file that exists in memory only, for parsers that take a path.

use std::{
    fs::{self, File},
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::PathBuf,
    sync::LazyLock,
};

static FILE: LazyLock<File> = LazyLock::new(|| {
    let path = format!("/dev/shm/weft-fuzz-{}", std::process::id());
    let file = File::create_new(&path).expect("a new file in /dev/shm");
    fs::remove_file(path).expect("the file that was just made");
    file
});

/// The path of a file with these contents; the next call replaces them.
pub fn holding(contents: &[u8]) -> PathBuf {
    FILE.set_len(0).expect("a file that can be emptied");
    FILE.write_all_at(contents, 0).expect("room in /dev/shm");
    format!("/proc/self/fd/{}", FILE.as_raw_fd()).into()
}
