//! The epochs of a network: which committee is current when, and which one still closes its books.

use std::sync::Arc;

use thiserror::Error;

use super::Committee;

/// A committee and its time.
#[derive(Clone, PartialEq, Debug)]
pub struct Term {
    /// The members.
    pub committee: Arc<Committee>,
    /// Unix seconds from which the epoch is current.
    pub activation: u64,
    /// Unix seconds at which its grace ends; nothing while no epoch follows.
    pub closes: Option<u64>,
}

impl Term {
    /// Whether signatures of the epoch are taken at a time, unix seconds: it is current or in its grace.
    #[must_use]
    pub fn is_open(&self, now: u64) -> bool {
        self.activation <= now && self.closes.is_none_or(|closes| now < closes)
    }

    fn epoch(&self) -> u64 {
        self.committee.epoch()
    }
}

/// How an epoch stands at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EpochState {
    /// There is no such epoch.
    Unknown,
    /// It has not begun.
    NotYet,
    /// It is current or in its grace.
    Open,
    /// Its grace is over.
    Closed,
}

/// All epochs that are known, ascending, at least one; the last may not have begun.
#[derive(Clone, PartialEq, Debug)]
pub struct Epochs(Vec<Term>);

/// Why terms are not the epochs of one network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum EpochsError {
    /// There is none.
    #[error("no epoch is scheduled")]
    Empty,
    /// Epochs do not ascend, or begin before the one before them.
    #[error("epoch {0} does not follow the one before it")]
    Order(u64),
    /// Epochs have different EIP-712 domains.
    #[error("epoch {0} has another chain id or contract than the one before it")]
    Domain(u64),
}

impl Epochs {
    /// The one epoch of a network without a chain: it has begun and never closes.
    #[must_use]
    pub fn fixed(committee: Arc<Committee>) -> Self {
        Self(vec![Term { committee, activation: 0, closes: None }])
    }

    /// Epochs in order. One may be missing: that of a committee that nobody can work with.
    ///
    /// # Errors
    ///
    /// See [`EpochsError`].
    pub fn new(terms: Vec<Term>) -> Result<Self, EpochsError> {
        if terms.is_empty() {
            return Err(EpochsError::Empty);
        }
        for pair in terms.windows(2) {
            let [before, after] = pair else { continue };
            if before.epoch() >= after.epoch() || before.activation > after.activation {
                return Err(EpochsError::Order(after.epoch()));
            }
            if before.committee.domain() != after.committee.domain() {
                return Err(EpochsError::Domain(after.epoch()));
            }
        }
        Ok(Self(terms))
    }

    /// All of them, ascending.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.0
    }

    /// The latest, which may not have begun.
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "never empty")]
    pub fn latest(&self) -> &Term {
        &self.0[self.0.len() - 1]
    }

    /// An epoch by its number.
    #[must_use]
    pub fn term(&self, epoch: u64) -> Option<&Term> {
        self.0.binary_search_by_key(&epoch, Term::epoch).ok().map(|place| &self.0[place])
    }

    /// The committee of an epoch.
    #[must_use]
    pub fn committee(&self, epoch: u64) -> Option<&Arc<Committee>> {
        self.term(epoch).map(|term| &term.committee)
    }

    /// The latest epoch that has begun at a time, unix seconds; the first where none has.
    #[must_use]
    pub fn current(&self, now: u64) -> &Term {
        self.0.iter().rev().find(|term| term.activation <= now).unwrap_or(&self.0[0])
    }

    /// The epochs whose signatures are taken at a time, the latest first.
    pub fn open(&self, now: u64) -> impl Iterator<Item = &Term> {
        self.0.iter().rev().filter(move |term| term.is_open(now))
    }

    /// How an epoch stands at a time, unix seconds.
    #[must_use]
    pub fn state(&self, epoch: u64, now: u64) -> EpochState {
        match self.term(epoch) {
            None => EpochState::Unknown,
            Some(term) if term.activation > now => EpochState::NotYet,
            Some(term) if term.is_open(now) => EpochState::Open,
            Some(_) => EpochState::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parts;
    use super::*;

    fn term(epoch: u64, activation: u64, closes: Option<u64>) -> Term {
        let parts = super::super::CommitteeParts { epoch, ..parts(&[1]) };
        Term { committee: Arc::new(Committee::new(parts).unwrap()), activation, closes }
    }

    #[test]
    fn epochs_follow_each_other_in_time() {
        let epochs = Epochs::new(vec![term(1, 100, Some(260)), term(2, 200, Some(360)), term(3, 300, None)]);
        let epochs = epochs.unwrap();
        let current = |now| epochs.current(now).committee.epoch();
        assert_eq!([0, 100, 199, 200, 299, 300, 999].map(current), [1, 1, 1, 2, 2, 3, 3]);
        let open = |now| epochs.open(now).map(|term| term.committee.epoch()).collect::<Vec<_>>();
        assert!(open(99).is_empty());
        assert_eq!(open(259), [2, 1]);
        assert_eq!(open(260), [2]);
        assert_eq!(open(359), [3, 2]);
        assert_eq!(open(u64::MAX), [3]);
        assert_eq!(epochs.state(0, 300), EpochState::Unknown);
        assert_eq!(epochs.state(4, 300), EpochState::Unknown);
        assert_eq!(epochs.state(3, 299), EpochState::NotYet);
        assert_eq!(epochs.state(2, 359), EpochState::Open);
        assert_eq!(epochs.state(2, 360), EpochState::Closed);
        assert_eq!(epochs.latest().committee.epoch(), 3);
    }

    #[test]
    fn a_fixed_epoch_never_closes() {
        let epochs = Epochs::fixed(term(7, 5, Some(6)).committee);
        assert_eq!(epochs.state(7, 0), EpochState::Open);
        assert_eq!(epochs.state(7, u64::MAX), EpochState::Open);
        assert_eq!(epochs.current(0).committee.epoch(), 7);
    }

    #[test]
    fn what_is_no_sequence_is_refused() {
        assert_eq!(Epochs::new(Vec::new()), Err(EpochsError::Empty));
        assert_eq!(Epochs::new(vec![term(1, 0, None), term(1, 9, None)]), Err(EpochsError::Order(1)));
        assert_eq!(Epochs::new(vec![term(2, 0, None), term(1, 9, None)]), Err(EpochsError::Order(1)));
        let gap = Epochs::new(vec![term(1, 0, Some(6)), term(3, 9, None)]).unwrap();
        assert_eq!(gap.state(2, 9), EpochState::Unknown);
        assert_eq!(Epochs::new(vec![term(1, 10, None), term(2, 9, None)]), Err(EpochsError::Order(2)));
        let other = super::super::CommitteeParts { epoch: 2, chain_id: 8, ..parts(&[1]) };
        let other = Term { committee: Arc::new(Committee::new(other).unwrap()), activation: 9, closes: None };
        assert_eq!(Epochs::new(vec![term(1, 0, None), other]), Err(EpochsError::Domain(2)));
    }
}
