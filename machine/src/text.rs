//! The text form of programs, which people read, write and send by mail.
//!
//! Each line is one operation: the name, the process, then the other operands in the order of
//! [`crate::op`]. Operands that are zero may be left out at the end of a line. `#` begins a
//! comment. The first line may set limits: `limits map_count=8 lock=4`.

use std::str::FromStr;

use crate::op::{MAX_OPERANDS, Op, Opcode, OperandType};
use crate::operand::parse_number;
use crate::program::{Limits, MAX_OPS, Program};
use crate::quote::Quote;

/// The reason why a text is not a program, and the place of the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct TextError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The error and the expected text.
    pub what: String,
}

/// Returns the words of a line before the comment, each with its column.
pub fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = line.split('#').next().unwrap_or("");
    code.split_whitespace().map(move |word| {
        // `word` is a slice of `line`, so the distance of the pointers is the byte offset.
        let offset = word.as_ptr() as usize - line.as_ptr() as usize;
        (1 + line[..offset].chars().count(), word)
    })
}

/// Reads the limits of a line from the words after `limits`.
///
/// # Errors
/// The column of the first word that is no limit, and the expected text.
pub fn parse_limits<'a>(
    words: impl Iterator<Item = (usize, &'a str)>,
) -> Result<Limits, (usize, String)> {
    let mut limits = [None; Limits::NAMES.len()];
    for (column, word) in words {
        let Some((name, text)) = word.split_once('=') else {
            return Err((column, format!("{} is not a limit: expected NAME=PAGES", Quote(word))));
        };
        let Some(at) = Limits::NAMES.iter().position(|n| *n == name) else {
            let known = Limits::NAMES.join(", ");
            return Err((
                column,
                format!("no limit is called {}: expected one of {known}", Quote(name)),
            ));
        };
        let value = parse_number(text).and_then(|n| u8::try_from(n).ok()).ok_or_else(|| {
            (column, format!("{} is not a limit: expected 0 to 255", Quote(text)))
        })?;
        if limits[at].replace(value).is_some() {
            return Err((column, format!("the limit `{name}` is given twice")));
        }
    }
    Ok(Limits::from_array(limits))
}

/// Reads the name of an operation. `others` are the other words that may stand here: `limits or`.
///
/// # Errors
/// The expected names.
pub fn parse_opcode(name: &str, others: &str) -> Result<Opcode, String> {
    Opcode::from_name(name).ok_or_else(|| {
        let known: Vec<_> = Opcode::ALL.iter().map(|opcode| opcode.name()).collect();
        let known = known.join(", ");
        format!("no operation is called {}: expected {others} one of {known}", Quote(name))
    })
}

/// Reads the operands of an operation from the words after its name: each with `parse`. Operands may be
/// left out at the end. `end` is the column after the line.
///
/// # Errors
/// The column of the first word that is not valid, and the expected text.
pub fn parse_operands<'a, T>(
    opcode: Opcode,
    words: impl Iterator<Item = (usize, &'a str)>,
    end: usize,
    parse: impl Fn(&OperandType, &str) -> Result<T, String>,
) -> Result<Vec<T>, (usize, String)> {
    let (name, types) = (opcode.name(), opcode.operands());
    let mut operands = Vec::new();
    for (column, word) in words {
        let Some(ty) = types.get(operands.len()) else {
            let count = types.len();
            let what = format!("{} is one operand too many: {name} takes {count}", Quote(word));
            return Err((column, what));
        };
        operands.push(parse(ty, word).map_err(|what| (column, what))?);
    }
    // Every operation needs its process, so the process is never left out.
    if operands.is_empty() {
        return Err((end, format!("{name} of which process? Expected {}", types[0].expected)));
    }
    Ok(operands)
}

/// Returns the error of a word that is no value of an operand.
pub fn no_value(ty: &OperandType, word: &str) -> String {
    format!("{} is not {} ({})", Quote(word), ty.expected, ty.name)
}

