//! The calls of a program of syzkaller, one after the other: the steps that they become.

use std::collections::BTreeMap;

use vmadiff_machine::operand::{
    Access, Advice, FilePage, Kind, Len, MAX_PROCESSES, MlockallFlags, MmapFlags, Mode,
    MremapFlags, Onfault, Page, Process, Prot,
};
use vmadiff_machine::{Op, Part, Placement};

use super::arguments::{Arguments, Why, address, flatten};
use super::descriptors::Descriptor;
use super::step::{Cause, Span, Step};
use super::{DATA_PAGES, PAGE_SIZE};
use crate::flags as f;
use crate::syz::{Call, Value};

/// The result of a call.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// The call is in the program.
    Taken,
    /// The call could be in the program, but it is not, for this reason.
    LeftOut(Why),
    /// The call changes no memory of the data area.
    NotUsed,
}

const NO_FILE: u64 = u64::MAX;

/// The calls that were read, and the state that later calls need.
pub(super) struct Calls {
    pub(super) steps: Vec<Step>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) descriptors: BTreeMap<u32, Descriptor>,
    /// The paths of files, by the number of the file. A memfd has no path.
    pub(super) paths: Vec<Option<String>>,
    /// The files that are mapped, in the order of the first mapping.
    pub(super) mapped_files: Vec<usize>,
    pub(super) contexts: usize,
    /// The contexts that watch or watched memory, in the order of their first use.
    pub(super) used_contexts: Vec<usize>,
    /// The pages of the data area that are mapped if every call succeeds.
    is_mapped: Vec<bool>,
    forks: usize,
    /// The program has made its segment of SysV shared memory.
    pub(super) has_segment: bool,
}

/// Returns an operation of process 0 on a range, and its step.
pub(super) fn step(call: usize, op: Op, ranges: &[(Part, Span)]) -> Step {
    Step { op, ranges: ranges.to_vec(), offset: None, cause: Cause::Call(call) }
}

impl Calls {
    /// Reads all calls.
    pub(super) fn of(calls: &[Call]) -> Calls {
        let mut read = Calls {
            steps: Vec::new(),
            verdicts: Vec::new(),
            descriptors: BTreeMap::new(),
            paths: Vec::new(),
            mapped_files: Vec::new(),
            contexts: 0,
            used_contexts: Vec::new(),
            is_mapped: vec![true; DATA_PAGES as usize],
            forks: 0,
            has_segment: false,
        };
        for (at, call) in calls.iter().enumerate() {
            for argument in &call.arguments {
                read.write_pointers(argument);
            }
            let verdict = match read.call(at, call) {
                Ok(true) => Verdict::Taken,
                Ok(false) => Verdict::NotUsed,
                Err(why) => Verdict::LeftOut(why),
            };
            read.verdicts.push(verdict);
        }
        read
    }

    /// Adds the writes of the values of pointers, which syzkaller makes before the call.
    fn write_pointers(&mut self, value: &Value) {
        match value {
            Value::Pointer { value: Some(inner), .. } => {
                self.write_pointers(inner);
                // Data without bytes is room for the kernel's answer.
                let is_written = match &**inner {
                    Value::Nil => false,
                    Value::Data(data) => !data.is_empty(),
                    Value::Parts(parts) => !parts.is_empty(),
                    _ => true,
                };
                if let Some(at) = address(value).filter(|_| is_written) {
                    self.access(at / PAGE_SIZE, Access::Write, Cause::Implied);
                }
            }
            Value::Parts(parts) => parts.iter().for_each(|part| self.write_pointers(part)),
            _ => {}
        }
    }

    fn access(&mut self, page: u64, access: Access, cause: Cause) {
        let page = Span { start: page, len: 1 };
        let op =
            Op::Touch { process: Process(0).into(), page: Page(0).into(), access: access.into() };
        self.steps.push(Step { op, ranges: vec![(Part::Target, page)], offset: None, cause });
    }

    pub(super) fn set_mapped(&mut self, span: Span, is_mapped: bool) {
        self.is_mapped[span.start as usize..span.end() as usize].fill(is_mapped);
    }

