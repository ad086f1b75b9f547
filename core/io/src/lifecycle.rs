//! The life of a process: becoming ready, being told to go, draining.

pub mod drain;
pub mod ready;
pub mod shutdown;
