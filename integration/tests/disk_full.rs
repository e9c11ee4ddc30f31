//! Disks that fill up, under a network of real processes: what cannot be kept is refused, what was promised is kept and
//! served, and writing goes on by itself when there is room again.
//!
//! Each member's data is on a small tmpfs of its own, in a mount namespace that ends with the test.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use meridian_client::Silent;
use meridian_client::fetch::ReadError;
use meridian_client::rpc::Upload;
use meridian_client::submit::{Failure, PutError, PutOptions, unix_now};
use meridian_integration::devnet::Devnet;
use meridian_integration::kept::Kept;
use meridian_integration::network::{eventually, options};
use meridian_integration::payload;
use meridian_node::devnet::Plan;
use meridian_proofs::checkpoint::{Dispersal, SignedDispersal};
use meridian_proofs::committee::Seat;
use meridian_proofs::encode::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::BlobId;
use meridian_proofs::placement;
use meridian_proofs::{Address, B256};
use meridian_proto::convert::ReplicaStatus;
use meridian_proto::error::{ApiError, Class, Reason};
use nix::sys::statvfs::statvfs;

const MIB: u64 = 1 << 20;
/// Size of each disk, of which RocksDB takes some 40 MiB for its log beforehand.
const DISK: u64 = 192 * MIB;
/// `node.min_free_bytes` of every member.
const MIN_FREE: u64 = 32 * MIB;
/// Seconds for which rows are kept that no entry names.
const UNSIGNED: u64 = 6;
/// Longest time for what must happen by itself.
const PATIENCE: Duration = Duration::from_secs(90);
/// Set for the process that has a mount namespace of its own.
const INSIDE: &str = "MERIDIAN_OWN_MOUNTS";
const TEST: &str = "what_was_promised_is_kept_when_disks_are_full_and_writing_goes_on_when_there_is_room";

#[test]
fn what_was_promised_is_kept_when_disks_are_full_and_writing_goes_on_when_there_is_room() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new()?.block_on(scenarios());
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "--fork", "--kill-child"]);
        command
    };
    let may_mount = unshare().args(["mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !may_mount.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: this machine lets nobody mount a tmpfs in a namespace: {may_mount:?}");
        return Ok(());
    }
    let mut inside = unshare();
    inside.arg(std::env::current_exe()?).args(["--exact", TEST, "--nocapture"]).env(INSIDE, "1");
    let status = inside.status()?;
    ensure!(status.success(), "{status}: see above");
    Ok(())
}

async fn scenarios() -> Result<()> {
    let mut world = World::start().await?;
    for (length, seed) in [(900, 1), (130_000, 2), (2 << 20, 3)] {
        let kept = world.put(payload::noise(length, seed), 3_600).await?;
        world.until_held_by_all(&kept).await?;
        world.kept.push(kept);
    }
    let outcome = world.run().await;
    outcome.with_context(|| world.said())
}

/// The disk below one member's data.
struct Disk(PathBuf);

