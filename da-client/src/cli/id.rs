//! `da id`.

use meridian_proofs::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::keccak256;

use super::Printed;
use super::args::IdArgs;
use super::exit::Problem;
use super::input;
use super::report::IdReport;
use crate::kzg;

/// Computes the id of a payload, without any network.
pub(crate) async fn run(args: &IdArgs) -> Result<Printed, Problem> {
    let payload = input::payload(&args.file)?;
    let kzg_root = kzg::root_of(input::binding(&payload, args.kzg).await?.as_ref());
    let blob = encode::encode::<Blake3>(&payload, kzg_root).map_err(Problem::local)?;
    let report = IdReport {
        blob_id: blob.id().to_string(),
        length: blob.header().length.get(),
        payload_hash: keccak256(&payload).to_string(),
        kzg_root: kzg_root.to_string(),
        data_rows: blob.shape().data_rows(),
        row_bytes: blob.shape().row_bytes(),
    };
    let text =
        if args.kzg { format!("{}\nkzg root {kzg_root}", report.blob_id) } else { report.blob_id.clone() };
    Printed::new(&report, text)
}
