//! `da-node chain committee`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use alloy::sol_types::SolCall;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use meridian_client::chain::contract::Contract;
use meridian_client::chain::sender::{Receipt, Request};
use meridian_client::chain::view::View;
use meridian_proofs::Address;
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::committee::{Committee, CommitteeParts};
use meridian_proto::contract::{Meridian, committee};
use serde_json::{Value, json};

use super::{OnChain, Payer, confirm, read, show};
use crate::committee_cmd;

/// What can be done with the committee.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show an epoch and its committee.
    Show(Show),
    /// Write the committee of the latest epoch into a file, numbered as the next one, to be changed and scheduled.
    Draft(Draft),
    /// Schedule the committee of a file as the next epoch.
    Schedule(Schedule),
    /// Pass a seat to another signer in the next epoch.
    PassSeat(PassSeat),
    /// Cancel the latest epoch, while more than the contract's grace is left until it begins.
    Cancel(Cancel),
}

/// Which epoch is shown.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    chain: OnChain,
    /// Number of the epoch [default: all that are not closed].
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Where the next committee begins.
#[derive(Debug, Args)]
pub struct Draft {
    #[command(flatten)]
    chain: OnChain,
    /// File that is made; an existing one is left alone.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A change of the committee.
#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    chain: OnChain,
    #[command(flatten)]
    payer: Payer,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which committee is scheduled.
#[derive(Debug, Args)]
pub struct Schedule {
    #[command(flatten)]
    change: Change,
    /// Committee file. Where its chain id or contract is zero, those of the chain are taken.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Unix seconds from which the epoch is current, 0 for as soon as the contract allows.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    activation: u64,
}

/// Which seat passes.
#[derive(Debug, Args)]
pub struct PassSeat {
    #[command(flatten)]
    change: Change,
    /// Address of the replica that holds the seat.
    #[arg(long, value_name = "ADDRESS")]
    from: Address,
    /// Address of the replica that takes it.
    #[arg(long, value_name = "ADDRESS")]
    to: Address,
    /// Where that replica answers gRPC: http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// Unix seconds from which the epoch is current, 0 for as soon as the contract allows.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    activation: u64,
}

/// Which epoch is cancelled.
#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    change: Change,
    /// Number of the epoch [default: the latest].
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
}

impl Command {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Show(show) => show.run().await,
            Self::Draft(draft) => draft.run().await,
            Self::Schedule(schedule) => schedule.run().await,
            Self::PassSeat(pass) => pass.run().await,
            Self::Cancel(cancel) => cancel.run().await,
        }
    }
}

impl Show {
    async fn run(self) -> Result<()> {
        let contract = self.chain.contract().await?;
        let view = read(&contract).await?.context(
            "the contract has no committee yet: da-node chain committee schedule makes the first epoch",
        )?;
        let shown: Vec<_> = match self.epoch {
            Some(epoch) => {
                let latest = view.epochs.latest().committee.epoch();
                let term = view.epochs.term(epoch);
                vec![term.with_context(|| format!("there is no epoch {epoch}: the latest is {latest}"))?]
            }
            None => {
                let now = show::now(&view);
                let is_over = |closes: Option<u64>| closes.is_some_and(|closes| closes <= now);
                view.epochs.terms().iter().filter(|term| !is_over(term.closes)).collect()
            }
        };
        if self.json {
            let terms = shown.into_iter().map(show::term_json).collect::<Result<Vec<_>>>()?;
            println!("{:#}", Value::Array(terms));
        } else {
            let texts: Vec<_> = shown.into_iter().map(|term| show::describe(&view, term)).collect();
            print!("{}", texts.join("\n"));
        }
        Ok(())
    }
}

impl Change {
    /// The latest committee on the chain and the domain of the next.
    async fn look(&self) -> Result<(Contract, Option<View>)> {
        let contract = self.chain.contract().await?;
        let view = read(&contract).await?;
        Ok((contract, view))
    }

