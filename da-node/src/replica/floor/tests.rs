//! A replica that is far behind: it cosigns below what others have seen only what leads there.

use std::sync::atomic::{AtomicUsize, Ordering};

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

fn sign(committee: &Committee, entries: &[LogEntry], timestamp: u64) -> SignedCheckpoint {
    let mut range = CompactRange::empty();
    for entry in entries {
        range.append(entry.leaf());
    }
    let checkpoint =
        Checkpoint { gateway: key(1).address(), epoch: 1, size: range.size(), root: range.root(), timestamp };
    SignedCheckpoint::sign(checkpoint, &committee.domain(), &key(1))
}

async fn cosign(
    replica: &Arc<Replica>,
    entries: &[LogEntry],
    timestamp: u64,
) -> Result<CosignAnswer, ApiError> {
    let signed = sign(&replica.standing(1).unwrap().committee, entries, timestamp);
    replica.cosign(CosignRequest { signed, start: 0, entries: entries.to_vec() }).await
}

fn reason(answer: Result<CosignAnswer, ApiError>) -> Reason {
    answer.unwrap_err().reason
}

/// A replica that has nothing of a log of ten entries; who else has it counts the questions about it.
struct Behind {
    replica: Arc<Replica>,
    clock: Clock,
    entries: Vec<LogEntry>,
    asked: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

async fn far_behind() -> Behind {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let committee = Arc::new(committee(format!("http://{}", listener.local_addr().unwrap())));
    let entries: Vec<LogEntry> = (0..10).map(entry).collect();
    let ten = sign(&committee, &entries, NOW);

    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("log"), Role::Gateway, &LogStore::COLUMNS).unwrap();
    let logs = LogStore::new(db.clone());
    let mut batch = Batch::new();
    logs.append(&mut batch, &key(1).address(), &mut CompactRange::empty(), &entries);
    logs.set_checkpoint(&mut batch, &CosignedCheckpoint { signed: ten, cosignatures: Vec::new() });
    db.commit(batch, Durability::Relaxed).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let service = LogServer::with_interceptor(LogService::new(logs), move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(request)
    });
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let clock = Clock::manual(NOW);
    let path = folder.path().join("replica");
    let open = Replica::open_with(
        Settings::default(),
        &path,
        watch::Sender::new(Arc::new(View::fixed(committee))).subscribe(),
        key(2),
        meridian_client::rpc::Channels::new(),
        clock.clone(),
    );
    let replica = open.await.unwrap();
    // Its own first question.
    while asked.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    replica.note_answer(&key(1).address(), None, Some(ten));
    Behind { replica, clock, entries, asked, _folder: folder }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_far_behind_cosigns_step_by_step_what_leads_to_the_floor() {
    let Behind { replica, entries, .. } = far_behind().await;
    let mut fork = entries.clone();
    fork[3].blob_id = [99; 32].into();
    // Below the floor, and nothing leads from there to it.
    assert_eq!(reason(cosign(&replica, &fork[..4], NOW).await), Reason::LogRollback);
    assert!(matches!(cosign(&replica, &entries[..4], NOW).await, Ok(CosignAnswer::Cosignature(_))));
    // The floor stands until it is reached.
    fork = entries.clone();
    fork[5].blob_id = [99; 32].into();
    assert_eq!(reason(cosign(&replica, &fork[..8], NOW).await), Reason::LogRollback);
    assert_eq!(reason(cosign(&replica, &fork, NOW).await), Reason::LogFork);
    assert!(matches!(cosign(&replica, &entries[..8], NOW).await, Ok(CosignAnswer::Cosignature(_))));
    assert!(matches!(cosign(&replica, &entries, NOW).await, Ok(CosignAnswer::Cosignature(_))));
    assert_eq!(reason(cosign(&replica, &entries[..8], NOW).await), Reason::LogRollback);
    let cosigned = replica.logs.checkpoint(&key(1).address()).unwrap().unwrap();
    assert_ne!(cosigned.signed.checkpoint.root, B256::ZERO);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_that_are_shown_again_set_off_no_questions() {
    let Behind { replica, clock, entries, asked, .. } = far_behind().await;
    let mut before = asked.load(Ordering::Relaxed);
    let mut questions = || {
        let now = asked.load(Ordering::Relaxed);
        now - std::mem::replace(&mut before, now)
    };
    let mut fork = entries.clone();
    fork[3].blob_id = [99; 32].into();
    // A fresh one that leads nowhere: once a second.
    for second in 0..2 {
        clock.set(NOW + second);
        for _ in 0..5 {
            assert_eq!(reason(cosign(&replica, &fork[..4], NOW).await), Reason::LogRollback);
        }
        assert_eq!(questions(), 1);
    }
    assert!(cosign(&replica, &entries[..4], NOW + 1).await.is_ok());
    assert_eq!(questions(), 1);
    for second in 2..4 {
        clock.set(NOW + second);
        // The one that is on disk; one before it in time, and one before it in size.
        assert!(cosign(&replica, &entries[..4], NOW + 1).await.is_ok());
        assert_eq!(reason(cosign(&replica, &entries[..5], NOW).await), Reason::TimestampOutOfRange);
        assert_eq!(reason(cosign(&replica, &entries[..3], NOW + 1).await), Reason::LogRollback);
        assert_eq!(questions(), 0);
    }
    assert!(cosign(&replica, &entries[..5], NOW + 1).await.is_ok());
    assert_eq!(questions(), 1);
    assert_eq!(replica.floors.logs()[&key(1).address()].floor().asked.len(), 1, "no second is kept");
    replica.shutdown().await;
}
