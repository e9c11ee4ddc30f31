//! Reads: one for each input, from the archive or the nearest copy, and what may be said where there is none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::epochs::Term;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use super::commitment::Commitment;
use super::refusal::Refusal;
use super::{ARCHIVE, AltDa, internal};
use crate::Silent;
use crate::chain::view::View;
use crate::fetch::{ReadError, Reader};
use crate::submit::{CLOCK_SLACK, unix_now};

/// Shortest time for one try.
const READ_TRY: Duration = Duration::from_secs(8);

impl AltDa {
    /// The input of a commitment, verified: from memory, the archive, or the nearest copy. Equal reads share one, which goes
    /// on when its caller goes away.
    pub(super) async fn get(
        self: &Arc<Self>,
        commitment: Commitment,
        deadline: Instant,
    ) -> Result<Bytes, Refusal> {
        // They go on when their callers go away.
        let Ok(permit) = Arc::clone(&self.gets).try_acquire_owned() else {
            let message = "as many inputs are being asked for as may be at a time".to_owned();
            return Err(Refusal::Busy(message, Duration::from_secs(1)));
        };
        let this = Arc::clone(self);
        let read = async move {
            let _permit = permit;
            let fetched = this.fetch(commitment, deadline);
            let entry = this.inputs.entry(commitment).or_try_insert_with(fetched).await;
            let entry = entry.map_err(|refusal| Refusal::clone(&refusal))?;
            if !entry.is_fresh() {
                this.metrics.read_from("memory");
            }
            Ok(entry.into_value())
        };
        tokio::spawn(read.in_current_span()).await.map_err(internal)?
    }

    async fn fetch(&self, commitment: Commitment, deadline: Instant) -> Result<Bytes, Refusal> {
        let _permit = self.read_permit(deadline).await?;
        let archived = match &self.archive {
            Some(archive) => {
                let read = timeout(ARCHIVE, archive.read(commitment)).await;
                read.unwrap_or_else(|late| Err(std::io::Error::other(late)))
            }
            None => Ok(None),
        };
        match archived {
            Ok(None) => {}
            Ok(Some(input)) => {
                self.metrics.read_from("archive");
                return Ok(input);
            }
            Err(ref error) => {
                self.metrics.archive_failed();
                tracing::error!(%commitment, %error, "the archive cannot be read");
            }
        }
        let longest = u64::try_from(self.settings.limit(commitment.mode())).unwrap_or(u64::MAX);
        let read = |reader: Reader| async move { read_one(&reader, commitment, longest).await };
        let try_once = |left: Duration| async move {
            let asked = unix_now();
            match timeout(left.max(READ_TRY), self.readers.first(None, read)).await {
                Ok(Ok((input, _))) => input,
                Ok(Err(error)) => Err(self.certain(Refusal::of_read(&error), asked)),
                Err(_) => Err(Refusal::Unavailable("no copy could be read in time".to_owned())),
            }
        };
        let input = self.patiently("get", deadline, try_once).await.map_err(|refusal| match &archived {
            Err(error) if matches!(refusal, Refusal::Unknown(_)) => {
                Refusal::Unavailable(format!("{refusal}, and the archive cannot be read: {error}"))
            }
            _ => refusal,
        })?;
        self.metrics.read_from("network");
        self.keep(commitment, &input, archived.is_err()).await;
        Ok(input)
    }