impl Disk {
    /// Puts a disk below a folder, with what is in the folder.
    fn below(folder: PathBuf) -> Result<Self> {
        let before = folder.with_extension("before");
        fs::rename(&folder, &before)?;
        fs::create_dir(&folder)?;
        let size = format!("size={DISK}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&folder))?;
        run(Command::new("cp").arg("-a").arg(before.join(".")).arg(&folder))?;
        fs::remove_dir_all(&before)?;
        Ok(Self(folder))
    }

    fn left(&self) -> Result<u64> {
        let stat = statvfs(&self.0)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }

    /// Leaves so many bytes, or a little less.
    fn fill(&self, leave: u64) -> Result<()> {
        let mut filler = File::options().create(true).append(true).open(self.filler())?;
        let page = vec![0; 64 << 10];
        while self.left()? > leave {
            let length = usize::try_from((self.left()? - leave).min(64 << 10))?;
            match filler.write_all(&page[..length]) {
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                written => written?,
            }
        }
        Ok(())
    }

    /// Takes away what [`Disk::fill`] wrote.
    fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

struct World {
    devnet: Devnet,
    /// Names and disks of the replicas, in the order of the committee's seats; the gateway's.
    replicas: Vec<(String, Disk)>,
    gateway: Disk,
    /// What is on the disk of every replica.
    kept: Vec<Kept>,
    seed: u64,
}

impl World {
    async fn start() -> Result<Self> {
        let devnet = Devnet::start(&[], &[]).await?;
        let members = Plan::load(&devnet.folder())?.members(&devnet.folder());
        let (mut replicas, mut gateway) = (Vec::new(), None);
        for member in &members {
            devnet.kill(&member.name)?;
            set(&member.config(), "node", "min_free_bytes", MIN_FREE)?;
            if member.role == "replica" {
                set(&member.config(), "replica", "unsigned_seconds", UNSIGNED)?;
                set(&member.config(), "replica", "sweep_seconds", 1)?;
            } else {
                set(&member.config(), "gateway", "certificate_wait_ms", 5_000)?;
            }
            let disk = Disk::below(member.dir.join("data"))?;
            devnet.revive(&member.name)?;
            match member.role {
                "replica" => replicas.push((member.name.clone(), member.endpoint(), disk)),
                _ => gateway = Some(disk),
            }
        }
        let place = |endpoint: &str| devnet.committee().seats().iter().position(|it| it.endpoint == endpoint);
        replicas.sort_by_key(|(_, endpoint, _)| place(endpoint));
        let replicas = replicas.into_iter().map(|(name, _, disk)| (name, disk)).collect();
        let gateway = gateway.context("a gateway")?;
        Ok(Self { devnet, replicas, gateway, kept: Vec::new(), seed: 100 })
    }

    async fn run(&mut self) -> Result<()> {
        type Scenario = (&'static str, for<'a> fn(&'a mut World) -> Future<'a>);
        type Future<'a> = std::pin::Pin<Box<dyn std::future::Future<Output = Result<()>> + 'a>>;
        let all: [Scenario; 9] = [
            ("one replica has no room for rows: the others certify", |w| Box::pin(w.one_without_room())),
            ("and room comes back: it fetches what it missed", |w| Box::pin(w.room_comes_back(0))),
            ("no room for rows, room for promises", |w| Box::pin(w.room_for_promises())),
            ("no room for a quorum: refused whole, and certified later", |w| Box::pin(w.no_quorum())),
            ("rows that nobody was promised make room by themselves", |w| Box::pin(w.unsigned_rows_go())),
            ("killed and started without room", |w| Box::pin(w.killed_when_full())),
            ("not one byte left for a replica that keeps nothing free", |w| Box::pin(w.last_byte())),
            ("the gateway's disk is full", |w| Box::pin(w.gateway_full())),
            ("a new disk that is too small for what is owed", |w| Box::pin(w.small_new_disk())),
        ];
        for (name, scenario) in all {
            println!("- {name}");
            scenario(self).await.context(name)?;
            for kept in &self.kept {
                self.until_held_by_all(kept).await.context(name)?;
                let read = self.devnet.reader().payload(kept.certificate.id(), &Silent).await?;
                ensure!(read.payload == kept.payload, "{name}: other bytes");
            }
        }
        Ok(())
    }

    async fn one_without_room(&mut self) -> Result<()> {
        self.fill_up_to(0, MIN_FREE - MIB)?;
        let missed = self.put_new(130_000).await?;
        ensure!(!self.signers(&missed)?.contains(&self.seat(0).address), "signed for rows that it refused");
        ensure!(!self.holds(0, &missed).await?, "kept rows that it had no room for");
        self.serves(0).await?;
        self.kept.push(missed);
        self.replicas[0].1.make_room()
    }

    async fn room_comes_back(&mut self, place: usize) -> Result<()> {
        self.until_whole(place).await?;
        self.until_signs(place).await
    }

    /// An entry for rows that are there is a few bytes.
    async fn room_for_promises(&mut self) -> Result<()> {
        self.fill_up_to(1, MIN_FREE - MIB)?;
        let payload = self.kept[1].payload.clone();
        let longer = self.put(payload.clone(), 10_000).await?;
        let (gateway, own) = (self.devnet.gateways().remove(0), self.seat(1).address);
        let gateway = self.devnet.channels().gateway(&gateway)?;
        eventually(PATIENCE, "a cosignature without room for rows", async || {
            let fuller = gateway.certificate(longer.certificate.id(), None).await.ok()?;
            fuller.verify(self.devnet.committee()).ok()?.signers.contains(&own).then_some(())
        })
        .await?;
        self.replicas[1].1.fill(MIN_FREE / 2 - MIB)?;
        let longest = self.put(payload, 20_000).await?;
        ensure!(!self.signers(&longest)?.contains(&own), "signed without room for anything");
        self.serves(1).await?;
        self.replicas[1].1.make_room()?;
        self.until_signs(1).await
    }

    async fn no_quorum(&mut self) -> Result<()> {
        self.fill_up_to(0, MIN_FREE - MIB)?;
        self.fill_up_to(1, MIN_FREE - MIB)?;
        let payload = self.new_payload(MIB);
        let error = self.refusal(payload.clone()).await?;
        ensure!(matches!(error.reason.class(), Class::Unavailable | Class::Overloaded), "{error:?}");
        let id = encode::<Blake3>(&payload, B256::ZERO)?.id();
        let certificate =
            self.devnet.channels().gateway(&self.devnet.gateways()[0])?.certificate(id, None).await;
        ensure!(certificate.is_err(), "a certificate without a quorum");
        for place in 0..5 {
            self.serves(place).await?;
        }
        self.replicas[0].1.make_room()?;
        self.replicas[1].1.make_room()?;
        let kept = eventually(PATIENCE, "a certificate when there is room", async || {
            self.put(payload.clone(), 3_600).await.ok()
        })
        .await?;
        self.kept.push(kept);
        Ok(())
    }

    async fn unsigned_rows_go(&mut self) -> Result<()> {
        let payload = self.new_payload(24 * MIB);
        let before = self.status(2).await?.row_bytes;
        let id = self.upload(2, &payload).await?;
        ensure!(self.status(2).await?.row_bytes > before + 24 * MIB - 1, "the rows are not there");
        self.fill_up_to(2, MIN_FREE - 2 * MIB)?;
        eventually(PATIENCE, "room where rows were that nobody was promised", async || {
            let left = self.replicas[2].1.left().ok()?;
            let rows = self.status(2).await.ok()?.row_bytes;
            (rows == before && left > MIN_FREE).then_some(())
        })
        .await?;
        let read = self.devnet.reader().payload(id, &Silent).await;
        ensure!(matches!(read, Err(ReadError::Unknown { .. })), "{read:?}");
        self.replicas[2].1.make_room()?;
        self.until_signs(2).await
    }

    async fn killed_when_full(&mut self) -> Result<()> {
        self.fill_up_to(2, MIN_FREE / 2 - MIB)?;
        self.restart(2)?;
        // A start gives the rest of the old log back.
        self.fill_up_to(2, MIN_FREE / 2 - MIB)?;
        self.serves(2).await?;
        let missed = self.put_new(50_000).await?;
        ensure!(!self.holds(2, &missed).await?, "kept rows that it had no room for");
        self.kept.push(missed);
        // With nothing left at all it cannot even start, and says why.
        self.devnet.kill(&self.replicas[2].0)?;
        self.replicas[2].1.fill(0)?;
        let error = self.devnet.revive(&self.replicas[2].0);
        let error = error.err().context("started without a byte of room")?;
        ensure!(format!("{error:#}").contains("disk of the store"), "{error:#}");
        self.replicas[2].1.make_room()?;
        self.devnet.revive(&self.replicas[2].0)?;
        self.room_comes_back(2).await
    }

    /// Writes fail here, and not only checks before them.
    async fn last_byte(&mut self) -> Result<()> {
        let config = self.devnet.folder().join(&self.replicas[3].0).join("config.toml");
        set(&config, "node", "min_free_bytes", 0)?;
        self.restart(3)?;
        self.until_whole(3).await?;
        self.fill_up_to(3, 0)?;
        for length in [20_000, 300_000, 2 * MIB, 900] {
            let missed = self.put_new(length).await?;
            self.kept.push(missed);
            self.serves(3).await?;
        }
        self.replicas[3].1.make_room()?;
        self.room_comes_back(3).await?;
        set(&config, "node", "min_free_bytes", MIN_FREE)?;
        self.restart(3)
    }

    async fn gateway_full(&mut self) -> Result<()> {
        self.gateway.fill(MIN_FREE - MIB)?;
        let payload = self.new_payload(130_000);
        let error = self.refusal(payload.clone()).await?;
        ensure!(error.reason == Reason::StorageFull && error.retry_after.is_some(), "{error:?}");
        let gateway = self.devnet.channels().gateway(&self.devnet.gateways()[0])?;
        for kept in &self.kept {
            gateway.certificate(kept.certificate.id(), None).await?.verify(self.devnet.committee())?;
        }
        self.gateway.make_room()?;
        let kept = self.put(payload, 3_600).await?;
        self.kept.push(kept);
        Ok(())
    }

    async fn small_new_disk(&mut self) -> Result<()> {
        let (name, disk) = &self.replicas[4];
        self.devnet.kill(name)?;
        fs::remove_dir_all(disk.0.join("store"))?;
        // Room for what RocksDB takes at once and for entries, and little or none for rows.
        disk.fill(MIN_FREE + 38 * MIB)?;
        self.devnet.revive(name)?;
        eventually(PATIENCE, "a repair that has stopped for lack of room", async || {
            let status = self.status(4).await.ok()?;
            (status.logs_behind == 0 && status.repair_left > 0).then_some(())
        })
        .await?;
        ensure!(disk.left()? > MIN_FREE / 2, "the repair took what has to stay free");
        disk.make_room()?;
        self.room_comes_back(4).await
    }

    fn seat(&self, place: usize) -> &Seat {
        &self.devnet.committee().seats()[place]
    }

    fn fill_up_to(&self, place: usize, leave: u64) -> Result<()> {
        self.replicas[place].1.fill(leave)
    }

    fn restart(&self, place: usize) -> Result<()> {
        self.devnet.kill(&self.replicas[place].0)?;
        self.devnet.revive(&self.replicas[place].0)
    }

    fn new_payload(&mut self, length: u64) -> Bytes {
        self.seed += 1;
        payload::noise(usize::try_from(length).unwrap_or(usize::MAX), self.seed)
    }

    async fn put(&self, payload: Bytes, retention: u64) -> Result<Kept> {
        let options = PutOptions { retention, ..options() };
        let receipt = self.devnet.submitter().put(payload.clone(), &options, &Silent).await?;
        Kept::new(receipt.certificate, payload)
    }

    async fn put_new(&mut self, length: u64) -> Result<Kept> {
        let payload = self.new_payload(length);
        self.put(payload, 3_600).await
    }

    /// What the gateway answers to a put that cannot succeed now.
    async fn refusal(&self, payload: Bytes) -> Result<ApiError> {
        match self.devnet.submitter().put(payload, &options(), &Silent).await {
            Ok(_) => bail!("certified without room"),
            Err(PutError::Failed(attempts)) => match attempts.into_iter().next_back() {
                Some(attempt) => match attempt.failure {
                    Failure::Call(error) => Ok(error),
                    failure => bail!("{failure}"),
                },
                None => bail!("no attempt"),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a replica its rows of a blob, as the gateway does, that comes under no entry.
    async fn upload(&self, place: usize, payload: &Bytes) -> Result<BlobId> {
        let key = meridian_node::key::load(&self.devnet.folder().join("gateway-0").join("key"))?;
        let (committee, seat) = (self.devnet.committee(), self.seat(place));
        let blob = encode::<Blake3>(payload, B256::ZERO)?;
        let dispersal = Dispersal {
            gateway: key.address(),
            replica: seat.address,
            epoch: committee.epoch(),
            blob_id: blob.id(),
            deadline: unix_now() + 30,
        };
        let permit = SignedDispersal::sign(dispersal, &committee.domain(), &key);
        let interval = placement::interval(committee, seat, &blob.id(), blob.shape());
        let ranges = interval.ranges().iter();
        let ranges = ranges.map(|range| (*range, blob.range_proof(*range), blob.rows(*range))).collect();
        let upload = Upload { rlc: blob.rlc().to_bytes().into(), ranges };
        self.devnet.channels().replica(&seat.endpoint)?.disperse(permit, *blob.header(), upload).await?;
        Ok(blob.id())
    }

    fn signers(&self, kept: &Kept) -> Result<Vec<Address>> {
        Ok(kept.certificate.verify(self.devnet.committee())?.signers)
    }

    async fn holds(&self, place: usize, kept: &Kept) -> Result<bool> {
        kept.is_held(self.devnet.channels(), self.devnet.committee(), self.seat(place)).await
    }

    /// A replica answers, and has everything on disk that it promised before.
    async fn serves(&self, place: usize) -> Result<()> {
        for kept in &self.kept {
            if self.signers(kept)?.contains(&self.seat(place).address) {
                // It may be starting again just now.
                eventually(PATIENCE, "rows of a replica that is full", async || {
                    self.holds(place, kept).await.is_ok_and(|holds| holds).then_some(())
                })
                .await?;
            }
        }
        Ok(())
    }

    async fn status(&self, place: usize) -> Result<ReplicaStatus> {
        Ok(self.devnet.channels().replica(&self.seat(place).endpoint)?.status().await?)
    }

    async fn until_held_by_all(&self, kept: &Kept) -> Result<()> {
        for place in 0..self.replicas.len() {
            let what = format!("{} with all rows of {}", self.replicas[place].0, kept.certificate.id());
            eventually(PATIENCE, &what, async || {
                self.holds(place, kept).await.is_ok_and(|holds| holds).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    async fn until_whole(&self, place: usize) -> Result<()> {
        eventually(PATIENCE, "a replica with nothing left to repair", async || {
            let status = self.status(place).await.ok()?;
            (status.repair_left == 0 && status.logs_behind == 0 && !status.store_failed).then_some(())
        })
        .await
    }

    /// Puts until a replica signs for what is put.
    async fn until_signs(&mut self, place: usize) -> Result<()> {
        let kept = self.put_new(700).await?;
        let (own, gateway) = (self.seat(place).address, self.devnet.gateways().remove(0));
        let gateway = self.devnet.channels().gateway(&gateway)?;
        eventually(PATIENCE, "a cosignature when there is room", async || {
            let fuller = gateway.certificate(kept.certificate.id(), None).await.ok()?;
            fuller.verify(self.devnet.committee()).ok()?.signers.contains(&own).then_some(())
        })
        .await?;
        self.kept.push(kept);
        Ok(())
    }

    /// How the logs of all members end.
    fn said(&self) -> String {
        let mut said = self.devnet.output();
        for (name, _) in &self.replicas {
            let log = fs::read_to_string(self.devnet.folder().join(name).join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(30)..].join("\n");
            said.push_str(&format!("== {name}\n{end}\n"));
        }
        said
    }
}

/// Changes a setting in a member's config.
fn set(config: &Path, part: &str, name: &str, value: u64) -> Result<()> {
    let mut table: toml::Table = toml::from_str(&fs::read_to_string(config)?)?;
    let part = table.get_mut(part).and_then(toml::Value::as_table_mut).context("a part of the config")?;
    part.insert(name.to_owned(), i64::try_from(value)?.into());
    Ok(fs::write(config, toml::to_string(&table)?)?)
}
