//! The arguments of a call of syzkaller, read as the call's own types.

use super::step::Span;
use super::{DATA, DATA_PAGES, PAGE_SIZE};
use crate::flags::{Flag, value};
use crate::syz::Value;

/// The reason why a call is left out.
pub(super) type Why = String;

/// The arguments of a call. A missing argument is 0, as in syzkaller.
#[derive(Clone, Copy)]
pub(super) struct Arguments<'a>(pub(super) &'a [Value]);

fn unknown<T>(value: Option<T>) -> Result<T, Why> {
    value.ok_or_else(|| "not understood".into())
}

/// Returns the address in the data area of a value; `None` for another value.
pub(super) fn address(value: &Value) -> Option<u64> {
    match value {
        Value::Pointer { address, .. } => {
            address.as_ref()?.checked_sub(DATA).filter(|at| *at < DATA_PAGES * PAGE_SIZE)
        }
        _ => None,
    }
}

/// Returns the number of pages of a length in bytes; `None` if it wraps around (`PAGE_ALIGN()`).
fn pages(bytes: u64) -> Option<u64> {
    Some(bytes.checked_add(PAGE_SIZE - 1)? / PAGE_SIZE)
}

impl<'a> Arguments<'a> {
    pub(super) fn get(self, at: usize) -> &'a Value {
        self.0.get(at).unwrap_or(&Value::Number(0))
    }

    pub(super) fn number(self, at: usize) -> Result<u64, Why> {
        unknown(match self.get(at) {
            Value::Number(number) => Some(*number),
            Value::Nil => Some(0),
            _ => None,
        })
    }

    /// Returns flags that are given as a number or by names.
    pub(super) fn flags(self, at: usize, flags: &[Flag]) -> Result<u64, Why> {
        match self.get(at) {
            Value::Names(names) => {
                unknown(names.split('|').try_fold(0, |all, name| Some(all | value(flags, name)?)))
            }
            _ => self.number(at),
        }
    }

    /// Returns the number of a value that is given as a number or by a name with a prefix.
    pub(super) fn named(
        self,
        at: usize,
        prefix: &str,
        number: impl Fn(&str) -> Option<u32>,
    ) -> Result<u64, Why> {
        match self.get(at) {
            Value::Names(name) => {
                unknown(name.strip_prefix(prefix).and_then(number).map(u64::from))
            }
            _ => self.number(at),
        }
    }

    /// Returns the address in bytes from the start of the data area.
    pub(super) fn address(self, at: usize) -> Result<u64, Why> {
        address(self.get(at)).ok_or_else(|| "an address outside the data area".into())
    }

    /// Returns the page of an address. The kernel refuses an address inside a page.
    pub(super) fn page(self, at: usize) -> Result<u64, Why> {
        let address = self.address(at)?;
        match address % PAGE_SIZE {
            0 => Ok(address / PAGE_SIZE),
            _ => Err("an address inside a page".into()),
        }
    }

    /// Returns a range whose address and length are the arguments `at` and `at + 1`.
    pub(super) fn range(self, at: usize) -> Result<Span, Why> {
        let len = pages(self.number(at + 1)?).ok_or("a length that wraps around")?;
        span(self.page(at)?, len)
    }

    /// Returns the range of a call that takes all pages of the bytes (`mlock()`).
    pub(super) fn rounded(self, at: usize) -> Result<Span, Why> {
        let (address, len) = (self.address(at)?, self.number(at + 1)?);
        let end = len.checked_add(address % PAGE_SIZE).and_then(pages);
        span(address / PAGE_SIZE, end.ok_or("a length that wraps around")?)
    }

    /// Returns the old range of `mremap()`. A length that wraps around is 0.
    pub(super) fn old_range(self) -> Result<Span, Why> {
        span(self.page(0)?, pages(self.number(1)?).unwrap_or(0))
    }

    /// Returns the new range of `mremap()` at `page`.
    pub(super) fn new_range(self, page: u64) -> Result<Span, Why> {
        span(page, pages(self.number(2)?).ok_or("a length that wraps around")?)
    }
}

fn span(start: u64, len: u64) -> Result<Span, Why> {
    match start < DATA_PAGES && len <= DATA_PAGES - start {
        true => Ok(Span { start, len }),
        false => Err("a range that leaves the data area".into()),
    }
}

/// Collects the values of a structure and of the structures in it.
pub(super) fn flatten(value: &Value, leaves: &mut Vec<Value>) {
    match value {
        Value::Parts(parts) => parts.iter().for_each(|part| flatten(part, leaves)),
        value => leaves.push(value.clone()),
    }
}
