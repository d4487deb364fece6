//! Counters, compared with the reference's count over the VMAs.

use vmadiff_machine::operand::MAX_PROCESSES;

use super::Case;

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
                self.point(7)
            )
        };
        for process in 0..MAX_PROCESSES {
            let of = |seen: &vmadiff_machine::Observation| {
                let c = seen.spaces[process].counters;
                [c.locked_vm, c.total_vm, c.data_vm, c.map_count]
            };
            let (l, r, counted) = (of(self.left), of(self.right), of(&self.reference));
            for (n, name) in ["locked_vm", "total_vm", "data_vm", "map_count"].iter().enumerate() {
                if l[n] != r[n] {
                    return says(&format!("{name} of process {process}"), l[n], r[n], counted[n]);
                }
            }
        }
        let (l, r) = (self.left.committed, self.right.committed);
        if l != r {
            return says("committed memory", l, r, self.reference.committed);
        }
        let of = |seen: &vmadiff_machine::Observation| {
            [i64::from(seen.driver.opens), i64::from(seen.driver.closes)]
        };
        let (l, r, counted) = (of(self.left), of(self.right), of(&self.reference));
        if l == r {
            let says = |attached: Option<i64>| match attached {
                Some(attached) => format!("shm_nattch is {attached}"),
                None => "the segment is destroyed".into(),
            };
            return format!(
                "shm_nattch counts the VMAs of the segment, and the segment is destroyed when IPC_RMID \
                 was called and the count is 0: {} in {}, {} in {}",
                says(self.left.attached),
                self.names.0,
                says(self.right.attached),
                self.names.1
            );
        }
        let n = usize::from(l[0] == r[0]);
        let (name, is) =
            [("open", "is made by a split, a fork, a move or a copy"), ("close", "goes")][n];
        format!(
            "vm_ops->{name} is called once for each VMA of a driver that {is}, here {} times: {} calls it \
             {} times, {} {} times",
            counted[n], self.names.0, l[n], self.names.1, r[n]
        )
    }
}
