//! Every call of the network, recorded on its way and sent again: by another caller, to every other member, when the
//! permission is over, and on another network of the same keys. Nothing that a call has changed changes once more.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::StreamExt;
use meridian_client::Silent;
use meridian_client::namespaces::{Limits, Namespaces};
use meridian_client::submit::PutOptions;
use meridian_integration::keys;
use meridian_integration::network::{Name, Network, Plan, complete, eventually, options};
use meridian_integration::recorder::{Call, Recorder};
use meridian_node::gateway;
use meridian_node::gateway::access::AccessSettings;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::ids::Namespace;
use meridian_proofs::placement::interval;
use meridian_proofs::shape::RowIndex;
use meridian_proto::FILE_DESCRIPTOR_SET;
use meridian_proto::convert::LookupKey;
use meridian_proto::error::{ApiError, Class, Reason};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a permission to upload holds.
const LATER: Duration = Duration::from_secs(31);

/// The methods that change what a member keeps; all others only tell.
const CHANGING: [&str; 3] =
    ["meridian.da.v1.Gateway/Put", "meridian.da.v1.Replica/Disperse", "meridian.da.v1.Replica/Cosign"];

fn ours() -> Namespace {
    Namespace::from([5; 32])
}

async fn network(folder: &Path, chain_id: u64, recorder: Option<Recorder>) -> Result<Network> {
    let file = folder.join("namespaces.toml");
    if !file.exists() {
        let owner = keys::secret("owner")?.address();
        Namespaces::change(&file, true, |list| list.create(ours(), owner, Limits::default()))?;
    }
    let access = AccessSettings { namespaces: file, ..AccessSettings::default() };
    let gateway = gateway::Settings { access, ..gateway::Settings::default() };
    Network::start(Plan { regions: 3, gateways: 2, chain_id, recorder, gateway, ..Plan::default() }).await
}

/// Every method that the protobuf files have.
fn methods() -> Result<BTreeSet<String>> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?;
    let files = set.file.iter().filter(|file| file.package() == "meridian.da.v1");
    let services = files.flat_map(|file| &file.service).filter(|service| service.name() != "Admin");
    let names = services.flat_map(|service| {
        service.method.iter().map(|method| format!("meridian.da.v1.{}/{}", service.name(), method.name()))
    });
    Ok(names.collect())
}

/// What members keep, as far as anybody can see it.
async fn state(network: &Network) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for place in 0..2 {
        let status = network.channels().gateway(&network.direct(Name::Gateway(place))?)?.status().await?;
        seen.push(format!("gateway {place}: {} of {}", status.certified_size, status.log_size));
    }
    for place in 0..3 {
        let endpoint = network.direct(Name::Replica(place))?;
        let status = network.channels().replica(&endpoint)?.status().await?;
        let logs = network.channels().log(&endpoint)?.list().await?;
        let logs: Vec<_> = logs.iter().map(|log| log.signed.checkpoint).collect();
        seen.push(format!("replica {place}: {} blobs, {} bytes, {logs:?}", status.blobs, status.row_bytes));
    }
    Ok(seen)
}

/// Two blobs of two gateways on all replicas, and everything asked once.
async fn use_everything(network: &Network) -> Result<Vec<Certificate>> {
    let mut certificates = Vec::new();
    let signed = PutOptions { namespace: ours(), bind_payload_hash: true, ..options() };
    for place in 0..2_u8 {
        let gateway = network.endpoint(Name::Gateway(place.into()))?.to_owned();
        let submitter = network.submitter_to(vec![gateway]).signing(Arc::new(keys::secret("owner")?));
        let payload = Bytes::from(vec![place + 1; 20_000]);
        let receipt = submitter.put(payload, &signed, &Silent).await?;
        let (certificate, _) =
            complete(network.committee(), network.channels(), &receipt.certificate, PATIENCE).await?;
        certificates.push(certificate);
    }
    let (certificate, committee) = (&certificates[0], network.committee());
    let (id, log) = (certificate.id(), certificate.checkpoint.signed.checkpoint.gateway);
    let shape = certificate.header.shape();
    for place in 0..3 {
        let endpoint = network.endpoint(Name::Replica(place))?;
        let replica = network.channels().replica(endpoint)?;
        let interval = interval(committee, network.seat(place)?, &id, shape);
        replica.rows(id, interval.ranges()[0], shape.row_bytes(), true).await?;
        let row = RowIndex(interval.ranges()[0].start());
        replica.samples(id, &[row], shape.row_bytes()).await?;
        replica.lookup(LookupKey::Blob(id), true).await?;
        replica.status().await?;
        let logs = network.channels().log(endpoint)?;
        logs.list().await?;
        logs.checkpoint(log).await?;
        logs.entries(log, 0, 1).await?;
        logs.inclusion(log, 0, 1).await?;
        logs.consistency(log, 1, 1).await?;
    }
    let gateway = network.channels().gateway(network.endpoint(Name::Gateway(0))?)?;
    gateway.committee().await?;
    gateway.status().await?;
    Ok(certificates)
}

