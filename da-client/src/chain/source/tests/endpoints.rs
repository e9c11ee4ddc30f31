//! Several endpoints, not all of which are honest, quick or there.

use super::*;

/// Two that tell of an anchor of 50 entries.
async fn two_honest() -> [Endpoint; 2] {
    let honest = [Endpoint::open(chain()).await, Endpoint::open(chain()).await];
    for endpoint in &honest {
        endpoint.change(|chain| {
            chain.anchor(1, 50);
            chain.mine(2);
        });
    }
    honest
}

#[tokio::test]
async fn one_liar_among_three_changes_nothing_and_of_two_neither_is_believed() {
    // It hides an anchor from events and state alike.
    let liar = Endpoint::open(chain()).await;
    liar.change(|chain| chain.mine(3));
    let honest = two_honest().await;
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
    let honest = two_honest().await;
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
