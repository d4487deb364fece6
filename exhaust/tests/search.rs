//! The search finds what running every program finds, with any number of threads and after any stop.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_exhaust::file;
use vmadiff_exhaust::search::{End, Found, Moment, Options, Search};
use vmadiff_exhaust::world::World;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::{Failure, Hidden, Limits, Machine, Observation, Op, Opcode, Program, State};
use vmadiff_reference::{MENDED, Reference};

/// The bugs A, D and F of v2 are in this world, at the lengths 2 and 3.
const SMALL: &str = "\
pages 3
limits processes=2
mmap 0 {0,2} {1,3} rw anon_private
munmap 0 1 1
mremap 0 {0,2} 1 1 MAYMOVE|FIXED {0,1}
touch {0,1} {0,2} 1
fork 0
copy 0 0 1 0 1..3 FIXED
copy 1 0 2 0 {0,1} FIXED
";

fn small() -> World {
    World::read("small", SMALL).unwrap_or_else(|error| panic!("{error}"))
}

fn machines(revision: Revision) -> Lockstep<Reference, Candidate> {
    let rules = if revision == Revision::Fixed { MENDED } else { Default::default() };
    Lockstep::new(Reference::with_rules(rules), Candidate::new(revision))
}

fn options(depth: usize) -> Options {
    Options { depth, memory: 1 << 30, threads: NonZeroUsize::MIN, all: true }
}

fn search(world: &World, revision: Revision, options: &Options) -> (Search, End) {
    let mut search = Search::new(world, machines(revision)).expect("a state");
    let end = search.run(world, options, || machines(revision), |_| false, |_, _| true);
    (search, end)
}

/// Returns everything about a search as text.
fn shown(search: &Search, world: &World) -> String {
    let found: Vec<_> = search.found().map(|found| (found, search.program(world, found))).collect();
    let (depths, transitions) = (search.states_of_depths(), search.transitions());
    format!("{depths:?} {transitions} {:?} {found:#?}", search.complete())
}

/// Runs every program of up to `depth` operations that has no finding before its end. Returns the
/// different states, and the length of the shortest program of each signature.
fn every_program(
    world: &World,
    revision: Revision,
    depth: usize,
) -> (usize, BTreeMap<String, usize>) {
    let (mut states, mut found) = (HashSet::new(), BTreeMap::new());
    let mut lockstep = machines(revision);
    let mut programs = vec![Program { limits: world.limits, ops: Vec::new() }];
    for length in 0..=depth {
        let mut longer = Vec::new();
        for program in programs {
            // The observations at the end do not tell whether the kernel survived.
            let (mut left, mut right) = (Reference::new(), Candidate::new(revision));
            if revision == Revision::Fixed {
                left = Reference::with_rules(MENDED);
            }
            let mut seen = Default::default();
            let mut state = State::default();
            left.reset(&world.limits);
            right.reset(&world.limits);
            if let Some(divergence) = lockstep.run(&program) {
                found.entry(divergence.signature.to_string()).or_insert(length);
                if divergence.broken.is_none() {
                    continue;
                }
            }
            program.ops.iter().for_each(|op| left.step(op, &mut seen));
            state.begin();
            assert!(left.write_state(&mut state));
            let mut seen = Default::default();
            program.ops.iter().for_each(|op| right.step(op, &mut seen));
            state.begin();
            assert!(right.write_state(&mut state));
            states.insert(state.words().to_vec());
            longer.extend(world.ops.iter().map(|op| {
                let ops = program.ops.iter().copied().chain([*op]).collect();
                Program { limits: world.limits, ops }
            }));
        }
        programs = longer;
    }
    (states.len(), found)
}

#[test]
fn the_search_finds_what_running_every_program_finds() {
    let world = small();
    for (revision, signatures) in [(Revision::V2, 3), (Revision::Fixed, 0)] {
        let (states, lengths) = every_program(&world, revision, 4);
        let (search, end) = search(&world, revision, &options(4));
        assert_eq!((search.states(), end, search.complete()), (states, End::Depth, Some(4)));
        let found: BTreeMap<String, usize> =
            search.found().map(|found| (found.signature.to_string(), found.length)).collect();
        assert_eq!(found, lengths);
        assert_eq!(found.len(), signatures, "{found:?}");
        for found in search.found() {
            let program = search.program(&world, found);
            assert_eq!(program.ops.len(), found.length);
            let divergence = machines(revision).run(&program).expect("it diverges");
            assert_eq!(divergence.signature, found.signature);
        }
    }
}

