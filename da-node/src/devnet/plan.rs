//! What a devnet consists of, and the files that it is made from.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use meridian_client::tls::{ClientFiles, Trust, TrustSettings};
use meridian_proofs::Address;
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use serde::{Deserialize, Serialize};

use super::chain::{self, ChainPlan, Kind};
use super::regions::{self, PLACES};
use super::tls;
use super::wan::{self, WanPlan};
use crate::committee_cmd;

/// Most seats of a region.
const MAX_REPLICAS_PER_REGION: u16 = 32;
/// Most gateways.
const MAX_GATEWAYS: u16 = 32;

/// What was asked for; what was not asked for stays as it is, or becomes the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A number of regions, or labels with commas between.
    pub regions: Option<String>,
    /// Replicas in each region.
    pub replicas_per_region: Option<u16>,
    /// Gateways.
    pub gateways: Option<u16>,
    /// Port of the first gateway's gRPC; the other ports follow it.
    pub base_port: Option<u16>,
    /// Complete regions that a certificate needs.
    pub min_copies: Option<u16>,
    /// Its chain; one where anvil is found, when nothing is asked for.
    pub chain: Option<Kind>,
    /// Where anvil is; in `ANVIL` or `PATH`, when nothing is said.
    pub anvil: Option<PathBuf>,
    /// Rules of the chain.
    pub hardfork: Option<String>,
    /// Seconds between the schedule of an epoch and its begin, at least.
    pub notice: Option<u64>,
    /// Seconds that an epoch goes on beside its successor.
    pub grace: Option<u64>,
    /// Whether its regions are as far from each other as they are in the world.
    pub wan: bool,
    /// Where its clients are then.
    pub wan_from: Option<String>,
    /// Megabits a second that a way between two regions carries then, in each direction.
    pub wan_mbps: Option<u32>,
    /// Whether it goes without TLS.
    pub insecure: bool,
}

/// What a devnet consists of. Kept in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Labels of the regions.
    pub regions: Vec<String>,
    /// Replicas in each region.
    pub replicas_per_region: u16,
    /// Gateways.
    pub gateways: u16,
    /// Port of the first gateway's gRPC; the other ports follow it.
    pub base_port: u16,
    /// Complete regions that a certificate needs.
    pub min_copies: u16,
    /// Its chain, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainPlan>,
    /// How far its regions are from each other, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wan: Option<WanPlan>,
    /// Whether its members speak TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
}

/// One process of a devnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `gateway-0`, or the region's label and the seat's number: `na-west-0`.
    pub name: String,
    /// `gateway` or `replica`.
    pub role: &'static str,
    /// Its folder.
    pub dir: PathBuf,
    /// Where it answers gRPC.
    pub grpc: SocketAddr,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// The authority that its certificate comes from, where it speaks TLS.
    pub ca: Option<PathBuf>,
    /// Index of the region that it is in: gateways are in the regions in turn.
    pub(super) region: usize,
    /// The number of its seat; gateways have none.
    seat: Option<u16>,
}

impl Member {
    /// The endpoint in the committee.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://{}", scheme(self.ca.is_some()), self.grpc)
    }

    /// Whom its callers on this machine trust. To a member that asks they are the member itself.
    ///
    /// # Errors
    /// When the files are not there.
    pub fn trust(&self) -> Result<Trust> {
        let client = self.ca.as_ref().and_then(|ca| Some(tls::files(ca.parent()?.parent()?, &self.name)));
        let client = client.map(|(certificate, key)| ClientFiles { certificate, key });
        Ok(Trust::new(TrustSettings { ca: self.ca.clone(), client, ..TrustSettings::default() })?)
    }
    /// Its config file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }
    /// Its key file.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.dir.join("key")
    }
    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
    /// Where its process id stands.
    #[must_use]
    pub fn pid(&self) -> PathBuf {
        self.dir.join("pid")
    }
}

/// How the members' endpoints begin.
pub(super) fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https" } else { "http" }
}

/// The committee file of a devnet.
pub(super) fn committee_path(dir: &Path) -> PathBuf {
    dir.join("committee.toml")
}

