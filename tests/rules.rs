//! The rules of later kernels, tested without a kernel: each rule accepts the behaviour of the
//! later kernel and no other behaviour. For each rule `corpus/kernel` has a program that the rule
//! changes, and `corpus/kernel/outside` has a similar program that the rule does not change.
//! `corpus/kernel/recorded` has the observation of a running kernel after the last operation of the
//! first program. `tests/kernel.rs` runs the programs on the running kernel.

mod common {
    pub(crate) mod rules;
}

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::rules::{RECORDED_FLAGS, folder, program, shown};
use vmadiff::compare::{Comparer, Scope};
use vmadiff_machine::operand::Process;
use vmadiff_machine::{Errno, Machine as _, Observation, Program, UffdEvent, VmFlags, Vma};
use vmadiff_reference::Reference;
use vmadiff_reference::later::{About, Bug, Rule, Rules, Version};

/// The rules without a recorded observation, because no available kernel has them. Kernels before
/// 6.17 have the three after the newest ones; the others depend on the processor, the architecture or
/// the configuration.
const NOT_RECORDED: [Rule; 13] = [
    Rule::MremapDontunmapMarks,
    Rule::MremapDontunmapCuts,
    Rule::MremapDontunmapApart,
    Rule::MremapDontunmapOffset,
    Rule::MremapUnmappedFirst,
    Rule::MadviseCutEagain,
    Rule::MadvisePopulateWalks,
    Rule::MmapMergesNext,
    Rule::ExecuteOnly,
    Rule::MremapDontunmapAlone,
    Rule::LowestHole,
    Rule::MunlockSoftDirty,
    Rule::UffdWpNoEffect,
];

/// Runs a program and returns each observation with the rules that the operation applied.
fn run(program: &Program, rules: Rules) -> Vec<(Observation, Rules)> {
    let mut reference = Reference::with_rules(rules);
    reference.reset(&program.limits);
    let mut seen = Observation::default();
    let steps = program.ops.iter().map(|op| {
        reference.step(op, &mut seen);
        (seen.clone(), reference.applied())
    });
    steps.collect()
}

fn are_same(a: &Observation, b: &Observation) -> bool {
    Comparer::new(Scope::Models).same_in_full(a, b)
}

fn only(rule: Rule) -> Rules {
    Rules::NONE.with(rule)
}

#[test]
fn inside_a_rule_the_last_operation_alone_shows_a_difference_from_5_2_1() {
    for &rule in Rule::ALL {
        let program = program("", rule);
        let refined = rule.refines();
        let (later, original) = (run(&program, refined.with(rule)), run(&program, refined));
        let last = program.ops.len() - 1;
        for (at, ((later, _), (original, _))) in later.iter().zip(&original).enumerate() {
            let all = VmFlags::all();
            let same = shown(later, all) == shown(original, all);
            assert_eq!(same, at != last, "{}: operation {at}", rule.name());
        }
        // A kernel does not show the anon_vma of a child, no page offset of anonymous memory, and no write
        // protection by userfaultfd. An operation before the last one applies these rules.
        let before = match rule {
            Rule::WipeonforkAnonVma
            | Rule::AnonVmaReuse
            | Rule::MremapDontunmapOffset
            | Rule::UffdWpNoEffect => 1,
            Rule::UffdWpClears => 2,
            _ => 0,
        };
        let applied: Vec<_> = (0..=last).filter(|&at| later[at].1.has(rule)).collect();
        assert_eq!(applied, [last - before], "{}", rule.name());
    }
}

#[test]
fn outside_a_rule_nothing_differs_from_5_2_1() {
    for &rule in Rule::ALL {
        let program = program("outside", rule);
        let refined = rule.refines();
        let (later, original) = (run(&program, refined.with(rule)), run(&program, refined));
        for (at, ((later, applied), (original, _))) in later.iter().zip(&original).enumerate() {
            assert!(!applied.has(rule), "{}: operation {at} applied it", rule.name());
            assert!(are_same(later, original), "{}: operation {at}", rule.name());
        }
    }
}

