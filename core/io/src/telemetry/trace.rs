//! The process's own log: its format, its level, and how the level changes while it runs.

use std::{
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError},
};
use tracing_subscriber::{
    EnvFilter, Registry, filter::LevelFilter, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A lone word that is no level.
    #[error(
        "`{0}` is not a log level; it is one of off, error, warn, info, debug, trace, or `info,weft_agent=debug`"
    )]
    NotALevel(String),
    /// The directives do not parse.
    #[error("`{directives}` does not select log lines: {source}; write e.g. `info,weft_agent=debug`")]
    Directives {
        /// What was asked for.
        directives: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber is in place.
    #[error("the log of this process is already set up")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
    /// The subscriber is gone.
    #[error("the log of this process cannot be changed: {0}")]
    Gone(#[from] reload::Error),
}

/// Changes the log level of the running process.
#[derive(Clone, Debug)]
pub struct LogHandle {
    reload: reload::Handle<EnvFilter, Registry>,
    current: Arc<Mutex<String>>,
}

impl LogHandle {
    /// Writes the process's log to standard error, as `directives` (`info`, `warn,weft_agent=debug`) select.
    pub fn install(directives: &str, format: LogFormat) -> Result<Self, LogError> {
        let (filter, handle) = Self::new(directives)?;
        let registry = tracing_subscriber::registry().with(filter);
        let lines = fmt::layer().with_writer(std::io::stderr);
        match format {
            // Colours are for people who look; a file or a log collector gets plain text.
            LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()?,
            LogFormat::Json => registry.with(lines.json()).try_init()?,
        }
        Ok(handle)
    }

    /// A filter to be put into a subscriber, and the handle that changes it.
    pub fn new(directives: &str) -> Result<(reload::Layer<EnvFilter, Registry>, Self), LogError> {
        let (layer, reload) = reload::Layer::new(parse(directives)?);
        Ok((layer, Self { reload, current: Arc::new(Mutex::new(directives.to_owned())) }))
    }

    /// Selects by `directives` from now on.
    pub fn set(&self, directives: &str) -> Result<(), LogError> {
        self.reload.reload(parse(directives)?)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = directives.to_owned();
        Ok(())
    }

    /// The directives that hold now.
    pub fn current(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn parse(directives: &str) -> Result<EnvFilter, LogError> {
    // A filter takes any word for the name of a module; a lone word that is no level is a slip of the pen.
    let lone = !directives.contains(['=', ',', '[']);
    if directives.is_empty() || lone && directives.parse::<LevelFilter>().is_err() {
        return Err(LogError::NotALevel(directives.to_owned()));
    }
    EnvFilter::try_new(directives)
        .map_err(|source| LogError::Directives { directives: directives.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_what_is_logged() {
        let (layer, handle) = LogHandle::new("warn").unwrap();
        let _default = tracing_subscriber::registry().with(layer).set_default();
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        handle.set("debug").unwrap();
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert_eq!(handle.current(), "debug");
    }

    #[test]
    fn refuses_what_is_no_level_and_keeps_the_old() {
        let (_layer, handle) = LogHandle::new("info,weft_agent=debug").unwrap();
        for bad in ["loud", "weft=loud", ""] {
            assert!(handle.set(bad).is_err(), "{bad}");
        }
        assert_eq!(handle.current(), "info,weft_agent=debug");
    }
}