fn plan_path(dir: &Path) -> PathBuf {
    dir.join("devnet.toml")
}

fn labels(asked: &str) -> Result<Vec<String>> {
    if let Ok(number) = asked.parse::<usize>() {
        ensure!((1..=PLACES.len()).contains(&number), "--regions takes 1 to {} regions", PLACES.len());
        return Ok(PLACES.iter().take(number).map(|place| place.0.to_owned()).collect());
    }
    let labels: Vec<String> = asked.split(',').map(|label| label.trim().to_owned()).collect();
    for (i, label) in labels.iter().enumerate() {
        if !PLACES.iter().any(|place| place.0 == label) {
            bail!("--regions: unknown region {label:?}; known are: {}", regions::known());
        }
        ensure!(!labels[..i].contains(label), "--regions: {label} is there twice");
    }
    Ok(labels)
}

impl Plan {
    /// The plan for a new devnet.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn new(options: &Options) -> Result<Self> {
        let regions = labels(options.regions.as_deref().unwrap_or("5"))?;
        let count = u16::try_from(regions.len())?;
        let plan = Plan {
            replicas_per_region: options.replicas_per_region.unwrap_or(1),
            gateways: options.gateways.unwrap_or(1),
            base_port: options.base_port.unwrap_or(7700),
            min_copies: options.min_copies.unwrap_or(Committee::default_min_copies(count)),
            chain: None,
            tls: !options.insecure,
            wan: options.wan.then(|| WanPlan::new(options, &regions)).transpose()?,
            regions,
        };
        let within = |name, value, most| {
            ensure!((1..=most).contains(&value), "--{name} must be 1 to {most}, not {value}");
            Ok(())
        };
        within("replicas-per-region", plan.replicas_per_region, MAX_REPLICAS_PER_REGION)?;
        within("gateways", plan.gateways, MAX_GATEWAYS)?;
        within("min-copies", plan.min_copies, count)?;
        let members = u32::from(plan.gateways) + u32::from(count) * u32::from(plan.replicas_per_region);
        let ports = match plan.places().len() {
            0 => 2 * members + u32::from(options.chain == Some(Kind::Anvil)),
            places => (2 + u32::try_from(places)?) * members + 1,
        };
        let last = u32::from(plan.base_port) + ports - 1;
        ensure!(
            plan.base_port > 0 && last <= 65_535,
            "--base-port must leave room for {ports} ports below 65536"
        );
        Ok(plan)
    }

    /// The plan of an existing devnet.
    ///
    /// # Errors
    /// When there is none in the folder.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = plan_path(dir);
        let text =
            fs::read_to_string(&path).with_context(|| format!("there is no devnet in {}", dir.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }

    /// Checks that options ask for nothing else than what is there.
    fn agree(&self, options: &Options, dir: &Path) -> Result<()> {
        let differs = |name: &str, asked: String, is: String| {
            ensure!(
                asked == is,
                "the devnet in {} has --{name} {is}, not {asked}: use another --dir",
                dir.display()
            );
            Ok(())
        };
        if let Some(asked) = &options.regions {
            differs("regions", labels(asked)?.join(","), self.regions.join(","))?;
        }
        if let Some(asked) = options.chain {
            let name = |kind| if kind == Kind::Anvil { "anvil" } else { "none" };
            let is = if self.chain.is_some() { Kind::Anvil } else { Kind::None };
            differs("chain", name(asked).into(), name(is).into())?;
        }
        if options.insecure {
            differs("insecure", "on".into(), if self.tls { "off" } else { "on" }.into())?;
        }
        if options.wan {
            let is = self.wan.as_ref();
            differs("wan", "on".into(), is.map_or("off", |_| "on").into())?;
            if let Some(asked) = &options.wan_from {
                differs("wan-from", asked.clone(), is.map_or_else(String::new, |wan| wan.from.clone()))?;
            }
            if let Some(asked) = options.wan_mbps {
                let is =
                    is.and_then(|wan| wan.mbps).map_or_else(|| "without limit".into(), |n| n.to_string());
                differs("wan-mbps", asked.to_string(), is)?;
            }
        }
        if let Some(chain) = &self.chain {
            if let Some(asked) = &options.hardfork {
                differs("hardfork", asked.clone(), chain.hardfork.clone().unwrap_or_default())?;
            }
            for (name, asked, is) in
                [("notice", options.notice, chain.notice), ("grace", options.grace, chain.grace)]
            {
                if let Some(asked) = asked {
                    differs(name, asked.to_string(), is.to_string())?;
                }
            }
        }
        let numbers = [
            ("replicas-per-region", options.replicas_per_region, self.replicas_per_region),
            ("gateways", options.gateways, self.gateways),
            ("base-port", options.base_port, self.base_port),
            ("min-copies", options.min_copies, self.min_copies),
        ];
        for (name, asked, is) in numbers {
            if let Some(asked) = asked {
                differs(name, asked.to_string(), is.to_string())?;
            }
        }
        Ok(())
    }

    /// Every member: the gateways, then the replicas by region.
    #[must_use]
    pub fn members(&self, dir: &Path) -> Vec<Member> {
        let regions = self.regions.len().max(1);
        let gateways = (0..self.gateways).map(|i| (format!("gateway-{i}"), usize::from(i) % regions, None));
        let seats = self.regions.iter().enumerate().flat_map(|(region, label)| {
            (0..self.replicas_per_region)
                .map(move |number| (format!("{label}-{number}"), region, Some(number)))
        });
        let named: Vec<_> = gateways.chain(seats).collect();
        let count = named.len();
        let mut members = Vec::with_capacity(count);
        for (i, (name, region, seat)) in named.into_iter().enumerate() {
            let role = if seat.is_some() { "replica" } else { "gateway" };
            let ca = self.tls.then(|| tls::ca_path(dir));
            let (dir, grpc, http) = (dir.join(&name), self.at(i), self.at(count + i));
            members.push(Member { name, role, dir, grpc, http, ca, region, seat });
        }
        members
    }

    /// The address of one of the devnet's ports.
    pub(super) fn at(&self, offset: usize) -> SocketAddr {
        let port = u16::try_from(usize::from(self.base_port) + offset).unwrap_or(u16::MAX);
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Makes what is missing in the folder, keys and committee first of all, and keeps what is there.
    ///
    /// # Errors
    /// When the folder holds a devnet that the options contradict, or cannot be written.
    pub fn prepare(dir: &Path, options: &Options) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make folder {}", dir.display()))?;
        if plan_path(dir).exists() {
            let plan = Self::load(dir)?;
            plan.agree(options, dir)?;
            if plan.tls {
                tls::prepare(dir, &plan.members(dir))?;
            }
            return Ok(plan);
        }
        let mut plan = Self::new(options)?;
        let members = plan.members(dir);
        if options.chain == Some(Kind::Anvil) {
            let port = usize::from(plan.base_port) + 2 * members.len();
            plan.chain = Some(ChainPlan::new(dir, u16::try_from(port)?, options)?);
        }
        if plan.tls {
            tls::prepare(dir, &members)?;
        }
        let mut addresses = Vec::with_capacity(members.len());
        for member in &members {
            fs::create_dir_all(&member.dir)
                .with_context(|| format!("cannot make folder {}", member.dir.display()))?;
            // Left by a run that was interrupted before the plan was written.
            addresses.push(chain::key_in(&member.key())?.address());
            write(&member.config(), &plan.config(dir, member))?;
        }
        let committee = plan.committee(&members, &addresses)?;
        if plan.chain.is_some() {
            committee.check_chain_limits().context("the contract does not take these members")?;
        }
        let committee = wan::prepare(dir, &plan, &members, committee)?;
        write(&committee_path(dir), &toml::to_string(&committee).context("cannot spell the committee")?)?;
        // Last: a folder with a plan is whole.
        write(&plan_path(dir), &toml::to_string(&plan).context("cannot spell the plan")?)?;
        Ok(plan)
    }

    fn committee(&self, members: &[Member], addresses: &[Address]) -> Result<Committee> {
        let id = |index: usize| u16::try_from(index + 1).map(RegionId);
        let mut regions = Vec::new();
        for (index, label) in self.regions.iter().enumerate() {
            let place = PLACES.iter().find(|place| place.0 == label).context("unknown region")?;
            regions.push(Region {
                id: id(index)?,
                label: label.clone(),
                latitude: place.1,
                longitude: place.2,
            });
        }
        let (mut seats, mut gateways) = (Vec::new(), Vec::new());
        for (member, &address) in members.iter().zip(addresses) {
            let endpoint = member.endpoint();
            match member.seat {
                Some(number) => {
                    seats.push(Seat { region: id(member.region)?, number, address, endpoint });
                }
                None => gateways.push(GatewayMember {
                    address,
                    endpoint,
                    max_bytes: committee_cmd::MAX_BYTES,
                    max_entries_per_hour: committee_cmd::MAX_ENTRIES_PER_HOUR,
                }),
            }
        }
        let parts = CommitteeParts {
            chain_id: self.chain.as_ref().map_or(0, |chain| chain.chain_id),
            verifying_contract: self.chain.as_ref().map_or(Address::ZERO, |chain| chain.contract),
            epoch: 1,
            min_copies: self.min_copies,
            min_retention: committee_cmd::MIN_RETENTION,
            max_retention: committee_cmd::MAX_RETENTION,
            regions,
            seats,
            gateways,
        };
        Committee::new(parts).context("these members are no committee")
    }

    fn config(&self, dir: &Path, member: &Member) -> String {
        let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        let mut text = format!(
            "# {} of a devnet. See `da-node config default {}` for every setting.\n\
             [node]\nkey = {}\ndata_dir = {}\n",
            member.name,
            member.role,
            quoted(&member.key()),
            quoted(&member.dir.join("data")),
        );
        if let Some(routes) = wan::routes_of(dir, self, member) {
            text.push_str(&format!("routes = {}\n", quoted(&routes)));
        }
        match &self.chain {
            None => text.push_str(&format!("committee = {}\n", quoted(&committee_path(dir)))),
            Some(chain) => text.push_str(&chain.settings()),
        }
        if self.chain.is_some() && member.role == "gateway" {
            let key = quoted(&chain::anchor_key(member));
            text.push_str(&format!("\n[anchor]\nkey = {key}\ninterval_s = {}\n", chain::ANCHOR_SECONDS));
        }
        if let Some(ca) = &member.ca {
            let (certificate, key) = tls::files(dir, &member.name);
            text.push_str(&format!(
                "\n[tls]\ncertificate = {}\nkey = {}\nca = {}\n",
                quoted(&certificate),
                quoted(&key),
                quoted(ca)
            ));
        }
        text.push_str(&format!(
            "\n[listen]\ngrpc = \"{}\"\nhttp = \"{}\"\n\n[{}]\n",
            member.grpc, member.http, member.role
        ));
        text
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::roles::{GatewayConfig, ReplicaConfig};
    use crate::{config, key};

    #[test]
    fn the_default_is_five_regions_and_a_gateway() {
        let plan = Plan::new(&Options::default()).unwrap();
        assert_eq!(plan.regions, ["na-west", "na-east", "eu-central", "ap-northeast", "ap-southeast"]);
        assert_eq!((plan.min_copies, plan.gateways, plan.base_port), (4, 1, 7700));
        let members = plan.members(Path::new("/net"));
        let seen: Vec<_> = members.iter().map(|m| (m.name.as_str(), m.grpc.port(), m.http.port())).collect();
        assert_eq!(seen[0], ("gateway-0", 7700, 7706));
        assert_eq!(seen[1], ("na-west-0", 7701, 7707));
        assert_eq!(seen[5], ("ap-southeast-0", 7705, 7711));
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let with = |change: &dyn Fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            Plan::new(&options)
        };
        for (regions, fine) in [("0", false), ("1", true), ("12", true), ("13", false), ("mars", false)] {
            assert_eq!(with(&|o| o.regions = Some(regions.into())).is_ok(), fine, "{regions}");
        }
        assert!(with(&|o| o.regions = Some("eu-west, na-east".into())).is_ok());
        assert!(with(&|o| o.regions = Some("eu-west,eu-west".into())).is_err());
        for (count, fine) in [(0, false), (1, true), (32, true), (33, false)] {
            assert_eq!(with(&|o| o.replicas_per_region = Some(count)).is_ok(), fine, "{count}");
            assert_eq!(with(&|o| o.gateways = Some(count)).is_ok(), fine, "{count}");
        }
        for (copies, fine) in [(0, false), (1, true), (5, true), (6, false)] {
            assert_eq!(with(&|o| o.min_copies = Some(copies)).is_ok(), fine, "{copies}");
        }
        // Six members take twelve ports.
        for (port, fine) in [(0, false), (1, true), (65_524, true), (65_525, false)] {
            assert_eq!(with(&|o| o.base_port = Some(port)).is_ok(), fine, "{port}");
        }
    }

    #[test]
    fn a_folder_is_kept_and_contradictions_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { regions: Some("2".into()), gateways: Some(2), ..Options::default() };
        let plan = Plan::prepare(dir.path(), &options).unwrap();
        let committee = committee_cmd::load(&committee_path(dir.path())).unwrap();
        assert_eq!((committee.regions().len(), committee.gateways().len()), (2, 2));
        for member in plan.members(dir.path()) {
            let address = key::load(&member.key()).unwrap().address();
            assert!(committee.seat(&address).is_some() || committee.gateway(&address).is_some());
        }
        let before = fs::read(committee_path(dir.path())).unwrap();
        assert_eq!(Plan::prepare(dir.path(), &Options::default()).unwrap(), plan);
        assert_eq!(Plan::prepare(dir.path(), &options).unwrap(), plan);
        let other = Options { gateways: Some(3), ..Options::default() };
        let message = Plan::prepare(dir.path(), &other).unwrap_err().to_string();
        assert!(message.contains("has --gateways 2, not 3"), "{message}");
        assert_eq!(fs::read(committee_path(dir.path())).unwrap(), before);
    }

    #[test]
    fn a_chain_takes_one_port_more_and_binds_the_committee() {
        let dir = tempfile::tempdir().unwrap();
        let on_chain = Options { chain: Some(Kind::Anvil), ..Options::default() };
        for (port, fine) in [(65_523, true), (65_524, false)] {
            let options = Options { base_port: Some(port), ..on_chain.clone() };
            assert_eq!(Plan::new(&options).is_ok(), fine, "{port}");
        }
        let plan = Plan::prepare(dir.path(), &on_chain).unwrap();
        let chain = plan.chain.clone().unwrap();
        assert_eq!(chain.port, 7712);
        let committee = committee_cmd::load(&committee_path(dir.path())).unwrap();
        assert_eq!(committee.parts().chain_id, chain.chain_id);
        assert_eq!(committee.parts().verifying_contract, chain.contract);
        assert_eq!(Plan::load(dir.path()).unwrap(), plan);
        assert_eq!(Plan::prepare(dir.path(), &Options::default()).unwrap(), plan);
        let without = Options { chain: Some(Kind::None), ..Options::default() };
        let message = Plan::prepare(dir.path(), &without).unwrap_err().to_string();
        assert!(message.contains("has --chain anvil, not none"), "{message}");
        for member in plan.members(dir.path()) {
            let file = member.config();
            let read = if member.role == "gateway" {
                let config = config::load::<GatewayConfig>(Some(&file), &[]).unwrap();
                assert!(config.anchor.is_on());
                config.chain
            } else {
                config::load::<ReplicaConfig>(Some(&file), &[]).unwrap().chain
            };
            assert_eq!((read.contract, read.chain_id, read.from_block), (chain.contract, chain.chain_id, 1));
        }
        let other = Options { grace: Some(7), ..Options::default() };
        let message = Plan::prepare(dir.path(), &other).unwrap_err().to_string();
        assert!(message.contains("has --grace 120, not 7"), "{message}");
        // More seats than the contract takes.
        let many = Options { regions: Some("9".into()), replicas_per_region: Some(32), ..on_chain };
        let other = tempfile::tempdir().unwrap();
        let error = Plan::prepare(other.path(), &many).unwrap_err();
        assert!(format!("{error:#}").contains("the contract does not take"), "{error:#}");
        assert!(Plan::load(other.path()).is_err());
    }
}
