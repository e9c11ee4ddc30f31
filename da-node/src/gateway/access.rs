//! Who may put, and how much.
//!
//! `rules` is what the file of namespaces says, `registry` what the chain says where the file does not, `rate` and `ledger` are what is charged, `nonces` what was signed and
//! taken. Everything is found out from the start of a put, before memory is reserved for it.
//!
//! Who signed is asked before anything is charged: nobody else can use up what a namespace has. It costs less than
//! taking the request from the network did.

mod ledger;
mod nonces;
mod rate;
mod registry;
mod rules;
mod settings;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use meridian_client::chain::{self, view::View};
use meridian_client::files::Stamp;
use meridian_client::namespaces::{Listed, Namespaces, NamespacesError};
use meridian_proofs::Address;
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::ids::Namespace;
use meridian_proofs::log::LogEntry;
use meridian_proto::convert::PutStart;
use meridian_proto::error::{ApiError, Class, Reason};
use tokio::sync::watch;

use super::core::{Shared, blocking};
use super::store::{Store, StoreError, Used};
use crate::clock::Clock;
use crate::metrics::{self, KeyValue};

pub use self::settings::AccessSettings;
use ledger::{Hold, Ledger};
use nonces::Nonces;
use registry::Registry;
use rules::{Account, Charge, Rules};

/// How often signed puts that have expired are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// Who may put.
pub(super) struct Access {
    settings: AccessSettings,
    store: Arc<Store>,
    gateway: Address,
    domain: Domain,
    clock: Clock,
    view: watch::Receiver<Arc<View>>,
    rules: RwLock<Arc<Rules>>,
    ledger: Ledger,
    nonces: Nonces,
    registry: OnceLock<Registry>,
    /// The file as it was when it was last looked at, and whether that is all there is to say of it.
    seen: Mutex<Option<(Stamp, bool)>>,
}

/// That a put may go on, and what it has to give back when it does not.
#[derive(Default)]
pub(super) struct Pass {
    charge: Option<Charge>,
    hold: Option<Hold>,
}

impl Pass {
    /// The put is in the log: what it takes is counted there.
    pub(super) fn entered(&mut self) {
        self.hold = None;
    }

    /// The put failed. What it took of the rates it gives back, unless its caller is to blame: the work was done.
    pub(super) fn failed(self, error: &ApiError) {
        let is_callers = matches!(error.class(), Class::Invalid | Class::TooLarge)
            || matches!(error.reason, Reason::Timeout | Reason::StreamBroken);
        if let Some(charge) = self.charge.filter(|_| !is_callers) {
            charge.give_back();
        }
    }
}

impl Access {
    /// Reads the file of namespaces, what was taken and what is stored.
    pub(super) fn open(
        settings: &AccessSettings,
        store: &Arc<Store>,
        (gateway, domain): (Address, Domain),
        clock: &Clock,
        view: &watch::Receiver<Arc<View>>,
    ) -> anyhow::Result<Self> {
        let access = Self {
            settings: settings.clone(),
            store: store.clone(),
            gateway,
            domain,
            clock: clock.clone(),
            view: view.clone(),
            rules: RwLock::new(Arc::new(Rules::anybody())),
            ledger: Ledger::default(),
            nonces: Nonces::load(store, settings.remembered)?,
            registry: OnceLock::new(),
            seen: Mutex::new(None),
        };
        if !settings.lets_anybody_put() {
            let path = &settings.namespaces;
            *access.seen() = Some((Stamp::of(path), true));
            let namespaces =
                Namespaces::load(path).with_context(|| format!("cannot use {}", path.display()))?;
            let rules = Rules::of(namespaces, None);
            access.count(&rules, store.load()?.range.size());
            access.put_in_force(rules);
        }
        Ok(access)
    }

    /// Refuses a put that is signed for another gateway, or for another time.
    pub(super) fn check(&self, start: &PutStart) -> Result<(), ApiError> {
        let Some(authorization) = start.authorization else { return Ok(()) };
        let (now, deadline) = (self.clock.now(), authorization.deadline);
        let AccessSettings { window_s, skew_s, .. } = self.settings;
        let wrong = |reason, message: String| {
            let error = ApiError::new(reason, message).with("gateway_time", now).with("deadline", deadline);
            Err(error.with("skew_s", skew_s).with("window_s", window_s))
        };
        if deadline.saturating_add(skew_s) < now {
            let late = now - deadline;
            let message = format!(
                "the deadline was {late} s ago: by the clock of this gateway it is {now}, and {skew_s} s are allowed"
            );
            return wrong(Reason::AuthorizationExpired, message);
        }
        if deadline > now.saturating_add(window_s).saturating_add(skew_s) {
            let ahead = deadline - now;
            let message = format!(
                "the deadline is {ahead} s ahead: by the clock of this gateway it is {now}, and {window_s} s are \
                 allowed, {skew_s} s more for clocks that differ"
            );
            return wrong(Reason::AuthorizationTooEarly, message);
        }
        if authorization.gateway != self.gateway {
            let message =
                format!("signed for the gateway {}, and this is {}", authorization.gateway, self.gateway);
            return Err(ApiError::new(Reason::WrongGateway, message).with("gateway", self.gateway));
        }
        Ok(())
    }

    /// Lets a put go on that may, and takes what it costs.
    pub(super) async fn admit(&self, start: &PutStart) -> Result<Pass, ApiError> {
        let rules = self.rules();
        let Some(account) = rules.account(&start.namespace) else {
            let message = format!("this gateway takes nothing under the namespace {}", start.namespace);
            return Err(ApiError::new(Reason::NamespaceUnlisted, message).with("namespace", start.namespace));
        };
        let used = self.signer(start, account).await?;
        if let Some(used) = &used {
            self.nonces.check(used)?;
        }
        let (length, now) = (start.length.get(), self.clock.now());
        let hold = self.ledger.hold(start.namespace, length, account.limits.stored_bytes, now)?;
        let pass = Pass { charge: Some(account.charge(length)?), hold: Some(hold) };
        if let Some(used) = used
            && let Err(error) = self.nonces.take(used, start.namespace, now).await
        {
            pass.failed(&error);
            return Err(error);
        }
        Ok(pass)
    }

