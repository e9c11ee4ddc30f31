mod endpoints;

use axum::http::StatusCode;
use meridian_proofs::B256;
use meridian_proto::contract::Meridian;
use serde_json::json;

use super::super::rpc::Patience;
use super::super::testing::{
    CHAIN, CONTRACT, Chain, Endpoint, GATEWAY, GRACE, Manner, QUICK, anchored, committee, pool,
};
use super::super::view::{Anchor, Head};
use super::*;

const READING: Reading = Reading { contract: CONTRACT, settled: Settled::Confirmations(2), from_block: None };
const POLL: Duration = Duration::from_millis(5);

/// A chain with the first epoch and an anchor, settled.
fn chain() -> Chain {
    let mut chain = Chain::new();
    chain.schedule(&committee(1), 1002);
    chain.anchor(1, 10);
    chain.mine(2);
    chain
}

async fn view_of(endpoint: &Endpoint) -> Result<View, SourceError> {
    read(pool(&[endpoint]), READING).await
}

/// Waits until a view says something.
async fn until(view: &mut watch::Receiver<Arc<View>>, holds: impl FnMut(&Arc<View>) -> bool) -> Arc<View> {
    let waited = tokio::time::timeout(Duration::from_secs(30), view.wait_for(holds)).await;
    Arc::clone(&waited.unwrap().unwrap())
}

#[tokio::test]
async fn a_life_of_epochs_and_anchors() {
    let endpoint = Endpoint::open(chain()).await;
    let view = view_of(&endpoint).await.unwrap();
    assert_eq!(view.head, Some(Head { number: 3, timestamp: 1003 }));
    assert_eq!(view.epochs.terms().len(), 1);
    assert_eq!(*view.epochs.latest().committee, committee(1));
    assert_eq!((view.epochs.latest().activation, view.epochs.latest().closes), (1002, None));
    let first = view.latest_anchor(&GATEWAY).unwrap();
    assert_eq!((first.size, first.epoch, first.block, first.timestamp), (10, 1, 3, 510));
    assert_eq!(view.closing(&GATEWAY, 1), None);

    endpoint.change(|chain| {
        chain.schedule(&committee(2), 2000);
        chain.emit(&Meridian::CommitteeCancelled { epoch: 2 });
        chain.mine(2);
    });
    let view = view_of(&endpoint).await.unwrap();
    assert_eq!((view.epochs.terms().len(), view.epochs.latest().closes), (1, None));

    let passed = Address::repeat_byte(0x77);
    let mut parts = committee(1).parts().clone();
    parts.epoch = 2;
    parts.seats[0].address = passed;
    parts.seats[0].endpoint = "http://other.example:2".to_owned();
    let second = Committee::new(parts).unwrap();
    endpoint.change(|chain| {
        chain.emit(&Meridian::SeatPassed {
            epoch: 2,
            activation: 2000,
            membersHash: alloy::primitives::keccak256(second.members().unwrap()),
            from: Address::repeat_byte(1),
            to: passed,
            endpoint: "http://other.example:2".to_owned(),
        });
        chain.anchor(1, 11);
        chain.anchor(2, 15);
        chain.emit_again(&anchored(2, 16));
        chain.mine(2);
    });
    let view = view_of(&endpoint).await.unwrap();
    assert_eq!(view.epochs.terms()[0].closes, Some(2000 + GRACE));
    assert_eq!(*view.epochs.latest().committee, second);
    let sizes = |anchor: &Anchor| (anchor.epoch, anchor.size);
    assert_eq!(view.anchors[&GATEWAY].iter().map(sizes).collect::<Vec<_>>(), [(1, 11), (2, 16)]);
    assert_eq!(view.closing(&GATEWAY, 1).map(sizes), Some((1, 11)));
    assert_eq!(view.closing(&GATEWAY, 2), None);
}

#[tokio::test]
async fn only_settled_blocks_count() {
    let mut early = chain();
    early.anchor(1, 20);
    let endpoint = Endpoint::open(early).await;
    let source = ChainSource::connect(pool(&[&endpoint]), READING, POLL).await.unwrap();
    let mut view = source.view();
    let size = |view: &Arc<View>| view.latest_anchor(&GATEWAY).unwrap().size;
    assert_eq!(size(&view.borrow()), 10);
    endpoint.change(|chain| chain.mine(1));
    assert_eq!(size(&until(&mut view, |view| view.head.unwrap().number == 4).await), 10);
    endpoint.change(|chain| chain.mine(1));
    until(&mut view, |view| size(view) == 20).await;

    let finalized = Reading { settled: Settled::Finalized, ..READING };
    let error = read(pool(&[&endpoint]), finalized).await.unwrap_err();
    assert!(error.to_string().contains("unknown block"), "{error}");
    endpoint.change(|chain| chain.finalized = Some(3));
    assert_eq!(read(pool(&[&endpoint]), finalized).await.unwrap().head.unwrap().number, 3);
}

