//! Two programs that lead to one state behave alike from then on, and states that differ in what no
//! observation shows are different states.

use std::collections::HashMap;

use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};
use vmadiff_candidate::{Candidate, Revision};
use vmadiff_exhaust::world::{NAMED, World};
use vmadiff_lockstep::compare::{Comparer, Scope};
use vmadiff_machine::{Hidden, Limits, Machine, Observation, Op, Program, State};
use vmadiff_reference::{MENDED, Reference};

/// Every operation, with few operands, so that many programs lead to one state.
const WIDE: &str = "\
pages 8
limits processes=2
mmap {0,1} {0,1,2} {1,2} rw {anon_private,anon_shared,file0_private,file1_shared,special} {-,LOCKED}
mmap 0 {0,1} 1 r {anon_private,readonly_shared} NORESERVE 1
munmap {0,1} {0,1} {1,2}
mprotect {0,1} {0,1} {1,2} {r,rw}
mremap {0,1} {0,1} {0,1,2} {1,2} {-,MAYMOVE|FIXED} {0,2}
madvise {0,1} {0,1} 1 {DONTFORK,DOFORK,WIPEONFORK,KEEPONFORK,MERGEABLE,DONTNEED}
mlock 0 {0,1} {1,2} {0,1}
munlock 0 0 2
mbind 0 {0,1} 1 {BIND,DEFAULT}
touch {0,1} {0,1,2} {0,1}
uffd_register {0,1} {0,1} {1,2} {0,1}
uffd_unregister {0,1} 0 2 {0,1}
fork {0,1}
exit 1
copy {0,1} {0,1} 1 {0,1} {0,1,2} FIXED
copy_vma {0,1} {0,1} 1 0 2 {0,1}
shmat {0,1} {0,4} {-,REMAP,RDONLY}
shmdt {0,1} {0,4}
shm_rmid 0
mlockall 0 {CURRENT,FUTURE,FUTURE|ONFAULT}
munlockall 0
mseal 0 0 1
clear_refs 0
madvise 0 {0,1} 1 REMOVE
ftruncate {0,1} file0 {0,1,2}
prlimit {0,1} {AS,MEMLOCK} {0,1,2}
memory_merge {0,1} {0,1}
uffd_open {0,1} 0 {-,FORK,REMAP|UNMAP}
uffd_register_wp {0,1} 0 {0,1} {0,1} {WP,MISSING|WP}
uffd_writeprotect {0,1} 0 {0,1} {0,1} {WP,-}
";

/// Few operations, so that programs get long: pages that processes share, and chains of anon_vmas.
const DEEP: &str = "\
pages 2
limits processes=3
mmap 0 0 2 rw anon_private
munmap {0,1} {0,1} 1
touch {0,1,2} 0 1
fork {0,1}
exit {0,1}
mremap 1 0 1 1 MAYMOVE|FIXED 1
";

/// A machine, and its last observation.
struct Running<M> {
    machine: M,
    /// Without the value that was read: it depends on the number of writes before.
    seen: Observation,
    read: Option<u8>,
}

impl<M: Machine> Running<M> {
    fn new(machine: M) -> Running<M> {
        Running { machine, seen: Observation::default(), read: None }
    }

    /// Runs a program; returns whether the kernel survived.
    fn run(&mut self, limits: &Limits, ops: &[Op]) -> bool {
        self.machine.reset(limits);
        self.seen.reset();
        ops.iter().all(|op| self.step(op))
    }

    fn step(&mut self, op: &Op) -> bool {
        self.machine.step(op, &mut self.seen);
        self.read = self.seen.read.take();
        !self.seen.is_fatal()
    }

    fn state(&self) -> Vec<u64> {
        let mut state = State::default();
        state.begin();
        assert!(self.machine.write_state(&mut state), "it writes its state");
        state.words().to_vec()
    }

    /// Returns the value that the last operation has read, as the number that the value has in the state.
    fn value_read(&self) -> Option<u64> {
        let mut state = State::default();
        state.begin();
        self.machine.write_state(&mut state);
        self.read.map(|value| state.value(value))
    }

    /// Returns what the observation shows of the state, up to the numbers of objects.
    fn observed(&self) -> Vec<u64> {
        let mut state = State::default();
        state.begin();
        self.seen.write_state(&mut state);
        state.words().to_vec()
    }

