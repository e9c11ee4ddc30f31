//! Inputs from which fuzzing starts deep: honest ones of every call, and some of those that others have tried.

use super::TARGETS;

/// What is changed of a call, in the order in which it is read.
#[derive(Clone, Copy, Default)]
struct Change<'a> {
    /// Number of fields that are changed, and for each which message, which field, what with.
    fields: &'a [&'a [u8]],
    signer: u8,
    /// How messages change their places, and which.
    order: [u8; 2],
    /// For each which message, which byte as a big-endian u16, which bits.
    flips: &'a [[u8; 4]],
    /// How the frames go wrong, which, by how much; bytes of a piece.
    frames: [u8; 4],
}

impl Change<'_> {
    fn bytes(self) -> Vec<u8> {
        let fields = [&[self.fields.len() as u8][..], &self.fields.concat()].concat();
        let flips = [&[self.flips.len() as u8][..], &self.flips.concat()].concat();
        [&fields, &[self.signer][..], &self.order, &flips, &self.frames].concat()
    }
}

const BARE: Change<'static> = Change { fields: &[], signer: 0, order: [0; 2], flips: &[], frames: [0; 4] };

/// What is done to every call alike.
fn changes() -> Vec<(&'static str, Vec<u8>)> {
    let bare = BARE;
    [
        ("missing", Change { fields: &[&[0, 0, 0x80]], ..bare }),
        ("twice", Change { fields: &[&[0, 0, 0x81]], ..bare }),
        ("longer", Change { fields: &[&[0, 0, 0x85, 1]], ..bare }),
        ("long", Change { fields: &[&[0, 0, 0x8f]], ..bare }),
        ("known", Change { fields: &[&[0, 0, 0, 1, 0x8b, 3]], signer: 1, ..bare }),
        ("added", Change { fields: &[&[0, 0, 0x84, 2, 7]], ..bare }),
        ("signed-again", Change { fields: &[&[0, 0, 0, 1, 0x85, 1]], signer: 1, ..bare }),
        ("made-to-fit", Change { fields: &[&[0, 0, 0, 1, 0x85, 1]], signer: 5, ..bare }),
        ("stranger", Change { signer: 2, ..bare }),
        ("other-member", Change { signer: 3, ..bare }),
        ("swapped", Change { order: [1, 1], ..bare }),
        ("doubled", Change { order: [2, 0], ..bare }),
        ("dropped", Change { order: [3, 0], ..bare }),
        ("empty-message", Change { order: [4, 0], ..bare }),
        ("cut-short", Change { order: [7, 1], ..bare }),
        ("flipped", Change { flips: &[[0, 0, 9, 4], [1, 0, 40, 1]], ..bare }),
        ("compressed", Change { frames: [1, 0, 1, 0], ..bare }),
        ("wrong-length", Change { frames: [2, 0, 1, 0], ..bare }),
        ("huge-length", Change { frames: [3, 0, 0x7f, 0], ..bare }),
        ("unfinished", Change { frames: [4, 0, 3, 0], ..bare }),
        ("trailing", Change { frames: [5, 0, 9, 0], ..bare }),
        ("broken", Change { frames: [6, 0, 0, 0], ..bare }),
        ("stalled", Change { frames: [7, 0, 0, 0], ..bare }),
        ("in-pieces", Change { frames: [0, 0, 0, 1], ..bare }),
    ]
    .map(|(name, change)| (name, change.bytes()))
    .into()
}

