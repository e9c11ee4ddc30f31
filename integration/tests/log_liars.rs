//! Replicas that lie about logs: no call takes what is not signed, counted or proved, and who gave it is named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_client::fetch::{Fault, FaultKind};
use meridian_integration::keys;
use meridian_integration::liars::ReplicaLie;
use meridian_integration::liars::denier::Denier;
use meridian_integration::liars::flood::Flood;
use meridian_integration::liars::silent::Silent;
use meridian_integration::liars::turncoat::Turncoat;
use meridian_integration::liars::wrong_checkpoints::WrongCheckpoints;
use meridian_integration::liars::wrong_entries::WrongEntries;
use meridian_integration::liars::wrong_lengths::WrongLengths;
use meridian_integration::liars::wrong_log_proofs::WrongLogProofs;
use meridian_integration::liars::wrong_proofs::WrongProofs;
use meridian_integration::network::{Name, Network, Plan, complete};
use meridian_integration::payload;
use meridian_integration::programs::Programs;
use meridian_proofs::Address;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::log::{CompactRange, verify_consistency, verify_inclusion};

/// Longest time that a call may take with one liar in the network.
const SOON: Duration = Duration::from_secs(30);
/// Entries of the log.
const ENTRIES: u64 = 5;

/// A log that all replicas have, one of whom lies about it, and no gateway any more.
struct Log {
    network: Network,
    /// Of each entry, under the last checkpoint.
    certificates: Vec<Certificate>,
    gateway: Address,
    /// The place of the replica that lies.
    liar: usize,
}

impl Log {
    async fn beside(lie: impl ReplicaLie) -> Result<Self> {
        // Proofs are asked for in the order of the seats: the first one lies.
        let addresses = (0..usize::from(Plan::default().regions))
            .map(|place| Ok((keys::secret(&Name::Replica(place).key_word())?.address(), place)))
            .collect::<Result<Vec<_>>>()?;
        let (address, liar) = addresses.into_iter().min().context("a replica")?;
        let lie = Arc::new(Turncoat::new(lie));
        let lies = BTreeMap::from([(liar, Arc::clone(&lie) as Arc<dyn ReplicaLie>)]);
        let plan = Plan { replica_lies: lies, ..Plan::default() };
        let mut network = Network::start(plan).await?;
        ensure!(network.committee().seats()[0].address == address, "the seats have another order");
        let mut certificates = Vec::new();
        for seed in 0..ENTRIES {
            let certificate = network.put(payload::noise(2_000, seed)).await?;
            let (committee, channels) = (network.committee(), network.channels());
            certificates.push(complete(committee, channels, &certificate, SOON).await?.0);
        }
        let gateway = network.address(Name::Gateway(0))?;
        network.kill(Name::Gateway(0)).await?;
        lie.turn(true);
        Ok(Self { network, certificates, gateway, liar })
    }

    /// A certificate is put together from what replicas have, whatever one of them says.
    async fn certified(&self) -> Result<Vec<Fault>> {
        let (first, liar) = (&self.certificates[0], self.network.address(Name::Replica(self.liar))?);
        let reader = self.network.reader();
        let fetched = tokio::time::timeout(SOON, reader.certificate(&[], first.id(), None, None)).await??;
        fetched.certificate.verify(self.network.committee())?;
        ensure!((fetched.certificate.entry, fetched.certificate.index) == (first.entry, first.index));
        for fault in &fetched.faults {
            ensure!(fault.seat == liar, "{fault:?} is put down to an honest replica");
        }
        Ok(fetched.faults)
    }

    /// The exit code of `da log verify` of one replica, and what it said.
    fn verified(&self, place: usize) -> Result<(i32, String)> {
        let mut command = Programs::build()?.da();
        let config = tempfile::tempdir()?;
        command.env("XDG_CONFIG_HOME", config.path()).env("XDG_CACHE_HOME", config.path());
        command.env("MERIDIAN_COMMITTEE", self.network.committee_file());
        command.args(["log", "verify", "--from", self.network.endpoint(Name::Replica(place))?]);
        let output = command.output()?;
        let code = output.status.code().context("it was killed")?;
        let said = if code == 0 { output.stdout } else { output.stderr };
        Ok((code, String::from_utf8(said)?))
    }

