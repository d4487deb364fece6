//! Counts the points of the contract of a copy that programs test. The divergences of a corpus say
//! nothing about a point that no program of the corpus tests.

use vmadiff_machine::{Machine as _, Observation, Program};
use vmadiff_reference::Reference;
use vmadiff_reference::why::Point;

/// The number of points.
pub const POINTS: usize = Point::COUNT;

/// The number of times that each point was tested.
pub type Points = [usize; POINTS];

/// Returns how often the copies of a program, by `copy` and by `copy_vma`, test each point, by the
/// decisions of the reference.
pub fn contract_points(program: &Program) -> Points {
    let mut points = [0; POINTS];
    let mut machine = Reference::new();
    machine.reset(&program.limits);
    let mut seen = Observation::default();
    for op in &program.ops {
        for Point(number) in machine.step_explained(op, &mut seen).points {
            points[usize::from(number) - 1] += 1;
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the points that a program tests, counted from 1.
    fn points(text: &str) -> Vec<usize> {
        let points = contract_points(&text.parse().expect("a program"));
        (1..=POINTS).filter(|n| points[n - 1] > 0).collect()
    }

    #[test]
    fn a_copy_tests_the_points_that_it_could_break() {
        let copy = |op: &str| points(&format!("mmap 0 4 3 rw anon_private LOCKED\nfork 0\n{op}\n"));
        assert_eq!(copy("copy 1 4 2 0 10 FIXED"), [1, 2, 3, 7, 9]);
        // The destination is beside the mapping that the fork has there; that mapping has another
        // anon_vma.
        assert_eq!(copy("copy 0 4 2 0 10 FIXED"), [1, 3, 7, 9]);
        assert_eq!(copy("copy 0 4 2 0 5 FIXED"), [6, 10]);
        assert_eq!(copy("copy 0 9 2 0 5 FIXED"), [10]);
        // The source was never faulted: the offset of the copy fits its new address, and so
        // continues the offset of the pages before.
        let beside = "mmap 0 4 3 rw anon_private\ncopy 0 4 1 0 7 FIXED\n";
        assert_eq!(points(beside), [4, 5, 7, 8]);
    }
}