#[test]
fn a_rule_gives_what_a_running_kernel_showed() {
    let recorded = fs::read_dir(folder("recorded")).expect("a folder").map(|entry| {
        let path = entry.expect("a file").path();
        path.file_stem().expect("a name").to_string_lossy().into_owned()
    });
    let recorded: BTreeSet<String> = recorded.collect();
    let expected = Rule::ALL.iter().filter(|rule| !NOT_RECORDED.contains(rule));
    assert_eq!(recorded, expected.map(|rule| rule.name().to_owned()).collect());
    for name in recorded {
        let rule = Rule::named(&name).expect("a rule");
        let path = folder("recorded").join(format!("{name}.txt"));
        let text = fs::read_to_string(path).expect("text");
        let (_, observation) = text.split_once('\n').expect("a line that names the kernel");
        let steps = run(&program("", rule), rule.refines().with(rule));
        let (last, _) = steps.last().expect("an operation");
        assert_eq!(shown(last, RECORDED_FLAGS), observation, "{name}");
    }
}

/// A change of the observation after the last operation of a program.
#[derive(Debug)]
enum Edit {
    /// The operation has this result.
    Answers(Result<u8, Errno>),
    /// The VMAs on both sides of the page are one VMA.
    Joined(u8, u8),
    /// The VMA is cut in two at the page.
    Cut(u8, u8),
    /// The VMA of the page has these flags changed.
    Flags(u8, u8, VmFlags),
    /// The page offset of the VMA is this many pages larger.
    Offset(u8, u8, i64),
    /// The messages to monitors are about moves of this many pages.
    Told(u8),
    /// The anon_vma of the page's VMA is the last one of its chain.
    Reused(u8, u8),
}

impl Edit {
    fn apply(&self, seen: &Observation) -> Observation {
        let mut edited = seen.clone();
        let (process, page) = match *self {
            Edit::Answers(result) => {
                edited.result = result;
                return edited;
            }
            Edit::Told(pages) => {
                for message in &mut edited.messages {
                    if let UffdEvent::Remap { from, .. } = &mut message.about {
                        from.end.0 = from.start.0 + pages;
                    }
                }
                return edited;
            }
            Edit::Joined(process, page)
            | Edit::Cut(process, page)
            | Edit::Flags(process, page, _)
            | Edit::Offset(process, page, _)
            | Edit::Reused(process, page) => (process, page),
        };
        let before = &seen.spaces[usize::from(process)];
        let mut vmas: Vec<(Vma, Vec<_>)> =
            before.vmas().iter().map(|vma| (*vma, before.chain(vma).to_vec())).collect();
        let at = |vmas: &[(Vma, Vec<_>)]| {
            let there = vmas.iter().position(|(vma, _)| vma.start.0 <= page && page < vma.end.0);
            there.expect("something is mapped at the page")
        };
        match *self {
            Edit::Answers(_) | Edit::Told(_) => {}
            Edit::Joined(..) => {
                let (upper, _) = vmas.remove(at(&vmas));
                let lower = vmas.iter_mut().find(|(vma, _)| vma.end == upper.start);
                lower.expect("a VMA ends there").0.end = upper.end;
            }
            Edit::Cut(..) => {
                let at = at(&vmas);
                let (mut upper, chain) = vmas[at].clone();
                upper.start.0 = page;
                upper.pgoff.0 += u64::from(page - vmas[at].0.start.0);
                vmas[at].0.end.0 = page;
                vmas.insert(at + 1, (upper, chain));
            }
            Edit::Flags(_, _, flags) => {
                let at = at(&vmas);
                vmas[at].0.flags ^= flags;
            }
            Edit::Offset(_, _, by) => {
                let at = at(&vmas);
                let pgoff = &mut vmas[at].0.pgoff.0;
                *pgoff = pgoff.wrapping_add_signed(by);
            }
            Edit::Reused(..) => {
                let at = at(&vmas);
                let (vma, chain) = &mut vmas[at];
                chain.remove(0);
                vma.anon_vma = chain.last().copied();
            }
        }
        let space = edited.rewrite(Process(process));
        (space.alive, space.counters) = (true, before.counters);
        space.anon_pages = before.anon_pages;
        for (vma, chain) in vmas {
            space.push(vma, chain);
        }
        edited
    }
}

