//! TLS between real processes: whom each side takes for whom, certificates that change, callers that waste time.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy::transports::http::reqwest::{Certificate, Client};
use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_client::chain::source::{CommitteeSource, FixedSource};
use meridian_client::fetch::Reader;
use meridian_client::rpc::Channels;
use meridian_client::submit::{Submitter, unix_now};
use meridian_client::tls::{Pin, Trust, TrustSettings};
use meridian_integration::devnet::Devnet;
use meridian_integration::metrics::metric;
use meridian_integration::network::{eventually, options};
use meridian_integration::programs::Programs;
use meridian_integration::{children, payload, ports};
use meridian_node::devnet::authority::{Authority, Wanted, kept_key, replace};
use meridian_node::devnet::{Member, Options, Plan, ca_path};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;

/// Time in which anything must come about.
const SOON: Duration = Duration::from_secs(60);
/// What members are called by.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Handshakes that do not end, on one port.
const SILENT: usize = 100;

fn now() -> Result<i64> {
    Ok(i64::try_from(unix_now())?)
}

fn members(network: &Devnet) -> Result<Vec<Member>> {
    Ok(Plan::load(&network.folder())?.members(&network.folder()))
}

/// A member's certificate and key.
fn files(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("tls/{name}.pem")), folder.join(format!("tls/{name}-key.pem")))
}

/// The pin of a certificate's key.
fn pin(certificate: &Path) -> Result<Pin> {
    Ok(Pin::of(&CertificateDer::from_pem_file(certificate)?)?)
}

/// Another authority, in a folder of its own, with a certificate for a host or client of that name.
fn stranger(folder: &Path, name: &str) -> Result<(PathBuf, PathBuf, PathBuf)> {
    let authority = Authority::new("stranger", kept_key(&folder.join("ca-key.pem"))?.key, now()?, 10)?;
    let (ca, certificate, key) =
        (folder.join("ca.pem"), folder.join(format!("{name}.pem")), folder.join(format!("{name}-key.pem")));
    replace(&ca, &authority.pem()?)?;
    let wanted = Wanted { name, names: &NAMES, now: now()?, days: 10 };
    replace(&certificate, &authority.issue(&wanted, &kept_key(&key)?.key)?)?;
    Ok((ca, certificate, key))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path")
}

/// What a program says that has to end well.
fn done(mut command: Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output()?;
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.success(), "{command:?}: {status}: {stdout} {stderr}");
    Ok(stdout.into_owned())
}

/// What a program says on standard error that has to end with this code.
fn ends_with(code: i32, mut command: Command) -> Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(code), "{command:?}: {}: {said}", output.status);
    Ok(said)
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

/// Everything that a user does, over TLS. The last region may take a moment longer than a put.
async fn do_everything(da: &dyn Fn() -> Result<Command>, folder: &Path) -> Result<()> {
    let (batch, certificate, out) = (folder.join("batch"), folder.join("batch.cert"), folder.join("out"));
    fs::write(&batch, payload::noise(200_000, 1))?;
    let state = folder.join("light");
    for arguments in [
        &["put", path(&batch)?, "--cert-out", path(&certificate)?][..],
        &["get", path(&certificate)?, "--out", path(&out)?],
        &["sample", path(&certificate)?, "-n", "16"],
        &["cert", "fetch", path(&certificate)?, "--out", path(&certificate)?],
        &["log", "verify"],
        &["status"],
        &["regions"],
        &["audit"],
        &["trace", path(&certificate)?],
        &["light", "--once", "--checkpoints", "--state", path(&state)?],
    ] {
        let mut last = String::new();
        let done = eventually(SOON, arguments[0], async || {
            let said = done(with(da().ok()?, arguments));
            last = said.as_ref().err().map_or_else(String::new, ToString::to_string);
            said.ok()
        });
        done.await.with_context(|| last.clone())?;
    }
    ensure!(fs::read(&batch)? == fs::read(&out)?, "other bytes");
    Ok(())
}

