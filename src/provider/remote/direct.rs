//! Calling functions at their own host, without the provider in between
//! (`direct_functions`; compatibility.md section 2).
//!
//! A host may have several addresses, one for each replica; calls are shared
//! among them. Where it has one, a service mesh or the cluster balances them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
    time::Duration,
};

use tokio::sync::watch;

use self::{
    addresses::{Addresses, Ended, Lookup, System},
    host::host_for,
};
use super::super::{ProviderError, Result};
use crate::{
    model::FunctionRef,
    shutdown::Tasks,
    upstream::{PathForm, Pools, Upstream},
};

mod addresses;
mod host;

/// Port of every function.
const PORT: u16 = 8080;

/// Most functions whose connections are kept. Names come from callers, so the
/// number has to have an end.
const MAX_FUNCTIONS: usize = 4096;

/// Where functions are, and the connections to them.
pub(super) struct Direct {
    suffix: String,
    default_namespace: String,
    pools: Pools,
    lookup: Arc<dyn Lookup>,
    /// Between two looks at a function's addresses.
    pause: watch::Sender<Duration>,
    known: Arc<Known>,
    tasks: Tasks,
    _closing: Closing,
}

/// Ends what goes on in the background when it is dropped.
struct Closing(Tasks);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct Known(RwLock<HashMap<FunctionRef, Arc<Addresses>>>);

impl Direct {
    pub(super) fn new(suffix: String, default_namespace: String, pools: Pools, pause: Duration) -> Self {
        let tasks = Tasks::new();
        Self {
            _closing: Closing(tasks.clone()),
            suffix,
            default_namespace,
            pools,
            lookup: Arc::new(System),
            pause: watch::Sender::new(pause),
            known: Arc::default(),
            tasks,
        }
    }

    /// Changes how often addresses are looked up; zero is never.
    pub(super) fn set_pause(&self, pause: Duration) {
        self.pause
            .send_if_modified(|old| std::mem::replace(old, pause) != pause);
    }

    pub(super) fn upstream(&self, function: &FunctionRef) -> Result<Upstream> {
        let addresses = match self.known.get(function) {
            Some(addresses) => addresses,
            None => self.add(function)?,
        };
        let endpoint = if self.pause.borrow().is_zero() {
            addresses.unresolved()
        } else {
            if addresses.note_call() {
                self.follow(function.clone(), &addresses);
            }
            addresses.choose()
        };
        Ok(Upstream {
            endpoint,
            path: PathForm::Trimmed,
        })
    }

    /// Lets go of a function that was deleted; calls under way end.
    pub(super) fn forget(&self, function: &FunctionRef) {
        let home = |namespace: &str| namespace.is_empty() || namespace == self.default_namespace;
        self.known.write().retain(|known, _| {
            let same_place =
                known.namespace == function.namespace || home(&known.namespace) && home(&function.namespace);
            known.name != function.name || !same_place
        });
    }

    /// Ends what goes on in the background.
    pub(super) fn close(&self) {
        self.tasks.abort();
    }

    fn add(&self, function: &FunctionRef) -> Result<Arc<Addresses>> {
        let host = host_for(
            &function.name,
            &function.namespace,
            &self.suffix,
            &self.default_namespace,
        )
        .ok_or_else(|| ProviderError::unknown_function(function))?;
        let create = || Arc::new(Addresses::of(host, PORT, self.pools.clone()));
        let mut known = self.known.write();
        if known.len() >= MAX_FUNCTIONS {
            // Their idle connections close; a call under way keeps its endpoint.
            known.retain(|_, addresses| addresses.in_flight() > 0);
        }
        if known.len() >= MAX_FUNCTIONS {
            return Ok(create());
        }
        Ok(Arc::clone(known.entry(function.clone()).or_insert_with(create)))
    }

