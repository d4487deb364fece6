//! A rule of the profile explains the difference that its program shows, and no other.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use vmadiff_kernel::profile::{Difference, RULES, Rule};
use vmadiff_machine::operand::{Mode, Page, PageOffset, Process};
use vmadiff_machine::{Errno, Machine as _, Observation, Op, Program, VmFlags, Vma};
use vmadiff_reference::Reference;

/// The last operation of a program, and the reference's observations around it.
struct Last {
    program: Program,
    op: Op,
    before: Observation,
    model: Observation,
}

fn last(text: &str) -> Last {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let (mut reference, mut model) = (Reference::new(), Observation::default());
    reference.reset(&program.limits);
    let mut before = model.clone();
    for op in &program.ops {
        before.clone_from(&model);
        reference.step(op, &mut model);
    }
    let op = *program.ops.last().expect("an operation");
    Last { program, op, before, model }
}

impl Last {
    /// Returns whether a rule explains that a kernel shows `shown`.
    fn explained(&self, rule: &Rule, shown: &Observation) -> bool {
        let difference = Difference {
            op: &self.op,
            limits: &self.program.limits,
            before: &self.before,
            model: &self.model,
            expected: &self.model,
            shown,
        };
        rule.explains(&difference, true)
    }

    /// The names of the rules that explain that a kernel shows `shown`; with `begun`, whether the
    /// rules about what is not shown have begun to count.
    fn explaining(&self, shown: &Observation, begun: bool) -> Vec<&'static str> {
        let difference = Difference {
            op: &self.op,
            limits: &self.program.limits,
            before: &self.before,
            model: &self.model,
            expected: &self.model,
            shown,
        };
        let rules = RULES.iter().filter(|rule| rule.explains(&difference, begun));
        rules.map(|rule| rule.name).collect()
    }
}

/// Rewrites the VMAs of a process, each changed to any number of VMAs.
fn rewrite(
    seen: &Observation,
    process: usize,
    change: impl Fn(usize, Vma) -> Vec<Vma>,
) -> Observation {
    let mut new = seen.clone();
    let old = &seen.spaces[process];
    let space = new.rewrite(Process(process as u8));
    (space.alive, space.counters, space.anon_pages) = (old.alive, old.counters, old.anon_pages);
    for (n, vma) in old.vmas().iter().enumerate() {
        for vma in change(n, *vma) {
            space.push(vma, old.chain(&old.vmas()[n]).iter().copied());
        }
    }
    new
}

/// The observation with the last VMA of the last process changed.
fn with(seen: &Observation, change: impl Fn(&mut Vma)) -> Observation {
    let process = seen.spaces.iter().rposition(|space| !space.vmas().is_empty()).unwrap_or(0);
    let last = seen.spaces[process].vmas().len().saturating_sub(1);
    rewrite(seen, process, |n, mut vma| {
        if n == last {
            change(&mut vma);
        }
        vec![vma]
    })
}

/// Cuts the first VMA of process 0 that has two pages or more.
fn cut(seen: &Observation) -> Observation {
    let long = |vma: &Vma| vma.end.0 - vma.start.0 > 1;
    let first = seen.spaces[0].vmas().iter().position(long).expect("a VMA that can be cut");
    rewrite(seen, 0, |n, vma| {
        if n != first {
            return vec![vma];
        }
        let (mut lower, mut upper) = (vma, vma);
        lower.end = Page(vma.start.0 + 1);
        upper.start = lower.end;
        upper.pgoff = PageOffset(vma.pgoff.0.wrapping_add(1));
        vec![lower, upper]
    })
}

#[test]
fn no_rule_explains_a_wrong_attribute_of_a_page() {
    for rule in RULES {
        let last = last(rule.program);
        let model = &last.model;
        let nothing_mapped = model.spaces.iter().all(|space| space.vmas().is_empty());
        let mut gone = model.clone();
        gone.spaces[0].alive = false;
        let mut written = model.clone();
        written.spaces[0].anon_pages ^= 1;
        let mut other_error = model.clone();
        other_error.result = Err(Errno::EBADF);
        let cases = [
            ("alive", gone),
            ("result", other_error),
            ("anon_pages", written),
            ("locked", with(model, |vma| vma.flags ^= VmFlags::VM_LOCKED)),
            ("read", with(model, |vma| vma.flags ^= VmFlags::VM_READ)),
            ("policy", with(model, |vma| vma.policy = Mode::Interleave)),
            (
                "file",
                with(model, |vma| {
                    vma.file = match vma.file {
                        Some(_) => None,
                        None => Some(vmadiff_machine::FileId::new(0)),
                    };
                }),
            ),
            ("end", with(model, |vma| vma.end = vma.end.plus(vmadiff_machine::operand::Len(1)))),
        ];
        for (name, shown) in cases {
            let attribute = !["alive", "result", "anon_pages"].contains(&name);
            if attribute && nothing_mapped {
                continue;
            }
            assert!(!last.explained(rule, &shown), "{} explains {name}", rule.name);
        }
        // The original kernel's mistake gives pages another offset; no other rule is about offsets.
        let shown = with(model, |vma| vma.pgoff = PageOffset(vma.pgoff.0 + 1));
        if rule.name != "uffd-offset" && !nothing_mapped {
            assert!(!last.explained(rule, &shown), "{} explains an offset", rule.name);
        }
    }
}

/// The rules about what is not shown: they explain where VMAs end, once they have begun.
const HIDDEN: [&str; 2] = ["wipeonfork-anon-vma", "anon-vma-reuse"];

