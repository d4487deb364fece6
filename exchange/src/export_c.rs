//! The export to C: a single file that runs the program by system calls and reports whether the
//! running kernel does what the reference expects.
//!
//! The file has a small runtime (the needed parts of `export_runtime.c`), and then the program as a
//! table, with the text form beside each entry.
//!
//! The expectation of an operation is the part of the reference's observation that a running kernel
//! shows ([`Visible`](vmadiff_lockstep::visible::Visible)), as `vmadiff kernel` compares it.
//!
//! If an expectation depends on rules of later kernels, the C has the programs of these rules, too. It
//! runs them first, as `vmadiff kernel` does, and expects the behaviour of 5.2.1 with the rules that hold.

mod call;
mod expectation;
mod parts;

use std::fmt::Write as _;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_lockstep::divergence::Divergence;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::operand::{File, Kind, Process};
use vmadiff_machine::{Errno, Limits, Machine as _, Observation, Op, Program};
use vmadiff_reference::Reference;
use vmadiff_reference::later::{About, Rule, Rules};

use self::call::call;
use self::expectation::{Expectation, expectations};
use self::parts::Parts;
use crate::later::{Alternative, Behaviours, Step, behaviours, releases};

/// Returns the reason why the C ends before this operation, if there is one.
fn end(op: &Op, result: Result<u8, Errno>) -> Option<&'static str> {
    match op {
        Op::CopyVma { .. } => Some("a direct call of copy_vma() is no system call"),
        // A call of a process that does not exist is not made at all.
        Op::Mmap { kind, .. } if kind.get() == Kind::Special && result != Err(Errno::ESRCH) => {
            Some("no kernel has the device that is mapped here")
        }
        Op::Ftruncate { file, .. }
            if file.get() == File::Special && result != Err(Errno::ESRCH) =>
        {
            Some("no kernel has the device that is truncated here")
        }
        _ => None,
    }
}

/// A program with its expectations: the exported program, or the program of a rule.
struct Expected<'a> {
    limits: &'a Limits,
    ops: &'a [Op],
    behaviours: Behaviours<Expectation>,
}

impl<'a> Expected<'a> {
    fn of(limits: &'a Limits, ops: &'a [Op], allowed: Rules) -> Expected<'a> {
        let behaviours = behaviours(allowed, |rules| expectations(ops, limits, rules));
        Expected { limits, ops, behaviours }
    }
}

/// Returns the programs of the rules on which `program` depends, and of the rules that these rules
/// refine, in the order of [`Rule::ALL`]. `probes` has the program of every rule.
fn needed<'a>(program: &Expected, probes: &'a [(Rule, Program)]) -> Vec<(Rule, Expected<'a>)> {
    let mut rules = program.behaviours.rules();
    let mut needed: Vec<(Rule, Expected)> = Vec::new();
    // A rule refines earlier rules only, so the rules are taken from the last one to the first one.
    for (rule, probe) in probes.iter().rev() {
        if !rules.has(*rule) {
            continue;
        }
        // A rule that refines others is shown beside the earlier rules that hold, any other rule alone.
        let earlier = Rule::ALL.iter().copied().filter(|earlier| earlier < rule);
        let beside: Rules = match rule.refines() {
            Rules::NONE => Rules::NONE,
            _ => earlier.collect(),
        };
        let probe = Expected::of(&probe.limits, &probe.ops, beside.with(*rule));
        rules = rules.union(rule.refines()).union(probe.behaviours.rules());
        needed.push((*rule, probe));
    }
    needed.reverse();
    needed
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
    let (count, ended) = length(program);
    let (ops, rest) = program.ops.split_at(count);
    // The C is for x86-64: User Mode Linux differs in more than its rules.
    let of_uml = [Rule::LowestHole, Rule::UffdWpNoEffect];
    let allowed = Rule::ALL.iter().copied().filter(|rule| !of_uml.contains(rule)).collect();
    let main = Expected::of(&program.limits, ops, allowed);
    let probe = |rule: &Rule| Some((*rule, rule.about().probe.parse().ok()?));
    let probes: Vec<(Rule, Program)> = Rule::ALL.iter().filter_map(probe).collect();
    let needed = needed(&main, &probes);
    let rules: Rules = needed.iter().map(|(rule, _)| *rule).collect();
    let all = || [&main].into_iter().chain(needed.iter().map(|(_, probe)| probe));
    let parts = Parts {
        programs: all().map(|part| (part.limits, part.ops)).collect(),
        rules: !rules.is_empty(),
        releases: main.behaviours.releases,
    };

    let mut text = head(program, name);
    rule_names(&mut text, rules, main.behaviours.releases);
    text.push_str(&parts.runtime());
    if !needed.is_empty() {
        text.push_str("\n/* ---- the rules of later kernels ---- */\n\n");
    }
    for (rule, probe) in &needed {
        rule_comment(&mut text, rule.about());
        table(&mut text, &identifier(*rule).to_lowercase(), probe, &parts, "");
        text.push('\n');
    }
    if !needed.is_empty() {
        rule_table(&mut text, needed.iter().map(|(rule, _)| *rule));
    }
    text.push_str("\n/* ---- the program ---- */\n\n");
    let mut left_out = String::new();
    if let Some(why) = ended {
        let _ = writeln!(left_out, "\t/*\n\t * Here the program goes on, but {why}.\n\t *");
        for op in rest {
            let _ = writeln!(left_out, "\t *   {op}");
        }
        left_out.push_str("\t */\n");
    }
    table(&mut text, "program", &main, &parts, &left_out);
    let left = rest.len();
    let _ = write!(text, "\nint main(void)\n{{\n\treturn start_and_run(&program, {left});\n}}\n");
    text
}

