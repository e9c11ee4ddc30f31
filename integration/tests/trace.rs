//! One trace for one put, through the client, the gateway and every replica.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_integration::devnet::Devnet;
use meridian_integration::network::eventually;
use meridian_integration::otlp::Collector;
use meridian_integration::payload;

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_client_to_every_replica() -> Result<()> {
    let collector = Collector::start().await?;
    let variables = [
        ("MERIDIAN_TELEMETRY__OTLP_ENDPOINT", collector.endpoint()),
        ("MERIDIAN_TELEMETRY__SAMPLE_RATIO", "1.0"),
    ];
    let network = Devnet::start(&[], &variables).await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("payload");
    std::fs::write(&file, payload::noise(20_000, 1))?;
    let mut put = network.da()?;
    put.arg("put").arg(&file).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    let output = tokio::task::spawn_blocking(move || put.output()).await??;
    ensure!(output.status.success(), "{output:?}");

    let seats = network.committee().seats().len();
    let traced =
        eventually(Duration::from_secs(30), "one trace of client, gateway and replicas", async || {
            collector.traces().into_values().find_map(|spans| {
                let senders: BTreeSet<String> = spans.into_iter().map(|span| span.sender).collect();
                // The client, the gateway, and at least the replicas that a certificate needs.
                (senders.len() >= 1 + 1 + seats - 1).then_some(senders)
            })
        })
        .await
        .with_context(|| format!("{:?}", collector.traces()))?;
    let of = |service: &str| traced.iter().filter(|sender| sender.contains(service)).count();
    ensure!(of("gateway") == 1 && of("replica") >= seats - 1, "{traced:?}");
    Ok(())
}
