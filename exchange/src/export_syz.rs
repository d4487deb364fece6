//! The export to syzkaller's text form, for `syz-execprog` or a corpus.
//!
//! A syzkaller program is one process. Operations of process 0 become calls. A `fork` of process 0
//! becomes `syz_clone`, whose child sleeps a little and ends, so that the effects of fork on the
//! parent's mappings are there. Comments replace everything without a counterpart: operations of
//! other processes, copies (which were never merged), the device of [`Kind::Special`], and limits.
//! The last line has the number of the lines that are left out.
//!
//! An `mremap` with `MREMAP_MAYMOVE` alone stays as it is. The kernel may then choose an address
//! outside the arena, and later calls meet a hole in place of the program's mapping.
//!
//! The arena is the start of syzkaller's data area. The data area is mapped at the beginning, so
//! the arena is unmapped first. The memory for pointers lies beyond the arena. The values of flags
//! are those of x86-64.

use std::fmt::Write as _;

use vmadiff_machine::operand::{
    ARENA_PAGES, Access, Ctx, END_PAGES, File, Kind, Len, MmapFlags, Mode, Onfault, Page, Process,
    SHM_PAGES, ShmFlags,
};
use vmadiff_machine::{Limits, Op, Placement, Program};

use crate::export_c::harmless;
use crate::flags::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE,
    MAP_PRIVATE, MAP_SHARED, SHM_EXEC, SHM_RDONLY, SHM_REMAP,
};

/// The address of the data area in syzkaller's text form.
const DATA: u64 = 0x7f00_0000_0000;
const PAGE_SIZE: u64 = 4096;
/// The address of the memory for pointers: beyond the arena, with a hole between.
const POINTERS: u64 = DATA + 4 * END_PAGES as u64 * PAGE_SIZE;

const NO_FILE: &str = "0xffffffffffffffff";

fn bytes(len: Len) -> u64 {
    u64::from(len.0) * PAGE_SIZE
}

/// Returns a range of memory as an argument. A range without pages is written as one page, so that
/// the address is not lost.
fn vma(page: Page, len: Len) -> String {
    let length = bytes(len).max(PAGE_SIZE);
    format!("&(0x{:x}/0x{length:x})=nil", DATA + u64::from(page.0) * PAGE_SIZE)
}

/// Returns a range, and its length as the next argument.
fn range(page: Page, len: Len) -> String {
    format!("{}, 0x{:x}", vma(page, len), bytes(len))
}

/// The calls of a program, and the resources that the calls have made so far.
struct Calls {
    lines: Vec<String>,
    resources: usize,
    /// The three files of a program, in the order of [`Kind`]. A file is made before its first use.
    files: [Option<usize>; 3],
    /// The segment of SysV shared memory. It is made before its first use.
    segment: Option<usize>,
    /// The userfaultfd contexts of process 0.
    contexts: [Option<usize>; 2],
    /// The attachments of the segment, by the page of the call.
    attachments: [Option<usize>; ARENA_PAGES],
    left_out: usize,
}

impl Default for Calls {
    fn default() -> Calls {
        Calls {
            lines: Vec::new(),
            resources: 0,
            files: [None; 3],
            segment: None,
            contexts: [None; 2],
            attachments: [None; ARENA_PAGES],
            left_out: 0,
        }
    }
}

