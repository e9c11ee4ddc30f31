#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| meridian_proofs_fuzz::encode(data));
