//! Programs of syzkaller in their text form: each line is one call.
//!
//! The reader understands the syntax and not the descriptions of the calls: arguments are values
//! without types. It accepts all that syzkaller writes, comments, blank lines, the properties of calls
//! (`(async)`, `(fail_nth: 3)`), and flags by name (`PROT_READ|PROT_WRITE`).

mod value;

use value::Cursor;

pub use value::Value;

/// The size limit of a file in bytes. A program that mounts an image has lines of some 100 KB.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// The limit of calls of a program. syzkaller's own programs have at most 40.
pub const MAX_CALLS: usize = 1 << 16;

/// A call of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The line, counted from 1.
    pub line: usize,
    /// The number of the resource that the call makes: 0 for `r0 = …`.
    pub result: Option<u32>,
    /// The name without the variant: `ioctl` for `ioctl$UFFDIO_API`.
    pub name: String,
    /// The variant of the call: `UFFDIO_API` for `ioctl$UFFDIO_API`, otherwise empty.
    pub variant: String,
    /// The arguments.
    pub arguments: Vec<Value>,
    /// The names of the call's properties, such as `async`.
    pub properties: Vec<String>,
}

impl Call {
    /// Returns the name with the variant, as the program has it.
    pub fn full_name(&self) -> String {
        match self.variant.as_str() {
            "" => self.name.clone(),
            variant => format!("{}${variant}", self.name),
        }
    }
}

/// The reason why a text is no program of syzkaller, and the place of the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct SyzError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The error and the expected text.
    pub what: String,
}

/// Reads a program.
///
/// # Errors
/// [`SyzError`] with the line and the column of the first character that is not valid, or of the
/// first call past [`MAX_CALLS`].
pub fn parse(text: &str) -> Result<Vec<Call>, SyzError> {
    let mut calls = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let mut cursor = Cursor::new(line);
        let call = match calls.len() < MAX_CALLS {
            true => call(&mut cursor, number + 1),
            false => Err(format!("the program goes on past {MAX_CALLS} calls")),
        };
        let error = |what| SyzError { line: number + 1, column: cursor.column(), what };
        calls.push(call.map_err(error)?);
    }
    Ok(calls)
}

/// Reads a call: `r0 = name$variant(arguments) (properties)`.
fn call(cursor: &mut Cursor<'_>, line: usize) -> Result<Call, String> {
    cursor.blanks();
    let mut name = cursor.word();
    let mut result = None;
    if let Some(number) = name.strip_prefix('r').and_then(|digits| digits.parse().ok())
        && cursor.take_after_blanks("=")
    {
        result = Some(number);
        cursor.blanks();
        name = cursor.word();
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') {
        return Err("expected a call, such as `r0 = memfd_create(…)`".into());
    }
    // The name of a variant can have further `$`.
    let mut variant = String::new();
    while cursor.take("$") {
        variant.push_str(if variant.is_empty() { "" } else { "$" });
        variant.push_str(cursor.word());
    }
    cursor.expect("(")?;
    let arguments = cursor.values(")")?;
    let mut properties = Vec::new();
    if cursor.take_after_blanks("(") {
        loop {
            cursor.blanks();
            let property = cursor.word();
            if property.is_empty() {
                return Err("expected a property of the call, such as `async`".into());
            }
            properties.push(property.to_owned());
            if cursor.take_after_blanks(":") {
                cursor.blanks();
                if cursor.word().is_empty() {
                    return Err("expected the value of the property".into());
                }
            }
            if !cursor.take_after_blanks(",") {
                break;
            }
        }
        cursor.blanks();
        cursor.expect(")")?;
    }
    cursor.blanks();
    if !cursor.is_at_end() && !cursor.take("#") {
        return Err("expected the end of the line after the call".into());
    }
    Ok(Call { line, result, name: name.into(), variant, arguments, properties })
}
