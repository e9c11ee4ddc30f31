//! `da-node doctor`: looks at a host, whether it runs or not, and says what is wrong and what to do about it.
//!
//! Each check measures and then judges. Judgements are functions of what was measured alone, so that tests hold every
//! threshold. Nothing that the host keeps is changed.

use std::path::{Path, PathBuf};

use meridian_client::rpc::Channels;
use serde::Serialize;

use crate::config::host::{Chain, Listen, Node, Tls};
use crate::config::roles::{GatewayConfig, ReplicaConfig};
use crate::config::{self, ConfigError, Override};
use crate::run;
use crate::server::tls;
use crate::store::Role;

use ports::Holder;

mod certificate;
mod clock;
mod committee;
mod disk;
mod keys;
mod machine;
mod peers;
mod ports;

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, or may work, and somebody should look at it.
    Warning,
    /// The host cannot do its work so.
    Problem,
}

impl Verdict {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was measured.
    pub measured: String,
    /// What to do next, where there is something to do.
    pub advice: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, measured: impl Into<String>, advice: &str) -> Self {
        let advice = (!advice.is_empty()).then(|| advice.to_owned());
        Self { check, verdict, measured: measured.into(), advice }
    }

    fn ok(check: &'static str, measured: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, measured, "")
    }

    fn warning(check: &'static str, measured: impl Into<String>, advice: &str) -> Self {
        Self::new(check, Verdict::Warning, measured, advice)
    }

    fn problem(check: &'static str, measured: impl Into<String>, advice: &str) -> Self {
        Self::new(check, Verdict::Problem, measured, advice)
    }
}

/// All that was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// `gateway` or `replica`; nothing where the settings do not tell.
    pub role: Option<&'static str>,
    /// One for each check, in the order in which they were made.
    pub checks: Vec<Finding>,
}

impl Report {
    /// How many checks came out so.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// As lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let width = self.checks.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        let mut text = String::new();
        for Finding { check, verdict, measured, advice } in &self.checks {
            text.push_str(&format!("{:7}  {check:width$}  {measured}\n", verdict.as_str()));
            if let Some(advice) = advice {
                text.push_str(&format!("{:7}  {:width$}  -> {advice}\n", "", ""));
            }
        }
        let (problems, warnings) = (self.count(Verdict::Problem), self.count(Verdict::Warning));
        text.push_str(&format!(
            "checks: {}, problems: {problems}, warnings: {warnings}\n",
            self.checks.len()
        ));
        text
    }
}

/// What is looked at of the settings of either kind of host.
struct Subject {
    role: Role,
    node: Node,
    chain: Chain,
    listen: Listen,
    tls: Tls,
    /// Most connections at a time.
    connections: usize,
    /// Bytes of all memory budgets together.
    budgets: u64,
    /// Most bytes of rows, 0 for no limit.
    max_bytes: u64,
    /// The account that pays for anchors, and the password file of its key.
    account: Option<(PathBuf, Option<PathBuf>)>,
}

impl Subject {
    fn load(file: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        Ok(match config::role_of(file)? {
            "gateway" => config::load::<GatewayConfig>(Some(file), overrides)?.into(),
            _ => config::load::<ReplicaConfig>(Some(file), overrides)?.into(),
        })
    }
}

impl From<GatewayConfig> for Subject {
    fn from(config: GatewayConfig) -> Self {
        let GatewayConfig { node, chain, listen, tls, server, gateway, anchor, .. } = config;
        let account = anchor.is_on().then(|| {
            let password = (!anchor.password_file.as_os_str().is_empty()).then_some(anchor.password_file);
            (anchor.key, password)
        });
        Self {
            role: Role::Gateway,
            node,
            chain,
            listen,
            tls,
            connections: server.max_connections,
            budgets: gateway.memory_bytes.saturating_add(gateway.row_buffer_bytes),
            max_bytes: 0,
            account,
        }
    }
}

impl From<ReplicaConfig> for Subject {
    fn from(config: ReplicaConfig) -> Self {
        let ReplicaConfig { node, chain, listen, tls, server, storage, replica, .. } = config;
        let rebuilds = replica.rebuild_memory_bytes.saturating_mul(2);
        let budgets =
            replica.upload_memory_bytes.saturating_add(rebuilds).saturating_add(replica.cache_bytes);
        Self {
            role: Role::Replica,
            node,
            chain,
            listen,
            tls,
            connections: server.max_connections,
            budgets,
            max_bytes: storage.max_bytes,
            account: None,
        }
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Gateway => "gateway",
        Role::Replica => "replica",
    }
}

