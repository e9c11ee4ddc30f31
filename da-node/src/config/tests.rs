use std::io::Write;

use super::host::{Listen, Log};
use super::*;

#[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Small {
    listen: Listen,
    log: Log,
    server: host::Server,
}

impl Config for Small {
    const ROLE: &'static str = "test";
    fn sections() -> Vec<Section> {
        vec![
            Section { name: "listen", docs: &[], fields: Listen::FIELDS },
            Section { name: "log", docs: &["Lines."], fields: Log::FIELDS },
            Section { name: "server", docs: &[], fields: host::Server::FIELDS },
        ]
    }
    fn check(&self) -> Result<(), String> {
        host::check(&self.server, &self.log, &host::Telemetry::default())
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn refused(text: &str, overrides: &[Override]) -> String {
    let file = file(text);
    load::<Small>(Some(file.path()), overrides).unwrap_err().to_string()
}

fn env(pairs: &[(&str, &str)]) -> Vec<Override> {
    from_environment(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

#[test]
fn the_environment_goes_over_the_file_and_flags_over_both() {
    let file = file("[listen]\ngrpc = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:2\"\n[log]\nfilter = \"warn\"\n");
    let mut overrides = env(&[
        ("MERIDIAN_LISTEN__GRPC", "127.0.0.1:3"),
        ("MERIDIAN_LOG__FILTER", "debug"),
        ("MERIDIAN_SERVER__DRAIN_MS", "7"),
        ("MERIDIAN_GATEWAY", "http://a client's"),
        ("MERIDIAN_REPLICA__WORKERS", "2"),
        ("MERIDIAN_STORAGE__MAX_BYTES", "2"),
        ("OTHER__THING", "x"),
    ]);
    overrides.push(Override::flag("--log-filter", "log.filter", "error".into()));
    let config = load::<Small>(Some(file.path()), &overrides).unwrap();
    assert_eq!(config.listen.grpc, "127.0.0.1:3".parse().unwrap());
    assert_eq!(config.listen.http, "127.0.0.1:2".parse().unwrap());
    assert_eq!(config.log.filter, "error");
    assert_eq!(config.server.drain_ms, 7);
    assert_eq!(config.server.lame_duck_ms, host::Server::default().lame_duck_ms);
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let message = refused("[listen]\n\ngrpcs = \"127.0.0.1:1\"\n", &[]);
    assert!(message.contains("line 3") && message.contains("unknown field `grpcs`"), "{message}");
    let message = refused("[lisen]\ngrpc = \"127.0.0.1:1\"\n", &[]);
    assert!(message.contains("line 1") && message.contains("unknown field `lisen`"), "{message}");
}

#[test]
fn a_wrong_type_is_named_with_its_line() {
    let message = refused("[server]\ndrain_ms = \"long\"\n", &[]);
    assert!(message.contains("line 2") && message.contains("drain_ms"), "{message}");
    let message = refused("[listen]\ngrpc = \"nowhere\"\n", &[]);
    assert!(message.contains("line 2") && message.contains("grpc"), "{message}");
    let message = refused("[server\n", &[]);
    assert!(message.contains("line 1"), "{message}");
}

#[test]
fn wrong_overrides_are_named() {
    let message = refused("", &env(&[("MERIDIAN_LISTEN__GRPCS", "x")]));
    assert_eq!(message, "MERIDIAN_LISTEN__GRPCS: there is no setting listen.grpcs");
    let message = refused("", &env(&[("MERIDIAN_LISTING__GRPC", "x")]));
    assert_eq!(message, "MERIDIAN_LISTING__GRPC: there is no setting listing.grpc");
    for bad in ["soon", "-1", "", "1 2", "1\nx = 2"] {
        let message = refused("", &env(&[("MERIDIAN_SERVER__DRAIN_MS", bad)]));
        assert!(message.starts_with("MERIDIAN_SERVER__DRAIN_MS: bad value for server.drain_ms"), "{message}");
    }
    let message = refused("", &[Override::flag("--listen", "listen.grpc", "here".into())]);
    assert!(message.starts_with("--listen: bad value for listen.grpc"), "{message}");
}

#[test]
fn a_string_needs_no_quotes_in_the_environment() {
    let file = file("");
    let config = load::<Small>(Some(file.path()), &env(&[("MERIDIAN_LOG__FORMAT", "json")])).unwrap();
    assert_eq!(config.log.format, host::LogFormat::Json);
}

#[test]
fn values_out_of_range_are_named() {
    assert!(refused("[server]\nmax_connections = 0\n", &[]).contains("server.max_connections"));
    for (window, fine) in [(65_534u32, false), (65_535, true), (0x7fff_ffff, true), (0x8000_0000, false)] {
        let file = file(&format!("[server]\nstream_window_bytes = {window}\n"));
        assert_eq!(load::<Small>(Some(file.path()), &[]).is_ok(), fine, "{window}");
    }
    assert!(refused("[log]\nfilter = \"loud=very\"\n", &[]).contains("log.filter"));
}

#[test]
fn the_example_is_the_defaults() {
    let text = example::<Small>();
    assert!(text.contains("# Lines.\n[log]\n"), "{text}");
    assert!(text.contains("# Address and port of gRPC."), "{text}");
    let file = file(&text);
    assert_eq!(load::<Small>(Some(file.path()), &[]).unwrap(), Small::default());
}

fn replica(text: &str) -> Result<roles::ReplicaConfig, String> {
    let file = file(text);
    load(Some(file.path()), &[]).map_err(|error| error.to_string())
}

const CHAIN: &str = "[chain]\nrpc = [\"https://rpc.example/hunter2\"]\nchain_id = 2048\n\
    contract = \"0x1111111111111111111111111111111111111111\"\n";

#[test]
fn committees_come_from_a_file_or_from_a_chain() {
    use meridian_client::chain::settled::Settled;
    let config = replica(CHAIN).unwrap();
    assert!(config.chain.is_on());
    assert_eq!(config.chain.settled, Settled::Finalized);
    assert!(!format!("{config:?}").contains("hunter2"));
    let config = replica(&format!("{CHAIN}settled = 12\n")).unwrap();
    assert_eq!(config.chain.settled, Settled::Confirmations(12));
    assert!(!replica("[node]\ncommittee = \"committee.toml\"\n").unwrap().chain.is_on());
    for (line, problem) in [
        ("contract = ", "chain.contract is not set, and rpc is"),
        ("chain_id = ", "chain.chain_id is not set, and rpc is"),
        ("rpc = ", "chain.rpc is not set, and contract is"),
    ] {
        let text: String = CHAIN.split_inclusive('\n').filter(|text| !text.starts_with(line)).collect();
        assert_eq!(replica(&text).unwrap_err(), problem);
    }
    assert_eq!(replica(&format!("{CHAIN}poll_ms = 0\n")).unwrap_err(), "chain.poll_ms must not be 0");
}

#[test]
fn no_error_shows_the_address_of_an_endpoint() {
    for text in [
        "[chain]\nrpc = \"https://rpc.example/hunter2\"\n",
        "[chain]\nrpc = [\"ws://rpc.example/hunter2\"]\n",
        "[chain]\nrpc = [\"https://rpc.example/hunter2\", 1]\n",
    ] {
        let error = replica(text).unwrap_err();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }
}
