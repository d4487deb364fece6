//! The corpus format: the bytes of programs, which the fuzzer mutates and the corpus stores. No
//! other module uses `bincode`.
//!
//! | bytes | contents |
//! |---|---|
//! | `VMAD` | magic |
//! | `01`, or `02` | version |
//! | 4 × (`00`, or `01` and a byte) | the limits but `fail`, in the order of [`Limits::NAMES`] |
//! | a byte, in version 2 only | the limit `fail` |
//! | rest | operations, each an [`Opcode`] and one byte for each operand |
//!
//! A program without the limit `fail` is written in version 1.
//!
//! This is bincode 2's standard encoding of `([u8; 4], u8, [Option<u8>; 4])`, the `u8` of version 2, and
//! `(u8, [u8; N])` for each operation up to the end of the file.

use bincode::config;
use bincode::error::{DecodeError, EncodeError};

use crate::op::{MAX_OPERANDS, Op, Opcode};
use crate::program::{Limits, MAX_OPS, Program};

/// The first bytes of every corpus file.
pub const MAGIC: [u8; 4] = *b"VMAD";
/// The version of the format for programs without the limit `fail`.
pub const VERSION: u8 = 1;
/// The version of the format for programs with the limit `fail`.
const VERSION_FAIL: u8 = 2;
/// The limits that every version has.
const PLAIN_LIMITS: usize = Limits::NAMES.len() - 1;

/// The largest length of a corpus file, in bytes.
pub const MAX_BYTES: usize =
    MAGIC.len() + 1 + 2 * Limits::NAMES.len() + MAX_OPS * (1 + MAX_OPERANDS);

/// The reason why bytes are not a program, and the place of the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset}: {what}")]
pub struct CorpusError {
    /// The offset of the first wrong byte, counted from 0.
    pub offset: usize,
    /// The error and the expected bytes.
    pub what: String,
}

/// Decodes one `T` at `offset`, and moves `offset` past it. Returns `Ok(None)` if the bytes end
/// inside the `T`.
fn take<T: bincode::Decode<()>>(
    bytes: &[u8],
    offset: &mut usize,
) -> Result<Option<T>, CorpusError> {
    match bincode::decode_from_slice(&bytes[*offset..], config::standard()) {
        Ok((value, len)) => {
            *offset += len;
            Ok(Some(value))
        }
        Err(DecodeError::UnexpectedEnd { .. }) => Ok(None),
        Err(error) => Err(CorpusError { offset: *offset, what: error.to_string() }),
    }
}

/// Decodes a program.
///
/// A file that is cut short gives the operations before the cut.
///
/// # Errors
/// [`CorpusError`] with the offset of the first byte that cannot be part of a program: another
/// magic or version, an impossible tag, an unknown operation, or one past [`MAX_OPS`].
pub fn decode(bytes: &[u8]) -> Result<Program, CorpusError> {
    decode_cut(bytes).map(|(program, _)| program)
}

/// Decodes a program as [`decode`] does, and returns whether the bytes end within the limits or
/// within an operation. The bytes of a file that is cut short between two operations are whole.
///
/// # Errors
/// [`CorpusError`] as for [`decode`].
pub fn decode_cut(bytes: &[u8]) -> Result<(Program, bool), CorpusError> {
    let mut program = Program::default();
    let offset = &mut 0;
    for expected in MAGIC {
        let at = *offset;
        match take::<u8>(bytes, offset)? {
            None => return Ok((program, true)),
            Some(byte) if byte == expected => {}
            Some(_) => {
                return Err(CorpusError {
                    offset: at,
                    what: "not a corpus file: expected the magic VMAD".into(),
                });
            }
        }
    }
    let version = match take::<u8>(bytes, offset)? {
        None => return Ok((program, true)),
        Some(known @ (VERSION | VERSION_FAIL)) => known,
        Some(other) => {
            let what = format!(
                "version {other} of the corpus format: expected {VERSION} or {VERSION_FAIL}"
            );
            return Err(CorpusError { offset: *offset - 1, what });
        }
    };
    let mut limits = [None; Limits::NAMES.len()];
    for (name, limit) in Limits::NAMES.iter().zip(&mut limits[..PLAIN_LIMITS]) {
        let at = *offset;
        let taken = take::<Option<u8>>(bytes, offset).map_err(|_| CorpusError {
            offset: at,
            what: format!("the limit {name} begins with {}: expected 0 (none) or 1", bytes[at]),
        })?;
        match taken {
            Some(value) => *limit = value,
            None => return Ok((program, true)),
        }
    }
    if version == VERSION_FAIL {
        match take(bytes, offset)? {
            Some(fail) => limits[PLAIN_LIMITS] = Some(fail),
            None => return Ok((program, true)),
        }
    }
    program.limits = Limits::from_array(limits);
    // An operation has its number and at least one operand.
    program.ops.reserve_exact(((bytes.len() - *offset) / 2).min(MAX_OPS));
    loop {
        let at = *offset;
        let Some(number) = take::<u8>(bytes, offset)? else { break };
        let opcode = Opcode::from_number(number).ok_or_else(|| CorpusError {
            offset: at,
            what: format!(
                "no operation has the number {number}: expected 0 to {}",
                Opcode::ALL.len() - 1
            ),
        })?;
        if program.ops.len() == MAX_OPS {
            return Err(CorpusError {
                offset: at,
                what: format!("more than {MAX_OPS} operations"),
            });
        }
        let mut operands = [0; MAX_OPERANDS];
        for operand in operands.iter_mut().take(opcode.operands().len()) {
            match take(bytes, offset)? {
                Some(byte) => *operand = byte,
                None => return Ok((program, true)),
            }
        }
        program.ops.push(Op::from_bytes(opcode, operands));
    }
    Ok((program, false))
}

