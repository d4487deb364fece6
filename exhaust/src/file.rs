//! The file of a search that is to be continued.
//!
//! | part | contents |
//! |---|---|
//! | first line | a header in JSON: the machines, the world, the counts and the findings |
//! | 22 bytes for each state | the digest, the number of the state before, the position of the operation |
//! | 16 bytes | the XXH3 digest of everything before |
//!
//! Numbers are in little-endian order. Every value is checked when a file is read, and the file is of no
//! use to other machines or another world.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::program::MAX_OPS;
use vmadiff_machine::{Machine, Quote};

use crate::search::{Found, Search};
use crate::states::{Digest, StateId, States, Step};
use crate::visit::Visitor;
use crate::world::World;

/// The name and the version of the format.
const FORMAT: &str = "vmadiff exhaust 1";

/// The largest length of a header, in bytes.
const MAX_HEADER: u64 = 1 << 20;

/// The length of a state, in bytes.
const RECORD: usize = 22;

/// The number of states whose digests are computed again, to see that the machines are the same.
const PROBES: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    left: String,
    right: String,
    world: String,
    /// The digest of the operations, in hexadecimal digits.
    operations: String,
    states: u32,
    depths: Vec<StateId>,
    end: StateId,
    next: StateId,
    transitions: u64,
    partial: bool,
    found: Vec<Finding>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    signature: String,
    state: StateId,
    operation: Option<u16>,
}

/// The error of a file that is no search, or the search of something else.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The first line is no header.
    #[error("not the file of a search: {0}")]
    Header(String),
    /// The file is of other machines or of another world.
    #[error("the search is of {has}: expected {wanted}")]
    Other {
        /// The machines or the world of the file.
        has: String,
        /// The machines or the world of the command.
        wanted: String,
    },
    /// The operations of the world have changed.
    #[error("the world {0} had other operations when the search began")]
    World(String),
    /// The table does not fit.
    #[error("{states} states take more memory than {memory} bytes: give the search more")]
    Memory {
        /// The states of the file.
        states: u32,
        /// The largest memory of the table.
        memory: usize,
    },
    /// A value cannot be that of a search.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// The machines do something else than when the file was written.
    #[error("the machines have changed since the search began: {0}")]
    Changed(String),
}

/// A writer or a reader that computes the digest of all bytes.
struct Hashed<T> {
    inner: T,
    hash: XxHash3_128,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Hashed<T> {
        Hashed { inner, hash: XxHash3_128::new() }
    }
}

impl<W: Write> Hashed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.write(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Hashed<R> {
    /// Fills `bytes`.
    fn take(&mut self, bytes: &mut [u8], what: impl Fn() -> String) -> Result<(), FileError> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(format!("it ends before {}", what())),
            _ => error.into(),
        })?;
        self.hash.write(bytes);
        Ok(())
    }
}

fn damaged(what: impl Into<String>) -> FileError {
    FileError::Damaged(what.into())
}

/// Returns the digest of the operations of a world.
fn operations(world: &World) -> String {
    format!("{:032x}", XxHash3_128::oneshot(world.to_string().as_bytes()))
}

/// Writes a search of a world by the machines with these names.
///
/// # Errors
/// The error of `out`.
pub fn write(
    search: &Search,
    world: &World,
    (left, right): (&str, &str),
    out: impl Write,
) -> io::Result<()> {
    let Search { states, depths, end, next, transitions, found, is_partial, is_judged: _ } = search;
    let finding = |found: &Found| Finding {
        signature: found.signature.to_string(),
        state: found.state,
        operation: found.op,
    };
    let header = Header {
        format: FORMAT.to_owned(),
        left: left.to_owned(),
        right: right.to_owned(),
        world: world.name.clone(),
        operations: operations(world),
        states: states.len() as u32,
        depths: depths.clone(),
        end: *end,
        next: *next,
        transitions: *transitions,
        partial: *is_partial,
        found: found.iter().map(finding).collect(),
    };
    let mut out = Hashed::new(out);
    out.put(&serde_json::to_vec(&header)?)?;
    out.put(b"\n")?;
    for state in 0..states.len() as StateId {
        let mut record = [0; RECORD];
        let Step { from, op } = states.step(state);
        record[..16].copy_from_slice(&states.digest(state).0.to_le_bytes());
        record[16..20].copy_from_slice(&from.to_le_bytes());
        record[20..].copy_from_slice(&op.to_le_bytes());
        out.put(&record)?;
    }
    let hash = out.hash.finish_128().to_le_bytes();
    out.inner.write_all(&hash)?;
    out.inner.flush()
}

