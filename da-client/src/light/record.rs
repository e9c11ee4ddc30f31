//! What is kept of blobs and logs.

use meridian_proofs::ids::BlobId;
use meridian_proofs::log::LogEntry;
use meridian_proofs::shape::{PayloadLength, Shape};
use meridian_proofs::{Address, B256};
use serde::{Deserialize, Serialize};

use super::statement::Bounds;
use crate::fetch::{Fault, FaultKind};

/// Most faults that are kept of one blob or log, the latest.
const MAX_FAULTS: usize = 16;
/// Most bytes of what a fault says.
const MAX_FAULT_TEXT: usize = 200;

/// How a blob stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Not all of its samples are in yet.
    Pending,
    /// Not all of its samples are in, though all who may have them were asked for longer than patience lasts.
    Withheld,
    /// All of its samples verified.
    Sampled,
    /// All of it was fetched, encoded again and compared: certain.
    Exact,
    /// Its rows are no codeword, or its length is not that of its entry: certain, nobody has a payload of it.
    Inconsistent,
    /// It expired before its samples were in.
    Missed,
}

impl Standing {
    /// Every way to stand.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Withheld, Self::Sampled, Self::Exact, Self::Inconsistent, Self::Missed];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Withheld => "withheld",
            Self::Sampled => "sampled",
            Self::Exact => "exact",
            Self::Inconsistent => "inconsistent",
            Self::Missed => "missed",
        }
    }

    /// Whether nothing more is asked for.
    #[must_use]
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Pending | Self::Withheld)
    }
}

/// A fault as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FaultRecord {
    /// Address of the seat.
    pub seat: Address,
    /// Id of its region.
    pub region: u16,
    /// `silent`, `missing` or `wrong`.
    pub kind: String,
    /// What happened.
    pub what: String,
    /// Unix seconds.
    pub at: u64,
}

impl FaultRecord {
    fn of(fault: &Fault, at: u64) -> Self {
        let kind = match fault.kind {
            FaultKind::Silent => "silent",
            FaultKind::Missing => "missing",
            FaultKind::Wrong => "wrong",
        };
        // Whoever is at fault wrote it, and it is shown on terminals.
        let what = fault.what.chars().filter(|letter| !letter.is_control()).take(MAX_FAULT_TEXT).collect();
        Self { seat: fault.seat, region: fault.region.0, kind: kind.to_owned(), what, at }
    }
}

/// Adds faults to those that are kept: the latest of each seat and kind.
pub(super) fn keep_faults(kept: &mut Vec<FaultRecord>, faults: &[Fault], now: u64) {
    for fault in faults.iter().map(|fault| FaultRecord::of(fault, now)) {
        kept.retain(|old| (old.seat, &old.kind) != (fault.seat, &fault.kind));
        kept.push(fault);
    }
    let over = kept.len().saturating_sub(MAX_FAULTS);
    kept.drain(..over);
}

/// A blob that a log names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Bytes of its payload, as its entry says.
    pub length: PayloadBytes,
    /// Epoch of the committee that holds its rows: that of the entry with the latest expiry.
    pub epoch: u64,
    /// Unix seconds: the latest of its entries.
    pub expiry: u64,
    /// Gateway whose log was the first seen to name it.
    pub log: Address,
    /// Index of that entry.
    pub index: u64,
    /// How it stands.
    pub standing: Standing,
    /// Unix seconds at which it was first seen.
    pub noted: u64,
    /// The rows that were drawn; none before it is its turn, and none of a blob that is checked exactly.
    pub draw: Vec<u32>,
    /// Those of them that verified, ascending.
    pub verified: Vec<u32>,
    /// Rows of the draw that somebody was asked for.
    pub requested: Vec<u32>,
    /// Unix seconds at which it was asked for first.
    pub asked: Option<u64>,
    /// How often it was asked for.
    pub tries: u32,
    /// Unix seconds at which it was settled.
    pub settled: Option<u64>,
    /// A replica said that it has proof that the blob is no codeword.
    pub suspect: bool,
    /// When it is asked for next, in unix milliseconds.
    pub due: Option<u64>,
    /// Why the last try was in vain.
    pub problem: Option<String>,
    /// What went wrong.
    pub faults: Vec<FaultRecord>,
}

/// A payload length that is in bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct PayloadBytes(pub PayloadLength);

impl TryFrom<u64> for PayloadBytes {
    type Error = meridian_proofs::shape::LengthError;

    fn try_from(length: u64) -> Result<Self, Self::Error> {
        PayloadLength::try_from(length).map(Self)
    }
}

impl From<PayloadBytes> for u64 {
    fn from(length: PayloadBytes) -> Self {
        length.0.get()
    }
}

impl BlobRecord {
    /// A blob that was just seen in a log. Nothing when the entry has a length that no blob has.
    pub(super) fn new(log: Address, index: u64, entry: &LogEntry, now: u64) -> Option<Self> {
        Some(Self {
            length: entry.length.try_into().ok()?,
            epoch: entry.epoch,
            expiry: entry.expiry,
            log,
            index,
            standing: Standing::Pending,
            noted: now,
            draw: Vec::new(),
            verified: Vec::new(),
            requested: Vec::new(),
            asked: None,
            tries: 0,
            settled: None,
            suspect: false,
            due: None,
            problem: None,
            faults: Vec::new(),
        })
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape::of(self.length.0)
    }

