//! Observations and divergences as text: side by side, readable at [`WIDTH`] columns.

use std::fmt::Write as _;

use similar::{Algorithm, DiffTag, capture_diff_slices};

use vmadiff_machine::observation::{CopyReport, Observation};
use vmadiff_machine::operand::{MAX_PROCESSES, Mode};
use vmadiff_machine::{AddressSpace, Errno, Limits, Machine, Program, VmFlags, Vma};

use crate::compare::Scope;
use crate::divergence::Divergence;
use crate::lockstep::Lockstep;

/// The columns a report needs at most.
pub const WIDTH: usize = 100;

/// Numbers the objects of an observation in the order they are met, and names them so.
#[derive(Default)]
struct Names {
    anon_vmas: Vec<usize>,
    files: Vec<usize>,
    uffds: Vec<usize>,
}

fn numbered(known: &mut Vec<usize>, object: usize) -> usize {
    known.iter().position(|o| *o == object).unwrap_or_else(|| {
        known.push(object);
        known.len() - 1
    })
}

impl Names {
    fn anon_vma(&mut self, object: usize) -> String {
        let n = numbered(&mut self.anon_vmas, object);
        let letter = char::from(b'A' + (n % 26) as u8);
        if n < 26 { letter.to_string() } else { format!("{letter}{}", n / 26) }
    }
}

/// The flags beside the permissions, as `/proc/PID/smaps` abbreviates them.
const ABBREVIATIONS: [(VmFlags, &str); 15] = [
    (VmFlags::VM_UFFD_MISSING, "um"),
    (VmFlags::VM_UFFD_WP, "uw"),
    (VmFlags::VM_LOCKED, "lo"),
    (VmFlags::VM_LOCKONFAULT, "lf"),
    (VmFlags::VM_DONTCOPY, "dc"),
    (VmFlags::VM_WIPEONFORK, "wf"),
    (VmFlags::VM_MERGEABLE, "mg"),
    (VmFlags::VM_ACCOUNT, "ac"),
    (VmFlags::VM_NORESERVE, "nr"),
    (VmFlags::VM_SEQ_READ, "sr"),
    (VmFlags::VM_RAND_READ, "rr"),
    (VmFlags::VM_DONTDUMP, "dd"),
    (VmFlags::VM_IO, "io"),
    (VmFlags::VM_PFNMAP, "pf"),
    (VmFlags::VM_DONTEXPAND, "de"),
];

fn permissions(flags: VmFlags) -> String {
    let letter = |flag, letter| if flags.contains(flag) { letter } else { '-' };
    let sharing = match (flags.contains(VmFlags::VM_SHARED), flags.contains(VmFlags::VM_MAYSHARE)) {
        (true, _) => 's',
        (false, true) => 'S',
        (false, false) => 'p',
    };
    [
        letter(VmFlags::VM_READ, 'r'),
        letter(VmFlags::VM_WRITE, 'w'),
        letter(VmFlags::VM_EXEC, 'x'),
        sharing,
    ]
    .into_iter()
    .collect()
}

fn vma_line(space: &AddressSpace, vma: &Vma, names: &mut Names) -> String {
    let range = format!("{}..{}", vma.start, vma.end);
    let mut line = format!(
        "{range:<7} {} @{:<3}",
        permissions(vma.flags),
        vma.pgoff.to_string().trim_start_matches('@')
    );
    for (flag, text) in ABBREVIATIONS {
        if vma.flags.contains(flag) {
            let _ = write!(line, " {text}");
        }
    }
    if !vma.flags.contains(VmFlags::VM_SOFTDIRTY) {
        line.push_str(" -sd");
    }
    if let Some(anon_vma) = vma.anon_vma {
        let _ = write!(line, " anon={}", names.anon_vma(anon_vma.index()));
    }
    let chain: Vec<_> = space.chain(vma).iter().map(|a| names.anon_vma(a.index())).collect();
    if !chain.is_empty() {
        let _ = write!(line, "[{}]", chain.join(""));
    }
    if let Some(file) = vma.file {
        let _ = write!(line, " file={}", numbered(&mut names.files, file.index()));
    }
    if let Some(uffd) = vma.uffd {
        let _ = write!(line, " uffd={}", numbered(&mut names.uffds, uffd.index()));
    }
    if vma.policy != Mode::Default {
        let _ = write!(line, " {}", vma.policy.name().to_lowercase());
    }
    if vma.close {
        line.push_str(" close");
    }
    line
}

/// The result of an operation: `0`, a page or process, or the error.
pub fn result_text(result: Result<u8, Errno>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(errno) => errno.to_string(),
    }
}

fn copy_text(copy: Option<CopyReport>) -> Option<String> {
    let copy = copy?;
    let mut text = String::from(if copy.merged { "merged" } else { "duplicated" });
    if copy.source_redirected {
        text.push_str(", source redirected");
    }
    if copy.need_rmap_locks {
        text.push_str(if copy.honoured { ", rmap locks taken" } else { ", rmap locks NOT taken" });
    }
    Some(text)
}

fn pages_text(pages: u128) -> String {
    let mut ranges = Vec::new();
    let mut page = 0;
    while page < 128 {
        if pages >> page & 1 == 0 {
            page += 1;
            continue;
        }
        let start = page;
        while page < 128 && pages >> page & 1 == 1 {
            page += 1;
        }
        ranges.push(format!("{start}..{page}"));
    }
    ranges.join(" ")
}

