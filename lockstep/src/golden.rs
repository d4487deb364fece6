//! Golden traces: recordings of a real kernel, operation by operation.
//!
//! A file has one trace a line, as JSON, and may be compressed with gzip. [`Traces`] reads one trace
//! after the other. [`conform`] replays a trace on a machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use vmadiff_machine::abi::{MAX_CHAIN, MAX_VMAS};
use vmadiff_machine::observation::{CopyReport, Counters, Event, Observation};
use vmadiff_machine::op::MAX_OPERANDS;
use vmadiff_machine::operand::{MAX_PROCESSES, Mode, Page, PageOffset, Process};
use vmadiff_machine::{
    AddressSpace, AnonVmaId, Errno, FileId, Limits, Machine, Op, Opcode, Plain, Program, Quote,
    Role, UffdId, VmFlags, Vma,
};

use crate::compare::{Comparer, Scope};

/// The largest number of processes of a program in the golden traces.
const PROCESSES: u8 = 4;

/// The reason why a golden file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// Reading failed.
    #[error("line {line}")]
    Read {
        /// The line, counted from 1.
        line: usize,
        /// The error of the system, or of the decompression.
        source: std::io::Error,
    },
    /// The line is not a trace.
    #[error("line {line}, column {column}: {what}")]
    Json {
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
        /// The error and the expected text.
        what: String,
    },
    /// The line is a trace that cannot be replayed.
    #[error("line {line}, operation {step}: {what}")]
    Trace {
        /// The line, counted from 1.
        line: usize,
        /// The operation, counted from 1.
        step: usize,
        /// The error and the expected text.
        what: String,
    },
}

/// A program, and the kernel's observation after each of its operations.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The name of the trace in the file.
    pub id: String,
    /// The kernel that was recorded.
    pub kernel: String,
    /// The program, with the limits of the recording.
    pub program: Program,
    /// The kernel's observation after each operation.
    pub observations: Vec<Observation>,
}

#[derive(Deserialize)]
struct Line {
    id: String,
    kernel: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    op: serde_json::Map<String, serde_json::Value>,
    ret: i64,
    mms: BTreeMap<String, Option<Space>>,
    copy_vma: Option<Copied>,
}

#[derive(Deserialize)]
struct Copied {
    merged: bool,
    need_rmap_locks: bool,
    source_replaced: bool,
}

#[derive(Deserialize)]
struct Space {
    total_vm: Counter,
    locked_vm: Counter,
    data_vm: Counter,
    map_count: Counter,
    vmas: Vec<Mapping>,
}

/// A counter of the kernel: a number from −2^63 to 2^64 − 1. The kernel counts in an unsigned long, so a
/// counter that a bug has taken below zero may be recorded as a number above 2^63.
#[derive(Clone, Copy)]
struct Counter(i64);

impl<'de> Deserialize<'de> for Counter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Counter, D::Error> {
        let number = i128::deserialize(from)?;
        let signed = i64::try_from(number).or_else(|_| u64::try_from(number).map(u64::cast_signed));
        signed.map(Counter).map_err(|_| {
            D::Error::custom(format!("{number} is no counter: expected a number of 64 bits"))
        })
    }
}

#[derive(Deserialize)]
struct Mapping {
    start: u8,
    end: u8,
    pgoff: u64,
    flags: String,
    anon_vma: Option<u32>,
    chain: Vec<u32>,
    file: Option<String>,
    uffd: Option<u32>,
    policy: u32,
    close: u8,
}

/// The largest length of a line, in bytes: forty times the longest line of the golden files.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The longest trace, in operations. Each has an observation, so a line could fill the memory.
const MAX_STEPS: usize = 256;

/// The traces of a golden file, compressed or not, one after the other. After an error there are no
/// more traces. A file without any trace is an error, too.
pub struct Traces<'a> {
    lines: Box<dyn BufRead + 'a>,
    /// The bytes of a line.
    bytes: Vec<u8>,
    /// The number of lines that were read.
    line: usize,
    state: State,
}

/// The progress of reading a golden file.
#[derive(PartialEq, Eq)]
enum State {
    /// The file has not yet shown a trace.
    Empty,
    Filled,
    Ended,
}

