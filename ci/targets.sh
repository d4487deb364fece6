# How the fuzz targets are built and started; sourced by the scripts beside it, in the project's
# folder.

# Programs of the models' targets are mutated as programs: to trace what bytes are compared with
# would cost half the speed for nothing, and edges matter in the candidate alone (ci/instrument).
# Both kinds have a folder of their own, since cargo does not know them apart. Models are safe
# Rust, and sanitizers need nightly: -s none.
build_target() {
    command -v cargo-fuzz >/dev/null || cargo install --locked --debug cargo-fuzz
    case $1 in
    cross_mm | same_mm | mutator)
        RUSTC_WRAPPER=$PWD/ci/instrument cargo fuzz build -s none --no-trace-compares \
            --target-dir fuzz/target/models "$1"
        ;;
    *) cargo fuzz build -s none "$1" ;;
    esac
}

# Where the binary of a target is.
target_binary() {
    local folder=$PWD/fuzz/target host
    host=$(rustc -vV | sed -n 's/^host: //p')
    case $1 in cross_mm | same_mm | mutator) folder+=/models ;; esac
    echo "$folder/$host/release/$1"
}

# libFuzzer's flags for a target, one a line.
target_flags() { sed -n 's/^\([a-z_]*\) *= *\(.*\)$/-\1=\2/p' "fuzz/options/$1.options"; }
