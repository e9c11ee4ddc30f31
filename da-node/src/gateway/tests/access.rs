//! Who may put, and how much, at a whole gateway.

use std::path::PathBuf;

use meridian_client::namespaces::{Limits, Namespaces};
use meridian_proofs::Address;
use meridian_proofs::authorization::{Authorization, SignedAuthorization};
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::signature::SecretKey;

use super::*;
use crate::gateway::access::AccessSettings;

const SKEW: u64 = 60;
const WINDOW: u64 = 300;

fn owner() -> SecretKey {
    SecretKey::from_bytes([21; 32]).unwrap()
}

fn writer() -> SecretKey {
    SecretKey::from_bytes([22; 32]).unwrap()
}

fn stranger() -> SecretKey {
    SecretKey::from_bytes([23; 32]).unwrap()
}

fn ours() -> Namespace {
    Namespace::from([5; 32])
}

/// A gateway with a file of namespaces.
struct Guarded {
    bench: Bench,
    path: PathBuf,
    _folder: TempDir,
}

impl Guarded {
    async fn new(limits: Limits) -> Self {
        Self::with(limits, |_| ()).await
    }

    async fn with(limits: Limits, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("namespaces.toml");
        let list = |list: &mut Namespaces| {
            list.create(ours(), owner().address(), limits)?;
            list.allow(ours(), &[writer().address()])
        };
        Namespaces::change(&path, true, list).unwrap();
        let access = AccessSettings { namespaces: path.clone(), reload_ms: 10, ..AccessSettings::default() };
        let mut settings = Settings { access, ..settings() };
        change(&mut settings);
        Self { bench: Bench::with(settings, 5, 1, 4).await, path, _folder: folder }
    }

    async fn restart(self) -> Self {
        let settings = self.bench.gateway.shared.settings.clone();
        let bench = self.bench.restart(settings).await;
        bench.eventually(|bench| bench.gateway.status().seats.iter().all(|seat| seat.connected)).await;
        Self { bench, ..self }
    }

    fn domain(&self) -> Domain {
        self.bench.committee.domain()
    }

    /// The start of a put, signed as its writer would.
    fn signed(&self, payload: &[u8], key: &SecretKey) -> PutStart {
        self.changed(payload, key, |_| ())
    }

    /// The start of a put, with something else signed.
    fn changed(&self, payload: &[u8], key: &SecretKey, change: impl FnOnce(&mut Authorization)) -> PutStart {
        let start = PutStart { namespace: ours(), retention: MIN_RETENTION, ..start(payload) };
        let mut nonce = B256::ZERO;
        next(&mut nonce);
        let hash = PayloadHash(keccak256(payload));
        let gateway = testing::gateway_key().address();
        let mut authorization = start.to_authorize(gateway, hash, nonce, self.bench.clock.now() + 100);
        change(&mut authorization);
        let signed = SignedAuthorization::sign(authorization, &self.domain(), key);
        PutStart { authorization: Some(signed.into()), ..start }
    }

    async fn put(&self, start: PutStart, payload: &[u8]) -> Result<Certificate, ApiError> {
        self.bench.gateway.put(start, whole(payload)).await
    }

    /// Asserts that a put is refused before its payload is read.
    async fn refused(&self, start: PutStart, wanted: Reason) -> ApiError {
        let error = self.bench.gateway.put(start, stream::pending()).await.unwrap_err();
        assert_eq!(error.reason, wanted, "{error}");
        error
    }

    fn change(&self, change: impl FnOnce(&mut Namespaces)) {
        let change = |list: &mut Namespaces| {
            change(list);
            Ok(())
        };
        Namespaces::change(&self.path, false, change).unwrap();
    }

