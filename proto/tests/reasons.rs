//! The protocol's page lists the reasons that the code has. `REGENERATE=1 cargo test -p meridian-proto` writes the list.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use meridian_proto::Reason;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
const START: &str = "<!-- reasons:start -->\n";
const END: &str = "<!-- reasons:end -->";

#[test]
fn the_page_lists_every_reason() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(START).unwrap();
    let (listed, after) = rest.split_once(END).unwrap();
    let table = Reason::markdown_table();
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(PAGE, format!("{before}{START}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(listed, table, "the list has drifted: run with REGENERATE=1");
    }
}
