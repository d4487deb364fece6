//! The targets export their dynamic symbols: a shared library that is fuzzed
//! (`VMADIFF_CANDIDATE=lib:PATH`) registers its coverage counters with the libFuzzer in the target.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-rdynamic");
}