#[test]
fn a_vma_that_ends_elsewhere_is_explained_for_the_operation_of_a_rule_alone() {
    for (text, rules) in [
        // A mapping that succeeds is never cut.
        ("mmap 0 0 2 rw anon_private", &[][..]),
        ("mmap 0 0 2 rw anon_private\nfork 0", &[]),
        ("mmap 0 0 2 rw anon_private\nmremap 0 0 2 2 MAYMOVE|FIXED 9", &[]),
        ("mmap 0 0 2 rw anon_private\nmremap 0 0 2 3", &[]),
        ("mmap 0 0 4 rw anon_private\nmunmap 0 3 1", &[]),
        ("mmap 0 0 4 rw anon_private\ntouch 0 1 1\nmprotect 0 0 4 r", &[]),
        ("mmap 0 0 4 rw file0_private\nmprotect 0 0 4 r", &[]),
        ("mmap 0 0 4 rw anon_private\nuffd_register 0 0 4 0", &[]),
        // Never faulted and charged; a range that begins inside a VMA; a call that fails.
        ("mmap 0 0 4 rw anon_private\nmprotect 0 0 4 r", &["mprotect-uncharge"]),
        ("mmap 0 0 4 rw anon_private\nuffd_register 0 2 1 0", &["uffd-offset"]),
        (
            "limits address_space=5\nmmap 0 0 4 rw anon_private\nmmap 0 3 6 rw anon_private",
            &["mmap-cuts-first"],
        ),
    ] {
        let last = last(text);
        let shown = cut(&last.model);
        assert_eq!(last.explaining(&shown, false), rules, "{text}");
        let begun = last.explaining(&shown, true);
        let hidden: Vec<_> = begun.iter().filter(|name| HIDDEN.contains(name)).collect();
        assert_eq!(hidden.len(), HIDDEN.len(), "{text}: {begun:?}");
    }
}

#[test]
fn merging_is_explained_where_one_of_two_is_unfaulted_and_only_there() {
    let joined = |seen: &Observation| {
        rewrite(seen, 0, |n, mut vma| {
            if n > 0 {
                return vec![];
            }
            vma.end = seen.spaces[0].vmas()[1].end;
            vec![vma]
        })
    };
    // Growing in place leaves two neighbours that could merge.
    let two = "mmap 0 0 1 rw anon_private\nmmap 0 3 1 rw anon_private\n";
    for (text, rules) in [
        (
            format!("{two}touch 0 0 1\nmremap 0 0 1 3"),
            &["mremap-grow-merges", "merge-unfaulted"][..],
        ),
        (format!("{two}mremap 0 0 1 3"), &["mremap-grow-merges"]),
        (format!("{two}mremap 0 0 1 3\ntouch 0 0 1"), &["merge-unfaulted"]),
        (format!("{two}mremap 0 0 1 3\nmunmap 0 9 1"), &[]),
        (format!("{two}touch 0 0 1\ntouch 0 3 1\nmremap 0 0 1 3\nmunmap 0 9 1"), &[]),
    ] {
        let last = last(&text);
        assert_eq!(last.model.spaces[0].vmas().len(), 2, "{text}");
        assert_eq!(last.explaining(&joined(&last.model), false), rules, "{text}");
    }
}

#[test]
fn an_answer_is_explained_by_what_the_operation_met() {
    let answers = |text: &str| {
        let last = last(text);
        let answer =
            |rule: &Rule| Some((rule.name, rule.answers(&last.op, &last.before, &last.model)?));
        RULES.iter().filter_map(answer).collect::<Vec<_>>()
    };
    let three = "mmap 0 0 3 rw anon_private\n";
    let eagain = [("madvise-cut-eagain", Err(Errno::EAGAIN))];
    assert_eq!(answers(&format!("limits map_count=2\n{three}madvise 0 1 1 RANDOM")), eagain);
    // ENOMEM for a hole stays ENOMEM, and so does that of another call.
    assert_eq!(answers(&format!("{three}madvise 0 1 4 RANDOM")), []);
    assert_eq!(answers(&format!("limits map_count=2\n{three}mprotect 0 1 1 r")), []);
    let none = "mmap 0 0 1 - anon_private\n";
    assert_eq!(answers(&format!("{none}mlock 0 0 1 1")), [("mlock-onfault", Ok(0))]);
    assert_eq!(answers(&format!("{none}mlock 0 0 1 0")), []);
    assert_eq!(answers(&format!("{none}mlock 0 0 2 1")), []);
}

#[test]
fn a_refusal_is_explained_for_what_is_watched_or_only_executed() {
    let explaining = |text: &str, result| {
        let last = last(text);
        let mut shown = last.model.clone();
        shown.result = result;
        last.explaining(&shown, true)
    };
    let watched = "mmap 0 0 1 rw anon_private\nuffd_register 0 0 1 0\nmmap 0 2 1 rw anon_private\n\
                   uffd_register 0 2 1 1\nmmap 0 4 1 rw anon_private\n";
    let einval = Err(Errno::EINVAL);
    let other = explaining(&format!("{watched}uffd_unregister 0 0 1 1"), einval);
    assert_eq!(other, ["uffd-unregister-other"]);
    assert_eq!(explaining(&format!("{watched}uffd_unregister 0 4 1 1"), einval), [""; 0]);
    assert_eq!(
        explaining(&format!("{watched}uffd_unregister 0 0 1 1"), Err(Errno::EBUSY)),
        [""; 0]
    );
    let touch = |prot| format!("mmap 0 0 1 {prot} anon_private\ntouch 0 0 0");
    assert_eq!(explaining(&touch("x"), Err(Errno::EFAULT)), ["execute-only"]);
    assert_eq!(explaining(&touch("rx"), Err(Errno::EFAULT)), [""; 0]);
    assert_eq!(explaining(&touch("x"), Err(Errno::EAGAIN)), [""; 0]);
}