#[tokio::test]
async fn ranges_fit_what_the_chain_allows() {
    for (blocks, logs) in [(10_000, 10_000), (3000, 10_000), (10_000, 3), (7, 2)] {
        let mut long = chain();
        long.cap = (blocks, logs);
        for size in 11..=30 {
            long.mine(997);
            long.anchor(1, size);
        }
        // Three in one block fit no answer of two.
        if logs > 2 {
            long.emit_again(&anchored(1, 31));
            long.emit_again(&anchored(1, 32));
        }
        long.mine(2);
        let height = long.height();
        let endpoint = Endpoint::open(long).await;
        let view = view_of(&endpoint).await.unwrap();
        assert_eq!(view.head.unwrap().number, height - 2);
        assert_eq!(view.latest_anchor(&GATEWAY).unwrap().size, if logs > 2 { 32 } else { 30 });
    }
    let mut dense = chain();
    dense.cap = (10_000, 2);
    dense.mine(1);
    for size in 11..=13 {
        dense.emit_again(&anchored(1, size));
    }
    dense.mine(2);
    let error = view_of(&Endpoint::open(dense).await).await.unwrap_err();
    assert!(error.to_string().contains("more than 10000 results"), "{error}");
}

#[tokio::test]
async fn an_answer_of_just_the_cap_is_asked_for_in_parts() {
    let mut full = chain();
    full.mine(1);
    for size in 11..5011 {
        full.emit_again(&anchored(1, size));
    }
    full.mine(1);
    for size in 5011..10_009 {
        full.emit_again(&anchored(1, size));
    }
    full.mine(2);
    let endpoint = Endpoint::open(full).await;
    // With the committee and the first anchor they are 10,000.
    let reading = Reading { from_block: Some(0), ..READING };
    let patience = Patience { deadline: Duration::from_secs(60), ..QUICK };
    let pool = Pool::new(std::slice::from_ref(&endpoint.url), CHAIN, patience).unwrap();
    let view = read(pool, reading).await.unwrap();
    assert_eq!(view.latest_anchor(&GATEWAY).unwrap().size, 10_008);
    assert!(endpoint.asked().iter().filter(|method| *method == "eth_getLogs").count() > 1);
}

#[tokio::test]
async fn the_deployment_is_found_or_taken_from_the_settings() {
    for deployed in [0, 1, 4999, 12_344, 12_345] {
        let mut chain = Chain::new();
        chain.deployed = deployed;
        chain.mine(12_345 - chain.height());
        chain.schedule(&committee(1), 1);
        chain.mine(2);
        let endpoint = Endpoint::open(chain).await;
        view_of(&endpoint).await.unwrap();
        let asked = endpoint.asked();
        let count = |name| asked.iter().filter(|method| *method == name).count();
        assert!(count("eth_getCode") <= 16, "{}", count("eth_getCode"));
        assert_eq!(count("eth_getLogs"), if deployed > 2346 { 1 } else { 2 });
        // Without the state of old blocks all of them are read.
        endpoint.change(|chain| chain.pruned = true);
        let late = Reading { settled: Settled::Confirmations(0), ..READING };
        read(pool(&[&endpoint]), late).await.unwrap();
        assert_eq!(endpoint.asked().iter().filter(|method| *method == "eth_getLogs").count(), 2);
    }
    let endpoint = Endpoint::open(chain()).await;
    let reading = Reading { from_block: Some(2), ..READING };
    read(pool(&[&endpoint]), reading).await.unwrap();
    assert_eq!(endpoint.asked().iter().filter(|method| *method == "eth_getCode").count(), 1);
    endpoint.change(|chain| chain.deployed = 1000);
    let error = view_of(&endpoint).await.unwrap_err();
    assert!(error.to_string().contains("no contract at"), "{error}");
}

