//! row_proof
