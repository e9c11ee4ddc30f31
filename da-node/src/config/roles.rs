//! The whole settings of a gateway's host and of a replica's.

use serde::{Deserialize, Serialize};

use super::host::{self, Chain, Listen, Log, Node, Server, Storage, Telemetry, Tls};
use super::{Config, Documented, Section};
use crate::gateway::access::AccessSettings;
use crate::gateway::anchor::AnchorSettings;
use crate::{gateway, replica};

macro_rules! roles {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident of $role:ident, checked in $($checked:ident),+ { $(#[doc = $section_doc:literal] $section:ident: $settings:ty,)+ }
    )*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Who it is.
            pub node: Node,
            /// Where its committee comes from.
            pub chain: Chain,
            /// Where it answers.
            pub listen: Listen,
            /// Its TLS.
            pub tls: Tls,
            /// Limits of its gRPC server.
            pub server: Server,
            /// Its log.
            pub log: Log,
            /// Where its traces and metrics go.
            pub telemetry: Telemetry,
            $(#[doc = $section_doc] pub $section: $settings,)+
        }

        impl Config for $name {
            const ROLE: &'static str = stringify!($role);

            fn sections() -> Vec<Section> {
                vec![
                    Section {
                        name: "node",
                        docs: &["Who this host is and where it keeps things."],
                        fields: Node::FIELDS,
                    },
                    Section {
                        name: "chain",
                        docs: &["The chain that it takes its committee from."],
                        fields: Chain::FIELDS,
                    },
                    Section { name: "listen", docs: &["Where it answers."], fields: Listen::FIELDS },
                    Section {
                        name: "tls",
                        docs: &["TLS 1.3, of its ports and towards other members."],
                        fields: Tls::FIELDS,
                    },
                    Section { name: "server", docs: &["Limits of the gRPC server."], fields: Server::FIELDS },
                    Section { name: "log", docs: &["The log, on standard error."], fields: Log::FIELDS },
                    Section {
                        name: "telemetry",
                        docs: &["OpenTelemetry. Prometheus reads /metrics in any case."],
                        fields: Telemetry::FIELDS,
                    },
                    $(Section {
                        name: stringify!($section),
                        docs: &[$section_doc],
                        fields: <$settings>::FIELDS,
                    },)+
                ]
            }

            fn check(&self) -> Result<(), String> {
                host::check(&self.server, &self.log, &self.telemetry)?;
                self.listen.admin().map_err(|problem| format!("listen.{problem}"))?;
                self.tls.check().map_err(|problem| format!("tls.{problem}"))?;
                self.chain.check().map_err(|problem| format!("chain.{problem}"))?;
                $(self.$checked.check().map_err(|problem| format!("{}.{problem}", stringify!($checked)))?;)+
                Ok(())
            }
        }
    )*};
}

/// Every section that some kind of host has and not every kind.
pub(super) const SPECIAL: [&str; 5] = ["access", "anchor", "gateway", "replica", "storage"];

roles! {
    /// Settings of a gateway's host.
    GatewayConfig of gateway, checked in gateway, access, anchor {
        /// What only a gateway has.
        gateway: gateway::Settings,
        /// Who may put, and how much.
        access: AccessSettings,
        /// How its log comes to the chain.
        anchor: AnchorSettings,
    }
    /// Settings of a replica's host.
    ReplicaConfig of replica, checked in replica {
        /// What a replica keeps.
        storage: Storage,
        /// What only a replica has.
        replica: replica::Settings,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Override, example, load};

    fn drift<C: Config>() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config");
        let path = folder.join(format!("{}.toml", C::ROLE));
        crate::test_docs::check_file(&path, &example::<C>());
    }

    #[test]
    fn sections_of_other_hosts_are_known() {
        let names = |sections: Vec<Section>| sections.into_iter().map(|s| s.name).collect::<Vec<_>>();
        let (gateway, replica) = (names(GatewayConfig::sections()), names(ReplicaConfig::sections()));
        let only_one = |name: &&str| gateway.contains(name) != replica.contains(name);
        let mut special: Vec<&str> =
            gateway.iter().chain(&replica).copied().filter(|n| only_one(n)).collect();
        special.sort_unstable();
        assert_eq!(special, SPECIAL);
        // Only the environment is shared: a flag for another kind of host is a mistake.
        let flag = Override::flag("--set", "storage.max_bytes", "1".into());
        assert!(load::<GatewayConfig>(None, std::slice::from_ref(&flag)).is_err());
        assert_eq!(load::<ReplicaConfig>(None, &[flag]).unwrap().storage.max_bytes, 1);
    }

    #[test]
    fn the_example_files_are_the_defaults() {
        drift::<GatewayConfig>();
        drift::<ReplicaConfig>();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config");
        let gateway = load::<GatewayConfig>(Some(&folder.join("gateway.toml")), &[]).unwrap();
        assert_eq!(gateway, GatewayConfig::default());
        let replica = load::<ReplicaConfig>(Some(&folder.join("replica.toml")), &[]).unwrap();
        assert_eq!(replica, ReplicaConfig::default());
    }
}
