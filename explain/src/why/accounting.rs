//! Counters, and the recount over the VMAs that they have to equal.

use vmadiff_machine::operand::MAX_PROCESSES;
use vmadiff_machine::{AddressSpace, VmFlags};

use super::{Case, point};

/// Pages of the VMAs whose flags are `wanted`.
pub(super) fn recount(space: &AddressSpace, wanted: fn(VmFlags) -> bool) -> i64 {
    let vmas = space.vmas().iter().filter(|vma| wanted(vma.flags));
    vmas.map(|vma| i64::from(vma.end.0) - i64::from(vma.start.0)).sum()
}

pub(super) fn is_locked(flags: VmFlags) -> bool {
    flags.contains(VmFlags::VM_LOCKED)
}

/// `is_data_mapping()`.
pub(super) fn is_data(flags: VmFlags) -> bool {
    flags & (VmFlags::VM_WRITE | VmFlags::VM_SHARED) == VmFlags::VM_WRITE
}

pub(super) fn is_charged(flags: VmFlags) -> bool {
    flags.contains(VmFlags::VM_ACCOUNT)
}

impl Case<'_> {
    pub(super) fn accounting(&self) -> String {
        let says = |what: &str, l: i64, r: i64, counted: i64| {
            let wrong = if counted == l { self.names.1 } else { self.names.0 };
            format!(
                "{what}: a recount over the VMAs gives {counted}; {} says {l}, {} says {r}, so {wrong} \
                 is off by {} ({})",
                self.names.0,
                self.names.1,
                if counted == l { r - l } else { l - counted },
                point(7)
            )
        };
        for process in 0..MAX_PROCESSES {
            let (ls, rs) = (&self.left.spaces[process], &self.right.spaces[process]);
            let (l, r) = (&ls.counters, &rs.counters);
            let count = |name| format!("{name} of process {process}");
            if l.locked_vm != r.locked_vm {
                return says(&count("locked_vm"), l.locked_vm, r.locked_vm, recount(rs, is_locked));
            }
            if l.total_vm != r.total_vm {
                return says(&count("total_vm"), l.total_vm, r.total_vm, recount(rs, |_| true));
            }
            if l.data_vm != r.data_vm {
                return says(&count("data_vm"), l.data_vm, r.data_vm, recount(rs, is_data));
            }
            if l.map_count != r.map_count {
                let counted = rs.vmas().len() as i64;
                return says(&count("map_count"), l.map_count, r.map_count, counted);
            }
        }
        let counted = self.right.spaces.iter().map(|space| recount(space, is_charged)).sum();
        says("committed memory", self.left.committed, self.right.committed, counted)
    }
}