    /// Sends a call to the contract after it was shown and asked for.
    async fn send(&self, contract: &Contract, call: &impl SolCall, what: &str) -> Result<Receipt> {
        let mut sender = self.payer.sender(contract.pool().clone())?;
        let owner = contract.owner().await?;
        ensure!(
            owner == sender.address(),
            "only the contract's owner {owner} may do this, and the key is that of {}",
            sender.address()
        );
        confirm(self.yes, what)?;
        let request = Request { to: Some(contract.address()), data: call.abi_encode().into() };
        self.payer.send(&mut sender, &request).await
    }

    /// Says what has become of an epoch that was scheduled.
    async fn report(&self, contract: &Contract, committee: &Committee, receipt: &Receipt) -> Result<()> {
        let epoch = committee.epoch();
        let record = contract.epoch_of(epoch).await?.context("the epoch is not there: was there a reorg?")?;
        if self.json {
            println!(
                "{:#}",
                json!({
                    "epoch": epoch,
                    "activation": record.activation,
                    "fingerprint": committee.fingerprint(),
                    "transaction": receipt.hash,
                    "block": receipt.block,
                    "gas_used": receipt.gas_used,
                    "fee_wei": receipt.fee().to_string(),
                })
            );
        } else {
            println!("epoch {epoch} begins at {}", record.activation);
            println!("fingerprint {}", committee.fingerprint());
            println!("transaction {} block {} gas {}", receipt.hash, receipt.block, receipt.gas_used);
        }
        Ok(())
    }
}

impl Draft {
    async fn run(self) -> Result<()> {
        let contract = self.chain.contract().await?;
        let view = read(&contract)
            .await?
            .context("the contract has no committee yet: da-node committee new begins the first")?;
        let next = after(&view.epochs.latest().committee);
        committee_cmd::create(&self.out, &next)?;
        println!("{}: the committee of epoch {} as epoch {}", self.out.display(), next.epoch - 1, next.epoch);
        Ok(())
    }
}

/// A committee as the draft of the epoch after it.
fn after(committee: &Committee) -> committee_cmd::Draft {
    let parts = committee.parts().clone();
    committee_cmd::Draft {
        chain_id: parts.chain_id,
        verifying_contract: parts.verifying_contract,
        epoch: parts.epoch.saturating_add(1),
        min_copies: parts.min_copies,
        min_retention: parts.min_retention,
        max_retention: parts.max_retention,
        regions: parts.regions,
        seats: parts.seats,
        gateways: parts.gateways,
        ..committee_cmd::Draft::default()
    }
}

impl Schedule {
    async fn run(self) -> Result<()> {
        let file = committee_cmd::load(&self.file)?;
        let (contract, view) = self.change.look().await?;
        let latest = view.as_ref().map(|view| &*view.epochs.latest().committee);
        let next = fill_in(file.parts().clone(), contract.domain(), latest)
            .with_context(|| format!("{} cannot be scheduled", self.file.display()))?;
        let call = committee::schedule(&next, self.activation)?;
        eprint!("{}", difference(latest, &next));
        let receipt =
            self.change.send(&contract, &call, &format!("schedule epoch {}?", next.epoch())).await?;
        self.change.report(&contract, &next, &receipt).await
    }
}

/// The committee of a file as the next epoch of a contract.
fn fill_in(mut parts: CommitteeParts, domain: Domain, latest: Option<&Committee>) -> Result<Committee> {
    let Domain { chain_id, verifying_contract } = domain;
    ensure!(
        [0, chain_id].contains(&parts.chain_id),
        "it is for chain {}, and the endpoints are of chain {chain_id}: set chain_id = 0 to take that",
        parts.chain_id
    );
    ensure!(
        [Address::ZERO, verifying_contract].contains(&parts.verifying_contract),
        "it is for the contract {}, not for {verifying_contract}: leave the address zero to take that",
        parts.verifying_contract
    );
    (parts.chain_id, parts.verifying_contract) = (chain_id, verifying_contract);
    let next = latest.map_or(0, Committee::epoch) + 1;
    ensure!(parts.epoch == next, "it has epoch {}, and the next is {next}: set epoch = {next}", parts.epoch);
    let committee = Committee::new(parts)?;
    committee.check_chain_limits()?;
    Ok(committee)
}

