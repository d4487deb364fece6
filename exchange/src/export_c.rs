//! The export to C: a single file that runs the program by system calls and reports whether the
//! running kernel does what the reference expects.
//!
//! The file has a small runtime (the needed parts of `export_runtime.c`), and then the program as a
//! table, with the text form beside each entry.
//!
//! The expectation of an operation is its result and the pages that every process has mapped
//! afterwards, with permissions and flags. The VMAs of the pages do not matter. So a kernel whose
//! merge rules differ from 5.2.1, such as 6.1 and later, does not differ by that alone.
//!
//! If a rule of later kernels changes a result or a page, the C accepts this behaviour as well and
//! names the rule.

use std::fmt::Write as _;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_lockstep::divergence::Divergence;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::operand::{
    Access, Advice, CopyFlags, Kind, MAX_PROCESSES, MmapFlags, Mode, Onfault, Process, Prot,
    ShmFlags,
};
use vmadiff_machine::{
    AddressSpace, Errno, Machine, Observation, Op, Placement, Program, VmFlags, Vma,
};
use vmadiff_reference::Reference;
use vmadiff_reference::later::{Rule, Rules};

use crate::later::{Kernel, kernels};

/// The C that is the same for all programs. The lines between `#if USES_…` and `#endif` are left
/// out if the program does not need them.
const RUNTIME: &str = include_str!("export_runtime.c");

/// The flags that are compared, as `/proc/PID/smaps` abbreviates them.
///
/// `VM_ACCOUNT` and `VM_NORESERVE` are not compared, because the accounting of memory depends on
/// the system's overcommit mode.
const FLAGS: [(VmFlags, &str); 8] = [
    (VmFlags::VM_LOCKED, "lo"),
    (VmFlags::VM_SEQ_READ, "sr"),
    (VmFlags::VM_RAND_READ, "rr"),
    (VmFlags::VM_DONTCOPY, "dc"),
    (VmFlags::VM_WIPEONFORK, "wf"),
    (VmFlags::VM_DONTDUMP, "dd"),
    (VmFlags::VM_UFFD_MISSING, "um"),
    (VmFlags::VM_MERGEABLE, "mg"),
];

/// Returns the reason why the C ends before this operation, if there is one.
fn end(op: &Op, result: Result<u8, Errno>) -> Option<&'static str> {
    match op {
        Op::CopyVma { .. } => Some("a direct call of copy_vma() is no system call"),
        // A call of a process that does not exist is not made at all.
        Op::Mmap { kind, .. } if kind.get() == Kind::Special && result != Err(Errno::ESRCH) => {
            Some("no kernel has the device that is mapped here")
        }
        _ => None,
    }
}

/// The parts of the runtime that a program needs.
struct Uses<'a> {
    program: &'a Program,
    /// The operations that the C has.
    ops: &'a [Op],
    /// A rule of later kernels changes an expectation.
    rules: bool,
}