    /// Reads a call, and returns whether it is used.
    fn call(&mut self, at: usize, call: &Call) -> Result<bool, Why> {
        let args = Arguments(&call.arguments);
        let (process, page, len) = (Process(0).into(), Page(0).into(), Len(0).into());
        let target = |span| [(Part::Target, span)];
        match call.name.as_str() {
            "mmap" => self.mmap(at, args)?,
            "munmap" => {
                let span = args.range(0)?;
                self.set_mapped(span, false);
                self.steps.push(step(at, Op::Munmap { process, page, len }, &target(span)));
            }
            "mprotect" | "pkey_mprotect" => {
                if call.name == "pkey_mprotect" && args.number(3)? != NO_FILE {
                    return Err("a protection key".into());
                }
                let prot = args.flags(2, f::PROT)?;
                let span = args.range(0)?;
                if prot & !0xf != 0 {
                    return Err("a protection that is refused".into());
                }
                let prot = Prot::from_bits_truncate(prot as u8).into();
                self.steps.push(step(at, Op::Mprotect { process, page, len, prot }, &target(span)));
            }
            "mremap" => self.mremap(at, args)?,
            "madvise" => {
                let named =
                    |name: &str| Advice::ALL.iter().find(|a| a.name() == name).map(|a| a.number());
                let number = args.named(2, "MADV_", named)?;
                let advice = Advice::ALL.iter().find(|a| u64::from(a.number()) == number);
                let advice = *advice.ok_or_else(|| format!("advice {number}"))?;
                let op = Op::Madvise { process, page, len, advice: advice.into() };
                self.steps.push(step(at, op, &target(args.range(0)?)));
            }
            "mlock" | "mlock2" => {
                let onfault = match (call.name.as_str(), args.flags(2, f::MLOCK)) {
                    ("mlock", _) | (_, Ok(0)) => Onfault::No,
                    (_, Ok(f::MLOCK_ONFAULT)) => Onfault::Yes,
                    _ => return Err("flags that are refused".into()),
                };
                let op = Op::Mlock { process, page, len, onfault: onfault.into() };
                self.steps.push(step(at, op, &target(args.rounded(0)?)));
            }
            "munlock" => {
                let op = Op::Munlock { process, page, len };
                self.steps.push(step(at, op, &target(args.rounded(0)?)));
            }
            "mlockall" => {
                let flags = u8::try_from(args.flags(0, f::MCL)?).ok();
                let flags = flags.and_then(MlockallFlags::from_bits);
                let flags = flags.ok_or("flags that are refused")?.into();
                self.steps.push(step(at, Op::Mlockall { process, flags }, &[]));
            }
            "munlockall" => self.steps.push(step(at, Op::Munlockall { process }, &[])),
            "mseal" => {
                if args.number(2)? != 0 {
                    return Err("flags that are refused".into());
                }
                let op = Op::Mseal { process, page, len };
                self.steps.push(step(at, op, &target(args.range(0)?)));
            }
            "ftruncate" => return self.ftruncate(at, args),
            "mbind" => self.mbind(at, args)?,
            "shmget" | "shmat" | "shmdt" | "shmctl" => return self.segment(at, call),
            "userfaultfd" => {
                let context = Descriptor::Context(self.contexts);
                self.contexts += 1;
                return Ok(self.made(call, context));
            }
            "ioctl" => return self.ioctl(at, call),
            "dup" => {
                let Some(copied) = self.descriptor(args.get(0)) else { return Ok(false) };
                return Ok(self.made(call, copied));
            }
            "open" | "openat" | "creat" | "memfd_create" if call.variant.is_empty() => {
                return Ok(self.open(call));
            }
            "getrandom" if args.number(1).is_ok_and(|len| len > 0) => {
                let page = args.address(0)? / PAGE_SIZE;
                self.access(page, Access::Write, Cause::Call(at));
            }
            "write" if matches!(self.descriptor(args.get(0)), Some(Descriptor::File { .. })) => {
                let page = args.address(1)? / PAGE_SIZE;
                self.access(page, Access::Read, Cause::Call(at));
            }
            "fork" | "vfork" | "clone" | "syz_clone" | "clone3" | "syz_clone3" => {
                self.fork(at, call)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn mmap(&mut self, at: usize, args: Arguments<'_>) -> Result<(), Why> {
        let bits = args.flags(3, f::MAP)?;
        let has = |flag| bits & flag != 0;
        if has(f::MAP_HUGETLB | f::MAP_GROWSDOWN) {
            return Err("MAP_HUGETLB or MAP_GROWSDOWN".into());
        }
        let is_shared = match bits & f::MAP_TYPE {
            f::MAP_PRIVATE => false,
            f::MAP_SHARED | 0x3 => true,
            _ => return Err("neither shared nor private".into()),
        };
        let prot = Prot::from_bits_truncate(args.flags(2, f::PROT)? as u8 & 7);
        let chosen = "an address that the kernel chooses";
        if !has(f::MAP_FIXED | f::MAP_FIXED_NOREPLACE) && args.number(0) == Ok(0) {
            return Err(chosen.into());
        }
        let span = args.range(0)?;
        let pages = span.start as usize..span.end() as usize;
        let is_free = !self.is_mapped[pages].contains(&true);
        if !has(f::MAP_FIXED | f::MAP_FIXED_NOREPLACE) && !is_free {
            return Err(chosen.into());
        }
        let (kind, offset) = match has(f::MAP_ANONYMOUS) {
            true if is_shared => (Kind::AnonShared, None),
            true => (Kind::AnonPrivate, None),
            false => {
                let offset = args.number(5)?;
                if offset % PAGE_SIZE != 0 {
                    return Err("an offset inside a page".into());
                }
                (self.kind_of(args.get(4), is_shared)?, Some(offset / PAGE_SIZE))
            }
        };
        let mut flags = MmapFlags::empty();
        flags.set(MmapFlags::NORESERVE, has(f::MAP_NORESERVE));
        flags.set(MmapFlags::LOCKED, has(f::MAP_LOCKED));
        flags.set(MmapFlags::FIXED_NOREPLACE, has(f::MAP_FIXED_NOREPLACE));
        flags.set(MmapFlags::POPULATE, has(f::MAP_POPULATE) && !has(f::MAP_NONBLOCK));
        let op = Op::Mmap {
            process: Process(0).into(),
            page: Page(0).into(),
            len: Len(0).into(),
            prot: prot.into(),
            kind: kind.into(),
            flags: flags.into(),
            pgoff: FilePage::first(0).into(),
        };
        self.steps.push(Step { offset, ..step(at, op, &[(Part::Destination, span)]) });
        self.set_mapped(span, true);
        Ok(())
    }

    fn mremap(&mut self, at: usize, args: Arguments<'_>) -> Result<(), Why> {
        let number = args.flags(3, f::MREMAP)?;
        let flags = MremapFlags::ALL.iter().find(|flags| u64::from(flags.number()) == number);
        let flags = *flags.ok_or("flags that are refused")?;
        let old = args.old_range()?;
        let new = match flags.placement() {
            Placement::InPlace | Placement::InPlaceOrChosen => args.new_range(old.start)?,
            Placement::Given | Placement::Hint => args.new_range(args.page(4)?)?,
        };
        if !flags.keeps_source() {
            self.set_mapped(old, false);
        }
        self.set_mapped(new, true);
        let op = Op::Mremap {
            process: Process(0).into(),
            page: Page(0).into(),
            old_len: Len(0).into(),
            new_len: Len(0).into(),
            flags: flags.into(),
            new_page: Page(0).into(),
        };
        let ranges = [(Part::Source, old), (Part::Destination, new)];
        self.steps.push(step(at, op, &ranges));
        Ok(())
    }

    fn mbind(&mut self, at: usize, args: Arguments<'_>) -> Result<(), Why> {
        let named = |name: &str| Mode::ALL.iter().find(|m| m.name() == name).map(|m| m.number());
        let number = args.named(2, "MPOL_", named)?;
        let mode = *Mode::ALL
            .iter()
            .find(|mode| u64::from(mode.number()) == number)
            .ok_or_else(|| format!("mode {number:#x}"))?;
        let nodes = match args.get(3) {
            Value::Pointer { value: Some(nodes), .. } => match **nodes {
                Value::Number(nodes) => nodes,
                _ => 0,
            },
            _ => 0,
        };
        // Every computer has node 0, and the computer of a program has no other node.
        if mode != Mode::Default && nodes != 1 {
            return Err("nodes other than node 0".into());
        }
        if args.number(5)? != 0 {
            return Err("flags that move pages".into());
        }
        let (process, page, len) = (Process(0).into(), Page(0).into(), Len(0).into());
        let op = Op::Mbind { process, page, len, mode: mode.into() };
        self.steps.push(step(at, op, &[(Part::Target, args.range(0)?)]));
        Ok(())
    }

    fn fork(&mut self, at: usize, call: &Call) -> Result<(), Why> {
        let args = Arguments(&call.arguments);
        let flags = match call.name.as_str() {
            "fork" => 0,
            "vfork" => f::CLONE_VM,
            "clone3" | "syz_clone3" => {
                let mut leaves = Vec::new();
                if let Value::Pointer { value: Some(value), .. } = args.get(0) {
                    flatten(value, &mut leaves);
                }
                Arguments(&leaves).flags(0, f::CLONE)?
            }
            _ => args.flags(0, f::CLONE)?,
        };
        if flags & f::CLONE_VM != 0 {
            return Err("a child in the same address space".into());
        }
        self.forks += 1;
        if self.forks >= MAX_PROCESSES {
            return Err("more children than processes".into());
        }
        self.steps.push(step(at, Op::Fork { process: Process(0).into() }, &[]));
        Ok(())
    }
}
