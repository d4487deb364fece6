#!/bin/bash -eu
# Builds the fuzz targets for OSS-Fuzz and ClusterFuzzLite: into $OUT, with intermediate files in
# $WORK, started in the project's folder. ci/oss-fuzz/check runs it as the services do.
#
# What is fuzzed is said beside each binary, in NAME.settings (fuzzing/src/settings.rs):
#   cross_mm        every operation, at v2; what is known of it does not count
#   cross_mm_fixed  the same binary, at fixed: any divergence counts
#   same_mm         no copies between address spaces, at v2
#   codec           the formats
# No dictionary: programs are mutated as programs, and codec has no use for one: with the 60 words of the
# text form it had 1281 features after 400,000 runs from nothing, 1435 without; from its seeds 2295, 2300.
[ -f fuzz/Cargo.toml ] || { echo "build.sh: $PWD: expected the folder of vmadiff" >&2; exit 2; }

case $SANITIZER in
address | none) sanitizer=(--sanitizer "$SANITIZER") ;;
coverage) sanitizer=() ;; # the base image's cargo makes another build of it
*) echo "build.sh: SANITIZER=$SANITIZER: expected address, coverage or none" >&2 && exit 2 ;;
esac

# As `cargo xtask target build` does it: edges are counted in the candidate alone, comparisons are not traced.
for target in cross_mm same_mm; do
    CARGO_TARGET_DIR=$WORK/models RUSTC_WRAPPER=$PWD/ci/instrument \
        cargo fuzz build -O --debug-assertions "${sanitizer[@]}" --no-trace-compares "$target"
done
CARGO_TARGET_DIR=$WORK/codec cargo fuzz build -O --debug-assertions "${sanitizer[@]}" codec

# Ships a target under a name: the binary and what the services look for beside it.
ship() {
    local name=$1 target=$2 kind=$3
    cp "$WORK/$kind/x86_64-unknown-linux-gnu/release/$target" "$OUT/$name"
    cp "fuzz/options/$target.options" "$OUT/$name.options"
    rm -f "$OUT/${name}_seed_corpus.zip"
    find "corpus/$target" "corpus/grown/$target" -type f 2>/dev/null | sort |
        zip -q -j -X -@ "$OUT/${name}_seed_corpus.zip"
    if [ -f "ci/oss-fuzz/$name.settings" ]; then
        cp "ci/oss-fuzz/$name.settings" "$OUT/"
    fi
}
ship cross_mm cross_mm models
ship cross_mm_fixed cross_mm models
ship same_mm same_mm models
ship codec codec codec
cp corpus/known-v2.txt "$OUT/"