/// Whether somebody was told why there is no connection. A call that comes after its end hears only that it broke.
fn tells(said: &str, why: &str) -> bool {
    said.contains(why) || said.contains("UNREACHABLE") && said.contains("broken pipe")
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_done_over_tls_and_with_nobody_else() -> Result<()> {
    let network = Devnet::start_secured(&[], &[]).await?;
    let (folder, members) = (network.folder(), members(&network)?);
    ensure!(members.iter().all(|member| member.endpoint().starts_with("https://127.0.0.1:")), "{members:?}");
    let export = format!("export MERIDIAN_CA={}", ca_path(&folder).display());
    eventually(SOON, "what to type next", async || network.output().contains(&export).then_some(())).await?;
    let scratch = tempfile::tempdir()?;

    // Who trusts the authority, and who knows the keys.
    do_everything(&|| network.da(), scratch.path()).await?;
    let pins: Vec<String> = members
        .iter()
        .map(|member| Ok(pin(&files(&folder, &member.name).0)?.to_string()))
        .collect::<Result<_>>()?;
    let pins = pins.join(",");
    let pinning = || {
        let mut command = network.da()?;
        command.env_remove("MERIDIAN_CA").env("MERIDIAN_PIN", &pins);
        Ok(command)
    };
    let other = tempfile::tempdir()?;
    do_everything(&pinning, other.path()).await?;

    // The hosts' own program.
    let node = || Ok::<_, anyhow::Error>(Programs::build()?.da_node());
    let (ca, gateway, replica) = (ca_path(&folder), members[0].endpoint(), members[1].endpoint());
    done(with(node()?, &["probe", &gateway, "--ca", path(&ca)?]))?;
    done(with(node()?, &["probe", &gateway, "--pin", &pins]))?;
    done(with(node()?, &["repair", "--replica", &replica, "--watch", "--ca", path(&ca)?]))?;
    let status = done(with(node()?, &["devnet", "status", "--dir", path(&folder)?]))?;
    ensure!(status.matches(" serving").count() == members.len(), "{status}");
    network.kill(&members[2].name)?;
    network.revive(&members[2].name)?;
    let said = ends_with(1, with(node()?, &["probe", &gateway]))?;
    ensure!(
        said.contains("nobody who is trusted") || said.contains("trusts no certificate authority"),
        "{said}"
    );

    // Everybody else.
    let (strange_ca, strange_certificate, _) = stranger(scratch.path(), "stranger")?;
    let strange_pin = pin(&strange_certificate)?.to_string();
    let plain = gateway.replace("https://", "http://");
    let page = format!("https://{}", members[0].http);
    let batch = scratch.path().join("batch");
    for (arguments, expected) in [
        (&["--ca", path(&strange_ca)?][..], "nobody who is trusted has issued the certificate"),
        (&["--pin", &strange_pin], "which is not pinned"),
        (&["--gateway", &plain], "speaks tls: name it with https://"),
        (&["--gateway", &page], "speaks no tls: name it with http://"),
    ] {
        let said = ends_with(4, with(with(network.da()?, &["put", path(&batch)?]), arguments))?;
        ensure!(tells(&said, expected), "{arguments:?}: {said}");
    }
    for (arguments, expected) in [
        (&["--ca", "none.pem"][..], "cannot read none.pem"),
        (&["--ca", path(&batch)?], "no certificate in PEM"),
    ] {
        let said = with(with(network.da()?, &["status"]), arguments).output()?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(tells(&said, expected), "{arguments:?}: {said}");
    }
    let said = ends_with(2, with(network.da()?, &["status", "--pin", "sha256/AAAA"]))?;
    ensure!(said.contains("sha256/BASE64"), "{said}");

    // Handshakes that never end hold up nobody.
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(members[0].grpc).await?);
    }
    let certificate = other.path().join("other.cert");
    done(with(network.da()?, &["put", path(&batch)?, "--cert-out", path(&certificate)?]))?;
    drop(silent);
    Ok(())
}

