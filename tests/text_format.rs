//! docs/text-format.md: its tables are those of the code, and its examples are programs.

mod common {
    pub(crate) mod document;
}

use std::fmt::Write as _;

use common::document::{blocks, check_parts, read};
use vmadiff::results::result_text;
use vmadiff_machine::op::{MAX_OPERANDS, OperandType};
use vmadiff_machine::operand::{ARENA_PAGES, END_PAGES, FILE_PAGES, MAX_PROCESSES, SHM_PAGES};
use vmadiff_machine::program::MAX_OPS;
use vmadiff_machine::{Limits, Machine as _, Observation, Op, Opcode, Part, Program, Role};
use vmadiff_reference::Reference;

const DOCUMENT: &str = "docs/text-format.md";

/// The operations before each example.
const BEFORE: &str = "mmap 0 4 4 rw anon_private\nfork 0\n";

/// Returns a doc comment as one line of Markdown, without links.
fn plain(doc: &str) -> String {
    let mut text = String::new();
    let mut rest = doc.trim();
    while let Some((before, link)) = rest.split_once('[') {
        let (name, after) = link.split_once(']').expect("a link");
        let after = match after.strip_prefix('(') {
            Some(address) => address.split_once(')').expect("an address").1,
            None => after,
        };
        text.push_str(before);
        text.push_str(name);
        rest = after;
    }
    text.push_str(rest);
    text.replace('|', "\\|")
}

/// Returns the value of an operand in an example.
fn example_value(ty: &OperandType) -> u8 {
    match ty.role {
        Role::Start(Part::Destination) => 10,
        Role::Start(Part::Source | Part::Target) => 4,
        Role::Length(_) => 2,
        Role::Protection => ty.parse("rw").expect("a protection"),
        Role::Advice => ty.parse("DONTFORK").expect("an advice"),
        Role::File => ty.parse("file1").expect("a file"),
        Role::Limit => 8,
        Role::Policy => ty.parse("BIND").expect("a policy"),
        Role::Flags | Role::Access => u8::from(ty.size > 1),
        _ => 0,
    }
}

/// Returns the example of an operation.
fn example(opcode: Opcode) -> Op {
    let mut bytes = [0; MAX_OPERANDS];
    for (byte, ty) in bytes.iter_mut().zip(opcode.operands()) {
        *byte = example_value(ty);
    }
    Op::from_bytes(opcode, bytes)
}

/// Returns the result of an example in the reference.
fn result(op: &Op) -> String {
    let program: Program = format!("{BEFORE}{op}\n").parse().expect("an example is a program");
    assert_eq!(program.ops.last(), Some(op));
    let (mut reference, mut seen) = (Reference::new(), Observation::default());
    reference.reset(&program.limits);
    program.ops.iter().for_each(|op| reference.step(op, &mut seen));
    result_text(seen.result)
}

fn operations() -> String {
    let mut table = "| operation | does | example | result |\n|---|---|---|---|\n".to_owned();
    for &opcode in Opcode::ALL {
        let types = opcode.operands();
        // Every operation needs its process.
        let left_out = types[1..].iter().rev().take_while(|ty| ty.optional).count();
        let mut form = format!("`{}", opcode.name());
        for (n, ty) in types.iter().enumerate() {
            let optional = n >= types.len() - left_out;
            let (open, close) = if optional { ("[", "]") } else { ("", "") };
            let _ = write!(form, " {open}{}{close}", ty.name);
        }
        let op = example(opcode);
        let (does, shown) = (plain(opcode.doc()), op.to_string().replace('|', "\\|"));
        let _ = writeln!(table, "| {form}` | {does} | `{shown}` | {} |", result(&op));
    }
    table
}

