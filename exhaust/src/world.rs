//! Worlds: the operations of which the programs of a search are made, as a small text.
//!
//! ```text
//! # Four pages of private memory in one process.
//! pages 4
//! limits processes=1
//! mmap 0 0..4 {1,2,4} {rw,r} anon_private
//! munmap 0 0..4 1..5
//! ```
//!
//! A line is an operation in the [text form](vmadiff_machine::text) of programs. An operand is a value, a
//! range of numbers `0..4` without its end, or a set of values and ranges `{rw,r}`. The line stands for
//! one operation for each choice of values. `pages N` leaves out the operations that name a page past
//! the first N pages. `limits` are those of every program. Both come before the operations.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use vmadiff_machine::op::{MAX_OPERANDS, OperandType};
use vmadiff_machine::operand::ARENA_PAGES;
use vmadiff_machine::text::{
    TextError, no_value, parse_limits, parse_opcode, parse_operands, words,
};
use vmadiff_machine::{Errno, Limits, Op, Quote};

/// The largest number of operations of a world.
pub const MAX_OPERATIONS: usize = 10_000;

/// The largest number of operations for which a line stands, before some are left out.
const MAX_CHOICES: usize = 1 << 20;

/// A world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// The name, as reports show it.
    pub name: String,
    /// The limits under which every program runs.
    pub limits: Limits,
    /// The operations, each once, in the order of the text. At most [`MAX_OPERATIONS`].
    pub ops: Vec<Op>,
}

macro_rules! worlds {
    ($($name:literal)*) => {
        /// The worlds that have names: the name and the text of each.
        pub const NAMED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../worlds/", $name, ".txt"))),)*];
    };
}

worlds! { "tiny" "fork" "copy" "uffd" "locks" "limits" "files" "reuse" }

impl World {
    /// Returns the world with a name; `None` if there is no such world.
    pub fn named(name: &str) -> Option<World> {
        let (name, text) = NAMED.iter().find(|(known, _)| *known == name)?;
        // A test reads every one of them.
        Some(World { name: (*name).to_owned(), ..text.parse().ok()? })
    }

    /// Reads the text of a world, which gets `name`.
    ///
    /// # Errors
    /// [`TextError`] as for [`World::from_str`].
    pub fn read(name: &str, text: &str) -> Result<World, TextError> {
        Ok(World { name: name.to_owned(), ..text.parse()? })
    }
}

impl FromStr for World {
    type Err = TextError;

    /// Reads the text of a world.
    ///
    /// # Errors
    /// [`TextError`] with the line and the column of the first word that is not valid, of a line that
    /// stands for too many operations, or of the end of a text without operations.
    fn from_str(text: &str) -> Result<World, TextError> {
        let mut world =
            World { name: "world".to_owned(), limits: Limits::default(), ops: Vec::new() };
        let (mut pages, mut limits) = (None, None);
        let mut seen = HashSet::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut end = 1;
        for (number, line) in (1..).zip(text.lines()) {
            end = number;
            let at = |(column, what)| TextError { line: number, column, what };
            let mut words = words(line);
            let Some((column, name)) = words.next() else { continue };
            if matches!(name, "pages" | "limits") && !world.ops.is_empty() {
                return Err(at((column, format!("`{name}` comes before the operations"))));
            }
            match name {
                "pages" if pages.is_some() => {
                    return Err(at((column, "`pages` is given twice".into())));
                }
                "limits" if limits.is_some() => {
                    return Err(at((column, "`limits` are given twice".into())));
                }
                "pages" => {
                    pages = Some(parse_pages(words, 1 + line.chars().count()).map_err(at)?);
                }
                "limits" => limits = Some(parse_limits(words).map_err(at)?),
                name => {
                    let ops = parse_line(name, column, words, line).map_err(at)?;
                    let fits = |op: &Op| {
                        let end = |named: vmadiff_machine::OpRange| usize::from(named.range.end.0);
                        let last = op.ranges(Err(Errno::EINVAL)).map(end).max();
                        last.is_none_or(|last| last <= pages.unwrap_or(ARENA_PAGES))
                    };
                    world.ops.extend(ops.into_iter().filter(fits).filter(|op| seen.insert(*op)));
                    if world.ops.len() > MAX_OPERATIONS {
                        let what = format!("a world has at most {MAX_OPERATIONS} operations");
                        return Err(at((column, what)));
                    }
                }
            }
        }
        world.limits = limits.unwrap_or_default();
        match world.ops.is_empty() {
            true => Err(TextError {
                line: end,
                column: 1,
                what: "a world has at least one operation".into(),
            }),
            false => Ok(world),
        }
    }
}

fn parse_pages<'a>(
    mut words: impl Iterator<Item = (usize, &'a str)>,
    end: usize,
) -> Result<usize, (usize, String)> {
    let expected = format!("expected a number of pages, 1 to {ARENA_PAGES}");
    let Some((column, word)) = words.next() else { return Err((end, expected)) };
    let pages = word.parse().ok().filter(|pages| (1..=ARENA_PAGES).contains(pages));
    match (pages, words.next()) {
        (Some(pages), None) => Ok(pages),
        (Some(_), Some((column, word))) => {
            Err((column, format!("{} is one word too many: {expected}", Quote(word))))
        }
        (None, _) => Err((column, format!("{}: {expected}", Quote(word)))),
    }
}

