//! `da audit` and `da trace` against replicas of this process: whoever lies is named, and nobody else.

use serde_json::{Value, json};

use crate::json;
use crate::network::{Gateway, Network, Replica};

const HONEST: [Replica; 5] = [Replica::Honest; 5];

/// The replica of the region at a place, by its address.
fn address(network: &Network, place: usize) -> String {
    let region = network.committee.regions()[place].id;
    network.committee.seats_of(region).next().unwrap().address.to_string()
}

#[test]
fn an_audit_of_equal_copies() {
    let network = Network::start(100_000, &HONEST, &[Gateway::Honest]);
    for args in
        [["audit", "--blob", "@cert", "--json"].as_slice(), &["audit", "--blob", "@cert", "--deep", "--json"]]
    {
        let printed = network.da(args).ends_with(0).json();
        json::check("audit", &printed);
        assert_eq!(printed["outcome"], "identical");
        let verdict = printed["verdict"].as_str().unwrap();
        assert!(verdict.starts_with("all 5 regions hold identical copies of 1 blob, checked against checkpoints that 4 regions or more cosigned"), "{verdict}");
        assert_eq!(
            (&printed["entries"], &printed["unanchored"], &printed["block"]),
            (&json!(1), &json!(1), &Value::Null)
        );
        assert_eq!(
            (&printed["logs"][0]["size"], &printed["logs"][0]["certified_size"]),
            (&json!(3), &json!(3))
        );
        assert_eq!(printed["blobs"][0]["complete"].as_array().unwrap().len(), 5);
        // It was rebuilt from each region alone, and has the hash that its entry says.
        assert_eq!(printed["blobs"][0]["payload_hash"], network.certificate.entry.payload_hash.to_string());
        for region in printed["regions"].as_array().unwrap() {
            assert_eq!(
                (&region["state"], &region["complete"], &region["rebuilt"]),
                (&json!("complete"), &json!(1), &json!(1))
            );
        }
        for replica in printed["replicas"].as_array().unwrap() {
            // 256 data rows, and as many in each region.
            assert_eq!((&replica["rows_right"], &replica["cosigned"]), (&json!(256), &json!(1)));
            assert!(replica["latency_max_us"].as_u64() >= replica["latency_p50_us"].as_u64());
            assert_eq!(replica["first_fault"], Value::Null);
        }
    }
    let run = network.da(&["audit", "--blob", &network.blob.id().to_string()]).ends_with(0);
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(
        text.trim_end().lines().last().unwrap().starts_with("all 5 regions hold identical copies of 1 blob"),
        "{text}"
    );
    // Two of the three entries have not expired; nobody has the second one's blob.
    let printed = network.da(&["audit", "--json"]).ends_with(5).json();
    assert_eq!((&printed["entries"], &printed["outcome"]), (&json!(2), &json!("faulty")));
    assert_eq!(
        printed["blobs"].as_array().unwrap().iter().filter(|blob| blob["complete"] == json!([])).count(),
        1
    );
    let since = (network.certificate.entry.time + 1).to_string();
    let printed = network.da(&["audit", "--since", &since, "--json"]).ends_with(0).json();
    json::check("audit", &printed);
    assert_eq!((&printed["entries"], &printed["outcome"]), (&json!(0), &json!("identical")));
    let stranger = format!("0x{}", "77".repeat(32));
    let run = network.da(&["audit", "--blob", &stranger]).ends_with(4);
    assert!(run.stderr.contains("NOT_LISTED"), "{}", run.stderr);
}

