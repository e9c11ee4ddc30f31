//! `da id`.

use meridian_proofs::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::{B256, keccak256};

use super::Printed;
use super::args::IdArgs;
use super::exit::Problem;
use super::input;
use super::report::IdReport;

/// Computes the id of a payload, without any network.
pub(crate) fn run(args: &IdArgs) -> Result<Printed, Problem> {
    let payload = input::payload(&args.file)?;
    let blob = encode::encode::<Blake3>(&payload, B256::ZERO).map_err(Problem::local)?;
    let report = IdReport {
        blob_id: blob.id().to_string(),
        length: blob.header().length.get(),
        payload_hash: keccak256(&payload).to_string(),
        data_rows: blob.shape().data_rows(),
        row_bytes: blob.shape().row_bytes(),
    };
    let text = report.blob_id.clone();
    Printed::new(&report, text)
}
