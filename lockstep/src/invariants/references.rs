//! The recount of references to files, memory policies, userfaultfd contexts and address spaces.
//!
//! A VMA has one reference to its file and one to its policy. It has none to its context: the descriptor
//! keeps a context alive, so a VMA must not point to a context that is gone. The references of other
//! objects are counted by the machine ([`References::others`]).
//!
//! A counter that is too high is never 0: the object is never freed, a leak. A counter that is too low is 0
//! too early: the object is freed while it is in use.

use vmadiff_machine::Observation;
use vmadiff_machine::hidden::{Counted, Hidden, References};
use vmadiff_machine::operand::Mode;

use super::Violation;
use super::hidden::slot;
use crate::divergence::Class;

/// The counters of the objects with one number, and the references to them.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    counters: i64,
    references: i64,
}

impl Sum {
    fn add(&mut self, references: &References) {
        self.counters += references.counter;
        self.references += references.others;
    }

    fn check(self, object: &'static str) -> Option<Violation> {
        let Sum { counters, references } = self;
        if counters == references { None } else { Some(differ(object, counters, references)) }
    }
}

/// The tables of the recount.
#[derive(Debug, Default)]
pub(super) struct Recount {
    /// By the number of the file.
    files: Vec<Sum>,
    /// By the number of the context.
    contexts: Vec<Sum>,
}

impl Recount {
    /// Returns the first counter that differs from the references, or an object that nothing refers to.
    pub(super) fn check(&mut self, seen: &Observation, hidden: &Hidden) -> Option<Violation> {
        if !hidden.counts_references {
            return None;
        }
        self.files.clear();
        self.contexts.clear();
        let mut policies = [Sum::default(); Mode::ALL.len()];
        for references in &hidden.references {
            if references.counter <= 0 && !matches!(references.to, Counted::MmUsers) {
                return Some(not_freed(name(references.to)));
            }
            match references.to {
                Counted::File(file) => slot(&mut self.files, file.index()).add(references),
                Counted::Policy(mode) => policies[mode as usize].add(references),
                Counted::Context(ctx) => slot(&mut self.contexts, ctx.index()).add(references),
                Counted::MmUsers | Counted::Mm => {
                    let mut sum = Sum::default();
                    sum.add(references);
                    if let Some(violation) = sum.check(name(references.to)) {
                        return Some(violation);
                    }
                }
            }
        }
        for vma in seen.spaces.iter().flat_map(|space| space.vmas()) {
            if let Some(file) = vma.file {
                slot(&mut self.files, file.index()).references += 1;
            }
            if vma.policy != Mode::Default {
                policies[vma.policy as usize].references += 1;
            }
            if vma.uffd.is_some_and(|ctx| slot(&mut self.contexts, ctx.index()).counters == 0) {
                let (start, end) = (vma.start, vma.end);
                let text =
                    format!("the VMA {start}..{end} points to a userfaultfd_ctx that is freed");
                return Some(Violation::new(Class::Uffd, "invariant/context-freed", text));
            }
        }
        let files = self.files.iter().find_map(|sum| sum.check("file"));
        files
            .or_else(|| policies.iter().find_map(|sum| sum.check("mempolicy")))
            .or_else(|| self.contexts.iter().find_map(|sum| sum.check("userfaultfd_ctx")))
    }
}

/// The name of the object in signatures and sentences.
fn name(to: Counted) -> &'static str {
    match to {
        Counted::File(_) => "file",
        Counted::Policy(_) => "mempolicy",
        Counted::Context(_) => "userfaultfd_ctx",
        Counted::MmUsers => "mm_users",
        Counted::Mm => "mm_struct",
    }
}

#[cold]
fn not_freed(object: &'static str) -> Violation {
    let text = format!("an object of type {object} has no reference and is not freed");
    Violation::new(Class::Leak, object, text)
}

#[cold]
fn differ(object: &'static str, counters: i64, references: i64) -> Violation {
    let counted = match object {
        "mm_users" => "an mm_struct counts".to_owned(),
        _ => format!("objects of type {object} count"),
    };
    let what = if object == "mm_users" { "users" } else { "references" };
    let text = format!("{counted} {counters} {what}, and there are {references}");
    if counters > references {
        return Violation::new(Class::Leak, object, text);
    }
    let detail = match object {
        "file" => "invariant/references/file",
        "mempolicy" => "invariant/references/mempolicy",
        "userfaultfd_ctx" => "invariant/references/userfaultfd_ctx",
        "mm_users" => "invariant/references/mm_users",
        _ => "invariant/references/mm_struct",
    };
    Violation::new(Class::Aliasing, detail, text)
}

#[cfg(test)]
mod tests {
    use vmadiff_machine::operand::{Page, PageOffset, Process};
    use vmadiff_machine::{FileId, UffdId, VmFlags, Vma};

    use super::*;

    const FILE: usize = 0;
    const POLICY: usize = 1;
    const CONTEXT: usize = 2;
    const USERS: usize = 3;
    const MM: usize = 4;

