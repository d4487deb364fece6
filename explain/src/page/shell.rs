//! Quoting of words of a shell command.

/// Returns a word quoted for a shell, whatever characters it contains.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=,@%".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        word.to_owned()
    } else {
        let dash = if word.starts_with('-') { "./" } else { "" };
        format!("'{dash}{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_one_word_for_a_shell() {
        for (name, word) in [
            ("corpus/seeds/bug-a.txt", "corpus/seeds/bug-a.txt"),
            ("a b", "'a b'"),
            ("$(rm -r x)'`", "'$(rm -r x)'\\''`'"),
            ("", "''"),
            ("-o", "'./-o'"),
        ] {
            assert_eq!(quoted(name), word);
        }
    }
}
