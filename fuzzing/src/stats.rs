//! Statistics of the operations that programs perform: successes and errors by operation.

use std::fmt;

use vmadiff_machine::{Errno, Observation, Opcode};

/// Counts successes and errors.
#[derive(Clone, Debug)]
pub struct Stats {
    /// For each operation the successes, then the errors in the order of [`Errno::ALL`].
    counts: Vec<Vec<u64>>,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats { counts: vec![vec![0; 1 + Errno::ALL.len()]; Opcode::ALL.len()] }
    }
}

impl Stats {
    /// Counts one operation that was performed.
    pub fn see(&mut self, opcode: Opcode, seen: &Observation) {
        let column = match seen.result {
            Ok(_) => 0,
            Err(errno) => 1 + Errno::ALL.iter().position(|e| *e == errno).unwrap_or(0),
        };
        self.counts[opcode as usize][column] += 1;
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Stats) {
        for (sum, count) in self.counts.iter_mut().flatten().zip(other.counts.iter().flatten()) {
            *sum += count;
        }
    }

    /// Returns the share of the operations that succeeded, from 0 to 1; `None` if none was performed.
    pub fn successes(&self, opcode: Opcode) -> Option<f64> {
        let row = &self.counts[opcode as usize];
        let all: u64 = row.iter().sum();
        (all > 0).then(|| row[0] as f64 / all as f64)
    }
}

/// A table with a row for each operation.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "operation       performed  succeeded  errors")?;
        for &opcode in Opcode::ALL {
            let row = &self.counts[opcode as usize];
            let all: u64 = row.iter().sum();
            let share = self.successes(opcode).unwrap_or(0.0) * 100.0;
            write!(f, "{:<14} {all:>10}  {share:>7.1} % ", opcode.name())?;
            for (errno, count) in Errno::ALL.iter().zip(&row[1..]).filter(|(_, count)| **count > 0)
            {
                let share = *count as f64 / all as f64 * 100.0;
                write!(f, " {} {share:.1} %", errno.name())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::LATER_CALLS;
    use crate::random::Walk;
    use vmadiff_lockstep::lockstep::Lockstep;
    use vmadiff_reference::Reference;

    #[test]
    fn random_programs_mostly_do_something() {
        let mut stats = Stats::default();
        let mut lockstep = Lockstep::alone(Reference::default());
        let mut walk = Walk::new(0);
        for _ in 0..20_000 {
            let program = walk.step();
            let found = lockstep.run_with(program, |step, seen, _| {
                stats.see(program.ops[step].opcode(), seen);
            });
            assert!(found.is_none());
        }
        for &opcode in Opcode::ALL {
            let share = stats.successes(opcode).expect("performed");
            let least = if LATER_CALLS.contains(&opcode) { 0.0 } else { 0.15 };
            assert!(share >= least, "{}: {share}\n{stats}", opcode.name());
        }
    }
}
