//! SPDX licence expressions: `MIT OR (Apache-2.0 WITH LLVM-exception AND Zlib)`.

use anyhow::{Result, bail, ensure};

/// Whether the expression can be met with the allowed licences alone. `WITH` exceptions only widen what a licence
/// permits, so the licence decides; `/` is the old way to write `OR`.
///
/// # Errors
/// When it is not an expression.
pub fn allowed(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, allowed };
    let holds = reader.any()?;
    ensure!(reader.words.is_empty(), "`{expression}` is not a licence expression");
    Ok(holds)
}

struct Reader<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Reader<'_> {
    /// `OR`, which binds weakest.
    fn any(&mut self) -> Result<bool> {
        let mut holds = self.all()?;
        while self.take("OR") {
            holds |= self.all()?;
        }
        Ok(holds)
    }

    fn all(&mut self) -> Result<bool> {
        let mut holds = self.one()?;
        while self.take("AND") {
            holds &= self.one()?;
        }
        Ok(holds)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let holds = self.any()?;
            ensure!(self.take(")"), "a parenthesis of a licence expression is not closed");
            return Ok(holds);
        }
        let Some((licence, rest)) = self.words.split_first() else {
            bail!("a licence expression ends too soon")
        };
        self.words = rest;
        if self.take("WITH") {
            self.words = self.words.get(1..).unwrap_or_default();
        }
        Ok(self.allowed.iter().any(|allowed| allowed == licence))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_does() {
        let list = ["MIT", "Apache-2.0", "Unicode-3.0"].map(String::from);
        for (expression, holds) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("MIT OR Apache-2.0 AND GPL-3.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
        ] {
            assert_eq!(allowed(expression, &list).unwrap(), holds, "{expression}");
        }
        for nonsense in ["", "MIT OR", "(MIT", "MIT MIT"] {
            assert!(allowed(nonsense, &list).is_err(), "{nonsense}");
        }
    }
}