    /// Returns the observation and the hidden objects, up to the numbers of objects.
    fn shown(&mut self) -> Vec<u64> {
        let mut hidden = Hidden::default();
        self.machine.show_hidden(&mut hidden).expect("no library");
        let mut state = State::default();
        state.begin();
        self.seen.write_state(&mut state);
        hidden.write_state(&mut state);
        state.words().to_vec()
    }
}

/// The operations after two programs that lead to one state.
const AFTER: usize = 6;

/// Searches a world by one machine. Where an operation leads to a state that another program has reached,
/// compares the two programs, and both with the same random operations after them. Returns the number of
/// such pairs.
fn pairs<M: Machine>(make: impl Fn() -> M, world: &World, transitions: usize) -> usize {
    let mut random = Pcg32::seed_from_u64(19);
    let (mut one, mut two) = (Running::new(make()), Running::new(make()));
    let mut comparer = Comparer::new(Scope::Models);
    let mut programs: Vec<Vec<Op>> = vec![Vec::new()];
    one.run(&world.limits, &[]);
    let mut known = HashMap::from([(one.state(), 0)]);
    let mut pairs = 0;
    for transition in 0..transitions {
        let (from, op) = (transition / world.ops.len(), transition % world.ops.len());
        let Some(from) = programs.get(from) else { break };
        let ops = [&from[..], &[world.ops[op]]].concat();
        // A program that loses a page is a finding: it is not continued.
        if !one.run(&world.limits, &ops) || !one.seen.events.is_empty() {
            continue;
        }
        let new = programs.len();
        let at = *known.entry(one.state()).or_insert(new);
        if at == new {
            programs.push(ops);
            continue;
        }
        pairs += 1;
        let other = &programs[at];
        assert!(two.run(&world.limits, other));
        let text = |ops: &[Op]| Program { limits: world.limits, ops: ops.to_vec() }.to_string();
        let name = one.machine.name().to_owned();
        let both = || format!("{}and\n{}in {name}", text(&ops), text(other));
        assert_eq!(one.shown(), two.shown(), "{} show others", both());
        if pairs % 8 > 0 {
            continue;
        }
        let both = both();
        comparer.reset();
        // The last operations may differ, and the states may not.
        for running in [&mut one, &mut two] {
            running.seen.begin_step();
            running.read = None;
        }
        let mut after = Vec::new();
        while comparer.same_in_full(&one.seen, &two.seen) && !one.seen.is_fatal() {
            assert_eq!(one.shown(), two.shown(), "{both} show others after\n{}", text(&after));
            assert_eq!(one.state(), two.state(), "{both} differ after\n{}", text(&after));
            let (left, right) = (one.value_read(), two.value_read());
            assert_eq!(left, right, "{both} read others after\n{}", text(&after));
            if after.len() == AFTER {
                break;
            }
            let op = world.ops[(random.next_u32() >> 4) as usize % world.ops.len()];
            after.push(op);
            one.step(&op);
            two.step(&op);
        }
        let same = comparer.same_in_full(&one.seen, &two.seen);
        assert!(same, "{both} differ after\n{}", text(&after));
    }
    pairs
}

