//! Runs random programs on the reference and a machine that is taken for `fixed`, up to the first divergence: the baseline
//! for guided fuzzing. `ci/faults bench` runs this example.
//!
//! `random MACHINE SEED SECONDS` prints the number of programs, the seconds, and `found` or
//! `missed`. A shared library runs in this process.

use std::env;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use vmadiff::invariants::EVERY;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::MachineName;
use vmadiff::random::Walk;
use vmadiff_candidate::Revision;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [machine, seed, seconds] = &args[..] else {
        return Err("usage: random MACHINE SEED SECONDS".into());
    };
    let limit = Duration::from_secs(seconds.parse()?);
    let right = MachineName::in_process(machine, Path::new(""))?;
    // A seeded fault is a mistake in `fixed`, so the reference has the rules that `fixed` has.
    let judge = MachineName::Candidate(Revision::Fixed).judge();
    let mut lockstep = Lockstep::new(judge.build(), right.build());
    lockstep.recount_every(EVERY);
    let mut walk = Walk::new(seed.parse()?);
    let start = Instant::now();
    let mut programs = 0_u64;
    loop {
        programs += 1;
        let found = lockstep.run(walk.step()).is_some();
        if found || (programs.is_multiple_of(1024) && start.elapsed() > limit) {
            let word = if found { "found" } else { "missed" };
            println!("{programs} {:.6} {word}", start.elapsed().as_secs_f64());
            return Ok(());
        }
    }
}