/// Issues every member's certificate again; `has_new_key` says which get another key too.
fn reissue(folder: &Path, members: &[Member], has_new_key: impl Fn(usize) -> bool) -> Result<()> {
    let authority =
        Authority::new("meridian devnet", kept_key(&folder.join("tls/ca-key.pem"))?.key, now()?, 3_650)?;
    for (place, member) in members.iter().enumerate() {
        let (certificate, key) = files(folder, &member.name);
        if has_new_key(place) {
            fs::remove_file(&key)?;
        }
        let wanted = Wanted { name: &member.name, names: &NAMES, now: now()?, days: 30 };
        replace(&certificate, &authority.issue(&wanted, &kept_key(&key)?.key)?)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_without_a_failed_call() -> Result<()> {
    let network = Devnet::start_secured(&[], &[]).await?;
    let (folder, members) = (network.folder(), members(&network)?);
    let trust = Trust::new(TrustSettings { ca: Some(ca_path(&folder)), ..TrustSettings::default() })?;
    let (committee, over) = (Arc::clone(network.seen()), Arc::new(AtomicBool::new(false)));
    let load = (0..2_u64).map(|client| {
        let (committee, over, trust) = (Arc::clone(&committee), Arc::clone(&over), trust.clone());
        tokio::spawn(async move {
            let mut calls = 0_u64;
            while !over.load(Ordering::Relaxed) {
                // New connections each time, to the gateway and to every replica that is read from.
                let channels = Channels::new().trusting(trust.clone());
                let gateways = committee.gateways().iter().map(|gateway| gateway.endpoint.clone()).collect();
                let view = FixedSource::new(Arc::clone(&committee)).view();
                let submitter = Submitter::new(view, channels.clone(), gateways);
                let payload = payload::noise(20_000, client * 1_000_000 + calls);
                let receipt = submitter.put(payload.clone(), &options(), &Silent).await?;
                let read = Reader::new(Arc::clone(&committee), channels)
                    .payload(receipt.certificate.id(), &Silent)
                    .await?;
                ensure!(read.payload == payload, "other bytes");
                calls += 1;
            }
            Ok(calls)
        })
    });
    let load: Vec<_> = load.collect();
    let before: HashMap<String, Pin> = members
        .iter()
        .map(|it| Ok((it.name.clone(), pin(&files(&folder, &it.name).0)?)))
        .collect::<Result<_>>()?;
    for round in 1..=2_u32 {
        reissue(&folder, &members, |place| place % 2 == usize::try_from(round % 2).unwrap_or(0))?;
        eventually(SOON, "every member uses the new certificate", async || {
            let read = |it: &Member| {
                metric(it.http, "meridian_tls_reloads_total").unwrap_or(0.0) >= f64::from(round)
            };
            members.iter().all(read).then_some(())
        })
        .await?;
    }
    // What is broken is not used, and said.
    fs::write(files(&folder, &members[0].name).0, "no certificate")?;
    eventually(SOON, "the broken certificate is noticed", async || {
        (metric(members[0].http, "meridian_tls_reloads_total").unwrap_or(0.0) >= 3.0).then_some(())
    })
    .await?;
    over.store(true, Ordering::Relaxed);
    for client in load {
        let calls = client.await??;
        ensure!(calls > 0, "a client that did nothing");
    }
    for member in &members[1..] {
        let pin = pin(&files(&folder, &member.name).0)?;
        ensure!(pin != before[&member.name], "the key of {} is the old one", member.name);
        let trust = Trust::new(TrustSettings { pins: vec![pin], ..TrustSettings::default() })?;
        Channels::new().trusting(trust).replica(&member.endpoint())?.status().await?;
        let days = metric(member.http, "meridian_tls_certificate_days_left")?;
        ensure!(days > 29.0 && days <= 30.0, "{days} days");
        ensure!(metric(member.http, "meridian_tls_handshakes_total")? > 0.0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_may_ask_who_calls() -> Result<()> {
    let options = Options { regions: Some("1".into()), ..Options::default() };
    let network = Devnet::start_changed(options, |plan, folder| {
        for member in plan.members(folder) {
            let (certificate, key) = files(folder, &member.name);
            let mut config: toml::Table = toml::from_str(&fs::read_to_string(member.config())?)?;
            let tls = config.get_mut("tls").and_then(|it| it.as_table_mut()).context("[tls]")?;
            for (name, file) in
                [("client_ca", &ca_path(folder)), ("client_certificate", &certificate), ("client_key", &key)]
            {
                tls.insert(name.to_owned(), path(file)?.into());
            }
            fs::write(member.config(), toml::to_string(&config)?)?;
        }
        Ok(())
    })
    .await?;
    let scratch = tempfile::tempdir()?;
    let batch = scratch.path().join("batch");
    fs::write(&batch, payload::noise(50_000, 5))?;
    let put =
        |more: &[&str]| Ok::<_, anyhow::Error>(with(with(network.da()?, &["put", path(&batch)?]), more));
    let said = ends_with(4, put(&[])?)?;
    ensure!(tells(&said, "asks who calls: name a client certificate"), "{said}");
    let (_, certificate, key) = stranger(scratch.path(), "stranger")?;
    let strange = ["--client-certificate", path(&certificate)?, "--client-key", path(&key)?];
    let said = ends_with(4, put(&strange)?)?;
    ensure!(tells(&said, "refuses the client certificate"), "{said}");
    let (certificate, key) = files(&network.folder(), "gateway-0");
    done(put(&["--client-certificate", path(&certificate)?, "--client-key", path(&key)?])?)?;
    let said = ends_with(2, put(&["--client-certificate", path(&certificate)?])?)?;
    ensure!(said.contains("--client-key"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn far_regions_speak_tls_too() -> Result<()> {
    let network = Devnet::start_secured(&["--wan", "--regions", "3"], &[]).await?;
    let scratch = tempfile::tempdir()?;
    let (batch, certificate, out) =
        (scratch.path().join("batch"), scratch.path().join("batch.cert"), scratch.path().join("out"));
    fs::write(&batch, payload::noise(100_000, 3))?;
    eventually(SOON, "a put over far ways", async || {
        let put =
            with(network.da().ok()?, &["put", path(&batch).ok()?, "--cert-out", path(&certificate).ok()?]);
        done(put).ok()
    })
    .await?;
    done(with(network.da()?, &["get", path(&certificate)?, "--out", path(&out)?]))?;
    ensure!(fs::read(&batch)? == fs::read(&out)?, "other bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_others_reach_have_a_certificate() -> Result<()> {
    let network = Devnet::start_secured(&["--regions", "1"], &[]).await?;
    let scratch = tempfile::tempdir()?;
    let (ca, certificate, key) = stranger(scratch.path(), "pages")?;
    let state = scratch.path().join("state");
    let light = ["light", "--checkpoints", "--state", path(&state)?];
    for (arguments, listen) in [(&["altda", "serve"][..], "--listen"), (&light, "--http")] {
        let said = ends_with(2, with(with(network.da()?, arguments), &[listen, "0.0.0.0:0"]))?;
        ensure!(said.contains("--tls-certificate and --tls-key") && said.contains("--insecure"), "{said}");
    }
    let secured = ["--tls-certificate", path(&certificate)?, "--tls-key", path(&key)?];
    let client = Client::builder()
        .add_root_certificate(Certificate::from_pem(&fs::read(&ca)?)?)
        .build()
        .context("a client")?;
    for (arguments, listen) in [(&["altda", "serve"][..], "--listen"), (&light, "--http")] {
        let address: SocketAddr = ports::listener()?.local_addr()?;
        let mut command = with(with(network.da()?, arguments), &[listen, &address.to_string()]);
        command.args(secured).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let health = eventually(SOON, "the page over TLS", async || {
            client.get(format!("https://{address}/health")).send().await.ok()
        })
        .await;
        let status = if listen == "--http" {
            let mut status =
                with(network.da()?, &["light", "status", "--http", &format!("https://{address}")]);
            status.env("MERIDIAN_CA", &ca);
            Some(done(status))
        } else {
            None
        };
        let plain = Client::new().get(format!("http://{address}/health")).send().await;
        children::stop(&mut child, SOON)?;
        ensure!(health?.status().is_success());
        status.transpose()?;
        ensure!(plain.is_err(), "{plain:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_taken_from_who_may_give_them() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (admin_ca, certificate, key) = stranger(scratch.path(), "admin")?;
    let addresses: Vec<SocketAddr> =
        ports::listeners(2)?.iter().map(|it| Ok(it.local_addr()?)).collect::<Result<_>>()?;
    let options = Options { regions: Some("1".into()), ..Options::default() };
    let network = Devnet::start_changed(options, |plan, folder| {
        for (member, address) in plan.members(folder).iter().zip(&addresses) {
            let mut config: toml::Table = toml::from_str(&fs::read_to_string(member.config())?)?;
            let listen = config.get_mut("listen").and_then(|it| it.as_table_mut()).context("[listen]")?;
            listen.insert("admin".into(), address.to_string().into());
            if member.role == "replica" {
                let tls = config.get_mut("tls").and_then(|it| it.as_table_mut()).context("[tls]")?;
                tls.insert("admin_ca".into(), path(&admin_ca)?.into());
            }
            fs::write(member.config(), toml::to_string(&config)?)?;
        }
        Ok(())
    })
    .await?;
    let (folder, members) = (network.folder(), members(&network)?);
    let ca = ca_path(&folder);
    let admin = |arguments: &[&str], at: &str, more: &[&str]| {
        let command = with(with(Programs::build()?.da_node(), &["admin"]), arguments);
        Ok::<_, anyhow::Error>(with(with(command, &["--at", at]), more))
    };

    // On the loopback interface whoever is on the machine may.
    let gateway = format!("http://{}", addresses[0]);
    let said = done(admin(&["log-level", "debug"], &gateway, &[])?)?;
    ensure!(said.contains("before: info"), "{said}");
    let said = ends_with(1, admin(&["log-level", "loud=very"], &gateway, &[])?)?;
    ensure!(said.contains("no filter of log lines") && said.contains("FIELD_INVALID"), "{said}");
    for (length, fine) in [(1023, true), (1024, true), (1025, false)] {
        let filter = format!("info,{}=info", "x".repeat(length - "info,=info".len()));
        let output = admin(&["log-level", &filter], &gateway, &[])?.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(said.contains("MESSAGE_TOO_LARGE") != fine, "{length}: {said}");
    }
    let said = ends_with(1, admin(&["scrub"], &gateway, &[])?)?;
    ensure!(said.contains("a gateway has no rows to check"), "{said}");

    // Where there is an authority, who has a certificate of it.
    let replica = format!("https://{}", addresses[1]);
    let trusting = ["--ca", path(&ca)?];
    let said = ends_with(1, admin(&["scrub"], &replica, &trusting)?)?;
    ensure!(tells(&said, "asks who calls"), "{said}");
    let (own, own_key) = files(&folder, &members[1].name);
    let member =
        [&trusting[..], &["--client-certificate", path(&own)?, "--client-key", path(&own_key)?]].concat();
    let said = ends_with(1, admin(&["scrub"], &replica, &member)?)?;
    ensure!(tells(&said, "refuses the client certificate"), "{said}");
    let may =
        [&trusting[..], &["--client-certificate", path(&certificate)?, "--client-key", path(&key)?]].concat();
    let calls = network.channels().replica(&members[1].endpoint())?;
    let first = eventually(SOON, "the check that follows the start", async || {
        Some(calls.status().await.ok()?.scrubbed_at).filter(|at| *at != 0)
    })
    .await?;
    // The time of a check has whole seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    done(admin(&["scrub"], &replica, &may)?)?;
    eventually(SOON, "the check that was asked for", async || {
        (calls.status().await.ok()?.scrubbed_at > first).then_some(())
    })
    .await?;
    done(admin(&["repair"], &replica, &may)?)?;
    done(admin(&["log-level", "warn"], &replica, &may)?)?;

    // Other ports take no orders.
    let said = ends_with(1, admin(&["drain"], &members[0].endpoint(), &trusting)?)?;
    ensure!(said.contains("FORMAT_UNSUPPORTED"), "{said}");
    done(admin(&["drain"], &gateway, &[])?)?;
    eventually(SOON, "the gateway has ended", async || {
        let log = fs::read_to_string(members[0].log()).ok()?;
        (log.contains("drained by its admin") && log.contains(" stopped")).then_some(())
    })
    .await?;
    let status = done(with(Programs::build()?.da_node(), &["devnet", "status", "--dir", path(&folder)?]))?;
    ensure!(
        status.lines().any(|line| line.starts_with("gateway-0") && line.ends_with("stopped")),
        "{status}"
    );
    Ok(())
}
