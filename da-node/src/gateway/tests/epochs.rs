//! Changes of epochs: nothing is lost, and nothing is signed that contradicts what was signed before.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use meridian_client::chain::view::{Anchor, Head};
use meridian_proofs::committee::epochs::{Epochs, Term};
use meridian_proofs::committee::{CommitteeParts, RegionId, Seat};
use meridian_proofs::log::CompactRange;

use super::super::epochs::{MARGIN, Stage};
use super::*;

/// When the gateway changes to epochs 2 and 3.
const SECOND: u64 = NOW + 1000;
const THIRD: u64 = NOW + 3000;
/// How long an epoch is taken after that.
const GRACE: u64 = 600;

/// Five regions of one seat, four copies.
fn parts(epoch: u64) -> CommitteeParts {
    CommitteeParts { epoch, ..testing::committee(5, 1, 4).parts().clone() }
}

/// As [`parts`], with another replica in the seat of a region.
fn handed_over(epoch: u64, region: u16) -> CommitteeParts {
    let mut parts = parts(epoch);
    let other = |seat: &mut Seat| seat.address = testing::seat_key(region, 1).address();
    parts.seats.iter_mut().filter(|seat| seat.region == RegionId(region)).for_each(other);
    parts
}

fn without_gateway(epoch: u64) -> CommitteeParts {
    CommitteeParts { gateways: Vec::new(), ..parts(epoch) }
}

/// Epochs from 1 on, without a chain.
fn view(committees: Vec<CommitteeParts>) -> View {
    let changes = [MARGIN, SECOND, THIRD];
    let last = committees.len() - 1;
    let term = |(place, parts): (usize, CommitteeParts)| Term {
        committee: Arc::new(Committee::new(parts).unwrap()),
        activation: changes[place] - MARGIN,
        closes: (place < last).then(|| changes[place + 1] + GRACE),
    };
    let terms = committees.into_iter().enumerate().map(term).collect();
    View {
        epochs: Epochs::new(terms).unwrap(),
        anchors: BTreeMap::new(),
        head: None,
        grace: GRACE + MARGIN,
        final_by: u64::MAX,
    }
}

/// Replicas for two seats in each region, so that a seat may pass.
fn seats() -> Vec<Arc<FakeSeat>> {
    FakeSeat::all(&testing::committee(5, 2, 4))
}

fn settings() -> Settings {
    Settings { change_wait_ms: 20_000, ..super::settings() }
}

/// The next epoch begins, and takes a batch of the first again, as this entry.
async fn third_epoch_takes(bench: &Bench, first: &[u8], index: u64) {
    bench.clock.set(THIRD);
    bench.in_epoch(3).await;
    bench.connected(5).await;
    let again = bench.put_until_done(first).await;
    bench.holds(&again, first, 3);
    assert_eq!(again.index, index);
    bench.signed_well();
}

impl Bench {
    async fn through(committees: Vec<CommitteeParts>) -> Self {
        let bench = Self::over(settings(), view(committees), seats());
        bench.connected(5).await;
        bench
    }

    async fn connected(&self, count: usize) {
        let connected =
            |bench: &Self| bench.gateway.status().seats.iter().filter(|seat| seat.connected).count() >= count;
        self.eventually(connected).await;
    }

    async fn in_epoch(&self, epoch: u64) {
        let open = |bench: &Self| matches!(bench.gateway.stage(), Stage::Open(core) if core.committee.epoch() == epoch);
        self.eventually(open).await;
    }

    fn closing(&self, epoch: u64) -> Option<Checkpoint> {
        let closing = self.gateway.shared.store.closing(epoch).unwrap();
        closing.map(|closing| closing.signed.checkpoint)
    }

    /// Anchors the closing of an epoch, and lets everybody know.
    fn anchor(&self, epoch: u64) {
        let closing = self.closing(epoch).unwrap();
        let Checkpoint { gateway, size, root, timestamp, .. } = closing;
        let anchor = Anchor { gateway, epoch, size, root, timestamp, block: 1 };
        self.view.send_modify(|view| {
            Arc::make_mut(view).anchors.entry(gateway).or_default().push(anchor);
        });
        self.seats.iter().for_each(|seat| seat.anchor(size));
    }

    /// The chain is as far as this time.
    fn settle(&self, timestamp: u64) {
        let head = Some(Head { number: 9, timestamp });
        self.view.send_modify(|view| Arc::make_mut(view).head = head);
    }

