//! The search: breadth first over the states of a world.
//!
//! States are visited in the order in which they were found. A batch of them is visited by all threads,
//! and the results are entered into the table in the order of the batch, so a search has the same result
//! with any number of threads.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use vmadiff_lockstep::divergence::{Divergence, Signature};
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::{Machine, Op, Program};

use crate::states::{StateId, States, Step};
use crate::visit::{Findings, Visitor, Visits};
use crate::world::World;

pub use crate::visit::Found;

/// The number of states between two checks of the memory and of Ctrl-C.
const BATCH: StateId = 4096;

/// The number of states that a thread takes at once.
const CHUNK: usize = 32;

/// The bounds of a search, and the place at which it stops.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The largest number of operations of a program.
    pub depth: usize,
    /// The largest memory of the table, in bytes.
    pub memory: usize,
    /// The number of threads.
    pub threads: NonZeroUsize,
    /// Goes on after a new finding, up to `depth`. Without it the programs as long as the first new
    /// finding are the last ones.
    pub all: bool,
}

/// The reason why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// No state is left to visit: the result holds for programs of any length.
    World,
    /// All programs up to a number of operations have been run.
    Depth,
    /// The next state would take more memory than the table may have.
    Memory,
    /// `watch` returned false.
    Stopped,
}

/// The moment of a search at which `watch` is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A batch of states was visited.
    Batch,
    /// All states of a depth were visited.
    Depth,
}

/// A search, which can be stopped and continued between two batches.
#[derive(Clone, Debug)]
pub struct Search {
    pub(crate) states: States,
    /// The first state of each depth.
    pub(crate) depths: Vec<StateId>,
    /// One past the last state of the last of these depths. Later states are one operation deeper.
    pub(crate) end: StateId,
    /// The first state that is not yet visited.
    pub(crate) next: StateId,
    /// The operations that were performed, without those that lead to a state again.
    pub(crate) transitions: u64,
    pub(crate) found: Findings,
    pub(crate) is_partial: bool,
    /// The states of the last depth were judged, and not continued.
    pub(crate) is_judged: bool,
}

impl Search {
    /// Begins a search of a world, on the machines that `lockstep` drives.
    ///
    /// # Errors
    /// The failure of a machine that cannot tell its state.
    pub fn new<L: Machine, R: Machine>(
        world: &World,
        lockstep: Lockstep<L, R>,
    ) -> Result<Search, Divergence> {
        let (digest, is_whole) = Visitor::new(lockstep, world).first()?;
        let mut states = States::default();
        // The table is empty, so the first state has a number.
        let _ = states.insert(digest, Step { from: 0, op: 0 });
        Ok(Search {
            states,
            depths: vec![0],
            end: 1,
            next: 0,
            transitions: 0,
            found: Findings::default(),
            is_partial: !is_whole,
            is_judged: false,
        })
    }

    /// Searches on until the end of the world or up to the bounds of `options`. `make` makes the machines
    /// of a thread. `is_known` says whether a finding is known, so that the search goes on after it.
    /// `watch` is called after each batch, and stops the search by returning false.
    pub fn run<L: Machine, R: Machine>(
        &mut self,
        world: &World,
        options: &Options,
        make: impl Fn() -> Lockstep<L, R> + Sync,
        is_known: impl Fn(&Signature) -> bool,
        mut watch: impl FnMut(&Search, Moment) -> bool,
    ) -> End {
        let ops = operations(world, &make());
        self.is_judged = false;
        // States of the last depth are judged only: this is one past the last that was.
        let mut judged = self.next;
        while (self.next as usize) < self.states.len() {
            let (depth, last) = (self.depth(), self.last_depth(options, &is_known));
            let continues = depth < last;
            let first = if continues { self.next } else { judged.max(self.next) };
            if depth > last || first == self.end {
                self.is_judged = depth == last;
                return End::Depth;
            }
            let batch = first..first.saturating_add(BATCH).min(self.end);
            let ops = if continues { &ops[..] } else { &[] };
            let visits = self.visit(world, batch.clone(), ops, options.threads, &make);
            if self.merge(visits, options.memory).is_err() {
                return End::Memory;
            }
            let mut moment = Moment::Batch;
            if continues {
                self.next = batch.end;
                if self.next == self.end && self.states.len() > self.end as usize {
                    self.depths.push(self.end);
                    self.end = self.states.len() as StateId;
                    moment = Moment::Depth;
                }
            } else {
                judged = batch.end;
            }
            if !watch(self, moment) {
                return End::Stopped;
            }
        }
        End::World
    }