/// Returns behaviours next to a rule, which the rule must not accept. Each changes the program that
/// the rule changes (`true`) or the program in `outside` (`false`).
fn near(rule: Rule) -> Vec<(bool, Edit)> {
    use Edit::*;
    let account = VmFlags::VM_ACCOUNT;
    match rule {
        Rule::MbindHoles => {
            vec![(true, Answers(Err(Errno::EINVAL))), (false, Answers(Err(Errno::EFAULT)))]
        }
        Rule::WipeonforkAnonVma => vec![(true, Flags(1, 0, account)), (false, Joined(1, 1))],
        Rule::MremapDontunmap => {
            vec![(true, Answers(Err(Errno::EINVAL))), (true, Cut(0, 2)), (false, Answers(Ok(8)))]
        }
        Rule::MremapDontunmapLocked => vec![
            (true, Answers(Err(Errno::EINVAL))),
            (true, Flags(0, 1, VmFlags::VM_LOCKED)),
            (false, Answers(Ok(8))),
        ],
        Rule::MremapDontunmapMarks => {
            vec![(true, Flags(0, 5, account)), (false, Flags(0, 5, account))]
        }
        Rule::UffdRemapLength => vec![(true, Told(2)), (true, Told(0)), (false, Told(0))],
        Rule::MremapDontunmapFiles => vec![
            (true, Answers(Err(Errno::EINVAL))),
            (true, Offset(0, 1, 1)),
            (false, Answers(Ok(8))),
        ],
        Rule::MremapDontunmapApart => vec![(true, Joined(0, 1)), (false, Cut(0, 2))],
        Rule::MremapUnmappedFirst => {
            vec![(true, Answers(Err(Errno::ENOMEM))), (false, Answers(Err(Errno::EFAULT)))]
        }
        Rule::MremapUnmapped => {
            vec![(true, Answers(Err(Errno::EINVAL))), (false, Answers(Err(Errno::EFAULT)))]
        }
        Rule::MadviseCutEagain => vec![(true, Cut(0, 2)), (false, Answers(Err(Errno::EAGAIN)))],
        Rule::MadviseCold | Rule::MadvisePageout | Rule::MadvisePopulate => {
            vec![(true, Flags(0, 0, VmFlags::VM_RAND_READ)), (false, Answers(Ok(0)))]
        }
        Rule::MadviseDontneedLocked => {
            vec![(true, Flags(0, 0, VmFlags::VM_LOCKED)), (false, Answers(Ok(0)))]
        }
        Rule::MadvisePopulateWalks => {
            vec![(true, Answers(Err(Errno::ENOMEM))), (false, Answers(Err(Errno::ENOMEM)))]
        }
        Rule::MadviseRemoveReadable => {
            vec![(true, Answers(Err(Errno::EACCES))), (false, Answers(Ok(0)))]
        }
        Rule::Mseal => {
            vec![(true, Flags(0, 0, VmFlags::VM_SEALED)), (false, Answers(Err(Errno::EPERM)))]
        }
        Rule::MemoryMerge => {
            vec![(true, Flags(0, 0, VmFlags::VM_WRITE)), (false, Cut(0, 1))]
        }
        Rule::MemoryMergeFirst => {
            let mark = VmFlags::VM_MERGEABLE;
            vec![(true, Flags(0, 0, mark)), (true, Cut(0, 1)), (false, Flags(0, 0, mark))]
        }
        Rule::MunlockSoftDirty => vec![
            (true, Flags(0, 0, VmFlags::VM_SOFTDIRTY)),
            (false, Flags(0, 1, VmFlags::VM_SOFTDIRTY)),
        ],
        Rule::MlockOnfault => {
            vec![(true, Flags(0, 0, VmFlags::VM_LOCKED)), (false, Answers(Ok(0)))]
        }
        Rule::MremapGrowMerges => vec![(true, Offset(0, 1, 1)), (false, Joined(0, 3))],
        Rule::AnonVmaReuse => vec![(true, Joined(0, 1)), (false, Reused(1, 0))],
        Rule::MmapMergesNext => vec![(true, Joined(1, 2)), (false, Cut(0, 2))],
        // The offset of 5.2.1, and offsets below and above the right one.
        Rule::UffdOffset => vec![
            (true, Offset(0, 14, -2)),
            (true, Offset(0, 14, -1)),
            (true, Offset(0, 14, 1)),
            (false, Offset(0, 0, 2)),
            (false, Cut(0, 2)),
        ],
        Rule::MprotectUncharge => {
            vec![(true, Flags(0, 0, VmFlags::VM_NORESERVE)), (false, Flags(0, 0, account))]
        }
        Rule::MmapCutsFirst => vec![(true, Flags(0, 0, account)), (false, Cut(0, 1))],
        Rule::MergeUnfaulted => vec![(true, Offset(0, 0, 1)), (false, Joined(1, 1))],
        Rule::MergeClosePrev | Rule::MergeCloseNext => {
            vec![(true, Flags(0, 2, VmFlags::VM_WRITE)), (false, Joined(0, 1))]
        }
        Rule::MremapSeveral => {
            vec![(true, Flags(0, 12, VmFlags::VM_WRITE)), (false, Answers(Ok(10)))]
        }
        Rule::MremapChecksFirst => {
            vec![(true, Answers(Err(Errno::EFAULT))), (false, Answers(Err(Errno::EFAULT)))]
        }
        Rule::UffdUnregisterOther => {
            vec![(true, Answers(Err(Errno::EBUSY))), (false, Answers(Err(Errno::EINVAL)))]
        }
        Rule::MremapDontunmapCuts => vec![
            (true, Flags(0, 3, VmFlags::VM_LOCKED)),
            (true, Answers(Err(Errno::EINVAL))),
            (false, Cut(0, 2)),
        ],
        Rule::MremapDontunmapOffset => vec![(true, Cut(0, 5)), (false, Offset(0, 4, 3))],
        Rule::MremapDontunmapAlone => vec![(true, Joined(0, 2)), (false, Joined(0, 1))],
        Rule::UffdWp => vec![
            (true, Answers(Err(Errno::EINVAL))),
            (true, Flags(0, 0, VmFlags::VM_UFFD_MISSING)),
            (false, Answers(Ok(0))),
        ],
        Rule::UffdWriteprotect => vec![
            (true, Answers(Ok(0))),
            (true, Flags(0, 0, VmFlags::VM_UFFD_WP)),
            (false, Answers(Err(Errno::ENOENT))),
        ],
        Rule::UffdWpNoEffect => vec![
            (true, Answers(Err(Errno::EFAULT))),
            (true, Flags(0, 0, VmFlags::VM_UFFD_WP)),
            (false, Answers(Err(Errno::EAGAIN))),
        ],
        Rule::UffdWpFiles => vec![
            (true, Answers(Err(Errno::EINVAL))),
            (true, Flags(0, 0, VmFlags::VM_UFFD_MISSING)),
            (false, Flags(0, 0, VmFlags::VM_UFFD_MISSING)),
        ],
        Rule::UffdWpSeveral => vec![
            (true, Answers(Err(Errno::ENOENT))),
            (true, Flags(0, 0, VmFlags::VM_UFFD_WP)),
            (false, Answers(Err(Errno::ENOENT))),
        ],
        Rule::UffdWpClears => vec![
            (true, Answers(Err(Errno::EAGAIN))),
            (true, Flags(0, 0, VmFlags::VM_UFFD_WP)),
            (false, Answers(Err(Errno::EAGAIN))),
        ],
        Rule::LowestHole => vec![
            (true, Answers(Ok(126))),
            (true, Answers(Err(Errno::ENOMEM))),
            (false, Answers(Ok(1))),
        ],
        Rule::ExecuteOnly => {
            vec![(true, Answers(Err(Errno::SIGBUS))), (false, Answers(Err(Errno::EFAULT)))]
        }
    }
}

