//! The C interface of a machine: the Rust twin of `include/vmadiff.h`, which documents each field.
//!
//! - The types here have the layout of the header's. A test compiles the header and compares.
//! - [`Observation::write`] is the library's side: it writes a machine's observation.
//! - [`Observation::read`] is the loader's side: it checks every field before it is used.
//! - [`export_machine!`](crate::export_machine) makes a shared library of a Rust machine.
//!
//! A new field of an observation needs a place in the header, in the type here, in `write` and in
//! `read`, and another [`VERSION`].

mod export;
mod read;
mod write;

use bytemuck::{Pod, Zeroable};

pub use export::Exported;

use crate::observation::ProcessSet;
use crate::op::{MAX_OPERANDS, Opcode};
use crate::operand::{END_PAGES, MAX_PROCESSES};
use crate::program::Limits;

/// `VMADIFF_ABI_VERSION`.
pub const VERSION: u32 = 1;
/// `VMADIFF_MAX_VMAS`: one VMA a page.
pub const MAX_VMAS: usize = END_PAGES;
/// `VMADIFF_MAX_CHAIN`.
pub const MAX_CHAIN: usize = 8192;
/// `VMADIFF_MAX_EVENTS`: one event for each page of each process, and some.
pub const MAX_EVENTS: usize = MAX_PROCESSES * END_PAGES + 64;
/// `VMADIFF_MAX_OBJECT`. The comparison uses object numbers as indices.
pub const MAX_OBJECT: u32 = 65_535;
/// `VMADIFF_NAME_BYTES`.
pub const NAME_BYTES: usize = 64;
/// `VMADIFF_FUNCTION_BYTES`.
pub const FUNCTION_BYTES: usize = 64;
/// `VMADIFF_TEXT_BYTES`.
pub const TEXT_BYTES: usize = 128;
/// `VMADIFF_NO_LIMIT`.
pub const NO_LIMIT: u32 = u32::MAX;

/// `VMADIFF_COPIED`.
pub const COPIED: u32 = 1;
/// `VMADIFF_COPY_MERGED`.
pub const COPY_MERGED: u32 = 2;
/// `VMADIFF_COPY_NEED_LOCKS`.
pub const COPY_NEED_LOCKS: u32 = 4;
/// `VMADIFF_COPY_HONOURED`.
pub const COPY_HONOURED: u32 = 8;
/// `VMADIFF_COPY_REDIRECTED`.
pub const COPY_REDIRECTED: u32 = 16;

/// `VMADIFF_USE_AFTER_FREE`.
pub const USE_AFTER_FREE: u32 = 0;
/// `VMADIFF_BUG_ON`.
pub const BUG_ON: u32 = 1;
/// `VMADIFF_WARN_ON`.
pub const WARN_ON: u32 = 2;
/// `VMADIFF_UNREACHABLE_PAGE`.
pub const UNREACHABLE_PAGE: u32 = 3;

/// A value that no field may have: the loader puts it where the library has to write.
const UNWRITTEN: u32 = u32::MAX;

/// `struct vmadiff_op`. Operands are indices in their range, in the order of the text form
/// ([`Op::values`](crate::Op::values)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Op {
    /// The number of the operation.
    pub opcode: u8,
    /// Its operands.
    pub operands: [u8; MAX_OPERANDS],
}

impl From<&crate::Op> for Op {
    #[inline]
    fn from(op: &crate::Op) -> Op {
        Op { opcode: op.opcode() as u8, operands: op.values() }
    }
}

impl Op {
    /// The operation in the form of Rust; `None` where no operation has that number.
    #[inline]
    pub fn to_op(&self) -> Option<crate::Op> {
        Some(crate::Op::from_bytes(Opcode::from_number(self.opcode)?, self.operands))
    }
}

/// `struct vmadiff_limits`, in the order of [`Limits::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RawLimits {
    /// VMAs of a process.
    pub map_count: u32,
    /// Pages mapped by a process.
    pub address_space: u32,
    /// Pages locked by a process.
    pub lock: u32,
    /// Processes at one time.
    pub processes: u32,
}

impl From<&Limits> for RawLimits {
    fn from(limits: &Limits) -> RawLimits {
        let [map_count, address_space, lock, processes] =
            limits.to_array().map(|limit| limit.map_or(NO_LIMIT, u32::from));
        RawLimits { map_count, address_space, lock, processes }
    }
}

