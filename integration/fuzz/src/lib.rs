//! What each fuzz target does with its input, and the inputs that fuzzing starts from.
//!
//! Every body is a plain function of bytes that panics on a bug, so that a fuzzer and an ordinary test run the same
//! one. An input is read as a few calls to the members of a running network, without a connection between: each is the
//! honest call, and as many bytes as are not zero say what else is sent. What may come of it is worked out beside the
//! network from what was sent in the end.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a body fails")]
#![allow(clippy::needless_pass_by_value, reason = "bodies and methods are made where they are given")]
#![allow(clippy::cast_possible_truncation, reason = "the low bits of a number will do where any will")]

mod admin;
mod altda;
mod cosign;
mod disperse;
mod draft;
mod grpc;
mod home;
#[allow(dead_code, reason = "others read hashes too")]
#[path = "../../../proofs/fuzz/src/input.rs"]
mod input;
mod logs;
mod pages;
mod put;
mod reads;
mod seeds;
mod web;

pub use self::{
    admin::admin, altda::altda, cosign::cosign, disperse::disperse, logs::logs, pages::pages, put::put,
    reads::reads, seeds::seeds,
};

/// The body of a target.
pub type Body = fn(&[u8]);

/// Every target: its name, which is also the folder of its corpus, and its body.
pub const TARGETS: [(&str, Body); 8] = [
    ("put", put),
    ("disperse", disperse),
    ("cosign", cosign),
    ("reads", reads),
    ("logs", logs),
    ("admin", admin),
    ("altda", altda),
    ("pages", pages),
];

/// Packages that only fuzzing takes.
pub const PACKAGES: [&str; 3] = ["arbitrary", "libfuzzer-sys", "meridian-integration-fuzz"];
