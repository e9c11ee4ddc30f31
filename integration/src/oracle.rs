//! Outside the system: remembers everything that was certified and signed, and compares.

pub mod clients;
pub mod members;
pub mod mirror;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use meridian_client::rpc::{Channels, LogRpc};
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint};
use meridian_proofs::committee::Committee;
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::hash::Blake3;
use meridian_proofs::log::{LogEntry, verify_consistency, verify_inclusion};
use meridian_proofs::merkle::RangeProof;
use meridian_proofs::placement;
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::shape::RowRange;
use meridian_proofs::{Address, B256};
use meridian_proto::convert::LogItem;
use meridian_proto::error::{ApiError, Reason};
use tokio::time::{Instant, sleep};

use self::clients::Acknowledged;
use self::members::Member;
use self::mirror::Mirror;
use crate::random::Random;

/// Earlier blobs that are compared again after each restart.
const SAMPLE: usize = 32;

/// Blobs that are compared at a time.
const AT_A_TIME: usize = 4;

/// Entries that are asked for at once.
const PAGE: u64 = 1_000;

/// How long a member that serves may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one check compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    /// Blobs.
    pub blobs: u64,
    /// Bytes of rows, over all replicas.
    pub row_bytes: u64,
}

/// What is known of one network from what clients were given and members answered.
pub struct Oracle {
    committee: Arc<Committee>,
    channels: Channels,
    random: Random,
    /// The logs, by gateway.
    pub logs: BTreeMap<Address, Mirror>,
    /// The latest checkpoint of each log (second) that each member (first) has shown.
    shown: BTreeMap<(Address, Address), Checkpoint>,
    /// Size and timestamp up to which each replica (first) is known to have cosigned each log (second).
    cosigned: BTreeMap<(Address, Address), (u64, u64)>,
    /// Certificates that were taken in.
    taken: usize,
    /// How many of the blobs, in the order in which they were certified, were compared at each replica.
    compared: BTreeMap<Address, usize>,
}

impl Oracle {
    /// Knows nothing yet. The seed decides which of the earlier blobs are compared again.
    #[must_use]
    pub fn new(committee: Arc<Committee>, channels: Channels, seed: u64) -> Self {
        let logs = committee.gateways().iter().map(|gateway| (gateway.address, Mirror::default()));
        Self {
            logs: logs.collect(),
            committee,
            channels,
            random: Random::new(seed),
            shown: BTreeMap::new(),
            cosigned: BTreeMap::new(),
            taken: 0,
            compared: BTreeMap::new(),
        }
    }

    /// Checks everything but rows, then at each replica the rows of all blobs that were certified since it was last up
    /// for a check, and at all of them those of some earlier blobs.
    ///
    /// # Errors
    /// What contradicts something else, or is lost.
    pub async fn check(&mut self, up: &[Member], acknowledged: &[Arc<Acknowledged>]) -> Result<Compared> {
        self.check_logs(up, acknowledged).await?;
        let replicas: Vec<&Member> = up.iter().filter(|member| !member.is_gateway).collect();
        let compared = |replica: &Member| self.compared.get(&replica.address).copied().unwrap_or_default();
        let old = replicas.iter().map(|replica| compared(replica)).min().unwrap_or_default();
        let mut chosen = Vec::new();
        for (place, blob) in acknowledged.iter().enumerate().skip(old) {
            let at = replicas.iter().copied().filter(|replica| compared(replica) <= place);
            chosen.push((blob, at.collect()));
        }
        for _ in 0..SAMPLE.min(old) {
            chosen.push((&acknowledged[self.random.place(old)], replicas.clone()));
        }
        let now = replicas.iter().map(|replica| (replica.address, acknowledged.len()));
        self.compared.extend(now);
        self.check_blobs(&chosen).await
    }

    /// Checks everything; nothing may be left that no log explains.
    ///
    /// # Errors
    /// What contradicts something else, or is lost.
    pub async fn check_all(&mut self, up: &[Member], acknowledged: &[Arc<Acknowledged>]) -> Result<Compared> {
        self.taken = 0;
        self.check_logs(up, acknowledged).await?;
        for mirror in self.logs.values() {
            ensure!(mirror.unlinked().is_empty(), "nobody has the entries under {:?}", mirror.unlinked());
        }
        for blob in acknowledged {
            let found = self.mirror(&blob.gateway())?.entry(blob.certificate.index);
            ensure!(found == Some(&blob.certificate.entry), "not in the log: {:?}", blob.certificate);
        }
        let replicas: Vec<&Member> = up.iter().filter(|member| !member.is_gateway).collect();
        let all: Vec<_> = acknowledged.iter().map(|blob| (blob, replicas.clone())).collect();
        self.check_blobs(&all).await
    }

