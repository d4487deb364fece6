//! `include/vmadiff.h` and its Rust twin have the same layout and constants. A C compiler compares
//! them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Command;

use vmadiff_machine::abi;
use vmadiff_machine::operand::{
    ARENA_PAGES, ARENA_START, Advice, CopyFlags, END_PAGES, File, FilePage, Kind, MAX_PROCESSES,
    MlockallFlags, MmapFlags, Mode, MremapFlags, Resource, SHM_PAGES, ShmFlags, UffdFeatures,
    UffdMode, WriteprotectMode,
};
use vmadiff_machine::{Allocation, Opcode, VmFlags, op};

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

/// The C assertions that compare the header with the Rust types, and the constants that they name.
struct Claims {
    c: String,
    named: BTreeSet<String>,
}

impl Claims {
    fn equal(&mut self, c: &str, rust: u64) {
        writeln!(self.c, "_Static_assert((uint64_t)({c}) == {rust}ull, \"{c} is {rust}\");")
            .expect("text");
    }

    fn constant(&mut self, name: &str, rust: u64) {
        let name = format!("VMADIFF_{name}");
        self.equal(&name, rust);
        self.named.insert(name);
    }
}

fn claims() -> Claims {
    let c = "#include <stddef.h>\n#include \"vmadiff.h\"\n".to_owned();
    let mut claims = Claims { c, named: BTreeSet::new() };
    for (name, value) in [
        ("ABI_VERSION", abi::VERSION.into()),
        ("MAX_OPERANDS", op::MAX_OPERANDS as u64),
        ("MAX_PROCESSES", MAX_PROCESSES as u64),
        ("ARENA_PAGES", ARENA_PAGES as u64),
        ("ARENA_START", ARENA_START),
        ("TOP_PAGE", FilePage::TOP),
        ("END_PAGES", END_PAGES as u64),
        ("MAX_VMAS", abi::MAX_VMAS as u64),
        ("MAX_CHAIN", abi::MAX_CHAIN as u64),
        ("MAX_EVENTS", abi::MAX_EVENTS as u64),
        ("MAX_OBJECT", abi::MAX_OBJECT.into()),
        ("NAME_BYTES", abi::NAME_BYTES as u64),
        ("FUNCTION_BYTES", abi::FUNCTION_BYTES as u64),
        ("TEXT_BYTES", abi::TEXT_BYTES as u64),
        ("NO_LIMIT", abi::NO_LIMIT.into()),
        ("COPIED", abi::COPIED.into()),
        ("COPY_MERGED", abi::COPY_MERGED.into()),
        ("COPY_NEED_LOCKS", abi::COPY_NEED_LOCKS.into()),
        ("COPY_HONOURED", abi::COPY_HONOURED.into()),
        ("COPY_REDIRECTED", abi::COPY_REDIRECTED.into()),
        ("USE_AFTER_FREE", abi::USE_AFTER_FREE.into()),
        ("BUG_ON", abi::BUG_ON.into()),
        ("WARN_ON", abi::WARN_ON.into()),
        ("UNREACHABLE_PAGE", abi::UNREACHABLE_PAGE.into()),
        ("MAX_MESSAGES", abi::MAX_MESSAGES as u64),
        ("MESSAGE_FORK", abi::MESSAGE_FORK.into()),
        ("MESSAGE_REMAP", abi::MESSAGE_REMAP.into()),
        ("MESSAGE_REMOVE", abi::MESSAGE_REMOVE.into()),
        ("MESSAGE_UNMAP", abi::MESSAGE_UNMAP.into()),
        ("DEADLOCK", abi::DEADLOCK.into()),
        ("LOCK_HELD", abi::LOCK_HELD.into()),
        ("NOT_COUNTED", abi::NOT_COUNTED.into()),
        ("NOT_MODELLED", abi::NOT_MODELLED as u64),
        ("SHM_PAGES", SHM_PAGES.into()),
        ("DESTROYED", abi::DESTROYED as u64),
        ("READ", abi::READ.into()),
        ("MAX_PAGES", abi::MAX_PAGES as u64),
        ("MAX_ANON_VMAS", abi::MAX_ANON_VMAS as u64),
        ("FREED_VMA", 0),
        ("FREED_ANON_VMA", 1),
        ("FREED_MM", 2),
        ("FREED_FILE", 3),
        ("FREED_POLICY", 4),
        ("FREED_CONTEXT", 5),
        ("MAX_REFERENCES", abi::MAX_REFERENCES as u64),
        ("COUNTED_FILE", abi::COUNTED_FILE.into()),
        ("COUNTED_POLICY", abi::COUNTED_POLICY.into()),
        ("COUNTED_CONTEXT", abi::COUNTED_CONTEXT.into()),
        ("COUNTED_MM_USERS", abi::COUNTED_MM_USERS.into()),
        ("COUNTED_MM", abi::COUNTED_MM.into()),
        ("PROT_READ", 1),
        ("PROT_WRITE", 2),
        ("PROT_EXEC", 4),
        ("MREMAP_IN_PLACE", MremapFlags::InPlace as u64),
        ("MREMAP_MAYMOVE_FIXED", MremapFlags::MaymoveFixed as u64),
        ("MREMAP_MAYMOVE", MremapFlags::Maymove as u64),
        ("MREMAP_MAYMOVE_DONTUNMAP", MremapFlags::MaymoveDontunmap as u64),
        ("MREMAP_MAYMOVE_FIXED_DONTUNMAP", MremapFlags::MaymoveFixedDontunmap as u64),
    ] {
        claims.constant(name, value);
    }
    for (name, flag) in VmFlags::all().iter_names() {
        claims.constant(name, flag.bits().into());
    }
    for (name, flag) in MmapFlags::all().iter_names() {
        claims.constant(&format!("MAP_{name}"), flag.bits().into());
    }
    for (name, flag) in MlockallFlags::all().iter_names() {
        claims.constant(&format!("MCL_{name}"), flag.bits().into());
    }
    for (name, flag) in CopyFlags::all().iter_names() {
        claims.constant(&format!("COPY_{name}"), flag.bits().into());
    }
    for (name, flag) in UffdFeatures::all().iter_names() {
        claims.constant(&format!("UFFD_{name}"), flag.bits().into());
    }
    for (name, flag) in ShmFlags::all().iter_names() {
        claims.constant(&format!("SHM_{name}"), flag.bits().into());
    }
    for (index, kind) in Kind::ALL.iter().enumerate() {
        claims.constant(&kind.name().to_uppercase(), index as u64);
    }
    for (index, file) in File::ALL.iter().enumerate() {
        claims.constant(&format!("FD_{}", file.name().to_uppercase()), index as u64);
    }
    for (index, resource) in Resource::ALL.iter().enumerate() {
        claims.constant(&format!("RLIMIT_{}", resource.name()), index as u64);
    }
    for (index, advice) in Advice::ALL.iter().enumerate() {
        claims.constant(&format!("MADV_{}", advice.name()), index as u64);
    }
    for kind in Allocation::ALL {
        let name = kind.name().to_uppercase().replace(' ', "_");
        claims.constant(&format!("FAILED_{name}"), *kind as u64);
    }
    for (index, mode) in UffdMode::ALL.iter().enumerate() {
        let name = mode.name().replace('|', "_");
        claims.constant(&format!("UFFD_MODE_{name}"), index as u64);
    }
    for (index, mode) in WriteprotectMode::ALL.iter().enumerate() {
        let name = if mode.name() == "-" { "NONE" } else { mode.name() };
        claims.constant(&format!("WRITEPROTECT_MODE_{name}"), index as u64);
    }
    for (index, mode) in Mode::ALL.iter().enumerate() {
        claims.constant(&format!("MPOL_{}", mode.name()), index as u64);
    }
    for &opcode in Opcode::ALL {
        let name = opcode.name();
        claims.constant(&name.to_uppercase(), opcode as u64);
        claims.equal(
            &format!("sizeof(((struct vmadiff_op *)0)->u.{name})"),
            opcode.operands().len() as u64,
        );
        for (at, operand) in opcode.operands().iter().enumerate() {
            let field = format!("offsetof(struct vmadiff_op, u.{name}.{})", operand.name);
            claims.equal(&field, (offset_of!(abi::Op, operands) + at) as u64);
        }
    }
    claims.equal("sizeof(struct vmadiff_op)", size_of::<abi::Op>() as u64);
    claims.equal("offsetof(struct vmadiff_op, u.operands)", 1);
    structs(&mut claims);
    claims
}