/// A machine that neither writes its state nor goes back to one, as a shared library does not.
struct Shown<M>(M);

impl<M: Machine> Machine for Shown<M> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.0.has(opcode)
    }

    fn reset(&mut self, limits: &Limits) {
        self.0.reset(limits);
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        self.0.step(op, seen);
    }

    fn show_hidden(&mut self, hidden: &mut Hidden) -> Result<bool, Failure> {
        self.0.show_hidden(hidden)
    }
}

#[test]
fn a_machine_that_does_not_write_its_state_is_searched_by_what_it_shows() {
    let world = small();
    let (whole, _) = search(&world, Revision::V2, &options(5));
    let make = || Lockstep::new(Reference::new(), Shown(Candidate::new(Revision::V2)));
    let mut search = Search::new(&world, make()).expect("a state");
    search.run(&world, &options(5), make, |_| false, |_, _| true);
    assert!(search.is_partial() && !whole.is_partial());
    let found = |search: &Search| search.found().cloned().collect::<Vec<_>>();
    let signature = |found: Vec<Found>| found.into_iter().map(|f| (f.signature, f.length));
    assert!(signature(found(&search)).eq(signature(found(&whole))));
    // The candidate does not show whether an address space has page tables.
    assert!(search.states() < whole.states());
}

#[test]
fn the_number_of_threads_has_no_effect() {
    let world = small();
    let (one, _) = search(&world, Revision::V2, &options(7));
    assert!(one.states() > 4096, "more than one batch: {}", one.states());
    for threads in [2, 3, 8] {
        let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        let (other, _) = search(&world, Revision::V2, &Options { threads, ..options(7) });
        assert_eq!(shown(&other, &world), shown(&one, &world));
        assert_eq!(bytes(&other, &world), bytes(&one, &world));
    }
}

#[test]
fn without_all_the_search_ends_with_the_programs_as_long_as_the_first_new_finding() {
    let world = small();
    let shortest = Options { all: false, ..options(6) };
    let (first, end) = search(&world, Revision::V2, &shortest);
    assert_eq!((end, first.complete()), (End::Depth, Some(2)));
    let known: Vec<_> = first.found().map(|found| found.signature.clone()).collect();
    assert!(first.found().all(|found| found.length == 2) && !known.is_empty());
    // After known findings the search goes on.
    let mut all = Search::new(&world, machines(Revision::V2)).expect("a state");
    let is_known = |signature: &_| known.contains(signature);
    all.run(&world, &shortest, || machines(Revision::V2), is_known, |_, _| true);
    assert!(all.complete() > Some(2));
}

#[test]
fn a_world_without_further_states_is_searched_to_its_end() {
    let world: World = "mmap 0 0 2 rw anon_private\nmunmap 0 {0,1} 1\n".parse().expect("a world");
    let (search, end) = search(&world, Revision::Fixed, &options(60));
    assert_eq!((end, search.states_of_depths()), (End::World, vec![1, 1, 2]));
    assert_eq!((search.complete(), search.transitions()), (Some(2), 12));
}

#[test]
fn the_memory_is_bounded_and_the_last_complete_depth_is_told() {
    let world = small();
    for memory in [0, 1600 << 10] {
        let (search, end) = search(&world, Revision::Fixed, &Options { memory, ..options(64) });
        assert_eq!(end, End::Memory);
        // The first state is there before there are bounds.
        assert!(search.memory() <= memory.max(2 << 20), "{} of {memory}", search.memory());
        assert_eq!(search.complete().is_some(), memory > 0);
    }
}

