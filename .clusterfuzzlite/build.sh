#!/bin/bash -eu
# OSS-Fuzz's build.sh serves both.
exec bash -eu "$SRC/vmadiff/ci/oss-fuzz/build.sh"
