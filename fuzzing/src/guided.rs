//! Programs guided by a coverage that the caller measures, without a fuzzing engine.
//!
//! A fuzzing engine runs beside the code that it measures. The coverage of a running kernel is measured
//! by the kernel itself, in the processes of a program. So this loop is one of our own, with the
//! generator and the mutations of the fuzz targets: [`Guided::propose`] makes a program, the caller runs
//! it, and [`Guided::learn`] keeps the program if it covered something new.

use std::collections::HashSet;

use mutatis::Session;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng as _;
use vmadiff_machine::Program;
use vmadiff_machine::program::MAX_OPS;

use crate::fresh;
use crate::generate::Mix;
use crate::layout;
use crate::mutate::ProgramMutator;

/// The most mutations of a program before it is run.
const MOST_MUTATIONS: u32 = 6;
/// The most programs that are kept. Far fewer are kept in practice, because each covers something new.
const MOST_KEPT: usize = 100_000;

/// The programs that are kept, and their coverage.
pub struct Guided {
    seed: u64,
    /// The number of fresh programs so far.
    number: u64,
    session: Session,
    rng: Pcg64,
    mutator: ProgramMutator,
    kept: Vec<Program>,
    /// The points that were covered one after the other.
    pairs: HashSet<(u64, u64)>,
    points: HashSet<u64>,
}

/// The news that a program covered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The points that no program covered before.
    pub points: Vec<u64>,
    /// The length of the shortest prefix of the program that covers all news; 0 if nothing is new.
    pub operations: usize,
}

impl Guided {
    /// Returns the state of a seed, without a program. The same seed and the same coverage make the
    /// same programs.
    pub fn new(seed: u64) -> Guided {
        Guided {
            seed,
            number: 0,
            session: Session::new().seed(seed),
            rng: Pcg64::new(seed.into(), 1),
            mutator: ProgramMutator(Mix::ALL),
            kept: Vec::new(),
            pairs: HashSet::new(),
            points: HashSet::new(),
        }
    }

    /// Returns the number of programs that are kept.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.next_u32() as usize % n.max(1)
    }

    /// Returns the next program: a mutation of a program that is kept, or two of them spliced, or a
    /// fresh program.
    pub fn propose(&mut self) -> Program {
        let mut program = Program::default();
        if self.kept.is_empty() || self.below(16) == 0 {
            let operations = 1 + self.below(MAX_OPS / 2);
            self.mutator.0 = fresh::program_into(&mut program, self.seed, self.number, operations);
            self.number += 1;
            return program;
        }
        let chosen = self.choose();
        program.clone_from(&self.kept[chosen]);
        if self.below(8) == 0 {
            let other = self.choose();
            let (cut, from) =
                (self.below(program.ops.len() + 1), self.below(self.kept[other].ops.len() + 1));
            program.ops.truncate(cut);
            let room = MAX_OPS - program.ops.len();
            program.ops.extend(self.kept[other].ops[from..].iter().take(room));
        }
        for _ in 0..=self.below(MOST_MUTATIONS as usize) {
            // The mutator fails only if no mutation applies. The program then stays unchanged.
            let _ = self.session.mutate_with(&mut self.mutator, &mut program);
        }
        layout::keep_to_living(&mut program.ops);
        program
    }

    /// Returns the index of a program that is kept. Half of the choices are among the newest quarter,
    /// which has been mutated least.
    fn choose(&mut self) -> usize {
        let all = self.kept.len();
        match self.below(2) {
            0 => self.below(all),
            _ => all - 1 - self.below(all.div_ceil(4)),
        }
    }

    /// Takes the points that each operation of a program covered, in their order, and keeps the program
    /// up to the last operation with something new.
    pub fn learn(&mut self, program: &Program, covered: &[Vec<u64>]) -> News {
        let mut news = News::default();
        for (at, points) in covered.iter().enumerate() {
            let mut before = 0;
            for &point in points {
                if self.pairs.insert((before, point)) {
                    news.operations = at + 1;
                }
                if self.points.insert(point) {
                    news.points.push(point);
                }
                before = point;
            }
        }
        if news.operations > 0 && self.kept.len() < MOST_KEPT {
            let mut kept = program.clone();
            kept.ops.truncate(news.operations);
            self.kept.push(kept);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmadiff_machine::Opcode;

    /// A coverage with a point for each step of a chain of operations: each step is reached only behind
    /// the step before.
    fn covered(program: &Program) -> Vec<Vec<u64>> {
        const CHAIN: [Opcode; 10] = [
            Opcode::Mmap,
            Opcode::Mlock,
            Opcode::Mlock,
            Opcode::Munlock,
            Opcode::Mbind,
            Opcode::UffdUnregister,
            Opcode::Munlock,
            Opcode::Mbind,
            Opcode::Shmdt,
            Opcode::Mbind,
        ];
        let mut steps = 0;
        let points = program.ops.iter().map(|op| {
            let next = CHAIN.get(steps) == Some(&op.opcode());
            steps += usize::from(next);
            if next { vec![steps as u64] } else { vec![] }
        });
        points.collect()
    }

    #[test]
    fn guided_programs_reach_what_fresh_programs_do_not_and_are_the_same_for_a_seed() {
        let run = |seed| {
            let mut guided = Guided::new(seed);
            let mut programs = Vec::new();
            for _ in 0..3_000 {
                let program = guided.propose();
                guided.learn(&program, &covered(&program));
                programs.push(program);
            }
            (guided.points.len(), programs)
        };
        assert_eq!(run(1), run(1));
        let fresh = |seed| {
            let mut fresh = Guided::new(seed);
            for number in 0..3_000 {
                let program = fresh::program(seed, number, MAX_OPS / 4, |_| true);
                fresh.learn(&program, &covered(&program));
            }
            fresh.points.len()
        };
        // One seed may have luck.
        let guided: usize = (1..=8).map(|seed| run(seed).0).sum();
        let fresh: usize = (1..=8).map(fresh).sum();
        assert!(guided > fresh, "{guided} against {fresh}");
    }

    #[test]
    fn a_program_is_kept_up_to_its_last_operation_with_something_new() {
        let mut guided = Guided::new(1);
        let program: Program =
            "mmap 0 0 2 rw anon_private\nmunmap 0 0 1\nfork 0\n".parse().expect("a program");
        let news = guided.learn(&program, &[vec![1, 2], vec![2], vec![1]]);
        assert_eq!(news, News { points: vec![1, 2], operations: 2 });
        assert_eq!(guided.learn(&program, &[vec![1, 2], vec![], vec![]]), News::default());
        // A new way between known points.
        let news = guided.learn(&program, &[vec![], vec![2, 1], vec![]]);
        assert_eq!(news, News { points: vec![], operations: 2 });
        assert_eq!(guided.kept[1].ops, program.ops[..2]);
    }
}
