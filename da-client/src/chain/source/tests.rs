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

#[tokio::test]
async fn one_liar_among_three_changes_nothing_and_of_two_neither_is_believed() {
    // It hides an anchor from events and state alike.
    let liar = Endpoint::open(chain()).await;
    liar.change(|chain| chain.mine(3));
    let honest = [Endpoint::open(chain()).await, Endpoint::open(chain()).await];
    for endpoint in &honest {
        endpoint.change(|chain| {
            chain.anchor(1, 50);
            chain.mine(2);
        });
    }
    let three = pool(&[&liar, &honest[0], &honest[1]]);
    let error = read(three.clone(), READING).await.unwrap_err();
    assert!(matches!(error, SourceError::Disputed(_)), "{error}");
    let source = ChainSource::connect(three, READING, POLL).await.unwrap();
    assert_eq!(source.view().borrow().latest_anchor(&GATEWAY).unwrap().size, 50);

    let two = pool(&[&liar, &honest[0]]);
    for _ in 0..4 {
        let error = read(two.clone(), READING).await.unwrap_err();
        assert!(matches!(error, SourceError::Disputed(_)), "{error}");
    }
    // Who does not answer, or answers with garbage, has no say.
    for manner in [Manner::Silent, Manner::Result(json!("garbage")), Manner::Error(-32000, "no")] {
        liar.behave(manner);
        assert_eq!(read(two.clone(), READING).await.unwrap().latest_anchor(&GATEWAY).unwrap().size, 50);
    }
}

/// Nobody could contradict what it says of blocks that the others do not have.
#[tokio::test]
async fn a_liar_that_is_ahead_of_all_others_is_not_believed() {
    let liar = Endpoint::open(chain()).await;
    liar.change(|chain| {
        chain.anchor(1, 500);
        chain.mine(30);
    });
    let honest = [Endpoint::open(chain()).await, Endpoint::open(chain()).await];
    for endpoint in &honest {
        endpoint.change(|chain| {
            chain.anchor(1, 50);
            chain.mine(2);
        });
    }
    let three = pool(&[&liar, &honest[0], &honest[1]]);
    let source = ChainSource::connect(three, READING, POLL).await.unwrap();
    assert_eq!(source.view().borrow().latest_anchor(&GATEWAY).unwrap().size, 50);
    let error = read(pool(&[&liar, &honest[0]]), READING).await.unwrap_err();
    assert!(matches!(error, SourceError::Disputed(_)), "{error}");
}

/// Epochs close by the time of settled blocks.
#[tokio::test]
async fn a_liar_about_the_time_of_a_block_is_not_believed() {
    let liar = Endpoint::open(chain()).await;
    liar.change(|chain| chain.genesis = 1 << 40);
    let honest = [Endpoint::open(chain()).await, Endpoint::open(chain()).await];
    let source = ChainSource::connect(pool(&[&liar, &honest[0], &honest[1]]), READING, POLL).await.unwrap();
    assert_eq!(source.view().borrow().head, Some(Head { number: 3, timestamp: 1003 }));
}

#[tokio::test]
async fn events_that_are_not_the_contracts_state_are_not_believed() {
    let endpoint = Endpoint::open(chain()).await;
    // The deployment is said to be after the events.
    let reading = Reading { from_block: Some(3), ..READING };
    let error = read(pool(&[&endpoint]), reading).await.unwrap_err();
    assert!(error.to_string().contains("contradiction"), "{error}");
    let reading = Reading { from_block: Some(4), ..READING };
    endpoint.change(|chain| chain.mine(1));
    let error = read(pool(&[&endpoint]), reading).await.unwrap_err();
    assert!(error.to_string().contains("the latest epoch is 1"), "{error}");
}

/// A chain on which the first epoch's seat is elsewhere. The contract keeps no endpoints: its state is the same.
fn moved() -> Chain {
    let mut parts = committee(1).parts().clone();
    parts.seats[0].endpoint = "http://liar.example:1".to_owned();
    let mut chain = Chain::new();
    chain.schedule(&Committee::new(parts).unwrap(), 1002);
    chain.anchor(1, 10);
    chain.mine(2);
    chain
}

