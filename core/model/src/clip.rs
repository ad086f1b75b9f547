//! What others sent, cut to a length that fits an error: errors go into logs, and back to the sender.

use std::fmt::Display;

/// The most characters of a foreign text in an error of ours.
const LONGEST: usize = 200;

/// At most 200 characters of what `foreign` says of itself, and a mark where more was cut.
pub fn clip(foreign: &(impl Display + ?Sized)) -> String {
    let mut text = foreign.to_string();
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_characters() {
        assert_eq!(clip("short"), "short");
        assert_eq!(clip(&"é".repeat(LONGEST)), "é".repeat(LONGEST));
        assert_eq!(clip(&"é".repeat(LONGEST + 1)), "é".repeat(LONGEST) + "…");
    }
}