impl<'a> Traces<'a> {
    /// Opens a golden file.
    ///
    /// # Errors
    /// [`GoldenError::Read`] if the beginning of the file cannot be read.
    pub fn new(mut file: impl BufRead + 'a) -> Result<Traces<'a>, GoldenError> {
        let start = file.fill_buf().map_err(|source| GoldenError::Read { line: 1, source })?;
        let lines: Box<dyn BufRead + 'a> = if start.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        Ok(Traces { lines, bytes: Vec::new(), line: 0, state: State::Empty })
    }

    /// Reads the next line that is not empty; returns `None` at the end of the file.
    fn line(&mut self) -> Result<Option<Line>, GoldenError> {
        loop {
            self.line += 1;
            let line = self.line;
            let error = |column, what: &str| GoldenError::Json { line, column, what: what.into() };
            self.bytes.clear();
            self.lines
                .by_ref()
                .take(MAX_LINE_BYTES + 1)
                .read_until(b'\n', &mut self.bytes)
                .map_err(|source| GoldenError::Read { line, source })?;
            if self.bytes.is_empty() {
                return Ok(None);
            }
            if self.bytes.len() as u64 > MAX_LINE_BYTES {
                let what = format!("the line is longer than {MAX_LINE_BYTES} bytes");
                return Err(error(MAX_LINE_BYTES as usize, &what));
            }
            let text = std::str::from_utf8(&self.bytes)
                .map_err(|e| error(e.valid_up_to() + 1, "the line is not UTF-8"))?;
            let text = if line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            let text = text.trim_end_matches(['\n', '\r']);
            if text.trim().is_empty() {
                continue;
            }
            return serde_json::from_str(text).map(Some).map_err(|e| {
                // The place in the message of `serde_json` counts lines from this line, so it is
                // cut. The message repeats the text of the file.
                let message = e.to_string();
                let what = message.split(" at line ").next().unwrap_or_default();
                let what: String = what.chars().take(200).collect();
                error(e.column(), &Plain(&what).to_string())
            });
        }
    }

    fn trace(&mut self) -> Result<Option<Trace>, GoldenError> {
        match self.line()? {
            Some(read) => trace(read).map(Some).map_err(|(step, what)| GoldenError::Trace {
                line: self.line,
                step: step + 1,
                what,
            }),
            None if self.state == State::Empty => {
                let what = "the file has no trace: expected a JSON object on each line".into();
                Err(GoldenError::Json { line: 1, column: 1, what })
            }
            None => Ok(None),
        }
    }
}

impl Iterator for Traces<'_> {
    type Item = Result<Trace, GoldenError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let next = self.trace().transpose();
        self.state = if matches!(next, Some(Ok(_))) { State::Filled } else { State::Ended };
        next
    }
}

/// Reads a golden file, compressed or not, and returns all its traces.
///
/// # Errors
/// [`GoldenError`] with the line, and the column or the operation, of the first text that is not
/// part of a trace. A file without any trace is an error, too.
pub fn read(file: impl BufRead) -> Result<Vec<Trace>, GoldenError> {
    Traces::new(file)?.collect()
}

fn trace(line: Line) -> Result<Trace, (usize, String)> {
    let mut program = Program {
        limits: Limits { processes: Some(PROCESSES), ..Limits::default() },
        ops: Vec::new(),
    };
    let mut observations: Vec<Observation> = Vec::new();
    let mut files = Vec::new();
    if line.steps.len() > MAX_STEPS {
        return Err((MAX_STEPS, format!("expected at most {MAX_STEPS} operations")));
    }
    for (n, step) in line.steps.into_iter().enumerate() {
        let at = |what| (n, what);
        program.ops.push(operation(&step.op).map_err(at)?);
        let mut seen = observations.last().cloned().unwrap_or_default();
        seen.begin_step();
        seen.result = result(step.ret).map_err(at)?;
        seen.copy = step.copy_vma.map(|c| CopyReport {
            merged: c.merged,
            need_rmap_locks: c.need_rmap_locks,
            honoured: true,
            source_redirected: c.source_replaced,
        });
        for (process, space) in step.mms {
            let index = process.parse().ok().filter(|p| usize::from(*p) < MAX_PROCESSES);
            let Some(index) = index else {
                return Err((n, format!("there is no process {}", Quote(&process))));
            };
            let shown = seen.rewrite(Process(index));
            if let Some(space) = space {
                fill(shown, space, &mut files).map_err(at)?;
            }
        }
        observations.push(seen);
    }
    Ok(Trace { id: line.id, kernel: line.kernel, program, observations })
}

