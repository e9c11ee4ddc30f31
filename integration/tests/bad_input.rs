//! Bad input: each kind gets its class and its stable reason, and costs nobody else anything.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, stream};
use meridian_client::Silent;
use meridian_integration::keys;
use meridian_integration::liars::crooked::Crooked;
use meridian_integration::network::{Name, Network, Plan, options};
use meridian_integration::{payload, raw};
use meridian_proofs::B256;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Seat;
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::hash::Blake3;
use meridian_proto::wire::gateway_client::GatewayClient;
use meridian_proto::wire::put_request::Part;
use meridian_proto::wire::replica_client::ReplicaClient;
use meridian_proto::wire::{
    CosignRequest, DisperseRequest, DisperseStart, GetCertificateRequest, GetCheckpointRequest,
    GetConsistencyProofRequest, GetEntriesRequest, GetInclusionProofRequest, GetRowsRequest,
    GetSamplesRequest, LookupRequest, PutRequest, PutStart, RangeStart, disperse_request, lookup_request,
};
use meridian_proto::{ApiError, Class, MAX_CHUNK, Reason};
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

const MIB: u64 = 1 << 20;

async fn connect(endpoint: &str) -> Result<Channel> {
    Ok(Endpoint::from_shared(endpoint.to_owned())?.connect().await?)
}

fn start(length: u64) -> PutStart {
    PutStart {
        format_version: 1,
        namespace: vec![0; 32].into(),
        length,
        retention: 3_600,
        bind_payload_hash: false,
        expected_blob_id: Bytes::new(),
        kzg_root: Bytes::new(),
        authorization: None,
    }
}

/// A put, chunk by chunk.
fn messages(start: PutStart, payload: &Bytes) -> Vec<PutRequest> {
    let mut all = vec![PutRequest { part: Some(Part::Start(start)) }];
    for at in (0..payload.len()).step_by(MAX_CHUNK) {
        let chunk = payload.slice(at..payload.len().min(at + MAX_CHUNK));
        all.push(PutRequest { part: Some(Part::Chunk(chunk)) });
    }
    all
}

async fn put(channel: &Channel, messages: Vec<PutRequest>) -> Result<Certificate, Status> {
    let answer = GatewayClient::new(channel.clone()).put(stream::iter(messages)).await?;
    Certificate::decode(&answer.into_inner().certificate).map_err(|e| Status::data_loss(e.to_string()))
}

/// Checks that a status has its class, a reason of ours that belongs to it, and no fault of the node's own.
fn classified(status: &Status) -> Result<Reason> {
    let info = status.get_details_error_info().with_context(|| format!("no error info: {status:?}"))?;
    ensure!(info.domain == "meridian", "{status:?}");
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == info.reason);
    let reason = *reason.with_context(|| format!("an unknown reason {}", info.reason))?;
    ensure!(reason.class().code() == status.code(), "{reason:?} with {:?}", status.code());
    ensure!(reason.class() != Class::Internal, "{status:?}");
    Ok(reason)
}