/// An observation as lines: what `scope` compares, of the processes in `shown`.
pub fn observation_lines(seen: &Observation, scope: Scope, shown: u8) -> Vec<String> {
    let mut names = Names::default();
    let mut lines = Vec::new();
    // What does not survive returns nothing.
    if !seen.is_fatal() {
        lines.push(format!("result {}", result_text(seen.result)));
    }
    let copy = seen.copy.map(|copy| match scope {
        Scope::Models => copy,
        Scope::Recorded => CopyReport { honoured: true, ..copy },
    });
    lines.extend(copy_text(copy).map(|text| format!("copy_vma: {text}")));
    lines.extend(seen.events.iter().map(ToString::to_string));
    if seen.is_fatal() {
        lines.push("(the kernel does not survive this)".into());
        return lines;
    }
    if scope == Scope::Models && seen.committed != 0 {
        lines.push(format!("committed {}", seen.committed));
    }
    for process in 0..MAX_PROCESSES {
        let space = &seen.spaces[process];
        // Names go on over the processes that are not shown.
        let vmas: Vec<_> = space.vmas().iter().map(|v| vma_line(space, v, &mut names)).collect();
        if shown >> process & 1 == 0 {
            continue;
        }
        if !space.alive {
            lines.push(format!("process {process}: gone"));
            continue;
        }
        let c = &space.counters;
        lines.push(format!(
            "process {process}: total {} locked {} data {} maps {}",
            c.total_vm, c.locked_vm, c.data_vm, c.map_count
        ));
        lines.extend(vmas.into_iter().map(|line| format!("  {line}")));
        if scope == Scope::Models && space.anon_pages != 0 {
            lines.push(format!("  anonymous pages {}", pages_text(space.anon_pages)));
        }
    }
    lines
}

/// Cuts `line` into pieces of at most `width` characters, at spaces where there are any.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let indent = line.len() - line.trim_start().len();
    for word in line.split_inclusive(' ') {
        let last = pieces.last().map_or(0, |p| p.chars().count());
        if last > indent && last + word.trim_end().chars().count() > width {
            pieces.push(" ".repeat(indent + 2));
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push_str(word);
        }
    }
    // A single word that is too long is cut where the column ends.
    pieces
        .iter()
        .flat_map(|piece| {
            let chars: Vec<char> = piece.trim_end().chars().collect();
            let cut: Vec<String> = chars.chunks(width).map(|c| c.iter().collect()).collect();
            if cut.is_empty() { vec![String::new()] } else { cut }
        })
        .collect()
}

/// Two columns with a title each, equal lines on one row; `!` marks the rows that differ.
pub fn side_by_side(titles: (&str, &str), left: &[String], right: &[String]) -> String {
    let column = (WIDTH - 3) / 2;
    let mut out = String::new();
    let mut row = |l: &str, mark: char, r: &str| {
        let pad = column.saturating_sub(l.chars().count());
        let _ = writeln!(out, "{}", format!("{l}{} {mark} {r}", " ".repeat(pad)).trim_end());
    };
    row(titles.0, '|', titles.1);
    row(&"-".repeat(column), '+', &"-".repeat(column));
    for op in capture_diff_slices(Algorithm::Patience, left, right) {
        let mark = if op.tag() == DiffTag::Equal { '|' } else { '!' };
        let (l, r) = (&left[op.old_range()], &right[op.new_range()]);
        for n in 0..l.len().max(r.len()) {
            let pieces =
                |lines: &[String]| lines.get(n).map_or_else(Vec::new, |line| wrap(line, column));
            let (l, r) = (pieces(l), pieces(r));
            for m in 0..l.len().max(r.len()) {
                row(l.get(m).map_or("", |s| s), mark, r.get(m).map_or("", |s| s));
            }
        }
    }
    out
}

/// The processes whose address spaces either of two observations shows.
pub fn living(left: &Observation, right: &Observation) -> u8 {
    (0..MAX_PROCESSES)
        .filter(|&p| left.spaces[p].alive || right.spaces[p].alive)
        .fold(0, |set, p| set | 1 << p)
}

/// What replaying a program shows, as text.
pub struct Replay {
    /// The first divergence, if there is one.
    pub divergence: Option<Divergence>,
    /// The program with the result of each operation, and the divergence side by side.
    pub text: String,
}

/// Runs a program in lockstep and renders what happens.
pub fn divergence<L: Machine, R: Machine>(
    lockstep: &mut Lockstep<L, R>,
    program: &Program,
) -> Replay {
    let mut results =
        vec![String::from("not run: not an operation of both machines"); program.ops.len()];
    let mut reached = 0;
    let divergence = lockstep.run_with(program, |step, left, right| {
        let (l, r) = (result_text(left.result), result_text(right.result));
        results[step] = match (&l, right.is_fatal()) {
            (_, true) => format!("{l} | does not survive"),
            _ if l == r => l,
            _ => format!("{l} | {r}"),
        };
        reached = step + 1;
    });
    let mut text = String::new();
    if program.limits != Limits::default() {
        let _ = writeln!(text, "  {}", program.limits);
    }
    for (n, op) in program.ops.iter().enumerate() {
        let mark = if divergence.as_ref().is_some_and(|d| d.step == n) { '>' } else { ' ' };
        let result = if n < reached { &results[n] } else { "not reached" };
        let _ = writeln!(text, "{mark} {:<55} # {result}", op.to_string());
    }
    let (left, right) = lockstep.seen();
    let names = lockstep.names();
    match &divergence {
        None => {
            let _ = writeln!(text, "\nno divergence between {} and {}", names.0, names.1);
        }
        Some(divergence) => {
            let _ = writeln!(
                text,
                "\ndivergence {} after operation {}\n",
                divergence.signature, divergence.step
            );
            let shown = living(left, right);
            let lines = |seen| observation_lines(seen, Scope::Models, shown);
            text.push_str(&side_by_side(names, &lines(left), &lines(right)));
        }
    }
    Replay { divergence, text }
}
