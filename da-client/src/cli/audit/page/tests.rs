//! Whatever the texts are, the page stays what it is.

use super::*;

fn sighting(message: &str) -> SightingReport {
    SightingReport {
        at: 7,
        replica: "0xabc".to_owned(),
        region: "eu".to_owned(),
        kind: "wrong".to_owned(),
        message: message.to_owned(),
        blob_id: None,
        rows: 3,
        cosigned: true,
    }
}

fn report(hostile: &str) -> AuditReport {
    let region = |id: u16, label: &str, longitude: f64| AuditedRegion {
        id,
        label: label.to_owned(),
        latitude: 50.0,
        longitude,
        state: "faulty".to_owned(),
        blobs: 2,
        complete: 1,
        rebuilt: 1,
    };
    AuditReport {
        version: "1".to_owned(),
        begun: 1,
        ended: 2,
        since: Some(0),
        deep: false,
        samples: 16,
        outcome: "faulty".to_owned(),
        verdict: hostile.to_owned(),
        basis: hostile.to_owned(),
        block: Some(5),
        block_timestamp: Some(6),
        min_copies: 1,
        entries: 1,
        unanchored: 0,
        distinct_blobs: 1,
        logs: vec![AuditedLog {
            log: "0xdef".to_owned(),
            size: 1,
            root: "0x1".to_owned(),
            entries: 1,
            anchored_size: None,
            anchored_root: None,
            anchored_block: None,
            certified_size: None,
            certified_epoch: None,
            certified_timestamp: None,
            certified_regions: vec![hostile.to_owned()],
            hidden: 0,
            withheld: 0,
            from: None,
            problems: vec![hostile.to_owned()],
        }],
        regions: vec![region(1, hostile, 8.0), region(2, "eu-west", 9.0)],
        replicas: vec![AuditedReplica {
            replica: "0xabc".to_owned(),
            region: hostile.to_owned(),
            seat: 0,
            endpoint: hostile.to_owned(),
            entries: 1,
            cosigned: 1,
            rows_right: 1_234_567,
            rows_wrong: 3,
            rows_missing: 0,
            rows_silent: 0,
            latency_p50_us: Some(1_250),
            latency_max_us: Some(99_999),
            first_fault: Some(sighting(hostile)),
            last_fault: Some(sighting(hostile)),
        }],
        blobs: vec![AuditedBlob {
            blob_id: "0x77".to_owned(),
            epoch: 1,
            length: 9,
            whole: true,
            payload_hash: None,
            defect: Some(hostile.to_owned()),
            complete: Vec::new(),
            incomplete: vec![hostile.to_owned()],
            unreachable: vec![hostile.to_owned()],
            entries: Vec::new(),
        }],
        faults: vec![sighting(hostile)],
        more_faults: 4,
        html: None,
    }
}

#[test]
fn nothing_that_came_over_the_network_becomes_part_of_the_page() {
    let plain = html(&report("plain"));
    let hostile = html(&report("<img src=x onerror=\"alert(1)\" title='&'>\u{1b}"));
    // The same elements with the same attributes, whatever the texts are.
    let tags = |page: &str| page.matches('<').count();
    assert_eq!((tags(&plain), plain.matches('"').count()), (tags(&hostile), hostile.matches('"').count()));
    assert!(!hostile.contains("<img") && !hostile.contains('\u{1b}'));
    assert!(hostile.contains("&lt;img src=x onerror=&quot;alert(1)&quot; title=&#39;&amp;&#39;&gt; "));
}

#[test]
fn figures_are_there_for_people_and_programs() {
    let page = html(&report("plain"));
    for found in [
        "data-rows-right=\"1234567\" data-rows-wrong=\"3\" data-rows-missing=\"0\" data-rows-silent=\"0\"",
        "<b>1\u{202f}234\u{202f}567</b> right",
        "p50 1.2 ms · max 99.9 ms",
        "And 4 more.",
        "block 5, 1970-01-01 00:00:06Z",
    ] {
        assert!(page.contains(found), "{found}");
    }
    // Neighbours' labels do not stand on each other, nor do the marks of those in one place.
    assert!(page.contains("y=\"4\"") && page.contains("y=\"24\"") && page.contains("translate(0 20)"));
}

#[test]
fn long_numbers_are_shown_by_their_ends() {
    let long = format!("0x{}", "ab".repeat(32));
    assert_eq!(short(&long), "0xababab…ababab");
    assert_eq!(short("0xab"), "0xab");
    assert_eq!(short(""), "");
    assert_eq!(short(&"é".repeat(20)), format!("{}…{}", "é".repeat(4), "é".repeat(3)));
    assert_eq!(
        [0_u64, 999, 1_000, 1_234_567].map(number),
        ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
    );
}
