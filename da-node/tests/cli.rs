//! The command line of `da-node`: exit codes and messages.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn da_node(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_da-node"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MERIDIAN_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = da_node(folder, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn failed(folder: &Path, arguments: &[&str]) -> String {
    let output = da_node(folder, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(said.starts_with("da-node: "), "{said}");
    said
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["fly"],
        &["key"],
        &["key", "new"],
        &["committee", "add", "seat", "c.toml", "--region", "r", "--address", "0x12", "--endpoint", "e"],
        &["devnet", "--gateways", "many"],
        &["devnet", "kill"],
        &["config", "default", "validator"],
    ] {
        assert_eq!(da_node(dir.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(da_node(dir.path(), &["--help"]).status.code(), Some(0));
}

#[test]
fn a_key_is_made_once_and_shown_by_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let address = done(dir.path(), &["key", "new", "--out", "key"]);
    assert!(address.starts_with("0x") && address.trim().len() == 42, "{address}");
    assert_eq!(done(dir.path(), &["key", "show", "key"]), address);
    assert!(failed(dir.path(), &["key", "new", "--out", "key"]).contains("cannot make key file key"));
    let secret = fs::read_to_string(dir.path().join("key")).unwrap();
    assert!(!address.contains(secret.trim()));
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(dir.path().join("key"), permissions).unwrap();
    let said = failed(dir.path(), &["key", "show", "key"]);
    assert!(said.contains("can be read by others (mode 0644)") && !said.contains(secret.trim()), "{said}");
}

#[test]
fn a_committee_is_made_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let add = |arguments: &[&str]| {
        let all = [&["committee", "add"], arguments].concat();
        done(dir.path(), &all);
    };
    done(dir.path(), &["committee", "new", "--out", "c.toml"]);
    assert!(failed(dir.path(), &["committee", "check", "c.toml"]).contains("c.toml is not a committee"));
    add(&[
        "region",
        "c.toml",
        "--id",
        "1",
        "--label",
        "na-west",
        "--latitude",
        "45.6",
        "--longitude",
        "-121.2",
    ]);
    let address = format!("0x{}", "11".repeat(20));
    add(&["seat", "c.toml", "--region", "na-west", "--address", &address, "--endpoint", "http://h:1"]);
    let again =
        ["committee", "add", "seat", "c.toml", "--region", "na-west", "--number", "1", "--address", &address];
    let said = failed(dir.path(), &[&again[..], &["--endpoint", "http://h:2"]].concat());
    assert!(said.contains("is a member already"), "{said}");
    let gateway = format!("0x{}", "22".repeat(20));
    add(&["gateway", "c.toml", "--address", &gateway, "--endpoint", "http://h:3"]);
    let text = done(dir.path(), &["committee", "check", "c.toml"]);
    assert!(text.contains("epoch 1, 1 regions, 1 seats, 1 gateways, min_copies 1"), "{text}");
    assert!(text.contains("region 1 na-west (45.6, -121.2)"), "{text}");
}

#[test]
fn settings_are_printed_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    for role in ["gateway", "replica"] {
        let text = done(dir.path(), &["config", "default", role]);
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/config/{role}.toml"));
        assert_eq!(text, fs::read_to_string(page).unwrap());
        fs::write(dir.path().join("c.toml"), text).unwrap();
        let said = done(dir.path(), &["config", "check", "c.toml"]);
        assert!(said.contains(&format!("settings of a {role}")), "{said}");
        assert!(said.contains("it does not start with them alone: listen.grpc is 0.0.0.0:7700"), "{said}");
    }
    fs::write(dir.path().join("c.toml"), "[gateway]\n[listen]\nport = 5\n").unwrap();
    let said = failed(dir.path(), &["config", "check", "c.toml"]);
    assert!(said.contains("c.toml, line 3: unknown field `port`"), "{said}");
    assert!(failed(dir.path(), &["config", "check", "none.toml"]).contains("cannot read none.toml"));
    fs::write(dir.path().join("c.toml"), "[listen]\n").unwrap();
    assert!(
        failed(dir.path(), &["config", "check", "c.toml"]).contains("neither a [gateway] nor a [replica]")
    );
}

