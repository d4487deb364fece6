//! No program ends the harness, and at `original` and `fixed` no program makes the kernel complain.

mod common;

use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};
use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::op::MAX_OPERANDS;
use vmadiff_machine::{Limits, Machine, Observation, Op, Opcode, VmFlags};

/// Random operations, the same on every machine.
struct Random(Pcg32);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0.next_u32() % bound
    }

    /// An operation. Where not `wide`, its operands are such that ranges meet and most calls
    /// succeed.
    fn op(&mut self, wide: bool) -> Op {
        let opcode = match self.below(4) {
            0 if !wide => Opcode::Mmap,
            _ => Opcode::ALL[self.below(Opcode::ALL.len() as u32) as usize],
        };
        let mut bytes = [0; MAX_OPERANDS];
        for (byte, ty) in bytes.iter_mut().zip(opcode.operands()) {
            let (least, bound) = match ty.name {
                _ if wide => (0, 256),
                "process" | "src" => (0, 2),
                "page" | "dst_page" | "new_page" => (0, 12),
                "len" | "old_len" | "new_len" => (1, 5),
                "kind" if self.below(4) != 0 => (0, 1),
                "prot" if self.below(4) != 0 => (3, 1),
                _ => (0, 256),
            };
            *byte = (least + self.below(bound)) as u8;
        }
        Op::from_bytes(opcode, bytes)
    }

    fn limit(&mut self) -> Option<u8> {
        (self.below(4) == 0).then(|| self.below(24) as u8)
    }

    fn limits(&mut self) -> Limits {
        Limits::from_array([self.limit(), self.limit(), self.limit(), self.limit(), None])
    }
}

/// Runs `programs` random programs and hands each observation to `check`.
fn smoke(revision: Revision, programs: u32, mut check: impl FnMut(&[Op], &Observation)) {
    let mut random = Random(Pcg32::seed_from_u64(0x5eed ^ revision as u64));
    let mut candidate = Candidate::new(revision);
    let mut seen = Observation::default();
    let mut ops = Vec::new();
    for program in 0..programs {
        let limits = if program % 2 == 0 { Limits::default() } else { random.limits() };
        candidate.reset(&limits);
        seen.reset();
        ops.clear();
        for _ in 0..32 {
            ops.push(random.op(program % 8 == 7));
            if let Some(op) = ops.last() {
                candidate.step(op, &mut seen);
            }
            check(&ops, &seen);
            if seen.is_fatal() {
                break;
            }
        }
    }
}

#[test]
fn no_program_panics_and_every_bug_comes_up() {
    for revision in [Revision::Rfc, Revision::V2] {
        let mut found = [false; 4];
        smoke(revision, 40_000, |_, seen| {
            for event in &seen.events {
                let text = event.to_string();
                found[0] |= text.contains("copy_vma() reads vm_mm of a freed");
                found[1] |= text.contains("process_vm_mmap() reads vm_flags of a freed");
            }
            found[2] |= seen.spaces.iter().any(|space| space.counters.locked_vm < 0);
            found[3] |= seen.copy.is_some_and(|copy| !copy.honoured);
        });
        assert_eq!(found, [true; 4], "{revision}: bugs A, B, C and D");
    }
}

#[test]
fn at_original_and_fixed_no_event_ever_fires_and_accounts_add_up() {
    for revision in [Revision::Original, Revision::Fixed] {
        smoke(revision, 30_000, |ops, seen| {
            let program = || ops.iter().map(|op| format!("{op}\n")).collect::<String>();
            assert!(seen.events.is_empty(), "{revision}: {:?}\n{}", seen.events, program());
            let mut committed = 0;
            for space in &seen.spaces {
                let (mut total, mut locked, mut data) = (0, 0, 0);
                for vma in space.vmas() {
                    let pages = i64::from(vma.end.0 - vma.start.0);
                    let has = |flag| if vma.flags.contains(flag) { pages } else { 0 };
                    total += pages;
                    locked += has(VmFlags::VM_LOCKED);
                    committed += has(VmFlags::VM_ACCOUNT);
                    let writable = vma.flags & (VmFlags::VM_WRITE | VmFlags::VM_SHARED);
                    data += if writable == VmFlags::VM_WRITE { pages } else { 0 };
                }
                let counters = &space.counters;
                assert_eq!(
                    (counters.total_vm, counters.locked_vm, counters.data_vm, counters.map_count),
                    (total, locked, data, space.vmas().len() as i64),
                    "{revision}:\n{}",
                    program()
                );
            }
            assert_eq!(seen.committed, committed, "{revision}:\n{}", program());
        });
    }
}