    /// Waits until a put is refused with a reason, or with none is not refused.
    async fn until(&self, key: &SecretKey, wanted: Option<Reason>) {
        for seed in (1..=200).cycle().take(2000) {
            let payload = payload(seed, 30);
            let answer = self.put(self.signed(&payload, key), &payload).await;
            if answer.err().map(|error| error.reason) == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came to {wanted:?}");
    }
}

/// Nonces that differ within a run.
fn next(nonce: &mut B256) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    nonce[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_and_writer_may_put_and_nobody_else() {
    let guarded = Guarded::new(Limits::default()).await;
    for (seed, key) in [(1, owner()), (2, writer())] {
        let payload = payload(seed, 5_000);
        let certificate = guarded.put(guarded.signed(&payload, &key), &payload).await.unwrap();
        assert_eq!(certificate.entry.namespace, ours());
        assert_eq!(certificate.entry.payload_hash, PayloadHash::UNBOUND, "the hash is signed, not bound");
    }
    let payload = payload(3, 5_000);
    let good = guarded.signed(&payload, &owner());
    guarded.refused(PutStart { authorization: None, ..good }, Reason::AuthorizationMissing).await;
    let error = guarded.refused(guarded.signed(&payload, &stranger()), Reason::NotPermitted).await;
    assert_eq!(error.metadata["signer"], stranger().address().to_string());
    let elsewhere = PutStart { namespace: Namespace::from([6; 32]), ..good };
    guarded.refused(elsewhere, Reason::NamespaceUnlisted).await;
    let unsigned = PutStart { authorization: None, ..elsewhere };
    guarded.refused(unsigned, Reason::NamespaceUnlisted).await;
    let status = guarded.bench.gateway.status();
    assert_eq!((status.log_size, status.memory_used), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_good_for_its_gateway_chain_and_fields_only() {
    let guarded = Guarded::new(Limits::default()).await;
    let payload = payload(3, 5_000);
    let elsewhere = guarded.changed(&payload, &owner(), |it| it.gateway = Address::repeat_byte(1));
    guarded.refused(elsewhere, Reason::WrongGateway).await;

    let good = guarded.signed(&payload, &owner());
    let domain = guarded.domain();
    for other in
        [Domain { chain_id: 1, ..domain }, Domain { verifying_contract: Address::repeat_byte(1), ..domain }]
    {
        let signed = SignedAuthorization::sign(good.signed().unwrap().authorization, &other, &owner());
        let start = PutStart { authorization: Some(signed.into()), ..good };
        guarded.refused(start, Reason::NotPermitted).await;
    }
    for changed in [
        PutStart { retention: good.retention + 1, ..good },
        PutStart { length: PayloadLength::try_from(4_999).unwrap(), ..good },
        PutStart { bind_payload_hash: true, ..good },
        PutStart { kzg_root: Some(B256::repeat_byte(1)), ..good },
    ] {
        guarded.refused(changed, Reason::NotPermitted).await;
    }
    // None of it has used the signature up.
    guarded.put(good, &payload).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_are_held_to_the_window_and_the_error_has_the_clock() {
    let guarded = Guarded::new(Limits::default()).await;
    let payload = payload(3, 50);
    let at = |deadline| guarded.changed(&payload, &owner(), |it| it.deadline = deadline);
    for deadline in [0, 1, NOW - SKEW - 1] {
        let error = guarded.refused(at(deadline), Reason::AuthorizationExpired).await;
        assert_eq!(error.metadata["gateway_time"], NOW.to_string());
        assert_eq!(error.metadata["skew_s"], SKEW.to_string());
    }
    for deadline in [NOW + WINDOW + SKEW + 1, u64::MAX] {
        let error = guarded.refused(at(deadline), Reason::AuthorizationTooEarly).await;
        assert_eq!(error.metadata["gateway_time"], NOW.to_string());
    }
    for deadline in [NOW - SKEW, NOW - SKEW + 1, NOW, NOW + WINDOW + SKEW - 1, NOW + WINDOW + SKEW] {
        guarded.put(at(deadline), &payload).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_serves_once_also_after_a_start_and_whatever_became_of_the_put() {
    let guarded = Guarded::new(Limits::default()).await;
    let payload = payload(3, 5_000);
    let (good, broken) = (guarded.signed(&payload, &owner()), guarded.signed(&payload, &owner()));
    guarded.put(good, &payload).await.unwrap();
    guarded.refused(good, Reason::AuthorizationReplayed).await;
    assert_eq!(reason(guarded.put(broken, &payload[..100]).await), Reason::LengthMismatch);
    guarded.refused(broken, Reason::AuthorizationReplayed).await;
    let guarded = guarded.restart().await;
    guarded.refused(good, Reason::AuthorizationReplayed).await;
    guarded.refused(broken, Reason::AuthorizationReplayed).await;
    // Once it is forgotten it has expired, also by a clock that is set back.
    guarded.bench.clock.set(NOW + 100 + SKEW + 1);
    guarded.refused(good, Reason::AuthorizationExpired).await;
    guarded.bench.gateway.shared.access.forget_before(NOW + 100 + 1).unwrap();
    guarded.bench.clock.set(NOW);
    guarded.refused(good, Reason::AuthorizationExpired).await;
    assert_eq!(guarded.bench.gateway.status().log_size, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_copies_that_come_at_once_one_goes_on() {
    let guarded = Guarded::new(Limits::default()).await;
    let payload = payload(3, 50_000);
    let start = guarded.signed(&payload, &writer());
    let copies = (0..16).map(|_| guarded.put(start, &payload));
    let answers = futures::future::join_all(copies).await;
    let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (1, 15));
    assert!(refused.into_iter().all(|answer| reason(answer) == Reason::AuthorizationReplayed));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_payload_than_was_signed_stores_nothing() {
    let guarded = Guarded::new(Limits::default()).await;
    let (signed, sent) = (payload(3, 5_000), payload(4, 5_000));
    let start = guarded.signed(&signed, &owner());
    assert_eq!(reason(guarded.put(start, &sent).await), Reason::PayloadHashMismatch);
    let status = guarded.bench.gateway.status();
    assert_eq!((guarded.bench.uploads(), status.log_size, status.memory_used), (vec![0; 5], 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_refused_before_work_and_failures_of_the_gateway_cost_nothing() {
    let limits = Limits { requests_per_second: Some(1), burst_requests: Some(2), ..Limits::default() };
    let guarded = Guarded::with(limits, |settings| settings.memory_wait_ms = 0).await;
    let payload = payload(3, 500);
    let memory = &guarded.bench.gateway.shared.memory;
    let all = memory.try_reserve(memory.total()).unwrap();
    for _ in 0..20 {
        guarded.refused(guarded.signed(&payload, &owner()), Reason::MemoryBudget).await;
    }
    drop(all);
    guarded.put(guarded.signed(&payload, &owner()), &payload).await.unwrap();
    // A stranger takes nothing from those who may put.
    for _ in 0..20 {
        guarded.refused(guarded.signed(&payload, &stranger()), Reason::NotPermitted).await;
    }
    let mut refused = None;
    for _ in 0..50 {
        let answer = guarded.put(guarded.signed(&payload, &owner()), &payload).await;
        refused = refused.or(answer.err());
    }
    let refused = refused.expect("fifty puts at once are more than two");
    assert_eq!(refused.reason, Reason::TooManyRequests);
    assert_eq!(refused.metadata["limit_name"], "requests_per_second");
    assert!(refused.retry_after.is_some_and(|wait| wait <= Duration::from_secs(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_bytes_are_counted_until_they_expire_also_after_a_start() {
    let limits = Limits { stored_bytes: Some(1_000), ..Limits::default() };
    let guarded = Guarded::new(limits).await;
    let (first, second) = (payload(3, 600), payload(4, 400));
    // What does not get into the log is not stored.
    assert_eq!(
        reason(guarded.put(guarded.signed(&first, &owner()), &first[..9]).await),
        Reason::LengthMismatch
    );
    guarded.put(guarded.signed(&first, &owner()), &first).await.unwrap();
    guarded.put(guarded.signed(&second, &owner()), &second).await.unwrap();
    let more = payload(5, 1);
    let error = guarded.refused(guarded.signed(&more, &owner()), Reason::QuotaExceeded).await;
    assert_eq!((error.metadata["used"].as_str(), error.metadata["limit"].as_str()), ("1000", "1000"));
    assert_eq!(error.retry_after, Some(Duration::from_secs(MIN_RETENTION)));
    let guarded = guarded.restart().await;
    guarded.refused(guarded.signed(&more, &owner()), Reason::QuotaExceeded).await;
    guarded.bench.clock.set(NOW + MIN_RETENTION);
    let all = payload(6, 1_000);
    guarded.put(guarded.signed(&all, &owner()), &all).await.unwrap();
    let guarded = guarded.restart().await;
    guarded.refused(guarded.signed(&more, &owner()), Reason::QuotaExceeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_read_again_and_a_broken_one_is_not_put_in_force() {
    let guarded = Guarded::new(Limits::default()).await;
    guarded.until(&stranger(), Some(Reason::NotPermitted)).await;
    guarded.change(|list| list.allow(ours(), &[stranger().address()]).unwrap());
    guarded.until(&stranger(), None).await;
    let good = std::fs::read(&guarded.path).unwrap();
    std::fs::write(&guarded.path, "format_version = 1\nopen = maybe").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    guarded.until(&stranger(), None).await;
    std::fs::remove_file(&guarded.path).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    guarded.until(&owner(), None).await;
    std::fs::write(&guarded.path, good).unwrap();
    guarded.change(|list| list.deny(ours(), &[stranger().address()]).unwrap());
    guarded.until(&stranger(), Some(Reason::NotPermitted)).await;
    guarded.change(|list| list.remove(ours()).unwrap());
    guarded.until(&owner(), Some(Reason::NamespaceUnlisted)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_listed_later_has_stored_what_the_log_says() {
    let guarded = Guarded::new(Limits::default()).await;
    let (other, bytes) = (Namespace::from([9; 32]), payload(3, 600));
    guarded.change(|list| {
        list.open = true;
        list.limits.stored_bytes = Some(10_000);
    });
    let free = PutStart { namespace: other, ..start(&bytes) };
    let mut put = guarded.put(free, &bytes).await;
    while put.as_ref().is_err_and(|error| error.reason == Reason::NamespaceUnlisted) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        put = guarded.put(free, &bytes).await;
    }
    put.unwrap();
    let limits = Limits { stored_bytes: Some(600), ..Limits::default() };
    guarded.change(|list| list.create(other, owner().address(), limits).unwrap());
    let signed =
        || PutStart { namespace: other, ..guarded.changed(&bytes, &owner(), |it| it.namespace = other) };
    let mut put = Ok(());
    while put.as_ref().is_ok() {
        // Until the file is read again anybody may put, and finds the entry that is there.
        put = guarded
            .put(PutStart { retention: 86_400, authorization: None, ..signed() }, &bytes)
            .await
            .map(drop);
    }
    assert_eq!(reason(put), Reason::AuthorizationMissing);
    guarded.refused(signed(), Reason::QuotaExceeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_anybody_may_put_and_a_signature_is_still_checked() {
    let bench = Bench::new().await;
    let payload = payload(3, 500);
    bench.put(&payload).await.unwrap();
    let guarded = Guarded { bench, path: PathBuf::new(), _folder: TempDir::new().unwrap() };
    let signed = guarded.signed(&payload, &stranger());
    guarded.put(signed, &payload).await.unwrap();
    guarded.put(signed, &payload).await.unwrap();
    let elsewhere = guarded.changed(&payload, &owner(), |it| it.gateway = Address::repeat_byte(1));
    guarded.refused(elsewhere, Reason::WrongGateway).await;
    assert_eq!(
        reason(guarded.put(guarded.signed(&payload, &owner()), &[9; 500]).await),
        Reason::PayloadHashMismatch
    );
}
