//! Holds what is watched against the table: alert rules, their tests, the dashboard and the run-book.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use meridian_proto::Reason;

use super::{Definition, Metrics};

fn page(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// What a series is of: a metric, or a part of a histogram.
fn metric(series: &str) -> Option<&'static Definition> {
    let of = |name: &str, kinds: &[&str]| {
        Metrics::TABLE
            .iter()
            .find(|line| line.name == name && (kinds.is_empty() || kinds.contains(&line.kind)))
    };
    let parts = ["_bucket", "_sum", "_count"];
    let whole = parts.iter().find_map(|part| series.strip_suffix(part)).and_then(|it| of(it, &["histogram"]));
    whole.or_else(|| of(series, &["counter", "gauge", "up-down counter"]))
}

/// Every series of a text with what is in the braces behind it.
fn series(text: &str) -> Vec<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in text.match_indices("meridian_") {
        // A job or a service of that name is no series.
        if text[..at].ends_with(|c: char| is_name(c) || c == '/' || c == '-') {
            continue;
        }
        let rest = &text[at..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        // In the run-book a group is named by its beginning.
        if rest[end..].starts_with('*') {
            continue;
        }
        let braces = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        found.push((&rest[..end], braces.map_or("", |(inside, _)| inside)));
    }
    found
}

#[test]
fn what_is_watched_exists() {
    for name in
        ["alerts.yml", "alerts_test.yml", "dashboard.json", "runbook.md", "sizing.md", "procedures.md"]
    {
        let text = page(name).replace("\\\"", "\"");
        for (series, braces) in series(&text) {
            // People speak of a histogram as a whole.
            let whole = || Metrics::TABLE.iter().find(|line| name.ends_with(".md") && line.name == series);
            let line = metric(series).or_else(whole);
            let Some(line) = line else { panic!("{name}: there is no metric {series}") };
            for matcher in braces.split(',').map(str::trim).filter(|matcher| !matcher.is_empty()) {
                let end = matcher.find(['=', '!']).unwrap_or(matcher.len());
                let (label, value) = (&matcher[..end], matcher[end..].trim_matches(['=', '!', '~', '"']));
                let known = ["instance", "job", "le"].contains(&label) || line.attributes.contains(&label);
                assert!(known, "{name}: {series} has no {label}");
                if label == "reason" && line.name == "meridian_refusals_total" {
                    assert!(Reason::from_name(value).is_some(), "{name}: there is no reason {value}");
                }
            }
        }
    }
    assert!(series(&page("alerts.yml")).len() > 30, "the rules name no metrics");
    assert!(series(&page("dashboard.json")).len() > 40, "the dashboard shows no metrics");
}

/// Names of alerts: words that begin with the program's name and a capital.
fn alerts(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let named = |word: &&str| {
        word.strip_prefix("Meridian").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    words.filter(named).collect()
}

#[test]
fn every_alert_has_its_page_and_its_test() {
    let (rules, book) = (page("alerts.yml"), page("runbook.md"));
    let defined: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(defined.len() >= 20, "only {} alerts were found", defined.len());
    let unique: BTreeSet<&str> = defined.iter().copied().collect();
    assert_eq!(unique.len(), defined.len(), "an alert is defined twice");
    let anchors: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: runbook.md#")).collect();
    let expected: Vec<String> = defined.iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(anchors, expected, "each alert names the section of its own name");
    let sections: Vec<&str> = book
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .filter(|title| title.starts_with("Meridian"))
        .collect();
    assert_eq!(sections, defined, "the run-book has the alerts in their order");
    for section in book.split("\n### ").skip(1).filter(|section| section.starts_with("Meridian")) {
        for part in [&["*Means*"][..], &["*Do*", "*do*"]] {
            assert!(part.iter().any(|word| section.contains(word)), "{part:?} is missing: {section}");
        }
    }
    assert_eq!(alerts(&page("alerts_test.yml")), unique, "each alert is tested");
    let shown = page("dashboard.json");
    let unknown: Vec<_> = alerts(&shown).difference(&unique).copied().collect();
    assert!(unknown.is_empty(), "the dashboard names {unknown:?}");
}

/// The anchor of a heading.
fn anchor(title: &str) -> String {
    let title = title.to_lowercase();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations");
    for name in ["runbook.md", "sizing.md", "procedures.md", "../operations.md"] {
        let text = page(name);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            let here = folder.join(name);
            let path = if file.is_empty() { here.clone() } else { here.parent().unwrap().join(file) };
            assert!(path.exists(), "{name}: {target} leads nowhere");
            if !wanted.is_empty() {
                let text = fs::read_to_string(&path).unwrap();
                let titles = text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
                assert!(titles.map(anchor).any(|it| it == wanted), "{name}: {target} has no such heading");
            }
        }
    }
}

#[test]
fn series_are_found_with_their_labels() {
    let text = "sum(meridian_a_total{x=\"1\"}[5m]) / meridian_b, meridian_c_* `job=\"meridian\"`";
    assert_eq!(series(text), [("meridian_a_total", "x=\"1\""), ("meridian_b", "")]);
    assert_eq!(metric("meridian_store_sync_seconds_bucket").unwrap().name, "meridian_store_sync_seconds");
    assert_eq!(metric("meridian_store_sync_seconds"), None, "a histogram has no series of its own name");
    assert_eq!(metric("meridian_store_failed_bucket"), None);
    assert_eq!(anchor("A new key for a gateway"), "a-new-key-for-a-gateway");
}
