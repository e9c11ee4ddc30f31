//! Samples the blobs that are due.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proofs::ids::BlobId;
use meridian_proofs::sampling;
use meridian_proofs::shape::RowIndex;
use tokio::time::Instant;

use super::record::{BlobRecord, Known, Standing, keep_faults};
use super::{LightClient, LightError};
use crate::fetch::{Draw, Fault, Found, ReadError, Reader};
use crate::submit::{unix_millis, unix_now};

/// Wait before a blob is asked for again, and the longest such wait.
const AGAIN: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);
/// Draws that are synced at once.
const DRAWS: usize = 64;

/// Longest that one try may take.
const TRY: Duration = Duration::from_secs(90);

/// What asking for a blob has shown.
#[derive(Default)]
struct Outcome {
    /// Rows that somebody was asked for.
    requested: Vec<RowIndex>,
    /// Rows that verified now.
    verified: BTreeSet<RowIndex>,
    /// What settles the blob, whatever rows are in.
    settled: Option<Standing>,
    suspect: bool,
    faults: Vec<Fault>,
    problem: Option<String>,
}

impl LightClient {
    /// Samples what is due, as it becomes due.
    pub(super) async fn sample_on(&self) -> Result<(), LightError> {
        self.sample(None).await
    }

    /// Samples what is due, until nothing is or a time has come.
    pub(super) async fn sample_until(&self, end: Instant) -> Result<(), LightError> {
        self.sample(Some(end)).await
    }

    async fn sample(&self, end: Option<Instant>) -> Result<(), LightError> {
        let mut running = FuturesUnordered::new();
        let mut ids: BTreeSet<BlobId> = BTreeSet::new();
        // Blobs that were asked for in vain leave places to those that were not asked for yet.
        let most_again = (self.settings.at_once / 2).max(1);
        let mut again = 0;
        let mut drawn: Vec<Known> = Vec::new();
        loop {
            let is_over = end.is_some_and(|end| Instant::now() >= end);
            while running.len() < self.settings.at_once && !is_over {
                if drawn.is_empty() {
                    drawn = self.draw(ids.clone(), false, DRAWS).await?;
                }
                if drawn.is_empty() && again < most_again {
                    drawn = self.draw(ids.clone(), true, most_again - again).await?;
                }
                let Some((id, record)) = drawn.pop() else { break };
                again += usize::from(record.tries > 0);
                ids.insert(id);
                running.push(self.try_blob(id, record));
            }
            if running.is_empty() {
                let next = {
                    let ids = ids.clone();
                    self.with_state(move |state| state.next_due(&ids)).await?
                };
                let wait = next.map(|next| Duration::from_millis(next.saturating_sub(unix_millis())));
                match (end, wait) {
                    (Some(_), None) => return Ok(()),
                    (Some(_), Some(_)) if is_over => return Ok(()),
                    (Some(end), Some(wait)) => tokio::time::sleep_until(end.min(Instant::now() + wait)).await,
                    (None, wait) => {
                        // Whether something was noted or is due again: both are looked for.
                        let wait = wait.unwrap_or(LONGEST).clamp(Duration::from_millis(1), LONGEST);
                        let _ = tokio::time::timeout(wait, self.wake.notified()).await;
                    }
                }
                continue;
            }
            let looks_for_more = end.is_none() && running.len() < self.settings.at_once;
            tokio::select! {
                Some((id, record)) = running.next() => {
                    let record: BlobRecord = record?;
                    ids.remove(&id);
                    // It was counted before this try.
                    again -= usize::from(record.tries > 1);
                    self.with_state(move |state| state.save(&[(id, record)], unix_now(), false)).await?;
                }
                () = self.wake.notified(), if looks_for_more => {}
                () = tokio::time::sleep(AGAIN), if looks_for_more => {}
            }
        }
    }

    /// Calls withheld what was asked for in vain for as long as patience lasts.
    pub(super) async fn judge(&self) -> Result<(), LightError> {
        // Times are whole seconds.
        let (from, patience) = (self.started, self.settings.patience.as_secs().saturating_sub(1));
        self.with_state(move |state| state.judge(unix_now(), from, patience)).await
    }

