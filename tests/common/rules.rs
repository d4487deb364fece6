//! Programs of the rules of later kernels, and observations of running kernels as text.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use vmadiff_machine::{Observation, Program, VmFlags};
use vmadiff_reference::later::Rule;

/// Returns a folder of `corpus/kernel`.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/kernel").join(name)
}

/// Returns the program of a rule in a folder of `corpus/kernel`.
pub(crate) fn program(folder_name: &str, rule: Rule) -> Program {
    let path = folder(folder_name).join(format!("{}.txt", rule.name()));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The flags that a recorded observation has: those of a kernel without soft-dirty flags.
pub(crate) const RECORDED_FLAGS: VmFlags = VmFlags::VM_SOFTDIRTY.complement();

/// Renders the part of an observation that a running kernel can show, if it shows page frames and has
/// these flags.
pub(crate) fn shown(seen: &Observation, flags: VmFlags) -> String {
    let mut text = match seen.result {
        Ok(value) => format!("result {value}\n"),
        Err(errno) => format!("result -{}\n", errno.name()),
    };
    for message in &seen.messages {
        let _ = writeln!(text, "message {message}");
    }
    for (process, space) in seen.spaces.iter().enumerate().filter(|(_, space)| space.alive) {
        let counters = space.counters;
        let _ = writeln!(
            text,
            "process {process}: total_vm {}, locked_vm {}, data_vm {}, map_count {}, anonymous \
             pages {:#x}",
            counters.total_vm,
            counters.locked_vm,
            counters.data_vm,
            counters.map_count,
            space.anon_pages
        );
        for vma in space.vmas() {
            let file = match vma.file {
                Some(_) => format!("file page {}", vma.pgoff.0),
                None => format!("anonymous, policy {}", vma.policy.name()),
            };
            let flags: Vec<_> = (vma.flags & flags).iter_names().map(|(name, _)| name).collect();
            let _ = writeln!(text, "  {}-{} {file}: {}", vma.start, vma.end, flags.join(" "));
        }
    }
    text
}
