//! The messages between a process and the worker that runs a library for it, over two pipes.
//!
//! | to the worker | bytes |
//! |---|---|
//! | `R` | limits: `struct vmadiff_limits` |
//! | `S` | an operation: `struct vmadiff_op` |
//! | `H` | nothing: asks for the hidden state |
//!
//! | from the worker | bytes |
//! |---|---|
//! | at the start `O` | the name (64 bytes) and the operations (8 bytes) |
//! | or `E` | a length (2 bytes) and a text: why the library is refused |
//! | after each `S` | the written parts of `struct vmadiff_observation` |
//! | after each `H` | the written parts of `struct vmadiff_hidden` |
//!
//! The written parts are: the head, the messages, the events, and for each address space that changed its head,
//! VMAs and chains. A count above its capacity is sent without elements: the reader refuses the
//! count. Numbers are in the byte order of the machine.

use std::mem::offset_of;

use bytemuck::{Pod, bytes_of, bytes_of_mut, cast_slice, cast_slice_mut};
use vmadiff_machine::abi::{Hidden, Observation, Space};

pub(crate) const RESET: u8 = b'R';
pub(crate) const STEP: u8 = b'S';
pub(crate) const HIDDEN: u8 = b'H';
pub(crate) const READY: u8 = b'O';
pub(crate) const REFUSED: u8 = b'E';

/// The number of bytes of an observation before the messages.
const HEAD: usize = offset_of!(Observation, messages);
/// The number of bytes of an address space before the VMAs.
const SPACE_HEAD: usize = offset_of!(Space, vmas);

/// Returns the elements of `all` that are sent: none if the count exceeds the capacity.
fn sent<T: Pod>(all: &[T], count: u32) -> &[T] {
    all.get(..count as usize).unwrap_or(&[])
}

fn sent_mut<T: Pod>(all: &mut [T], count: u32) -> &mut [T] {
    all.get_mut(..count as usize).unwrap_or(&mut [])
}

/// The bytes of a hidden state before the pages.
const HIDDEN_HEAD: usize = offset_of!(Hidden, pages);

/// Appends the written parts of a hidden state to `bytes`.
pub(crate) fn send_hidden(hidden: &Hidden, bytes: &mut Vec<u8>) {
    bytes.extend(&bytes_of(hidden)[..HIDDEN_HEAD]);
    if hidden.shown == 1 {
        bytes.extend(cast_slice::<_, u8>(sent(&hidden.pages, hidden.page_count)));
        bytes.extend(cast_slice::<_, u8>(sent(&hidden.ptes, hidden.pte_count)));
        bytes.extend(cast_slice::<_, u8>(sent(&hidden.anon_vmas, hidden.anon_vma_count)));
        bytes.extend(cast_slice::<_, u8>(sent(&hidden.references, hidden.reference_count)));
    }
}

/// Reads the written parts of a hidden state by `read`, which fills a buffer.
pub(crate) fn receive_hidden<E>(
    hidden: &mut Hidden,
    mut read: impl FnMut(&mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    read(&mut bytes_of_mut(hidden)[..HIDDEN_HEAD])?;
    if hidden.shown == 1 {
        read(cast_slice_mut(sent_mut(&mut hidden.pages, hidden.page_count)))?;
        read(cast_slice_mut(sent_mut(&mut hidden.ptes, hidden.pte_count)))?;
        read(cast_slice_mut(sent_mut(&mut hidden.anon_vmas, hidden.anon_vma_count)))?;
        read(cast_slice_mut(sent_mut(&mut hidden.references, hidden.reference_count)))?;
    }
    Ok(())
}

/// Appends the written parts of an observation to `bytes`.
pub(crate) fn send(seen: &Observation, bytes: &mut Vec<u8>) {
    bytes.extend(&bytes_of(seen)[..HEAD]);
    bytes.extend(cast_slice::<_, u8>(sent(&seen.messages, seen.message_count)));
    bytes.extend(cast_slice::<_, u8>(sent(&seen.events, seen.event_count)));
    for (process, space) in seen.spaces.iter().enumerate() {
        if seen.changed >> process & 1 == 1 {
            bytes.extend(&bytes_of(space)[..SPACE_HEAD]);
            bytes.extend(cast_slice::<_, u8>(sent(&space.vmas, space.vma_count)));
            bytes.extend(cast_slice::<_, u8>(sent(&space.chain, space.chain_count)));
        }
    }
}

/// Reads the written parts of an observation with `read`, which fills a buffer.
pub(crate) fn receive<E>(
    seen: &mut Observation,
    mut read: impl FnMut(&mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    read(&mut bytes_of_mut(seen)[..HEAD])?;
    read(cast_slice_mut(sent_mut(&mut seen.messages, seen.message_count)))?;
    read(cast_slice_mut(sent_mut(&mut seen.events, seen.event_count)))?;
    for (process, space) in seen.spaces.iter_mut().enumerate() {
        if seen.changed >> process & 1 == 1 {
            read(&mut bytes_of_mut(space)[..SPACE_HEAD])?;
            read(cast_slice_mut(sent_mut(&mut space.vmas, space.vma_count)))?;
            read(cast_slice_mut(sent_mut(&mut space.chain, space.chain_count)))?;
        }
    }
    Ok(())
}
