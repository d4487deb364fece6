//! Programs from files: corpus files, crash artifacts and text.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};
use serde::Serialize;
use vmadiff_machine::corpus::{self, CorpusError};
use vmadiff_machine::{Program, TextError};
use walkdir::{DirEntry, WalkDir};

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

/// A program that was read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The program.
    pub program: Program,
    /// The form that the program has in the file.
    pub format: Format,
    /// The file is cut short within its limits or within an operation. The program has the
    /// operations before the cut.
    pub is_cut: bool,
}

impl Loaded {
    /// Returns the place of the cut in words; `None` if the file is whole.
    pub fn cut(&self) -> Option<String> {
        self.is_cut.then(|| match self.program.ops.len() {
            0 => "the file is cut short before the end of operation 1".into(),
            n => format!("the file is cut short after operation {n}"),
        })
    }
}

/// Reads a program from a file.
///
/// # Errors
/// [`InputError`] with the offset, or the line and column, of the mistake.
pub fn load(path: &Path) -> Result<Loaded, InputError> {
    read(File::open(path)?)
}

/// Reads a program from an open file or a pipe.
///
/// # Errors
/// [`InputError`] with the offset, or the line and column, of the mistake.
pub fn read(file: impl Read) -> Result<Loaded, InputError> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    parse(&bytes)
}

/// Reads a program from the bytes of a file.
///
/// # Errors
/// [`InputError`] with the offset, or the line and column, of the mistake.
pub fn parse(bytes: &[u8]) -> Result<Loaded, InputError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(InputError::TooLong);
    }
    if bytes.is_empty() {
        return Err(InputError::Empty);
    }
    if bytes.starts_with(&corpus::MAGIC) || corpus::MAGIC.starts_with(bytes) {
        let (program, is_cut) = corpus::decode_cut(bytes)?;
        return Ok(Loaded { program, format: Format::Corpus, is_cut });
    }
    let text = std::str::from_utf8(bytes).map_err(|e| InputError::Neither(e.valid_up_to()))?;
    Ok(Loaded { program: text.parse()?, format: Format::Text, is_cut: false })
}

/// The files at the paths of a command.
#[derive(Debug, Default)]
pub struct Files {
    /// The files, each path in the order of the command, the files below a folder in the order of
    /// their names.
    pub found: Vec<PathBuf>,
    /// The files and folders below a folder that cannot be read, each with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Returns the files at `paths`: each path that is not a folder, and all files below each path that
/// is a folder. Hidden files are left out. Below a folder everything is skipped that is no file: a
/// link to nothing, a link to a folder above, a folder that cannot be read, a device or a FIFO.
///
/// # Errors
/// An error of the system if a path does not exist or is a folder that cannot be read.
pub fn files(paths: &[PathBuf]) -> std::io::Result<Files> {
    let mut files = Files::default();
    for path in paths {
        let context =
            |e: std::io::Error| std::io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        if !std::fs::metadata(path).map_err(context)?.is_dir() {
            files.found.push(path.clone());
            continue;
        }
        std::fs::read_dir(path).map_err(context)?;
        let is_shown = |entry: &DirEntry| {
            entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
        };
        let walk = WalkDir::new(path).follow_links(true).sort_by_file_name();
        for entry in walk.into_iter().filter_entry(is_shown) {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) if entry.file_type().is_file() => files.found.push(entry.into_path()),
                Ok(entry) => files.skipped.push((entry.into_path(), "not a regular file".into())),
                Err(error) => {
                    let why = match error.io_error() {
                        Some(error) => error.to_string(),
                        None => "a link to a folder above it".into(),
                    };
                    files.skipped.push((error.path().unwrap_or(path).to_owned(), why));
                }
            }
        }
    }
    Ok(files)
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
