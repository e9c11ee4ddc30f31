//! Alert rules and metrics as Prometheus takes them, and a real one that reads a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_integration::devnet::Devnet;
use meridian_integration::network::{eventually, options};
use meridian_integration::payload;
use meridian_integration::prometheus::{Programs, get};
use meridian_node::devnet::Plan;
use serde_json::{Value, json};

/// Time in which anything must come about.
const SOON: Duration = Duration::from_secs(60);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations")
}

#[test]
fn the_rules_are_sound_and_alert_when_they_should() -> Result<()> {
    let Some(programs) = Programs::find_or_skip()? else { return Ok(()) };
    programs.check(&folder(), &["check", "rules", "alerts.yml"], "")?;
    let said = programs.check(&folder(), &["test", "rules", "alerts_test.yml"], "")?;
    ensure!(said.contains("SUCCESS"), "{said}");
    Ok(())
}

#[test]
fn everything_on_the_dashboard_can_be_asked() -> Result<()> {
    let Some(programs) = Programs::find_or_skip()? else { return Ok(()) };
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(folder().join("dashboard.json"))?)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    // As rules, for the tool has no other way to be asked about an expression. JSON is YAML.
    let rules: Vec<Value> = targets
        .enumerate()
        .map(|(number, target)| {
            let expression = target["expr"].as_str().context("an expression")?;
            let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
            Ok(json!({ "record": format!("panel_{number}"), "expr": expression }))
        })
        .collect::<Result<_>>()?;
    ensure!(rules.len() > 30, "only {} expressions", rules.len());
    let dir = tempfile::tempdir()?;
    let file = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(dir.path().join("dashboard.yml"), file.to_string())?;
    programs.check(dir.path(), &["check", "rules", "dashboard.yml"], "")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_reads_a_network() -> Result<()> {
    let Some(programs) = Programs::find_or_skip()? else { return Ok(()) };
    let network = Devnet::start(&[], &[]).await?;
    network.submitter().put(payload::noise(50_000, 1), &options(), &Silent).await?;
    let members = Plan::load(&network.folder())?.members(&network.folder());
    let hosts: Vec<_> = members.iter().map(|member| member.http).collect();
    for host in &hosts {
        let page = get(*host, "/metrics")?;
        programs.check(&folder(), &["check", "metrics"], &page).with_context(|| format!("{host}"))?;
    }

    let server = programs.serve(&hosts, &folder().join("alerts.yml")).await?;
    let query = |expression: &str| server.query(expression).ok().flatten();
    let count = f64::from(u32::try_from(hosts.len())?);
    eventually(SOON, "every host is read", async || (query("sum(up)") == Some(count)).then_some(())).await?;
    for (expression, expected) in [
        ("sum(meridian_gateway_puts_total{result=\"ok\"})", 1.0),
        ("sum(meridian_gateway_seats_connected)", 5.0),
        ("max(meridian_gateway_regions_missing)", 0.0),
        ("max(meridian_store_failed)", 0.0),
        ("count(meridian_store_free_bytes > 0)", count),
        ("count(meridian_memory_budget_bytes{budget=\"puts\"})", 1.0),
        (
            "count(abs(meridian_process_clock_seconds - timestamp(meridian_process_clock_seconds)) < 60)",
            count,
        ),
    ] {
        eventually(SOON, expression, async || (query(expression) == Some(expected)).then_some(())).await?;
    }

    // Every rule can be evaluated, and a network that is well makes no alarm.
    let rules = eventually(SOON, "all rules are evaluated", async || {
        let rules = all_rules(&server.api("rules").ok()?);
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    })
    .await
    .with_context(|| server.api("rules").map_or_else(|error| error.to_string(), |it| it.to_string()))?;
    ensure!(rules.len() >= 20, "only {} rules", rules.len());
    let loud: Vec<&Value> = rules.iter().filter(|rule| rule["state"] == "firing").collect();
    ensure!(loud.is_empty(), "{loud:?}");

    // Whoever is killed is missed.
    network.kill("na-west-0")?;
    network.kill("na-east-0")?;
    for (expression, expected) in [
        ("count(up == 0)", 2.0),
        ("max(meridian_gateway_seats) - max(meridian_gateway_seats_connected)", 2.0),
        ("max(meridian_gateway_regions_missing)", 2.0),
        ("count(ALERTS{alertname=\"MeridianHostDown\"})", 2.0),
        ("count(ALERTS{alertname=\"MeridianQuorumUnreachable\"})", 1.0),
    ] {
        eventually(SOON, expression, async || (query(expression) == Some(expected)).then_some(())).await?;
    }
    Ok(())
}

fn all_rules(answer: &Value) -> Vec<Value> {
    let groups = answer["data"]["groups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()).cloned().collect()
}