async fn refused(channel: &Channel, what: &str, messages: Vec<PutRequest>, wanted: Reason) -> Result<()> {
    match put(channel, messages).await {
        Ok(_) => anyhow::bail!("{what}: got a certificate"),
        Err(status) => {
            let reason = classified(&status).with_context(|| what.to_owned())?;
            ensure!(reason == wanted, "{what}: {reason:?} instead of {wanted:?}: {status:?}");
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_that_can_never_succeed() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let channel = connect(network.endpoint(Name::Gateway(0))?).await?;
    let payload = payload::noise(1_000, 1);
    let good = || start(1_000);
    let with = |start: PutStart| messages(start, &payload);
    let limits = network.committee().parts().clone();

    refused(&channel, "an empty payload", messages(start(0), &Bytes::new()), Reason::EmptyPayload).await?;
    let over = 128 * MIB + 1;
    refused(&channel, "a byte more than 128 MiB", with(start(over)), Reason::PayloadTooLarge).await?;
    refused(&channel, "the largest length there is", with(start(u64::MAX)), Reason::PayloadTooLarge).await?;
    refused(&channel, "a stream longer than announced", with(start(999)), Reason::LengthMismatch).await?;
    refused(&channel, "a stream shorter than announced", with(start(1_001)), Reason::LengthMismatch).await?;
    for length in [0, 31, 33, 100] {
        let namespace = vec![0; length].into();
        let bad = with(PutStart { namespace, ..good() });
        refused(&channel, "a namespace that is not 32 bytes", bad, Reason::NamespaceInvalid).await?;
    }
    for retention in [0, 1, limits.min_retention - 1, limits.max_retention + 1, u64::MAX, u64::MAX - 1_000] {
        let bad = with(PutStart { retention, ..good() });
        refused(&channel, &format!("a retention of {retention}"), bad, Reason::RetentionOutOfRange).await?;
    }
    for format_version in [0, 2, u32::MAX] {
        let bad = with(PutStart { format_version, ..good() });
        refused(&channel, "another format version", bad, Reason::FormatUnsupported).await?;
    }
    for (length, reason) in [(31, Reason::FieldInvalid), (33, Reason::FieldInvalid), (32, Reason::IdMismatch)]
    {
        let bad = with(PutStart { expected_blob_id: vec![3; length].into(), ..good() });
        refused(&channel, "another blob id than expected", bad, reason).await?;
    }
    for kzg_root in [vec![3; 1], vec![3; 31], vec![3; 33], vec![0; 32]] {
        let bad = with(PutStart { kzg_root: kzg_root.into(), ..good() });
        refused(&channel, "a kzg root that is not one", bad, Reason::FieldInvalid).await?;
    }
    let chunk = || PutRequest { part: Some(Part::Chunk(payload.clone())) };
    let begin = || PutRequest { part: Some(Part::Start(good())) };
    refused(&channel, "no message", vec![], Reason::StreamInvalid).await?;
    refused(&channel, "a chunk first", vec![chunk(), begin()], Reason::StreamInvalid).await?;
    refused(&channel, "two starts", vec![begin(), begin(), chunk()], Reason::StreamInvalid).await?;
    refused(&channel, "an empty message", vec![begin(), PutRequest { part: None }], Reason::FieldInvalid)
        .await?;
    let empty = PutRequest { part: Some(Part::Chunk(Bytes::new())) };
    refused(&channel, "an empty chunk", vec![begin(), empty], Reason::StreamInvalid).await?;
    let large = PutRequest { part: Some(Part::Chunk(vec![0; MAX_CHUNK + 1].into())) };
    let bad = vec![PutRequest { part: Some(Part::Start(start(2 * MIB))) }, large];
    refused(&channel, "a chunk over the limit", bad, Reason::MessageTooLarge).await?;

    // The limits themselves are taken.
    for retention in [limits.min_retention, limits.max_retention] {
        let certificate = put(&channel, with(PutStart { retention, ..good() })).await?;
        assert!(certificate.entry.expiry >= certificate.entry.time + retention - 3_600);
    }
    let id = encode::<Blake3>(&payload, B256::ZERO)?.id();
    let expected_blob_id = id.as_bytes().to_vec().into();
    assert_eq!(put(&channel, with(PutStart { expected_blob_id, ..good() })).await?.id(), id);
    Ok(())
}

/// Puts and gets payloads of these lengths.
async fn there_and_back(lengths: impl IntoIterator<Item = u64>) -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let reader = network.reader();
    for length in lengths {
        let payload = payload::noise(usize::try_from(length)?, length);
        let certificate = network.put(payload.clone()).await.with_context(|| format!("{length} bytes"))?;
        ensure!(certificate.entry.length == length, "{length} bytes became {}", certificate.entry.length);
        let fetched = reader.payload(certificate.id(), &Silent).await?;
        ensure!(fetched.payload == payload, "{length} bytes came back different");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_size_class_at_its_boundary() -> Result<()> {
    let kib = 1_024;
    let classes = [16 * kib, 64 * kib, 256 * kib, MIB];
    there_and_back([1, 63, 64, 65].into_iter().chain(classes.into_iter().flat_map(|at| [at - 1, at, at + 1])))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_size_classes_at_their_boundary() -> Result<()> {
    there_and_back([4 * MIB, 4 * MIB + 1, 32 * MIB, 32 * MIB + 1]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_payload() -> Result<()> {
    there_and_back([128 * MIB]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_of_zeros_and_one_that_ends_in_zeros() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let mut ids = Vec::new();
    // Padding is zeros: payloads that differ in their number of zeros alone are different blobs.
    for payload in [vec![0; 10], vec![0; 11], vec![1, 0], vec![1, 0, 0]] {
        let payload = Bytes::from(payload);
        let certificate = network.put(payload.clone()).await?;
        assert_eq!(network.reader().payload(certificate.id(), &Silent).await?.payload, payload);
        ids.push(certificate.id());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_half_way() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let channel = connect(network.endpoint(Name::Gateway(0))?).await?;
    let payload = payload::noise(3_000_000, 4);
    for sent in [0, 1, 2] {
        // The first messages, then nothing, then the connection's end.
        let some = messages(start(3_000_000), &payload).into_iter().take(sent);
        let requests = stream::iter(some).chain(stream::pending());
        let mut client = GatewayClient::new(channel.clone());
        let put = client.put(requests);
        assert!(tokio::time::timeout(Duration::from_millis(200), put).await.is_err());
    }
    let certificate = put(&channel, messages(start(3_000_000), &payload)).await?;
    assert_eq!(certificate.index, 0, "an upload that was given up left an entry");
    assert!(network.reader().payload(certificate.id(), &Silent).await?.payload == payload);
    Ok(())
}

/// One method with messages that it takes.
struct Method {
    name: &'static str,
    messages: Vec<Bytes>,
}

fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// Every method of a replica and of both logs with a request that is good for this certificate.
fn reads(certificate: &Certificate) -> Vec<Method> {
    let blob_id = Bytes::copy_from_slice(certificate.id().as_bytes());
    let checkpoint = certificate.checkpoint.signed.checkpoint;
    let gateway = Bytes::copy_from_slice(checkpoint.gateway.as_slice());
    let size = checkpoint.size;
    let one = |name, message: Bytes| Method { name, messages: vec![message] };
    vec![
        one(
            "Replica/GetRows",
            bytes(&GetRowsRequest { blob_id: blob_id.clone(), start: 1, count: 2, held_only: false }),
        ),
        one(
            "Replica/GetSamples",
            bytes(&GetSamplesRequest { blob_id: blob_id.clone(), indices: vec![1, 5] }),
        ),
        one(
            "Replica/Lookup",
            bytes(&LookupRequest {
                key: Some(lookup_request::Key::BlobId(blob_id)),
                include_rlc: true,
                max_row_bytes: 0,
            }),
        ),
        one("Log/GetCheckpoint", bytes(&GetCheckpointRequest { gateway: gateway.clone() })),
        one("Log/GetEntries", bytes(&GetEntriesRequest { gateway: gateway.clone(), start: 0, count: size })),
        one(
            "Log/GetInclusionProof",
            bytes(&GetInclusionProofRequest { gateway: gateway.clone(), index: size - 1, size }),
        ),
        one(
            "Log/GetConsistencyProof",
            bytes(&GetConsistencyProofRequest { gateway, old_size: 1, new_size: size }),
        ),
    ]
}

/// Spoils every message of a method in every way. Every answer is an answer or a classified error.
async fn spoil_all(channel: &Channel, method: &Method) -> Result<()> {
    good(channel, method).await.context("before the bad requests")?;
    for place in 0..method.messages.len() {
        spoil_message(channel, method, place).await?;
    }
    good(channel, method).await.context("after the bad requests")
}

async fn good(channel: &Channel, method: &Method) -> Result<()> {
    let answer = raw::call(channel.clone(), method.name, method.messages.clone()).await;
    answer.map_err(|status| anyhow::anyhow!("{}: the good request fails: {status:?}", method.name))?;
    Ok(())
}

/// Spoils one message of a method, in the ways that must be refused before those that may be taken.
async fn spoil_message(channel: &Channel, method: &Method, place: usize) -> Result<()> {
    let mut all = raw::spoil(&method.messages[place]);
    all.sort_by_key(|spoiled| !spoiled.wrong);
    for spoiled in all {
        let mut messages = method.messages.clone();
        messages[place] = spoiled.message;
        let what = format!("{} message {place}: {}", method.name, spoiled.what);
        let call = raw::call(channel.clone(), method.name, messages);
        let answer = tokio::time::timeout(Duration::from_secs(20), call).await;
        match answer.with_context(|| format!("{what}: no answer"))? {
            Ok(_) => ensure!(!spoiled.wrong, "{what}: was taken"),
            Err(status) => {
                let reason = classified(&status).with_context(|| what.clone())?;
                let fine = matches!(reason.class(), Class::Invalid | Class::TooLarge);
                ensure!(fine || !spoiled.wrong, "{what}: {reason:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_every_field_of_every_read() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    network.put(payload::noise(2_000, 1)).await?;
    let certificate = network.put(payload::noise(2_000, 2)).await?;
    let signer = certificate.verify(network.committee())?.signers[0];
    let seat = network.committee().seat(&signer).context("a signer with a seat")?;
    let replica = connect(&seat.endpoint).await?;
    for method in reads(&certificate) {
        spoil_all(&replica, &method).await?;
    }
    let gateway = connect(network.endpoint(Name::Gateway(0))?).await?;
    for method in reads(&certificate).iter().filter(|method| method.name.starts_with("Log/")) {
        spoil_all(&gateway, method).await?;
    }
    let blob_id = certificate.id().as_bytes().to_vec().into();
    let namespace = certificate.entry.namespace.as_bytes().to_vec().into();
    let message = bytes(&GetCertificateRequest { blob_id, namespace });
    spoil_all(&gateway, &Method { name: "Gateway/GetCertificate", messages: vec![message] }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_every_field_of_a_put() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let gateway = connect(network.endpoint(Name::Gateway(0))?).await?;
    let payload = payload::noise(700, 3);
    let id = encode::<Blake3>(&payload, B256::ZERO)?.id();
    let start = PutStart { expected_blob_id: id.as_bytes().to_vec().into(), ..start(700) };
    let messages = messages(start, &payload).iter().map(bytes).collect();
    spoil_all(&gateway, &Method { name: "Gateway/Put", messages }).await
}

/// The messages of an honest upload.
fn upload(log: &Crooked, blob: &EncodedBlob, seat: &Seat) -> Vec<Bytes> {
    let begin = DisperseStart {
        format_version: 1,
        dispersal: Some(log.permit(blob, seat, |_| {}).into()),
        header: Some((*blob.header()).into()),
    };
    let upload = log.upload(blob, seat);
    let mut parts = vec![disperse_request::Part::Start(begin), disperse_request::Part::Rlc(upload.rlc)];
    for (range, proof, rows) in upload.ranges {
        parts.push(disperse_request::Part::Range(RangeStart {
            start: range.start(),
            count: range.count(),
            proof: proof.0.iter().map(|hash| Bytes::copy_from_slice(hash.as_slice())).collect(),
        }));
        parts.push(disperse_request::Part::Rows(rows));
    }
    parts.into_iter().map(|part| bytes(&DisperseRequest { part: Some(part) })).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_every_field_of_what_gateways_send() -> Result<()> {
    let network = Network::start(Plan { gateways: 0, vacant_gateways: 1, ..Plan::default() }).await?;
    let log = Crooked::new(keys::secret(&Name::Gateway(0).key_word())?, network.committee().clone());
    let seat = network.seat(0)?;
    let replica = connect(&seat.endpoint).await?;
    // A replica that holds the rows reads no further than the first message, so each message is of a blob of its own.
    for place in 0..4 {
        let blob = encode::<Blake3>(&payload::noise(700, 40 + place as u64), B256::ZERO)?;
        let method = Method { name: "Replica/Disperse", messages: upload(&log, &blob, seat) };
        assert!(method.messages.len() >= 4);
        spoil_message(&replica, &method, place).await?;
        good(&replica, &method).await?;
    }

    let blob = encode::<Blake3>(&payload::noise(700, 40), B256::ZERO)?;
    let honest = log.honest(log.entry(&blob));
    let request = CosignRequest {
        format_version: 1,
        signed: Some(honest.signed.into()),
        start: honest.start,
        entries: honest.entries.into_iter().map(Into::into).collect(),
    };
    spoil_all(&replica, &Method { name: "Replica/Cosign", messages: vec![bytes(&request)] }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_beyond_what_there_is() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let certificate = network.put(payload::noise(2_000, 5)).await?;
    let signer = certificate.verify(network.committee())?.signers[0];
    let seat = network.committee().seat(&signer).context("a signer with a seat")?;
    let mut replica = ReplicaClient::new(connect(&seat.endpoint).await?);
    let blob_id = || Bytes::copy_from_slice(certificate.id().as_bytes());
    let total = u32::try_from(certificate.header.shape().total_rows())?;

    for (start, count, good) in [
        (0, total, true),
        (total - 1, 1, true),
        (0, 0, false),
        (0, total + 1, false),
        (total, 1, false),
        (total - 1, 2, false),
        (u32::MAX, 1, false),
        (1, u32::MAX, false),
    ] {
        let request = GetRowsRequest { blob_id: blob_id(), start, count, held_only: false };
        match replica.get_rows(request).await {
            Ok(answer) => {
                let mut parts = answer.into_inner();
                let mut error = None;
                while let Some(part) = parts.next().await {
                    error = part.err();
                }
                match error {
                    None => ensure!(good, "{count} rows from {start} of {total}"),
                    Some(status) => {
                        ensure!(!good && classified(&status)?.class() == Class::Invalid, "{status:?}");
                    }
                }
            }
            Err(status) => ensure!(!good && classified(&status)?.class() == Class::Invalid, "{status:?}"),
        }
    }
    let all: Vec<u32> = (0..total).cycle().take(257).collect();
    for (indices, wanted) in [
        (vec![], Some(Class::Invalid)),
        (vec![total], Some(Class::Invalid)),
        (vec![u32::MAX], Some(Class::Invalid)),
        (vec![1, 1], Some(Class::Invalid)),
        (all, Some(Class::TooLarge)),
        (vec![0, total - 1], None),
    ] {
        let what = format!("{} samples", indices.len());
        let answer = replica.get_samples(GetSamplesRequest { blob_id: blob_id(), indices }).await;
        let class = answer.err().map(|status| classified(&status)).transpose()?.map(Reason::class);
        ensure!(class == wanted, "{what}: {class:?} instead of {wanted:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_is_refused_before_it_is_held() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let gateway = connect(network.endpoint(Name::Gateway(0))?).await?;
    let message = PutRequest { part: Some(Part::Chunk(vec![0; 64 << 20].into())) };
    let status = raw::call(gateway.clone(), "Gateway/Put", vec![bytes(&message)])
        .await
        .err()
        .context("64 MiB in one message were taken")?;
    // The limit is the transport's: it answers before a message exists that could be classified.
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_eq!(ApiError::from_status(&status).class(), Class::TooLarge);
    network.put(payload::noise(1_000, 6)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_puts_than_the_memory_holds_are_told_to_come_back() -> Result<()> {
    let mut plan = Plan::default();
    plan.gateway.memory_bytes = 40 << 20;
    plan.gateway.memory_wait_ms = 100;
    let network = Network::start(plan).await?;
    let submitter = network.submitter();
    let options = options();
    let puts = (0..12).map(|seed| {
        let (submitter, payload) = (submitter.clone(), payload::noise(4 << 20, seed));
        async move { (submitter.put(payload.clone(), &options, &Silent).await, payload) }
    });
    let (mut done, mut put_off) = (0, 0);
    for (outcome, payload) in futures::future::join_all(puts).await {
        match outcome {
            Ok(receipt) => {
                done += 1;
                let fetched = network.reader().payload(receipt.certificate.id(), &Silent).await?;
                ensure!(fetched.payload == payload, "a payload came back different");
            }
            Err(meridian_client::submit::PutError::Failed(attempts)) => {
                put_off += 1;
                let failure = &attempts.last().context("an attempt")?.failure;
                let meridian_client::submit::Failure::Call(error) = failure else {
                    anyhow::bail!("{failure}")
                };
                ensure!(error.class() == Class::Overloaded, "{error}");
                ensure!(error.retry_after.is_some(), "no word on when to come back");
            }
            Err(error) => anyhow::bail!("{error}"),
        }
    }
    ensure!(done > 0 && put_off > 0, "{done} puts done, {put_off} put off");
    let status = network.channels().gateway(network.endpoint(Name::Gateway(0))?)?.status().await?;
    ensure!(status.memory_used <= status.memory_budget, "{status:?}");
    Ok(())
}