#[test]
fn a_rule_does_not_accept_what_is_near_it() {
    for &rule in Rule::ALL {
        let edits = near(rule);
        assert!(edits.iter().any(|(inside, _)| !inside), "{}: outside", rule.name());
        for (inside, edit) in edits {
            let program = program(if inside { "" } else { "outside" }, rule);
            let steps = run(&program, rule.refines().with(rule));
            let (expected, _) = steps.last().expect("an operation");
            assert!(are_same(expected, expected));
            let name = rule.name();
            assert!(!are_same(expected, &edit.apply(expected)), "{name} accepts {edit:?}");
        }
    }
}

#[test]
fn uffd_offset_also_joins_where_the_offset_of_the_range_fits() {
    // In the program of the rule the offset of the VMA fits and the offset of the range does not.
    // Here the offset of the range fits.
    let program: Program = "mmap 0 0 2 rw anon_private\nmmap 0 2 2 rw anon_private\n\
                            uffd_register 0 2 2 0\nuffd_register 0 1 1 0\n"
        .parse()
        .expect("a program");
    for (rules, vmas) in [(Rules::NONE, 3), (only(Rule::UffdOffset), 2)] {
        let steps = run(&program, rules);
        let (last, applied) = steps.last().expect("an operation");
        assert_eq!(*applied, rules);
        assert_eq!(last.spaces[0].vmas().len(), vmas);
    }
}

#[test]
fn mlock_merges_by_the_anon_vmas_that_its_operation_began_with() {
    let program: Program = "mmap 0 0 2 rw anon_private\nmlock 0 0 1 1\ntouch 0 1 1\nmlock 0 0 2\n"
        .parse()
        .expect("a program");
    let steps = run(&program, only(Rule::MergeUnfaulted));
    let (last, applied) = steps.last().expect("an operation");
    assert_eq!(*applied, only(Rule::MergeUnfaulted));
    assert_eq!(last.spaces[0].vmas().len(), 1);
}

