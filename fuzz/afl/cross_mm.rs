//! Runs every operation, as the target of libFuzzer does: the reference against the candidate.
//!
//! AFL++ has no section for counters beside its own edges. The situations that a program meets are
//! therefore announced as further edges: each has a guard, and AFL++ gives each guard a place in its map.

use std::sync::atomic::Ordering;

use vmadiff::{feedback, input, oracle};

static COUNTERS: feedback::Counters = feedback::counters();

unsafe extern "C" {
    /// Gives each guard between the two addresses a place in the map.
    fn __sanitizer_cov_trace_pc_guard_init(start: *mut u32, stop: *mut u32);
    /// Counts the edge of a guard.
    fn __sanitizer_cov_trace_pc_guard(guard: *mut u32);
}

fn main() {
    let mut guards = [0_u32; feedback::SITUATIONS];
    let range = guards.as_mut_ptr_range();
    // SAFETY: the range is that of an array, which lives as long as the process fuzzes. The map is made when
    // the server for forks starts, which is later.
    unsafe { __sanitizer_cov_trace_pc_guard_init(range.start, range.end) };
    oracle::prepare(&COUNTERS);
    afl::fuzz(true, |bytes: &[u8]| {
        if let Ok(loaded) = input::parse(bytes) {
            oracle::check_or_panic(&loaded.program);
        }
        for (counter, guard) in COUNTERS.iter().zip(&mut guards) {
            if counter.swap(0, Ordering::Relaxed) != 0 {
                // SAFETY: the guard has a place in the map.
                unsafe { __sanitizer_cov_trace_pc_guard(guard) };
            }
        }
    });
}