impl Uses<'_> {
    /// Returns whether the program needs the part called `name`.
    fn has(&self, name: &str) -> bool {
        let any = |wanted: fn(&Op) -> bool| self.ops.iter().any(wanted);
        let limits = &self.program.limits;
        let locks = any(|op| match op {
            Op::Mlock { .. } => true,
            Op::Mmap { flags, .. } => flags.get().contains(MmapFlags::LOCKED),
            _ => false,
        });
        let lock = locks && limits.lock.is_none();
        let uffd = any(|op| matches!(op, Op::UffdRegister { .. } | Op::UffdUnregister { .. }));
        match name {
            "TOUCH" => any(|op| matches!(op, Op::Touch { .. })),
            "WATCHED_TOUCH" => uffd && self.has("TOUCH"),
            "UFFD" => uffd,
            "FORK" => any(|op| matches!(op, Op::Fork { .. })),
            "EXIT" => any(|op| matches!(op, Op::Exit { .. })),
            "COPY" => any(|op| matches!(op, Op::Copy { .. })),
            "MBIND" => any(|op| matches!(op, Op::Mbind { .. })),
            "NODE0" => any(|op| match op {
                Op::Mbind { mode, .. } => mode.get() != Mode::Default,
                _ => false,
            }),
            "FILES" => any(|op| match op {
                Op::Mmap { kind, .. } => file(kind.get()).is_some(),
                _ => false,
            }),
            "SEGMENT" => {
                any(|op| matches!(op, Op::Shmat { .. } | Op::Shmdt { .. } | Op::ShmRmid { .. }))
            }
            "PKEYS" => any(|op| match op {
                Op::Mmap { prot, .. } | Op::Mprotect { prot, .. } => prot.get() == Prot::X,
                _ => false,
            }),
            "RULES" => self.rules,
            "CHOICE" => any(|op| match op {
                // Linux 5.2.1 refuses MREMAP_DONTUNMAP. Later kernels choose an address.
                Op::Mremap { .. } => op.placement().is_some_and(Placement::is_choice),
                Op::Copy { .. } => op.placement() == Some(Placement::Hint),
                _ => false,
            }),
            "DONTUNMAP" => any(|op| match op {
                Op::Mremap { flags, .. } => flags.get().keeps_source(),
                _ => false,
            }),
            "MAP_COUNT" => limits.map_count.is_some(),
            "ADDRESS_SPACE" => limits.address_space.is_some(),
            "LOCK_LIMIT" => limits.lock.is_some(),
            "LOCK" => lock,
            "LIMITS" => lock || limits.lock.is_some() || limits.address_space.is_some(),
            _ => unreachable!("the runtime asks for {name}"),
        }
    }

    /// Returns the runtime without the parts that are not needed.
    fn runtime(&self) -> String {
        let mut kept = String::new();
        // For each open `#if`, whether its lines are kept; `None` for an `#if` that is left to the
        // compiler.
        let mut open: Vec<Option<bool>> = Vec::new();
        for line in RUNTIME.lines() {
            let keeps = open.iter().all(|keep| keep.unwrap_or(true));
            if let Some(name) = line.strip_prefix("#if USES_") {
                open.push(Some(self.has(name)));
            } else if line == "#endif" && open.pop().flatten().is_some() {
                // The `#if` was for this function and is left out.
            } else if keeps {
                if line.starts_with("#if") {
                    open.push(None);
                }
                kept.push_str(line);
                kept.push('\n');
            } else if line.starts_with("#if") {
                open.push(None);
            }
        }
        kept
    }
}

/// Returns the C name of the descriptor of the file that `kind` maps.
fn file(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::AnonPrivate | Kind::AnonShared | Kind::Special => None,
        Kind::File0Private | Kind::File0Shared => Some("FILE0"),
        Kind::File1Private | Kind::File1Shared => Some("FILE1"),
        Kind::ReadonlyShared => Some("READONLY"),
    }
}

