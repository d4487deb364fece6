//! The candidate as a shared library. `cargo build --release -p vmadiff-candidate-library` makes
//! `target/release/libvmadiff_candidate_library.so`, which is a machine for `--right lib:PATH`.

use vmadiff_candidate::{Candidate, Revision};

vmadiff_machine::export_machine!(Candidate::new(Revision::Fixed));
