//! `da-node doctor` beside real hosts, with things broken one by one.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_integration::devnet::Devnet;
use meridian_integration::network::eventually;
use meridian_integration::programs::Programs;
use meridian_proofs::Address;
use meridian_proofs::committee::Committee;
use serde_json::Value;

/// Time in which anything must come about.
const SOON: Duration = Duration::from_secs(60);

/// What a doctor said.
struct Report(Value);

impl Report {
    /// Asks the doctor about a host, with some settings other than those of its file.
    fn of(config: &Path, settings: &[String]) -> Result<Self> {
        let mut command = Programs::build()?.da_node();
        command.arg("doctor").arg("--config").arg(config).arg("--json");
        for setting in settings {
            command.args(["--set", setting]);
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let report = Self(serde_json::from_slice(&output.stdout).with_context(|| format!("{said}"))?);
        let checks = report.0["checks"].as_array().context("checks")?;
        let problems = checks.iter().filter(|check| check["verdict"] == "problem").count();
        let expected = i32::from(problems > 0);
        ensure!(output.status.code() == Some(expected), "{} with {problems} problems", output.status);
        for check in checks {
            let is_fine = check["verdict"] == "ok";
            ensure!(is_fine == check["advice"].is_null(), "advice where something is to be done: {check}");
            ensure!(check["measured"].as_str().is_some_and(|text| !text.is_empty()), "{check}");
        }
        Ok(report)
    }

    fn check(&self, name: &str) -> Result<&Value> {
        let checks = self.0["checks"].as_array().context("checks")?;
        checks.iter().find(|check| check["check"] == name).with_context(|| format!("no {name}: {}", self.0))
    }

    /// That some checks came out so.
    fn expect(&self, verdict: &str, names: &[&str]) -> Result<()> {
        for name in names {
            let check = self.check(name)?;
            ensure!(check["verdict"] == verdict, "{verdict} was expected: {check}");
        }
        Ok(())
    }

    /// That a check came out so and measured something that contains a text.
    fn says(&self, verdict: &str, name: &str, text: &str) -> Result<()> {
        self.expect(verdict, &[name])?;
        let measured = self.check(name)?["measured"].as_str().context("a text")?;
        ensure!(measured.contains(text), "{name} does not say {text}: {measured}");
        Ok(())
    }
}

fn config(network: &Devnet, member: &str) -> PathBuf {
    network.folder().join(member).join("config.toml")
}

fn set(name: &str, value: impl std::fmt::Display) -> Vec<String> {
    vec![format!("{name}={value}")]
}

#[tokio::test(flavor = "multi_thread")]
async fn things_are_broken_one_by_one() -> Result<()> {
    let network = Devnet::start(&[], &[]).await?;
    let replica = config(&network, "na-west-0");
    let fine = ["config", "key", "committee", "membership", "grpc-port", "http-port", "endpoint", "gateways"];
    let report = Report::of(&replica, &[])?;
    report.expect("ok", &fine)?;
    report.expect("ok", &["regions", "clock", "data-dir"])?;
    report.says("ok", "grpc-port", "answered by this host")?;
    ensure!(report.check("disk-sync")?["measured"].as_str().is_some_and(|it| it.contains("p99")), "no p99");
    report.check("open-files")?;
    report.check("memory")?;
    ensure!(report.0["role"] == "replica", "{}", report.0);
    let report = Report::of(&config(&network, "gateway-0"), &[])?;
    report.expect("ok", &fine)?;
    report.expect("ok", &["regions", "clock"])?;

    // Its settings.
    let report = Report::of(&replica, &set("node.min_free_bites", 1))?;
    report.says("problem", "config", "min_free_bites")?;

    // Its key.
    let key = network.folder().join("na-west-0/key");
    fs::set_permissions(&key, Permissions::from_mode(0o644))?;
    Report::of(&replica, &[])?.says("problem", "key", "0644")?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    let other = network.folder().join("na-east-0/key");
    let report = Report::of(&replica, &set("node.key", other.display()))?;
    report.says("problem", "grpc-port", "another host")?;
    report.says("problem", "http-port", "another host")?;
    report.says("problem", "endpoint", "not on this host's port")?;

    // Its committee: without it, or not there.
    let folder = tempfile::tempdir()?;
    let foreign = folder.path().join("committee.toml");
    let mut parts = network.committee().parts().clone();
    let own = meridian_node::key::load(&key)?.address();
    let seat = parts.seats.iter_mut().find(|seat| seat.address == own).context("its seat")?;
    seat.address = Address::repeat_byte(7);
    fs::write(&foreign, toml::to_string(&Committee::new(parts)?)?)?;
    let report = Report::of(&replica, &set("node.committee", foreign.display()))?;
    report.says("problem", "membership", "not a replica of any epoch")?;
    let report = Report::of(&replica, &set("node.committee", folder.path().join("none").display()))?;
    report.says("problem", "committee", "cannot read")?;

    // Its disk.
    let report = Report::of(&replica, &set("node.min_free_bytes", i64::MAX))?;
    report.says("problem", "disk-space", "wanted")?;
    report.says("warning", "disk-sync", "not measured")?;
    let report = Report::of(&replica, &set("node.data_dir", "/proc/meridian"))?;
    report.says("problem", "disk-space", "0 MiB free")?;

    // Its ports: taken by a program that is no host.
    let taken = TcpListener::bind("127.0.0.1:0")?;
    for (name, check) in [("listen.grpc", "grpc-port"), ("listen.http", "http-port")] {
        let report = Report::of(&replica, &set(name, taken.local_addr()?))?;
        report.says("problem", check, "taken by another program")?;
    }
    let report = Report::of(&replica, &set("listen.grpc", "192.0.2.1:7700"))?;
    report.says("problem", "grpc-port", "cannot listen")?;

    // No gateway.
    network.kill("gateway-0")?;
    Report::of(&replica, &[])?.says("problem", "gateways", "0 of 1 answer")?;
    Report::of(&config(&network, "gateway-0"), &[])?.says("ok", "gateways", "no other gateway")?;
    network.revive("gateway-0")?;

    // Too few regions, the host itself among those that do not run.
    network.kill("na-west-0")?;
    let report = Report::of(&replica, &[])?;
    report.says("ok", "grpc-port", "does not run")?;
    report.says("ok", "http-port", "does not run")?;
    report.expect("ok", &["regions", "gateways", "membership", "clock", "endpoint"])?;
    network.kill("ap-southeast-0")?;
    Report::of(&replica, &[])?.says("warning", "regions", "4 of 5 complete")?;
    network.kill("ap-northeast-0")?;
    let report = Report::of(&replica, &[])?;
    report.says("problem", "regions", "3 of 5 complete, 4 needed")?;
    for member in ["ap-northeast-0", "ap-southeast-0", "na-west-0"] {
        network.revive(member)?;
    }
    let report = Report::of(&replica, &[])?;
    report.expect("ok", &fine)?;
    report.expect("ok", &["regions"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_looked_at_too() -> Result<()> {
    let Some(network) = Devnet::start_on_chain(&[], &[]).await? else { return Ok(()) };
    let gateway = config(&network, "gateway-0");
    let report = Report::of(&gateway, &[])?;
    report.expect(
        "ok",
        &["config", "key", "account", "chain", "membership", "grpc-port", "regions", "clock"],
    )?;
    report.expect("ok", &["chain-clock"])?;

    let report = Report::of(&gateway, &set("chain.chain_id", 1))?;
    report.expect("problem", &["chain", "chain-clock"])?;
    let vacant = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let report = Report::of(&gateway, &set("chain.rpc", format!("[\"http://{vacant}\"]")))?;
    report.expect("problem", &["chain", "chain-clock"])?;
    let report = Report::of(&gateway, &set("anchor.key", "/nowhere/key"))?;
    report.expect("problem", &["account"])?;

    // A host whose key is in no epoch.
    let stranger = network.folder().join("stranger");
    meridian_node::key::create(&stranger)?;
    eventually(SOON, "a chain that answers", async || {
        let report = Report::of(&gateway, &set("node.key", stranger.display())).ok()?;
        report.says("problem", "membership", "not a gateway of any epoch").ok()
    })
    .await
}
