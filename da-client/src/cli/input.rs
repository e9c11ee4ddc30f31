//! Payloads, certificates and blob ids as they are named on the command line.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::ids::BlobId;
use meridian_proofs::kzg::KzgBinding;
use meridian_proofs::shape::{LengthError, MAX_PAYLOAD};

use super::exit::Problem;
use super::progress::Bar;
use crate::submit::PutError;
use crate::{Progress, kzg};

/// Most bytes of a certificate file, in hex or not.
const MAX_CERTIFICATE: u64 = 1 << 20;

/// Reads a payload from a file, or from standard input for `-`.
pub(crate) fn payload(path: &Path) -> Result<Bytes, Problem> {
    let bytes = read(path, MAX_PAYLOAD)?;
    let error = match u64::try_from(bytes.len()) {
        Ok(0) => LengthError::Empty,
        Ok(length) if length <= MAX_PAYLOAD => return Ok(Bytes::from(bytes)),
        Ok(length) => LengthError::TooLong(length),
        Err(_) => LengthError::TooLong(u64::MAX),
    };
    Err(PutError::Length(error).into())
}

/// The KZG commitments of a payload, where they are wanted.
pub(crate) async fn binding(payload: &Bytes, wanted: bool) -> Result<Option<KzgBinding>, Problem> {
    if !wanted {
        return Ok(None);
    }
    let bar = Bar::new("kzg");
    let binding = kzg::commit(payload.clone(), &bar).await?;
    bar.finish();
    Ok(Some(binding))
}

/// Reads a certificate from a file, or from standard input for `-`: its bytes or their hex.
pub(crate) fn certificate(path: &Path) -> Result<Certificate, Problem> {
    let bytes = read(path, MAX_CERTIFICATE)?;
    let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
    let decoded = hex::decode(text.strip_prefix("0x").unwrap_or(text)).ok().filter(|_| !text.is_empty());
    Certificate::decode(&decoded.unwrap_or(bytes))
        .map_err(|error| Problem::certificate(format!("{}: {error}", path.display())))
}

/// A blob as it is named: by its id, or by a file with its certificate.
pub(crate) fn blob(text: &str) -> Result<(BlobId, Option<Certificate>), Problem> {
    if let Ok(id) = text.parse() {
        return Ok((id, None));
    }
    let path = Path::new(text);
    if text != "-" && !path.exists() {
        let message = format!("{text:?} is neither a blob id nor a file");
        return Err(Problem::usage(message, "give 32 bytes in hex, or the path of a certificate"));
    }
    let certificate = certificate(path)?;
    Ok((certificate.id(), Some(certificate)))
}

/// At most one byte more than the limit, so that the caller sees when it is passed.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| Problem::file(path, &error))?;
    Ok(bytes)
}
