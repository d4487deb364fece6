//! The speed of programs. `cargo bench` shows operations per second of:
//!
//! - one model alone;
//! - lockstep: both models and the full comparison after every operation;
//! - the other work of a fuzz iteration: decoding, mutating.
//!
//! The programs are fixed ones of 8, 16 and 64 operations, and the programs of a random walk.

use std::path::Path;
use std::process::Command;

use divan::Bencher;
use divan::counter::ItemsCount;
use vmadiff::invariants::EVERY;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::{MachineName, Machines};
use vmadiff::{mutate, random};
use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::{Machine, Observation, Program, corpus};
use vmadiff_reference::{MENDED, Reference};

fn main() {
    divan::main();
}

const LENGTHS: [usize; 3] = [8, 16, 64];

fn program(length: usize) -> Program {
    let text = match length {
        8 => include_str!("../corpus/bench/8.txt"),
        16 => include_str!("../corpus/bench/16.txt"),
        _ => include_str!("../corpus/bench/64.txt"),
    };
    text.parse().expect("a program")
}

fn alone(bencher: Bencher, length: usize, mut machine: impl Machine) {
    let program = program(length);
    let mut seen = Observation::default();
    bencher.counter(ItemsCount::new(length)).bench_local(|| {
        machine.reset(&program.limits);
        seen.reset();
        for op in &program.ops {
            machine.step(op, &mut seen);
        }
    });
}

#[divan::bench(args = LENGTHS)]
fn reference(bencher: Bencher, length: usize) {
    alone(bencher, length, Reference::new());
}

#[divan::bench(args = LENGTHS)]
fn candidate(bencher: Bencher, length: usize) {
    alone(bencher, length, Candidate::new(Revision::Fixed));
}

#[divan::bench(args = LENGTHS)]
fn lockstep(bencher: Bencher, length: usize) {
    let program = program(length);
    let mut lockstep = judged();
    bencher.counter(ItemsCount::new(length)).bench_local(|| lockstep.run(&program));
}

/// Lockstep with invariants, with recounts as often as in the fuzz targets.
fn judged() -> Lockstep<Reference, Candidate> {
    recounted(Lockstep::new(Reference::with_rules(MENDED), Candidate::new(Revision::Fixed)))
}

fn recounted<L: Machine, R: Machine>(mut lockstep: Lockstep<L, R>) -> Lockstep<L, R> {
    lockstep.recount_every(EVERY);
    lockstep
}

/// Without invariants and teardown: to be set beside [`lockstep`].
#[divan::bench(args = LENGTHS)]
fn lockstep_without_invariants(bencher: Bencher, length: usize) {
    let program = program(length);
    let (left, right) = (Reference::with_rules(MENDED), Candidate::new(Revision::Fixed));
    let mut lockstep = Lockstep::new(left, right).without_invariants();
    bencher.counter(ItemsCount::new(length)).bench_local(|| lockstep.run(&program));
}

/// Lockstep as in the command line and the fuzz targets, which choose machines by name.
#[divan::bench(args = LENGTHS)]
fn lockstep_by_name(bencher: Bencher, length: usize) {
    let program = program(length);
    let mut lockstep = by_name(&fixed());
    bencher.counter(ItemsCount::new(length)).bench_local(|| lockstep.run(&program));
}

/// Lockstep with the candidate in a shared library, in this process. Compare with
/// [`lockstep_by_name`].
#[divan::bench(args = LENGTHS)]
fn lockstep_by_library(bencher: Bencher, length: usize) {
    let program = program(length);
    let mut lockstep = by_name(&candidate_library());
    bencher.counter(ItemsCount::new(length)).bench_local(|| lockstep.run(&program));
}

const fn fixed() -> MachineName {
    MachineName::Candidate(Revision::Fixed)
}

/// The reference beside a candidate that is chosen by its name.
fn by_name(candidate: &MachineName) -> Machines {
    recounted(Lockstep::new(fixed().judge().build(), candidate.build()))
}

/// Builds the candidate as a shared library and loads it.
fn candidate_library() -> MachineName {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The path of the benchmark is TARGET/release/deps/speed-….
    let own = std::env::current_exe().expect("a path");
    let release = own.ancestors().nth(2).expect("a folder");
    let target = release.parent().expect("a folder");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "-p", "vmadiff-candidate-library", "--target-dir"])
        .arg(target)
        .current_dir(root)
        .status()
        .expect("cargo");
    assert!(status.success(), "the library does not build");
    let name = format!("lib:{}", release.join("libvmadiff_candidate_library.so").display());
    MachineName::in_process(&name, root).expect("a machine")
}

#[divan::bench(args = LENGTHS)]
fn decode(bencher: Bencher, length: usize) {
    let bytes = corpus::encode(&program(length));
    bencher.counter(ItemsCount::new(length)).bench_local(|| corpus::decode(&bytes));
}

#[divan::bench(args = LENGTHS)]
fn mutate(bencher: Bencher, length: usize) {
    let bytes = corpus::encode(&program(length));
    let mut data = vec![0; corpus::MAX_BYTES];
    let mut seed = 0;
    bencher.counter(ItemsCount::new(length)).bench_local(|| {
        data[..bytes.len()].copy_from_slice(&bytes);
        seed += 1;
        let room = data.len();
        mutate::mutate(&mut data, bytes.len(), room, seed)
    });
}

/// The work of a fuzz target without the engine: mutate, decode, run.
#[divan::bench(args = LENGTHS)]
fn iteration(bencher: Bencher, length: usize) {
    let bytes = corpus::encode(&program(length));
    let mut data = vec![0; corpus::MAX_BYTES];
    let mut seed = 0;
    let mut lockstep = judged();
    bencher.counter(ItemsCount::new(length)).bench_local(|| {
        data[..bytes.len()].copy_from_slice(&bytes);
        seed += 1;
        let room = data.len();
        let size = mutate::mutate(&mut data, bytes.len(), room, seed);
        corpus::decode(&data[..size]).map(|program| lockstep.run(&program))
    });
}

/// The programs of a random walk, which are made before the timing.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn walk(bencher: Bencher) {
    run_walk(bencher, judged());
}

/// The same, without invariants and teardown.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn walk_without_invariants(bencher: Bencher) {
    let (left, right) = (Reference::with_rules(MENDED), Candidate::new(Revision::Fixed));
    run_walk(bencher, Lockstep::new(left, right).without_invariants());
}

/// The programs of a random walk, on machines that are chosen by name.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn walk_by_name(bencher: Bencher) {
    run_walk(bencher, by_name(&fixed()));
}

/// The programs of a random walk, with the candidate in a shared library. Compare with
/// [`walk_by_name`].
#[divan::bench(sample_count = 20, sample_size = 1)]
fn walk_by_library(bencher: Bencher) {
    run_walk(bencher, by_name(&candidate_library()));
}

fn run_walk(bencher: Bencher, mut lockstep: Lockstep<impl Machine, impl Machine>) {
    let mut walk = random::Walk::new(0);
    let programs: Vec<Program> = (0..10_000).map(|_| walk.step().clone()).collect();
    let operations: usize = programs.iter().map(|program| program.ops.len()).sum();
    bencher
        .counter(ItemsCount::new(operations))
        .bench_local(|| programs.iter().filter(|program| lockstep.run(program).is_some()).count());
}
