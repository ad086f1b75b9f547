//! What the fuzz targets share.

pub mod file;
pub mod policies;
pub mod state;

/// The longest error text that a parser may make of outside bytes: it goes into logs and back over the wire.
pub const LONGEST_ERROR: usize = 2048;

/// Checks that an error can be shown: it says something, and not too much.
pub fn check_error(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(!text.is_empty(), "an error without a text");
    assert!(text.len() <= LONGEST_ERROR, "an error of {} bytes: {text:.200}…", text.len());
}
