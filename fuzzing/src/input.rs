//! Programs from files: corpus files, crash artifacts and text.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};
use serde::Serialize;
use vmadiff_machine::corpus::{self, CorpusError};
use vmadiff_machine::{Program, TextError};

/// The longest file that can be a program: text with ample comments.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// The two forms a program can have in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// What people read and write.
    Text,
    /// What the fuzzer mutates.
    Corpus,
}

impl Format {
    /// The program in this form.
    pub fn encode(self, program: &Program) -> Vec<u8> {
        match self {
            Format::Text => program.to_string().into_bytes(),
            Format::Corpus => corpus::encode(program),
        }
    }
}

/// Why a file is not a program.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is longer than [`MAX_FILE_BYTES`].
    #[error("longer than any program: expected at most {MAX_FILE_BYTES} bytes")]
    TooLong,
    /// It has no bytes.
    #[error("the file is empty: expected a corpus file (it begins with VMAD) or text")]
    Empty,
    /// It is neither form.
    #[error("offset {0}: neither a corpus file (it begins with VMAD) nor text (UTF-8)")]
    Neither(usize),
    /// It begins as a corpus file and is none.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// It is text, but not of a program.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// Reads a program and says which form it had.
///
/// # Errors
/// [`InputError`] with the offset, or line and column, of what is wrong.
pub fn load(path: &Path) -> Result<(Program, Format), InputError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    parse(&bytes)
}

/// Reads a program from the bytes of a file and says which form it had.
///
/// # Errors
/// [`InputError`] with the offset, or line and column, of what is wrong.
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

/// The files at `paths`: each file, and below each folder all of them, in the order of their
/// names. Hidden files are left out.
///
/// # Errors
/// Where a folder cannot be read, or a path does not exist.
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

/// What a fuzz target takes: a program in the corpus format, shown in the text form.
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
