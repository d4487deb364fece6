//! A machine in forty lines, compared with the reference. docs/own-machine.md explains it.

use vmadiff::feedback::{self, Counters};
use vmadiff::machine::operand::{END_PAGES, Kind, MmapFlags, Mode, Page, Process, Prot};
use vmadiff::machine::{Errno, Limits, Machine, Observation, Op, Opcode, Program, VmFlags, Vma};
use vmadiff::oracle;
use vmadiff::random::Walk;
use vmadiff::reference::Reference;

/// A specification of `mmap` and `munmap` of private anonymous memory that was never touched: the
/// flags of each page, and `None` if nothing is mapped there.
struct Pages([Option<VmFlags>; END_PAGES]);

impl Machine for Pages {
    fn name(&self) -> &str {
        "pages"
    }

    fn has(&self, opcode: Opcode) -> bool {
        matches!(opcode, Opcode::Mmap | Opcode::Munmap)
    }

    fn reset(&mut self, _: &Limits) {
        self.0 = [None; END_PAGES];
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        seen.begin_step();
        let (page, len, flags) = match *op {
            Op::Mmap { page, len, prot, .. } => (page.get(), len.get(), Some(flags(prot.get()))),
            Op::Munmap { page, len, .. } => (page.get(), len.get(), None),
            _ => return seen.result = Err(Errno::ENOSYS),
        };
        if len.0 == 0 {
            return seen.result = Err(Errno::EINVAL);
        }
        self.0[usize::from(page.0)..usize::from(page.plus(len).0)].fill(flags);
        seen.result = Ok(if flags.is_some() { page.0 } else { 0 });
        let space = seen.rewrite(Process(0));
        space.alive = true;
        let mut end = Page(0);
        // A VMA is a longest run of pages with the same flags: the kernel merges such pages.
        for run in self.0.chunk_by(|a, b| a == b) {
            let (start, pages) = (end, run.len() as i64);
            end.0 += run.len() as u8;
            let Some(flags) = run[0] else { continue };
            let (pgoff, policy) = (start.linear_offset(), Mode::Default);
            space.push(Vma::new((start, end), pgoff, flags, None, None, None, policy, false), []);
            space.counters.map_count += 1;
            space.counters.total_vm += pages;
            space.counters.data_vm += if flags.contains(VmFlags::VM_WRITE) { pages } else { 0 };
        }
        seen.committed = seen.spaces[0].counters.data_vm;
    }
}

/// Returns the flags of a new mapping. Writable private memory is charged to committed memory.
fn flags(prot: Prot) -> VmFlags {
    let account = if prot.contains(Prot::W) { VmFlags::VM_ACCOUNT } else { VmFlags::empty() };
    let may = VmFlags::VM_MAYREAD | VmFlags::VM_MAYWRITE | VmFlags::VM_MAYEXEC;
    VmFlags::from_bits_truncate(prot.bits().into()) | may | account | VmFlags::VM_SOFTDIRTY
}

/// Returns the part of a program that the machine specifies.
fn specified(program: &Program) -> Program {
    let is_specified = |op: &&Op| match op {
        Op::Mmap { kind, flags, .. } => {
            kind.get() == Kind::AnonPrivate && flags.get() == MmapFlags::empty()
        }
        op => op.opcode() == Opcode::Munmap,
    };
    let ops = program.ops.iter().filter(|op| op.process() == Process(0)).filter(is_specified);
    Program { limits: Limits::default(), ops: ops.copied().collect() }
}

/// The counters of the situations that programs meet, for a fuzzing engine.
static COUNTERS: Counters = feedback::counters();

/// Runs random programs on the reference and on the machine, and panics with a report at the first
/// difference. Returns the number of operations.
pub(crate) fn compare(programs: usize) -> usize {
    oracle::prepare_machines(Reference::new(), Pages([None; END_PAGES]), &COUNTERS);
    let mut walk = Walk::new(0);
    let run = |_| {
        let program = specified(walk.step());
        oracle::check_or_panic(&program);
        program.ops.len()
    };
    (0..programs).map(run).sum()
}

#[allow(dead_code, reason = "a test has the example as a module")]
fn main() {
    println!("{} operations: the machines agree", compare(100_000));
}