/// Reads the search of a world by the machines that `lockstep` drives, whose table may take `memory`
/// bytes.
///
/// # Errors
/// [`FileError`] for a file that is not such a search.
pub fn read<L: Machine, R: Machine>(
    world: &World,
    mut lockstep: Lockstep<L, R>,
    memory: usize,
    mut input: impl BufRead,
) -> Result<Search, FileError> {
    let mut line = Vec::new();
    input.by_ref().take(MAX_HEADER).read_until(b'\n', &mut line)?;
    let header: Header =
        serde_json::from_slice(&line).map_err(|error| FileError::Header(error.to_string()))?;
    check(&header, world, lockstep.names(), memory)?;
    let mut input = Hashed::new(input);
    input.hash.write(&line);
    let states = read_states(&header, world, memory, &mut input)?;
    let hash = input.hash.finish_128().to_le_bytes();
    let mut written = [0; 16];
    input.take(&mut written, || "the digest at its end".into())?;
    if written != hash {
        return Err(damaged("the digest at its end is not that of its bytes"));
    }
    if input.inner.read(&mut [0])? > 0 {
        return Err(damaged("it goes on after its end"));
    }
    let Header { depths, end, next, transitions, partial: is_partial, found, .. } = header;
    let mut search = Search {
        states,
        depths,
        end,
        next,
        transitions,
        found: Default::default(),
        is_partial,
        is_judged: false,
    };
    for finding in found {
        let found = confirm(&search, world, &mut lockstep, finding)?;
        search.found.add(found);
    }
    probe(&search.states, world, lockstep)?;
    Ok(search)
}

/// Checks the header.
fn check(
    header: &Header,
    world: &World,
    (left, right): (&str, &str),
    memory: usize,
) -> Result<(), FileError> {
    let Header { format, left: has_left, right: has_right, states, depths, end, next, .. } = header;
    if format != FORMAT {
        let has = Quote(format).to_string();
        return Err(FileError::Other { has, wanted: FORMAT.to_owned() });
    }
    if (has_left.as_str(), has_right.as_str()) != (left, right) {
        let has = format!("{} and {}", Quote(has_left), Quote(has_right));
        return Err(FileError::Other { has, wanted: format!("{left} and {right}") });
    }
    if header.world != world.name {
        let has = format!("the world {}", Quote(&header.world));
        return Err(FileError::Other { has, wanted: world.name.clone() });
    }
    if header.operations != operations(world) {
        return Err(FileError::World(world.name.clone()));
    }
    if (*states as usize).saturating_mul(RECORD) > memory {
        return Err(FileError::Memory { states: *states, memory });
    }
    let ascend = depths.windows(2).all(|pair| pair[0] < pair[1]);
    let last = depths.last().copied().unwrap_or_default();
    let fits = last < *end && end <= states && (last..=*end).contains(next);
    if depths.first() != Some(&0) || !ascend || depths.len() > MAX_OPS + 1 || !fits {
        return Err(damaged("the depths of the header are not those of a search"));
    }
    Ok(())
}

fn read_states(
    header: &Header,
    world: &World,
    memory: usize,
    input: &mut Hashed<impl Read>,
) -> Result<States, FileError> {
    let Header { depths, end, .. } = header;
    let mut states = States::default();
    // The states before a state are one operation less deep.
    let mut depth = 0;
    let firsts: Vec<StateId> = depths.iter().copied().chain([*end]).collect();
    for state in 0..header.states {
        let mut record = [0; RECORD];
        input.take(&mut record, || format!("state {state} of {}", header.states))?;
        let (digest, rest) = record.split_at(16);
        let (from, op) = rest.split_at(4);
        let digest = Digest(u128::from_le_bytes(digest.try_into().unwrap_or_default()));
        let from = StateId::from_le_bytes(from.try_into().unwrap_or_default());
        let op = u16::from_le_bytes(op.try_into().unwrap_or_default());
        if firsts.get(depth + 1) == Some(&state) {
            depth += 1;
        }
        let before = depth.checked_sub(1).map(|before| firsts[before]..firsts[depth]);
        let fits = before.map_or(from == 0, |before| before.contains(&from));
        if !fits || usize::from(op) >= world.ops.len() {
            return Err(damaged(format!("state {state} cannot come after state {from}")));
        }
        if states.memory_after_insert() > memory {
            return Err(FileError::Memory { states: header.states, memory });
        }
        if states.insert(digest, Step { from, op }) != Ok(true) {
            return Err(damaged(format!("state {state} has the digest of another state")));
        }
    }
    Ok(states)
}

/// Runs the program of a finding again.
fn confirm<L: Machine, R: Machine>(
    search: &Search,
    world: &World,
    lockstep: &mut Lockstep<L, R>,
    finding: Finding,
) -> Result<Found, FileError> {
    let Finding { signature, state, operation: op } = finding;
    let is_op = op.is_none_or(|op| usize::from(op) < world.ops.len());
    if state as usize >= search.states() || !is_op {
        return Err(damaged(format!("the finding {} has no program", Quote(&signature))));
    }
    let program = search.program_of(world, state, op);
    match lockstep.run(&program) {
        Some(found) if found.signature.as_str() == signature => {
            Ok(Found { signature: found.signature, state, op, length: program.ops.len() })
        }
        _ => Err(FileError::Changed(format!("{} is not found again", Quote(&signature)))),
    }
}

/// Computes the digests of some states again.
fn probe<L: Machine, R: Machine>(
    states: &States,
    world: &World,
    lockstep: Lockstep<L, R>,
) -> Result<(), FileError> {
    let mut visitor = Visitor::new(lockstep, world);
    for state in (0..states.len()).step_by(states.len().div_ceil(PROBES)) {
        let state = state as StateId;
        if visitor.digest_of(states, state) != Some(states.digest(state)) {
            return Err(FileError::Changed(format!("state {state} has another digest")));
        }
    }
    Ok(())
}
