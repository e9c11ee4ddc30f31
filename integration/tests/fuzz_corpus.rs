//! What fuzzing of calls and pages has saved, replayed on one network: every input of the corpus through the body of its
//! target.
//!
//! `REGENERATE=1` writes the inputs to start from into the corpus; without it the test fails when one of them drifts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../fuzz/src/lib.rs"]
mod fuzz;
#[path = "../../proofs/tests/fuzz_corpus/replay.rs"]
mod replay;