/// What one committee changes of another, in lines for people.
fn difference(before: Option<&Committee>, after: &Committee) -> String {
    let mut out = String::new();
    let old = before.map(facts).unwrap_or_default();
    let new = facts(after);
    match before {
        None => out.push_str("the first committee:\n"),
        Some(before) => {
            let _ = writeln!(out, "changes from epoch {} to {}:", before.epoch(), after.epoch());
        }
    }
    for (name, value) in &old {
        match new.get(name) {
            None => _ = writeln!(out, "- {name}: {value}"),
            Some(now) if now != value => _ = writeln!(out, "~ {name}: {value} -> {now}"),
            Some(_) => {}
        }
    }
    for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        let _ = writeln!(out, "+ {name}: {value}");
    }
    if old == new {
        out.push_str("nothing but the number\n");
    }
    out
}

/// A committee as names and values that can be compared.
fn facts(committee: &Committee) -> BTreeMap<String, String> {
    let parts = committee.parts();
    let mut facts = BTreeMap::from([
        ("min_copies".to_owned(), parts.min_copies.to_string()),
        ("retention".to_owned(), format!("{} to {} s", parts.min_retention, parts.max_retention)),
    ]);
    for region in &parts.regions {
        let value = format!("{} ({}, {})", region.label, region.latitude, region.longitude);
        facts.insert(format!("region {}", region.id), value);
    }
    for seat in &parts.seats {
        let name = format!("seat {} of region {}", seat.number, seat.region);
        facts.insert(name, format!("{} {}", seat.address, seat.endpoint));
    }
    for gateway in &parts.gateways {
        let quotas = format!("{} bytes, {} entries an hour", gateway.max_bytes, gateway.max_entries_per_hour);
        facts.insert(format!("gateway {}", gateway.address), format!("{}, {quotas}", gateway.endpoint));
    }
    facts
}

impl PassSeat {
    async fn run(self) -> Result<()> {
        let (contract, view) = self.change.look().await?;
        let view = view.context("the contract has no committee yet: schedule one first")?;
        let before = &*view.epochs.latest().committee;
        let after = pass(before, self.from, self.to, &self.endpoint)?;
        let call = Meridian::passSeatCall {
            epoch: after.epoch(),
            members: before.members()?.into(),
            from: self.from,
            to: self.to,
            endpoint: self.endpoint.clone(),
            activation: self.activation,
        };
        eprint!("{}", difference(Some(before), &after));
        let receipt =
            self.change.send(&contract, &call, &format!("schedule epoch {}?", after.epoch())).await?;
        self.change.report(&contract, &after, &receipt).await
    }
}

/// The committee after a seat has passed.
fn pass(before: &Committee, from: Address, to: Address, endpoint: &str) -> Result<Committee> {
    let mut parts = before.parts().clone();
    parts.epoch += 1;
    let Some(seat) = parts.seats.iter_mut().find(|seat| seat.address == from) else {
        bail!("{from} holds no seat in epoch {}", before.epoch());
    };
    seat.address = to;
    seat.endpoint = endpoint.to_owned();
    Committee::new(parts).with_context(|| format!("{to} cannot take the seat"))
}