/// The bytes of each kind of call before what is changed of it.
fn calls(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    match target {
        "put" => vec![
            ("plain", vec![0, 1, 0, 0, 0]),
            ("bound", vec![2, 2, 0b0001_0110, 2, 3]),
            ("kzg", vec![5, 3, 0b0000_0101, 1, 0]),
            ("authorized", vec![0, 4, 0b0000_1100, 3, 1]),
        ],
        "disperse" => vec![
            ("plain", vec![0, 0, 1, 0]),
            ("pieces", vec![1, 4, 2, 1]),
            ("held", vec![2, 0, 0xff, 0]),
            ("two-blocks", vec![2, 5, 3, 0]),
        ],
        "cosign" => vec![
            ("plain", vec![0, 0, 100, 0, 0]),
            ("more", vec![1, 1, 101, 2, 0]),
            ("repeated", vec![2, 2, 110, 1, 2]),
            ("rows-missing", vec![0, 3, 120, 0x80, 0]),
        ],
        "reads" => vec![
            ("rows", vec![0, 0, 0, 0, 0]),
            ("held-rows", vec![0, 1, 3, 1, 3]),
            ("all-rows", vec![0, 2, 5, 0, 4]),
            ("samples", vec![1, 0, 4, 3, 5]),
            ("lookup", vec![2, 1, 2, 0, 3]),
            ("lookup-payload", vec![2, 0, 0, 1, 5]),
            ("certificate", vec![3, 0, 1, 1, 0]),
            ("committee", vec![4]),
            ("gateway", vec![5]),
            ("replica", vec![6, 1]),
        ],
        "logs" => vec![
            ("list", vec![0, 0, 0, 0]),
            ("checkpoint", vec![1, 3, 0, 0]),
            ("entries", vec![2, 1, 0, 1]),
            ("inclusion", vec![3, 2, 2, 0]),
            ("consistency", vec![4, 3, 2, 0]),
        ],
        "admin" => vec![
            ("filter", vec![0, 0, 0]),
            ("drain", vec![1, 0, 0]),
            ("scrub", vec![2, 0, 0]),
            ("repair", vec![3, 0, 0]),
            ("gateway-repair", vec![3, 1, 0]),
        ],
        "altda" => (0..8)
            .map(|what| {
                (
                    [
                        "put",
                        "put-named",
                        "get",
                        "certificate",
                        "put-other",
                        "get-none",
                        "put-nothing",
                        "page",
                    ][usize::from(what)],
                    vec![what, what % 3, what],
                )
            })
            .collect(),
        _ => [
            ("status", [0, 0, 0, 0, 0, 0]),
            ("metrics", [1, 0, 0, 0, 0, 1]),
            ("healthz", [2, 0, 0, 0, 0, 0]),
            ("none", [3, 0, 0, 0, 0, 0]),
            ("light-health", [4, 0, 0, 0, 0, 0]),
            ("light-status", [5, 0, 0, 0, 0, 0]),
            ("light-metrics", [6, 0, 0, 0, 0, 0]),
            ("blobs", [7, 0, 3, 0, 0, 1]),
            ("blobs-after", [8, 0, 0, 0, 0, 2]),
            ("blob", [9, 0, 0, 0, 0, 3]),
            ("log", [10, 0, 0, 0, 4, 0]),
            ("checkpoints", [11, 0, 0, 0, 0, 0]),
        ]
        .map(|(name, bytes)| (name, bytes.to_vec()))
        .into(),
    }
}

/// What is done to every request over HTTP alike.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("other-method", vec![4]),
        ("unknown-method", vec![6]),
        ("longer-path", vec![0, 1, 0, 0xff, b'x']),
        ("shorter-path", vec![0, 1, 1, 5, 0]),
        ("slashes", vec![0, 2, 2, 0, 0, 2, 5, 0]),
        ("query", vec![0, 1, 3, 0, 0]),
        ("encoded-slash", vec![0, 1, 4, 3, 0]),
        ("too-long", vec![0, 0, 2]),
        ("trace", vec![0, 0, 9]),
        ("broken", vec![0, 0, 0, 1, 1]),
        ("in-pieces", vec![0, 0, 0, 0, 1]),
    ]
}

/// Target, name and bytes of every input to start from.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (target, _) in TARGETS {
        let is_web = matches!(target, "altda" | "pages");
        let (calls, changes) = (calls(target), if is_web { requests() } else { changes() });
        let unchanged = if is_web { vec![0; 5] } else { BARE.bytes() };
        for (name, call) in &calls {
            seeds.push((target, format!("honest-{name}"), call.clone()));
            // Every change of one call, and each call with some.
            for (place, (what, change)) in changes.iter().enumerate() {
                if *name == calls[place % calls.len()].0 || *name == calls[0].0 {
                    seeds.push((target, format!("hostile-{name}-{what}"), [&call[..], change].concat()));
                }
            }
        }
        // One after another, with as much before each.
        let all: Vec<Vec<u8>> =
            calls.iter().take(4).map(|(_, call)| [&call[..], &unchanged].concat()).collect();
        seeds.push((target, "honest-all".to_owned(), all.concat()));
    }
    seeds
}
