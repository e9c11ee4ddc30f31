//! Compiles the protobuf files without `protoc`, and takes the contracts' code out of what their compiler wrote.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 5] = [
    "da/v1/types.proto",
    "da/v1/gateway.proto",
    "da/v1/replica.proto",
    "da/v1/log.proto",
    "da/v1/admin.proto",
];

/// Contracts that are deployed by our programs.
const CONTRACTS: [&str; 2] = ["Meridian", "NamespaceRegistry"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=da");
    // Asked when it runs: checkouts that share a target folder share this program too.
    let package = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let mut compiler = protox::Compiler::new([package])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("meridian.bin"), compiler.encode_file_descriptor_set())?;
    let mut names = tonic_prost_build::Config::new();
    names.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::WireCodec")
        .compile_fds_with_config(compiler.file_descriptor_set(), names)?;
    for contract in CONTRACTS {
        std::fs::write(out.join(format!("{contract}.bin")), creation_code(contract)?)?;
    }
    Ok(())
}

/// Bytes of a contract's creation code, without its constructor's arguments.
fn creation_code(contract: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let artifact = format!("contracts/out/{contract}.json");
    println!("cargo:rerun-if-changed={artifact}");
    let artifact: serde_json::Value = serde_json::from_slice(&std::fs::read(artifact)?)?;
    let digits = artifact["bytecode"].as_str().and_then(|code| code.strip_prefix("0x"));
    let digits = digits.ok_or("a contract's artifact has no bytecode")?;
    let pairs = digits.as_bytes().chunks(2).map(std::str::from_utf8);
    pairs.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect()
}