    /// The rows that were drawn and are not in.
    #[must_use]
    pub fn missing(&self) -> Vec<u32> {
        self.draw.iter().filter(|row| !self.verified.contains(row)).copied().collect()
    }

    /// Takes it up again where it was given up, and lives on.
    pub(super) fn revive(&mut self, now: u64) {
        if self.standing == Standing::Missed && self.expiry > now {
            (self.standing, self.settled, self.due) =
                (Standing::Pending, None, Some(now.saturating_mul(1_000)));
        }
    }

    /// What may be said of it.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        match self.standing {
            Standing::Exact => Bounds::CERTAIN,
            _ => Bounds::of(self.shape(), self.draw.len(), self.verified.len()),
        }
    }
}

/// What a log is to lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// Entries under the root.
    pub size: u64,
    /// The root.
    pub root: B256,
    /// Epoch of the checkpoint.
    pub epoch: u64,
    /// Unix seconds of the checkpoint.
    pub timestamp: u64,
    /// Block of its anchor; nothing for a checkpoint that is not anchored.
    pub block: Option<u64>,
}

/// A log as far as it was followed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LogRecord {
    /// Items that were proved to be under a head.
    pub size: u64,
    /// Their compact range, the largest subtree first.
    pub peaks: Vec<B256>,
    /// The last head that they led to.
    pub reached: Option<Head>,
    /// Compact range under that head: where to go back to if what was kept since turns out to be of no head.
    pub reached_peaks: Vec<B256>,
    /// The last anchor that was seen to be of the log.
    pub anchored: Option<Head>,
    /// The head on the way to which the log is.
    pub target: Option<Target>,
    /// Items whose entry nobody keeps, because it has expired for certain.
    pub expired: u64,
    /// A head that does not continue what was seen before.
    pub contradiction: Option<Contradiction>,
}

/// A head that a log was not seen to lead to yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Target {
    /// The head.
    pub head: Head,
    /// Unix seconds at which it was first seen, or some of its entries came last.
    pub since: u64,
    /// Whether nobody has given its entries for longer than patience lasts.
    pub is_withheld: bool,
    /// What went wrong.
    pub faults: Vec<FaultRecord>,
}

impl LogRecord {
    /// Goes back to the last head that was reached.
    pub(super) fn go_back(&mut self) {
        self.size = self.reached.map_or(0, |head| head.size);
        self.peaks.clone_from(&self.reached_peaks);
    }

    /// Notes that the items lead to a head.
    pub(super) fn reach(&mut self, head: Head) {
        (self.reached, self.target) = (Some(head), None);
        self.reached_peaks.clone_from(&self.peaks);
        if head.block.is_some() {
            self.anchored = Some(head);
        }
    }
}

/// Two states of a log that cannot both be of one log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Contradiction {
    /// What was seen before.
    pub before: Head,
    /// What does not continue it.
    pub head: Head,
    /// Unix seconds at which that was found.
    pub found: u64,
}

/// An entry and its place in a log.
pub(super) type Placed = (u64, LogEntry);

/// A blob and what is kept of it.
pub type Known = (BlobId, BlobRecord);

#[cfg(test)]
mod tests {
    use meridian_proofs::committee::RegionId;

    use super::*;

    #[test]
    fn the_latest_fault_of_each_seat_and_kind_is_kept() {
        let fault = |seat: u8, kind, what: &str| Fault {
            seat: Address::repeat_byte(seat),
            region: RegionId(1),
            kind,
            what: what.to_owned(),
        };
        let mut kept = Vec::new();
        keep_faults(
            &mut kept,
            &[fault(1, FaultKind::Silent, "a"), fault(1, FaultKind::Wrong, &"b".repeat(999))],
            5,
        );
        keep_faults(&mut kept, &[fault(1, FaultKind::Silent, "c")], 6);
        assert_eq!(
            kept.iter().map(|it| (&*it.kind, it.at)).collect::<Vec<_>>(),
            [("wrong", 5), ("silent", 6)]
        );
        assert_eq!(kept[0].what.len(), MAX_FAULT_TEXT);
        let many: Vec<Fault> = (0..100).map(|seat| fault(seat, FaultKind::Silent, "d")).collect();
        keep_faults(&mut kept, &many, 7);
        assert_eq!(kept.len(), MAX_FAULTS);
        assert_eq!(kept[MAX_FAULTS - 1].seat, Address::repeat_byte(99));
    }

    #[test]
    fn a_record_with_a_length_that_no_blob_has_is_refused() {
        let record = BlobRecord::new(
            Address::ZERO,
            0,
            &LogEntry {
                blob_id: BlobId::default(),
                namespace: meridian_proofs::ids::Namespace::default(),
                payload_hash: meridian_proofs::ids::PayloadHash::UNBOUND,
                length: 5,
                epoch: 1,
                time: 1,
                expiry: 2,
            },
            1,
        );
        let text = serde_json::to_string(&record.unwrap()).unwrap();
        assert!(serde_json::from_str::<BlobRecord>(&text).is_ok());
        for wrong in ["0", "134217729"] {
            let text = text.replace("\"length\":5", &format!("\"length\":{wrong}"));
            assert!(serde_json::from_str::<BlobRecord>(&text).is_err());
        }
    }
}
