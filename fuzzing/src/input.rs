//! Programs from files: corpus files, crash artifacts and text.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};
use serde::Serialize;
use vmadiff_machine::corpus::{self, CorpusError};
use vmadiff_machine::{Program, TextError};

/// The size limit of an input file. A program as text with long comments stays below it.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// The two forms that a program can have in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The text form, for people.
    Text,
    /// The corpus format, for the fuzzer.
    Corpus,
}

impl Format {
    /// Returns the bytes of the program in this form.
    pub fn encode(self, program: &Program) -> Vec<u8> {
        match self {
            Format::Text => program.to_string().into_bytes(),
            Format::Corpus => corpus::encode(program),
        }
    }
}

/// The reason why a file is not a program.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// The file is longer than [`MAX_FILE_BYTES`].
    #[error("longer than any program: expected at most {MAX_FILE_BYTES} bytes")]
    TooLong,
    /// The file is empty.
    #[error("the file is empty: expected a corpus file (it begins with VMAD) or text")]
    Empty,
    /// The bytes at this offset are neither a corpus file nor UTF-8 text.
    #[error("offset {0}: neither a corpus file (it begins with VMAD) nor text (UTF-8)")]
    Neither(usize),
    /// The file begins like a corpus file, but it cannot be decoded.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The file is text, but the text is not a program.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// Reads a program from a file and returns it with its form.
///
/// # Errors
/// [`InputError`] with the offset, or the line and column, of the mistake.
pub fn load(path: &Path) -> Result<(Program, Format), InputError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    parse(&bytes)
}

/// Reads a program from the bytes of a file and returns it with its form.
///
/// # Errors
/// [`InputError`] with the offset, or the line and column, of the mistake.
pub fn parse(bytes: &[u8]) -> Result<(Program, Format), InputError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(InputError::TooLong);
    }
    if bytes.is_empty() {
        return Err(InputError::Empty);
    }
    if bytes.starts_with(&corpus::MAGIC) || corpus::MAGIC.starts_with(bytes) {
        return Ok((corpus::decode(bytes)?, Format::Corpus));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| InputError::Neither(e.valid_up_to()))?;
    Ok((text.parse()?, Format::Text))
}

/// Returns the files at `paths`: each path that is a file, and all files below each path that is a
/// folder, in the order of their names. Hidden files are left out.
///
/// # Errors
/// An error of the system if a folder cannot be read or a path does not exist.
pub fn files(paths: &[PathBuf]) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = paths.iter().rev().cloned().collect();
    while let Some(path) = left.pop() {
        let context =
            |e: std::io::Error| std::io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        if !std::fs::metadata(&path).map_err(context)?.is_dir() {
            found.push(path);
            continue;
        }
        let mut below = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(context)? {
            let entry = entry.map_err(context)?;
            if !entry.file_name().to_string_lossy().starts_with('.') {
                below.push(entry.path());
            }
        }
        below.sort();
        left.extend(below.into_iter().rev());
    }
    Ok(found)
}

/// The input of a fuzz target: a program, decoded from the corpus format and shown in the text
/// form.
#[derive(Clone)]
pub struct Input(pub Program);

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let bytes = u.bytes(u.len())?;
        corpus::decode(bytes).map(Input).map_err(|_| arbitrary::Error::IncorrectFormat)
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