    /// What one replica says of a log, each call judged as any reader has to: whether it holds.
    async fn judged(&self, place: usize) -> Result<[(&'static str, bool); 5]> {
        let (network, gateway) = (&self.network, self.gateway);
        let domain = network.committee().domain();
        let right = self.certificates.last().context("entries")?.checkpoint.signed.checkpoint;
        let calls = network.channels().log(network.endpoint(Name::Replica(place))?)?;
        let calls = calls.within(Duration::from_secs(2));
        let root_of = |size: u64| {
            let mut range = CompactRange::empty();
            for certificate in self.certificates.iter().take(usize::try_from(size).unwrap_or(usize::MAX)) {
                range.append(certificate.entry.leaf());
            }
            range.root()
        };
        // Signed by its gateway, and by a seat and nobody else.
        let holds = |log: &CosignedCheckpoint| {
            let signers = log.signers(&domain).unwrap_or_default();
            let are_seats = signers.iter().all(|signer| network.committee().seat(signer).is_some());
            let checkpoint = &log.signed.checkpoint;
            log.signed.verify(&domain).is_ok()
                && are_seats
                && !signers.is_empty()
                && (checkpoint.size, checkpoint.root) == (right.size, right.root)
        };
        let listed = calls.list().await.is_ok_and(|logs| logs.iter().any(holds));
        let known = calls.checkpoint(gateway).await.is_ok_and(|log| log.as_ref().is_some_and(holds));
        let entries = match calls.entries(gateway, 0, ENTRIES).await {
            Ok(items) => {
                let mut range = CompactRange::empty();
                items.iter().for_each(|item| drop(range.append(item.leaf())));
                range.root() == right.root
            }
            Err(_) => false,
        };
        let included = match calls.inclusion(gateway, 2, ENTRIES).await {
            Ok(proof) => {
                let root = &right.root;
                verify_inclusion(proof.item.leaf(), 2, ENTRIES, &proof.path, root).is_ok()
            }
            Err(_) => false,
        };
        let consistent = match calls.consistency(gateway, 3, ENTRIES).await {
            Ok(proof) => {
                let (old, new) = (root_of(3), right.root);
                verify_consistency(3, &old, ENTRIES, &new, &proof).is_ok()
            }
            Err(_) => false,
        };
        Ok([
            ("list", listed),
            ("checkpoint", known),
            ("entries", entries),
            ("inclusion", included),
            ("consistency", consistent),
        ])
    }
}

/// Each lie, in which calls it is one, whether a certificate's reader names it, and how `da log verify` ends.
macro_rules! lies {
    ($($name:ident: $lie:expr, in [$($call:literal),*], $named:expr, [$($code:literal),+];)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            let log = Log::beside($lie).await?;
            let lied: [&str; { [$($call),*].len() }] = [$($call),*];
            for (call, holds) in log.judged(log.liar).await? {
                ensure!(holds != lied.contains(&call), "{call} {}", if holds { "is taken" } else { "is refused" });
            }
            for (call, holds) in log.judged((log.liar + 1) % 5).await? {
                ensure!(holds, "an honest replica's answer to {call} is refused");
            }
            let faults = log.certified().await?;
            let kinds: Vec<FaultKind> = faults.iter().map(|fault| fault.kind).collect();
            let named: Option<FaultKind> = $named;
            ensure!(named.is_none_or(|named| kinds.contains(&named)), "{faults:?}");
            ensure!(named.is_some() || kinds.is_empty(), "{faults:?}");
            let (code, said) = log.verified(log.liar)?;
            ensure!([$($code),+].contains(&code), "exit code {code}: {said}");
            let (code, said) = log.verified((log.liar + 1) % 5)?;
            ensure!(code == 0 && said.contains(&format!("from {ENTRIES} entries")), "{code}: {said}");
            Ok(())
        }
    )*};
}

lies! {
    another_root: WrongCheckpoints::Root, in ["list", "checkpoint"], Some(FaultKind::Wrong), [5];
    a_longer_log: WrongCheckpoints::Longer, in ["list", "checkpoint"], Some(FaultKind::Wrong), [5];
    another_gateways_log: WrongCheckpoints::OtherGateway, in ["list", "checkpoint"], Some(FaultKind::Wrong), [5];
    another_signature: WrongCheckpoints::Signature, in ["list", "checkpoint"], Some(FaultKind::Wrong), [5];
    // What the flipped bit makes of it is a stranger's signature, or none.
    cosignatures_of_nobody: WrongCheckpoints::Cosignatures, in ["list", "checkpoint"], Some(FaultKind::Wrong), [0, 5];
    entries_that_are_not_there: WrongEntries::Changed, in ["entries", "inclusion"], Some(FaultKind::Wrong), [5];
    entries_in_another_order: WrongEntries::Reversed, in ["entries", "inclusion"], Some(FaultKind::Wrong), [5];
    no_entries: WrongEntries::None, in ["entries", "inclusion"], Some(FaultKind::Wrong), [5];
    one_entry_more: WrongEntries::OneMore, in ["entries", "inclusion"], Some(FaultKind::Wrong), [5];
    other_hashes: WrongLogProofs(WrongProofs::Flipped), in ["inclusion", "consistency"], Some(FaultKind::Wrong), [0];
    a_hash_too_few: WrongLogProofs(WrongProofs::Short), in ["inclusion", "consistency"], Some(FaultKind::Wrong), [0];
    a_hash_too_many: WrongLogProofs(WrongProofs::Long), in ["inclusion", "consistency"], Some(FaultKind::Wrong), [0];
    hashes_in_another_order: WrongLogProofs(WrongProofs::Reversed), in ["inclusion", "consistency"],
        Some(FaultKind::Wrong), [0];
    one_thing_more: Flood::OneMore, in ["list", "checkpoint", "entries", "inclusion", "consistency"],
        Some(FaultKind::Wrong), [5];
    far_too_many_things: Flood::Endless, in ["list", "checkpoint", "entries", "inclusion", "consistency"],
        Some(FaultKind::Wrong), [5];
    longer_fields: WrongLengths::Long, in ["list", "checkpoint", "entries", "inclusion", "consistency"],
        Some(FaultKind::Wrong), [5];
    shorter_fields: WrongLengths::Short, in ["list", "checkpoint", "entries", "inclusion", "consistency"],
        Some(FaultKind::Wrong), [5];
    absent_fields: WrongLengths::Absent, in ["list", "checkpoint", "entries", "inclusion", "consistency"],
        Some(FaultKind::Wrong), [5];
    silence: Silent::Logs, in ["list", "checkpoint", "entries", "inclusion", "consistency"],
        Some(FaultKind::Silent), [4];
    no_such_log: Denier::Unknown, in ["list", "checkpoint", "entries", "inclusion", "consistency"],
        Some(FaultKind::Missing), [3];
    nonsense: Denier::Nonsense, in ["list", "checkpoint", "entries", "inclusion", "consistency"],
        Some(FaultKind::Silent), [4];
}
