//! The command's own documentation: completions, manual pages and `docs/cli.md`, all from the command line's types.

use std::path::Path;

use clap::{Command, CommandFactory};

use super::Printed;
use super::args::{Cli, Shell};
use super::exit::{Exit, Problem};
use super::report::{CompletionsReport, ManReport, schemas};

/// Prints a completion script.
pub(crate) fn completions(shell: Shell) -> Result<Printed, Problem> {
    use clap_complete::Shell as Kind;
    let (kind, name) = match shell {
        Shell::Bash => (Kind::Bash, "bash"),
        Shell::Elvish => (Kind::Elvish, "elvish"),
        Shell::Fish => (Kind::Fish, "fish"),
        Shell::Powershell => (Kind::PowerShell, "powershell"),
        Shell::Zsh => (Kind::Zsh, "zsh"),
    };
    let mut script = Vec::new();
    clap_complete::generate(kind, &mut Cli::command(), "da", &mut script);
    let script = String::from_utf8(script).map_err(Problem::local)?;
    Printed::new(&CompletionsReport { shell: name.to_owned(), script: script.clone() }, script)
}

/// Writes the manual pages.
pub(crate) fn man(folder: &Path) -> Result<Printed, Problem> {
    let file = |error: std::io::Error| Problem::file(folder, &error);
    std::fs::create_dir_all(folder).map_err(file)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(file)?;
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(file)? {
        let name = entry.map_err(file)?.file_name().to_string_lossy().into_owned();
        if name.starts_with("da") && name.ends_with(".1") {
            pages.push(name);
        }
    }
    pages.sort_unstable();
    let text = pages.join("\n");
    Printed::new(&ManReport { folder: folder.display().to_string(), pages }, text)
}

/// The whole of `docs/cli.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for exit in Exit::ALL {
        page.push_str(&format!("| {} | {} |\n", exit.code(), exit.meaning()));
    }
    page.push_str("\n## Help\n");
    let mut command = Cli::command().term_width(110).disable_help_subcommand(true);
    command.build();
    help(&mut command, "da", &mut page);
    page.push_str(JSON);
    for (command, keys) in schemas() {
        page.push_str(&format!("\n### {command}\n\n| key | type | meaning |\n|---|---|---|\n"));
        for key in keys {
            let meaning = key.meaning.replace('|', "\\|");
            page.push_str(&format!("| `{}` | {} | {meaning} |\n", key.path, key.kind));
        }
    }
    page
}

/// Adds the help of a command and of those below it.
fn help(command: &mut Command, name: &str, page: &mut String) {
    let text = command.render_long_help().to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n### {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    for below in names {
        if let Some(command) = command.find_subcommand_mut(&below) {
            help(command, &format!("{name} {below}"), page);
        }
    }
}

const INTRODUCTION: &str = "\
# The `da` command

This page is generated from the program: `REGENERATE=1 cargo test --release -p meridian-client --test da docs` writes it
again, and the same test without the variable fails when it differs.

```console
$ da put batch.bin --cert-out batch.cert     # prints the blob id
$ da get 0xf114... --out batch.bin           # or: da get batch.cert --out batch.bin
$ da cert verify batch.cert                  # needs the committee and no network
$ da cert verify batch.cert --chain https://rpc.example --contract 0x5fbd...   # asks the contract too
$ da sample 0xf114... -n 16
$ da audit --since 2d --html audit.html      # every region's copies, checked against the anchors; names who is at fault
$ da trace batch.cert                        # who put it, who vouched for it, where it is anchored
$ da open batch.cert --range 0..62           # of a blob that was put with --kzg
```

## Committee and gateways

Everything that `da` prints is checked against a committee. `--committee` or `MERIDIAN_COMMITTEE` names its file. Without
one, the committee that the first gateway in reach gives is trusted the first time: it is pinned in
`meridian/committee.toml` of the user's config folder (`$XDG_CONFIG_HOME`, else `~/.config`) with a warning that tells
its fingerprint. From then on each command that uses the network compares the pin with what the first gateway in reach
says and refuses to go on (exit code 6, reason `COMMITTEE_CHANGED`) when they differ; to accept another committee, remove
the pin. There is one pin for each user: who works with several networks names their files.

With `--chain` and `--contract` (or `MERIDIAN_CHAIN` and `MERIDIAN_CONTRACT`) committees come from the contract instead,
those of all epochs, and nothing is pinned. A certificate is then checked with the committee of its own epoch, `da cert
verify` asks the contract as well and says what both say, and blobs of earlier epochs are read from the replicas that keep
them. Several endpoints stand in for each other; where they contradict each other (exit code 5, reason `CHAIN_DISPUTED`)
the majority is believed, and nobody without one. Only blocks that `--settled` takes for settled count. The contract's
history is read from its deployment each time: `--from-block` saves looking for that block.

Gateways are those of `--gateway` or `MERIDIAN_GATEWAY`, in that order, else those of the committee. Reading, sampling
and logs need no gateway once the committee is known.

Endpoints with `https://` speak TLS 1.3, and have to convince by a certificate for their name from an authority that the
system trusts, or one in the file of `--ca` or `MERIDIAN_CA`. With `--pin` or `MERIDIAN_PIN` they need one of the keys that are
named, and nothing else; what is put, read and sampled is checked in any case. Gateways that ask who calls are shown the
certificate of `--client-certificate` and `--client-key`.

## Errors

An error is one line on standard error: what happened, its stable reason in brackets, and what to do next. With `--json`
an object with the same is printed on standard output too (`error` below). A wrong command line is answered with the
usage. Logs go to standard error as `RUST_LOG` says (`RUST_LOG=info`); traces go to the OTLP endpoint of `--otlp` or
`OTEL_EXPORTER_OTLP_ENDPOINT`, one trace for each command, through gateway and replicas.
";

const JSON: &str = "
## JSON

With `--json` a command prints one object on one line. Every key is always there; what is not known is null. Hashes,
ids, addresses and certificates are lower-case hex with `0x`, addresses with mixed-case checksums. `da get` needs
`--out FILE` with `--json`. `da sample` and `da audit` print their objects also when rows are missing or wrong, with exit
code 4 or 5.
";
