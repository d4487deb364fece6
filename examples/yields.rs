//! Counts how many programs of each way of the mutator show a divergence: what a corpus is worth, and which
//! way finds what.
//!
//! `yields CORPUS PROGRAMS MACHINE…` makes PROGRAMS programs in each way, from files of the folder CORPUS drawn at
//! random, and runs them on the reference and each machine, which is taken for `fixed`. A shared library runs in
//! this process.

use std::env;
use std::error::Error;
use std::path::Path;

use vmadiff::input;
use vmadiff::invariants::EVERY;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::MachineName;
use vmadiff::mutate::Way;
use vmadiff_candidate::Revision;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [folder, count, machines @ ..] = &args[..] else {
        return Err("usage: yields CORPUS PROGRAMS MACHINE…".into());
    };
    let count: u64 = count.parse().map_err(|error| format!("PROGRAMS: `{count}`: {error}"))?;
    let mut programs = Vec::new();
    for file in input::files(&[folder.into()])?.found {
        let loaded = input::load(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        programs.push(loaded.program);
    }
    if programs.is_empty() {
        return Err(format!("{folder}: no file").into());
    }
    println!(
        "{} programs in {folder}; of {count} made in each way, so many diverge:",
        programs.len()
    );
    println!("{}  machine", Way::ALL.map(|way| format!("{:>10}", format!("{way:?}"))).concat());
    let judge = MachineName::Candidate(Revision::Fixed).judge();
    for machine in machines {
        let right = MachineName::in_process(machine, Path::new(""))?;
        for way in Way::ALL {
            let mut lockstep = Lockstep::new(judge.build(), right.build());
            lockstep.recount_every(EVERY);
            let diverges = |seed: &u64| {
                // An odd factor draws each file as often as any other.
                let at = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                let mut program = programs[at as usize % programs.len()].clone();
                way.make(&mut program, *seed);
                lockstep.run(&program).is_some()
            };
            print!("{:>10}", (0..count).filter(diverges).count());
        }
        println!("  {machine}");
    }
    Ok(())
}