#[test]
fn a_finding_stays_if_the_memory_does_not_suffice_for_the_states_beside_it() {
    let text = "pages 12\nmmap 0 0..12 1..12 rw anon_private\nmunmap 0 0..12 1..12\n\
                mremap 0 0..12 1 1 MAYMOVE|FIXED 0..12\nmprotect 0 0..12 1..12 r\n";
    let world: World = text.parse().expect("a world");
    let mut ended = 0;
    for memory in (5 << 18..3 << 19).step_by(8 << 10) {
        let (search, end) = search(&world, Revision::V2, &Options { memory, ..options(2) });
        // The programs of two operations have been run, one of which diverges.
        let visited = search.depth() > 0;
        assert_eq!(search.found().next().is_some(), visited, "{memory}: {end:?}");
        ended += usize::from(end == End::Memory && visited);
    }
    assert!(ended > 0);
}

fn bytes(search: &Search, world: &World) -> Vec<u8> {
    let mut bytes = Vec::new();
    file::write(search, world, ("left", "right"), &mut bytes).expect("memory");
    bytes
}

#[test]
fn a_search_that_was_stopped_goes_on_as_if_it_had_not_been() {
    let world = small();
    let (whole, _) = search(&world, Revision::V2, &options(6));
    for stop in 1..7 {
        let mut batches = 0;
        let mut part = Search::new(&world, machines(Revision::V2)).expect("a state");
        let make = || machines(Revision::V2);
        let ended = part.run(
            &world,
            &options(6),
            make,
            |_| false,
            |_, _| {
                batches += 1;
                batches < stop
            },
        );
        assert_eq!(ended, End::Stopped);
        let mut file = Vec::new();
        let names = ("reference", "candidate:v2");
        file::write(&part, &world, names, &mut file).expect("memory");
        let mut read = file::read(&world, make(), 1 << 30, &file[..]).expect("the file");
        assert_eq!(bytes(&read, &world), bytes(&part, &world));
        read.run(&world, &options(6), make, |_| false, |_, _| true);
        assert_eq!(shown(&read, &world), shown(&whole, &world), "stopped after {stop} batches");
    }
    // A search to a depth goes on to a greater one.
    let (mut deeper, _) = search(&world, Revision::V2, &options(3));
    deeper.run(&world, &options(6), || machines(Revision::V2), |_| false, |_, _| true);
    assert_eq!(shown(&deeper, &world), shown(&whole, &world));
    // The watch is told of each depth.
    let mut depths = Vec::new();
    let mut again = Search::new(&world, machines(Revision::V2)).expect("a state");
    again.run(
        &world,
        &options(3),
        || machines(Revision::V2),
        |_| false,
        |search, moment| {
            depths.extend((moment == Moment::Depth).then(|| search.depth()));
            true
        },
    );
    assert_eq!(depths, [1, 2, 3]);
}

#[test]
fn a_file_that_is_not_this_search_is_refused() {
    let world = small();
    let (search, _) = search(&world, Revision::V2, &options(2));
    let mut file = Vec::new();
    file::write(&search, &world, ("reference", "candidate:v2"), &mut file).expect("memory");
    let read = |world: &World, revision, bytes: &[u8]| {
        let read = file::read(world, machines(revision), 8 << 20, bytes);
        read.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(read(&world, Revision::V2, &file), Ok(()));
    let fixed = read(&world, Revision::Fixed, &file).expect_err("other machines");
    assert!(fixed.contains("expected reference+anon-vma-reuse+uffd-offset"), "{fixed}");
    let mut other = world.clone();
    other.ops.pop();
    let other = read(&other, Revision::V2, &file).expect_err("another world");
    assert_eq!(other, "the world small had other operations when the search began");
    let cut = read(&world, Revision::V2, &file[..file.len() - 1]).expect_err("cut short");
    assert_eq!(cut, "the file is damaged: it ends before the digest at its end");
    let longer = read(&world, Revision::V2, &[&file[..], b"x"].concat()).expect_err("longer");
    assert_eq!(longer, "the file is damaged: it goes on after its end");
    for bytes in [&b""[..], b"x\n", b"{}\n", &[0xff; 4096]] {
        let error = read(&world, Revision::V2, bytes).expect_err("no search");
        assert!(error.starts_with("not the file of a search: "), "{error}");
    }
    // Every byte counts.
    for at in 0..file.len() {
        let mut bytes = file.clone();
        bytes[at] ^= 0x11;
        let error = read(&world, Revision::V2, &bytes).expect_err("a changed byte");
        assert!(error.len() < 400, "{error}");
    }
}