    /// Looks for the addresses of a function until nobody calls it; then it is
    /// let go.
    fn follow(&self, function: FunctionRef, addresses: &Arc<Addresses>) {
        let weak = Arc::downgrade(addresses);
        let following = Addresses::follow(weak.clone(), Arc::clone(&self.lookup), self.pause.subscribe());
        let known = Arc::downgrade(&self.known);
        self.tasks.spawn(async move {
            if following.await == Ended::Uncalled
                && let Some((known, addresses)) = known.upgrade().zip(weak.upgrade())
            {
                known.remove(&function, &addresses);
            }
        });
    }
}

impl Known {
    fn get(&self, function: &FunctionRef) -> Option<Arc<Addresses>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(function).map(Arc::clone)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<FunctionRef, Arc<Addresses>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the addresses of a function, unless it has others by now or they
    /// are in use.
    fn remove(&self, function: &FunctionRef, addresses: &Arc<Addresses>) {
        let mut known = self.write();
        let same = known.get(function).is_some_and(|known| Arc::ptr_eq(known, addresses));
        if same && addresses.in_flight() == 0 {
            known.remove(function);
        }
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Direct(*.{}:{PORT})", self.suffix)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr};

    use async_trait::async_trait;

    use super::*;
    use crate::upstream::PoolLimits;

    /// Functions at hosts that are looked up by nobody.
    fn direct() -> Direct {
        let pools = Pools::new(PoolLimits::default());
        Direct::new("svc.local".to_owned(), String::new(), pools, Duration::ZERO)
    }

    #[test]
    fn a_function_keeps_its_connections() {
        let direct = direct();
        let figlet = FunctionRef::new("figlet", "");
        let first = direct.upstream(&figlet).expect("a host");
        assert_eq!(first.endpoint.address().to_string(), "http://figlet.svc.local:8080");
        assert_eq!(first.path, PathForm::Trimmed);
        let again = direct.upstream(&figlet).expect("a host");
        assert!(Arc::ptr_eq(&first.endpoint, &again.endpoint));
        direct.forget(&FunctionRef::new("other", ""));
        direct.forget(&FunctionRef::new("figlet", "elsewhere"));
        let again = direct.upstream(&figlet).expect("a host");
        assert!(Arc::ptr_eq(&first.endpoint, &again.endpoint));
        direct.forget(&figlet);
        let another = direct.upstream(&figlet).expect("a host");
        assert!(!Arc::ptr_eq(&first.endpoint, &another.endpoint));
    }

    #[test]
    fn made_up_names_do_not_fill_memory() {
        let direct = direct();
        let busy = direct.upstream(&FunctionRef::new("busy", "")).expect("a host");
        let _call = busy.endpoint.begin();
        for number in 0..=MAX_FUNCTIONS {
            direct
                .upstream(&FunctionRef::new(format!("f{number}"), ""))
                .expect("a host");
        }
        assert!(direct.known.write().len() <= MAX_FUNCTIONS);
        assert!(
            direct.known.get(&FunctionRef::new("busy", "")).is_some(),
            "a call under way keeps its endpoint"
        );
    }

    struct Nowhere;

    #[async_trait]
    impl Lookup for Nowhere {
        async fn addresses(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    #[tokio::test]
    async fn a_function_that_nobody_calls_is_let_go() {
        let limits = PoolLimits {
            idle_timeout: Duration::from_millis(5),
            ..PoolLimits::default()
        };
        let direct = Direct {
            lookup: Arc::new(Nowhere),
            ..Direct::new(
                String::new(),
                String::new(),
                Pools::new(limits),
                Duration::from_millis(5),
            )
        };
        let figlet = FunctionRef::new("figlet", "");
        let upstream = direct.upstream(&figlet).expect("a host");
        let call = upstream.endpoint.begin();
        direct.tasks.ended().await;
        assert!(direct.known.get(&figlet).is_some(), "a call is under way");
        drop(call);
        direct.upstream(&figlet).expect("a host");
        direct.tasks.ended().await;
        assert!(direct.known.get(&figlet).is_none());
    }
}