#[test]
fn nothing_passes_a_network_in_the_clear_unless_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), &["key", "new", "--out", "key"]);
    let start = |listen: &str, http: &str, more: &[&str]| {
        let usual =
            ["replica", "--key", "key", "--committee", "none.toml", "--listen", listen, "--http", http];
        failed(dir.path(), &[&usual[..], more].concat())
    };
    let (near, open) = ("127.0.0.1:0", "0.0.0.0:0");
    let said = start(open, near, &[]);
    assert!(
        said.contains("listen.grpc is 0.0.0.0:0, which others reach") && said.contains("--insecure"),
        "{said}"
    );
    assert!(said.contains("tls.certificate and tls.key"), "{said}");
    assert!(start(near, open, &[]).contains("listen.http is 0.0.0.0:0"));
    assert!(start(near, "[::]:0", &[]).contains("listen.http is [::]:0"));
    // Those get as far as the committee.
    for more in [&["--insecure"][..], &["--set", "listen.insecure=true"]] {
        assert!(start(open, open, more).contains("none.toml"));
    }
    assert!(start(near, "[::1]:0", &[]).contains("none.toml"));
    let said = start(near, near, &["--set", "tls.certificate=c.pem"]);
    assert!(said.contains("tls.key is not set, and certificate is"), "{said}");
    let said = start(near, near, &["--set", "listen.admin=0.0.0.0:0", "--insecure"]);
    assert!(said.contains("listen.admin is 0.0.0.0:0") && said.contains("tls.admin_ca"), "{said}");
}

#[test]
fn a_host_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let local = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", "data"];
    let start = |role: &str, more: &[&str]| failed(dir.path(), &[&[role][..], &local, more].concat());
    assert!(start("replica", &["--key", "key"]).contains("cannot open key file key"));
    done(dir.path(), &["key", "new", "--out", "key"]);
    let said = start("gateway", &["--key", "key", "--committee", "c.toml"]);
    assert!(said.contains("cannot read committee file c.toml"), "{said}");
    assert!(start("gateway", &["--set", "gateway.speed=9"]).contains("there is no setting gateway.speed"));
    assert!(start("gateway", &["--set", "speed"]).contains("no `=` in it"));

    // A committee of others.
    let address = |byte: &str| format!("0x{}", byte.repeat(20));
    done(dir.path(), &["committee", "new", "--out", "c.toml"]);
    let region = ["committee", "add", "region", "c.toml", "--id", "1", "--label", "r"];
    done(dir.path(), &[&region[..], &["--latitude", "1", "--longitude", "2"]].concat());
    let seat =
        ["committee", "add", "seat", "c.toml", "--region", "r", "--endpoint", "http://h:1", "--address"];
    done(dir.path(), &[&seat[..], &[&address("11")]].concat());
    let gateway = ["committee", "add", "gateway", "c.toml", "--endpoint", "http://h:2", "--address"];
    done(dir.path(), &[&gateway[..], &[&address("22")]].concat());
    let said = start("replica", &["--key", "key", "--committee", "c.toml"]);
    assert!(said.contains("is not a replica of the committee"), "{said}");
    let said = start("gateway", &["--key", "key", "--committee", "c.toml"]);
    assert!(said.contains("is not a gateway of the committee"), "{said}");
}

#[test]
fn a_host_that_is_not_there_does_not_serve() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    assert!(failed(dir.path(), &["probe", &endpoint]).contains("does not serve"));
}

#[test]
fn devnets_that_do_not_exist_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        failed(dir.path(), &["devnet", "kill", "--dir", "net", "x-0"]).contains("there is no folder net")
    );
    assert!(failed(dir.path(), &["devnet", "status", "--dir", "."]).contains("there is no devnet in"));
    let said = failed(dir.path(), &["devnet", "--dir", "net", "--regions", "mars"]);
    assert!(said.contains("unknown region \"mars\"; known are: na-west"), "{said}");
    let said = failed(dir.path(), &["devnet", "--dir", "net", "--min-copies", "6"]);
    assert!(said.contains("--min-copies must be 1 to 5, not 6"), "{said}");
}