#[tokio::test]
async fn nothing_is_read_twice() {
    let endpoint = Endpoint::open(chain()).await;
    let source = ChainSource::connect(pool(&[&endpoint]), READING, POLL).await.unwrap();
    let mut view = source.view();
    for size in 11..20 {
        endpoint.change(|chain| {
            chain.anchor(1, size);
            chain.mine(2);
        });
        until(&mut view, |view| view.latest_anchor(&GATEWAY).unwrap().size == size).await;
    }
    let ranges = endpoint.asked().iter().filter(|method| *method == "eth_getLogs").count();
    assert!(ranges <= 10, "{ranges}");
}

#[tokio::test]
async fn a_reorganisation_below_what_is_settled_is_noticed_and_read_again() {
    let endpoint = Endpoint::open(chain()).await;
    let source = ChainSource::connect(pool(&[&endpoint]), READING, POLL).await.unwrap();
    let mut view = source.view();
    // Of blocks that do not count yet nothing is noticed.
    endpoint.change(|chain| {
        chain.reorganise(2);
        chain.anchor(1, 12);
        chain.mine(2);
    });
    until(&mut view, |view| view.latest_anchor(&GATEWAY).unwrap().size == 12).await;
    endpoint.change(|chain| {
        chain.reorganise(4);
        chain.anchor(1, 11);
        chain.mine(3);
    });
    let read = until(&mut view, |view| view.latest_anchor(&GATEWAY).unwrap().size == 11).await;
    assert_eq!(read.anchors[&GATEWAY].len(), 1);
}

#[tokio::test]
async fn an_outage_leaves_the_last_view() {
    let endpoint = Endpoint::open(chain()).await;
    let source = ChainSource::connect(pool(&[&endpoint]), READING, POLL).await.unwrap();
    let mut view = source.view();
    for manner in [
        Manner::Text(StatusCode::BAD_GATEWAY, String::new()),
        Manner::Silent,
        Manner::Result(json!("garbage")),
        Manner::Result(json!(null)),
        Manner::Error(-32000, "out of order"),
    ] {
        endpoint.behave(manner);
        while source.health().error.is_none() {
            tokio::time::sleep(POLL).await;
        }
        assert!(!view.has_changed().unwrap());
        endpoint.behave(Manner::Honest);
        endpoint.change(|chain| chain.mine(1));
        let height = view.borrow().head.unwrap().number + 1;
        until(&mut view, |view| view.head.unwrap().number == height).await;
        while source.health().error.is_some() {
            tokio::time::sleep(POLL).await;
        }
        view.mark_unchanged();
    }
}

#[tokio::test]
async fn the_first_view_is_waited_for() {
    let endpoint = Endpoint::open(Chain::new()).await;
    endpoint.behave(Manner::Silent);
    let connect = tokio::spawn(ChainSource::connect(pool(&[&endpoint]), READING, POLL));
    while endpoint.asked().is_empty() {
        tokio::time::sleep(POLL).await;
    }
    endpoint.behave(Manner::Honest);
    while !endpoint.asked().contains(&"eth_getBlockByNumber".to_owned()) {
        tokio::time::sleep(POLL).await;
    }
    assert!(!connect.is_finished());
    endpoint.change(|chain| chain.mine(4));
    let error = view_of(&endpoint).await.unwrap_err();
    assert_eq!(error, SourceError::NoCommittee);
    endpoint.change(|chain| {
        chain.schedule(&committee(1), 1);
        chain.mine(2);
    });
    let source = connect.await.unwrap().unwrap();
    assert_eq!(source.view().borrow().epochs.latest().committee.epoch(), 1);

    endpoint.change(|chain| chain.id = 2);
    let error = ChainSource::connect(pool(&[&endpoint]), READING, POLL).await.err().unwrap();
    assert!(matches!(error, SourceError::Chain(ChainError::WrongChain { .. })));
}