async fn connect(network: &Network, to: Name) -> Result<Channel> {
    Ok(Endpoint::from_shared(network.direct(to)?)?.connect().await?)
}

fn reason(outcome: &Result<Bytes, Status>) -> Option<ApiError> {
    outcome.as_ref().err().map(ApiError::from_status)
}

/// What a replayed call may come to where it was meant for. A permission or a checkpoint that this very replica has
/// taken before may be taken again: it gives the same answer, and the state says whether anything has changed.
fn check_at_home(call: &Call, outcome: &Result<Bytes, Status>, is_later: bool) -> Result<()> {
    let error = reason(outcome);
    match call.method.as_str() {
        "meridian.da.v1.Gateway/Put" => {
            let error = error.context("a signed put was taken twice")?;
            ensure!(error.reason == Reason::AuthorizationReplayed, "{error:?}");
        }
        "meridian.da.v1.Replica/Disperse" if is_later => {
            let error = error.context("a permission was taken that is over")?;
            ensure!(error.reason == Reason::DeadlineOutOfRange, "{error:?}");
        }
        // The checkpoints below the latest are not signed again.
        "meridian.da.v1.Replica/Cosign" => {
            ensure!(error.as_ref().is_none_or(|error| error.class() == Class::Invalid), "{error:?}");
        }
        _ => ensure!(error.is_none(), "{}: {error:?}", call.method),
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_changes_nothing_once_more() -> Result<()> {
    let (folder, recorder) = (tempfile::tempdir()?, Recorder::default());
    let home = network(folder.path(), 1, Some(recorder.clone())).await?;
    use_everything(&home).await?;
    let calls = eventually(PATIENCE, "all methods", async || {
        (recorder.methods().is_superset(&methods().ok()?)).then(|| recorder.calls())
    })
    .await?;
    let state_of = async |network: &Network| state(network).await;
    // Gateways look after replicas all the time: what is still being cosigned comes to rest.
    let before = eventually(PATIENCE, "a state that stays", async || {
        let one = state_of(&home).await.ok()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        (state_of(&home).await.ok()? == one).then_some(one)
    })
    .await?;

    for is_later in [false, true] {
        if is_later {
            tokio::time::sleep(LATER).await;
        }
        for call in &calls {
            let outcome = call.replay(&mut connect(&home, call.to).await?).await;
            check_at_home(call, &outcome, is_later)?;
        }
        ensure!(state_of(&home).await? == before, "{before:?} became {:?}", state_of(&home).await?);
    }

    let changing = || calls.iter().filter(|call| CHANGING.contains(&call.method.as_str()));
    ensure!(changing().count() >= 2 + 2 * 3 * 2, "two puts, on three replicas each");
    // To everybody else of the same kind.
    for call in changing() {
        let others = match call.to {
            Name::Gateway(place) => vec![Name::Gateway(1 - place)],
            Name::Replica(place) => (0..3).filter(|other| *other != place).map(Name::Replica).collect(),
        };
        for other in others {
            let outcome = call.replay(&mut connect(&home, other).await?).await;
            let error = reason(&outcome);
            match call.method.as_str() {
                "meridian.da.v1.Gateway/Put" => {
                    let error = error.context("a put was taken that is signed for another gateway")?;
                    ensure!(error.reason == Reason::WrongGateway, "{error:?}");
                }
                "meridian.da.v1.Replica/Disperse" => {
                    let error = error.context("a permission was taken that is for another replica")?;
                    ensure!(error.reason == Reason::WrongReplica, "{error:?}");
                }
                // A checkpoint is for all replicas alike.
                _ => ensure!(error.as_ref().is_none_or(|error| error.class() == Class::Invalid), "{error:?}"),
            }
        }
    }
    ensure!(state_of(&home).await? == before, "{before:?} became {:?}", state_of(&home).await?);
    drop(home);

    // Other signatures are asked for there, from the same keys.
    let elsewhere = network(folder.path(), 2, None).await?;
    let before = state_of(&elsewhere).await?;
    let outcomes = futures::stream::iter(changing().cloned()).map(async |call| {
        let outcome = call.replay(&mut connect(&elsewhere, call.to).await?).await;
        anyhow::Ok((call, outcome))
    });
    let outcomes: Vec<_> = outcomes.buffer_unordered(8).collect().await;
    for outcome in outcomes {
        let (call, outcome) = outcome?;
        let code = outcome.as_ref().err().map(Status::code);
        ensure!(
            matches!(code, Some(Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument)),
            "{} was taken on another network: {:?}",
            call.method,
            reason(&outcome)
        );
    }
    ensure!(state_of(&elsewhere).await? == before, "another network has taken what was recorded");
    Ok(())
}
