//! The worker: a process that runs a library for another process.

use std::env;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::Path;

use bytemuck::{Zeroable as _, bytes_of_mut};
use rustix::process::{Resource, Rlimit};
use rustix::stdio;
use vmadiff_machine::abi::{Hidden, NAME_BYTES, Observation, Op, RawLimits};

use crate::foreign::{Instance, Loaded};
use crate::wire::{self, HIDDEN, READY, REFUSED, RESET, STEP};
use crate::{LoadError, OUTPUT};

/// The most memory that a worker may map, in bytes.
const MAX_MEMORY: u64 = 4 << 30;

/// Runs the library at `path` for the process at the other end of standard input and output, until
/// that process closes them.
///
/// # Errors
/// Returns an [`io::Error`] if the pipes cannot be set up or break.
pub fn serve(path: &Path) -> io::Result<()> {
    confine()?;
    let (input, mut output) = pipes()?;
    let (loaded, mut machine) = match load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            let text = error.to_string();
            let text = &text.as_bytes()[..text.len().min(u16::MAX.into())];
            let length = (text.len() as u16).to_ne_bytes();
            return output.write_all(&[&[REFUSED][..], &length, text].concat());
        }
    };
    let identity = &loaded.identity;
    let mut name = [0; NAME_BYTES];
    let own = identity.name.strip_prefix("lib:").unwrap_or_default().as_bytes();
    name[..own.len()].copy_from_slice(own);
    output.write_all(&[&[READY][..], &name, &identity.operations.to_ne_bytes()].concat())?;

    let mut input = BufReader::new(input);
    let (mut seen, mut hidden, mut answer) = (Observation::new(), Hidden::new(), Vec::new());
    loop {
        let mut tag = [0];
        if input.read(&mut tag)? == 0 {
            return Ok(());
        }
        match tag[0] {
            RESET => {
                let mut limits = RawLimits::zeroed();
                input.read_exact(bytes_of_mut(&mut limits))?;
                machine.reset(&limits);
            }
            STEP => {
                let mut op = Op::zeroed();
                input.read_exact(bytes_of_mut(&mut op))?;
                seen.forget_all();
                machine.step(&op, &mut seen);
                answer.clear();
                wire::send(&seen, &mut answer);
                output.write_all(&answer)?;
            }
            HIDDEN => {
                machine.hidden(&mut hidden);
                answer.clear();
                wire::send_hidden(&hidden, &mut answer);
                output.write_all(&answer)?;
            }
            other => {
                let what = format!("a message begins with {other}: expected R, S or H");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
    }
}

fn load(path: &Path) -> Result<(Loaded, Instance), LoadError> {
    let loaded = Loaded::open(path)?;
    let machine =
        loaded.instance().ok_or_else(|| LoadError::NoMachine { path: path.to_owned() })?;
    Ok((loaded, machine))
}

/// Limits the damage that a faulty library can do to the rest of the system.
fn confine() -> io::Result<()> {
    // A worker in an endless loop would otherwise outlive a parent that was killed.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::Core, limit(0))?;
    rustix::process::setrlimit(Resource::As, limit(MAX_MEMORY))?;
    Ok(())
}

/// Takes standard input and output away from the library: they carry messages.
fn pipes() -> io::Result<(File, File)> {
    let input = rustix::io::fcntl_dupfd_cloexec(stdio::stdin(), 3)?;
    let output = rustix::io::fcntl_dupfd_cloexec(stdio::stdout(), 3)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    stdio::dup2_stdin(&null)?;
    if env::var_os(OUTPUT).is_none_or(|value| value.is_empty()) {
        stdio::dup2_stderr(&null)?;
    }
    stdio::dup2_stdout(stdio::stderr())?;
    Ok((input.into(), output.into()))
}
