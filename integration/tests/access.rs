//! Who may put, and how much: real processes, a file of namespaces, and copies of what somebody signed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, stream};
use meridian_client::Silent;
use meridian_client::namespaces::{Limits, Namespaces};
use meridian_client::submit::{Failure, PutError, PutOptions, Submitter, unix_now};
use meridian_integration::devnet::Devnet;
use meridian_integration::metrics::metric;
use meridian_integration::network::{eventually, options};
use meridian_integration::sidecar::Sidecar;
use meridian_integration::{keys, payload};
use meridian_node::devnet::Plan;
use meridian_proofs::authorization::{Authorization, SignedAuthorization};
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::{Address, B256, keccak256};
use meridian_proto::convert::{PutPart, PutStart};
use meridian_proto::wire::gateway_client::GatewayClient;
use meridian_proto::wire::gateway_server::{Gateway, GatewayServer};
use meridian_proto::{ApiError, Class, MAX_MESSAGE, Reason, wire};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// Longest time for a change of the file to be seen.
const PATIENCE: Duration = Duration::from_secs(60);

fn ours() -> Namespace {
    Namespace::from([5; 32])
}

fn signed_for(namespace: Namespace) -> PutOptions {
    PutOptions { namespace, ..options() }
}

/// A devnet whose gateways have a file of namespaces, and keys in a folder.
struct Guarded {
    devnet: Devnet,
    folder: TempDir,
}