    /// Takes in new certificates and what the members that are up show of the logs.
    async fn check_logs(&mut self, up: &[Member], acknowledged: &[Arc<Acknowledged>]) -> Result<()> {
        for blob in &acknowledged[self.taken..] {
            self.take(&blob.certificate.checkpoint).context("a certificate's checkpoint")?;
        }
        for member in up {
            self.listen(member).await.with_context(|| format!("the logs of {}", member.name))?;
        }
        // A certificate of another entry at an index that is known contradicts the log that all others are under.
        for blob in acknowledged {
            let certificate = &blob.certificate;
            let known = self.mirror(&blob.gateway())?.entry(certificate.index);
            let same = known.is_none_or(|entry| *entry == certificate.entry);
            ensure!(same, "the log has {known:?} at the index of {certificate:?}");
        }
        for blob in &acknowledged[self.taken..] {
            blob.certificate.verify(&self.committee).context("a certificate does not verify")?;
        }
        self.taken = acknowledged.len();
        Ok(())
    }

    /// Checks a checkpoint's signatures and remembers who signed it.
    fn take(&mut self, cosigned: &CosignedCheckpoint) -> Result<Vec<Address>> {
        let (domain, checkpoint) = (self.committee.domain(), cosigned.signed.checkpoint);
        cosigned.signed.verify(&domain)?;
        let signers = cosigned.signers(&domain)?;
        for signer in &signers {
            ensure!(self.committee.seat(signer).is_some(), "{signer} cosigned {checkpoint:?} without a seat");
            let known = self.cosigned.entry((*signer, checkpoint.gateway)).or_default();
            *known = (known.0.max(checkpoint.size), known.1.max(checkpoint.timestamp));
        }
        let mirror = self.logs.get_mut(&checkpoint.gateway).context("a log of a stranger")?;
        mirror.see(checkpoint)?;
        Ok(signers)
    }

    /// Asks a member for its logs.
    async fn listen(&mut self, member: &Member) -> Result<()> {
        let log = self.channels.log(&member.endpoint)?;
        let listed = answered(async || log.list().await).await?;
        for cosigned in &listed {
            let gateway = cosigned.signed.checkpoint.gateway;
            let known = self.cosigned.get(&(member.address, gateway)).copied().unwrap_or_default();
            self.take_shown(member, known, cosigned)?;
            // Asked for alone it is the same or, meanwhile, a later one.
            let latest = answered(async || log.checkpoint(gateway).await).await?;
            let latest = latest.context("it does not have a log that it listed")?;
            let listed = cosigned.signed.checkpoint;
            self.take_shown(member, known.max((listed.size, listed.timestamp)), &latest)?;
            let checkpoint = latest.signed.checkpoint;
            if let Some(before) = self.shown.insert((member.address, gateway), checkpoint)
                && before.size <= checkpoint.size
            {
                let (old, new) = (before.size, checkpoint.size);
                let proof = answered(async || log.consistency(gateway, old, new).await).await?;
                verify_consistency(old, &before.root, new, &checkpoint.root, &proof)
                    .with_context(|| format!("from {before:?} to {checkpoint:?}"))?;
            }
            self.follow(&log, &checkpoint).await?;
        }
        // Who cosigned a log cannot have forgotten it.
        for ((signer, gateway), known) in &self.cosigned {
            let shows = |cosigned: &CosignedCheckpoint| cosigned.signed.checkpoint.gateway == *gateway;
            let forgot = *signer == member.address && !listed.iter().any(shows);
            ensure!(!forgot, "no log of {gateway}, which it cosigned up to {known:?}");
        }
        Ok(())
    }

    /// Takes a checkpoint that a member shows: a replica shows the last that it cosigned itself, and never goes back
    /// behind what it is known to have cosigned.
    fn take_shown(
        &mut self,
        member: &Member,
        known: (u64, u64),
        cosigned: &CosignedCheckpoint,
    ) -> Result<()> {
        let signers = self.take(cosigned)?;
        let Checkpoint { size, timestamp, .. } = cosigned.signed.checkpoint;
        if !member.is_gateway {
            ensure!(signers.contains(&member.address), "it has not cosigned {cosigned:?}");
            let back = size < known.0 || timestamp < known.1;
            ensure!(!back, "{cosigned:?} after size {} and timestamp {}", known.0, known.1);
        }
        Ok(())
    }

    /// Brings our copy of a log up to a checkpoint.
    async fn follow(&mut self, log: &LogRpc, checkpoint: &Checkpoint) -> Result<()> {
        let gateway = checkpoint.gateway;
        let mirror = self.logs.get_mut(&gateway).context("a log of a stranger")?;
        while mirror.size() < checkpoint.size {
            let (start, count) = (mirror.size(), PAGE.min(checkpoint.size - mirror.size()));
            let items = answered(async || log.entries(gateway, start, count).await).await?;
            let entries: Vec<LogEntry> = items.iter().filter_map(entry).collect();
            let complete = !items.is_empty() && entries.len() == items.len();
            ensure!(complete, "{} entries came for {count} from {start} on", entries.len());
            mirror.extend(&entries)?;
        }
        Ok(())
    }

