//! Text of a file, shortened and escaped for a message.

use std::fmt::{self, Write as _};

/// The largest number of characters of a token that a message shows.
const MAX_CHARS: usize = 60;

/// A token of a file, shown in a message: at most a line long, in backquotes, with control
/// characters escaped. A terminal that shows the message obeys none of the token's characters.
#[derive(Clone, Copy, Debug)]
pub struct Quote<'a>(pub &'a str);

impl fmt::Display for Quote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(MAX_CHARS).map(|(end, _)| end);
        write!(f, "`{}`", Plain(&self.0[..end.unwrap_or(self.0.len())]))?;
        match end {
            Some(end) => write!(f, " and {} more bytes", self.0.len() - end),
            None => Ok(()),
        }
    }
}

/// A text in which control characters are escaped, also characters that change the direction of
/// the text.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a>(pub &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                write!(f, "{}", c.escape_unicode())
            }
            c if c.is_control() => write!(f, "{}", c.escape_default()),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_in_one_short_line_without_control_characters() {
        for (token, shown) in [
            ("frok", "`frok`"),
            ("\u{1b}[31mred\u{7}\u{9b}2J", "`\\u{1b}[31mred\\u{7}\\u{9b}2J`"),
            ("a\nb\tc\r", "`a\\nb\\tc\\r`"),
            ("\u{202e}gnp.exe", "`\\u{202e}gnp.exe`"),
            ("größe", "`größe`"),
        ] {
            assert_eq!(Quote(token).to_string(), shown);
        }
        let long = Quote(&"é".repeat(50_000_000)).to_string();
        assert_eq!(long, format!("`{}` and 99999880 more bytes", "é".repeat(60)));
    }
}
