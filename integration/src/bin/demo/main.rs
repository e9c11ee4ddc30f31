//! `make demo`: a whole network on this machine, real batches through it, and what it survives.
//!
//! Runs the very commands that a user would type and prints each of them. Ends with a table; exits 0 only if
//! everything in it held.

mod chain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use meridian_client::rpc::Channels;
use meridian_client::tls::{Trust, TrustSettings};
use meridian_integration::metrics::metric;
use meridian_node::devnet::ca_path;
use meridian_proofs::committee::Committee;
use meridian_proofs::encode::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::{B256, placement};
use serde_json::Value;

const BASE_PORT: u16 = 27_100;

fn main() -> ExitCode {
    match Demo::start().and_then(Demo::run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("demo failed: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a command did.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Ran {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {}", self.stdout))
    }

    fn last_error(&self) -> &str {
        self.stderr.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("")
    }
}

struct Batch {
    name: String,
    path: PathBuf,
    id: String,
    certificate: PathBuf,
}

struct Demo {
    bin: PathBuf,
    scratch: tempfile::TempDir,
    network: PathBuf,
    devnet: Child,
    batches: Vec<Batch>,
    held: Vec<(String, String, bool)>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        if matches!(self.devnet.try_wait(), Ok(None)) {
            let _ = stop(&self.devnet);
            let _ = self.devnet.wait();
        }
    }
}

fn stop(child: &Child) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    Ok(nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?)
}

