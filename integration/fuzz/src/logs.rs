//! Reads of logs: entries that lead to signed roots, and proofs that hold.

use bytes::Bytes;
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::log::{CompactRange, LogEntry, verify_consistency, verify_inclusion};
use meridian_proofs::{Address, B256};
use meridian_proto::convert::{
    ConsistencyProof, GetConsistencyProof, GetEntries, GetInclusionProof, InclusionProof, LogItem,
};
use meridian_proto::{MAX_ENTRIES, wire};
use prost::Message;

use super::draft::draft;
use super::grpc::{Outcome, Sent, ask, call, single};
use super::home::{Home, REPLICAS, run};
use super::input::Input;

pub fn logs(data: &[u8]) {
    run(data, once);
}

/// Call u8, member u8 (replicas, then the gateway), two numbers of the call u8, then what is changed.
async fn once(home: &Home, input: &mut Input<'_>) {
    let (what, member) = (input.byte() % 5, usize::from(input.byte()) % (REPLICAS + 1));
    let (one, two) = (input.byte(), input.byte());
    let gateway = home.gateway.status().address;
    let entries = entries(home, gateway).await;
    // The latest checkpoint may be on its way to a replica.
    let before = served(home, member, gateway);
    let near = |choice: u8| {
        [0, 1, before / 2, before.saturating_sub(1), before, before + 1][usize::from(choice) % 6]
    };
    let message = match what {
        0 => wire::ListLogsRequest {}.encode_to_vec(),
        1 => wire::GetCheckpointRequest::from(gateway).encode_to_vec(),
        2 => {
            let count =
                [1, before.max(1), MAX_ENTRIES as u64, MAX_ENTRIES as u64 + 1, 0, 2][usize::from(two) % 6];
            wire::GetEntriesRequest::from(GetEntries { gateway, start: near(one), count }).encode_to_vec()
        }
        3 => {
            let size = [before, before + 1, 1, 2][usize::from(two) % 4];
            wire::GetInclusionProofRequest::from(GetInclusionProof { gateway, index: near(one), size })
                .encode_to_vec()
        }
        _ => {
            let new_size = [before, before + 1, 1, 2][usize::from(two) % 4];
            wire::GetConsistencyProofRequest::from(GetConsistencyProof {
                gateway,
                old_size: near(one),
                new_size,
            })
            .encode_to_vec()
        }
    };
    let sent = draft(home, input, vec![message], |_, _| {});
    let method = ["ListLogs", "GetCheckpoint", "GetEntries", "GetInclusionProof", "GetConsistencyProof"];
    let method = format!("Log/{}", method[usize::from(what)]);
    let outcome = call(home.log_service(member), &method, &sent).await;
    if served(home, member, gateway) != before {
        return;
    }
    let log = Known { gateway, entries: &entries[..before as usize] };
    match what {
        0 => log.listed(home, &sent, outcome).await,
        1 => log.checkpoint(home, &sent, outcome).await,
        2 => log.items(&sent, outcome).await,
        3 => log.inclusion(&sent, outcome).await,
        _ => log.consistency(&sent, outcome).await,
    }
}

fn served(home: &Home, member: usize, gateway: Address) -> u64 {
    let logs = home.replicas.get(member).map_or_else(|| home.gateway.log_store(), |replica| replica.logs());
    logs.served_size(&gateway).unwrap().unwrap()
}

/// All entries of the running gateway's log, as it gives them.
async fn entries(home: &Home, gateway: Address) -> Vec<LogEntry> {
    let mut entries = home.entries.borrow().clone();
    let size = served(home, REPLICAS, gateway);
    while (entries.len() as u64) < size {
        let request = GetEntries { gateway, start: entries.len() as u64, count: MAX_ENTRIES as u64 };
        let request = wire::GetEntriesRequest::from(request);
        let answer = ask(home.log_service(REPLICAS), "Log/GetEntries", &request).await.unwrap();
        let items = Vec::<LogItem>::try_from(single::<wire::GetEntriesResponse>(&answer).await).unwrap();
        entries.extend(items.into_iter().map(|item| match item {
            LogItem::Entry(entry) => entry,
            LogItem::Leaf(_) => panic!("nothing has expired"),
        }));
    }
    home.entries.replace(entries.clone());
    entries
}

/// The log of the running gateway, as far as a member serves it.
struct Known<'a> {
    gateway: Address,
    entries: &'a [LogEntry],
}