impl Cancel {
    async fn run(self) -> Result<()> {
        let contract = self.change.chain.contract().await?;
        let latest = contract.latest_epoch().await?;
        let epoch = self.epoch.unwrap_or(latest);
        ensure!(latest != 0, "the contract has no committee yet: there is nothing to cancel");
        ensure!(epoch == latest, "only the latest epoch, {latest}, can be cancelled");
        let call = Meridian::cancelCommitteeCall { epoch };
        let receipt = self.change.send(&contract, &call, &format!("cancel epoch {epoch}?")).await?;
        if self.change.json {
            let json = json!({ "cancelled": epoch, "transaction": receipt.hash, "block": receipt.block });
            println!("{json:#}");
        } else {
            println!("epoch {epoch} is cancelled: transaction {} block {}", receipt.hash, receipt.block);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::committee::{GatewayMember, Region, RegionId, Seat};

    use super::*;

    const DOMAIN: Domain = Domain { chain_id: 7, verifying_contract: Address::repeat_byte(0x11) };

    #[test]
    fn a_draft_is_the_same_committee_an_epoch_later() {
        let committee = Committee::new(parts()).unwrap();
        let next: CommitteeParts = toml::from_str::<Committee>(&toml::to_string(&after(&committee)).unwrap())
            .unwrap()
            .parts()
            .clone();
        assert_eq!(next, CommitteeParts { epoch: 2, ..committee.parts().clone() });
    }

    fn parts() -> CommitteeParts {
        CommitteeParts {
            chain_id: 0,
            verifying_contract: Address::ZERO,
            epoch: 1,
            min_copies: 1,
            min_retention: 60,
            max_retention: 600,
            regions: vec![Region { id: RegionId(1), label: "a".to_owned(), latitude: 1.5, longitude: 2.0 }],
            seats: vec![Seat {
                region: RegionId(1),
                number: 0,
                address: Address::repeat_byte(1),
                endpoint: "http://127.0.0.1:1".to_owned(),
            }],
            gateways: vec![GatewayMember {
                address: Address::repeat_byte(2),
                endpoint: "http://127.0.0.1:2".to_owned(),
                max_bytes: 1,
                max_entries_per_hour: 1,
            }],
        }
    }

    #[test]
    fn a_file_is_filled_in_or_refused() {
        let first = fill_in(parts(), DOMAIN, None).unwrap();
        assert_eq!(first.domain(), DOMAIN);
        let right = CommitteeParts { chain_id: 7, verifying_contract: DOMAIN.verifying_contract, ..parts() };
        assert_eq!(fill_in(right, DOMAIN, None).unwrap(), first);
        let refused = |parts, latest| format!("{:#}", fill_in(parts, DOMAIN, latest).unwrap_err());
        let chain = refused(CommitteeParts { chain_id: 8, ..parts() }, None);
        assert!(chain.contains("chain 8") && chain.contains("chain_id = 0"), "{chain}");
        let other = refused(CommitteeParts { verifying_contract: Address::repeat_byte(9), ..parts() }, None);
        assert!(other.contains("0x0909"), "{other}");
        let epoch = refused(parts(), Some(&first));
        assert!(epoch.contains("set epoch = 2"), "{epoch}");
        let mut many = parts();
        many.seats[0].number = 256;
        let number = refused(many, None);
        assert!(number.contains("seat numbers up to 255"), "{number}");
    }

    #[test]
    fn what_changes_is_shown() {
        let before = fill_in(parts(), DOMAIN, None).unwrap();
        assert!(difference(None, &before).contains("+ seat 0 of region 1: 0x0101"));
        let same = CommitteeParts { epoch: 2, ..before.parts().clone() };
        let same = fill_in(same, DOMAIN, Some(&before)).unwrap();
        assert!(difference(Some(&before), &same).ends_with("nothing but the number\n"));
        let after = pass(&before, Address::repeat_byte(1), Address::repeat_byte(3), "http://127.0.0.1:3");
        let text = difference(Some(&before), &after.unwrap());
        assert!(text.contains("~ seat 0 of region 1: 0x0101") && text.contains("-> 0x0303"), "{text}");
        let mut fewer = before.parts().clone();
        (fewer.epoch, fewer.gateways) = (2, Vec::new());
        let fewer = fill_in(fewer, DOMAIN, Some(&before)).unwrap();
        assert!(difference(Some(&before), &fewer).contains("- gateway 0x0202"));
    }

    #[test]
    fn a_seat_passes_from_its_holder_to_a_stranger() {
        let before = fill_in(parts(), DOMAIN, None).unwrap();
        let address = Address::repeat_byte;
        let pass = |from, to, endpoint| pass(&before, from, to, endpoint);
        assert_eq!(pass(address(1), address(3), "http://127.0.0.1:3").unwrap().epoch(), 2);
        assert!(pass(address(2), address(3), "http://127.0.0.1:3").is_err());
        assert!(pass(address(1), address(2), "http://127.0.0.1:3").is_err());
        assert!(pass(address(1), address(3), "nowhere").is_err());
    }
}
