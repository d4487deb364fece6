//! `vmadiff` exports the functions by which a library registers its coverage counters, so that it
//! can load a library that was built for a fuzz target.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        for symbol in ["__sanitizer_cov_8bit_counters_init", "__sanitizer_cov_pcs_init"] {
            println!("cargo:rustc-link-arg-bin=vmadiff=-Wl,--export-dynamic-symbol={symbol}");
        }
    }
}