/// Makes every check for the host with these settings.
pub async fn examine(file: &Path, overrides: &[Override]) -> Report {
    let subject = match Subject::load(file, overrides) {
        Ok(subject) => subject,
        Err(error) => {
            let mut measured = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                measured.push_str(&format!(": {source}"));
            }
            let advice =
                "correct the settings: `da-node config default` prints all of them with their meaning";
            return Report { role: None, checks: vec![Finding::problem("config", measured, advice)] };
        }
    };
    let role = name(subject.role);
    let mut checks = vec![Finding::ok("config", format!("{}: settings of a {role}", file.display()))];
    let (address, finding) = keys::look(&subject.node.key);
    checks.push(finding);
    checks.extend(subject.account.as_ref().map(|(key, password)| keys::account(key, password.as_deref())));
    let channels = match run::channels(&subject.node.routes) {
        Ok(channels) => channels,
        Err(error) => {
            let advice = "correct the file, or leave node.routes empty";
            checks.push(Finding::problem("routes", format!("{error:#}"), advice));
            Channels::new()
        }
    };
    let channels = match tls::trust_once(&subject.tls) {
        Ok(trust) => channels.trusting(trust),
        Err(error) => {
            let advice = "correct the files of [tls] that say whom to trust";
            checks.push(Finding::problem("trust", format!("{error:#}"), advice));
            channels
        }
    };
    let now = crate::clock::Clock::system().now();
    checks.push(certificate::look(&subject, now));
    let (view, finding) = committee::look(&subject).await;
    checks.push(finding);
    let ours = certificate::ours(&subject);
    let grpc = ports::grpc(&subject, ours.as_ref(), address);
    let http = ports::http(subject.listen.http, ours.as_ref(), address);
    let (mut grpc, http) = (grpc.await, http.await);
    if (&grpc, &http) == (&Holder::Foreign, &Holder::Starting) {
        // It has its port and does not answer there yet.
        grpc = Holder::Starting;
    }
    checks.push(ports::judge("grpc-port", "listen.grpc", subject.listen.grpc, &grpc));
    checks.push(ports::judge("http-port", "listen.http", subject.listen.http, &http));
    if let Some(view) = &view {
        if let Some(address) = address {
            checks.push(committee::membership(&subject, view, &address, now));
        }
        let committee = &view.epochs.current(now).committee;
        let seen = peers::ask(committee, &channels).await;
        checks.extend(peers::own(subject.role, &seen, address, &grpc));
        let others: Vec<_> = seen.into_iter().filter(|peer| Some(peer.address) != address).collect();
        checks.push(peers::gateways(subject.role, &others));
        checks.push(peers::regions(subject.role, committee, &others, address));
        checks.push(clock::among_peers(&peers::offsets(&others)));
    }
    if subject.chain.is_on() {
        checks.push(clock::chain(&subject.chain).await);
    }
    checks.extend(disk::look(&subject).await);
    checks.push(machine::files(&subject));
    checks.push(machine::memory(&subject));
    Report { role: Some(role), checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_lined_up_and_counted() {
        let checks = vec![
            Finding::ok("key", "fine"),
            Finding::warning("grpc-port", "odd", "look at it"),
            Finding::problem("disk", "full", "make room"),
        ];
        let report = Report { role: Some("replica"), checks };
        let expected = "\
ok       key        fine
warning  grpc-port  odd
                    -> look at it
problem  disk       full
                    -> make room
checks: 3, problems: 1, warnings: 1
";
        assert_eq!(report.text(), expected);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][1]["verdict"], "warning");
        assert_eq!(json["checks"][0]["advice"], serde_json::Value::Null);
    }

    #[tokio::test]
    async fn settings_that_cannot_be_read_end_the_examination() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        for (text, says) in [
            (None, "cannot read"),
            (Some("[node]\n"), "neither a [gateway] nor a [replica]"),
            (Some("[replica]\n[listen]\ngrpc = 7\n"), "line 3"),
        ] {
            text.into_iter().for_each(|text| std::fs::write(&file, text).unwrap());
            let report = examine(&file, &[]).await;
            assert_eq!((report.role, report.checks.len()), (None, 1));
            assert_eq!(report.count(Verdict::Problem), 1);
            assert!(report.checks[0].measured.contains(says), "{:?}", report.checks);
        }
    }
}
