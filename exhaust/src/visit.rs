//! The visit of a state: its program is run, judged, and continued with each operation of the world.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use vmadiff_lockstep::divergence::{Divergence, Signature};
use vmadiff_lockstep::lockstep::{Advance, Lockstep};
use vmadiff_machine::{Machine, State};

use crate::states::{Digest, StateId, States, Step};
use crate::world::World;

/// A finding: a difference, or a broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The signature.
    pub signature: Signature,
    /// The state before the last operation or, without an operation, the state that is wrong.
    pub state: StateId,
    /// The last operation, as a position in the world.
    pub op: Option<u16>,
    /// The number of operations of the program.
    pub length: usize,
}

/// The results of the visits of some states, in the order of the states and of the operations.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    /// The states that are not in the table, some more than once.
    pub(crate) new: Vec<(Digest, Step)>,
    pub(crate) found: Findings,
    /// The operations that were performed.
    pub(crate) transitions: u64,
    /// A machine does not write its state itself.
    pub(crate) is_partial: bool,
}

/// The shortest finding of each signature; of two that are as long, the one that was found first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(BTreeMap<Signature, Found>);

impl Findings {
    pub(crate) fn add(&mut self, found: Found) {
        match self.0.entry(found.signature.clone()) {
            Entry::Vacant(place) => {
                place.insert(found);
            }
            // A state that is wrong is a shorter program than a difference after one more operation.
            Entry::Occupied(mut older) if older.get().length > found.length => {
                older.insert(found);
            }
            Entry::Occupied(_) => {}
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Found> {
        self.0.values()
    }
}

/// Two machines that visit states.
pub(crate) struct Visitor<'a, L: Machine, R: Machine> {
    lockstep: Lockstep<L, R>,
    world: &'a World,
    state: State,
    bytes: Vec<u8>,
    /// The program of the visited state.
    program: Vec<u16>,
    /// The machines can go back to the visited state without running its program.
    is_saved: bool,
}

impl<'a, L: Machine, R: Machine> Visitor<'a, L, R> {
    pub(crate) fn new(lockstep: Lockstep<L, R>, world: &'a World) -> Visitor<'a, L, R> {
        let (state, bytes, program) = (State::default(), Vec::new(), Vec::new());
        Visitor { lockstep, world, state, bytes, program, is_saved: false }
    }

    /// Returns the digest of the state before the first operation, and whether both machines write their
    /// state.
    pub(crate) fn first(&mut self) -> Result<(Digest, bool), Divergence> {
        self.lockstep.begin(&self.world.limits);
        self.digest()
    }

    /// Returns the digest of a state, computed anew; `None` if its program ends before.
    pub(crate) fn digest_of(&mut self, states: &States, state: StateId) -> Option<Digest> {
        states.program(state, &mut self.program);
        match self.replay() {
            Some(_) => None,
            None => self.digest().ok().map(|(digest, _)| digest),
        }
    }

    /// Visits states of one depth. Continues each with `ops`, unless it is wrong.
    pub(crate) fn visit(&mut self, states: &States, range: Range<StateId>, ops: &[u16]) -> Visits {
        let mut visits = Visits::default();
        for state in range {
            states.program(state, &mut self.program);
            let length = self.program.len();
            let wrong = self.replay();
            self.is_saved = wrong.is_none() && self.lockstep.save();
            // Judging ends every process.
            let wrong = wrong.or_else(|| self.lockstep.judge(length.saturating_sub(1)));
            if let Some(Divergence { signature, .. }) = wrong {
                visits.found.add(Found { signature, state, op: None, length });
            } else {
                self.go_on(states, state, ops, &mut visits);
            }
        }
        visits
    }

    /// Continues the program with each operation.
    fn go_on(&mut self, states: &States, from: StateId, ops: &[u16], visits: &mut Visits) {
        let own = states.digest(from);
        let mut is_there = false;
        for &op in ops {
            if !is_there && self.go_back().is_some() {
                // Another run of the program ends in another way: the machine is not deterministic.
                return;
            }
            is_there = false;
            visits.transitions += 1;
            let length = self.program.len() + 1;
            let advance = self.lockstep.advance(length - 1, &self.world.ops[usize::from(op)]);
            let digest = match advance {
                Advance::Same => self.digest(),
                Advance::Found(divergence) => Err(divergence),
                Advance::Dead => continue,
            };
            match digest {
                // The operation has changed nothing, so the next one need not start from the start.
                Ok((digest, _)) if digest == own => is_there = true,
                Ok((digest, is_whole)) => {
                    visits.is_partial |= !is_whole;
                    if !states.contains(digest) {
                        visits.new.push((digest, Step { from, op }));
                    }
                }
                Err(Divergence { signature, .. }) => {
                    visits.found.add(Found { signature, state: from, op: Some(op), length });
                }
            }
        }
    }

    /// Goes back to the visited state.
    fn go_back(&mut self) -> Option<Divergence> {
        if !self.is_saved {
            return self.replay();
        }
        self.lockstep.restore();
        None
    }

    /// Runs the program of the visited state. The program has run before without a finding.
    fn replay(&mut self) -> Option<Divergence> {
        self.lockstep.begin(&self.world.limits);
        for (at, &op) in self.program.iter().enumerate() {
            match self.lockstep.advance(at, &self.world.ops[usize::from(op)]) {
                Advance::Same => {}
                Advance::Found(divergence) => return Some(divergence),
                Advance::Dead => return None,
            }
        }
        None
    }

    /// Returns the digest of the present state, and whether both machines write their state.
    fn digest(&mut self) -> Result<(Digest, bool), Divergence> {
        self.state.clear();
        let is_whole = self.lockstep.write_state(self.program.len(), &mut self.state)?;
        Ok((Digest::of(&self.state, &mut self.bytes), is_whole))
    }
}