    fn committee_of(&self, epoch: u64) -> Arc<Committee> {
        self.view.borrow().epochs.committee(epoch).unwrap().clone()
    }

    /// Whether a certificate holds for the committee of its epoch.
    fn holds(&self, certificate: &Certificate, payload: &[u8], epoch: u64) {
        assert_eq!((certificate.entry.epoch, certificate.id()), (epoch, id(payload)));
        let verified = certificate.verify(&self.committee_of(epoch)).unwrap();
        assert!(verified.complete.len() >= 4);
    }

    /// Whether all that was ever signed is of one log, and goes from epoch to epoch.
    fn signed_well(&self) {
        let mut roots = HashMap::new();
        for seat in &self.seats {
            let mut epoch = 0;
            for signed in seat.asked() {
                let checkpoint = signed.checkpoint;
                assert!(checkpoint.epoch >= epoch, "back to epoch {}", checkpoint.epoch);
                epoch = checkpoint.epoch;
                assert_eq!(*roots.entry(checkpoint.size).or_insert(checkpoint.root), checkpoint.root);
                if let Some(closing) = self.closing(epoch) {
                    assert!(checkpoint.size <= closing.size, "more of epoch {epoch} than its closing");
                }
            }
        }
    }

    async fn put_until_done(&self, payload: &[u8]) -> Certificate {
        loop {
            match self.put(payload).await {
                Ok(certificate) => return certificate,
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_over_two_changes_are_all_certified() {
    let bench = Bench::through(vec![parts(1), handed_over(2, 5), parts(3)]).await;
    let bench = Arc::new(bench);
    let done = Arc::new(AtomicBool::new(false));
    let putter = |lane: u8| {
        let (bench, done) = (bench.clone(), done.clone());
        tokio::spawn(async move {
            let mut certified = Vec::new();
            for number in 0usize.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let payload = payload(lane, 2000 + number);
                let certificate = bench.put(&payload).await.unwrap();
                certified.push((payload, certificate));
            }
            certified
        })
    };
    let lanes: Vec<_> = (1..=3).map(putter).collect();
    for (epoch, begin) in [(2, SECOND), (3, THIRD)] {
        let size = bench.gateway.status().log_size;
        bench.eventually(|bench| bench.gateway.status().log_size > size + 5).await;
        bench.clock.set(begin);
        bench.in_epoch(epoch).await;
        bench.anchor(epoch - 1);
        for seat in bench.seats.iter().filter(|seat| seat.region == 5) {
            // Whoever is new starts from the anchored closing.
            let log = bench.gateway.log_store();
            let mut range = CompactRange::empty();
            for index in 0..bench.closing(epoch - 1).unwrap().size {
                range.append(log.leaf(&bench.gateway.shared.address, index).unwrap());
            }
            seat.start_from(range);
        }
    }
    let size = bench.gateway.status().log_size;
    bench.eventually(|bench| bench.gateway.status().log_size > size + 5).await;
    done.store(true, Ordering::Relaxed);
    let (mut count, mut epochs) = (0, [0; 4]);
    for lane in lanes {
        for (payload, certificate) in lane.await.unwrap() {
            let epoch = certificate.entry.epoch;
            bench.holds(&certificate, &payload, epoch);
            let again = bench.gateway.certificate(id(&payload), None).await.unwrap();
            bench.holds(&again, &payload, epoch);
            epochs[usize::try_from(epoch).unwrap()] += 1;
            count += 1;
        }
    }
    assert!(epochs[1..].iter().all(|count| *count > 0), "{epochs:?}");
    assert_eq!(bench.gateway.status().log_size, count);
    bench.signed_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_not_appended_goes_on_in_the_next_epoch() {
    let patient = Settings { silence_ms: 60_000, ..settings() };
    let bench = Bench::over(patient, view(vec![parts(1), parts(2)]), seats());
    bench.connected(5).await;
    (1..=2).for_each(|region| bench.set(region, Mode::Silent));
    let payload = payload(3, 3000);
    let (put, ()) = tokio::join!(bench.put(&payload), async {
        bench.eventually(|bench| bench.gateway.status().memory_used > 0).await;
        bench.clock.set(SECOND);
        bench.in_epoch(2).await;
        (1..=2).for_each(|region| bench.set(region, Mode::Good));
    });
    bench.holds(&put.unwrap(), &payload, 2);
    assert_eq!(bench.gateway.status().log_size, 1);
    assert_eq!(bench.closing(1), None);
    bench.eventually(|bench| bench.gateway.status().memory_used == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_closed_before_the_next_begins() {
    let bench =
        Bench::over(Settings { change_wait_ms: 50, ..settings() }, view(vec![parts(1), parts(2)]), seats());
    bench.connected(5).await;
    (1..=2).for_each(|region| bench.set(region, Mode::RefusesCosign));
    let tail = payload(3, 3000);
    bench.put(&tail).await.unwrap_err();
    assert_eq!(bench.gateway.status().log_size, 1);
    bench.clock.set(SECOND);
    bench.eventually(|bench| matches!(bench.gateway.stage(), Stage::Closing(_))).await;
    let refused = bench.put(&payload(4, 3000)).await.unwrap_err();
    assert!(refused.is_retryable() && refused.retry_after.is_some(), "{refused:?}");
    assert_eq!(bench.closing(1), None);
    (1..=2).for_each(|region| bench.set(region, Mode::Good));
    bench.in_epoch(2).await;
    assert_eq!(bench.closing(1).unwrap().size, 1);
    bench.holds(&bench.gateway.certificate(id(&tail), None).await.unwrap(), &tail, 1);
    // The same put is a new entry now; seats that have the rows take none again.
    let again = bench.put_until_done(&tail).await;
    bench.holds(&again, &tail, 2);
    assert_eq!(again.index, 1);
    bench.eventually(|bench| bench.seat(1).permits(id(&tail)).contains(&2)).await;
    assert_eq!(bench.put_until_done(&tail).await.index, 1);
    assert_eq!(bench.uploads().iter().max(), Some(&1));
    bench.signed_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_finishes_what_the_last_run_left() {
    // Whether the tail was certified before the stop, and whether epochs 2 and 3 begin meanwhile.
    for (certified, third) in [(false, false), (true, false), (false, true), (true, true)] {
        let bench = Bench::through(vec![parts(1), parts(2), parts(3)]).await;
        let tail = payload(3, 3000);
        if certified {
            bench.put(&tail).await.unwrap();
        } else {
            (1..=5).for_each(|region| bench.set(region, Mode::RefusesCosign));
            bench.put(&tail).await.unwrap_err();
        }
        bench.clock.set(if third { THIRD } else { SECOND });
        let bench = bench.restart(settings()).await;
        (1..=5).for_each(|region| bench.set(region, Mode::Good));
        let epoch = if third { 3 } else { 2 };
        bench.in_epoch(epoch).await;
        assert_eq!(bench.closing(1).unwrap().size, 1);
        // After the closing, before the first entry of the next epoch; and after that.
        let bench = bench.restart(settings()).await;
        bench.in_epoch(epoch).await;
        let next = payload(4, 3000);
        bench.holds(&bench.put_until_done(&next).await, &next, epoch);
        let bench = bench.restart(settings()).await;
        bench.in_epoch(epoch).await;
        bench.holds(&bench.gateway.certificate(id(&tail), None).await.unwrap(), &tail, 1);
        bench.holds(&bench.gateway.certificate(id(&next), None).await.unwrap(), &next, epoch);
        assert_eq!(bench.closing(2), None);
        bench.signed_well();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_within_the_change_loses_nothing() {
    let bench = Bench::through(vec![parts(1), parts(2)]).await;
    (1..=2).for_each(|region| bench.set(region, Mode::RefusesCosign));
    let tail = payload(3, 3000);
    bench.put(&tail).await.unwrap_err();
    bench.clock.set(SECOND);
    bench.eventually(|bench| matches!(bench.gateway.stage(), Stage::Closing(_))).await;
    let bench = bench.restart(settings()).await;
    assert!(matches!(bench.gateway.stage(), Stage::Closing(_)));
    assert_eq!(bench.closing(1), None);
    (1..=2).for_each(|region| bench.set(region, Mode::Good));
    bench.in_epoch(2).await;
    bench.holds(&bench.gateway.certificate(id(&tail), None).await.unwrap(), &tail, 1);
    bench.signed_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_lags_comes_back_when_the_closing_is_anchored() {
    let bench = Bench::through(vec![parts(1), parts(2)]).await;
    bench.put(&payload(1, 3000)).await.unwrap();
    bench.set(5, Mode::Dead);
    bench.put(&payload(2, 3000)).await.unwrap();
    bench.clock.set(SECOND);
    bench.in_epoch(2).await;
    bench.set(5, Mode::Good);
    bench.connected(5).await;
    let first = payload(3, 3000);
    bench.holds(&bench.put_until_done(&first).await, &first, 2);
    let lagging = |bench: &Bench| {
        let seats = bench.gateway.status().seats;
        let five = testing::seat_key(5, 0).address();
        seats.iter().find(|seat| seat.address == five).unwrap().cosigned_size
    };
    assert!(lagging(&bench) < 3);
    bench.anchor(1);
    bench.eventually(|bench| lagging(bench) == 3).await;
    let full = bench.gateway.certificate(id(&first), None).await.unwrap();
    assert_eq!(full.verify(&bench.committee_of(2)).unwrap().complete.len(), 5);
    bench.signed_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_ends_in_an_earlier_epoch_before_its_closing_is_anchored() {
    let committee = Committee::new(parts(1)).unwrap();
    let folder = TempDir::new().unwrap();
    let blob: EncodedBlob = encode::encode(&payload(4, 10), B256::ZERO).unwrap();
    let entries = 4096 * 2 + 1;
    super::restart::fill(&folder, &committee, &blob, entries);
    let seats = seats();
    seats.iter().for_each(|seat| seat.give(blob.id()));
    let away = seats.iter().find(|seat| seat.region == 5).unwrap().clone();
    away.mode.send_replace(Mode::Dead);
    let view = watch::Sender::new(Arc::new(view(vec![parts(1), parts(2)])));
    let clock = Clock::manual(NOW);
    let gateway = open(&view, &seats, &folder, &clock, settings()).unwrap();
    let bench = Bench { gateway, committee: Arc::new(committee), seats, clock, folder, view };
    bench.eventually(|bench| bench.gateway.status().certified_size == entries).await;
    bench.clock.set(SECOND);
    bench.in_epoch(2).await;
    away.mode.send_replace(Mode::Good);
    let first = payload(5, 3000);
    bench.holds(&bench.put_until_done(&first).await, &first, 2);
    bench.connected(5).await;
    bench.eventually(|_| !away.asked().is_empty()).await;
    assert!(away.asked().iter().all(|signed| signed.checkpoint.size > entries));
    bench.anchor(1);
    bench.eventually(|_| away.cosigns() == 3).await;
    bench.signed_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_anchored_in_time_is_retired() {
    for anchored in [true, false] {
        let bench = Bench::through(vec![parts(1), parts(2)]).await;
        let kept = payload(1, 3000);
        bench.put(&kept).await.unwrap();
        bench.clock.set(SECOND);
        bench.in_epoch(2).await;
        bench.put(&payload(2, 3000)).await.unwrap();
        if anchored {
            bench.anchor(1);
        }
        bench.clock.set(SECOND + GRACE);
        // One second is left at the settled block, whatever the clock says.
        bench.settle(SECOND + GRACE - 1);
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.put_until_done(&payload(3, 3000)).await;
        bench.settle(SECOND + GRACE);
        if anchored {
            tokio::time::sleep(Duration::from_millis(200)).await;
            bench.put(&payload(4, 3000)).await.unwrap();
            continue;
        }
        bench.eventually(|bench| matches!(bench.gateway.stage(), Stage::Idle(_))).await;
        assert_eq!(reason(bench.put(&payload(4, 3000)).await), Reason::LogRetired);
        bench.holds(&bench.gateway.certificate(id(&kept), None).await.unwrap(), &kept, 1);
        let bench = bench.restart(settings()).await;
        assert_eq!(reason(bench.put(&payload(4, 3000)).await), Reason::LogRetired);
        bench.holds(&bench.gateway.certificate(id(&kept), None).await.unwrap(), &kept, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_nobody_cosigns_retires_the_log() {
    let bench = Bench::through(vec![parts(1), parts(2)]).await;
    (1..=2).for_each(|region| bench.set(region, Mode::RefusesCosign));
    bench.put(&payload(3, 3000)).await.unwrap_err();
    bench.clock.set(SECOND + GRACE);
    bench.settle(SECOND + GRACE - 1);
    bench.eventually(|bench| matches!(bench.gateway.stage(), Stage::Closing(_))).await;
    bench.settle(SECOND + GRACE);
    bench.eventually(|bench| matches!(bench.gateway.stage(), Stage::Idle(_))).await;
    assert_eq!(reason(bench.put(&payload(3, 3000)).await), Reason::LogRetired);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_closes_its_last_epoch_and_may_come_back() {
    let bench = Bench::through(vec![parts(1), without_gateway(2), parts(3)]).await;
    let first = payload(3, 3000);
    bench.put(&first).await.unwrap();
    bench.clock.set(SECOND);
    bench.eventually(|bench| matches!(bench.gateway.stage(), Stage::Idle(_))).await;
    assert_eq!(bench.closing(1).unwrap().size, 1);
    assert_eq!(reason(bench.put(&first).await), Reason::NotReady);
    assert_eq!(bench.gateway.committee().epoch(), 2);
    bench.holds(&bench.gateway.certificate(id(&first), None).await.unwrap(), &first, 1);
    third_epoch_takes(&bench, &first, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_nobody_can_work_with_is_waited_out() {
    let mut gap = view(vec![parts(1), parts(2), parts(3)]);
    let usable = [0, 2].map(|place| gap.epochs.terms()[place].clone());
    gap.epochs = Epochs::new(usable.to_vec()).unwrap();
    let bench = Bench::over(settings(), gap, seats());
    bench.connected(5).await;
    let first = payload(3, 3000);
    bench.put(&first).await.unwrap();
    bench.clock.set(SECOND - 1);
    bench.put(&payload(4, 3000)).await.unwrap();
    bench.clock.set(SECOND);
    bench.eventually(|bench| matches!(bench.gateway.stage(), Stage::Idle(_))).await;
    // Within its grace, in which it is anchored yet.
    assert_eq!(bench.closing(1).unwrap().size, 2);
    let refused = bench.put(&payload(5, 3000)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NotReady);
    assert!(refused.is_retryable() && refused.message.contains("nobody can use"), "{refused}");
    bench.anchor(1);
    bench.clock.set(SECOND + GRACE);
    bench.settle(SECOND + GRACE);
    let bench = bench.restart(settings()).await;
    assert_eq!(reason(bench.put(&payload(5, 3000)).await), Reason::NotReady);
    bench.holds(&bench.gateway.certificate(id(&first), None).await.unwrap(), &first, 1);
    third_epoch_takes(&bench, &first, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_gone_says_where_to_go() {
    let bench = Bench::through(vec![parts(1), without_gateway(2)]).await;
    bench.put(&payload(3, 3000)).await.unwrap();
    bench.clock.set(SECOND);
    bench.eventually(|bench| matches!(bench.gateway.stage(), Stage::Idle(_))).await;
    let refused = bench.put(&payload(3, 3000)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::LogRetired);
    assert!(refused.is_retryable() && refused.message.contains("not of epoch 2"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_go_on_under_their_epoch_while_it_is_open() {
    for (open, stays) in [(true, true), (false, true), (true, false)] {
        let second = if stays { parts(2) } else { handed_over(2, 5) };
        let bench = Bench::through(vec![parts(1), second]).await;
        let late = bench.seat(5);
        bench.set(5, Mode::Dead);
        let missed = payload(3, 3000);
        bench.put(&missed).await.unwrap();
        bench.eventually(|bench| bench.gateway.status().uploads_pending == 1).await;
        bench.clock.set(SECOND);
        bench.in_epoch(2).await;
        if !open {
            bench.clock.set(SECOND + GRACE);
        }
        bench.set(5, Mode::Good);
        bench.eventually(|bench| bench.gateway.status().uploads_pending == 0).await;
        let uploaded = open && stays;
        assert_eq!(late.holds(&id(&missed)), uploaded);
        assert!(late.permits(id(&missed)).iter().all(|epoch| *epoch == 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_dispersal_takes_the_place_of_an_earlier_one() {
    let bench = Bench::through(vec![parts(1), handed_over(2, 4)]).await;
    bench.set(5, Mode::Dead);
    let payload = payload(3, 3000);
    bench.put(&payload).await.unwrap();
    bench.eventually(|bench| bench.gateway.status().uploads_pending == 1).await;
    bench.clock.set(SECOND);
    bench.in_epoch(2).await;
    let closing = bench.closing(1).unwrap().size;
    let new = bench.seats.iter().filter(|seat| seat.region == 4).nth(1).unwrap();
    let mut range = CompactRange::empty();
    for index in 0..closing {
        range.append(bench.gateway.log_store().leaf(&bench.gateway.shared.address, index).unwrap());
    }
    new.start_from(range);
    bench.anchor(1);
    bench.connected(4).await;
    bench.holds(&bench.put_until_done(&payload).await, &payload, 2);
    assert_eq!(bench.gateway.status().uploads_pending, 1);
    bench.set(5, Mode::Good);
    bench.eventually(|bench| bench.gateway.status().uploads_pending == 0).await;
    assert_eq!(bench.seat(5).permits(id(&payload)).last(), Some(&2));
}
