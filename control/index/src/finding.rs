//! Findings: what is wrong with an object, and how to mend it.

use serde::Serialize;
use std::fmt;
use weft_api::ObjectKey;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// The object is in force, but hardly as its author meant it.
    Warning,
    /// The object, or this version of it, is not in force.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// One thing that is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file that the object came from, where it came from one.
    pub file: Option<String>,
    /// The object, as far as it has a name.
    pub object: Option<ObjectKey>,
    /// The field; empty where it is about the object as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; {}", self.message, self.mend)
    }
}

/// A finding before it is known which object it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub severity: Severity,
    pub field: String,
    pub message: String,
    pub mend: String,
}

impl Note {
    pub(crate) fn new(
        severity: Severity,
        field: impl Into<String>,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { severity, field: field.into(), message: message.into(), mend: mend.into() }
    }

    pub(crate) fn about(self, object: &ObjectKey) -> Finding {
        let Note { severity, field, message, mend } = self;
        Finding { severity, file: None, object: Some(object.clone()), field, message, mend }
    }
}
