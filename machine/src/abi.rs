//! The C interface of a machine: the Rust twin of `include/vmadiff.h`, which documents each field.
//!
//! - The types here have the layout of the header's types. A test compiles the header and compares
//!   both.
//! - [`Observation::write`] is the library's side: writes a machine's observation.
//! - [`Observation::read`] is the loader's side: checks every field before the field is used.
//! - [`export_machine!`](crate::export_machine) makes a shared library of a Rust machine.
//!
//! A new field of an observation must be added to the header, to the type here, to `write` and to
//! `read`, and needs a new [`VERSION`].

mod export;
mod hidden;
mod read;
mod write;

use bytemuck::{Pod, Zeroable};

pub use export::Exported;
pub use hidden::{
    AnonPage, AnonVma, COUNTED_CONTEXT, COUNTED_FILE, COUNTED_MM, COUNTED_MM_USERS, COUNTED_POLICY,
    Hidden, MAX_ANON_VMAS, MAX_PAGES, MAX_REFERENCES, NOT_COUNTED, NOT_MODELLED, Pte, References,
};

use crate::observation::ProcessSet;
use crate::op::{MAX_OPERANDS, Opcode};
use crate::operand::{END_PAGES, MAX_PROCESSES};
use crate::program::Limits;

/// `VMADIFF_ABI_VERSION`.
pub const VERSION: u32 = 4;
/// `VMADIFF_MAX_VMAS`: one VMA a page.
pub const MAX_VMAS: usize = END_PAGES;
/// `VMADIFF_MAX_CHAIN`.
pub const MAX_CHAIN: usize = 8192;
/// `VMADIFF_MAX_EVENTS`: one event for each page of each process, and 64 more.
pub const MAX_EVENTS: usize = MAX_PROCESSES * END_PAGES + 64;
/// `VMADIFF_MAX_MESSAGES`: four for each VMA that an operation can visit.
pub const MAX_MESSAGES: usize = 256;
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

/// `VMADIFF_READ`.
pub const READ: u32 = 256;

/// `VMADIFF_USE_AFTER_FREE`.
pub const USE_AFTER_FREE: u32 = 0;
/// `VMADIFF_BUG_ON`.
pub const BUG_ON: u32 = 1;
/// `VMADIFF_WARN_ON`.
pub const WARN_ON: u32 = 2;
/// `VMADIFF_UNREACHABLE_PAGE`.
pub const UNREACHABLE_PAGE: u32 = 3;

/// `VMADIFF_DEADLOCK`.
pub const DEADLOCK: u32 = 4;
/// `VMADIFF_LOCK_HELD`.
pub const LOCK_HELD: u32 = 5;

/// `VMADIFF_MESSAGE_FORK`.
pub const MESSAGE_FORK: u32 = 1;
/// `VMADIFF_MESSAGE_REMAP`.
pub const MESSAGE_REMAP: u32 = 2;
/// `VMADIFF_MESSAGE_REMOVE`.
pub const MESSAGE_REMOVE: u32 = 3;
/// `VMADIFF_MESSAGE_UNMAP`.
pub const MESSAGE_UNMAP: u32 = 4;

/// `VMADIFF_DESTROYED`: the value of [`Observation::attached`] for a segment that was destroyed.
pub const DESTROYED: i64 = i64::MAX;

/// A value that no field may have. The loader puts it into the fields that the library has to
/// write.
const UNWRITTEN: u32 = u32::MAX;

/// `struct vmadiff_op`. Operands are indices in their range, in the order of the text form
/// ([`Op::values`](crate::Op::values)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Op {
    /// The number of the operation.
    pub opcode: u8,
    /// The operands.
    pub operands: [u8; MAX_OPERANDS],
}

impl From<&crate::Op> for Op {
    #[inline]
    fn from(op: &crate::Op) -> Op {
        Op { opcode: op.opcode() as u8, operands: op.values() }
    }
}

impl Op {
    /// Returns the operation as a Rust value; `None` if no operation has this number.
    #[inline]
    pub fn to_op(&self) -> Option<crate::Op> {
        Some(crate::Op::from_bytes(Opcode::from_number(self.opcode)?, self.operands))
    }
}

/// `struct vmadiff_limits`, in the order of [`Limits::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RawLimits {
    /// The largest number of VMAs of a process, or [`NO_LIMIT`].
    pub map_count: u32,
    /// The largest number of mapped pages of a process, or [`NO_LIMIT`].
    pub address_space: u32,
    /// The largest number of locked pages of a process, or [`NO_LIMIT`].
    pub lock: u32,
    /// The largest number of processes at one time, or [`NO_LIMIT`].
    pub processes: u32,
    /// The allocation that fails, counted from 1, or [`NO_LIMIT`].
    pub fail: u32,
}

impl From<&Limits> for RawLimits {
    fn from(limits: &Limits) -> RawLimits {
        let [map_count, address_space, lock, processes, fail] =
            limits.to_array().map(|limit| limit.map_or(NO_LIMIT, u32::from));
        RawLimits { map_count, address_space, lock, processes, fail }
    }
}

impl From<&RawLimits> for Limits {
    /// Returns the limits. A number above 255 is no limit, because no program reaches it.
    fn from(limits: &RawLimits) -> Limits {
        let RawLimits { map_count, address_space, lock, processes, fail } = *limits;
        let limits = [map_count, address_space, lock, processes, fail];
        Limits::from_array(limits.map(|limit| u8::try_from(limit).ok()))
    }
}