    /// Compares blobs, each with what the replicas beside it hold.
    async fn check_blobs(&self, chosen: &[(&Arc<Acknowledged>, Vec<&Member>)]) -> Result<Compared> {
        let checks = stream::iter(chosen).map(|(blob, replicas)| async move {
            let (id, index) = (blob.certificate.id(), blob.certificate.index);
            let checked = self.check_blob(replicas, blob).await;
            checked.with_context(|| format!("blob {id} of entry {index}"))
        });
        let row_bytes: Vec<u64> = checks.buffer_unordered(AT_A_TIME).try_collect().await?;
        Ok(Compared { blobs: chosen.len().try_into()?, row_bytes: row_bytes.iter().sum() })
    }

    /// Compares one blob with what each replica holds of it; gives the bytes of rows that were compared.
    async fn check_blob(&self, replicas: &[&Member], blob: &Acknowledged) -> Result<u64> {
        let draft = blob.draft;
        let encoded = tokio::task::spawn_blocking(move || encode::<Blake3>(&draft.payload(), B256::ZERO));
        let encoded = encoded.await??;
        ensure!(encoded.id() == blob.certificate.id(), "it has the id {}", encoded.id());
        let mut parts = Vec::new();
        for member in replicas {
            let held = self.held(member, blob, &encoded).await;
            let held = held.with_context(|| format!("at {}", member.name))?;
            parts.extend(held.into_iter().map(|held| (member.name.clone(), held)));
        }
        let compare = move || {
            let context = BlobContext::<Blake3>::new(encoded.id(), *encoded.header(), encoded.rlc().clone())?;
            let mut bytes = 0;
            for (name, (range, rows, proof)) in parts {
                let checked = context.check_range(range, rows, &proof);
                let checked = checked.with_context(|| format!("{range:?} at {name}"))?;
                ensure!(*checked.rows() == encoded.rows(range), "other bytes in {range:?} at {name}");
                bytes += u64::try_from(checked.rows().len())?;
            }
            Ok(bytes)
        };
        tokio::task::spawn_blocking(compare).await?
    }

    /// The rows of a replica's interval as it has them on disk, none where it owes none; checks its log on the way.
    async fn held(
        &self,
        member: &Member,
        blob: &Acknowledged,
        encoded: &EncodedBlob,
    ) -> Result<Vec<(RowRange, Bytes, RangeProof)>> {
        let (gateway, index) = (blob.gateway(), blob.certificate.index);
        let under = blob.certificate.checkpoint.signed.checkpoint;
        // What it last cosigned covers the blob too, also where its signature is not in the certificate.
        let shown = self.shown.get(&(member.address, gateway)).filter(|shown| shown.size > index);
        let signed = blob.signers.contains(&member.address).then_some(&under);
        let log = self.channels.log(&member.endpoint)?;
        for checkpoint in signed.into_iter().chain(shown) {
            let proof = answered(async || log.inclusion(gateway, index, checkpoint.size).await).await?;
            ensure!(proof.item == LogItem::Entry(blob.certificate.entry), "its log has {:?}", proof.item);
            let leaf = blob.certificate.entry.leaf();
            verify_inclusion(leaf, index, checkpoint.size, &proof.path, &checkpoint.root)?;
        }
        let mut held = Vec::new();
        if signed.is_some() || shown.is_some() {
            let seat = self.committee.seat(&member.address).context("a replica without a seat")?;
            let shape = encoded.shape();
            let interval = placement::interval(&self.committee, seat, &encoded.id(), shape);
            let replica = self.channels.replica(&member.endpoint)?;
            for range in interval.ranges() {
                let rows = async || replica.rows(encoded.id(), *range, shape.row_bytes(), true).await;
                let (rows, proof) = answered(rows).await.with_context(|| format!("{range:?}"))?;
                held.push((*range, rows, proof));
            }
            ensure!(!held.is_empty(), "a seat without rows");
        }
        Ok(held)
    }

    fn mirror(&self, gateway: &Address) -> Result<&Mirror> {
        self.logs.get(gateway).context("a log of a stranger")
    }
}

fn entry(item: &LogItem) -> Option<LogEntry> {
    match item {
        LogItem::Entry(entry) => Some(*entry),
        LogItem::Leaf(_) => None,
    }
}

/// Asks until there is an answer: the connection to a member that was killed has to be opened again.
async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, ApiError>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(error) if is_silence(error.reason) && Instant::now() < deadline => {
                sleep(Duration::from_millis(50)).await;
            }
            answer => return Ok(answer?),
        }
    }
}

fn is_silence(reason: Reason) -> bool {
    matches!(reason, Reason::Unreachable | Reason::Timeout | Reason::TooManyRequests | Reason::MemoryBudget)
}