/// Encodes a program into `bytes` and returns the length; `None` if the program does not fit.
/// [`MAX_BYTES`] are always enough for a program of at most [`MAX_OPS`] operations.
pub fn encode_into(program: &Program, bytes: &mut [u8]) -> Option<usize> {
    fn put<T: bincode::Encode>(
        value: T,
        bytes: &mut [u8],
        len: &mut usize,
    ) -> Result<(), EncodeError> {
        *len += bincode::encode_into_slice(value, &mut bytes[*len..], config::standard())?;
        Ok(())
    }
    let mut len = 0;
    let [map_count, address_space, lock, processes, fail] = program.limits.to_array();
    let version = if fail.is_some() { VERSION_FAIL } else { VERSION };
    put((MAGIC, version, [map_count, address_space, lock, processes]), bytes, &mut len).ok()?;
    if let Some(fail) = fail {
        put(fail, bytes, &mut len).ok()?;
    }
    for op in &program.ops {
        put(op.opcode() as u8, bytes, &mut len).ok()?;
        for byte in op.bytes().into_iter().take(op.opcode().operands().len()) {
            put(byte, bytes, &mut len).ok()?;
        }
    }
    Some(len)
}

/// Encodes a program; operations past [`MAX_OPS`] are left out.
pub fn encode(program: &Program) -> Vec<u8> {
    let mut bytes = vec![0; MAX_BYTES];
    let len = if program.ops.len() <= MAX_OPS {
        encode_into(program, &mut bytes)
    } else {
        let ops = program.ops[..MAX_OPS].to_vec();
        encode_into(&Program { limits: program.limits, ops }, &mut bytes)
    };
    bytes.truncate(len.unwrap_or(0));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Program {
        "limits map_count=8 lock=4\nmmap 0 1 6 rw anon_private\nfork 0\ncopy 1 1 2 0 10 FIXED\n"
            .parse()
            .expect("the example is a program")
    }

    #[test]
    fn the_bytes_are_those_of_the_table() {
        let bytes = encode(&example());
        let expected: &[&[u8]] = &[
            b"VMAD",
            &[1],
            &[1, 8],
            &[0],
            &[1, 4],
            &[0],
            &[0, 0, 1, 6, 3, 0, 0, 0],
            &[11, 0],
            &[13, 1, 1, 2, 0, 10, 1],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(decode(&bytes), Ok(example()));
    }

    #[test]
    fn a_program_in_which_an_allocation_fails_has_a_version_of_its_own() {
        let mut program = example();
        for fail in [0, 1, 255] {
            program.limits.fail = Some(fail);
            let bytes = encode(&program);
            assert_eq!(bytes[4..12], [2, 1, 8, 0, 1, 4, 0, fail]);
            assert_eq!(decode(&bytes), Ok(program.clone()));
            assert_eq!(decode_cut(&bytes[..11]), Ok((Program::default(), true)));
        }
    }

    #[test]
    fn a_file_cut_short_gives_the_operations_before_the_cut() {
        let bytes = encode(&example());
        for cut in 0..bytes.len() {
            let program = decode(&bytes[..cut]).expect("a prefix decodes");
            assert_eq!(program.ops, example().ops[..program.ops.len()]);
            assert_eq!(program.ops.len() == 2, cut >= bytes.len() - 7, "cut at {cut}");
            let is_cut = decode_cut(&bytes[..cut]).expect("a prefix decodes").1;
            assert_eq!(is_cut, ![11, 19, 21].contains(&cut), "cut at {cut}");
        }
        assert_eq!(decode_cut(&bytes), Ok((example(), false)));
    }

    #[test]
    fn what_is_not_a_program_is_refused_with_the_offset() {
        let good = encode(&example());
        let no_opcode = Opcode::ALL.len() as u8;
        for (offset, byte) in
            [(0, b'v'), (3, b'd'), (4, 3), (5, 2), (7, 7), (10, 9), (11, no_opcode), (19, 255)]
        {
            let mut bytes = good.clone();
            bytes[offset] = byte;
            assert_eq!(decode(&bytes).map_err(|e| e.offset), Err(offset), "byte {offset}");
        }
        let mut long =
            encode(&Program { limits: Limits::default(), ops: vec![example().ops[1]; MAX_OPS] });
        assert!(long.len() <= MAX_BYTES);
        assert!(decode(&long).is_ok());
        long.extend([11, 0]);
        assert_eq!(decode(&long).map_err(|e| e.offset), Err(long.len() - 2));
    }

    #[test]
    fn every_operand_byte_is_kept() {
        for byte in 0..=255 {
            let mut bytes = encode(&Program::default());
            for &opcode in Opcode::ALL {
                bytes.push(opcode as u8);
                bytes.extend(std::iter::repeat_n(byte, opcode.operands().len()));
            }
            let program = decode(&bytes).expect("every operand byte is valid");
            assert_eq!(encode(&program), bytes);
        }
    }
}
