//! Replicas that are away, slow or lie.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_region_costs_nothing() {
    let bench = Bench::new().await;
    for dead in 1..=5 {
        bench.set(dead, Mode::Dead);
        let payload = payload(u8::try_from(dead).unwrap(), 3000);
        let certificate = bench.put(&payload).await.unwrap();
        bench.check(&certificate, &payload);
        assert!(!bench.seat(dead).holds(&certificate.id()));
        bench.set(dead, Mode::Good);
        let size = u64::from(dead);
        bench
            .eventually(|bench| bench.gateway.status().seats.iter().all(|seat| seat.cosigned_size == size))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dead_regions_are_named() {
    let bench = Bench::new().await;
    bench.set(2, Mode::Dead);
    bench.set(4, Mode::Dead);
    let payload = payload(3, 3000);
    let error = bench.put(&payload).await.unwrap_err();
    assert_eq!(error.reason, Reason::QuorumUnreachable);
    assert_eq!(error.metadata["missing_regions"], "region-2, region-4");
    bench.eventually(|bench| bench.gateway.status().memory_used == 0).await;
    // Known by now: refused before the body is read.
    let at_once = bench.gateway.put(start(&payload), stream::pending()).await;
    assert_eq!(reason(at_once), Reason::QuorumUnreachable);
    bench.set(2, Mode::Good);
    bench
        .eventually(|bench| bench.gateway.status().seats.iter().filter(|seat| seat.connected).count() == 4)
        .await;
    bench.put(&payload).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_seat_is_left_out_and_comes_back() {
    let bench = Bench::new().await;
    let member = bench.gateway.status().seats.iter().position(|seat| seat.in_quorum).unwrap();
    let region = bench.seats[member].region;
    bench.set(region, Mode::Silent);
    let first = payload(3, 3000);
    let certificate = bench.put(&first).await.unwrap();
    bench.check(&certificate, &first);
    assert!(!bench.gateway.status().seats[member].in_quorum);
    let is_known = |bench: &Bench| {
        let seat = &bench.gateway.status().seats[member];
        !seat.connected && !seat.last_error.is_empty()
    };
    bench.eventually(is_known).await;
    bench.set(region, Mode::Good);
    bench.eventually(|bench| bench.seat(region).holds(&certificate.id())).await;
    bench.eventually(|bench| bench.gateway.status().uploads_pending == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_member_is_left_out_before_it_counts_as_silent() {
    let patient = Settings { silence_ms: 600_000, supersede_ms: 600_000, ..settings() };
    for slow in [Mode::Silent, Mode::SilentCosign] {
        let bench = Bench::with(patient.clone(), 5, 1, 4).await;
        let member = bench.gateway.status().seats.iter().position(|seat| seat.in_quorum).unwrap();
        let region = bench.seats[member].region;
        bench.set(region, slow);
        // Those after the first wait for its checkpoint, too.
        for seed in 1..=3 {
            let payload = payload(seed, 3000);
            bench.check(&bench.put(&payload).await.unwrap(), &payload);
        }
        let seat = bench.gateway.status().seats[member].clone();
        assert!(!seat.in_quorum && seat.connected, "{slow:?}: {seat:?}");
        bench.set(region, Mode::Good);
        bench
            .eventually(|bench| bench.gateway.status().seats.iter().all(|seat| seat.cosigned_size == 3))
            .await;
        // With another one down it is needed again.
        let other = bench.gateway.status().seats.iter().position(|seat| seat.in_quorum).unwrap();
        bench.set(bench.seats[other].region, Mode::Dead);
        let last = payload(4, 3000);
        bench.check(&bench.put(&last).await.unwrap(), &last);
        assert!(bench.gateway.status().seats[member].in_quorum);
    }
}

/// Whoever waits for S looks at the seats, and whoever changes a seat changes S.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn puts_go_on_while_seats_change_all_the_time() {
    // Threads that wait for each other's locks do not come back to say that a test has failed.
    let (_ends, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(120)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("puts do not end");
            std::process::abort();
        }
    });
    let patient = Settings { silence_ms: 600_000, supersede_ms: 600_000, ..settings() };
    let bench = Bench::with(patient, 5, 1, 4).await;
    let payloads: Vec<_> = (0..=255).map(|seed| payload(seed, 500)).collect();
    let puts = futures::StreamExt::for_each_concurrent(stream::iter(&payloads), 16, async |payload| {
        bench.put(payload).await.unwrap();
    });
    let changes = async {
        for region in [1, 2, 3, 4, 5].into_iter().cycle() {
            bench.set(region, Mode::SilentCosign);
            tokio::time::sleep(Duration::from_millis(2)).await;
            bench.set(region, Mode::Good);
        }
    };
    tokio::select! {
        () = puts => {}
        () = changes => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_member_is_waited_for_where_others_do_not_suffice() {
    let patient = Settings { silence_ms: 600_000, supersede_ms: 600_000, ..settings() };
    let bench = Bench::with(patient, 5, 1, 4).await;
    bench.set(1, Mode::Dead);
    bench.put(&payload(1, 3000)).await.unwrap();
    bench.set(2, Mode::Silent);
    let second = payload(2, 3000);
    let wake = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.set(2, Mode::Good);
    };
    let (put, ()) = tokio::join!(bench.put(&second), wake);
    bench.check(&put.unwrap(), &second);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_announces_much_and_sends_nothing_gives_way() {
    let payload = payload(3, 100_000);
    let length = PayloadLength::try_from(100_000).unwrap();
    // Room for one of them.
    let memory_bytes = crate::gateway::submit::footprint(length) * 3 / 2;
    let bench = Bench::with(Settings { memory_bytes, ..settings() }, 5, 1, 4).await;
    let begin = start(&payload);
    let held = bench.gateway.put(begin, stream::pending());
    let other = async {
        bench.eventually(|bench| bench.gateway.status().memory_used > 0).await;
        bench.put(&payload).await
    };
    let (held, other) = tokio::join!(held, other);
    assert_eq!(reason(held), Reason::MemoryBudget);
    bench.check(&other.unwrap(), &payload);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosignature_of_another_key_does_not_count() {
    let bench = Bench::new().await;
    bench.set(3, Mode::Liar);
    let payload = payload(3, 3000);
    let certificate = bench.put(&payload).await.unwrap();
    bench.check(&certificate, &payload);
    let liar = testing::seat_key(3, 0).address();
    assert!(!certificate.verify(&bench.committee).unwrap().signers.contains(&liar));
    let seen = |bench: &Bench| {
        bench.gateway.status().seats.iter().any(|seat| seat.address == liar && seat.cosigned_size == 0)
    };
    assert!(seen(&bench));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_of_four_bears_one_dead_and_not_two() {
    let bench = Bench::with(settings(), 2, 4, 2).await;
    let of_region: Vec<_> = bench.seats.iter().filter(|seat| seat.region == 1).collect();
    of_region[0].mode.send_replace(Mode::Dead);
    bench.put(&payload(3, 3000)).await.unwrap();
    of_region[1].mode.send_replace(Mode::Dead);
    let error = bench.put(&payload(4, 3000)).await.unwrap_err();
    assert_eq!(error.metadata["missing_regions"], "region-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_was_away_gets_what_it_missed() {
    let bench = Bench::new().await;
    bench.set(5, Mode::Dead);
    let payloads: Vec<_> = (1..=4).map(|seed| payload(seed, 40_000)).collect();
    for payload in &payloads {
        bench.put(payload).await.unwrap();
    }
    bench.eventually(|bench| bench.gateway.status().memory_used == 0).await;
    assert_eq!(bench.gateway.status().uploads_pending, 4);
    bench.set(5, Mode::Good);
    bench.eventually(|bench| bench.gateway.status().uploads_pending == 0).await;
    assert!(payloads.iter().all(|payload| bench.seat(5).holds(&id(payload))));
    bench.eventually(|bench| bench.gateway.status().seats.iter().all(|seat| seat.cosigned_size == 4)).await;
    let full = bench.gateway.certificate(id(&payloads[0]), None).await.unwrap();
    assert_eq!(full.verify(&bench.committee).unwrap().complete.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_can_wait_make_room_for_puts() {
    let one = super::super::submit::footprint(PayloadLength::try_from(100_000).unwrap());
    let tight =
        Settings { memory_bytes: one * 2 - 1, silence_ms: 60_000, memory_wait_ms: 20_000, ..settings() };
    let bench = Bench::with(tight, 5, 1, 4).await;
    let outside = bench.gateway.status().seats.iter().position(|seat| !seat.in_quorum).unwrap();
    bench.set(bench.seats[outside].region, Mode::Silent);
    for seed in 1..=3 {
        bench.put(&payload(seed, 100_000)).await.unwrap();
    }
    bench.set(bench.seats[outside].region, Mode::Good);
    bench.eventually(|bench| bench.gateway.status().uploads_pending == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_not_kept_for_a_seat() {
    let bench = Bench::new().await;
    bench.set(5, Mode::Dead);
    let payload = payload(1, 40_000);
    bench.put(&payload).await.unwrap();
    bench.eventually(|bench| bench.gateway.status().uploads_pending == 1).await;
    bench.clock.set(NOW + 86_400);
    bench.set(5, Mode::Good);
    bench.eventually(|bench| bench.gateway.status().uploads_pending == 0).await;
    assert!(!bench.seat(5).holds(&id(&payload)));
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_that_refused_for_long_get_a_checkpoint_that_they_can_cosign() {
    let bench = Bench::new().await;
    let refusing = [1, 2];
    refusing.iter().for_each(|region| bench.set(*region, Mode::RefusesCosign));
    bench.put(&payload(1, 3000)).await.unwrap_err();
    let head = bench.core().checkpoints.head().unwrap().signed.checkpoint;
    // Nobody may be asked to cosign the old checkpoint any more, and there is no S.
    bench.clock.set(NOW + 100);
    bench.eventually(|bench| bench.core().checkpoints.head().unwrap().signed.checkpoint != head).await;
    let newer = bench.core().checkpoints.head().unwrap().signed.checkpoint;
    assert_eq!((newer.size, newer.root, newer.timestamp), (head.size, head.root, NOW + 100));
    refusing.iter().for_each(|region| bench.set(*region, Mode::Good));
    bench.eventually(|bench| bench.gateway.status().certified_size == 1).await;
    bench.put(&payload(2, 3000)).await.unwrap();
}

#[tokio::test]
async fn permissions_hold_by_clocks_that_differ() {
    let bench = Bench::new().await;
    bench.put(b"for replicas that are early and late").await.unwrap();
    for seat in &bench.seats {
        bench.eventually(|_| seat.permitted_until().is_some()).await;
        let deadline = seat.permitted_until().unwrap();
        // A replica takes those that reach up to 60 s ahead of its clock.
        for theirs in [NOW - 30, NOW, NOW + 30] {
            assert!((theirs..=theirs + 60).contains(&deadline), "{deadline} at {theirs}");
        }
    }
}
