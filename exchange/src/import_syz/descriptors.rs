//! The resources of a program of syzkaller: files, userfaultfd contexts, and SysV shared memory.

use vmadiff_machine::operand::{
    Ctx, File, FileLength, Kind, Len, Page, Process, UffdMode, WriteprotectMode,
};
use vmadiff_machine::{Op, Part};

use super::PAGE_SIZE;
use super::arguments::{Arguments, Why, flatten};
use super::calls::{Calls, step};
use crate::syz::{Call, Value};

/// The object behind a resource.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Descriptor {
    File {
        file: usize,
        is_read_only: bool,
    },
    /// The context has its number from its first use.
    Context(usize),
    /// The segment of SysV shared memory.
    Segment,
    /// An attachment of the segment at this page.
    Attachment(u64),
}

const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

impl Calls {
    pub(super) fn descriptor(&self, value: &Value) -> Option<Descriptor> {
        match value {
            Value::Resource(number) => self.descriptors.get(number).copied(),
            _ => None,
        }
    }

    /// Remembers the resource that a call makes, and returns whether it makes one.
    pub(super) fn made(&mut self, call: &Call, descriptor: Descriptor) -> bool {
        let Some(number) = call.result else { return false };
        self.descriptors.insert(number, descriptor);
        true
    }

    pub(super) fn open(&mut self, call: &Call) -> bool {
        let args = Arguments(&call.arguments);
        // The position of the path and of the flags.
        let (path, flags) = match call.name.as_str() {
            "open" => (0, Some(1)),
            "openat" => (1, Some(2)),
            "creat" => (0, None),
            _ => (usize::MAX, None),
        };
        let path = match args.get(path) {
            Value::Pointer { value: Some(value), .. } => match &**value {
                Value::Data(path) => Some(path.clone()),
                _ => None,
            },
            _ => None,
        };
        let known = path
            .as_ref()
            .and_then(|path| self.paths.iter().position(|other| other.as_ref() == Some(path)));
        let file = known.unwrap_or(self.paths.len());
        if known.is_none() {
            self.paths.push(path);
        }
        const O_ACCMODE: u64 = 3;
        let is_read_only =
            flags.is_some_and(|at| args.number(at).is_ok_and(|flags| flags & O_ACCMODE == 0));
        self.made(call, Descriptor::File { file, is_read_only })
    }

    /// Returns the kind of a mapping of a file. A program has two files; further files share them.
    pub(super) fn kind_of(&mut self, value: &Value, is_shared: bool) -> Result<Kind, Why> {
        let Some(Descriptor::File { file, is_read_only }) = self.descriptor(value) else {
            return Err("no file of the program".into());
        };
        if is_read_only && is_shared {
            return Ok(Kind::ReadonlyShared);
        }
        let known = self.mapped_files.iter().position(|other| *other == file);
        let which = known.unwrap_or_else(|| {
            self.mapped_files.push(file);
            self.mapped_files.len() - 1
        });
        Ok(match (which % 2, is_shared) {
            (0, false) => Kind::File0Private,
            (0, true) => Kind::File0Shared,
            (_, false) => Kind::File1Private,
            (_, true) => Kind::File1Shared,
        })
    }

    /// Reads an `ftruncate`, and returns whether it is used. A file of a program cannot get longer than the
    /// longest operand.
    pub(super) fn ftruncate(&mut self, at: usize, args: Arguments<'_>) -> Result<bool, Why> {
        let Some(Descriptor::File { .. }) = self.descriptor(args.get(0)) else { return Ok(false) };
        let length = args.number(1)?;
        let Ok(pages) = u8::try_from(length / PAGE_SIZE) else { return Ok(false) };
        if length % PAGE_SIZE != 0 {
            return Err("a length inside a page".into());
        }
        let file = match self.kind_of(args.get(0), true)? {
            Kind::ReadonlyShared => File::Readonly,
            Kind::File0Shared => File::File0,
            _ => File::File1,
        };
        let (process, length) = (Process(0).into(), FileLength(pages).into());
        self.steps.push(step(at, Op::Ftruncate { process, file: file.into(), length }, &[]));
        Ok(true)
    }

    pub(super) fn ioctl(&mut self, at: usize, call: &Call) -> Result<bool, Why> {
        let args = Arguments(&call.arguments);
        let command = args.number(1).unwrap_or_default();
        if command == UFFDIO_API {
            return Ok(matches!(self.descriptor(args.get(0)), Some(Descriptor::Context(_))));
        }
        if ![UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_WRITEPROTECT].contains(&command) {
            return Ok(false);
        }
        let mut leaves = Vec::new();
        if let Value::Pointer { value: Some(value), .. } = args.get(2) {
            flatten(value, &mut leaves);
        }
        let argument = Arguments(&leaves);
        let range = argument.range(0)?;
        let (process, page, len) = (Process(0).into(), Page(0).into(), Len(0).into());
        let known = match self.descriptor(args.get(0)) {
            Some(Descriptor::Context(context)) => {
                Some((context, self.used_contexts.iter().position(|used| *used == context)))
            }
            _ => None,
        };
        let op = if command == UFFDIO_REGISTER {
            let mode = argument.number(2)?;
            let write_protect =
                UffdMode::ALL.iter().find(|known| u64::from(known.number()) == mode);
            if write_protect.is_none() && mode != UFFDIO_REGISTER_MODE_MISSING {
                return Err("an unknown mode of UFFDIO_REGISTER".into());
            }
            let ctx = match known {
                Some((_, Some(ctx))) => ctx,
                Some((context, None)) => {
                    self.used_contexts.push(context);
                    self.used_contexts.len() - 1
                }
                None => return Err("no userfaultfd of the program".into()),
            };
            if ctx > 1 {
                return Err("a third userfaultfd".into());
            }
            let ctx = Ctx(ctx as u8).into();
            match write_protect {
                Some(&mode) => Op::UffdRegisterWp { process, page, len, ctx, mode: mode.into() },
                None => Op::UffdRegister { process, page, len, ctx },
            }
        } else {
            let ctx = match known {
                Some((_, Some(ctx))) => ctx,
                // No context: the call fails like a call with a context that was never opened.
                None if self.used_contexts.len() < 2 => self.used_contexts.len(),
                _ => return Err("a userfaultfd that watches nothing".into()),
            };
            let ctx = Ctx(ctx as u8).into();
            if command == UFFDIO_WRITEPROTECT {
                let mode = argument.number(2)?;
                let known =
                    WriteprotectMode::ALL.iter().find(|known| u64::from(known.number()) == mode);
                let Some(&mode) = known else {
                    return Err("an unknown mode of UFFDIO_WRITEPROTECT".into());
                };
                Op::UffdWriteprotect { process, page, len, ctx, mode: mode.into() }
            } else {
                Op::UffdUnregister { process, page, len, ctx }
            }
        };
        self.steps.push(step(at, op, &[(Part::Target, range)]));
        Ok(true)
    }
}