    /// Blobs that are due, for the first time or `again`, each with its draw, which is on disk now.
    async fn draw(
        &self,
        without: BTreeSet<BlobId>,
        again: bool,
        most: usize,
    ) -> Result<Vec<Known>, LightError> {
        let now = unix_millis();
        let due = self.with_state(move |state| state.due(now, again, most, &without)).await?;
        let (mut ready, mut fresh, mut over) = (Vec::new(), Vec::new(), Vec::new());
        for (id, mut record) in due {
            if record.expiry <= unix_now() {
                settle(&mut record, Standing::Missed);
                over.push((id, record));
                continue;
            }
            if record.draw.is_empty() && !sampling::is_exact(record.shape(), self.settings.samples) {
                let draw = Draw::new(record.shape(), self.settings.samples)
                    .map_err(|error| LightError::Random(error.to_string()))?;
                record.draw = draw.rows().iter().map(|row| row.0).collect();
                fresh.push((id, record.clone()));
            }
            ready.push((id, record));
        }
        if !over.is_empty() {
            self.with_state(move |state| state.save(&over, unix_now(), false)).await?;
        }
        if !fresh.is_empty() {
            self.with_state(move |state| state.save(&fresh, unix_now(), true)).await?;
        }
        // The longest due is taken first, from the end.
        ready.reverse();
        Ok(ready)
    }

    /// Asks for a blob, and notes what came of it.
    async fn try_blob(&self, id: BlobId, mut record: BlobRecord) -> (BlobId, Result<BlobRecord, LightError>) {
        let now = unix_now();
        record.asked.get_or_insert(now);
        record.tries = record.tries.saturating_add(1);
        let outcome = match tokio::time::timeout(TRY, self.ask(id, &record)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => return (id, Err(error)),
            Err(_) => Outcome {
                // Whom it had asked by then is not known.
                requested: record.missing().into_iter().map(RowIndex).collect(),
                problem: Some(format!("not all have answered within {} s", TRY.as_secs())),
                ..Outcome::default()
            },
        };
        self.note(id, &mut record, outcome);
        (id, Ok(record))
    }