#[tokio::test]
async fn an_endpoint_that_is_behind_is_passed_over() {
    let behind = Endpoint::open(chain()).await;
    let ahead = [Endpoint::open(chain()).await, Endpoint::open(chain()).await];
    for endpoint in &ahead {
        endpoint.change(|chain| {
            chain.anchor(1, 30);
            chain.mine(2);
        });
    }
    let source = ChainSource::connect(pool(&[&behind, &ahead[0], &ahead[1]]), READING, POLL).await.unwrap();
    let mut view = source.view();
    assert_eq!(view.borrow().head.unwrap().number, 6);
    for endpoint in &ahead {
        endpoint.behave(Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    }
    while source.health().error.is_none() {
        tokio::time::sleep(POLL).await;
    }
    assert!(source.health().error.unwrap().to_string().contains("below 6"));
    behind.change(|chain| {
        chain.anchor(1, 30);
        chain.anchor(1, 31);
        chain.mine(2);
    });
    until(&mut view, |view| view.latest_anchor(&GATEWAY).unwrap().size == 31).await;
}

#[tokio::test]
async fn of_two_endpoints_the_one_that_is_behind_counts() {
    let (ahead, behind) = (Endpoint::open(chain()).await, Endpoint::open(chain()).await);
    let grow = |chain: &mut Chain| {
        chain.anchor(1, 30);
        chain.mine(2);
    };
    ahead.change(grow);
    let source = ChainSource::connect(pool(&[&ahead, &behind]), READING, POLL).await.unwrap();
    let mut view = source.view();
    assert_eq!(view.borrow().head.unwrap().number, 3);
    // Alone it is believed, and what it told stays when the other comes back.
    behind.behave(Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    until(&mut view, |view| view.head.unwrap().number == 6).await;
    behind.behave(Manner::Honest);
    behind.change(grow);
    for endpoint in [&ahead, &behind] {
        endpoint.change(|chain| chain.mine(1));
    }
    until(&mut view, |view| view.head.unwrap().number == 7).await;
}

/// Its only endpoint told of blocks that never were, or the chain was set up anew.
#[tokio::test]
async fn a_chain_that_stays_below_what_was_told_is_believed_at_last() {
    let mut long = chain();
    long.anchor(1, 70);
    long.mine(50);
    let endpoint = Endpoint::open(long).await;
    let source = ChainSource::connect(pool(&[&endpoint]), READING, POLL).await.unwrap();
    let mut view = source.view();
    assert_eq!(view.borrow_and_update().head.unwrap().number, 54);
    endpoint.change(|known| *known = chain());
    while source.health().error.is_none() {
        tokio::time::sleep(POLL).await;
    }
    assert!(!view.has_changed().unwrap());
    let read = until(&mut view, |view| view.head.unwrap().number == 3).await;
    assert_eq!(read.latest_anchor(&GATEWAY).unwrap().size, 10);
}

#[tokio::test]
async fn a_block_with_the_greatest_number_is_no_block() {
    let mut odd = chain();
    odd.top = Some(u64::MAX);
    let endpoint = Endpoint::open(odd).await;
    let reading = Reading { settled: Settled::Confirmations(0), from_block: Some(u64::MAX - 1), ..READING };
    let error = read(pool(&[&endpoint]), reading).await.unwrap_err();
    assert!(error.to_string().contains("greatest number"), "{error}");
}

/// Events that the contract never emits.
#[tokio::test]
async fn what_no_contract_of_ours_says_is_not_believed() {
    type Lie = fn(&mut Chain);
    let lies: [Lie; 9] = [
        |chain| chain.schedule(&committee(3), 2000),
        |chain| chain.schedule(&committee(2), 0),
        |chain| chain.schedule(&committee(2), 1001),
        |chain| chain.emit(&Meridian::CommitteeCancelled { epoch: 7 }),
        |chain| chain.anchor(1, 9),
        |chain| chain.anchor(1, 10),
        |chain| chain.anchor(2, 11),
        |chain| chain.anchor(0, 11),
        |chain| chain.emit(&Meridian::Anchored { gateway: Address::repeat_byte(5), ..anchored(1, 11) }),
    ];
    for lie in lies {
        let (liar, honest) = (Endpoint::open(chain()).await, Endpoint::open(chain()).await);
        liar.change(|chain| {
            lie(chain);
            chain.mine(2);
        });
        let error = view_of(&liar).await.unwrap_err();
        assert!(error.to_string().contains("contradiction"), "{error}");
        let view = read(pool(&[&liar, &honest]), READING).await.unwrap();
        assert_eq!(view.head.unwrap().number, 3);
    }
    let mut forged = Chain::new();
    let call = meridian_proto::contract::committee::schedule(&committee(1), 1).unwrap();
    forged.emit(&Meridian::CommitteeScheduled {
        epoch: 1,
        activation: 1,
        membersHash: B256::ZERO,
        terms: call.terms,
        regions: call.regions,
        seats: call.seats,
        gateways: call.gateways,
    });
    forged.mine(2);
    let error = view_of(&Endpoint::open(forged).await).await.unwrap_err();
    assert!(error.to_string().contains("hash"), "{error}");
}

#[tokio::test]
async fn a_committee_that_nobody_can_work_with_is_left_out() {
    let mut bad = chain();
    let mut call = meridian_proto::contract::committee::schedule(&committee(2), 1100).unwrap();
    call.seats[0].endpoint = "ftp://nowhere".to_owned();
    bad.emit(&Meridian::CommitteeScheduled {
        epoch: 2,
        activation: 1100,
        membersHash: alloy::primitives::keccak256(committee(2).members().unwrap()),
        terms: call.terms,
        regions: call.regions,
        seats: call.seats,
        gateways: call.gateways,
    });
    bad.schedule(&committee(3), 1300);
    bad.mine(2);
    let view = view_of(&Endpoint::open(bad).await).await.unwrap();
    let terms: Vec<_> =
        view.epochs.terms().iter().map(|term| (term.committee.epoch(), term.closes)).collect();
    assert_eq!(terms, [(1, Some(1100 + GRACE)), (3, None)]);
    assert_eq!([1099, 1100, 1300].map(|now| view.is_succeeded(1, now)), [false, true, true]);
    assert!(!view.is_succeeded(3, u64::MAX));
}

/// Hosts go by their own clocks and the last view: what may be cancelled must not be in it.
#[tokio::test]
async fn hosts_know_an_epoch_when_it_cannot_be_cancelled() {
    let mut early = chain();
    let genesis = unix_now();
    early.genesis = genesis;
    early.schedule(&committee(2), genesis + 8 + GRACE);
    early.mine(3);
    let endpoint = Endpoint::open(early).await;
    let source = ChainSource::connect(pool(&[&endpoint]), READING, POLL).await.unwrap();
    let mut view = source.view();
    let first = Arc::clone(&view.borrow());
    assert_eq!(first.head.unwrap().timestamp, genesis + 7);
    let [term] = first.epochs.terms() else { panic!("more than the first epoch") };
    // When it must have ended is known all the same.
    assert_eq!(term.closes, Some(genesis + 8 + 2 * GRACE));
    assert!(!first.is_succeeded(1, genesis + 8 + GRACE));
    assert_eq!(view_of(&endpoint).await.unwrap().epochs.terms().len(), 2);
    endpoint.change(|chain| chain.mine(1));
    let second = until(&mut view, |view| view.epochs.terms().len() == 2).await;
    assert_eq!(second.head.unwrap().timestamp, genesis + 8);
    assert!(second.is_succeeded(1, genesis + 8 + GRACE) && !second.is_succeeded(1, genesis + 7 + GRACE));
}

/// Nobody sends anything, or nothing is finalized: by settled blocks alone the epoch would never begin.
#[tokio::test]
async fn an_epoch_begins_on_a_chain_that_settles_nothing() {
    let mut quiet = chain();
    quiet.genesis = unix_now() - 10_000;
    quiet.schedule(&committee(2), unix_now() - 100);
    quiet.mine(3);
    let cancel = |chain: &mut Chain| chain.emit_again(&Meridian::CommitteeCancelled { epoch: 2 });
    let mut opened = Vec::new();
    for _ in 0..3 {
        opened.push(Endpoint::open(quiet.clone()).await);
    }
    let [one, other, third] = &opened[..] else { unreachable!() };
    // One may have a block that is no block of the chain; where only two answer that is enough to wait.
    third.change(cancel);
    let mut poller = Poller::new(pool(&[third, one]), READING);
    assert_eq!(poller.poll(true).await.unwrap().epochs.terms().len(), 1);
    let mut poller = Poller::new(pool(&[third, one, other]), READING);
    let view = poller.poll(true).await.unwrap();
    assert_eq!(view.epochs.terms().len(), 2);
    assert!(view.is_succeeded(1, unix_now()));
    assert!(view.head.unwrap().timestamp + GRACE < view.epochs.latest().activation);
    // What one says alone is not enough.
    other.behave(Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    third.behave(Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    let mut alone = Poller::new(pool(&[third, one, other]), READING);
    assert_eq!(alone.poll(true).await.unwrap().epochs.terms().len(), 1);
    other.behave(Manner::Honest);
    third.behave(Manner::Honest);
    // Who has entered it does not leave it.
    one.change(cancel);
    assert_eq!(poller.poll(true).await.unwrap(), view);
    // Who has not does not enter what the latest block does not have.
    let mut poller = Poller::new(pool(&[third, one]), READING);
    assert_eq!(poller.poll(true).await.unwrap().epochs.terms().len(), 1);
    // By our clock it has not begun.
    let mut poller = Poller { clock: || unix_now() - 1000, ..Poller::new(pool(&[other]), READING) };
    assert_eq!(poller.poll(true).await.unwrap().epochs.terms().len(), 1);
}
