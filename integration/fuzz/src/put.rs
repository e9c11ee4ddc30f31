//! Puts: what a gateway takes is certified under the id of exactly what was sent, and everything else is refused and
//! leaves nothing.

use bytes::Bytes;
use meridian_integration::liars::crooked::now;
use meridian_proofs::authorization::SignedAuthorization;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::ids::PayloadHash;
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{B256, keccak256};
use meridian_proto::convert::{PutAuthorization, PutPart, PutStart};
use meridian_proto::wire::{self, put_request::Part};
use prost::Message;

use super::draft::{Signer, draft};
use super::grpc::{Sent, call, single};
use super::home::{Home, REPLICAS, context, run, stranger};
use super::input::{Input, noise};
use super::reads::rows;

const LENGTHS: [usize; 8] = [700, 1, 63, 64, 1024, 1025, 4000, 9000];
/// Seconds that a signed put may lie in the future, and beside the clock.
const WINDOW: u64 = 300;
const SKEW: u64 = 60;
/// Seconds on both sides of a limit where it depends on the moment.
const EDGE: u64 = 3;

pub fn put(data: &[u8]) {
    run(data, once);
}

/// Length u8, content u8, options u8, retention u8, bytes of a chunk u8, then what is changed.
async fn once(home: &Home, input: &mut Input<'_>) {
    let (length, content) = (LENGTHS[usize::from(input.byte()) % LENGTHS.len()], input.byte());
    let payload = noise(content.into(), length);
    let options = input.byte();
    let limits = home.committee.parts();
    let retention = match input.byte() % 4 {
        0 => 3_600,
        1 => limits.min_retention,
        2 => limits.max_retention,
        _ => limits.min_retention + 1,
    };
    let kzg_root = (options & 1 != 0).then(|| B256::repeat_byte(7));
    let mut start = PutStart {
        namespace: [options >> 4; 32].into(),
        length: (length as u64).try_into().unwrap(),
        retention,
        bind_payload_hash: options & 2 != 0,
        expected_blob_id: None,
        kzg_root,
        authorization: None,
    };
    if options & 4 != 0 {
        let blob: EncodedBlob = encode(&payload, kzg_root.unwrap_or_default()).unwrap();
        start.expected_blob_id = Some(blob.id());
    }
    if options & 8 != 0 {
        let (gateway, hash) = (home.gateway.status().address, PayloadHash(keccak256(&payload)));
        let asked = start.to_authorize(gateway, hash, B256::repeat_byte(content), now() + 60);
        start.authorization = Some(SignedAuthorization::sign(asked, &home.domain, &stranger()).into());
    }
    let piece = match usize::from(input.byte()) {
        0 => length,
        piece => (piece * 16).max(length / 16),
    };
    let mut messages = vec![wire::PutRequest { part: Some(Part::Start(start.into())) }];
    let chunks = payload.chunks(piece).map(|chunk| Part::Chunk(Bytes::copy_from_slice(chunk)));
    messages.extend(chunks.map(|chunk| wire::PutRequest { part: Some(chunk) }));
    let messages = messages.iter().map(Message::encode_to_vec).collect();
    let sent = draft(home, input, messages, |message, signer| sign(home, message, signer));

    let (before, begun) = (home.gateway.status().log_size, now());
    let wanted = wanted(home, &sent).await;
    let outcome = call(home.gateway_service(), "Gateway/Put", &sent).await;
    if wanted.as_ref().is_some_and(Wanted::is_at_an_edge) {
        return;
    }
    match outcome.judged(wanted, &sent) {
        Some((put, answer)) => certified(home, &put, begun, &answer).await,
        None => assert_eq!(home.gateway.status().log_size, before, "a put that was refused left an entry"),
    }
}