/// Returns the operations for which a line stands, the last operand changing first.
fn parse_line<'a>(
    name: &str,
    column: usize,
    words: impl Iterator<Item = (usize, &'a str)>,
    line: &str,
) -> Result<Vec<Op>, (usize, String)> {
    let opcode = parse_opcode(name, "pages, limits, or").map_err(|what| (column, what))?;
    let sets = parse_operands(opcode, words, 1 + line.chars().count(), parse_set)?;
    let choices = sets.iter().fold(1usize, |product, set| product.saturating_mul(set.len()));
    if choices > MAX_CHOICES {
        let what = format!("the line stands for {choices} operations: at most {MAX_CHOICES}");
        return Err((column, what));
    }
    let mut ops = vec![[0; MAX_OPERANDS]];
    for (n, set) in sets.iter().enumerate() {
        let with = |bytes: [u8; MAX_OPERANDS]| {
            set.iter().map(move |&value| {
                let mut bytes = bytes;
                bytes[n] = value;
                bytes
            })
        };
        ops = ops.into_iter().flat_map(with).collect();
    }
    Ok(ops.into_iter().map(|bytes| Op::from_bytes(opcode, bytes)).collect())
}

/// Returns the values of an operand: of a value, a range, or a set of both.
fn parse_set(ty: &OperandType, word: &str) -> Result<Vec<u8>, String> {
    let parts = match word.strip_prefix('{') {
        Some(rest) => {
            let Some(inside) = rest.strip_suffix('}') else {
                return Err(format!("{}: a set ends with }} and has no spaces", Quote(word)));
            };
            inside
        }
        None => word,
    };
    let mut values = Vec::new();
    for part in parts.split(',') {
        let wrong = || no_value(ty, part);
        match part.split_once("..") {
            Some((from, to)) => {
                let from = ty.parse(from).ok_or_else(wrong)?;
                let to: usize = to.parse().ok().filter(|to| *to <= ty.size).ok_or_else(wrong)?;
                if usize::from(from) >= to {
                    return Err(format!("{} is an empty range", Quote(part)));
                }
                values.extend(from..=(to - 1) as u8);
            }
            None => values.push(ty.parse(part).ok_or_else(wrong)?),
        }
    }
    Ok(values)
}

impl fmt::Display for World {
    /// Writes the operations in the text form of programs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.limits != Limits::default() {
            writeln!(f, "{}", self.limits)?;
        }
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(text: &str) -> Vec<String> {
        let world: World = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        world.ops.iter().map(Op::to_string).collect()
    }

    #[test]
    fn a_line_stands_for_one_operation_for_each_choice() {
        assert_eq!(
            ops("munmap {0,1} 2 1..3"),
            ["munmap 0 2 1", "munmap 0 2 2", "munmap 1 2 1", "munmap 1 2 2"]
        );
        assert_eq!(ops("mprotect 0 1 1 {-,rw}"), ["mprotect 0 1 1 -", "mprotect 0 1 1 rw"]);
        assert_eq!(ops("touch 0 {1,3..5} {0,1}").len(), 6);
        assert_eq!(ops("fork 0\nfork {0,0}\n"), ["fork 0"], "each operation once");
    }

    #[test]
    fn an_operation_that_leaves_the_pages_is_left_out() {
        assert_eq!(ops("pages 2\nmunmap 0 0..2 1..3").len(), 3);
        assert_eq!(ops("pages 2\nmremap 0 0..2 1 2 -"), ["mremap 0 0 1 2"]);
    }

    #[test]
    fn every_named_world_reads() {
        for (name, text) in NAMED {
            let world = World::read(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(World::named(name), Some(world));
        }
        assert_eq!(World::named("none"), None);
    }

    #[test]
    fn errors_name_line_column_and_what_was_expected() {
        for (text, line, column, what) in [
            ("", 1, 1, "at least one operation"),
            ("pages 4\n\n", 2, 1, "at least one operation"),
            ("pages 0", 1, 7, "1 to 64"),
            ("pages", 1, 6, "1 to 64"),
            ("pages 4 4", 1, 9, "too many"),
            ("pages 4\npages 4", 2, 1, "twice"),
            ("limits lock=1\nlimits lock=1", 2, 1, "twice"),
            ("limits swap=1", 1, 8, "no limit"),
            ("fork 0\npages 4", 2, 1, "before the operations"),
            ("frok 0", 1, 1, "no operation is called `frok`"),
            ("fork", 1, 5, "of which process"),
            ("fork 0 0", 1, 8, "too many"),
            ("munmap 0 {1,64} 1", 1, 10, "`64` is not a page"),
            ("munmap 0 {1 1", 1, 10, "a set ends with }"),
            ("munmap 0 {} 1", 1, 10, "is not a page"),
            ("munmap 0 3..3 1", 1, 10, "empty range"),
            ("munmap 0 3..65 1", 1, 10, "is not a page"),
            ("mprotect 0 0 1 {r..w}", 1, 16, "is not"),
            ("mmap 0..8 0..64 0..64 {r,w,x}\nmremap 0..8 0..64 0..64 0..64", 1, 1, "at most 10000"),
            ("mremap 0..8 0..64 0..64 0..64", 1, 1, "stands for 2097152 operations"),
        ] {
            let error = text.parse::<World>().expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
            assert!(error.what.contains(what), "{text}: {error}");
        }
    }
}
