//! One signed transaction.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{B256, Bytes, Signature, TxKind, U256};
use meridian_proofs::signature::SecretKey;

use super::{Fees, Request};

/// A transaction as it goes to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) hash: B256,
    pub(super) raw: Bytes,
    pub(super) fees: Fees,
}

/// Signs a request for one chain (EIP-155), with one nonce.
pub(super) fn sign(
    key: &SecretKey,
    chain_id: u64,
    nonce: u64,
    gas_limit: u64,
    fees: Fees,
    request: &Request,
) -> Signed {
    let (to, value, input) =
        (request.to.map_or(TxKind::Create, TxKind::Call), U256::ZERO, request.data.clone());
    let envelope: TxEnvelope = match fees {
        Fees::Legacy { price: gas_price } => {
            let chain_id = Some(chain_id);
            let tx = TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input };
            let signature = signature(key, &tx.signature_hash());
            tx.into_signed(signature).into()
        }
        Fees::Dynamic { max, tip } => {
            let tx = TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas: max,
                max_priority_fee_per_gas: tip,
                to,
                value,
                access_list: Default::default(),
                input,
            };
            let signature = signature(key, &tx.signature_hash());
            tx.into_signed(signature).into()
        }
    };
    Signed { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into(), fees }
}

fn signature(key: &SecretKey, digest: &B256) -> Signature {
    let signed = key.sign(digest);
    let bytes = signed.as_bytes();
    let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..64]));
    Signature::new(r, s, bytes[64] == 28)
}

#[cfg(test)]
mod tests {
    use alloy::consensus::Transaction;
    use alloy::eips::eip2718::Decodable2718;
    use alloy::primitives::Address;

    use super::*;

    #[test]
    fn both_forms_decode_to_what_was_asked_for() {
        let key = SecretKey::from_bytes([7; 32]).unwrap();
        let request = Request { to: Some(Address::repeat_byte(3)), data: vec![1, 2, 3].into() };
        for fees in [Fees::Legacy { price: 9 }, Fees::Dynamic { max: 9, tip: 2 }] {
            let signed = sign(&key, 2048, 5, 21_000, fees, &request);
            let decoded = TxEnvelope::decode_2718_exact(&signed.raw).unwrap();
            assert_eq!(*decoded.tx_hash(), signed.hash);
            let signature =
                meridian_proofs::signature::Signature::from_bytes(&decoded.signature().as_bytes()).unwrap();
            assert_eq!(signature.recover(&decoded.signature_hash()), Ok(key.address()));
            assert_eq!((decoded.chain_id(), decoded.nonce()), (Some(2048), 5));
            assert_eq!((decoded.to(), decoded.gas_limit()), (request.to, 21_000));
            assert_eq!(decoded.input(), &request.data);
            assert_eq!(decoded.max_fee_per_gas(), 9);
            assert_eq!(decoded.is_legacy(), matches!(fees, Fees::Legacy { .. }));
        }
        let create =
            sign(&key, 1, 0, 1, Fees::Legacy { price: 1 }, &Request { to: None, data: Bytes::new() });
        assert!(TxEnvelope::decode_2718_exact(&create.raw).unwrap().is_create());
    }
}
