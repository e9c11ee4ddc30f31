//! What a file of namespaces comes to while it is in force.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use meridian_client::namespaces::{BYTE_UNIT, Limits, Listed, Namespaces};
use meridian_proofs::ids::Namespace;
use meridian_proofs::shape::MAX_PAYLOAD;
use meridian_proto::error::{ApiError, Reason};

use super::rate::{Rate, Short};

/// Who may put, and the accounts that are charged.
pub(super) struct Rules {
    /// None where nobody is asked who puts.
    listed: Option<HashMap<Namespace, Arc<Account>>>,
    /// Of all namespaces that are not listed, where anybody may put under them: whoever is refused under one could take
    /// the next.
    others: Option<Arc<Account>>,
}

/// What is charged for puts under a namespace, or under all that are not listed.
pub(super) struct Account {
    /// Who may put; anybody under namespaces that are not listed.
    pub(super) listed: Option<Listed>,
    pub(super) limits: Limits,
    rates: Arc<Rates>,
}

#[derive(Default)]
struct Rates {
    requests: Option<Rate>,
    bytes: Option<Rate>,
}

/// Units that were taken for a put.
pub(super) struct Charge {
    rates: Arc<Rates>,
    units: NonZeroU32,
}

impl Rules {
    /// Nobody is asked.
    pub(super) fn anybody() -> Self {
        Self { listed: None, others: Some(Arc::new(Account::new(None, Limits::default(), None))) }
    }

    /// What a file says. What was taken of rates that stay as they are stays taken.
    pub(super) fn of(namespaces: Namespaces, before: Option<&Self>) -> Self {
        let Namespaces { open, limits, listed } = namespaces;
        let account = |(id, listed): (Namespace, Listed)| {
            let before = before.and_then(|before| before.listed.as_ref()?.get(&id));
            let limits = listed.limits.or(limits);
            (id, Arc::new(Account::new(Some(listed), limits, before.map(Arc::as_ref))))
        };
        let others = before.and_then(|before| before.others.as_deref());
        Self {
            listed: Some(listed.into_iter().map(account).collect()),
            others: open.then(|| Arc::new(Account::new(None, limits, others))),
        }
    }

    /// The account of a namespace. None where nobody may put under it.
    pub(super) fn account(&self, namespace: &Namespace) -> Option<&Arc<Account>> {
        let listed = self.listed.as_ref().and_then(|listed| listed.get(namespace));
        listed.or(self.others.as_ref())
    }

    /// The namespaces that have an account of their own.
    pub(super) fn names(&self) -> impl Iterator<Item = Namespace> + '_ {
        self.listed.iter().flat_map(|listed| listed.keys().copied())
    }

    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.names().count()).unwrap_or(u64::MAX)
    }
}

impl Account {
    fn new(listed: Option<Listed>, limits: Limits, before: Option<&Self>) -> Self {
        let before = before.filter(|before| before.limits == limits);
        let rates = before.map_or_else(|| Arc::new(Rates::of(&limits)), |before| before.rates.clone());
        Self { listed, limits, rates }
    }

    /// Takes a put's share of the rates, all of it or nothing.
    pub(super) fn charge(&self, length: u64) -> Result<Charge, ApiError> {
        let rates = &self.rates;
        let units = units(length);
        if let Some(bytes) = rates.bytes.as_ref().filter(|bytes| units.get() > bytes.burst()) {
            let limit = u64::from(bytes.burst()).saturating_mul(BYTE_UNIT);
            let message = format!("the payload has {length} bytes, and {limit} at once are the limit here");
            let error = ApiError::new(Reason::PayloadTooLarge, message).with("limit", limit);
            return Err(error.with("limit_name", "burst_bytes"));
        }
        if let Some(requests) = &rates.requests {
            let limit = self.limits.requests_per_second.unwrap_or(0);
            requests.take(NonZeroU32::MIN).map_err(|short| too_many("requests_per_second", limit, short))?;
        }
        if let Some(bytes) = &rates.bytes
            && let Err(short) = bytes.take(units)
        {
            if let Some(requests) = &rates.requests {
                requests.give_back(NonZeroU32::MIN);
            }
            return Err(too_many("bytes_per_second", self.limits.bytes_per_second.unwrap_or(0), short));
        }
        Ok(Charge { rates: rates.clone(), units })
    }
}

impl Charge {
    /// Gives back what was taken.
    pub(super) fn give_back(self) {
        if let Some(requests) = &self.rates.requests {
            requests.give_back(NonZeroU32::MIN);
        }
        if let Some(bytes) = &self.rates.bytes {
            bytes.give_back(self.units);
        }
    }
}