fn parse_op<'a>(
    opcode: Opcode,
    words: impl Iterator<Item = (usize, &'a str)>,
    end: usize,
) -> Result<Op, (usize, String)> {
    let parse = |ty: &OperandType, word: &str| ty.parse(word).ok_or_else(|| no_value(ty, word));
    let mut bytes = [0; MAX_OPERANDS];
    let operands = parse_operands(opcode, words, end, parse)?;
    bytes.iter_mut().zip(operands).for_each(|(byte, operand)| *byte = operand);
    Ok(Op::from_bytes(opcode, bytes))
}

impl FromStr for Program {
    type Err = TextError;

    /// Reads the text form.
    ///
    /// # Errors
    /// [`TextError`] with the line and the column of the first word that is not valid, or of the
    /// first operation past [`MAX_OPS`].
    fn from_str(text: &str) -> Result<Program, TextError> {
        let mut program = Program::default();
        let mut begun = false;
        // Some editors begin a text file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.lines().enumerate() {
            let mut words = words(line);
            let Some((column, name)) = words.next() else { continue };
            let at = |(column, what)| TextError { line: number + 1, column, what };
            if name == "limits" {
                if begun {
                    return Err(at((column, "limits come first, once".into())));
                }
                program.limits = parse_limits(words).map_err(at)?;
            } else {
                let opcode = parse_opcode(name, "limits or").map_err(|what| at((column, what)))?;
                if program.ops.len() == MAX_OPS {
                    return Err(at((
                        column,
                        format!("a program has at most {MAX_OPS} operations"),
                    )));
                }
                program.ops.push(parse_op(opcode, words, 1 + line.chars().count()).map_err(at)?);
            }
            begun = true;
        }
        Ok(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bug_a_reads_as_in_a_mail() {
        let text = "mmap 0 1 6 rw anon_private        # process 0, pages 1..7\n\
                    mremap 0 4 2 2 MAYMOVE|FIXED 2    # pages 4..6 to 2..4\n";
        let program: Program = text.parse().expect("bug A is a program");
        assert_eq!(
            program.to_string(),
            "mmap 0 1 6 rw anon_private\nmremap 0 4 2 2 MAYMOVE|FIXED 2\n"
        );
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_start_of_the_file_only() {
        assert_eq!("\u{feff}fork 0\n".parse::<Program>(), "fork 0\n".parse());
        let error = "fork 0\n\u{feff}fork 0\n".parse::<Program>().expect_err("a mark in line 2");
        assert_eq!((error.line, error.column), (2, 1));
    }

    #[test]
    fn errors_name_line_column_and_what_was_expected() {
        for (text, line, column, what) in [
            ("mmap 0 1 6 rw heap", 1, 15, "is not a kind"),
            ("\n  frok 0", 2, 3, "no operation is called `frok`"),
            ("fork", 1, 5, "of which process"),
            ("fork 8", 1, 6, "a process, 0 to 7"),
            ("é fork", 1, 1, "no operation"),
            ("munmap 0 1 2 3", 1, 14, "too many"),
            ("munmap 0 64", 1, 10, "a page, 0 to 63"),
            ("fork 0\nlimits lock=1", 2, 1, "come first"),
            ("limits lock=1 lock=2", 1, 15, "twice"),
            ("limits lock=256", 1, 8, "0 to 255"),
            ("limits swap=1", 1, 8, "no limit"),
            ("limits lock", 1, 8, "NAME=PAGES"),
        ] {
            let error = text.parse::<Program>().expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
            assert!(error.what.contains(what), "{text}: {error}");
        }
        assert!("fork 0\n".repeat(MAX_OPS).parse::<Program>().is_ok());
        assert_eq!(
            "fork 0\n".repeat(MAX_OPS + 1).parse::<Program>().map_err(|e| e.line),
            Err(MAX_OPS + 1)
        );
    }
}
