//! How errors are told to people.

use std::{error::Error, io};

/// An error with its causes, each said once: most errors here name their cause in their own words.
pub fn whole(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !told.contains(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        next = cause.source();
    }
    told
}

/// What to do about a file that cannot be written, where the cause alone does not say it; begins with a space.
pub fn file_mend(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => " (make room on its file system)",
        io::ErrorKind::NotFound => " (its directory must be there)",
        io::ErrorKind::PermissionDenied => " (it must belong to the user of this process)",
        io::ErrorKind::ReadOnlyFilesystem => " (its file system must be mounted for writing)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot listen at 1: {0}")]
        Says(#[source] io::Error),
        #[error("no listener")]
        Keeps(#[source] io::Error),
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = || io::Error::other("in use");
        assert_eq!(whole(&Outer::Says(cause())), "cannot listen at 1: in use");
        assert_eq!(whole(&Outer::Keeps(cause())), "no listener: in use");
    }

    #[test]
    fn a_full_disk_has_a_mend() {
        assert!(file_mend(&io::Error::from_raw_os_error(libc::ENOSPC)).contains("make room"));
        assert_eq!(file_mend(&io::Error::from_raw_os_error(libc::EIO)), "");
    }
}