fn operation(json: &serde_json::Map<String, serde_json::Value>) -> Result<Op, String> {
    let name = json.get("op").and_then(|name| name.as_str()).ok_or("the operation has no name")?;
    let opcode =
        Opcode::from_name(name).ok_or_else(|| format!("no operation is called {}", Quote(name)))?;
    let mut bytes = [0; MAX_OPERANDS];
    for (ty, byte) in opcode.operands().iter().zip(&mut bytes) {
        // The keys of the traces are the names of the operands, with these two exceptions.
        let key = match ty.role {
            Role::Caller => "pid",
            Role::Access => "write",
            _ => ty.name,
        };
        let value = json.get(key).ok_or_else(|| format!("{name} without `{key}`"))?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        *byte = ty.parse(&text).ok_or_else(|| {
            format!("{name}: `{key}` is {}: expected {}", Quote(&text), ty.expected)
        })?;
    }
    Ok(Op::from_bytes(opcode, bytes))
}

fn result(ret: i64) -> Result<Result<u8, Errno>, String> {
    if let Ok(value) = u8::try_from(ret) {
        return Ok(Ok(value));
    }
    let errno = ret.checked_neg().and_then(|n| u16::try_from(n).ok()).and_then(Errno::from_number);
    errno.map(Err).ok_or_else(|| format!("no operation returns {ret}"))
}

fn fill(shown: &mut AddressSpace, space: Space, files: &mut Vec<String>) -> Result<(), String> {
    shown.alive = true;
    shown.counters = Counters {
        total_vm: space.total_vm.0,
        locked_vm: space.locked_vm.0,
        data_vm: space.data_vm.0,
        map_count: space.map_count.0,
    };
    let chains: usize = space.vmas.iter().map(|mapping| mapping.chain.len()).sum();
    if space.vmas.len() > MAX_VMAS || chains > MAX_CHAIN {
        return Err(format!("expected at most {MAX_VMAS} VMAs with {MAX_CHAIN} entries of chains"));
    }
    for mapping in space.vmas {
        let flags = u32::from_str_radix(&mapping.flags, 16)
            .map_err(|_| format!("{} are not vm_flags", Quote(&mapping.flags)))?;
        let policy = Mode::ALL.iter().find(|mode| mode.number() == mapping.policy);
        let file = mapping.file.map(|name| {
            let index = files.iter().position(|known| *known == name).unwrap_or_else(|| {
                files.push(name);
                files.len() - 1
            });
            FileId::new(index as u32)
        });
        let vma = Vma::new(
            (Page(mapping.start), Page(mapping.end)),
            PageOffset(mapping.pgoff),
            VmFlags::from_bits_retain(flags),
            mapping.anon_vma.map(id).transpose()?.map(AnonVmaId::new),
            file,
            mapping.uffd.map(id).transpose()?.map(UffdId::new),
            *policy.ok_or_else(|| format!("{} is not a policy", mapping.policy))?,
            mapping.close != 0,
        );
        let chain: Result<Vec<_>, _> =
            mapping.chain.into_iter().map(|n| id(n).map(AnonVmaId::new)).collect();
        shown.push(vma, chain?);
    }
    Ok(())
}

/// Checks the number of an object. The number is bounded, because the comparison uses it as an
/// index.
fn id(number: u32) -> Result<u32, String> {
    if number < 1 << 16 { Ok(number) } else { Err(format!("{number} is no object's number")) }
}

/// The result of replaying a trace on a machine.
#[derive(Debug)]
pub enum Conformity {
    /// The machine agrees with the trace in every step.
    Agrees,
    /// The machine agrees up to a step, after which its observation differs.
    Differs {
        /// The step, counted from 0.
        step: usize,
        /// The machine's observation after the step.
        shown: Box<Observation>,
    },
    /// The machine agrees up to a step, which ends with a fatal event.
    Bug {
        /// The step, counted from 0.
        step: usize,
        /// The machine's observation after the step.
        shown: Box<Observation>,
    },
}

/// Replays a trace on a machine.
///
/// Events that the kernel survives are not compared, because a trace does not record them. A deadlock is
/// not compared either: a uniprocessor kernel was recorded, in which a spinlock is nothing.
pub fn conform(trace: &Trace, machine: &mut dyn Machine) -> Conformity {
    machine.reset(&trace.program.limits);
    let mut comparer = Comparer::new(Scope::Recorded);
    let mut shown = Observation::default();
    for (step, (op, recorded)) in trace.program.ops.iter().zip(&trace.observations).enumerate() {
        machine.step(op, &mut shown);
        let deadlock = |event: &Event| matches!(event, Event::Deadlock { .. });
        if shown.events.iter().any(|event| event.is_fatal() && !deadlock(event)) {
            return Conformity::Bug { step, shown: Box::new(shown) };
        }
        if !comparer.same(recorded, &shown) {
            return Conformity::Differs { step, shown: Box::new(shown) };
        }
    }
    Conformity::Agrees
}