    /// A process with one VMA, which has a file, a policy and a context.
    fn example() -> (Observation, Hidden) {
        let mut seen = Observation::default();
        let space = seen.rewrite(Process(0));
        space.alive = true;
        let range = (Page(4), Page(5));
        let (file, ctx) = (FileId::new(0), UffdId::new(0));
        let vma = |range, file, ctx, policy| {
            Vma::new(range, PageOffset(0), VmFlags::VM_READ, None, file, ctx, policy, false)
        };
        space.push(vma(range, Some(file), Some(ctx), Mode::Bind), []);
        let references = [
            (Counted::File(file), 2, 1),
            (Counted::Policy(Mode::Bind), 1, 0),
            (Counted::Context(ctx), 1, 1),
            (Counted::MmUsers, 1, 1),
            (Counted::Mm, 2, 2),
        ];
        let references =
            references.map(|(to, counter, others)| References { to, counter, others }).to_vec();
        (seen, Hidden { references, counts_references: true, ..Hidden::default() })
    }

    /// Returns the class and the rest of the signature that the recount finds.
    fn found(seen: &Observation, hidden: &Hidden) -> Option<(Class, String)> {
        let violation = Recount::default().check(seen, hidden)?;
        Some((violation.class, violation.detail.into_owned()))
    }

    #[test]
    fn counters_that_equal_the_references_break_nothing() {
        let (seen, hidden) = example();
        assert_eq!(found(&seen, &hidden), None);
    }

    #[test]
    fn a_counter_that_is_too_high_is_a_leak_and_one_that_is_too_low_frees_an_object_in_use() {
        for (at, name, low) in [
            (FILE, "file", (Class::Aliasing, "invariant/references/file")),
            (POLICY, "mempolicy", (Class::Leak, "mempolicy")),
            (CONTEXT, "userfaultfd_ctx", (Class::Leak, "userfaultfd_ctx")),
            (USERS, "mm_users", (Class::Aliasing, "invariant/references/mm_users")),
            (MM, "mm_struct", (Class::Aliasing, "invariant/references/mm_struct")),
        ] {
            let (seen, mut hidden) = example();
            hidden.references[at].counter += 1;
            assert_eq!(found(&seen, &hidden), Some((Class::Leak, name.to_owned())));
            // An object whose counter is 0 is not freed.
            hidden.references[at].counter -= 2;
            let (class, detail) = low;
            assert_eq!(found(&seen, &hidden), Some((class, detail.to_owned())), "{name}");
        }
    }

    #[test]
    fn a_context_with_more_references_than_it_counts_is_freed_in_use() {
        let (seen, mut hidden) = example();
        hidden.references[CONTEXT].others += 1;
        let expected = "invariant/references/userfaultfd_ctx".to_owned();
        assert_eq!(found(&seen, &hidden), Some((Class::Aliasing, expected)));
    }

    #[test]
    fn a_finding_has_both_counts() {
        for (at, text) in [
            (FILE, "objects of type file count 3 references, and there are 2"),
            (USERS, "an mm_struct counts 2 users, and there are 1"),
            (MM, "objects of type mm_struct count 3 references, and there are 2"),
        ] {
            let (seen, mut hidden) = example();
            hidden.references[at].counter += 1;
            let found = Recount::default().check(&seen, &hidden).expect("a finding");
            assert_eq!(found.text, text);
        }
    }

    #[test]
    fn an_object_that_is_gone_has_no_user_left() {
        for (at, expected) in [
            (FILE, Some((Class::Aliasing, "invariant/references/file"))),
            (POLICY, Some((Class::Aliasing, "invariant/references/mempolicy"))),
            (CONTEXT, Some((Class::Uffd, "invariant/context-freed"))),
            (USERS, None),
            (MM, None),
        ] {
            let (seen, mut hidden) = example();
            hidden.references.remove(at);
            let expected = expected.map(|(class, detail)| (class, detail.to_owned()));
            assert_eq!(found(&seen, &hidden), expected);
        }
    }

    #[test]
    fn a_vma_has_one_reference_to_its_file_and_one_to_its_policy() {
        let (mut seen, hidden) = example();
        let mut second = seen.spaces[0].vmas()[0];
        (second.start, second.end, second.policy) = (Page(6), Page(7), Mode::Default);
        seen.spaces[0].push(second, []);
        let found_file = found(&seen, &hidden);
        assert_eq!(found_file, Some((Class::Aliasing, "invariant/references/file".to_owned())));

        let (mut seen, hidden) = example();
        (second.file, second.policy) = (None, Mode::Bind);
        seen.spaces[0].push(second, []);
        let found_policy = found(&seen, &hidden);
        let expected = Some((Class::Aliasing, "invariant/references/mempolicy".to_owned()));
        assert_eq!(found_policy, expected);
    }

    #[test]
    fn a_machine_without_counters_breaks_nothing() {
        let (seen, mut hidden) = example();
        hidden.references.clear();
        hidden.counts_references = false;
        assert_eq!(found(&seen, &hidden), None);
    }
}
