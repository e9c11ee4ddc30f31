use alloy::primitives::Bytes;
use axum::http::StatusCode;
use serde_json::json;

use super::super::contract::Contract;
use super::super::settled::Block;
use super::super::testing::{CHAIN, CONTRACT, Chain, Endpoint, Manner, QUICK, pool};
use super::*;

async fn latest(pool: &Pool) -> Result<u64, ChainError> {
    Contract::new(pool.clone(), CONTRACT).latest_block().await.map(|head| head.number)
}

/// A chain of this height.
fn chain(height: u64) -> Chain {
    let mut chain = Chain::new();
    chain.mine(height - chain.height());
    chain
}

#[tokio::test]
async fn whatever_the_first_endpoint_does_the_second_answers() {
    let manners = [
        Manner::Silent,
        Manner::Text(StatusCode::OK, "<html>hello</html>".to_owned()),
        Manner::Text(StatusCode::OK, String::new()),
        Manner::Text(StatusCode::OK, "x".repeat(MAX_ANSWER + 1)),
        Manner::Text(StatusCode::OK, "{}".to_owned()),
        Manner::Text(StatusCode::INTERNAL_SERVER_ERROR, "{\"result\":\"0x1\"}".to_owned()),
        Manner::Text(StatusCode::FOUND, String::new()),
        Manner::Result(json!("0x5")),
        Manner::Result(json!(null)),
        Manner::Result(json!({ "number": "0x10000000000000000", "hash": "0x", "timestamp": "" })),
        Manner::Error(-32601, "no such method"),
        Manner::Error(-32005, "rate limited"),
    ];
    for manner in manners {
        let (first, second) = (Endpoint::open(chain(3)).await, Endpoint::open(chain(9)).await);
        first.behave(manner);
        let pool = pool(&[&first, &second]);
        assert_eq!(latest(&pool).await, Ok(9));
        // It stays with the one that answers.
        first.asked();
        assert_eq!(latest(&pool).await, Ok(9));
        assert!(first.asked().is_empty());
    }
}