impl Known<'_> {
    fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    fn root(&self, size: u64) -> B256 {
        let mut range = CompactRange::empty();
        self.entries[..size as usize].iter().for_each(|entry| drop(range.append(entry.leaf())));
        range.root()
    }

    /// Whether the log is another, of which less is known here.
    fn is_other(&self, home: &Home, gateway: Address) -> bool {
        gateway != self.gateway && home.committee.gateway(&gateway).is_some()
    }

    /// A checkpoint that its gateway signed, and seats and nobody else.
    fn check(&self, home: &Home, log: &CosignedCheckpoint) {
        log.signed.verify(&home.domain).unwrap();
        let signers = log.signers(&home.domain).unwrap();
        assert!(!signers.is_empty() && signers.iter().all(|signer| home.committee.seat(signer).is_some()));
        let checkpoint = &log.signed.checkpoint;
        if checkpoint.gateway == self.gateway {
            assert_eq!((checkpoint.size, checkpoint.root), (self.size(), self.root(self.size())));
        }
    }

    async fn listed(&self, home: &Home, sent: &Sent, outcome: Outcome) {
        let wanted: Option<wire::ListLogsRequest> = sent.request().await;
        let Some((_, answer)) = outcome.judged(wanted, sent) else { return };
        let logs =
            Vec::<CosignedCheckpoint>::try_from(single::<wire::ListLogsResponse>(&answer).await).unwrap();
        logs.iter().for_each(|log| self.check(home, log));
        assert!(logs.iter().any(|log| log.signed.checkpoint.gateway == self.gateway));
    }

    async fn checkpoint(&self, home: &Home, sent: &Sent, outcome: Outcome) {
        let request: Option<wire::GetCheckpointRequest> = sent.request().await;
        let asked = request.and_then(|request| Address::try_from(request).ok());
        if asked.is_some_and(|asked| self.is_other(home, asked)) {
            return;
        }
        let wanted = asked.filter(|asked| *asked == self.gateway);
        let Some((_, answer)) = outcome.judged(wanted, sent) else { return };
        self.check(home, &single::<wire::CosignedCheckpoint>(&answer).await.try_into().unwrap());
    }

    /// Whether a question is of this log; nothing where it is of one that is not known here.
    fn is_this(&self, asked: Option<&Address>, outcome: &Outcome) -> Option<bool> {
        match asked {
            Some(asked) if *asked != self.gateway && !matches!(outcome, Outcome::Refused(_)) => None,
            asked => Some(asked == Some(&self.gateway)),
        }
    }

    async fn items(&self, sent: &Sent, outcome: Outcome) {
        let request: Option<wire::GetEntriesRequest> = sent.request().await;
        let asked = request.and_then(|request| GetEntries::try_from(request).ok());
        let Some(is_this) = self.is_this(asked.as_ref().map(|asked| &asked.gateway), &outcome) else {
            return;
        };
        let wanted = asked.filter(|asked| is_this && asked.start <= self.size());
        let Some((asked, answer)) = outcome.judged(wanted, sent) else { return };
        let items = Vec::<LogItem>::try_from(single::<wire::GetEntriesResponse>(&answer).await).unwrap();
        let end = (asked.start + asked.count).min(self.size());
        let wanted = &self.entries[asked.start as usize..end as usize];
        assert_eq!(items, wanted.iter().copied().map(LogItem::Entry).collect::<Vec<_>>());
    }

    async fn inclusion(&self, sent: &Sent, outcome: Outcome) {
        let request: Option<wire::GetInclusionProofRequest> = sent.request().await;
        let asked = request.and_then(|request| GetInclusionProof::try_from(request).ok());
        let Some(is_this) = self.is_this(asked.as_ref().map(|asked| &asked.gateway), &outcome) else {
            return;
        };
        let wanted = asked.filter(|asked| is_this && asked.size <= self.size());
        let Some((GetInclusionProof { index, size, .. }, answer)) = outcome.judged(wanted, sent) else {
            return;
        };
        let InclusionProof { item, path } =
            single::<wire::GetInclusionProofResponse>(&answer).await.try_into().unwrap();
        assert_eq!(item, LogItem::Entry(self.entries[index as usize]));
        verify_inclusion(item.leaf(), index, size, &path, &self.root(size)).unwrap();
    }

    async fn consistency(&self, sent: &Sent, outcome: Outcome) {
        let request: Option<wire::GetConsistencyProofRequest> = sent.request().await;
        let asked = request.and_then(|request| GetConsistencyProof::try_from(request).ok());
        let Some(is_this) = self.is_this(asked.as_ref().map(|asked| &asked.gateway), &outcome) else {
            return;
        };
        let wanted = asked.filter(|asked| is_this && asked.new_size <= self.size());
        let Some((asked, answer)) = outcome.judged(wanted, sent) else { return };
        let answer: &[Bytes] = &answer;
        let ConsistencyProof(path) =
            single::<wire::GetConsistencyProofResponse>(answer).await.try_into().unwrap();
        let GetConsistencyProof { old_size, new_size, .. } = asked;
        verify_consistency(old_size, &self.root(old_size), new_size, &self.root(new_size), &path).unwrap();
    }
}
