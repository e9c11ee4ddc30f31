//! Nothing is acknowledged before it is on disk, as the system calls of real processes show.
//!
//! `strace` writes down what a replica and a gateway ask of the kernel from their start on. Of each request that names a
//! blob, and of its answer, the HTTP/2 frames on the connection tell where in the trace they are. In between, every file
//! that was given bytes with the blob's id, and every segment, must have been synced after the last of them, and every file that was made
//! must have got its place in a synced folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use meridian_client::Silent;
use meridian_client::submit::PutOptions;
use meridian_integration::network::{eventually, options};
use meridian_integration::pair::Pair;
use meridian_integration::payload;
use meridian_proofs::B256;
use meridian_proofs::encode::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::BlobId;

const TRACED: &str = "trace=openat,creat,rename,renameat,renameat2,write,pwrite64,writev,pwritev,pwritev2,fsync,\
                      fdatasync,recvfrom,recvmsg,read,readv,sendto,sendmsg";

/// What a client of HTTP/2 says first.
const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_had_been_synced() -> Result<()> {
    if !can_trace()? {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let dir = dir.path().canonicalize()?;
    Pair::prepare(&dir)?;
    let pair = Pair::start(&dir, &[], Some(strace)).await?;
    let endpoints = [("replica", pair.replica().to_owned()), ("gateway", pair.gateway().to_owned())];
    let mut ids = Vec::new();
    for length in [100, 20_000, 1 << 20] {
        let payload = payload::noise(length, 1);
        let id = encode::<Blake3>(&payload, B256::ZERO)?.id();
        // A request that says which blob it expects names it.
        let options = PutOptions { expected: Some(id), ..options() };
        pair.submitter().put(payload, &options, &Silent).await?;
        ids.push(id);
    }
    pair.stop()?;
    for (role, endpoint) in endpoints {
        let text = eventually(Duration::from_secs(60), "the end of a trace", async || {
            let text = fs::read_to_string(trace_file(&dir, role)).ok()?;
            let ended = text.lines().next_back()?.ends_with("+++ exited with 0 +++");
            ended.then_some(text)
        });
        let calls = calls(&text.await?)?;
        let address = endpoint.strip_prefix("http://").context("an address")?;
        let requests = requests(&calls, address);
        // The replica is given rows, then asked for a cosignature; the gateway is given the payload.
        let expected = if role == "replica" { 2 } else { 1 };
        for id in &ids {
            let named: Vec<_> = requests.iter().filter(|request| request.names(id)).collect();
            ensure!(named.len() >= expected, "the {role} got {} requests for {id}", named.len());
            for request in named {
                check(&calls, &dir.join(role), request, id).with_context(|| format!("{role}, {id}"))?;
            }
        }
    }
    Ok(())
}

/// Every file in the store that was given bytes with the id between a request and its answer was synced in time.
fn check(calls: &[Call], store: &Path, request: &Request, id: &BlobId) -> Result<()> {
    let before = |call: &&Call| call.ended < request.answered;
    let synced = |path: &Path, after: usize| {
        calls.iter().filter(before).any(|call| {
            matches!(call.name.as_str(), "fsync" | "fdatasync") && call.path() == path && call.begun > after
        })
    };
    let mut written = BTreeMap::new();
    for call in calls.iter().filter(|call| call.begun > request.begun && call.begun < request.answered) {
        let path = call.path();
        if call.is_sent() && path.starts_with(store) && (is_segment(path) || has(&call.data, id)) {
            written.insert(path, call.ended);
        }
    }
    ensure!(!written.is_empty(), "nothing was written before the answer");
    for (path, ended) in &written {
        ensure!(synced(path, *ended), "{} was not synced before the answer", path.display());
    }
    for call in calls.iter().filter(before).filter(|call| call.made.starts_with(store)) {
        let (name, folder) = (call.made.file_name(), call.made.parent());
        // What RocksDB says about its work, and its lock, hold nothing.
        if name.is_some_and(|name| name == "LOCK" || name.to_string_lossy().starts_with("LOG")) {
            continue;
        }
        ensure!(synced(folder.context("a folder")?, call.ended), "{} has no place", call.made.display());
    }
    Ok(())
}

/// Segments hold values and no keys: one request is made at a time, so all that they are given is of this blob.
fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}

fn has(data: &[u8], id: &BlobId) -> bool {
    data.windows(32).any(|window| window == id.as_bytes())
}

/// Whether processes can be traced here; where `CI` is true they must be.
fn can_trace() -> Result<bool> {
    let mut command = Command::new("strace");
    command.args(["-o", "/dev/null", "true"]).stderr(Stdio::null());
    if command.status().is_ok_and(|status| status.success()) {
        return Ok(true);
    }
    if std::env::var_os("CI").is_some_and(|value| value == "true") {
        bail!("strace is not there or may not trace: run .ci/deps, and allow ptrace");
    }
    println!("skipped: strace is not there or may not trace; .ci/deps installs it");
    Ok(false)
}

/// The host stays this program's child, and signals reach it.
fn strace(dir: &Path, role: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["--daemonize", "-f", "-yy", "-xx", "-s", "16777216", "-e", TRACED, "-o"]);
    command.arg(trace_file(dir, role));
    command
}

fn trace_file(dir: &Path, role: &str) -> PathBuf {
    dir.join(format!("{role}.trace"))
}

/// A system call that succeeded.
struct Call {
    name: String,
    /// The file or connection that its first argument is.
    on: String,
    /// The file that it made or renamed into place, if it did.
    made: PathBuf,
    /// Bytes that went in or out.
    data: Vec<u8>,
    /// The lines of the trace on which it begins and ends.
    begun: usize,
    ended: usize,
}

