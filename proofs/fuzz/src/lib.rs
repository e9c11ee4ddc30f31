//! What each fuzz target does with its input, and the honest encodings that fuzzing starts from.
//!
//! Every body is a plain function of bytes that panics on a bug, so that a fuzzer and an ordinary test run the same
//! one. An input *is* what comes from outside (a row and its proof, a certificate, ...), behind a few bytes that choose
//! what it is held against; the fuzzer's mutations of an honest input are then a liar's attempts.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a body fails")]

mod blobs;
mod codec;
mod encode;
mod forged;
mod header;
mod input;
mod kzg;
mod logs;
mod reconstruct;
mod rlc;
mod rows;
mod seeds;
mod signed;

pub use self::{
    codec::codec,
    encode::encode,
    forged::forged,
    header::header,
    kzg::kzg,
    logs::log,
    reconstruct::reconstruct,
    rlc::rlc,
    rows::{range, row},
    seeds::seeds,
    signed::{certificate, checkpoint},
};

/// The body of a target.
pub type Body = fn(&[u8]);

/// Every target: its name, which is also the folder of its corpus, and its body.
pub const TARGETS: [(&str, Body); 12] = [
    ("header", header),
    ("row", row),
    ("range", range),
    ("rlc", rlc),
    ("forged", forged),
    ("reconstruct", reconstruct),
    ("codec", codec),
    ("encode", encode),
    ("kzg", kzg),
    ("certificate", certificate),
    ("checkpoint", checkpoint),
    ("log", log),
];

/// Packages that only fuzzing takes.
pub const PACKAGES: [&str; 3] = ["arbitrary", "libfuzzer-sys", "meridian-proofs-fuzz"];