    /// Visits a batch, and returns the results in the order of its states.
    fn visit<L: Machine, R: Machine>(
        &self,
        world: &World,
        batch: Range<StateId>,
        ops: &[u16],
        threads: NonZeroUsize,
        make: &(impl Fn() -> Lockstep<L, R> + Sync),
    ) -> Vec<Visits> {
        let (chunks, taken) = (batch.len().div_ceil(CHUNK), AtomicUsize::new(0));
        let work = || {
            let mut visitor = Visitor::new(make(), world);
            let mut done = Vec::new();
            loop {
                let chunk = taken.fetch_add(1, Ordering::Relaxed);
                if chunk >= chunks {
                    return done;
                }
                let from = batch.start + (chunk * CHUNK) as StateId;
                let range = from..from.saturating_add(CHUNK as StateId).min(batch.end);
                done.push((chunk, visitor.visit(&self.states, range, ops)));
            }
        };
        let helpers = threads.get().min(chunks) - 1;
        let mut done = thread::scope(|scope| {
            // The threads that there are do the work if the system gives no other.
            let helper = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
            let helpers: Vec<_> = (0..helpers).map_while(helper).collect();
            let mut done = work();
            for helper in helpers {
                match helper.join() {
                    Ok(other) => done.extend(other),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            done
        });
        done.sort_by_key(|(chunk, _)| *chunk);
        done.into_iter().map(|(_, visits)| visits).collect()
    }

    /// Enters the results of a batch. After an error, all findings and a part of the new states were entered,
    /// and the batch can be visited again.
    fn merge(&mut self, visits: Vec<Visits>, memory: usize) -> Result<(), OutOfMemory> {
        let found = visits.iter().flat_map(|visits| visits.found.iter());
        found.for_each(|found| self.found.add(found.clone()));
        for (digest, step) in visits.iter().flat_map(|visits| &visits.new) {
            if self.states.memory_after_insert() > memory && !self.states.contains(*digest) {
                return Err(OutOfMemory);
            }
            self.states.insert(*digest, *step).map_err(|_| OutOfMemory)?;
        }
        for visits in visits {
            self.transitions += visits.transitions;
            self.is_partial |= visits.is_partial;
        }
        Ok(())
    }

    /// The depth up to which programs are run.
    fn last_depth(&self, options: &Options, is_known: impl Fn(&Signature) -> bool) -> usize {
        let new = self.found.iter().filter(|found| !options.all && !is_known(&found.signature));
        new.map(|found| found.length).fold(options.depth, usize::min)
    }

    /// Returns the number of operations that lead to the states that are visited now.
    pub fn depth(&self) -> usize {
        self.depths.len() - 1
    }

    /// Returns the number of operations up to which every program has been run and judged; `None` if not
    /// even the empty program has.
    pub fn complete(&self) -> Option<usize> {
        match self.is_judged || self.next as usize == self.states.len() {
            true => Some(self.depth()),
            false => self.depth().checked_sub(1),
        }
    }

    /// Returns the states of the depth that is visited now: those that were visited, and all of them.
    pub fn progress(&self) -> (usize, usize) {
        let first = self.depths.last().copied().unwrap_or_default();
        ((self.next - first) as usize, (self.end - first) as usize)
    }

    /// Returns the number of states of each depth, without those of a depth that still gets more.
    pub fn states_of_depths(&self) -> Vec<usize> {
        let ends = self.depths.iter().skip(1).chain([&self.end]);
        self.depths.iter().zip(ends).map(|(first, end)| (end - first) as usize).collect()
    }

    /// Returns the number of states.
    pub fn states(&self) -> usize {
        self.states.len()
    }

    /// Returns the operations that were performed, one for each state that was continued and each
    /// operation of the world.
    pub fn transitions(&self) -> u64 {
        self.transitions
    }

    /// Returns the memory of the table, in bytes.
    pub fn memory(&self) -> usize {
        self.states.memory()
    }

    /// Returns whether a machine does not write its state itself. Then two states with the same
    /// observation and the same hidden state are taken for one.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Returns the shortest finding of each signature.
    pub fn found(&self) -> impl Iterator<Item = &Found> {
        self.found.iter()
    }

    /// Returns the program of a finding.
    pub fn program(&self, world: &World, found: &Found) -> Program {
        self.program_of(world, found.state, found.op)
    }

    /// Returns the program that leads to a state, and goes on with an operation of the world.
    pub(crate) fn program_of(&self, world: &World, state: StateId, op: Option<u16>) -> Program {
        let mut ops = Vec::new();
        self.states.program(state, &mut ops);
        ops.extend(op);
        let ops: Vec<Op> = ops.into_iter().map(|op| world.ops[usize::from(op)]).collect();
        Program { limits: world.limits, ops }
    }
}

/// The table may not have another state.
struct OutOfMemory;

/// Returns the operations of the world that both machines have, by position.
pub fn operations<L: Machine, R: Machine>(world: &World, lockstep: &Lockstep<L, R>) -> Vec<u16> {
    let ops = (0u16..).zip(&world.ops);
    ops.filter(|(_, op)| lockstep.has(op.opcode())).map(|(at, _)| at).collect()
}