impl Calls {
    fn call(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Adds a call that makes a resource, and returns the number of the resource.
    fn make(&mut self, call: &str) -> usize {
        let resource = self.resources;
        self.resources += 1;
        self.call(format!("r{resource} = {call}"));
        resource
    }

    /// Makes a file in which all pages that a program can reach exist, and returns its number.
    fn file(&mut self, which: usize) -> usize {
        if let Some(file) = self.files[which] {
            return file;
        }
        // Two files are memfds. The third must have a name, because it is opened again for reading
        // only.
        let file = self.make(&match which {
            2 => format!("open(&(0x{POINTERS:x})='./file0\\x00', 0x42, 0x1ff)"),
            n => format!("memfd_create(&(0x{POINTERS:x})='file{n}\\x00', 0x0)"),
        });
        self.call(format!("ftruncate(r{file}, 0x1000000)"));
        self.call(format!("fallocate(r{file}, 0x0, 0x0, 0x200000)"));
        let file = match which {
            2 => self.make(&format!("open(&(0x{POINTERS:x})='./file0\\x00', 0x0, 0x0)")),
            _ => file,
        };
        self.files[which] = Some(file);
        file
    }

    fn context(&mut self, which: u8) -> usize {
        if let Some(context) = self.contexts[usize::from(which)] {
            return context;
        }
        let context = self.make("userfaultfd(0x80800)");
        self.call(format!(
            "ioctl$UFFDIO_API(r{context}, 0xc018aa3f, &(0x{POINTERS:x})={{0xaa, 0x0, 0x0}})"
        ));
        self.contexts[usize::from(which)] = Some(context);
        context
    }

    /// Returns the descriptor of a context that may be open.
    fn opened_context(&self, ctx: Ctx) -> String {
        match self.contexts[usize::from(ctx.0)] {
            Some(context) => format!("r{context}"),
            None => NO_FILE.into(),
        }
    }

    /// Makes the segment of SysV shared memory, and returns its number.
    fn segment(&mut self) -> usize {
        if let Some(segment) = self.segment {
            return segment;
        }
        let length = bytes(Len(SHM_PAGES));
        let area = DATA + 2 * END_PAGES as u64 * PAGE_SIZE;
        // IPC_PRIVATE; IPC_CREAT, and every access for the owner.
        let segment = self.make(&format!(
            "shmget$private(0x0, 0x{length:x}, 0x3c0, &(0x{area:x}/0x{length:x})=nil)"
        ));
        self.segment = Some(segment);
        segment
    }

    /// Adds a comment in place of an operation or limit without a counterpart.
    fn comment(&mut self, what: &impl std::fmt::Display, why: &str) {
        self.left_out += 1;
        self.call(format!("# {what}: {why}"));
    }

    fn mmap(&mut self, op: &Op) {
        let Op::Mmap { page, len, prot, kind, flags, pgoff, .. } = *op else { return };
        let (shared, file) = match kind.get() {
            Kind::AnonPrivate => (false, None),
            Kind::AnonShared => (true, None),
            Kind::File0Private => (false, Some(0)),
            Kind::File0Shared => (true, Some(0)),
            Kind::File1Private => (false, Some(1)),
            Kind::File1Shared => (true, Some(1)),
            Kind::ReadonlyShared => (true, Some(2)),
            Kind::Special => return self.comment(op, "no kernel has the device"),
        };
        let mut bits = if shared { MAP_SHARED } else { MAP_PRIVATE };
        for (given, bit) in [
            (file.is_none(), MAP_ANONYMOUS),
            (flags.get().contains(MmapFlags::FIXED_NOREPLACE), MAP_FIXED_NOREPLACE),
            (!flags.get().contains(MmapFlags::FIXED_NOREPLACE), MAP_FIXED),
            (flags.get().contains(MmapFlags::LOCKED), MAP_LOCKED),
            (flags.get().contains(MmapFlags::NORESERVE), MAP_NORESERVE),
            (flags.get().contains(MmapFlags::POPULATE), MAP_POPULATE),
        ] {
            bits |= if given { bit } else { 0 };
        }
        let (fd, offset) = match file {
            Some(which) => (format!("r{}", self.file(which)), pgoff.get().offset().0 * PAGE_SIZE),
            None => (NO_FILE.into(), 0),
        };
        let (range, prot) = (range(page.get(), len.get()), prot.get().bits());
        self.call(format!("mmap({range}, 0x{prot:x}, 0x{bits:x}, {fd}, 0x{offset:x})"));
    }

    fn operation(&mut self, op: &Op) {
        if op.process() != Process(0) {
            return self.comment(op, "of another process");
        }
        match *op {
            Op::Mmap { .. } => self.mmap(op),
            Op::Munmap { page, len, .. } => {
                self.call(format!("munmap({})", range(page.get(), len.get())));
            }
            Op::Mprotect { page, len, prot, .. } => {
                let (range, prot) = (range(page.get(), len.get()), prot.get().bits());
                self.call(format!("mprotect({range}, 0x{prot:x})"));
            }
            Op::Mremap { page, old_len, new_len, flags, new_page, .. } => {
                // The kernel reads the new address only with MREMAP_FIXED or MREMAP_DONTUNMAP.
                let to = match flags.get().placement() {
                    Placement::InPlace | Placement::InPlaceOrChosen => page.get(),
                    Placement::Given | Placement::Hint => new_page.get(),
                };
                self.call(format!(
                    "mremap({}, 0x{:x}, 0x{:x}, {})",
                    range(page.get(), old_len.get()),
                    bytes(new_len.get()),
                    flags.get().number(),
                    vma(to, new_len.get())
                ));
            }
            Op::Madvise { page, len, advice, .. } => {
                let (range, advice) = (range(page.get(), len.get()), advice.get().number());
                self.call(format!("madvise({range}, 0x{advice:x})"));
            }
            Op::Mlock { page, len, onfault, .. } => {
                let flags = u8::from(onfault.get() == Onfault::Yes);
                self.call(format!("mlock2({}, 0x{flags:x})", range(page.get(), len.get())));
            }
            Op::Munlock { page, len, .. } => {
                self.call(format!("munlock({})", range(page.get(), len.get())));
            }
            Op::Mbind { page, len, mode, .. } => {
                let nodes = match mode.get() {
                    Mode::Default => "0x0, 0x0".into(),
                    _ => format!("&(0x{POINTERS:x})=0x1, 0x40"),
                };
                let (range, mode) = (range(page.get(), len.get()), mode.get().number());
                self.call(format!("mbind({range}, 0x{mode:x}, {nodes}, 0x0)"));
            }
            // syzkaller has no plain accesses. A system call that writes or reads one byte makes
            // the access.
            Op::Touch { page, access, .. } => {
                let address = DATA + u64::from(page.get().0) * PAGE_SIZE;
                match access.get() {
                    Access::Write => {
                        self.call(format!("getrandom(&(0x{address:x})=\"\"/1, 0x1, 0x0)"));
                    }
                    Access::Read => {
                        let file = self.file(0);
                        self.call(format!("write(r{file}, &(0x{address:x}), 0x1)"));
                    }
                }
            }
            Op::UffdRegister { page, len, ctx, .. } | Op::UffdRegisterWp { page, len, ctx, .. } => {
                let mode = match op {
                    Op::UffdRegisterWp { mode, .. } => mode.get().number(),
                    // UFFDIO_REGISTER_MODE_MISSING.
                    _ => 1,
                };
                let context = self.context(ctx.get().0);
                self.call(format!(
                    "ioctl$UFFDIO_REGISTER(r{context}, 0xc020aa00, \
                     &(0x{POINTERS:x})={{{{{}}}, 0x{mode:x}, 0x0}})",
                    range(page.get(), len.get())
                ));
            }
            Op::UffdWriteprotect { page, len, ctx, mode, .. } => {
                let context = self.opened_context(ctx.get());
                self.call(format!(
                    "ioctl$UFFDIO_WRITEPROTECT({context}, 0xc018aa06, \
                     &(0x{POINTERS:x})={{{{{}}}, 0x{:x}}})",
                    range(page.get(), len.get()),
                    mode.get().number()
                ));
            }
            Op::UffdUnregister { page, len, ctx, .. } => {
                let context = self.opened_context(ctx.get());
                self.call(format!(
                    "ioctl$UFFDIO_UNREGISTER({context}, 0x8010aa01, &(0x{POINTERS:x})={{{}}})",
                    range(page.get(), len.get())
                ));
            }
            Op::Shmat { page, flags, .. } => {
                let segment = self.segment();
                let bits = [
                    (ShmFlags::RDONLY, SHM_RDONLY),
                    (ShmFlags::EXEC, SHM_EXEC),
                    (ShmFlags::REMAP, SHM_REMAP),
                ];
                let given = bits.iter().filter(|(flag, _)| flags.get().contains(*flag));
                let flags = given.fold(0, |bits, (_, bit)| bits | bit);
                let at = vma(page.get(), Len(SHM_PAGES));
                let attachment = self.make(&format!("shmat(r{segment}, {at}, 0x{flags:x})"));
                self.attachments[usize::from(page.get().0)] = Some(attachment);
            }
            // syzkaller names an attachment, not an address. The comment stands for a page at which
            // nothing was attached.
            Op::Shmdt { page, .. } => match self.attachments[usize::from(page.get().0)] {
                Some(attachment) => self.call(format!("shmdt(r{attachment})")),
                None => self.comment(op, "nothing was attached at the page"),
            },
            Op::ShmRmid { .. } => {
                let segment = self.segment();
                self.call(format!("shmctl$IPC_RMID(r{segment}, 0x0)"));
            }
            Op::Mlockall { flags, .. } => {
                self.call(format!("mlockall(0x{:x})", flags.get().bits()));
            }
            Op::Munlockall { .. } => self.call("munlockall()"),
            Op::Mseal { page, len, .. } => {
                self.call(format!("mseal({}, 0x0)", range(page.get(), len.get())));
            }
            Op::Ftruncate { file, length, .. } => {
                let which = match file.get() {
                    File::File0 => 0,
                    File::File1 => 1,
                    File::Readonly => 2,
                    File::Special => return self.comment(op, "no kernel has the device"),
                };
                let (file, length) = (self.file(which), u64::from(length.get().0) * PAGE_SIZE);
                self.call(format!("ftruncate(r{file}, 0x{length:x})"));
            }
            Op::Fork { .. } => self.call("syz_clone(0x11, 0x0, 0x0, 0x0, 0x0, 0x0)"),
            Op::Exit { .. } => self.comment(op, "the program would end"),
            Op::Prlimit { .. } => {
                self.comment(op, "the limit counts the memory of the executor, too")
            }
            Op::MemoryMerge { .. } => {
                self.comment(op, "the call marks the memory of the executor, too")
            }
            Op::UffdOpen { .. } => self.comment(op, "a context with events waits for a monitor"),
            Op::ClearRefs { .. } => self.comment(op, "a write to a file of /proc"),
            Op::Copy { .. } => self.comment(op, "process_vm_mmap() was never merged"),
            Op::CopyVma { .. } => self.comment(op, "copy_vma() is no system call"),
        }
    }
}

/// Returns the program for syzkaller. `name` is the program's name in the comment at the top,
/// usually its file's name; characters that do not belong in a comment become `_`.
pub fn export_syz(program: &Program, name: &str) -> String {
    let mut calls = Calls::default();
    // The arena ends with a hole, so nothing merges with the rest of the data area.
    let arena = (END_PAGES as u64 + 1) * PAGE_SIZE;
    calls.call(format!("munmap(&(0x{DATA:x}/0x{arena:x})=nil, 0x{arena:x})"));
    if program.limits != Limits::default() {
        calls.comment(&program.limits, "of the system or the process");
    }
    for op in &program.ops {
        calls.operation(op);
    }
    let mut text =
        format!("# {}: a program of vmadiff (`vmadiff export --syz`).\n", harmless(name));
    for line in &calls.lines {
        text.push_str(line);
        text.push('\n');
    }
    // Writing to a String does not fail.
    let lines = program.ops.len() + usize::from(program.limits != Limits::default());
    let _ = writeln!(text, "# {} of {lines} lines of the program are left out.", calls.left_out);
    text
}
