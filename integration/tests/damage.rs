//! Damage to every kind of file of a replica's store, while it is stopped and while it runs: all of it is found, none is
//! served, and all is repaired from the others.
//!
//! `MERIDIAN_DAMAGE=N` sets the number of cases, `MERIDIAN_SEED=S` another order of them. Many cases take several networks,
//! some at a time.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use meridian_client::Silent;
use meridian_integration::kept::Kept;
use meridian_integration::knobs;
use meridian_integration::network::{Name, Network, Plan, eventually};
use meridian_integration::payload;
use meridian_integration::random::Random;
use meridian_node::replica;

/// Cases of `make test`.
const CASES: u64 = 200;
/// Cases after which another network is started, with the next seed.
const CASES_PER_NETWORK: u64 = 500;
/// Networks at a time: each waits most of the time until a replica has looked at everything.
const AT_A_TIME: usize = 4;
const SECTOR: usize = 512;
/// Longest time until damage is found and repaired.
const REPAIR: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip,
    Zero,
    Cut,
    Remove,
}

/// What a file is for, by its name.
fn kind(path: &Path) -> String {
    let extension = path.extension().map(|it| it.to_string_lossy().into_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    extension.unwrap_or_else(|| name.split('-').next().unwrap_or_default().to_owned())
}

/// The files of a store that hold anything: not the lock, and not what RocksDB tells people.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if !kind(&path).starts_with("damaged") {
                found.extend(files(&path)?);
            }
        } else if !["LOCK", "LOG", "old"].iter().any(|no| kind(&path).starts_with(no))
            && path.metadata()?.len() > 0
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Does harm to a file. Says whether there was one with anything in it: a host that runs may have taken it away meanwhile.
fn spoil(path: &Path, harm: Harm, random: &mut Random) -> Result<bool> {
    let length = path.metadata().map_or(0, |metadata| metadata.len());
    let length = usize::try_from(length)?;
    if length == 0 {
        return Ok(false);
    }
    match harm {
        Harm::Remove => std::fs::remove_file(path)?,
        Harm::Cut => {
            let at = u64::try_from(random.place(length))?;
            OpenOptions::new().write(true).open(path)?.set_len(at)?;
        }
        Harm::Flip | Harm::Zero => {
            let at = random.place(length);
            let mut file = OpenOptions::new().read(true).write(true).open(path)?;
            let start = if matches!(harm, Harm::Flip) { at } else { at / SECTOR * SECTOR };
            let mut bytes = vec![0; if matches!(harm, Harm::Flip) { 1 } else { SECTOR.min(length - start) }];
            file.seek(SeekFrom::Start(u64::try_from(start)?))?;
            file.read_exact(&mut bytes)?;
            match harm {
                Harm::Flip => bytes[0] ^= 1 << random.place(8),
                _ => bytes.fill(0),
            }
            file.seek(SeekFrom::Start(u64::try_from(start)?))?;
            file.write_all(&bytes)?;
        }
    }
    Ok(true)
}

/// How often each kind of file was harmed, while the replica ran and while it did not.
type Seen = BTreeMap<(String, bool), u64>;

struct World {
    network: Network,
    kept: Vec<Kept>,
}

impl World {
    async fn start() -> Result<Self> {
        let replica = replica::Settings {
            scrub_period_seconds: 1,
            scrub_bytes_per_second: 1 << 40,
            ..replica::Settings::default()
        };
        let network = Network::start(Plan { replica, ..Plan::default() }).await?;
        let mut world = Self { network, kept: Vec::new() };
        for (length, seed) in [(700, 1), (20_000, 2), (130_000, 3), (600_000, 4)] {
            world.put(payload::noise(length, seed)).await?;
            // A start writes what is in the log to tables.
            for place in 0..5 {
                world.network.stop(Name::Replica(place)).await?;
                world.network.restart(Name::Replica(place)).await?;
            }
        }
        Ok(world)
    }

    async fn put(&mut self, payload: Bytes) -> Result<()> {
        let certificate = self.network.put(payload.clone()).await?;
        self.kept.push(Kept::new(certificate, payload)?);
        Ok(())
    }

    /// Whether a replica has every row that it owes on disk. An answer that is wrong is an error.
    async fn has_all(&self, place: usize) -> Result<bool> {
        let seat = self.network.seat(place)?;
        for kept in &self.kept {
            if !kept.is_held(self.network.channels(), self.network.committee(), seat).await? {
                return Ok(false);
            }
        }
        let calls = self.network.channels().replica(&seat.endpoint)?;
        let Ok(status) = calls.status().await else { return Ok(false) };
        Ok(status.quarantined == 0 && status.repair_left == 0 && !status.store_failed)
    }