/// Returns the names of `given` whose condition holds, joined by `|`; `0` if no condition holds.
fn joined(given: impl IntoIterator<Item = (bool, &'static str)>) -> String {
    let names: Vec<_> = given.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
    if names.is_empty() { "0".into() } else { names.join(" | ") }
}

fn prot(prot: Prot) -> String {
    if prot.is_empty() {
        return "PROT_NONE".into();
    }
    joined([
        (prot.contains(Prot::R), "PROT_READ"),
        (prot.contains(Prot::W), "PROT_WRITE"),
        (prot.contains(Prot::X), "PROT_EXEC"),
    ])
}

fn mmap_flags(kind: Kind, flags: MmapFlags) -> String {
    let private = matches!(kind, Kind::AnonPrivate | Kind::File0Private | Kind::File1Private);
    let noreplace = flags.contains(MmapFlags::FIXED_NOREPLACE);
    joined([
        (private, "MAP_PRIVATE"),
        (!private, "MAP_SHARED"),
        (matches!(kind, Kind::AnonPrivate | Kind::AnonShared), "MAP_ANONYMOUS"),
        (!noreplace, "MAP_FIXED"),
        (noreplace, "MAP_FIXED_NOREPLACE"),
        (flags.contains(MmapFlags::NORESERVE), "MAP_NORESERVE"),
        (flags.contains(MmapFlags::LOCKED), "MAP_LOCKED"),
    ])
}

/// Returns the call and its arguments as the initializer of an array.
fn call(op: &Op) -> String {
    match *op {
        Op::Mmap { page, len, prot: protection, kind, flags, pgoff, .. } => {
            let kind = kind.get();
            let (fd, offset) = match file(kind) {
                Some(name) => (name, pgoff.get().0),
                None => ("-1", 0),
            };
            format!(
                "SYS_mmap, PAGE({page}), PAGES({len}), {}, {}, {fd}, PAGES({offset})",
                prot(protection.get()),
                mmap_flags(kind, flags.get()),
            )
        }
        Op::Munmap { page, len, .. } => format!("SYS_munmap, PAGE({page}), PAGES({len})"),
        Op::Mprotect { page, len, prot: protection, .. } => {
            format!("SYS_mprotect, PAGE({page}), PAGES({len}), {}", prot(protection.get()))
        }
        Op::Mremap { page, old_len, new_len, flags, new_page, .. } => {
            let flags = flags.get();
            let mut call = format!("SYS_mremap, PAGE({page}), PAGES({old_len}), PAGES({new_len})");
            if flags.may_move() {
                let flags = joined([
                    (true, "MREMAP_MAYMOVE"),
                    (flags.is_fixed(), "MREMAP_FIXED"),
                    (flags.keeps_source(), "MREMAP_DONTUNMAP"),
                ]);
                call = format!("{call}, {flags}");
            }
            // The kernel reads the new address only with MREMAP_FIXED or MREMAP_DONTUNMAP.
            if flags.is_fixed() || flags.keeps_source() {
                call = format!("{call}, PAGE({new_page})");
            }
            call
        }
        Op::Madvise { page, len, advice, .. } => {
            format!("SYS_madvise, PAGE({page}), PAGES({len}), MADV_{}", advice.get().name())
        }
        Op::Mlock { page, len, onfault, .. } => {
            let flags = joined([(onfault.get() == Onfault::Yes, "MLOCK_ONFAULT")]);
            format!("SYS_mlock2, PAGE({page}), PAGES({len}), {flags}")
        }
        Op::Munlock { page, len, .. } => format!("SYS_munlock, PAGE({page}), PAGES({len})"),
        Op::Mbind { page, len, mode, .. } => {
            let mode = mode.get();
            let nodes = if mode == Mode::Default { "0, 0" } else { "(long)&node0, 64" };
            format!("SYS_mbind, PAGE({page}), PAGES({len}), MPOL_{}, {nodes}, 0", mode.name())
        }
        Op::Touch { page, access, .. } => {
            format!("TOUCH, PAGE({page}), {}", u8::from(access.get() == Access::Write))
        }
        Op::UffdRegister { page, len, ctx, .. } => {
            format!("UFFD_REGISTER, PAGE({page}), PAGES({len}), {ctx}")
        }
        Op::UffdUnregister { page, len, ctx, .. } => {
            format!("UFFD_UNREGISTER, PAGE({page}), PAGES({len}), {ctx}")
        }
        Op::Fork { .. } => "FORK".into(),
        Op::Exit { .. } => "EXIT".into(),
        Op::Copy { page, len, src, dst_page, flags, .. } => {
            let flags = flags.get();
            let flags = joined([
                (flags.contains(CopyFlags::FIXED), "PVMMAP_FIXED"),
                (flags.contains(CopyFlags::FIXED_NOREPLACE), "PVMMAP_FIXED_NOREPLACE"),
            ]);
            format!("COPY, {src}, PAGE({page}), PAGES({len}), PAGE({dst_page}), {flags}")
        }
        Op::Shmat { page, flags, .. } => {
            let flags = flags.get();
            let flags = joined([
                (flags.contains(ShmFlags::RDONLY), "SHM_RDONLY"),
                (flags.contains(ShmFlags::EXEC), "SHM_EXEC"),
                (flags.contains(ShmFlags::REMAP), "SHM_REMAP"),
            ]);
            format!("SYS_shmat, SEGMENT, PAGE({page}), {flags}")
        }
        Op::Shmdt { page, .. } => format!("SYS_shmdt, PAGE({page})"),
        Op::ShmRmid { .. } => "SYS_shmctl, SEGMENT, IPC_RMID".into(),
        Op::CopyVma { .. } => unreachable!("the program ends before it"),
    }
}

/// Returns the expected result as a C expression.
fn result(op: &Op, result: Result<u8, Errno>) -> String {
    match (op, result) {
        // The recorded kernels have no transparent huge pages; most other kernels have them.
        (Op::Madvise { advice, .. }, result)
            if matches!(advice.get(), Advice::Hugepage | Advice::Nohugepage)
                && result != Err(Errno::ESRCH) =>
        {
            "NOT_CHECKED".into()
        }
        (Op::Mmap { .. } | Op::Mremap { .. } | Op::Copy { .. } | Op::Shmat { .. }, Ok(page)) => {
            format!("PAGE({page})")
        }
        (_, Ok(value)) => value.to_string(),
        (_, Err(Errno::SIGBUS)) => "BUS_ERROR".into(),
        // This number is internal to the kernel; the headers of user space do not have it.
        (_, Err(Errno::ENOTSUPP)) => format!("-{}", Errno::ENOTSUPP.number()),
        (_, Err(errno)) => format!("-{}", errno.name()),
    }
}

fn page_text(vma: &Vma) -> String {
    let letter = |flag, letter| if vma.flags.contains(flag) { letter } else { '-' };
    let mut text: String = [
        letter(VmFlags::VM_READ, 'r'),
        letter(VmFlags::VM_WRITE, 'w'),
        letter(VmFlags::VM_EXEC, 'x'),
        if vma.flags.contains(VmFlags::VM_MAYSHARE) { 's' } else { 'p' },
    ]
    .into_iter()
    .collect();
    for (flag, name) in FLAGS {
        if vma.flags.contains(flag) {
            text.push(' ');
            text.push_str(name);
        }
    }
    text
}

/// Returns the mappings of a process in the form of the runtime's `layout_of()`.
fn layout(space: &AddressSpace) -> String {
    let mut runs: Vec<(u8, u8, String)> = Vec::new();
    for vma in space.vmas() {
        let text = page_text(vma);
        match runs.last_mut() {
            Some((_, end, before)) if *end == vma.start.0 && *before == text => *end = vma.end.0,
            _ => runs.push((vma.start.0, vma.end.0, text)),
        }
    }
    let runs: Vec<_> = runs.into_iter().map(|(from, to, t)| format!("{from}-{to} {t}")).collect();
    runs.join(", ")
}

/// Returns the name of a file with every character replaced that may not stand in a comment or in
/// the name of another file, cut to 100 characters.
pub fn harmless(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().map(safe).take(100).collect()
}

/// Returns the program in C. `name` is the program's name in the comment at the top, usually its
/// file's name; characters that do not belong in a comment become `_`.
pub fn export_c(program: &Program, name: &str) -> String {
    let mut reference = Reference::new();
    reference.reset(&program.limits);
    let mut seen = Observation::default();
    let mut count = 0;
    let mut ended = None;
    for op in &program.ops {
        reference.step(op, &mut seen);
        ended = end(op, seen.result);
        if ended.is_some() {
            break;
        }
        count += 1;
    }
    let ops = &program.ops[..count];
    // The C allocates every protection key, so memory that may only be executed can be read. The
    // other rules are of an architecture for which the C is not written.
    let unseen = Rules::NONE.with(Rule::ExecuteOnly).with(Rule::LowestHole);
    let kernels = kernels(ops, &program.limits, unseen, |a, b| {
        ops.iter().zip(a).zip(b).all(|((op, a), b)| expectation(op, a) == expectation(op, b))
    });
    let uses = Uses { program, ops, rules: kernels.len() > 1 };

    let mut text = head(program, name);
    let flags: Vec<_> = FLAGS.iter().map(|(_, name)| format!("\"{name}\"")).collect();
    // Writing to a String does not fail.
    let _ = writeln!(text, "#define FLAGS {{ {} }}", flags.join(", "));
    if uses.rules {
        let name = |kernel: &Kernel| match kernel.rules.is_empty() {
            true => "\"Linux 5.2.1\"".into(),
            false => format!("\"{}\"", kernel.rules),
        };
        let names: Vec<_> = kernels.iter().map(name).collect();
        let _ = writeln!(text, "#define KERNELS {{ {} }}", names.join(", "));
    }
    let limits = &program.limits;
    let given = [
        ("MAP_COUNT", limits.map_count.map(u32::from)),
        ("ADDRESS_SPACE", limits.address_space.map(u32::from)),
        ("LOCK", limits.lock.map(u32::from)),
        ("PROCESSES", uses.has("FORK").then(|| limits.max_processes() as u32)),
    ];
    for (name, limit) in given {
        if let Some(limit) = limit {
            let _ = writeln!(text, "#define LIMIT_{name} {limit}");
        }
    }
    text.push('\n');
    text.push_str(&uses.runtime());
    text.push_str("\n/* ---- the program ---- */\n\nstatic const struct operation program[] = {\n");
    let mut shown: [String; MAX_PROCESSES] = Default::default();
    for (at, op) in ops.iter().enumerate() {
        let later = later(op, at, &kernels);
        entry(&mut text, op, &kernels[0].steps[at], &later, &mut shown);
    }
    if let Some(why) = ended {
        let _ = writeln!(text, "\t/*\n\t * Here the program goes on, but {why}.\n\t *");
        for op in &program.ops[ops.len()..] {
            let _ = writeln!(text, "\t *   {op}");
        }
        text.push_str("\t */\n");
    }
    let _ = write!(
        text,
        "\t{{ .text = NULL }},\n}};\n\nint main(void)\n{{\n\tquit(start_and_run(program, {}));\n}}\n",
        program.ops.len() - ops.len()
    );
    text
}

/// Returns the comment at the top.
fn head(program: &Program, name: &str) -> String {
    let name = harmless(name);
    let mut text = format!(
        "/*\n \
         * {name}: a program of vmadiff (`vmadiff export --c`), to be run on a 64-bit Linux:\n \
         *\n \
         *     cc -Wall -Wextra -o program {name}.c && ./program\n \
         *\n \
         * It prints each operation with its result, and stops at the first that is not as the\n \
         * reference has it, which is Linux 5.2.1 with the original copy_vma(). Known behaviours\n \
         * of later kernels are accepted, and named. Exit status: 0 the kernel agrees, 1 it\n \
         * differs, 77 not all could be run here. The program, each\n \
         * operation with its process and with pages counted from the arena's start:\n \
         *\n"
    );
    for line in program.to_string().lines() {
        let _ = writeln!(text, " *     {line}");
    }
    let candidate = Candidate::new(Revision::V2);
    let found = Lockstep::new(Reference::new(), candidate).run(program);
    if let Some(Divergence { step, signature, .. }) = found {
        let _ = write!(
            text,
            " *\n \
             * With the patch \"mm: process_vm_mmap()\", v2, operation {} goes another way:\n \
             * {signature}.\n",
            step + 1,
        );
    }
    text.push_str(" */\n");
    text
}

/// Returns an entry of the table. `shown` has the expected mappings of each process before the
/// operation.
fn entry(
    text: &mut String,
    op: &Op,
    seen: &Observation,
    later: &str,
    shown: &mut [String; MAX_PROCESSES],
) {
    let Process(process) = op.process();
    let _ = write!(
        text,
        "\t{{\n\t\t.text = \"{op}\",\n\t\t.process = {process},\n\
         \t\t.call = {{ {} }},\n\t\t.result = {},\n",
        call(op),
        result(op, seen.result)
    );
    let mut layouts = Vec::new();
    for (n, (space, shown)) in seen.spaces.iter().zip(shown).enumerate() {
        let layout = layout(space);
        if *shown != layout && space.alive {
            layouts.push(format!("[{n}] = \"{layout}\""));
        }
        *shown = layout;
    }
    if !layouts.is_empty() {
        let _ = writeln!(text, "\t\t.layout = {{ {} }},", layouts.join(", "));
    }
    text.push_str(later);
    text.push_str("\t},\n");
}

/// Returns the expectation of an operation: the result, and the mappings of each process.
fn expectation(op: &Op, seen: &Observation) -> (String, Vec<(usize, String)>) {
    let alive = seen.spaces.iter().enumerate().filter(|(_, space)| space.alive);
    (result(op, seen.result), alive.map(|(process, space)| (process, layout(space))).collect())
}

/// Returns the member of an entry that lists the other behaviours of kernels after 5.2.1.
fn later(op: &Op, at: usize, kernels: &[Kernel]) -> String {
    let original = expectation(op, &kernels[0].steps[at]);
    let mut groups: Vec<(_, Vec<usize>)> = Vec::new();
    for (number, kernel) in kernels.iter().enumerate() {
        let expected = expectation(op, &kernel.steps[at]);
        match groups.iter_mut().find(|(known, _)| *known == expected) {
            Some((_, numbers)) => numbers.push(number),
            None if expected != original => groups.push((expected, vec![number])),
            None => {}
        }
    }
    if groups.is_empty() {
        return String::new();
    }
    let mut text = String::from("\t\t.later = (const struct later[]) {\n");
    for ((result, layouts), numbers) in groups {
        let bits: Vec<_> = numbers.iter().map(|number| format!("KERNEL({number})")).collect();
        let layouts: Vec<_> =
            layouts.iter().map(|(process, layout)| format!("[{process}] = \"{layout}\"")).collect();
        let layouts = if layouts.is_empty() { "0".into() } else { layouts.join(", ") };
        let _ = writeln!(text, "\t\t\t{{ {}, {result}, {{ {layouts} }} }},", bits.join(" | "));
    }
    text.push_str("\t\t\t{ .kernels = 0 },\n\t\t},\n");
    text
}