impl From<&RawLimits> for Limits {
    /// A limit above 255 is none: no program reaches it.
    fn from(limits: &RawLimits) -> Limits {
        let RawLimits { map_count, address_space, lock, processes } = *limits;
        let limits = [map_count, address_space, lock, processes];
        Limits::from_array(limits.map(|limit| u8::try_from(limit).ok()))
    }
}

/// `struct vmadiff_vma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Vma {
    /// In pages.
    pub pgoff: u64,
    /// The bits of [`VmFlags`](crate::VmFlags).
    pub flags: u32,
    /// An object number.
    pub anon_vma: u32,
    /// An object number.
    pub file: u32,
    /// An object number.
    pub uffd: u32,
    /// Entries of [`Space::chain`].
    pub chain_count: u32,
    /// A page number.
    pub start: u8,
    /// A page number.
    pub end: u8,
    /// The index of a [`Mode`](crate::operand::Mode).
    pub policy: u8,
    /// 0 or 1.
    pub close: u8,
}

/// `struct vmadiff_space`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Space {
    /// In pages.
    pub total_vm: i64,
    /// In pages.
    pub locked_vm: i64,
    /// In pages.
    pub data_vm: i64,
    /// In VMAs.
    pub map_count: i64,
    /// A set of pages, the low half first.
    pub anon_pages: [u64; 2],
    /// 0 or 1.
    pub alive: u32,
    /// At most [`MAX_VMAS`].
    pub vma_count: u32,
    /// At most [`MAX_CHAIN`].
    pub chain_count: u32,
    /// 0.
    pub reserved: u32,
    /// In address order.
    pub vmas: [Vma; MAX_VMAS],
    /// Object numbers.
    pub chain: [u32; MAX_CHAIN],
}

/// `struct vmadiff_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Event {
    /// [`USE_AFTER_FREE`] and so on.
    pub kind: u32,
    /// The index of an [`Object`](crate::Object).
    pub object: u32,
    /// The index of a process.
    pub process: u32,
    /// A page number.
    pub page: u32,
    /// A name, then a NUL.
    pub function: [u8; FUNCTION_BYTES],
    /// A field or a condition, then a NUL.
    pub text: [u8; TEXT_BYTES],
}

/// `struct vmadiff_observation`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Observation {
    /// 0, or the number of an [`Errno`](crate::Errno).
    pub error: u32,
    /// A page, the index of a process, or 0.
    pub value: u32,
    /// [`COPIED`] and so on.
    pub copy: u32,
    /// A set of processes.
    pub changed: u32,
    /// In pages.
    pub committed: i64,
    /// At most [`MAX_EVENTS`].
    pub event_count: u32,
    /// 0.
    pub reserved: u32,
    /// In the order in which they happened.
    pub events: [Event; MAX_EVENTS],
    /// By the index of the process.
    pub spaces: [Space; MAX_PROCESSES],
}

impl Observation {
    /// A buffer for observations, on the heap: half a megabyte, of which little is touched.
    pub fn new() -> Box<Observation> {
        let mut seen: Box<Observation> = bytemuck::zeroed_box();
        seen.forget_all();
        seen
    }

    /// Marks everything as not written, the address spaces as well: for a buffer of which nothing
    /// is known.
    pub fn forget_all(&mut self) {
        self.forget();
        self.spaces.iter_mut().for_each(Space::forget);
    }

    /// Marks as not written what every operation has to write. Called before each step; a field
    /// that the library leaves alone is then found by [`Observation::read`].
    #[inline]
    pub fn forget(&mut self) {
        (self.error, self.value, self.copy) = (UNWRITTEN, UNWRITTEN, UNWRITTEN);
        (self.changed, self.event_count, self.reserved) = (UNWRITTEN, UNWRITTEN, UNWRITTEN);
        self.committed = i64::MIN;
    }
}

impl Space {
    /// Marks the address space as not written.
    #[inline]
    fn forget(&mut self) {
        (self.alive, self.vma_count) = (UNWRITTEN, UNWRITTEN);
        (self.chain_count, self.reserved) = (UNWRITTEN, UNWRITTEN);
    }
}

/// The processes of a set.
#[inline]
fn members(mut set: ProcessSet) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let process = (set != 0).then_some(set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(process)
    })
}

/// Returns the text before the NUL; `None` where there is no NUL, the text is not UTF-8, is empty,
/// or has control characters.
pub fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
}

/// Writes a text and a NUL. A text that is too long is cut.
fn put_text(text: &str, bytes: &mut [u8]) {
    let most = bytes.len() - 1;
    let end = (0..=text.len().min(most)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
    bytes[end] = 0;
}
