//! What there is too little of to carry one more connection: files, memory, places. It is counted each time and told now and
//! then, with the limit and what to do about it.

use super::Lane;
use nix::sys::resource::{Resource, getrlimit};
use std::io;
use weft_io::telemetry::Metrics;

/// What `error` says there was not enough of; `None` where it is about something else.
pub fn lacking(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => Some("files"),
        Some(libc::ENOBUFS | libc::ENOMEM) => Some("memory"),
        _ => None,
    }
}

/// The limit that a lack of something comes from, and the mend.
pub fn remedy(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE) => {
            let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
            format!(
                "this process may have {limit} files open (RLIMIT_NOFILE), and each connection takes one or two; raise the \
                 limit (LimitNOFILE= of its service, `ulimit -n`) or lower `maxConnections`"
            )
        }
        Some(libc::ENFILE) => "this machine may have no more files open; raise the sysctl fs.file-max".into(),
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            "there is no memory for more sockets; raise the sysctl net.ipv4.tcp_mem, or lower `maxConnections`".into()
        }
        _ => "it is tried again".into(),
    }
}

impl Lane {
    /// Notes that a connection could not be accepted or made, if that was for want of something.
    pub fn note_shortage(&self, pod: &impl std::fmt::Display, error: &io::Error) {
        let Some(what) = lacking(error) else { return };
        self.shared.telemetry.metrics.accept_failed(what);
        if let Some(others) = self.shortages.due() {
            let mend = remedy(error);
            tracing::error!(%pod, %error, others, "no room for new connections, which wait or fail until some end: {mend}");
        }
    }

    /// Notes that a connection was refused because there are as many as there may be.
    pub fn note_full(&self, pod: &impl std::fmt::Display) {
        self.shared.telemetry.metrics.accept_failed(Metrics::LIMIT);
        if let Some(others) = self.shortages.due() {
            let most = self.shared.admission.most();
            tracing::error!(%pod, others, "new connections are refused until some end: there are {most}, as many as \
                `maxConnections` allows; raise it, or spread the pods over more nodes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lack_is_named_with_its_limit_and_mend() {
        let of = io::Error::from_raw_os_error;
        let files = remedy(&of(libc::EMFILE));
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(files.contains(&limit.to_string()) && files.contains("LimitNOFILE"), "{files}");
        assert!(remedy(&of(libc::ENFILE)).contains("fs.file-max"));
        assert_eq!(lacking(&of(libc::ENOMEM)), Some("memory"));
        assert_eq!(lacking(&of(libc::ECONNREFUSED)), None);
    }
}
