//! The mutator of programs as a library for AFL++ (`AFL_CUSTOM_MUTATOR_LIBRARY`).

use std::ffi::c_void;

use vmadiff::mutate;

/// The state between two mutations.
struct Mutator {
    /// The seed of the next mutation.
    seed: u32,
    /// The program that AFL++ runs next.
    program: Vec<u8>,
}

/// Begins a run of AFL++.
#[unsafe(no_mangle)]
extern "C" fn afl_custom_init(_: *const c_void, seed: u32) -> *mut Mutator {
    Box::into_raw(Box::new(Mutator { seed, program: Vec::new() }))
}

/// Ends a run of AFL++.
///
/// # Safety
/// `mutator` is of [`afl_custom_init`], and is not used again.
#[unsafe(no_mangle)]
unsafe extern "C" fn afl_custom_deinit(mutator: *mut Mutator) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(mutator) });
}

/// Mutates the program in the `size` bytes at `from`, or splices it with the `other_size` bytes at `other`: each
/// half of the time, as libFuzzer does. The result is at `to`, until the next call, and has at most `max_size` bytes.
///
/// # Safety
/// `mutator` is of [`afl_custom_init`]. Memory of these sizes can be read at `from` and at `other`, which may be
/// null if its size is 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn afl_custom_fuzz(
    mutator: *mut Mutator,
    from: *const u8,
    size: usize,
    to: *mut *const u8,
    other: *const u8,
    other_size: usize,
    max_size: usize,
) -> usize {
    // SAFETY: the caller's promise.
    let (mutator, from, other) = unsafe {
        let other =
            if other_size == 0 { &[] } else { std::slice::from_raw_parts(other, other_size) };
        (&mut *mutator, std::slice::from_raw_parts(from, size), other)
    };
    mutator.seed = mutator.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let seed = mutator.seed >> 1;
    let program = &mut mutator.program;
    program.resize(max_size, 0);
    let size = match mutator.seed & 1 << 16 {
        0 => 0,
        _ => mutate::crossover(from, other, program, seed),
    };
    // Bytes that are no program cannot be spliced.
    let size = match size {
        0 => {
            let size = from.len().min(max_size);
            program[..size].copy_from_slice(&from[..size]);
            mutate::mutate(program, size, max_size, seed)
        }
        size => size,
    };
    // SAFETY: the caller has a place for the address.
    unsafe { *to = program.as_ptr() };
    size
}