/// Returns the number of operations that the C has, and the reason why it ends before the program's
/// end.
fn length(program: &Program) -> (usize, Option<&'static str>) {
    let mut reference = Reference::new();
    reference.reset(&program.limits);
    let mut seen = Observation::default();
    for (count, op) in program.ops.iter().enumerate() {
        reference.step(op, &mut seen);
        if let Some(why) = end(op, seen.result) {
            return (count, Some(why));
        }
    }
    (program.ops.len(), None)
}

/// Returns the comment at the top.
fn head(program: &Program, name: &str) -> String {
    let name = harmless(name);
    let mut text = format!(
        "/*\n \
         * {name}: a program of vmadiff (`vmadiff export --c`), to be run on Linux on x86-64:\n \
         *\n \
         *     cc -Wall -Wextra -o program {name}.c && ./program\n \
         *\n \
         * It prints each operation with its result, and compares the results, the VMAs with their\n \
         * flags, the counters and the anonymous pages of each process with the expectation. At the\n \
         * end it compares the contents of the pages. The expectation is Linux 5.2.1 with the\n \
         * original copy_vma() and, where the program depends on changes of later kernels, with\n \
         * those changes that this kernel has. It stops at the first difference.\n \
         * Exit status: 0 the kernel agrees, 1 it differs, 2 not all could be run here. The program,\n \
         * each operation with its process and with pages counted from the arena's start:\n \
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

/// Returns the name of a rule as a constant of C.
fn identifier(rule: Rule) -> String {
    format!("RULE_{}", rule.name().replace('-', "_").to_uppercase())
}

/// Returns a set of rules as an expression of C.
fn set(rules: Rules) -> String {
    let names: Vec<_> = rules.iter().map(identifier).collect();
    if names.is_empty() { "0".into() } else { names.join(" | ") }
}

/// Writes the constants for the rules.
fn rule_names(text: &mut String, rules: Rules, of_releases: bool) {
    let _ = writeln!(text, "#define RULES {}", rules.iter().count());
    if !rules.is_empty() {
        text.push_str("\n/* Rules of later kernels: changes since 5.2.1. */\n");
        for (bit, rule) in rules.iter().enumerate() {
            let _ = writeln!(text, "#define {} (1ull << {bit})", identifier(rule));
        }
    }
    if of_releases {
        text.push_str("\n#define COMBINATIONS { \\\n");
        for release in releases(rules) {
            let _ = writeln!(text, "\t{}, \\", set(release));
        }
        text.push_str("}\n");
    }
    text.push('\n');
}

/// Writes the comment before the program of a rule.
fn rule_comment(text: &mut String, about: &About) {
    const WIDTH: usize = 96;
    let mut facts = format!("{}: {}. Decided in {}()", about.name, about.text, about.function);
    if let Some(commit) = about.commit {
        let _ = write!(facts, ", commit {commit}");
    }
    text.push_str("/*\n");
    let mut line = String::from(" *");
    for word in facts.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = " *".into();
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}.\n */");
}

/// Writes the table of the rules.
fn rule_table(text: &mut String, rules: impl Iterator<Item = Rule>) {
    text.push_str("static const struct rule rule[RULES] = {\n");
    for rule in rules {
        let About { name, since, until, .. } = rule.about();
        let since = match (since, until) {
            (Some(since), Some(until)) => format!("since {since}, until {until}"),
            (Some(since), None) => format!("since {since}"),
            (None, _) => "of some processors or releases".into(),
        };
        let _ = writeln!(
            text,
            "\t{{ \"{name}\", \"{since}\", {}, &{} }},",
            set(rule.refines()),
            identifier(rule).to_lowercase()
        );
    }
    text.push_str("};\n");
}

/// Writes the table of the operations of a program, and the program with its limits. `left_out` is a
/// comment after the operations.
fn table(text: &mut String, name: &str, part: &Expected, parts: &Parts, left_out: &str) {
    let _ = writeln!(text, "static const struct operation {name}_operations[] = {{");
    let segment = parts.has("SEGMENT");
    for (op, step) in part.ops.iter().zip(&part.behaviours.steps) {
        let Process(process) = op.process();
        let _ = writeln!(text, "\t{{\n\t\t.text = \"{op}\",\n\t\t.process = {process},");
        let _ = writeln!(text, "\t\t.call = {{ {} }},", call(op));
        expected(text, step, segment);
        text.push_str("\t},\n");
    }
    text.push_str(left_out);
    match part.behaviours.steps.last() {
        Some(end) if end.later.is_empty() && end.original.contents.is_empty() => {
            text.push_str("\t{ .text = NULL },\n");
        }
        end => {
            text.push_str("\t{\n\t\t.text = NULL,\n");
            end.inspect(|end| expected(text, end, false));
            text.push_str("\t},\n");
        }
    }
    let _ = write!(
        text,
        "}};\n\n\
         static const struct program {name} = {{\n\t.operations = {name}_operations,\n"
    );
    if parts.has("FORK") {
        let _ = writeln!(text, "\t.processes = {},", part.limits.max_processes());
    }
    let given = [
        ("MAP_COUNT", "map_count", part.limits.map_count),
        ("ADDRESS_SPACE", "address_space", part.limits.address_space),
        ("LOCKS", "lock", part.limits.lock),
    ];
    for (part, member, limit) in given {
        if parts.has(part) {
            let _ = writeln!(text, "\t.{member} = {},", limit.map_or(-1, i16::from));
        }
    }
    text.push_str("};\n");
}

/// Writes the expectations of an operation, or of the end of a program.
fn expected(text: &mut String, step: &Step<Expectation>, segment: bool) {
    text.push_str("\t\t.expected = {\n");
    members(text, &step.original, segment, "\t\t\t");
    text.push_str("\t\t},\n");
    if !step.later.is_empty() {
        text.push_str("\t\t.later = (const struct expected[]) {\n");
        for Alternative { with, without, value } in &step.later {
            text.push_str("\t\t\t{\n");
            for (member, rules) in [("with", with), ("without", without)] {
                if !rules.is_empty() {
                    let _ = writeln!(text, "\t\t\t\t.{member} = {},", set(*rules));
                }
            }
            members(text, value, segment, "\t\t\t\t");
            text.push_str("\t\t\t},\n");
        }
        text.push_str("\t\t\t{ .with = 0 },\n\t\t},\n");
    }
}

/// Writes the members of an expectation.
fn members(text: &mut String, expected: &Expectation, segment: bool, indent: &str) {
    if !expected.result.is_empty() {
        let _ = writeln!(text, "{indent}.result = {},", expected.result);
    }
    if segment {
        let _ = writeln!(text, "{indent}.attached = {},", expected.attached);
    }
    let mut lines = |member: &str, lines: &str| {
        let lines: Vec<_> = lines.lines().collect();
        let lines = lines.join(&format!("\\n\"\n{indent}\t\""));
        let _ = writeln!(text, "{indent}.{member} =\n{indent}\t\"{lines}\",");
    };
    for (process, memory) in &expected.memory {
        lines(&format!("memory[{process}]"), memory);
    }
    if !expected.messages.is_empty() {
        lines("messages", &expected.messages);
    }
    for (process, contents) in &expected.contents {
        let _ = writeln!(text, "{indent}.contents[{process}] = \"{contents}\",");
    }
}