#[tokio::test]
async fn what_the_contract_does_not_keep_is_compared_too() {
    let liar = Endpoint::open(moved()).await;
    let honest = [Endpoint::open(chain()).await, Endpoint::open(chain()).await];
    let source = ChainSource::connect(pool(&[&liar, &honest[0], &honest[1]]), READING, POLL).await.unwrap();
    assert_eq!(*source.view().borrow().epochs.latest().committee, committee(1));
    let error = read(pool(&[&liar, &honest[0]]), READING).await.unwrap_err();
    assert!(error.to_string().contains("are others"), "{error}");
}

#[tokio::test]
async fn what_a_liar_told_alone_is_found_out_when_the_others_are_back() {
    let liar = Endpoint::open(moved()).await;
    let honest = [Endpoint::open(chain()).await, Endpoint::open(chain()).await];
    for endpoint in &honest {
        endpoint.behave(Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    }
    let source = ChainSource::connect(pool(&[&liar, &honest[0], &honest[1]]), READING, POLL).await.unwrap();
    let mut view = source.view();
    assert_ne!(*view.borrow().epochs.latest().committee, committee(1));
    for endpoint in &honest {
        endpoint.behave(Manner::Honest);
    }
    until(&mut view, |view| *view.epochs.latest().committee == committee(1)).await;
}

#[tokio::test]
async fn an_endpoint_where_all_reverts_is_passed_over() {
    let liar = Endpoint::open(chain()).await;
    liar.behave(Manner::Error(3, "execution reverted"));
    let honest = [Endpoint::open(chain()).await, Endpoint::open(chain()).await];
    let view = read(pool(&[&liar, &honest[0], &honest[1]]), READING).await.unwrap();
    assert_eq!(view.head.unwrap().number, 3);
}

/// Another endpoint goes on where one has failed: nothing of what that one told may stay.
#[tokio::test]
async fn of_a_range_that_is_wrong_nothing_stays() {
    let mut both = chain();
    both.schedule(&committee(2), 1005);
    both.mine(2);
    let liar = Endpoint::open(both.clone()).await;
    let honest = [Endpoint::open(both.clone()).await, Endpoint::open(both).await];
    let source = ChainSource::connect(pool(&[&liar, &honest[0], &honest[1]]), READING, POLL).await.unwrap();
    let mut view = source.view();
    liar.change(|chain| {
        chain.anchor(1, 15);
        chain.emit_again(&anchored(1, 16));
        chain.mine(2);
        chain.calls_off = true;
    });
    for endpoint in &honest {
        endpoint.change(|chain| {
            chain.anchor(2, 20);
            chain.mine(2);
        });
    }
    let read = until(&mut view, |view| view.latest_anchor(&GATEWAY).unwrap().size == 20).await;
    let sizes: Vec<_> = read.anchors[&GATEWAY].iter().map(|anchor| (anchor.epoch, anchor.size)).collect();
    assert_eq!(sizes, [(1, 10), (2, 20)]);
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

/// A chain of many ranges.
fn long() -> Chain {
    let mut chain = chain();
    chain.cap = (125, 10_000);
    for size in 11..61 {
        chain.mine(999);
        chain.anchor(1, size);
    }
    chain.mine(2);
    chain
}

fn ranges(endpoint: &Endpoint) -> usize {
    endpoint.asked().iter().filter(|method| *method == "eth_getLogs").count()
}

#[tokio::test]
async fn an_endpoint_that_gives_little_at_once_does_not_hold_up_the_others() {
    let slow = Endpoint::open(long()).await;
    slow.change(|chain| chain.cap = (1, 10_000));
    let quick = [Endpoint::open(long()).await, Endpoint::open(long()).await];
    let pool = pool(&[&slow, &quick[0], &quick[1]]);
    let mut poller = Poller { lap: Duration::ZERO, ..Poller::new(pool, READING) };
    assert_eq!(poller.poll(true).await.unwrap().latest_anchor(&GATEWAY).unwrap().size, 60);
    let read = slow.asked().iter().filter(|method| *method == "eth_getCode").count();
    assert!(read > 0, "it was never asked");
}

#[tokio::test]
async fn what_only_one_has_told_is_not_asked_for_again_and_again() {
    let (alone, other) = (Endpoint::open(long()).await, Endpoint::open(long()).await);
    other.behave(Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    let mut poller = Poller::new(pool(&[&alone, &other]), READING);
    poller.poll(true).await.unwrap();
    // 401 ranges of 125 blocks, and attempts at more.
    let asked = ranges(&alone);
    assert!(asked < 16 * 401, "{asked}");
    other.behave(Manner::Honest);
    let mut polls = 0;
    while poller.agreed != *poller.history.get_mut() {
        for endpoint in [&alone, &other] {
            endpoint.change(|chain| chain.anchor(1, 61 + polls));
        }
        poller.poll(true).await.unwrap();
        polls += 1;
        assert!(polls <= 120, "not all is agreed on");
    }
    poller.poll(true).await.unwrap();
    ranges(&alone);
    poller.poll(true).await.unwrap();
    assert_eq!(ranges(&alone), 0);
}

#[tokio::test]
async fn one_endpoint_cannot_have_everything_read_again() {
    let mut opened = Vec::new();
    for _ in 0..3 {
        opened.push(Endpoint::open(long()).await);
    }
    let [first, liar, last] = &opened[..] else { unreachable!() };
    let mut poller = Poller::new(pool(&[first, liar, last]), READING);
    poller.poll(true).await.unwrap();
    ranges(last);
    // The first is away for a moment, and the next one tells of another chain.
    first.behave(Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    liar.change(|chain| chain.reorganise(100));
    for endpoint in &opened {
        endpoint.change(|chain| chain.mine(5));
    }
    let number = poller.history.get_mut().reached();
    // Of two that contradict each other neither is believed.
    let error = poller.poll(true).await.unwrap_err();
    assert!(matches!(error, SourceError::Disputed(_)), "{error}");
    first.behave(Manner::Honest);
    while poller.history.get_mut().reached() == number {
        poller.poll(true).await.unwrap();
    }
    let asked = ranges(last);
    assert!(asked < 10, "{asked}");
    // Two of them are believed.
    first.change(|chain| chain.reorganise(100));
    for endpoint in [first, liar] {
        endpoint.change(|chain| chain.anchor(1, 99));
        endpoint.change(|chain| chain.mine(2));
    }
    let mut size = 60;
    for _ in 0..10 {
        if let Ok(view) = poller.poll(true).await {
            size = view.latest_anchor(&GATEWAY).unwrap().size;
        }
    }
    assert_eq!(size, 99);
}

/// What was agreed on stays while somebody has it, however long the others take.
#[tokio::test]
async fn one_endpoint_that_stays_behind_takes_nothing_back() {
    let mut opened = Vec::new();
    for _ in 0..3 {
        opened.push(Endpoint::open(chain()).await);
    }
    let [first, behind, away] = &opened[..] else { unreachable!() };
    for endpoint in [first, away] {
        endpoint.change(|chain| {
            chain.anchor(1, 30);
            chain.mine(2);
        });
    }
    let mut poller = Poller::new(pool(&[first, behind, away]), READING);
    while poller.poll(true).await.unwrap().latest_anchor(&GATEWAY).unwrap().size != 30 {}
    away.behave(Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    for _ in 0..2 * PATIENCE + 5 {
        let view = poller.poll(true).await.unwrap();
        assert_eq!(view.latest_anchor(&GATEWAY).unwrap().size, 30);
    }
}

/// It alone answered when the others were asked how far the chain goes.
#[tokio::test]
async fn a_chain_without_an_end_is_not_read_to_its_end() {
    let endless = Endpoint::open(chain()).await;
    endless.change(|chain| chain.endless = true);
    let honest = [Endpoint::open(chain()).await, Endpoint::open(chain()).await];
    let away = |manner: &Manner| honest.iter().for_each(|endpoint| endpoint.behave(manner.clone()));
    let pool = pool(&[&endless, &honest[0], &honest[1]]);
    let mut poller = Poller { lap: Duration::from_millis(50), ..Poller::new(pool, READING) };
    away(&Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    let comes_back = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        away(&Manner::Honest);
        std::future::pending::<()>().await;
    };
    let reads = async {
        loop {
            if let Ok(view) = poller.poll(true).await
                && view.head.unwrap().number == 3
            {
                break;
            }
        }
    };
    tokio::select! {
        () = comes_back => {}
        done = tokio::time::timeout(Duration::from_secs(60), reads) => done.unwrap(),
    }
}
