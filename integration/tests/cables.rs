//! Cables that are pulled: every host is in a network namespace of its own, on a switch to which a pair of veth leads. With
//! its cable out a host hears nothing at all, no reset and no end of a connection, and nor do the others.
//!
//! The test itself is in the namespace of the switch. All of them end with its processes.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use meridian_client::Silent;
use meridian_client::chain::source::{CommitteeSource, FixedSource};
use meridian_client::fetch::Reader;
use meridian_client::rpc::Channels;
use meridian_client::submit::{PutError, Receipt, Submitter};
use meridian_integration::network::{complete, options};
use meridian_integration::oracle::clients::{put_at_last, refusal};
use meridian_integration::payload;
use meridian_integration::programs::Programs;
use meridian_node::devnet::{Kind, Options, Plan};
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Committee;
use meridian_proto::error::Reason;
use tempfile::TempDir;
use tokio::time::sleep;

const TEST: &str = "nothing_is_lost_when_cables_are_pulled_and_puts_go_on_with_a_quorum";
/// Set for the process that is in a network namespace.
const INSIDE: &str = "MERIDIAN_OWN_NETWORK";
/// Longest time for what must happen by itself.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn nothing_is_lost_when_cables_are_pulled_and_puts_go_on_with_a_quorum() -> Result<()> {
    ensure!(std::thread::current().name() == Some(TEST), "the constant has another name than the test");
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new()?.block_on(scenarios());
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "--pid", "--mount-proc", "--map-root-user", "--fork", "--kill-child"]);
        command
    };
    let may_connect = unshare().args(["ip", "link", "add", "switch", "type", "bridge"]).output();
    if !may_connect.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: this machine lets nobody connect network namespaces: {may_connect:?}");
        return Ok(());
    }
    // There is no network inside that a build may want.
    Programs::build()?;
    let mut inside = unshare();
    inside.arg(std::env::current_exe()?).args(["--exact", TEST, "--nocapture"]).env(INSIDE, "1");
    let status = inside.status()?;
    ensure!(status.success(), "{status}: see above");
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn ip(arguments: &str) -> Result<()> {
    run(Command::new("ip").args(arguments.split(' ')))
}

/// A process in a network namespace of its own.
struct Host {
    name: String,
    process: Child,
    log: PathBuf,
}

impl Host {
    /// Starts a program that waits for a line before it begins, and connects its namespace to the switch.
    fn start(name: String, number: usize, program: &Command, log: PathBuf) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "read -r _ && exec \"$@\"", "sh"]);
        command.arg(program.get_program()).args(program.get_args());
        for (key, value) in program.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        let out = File::create(&log)?;
        command.stdin(Stdio::piped()).stdout(out.try_clone()?).stderr(out);
        let mut host = Self { name, process: command.spawn()?, log };
        let pid = host.process.id();
        let own = fs::read_link("/proc/self/ns/net")?;
        while fs::read_link(format!("/proc/{pid}/ns/net"))? == own {
            std::thread::sleep(Duration::from_millis(5));
        }
        ip(&format!("link add {} type veth peer name eth0 netns {pid}", cable(number)))?;
        ip(&format!("link set {} master switch up", cable(number)))?;
        for arguments in
            ["link set lo up", "link set eth0 up", &format!("addr add {}/24 dev eth0", address(number))]
        {
            let mut inside = Command::new("nsenter");
            inside.args(["--net", "--target", &pid.to_string(), "ip"]).args(arguments.split(' '));
            run(&mut inside)?;
        }
        host.process.stdin.take().context("a pipe")?.write_all(b"\n")?;
        Ok(host)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("{} did not end: {error}", self.name);
        }
    }
}

fn cable(number: usize) -> String {
    format!("cable{number}")
}

fn address(number: usize) -> String {
    format!("10.77.0.{}", number + 1)
}

struct Lan {
    committee: Arc<Committee>,
    channels: Channels,
    /// A gateway, then a replica in each of five regions.
    hosts: Vec<Host>,
    _dir: TempDir,
}

impl Lan {
    async fn start() -> Result<Self> {
        ip("link set lo up")?;
        ip("link add switch type bridge")?;
        ip("link set switch up")?;
        ip("addr add 10.77.0.254/24 dev switch")?;
        let dir = tempfile::tempdir()?;
        let plan = Plan::prepare(
            dir.path(),
            &Options { chain: Some(Kind::None), insecure: true, ..Options::default() },
        )?;
        let members = plan.members(dir.path());
        let file = dir.path().join("committee.toml");
        let committee: Committee = toml::from_str(&fs::read_to_string(&file)?)?;
        let mut parts = committee.parts().clone();
        let seats = parts.seats.iter_mut().map(|seat| &mut seat.endpoint);
        for endpoint in seats.chain(parts.gateways.iter_mut().map(|gateway| &mut gateway.endpoint)) {
            let number =
                members.iter().position(|member| member.endpoint() == *endpoint).context("a member")?;
            *endpoint = format!("http://{}:7700", address(number));
        }
        let committee = Arc::new(Committee::new(parts)?);
        fs::write(&file, toml::to_string(&*committee)?)?;
        let mut hosts = Vec::new();
        for (number, member) in members.into_iter().enumerate() {
            let mut program = Programs::build()?.da_node();
            program
                .args([member.role, "--config"])
                .arg(member.config())
                .env("MERIDIAN_LISTEN__GRPC", format!("{}:7700", address(number)))
                .env("MERIDIAN_LISTEN__HTTP", "127.0.0.1:7701")
                .env("MERIDIAN_LISTEN__INSECURE", "true");
            let log = member.log();
            hosts.push(Host::start(member.name, number, &program, log)?);
        }
        Ok(Self { committee, channels: Channels::new(), hosts, _dir: dir })
    }

