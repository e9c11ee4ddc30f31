//! `da-node committee`: makes and checks committee files.
//!
//! A file is made step by step, so that what is on disk between two steps may not be a committee yet; `check` says
//! whether it is.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use meridian_proofs::Address;
use meridian_proofs::committee::{Committee, GatewayMember, Region, Seat};
use serde::{Deserialize, Serialize};

/// Shortest retention of a new committee in seconds: an hour.
pub const MIN_RETENTION: u64 = 3_600;
/// Longest retention of a new committee in seconds: 90 days.
pub const MAX_RETENTION: u64 = 90 * 86_400;
/// Quota of a new gateway: bytes of unexpired rows on one replica, 1 TiB.
pub const MAX_BYTES: u64 = 1 << 40;
/// Quota of a new gateway: log entries an hour.
pub const MAX_ENTRIES_PER_HOUR: u64 = 1_000_000;

/// A committee file that may lack members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Version of the format, 1.
    pub format_version: u32,
    /// Chain id of the EIP-712 domain, 0 without a chain.
    pub chain_id: u64,
    /// Contract of the EIP-712 domain, zero without a chain.
    pub verifying_contract: Address,
    /// Number of the epoch.
    pub epoch: u64,
    /// Complete regions that a certificate needs.
    pub min_copies: u16,
    /// Shortest retention in seconds.
    pub min_retention: u64,
    /// Longest retention in seconds.
    pub max_retention: u64,
    /// The regions so far.
    #[serde(default)]
    pub regions: Vec<Region>,
    /// The seats so far.
    #[serde(default)]
    pub seats: Vec<Seat>,
    /// The gateways so far.
    #[serde(default)]
    pub gateways: Vec<GatewayMember>,
}

impl Default for Draft {
    fn default() -> Self {
        Draft {
            format_version: 1,
            chain_id: 0,
            verifying_contract: Address::ZERO,
            epoch: 1,
            min_copies: 0,
            min_retention: MIN_RETENTION,
            max_retention: MAX_RETENTION,
            regions: Vec::new(),
            seats: Vec::new(),
            gateways: Vec::new(),
        }
    }
}

impl Draft {
    /// Adds a region and sets `min_copies`, to the Byzantine quorum over regions when none is given.
    ///
    /// # Errors
    /// When its id or label is there already.
    pub fn add_region(&mut self, region: Region, min_copies: Option<u16>) -> Result<()> {
        let known = self.regions.iter().find(|r| r.id == region.id || r.label == region.label);
        if let Some(r) = known {
            bail!("there is a region {} {} already", r.id, r.label);
        }
        self.regions.push(region);
        let regions = u16::try_from(self.regions.len()).context("too many regions")?;
        self.min_copies = min_copies.unwrap_or(Committee::default_min_copies(regions));
        Ok(())
    }

    /// Adds a seat in the region with this label.
    ///
    /// # Errors
    /// When there is no such region, or the number or the address is taken.
    pub fn add_seat(&mut self, label: &str, number: u16, address: Address, endpoint: String) -> Result<()> {
        let Some(region) = self.regions.iter().find(|r| r.label == label) else {
            let known: Vec<_> = self.regions.iter().map(|r| r.label.as_str()).collect();
            bail!("there is no region {label}; there are: {}", known.join(", "));
        };
        let seat = Seat { region: region.id, number, address, endpoint };
        let taken = self.seats.iter().any(|s| s.region == seat.region && s.number == number);
        ensure!(!taken, "there is a seat {number} in region {label} already");
        self.ensure_new(&address)?;
        self.seats.push(seat);
        Ok(())
    }

    /// Adds a gateway.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn add_gateway(&mut self, gateway: GatewayMember) -> Result<()> {
        self.ensure_new(&gateway.address)?;
        self.gateways.push(gateway);
        Ok(())
    }

    /// Takes a region away with its seats, and sets `min_copies` as [`Draft::add_region`] does.
    ///
    /// # Errors
    /// When there is no such region.
    pub fn remove_region(&mut self, label: &str, min_copies: Option<u16>) -> Result<()> {
        let place = self.regions.iter().position(|r| r.label == label);
        let region = self.regions.remove(place.with_context(|| format!("there is no region {label}"))?);
        self.seats.retain(|seat| seat.region != region.id);
        let regions = u16::try_from(self.regions.len()).context("too many regions")?;
        self.min_copies = min_copies.unwrap_or(Committee::default_min_copies(regions));
        Ok(())
    }

    /// Takes a seat away.
    ///
    /// # Errors
    /// When no seat has this address.
    pub fn remove_seat(&mut self, address: &Address) -> Result<()> {
        let place = self.seats.iter().position(|seat| seat.address == *address);
        self.seats.remove(place.with_context(|| format!("{address} has no seat"))?);
        Ok(())
    }

    /// Takes a gateway away.
    ///
    /// # Errors
    /// When no gateway has this address.
    pub fn remove_gateway(&mut self, address: &Address) -> Result<()> {
        let place = self.gateways.iter().position(|gateway| gateway.address == *address);
        self.gateways.remove(place.with_context(|| format!("{address} is not a gateway"))?);
        Ok(())
    }

    fn ensure_new(&self, address: &Address) -> Result<()> {
        let mut members = self.seats.iter().map(|s| s.address).chain(self.gateways.iter().map(|g| g.address));
        ensure!(!members.any(|member| member == *address), "{address} is a member already");
        Ok(())
    }
}

/// Writes a new draft; an existing file is left alone.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn create(path: &Path, draft: &Draft) -> Result<()> {
    let text = toml::to_string(draft).context("cannot spell the committee")?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Changes a draft on disk.