#[test]
fn two_programs_with_one_state_behave_alike() {
    let more = [("wide", WIDE, 6_000), ("deep", DEEP, 20_000)];
    let named = NAMED.iter().map(|&(name, text)| (name, text, 6_000));
    for (name, text, transitions) in named.chain(more) {
        let world = World::read(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut all = 0;
        for rules in [Default::default(), MENDED] {
            all += pairs(|| Reference::with_rules(rules), &world, transitions);
        }
        for &revision in Revision::ALL {
            all += pairs(|| Candidate::new(revision), &world, transitions);
        }
        assert!(all > transitions, "{all} pairs in the world {name}");
    }
}

/// Pairs of programs after which a machine shows the same, and operations that tell the two apart; none
/// if the state is the same.
const HIDDEN: [(&str, &str, &str); 13] = [
    // New mappings are locked, and when.
    ("mlockall 0 FUTURE\n", "fork 1\n", "mmap 0 0 1 rw anon_private\nmadvise 0 0 1 DONTNEED\n"),
    (
        "mlockall 0 FUTURE\n",
        "mlockall 0 FUTURE|ONFAULT\n",
        "mmap 0 0 1 rw anon_private\nuffd_register 0 0 1 0\nmlock 0 0 1 0\n",
    ),
    // A context is opened, even if it watches nothing.
    ("uffd_register 0 0 1 0\n", "fork 1\n", "uffd_unregister 0 0 1 0\n"),
    // A segment that is attached, with and without `IPC_RMID`.
    ("shmat 0 0\nshm_rmid 0\n", "shmat 0 0\n", "shmdt 0 0\nshmat 0 0\n"),
    // Two parts of one attachment, or a part of each of two, where one attachment would have them.
    (
        "shmat 0 0\nmunmap 0 1 2\n",
        "shmat 0 0\nmunmap 0 1 3\nshmat 0 4\nmunmap 0 4 3\nmremap 0 7 1 1 MAYMOVE|FIXED 3\n",
        "shmdt 0 0\nmunmap 0 0 1\n",
    ),
    // The order of attachments has no effect.
    (
        "shmat 0 0\nshmat 0 4\nmunmap 0 1 3\nmunmap 0 4 1\n",
        "shmat 0 4\nmunmap 0 4 1\nshmat 0 0\nmunmap 0 1 3\n",
        "",
    ),
    // A page of a shared object is there, or is still missing.
    (
        "mmap 0 0 1 rw anon_shared\ntouch 0 0 1\nuffd_register 0 0 1 0\n",
        "mmap 0 0 1 rw anon_shared\nuffd_register 0 0 1 0\n",
        "mlock 0 0 1 0\n",
    ),
    (
        "mmap 0 0 2 rw anon_shared\ntouch 0 0 1\n",
        "mmap 0 0 2 rw anon_shared\ntouch 0 1 1\n",
        "uffd_register 0 0 2 0\nmlock 0 0 1 0\n",
    ),
    // The object behind a page is longer than the mapping.
    (
        "mmap 0 0 2 rw anon_shared\nmunmap 0 1 1\n",
        "mmap 0 0 1 rw anon_shared\n",
        "mremap 0 0 1 2 -\ntouch 0 1 1\n",
    ),
    // The value of a page of a file.
    ("mmap 0 0 1 rw file0_shared\ntouch 0 0 1\n", "mmap 0 0 1 rw file0_shared\n", "touch 0 0 0\n"),
    // The value of an anonymous page: a copy of the file's page, made before or after the file was written.
    (
        "mmap 0 1 1 rw file0_shared\ntouch 0 1 1\nmunmap 0 1 1\n\
         mmap 0 0 1 rw file0_private\nmlock 0 0 1 0\n",
        "mmap 0 0 1 rw file0_private\nmlock 0 0 1 0\n\
         mmap 0 1 1 rw file0_shared\ntouch 0 1 1\nmunmap 0 1 1\n",
        "touch 0 0 0\n",
    ),
    // The number of writes has no effect, and neither has the order in which pages were written.
    (
        "mmap 0 0 1 rw anon_private\ntouch 0 0 1\n",
        "mmap 0 0 1 rw anon_private\ntouch 0 0 1\ntouch 0 0 1\n",
        "",
    ),
    (
        "mmap 0 0 2 rw anon_private\ntouch 0 0 1\ntouch 0 1 1\n",
        "mmap 0 0 2 rw anon_private\ntouch 0 1 1\ntouch 0 0 1\n",
        "",
    ),
];

#[test]
fn a_state_has_what_no_observation_shows() {
    fn check(machine: impl Fn() -> Box<dyn Machine>) {
        for (one, two, after) in HIDDEN {
            let ops = |text: &str| text.parse::<Program>().expect("a program").ops;
            let limits = Limits::default();
            let (mut left, mut right) = (Running::new(machine()), Running::new(machine()));
            assert!(left.run(&limits, &ops(one)) && right.run(&limits, &ops(two)));
            let same_state = left.state() == right.state();
            let name = left.machine.name().to_owned();
            assert_eq!(left.observed(), right.observed(), "{one}and\n{two}in {name}");
            assert_eq!(same_state, after.is_empty(), "{one}and\n{two}in {name}");
            let results = |running: &mut Running<Box<dyn Machine>>| {
                let after = ops(after);
                let results = after.iter().map(|op| {
                    running.step(op);
                    let Observation { result, attached, driver, .. } = running.seen;
                    (result, attached, driver, running.read)
                });
                results.collect::<Vec<_>>()
            };
            let differ = results(&mut left) != results(&mut right);
            assert_eq!(differ, !after.is_empty(), "{one}and\n{two}then\n{after}in {name}");
        }
    }
    check(|| Box::new(Reference::new()));
    check(|| Box::new(Candidate::new(Revision::Original)));
}