    /// Who signed, where that matters. A signature that is not asked for is checked all the same, so that whoever signs
    /// finds out what is wrong, but may come again: it gives nothing that anybody does not have.
    async fn signer(&self, start: &PutStart, account: &Account) -> Result<Option<Used>, ApiError> {
        let Some(signed) = start.signed() else {
            if account.listed.is_none() {
                return Ok(None);
            }
            let message = format!("puts under the namespace {} are signed", start.namespace);
            return Err(
                ApiError::new(Reason::AuthorizationMissing, message).with("namespace", start.namespace)
            );
        };
        let signer = signed.signer(&self.domain);
        let signer = signer.map_err(|error| ApiError::new(Reason::SignatureInvalid, error.to_string()))?;
        let Some(listed) = &account.listed else { return Ok(None) };
        if !listed.allows(&signer) && !self.registered(start.namespace, listed, signer).await? {
            let message = format!(
                "{signer} may not put under the namespace {}, unless something else was signed than was sent, or for \
                 another chain or contract",
                start.namespace
            );
            let error = ApiError::new(Reason::NotPermitted, message).with("signer", signer);
            return Err(error.with("namespace", start.namespace));
        }
        let authorization = signed.authorization;
        Ok(Some(Used { deadline: authorization.deadline, signer, nonce: authorization.nonce }))
    }

    /// Takes what namespaces without an owner say from a registry on the chain, from now on.
    pub(super) fn ask(&self, registry: chain::namespaces::Namespaces) {
        // Set once, at the start.
        let _ = self.registry.set(Registry::new(registry));
    }

    /// Whether the registry lets somebody put under a namespace that is the registry's to speak of.
    async fn registered(
        &self,
        namespace: Namespace,
        listed: &Listed,
        signer: Address,
    ) -> Result<bool, ApiError> {
        if listed.owner.is_some() {
            return Ok(false);
        }
        let registry = self.registry.get();
        let registry = registry.ok_or_else(|| registry::out_of_reach("access.registry is not set"))?;
        let head = self.view.borrow().head;
        let head = head.ok_or_else(|| registry::out_of_reach("nothing is known of the chain"))?;
        registry.may_write(namespace, signer, head.number).await
    }

    /// Forgets signed puts whose deadline is before a time.
    pub(super) fn forget_before(&self, time: u64) -> Result<(), StoreError> {
        self.nonces.forget_before(time)
    }

    /// Counts entries that were appended.
    pub(super) fn appended(&self, first: u64, entries: &[LogEntry]) {
        if !self.settings.lets_anybody_put() {
            self.ledger.appended(first, entries);
        }
    }

    /// Looks whether the file has changed, and puts it in force if it can be used.
    fn look(&self) {
        let path = &self.settings.namespaces;
        let stamp = Stamp::of(path);
        let before = *self.seen();
        if before == Some((stamp, true)) {
            return;
        }
        let loaded = Namespaces::load(path);
        // What cannot be read now may be readable in a moment, as when too many files are open.
        let is_settled = !matches!(loaded, Err(NamespacesError::File { .. }));
        *self.seen() = Some((stamp, is_settled));
        if before == Some((stamp, is_settled)) {
            return;
        }
        let result = match loaded {
            Ok(namespaces) => {
                self.change(namespaces);
                let namespaces = self.rules().len();
                tracing::info!(path = %path.display(), namespaces, "the namespaces have changed");
                "ok"
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the namespaces stay as they were");
                "broken"
            }
        };
        metrics::get().namespace_loads.add(1, &[KeyValue::new("result", result)]);
    }

    fn change(&self, namespaces: Namespaces) {
        let before = self.rules();
        let rules = Rules::of(namespaces, Some(&before));
        let names = |rules: &Rules| rules.names().collect::<HashSet<Namespace>>();
        if names(&before) != names(&rules) {
            self.count(&rules, self.ledger.counted());
        }
        self.put_in_force(rules);
    }

    /// Counts what is stored for the namespaces of these rules.
    fn count(&self, rules: &Rules, size: u64) {
        let view = self.view.borrow().clone();
        let terms = view.epochs.terms().iter();
        let longest = terms.map(|term| term.committee.max_retention()).max().unwrap_or(u64::MAX);
        self.ledger.count(&self.store, rules.names(), size, (self.clock.now(), longest));
    }

    fn put_in_force(&self, rules: Rules) {
        metrics::get().namespaces.record(rules.len(), &[]);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    fn rules(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Option<(Stamp, bool)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the file again and again.
pub(super) async fn follow(shared: Arc<Shared>) {
    if shared.settings.access.lets_anybody_put() {
        return;
    }
    loop {
        tokio::time::sleep(shared.settings.access.reload()).await;
        let looking = shared.clone();
        let looked = blocking(move || {
            looking.access.look();
            Ok(())
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "nobody looks whether the namespaces have changed");
        }
    }
}

/// Forgets signed puts once they have expired.
pub(super) async fn forget(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        let (forgetting, skew) = (shared.clone(), shared.settings.access.skew_s);
        let time = shared.clock.now().saturating_sub(skew);
        if let Err(error) = blocking(move || forgetting.access.forget_before(time)).await {
            tracing::error!(%error, "signed puts that have expired cannot be forgotten");
        }
    }
}