///
/// # Errors
/// When the file cannot be read or written, or the change is refused; the file is then as it was.
pub fn change(path: &Path, with: impl FnOnce(&mut Draft) -> Result<()>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut draft: Draft =
        toml::from_str(&text).with_context(|| format!("{} is not a committee file", path.display()))?;
    with(&mut draft)?;
    let text = toml::to_string(&draft).context("cannot spell the committee")?;
    // A reader never sees half a file.
    let new = path.with_extension("toml.new");
    fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot replace {}", path.display()))
}

/// Reads a whole committee.
///
/// # Errors
/// When the file cannot be read or is not a committee; says what is wrong or missing.
pub fn load(path: &Path) -> Result<Committee> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read committee file {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a committee", path.display()))
}

/// A committee in some lines for people.
pub fn describe(committee: &Committee) -> String {
    let mut out = format!(
        "epoch {}, {} regions, {} seats, {} gateways, min_copies {}\nfingerprint {}\n",
        committee.epoch(),
        committee.regions().len(),
        committee.seats().len(),
        committee.gateways().len(),
        committee.min_copies(),
        committee.fingerprint(),
    );
    for region in committee.regions() {
        let _ = writeln!(
            out,
            "region {} {} ({}, {})",
            region.id, region.label, region.latitude, region.longitude
        );
        for seat in committee.seats_of(region.id) {
            let _ = writeln!(out, "  seat {} {} {}", seat.number, seat.address, seat.endpoint);
        }
    }
    for gateway in committee.gateways() {
        let _ = writeln!(out, "gateway {} {}", gateway.address, gateway.endpoint);
    }
    out
}

#[cfg(test)]
mod tests {
    use meridian_proofs::committee::RegionId;

    use super::*;

    fn region(id: u16) -> Region {
        Region { id: RegionId(id), label: format!("r{id}"), latitude: 1.5, longitude: -2.0 }
    }

    fn endpoint(port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    fn whole(path: &Path) {
        create(path, &Draft::default()).unwrap();
        for id in 1..=5u16 {
            change(path, |d| d.add_region(region(id), None)).unwrap();
            let address = Address::repeat_byte(u8::try_from(id).unwrap());
            change(path, |d| d.add_seat(&format!("r{id}"), 0, address, endpoint(7700 + id))).unwrap();
        }
        let gateway = GatewayMember {
            address: Address::repeat_byte(9),
            endpoint: endpoint(7700),
            max_bytes: MAX_BYTES,
            max_entries_per_hour: MAX_ENTRIES_PER_HOUR,
        };
        change(path, |d| d.add_gateway(gateway)).unwrap();
    }

    #[test]
    fn a_draft_grows_into_a_committee() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("committee.toml");
        create(&path, &Draft::default()).unwrap();
        assert!(load(&path).is_err());
        fs::remove_file(&path).unwrap();
        whole(&path);
        let committee = load(&path).unwrap();
        assert_eq!((committee.regions().len(), committee.seats().len(), committee.min_copies()), (5, 5, 4));
        let text = describe(&committee);
        assert!(text.contains("region 3 r3 (1.5, -2)") && text.contains("seat 0 0x0303"), "{text}");
    }

    #[test]
    fn a_file_of_the_library_and_a_draft_are_the_same_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("committee.toml");
        whole(&path);
        let spelled = toml::to_string(&load(&path).unwrap()).unwrap();
        let draft: Draft = toml::from_str(&spelled).unwrap();
        assert_eq!(draft.seats.len(), 5);
    }

    #[test]
    fn members_are_added_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("committee.toml");
        whole(&path);
        let before = fs::read(&path).unwrap();
        let taken = Address::repeat_byte(9);
        assert!(create(&path, &Draft::default()).is_err());
        assert!(change(&path, |d| d.add_region(region(2), None)).is_err());
        assert!(change(&path, |d| d.add_seat("r1", 1, taken, endpoint(1))).is_err());
        assert!(change(&path, |d| d.add_seat("r1", 0, Address::repeat_byte(7), endpoint(1))).is_err());
        let message = change(&path, |d| d.add_seat("nowhere", 0, Address::repeat_byte(7), endpoint(1)));
        assert!(message.unwrap_err().to_string().contains("there are: r1, r2"));
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn members_are_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("committee.toml");
        whole(&path);
        let (seat, gateway) = (Address::repeat_byte(2), Address::repeat_byte(9));
        change(&path, |d| d.remove_region("r5", None)).unwrap();
        let committee = load(&path).unwrap();
        assert_eq!((committee.regions().len(), committee.seats().len(), committee.min_copies()), (4, 4, 3));
        change(&path, |d| d.remove_region("r4", Some(2))).unwrap();
        assert_eq!(load(&path).unwrap().min_copies(), 2);
        change(&path, |d| d.remove_seat(&seat)).unwrap();
        change(&path, |d| d.add_seat("r2", 0, Address::repeat_byte(7), endpoint(1))).unwrap();
        assert_eq!(load(&path).unwrap().seat(&seat), None);
        let before = fs::read(&path).unwrap();
        assert!(change(&path, |d| d.remove_region("r5", None)).is_err());
        assert!(change(&path, |d| d.remove_seat(&seat)).is_err());
        assert!(change(&path, |d| d.remove_gateway(&seat)).is_err());
        assert_eq!(fs::read(&path).unwrap(), before);
        change(&path, |d| d.remove_gateway(&gateway)).unwrap();
        assert!(load(&path).unwrap().gateways().is_empty());
    }

    #[test]
    fn min_copies_follows_the_regions_until_one_is_given() {
        let mut draft = Draft::default();
        for (id, chosen, expected) in
            [(1, None, 1), (2, None, 2), (3, None, 3), (4, None, 3), (5, Some(2), 2)]
        {
            draft.add_region(region(id), chosen).unwrap();
            assert_eq!(draft.min_copies, expected);
        }
    }
}