    fn note(&self, id: BlobId, record: &mut BlobRecord, outcome: Outcome) {
        let now = unix_now();
        let verified = outcome.verified.iter().map(|row| row.0);
        let verified: BTreeSet<u32> = record.verified.iter().copied().chain(verified).collect();
        record.verified = verified.into_iter().filter(|row| record.draw.contains(row)).collect();
        let requested = outcome.requested.iter().map(|row| row.0);
        let requested: BTreeSet<u32> = record.requested.iter().copied().chain(requested).collect();
        record.requested = requested.into_iter().collect();
        record.suspect |= outcome.suspect;
        record.problem = outcome.problem;
        keep_faults(&mut record.faults, &outcome.faults, now);
        let was_withheld = record.standing == Standing::Withheld;
        if let Some(standing) = outcome.settled {
            settle(record, standing);
        } else if !record.draw.is_empty() && record.verified.len() == record.draw.len() {
            settle(record, Standing::Sampled);
        } else if record.expiry <= now {
            settle(record, Standing::Missed);
        } else {
            let waited = now.saturating_sub(record.asked.unwrap_or(now).max(self.started));
            if waited >= self.settings.patience.as_secs() {
                record.standing = Standing::Withheld;
            }
            let wait = AGAIN.saturating_mul(1 << record.tries.clamp(1, 16) >> 1).min(LONGEST);
            record.due =
                Some(unix_millis().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
            let missing = record.draw.len() - record.verified.len();
            tracing::info!(%id, missing, tries = record.tries, "samples of a blob are missing");
            if record.standing == Standing::Withheld && !was_withheld {
                tracing::warn!(%id, missing, "a blob is withheld");
            }
        }
    }

    /// Asks for what is missing of a blob.
    async fn ask(&self, id: BlobId, record: &BlobRecord) -> Result<Outcome, LightError> {
        let is_exact = record.draw.is_empty();
        let ask = |reader: Reader| async move {
            if is_exact {
                self.ask_for_all(&reader, id, record).await
            } else {
                self.ask_for_rows(&reader, id, record).await
            }
        };
        match self.readers.first(Some(record.epoch), ask).await {
            Ok((outcome, _)) => Ok(outcome),
            Err(error @ (ReadError::Inconsistent | ReadError::Malformed)) => Ok(Outcome {
                settled: Some(Standing::Inconsistent),
                problem: Some(error.to_string()),
                ..Outcome::default()
            }),
            Err(ReadError::Internal(error)) => Err(LightError::Internal(error)),
            Err(error) => Ok(Outcome {
                faults: error.faults().to_vec(),
                problem: Some(error.to_string()),
                ..Outcome::default()
            }),
        }
    }

    /// Fetches a short blob whole, encodes it again and compares.
    async fn ask_for_all(
        &self,
        reader: &Reader,
        id: BlobId,
        record: &BlobRecord,
    ) -> Result<Outcome, ReadError> {
        let found = reader.find(id).await?;
        if let Some(outcome) = other_length(&found, record) {
            return Ok(outcome);
        }
        let sampled = reader.sample_exactly(&found.context).await?;
        let faults = found.faults.into_iter().chain(sampled.faults).collect();
        Ok(Outcome { settled: Some(Standing::Exact), suspect: found.suspect, faults, ..Outcome::default() })
    }

    /// Fetches header and RLC vector, and the rows of the draw that are not in: in two parts, so that who serves one does
    /// not see them all at once.
    async fn ask_for_rows(
        &self,
        reader: &Reader,
        id: BlobId,
        record: &BlobRecord,
    ) -> Result<Outcome, ReadError> {
        let found = reader.find(id).await?;
        if let Some(outcome) = other_length(&found, record) {
            return Ok(outcome);
        }
        let mut outcome = Outcome { suspect: found.suspect, faults: found.faults, ..Outcome::default() };
        let mut missing: Vec<RowIndex> = record.missing().into_iter().map(RowIndex).collect();
        let (parts, wait) = self.parts(&mut missing)?;
        for (place, rows) in parts.into_iter().enumerate() {
            if place > 0 {
                tokio::time::sleep(wait).await;
            }
            outcome.requested.extend(&rows);
            let draw = Draw::again(record.shape(), rows)
                .ok_or_else(|| ReadError::Internal("what was kept is no draw".to_owned()))?;
            let sampled = reader.sample_rows(&found.context, &draw).await?;
            outcome.verified.extend(sampled.verified);
            outcome.faults.extend(sampled.faults);
        }
        Ok(outcome)
    }

    /// Rows in the parts in which they are asked for, and the time between two.
    fn parts(&self, rows: &mut Vec<RowIndex>) -> Result<(Vec<Vec<RowIndex>>, Duration), ReadError> {
        let spread = u64::try_from(self.settings.spread.as_millis()).unwrap_or(u64::MAX);
        if spread == 0 || rows.len() < 2 {
            return Ok((vec![std::mem::take(rows)], Duration::ZERO));
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| ReadError::Internal(error.to_string()))?;
        let wait = u64::from_le_bytes(random) % (spread + 1);
        let later = rows.split_off(rows.len() / 2);
        Ok((vec![std::mem::take(rows), later], Duration::from_millis(wait)))
    }
}

/// That the header of a blob has another length than its entry, which whoever cosigned that has compared.
fn other_length(found: &Found, record: &BlobRecord) -> Option<Outcome> {
    let length = found.context.header().length;
    (length != record.length.0).then(|| Outcome {
        settled: Some(Standing::Inconsistent),
        problem: Some(format!("the header has {} bytes, the entry {}", length.get(), record.length.0.get())),
        ..Outcome::default()
    })
}

fn settle(record: &mut BlobRecord, standing: Standing) {
    record.standing = standing;
    record.settled = Some(unix_now());
    record.due = None;
}