impl Guarded {
    /// Two regions and two gateways: the owner of the namespace has a keystore, the writer a plain key.
    async fn start(limits: Limits) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("namespaces.toml");
        let (owner, writer) = (keys::secret("owner")?.address(), keys::secret("writer")?.address());
        Namespaces::change(&file, true, |list| {
            list.create(ours(), owner, limits)?;
            list.allow(ours(), &[writer])
        })?;
        for name in ["owner", "writer", "stranger"] {
            let text = format!("0x{}\n", hex::encode(keys::secret(name)?.to_bytes()));
            private(&folder.path().join(name), &text)?;
        }
        let variables = [
            ("MERIDIAN_ACCESS__NAMESPACES", file.to_str().context("a path")?),
            ("MERIDIAN_ACCESS__RELOAD_MS", "50"),
        ];
        let devnet = Devnet::start(&["--regions", "2", "--gateways", "2"], &variables).await?;
        Ok(Self { devnet, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn gateway(&self, place: usize) -> String {
        self.devnet.gateways()[place].clone()
    }

    fn address(&self, endpoint: &str) -> Result<Address> {
        let gateways = self.devnet.committee().gateways();
        Ok(gateways.iter().find(|gateway| gateway.endpoint == endpoint).context("a gateway")?.address)
    }

    /// A client that signs with a key.
    fn submitter(&self, word: &str) -> Result<Submitter> {
        Ok(self.devnet.submitter().signing(Arc::new(keys::secret(word)?)))
    }

    /// A client of one gateway that signs with a key.
    fn submitter_to(&self, place: usize, word: &str) -> Result<Submitter> {
        let submitter = self.devnet.submitter_to(vec![self.gateway(place)]);
        Ok(submitter.signing(Arc::new(keys::secret(word)?)))
    }

    /// The messages of a put, signed with something changed.
    fn messages(
        &self,
        payload: &Bytes,
        word: &str,
        domain: Domain,
        change: impl FnOnce(&mut Authorization),
    ) -> Result<Vec<wire::PutRequest>> {
        let start = PutStart {
            namespace: ours(),
            length: u64::try_from(payload.len())?.try_into()?,
            retention: 3_600,
            bind_payload_hash: false,
            expected_blob_id: None,
            kzg_root: None,
            authorization: None,
        };
        let mut nonce = B256::ZERO;
        getrandom::fill(nonce.as_mut_slice())?;
        let (gateway, hash) = (self.address(&self.gateway(0))?, PayloadHash(keccak256(payload)));
        let mut authorization = start.to_authorize(gateway, hash, nonce, unix_now() + 60);
        change(&mut authorization);
        let signed = SignedAuthorization::sign(authorization, &domain, &keys::secret(word)?);
        let start = PutStart { authorization: Some(signed.into()), ..start };
        Ok([PutPart::Start(start), PutPart::Chunk(payload.clone())].map(Into::into).to_vec())
    }

    async fn sizes(&self) -> Result<Vec<u64>> {
        let mut sizes = Vec::new();
        for gateway in self.devnet.gateways() {
            sizes.push(self.devnet.channels().gateway(&gateway)?.status().await?.log_size);
        }
        Ok(sizes)
    }

    /// A metric of the first gateway.
    fn metric(&self, name: &str) -> Result<f64> {
        let dir = self.devnet.folder();
        let members = Plan::load(&dir)?.members(&dir);
        let member = members.iter().find(|member| member.name == "gateway-0").context("a gateway")?;
        metric(member.http, name)
    }

    fn da(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.devnet.da()?.args(arguments).output()?)
    }
}

fn private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

/// Sends messages over a connection of their own.
async fn send(endpoint: &str, messages: Vec<wire::PutRequest>) -> Result<Result<(), ApiError>> {
    let channel = Endpoint::from_shared(endpoint.to_owned())?.connect().await?;
    let answer = GatewayClient::new(channel).put(stream::iter(messages)).await;
    Ok(answer.map(drop).map_err(|status| ApiError::from_status(&status)))
}

async fn refused(
    endpoint: &str,
    what: &str,
    messages: Vec<wire::PutRequest>,
    wanted: Reason,
) -> Result<ApiError> {
    let error = send(endpoint, messages).await?.err().with_context(|| format!("{what}: taken"))?;
    ensure!(error.reason == wanted, "{what}: {error} instead of {wanted}");
    Ok(error)
}

/// Why every gateway refused.
fn reasons(error: PutError) -> Result<Vec<Reason>> {
    let PutError::Failed(attempts) = error else { anyhow::bail!("{error}") };
    let reason = |failure| match failure {
        Failure::Call(error) => Ok(error.reason),
        other @ Failure::Certificate(_) => anyhow::bail!("{other}"),
    };
    attempts.into_iter().map(|attempt| reason(attempt.failure)).collect()
}

fn json(output: &Output) -> Result<Value> {
    ensure!(output.status.success(), "{output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A relay before a gateway that keeps the messages of every put.
#[derive(Clone)]
struct Recorder {
    gateway: GatewayClient<Channel>,
    puts: Arc<Mutex<Vec<Vec<wire::PutRequest>>>>,
    /// Whom it says to be, where that is not the gateway.
    poses_as: Option<Address>,
}

#[tonic::async_trait]
impl Gateway for Recorder {
    async fn put(
        &self,
        request: Request<Streaming<wire::PutRequest>>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        let parts = request.into_inner().filter_map(|part| std::future::ready(part.ok()));
        let messages: Vec<wire::PutRequest> = parts.collect().await;
        self.puts.lock().map_err(|_| Status::internal("poisoned"))?.push(messages.clone());
        self.gateway.clone().put(stream::iter(messages)).await
    }

    async fn get_certificate(
        &self,
        request: Request<wire::GetCertificateRequest>,
    ) -> Result<Response<wire::GetCertificateResponse>, Status> {
        self.gateway.clone().get_certificate(request.into_inner()).await
    }

    async fn get_committee(
        &self,
        request: Request<wire::GetCommitteeRequest>,
    ) -> Result<Response<wire::Committee>, Status> {
        self.gateway.clone().get_committee(request.into_inner()).await
    }

    async fn get_status(
        &self,
        request: Request<wire::GetGatewayStatusRequest>,
    ) -> Result<Response<wire::GatewayStatus>, Status> {
        let mut answer = self.gateway.clone().get_status(request.into_inner()).await?;
        if let Some(address) = self.poses_as {
            answer.get_mut().address = Bytes::copy_from_slice(address.as_slice());
        }
        Ok(answer)
    }
}

impl Recorder {
    /// Listens before a gateway, and tells where.
    async fn before(endpoint: &str, poses_as: Option<Address>) -> Result<(Self, String)> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?.connect_lazy();
        let recorder = Self { gateway: GatewayClient::new(channel), puts: Arc::default(), poses_as };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let front = format!("http://{}", listener.local_addr()?);
        let service = GatewayServer::new(recorder.clone()).max_decoding_message_size(MAX_MESSAGE);
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Ok((recorder, front))
    }

    fn last(&self) -> Result<Vec<wire::PutRequest>> {
        let puts = self.puts.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        puts.last().cloned().context("no put came by")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_and_writer_may_put_and_nobody_else() -> Result<()> {
    let guarded = Guarded::start(Limits::default()).await?;
    for (seed, word) in [(1, "owner"), (2, "writer")] {
        let receipt =
            guarded.submitter(word)?.put(payload::noise(40_000, seed), &signed_for(ours()), &Silent).await?;
        ensure!(receipt.failed.is_empty(), "{:?}", receipt.failed);
        let fetched = guarded.devnet.reader().payload(receipt.certificate.id(), &Silent).await?;
        ensure!(fetched.payload == payload::noise(40_000, seed), "other bytes");
    }
    let before = guarded.sizes().await?;
    let put = async |submitter: Submitter, options: &PutOptions| {
        let put = submitter.put(payload::noise(40_000, 3), options, &Silent).await;
        reasons(put.err().context("taken")?)
    };
    // Every gateway is asked: who may put is for each to say.
    let stranger = put(guarded.submitter("stranger")?, &signed_for(ours())).await?;
    assert_eq!(stranger, [Reason::NotPermitted; 2]);
    let unsigned = put(guarded.devnet.submitter(), &signed_for(ours())).await?;
    assert_eq!(unsigned, [Reason::AuthorizationMissing; 2]);
    let unlisted = put(guarded.submitter("owner")?, &options()).await?;
    assert_eq!(unlisted, [Reason::NamespaceUnlisted; 2]);
    assert_eq!(guarded.sizes().await?, before, "what is refused changes nothing");
    ensure!(guarded.metric("meridian_refusals_total")? >= 3.0);
    assert_eq!(guarded.metric("meridian_gateway_namespaces")?, 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_put_serves_nobody_else_also_after_a_kill() -> Result<()> {
    let guarded = Guarded::start(Limits::default()).await?;
    let (recorder, front) = Recorder::before(&guarded.gateway(0), None).await?;
    let input = guarded.path("in");
    fs::write(&input, payload::noise(50_000, 1))?;
    let [input, key] = [&input, &guarded.path("owner")].map(|path| path.to_str().map(str::to_owned));
    let (input, key) = (input.context("a path")?, key.context("a path")?);
    let namespace = ours().to_string();
    // The front is not in the committee: the client asks who is there.
    let put = ["--json", "--gateway", &front, "put", &input, "--namespace", &namespace, "--key", &key];
    let report = json(&guarded.da(&put)?)?;
    assert_eq!(report["namespace"], namespace);
    let (recorded, before) = (recorder.last()?, guarded.sizes().await?);

    let gateway = guarded.gateway(0);
    refused(&gateway, "the same again", recorded.clone(), Reason::AuthorizationReplayed).await?;
    refused(&guarded.gateway(1), "elsewhere", recorded.clone(), Reason::WrongGateway).await?;
    guarded.devnet.kill("gateway-0")?;
    guarded.devnet.revive("gateway-0")?;
    eventually(PATIENCE, "a gateway that takes puts again", async || {
        guarded
            .submitter_to(0, "owner")
            .ok()?
            .put(payload::noise(10, 9), &signed_for(ours()), &Silent)
            .await
            .ok()
    })
    .await?;
    refused(&gateway, "after a kill", recorded.clone(), Reason::AuthorizationReplayed).await?;

    // Killed as soon as a put is under way: whether or not it got anywhere, its copy gets nowhere.
    for seed in 0..3 {
        let domain = guarded.devnet.committee().domain();
        let messages = guarded.messages(&payload::noise(60_000, 100 + seed), "writer", domain, |_| ())?;
        let sent = messages.clone();
        let (endpoint, size) = (gateway.clone(), guarded.sizes().await?[0]);
        let sending = tokio::spawn(async move { send(&endpoint, sent).await });
        eventually(PATIENCE, "a put in the log", async || {
            let status = guarded.devnet.channels().gateway(&gateway).ok()?.status().await.ok()?;
            (status.log_size > size).then_some(())
        })
        .await?;
        guarded.devnet.kill("gateway-0")?;
        let _ = sending.await;
        guarded.devnet.revive("gateway-0")?;
        let answer = eventually(PATIENCE, "a gateway that answers", async || {
            let error = send(&gateway, messages.clone()).await.ok()?.err();
            error.as_ref().is_none_or(|error| error.class() != Class::Unavailable).then_some(error)
        })
        .await?;
        assert_eq!(answer.map(|error| error.reason), Some(Reason::AuthorizationReplayed));
    }
    let after = guarded.sizes().await?;
    assert_eq!((after[0], after[1]), (before[0] + 4, before[1]), "one entry for each signature");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_for_who_is_not_in_the_committee() -> Result<()> {
    let guarded = Guarded::start(Limits::default()).await?;
    let (recorder, front) = Recorder::before(&guarded.gateway(0), Some(Address::repeat_byte(9))).await?;
    let submitter = guarded.devnet.submitter_to(vec![front]).signing(Arc::new(keys::secret("owner")?));
    let put = submitter.put(payload::noise(1_000, 1), &signed_for(ours()), &Silent).await;
    assert_eq!(reasons(put.err().context("taken")?)?, [Reason::NotAGateway]);
    ensure!(recorder.last().is_err(), "a put was sent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_domains_and_payloads_are_held_to() -> Result<()> {
    let guarded = Guarded::start(Limits::default()).await?;
    let (gateway, domain) = (guarded.gateway(0), guarded.devnet.committee().domain());
    let bytes = payload::noise(9_000, 1);
    let now = unix_now();
    // Minutes beyond the limits: the clock goes on meanwhile.
    let expired = guarded.messages(&bytes, "owner", domain, |it| it.deadline = now - 120)?;
    let error = refused(&gateway, "expired", expired, Reason::AuthorizationExpired).await?;
    let clock: u64 = error.metadata["gateway_time"].parse()?;
    ensure!(clock >= now && error.metadata.contains_key("skew_s"), "{error:?}");
    let ahead = guarded.messages(&bytes, "owner", domain, |it| it.deadline = now + 3_600)?;
    refused(&gateway, "from the future", ahead, Reason::AuthorizationTooEarly).await?;
    for other in
        [Domain { chain_id: 7, ..domain }, Domain { verifying_contract: Address::repeat_byte(7), ..domain }]
    {
        let copied = guarded.messages(&bytes, "owner", other, |_| ())?;
        refused(&gateway, "of another chain", copied, Reason::NotPermitted).await?;
    }
    let mut swapped = guarded.messages(&bytes, "owner", domain, |_| ())?;
    swapped[1] = PutPart::Chunk(payload::noise(9_000, 2)).into();
    refused(&gateway, "another payload", swapped, Reason::PayloadHashMismatch).await?;
    assert_eq!(guarded.sizes().await?, [0, 0]);
    send(&gateway, guarded.messages(&bytes, "owner", domain, |_| ())?).await??;
    assert_eq!(guarded.sizes().await?, [1, 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_survive_a_kill() -> Result<()> {
    let limits = Limits { stored_bytes: Some(50_000), ..Limits::default() };
    let guarded = Guarded::start(limits).await?;
    let put = async |length: usize, seed: u64| {
        guarded
            .submitter_to(0, "owner")?
            .put(payload::noise(length, seed), &signed_for(ours()), &Silent)
            .await
            .map_or_else(|error| reasons(error).map(|reasons| reasons.first().copied()), |_| Ok(None))
    };
    assert_eq!(put(30_000, 1).await?, None);
    assert_eq!(put(20_001, 2).await?, Some(Reason::QuotaExceeded));
    assert_eq!(put(20_000, 3).await?, None);
    assert_eq!(put(1, 4).await?, Some(Reason::QuotaExceeded));
    assert_eq!(put(20_000, 3).await?, None, "it is there already");
    guarded.devnet.kill("gateway-0")?;
    guarded.devnet.revive("gateway-0")?;
    let after = eventually(PATIENCE, "a gateway that answers", async || {
        let reason = put(1, 5).await.ok()?;
        reason.is_none_or(|reason| reason.class() != Class::Unavailable).then_some(reason)
    })
    .await?;
    assert_eq!(after, Some(Reason::QuotaExceeded), "the log says what is stored");

    // Less than a payload a second, for a namespace of its own.
    let other = Namespace::from([6; 32]);
    let owner = keys::secret("owner")?.address();
    let slow = Limits { bytes_per_second: Some(1_024), burst_bytes: Some(40_960), ..Limits::default() };
    Namespaces::change(&guarded.path("namespaces.toml"), false, |list| list.create(other, owner, slow))?;
    let submitter = guarded.submitter_to(0, "owner")?;
    eventually(PATIENCE, "the new namespace", async || {
        submitter.put(payload::noise(40_000, 6), &signed_for(other), &Silent).await.ok()
    })
    .await?;
    let refused = submitter.put(payload::noise(40_000, 7), &signed_for(other), &Silent).await;
    let PutError::Failed(attempts) = refused.err().context("taken")? else { anyhow::bail!("not refused") };
    let Failure::Call(error) = &attempts[0].failure else { anyhow::bail!("{attempts:?}") };
    assert_eq!(error.reason, Reason::TooManyRequests);
    ensure!(error.retry_after.is_some_and(|wait| wait > Duration::from_secs(1)), "{error:?}");
    let long = submitter.put(payload::noise(40_961, 8), &signed_for(other), &Silent).await;
    assert_eq!(reasons(long.err().context("taken")?)?, [Reason::PayloadTooLarge]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_namespaces_by_the_command_line() -> Result<()> {
    let guarded = Guarded::start(Limits::default()).await?;
    let text = |path: PathBuf| path.to_str().map(str::to_owned).context("a path");
    private(&guarded.path("password"), "correct horse\n")?;
    let (password, store) = (text(guarded.path("password"))?, text(guarded.path("store"))?);
    let made =
        json(&guarded.da(&["--json", "key", "new", "--out", &store, "--password-file", &password])?)?;
    let address = made["address"].as_str().context("an address")?.to_owned();
    let shown = guarded.da(&["key", "show", &store, "--password-file", &password])?;
    assert_eq!(String::from_utf8(shown.stdout)?.trim(), address);
    assert_eq!(
        guarded.da(&["key", "new", "--out", &store, "--password-file", &password])?.status.code(),
        Some(1)
    );

    let (file, input) = (text(guarded.path("namespaces.toml"))?, text(guarded.path("in"))?);
    fs::write(&input, payload::noise(20_000, 1))?;
    let namespace = Namespace::from([8; 32]).to_string();
    let put = ["put", &input, "--namespace", &namespace, "--key", &store, "--password-file", &password];
    let denied = guarded.da(&put)?;
    assert_eq!(denied.status.code(), Some(6), "{denied:?}");
    ensure!(String::from_utf8_lossy(&denied.stderr).contains("NAMESPACE_UNLISTED"), "{denied:?}");

    let owner = keys::secret("owner")?.address().to_string();
    let create = ["namespace", "create", &file, "--namespace", &namespace, "--owner", &owner];
    ensure!(guarded.da(&create)?.status.success());
    assert_eq!(guarded.da(&create)?.status.code(), Some(6), "it is there already");
    let member =
        |verb: &str| guarded.da(&["namespace", verb, &file, "--namespace", &namespace, "--writer", &address]);
    ensure!(member("allow")?.status.success());
    let listed = json(&guarded.da(&["--json", "namespace", "list", &file])?)?;
    assert_eq!(listed["namespaces"][1]["writers"][0], address.as_str());
    eventually(PATIENCE, "a writer that is let in", async || {
        guarded.da(&put).ok().filter(|output| output.status.success())
    })
    .await?;

    // A file that is broken changes nothing, and is counted.
    let good = fs::read(&file)?;
    let loads = || guarded.metric("meridian_gateway_namespace_loads_total");
    let before = loads()?;
    fs::write(&file, "nonsense")?;
    eventually(PATIENCE, "a broken file that is seen", async || {
        loads().ok().filter(|loads| *loads > before).map(drop)
    })
    .await?;
    ensure!(guarded.da(&put)?.status.success(), "the last good file stays in force");
    fs::write(&file, good)?;
    ensure!(member("deny")?.status.success());
    eventually(PATIENCE, "a writer that is kept out", async || {
        let output = guarded.da(&put).ok()?;
        String::from_utf8_lossy(&output.stderr).contains("NOT_PERMITTED").then_some(())
    })
    .await?;
    let whole = ["namespace", "deny", &file, "--namespace", &namespace, "--everybody"];
    ensure!(guarded.da(&whole)?.status.success());
    eventually(PATIENCE, "a namespace that is gone", async || {
        let output = guarded.da(&put).ok()?;
        String::from_utf8_lossy(&output.stderr).contains("NAMESPACE_UNLISTED").then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_signs_for_its_batcher() -> Result<()> {
    let guarded = Guarded::start(Limits::default()).await?;
    let key = guarded.path("writer");
    let key = key.to_str().context("a path")?;
    let namespace = ours().to_string();
    let with = async |arguments: &[&str]| {
        let command: Command = guarded.devnet.da()?;
        Sidecar::start(command, &[&["--namespace", &namespace, "--patience", "1"], arguments].concat()).await
    };
    let input = payload::noise(30_000, 1);
    let path = format!("/put/0x00{}", hex::encode(keccak256(&input)));
    let signing = with(&["--key", key]).await?;
    let put = signing.ask("PUT", &path, &input).await?;
    ensure!(put.status == 200, "{}: {}", put.status, put.text());
    drop(signing);
    let unsigned = with(&[]).await?;
    let other = payload::noise(30_000, 2);
    let path = format!("/put/0x00{}", hex::encode(keccak256(&other)));
    let put = unsigned.ask("PUT", &path, &other).await?;
    ensure!(
        put.status == 400 && put.text().contains("AUTHORIZATION_MISSING"),
        "{}: {}",
        put.status,
        put.text()
    );
    Ok(())
}