/// Signs what a start of a put says now.
fn sign(home: &Home, message: &mut Vec<u8>, signer: Signer) {
    let Ok(PutPart::Start(start)) = wire::PutRequest::decode(&message[..])
        .map_or_else(|_| Err(()), |message| PutPart::try_from(message).map_err(drop))
    else {
        return;
    };
    let Some(PutAuthorization { gateway, payload_hash, nonce, deadline, .. }) = start.authorization else {
        return;
    };
    let key: SecretKey = home.key(0, signer);
    let asked = start.to_authorize(gateway, payload_hash, nonce, deadline);
    let authorization = Some(SignedAuthorization::sign(asked, &home.domain, &key).into());
    let start = PutStart { authorization, ..start };
    *message = wire::PutRequest { part: Some(Part::Start(start.into())) }.encode_to_vec();
}

/// What has to be certified.
struct Wanted {
    start: PutStart,
    blob: EncodedBlob,
}

impl Wanted {
    /// Whether a second more or less decides.
    fn is_at_an_edge(&self) -> bool {
        let (deadline, now) = (self.start.authorization.map(|signed| signed.deadline), now());
        let edges = [now.saturating_sub(SKEW), now + WINDOW + SKEW];
        deadline.is_some_and(|deadline| edges.iter().any(|edge| deadline.abs_diff(*edge) < EDGE))
    }
}

/// What protocol section 5 says to take, from what was sent.
async fn wanted(home: &Home, sent: &Sent) -> Option<Wanted> {
    let mut parts = sent.read::<wire::PutRequest>().await?.into_iter().map(PutPart::try_from);
    let PutPart::Start(start) = parts.next()?.ok()? else { return None };
    let mut payload = Vec::new();
    for part in parts {
        let PutPart::Chunk(chunk) = part.ok()? else { return None };
        payload.extend_from_slice(&chunk);
    }
    let limits = home.committee.parts();
    if payload.len() as u64 != start.length.get()
        || !(limits.min_retention..=limits.max_retention).contains(&start.retention)
    {
        return None;
    }
    let blob: EncodedBlob = encode(&payload, start.kzg_root.unwrap_or_default()).unwrap();
    if start.expected_blob_id.is_some_and(|expected| expected != blob.id()) {
        return None;
    }
    if let Some(signed) = start.signed() {
        // Nobody has to sign here; what is signed has to be of this put and of now.
        let (asked, now) = (&signed.authorization, now());
        signed.signer(&home.domain).ok()?;
        let of_now = (now.saturating_sub(SKEW + EDGE)..=now + WINDOW + SKEW + EDGE).contains(&asked.deadline);
        let of_this = asked.payload_hash.0 == keccak256(&payload);
        if !of_now || !of_this || asked.gateway != home.gateway.status().address {
            return None;
        }
    }
    Some(Wanted { start, blob })
}

/// A certificate of what was put, whose rows are there.
async fn certified(home: &Home, wanted: &Wanted, begun: u64, answer: &[Bytes]) {
    let Wanted { start, blob } = wanted;
    let answer: wire::PutResponse = single(answer).await;
    let certificate = Certificate::decode(&answer.certificate).unwrap();
    certificate.verify(&home.committee).unwrap();
    let entry = &certificate.entry;
    assert_eq!((certificate.id(), certificate.header), (blob.id(), *blob.header()));
    assert_eq!((entry.namespace, entry.length), (start.namespace, start.length.get()));
    let hash = if start.bind_payload_hash { keccak256(blob.payload()) } else { B256::ZERO };
    assert_eq!(entry.payload_hash, PayloadHash(hash));
    assert!(entry.expiry >= meridian_client::submit::least_expiry(begun, start.retention));
    assert_eq!(certificate.checkpoint.signed.checkpoint.gateway, home.gateway.status().address);

    // Whoever cosigned has rows, from which all others come.
    let holds = (0..REPLICAS).find(|replica| {
        let seat = home.seat(*replica).address;
        certificate.verify(&home.committee).unwrap().signers.contains(&seat)
    });
    let data = blob.shape().data();
    let read = rows(home, holds.unwrap(), &context(blob), data, false).await.unwrap();
    assert!(read[..].starts_with(&blob.payload()), "another payload came back");
}
