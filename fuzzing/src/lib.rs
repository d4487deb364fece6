//! Programs for differential fuzzing: how they are made, changed, judged, minimized and grouped.
//!
//! This crate is independent of the fuzzing engine. A fuzz target gives the engine's bytes to
//! [`mutate`] and to [`oracle`]; [`feedback`] counts the situations that a program reaches, and
//! [`crash`] gives each divergence a stack frame of its own.

pub mod crash;
pub mod engine;
pub mod feedback;
pub mod fresh;
pub mod generate;
pub mod guided;
pub mod input;
pub mod layout;
pub mod machines;
pub mod minimize;
pub mod mutate;
pub mod oracle;
pub mod output;
pub mod random;
pub mod settings;
pub mod stats;
pub mod triage;

/// The examples of the readme file, which are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
