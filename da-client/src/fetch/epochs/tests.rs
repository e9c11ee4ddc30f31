use meridian_proofs::committee::epochs::Epochs;

use super::*;
use crate::chain::testing::committee;

/// Four epochs: one whose blobs are all gone, one that has closed, the current one, one that is to come.
fn readers() -> Readers {
    let now = unix_now();
    let term = |epoch, activation, closes| Term { committee: Arc::new(committee(epoch)), activation, closes };
    let longest = committee(1).max_retention();
    let terms = vec![
        term(1, 1, Some(now - longest)),
        term(2, now - longest - 60, Some(now - 60)),
        term(3, now - 160, Some(now + 1000)),
        term(4, now + 900, None),
    ];
    let view = View {
        epochs: Epochs::new(terms).unwrap(),
        anchors: BTreeMap::new(),
        head: None,
        grace: 0,
        final_by: u64::MAX,
    };
    Readers::new(watch::Sender::new(Arc::new(view)).subscribe(), Channels::new())
}

#[test]
fn epochs_that_may_keep_a_blob_are_tried_in_order() {
    let readers = readers();
    let order =
        |epoch| readers.order(epoch).iter().map(|reader| reader.committee().epoch()).collect::<Vec<_>>();
    assert_eq!(order(None), [3, 2]);
    assert_eq!(order(Some(3)), [3, 2]);
    assert_eq!(order(Some(2)), [2, 3]);
    assert_eq!(order(Some(1)), [1, 3, 2]);
    assert_eq!(order(Some(9)), [3, 2]);
    assert_eq!(readers.current().committee().epoch(), 3);
    assert_eq!(readers.of(4).unwrap().committee().epoch(), 4);
    assert!(readers.of(5).is_none());
}

#[tokio::test]
async fn a_blob_is_unknown_only_when_every_epoch_says_so() {
    let unknown = || ReadError::Unknown { regions: 1, expired: None };
    let passing = || ReadError::Unavailable { have: 1, need: 2, faults: Vec::new() };
    let other_passing = || ReadError::Unreachable { faults: Vec::new() };
    type Said = fn() -> Result<u8, ReadError>;
    let first = async |third: Said, second: Said| {
        let read =
            |reader: Reader| async move { if reader.committee().epoch() == 3 { third() } else { second() } };
        readers().first(None, read).await.map(|(found, reader)| (found, reader.committee().epoch()))
    };
    let lost = || Err(ReadError::Unknown { regions: 1, expired: None });
    let short = || Err(ReadError::Unavailable { have: 1, need: 2, faults: Vec::new() });
    let silent = || Err(ReadError::Unreachable { faults: Vec::new() });
    assert_eq!(first(|| Ok(7), || Ok(8)).await, Ok((7, 3)));
    assert_eq!(first(lost, || Ok(8)).await, Ok((8, 2)));
    assert_eq!(first(short, || Ok(8)).await, Ok((8, 2)));
    assert_eq!(first(lost, lost).await, Err(unknown()));
    assert_eq!(first(lost, short).await, Err(passing()));
    assert_eq!(first(short, lost).await, Err(passing()));
    assert_eq!(first(silent, short).await, Err(other_passing()));
    assert_eq!(first(|| Err(ReadError::Malformed), || Ok(8)).await, Err(ReadError::Malformed));
    assert_eq!(first(silent, || Err(ReadError::Malformed)).await, Err(ReadError::Malformed));
}

#[test]
fn an_epoch_that_is_scheduled_again_gets_another_reader() {
    let (sender, view) = watch::channel(Arc::new(View::fixed(Arc::new(committee(1)))));
    let readers = Readers::new(view, Channels::new());
    let first = Arc::clone(readers.current().committee());
    let mut parts = first.parts().clone();
    parts.max_retention += 1;
    let other = Arc::new(meridian_proofs::committee::Committee::new(parts).unwrap());
    sender.send_replace(Arc::new(View::fixed(Arc::clone(&other))));
    assert_eq!(*readers.current().committee(), other);
}