macro_rules! structs {
    ($($c:literal $rust:ident { $($field:ident)* })*) => {
        fn structs(claims: &mut Claims) {$(
            claims.equal(concat!("sizeof(struct ", $c, ")"), size_of::<abi::$rust>() as u64);
            $(claims.equal(
                concat!("offsetof(struct ", $c, ", ", stringify!($field), ")"),
                offset_of!(abi::$rust, $field) as u64,
            );)*
            // The pattern fails to compile if the Rust type has another field.
            let abi::$rust { $($field: _),* } = *bytemuck::zeroed_box::<abi::$rust>();
        )*}
    };
}

structs! {
    "vmadiff_limits" RawLimits { map_count address_space lock processes fail }
    "vmadiff_vma" Vma {
        pgoff flags anon_vma file uffd chain_count start end policy close
    }
    "vmadiff_space" Space {
        total_vm locked_vm data_vm map_count anon_pages zero_pages writable_ptes alive vma_count
        chain_count reserved page_ids vmas chain
    }
    "vmadiff_anon_page" AnonPage { index number anon_vma map_count reserved }
    "vmadiff_pte" Pte { process page maps }
    "vmadiff_anon_vma" AnonVma { degree active_vmas references id parent root vmas }
    "vmadiff_references" References { counter others kind object }
    "vmadiff_hidden" Hidden {
        shown page_count pte_count anon_vma_count vmas chain_entries mms reference_count pages ptes
        anon_vmas references
    }
    "vmadiff_event" Event { kind object process page function text }
    "vmadiff_message" Message { kind ctx child start end to }
    "vmadiff_observation" Observation {
        error value copy changed committed attached event_count opens closes read failed
        message_count messages events spaces
    }
}

#[test]
fn the_header_and_its_rust_twin_agree_in_every_size_offset_and_constant() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("claims.c");
    fs::write(&source, claims().c).expect("a file");
    for flags in [&["-std=c11", "-Wpedantic"][..], &["-std=gnu17"]] {
        let output = Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
            .arg(include())
            .args(flags)
            .arg(&source)
            .output();
        let Ok(output) = output else {
            println!("skipped: there is no C compiler (cc)");
            return;
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{flags:?}: {errors}");
    }
}

#[test]
fn every_constant_of_the_header_is_compared() {
    let header = fs::read_to_string(include().join("vmadiff.h")).expect("the header");
    // Comments are removed: they name families of constants, such as `VMADIFF_VM_…`.
    let code: String = header
        .split("/*")
        .map(|part| part.split_once("*/").map_or(part, |(_, code)| code))
        .collect();
    let mut words: BTreeSet<&str> = code
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("VMADIFF_"))
        .collect();
    words.remove("VMADIFF_H");
    assert!(words.len() > 80, "{words:?}");
    let named = claims().named;
    let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
    assert_eq!(words, named);
}
