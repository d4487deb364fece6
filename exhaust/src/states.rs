//! The table of states: the digest of each, and the state and the operation by which it was reached
//! first.

use std::mem::size_of;

use twox_hash::XxHash3_128;
use vmadiff_machine::State;

/// A digest of the words of a state.
///
/// Two different states have one digest with a probability of 2⁻¹²⁸. Of n states, two have one digest
/// with a probability below n² ∕ 2¹²⁹: for 10⁹ states below 2 · 10⁻²¹.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub u128);

impl Digest {
    /// Returns the digest of a state. `bytes` is memory that is reused.
    pub fn of(state: &State, bytes: &mut Vec<u8>) -> Digest {
        bytes.clear();
        bytes.extend(state.words().iter().flat_map(|word| word.to_le_bytes()));
        Digest(XxHash3_128::oneshot(bytes))
    }
}

/// The number of a state, in the order in which states were found.
pub type StateId = u32;

/// The way to a state: the state before it, and the operation that leads from there to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The state before.
    pub from: StateId,
    /// The position of the operation in the world.
    pub op: u16,
}

/// The number of states of a chunk.
const CHUNK: usize = 1 << 16;

/// The states of a search. The first one is the start of every program.
///
/// Memory is taken in chunks, so that it never doubles at once.
#[derive(Clone, Debug, Default)]
pub struct States {
    chunks: Vec<Chunk>,
    count: usize,
    /// By the lower bits of a digest: the number of a state, counted from 1; 0 for none. The length is a
    /// power of two, and a collision takes the next place.
    index: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    digests: Vec<Digest>,
    from: Vec<StateId>,
    ops: Vec<u16>,
}

/// The bytes of a state, without the index.
const STATE_BYTES: usize = size_of::<Digest>() + size_of::<StateId>() + size_of::<u16>();

impl States {
    /// Returns the number of states.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there is no state.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the memory of the table in bytes.
    pub fn memory(&self) -> usize {
        self.chunks.len() * CHUNK * STATE_BYTES + self.index.len() * size_of::<u32>()
    }

    /// Returns the memory of the table in bytes after another state.
    pub fn memory_after_insert(&self) -> usize {
        let chunk = if self.count == self.chunks.len() * CHUNK { CHUNK * STATE_BYTES } else { 0 };
        let index = if self.is_index_full() { self.next_index() * size_of::<u32>() } else { 0 };
        let old = self.index.len() * size_of::<u32>();
        self.memory() + chunk + index.saturating_sub(old)
    }

    /// Returns the digest of a state.
    pub fn digest(&self, state: StateId) -> Digest {
        let at = state as usize;
        self.chunks[at / CHUNK].digests[at % CHUNK]
    }

    /// Returns the way to a state. That of the first state has no meaning.
    pub fn step(&self, state: StateId) -> Step {
        let at = state as usize;
        let chunk = &self.chunks[at / CHUNK];
        Step { from: chunk.from[at % CHUNK], op: chunk.ops[at % CHUNK] }
    }

    /// Fills `ops` with the operations of the program that leads to a state, as positions in the world.
    pub fn program(&self, mut state: StateId, ops: &mut Vec<u16>) {
        ops.clear();
        while state != 0 {
            let Step { from, op } = self.step(state);
            ops.push(op);
            state = from;
        }
        ops.reverse();
    }

    /// Returns whether there is a state with this digest.
    pub fn contains(&self, digest: Digest) -> bool {
        !self.index.is_empty() && self.index[self.place(digest)] != 0
    }

    /// Adds a state, and returns whether it is new.
    ///
    /// # Errors
    /// [`Full`] if there are as many states as numbers.
    pub fn insert(&mut self, digest: Digest, step: Step) -> Result<bool, Full> {
        if self.is_index_full() {
            self.grow();
        }
        let place = self.place(digest);
        if self.index[place] != 0 {
            return Ok(false);
        }
        let number = u32::try_from(self.count + 1).map_err(|_| Full)?;
        if self.count == self.chunks.len() * CHUNK {
            self.chunks.push(Chunk {
                digests: Vec::with_capacity(CHUNK),
                from: Vec::with_capacity(CHUNK),
                ops: Vec::with_capacity(CHUNK),
            });
        }
        let chunk = &mut self.chunks[self.count / CHUNK];
        chunk.digests.push(digest);
        chunk.from.push(step.from);
        chunk.ops.push(step.op);
        self.index[place] = number;
        self.count += 1;
        Ok(true)
    }

    /// The place of a digest in the index: its own one, or the free one that it would get.
    fn place(&self, digest: Digest) -> usize {
        let mask = self.index.len() - 1;
        let mut place = digest.0 as usize & mask;
        loop {
            match self.index[place] {
                0 => return place,
                number if self.digest(number - 1) == digest => return place,
                _ => place = (place + 1) & mask,
            }
        }
    }

    /// At three quarters the index grows, so a search ends soon.
    fn is_index_full(&self) -> bool {
        self.count * 4 >= self.index.len() * 3
    }

    fn next_index(&self) -> usize {
        (self.index.len() * 2).max(1 << 10)
    }

    fn grow(&mut self) {
        let length = self.next_index();
        // The old index is not needed to make the new one, so its memory goes first.
        self.index = Vec::new();
        self.index = vec![0; length];
        for state in 0..self.count as u32 {
            let place = self.place(self.digest(state));
            self.index[place] = state + 1;
        }
    }
}

/// The error of a table that has as many states as there are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table has 2³² − 1 states: it cannot have more")]
pub struct Full;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_found_by_its_digest_and_leads_back_to_the_start() {
        let mut states = States::default();
        let digest =
            |n: u32| Digest(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        for n in 0..200_000u32 {
            assert!(!states.contains(digest(n)));
            let memory = states.memory_after_insert();
            let step = Step { from: n / 2, op: (n % 2) as u16 };
            assert_eq!(states.insert(digest(n), step), Ok(true));
            assert_eq!(states.memory(), memory);
        }
        assert_eq!(states.insert(digest(7), Step { from: 0, op: 9 }), Ok(false));
        assert_eq!(states.len(), 200_000);
        let mut ops = Vec::new();
        for n in [0, 1, 6, 199_999] {
            assert!(states.contains(digest(n)));
            states.program(n, &mut ops);
            // The number is what the program spells in binary.
            assert_eq!(ops.iter().fold(0, |number, op| 2 * number + u32::from(*op)), n);
        }
    }

    #[test]
    fn digests_with_the_same_lower_bits_are_different_states() {
        let mut states = States::default();
        for n in 0..5_000u128 {
            assert_eq!(states.insert(Digest(n << 64), Step { from: 0, op: 0 }), Ok(true));
        }
        assert!((0..5_000u128).all(|n| states.contains(Digest(n << 64))));
        assert!(!states.contains(Digest(5_000 << 64)));
    }
}