/// `struct vmadiff_vma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Vma {
    /// The page offset, in pages.
    pub pgoff: u64,
    /// The bits of [`VmFlags`](crate::VmFlags).
    pub flags: u32,
    /// The object number of the anon_vma, or 0.
    pub anon_vma: u32,
    /// The object number of the file, or 0.
    pub file: u32,
    /// The object number of the userfaultfd context, or 0.
    pub uffd: u32,
    /// The number of the VMA's entries in [`Space::chain`].
    pub chain_count: u32,
    /// The first page.
    pub start: u8,
    /// One past the last page.
    pub end: u8,
    /// The index of a [`Mode`](crate::operand::Mode).
    pub policy: u8,
    /// 1 if the VMA has a `vm_ops->close` handler, otherwise 0.
    pub close: u8,
}

/// `struct vmadiff_space`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Space {
    /// The counter `total_vm`, in pages.
    pub total_vm: i64,
    /// The counter `locked_vm`, in pages.
    pub locked_vm: i64,
    /// The counter `data_vm`, in pages.
    pub data_vm: i64,
    /// The counter `map_count`, in VMAs.
    pub map_count: i64,
    /// The set of anonymous pages, the low half first.
    pub anon_pages: [u64; 2],
    /// A set of pages, the low half first.
    pub zero_pages: [u64; 2],
    /// A set of pages, the low half first.
    pub writable_ptes: [u64; 2],
    /// 0 or 1.
    pub alive: u32,
    /// The number of VMAs, at most [`MAX_VMAS`].
    pub vma_count: u32,
    /// The number of chain entries of all VMAs, at most [`MAX_CHAIN`].
    pub chain_count: u32,
    /// Always 0.
    pub reserved: u32,
    /// The object number of the anonymous page that each page of `anon_pages` maps.
    pub page_ids: [u32; END_PAGES],
    /// The VMAs, in address order.
    pub vmas: [Vma; MAX_VMAS],
    /// The object numbers of the chain entries, VMA by VMA.
    pub chain: [u32; MAX_CHAIN],
}

/// `struct vmadiff_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Event {
    /// The kind: [`USE_AFTER_FREE`], [`BUG_ON`], [`WARN_ON`], [`UNREACHABLE_PAGE`], [`DEADLOCK`] or
    /// [`LOCK_HELD`].
    pub kind: u32,
    /// The index of an [`Object`](crate::Object).
    pub object: u32,
    /// The index of a process.
    pub process: u32,
    /// A page number.
    pub page: u32,
    /// The name of the kernel function, then a NUL.
    pub function: [u8; FUNCTION_BYTES],
    /// The field or the condition, then a NUL.
    pub text: [u8; TEXT_BYTES],
}

/// `struct vmadiff_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Message {
    /// The kind: [`MESSAGE_FORK`], [`MESSAGE_REMAP`], [`MESSAGE_REMOVE`] or [`MESSAGE_UNMAP`].
    pub kind: u32,
    /// The object number of the context.
    pub ctx: u32,
    /// The object number of the child's context of a fork, or 0.
    pub child: u32,
    /// The first page of the range.
    pub start: u32,
    /// One past the last page of the range.
    pub end: u32,
    /// The page to which a range was moved.
    pub to: u32,
}

/// `struct vmadiff_observation`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Observation {
    /// 0, or the number of an [`Errno`](crate::Errno).
    pub error: u32,
    /// The result: a page, the index of a process, or 0.
    pub value: u32,
    /// The answer of `copy_vma()`: 0, or [`COPIED`] and the bits that follow it.
    pub copy: u32,
    /// The set of processes whose address spaces are written.
    pub changed: u32,
    /// The committed memory, in pages.
    pub committed: i64,
    /// `shm_nattch` of the segment, or [`DESTROYED`].
    pub attached: i64,
    /// The number of events, at most [`MAX_EVENTS`].
    pub event_count: u32,
    /// Calls of `vm_ops->open`.
    pub opens: u32,
    /// Calls of `vm_ops->close`.
    pub closes: u32,
    /// 0, or [`READ`] and the value that `touch` has read.
    pub read: u32,
    /// 0, or the number of the [`Allocation`](crate::Allocation) that failed.
    pub failed: u32,
    /// The number of messages, at most [`MAX_MESSAGES`].
    pub message_count: u32,
    /// The messages, in the order in which they are sent.
    pub messages: [Message; MAX_MESSAGES],
    /// The events, in the order in which they happened.
    pub events: [Event; MAX_EVENTS],
    /// The address spaces, by the index of the process.
    pub spaces: [Space; MAX_PROCESSES],
}

impl Observation {
    /// Returns a buffer for observations, on the heap. The buffer has half a megabyte, and most of
    /// it is never touched.
    pub fn new() -> Box<Observation> {
        let mut seen: Box<Observation> = bytemuck::zeroed_box();
        seen.forget_all();
        seen
    }

    /// Marks all fields that have to be written as not written, also in the address spaces. For a
    /// buffer with unknown contents.
    pub fn forget_all(&mut self) {
        self.forget();
        self.spaces.iter_mut().for_each(Space::forget);
    }

    /// Marks the fields that every operation has to write as not written. The loader calls this
    /// before each step. [`Observation::read`] then finds a field that the library did not write.
    #[inline]
    pub fn forget(&mut self) {
        (self.error, self.value, self.copy) = (UNWRITTEN, UNWRITTEN, UNWRITTEN);
        (self.changed, self.event_count, self.read) = (UNWRITTEN, UNWRITTEN, UNWRITTEN);
        (self.opens, self.closes) = (UNWRITTEN, UNWRITTEN);
        (self.failed, self.message_count) = (UNWRITTEN, UNWRITTEN);
        (self.committed, self.attached) = (i64::MIN, i64::MIN);
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

/// Returns the processes of a set, by index.
#[inline]
fn members(mut set: ProcessSet) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let process = (set != 0).then_some(set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(process)
    })
}

/// Returns the text before the NUL; `None` if there is no NUL, or the text is empty, is not UTF-8
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
