//! Exports the functions of `vmadiff_library::ignore_coverage!` from `vmadiff`, so that it can load
//! a library that was built for a fuzz target.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg-bin=vmadiff=-Wl,--export-dynamic-symbol=__sanitizer_cov_*");
    }
}