fn operands() -> String {
    let mut table = "| operation | operand | is | values |\n|---|---|---|---|\n".to_owned();
    let mut seen: Vec<(&str, &str, &str)> = Vec::new();
    for &opcode in Opcode::ALL {
        for ty in opcode.operands() {
            // An operand that several operations share is listed once.
            if seen.contains(&(ty.name, ty.doc, ty.expected)) {
                continue;
            }
            seen.push((ty.name, ty.doc, ty.expected));
            let users = Opcode::ALL.iter().filter(|other| {
                let mut operands = other.operands().iter();
                operands.any(|o| (o.name, o.doc, o.expected) == (ty.name, ty.doc, ty.expected))
            });
            let users: Vec<_> = users.map(|opcode| format!("`{}`", opcode.name())).collect();
            let users = match users.len() {
                4.. => "several".to_owned(),
                _ => users.join(", "),
            };
            let values = ty.expected.replace('|', "\\|");
            let _ = writeln!(table, "| {users} | `{}` | {} | {values} |", ty.name, plain(ty.doc));
        }
    }
    table
}

fn values() -> String {
    let mut table = "| operand | value | meaning |\n|---|---|---|\n".to_owned();
    let mut seen: Vec<&str> = Vec::new();
    for &opcode in Opcode::ALL {
        for ty in opcode.operands() {
            if seen.contains(&ty.expected) || ty.describe(0).is_empty() {
                continue;
            }
            seen.push(ty.expected);
            for value in 0..ty.size as u8 {
                let mut bytes = [0; MAX_OPERANDS];
                let at = opcode.operands().iter().position(|o| std::ptr::eq(o, ty));
                bytes[at.expect("an operand")] = value;
                let line = Op::from_bytes(opcode, bytes);
                let name = Shown(ty, value).to_string();
                let parsed = ty.parse(&name).expect("a value reads back");
                assert_eq!(parsed, value, "{line}");
                let (name, meaning) = (name.replace('|', "\\|"), plain(ty.describe(value)));
                let _ = writeln!(
                    table,
                    "| `{}` of `{}` | `{name}` | {meaning} |",
                    ty.name,
                    opcode.name()
                );
            }
        }
    }
    table
}

/// The text form of a value.
struct Shown<'a>(&'a OperandType, u8);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.write(self.1, f)
    }
}

fn bounds() -> String {
    format!(
        "| bound | value |\n|---|---|\n\
         | operations of a program | {MAX_OPS} |\n\
         | processes at one time | {MAX_PROCESSES} |\n\
         | pages that an operand can name | 0 to {} |\n\
         | the end of the arena, after which no page can be mapped | {END_PAGES} |\n\
         | pages of a file | {FILE_PAGES} |\n\
         | pages of the segment of SysV shared memory (`SHM_PAGES`) | {SHM_PAGES} |\n\
         | value of a limit | 0 to {} |\n",
        ARENA_PAGES - 1,
        u8::MAX
    )
}

#[test]
fn the_tables_are_those_of_the_code() {
    check_parts(
        DOCUMENT,
        &[
            ("operations", operations()),
            ("operands", operands()),
            ("values", values()),
            ("bounds", bounds()),
        ],
    );
}

#[test]
fn every_example_of_the_document_is_a_program() {
    if std::env::var_os("VMADIFF_RECORD").is_some() {
        // The other test writes the document.
        return;
    }
    let text = read(DOCUMENT);
    let programs = blocks(&text, "program");
    assert!(!programs.is_empty());
    for program in programs {
        let parsed: Program = program.parse().unwrap_or_else(|e| panic!("{e}\n{program}"));
        assert!(!parsed.ops.is_empty());
    }
    // The last cell but one of a row of the operations is an example. The form of an operation, with
    // its brackets, is none.
    for &opcode in Opcode::ALL {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{} ", opcode.name())));
        let row = row.unwrap_or_else(|| panic!("{} has no row", opcode.name()));
        let row = row.replace("\\|", "\u{1}");
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let line = cells[3].trim_matches('`').replace('\u{1}', "|");
        let program: Program = line.parse().unwrap_or_else(|e| panic!("{e}\n{line}"));
        assert_eq!(program.ops, [example(opcode)]);
    }
    for name in Limits::NAMES {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}`")));
        let row = row.unwrap_or_else(|| panic!("the limit {name} has no row"));
        let line = row.rsplit('`').nth(1).expect("an example");
        let program: Program = line.parse().unwrap_or_else(|e| panic!("{e}\n{line}"));
        assert_ne!(program.limits, Limits::default(), "{line}");
    }
}