    /// Waits until a replica has looked at everything since now, is whole, and cosigns.
    async fn until_whole(&mut self, place: usize, seed: u64) -> Result<()> {
        let endpoint = self.network.seat(place)?.endpoint.clone();
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let deadline = tokio::time::Instant::now() + REPAIR;
        loop {
            let calls = self.network.channels().replica(&endpoint)?;
            if tokio::time::Instant::now() >= deadline {
                anyhow::bail!("replica {place} is not whole within {REPAIR:?}: {:?}", calls.status().await);
            }
            if calls.status().await.is_ok_and(|status| status.store_failed) {
                // As a host does by itself.
                self.network.kill(Name::Replica(place)).await?;
                self.revive(place).await?;
            }
            let looked = self.scrubbed_at(&endpoint).await.is_some_and(|at| at > since + 1);
            if looked && self.has_all(place).await? {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // It has the logs, too: it cosigns what comes next.
        let payload = payload::noise(900, seed);
        let certificate = self.network.put(payload).await?;
        let address = self.network.seat(place)?.address;
        let gateway = self.network.channels().gateway(self.network.endpoint(Name::Gateway(0))?)?;
        eventually(REPAIR, "a cosignature after the repair", async || {
            let fuller = gateway.certificate(certificate.id(), None).await.ok()?;
            fuller.verify(self.network.committee()).ok()?.signers.contains(&address).then_some(())
        })
        .await
    }

    async fn scrubbed_at(&self, endpoint: &str) -> Option<u64> {
        let calls = self.network.channels().replica(endpoint).ok()?;
        calls.status().await.ok().map(|status| status.scrubbed_at)
    }

    /// Starts a replica; what was set aside at the last start is taken away, as its operator does.
    async fn revive(&mut self, place: usize) -> Result<()> {
        let store = self.network.folder(Name::Replica(place)).join("store");
        for entry in std::fs::read_dir(&store)? {
            let path = entry?.path();
            if kind(&path).starts_with("damaged") {
                std::fs::remove_dir_all(path)?;
            }
        }
        if self.network.restart(Name::Replica(place)).await.is_err() {
            let data_dir = self.network.folder(Name::Replica(place));
            replica::scrub::set_store_aside(&data_dir).context("not startable, and not damaged")?;
            self.network.restart(Name::Replica(place)).await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_never_served_and_repaired() -> Result<()> {
    let cases = knobs::number("MERIDIAN_DAMAGE")?.unwrap_or(CASES);
    let seeds = knobs::number("MERIDIAN_SEED")?.unwrap_or(1)..;
    let parts = (0..cases).step_by(usize::try_from(CASES_PER_NETWORK)?);
    let parts = parts.map(|done| CASES_PER_NETWORK.min(cases - done)).zip(seeds);
    let parts = stream::iter(parts).map(|(cases, seed)| damage(cases, seed));
    let mut parts = parts.buffer_unordered(AT_A_TIME);
    let mut seen = Seen::new();
    while let Some(part) = parts.next().await {
        for (what, count) in part? {
            *seen.entry(what).or_default() += count;
        }
        println!("{} of {cases} cases", seen.values().sum::<u64>());
    }
    println!("by kind of file, and whether the replica ran: {seen:?}");
    Ok(())
}

/// Does harm to the replicas of one network, again and again.
async fn damage(cases: u64, seed: u64) -> Result<Seen> {
    let mut world = World::start().await?;
    let mut random = Random::new(seed);
    let mut seen = Seen::new();
    let mut case = 0;
    while case < cases {
        let place = random.place(5);
        let runs = random.one_in(2);
        let name = Name::Replica(place);
        if !runs {
            world.network.stop(name).await?;
        }
        let store = world.network.folder(name).join("store");
        // Several at once: each is a case.
        let several = (1 + random.below(9)).min(cases - case);
        for _ in 0..several {
            let files = files(&store)?;
            let mut kinds: Vec<String> = files.iter().map(|path| kind(path)).collect();
            kinds.sort();
            kinds.dedup();
            if kinds.is_empty() {
                // All of it is gone.
                break;
            }
            let chosen = random.pick(&kinds);
            let of_kind: Vec<&PathBuf> = files.iter().filter(|path| kind(path) == *chosen).collect();
            let path = *random.pick(&of_kind);
            let harm = *random.pick(&[Harm::Flip, Harm::Zero, Harm::Cut, Harm::Remove]);
            let spoiled = spoil(path, harm, &mut random);
            if !spoiled.with_context(|| format!("{harm:?} {}", path.display()))? {
                continue;
            }
            *seen.entry((chosen.clone(), runs)).or_default() += 1;
            case += 1;
        }
        let context = || {
            format!(
                "MERIDIAN_SEED={seed} MERIDIAN_DAMAGE={cases}, case {case}, replica {place}, running: {runs}"
            )
        };
        if !runs {
            world.revive(place).await.with_context(context)?;
        }
        world.until_whole(place, 1_000 + case).await.with_context(context)?;
    }
    for place in 0..5 {
        ensure!(world.has_all(place).await?, "replica {place} is not whole at the end");
    }
    for Kept { certificate, payload, .. } in &world.kept {
        let read = world.network.reader().payload(certificate.id(), &Silent).await?;
        ensure!(read.payload == *payload, "bytes differ");
    }
    Ok(seen)
}

#[test]
fn a_case_does_what_it_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("1.sst");
    for harm in [Harm::Flip, Harm::Zero, Harm::Cut, Harm::Remove] {
        let before = vec![7; 2_000];
        File::create(&path)?.write_all(&before)?;
        ensure!(spoil(&path, harm, &mut Random::new(5))?);
        ensure!(std::fs::read(&path).ok() != Some(before), "{harm:?} did nothing");
    }
    Ok(())
}
