//! The checks of `bad_build_check` on a binary and on the first lines of its output.

use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use duct::cmd;

/// Returns whether the services accept the name of a target.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Returns the number of edges in a line “INFO: Loaded 1 modules   (4711 inline 8-bit counters):
/// …”.
pub(crate) fn edges(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("INFO: Loaded ")?;
    let (number, rest) = rest.split_once(" module")?.1.split_once('(')?.1.split_once(' ')?;
    rest.contains("counters)").then(|| number.parse().ok())?
}

/// Returns whether a binary is an ELF file for x86-64: `e_machine`, at byte 18, is 62.
pub(crate) fn is_x86_64(binary: &[u8]) -> bool {
    binary.starts_with(b"\x7fELF\x02\x01") && binary.get(18..20) == Some(&[62, 0])
}

/// Counts the calls into the address sanitizer in a binary.
pub(crate) fn sanitizer_calls(binary: &Path) -> Result<usize> {
    let listing =
        cmd!("objdump", "-d", "--no-show-raw-insn", binary).reader().context("objdump")?;
    let mut calls = 0;
    for line in BufReader::new(listing).split(b'\n') {
        calls +=
            usize::from(is_sanitizer_call(&String::from_utf8_lossy(&line.context("objdump")?)));
    }
    Ok(calls)
}

/// Returns whether a line of a disassembly calls it, such as “call   1234 <__asan_report_load8>”.
fn is_sanitizer_call(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| *word != "call" && *word != "callq");
    words.next().is_some()
        && words.next().is_some_and(|word| word.chars().all(|c| c.is_ascii_hexdigit()))
        && words.next().is_some_and(|word| word.starts_with("<__asan"))
}

/// Returns the libraries in the output of `ldd` that the runner's image does not have.
pub(crate) fn foreign_libraries(ldd: &str) -> Vec<&str> {
    let names = ["c", "m", "dl", "rt", "pthread", "gcc_s", "stdc++"];
    let known = |library: &str| {
        library.starts_with("linux-vdso")
            || library.starts_with("/lib64/ld-linux")
            || names.iter().any(|name| library.starts_with(&format!("lib{name}.so")))
    };
    let libraries = ldd.lines().filter_map(|line| line.split_whitespace().next());
    libraries.filter(|library| !known(library)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_the_counters_that_the_engine_loads() {
        let line = "INFO: Loaded 1 modules   (4711 inline 8-bit counters): 4711 [0x55, 0x56), ";
        assert_eq!(edges(line), Some(4711));
        assert_eq!(edges("INFO: Loaded 2 modules (90 inline 8-bit counters): 40"), Some(90));
        assert_eq!(edges("INFO: Loaded 1 PC tables (4711 PCs): 4711"), None);
        assert_eq!(edges(""), None);
    }

    #[test]
    fn calls_of_the_address_sanitizer_are_told_from_others() {
        let cases = [
            ("  55d0:\te8 1b 00\tcall   12ab <__asan_report_load8>", true),
            ("  55d0:\tcallq  12ab <__asan_init>", true),
            ("  55d0:\tcall   12ab <memcpy>", false),
            ("  55d0:\tcall   *%rax", false),
            ("  55d0:\tjmp    12ab <__asan_init>", false),
            ("00000000000012ab <__asan_init>:", false),
        ];
        for (line, is) in cases {
            assert_eq!(is_sanitizer_call(line), is, "{line}");
        }
    }

    #[test]
    fn libraries_of_the_image_are_known() {
        let ldd = "\tlinux-vdso.so.1 (0x7f)\n\tlibgcc_s.so.1 => /lib/libgcc_s.so.1 (0x7f)\n\
                   \tlibstdc++.so.6 => /x (0x7f)\n\tlibc.so.6 => /x (0x7f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n\tlibcrypto.so.3 => /x (0x7f)\n";
        assert_eq!(foreign_libraries(ldd), ["libcrypto.so.3"]);
    }

    #[test]
    fn a_binary_names_its_architecture() {
        let mut elf = [0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert!(!is_x86_64(&elf));
        elf[18] = 62;
        assert!(is_x86_64(&elf));
        assert!(!is_x86_64(&elf[..18]) && !is_x86_64(b"#!/bin/sh"));
    }

    #[test]
    fn a_target_has_a_plain_name() {
        assert!(is_name("cross_mm-2"));
        assert!(!is_name("") && !is_name("cross mm") && !is_name("a/b"));
    }
}
