//! Random programs without feedback.
//!
//! A soak test runs such a walk, and a guided fuzzer is compared with it. The same seed makes the
//! same programs.

use mutatis::Session;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng as _;
use vmadiff_machine::Program;

use crate::fresh;
use crate::generate::Mix;
use crate::layout;
use crate::mutate::ProgramMutator;

/// The largest number of mutations of one fresh program.
const MOST_MUTATIONS: u32 = 8;

/// An endless walk: a [fresh program](fresh::program), some mutations of it one after the other, and
/// then another fresh program.
pub struct Walk {
    seed: u64,
    /// The number of fresh programs so far.
    number: u64,
    session: Session,
    rng: Pcg64,
    mutator: ProgramMutator,
    program: Program,
    /// The number of mutations until the walk starts again.
    left: u32,
    /// An allocation of every program fails.
    fails: bool,
}

impl Walk {
    /// Returns the walk of a seed.
    pub fn new(seed: u64) -> Walk {
        Walk::part(seed, 0)
    }

    /// Returns one of the parts into which a long run of a seed is divided. Each part is a walk of its own:
    /// threads run parts side by side. Part 0 is the walk of the seed.
    pub fn part(seed: u64, part: u32) -> Walk {
        // An odd factor makes the seeds of different parts differ.
        let of_session = seed.wrapping_add(u64::from(part).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Walk {
            seed,
            number: u64::from(part) << 32,
            session: Session::new().seed(of_session),
            rng: Pcg64::new(seed.into(), part.into()),
            mutator: ProgramMutator(Mix::ALL),
            program: Program::default(),
            left: 0,
            fails: false,
        }
    }

    /// Lets an allocation of every program fail: mostly one of the first few, rarely a late one.
    pub fn failing(mut self) -> Walk {
        self.fails = true;
        self
    }

    /// Returns the next program.
    pub fn step(&mut self) -> &Program {
        self.advance();
        if self.fails {
            let random = self.rng.next_u32();
            let most = 1 << (random % 7);
            self.program.limits.fail = Some(1 + (random >> 8) as u8 % (2 * most));
        }
        &self.program
    }

    fn advance(&mut self) {
        if self.left == 0 {
            let random = self.rng.next_u32();
            self.left = random % (MOST_MUTATIONS + 1);
            let operations = fresh::length(random >> 16);
            self.mutator.0 =
                fresh::program_into(&mut self.program, self.seed, self.number, operations);
            self.number += 1;
            return;
        }
        self.left -= 1;
        // The mutator fails only if no mutation applies. The program then stays unchanged.
        let _ = self.session.mutate_with(&mut self.mutator, &mut self.program);
        layout::keep_to_living(&mut self.program.ops);
    }
}

#[cfg(test)]
mod tests {
    use vmadiff_machine::program::MAX_OPS;

    use super::*;

    #[test]
    fn a_walk_is_the_same_for_the_same_seed_and_reaches_long_programs() {
        let walk = |seed| {
            let mut walk = Walk::new(seed);
            (0..1_000).map(|_| walk.step().clone()).collect::<Vec<_>>()
        };
        assert_eq!(walk(1), walk(1));
        assert_ne!(walk(1), walk(2));
        let part = |part| {
            let mut walk = Walk::part(1, part);
            (0..100).map(|_| walk.step().clone()).collect::<Vec<_>>()
        };
        assert_eq!(part(0), walk(1)[..100]);
        assert!(part(1).iter().all(|program| !part(2).contains(program)));
        assert!(walk(1).iter().any(|program| program.ops.len() >= MAX_OPS / 2));

        let mut failing = Walk::new(1).failing();
        let fails = (0..1_000).map(|_| failing.step().limits.fail).collect::<Vec<_>>();
        assert!(fails.iter().all(|nth| nth.is_some_and(|nth| nth > 0)));
        assert!([1, 2, 100].into_iter().all(|nth| fails.iter().any(|fail| *fail >= Some(nth))));
    }
}