    fn pull(&self, host: usize) -> Result<()> {
        ip(&format!("link set {} down", cable(host)))
    }

    fn plug(&self, host: usize) -> Result<()> {
        ip(&format!("link set {} up", cable(host)))
    }

    fn submitter(&self) -> Submitter {
        let view = FixedSource::new(Arc::clone(&self.committee)).view();
        let gateways = vec![self.committee.gateways()[0].endpoint.clone()];
        Submitter::new(view, self.channels.clone(), gateways)
    }

    async fn put(&self, payload: Bytes) -> Result<Receipt, PutError> {
        self.submitter().put(payload, &options(), &Silent).await
    }

    async fn read(&self, certificate: &Certificate) -> Result<Bytes> {
        let reader = Reader::new(Arc::clone(&self.committee), self.channels.clone());
        Ok(reader.payload(certificate.id(), &Silent).await?.payload)
    }

    /// Waits until every region has a blob.
    async fn complete(&self, certificate: &Certificate) -> Result<()> {
        complete(&self.committee, &self.channels, certificate, PATIENCE).await.map(drop)
    }

    async fn put_at_last(&self, payload: &Bytes) -> Result<Receipt> {
        put_at_last(&self.submitter(), payload, &options(), PATIENCE).await
    }

    fn said(&self) -> String {
        let said = |host: &Host| {
            let log = fs::read_to_string(&host.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("== {}\n{}\n", host.name, lines[lines.len().saturating_sub(40)..].join("\n"))
        };
        self.hosts.iter().map(said).collect()
    }
}

async fn scenarios() -> Result<()> {
    let lan = Lan::start().await?;
    pull_and_plug(&lan).await.with_context(|| lan.said())
}

async fn pull_and_plug(lan: &Lan) -> Result<()> {
    let payload = |seed| payload::noise(130_000, seed);
    let mut kept = vec![(lan.put_at_last(&payload(0)).await?.certificate, payload(0))];
    lan.complete(&kept[0].0).await?;

    for host in 1..=2 {
        lan.pull(host)?;
        // Four regions are enough, as soon as the gateway has seen that the fifth is silent.
        let receipt = lan.put_at_last(&payload(host as u64)).await?;
        ensure!(lan.read(&receipt.certificate).await? == payload(host as u64), "other bytes");
        lan.plug(host)?;
        lan.complete(&receipt.certificate).await?;
        kept.push((receipt.certificate, payload(host as u64)));
    }

    lan.pull(3)?;
    lan.pull(4)?;
    let Err(refused) = lan.put(payload(3)).await else { bail!("certified without a quorum") };
    let refused = refusal(&refused)?;
    ensure!(refused.reason == Reason::QuorumUnreachable, "{refused:?}");
    let missing = refused.metadata.get("missing_regions").context("which regions?")?;
    ensure!(missing.split(", ").count() == 2, "{missing}");
    ensure!(lan.read(&kept[0].0).await? == kept[0].1, "other bytes");
    lan.plug(3)?;
    lan.plug(4)?;
    kept.push((lan.put_at_last(&payload(3)).await?.certificate, payload(3)));

    // The gateway's, in the middle of an upload.
    let large = payload::noise(16 << 20, 4);
    let cut = async {
        sleep(Duration::from_millis(30)).await;
        lan.pull(0)
    };
    let (put, pulled) = tokio::join!(lan.put(large.clone()), cut);
    pulled?;
    if let Err(refused) = put {
        ensure!(refusal(&refused)?.is_retryable(), "{refused}");
    }
    ensure!(lan.read(&kept[1].0).await? == kept[1].1, "readers need no gateway");
    lan.plug(0)?;
    kept.push((lan.put_at_last(&large).await?.certificate, large));

    // The switch itself.
    for host in 0..lan.hosts.len() {
        lan.pull(host)?;
    }
    ensure!(lan.put(payload(5)).await.is_err(), "certified by nobody");
    for host in 0..lan.hosts.len() {
        lan.plug(host)?;
    }
    kept.push((lan.put_at_last(&payload(5)).await?.certificate, payload(5)));

    for (certificate, payload) in &kept {
        lan.complete(certificate).await?;
        ensure!(lan.read(certificate).await? == *payload, "other bytes");
    }
    Ok(())
}