    async fn read_permit(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Refusal> {
        match timeout_at(deadline, self.reads.acquire()).await {
            Ok(permit) => permit.map_err(internal),
            Err(_) => {
                let message = "as many inputs are being read as may be at a time".to_owned();
                Err(Refusal::Busy(message, Duration::from_secs(1)))
            }
        }
    }

    /// The certificate of a commitment: of its put, or from gateways or replicas.
    pub(super) async fn certificate(
        &self,
        commitment: Commitment,
        deadline: Instant,
    ) -> Result<Arc<Certificate>, Refusal> {
        if let Some(certificate) = self.certificates.get(&commitment).await {
            return Ok(certificate);
        }
        let _permit = self.read_permit(deadline).await?;
        let gateways = &self.gateways();
        let read = |reader: Reader| async move { certificate_of(&reader, gateways, commitment).await };
        let (left, asked) = (deadline.saturating_duration_since(Instant::now()), unix_now());
        match timeout(left.max(READ_TRY), self.readers.first(None, read)).await {
            Ok(Ok((certificate, _))) => Ok(Arc::new(certificate)),
            Ok(Err(error)) => Err(self.certain(Refusal::of_read(&error), asked)),
            Err(_) => Err(Refusal::Unavailable("no certificate could be had in time".to_owned())),
        }
    }

    /// Whoever did not know all committees that may hold an input when it was asked for, or does not know them now, cannot
    /// say that it is gone.
    fn certain(&self, refusal: Refusal, asked: u64) -> Refusal {
        let view = self.readers.view();
        match refusal {
            Refusal::Unknown(message) if !knows_all(&view, asked) || !knows_all(&view, unix_now()) => {
                let message = format!("{message}, and there may be a committee that is not known here yet");
                Refusal::Unavailable(message)
            }
            other => other,
        }
    }
}

/// Whether every epoch is known in which an input may have been put by now. Not when the chain was last read so long ago
/// that another may have begun since, nor when one begins about now by a clock that is ahead of ours.
fn knows_all(view: &View, now: u64) -> bool {
    let begins = |term: &Term| term.activation > now && term.activation <= now.saturating_add(CLOCK_SLACK);
    view.final_by >= now && !view.epochs.terms().iter().any(begins)
}

/// Reads an input with one committee. A longer one is none that was put for such a commitment here.
async fn read_one(
    reader: &Reader,
    commitment: Commitment,
    longest: u64,
) -> Result<Result<Bytes, Refusal>, ReadError> {
    match commitment {
        Commitment::Generic(id) => {
            let found = reader.open(id).await?;
            let length = found.context.header().length.get();
            if length > longest {
                let limit = usize::try_from(longest).unwrap_or(usize::MAX);
                return Ok(Err(Refusal::TooLarge(limit)));
            }
            Ok(Ok(reader.read(found, &Silent).await?.payload))
        }
        Commitment::Keccak(hash) => {
            let (ids, absence) = reader.named(hash).await?;
            // What has the hash is the input, whatever its header is bound to.
            let reader = reader.clone().ignoring_kzg();
            let read = reader.payload_among(&ids, hash, longest, &Silent);
            // What somebody names here and does not give out must not keep the other committees from being asked.
            let read = timeout(READ_TRY, read).await;
            let read = read.unwrap_or(Err(ReadError::Unreachable { faults: Vec::new() }));
            read.map(|fetched| Ok(fetched.payload))
                .map_err(|error| absence.unwrap_or_else(|| unsettled(error)))
        }
    }
}

/// A certificate of a commitment that one committee has given.
async fn certificate_of(
    reader: &Reader,
    gateways: &[String],
    commitment: Commitment,
) -> Result<Certificate, ReadError> {
    let hash = match commitment {
        Commitment::Generic(id) => {
            return Ok(reader.certificate(gateways, id, None, None).await?.certificate);
        }
        Commitment::Keccak(hash) => hash,
    };
    let (ids, absence) = reader.named(hash).await?;
    for id in ids {
        let fetched = reader.certificate(gateways, id, None, None).await;
        // Whose hash it is was only said by whoever named the blob; signed is what the entry says.
        if let Ok(fetched) = fetched
            && fetched.certificate.entry.payload_hash == hash
        {
            return Ok(fetched.certificate);
        }
    }
    Err(absence.unwrap_or(ReadError::Uncertified))
}

/// A blob may be named for a hash that is not its own, and what is certain of it says nothing of the input.
fn unsettled(error: ReadError) -> ReadError {
    if error.is_passing() { error } else { ReadError::Unreachable { faults: error.faults().to_vec() } }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::committee::epochs::Epochs;

    use super::*;
    use crate::chain::testing::committee;

    #[test]
    fn absence_is_certain_only_while_all_committees_are_known() {
        let now = 1_000_000;
        let term =
            |epoch, activation| Term { committee: Arc::new(committee(epoch)), activation, closes: None };
        let view = |second, final_by| {
            let first = Term { closes: Some(second + 60), ..term(1, 1) };
            let epochs = Epochs::new(vec![first, term(2, second)]).unwrap();
            View { epochs, final_by, ..View::fixed(Arc::new(committee(1))) }
        };
        for (activation, final_by, certain) in [
            (now - 1, u64::MAX, true),
            (now, u64::MAX, true),
            (now + 1, u64::MAX, false),
            (now + CLOCK_SLACK, u64::MAX, false),
            (now + CLOCK_SLACK + 1, u64::MAX, true),
            (now - 1, now, true),
            (now - 1, now - 1, false),
        ] {
            assert_eq!(knows_all(&view(activation, final_by), now), certain, "{activation} {final_by}");
        }
        assert!(knows_all(&View::fixed(Arc::new(committee(1))), now));
    }
}
