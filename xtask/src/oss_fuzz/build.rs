//! The build as in the services' image: a nightly toolchain, and the variables of its `compile`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use duct::cmd;

use super::Sanitizer;
use crate::{shell, targets};

/// Builds into a folder and returns the folder of the targets, `$OUT`.
pub(crate) fn build(root: &Path, folder: &Path, sanitizer: Sanitizer) -> Result<PathBuf> {
    let name = sanitizer.name();
    let src = folder.join("src");
    let out = folder.join(format!("out-{name}"));
    let work = folder.join(format!("work-{name}"));
    for path in [&src, &out] {
        let emptied = if path.exists() { fs::remove_dir_all(path) } else { Ok(()) };
        emptied.with_context(|| path.display().to_string())?;
    }
    for path in [&src, &out, &work] {
        fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    }
    std::os::unix::fs::symlink(root, src.join("vmadiff")).context("$SRC/vmadiff")?;
    fs::copy(root.join(".clusterfuzzlite/build.sh"), src.join("build.sh")).context("build.sh")?;
    targets::install("cargo-fuzz")?;

    let clang = shell::find("clang++").is_some();
    // libFuzzer comes from libfuzzer-sys here. The image has a library of its own.
    let mut c_flags =
        "-O1 -fno-omit-frame-pointer -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION".to_owned();
    let mut rust_flags = "--cfg fuzzing -Cdebuginfo=1 -Cforce-frame-pointers".to_owned();
    let mut build = cmd!("bash", "-eu", src.join("build.sh"))
        .dir(src.join("vmadiff"))
        .env("SANITIZER", name)
        .env("FUZZING_ENGINE", "libfuzzer")
        .env("FUZZING_LANGUAGE", "rust")
        .env("ARCHITECTURE", "x86_64");
    if clang {
        c_flags += " -gline-tables-only";
        build = build.env("CC", "clang").env("CXX", "clang++");
    }
    if sanitizer == Sanitizer::Address {
        rust_flags += " -Zsanitizer=address";
        build = build.env("RUSTUP_TOOLCHAIN", "nightly");
    }
    build
        .env("SRC", &src)
        .env("OUT", &out)
        .env("WORK", &work)
        .env("CFLAGS", &c_flags)
        .env("CXXFLAGS", &c_flags)
        .env("RUSTFLAGS", &rust_flags)
        .run()
        .context("the build failed")?;

    // The image's `compile` puts its symbolizer beside the targets.
    if let Some(symbolizer) = shell::newest("llvm-symbolizer") {
        fs::copy(&symbolizer, out.join("llvm-symbolizer"))
            .with_context(|| symbolizer.display().to_string())?;
    }
    Ok(out)
}