impl Rates {
    fn of(limits: &Limits) -> Self {
        let requests = limits.requests_per_second.map(|rate| {
            let (rate, burst) = (count(rate), count(limits.burst_requests.unwrap_or(rate)));
            Rate::new(rate, burst)
        });
        let bytes = limits.bytes_per_second.map(|rate| {
            let burst = limits.burst_bytes.unwrap_or(rate.max(MAX_PAYLOAD));
            Rate::new(units(rate), units(burst))
        });
        Self { requests, bytes }
    }
}

/// Bytes as units of a rate, begun ones as whole ones: single bytes come back faster than nanoseconds pass.
fn units(bytes: u64) -> NonZeroU32 {
    count(bytes.div_ceil(BYTE_UNIT))
}

fn count(number: u64) -> NonZeroU32 {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

fn too_many(name: &'static str, limit: u64, short: Short) -> ApiError {
    let message = format!("{name} = {limit} is reached");
    let error = ApiError::new(Reason::TooManyRequests, message).with("limit", limit).with("limit_name", name);
    match short {
        // A whole millisecond at least: what is nearer is not worth a timer.
        Short::Wait(wait) => error.retry_after(wait.max(Duration::from_millis(1))),
        Short::Never => error,
    }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::Address;

    use super::*;

    fn limits(requests: Option<u64>, bytes: Option<u64>, burst_bytes: Option<u64>) -> Limits {
        Limits { requests_per_second: requests, bytes_per_second: bytes, burst_bytes, ..Limits::default() }
    }

    fn file(limits: Limits) -> Namespaces {
        let mut namespaces = Namespaces::default();
        namespaces.create(Namespace::from([1; 32]), Address::repeat_byte(1), limits).unwrap();
        namespaces
    }

    fn reason(account: &Account, length: u64) -> Option<Reason> {
        account.charge(length).err().map(|error| error.reason)
    }

    #[test]
    fn the_longest_payload_is_what_may_come_at_once() {
        for (length, wanted) in [
            (4 * BYTE_UNIT - 1, None),
            (4 * BYTE_UNIT, None),
            (4 * BYTE_UNIT + 1, Some(Reason::PayloadTooLarge)),
        ] {
            let account = Account::new(None, limits(None, Some(BYTE_UNIT), Some(4 * BYTE_UNIT)), None);
            assert_eq!(reason(&account, length), wanted, "{length}");
        }
        let account = Account::new(None, limits(None, Some(1), None), None);
        assert_eq!(reason(&account, MAX_PAYLOAD), None, "by default every payload may come");
        assert_eq!(reason(&account, 1), Some(Reason::TooManyRequests));
    }

    #[test]
    fn a_put_takes_all_of_its_share_or_nothing() {
        let account = Account::new(None, limits(Some(2), Some(1), Some(2 * BYTE_UNIT)), None);
        let first = account.charge(2 * BYTE_UNIT).unwrap();
        let refused = account.charge(1).err().unwrap();
        assert_eq!(
            (refused.reason, refused.metadata["limit_name"].as_str()),
            (Reason::TooManyRequests, "bytes_per_second")
        );
        assert!(refused.retry_after.is_some());
        first.give_back();
        // The refused one has given its request back: two are left.
        assert!(account.charge(BYTE_UNIT).is_ok() && account.charge(BYTE_UNIT).is_ok());
        let refused = account.charge(1).err().unwrap();
        assert_eq!(refused.metadata["limit_name"], "requests_per_second");
    }

    #[test]
    fn accounts_stay_when_the_file_is_read_again() {
        let id = Namespace::from([1; 32]);
        let before = Rules::of(file(limits(Some(1), None, None)), None);
        before.account(&id).unwrap().charge(1).unwrap();
        let mut changed = file(limits(Some(1), None, None));
        changed.allow(id, &[Address::repeat_byte(2)]).unwrap();
        let same = Rules::of(changed, Some(&before));
        assert_eq!(reason(same.account(&id).unwrap(), 1), Some(Reason::TooManyRequests));
        let wider = Rules::of(file(limits(Some(2), None, None)), Some(&same));
        assert_eq!(reason(wider.account(&id).unwrap(), 1), None);
        assert!(wider.account(&Namespace::from([2; 32])).is_none());
        let open = Rules::of(Namespaces { open: true, ..Namespaces::default() }, Some(&wider));
        assert!(open.account(&id).unwrap().listed.is_none());
        assert!(Rules::anybody().account(&id).is_some());
    }
}