#[test]
fn whoever_lies_or_is_silent_is_named_and_nobody_else() {
    use Replica::{Down, Ignorant, NoRows, OtherHeader, OtherRlc, Slanderer, WrongRows};
    for (behaviour, kind, code) in [
        (WrongRows, "wrong", 5),
        (OtherHeader, "wrong", 5),
        (OtherRlc, "wrong", 5),
        (Slanderer, "wrong", 5),
        (Ignorant, "missing", 5),
        (NoRows, "silent", 4),
        (Down, "silent", 4),
    ] {
        for place in [0, 3] {
            let mut replicas = HONEST;
            replicas[place] = behaviour;
            let network = Network::start(100_000, &replicas, &[Gateway::Honest]);
            let run = network.da(&["audit", "--blob", "@cert", "--json"]).ends_with(code);
            let printed = run.json();
            json::check("audit", &printed);
            let liar = address(&network, place);
            let faults = printed["faults"].as_array().unwrap();
            assert!(!faults.is_empty(), "{behaviour:?}");
            for fault in faults {
                assert_eq!(
                    (&fault["replica"], &fault["kind"]),
                    (&json!(liar), &json!(kind)),
                    "{behaviour:?}: {fault}"
                );
            }
            // One line that says where to ask.
            assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
            let label = format!("region-{}", place + 1);
            assert!(
                run.stderr.contains(&liar) && run.stderr.contains(&label),
                "{behaviour:?}: {}",
                run.stderr
            );
            for region in printed["regions"].as_array().unwrap() {
                let state = match (region["label"] == label, behaviour) {
                    (false, _) => "complete",
                    (true, Down) => "unreachable",
                    (true, _) => "faulty",
                };
                assert_eq!(region["state"], state, "{behaviour:?} {region}");
            }
            let replica =
                printed["replicas"].as_array().unwrap().iter().find(|it| it["replica"] == liar).unwrap();
            let count = |kind: &str| replica[format!("rows_{kind}")].as_u64().unwrap();
            let asked: u64 = ["right", "wrong", "missing", "silent"].map(count).iter().sum();
            assert_eq!(asked, if behaviour == OtherHeader { 256 } else { asked });
            match behaviour {
                // These lie about something else than rows.
                OtherHeader | OtherRlc | Slanderer => assert_eq!(count("right"), 256, "{behaviour:?}"),
                _ => assert_eq!((count(kind), count("right")), (256, 0), "{behaviour:?}"),
            }
            assert!(replica["first_fault"]["at"].as_u64() <= replica["last_fault"]["at"].as_u64());
        }
    }
}

#[test]
fn sampled_rows_are_few() {
    let mut replicas = HONEST;
    replicas[1] = Replica::WrongRows;
    let network = Network::start(100_000, &replicas, &[Gateway::Honest]);
    let printed = network.da(&["trace", "@cert", "-n", "5", "--json"]).ends_with(0).json();
    json::check("trace", &printed);
    assert_eq!((&printed["block"], &printed["anchor"]), (&Value::Null, &Value::Null));
    assert_eq!((&printed["index"], &printed["checkpoint_size"]), (&json!(2), &json!(3)));
    assert_eq!(printed["gateway_endpoint"], network.gateways[0]);
    for (place, region) in printed["regions"].as_array().unwrap().iter().enumerate() {
        let (state, copy) = if place == 1 { ("wrong", "incomplete") } else { ("right", "complete") };
        let replica = &region["replicas"][0];
        assert_eq!(
            (&region["state"], &replica["state"], &replica["rows"]),
            (&json!(copy), &json!(state), &json!(5))
        );
        assert_eq!((&replica["cosigned"], &region["certified"]), (&json!(true), &json!(true)));
    }
    let run = network.da(&["trace", &network.blob.id().to_string()]).ends_with(0);
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(text.contains("there is no chain") && text.contains("13 d 23 h"), "{text}");
    network.da(&["trace", &format!("0x{}", "77".repeat(32))]).ends_with(3);
}

#[test]
fn the_page_of_an_audit() {
    let mut replicas = HONEST;
    replicas[1] = Replica::WrongRows;
    replicas[4] = Replica::Down;
    let network = Network::start(100_000, &replicas, &[Gateway::Honest]);
    let printed =
        network.da(&["audit", "--blob", "@cert", "--html", "@page.html", "--json"]).ends_with(5).json();
    assert_eq!(printed["html"], network.path("page.html").display().to_string());
    let page = std::fs::read_to_string(network.path("page.html")).unwrap();
    for found in [
        "data-outcome=\"faulty\"".to_owned(),
        "data-region=\"region-2\" data-state=\"faulty\"".to_owned(),
        "data-region=\"region-5\" data-state=\"unreachable\"".to_owned(),
        format!(
            "data-replica=\"{}\" data-region=\"region-2\" data-rows-right=\"0\" data-rows-wrong=\"256\"",
            address(&network, 1)
        ),
        network.blob.id().to_string(),
    ] {
        assert!(page.contains(&found), "{found}");
    }
    // It needs nothing from anywhere.
    for outside in ["http://www", "https://", "src=", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}