#[tokio::test]
async fn a_round_is_repeated_where_that_may_help() {
    let endpoint = Endpoint::open(chain(3)).await;
    let pool = pool(&[&endpoint]);
    endpoint.behave(Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    assert!(matches!(latest(&pool).await, Err(ChainError::Unavailable(_))));
    assert_eq!(endpoint.asked().len(), 2);
    endpoint.behave(Manner::Error(-32601, "no such method"));
    let ChainError::Unavailable(attempts) = latest(&pool).await.unwrap_err() else { panic!() };
    assert!(matches!(attempts[0].fault, Fault::Refused { code: -32601, .. }));
    assert_eq!(endpoint.asked(), ["eth_chainId", "eth_getBlockByNumber"]);
    endpoint.behave(Manner::Honest);
    assert_eq!(latest(&pool).await, Ok(3));
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_never_used() {
    let (first, second) = (Endpoint::open(chain(3)).await, Endpoint::open(chain(9)).await);
    first.change(|chain| chain.id = 1);
    let both = pool(&[&first, &second]);
    for _ in 0..3 {
        assert_eq!(latest(&both).await, Ok(9));
    }
    assert_eq!(first.asked(), ["eth_chainId"]);
    let alone = pool(&[&first]);
    let error = latest(&alone).await.unwrap_err();
    assert!(matches!(&error, ChainError::WrongChain { expected: CHAIN, .. }), "{error}");
    assert!(error.to_string().contains("its chain id is 1"), "{error}");
    // One that went away may come back as another.
    second.behave(Manner::Text(StatusCode::BAD_GATEWAY, String::new()));
    latest(&both).await.unwrap_err();
    second.change(|chain| chain.id = 5);
    second.behave(Manner::Honest);
    assert!(matches!(latest(&both).await, Err(ChainError::WrongChain { .. })));
}

#[tokio::test]
async fn the_chain_is_that_of_the_first_endpoint_that_answers() {
    let (first, second) = (Endpoint::open(chain(3)).await, Endpoint::open(chain(9)).await);
    first.behave(Manner::Silent);
    second.change(|chain| chain.id = 77);
    let urls = [first.url.clone(), second.url.clone()];
    let pool = Pool::discover(&urls, QUICK).await.unwrap();
    assert_eq!(pool.chain_id(), 77);
    assert_eq!(latest(&pool).await, Ok(9));
    assert!(matches!(Pool::discover(&urls[..1], QUICK).await, Err(ChainError::Unavailable(_))));
    assert!(matches!(Pool::discover(&[], QUICK).await, Err(ChainError::NoEndpoint)));
    assert!(matches!(Pool::new(&[], 1, QUICK), Err(ChainError::NoEndpoint)));
}

#[tokio::test]
async fn no_error_shows_an_address() {
    let endpoint = Endpoint::open(chain(3)).await;
    let gone: RpcUrl = "http://user:secret-password@127.0.0.1:1/secret-key?key=secret-query".parse().unwrap();
    for manner in [Manner::Silent, Manner::Text(StatusCode::BAD_GATEWAY, String::new())] {
        endpoint.behave(manner);
        let pool = Pool::new(&[endpoint.url.clone(), gone.clone()], CHAIN, QUICK).unwrap();
        let error = latest(&pool).await.unwrap_err();
        let (text, debug) = (error.to_string(), format!("{error:?}"));
        assert!(text.contains("127.0.0.1:1: "), "{text}");
        assert!(!text.contains("secret") && !debug.contains("secret"), "{text} {debug}");
    }
}

#[tokio::test]
async fn what_a_contract_says_is_final() {
    let (first, second) = (Endpoint::open(chain(3)).await, Endpoint::open(chain(3)).await);
    let contract = Contract::new(pool(&[&first, &second]), CONTRACT);
    first.behave(Manner::Error(3, "execution reverted"));
    assert_eq!(contract.latest_epoch().await, Err(ChainError::Reverted(Bytes::new())));
    assert!(second.asked().is_empty());
    first.behave(Manner::Honest);
    assert_eq!(contract.latest_epoch().await, Ok(0));
    assert_eq!(contract.epoch_of(1).await, Ok(None));
    assert_eq!(contract.grace().await, Ok(super::super::testing::GRACE));
    // The fake contract answers with the certificate's first byte.
    let status = contract.verify_certificate(&[11], &[], None).await;
    assert_eq!(status, Ok(meridian_proto::contract::Status::NoQuorum));
    assert!(matches!(contract.verify_certificate(&[15], &[], None).await, Err(ChainError::Unavailable(_))));
}

/// The height that at least two of them have reached.
async fn reached(endpoints: &[&Endpoint]) -> Result<u64, ChainError> {
    let head = |provider| async move { Ok(Block::latest(&provider).await?.number()) };
    pool(endpoints).reached(|number| *number, head).await
}

#[tokio::test]
async fn what_two_endpoints_have_reached_counts() {
    for (heights, expected) in [
        (&[7][..], 7),
        (&[7, 7], 7),
        (&[9, 7], 7),
        (&[7, 9], 7),
        (&[900, 7, 7], 7),
        (&[7, 1, 7], 7),
        (&[9, 8, 7], 8),
        (&[1, 900, 9, 8], 9),
    ] {
        let mut opened = Vec::new();
        for height in heights {
            opened.push(Endpoint::open(chain(*height)).await);
        }
        let mut endpoints: Vec<_> = opened.iter().collect();
        assert_eq!(reached(&endpoints).await, Ok(expected), "{heights:?}");
        // Who does not answer, or answers with garbage, has no say.
        let (mute, broken) = (Endpoint::open(chain(5)).await, Endpoint::open(chain(5)).await);
        mute.behave(Manner::Silent);
        broken.behave(Manner::Text(StatusCode::OK, "{}".to_owned()));
        endpoints.insert(0, &mute);
        endpoints.insert(1, &broken);
        assert_eq!(reached(&endpoints).await, Ok(expected), "{heights:?}");
    }
    let mute = Endpoint::open(chain(5)).await;
    mute.behave(Manner::Error(-32005, "rate limited"));
    assert!(matches!(reached(&[&mute, &mute]).await, Err(ChainError::Unavailable(_))));
    let foreign = Endpoint::open(chain(5)).await;
    foreign.change(|chain| chain.id = 2);
    assert!(matches!(reached(&[&foreign]).await, Err(ChainError::WrongChain { .. })));
}