impl Demo {
    fn start() -> Result<Self> {
        let bin = std::env::current_exe()?.parent().context("no folder of the demo")?.to_path_buf();
        let scratch = tempfile::tempdir()?;
        let network = scratch.path().join("network");
        heading("a network of five regions, each replica a process of its own, and a gateway");
        let (port, anvil) = (BASE_PORT.to_string(), meridian_integration::anvil::find()?);
        let mut words = vec!["--base-port", &port, "--chain", "none"];
        if let Some(anvil) = &anvil {
            words = vec!["--base-port", &port, "--chain", "anvil", "--anvil", text(anvil)?];
        }
        say(&[&["da-node", "devnet", "--dir", "network"], words.as_slice()].concat());
        let devnet = Command::new(bin.join("da-node"))
            .args(["devnet", "--dir"])
            .arg(&network)
            .args(&words)
            .stdout(fs::File::create(scratch.path().join("devnet.out"))?)
            .stderr(fs::File::create(scratch.path().join("devnet.log"))?)
            .stdin(Stdio::null())
            .spawn()
            .context("da-node does not start")?;
        let mut demo = Self { bin, scratch, network, devnet, batches: vec![], held: vec![] };
        let begun = Instant::now();
        // It says so when every member serves.
        while !fs::read_to_string(demo.scratch.path().join("devnet.out"))?.contains("ready;") {
            ensure!(begun.elapsed() < Duration::from_secs(60), "the network did not come up in a minute");
            ensure!(
                demo.devnet.try_wait()?.is_none(),
                "devnet ended: {}",
                fs::read_to_string(demo.scratch.path().join("devnet.log"))?
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(demo)
    }

    fn run(mut self) -> Result<bool> {
        self.put_batches()?;
        self.show_chain()?;
        self.kill_machines()?;
        self.read_without_gateway()?;
        self.recover()?;
        self.tamper()?;
        heading("stop");
        stop(&self.devnet)?;
        let ended = self.devnet.wait()?;
        self.note("stop", "SIGTERM to the devnet stops every process cleanly", ended.success());
        Ok(self.report())
    }

    fn put_batches(&mut self) -> Result<()> {
        heading("real rollup batches in, certificates out");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/batches");
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)?
            .map(|e| Ok(e?.path()))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .filter(|p| p.extension().is_some_and(|e| e == "bin"))
            .collect();
        files.sort();
        ensure!(!files.is_empty(), "no batches in {}", folder.display());
        let mut all = true;
        for path in files {
            let name = path.file_stem().and_then(|s| s.to_str()).context("file name")?.to_owned();
            let certificate = self.scratch.path().join(format!("{name}.cert"));
            let (put, id) = self.put(&path, &certificate, &[])?;
            let offline = self.da(&["id", text(&path)?, "--json"])?.json()?;
            all &= put.code == 0 && offline["blob_id"] == Value::String(id.clone());
            self.batches.push(Batch { name, path, id, certificate });
        }
        self.note(
            "put",
            &format!("{} batches certified; each id computed offline is the same", self.batches.len()),
            all,
        );
        // A later certificate names the regions that signed after the quorum, too.
        let first = &self.batches[0];
        let (id, cert) = (first.id.clone(), first.certificate.clone());
        let fetched = self.da(&["cert", "fetch", &id, "--out", text(&cert)?])?;
        let shown = self.da(&["cert", "show", text(&cert)?])?;
        print!("{}", shown.stdout);
        self.note(
            "certificate",
            "shows the regions that hold a full copy",
            fetched.code == 0 && shown.stdout.contains("eu-central"),
        );
        Ok(())
    }

    fn kill_machines(&mut self) -> Result<()> {
        heading("a replica dies");
        let extra = self.scratch.path().join("extra.bin");
        self.node(&["kill", "ap-northeast-0"])?;
        let cert = self.scratch.path().join("extra.cert");
        fs::write(&extra, random(130_000)?)?;
        let (put, extra_id) = self.put(&extra, &cert, &[])?;
        self.note(
            "one replica killed",
            &format!("a put has its certificate after {} ms", put.took.as_millis()),
            put.code == 0,
        );

        heading("a second one dies: four copies of five are out of reach");
        self.node(&["kill", "ap-southeast-0"])?;
        let refused_file = self.scratch.path().join("refused.bin");
        fs::write(&refused_file, random(130_000)?)?;
        let (refused, _) = self.put(&refused_file, &self.scratch.path().join("refused.cert"), &[])?;
        let named = refused.stderr.contains("ap-northeast") && refused.stderr.contains("ap-southeast");
        self.note(
            "two replicas killed",
            &format!("a put says after {} ms which regions are missing", refused.took.as_millis()),
            refused.code == 4 && named,
        );
        let out = self.scratch.path().join("extra.out");
        let read = self.da(&["get", &extra_id, "--out", text(&out)?])?;
        self.note(
            "two replicas killed",
            "reads go on",
            read.code == 0 && fs::read(&out)? == fs::read(&extra)?,
        );
        Ok(())
    }

    fn read_without_gateway(&mut self) -> Result<()> {
        heading("the gateway dies, too: every batch is read back from the survivors");
        self.node(&["kill", "gateway-0"])?;
        let (mut same, mut sampled, mut verified) = (true, true, true);
        for i in 0..self.batches.len() {
            let Batch { name, path, id, certificate } = &self.batches[i];
            let (path, id, certificate) = (path.clone(), id.clone(), certificate.clone());
            let out = self.scratch.path().join(format!("{name}.out"));
            let read = self.da(&["get", &id, "--out", text(&out)?])?;
            same &= read.code == 0 && sha256(&path)? == sha256(&out)?;
            let sample = self.da(&["sample", &id, "-n", "16"])?;
            print!("{}", sample.stdout);
            sampled &= sample.code == 0;
            verified &= self.da(&["cert", "verify", text(&certificate)?])?.code == 0;
        }
        let n = self.batches.len();
        self.note("gateway killed", &format!("{n} batches read back, SHA-256 equal"), same);
        self.note("gateway killed", &format!("16 rows of each of {n} batches sampled"), sampled);
        self.note("offline", &format!("{n} certificates verified without a network"), verified);

        let log = self.da(&["log", "entries", "--json"])?;
        let listed = log.stdout.clone();
        self.note(
            "gateway killed",
            "its log is enumerated from a replica, with every batch in it",
            log.code == 0 && self.batches.iter().all(|b| listed.contains(&b.id)),
        );
        Ok(())
    }

    fn recover(&mut self) -> Result<()> {
        heading("all three come back");
        for name in ["gateway-0", "ap-northeast-0", "ap-southeast-0"] {
            self.node(&["start", name])?;
        }
        let cert = self.scratch.path().join("full.cert");
        let file = self.scratch.path().join("full.bin");
        fs::write(&file, random(20_000)?)?;
        // A gateway that has just started first asks the replicas how far they know its log.
        let begun = Instant::now();
        let (put, id) = loop {
            let (put, id) = self.put(&file, &cert, &[])?;
            if put.code == 0 || begun.elapsed() > Duration::from_secs(20) {
                break (put, id);
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        self.note("restart", "puts are certified again", put.code == 0);
        let regions = loop {
            let fetched = self.quietly("da", &["cert", "fetch", &id, "--out", text(&cert)?, "--json"])?;
            let shown = self.quietly("da", &["cert", "verify", text(&cert)?, "--json"])?;
            let regions = shown.json()?["regions"].as_array().map_or(0, Vec::len);
            if (fetched.code == 0 && regions == 5) || begun.elapsed() > Duration::from_secs(30) {
                break regions;
            }
            std::thread::sleep(Duration::from_millis(300));
        };
        self.note(
            "restart",
            &format!("those that were down caught up: {regions} of 5 regions signed"),
            regions == 5,
        );
        Ok(())
    }

    fn tamper(&mut self) -> Result<()> {
        heading("somebody changes one bit of a certificate");
        let forged = self.scratch.path().join("forged.cert");
        let mut bytes = fs::read(&self.batches[0].certificate)?;
        bytes[120] ^= 1;
        fs::write(&forged, bytes)?;
        let verdict = self.da(&["cert", "verify", text(&forged)?])?;
        println!("  {}", verdict.last_error());
        let noticed = verdict.code == 5 && verdict.last_error().contains("CERTIFICATE_INVALID");
        self.note("tampered certificate", "da cert verify notices and ends with exit code 5", noticed);

        heading("somebody changes one bit of a row on a replica's disk");
        let name = "ap-northeast-0";
        let committee: Committee = toml::from_str(&fs::read_to_string(self.committee())?)?;
        let region = committee.regions().iter().find(|r| r.label == "ap-northeast").context("region")?.id;
        let seat = committee.seats_of(region).next().context("seat")?.clone();
        let batch = &self.batches[0];
        let (id, path) = (batch.id.clone(), batch.path.clone());
        let blob = encode::<Blake3>(&fs::read(&path)?, B256::ZERO)?;
        let range = placement::interval(&committee, &seat, &blob.id(), blob.shape()).ranges()[0];
        self.node(&["kill", name])?;
        let file = flip_on_disk(&self.network, name, &blob.rows(range)[..64])?;
        println!("flipped one bit of row {} of {id} in {}", range.start(), file.display());
        self.node(&["start", name])?;

        let runtime = tokio::runtime::Runtime::new()?;
        let (held, answered) = runtime.block_on(async {
            let ca = Some(ca_path(&self.network));
            let trust = Trust::new(TrustSettings { ca, ..TrustSettings::default() })?;
            let rpc = Channels::new().trusting(trust).replica(&seat.endpoint)?;
            let held = rpc.rows(blob.id(), range, blob.shape().row_bytes(), true).await;
            let answered = rpc.rows(blob.id(), range, blob.shape().row_bytes(), false).await;
            anyhow::Ok((held, answered))
        })?;
        let refusal = held.as_ref().err().map_or(String::new(), ToString::to_string);
        self.note("tampered row", &format!("the replica will not serve it: {refusal}"), held.is_err());
        let right = answered.is_ok_and(|(rows, _)| rows == blob.rows(range));
        self.note("tampered row", "it answers with rows rebuilt from the other regions", right);
        let out = self.scratch.path().join("tampered.out");
        let read = self.da(&["get", &id, "--out", text(&out)?])?;
        self.note(
            "tampered row",
            "readers get the right bytes",
            read.code == 0 && fs::read(&out)? == fs::read(&path)?,
        );
        let metric = self.checksum_failures(name)?;
        self.note("tampered row", &format!("counted in the replica's metrics: {metric}"), metric > 0.0);
        Ok(())
    }

    fn checksum_failures(&self, name: &str) -> Result<f64> {
        let config: toml::Table =
            toml::from_str(&fs::read_to_string(self.network.join(name).join("config.toml"))?)?;
        let address = config["listen"]["http"].as_str().context("no listen.http in the replica's config")?;
        metric(address.parse()?, "meridian_store_checksum_failures_total")
    }

    fn report(&self) -> bool {
        heading("what held");
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["", "what", "held"]);
        for (part, what, held) in &self.held {
            table.add_row([part.as_str(), what.as_str(), if *held { "yes" } else { "NO" }]);
        }
        println!("{table}");
        let all = self.held.iter().all(|(_, _, held)| *held);
        println!("{}", if all { "all of it held" } else { "something did NOT hold" });
        all
    }

    fn note(&mut self, part: &str, what: &str, held: bool) {
        println!("{} {part}: {what}", if held { "✓" } else { "✗" });
        self.held.push((part.to_owned(), what.to_owned(), held));
    }

    fn put(&self, file: &Path, certificate: &Path, more: &[&str]) -> Result<(Ran, String)> {
        let mut words = vec!["put", text(file)?, "--cert-out", text(certificate)?, "--json"];
        words.extend(more);
        let ran = self.da(&words)?;
        let id = ran.json().ok().and_then(|j| Some(j["blob_id"].as_str()?.to_owned())).unwrap_or_default();
        if ran.code == 0 {
            let regions = ran.json()?["regions"].clone();
            println!("  {id} in {} ms, regions {regions}", ran.took.as_millis());
        } else {
            println!("  {}", ran.last_error());
        }
        Ok((ran, id))
    }

    fn committee(&self) -> PathBuf {
        self.network.join("committee.toml")
    }

    fn da(&self, words: &[&str]) -> Result<Ran> {
        let mut line = vec!["da"];
        line.extend(words);
        say(&line);
        self.quietly("da", words)
    }

    fn node(&self, words: &[&str]) -> Result<()> {
        let [action, name] = words else { bail!("an action and a name") };
        say(&["da-node", "devnet", action, "--dir", "network", name]);
        let ran = self.quietly("da-node", &["devnet", action, "--dir", text(&self.network)?, name])?;
        ensure!(ran.code == 0, "devnet {action} {name}: {}", ran.stderr);
        Ok(())
    }

    /// As [`Self::da`], for a command that takes the committee from the chain.
    fn da_on_chain(&self, words: &[&str]) -> Result<Ran> {
        let mut line = vec!["da"];
        line.extend(words);
        say(&line);
        self.run_with("da", words, false)
    }

    fn quietly(&self, program: &str, words: &[&str]) -> Result<Ran> {
        self.run_with(program, words, true)
    }

    fn run_with(&self, program: &str, words: &[&str], committee_file: bool) -> Result<Ran> {
        let begun = Instant::now();
        let mut command = Command::new(self.bin.join(program));
        command.args(words).env("MERIDIAN_GATEWAY", format!("https://127.0.0.1:{BASE_PORT}"));
        command.env("MERIDIAN_CA", ca_path(&self.network));
        for name in ["MERIDIAN_COMMITTEE", "MERIDIAN_CHAIN", "MERIDIAN_CONTRACT", "MERIDIAN_PIN"] {
            command.env_remove(name);
        }
        if committee_file {
            command.env("MERIDIAN_COMMITTEE", self.committee());
        }
        let out =
            command.stdin(Stdio::null()).output().with_context(|| format!("{program} does not start"))?;
        Ok(Ran {
            code: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
            took: begun.elapsed(),
        })
    }
}

fn heading(what: &str) {
    println!("\n== {what}");
}

fn say(words: &[&str]) {
    let short: Vec<String> = words
        .iter()
        .map(|w| {
            Path::new(w)
                .file_name()
                .and_then(|n| n.to_str())
                .filter(|_| w.starts_with('/'))
                .unwrap_or(w)
                .to_owned()
        })
        .collect();
    println!("$ {}", short.join(" "));
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("path is not text")
}

fn random(length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
    Ok(bytes)
}

fn sha256(path: &Path) -> Result<String> {
    let out = Command::new("sha256sum").arg(path).output().context("sha256sum")?;
    let line = String::from_utf8(out.stdout)?;
    Ok(line.split_whitespace().next().context("no sum")?.to_owned())
}

/// Flips one bit of `pattern` wherever a replica keeps it on disk, and says where.
fn flip_on_disk(network: &Path, name: &str, pattern: &[u8]) -> Result<PathBuf> {
    let mut folders = vec![network.join(name)];
    let mut found = None;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = fs::read(&path)?;
            let Some(at) = bytes.windows(pattern.len()).position(|w| w == pattern) else { continue };
            bytes[at] ^= 1;
            fs::write(&path, bytes)?;
            found = Some(path);
        }
    }
    found.with_context(|| format!("the row is in no file of {name}"))
}
