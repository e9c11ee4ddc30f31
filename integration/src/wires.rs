//! Connections of TCP between processes that can be made bad: a relay for every way from one member, or the clients, to
//! another, which cuts, stalls, forgets, delays or drips.
//!
//! Every member has a committee file of its own, in which the others are at the relays of its own ways to them. So each
//! way can be bad by itself, in one direction alone too.

pub mod wan;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use meridian_node::devnet::Plan;
use meridian_proofs::committee::Committee;

pub use meridian_node::devnet::relay::{Flow, State, Wire};

/// What the clients of a network are called among the ends of its wires.
pub const CLIENTS: &str = "clients";

/// The wires of one network, by who calls and who is called.
pub struct Wires {
    wires: BTreeMap<(String, String), Wire>,
}

impl Wires {
    /// Lays wires between the members of a devnet that does not run yet, and from the clients to each of them. Gives them
    /// and the committee as clients see it.
    ///
    /// # Errors
    /// When there is no such devnet, or its files cannot be written.
    pub async fn lay(dir: &Path) -> Result<(Self, Committee)> {
        let members = Plan::load(dir)?.members(dir);
        let committee: Committee = toml::from_str(&fs::read_to_string(dir.join("committee.toml"))?)?;
        let mut wires = BTreeMap::new();
        for from in members.iter().map(|member| &*member.name).chain([CLIENTS]) {
            for to in members.iter().filter(|to| to.name != from) {
                wires.insert((from.to_owned(), to.name.clone()), Wire::lay(to.grpc).await?);
            }
        }
        let seen_by = |from: &str| {
            let mut parts = committee.parts().clone();
            let seats = parts.seats.iter_mut().map(|seat| &mut seat.endpoint);
            for endpoint in seats.chain(parts.gateways.iter_mut().map(|gateway| &mut gateway.endpoint)) {
                let to = members.iter().find(|member| member.endpoint() == *endpoint).context("a member")?;
                if let Some(wire) = wires.get(&(from.to_owned(), to.name.clone())) {
                    *endpoint = format!("http://{}", wire.address());
                }
            }
            anyhow::Ok(Committee::new(parts)?)
        };
        for member in &members {
            let file = member.config().with_file_name("committee.toml");
            fs::write(&file, toml::to_string(&seen_by(&member.name)?)?)?;
            let mut config: toml::Table = toml::from_str(&fs::read_to_string(member.config())?)?;
            let node = config.get_mut("node").and_then(|node| node.as_table_mut()).context("[node]")?;
            node.insert("committee".to_owned(), file.to_str().context("a path")?.into());
            fs::write(member.config(), toml::to_string(&config)?)?;
        }
        let seen = seen_by(CLIENTS)?;
        Ok((Self { wires }, seen))
    }

    /// The wire from one to another.
    ///
    /// # Errors
    /// When there is none.
    pub fn wire(&self, from: &str, to: &str) -> Result<&Wire> {
        let ends = (from.to_owned(), to.to_owned());
        self.wires.get(&ends).with_context(|| format!("no wire from {from} to {to}"))
    }

    /// All wires.
    pub fn all(&self) -> impl Iterator<Item = &Wire> {
        self.wires.values()
    }

    /// All wires from and to one end.
    pub fn of<'a>(&'a self, end: &'a str) -> impl Iterator<Item = &'a Wire> {
        self.wires.iter().filter(move |((from, to), _)| from == end || to == end).map(|(_, wire)| wire)
    }

    /// The ends of all wires, in the order of the wires.
    pub fn ends(&self) -> impl Iterator<Item = (&str, &str, &Wire)> {
        self.wires.iter().map(|((from, to), wire)| (&**from, &**to, wire))
    }

    /// Makes all wires good again.
    pub fn mend(&self) {
        self.all().for_each(Wire::mend);
    }
}