impl Call {
    fn path(&self) -> &Path {
        Path::new(&self.on)
    }

    fn is_sent(&self) -> bool {
        self.name.contains("write") || self.name.starts_with("send")
    }

    fn is_received(&self) -> bool {
        self.name.starts_with("recv") || self.name.starts_with("read")
    }
}

/// The calls of a trace. What another thread's call interrupts stands in two lines.
fn calls(trace: &str) -> Result<Vec<Call>> {
    let mut unfinished: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let (process, rest) = line.split_once(' ').context("a process")?;
        let rest = rest.trim_start();
        let (begun, text) = if let Some(begin) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(process, (at, begin));
            continue;
        } else if rest.starts_with("<... ") {
            let (_, end) = rest.split_once(" resumed>").context("the end of a call")?;
            let (begun, begin) = unfinished.remove(process).context("the begin of a call")?;
            (begun, [begin, end].concat())
        } else {
            (at, rest.to_owned())
        };
        // Signals and ends of threads have no result.
        let Some((call, result)) = text.rsplit_once(" = ") else { continue };
        let digits = result.find(|c: char| !c.is_ascii_digit()).unwrap_or(result.len());
        let Ok(result) = result[..digits].parse::<usize>() else { continue };
        let (name, arguments) = call.split_once('(').context("arguments")?;
        let mut strings = arguments.split('"').skip(1).step_by(2);
        let mut made = PathBuf::new();
        let mut data = Vec::new();
        match name {
            "openat" if !arguments.contains("O_CREAT") => continue,
            "openat" | "creat" => made = path(strings.next().context("a path")?)?,
            "rename" | "renameat" | "renameat2" => made = path(strings.nth(1).context("a path")?)?,
            _ => {
                for string in strings {
                    data.extend(bytes(string)?);
                }
                // Of several buffers, or of one that is longer, no more than the result went.
                data.truncate(result);
            }
        }
        let on = arguments.split_once('<').map_or("", |(_, on)| on);
        let on = match on.strip_prefix("TCP:[") {
            Some(on) => on.split_once(']').context("a connection")?.0.to_owned(),
            None => path(on.split_once('>').map_or("", |(on, _)| on))?.to_string_lossy().into_owned(),
        };
        calls.push(Call { name: name.to_owned(), on, made, data, begun, ended: at });
    }
    Ok(calls)
}

/// The bytes of a text like `\x2f\x74`.
fn bytes(text: &str) -> Result<Vec<u8>> {
    hex::decode(text.replace("\\x", "")).with_context(|| format!("not in hex: {text:.80}"))
}

/// A path as a trace has it: descriptors that are no files have names that are not in hex.
fn path(text: &str) -> Result<PathBuf> {
    if !text.starts_with("\\x") {
        return Ok(PathBuf::new());
    }
    Ok(String::from_utf8(bytes(text.trim_end_matches("(deleted)"))?)?.into())
}

/// A request that was answered.
struct Request {
    data: Vec<u8>,
    /// Where in the trace its first bytes came, and the first of the answer's message left.
    begun: usize,
    answered: usize,
}

impl Request {
    fn names(&self, id: &BlobId) -> bool {
        has(&self.data, id)
    }
}

/// What was asked of and answered by a server at an address, connection by connection and stream by stream.
fn requests(calls: &[Call], address: &str) -> Vec<Request> {
    #[derive(Default)]
    struct Connection {
        received: Frames,
        sent: Frames,
        open: BTreeMap<u32, (usize, Vec<u8>)>,
    }
    let mut connections: BTreeMap<&str, Connection> = BTreeMap::new();
    let mut requests = Vec::new();
    for call in calls.iter().filter(|call| call.on.starts_with(&format!("{address}->"))) {
        let connection = connections.entry(&call.on).or_default();
        if call.is_received() {
            connection.received.skip.get_or_insert(PREFACE);
            connection.received.push(&call.data, call.ended, |kind, stream, at, payload| match kind {
                HEADERS => {
                    connection.open.entry(stream).or_insert((at, Vec::new()));
                }
                DATA => {
                    if let Some((_, data)) = connection.open.get_mut(&stream) {
                        data.extend(payload);
                    }
                }
                _ => {}
            });
        } else if call.is_sent() {
            connection.sent.push(&call.data, call.begun, |kind, stream, at, _| {
                if kind == DATA
                    && let Some((begun, data)) = connection.open.remove(&stream)
                {
                    requests.push(Request { data, begun, answered: at });
                }
            });
        }
    }
    requests
}

/// One direction of a connection.
#[derive(Default)]
struct Frames {
    buffer: Vec<u8>,
    /// Where in the trace the first byte of the buffer is.
    at: usize,
    /// Bytes before the first frame, if it is known how many.
    skip: Option<usize>,
}

impl Frames {
    fn push(&mut self, bytes: &[u8], at: usize, mut each: impl FnMut(u8, u32, usize, &[u8])) {
        let skip = self.skip.get_or_insert(0);
        let skipped = bytes.len().min(*skip);
        *skip -= skipped;
        if self.buffer.is_empty() {
            self.at = at;
        }
        self.buffer.extend(&bytes[skipped..]);
        let mut rest = &self.buffer[..];
        while let Some((&[a, b, c, kind, _, s0, s1, s2, s3], behind)) = rest.split_first_chunk() {
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            let Some((payload, behind)) = behind.split_at_checked(length) else { break };
            each(kind, u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), self.at, payload);
            rest = behind;
            self.at = at;
        }
        self.buffer = rest.to_vec();
    }
}