#[test]
fn rules_go_by_version_from_the_first_to_the_last_that_has_them() {
    assert!(Rules::of_version(Version(5, 2)).is_empty());
    for (version, rule, has) in [
        (Version(5, 15), Rule::MremapUnmappedFirst, false),
        (Version(5, 16), Rule::MremapUnmappedFirst, true),
        (Version(6, 16), Rule::MremapUnmappedFirst, true),
        (Version(6, 17), Rule::MremapUnmappedFirst, false),
        (Version(6, 9), Rule::MadvisePopulateWalks, true),
        (Version(6, 10), Rule::MadvisePopulateWalks, false),
        (Version(5, 10), Rule::MremapDontunmapMarks, true),
        (Version(5, 11), Rule::MremapDontunmapMarks, false),
        (Version(6, 11), Rule::MmapMergesNext, true),
        (Version(6, 12), Rule::MmapMergesNext, false),
        (Version(6, 12), Rule::UffdOffset, true),
        (Version(7, 0), Rule::UffdOffset, true),
        (Version(7, 0), Rule::ExecuteOnly, false),
        (Version(7, 0), Rule::UffdWp, false),
    ] {
        assert_eq!(Rules::of_version(version).has(rule), has, "{version}: {}", rule.name());
    }
}

/// Returns the table of docs/rules.md.
fn table() -> String {
    let version = |version: Option<Version>| version.map_or("-".into(), |v| v.to_string());
    let rows = Rule::ALL.iter().map(|rule| {
        let About { name, since, until, text, function, commit, bug, .. } = rule.about();
        let commit = commit.map_or("-".into(), |commit| commit.to_string());
        let (since, until) = (version(*since), version(*until));
        let recorded = if NOT_RECORDED.contains(rule) { "-" } else { "6.18" };
        // A commit may have `|` in its title.
        let commit = commit.replace('|', "\\|");
        format!(
            "| `{name}` | {since} | {until} | {text} | `{function}()` | {commit} | {bug} | {recorded} |\n"
        )
    });
    rows.collect()
}

#[test]
fn the_docs_list_every_rule() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules.md");
    let text = fs::read_to_string(&path).expect("docs/rules.md");
    let head = text.lines().find(|line| line.starts_with("|---")).expect("a table");
    let (before, after) = text.split_once(head).expect("a table");
    let end = after.find("\n\n").map_or(after.len(), |end| end + 1);
    let wanted = format!("{before}{head}\n{}{}", table(), &after[end..]);
    if std::env::var_os("VMADIFF_RECORD").is_some() {
        fs::write(&path, &wanted).expect("docs/rules.md");
        return;
    }
    assert!(
        text == wanted,
        "docs/rules.md is not up to date: VMADIFF_RECORD=1 cargo test --test rules"
    );
}

#[test]
fn a_rule_says_where_it_comes_from() {
    for &rule in Rule::ALL {
        let about = rule.about();
        assert_eq!(Rule::named(about.name), Some(rule));
        assert_eq!(about.since.is_none(), about.commit.is_none(), "{}", about.name);
        assert!(about.until.is_none_or(|until| about.since < Some(until)), "{}", about.name);
        if let Some(id) = about.commit.and_then(|commit| commit.id) {
            let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            assert!(id.len() == 12 && id.chars().all(hex), "{}: {id}", about.name);
        }
    }
    let versions = Rule::ALL.iter().filter_map(|rule| rule.about().since);
    assert!(versions.is_sorted());
    assert_eq!(Rule::UffdOffset.about().bug, Bug::Original);
    assert_eq!(Rule::AnonVmaReuse.about().bug, Bug::Original);
}

#[test]
fn a_copy_without_an_address_goes_to_the_hole_that_a_move_would_go_to() {
    let program: Program =
        "mmap 0 0 1 rw anon_private\ncopy 0 0 1 0 0\n".parse().expect("a program");
    let copied = |rules| run(&program, rules).pop().map(|(seen, applied)| (seen.result, applied));
    let lowest = Rules::NONE.with(Rule::LowestHole);
    assert_eq!(copied(Rules::NONE), Some((Ok(127), Rules::NONE)));
    assert_eq!(copied(lowest), Some((Ok(1), lowest)));
}
