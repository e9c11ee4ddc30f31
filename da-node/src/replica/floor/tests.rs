//! A replica that is far behind: it cosigns below what others have seen only what leads there.

use meridian_proofs::B256;
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::signature::SecretKey;
use meridian_proto::convert::{CosignAnswer, CosignRequest};
use meridian_proto::wire::log_server::LogServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;

use super::*;
use crate::clock::Clock;
use crate::log_service::LogService;
use crate::replica::Settings;
use crate::store::log::LogStore;
use crate::store::{Batch, Db, Durability, Role};

const NOW: u64 = 1_800_000_000;

/// An entry that expired long ago, so that no rows are owed.
fn entry(number: u8) -> LogEntry {
    LogEntry {
        blob_id: [number; 32].into(),
        namespace: Namespace::default(),
        payload_hash: PayloadHash::UNBOUND,
        length: 1,
        epoch: 1,
        time: 1_000_000,
        expiry: 1_003_600,
    }
}

fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes([byte; 32]).unwrap()
}

fn committee(gateway: String) -> Committee {
    let region = RegionId(1);
    Committee::new(CommitteeParts {
        chain_id: 0,
        verifying_contract: Address::ZERO,
        epoch: 1,
        min_copies: 1,
        min_retention: 3600,
        max_retention: 86_400,
        regions: vec![Region { id: region, label: "one".to_owned(), latitude: 0.0, longitude: 0.0 }],
        seats: vec![Seat {
            region,
            number: 0,
            address: key(2).address(),
            endpoint: "http://127.0.0.1:1".to_owned(),
        }],
        gateways: vec![GatewayMember {
            address: key(1).address(),
            endpoint: gateway,
            max_bytes: 1 << 40,
            max_entries_per_hour: 1 << 20,
        }],
    })
    .unwrap()
}

fn sign(committee: &Committee, entries: &[LogEntry]) -> SignedCheckpoint {
    let mut range = CompactRange::empty();
    for entry in entries {
        range.append(entry.leaf());
    }
    let checkpoint = Checkpoint {
        gateway: key(1).address(),
        epoch: 1,
        size: range.size(),
        root: range.root(),
        timestamp: NOW,
    };
    SignedCheckpoint::sign(checkpoint, &committee.domain(), &key(1))
}

async fn cosign(replica: &Arc<Replica>, entries: &[LogEntry]) -> Result<CosignAnswer, ApiError> {
    let signed = sign(&replica.standing(1).unwrap().committee, entries);
    replica.cosign(CosignRequest { signed, start: 0, entries: entries.to_vec() }).await
}

fn reason(answer: Result<CosignAnswer, ApiError>) -> Reason {
    answer.unwrap_err().reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_far_behind_cosigns_step_by_step_what_leads_to_the_floor() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let committee = Arc::new(committee(format!("http://{}", listener.local_addr().unwrap())));
    let entries: Vec<LogEntry> = (0..10).map(entry).collect();
    let ten = sign(&committee, &entries);

    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("log"), Role::Gateway, &LogStore::COLUMNS).unwrap();
    let logs = LogStore::new(db.clone());
    let mut batch = Batch::new();
    logs.append(&mut batch, &key(1).address(), &mut CompactRange::empty(), &entries);
    logs.set_checkpoint(&mut batch, &CosignedCheckpoint { signed: ten, cosignatures: Vec::new() });
    db.commit(batch, Durability::Relaxed).unwrap();
    let server = tonic::transport::Server::builder().add_service(LogServer::new(LogService::new(logs)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let clock = Clock::manual(NOW);
    let path = folder.path().join("replica");
    let open = Replica::open_with(
        Settings::default(),
        &path,
        watch::Sender::new(Arc::new(View::fixed(committee.clone()))).subscribe(),
        key(2),
        meridian_client::rpc::Channels::new(),
        clock,
    );
    let replica = open.await.unwrap();
    replica.note_answer(&key(1).address(), None, Some(ten));

    let mut fork = entries.clone();
    fork[3].blob_id = [99; 32].into();
    // Below the floor, and nothing leads from there to it.
    assert_eq!(reason(cosign(&replica, &fork[..4]).await), Reason::LogRollback);
    assert!(matches!(cosign(&replica, &entries[..4]).await, Ok(CosignAnswer::Cosignature(_))));
    // The floor stands until it is reached.
    fork = entries.clone();
    fork[5].blob_id = [99; 32].into();
    assert_eq!(reason(cosign(&replica, &fork[..8]).await), Reason::LogRollback);
    assert_eq!(reason(cosign(&replica, &fork).await), Reason::LogFork);
    assert!(matches!(cosign(&replica, &entries[..8]).await, Ok(CosignAnswer::Cosignature(_))));
    assert!(matches!(cosign(&replica, &entries).await, Ok(CosignAnswer::Cosignature(_))));
    assert_eq!(reason(cosign(&replica, &entries[..8]).await), Reason::LogRollback);
    let cosigned = replica.logs.checkpoint(&key(1).address()).unwrap().unwrap();
    assert_ne!(cosigned.signed.checkpoint.root, B256::ZERO);
    replica.shutdown().await;
}
