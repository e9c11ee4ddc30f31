//! Compiles the protobuf files without `protoc`.

use std::error::Error;
use std::path::{Path, PathBuf};

const FILES: [&str; 4] =
    ["da/v1/types.proto", "da/v1/gateway.proto", "da/v1/replica.proto", "da/v1/log.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=da");
    let mut compiler = protox::Compiler::new([Path::new(env!("CARGO_MANIFEST_DIR"))])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("meridian.bin"), compiler.encode_file_descriptor_set())?;
    let mut names = tonic_prost_build::Config::new();
    names.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::WireCodec")
        .compile_fds_with_config(compiler.file_descriptor_set(), names)?;
    Ok(())
}
